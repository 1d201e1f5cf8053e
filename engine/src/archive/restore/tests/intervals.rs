//! Random histories with one damaged object: what a listing calls an interval is exactly what can be restored.
//!
//! `LOGWOOD_SIM_FROM=SEED LOGWOOD_SIM_SEEDS=1 cargo test -p logwood --features archive --lib tests::intervals` replays one.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::histories::number;
use super::listing::check_every_entry;
use super::world::{ChainWriter, TO, World};
use crate::archive::layout::{parse_lineage, parse_lsn, snapshot_key};
use crate::archive::{LineageListing, Listing, Point, RetentionOptions, retention};
use crate::{LineageId, Lsn};

/// What is done to an object at rest.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Damage {
    Nothing,
    Missing,
    FirstByte,
    Middle,
    Cut,
    Swapped,
}

const DAMAGES: [Damage; 6] =
    [Damage::Nothing, Damage::Missing, Damage::FirstByte, Damage::Middle, Damage::Cut, Damage::Swapped];

/// One history, whose lineages are known.
struct Life {
    world: World,
    lineages: Vec<LineageId>,
    /// What there was of each lineage in the archive before anything was damaged.
    archived: BTreeMap<LineageId, Lsn>,
}

#[test]
fn of_a_damaged_archive_the_intervals_are_what_can_be_restored_and_the_holes_what_cannot() {
    let (from, seeds) = (number("LOGWOOD_SIM_FROM", 0), number("LOGWOOD_SIM_SEEDS", 300));
    let mut failed = Vec::new();
    let mut seen: BTreeMap<(Damage, &str), usize> = BTreeMap::new();
    for seed in from..from + seeds {
        match std::panic::catch_unwind(|| Life::new(seed).check()) {
            Ok((damage, kind)) => *seen.entry((damage, kind)).or_default() += 1,
            Err(_) => {
                eprintln!("seed {seed}: LOGWOOD_SIM_FROM={seed} LOGWOOD_SIM_SEEDS=1 replays it");
                failed.push(seed);
            }
        }
    }
    assert!(failed.is_empty(), "{failed:?}");
    // What never happens is not tested.
    let kinds: BTreeSet<&str> = seen.keys().map(|(_, kind)| *kind).collect();
    assert!(seeds < 300 || (seen.len() >= 20 && kinds.len() == 5), "{seen:?}");
}

impl Life {
    fn new(seed: u64) -> Self {
        let world = World::new(seed);
        let lineages = vec![world.chain.owner.lineage];
        let mut life = Self { world, lineages, archived: BTreeMap::new() };
        life.world.commit();
        for step in 0..life.world.rng.u64(8..30) {
            life.step(seed * 1000 + step);
        }
        life.world.commit();
        life.upload();
        life
    }

    fn step(&mut self, seed: u64) {
        match self.world.rng.u8(0..100) {
            0..50 => self.world.commit(),
            50..75 => self.upload(),
            75..83 => drop(self.snapshot()),
            83..87 => self.leave_gap(),
            87..93 if self.lineages.len() < 4 => self.lose(seed),
            93..95 if self.lineages.len() < 4 => self.begin_without_parent(seed),
            95..97 => self.retain(),
            _ => self.world.clock.advance(Duration::from_secs(self.world.rng.u64(60..7200))),
        }
    }

    fn upload(&mut self) {
        self.world.upload();
        self.archived.insert(self.world.chain.owner.lineage, self.world.last());
    }

    /// A snapshot of now, behind which the chain goes on. Answers none where one stands.
    fn snapshot(&mut self) -> Option<Lsn> {
        let key = snapshot_key(self.world.chain.owner.lineage, self.world.last());
        let is_new = self.world.store.peek(&key).is_none();
        is_new.then(|| {
            let lsn = self.world.snapshot();
            assert_eq!(lsn, self.world.last());
            self.upload();
            lsn
        })
    }

