//! What a listing says of archives that lost objects: nothing is called whole that cannot be restored, and no entry is forgotten.

use super::damage::damages;
use super::world::World;
use crate::archive::layout::{log_key, parse_lineage, parse_lsn};
use crate::archive::{LineageListing, Listing, Point, RetentionOptions, retention};
use crate::{LineageId, Lsn};

/// A database that was lost and restored, and whose child has some log.
pub(super) fn with_child(seed: u64) -> (World, LineageId, Lsn) {
    let mut world = World::filled(seed);
    let parent = world.chain.owner.lineage;
    let fork = world.lose_and_restore(Point::Latest, seed + 100).lsn;
    for _ in 0..20 {
        world.commit();
    }
    world.upload();
    (world, parent, fork)
}

fn listed(world: &World) -> Listing {
    let (heads, whole) = (world.archive().list().unwrap(), world.archive().verify().unwrap());
    for listing in [&heads, &whole] {
        listing.lineages.iter().for_each(check_every_entry);
    }
    whole
}

/// Every entry from the first to the last that is known of is in one interval or in one hole. An object is named as damaged also
/// where snapshots hold all its points.
pub(super) fn check_every_entry(lineage: &LineageListing) {
    let first = lineage.parent.map_or(Lsn::FIRST, |(_, fork)| fork.next());
    let mut all: Vec<_> = lineage.intervals.iter().map(|interval| (interval.first, interval.last)).collect();
    let is_within = |(first, last): (Lsn, Lsn)| {
        (first.get()..=last.get()).map(Lsn).all(|lsn| {
            lineage.intervals.iter().any(|interval| (interval.first..=interval.last).contains(&lsn))
        })
    };
    let holes = lineage.holes.iter().filter(|hole| hole.is_named_gap || !is_within((hole.first, hole.last)));
    let holes: Vec<_> = holes.map(|hole| (hole.first, hole.last)).collect();
    all.extend(holes);
    let last = all.iter().map(|(_, last)| *last).max().unwrap_or(Lsn::ZERO);
    for lsn in (first.get()..=last.get()).map(Lsn) {
        let places = all.iter().filter(|(first, last)| (*first..=*last).contains(&lsn)).count();
        assert_eq!(places, 1, "lsn {lsn}: {lineage:?}");
    }
}

fn is_sound(lineage: &LineageListing) -> bool {
    lineage.holes.iter().all(|hole| hole.is_named_gap)
}

fn find(listing: &Listing, lineage: LineageId) -> &LineageListing {
    listing.lineages.iter().find(|found| found.lineage == lineage).unwrap()
}

pub(super) fn log_of(world: &World, lineage: LineageId) -> Vec<Lsn> {
    let prefix = format!("lineage/{lineage}/log/");
    world
        .store
        .keys()
        .iter()
        .filter(|key| key.starts_with(&prefix))
        .filter_map(|key| parse_lsn(key))
        .collect()
}

fn remove_all_of(world: &World, lineage: LineageId) {
    for key in world.store.keys().into_iter().filter(|key| parse_lineage(key) == Some(lineage)) {
        world.store.tamper(&key, None);
    }
}

#[test]
fn a_child_proves_that_its_parent_reached_the_fork() {
    let (mut world, parent, fork) = with_child(41);
    let (child, last) = (world.chain.owner.lineage, world.last());
    assert!(listed(&world).lineages.iter().all(|lineage| lineage.holes.is_empty()));
    let newest = *log_of(&world, parent).last().unwrap();
    let key = log_key(parent, newest);
    let whole = world.store.peek(&key).unwrap();
    let check_hole = |listing: &Listing| {
        let hole = find(listing, parent).holes.last().unwrap();
        assert_eq!((hole.first, hole.last, hole.is_named_gap), (newest, fork, false), "{hole:?}");
        assert_eq!(hole.key, key);
    };
    world.store.tamper(&key, None);
    let listing = listed(&world);
    check_hole(&listing);
    assert!(find(&listing, child).intervals.is_empty() && !is_sound(find(&listing, child)), "{listing:?}");
    assert_eq!(find(&listing, child).holes.last().unwrap().last, last);
    world.restore(Point::Latest).unwrap_err();
    world.forget_restored();
    for lsn in [newest, fork, fork.next()] {
        let options = world.restore_options().lineage(parent).point(Point::Lsn(lsn));
        let error = world.archive().restore(super::world::TO, &options).unwrap_err();
        assert!(
            matches!(&error, crate::Error::ArchiveCorrupt(damage) if damage.key == key),
            "{lsn}: {error}"
        );
        world.forget_restored();
    }
    // So far goes the last object as well that is there and wrong, whatever it says itself.
    world.store.tamper(&key, Some(&whole));
    for (what, body) in damages(&world, &key) {
        world.store.tamper(&key, body.as_deref());
        check_hole(&listed(&world));
        assert!(!is_sound(find(&listed(&world), parent)), "{what}");
    }
    // A snapshot of the child does not make good what stood before it.
    world.store.tamper(&key, Some(&whole));
    world.commit();
    let snapshot = world.snapshot();
    world.commit();
    world.upload();
    world.store.tamper(&key, None);
    let listing = listed(&world);
    check_hole(&listing);
    let found = find(&listing, child);
    assert_eq!((found.intervals[0].first, found.intervals[0].last), (snapshot, world.last()));
    assert_eq!((found.holes[0].first, found.holes[0].last), (fork.next(), snapshot.previous()));
    assert!(!is_sound(found), "{found:?}");
}

