//! Random histories: a restore to any LSN equals the model at that LSN.
//!
//! `LOGWOOD_SIM_FROM=SEED LOGWOOD_SIM_SEEDS=1 cargo test -p logwood --features archive --lib histories` replays one.

use super::world::World;
use crate::Lsn;
use crate::archive::Point;
use crate::archive::layout::snapshot_key;

pub(super) fn number(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).ok().and_then(|value| value.parse().ok()).unwrap_or(otherwise)
}

#[test]
fn a_thousand_random_histories_restore_to_the_model_at_a_random_lsn() {
    let (from, seeds) = (number("LOGWOOD_SIM_FROM", 0), number("LOGWOOD_SIM_SEEDS", 1000));
    let (mut with_snapshot, mut with_parent) = (0, 0);
    for seed in from..from + seeds {
        let outcome = std::panic::catch_unwind(|| live(seed));
        match outcome {
            Ok((snapshot, parent)) => {
                with_snapshot += u64::from(snapshot);
                with_parent += u64::from(parent);
            }
            Err(panic) => {
                eprintln!("seed {seed}: LOGWOOD_SIM_FROM={seed} LOGWOOD_SIM_SEEDS=1 replays it");
                std::panic::resume_unwind(panic);
            }
        }
    }
    // What never happens is not tested.
    assert!(
        seeds < 100 || (with_snapshot > seeds / 5 && with_parent > seeds / 20),
        "{with_snapshot} {with_parent}"
    );
}

/// One history; answers whether a snapshot was begun with, and whether the point lay in a parent.
fn live(seed: u64) -> (bool, bool) {
    let mut world = World::new(seed);
    let mut lives = 0;
    let steps = world.rng.u32(10..60);
    for _ in 0..steps {
        match world.rng.u8(0..100) {
            0..70 => world.commit(),
            70..88 => world.upload(),
            88..94 => {
                let is_new = world
                    .store
                    .keys()
                    .iter()
                    .all(|key| !key.starts_with(&snapshot_key(world.chain.owner.lineage, world.last())));
                if world.last() > Lsn::ZERO && is_new {
                    world.snapshot();
                    world.upload();
                }
            }
            94..97 => world.db.checkpoint().map(drop).unwrap(),
            _ => {
                world.upload();
                if world.last() > Lsn::ZERO && lives < 3 {
                    lives += 1;
                    let first = world.rng.u64(1..=world.last().get());
                    world.lose_and_restore(Point::Lsn(Lsn(first)), seed * 1000 + lives);
                }
            }
        }
    }
    world.commit();
    world.upload();
    let lsn = Lsn(world.rng.u64(1..=world.last().get()));
    let report = world.check_restore(Point::Lsn(lsn), lsn);
    if let Some((time_ms, _)) = world.model.states.get(&lsn) {
        let same =
            world.model.states.iter().filter(|(_, (time, _))| time == time_ms).map(|(lsn, _)| *lsn).max();
        let found = world.restore(Point::TimeMs(*time_ms)).unwrap();
        assert!(found.lsn >= same.unwrap() && found.time_ms == *time_ms);
        world.check_restored(found.lsn);
        world.forget_restored();
    }
    world.check_restore(Point::Latest, world.last());
    (report.snapshot.is_some(), report.parent != report.lineage)
}
