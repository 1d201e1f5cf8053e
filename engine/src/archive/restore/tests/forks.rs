//! Times around forks: what a listing says of the entry that a child begins with, and what is answered where the log behind the fork
//! was let go of.

use super::listing::with_child;
use super::world::{TO, World};
use crate::archive::layout::log_key;
use crate::archive::{Interval, Point};
use crate::{Error, Lsn};

#[test]
fn a_time_that_may_lie_behind_a_fork_whose_log_was_let_go_of_is_not_kept_and_earlier_ones_are() {
    let (mut world, _, fork) = with_child(44);
    let child = world.chain.owner.lineage;
    let snapshot = world.snapshot();
    world.commit();
    world.upload();
    let time_of = |lsn: Lsn| world.model.states.range(..=lsn).next_back().unwrap().1.0;
    let (at_fork, of_snapshot) = (time_of(fork), time_of(snapshot));
    assert!(time_of(fork.previous()) < at_fork && at_fork < of_snapshot);
    let key = log_key(child, fork.next());
    let whole = world.store.peek(&key).unwrap();
    world.store.tamper(&key, None);
    assert!(world.archive().list().unwrap().is_sound());
    // The entry behind the fork may have had the same time.
    let not_kept = format!("points from lsn {} to {} are not kept", fork.next(), snapshot.previous());
    for point in [
        Point::TimeMs(at_fork),
        Point::TimeMs(at_fork + 1),
        Point::TimeMs(of_snapshot - 1),
        Point::Lsn(fork.next()),
    ] {
        let error = world.restore(point).unwrap_err();
        let told = error.to_string();
        assert!(matches!(error, Error::NotFound { .. }) && told.contains(&not_kept), "{point}: {told}");
        let _ = crate::seed::settle::remove_tree(&world.disk, TO.as_ref());
    }
    for (point, is_before_fork) in [
        (time_of(fork.previous()), true),
        (at_fork - 1, true),
        (of_snapshot, false),
        (of_snapshot + 1, false),
    ] {
        let report = world.restore(Point::TimeMs(point)).unwrap();
        assert!(
            if is_before_fork { report.lsn < fork } else { report.snapshot == Some(snapshot) },
            "{report:?}"
        );
        assert!(report.time_ms <= point);
        world.check_restored(report.lsn);
        world.forget_restored();
    }
    // An object that is there and wrong is damage.
    let mut body = whole.to_vec();
    body[80] ^= 1;
    world.store.tamper(&key, Some(&body));
    let error = world.restore(Point::TimeMs(at_fork)).unwrap_err();
    assert!(matches!(error, Error::ArchiveCorrupt(_)), "{error}");
}

#[test]
fn the_interval_of_a_child_begins_at_the_time_of_the_entry_that_it_forks_behind() {
    let mut world = World::filled(45);
    let mut known: Vec<(Lsn, u64)> = Vec::new();
    let mut parents = Vec::new();
    for round in 0..3 {
        // In the middle of the newest object, in which times differ.
        let (fork, time_ms) =
            world.model.states.iter().rev().nth(7).map(|(lsn, (time, _))| (*lsn, *time)).unwrap();
        assert!(time_ms < world.model.states.values().next_back().unwrap().0);
        parents.push(world.chain.owner.lineage);
        world.lose_and_restore(Point::Lsn(fork), 200 + round);
        known.push((fork, time_ms));
        for _ in 0..12 {
            world.commit();
        }
        world.upload();
    }
    let runs_forwards = |interval: &Interval| interval.first_time_ms <= interval.last_time_ms;
    for listing in [world.archive().list().unwrap(), world.archive().verify().unwrap()] {
        let children = listing.lineages.iter().filter(|lineage| lineage.parent.is_some());
        let begins: Vec<_> = children.map(|lineage| lineage.intervals[0]).collect();
        let found: Vec<_> = begins.iter().map(|interval| (interval.first, interval.first_time_ms)).collect();
        assert_eq!(found, known);
        assert!(begins.iter().all(runs_forwards), "{begins:?}");
    }
    // Where the object cannot be read that has the entry, no interval runs backwards for that.
    let (parent, (fork, _)) = (parents[1], known[1]);
    let log = super::listing::log_of(&world, parent);
    let key = log_key(parent, *log.iter().rfind(|first| **first <= fork).unwrap());
    let mut body = world.store.peek(&key).unwrap().to_vec();
    *body.last_mut().unwrap() ^= 1;
    world.store.tamper(&key, Some(&body));
    let listing = world.archive().list().unwrap();
    assert!(listing.lineages.iter().flat_map(|lineage| &lineage.intervals).all(runs_forwards), "{listing:?}");
}