#[test]
fn a_child_whose_parent_is_gone_is_damage_until_it_has_a_snapshot_of_its_own() {
    for has_snapshot in [false, true] {
        let (mut world, parent, fork) = with_child(42);
        if has_snapshot {
            world.snapshot();
            world.commit();
            world.upload();
        }
        remove_all_of(&world, parent);
        let listing = listed(&world);
        let [child] = &listing.lineages[..] else { panic!("{listing:?}") };
        assert_eq!(is_sound(child), has_snapshot, "{child:?}");
        assert_eq!(child.intervals.is_empty(), !has_snapshot);
        let first = if has_snapshot { fork.next() } else { fork };
        assert_eq!(child.holes[0].first, first, "{child:?}");
        assert!(child.holes[0].key.contains(&parent.to_string()), "{child:?}");
    }
}

#[test]
fn what_retention_let_go_of_is_no_damage_and_what_is_there_and_wrong_is() {
    let world = World::filled(43);
    let lineage = world.chain.owner.lineage;
    let log = log_of(&world, lineage);
    let snapshot = listed(&world).lineages[0].snapshots[0].lsn;
    let mut wrong = 0;
    for (first, next) in log.iter().zip(&log[1..]) {
        let key = log_key(lineage, *first);
        let whole = world.store.peek(&key).unwrap();
        for (what, body) in damages(&world, &key) {
            world.store.tamper(&key, body.as_deref());
            let listing = listed(&world);
            let found = &listing.lineages[0];
            let is_let_go = what == "missing" && *first == log[0];
            assert_eq!(is_sound(found), is_let_go, "{key} {what}: {found:?}");
            let hole = found.holes.iter().find(|hole| hole.first == *first).unwrap();
            let to = next.previous();
            // A snapshot may hold the last point.
            assert!(hole.last == to || hole.last == to.previous(), "{key} {what}: {hole:?}");
            if what == "swapped" {
                assert!(hole.why.contains(&format!("expected {key}, found lineage/")), "{}", hole.why);
            }
            wrong += usize::from(!is_sound(found));
        }
        world.store.tamper(&key, Some(&whole));
    }
    assert!(wrong > 20, "{wrong}");
    // What is known of the last is that it goes as far as the newest snapshot.
    let (mut world, key) = (world, log_key(lineage, *log.last().unwrap()));
    let newest = world.snapshot();
    let whole = world.store.peek(&key);
    world.store.tamper(&key, world.store.peek(&log_key(lineage, log[0])).as_deref());
    let listing = listed(&world);
    let hole = listing.lineages[0].holes.last().unwrap();
    assert_eq!((hole.first, hole.last), (*log.last().unwrap(), newest.previous()), "{hole:?}");
    world.store.tamper(&key, whole.as_deref());
    // As retention leaves it: without everything before the snapshot.
    for first in log.iter().filter(|first| **first < snapshot) {
        world.store.tamper(&log_key(lineage, *first), None);
    }
    let listing = listed(&world);
    assert!(is_sound(&listing.lineages[0]), "{listing:?}");
    assert_eq!(listing.lineages[0].intervals[0].first, snapshot);
}

/// A chain whose last snapshot is of an entry in the last object but one, with what log that object lacks.
fn without_the_end(seed: u64, from: usize) -> (World, LineageId, Vec<Lsn>) {
    let mut world = World::filled(seed);
    for _ in 0..3 {
        world.commit();
    }
    let snapshot = world.snapshot();
    for _ in 0..3 {
        world.commit();
    }
    world.upload();
    let lineage = world.chain.owner.lineage;
    assert!(listed(&world).is_sound());
    let log = log_of(&world, lineage);
    for first in &log[log.len() - from..] {
        world.store.tamper(&log_key(lineage, *first), None);
    }
    (world, lineage, vec![log[log.len() - from], snapshot])
}

#[test]
fn entries_between_the_end_of_the_log_and_a_snapshot_that_follows_it_are_in_a_hole() {
    for from in [1, 2] {
        let (world, lineage, known) = without_the_end(71, from);
        let listing = listed(&world);
        let found = find(&listing, lineage);
        let hole = found.holes.last().unwrap();
        // All changes before it are in its pages: it may stand in for a gap that is being left.
        assert_eq!((hole.first, hole.last, hole.is_named_gap), (known[0], known[1], true), "{found:?}");
        assert!(found.snapshots.last().unwrap().is_ahead && is_sound(found), "{found:?}");
    }
}

