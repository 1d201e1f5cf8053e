//! A process that follows its own database is cut off at every changing call of the disk, and goes on where it was.
//!
//! The follower keeps a view and the commits that it has taken outside of the database, and releases what it has kept. A
//! second one, who is expected and never comes until the end, keeps the whole log: what was handed out over all lives is
//! compared with it, commit by commit.

use std::time::Duration;

use super::super::crash::script;
use super::super::world::{Step, World};
use super::{View, let_go, opened, put};
use crate::{Changes, ChangesOptions, Error, Lsn, Result};

/// What the follower has outside of the database.
#[derive(Clone, Default)]
struct Kept {
    view: View,
    taken: Vec<Lsn>,
}

impl Kept {
    /// Takes commits, each kept whole or not at all, and releases up to the one before the last.
    fn follow(&mut self, changes: &mut Changes) -> Result<()> {
        while let Some(mut set) = changes.next(Duration::ZERO)? {
            let mut next = self.clone();
            next.view.take(&mut set)?;
            next.taken.push(set.lsn());
            *self = next;
            changes.release(self.view.lsn.previous());
        }
        Ok(())
    }
}

fn follower() -> ChangesOptions {
    ChangesOptions::new().name("view").hold_until_released(true).durable_only(true)
}

fn expecting(seed: u64) -> World {
    let mut world = World::new(seed);
    world.options = world.options.clone().follower("view", 0).follower("witness", 0);
    world
}

/// Runs the script beside its follower until the disk stops. Answers false when it ran to its end.
fn run_to(world: &mut World, kept: &mut Kept, n: u64, kill: bool) -> bool {
    if kill {
        world.disk.kill_at(n)
    } else {
        world.disk.crash_at(n)
    };
    let outcome = world.open(0).and_then(|()| {
        let mut changes = Some(world.db().changes_with(Lsn(1), &follower())?);
        for step in script() {
            if matches!(step, Step::Reopen) {
                changes = None;
            }
            world.step(&step)?;
            let changes = match &mut changes {
                Some(changes) => changes,
                none => none.insert(world.db().changes_with(kept.view.lsn.next(), &follower())?),
            };
            kept.follow(changes)?;
        }
        Ok(())
    });
    let stopped = world.disk.is_stopped();
    world.disk.cancel_stop();
    assert!(outcome.is_ok() || stopped, "only the end of the disk stops it: {outcome:?}");
    stopped
}

/// Opens again, lets go of what nobody holds before the follower comes back, and compares what it was given in all.
fn go_on(world: &mut World, kept: &mut Kept, n: u64, kill: bool) {
    let reached = if kill { world.kill() } else { world.power_cut(n) };
    reached.unwrap();
    assert!(kept.view.lsn <= world.db().visible_lsn(), "what was kept outside is not taken back");
    for keyspace in 0..2 {
        world.step(&Step::Create { keyspace }).unwrap();
    }
    let_go(world);
    let mut changes = world.db().changes_with(kept.view.lsn.next(), &follower()).unwrap();
    kept.follow(&mut changes).unwrap();
    assert_eq!(kept.view.state, world.history[world.history.len() - 1]);
    let mut witness = world.db().changes_with(Lsn(1), &ChangesOptions::new().name("witness")).unwrap();
    let mut all = Vec::new();
    while let Some(set) = witness.next(Duration::ZERO).unwrap() {
        all.push(set.lsn());
    }
    assert_eq!(kept.taken, all, "every commit, and each of them once");
}

fn cut_everywhere(kill: bool) {
    for n in 1.. {
        let (mut world, mut kept) = (expecting(n), Kept::default());
        if !run_to(&mut world, &mut kept, n, kill) {
            assert!(n > 100, "the script writes: {n}");
            return;
        }
        go_on(&mut world, &mut kept, n, kill);
    }
}

#[test]
fn a_follower_cut_off_by_a_power_cut_at_any_write_misses_nothing_and_takes_nothing_twice() {
    cut_everywhere(false);
}

#[test]
fn a_follower_killed_at_any_write_misses_nothing_and_takes_nothing_twice() {
    cut_everywhere(true);
}

#[test]
pub(in super::super) fn what_an_expected_follower_needs_survives_the_first_checkpoints_after_opening() {
    let mut world = expecting(1);
    world.open(0).unwrap();
    world.step(&Step::Create { keyspace: 0 }).unwrap();
    let mut kept = Kept::default();
    let mut changes = world.db().changes_with(Lsn(1), &follower()).unwrap();
    kept.follow(&mut changes).unwrap();
    let_go(&mut world);
    drop(changes);
    world.step(&Step::Kill).unwrap();
    let_go(&mut world);
    let laggard = world.db().statistics().log.laggard.unwrap();
    assert!(["view", "witness"].contains(&laggard.1.as_str()), "{laggard:?}");
    // It begins, is dropped, and begins again: nothing goes in between.
    for _ in 0..2 {
        let mut changes = world.db().changes_with(kept.view.lsn.next(), &follower()).unwrap();
        kept.follow(&mut changes).unwrap();
        drop(changes);
        let_go(&mut world);
    }
    let mut changes = world.db().changes_with(kept.view.lsn.next(), &follower()).unwrap();
    kept.follow(&mut changes).unwrap();
    assert_eq!(kept.view.state, world.history[world.history.len() - 1]);
}

#[test]
fn without_being_expected_what_was_held_goes_with_the_first_checkpoint_after_opening() {
    let mut world = opened(1);
    let mut kept = Kept::default();
    let mut changes = world.db().changes_with(Lsn(1), &follower()).unwrap();
    kept.follow(&mut changes).unwrap();
    let_go(&mut world);
    drop(changes);
    world.step(&Step::Kill).unwrap();
    let_go(&mut world);
    let error = world.db().changes_with(kept.view.lsn.next(), &follower()).unwrap_err();
    assert!(matches!(error, Error::TooOld { .. }), "{error}");
}

#[test]
fn an_expected_follower_that_stays_away_keeps_no_more_than_its_bound() {
    let mut world = opened(2);
    let bound = 20 * (64 << 10);
    world.options = world.options.clone().follower("view", 1).follower("view", bound);
    world.step(&Step::Reopen).unwrap();
    world.step(&put(1, 5)).unwrap();
    for _ in 0..20 {
        let_go(&mut world);
    }
    let log = world.db().statistics().log;
    assert!(log.laggard.is_none() && log.log_bytes <= bound + 4 * (64 << 10), "{log:?}");
    assert!(world.db().oldest_change_lsn().unwrap() > Lsn(1));
}
