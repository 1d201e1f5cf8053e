//! Objects that are missing, damaged, swapped or older: named, or done without; never wrong data.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::listing::log_of;
use super::spoiled::{Script, Spoil, Spoiled};
use super::world::{TO, World, client, client_with, options};
use crate::archive::layout::{log_key, parse_lsn, snapshot_key, start_key};
use crate::archive::store::Retry;
use crate::archive::{Archive, Point};
use crate::{Database, Error, Lsn};

/// What is done to an object at rest.
pub(super) fn damages(world: &World, key: &str) -> Vec<(&'static str, Option<Vec<u8>>)> {
    let body = world.store.peek(key).unwrap().to_vec();
    let flipped = |at: usize| {
        let mut body = body.clone();
        body[at] ^= 1;
        Some(body)
    };
    let folder = key.rsplit_once('/').map_or("", |(folder, _)| folder);
    let other = world.store.keys().into_iter().find(|other| other != key && other.starts_with(folder));
    let mut all = vec![
        ("missing", None),
        ("first byte", flipped(0)),
        ("middle", flipped(body.len() / 2)),
        ("last byte", flipped(body.len() - 1)),
        ("cut", Some(body[..body.len() / 2].to_vec())),
        ("empty", Some(Vec::new())),
    ];
    all.extend(other.map(|other| ("swapped", Some(world.store.peek(&other).unwrap().to_vec()))));
    all
}

#[test]
fn every_damaged_object_is_named_with_its_entries_or_done_without() {
    let world = World::filled(11);
    let last = world.last();
    let newest_snapshot = world.check_restore(Point::Latest, last).snapshot.unwrap();
    let log: Vec<Lsn> = world
        .store
        .keys()
        .iter()
        .filter(|key| key.contains("/log/"))
        .filter_map(|key| parse_lsn(key))
        .collect();
    let (mut named, mut without) = (0, 0);
    for key in world.store.keys() {
        let whole = world.store.peek(&key).unwrap();
        for (what, body) in damages(&world, &key) {
            world.store.tamper(&key, body.as_deref());
            let outcome = world.restore(Point::Latest);
            let first = parse_lsn(&key).filter(|_| key.contains("/log/"));
            let behind = log.iter().find(|lsn| first.is_some_and(|first| **lsn > first)).copied();
            match outcome {
                // The newest log object missing is an archive that ends before.
                Ok(report) if first.is_some() && behind.is_none() && what == "missing" => {
                    assert_eq!(report.lsn, first.unwrap().previous());
                    world.check_restored(report.lsn);
                }
                Ok(report) => {
                    assert_eq!(report.lsn, last, "{key} {what}");
                    world.check_restored(last);
                    let is_needed = key.contains(&format!("/snapshot/{:020}", newest_snapshot.get()));
                    let told = report.notes.iter().any(|note| note.contains(&key));
                    assert!(told || what == "missing" || !is_needed, "{key} {what}: {report:?}");
                    without += 1;
                }
                Err(Error::ArchiveCorrupt(damage)) => {
                    assert_eq!(damage.key, key, "{what}");
                    if let Some(first) = first {
                        // How far the last one goes only its own head says.
                        let of_last = if matches!(what, "middle" | "last byte") { last } else { first };
                        let to = behind.map_or(of_last, Lsn::previous);
                        assert_eq!(damage.lsns, Some((first, to)), "{what}: {damage}");
                    }
                    named += 1;
                }
                Err(Error::NotFound { .. }) if key.ends_with("/start") && what == "missing" => named += 1,
                Err(error) => panic!("{key} {what}: {error}"),
            }
            // Looking at heads finds what is missing, cut short or another one; reading everything finds the rest.
            let told = match what {
                "middle" | "last byte" => format!("{:?}", world.archive().verify().unwrap()),
                _ => format!("{:?}", world.archive().list().unwrap()),
            };
            let is_last = first.is_some() && behind.is_none() && what == "missing";
            let is_gone = what == "missing" && (key.ends_with("/start") || key.contains("/snapshot/"));
            // A listing looks whether pages are there, and reads none.
            let unread =
                key.starts_with("pages/") && !matches!(what, "missing" | "cut" | "empty" | "swapped");
            let same_length =
                body.as_ref().is_some_and(|body| body.len() == whole.len()) && key.starts_with("pages/");
            assert!(
                told.contains(&key) || is_last || is_gone || unread || same_length,
                "{key} {what}: {told}"
            );
            world.store.tamper(&key, Some(&whole));
            world.forget_restored();
        }
    }
    assert!(named >= 20 && without > 10, "{named} {without}");
    world.check_restore(Point::Latest, last);
}