#[test]
fn a_snapshot_that_needs_the_log_proves_that_its_end_is_lost() {
    let mut world = World::filled(72);
    let keyspace = world.db.create_keyspace("bulk").unwrap();
    world.model.note(&world.db);
    world.upload();
    // A transaction is open at the checkpoint, so that its entries are replayed.
    let mut open = world.db.transaction();
    open.put(&keyspace, b"open", b"yes").unwrap();
    for _ in 0..3 {
        world.commit();
    }
    drop(open);
    let lineage = world.chain.owner.lineage;
    let snapshot = world.snapshot();
    world.upload();
    let log = log_of(&world, lineage);
    let newest = *log.last().unwrap();
    let key = crate::archive::layout::snapshot_key(lineage, snapshot);
    let (mut object, _) =
        crate::archive::object::SnapshotObject::decode(&key, &world.store.peek(&key).unwrap()).unwrap();
    object.trees.replay_from = newest;
    world.store.tamper(&key, Some(&object.encode().bytes));
    assert!(listed(&world).is_sound());
    world.store.tamper(&log_key(lineage, newest), None);
    let listing = listed(&world);
    let found = find(&listing, lineage);
    let hole = found.holes.last().unwrap();
    assert_eq!((hole.first, hole.last, hole.is_named_gap), (newest, snapshot, false), "{found:?}");
    assert_eq!(hole.key, log_key(lineage, newest));
}

#[test]
fn a_log_that_is_gone_as_a_whole_behind_a_snapshot_is_damage() {
    for has_child in [false, true] {
        let (mut world, lineage, fork) = if has_child {
            let (mut world, parent, fork) = with_child(73);
            world.snapshot();
            world.commit();
            world.upload();
            (world, parent, fork)
        } else {
            let world = World::filled(73);
            let lineage = world.chain.owner.lineage;
            (world, lineage, Lsn::ZERO)
        };
        for first in log_of(&world, lineage) {
            world.store.tamper(&log_key(lineage, first), None);
        }
        let listing = listed(&world);
        let found = find(&listing, lineage);
        let snapshot = found.snapshots.last().unwrap().lsn;
        let hole = found.holes.last().unwrap();
        let last = fork.max(snapshot);
        assert_eq!((hole.last, hole.is_named_gap), (last, false), "{found:?}");
        assert_eq!(found.intervals.last().unwrap().last, snapshot, "{found:?}");
        world.commit();
    }
}

#[test]
fn a_chain_whose_first_snapshot_is_not_there_yet_is_no_damage_and_holds_no_point() {
    let mut world = World::filled(74);
    let first = world.last().next();
    let (term, time_ms) = (logwood_base::Term::NONE, 0);
    world.chain = super::world::ChainWriter::begin(&world.store, &world.db, first, None, 75);
    world.chain.restart_at(term, time_ms);
    for _ in 0..10 {
        world.commit();
    }
    world.upload();
    let lineage = world.chain.owner.lineage;
    let listing = listed(&world);
    let found = find(&listing, lineage);
    assert!(is_sound(found) && found.intervals.is_empty(), "{found:?}");
    let hole = found.holes.last().unwrap();
    assert_eq!((hole.first, hole.last), (first, world.last()), "{found:?}");
    assert!(hole.why.contains("first snapshot is not there yet"), "{}", hole.why);
    // It is the latest all the same: whoever asks for that is told which others there are, and retention that nothing is lost.
    let older = listing.lineages.iter().find(|other| other.lineage != lineage).unwrap();
    let error = world.restore(Point::Latest).unwrap_err();
    let told = error.to_string();
    assert!(matches!(error, crate::Error::NotFound { .. }), "{told}");
    assert!(told.contains(&lineage.to_string()) && told.contains(&older.lineage.to_string()), "{told}");
    world.forget_restored();
    let ask = RetentionOptions { keep: std::time::Duration::ZERO, dry_run: true, deletions_max: 10 };
    let told = retention(&world.client(), &world.environment, &ask).unwrap();
    assert!(told.is_newest_lost && told.damage.is_empty(), "{told:?}");
    world.snapshot();
    world.commit();
    world.upload();
    let listing = listed(&world);
    assert!(!retention(&world.client(), &world.environment, &ask).unwrap().is_newest_lost);
    assert!(is_sound(find(&listing, lineage)) && !find(&listing, lineage).intervals.is_empty());
    // What is lost of such a chain is damage also before it has one.
    let key = log_key(lineage, first);
    let snapshots = find(&listing, lineage).snapshots[0].lsn;
    world.store.tamper(&crate::archive::layout::snapshot_key(lineage, snapshots), None);
    world.store.tamper(&key, None);
    assert!(!is_sound(find(&listed(&world), lineage)));
    let told = retention(&world.client(), &world.environment, &ask).unwrap();
    assert!(told.is_newest_lost && !told.damage.is_empty(), "{told:?}");
}