    fn leave_gap(&mut self) {
        self.upload();
        self.world.commit();
        self.world.commit();
        let lsn = self.world.snapshot();
        let World { store, chain, .. } = &mut self.world;
        chain.gap(store, lsn.next(), lsn);
        self.archived.insert(self.world.chain.owner.lineage, lsn);
    }

    fn lose(&mut self, seed: u64) {
        self.upload();
        let found = self.world.archive().list().unwrap();
        let lineage = self.world.chain.owner.lineage;
        let intervals = &found.lineages.iter().find(|found| found.lineage == lineage).unwrap().intervals;
        let Some(interval) = intervals.last() else { return };
        let lsn = Lsn(self.world.rng.u64(interval.first.get()..=interval.last.get()));
        let options = self.world.restore_options().lineage(lineage).point(Point::Lsn(lsn));
        self.world.lose_and_restore_with(&options, seed);
        self.lineages.push(self.world.chain.owner.lineage);
        self.world.commit();
        self.upload();
    }

    /// As an archiver whose log has let go of what its chain ends with.
    fn begin_without_parent(&mut self, seed: u64) {
        let first = self.world.last().next();
        self.world.chain = ChainWriter::begin(&self.world.store, &self.world.db, first, None, seed);
        self.lineages.push(self.world.chain.owner.lineage);
        self.world.snapshot();
        self.world.commit();
        self.upload();
    }

    fn retain(&mut self) {
        let keep = Duration::from_secs(self.world.rng.u64(0..7200));
        let options = RetentionOptions { keep, dry_run: false, deletions_max: self.world.rng.usize(1..20) };
        let report = retention(&self.world.client(), &self.world.environment, &options).unwrap();
        assert!(report.damage.is_empty(), "{report:?}");
    }

    /// Damages one object, and holds what is listed against what can be restored.
    fn check(mut self) -> (Damage, &'static str) {
        let whole = self.world.archive().verify().unwrap();
        assert!(whole.is_sound(), "{whole:?}");
        let wanted =
            ["/log/", "/log/", "/log/", "/snapshot/", "pages/", "/start"][self.world.rng.usize(0..6)];
        let keys: Vec<String> =
            self.world.store.keys().into_iter().filter(|key| key.contains(wanted)).collect();
        let damage = DAMAGES[self.world.rng.usize(0..DAMAGES.len())];
        let is_damage = damage != Damage::Nothing && !keys.is_empty();
        if !is_damage {
            self.check_points(&whole, None);
            return (Damage::Nothing, "nothing");
        }
        let key = keys[self.world.rng.usize(0..keys.len())].clone();
        let is_changed = self.damage(&key, damage, &keys);
        let listing = self.world.archive().verify().unwrap();
        let told = format!("{damage:?} {key}: {listing:?}");
        self.check_sound(&whole, &listing, is_changed.then_some((damage, &key)), &told);
        // Heads tell of everything but of what rotted behind them.
        if damage != Damage::Middle && wanted != "pages/" {
            assert_eq!(self.world.archive().list().unwrap(), listing, "{told}");
        }
        self.check_points(&listing, is_changed.then_some(&key));
        (damage, wanted)
    }

    /// Answers whether anything is another one now.
    fn damage(&mut self, key: &str, damage: Damage, others: &[String]) -> bool {
        let before = self.world.store.peek(key).unwrap().to_vec();
        let mut body = before.clone();
        let after = match damage {
            Damage::Nothing => Some(body),
            Damage::Missing => None,
            Damage::FirstByte => {
                body[0] ^= 1;
                Some(body)
            }
            Damage::Middle => {
                let middle = body.len() / 2;
                body[middle] ^= 1;
                Some(body)
            }
            Damage::Cut => Some(body[..self.world.rng.usize(0..body.len())].to_vec()),
            Damage::Swapped => {
                let other = &others[self.world.rng.usize(0..others.len())];
                Some(self.world.store.peek(other).unwrap().to_vec())
            }
        };
        self.world.store.tamper(key, after.as_deref());
        after.as_deref() != Some(&before[..])
    }