#[test]
fn an_object_of_an_earlier_life_in_the_place_of_another_is_found_by_its_neighbours() {
    // Two archives of the same database and lineage that differ from some entry on, as after a rollback of the disk.
    let (first, second) = (World::filled(12), World::filled(12));
    let key = first.store.keys().into_iter().rfind(|key| key.contains("/log/")).unwrap();
    let mut rewound = World::filled(12);
    rewound.store.tamper(&key, None);
    drop(second);
    // The same entries behind another predecessor: right by itself, and wrong here.
    rewound.chain.next = parse_lsn(&key).unwrap();
    rewound.chain.link = crate::archive::object::Link([9; 32]);
    rewound.chain.restart_at(crate::Term::NONE, 0);
    rewound.upload();
    first.store.tamper(&key, rewound.store.peek(&key).as_deref());
    match first.restore(Point::Latest) {
        Err(Error::ArchiveCorrupt(damage)) => {
            assert_eq!((damage.key.as_str(), damage.check), (key.as_str(), "chain"));
            // How far the right one went nothing tells.
            assert_eq!(damage.lsns, parse_lsn(&key).map(|begins| (begins, begins)));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_answer_that_is_wrong_once_is_asked_for_again() {
    let world = World::filled(13);
    let spoils =
        [Spoil::Fail, Spoil::Flip, Spoil::Cut, Spoil::Absent, Spoil::Replace(b"an older one".to_vec())];
    for spoil in spoils {
        let mut seen = BTreeSet::new();
        let script = move |_, key: &str| {
            // Listings have no body.
            (!key.ends_with('/') && seen.insert(key.to_owned())).then(|| spoil.clone())
        };
        let store = Arc::new(Spoiled::new(&world.store, script));
        let archive =
            Archive::with_client(client(store, &world.environment, &world.clock), &world.environment)
                .parallel(3);
        let report = archive.restore(TO, &world.restore_options()).unwrap();
        assert!(report.notes.is_empty() && report.lsn == world.last(), "{report:?}");
        world.check_restored(world.last());
        world.forget_restored();
    }
}

/// Restores from a store that never gives what stands at `key`, although it lists it and says that it is there.
fn restore_without(world: &World, key: &str) -> crate::Result<crate::archive::RestoreReport> {
    let withheld = key.to_owned();
    let store =
        Arc::new(Spoiled::new(&world.store, move |_, key| (key == withheld).then_some(Spoil::Absent)));
    let client = client(store, &world.environment, &world.clock);
    Archive::with_client(client, &world.environment).restore(TO, &world.restore_options())
}

#[test]
fn the_newest_log_object_that_is_listed_and_does_not_come_is_no_end_of_the_chain() {
    let world = World::filled(17);
    let key = world.store.keys().into_iter().rfind(|key| key.contains("/log/")).unwrap();
    match restore_without(&world, &key) {
        Err(Error::ArchiveCorrupt(damage)) => {
            assert_eq!((damage.key.as_str(), damage.check), (key.as_str(), "chain"));
            assert_eq!(damage.lsns.map(|(first, _)| first), parse_lsn(&key));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_older_history_is_not_restored_in_the_place_of_the_latest_whose_start_cannot_be_read() {
    let mut world = World::filled(18);
    let parent = world.chain.owner.lineage;
    let fork = Lsn(world.last().get() - 10);
    world.lose_and_restore(Point::Lsn(fork), 180);
    for _ in 0..20 {
        world.commit();
    }
    world.upload();
    world.check_restore(Point::Latest, world.last());
    let key = start_key(world.chain.owner.lineage);
    let named = |outcome: crate::Result<crate::archive::RestoreReport>| match outcome {
        Err(Error::ArchiveCorrupt(damage)) => assert_eq!(damage.key, key),
        other => panic!("{other:?}"),
    };
    named(restore_without(&world, &key));
    let whole = world.store.peek(&key).unwrap();
    world.store.tamper(&key, Some(b"damaged"));
    named(world.restore(Point::Latest));
    // Named, an older one can be restored.
    let options = world.restore_options().lineage(parent).point(Point::Lsn(fork));
    assert_eq!(world.archive().restore(TO, &options).unwrap().lsn, fork);
    world.check_restored(fork);
    world.forget_restored();
    world.store.tamper(&key, Some(&whole));
    world.check_restore(Point::Latest, world.last());
}

#[test]
fn a_restore_whose_archive_fails_at_any_request_is_gone_on_with_and_fetches_no_page_twice() {
    let world = World::large(14);
    let options = world.restore_options();
    let at = |script: Box<Script>| {
        let store = Arc::new(Spoiled::new(&world.store, script));
        let retry = Retry { attempts: 1, ..Retry::default() };
        let client = client_with(Arc::clone(&store) as _, &world.environment, &world.clock, retry);
        (store, Archive::with_client(client, &world.environment).parallel(1))
    };
    let (counted, archive) = at(Box::new(|_, _| None));
    let pages = archive.restore(TO, &options).unwrap().segments_fetched;
    assert!(pages >= 8, "{pages} page segments");
    world.forget_restored();
    let total = counted.requests();
    let mut resumed = 0;
    for stop in 1..=total {
        let (first, archive) = at(Box::new(move |number, _| (number >= stop).then_some(Spoil::Fail)));
        match archive.restore(TO, &options) {
            Ok(_) => assert!(stop + 2 > total, "taking the hold back is not waited for: {stop} of {total}"),
            Err(Error::ArchiveUnavailable { .. }) => {
                let (second, archive) = at(Box::new(|_, _| None));
                let report = archive.restore(TO, &options).unwrap();
                assert_eq!(report.segments_fetched + report.segments_kept, pages);
                resumed += report.segments_kept;
                let mut served = first.pages_served();
                served.extend(second.pages_served());
                let all = served.len();
                served.sort_unstable();
                served.dedup();
                assert_eq!((served.len(), all as u64), (all, pages), "{stop}: a page was fetched twice");
            }
            Err(error) => panic!("{stop}: {error}"),
        }
        world.check_restored(world.last());
        world.forget_restored();
    }
    assert!(resumed >= pages * (pages - 1) / 2, "{total} requests, {resumed} segments kept");
}

#[test]
fn a_digest_that_is_not_that_of_the_records_is_refused() {
    let world = World::filled(15);
    let key = world.store.keys().into_iter().rfind(|key| key.contains("/snapshot/")).unwrap();
    let body = world.store.peek(&key).unwrap();
    let (mut snapshot, _) = crate::archive::object::SnapshotObject::decode(&key, &body).unwrap();
    snapshot.digests.iter_mut().for_each(|digest| digest.digest.as_mut().unwrap().sum ^= 1);
    world.store.tamper(&key, Some(&snapshot.encode().bytes));
    match world.restore(Point::Latest) {
        Err(Error::ArchiveCorrupt(damage)) => assert_eq!(damage.key, key),
        other => panic!("{other:?}"),
    }
}

/// What comes of a snapshot whose hashes are right and which says what is not so.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Comes {
    /// Nothing: it cannot be written.
    OfNoWriter,
    /// Another way is found, and it is named.
    DoneWithout,
    /// An error.
    Refused,
}

#[test]
fn hostile_manifests_are_refused_or_done_without_as_it_is_said_here() {
    use crate::archive::object::SnapshotObject;
    let world = World::large(16);
    let key = world.store.keys().into_iter().rfind(|key| key.contains("/snapshot/")).unwrap();
    let whole = world.store.peek(&key).unwrap();
    // Each is encoded anew, so that every hash is right.
    type Forgery = fn(&mut SnapshotObject);
    let forgeries: [(&str, Comes, Forgery); 12] = [
        ("a segment of 4 GiB", Comes::OfNoWriter, |object| object.trees.segments[0].bytes = u32::MAX),
        ("segments in no order", Comes::OfNoWriter, |object| object.trees.segments.reverse()),
        ("a root as deep as none", Comes::OfNoWriter, |object| {
            object.trees.trees[0].root.as_mut().unwrap().level = u8::MAX;
        }),
        ("a segment without bytes", Comes::DoneWithout, |object| object.trees.segments[0].bytes = 0),
        ("a segment of another hash", Comes::DoneWithout, |object| object.trees.segments[1].hash[3] ^= 1),
        ("two segments of one hash", Comes::DoneWithout, |object| {
            object.trees.segments[0].hash = object.trees.segments[1].hash;
        }),
        ("more live bytes than there are", Comes::DoneWithout, |object| {
            object.trees.segments[0].live_bytes = u32::MAX;
        }),
        ("entries that were never written", Comes::DoneWithout, |object| object.trees.replay_from = Lsn(1)),
        ("no segments", Comes::Refused, |object| object.trees.segments.clear()),
        ("a root elsewhere", Comes::Refused, |object| {
            object.trees.trees[0].root.as_mut().unwrap().child.page.addr.offset ^= 64;
        }),
        ("a root that is a leaf", Comes::Refused, |object| {
            object.trees.trees[0].root.as_mut().unwrap().level = 0;
        }),
        ("a state of rubbish", Comes::Refused, |object| object.trees.engine_state = vec![0xff; 100]),
    ];
    for (what, comes, forge) in forgeries {
        let (mut object, _) = SnapshotObject::decode(&key, &whole).unwrap();
        forge(&mut object);
        let forged = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| object.encode()));
        assert_eq!(forged.is_err(), comes == Comes::OfNoWriter, "{what}");
        let Ok(forged) = forged else { continue };
        world.store.tamper(&key, Some(&forged.bytes));
        let found = match world.restore(Point::Latest) {
            Ok(report) => {
                assert_eq!((report.lsn, report.snapshot), (world.last(), None), "{what}");
                let [note] = &report.notes[..] else { panic!("{what}: {report:?}") };
                assert!(note.contains(&key) || note.contains("pages/"), "{what}: {note}");
                world.check_restored(world.last());
                Comes::DoneWithout
            }
            Err(Error::ArchiveCorrupt(_) | Error::Corruption(_) | Error::UnsupportedFormat { .. }) => {
                let refused = Database::open(TO, options(&world.environment)).map(drop);
                assert!(matches!(refused, Err(Error::WrongKind { .. })), "{what}: {refused:?}");
                Comes::Refused
            }
            Err(error) => panic!("{what}: {error}"),
        };
        assert_eq!(found, comes, "{what}");
        world.forget_restored();
    }
    world.store.tamper(&key, Some(&whole));
    world.check_restore(Point::Latest, world.last());
}

#[test]
fn a_point_that_a_parent_holds_whose_start_is_lost_is_no_point_that_is_not_kept() {
    let mut world = World::filled(19);
    let parent = world.chain.owner.lineage;
    let fork = world.last();
    world.lose_and_restore(Point::Latest, 190);
    for _ in 0..20 {
        world.commit();
    }
    world.upload();
    world.snapshot();
    let child = world.chain.owner.lineage;
    let restore = |lsn: Lsn| {
        let options = world.restore_options().lineage(child).point(Point::Lsn(lsn));
        let outcome = world.archive().restore(TO, &options);
        world.forget_restored();
        outcome
    };
    let before = Lsn(fork.get() - 10);
    assert_eq!(restore(before).unwrap().lsn, before);
    let key = start_key(parent);
    world.store.tamper(&key, None);
    // Neither the one before the fork, nor the one behind it that the child's snapshot is too late for.
    for lsn in [before, Lsn(fork.get() + 3)] {
        match restore(lsn) {
            Err(Error::ArchiveCorrupt(damage)) => assert_eq!(damage.key, key, "{lsn}"),
            other => panic!("{lsn}: {other:?}"),
        }
    }
    // What needs nothing of it is restored, and that is told.
    let report = restore(world.last()).unwrap();
    let [note] = &report.notes[..] else { panic!("{report:?}") };
    assert!(note.contains(&key), "{note}");
    // A parent that went as a whole is not missed.
    let of_parent: Vec<String> =
        world.store.keys().into_iter().filter(|key| key.contains(&parent.to_string())).collect();
    of_parent.iter().for_each(|key| world.store.tamper(key, None));
    match restore(before) {
        Err(error @ Error::NotFound { .. }) => assert!(error.to_string().contains("are not kept"), "{error}"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_history_that_has_nothing_without_a_parent_names_it_when_it_is_gone_as_a_whole() {
    let mut world = World::filled(20);
    let parent = world.chain.owner.lineage;
    let fork = world.last();
    world.lose_and_restore(Point::Latest, 200);
    for _ in 0..20 {
        world.commit();
    }
    world.upload();
    let of_parent: Vec<String> =
        world.store.keys().into_iter().filter(|key| key.contains(&parent.to_string())).collect();
    of_parent.iter().for_each(|key| world.store.tamper(key, None));
    let options = world.restore_options().lineage(world.chain.owner.lineage);
    match world.archive().restore(TO, &options) {
        Err(Error::ArchiveCorrupt(damage)) => {
            assert_eq!((damage.key, damage.lsns), (start_key(parent), Some((Lsn::FIRST, fork))));
        }
        other => panic!("{other:?}"),
    }
}

/// Entries up to 1/3, a gap, the snapshot that stands in for it, and entries behind.
fn with_gap(seed: u64) -> (World, Lsn, Lsn) {
    let mut world = World::new(seed);
    let commit = |world: &mut World| (0..40).for_each(|_| world.commit());
    commit(&mut world);
    world.upload();
    commit(&mut world);
    let snapshot = world.snapshot();
    let first = world.chain.next;
    world.chain.gap(&world.store, snapshot.next(), snapshot);
    commit(&mut world);
    world.upload();
    (world, first, snapshot)
}

#[test]
fn the_snapshot_of_a_gap_that_is_missing_is_named_with_what_stands_behind_the_gap() {
    let (mut world, first, snapshot) = with_gap(20);
    let last = world.last();
    world.check_restore(Point::Latest, last);
    let key = snapshot_key(world.chain.owner.lineage, snapshot);
    let whole = world.store.peek(&key).unwrap();
    world.store.tamper(&key, None);
    for point in [Point::Latest, Point::Lsn(snapshot), Point::Lsn(Lsn(last.get() - 5))] {
        match world.restore(point) {
            Err(Error::ArchiveCorrupt(damage)) => {
                assert_eq!(
                    (damage.key.as_str(), damage.lsns),
                    (key.as_str(), Some((snapshot, last))),
                    "{point}"
                );
            }
            other => panic!("{point}: {other:?}"),
        }
    }
    // Within the gap no snapshot is missed, and before it none is needed.
    assert!(matches!(world.restore(Point::Lsn(first)), Err(Error::NotFound { .. })));
    world.forget_restored();
    world.check_restore(Point::Lsn(first.previous()), first.previous());
    // Where a later one is there, retention may have taken it.
    world.snapshot();
    world.commit();
    world.upload();
    assert!(matches!(world.restore(Point::Lsn(last.previous())), Err(Error::NotFound { .. })));
    world.forget_restored();
    world.check_restore(Point::Latest, world.last());
    world.store.tamper(&key, Some(&whole));
    world.check_restore(Point::Lsn(last.previous()), last.previous());
}

#[test]
fn a_log_object_that_rots_is_named_although_a_snapshot_stands_ahead_of_the_log() {
    let mut world = World::new(21);
    let mut keys = Vec::new();
    for _ in 0..4 {
        (0..20).for_each(|_| world.commit());
        keys.push(log_key(world.chain.owner.lineage, world.chain.next));
        world.upload();
    }
    let reached = world.last();
    (0..20).for_each(|_| world.commit());
    let ahead = world.snapshot();
    let first = world.check_restore(Point::Latest, reached);
    assert_eq!(first.notes.len(), 1, "{first:?}");
    for (key, body) in keys.iter().flat_map(|key| [(key, Some(&b"rotten"[..])), (key, None)]) {
        let whole = world.store.peek(key).unwrap();
        world.store.tamper(key, body);
        let (is_first, is_last) = (key == &keys[0], key == &keys[3]);
        match world.restore(Point::Latest) {
            // Where even the beginning is gone there is nothing else; an end that is gone is not missed.
            Ok(report) if body.is_none() && is_first => assert_eq!(report.lsn, ahead),
            Ok(report) if body.is_none() && is_last => assert!(report.lsn < reached, "{report:?}"),
            Err(Error::ArchiveCorrupt(damage)) => assert_eq!(&damage.key, key),
            other => panic!("{key}: {other:?}"),
        }
        world.forget_restored();
        // It is a point all the same, where it is asked for.
        world.check_restore(Point::Lsn(ahead), ahead);
        world.store.tamper(key, Some(&whole));
    }
}

#[test]
fn a_wrong_object_takes_the_entries_up_to_the_next_one_whatever_it_says_itself_and_whatever_point_is_asked_for()
 {
    let mut world = World::filled(12);
    let first_lineage = world.chain.owner.lineage;
    let of_parent = log_of(&world, first_lineage);
    let fork = world.lose_and_restore(Point::Latest, 112).lsn;
    world.commit();
    world.upload();
    let last = *of_parent.last().unwrap();
    for (wrong, to) in [(of_parent[4], of_parent[5].previous()), (last, fork)] {
        let key = log_key(first_lineage, wrong);
        let whole = world.store.peek(&key).unwrap();
        let other = world.store.peek(&log_key(first_lineage, of_parent[0])).unwrap();
        for body in [Some(&other[..]), Some(b"rubbish"), None] {
            world.store.tamper(&key, body);
            for point in [Point::Lsn(wrong), Point::Lsn(to), Point::Latest] {
                let error = world.restore(point).unwrap_err();
                let Error::ArchiveCorrupt(damage) = error else { panic!("{point}: {error}") };
                assert_eq!((damage.key.as_str(), damage.lsns), (key.as_str(), Some((wrong, to))), "{point}");
            }
        }
        world.store.tamper(&key, Some(&whole));
    }
}