    /// An object that is there and wrong is damage. One that is absent is, unless it is one that retention may have taken, or
    /// the last of its chain, of which nothing tells.
    fn check_sound(
        &self,
        whole: &Listing,
        listing: &Listing,
        changed: Option<(Damage, &String)>,
        told: &str,
    ) {
        let Some((damage, key)) = changed else {
            assert_eq!(listing, whole);
            return;
        };
        if key.starts_with("pages/") {
            // One that no snapshot names is nothing to anybody.
            let is_damaged =
                |lineage: &LineageListing| lineage.snapshots.iter().any(|one| one.damage.is_some());
            assert_eq!(listing.is_sound(), !listing.lineages.iter().any(is_damaged), "{told}");
            return;
        }
        if damage != Damage::Missing {
            assert!(!listing.is_sound(), "{told}");
            return;
        }
        if !key.contains("/log/") || !listing.is_sound() {
            return;
        }
        let lineage = parse_lineage(key).unwrap();
        let first = parse_lsn(key).unwrap();
        let of_lineage = |listing: &&LineageListing| listing.lineage == lineage;
        let found = listing.lineages.iter().find(of_lineage).unwrap();
        let is_last = found.intervals.iter().all(|interval| interval.last < first);
        // A child's first interval may be the fork alone.
        let start = found.parent.map_or(Lsn::FIRST, |(_, fork)| fork.next());
        let is_first = first == start || found.intervals.iter().all(|interval| interval.first > first);
        assert!(is_last || is_first, "{told}");
    }

    fn check_points(&mut self, listing: &Listing, changed: Option<&String>) {
        let mut restored = Vec::new();
        for found in &listing.lineages {
            check_every_entry(found);
            let first = found.parent.map_or(Lsn::FIRST, |(_, fork)| fork.next());
            let last = self.archived.get(&found.lineage).copied().unwrap_or_default();
            for lsn in (first.get()..=last.get()).map(Lsn) {
                if self.check_point(found, lsn, changed) {
                    restored.push((found.lineage, lsn));
                }
            }
        }
        // What is restored is what there was.
        let current = self.world.chain.owner.lineage;
        restored.retain(|(lineage, _)| *lineage == current);
        if !restored.is_empty() {
            let (lineage, lsn) = restored[self.world.rng.usize(0..restored.len())];
            let options = self.world.restore_options().lineage(lineage).point(Point::Lsn(lsn));
            self.world.archive().restore(TO, &options).unwrap();
            self.world.check_restored(lsn);
        }
    }

    /// Answers whether the point can be restored.
    fn check_point(&self, found: &LineageListing, lsn: Lsn, changed: Option<&String>) -> bool {
        let is_in_interval =
            found.intervals.iter().any(|interval| (interval.first..=interval.last).contains(&lsn));
        let is_in_hole = found.holes.iter().any(|hole| (hole.first..=hole.last).contains(&lsn));
        let options = self.world.restore_options().lineage(found.lineage).point(Point::Lsn(lsn));
        let outcome = self.world.archive().restore(TO, &options);
        let _ = crate::seed::settle::remove_tree(&self.world.disk, TO.as_ref());
        let told = || format!("{changed:?}, lsn {lsn}: {outcome:?}, {found:?}");
        // It may be of another history, and is given to whoever asks for it.
        let is_ahead = found.snapshots.iter().any(|snapshot| snapshot.is_ahead && snapshot.lsn == lsn);
        // A child is restored by such a snapshot of its parent where nothing else leads to it, and that is told.
        let is_doubted = outcome
            .as_ref()
            .is_ok_and(|report| report.notes.iter().any(|note| note.contains("another history")));
        assert!(outcome.is_ok() == is_in_interval || is_ahead || is_doubted, "{}", told());
        let newest = changed.filter(|key| parse_lineage(key) == Some(found.lineage) && key.contains("/log/"));
        let newest = newest.and_then(|key| parse_lsn(key)).filter(|first| lsn >= *first);
        assert!(is_in_interval || is_in_hole || newest.is_some(), "{}", told());
        outcome.is_ok()
    }
}
