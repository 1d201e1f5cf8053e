//! Any point back: latest, by LSN, by time; over forks and gaps.

use super::world::{TO, World, options};
use crate::archive::{Point, Store};
use crate::tests::checks::read_all;
use crate::{Database, Error, Lsn};

#[test]
fn latest_and_every_lsn_and_every_time_come_back_as_they_were() {
    let world = World::filled(1);
    let report = world.check_restore(Point::Latest, world.last());
    assert!(
        report.snapshot.is_some() && report.notes.is_empty() && report.segments_fetched > 0,
        "{report:?}"
    );
    let mut lsns = 0;
    for lsn in (1..=world.last().get()).step_by(5) {
        world.check_restore(Point::Lsn(Lsn(lsn)), Lsn(lsn));
        lsns += 1;
    }
    assert!(lsns > 30);
    for (lsn, (time_ms, _)) in world.model.states.iter().step_by(9) {
        // Another commit may bear the same time.
        let same =
            world.model.states.iter().filter(|(_, (time, _))| time == time_ms).map(|(lsn, _)| *lsn).max();
        assert_eq!(world.check_restore(Point::TimeMs(*time_ms), same.unwrap()).time_ms, *time_ms, "{lsn}");
    }
    world.check_restore(Point::TimeMs(u64::MAX), world.last());
}

#[test]
fn what_is_not_there_is_said_to_be_so_and_the_directory_stays_free() {
    let world = World::filled(2);
    let beyond = world.last().next();
    for point in [Point::Lsn(beyond), Point::TimeMs(5)] {
        let error = world.restore(point).unwrap_err();
        assert!(matches!(error, Error::NotFound { .. }), "{point}: {error}");
        match point {
            // Of the end a few requests tell, before anything is made.
            Point::Lsn(_) => {
                let listed = logwood_base::disk::Disk::list(&world.disk, TO.as_ref());
                assert!(matches!(listed, Err(Error::NotFound { .. })), "{listed:?}");
                let part = world.restore_options().point(point).keyspace("a");
                let error = world.archive().restore(TO, &part).unwrap_err();
                assert!(error.to_string().contains("the archive ends at"), "{error}");
                assert!(logwood_base::disk::Disk::list(&world.disk, TO.as_ref()).is_err());
            }
            _ => {
                let open = Database::open(TO, options(&world.environment)).unwrap_err();
                assert!(matches!(open, Error::WrongKind { .. }), "{open}");
            }
        }
    }
    assert!(matches!(world.restore(Point::Lsn(Lsn::ZERO)).unwrap_err(), Error::InvalidArgument(_)));
    // The next call takes over what is there.
    world.check_restore(Point::Latest, world.last());
}

#[test]
fn nothing_that_stands_is_overwritten_and_nothing_foreign_is_touched() {
    let world = World::filled(3);
    world.restore(Point::Latest).unwrap();
    let error = world.restore(Point::Latest).unwrap_err();
    assert!(matches!(error, Error::AlreadyExists { .. }), "{error}");
    world.check_restored(world.last());
    world.forget_restored();

    logwood_base::disk::create_dir_all(&world.disk, std::path::Path::new(TO)).unwrap();
    world.disk.write_file(&std::path::Path::new(TO).join("letter"), b"dear");
    assert!(matches!(world.restore(Point::Latest).unwrap_err(), Error::InvalidArgument(_)));
    assert!(matches!(
        world.archive().restore("db", &world.restore_options()),
        Err(Error::AlreadyOpen { .. })
    ));
}

#[test]
fn restored_written_lost_and_restored_again() {
    let mut world = World::filled(4);
    for round in 0..3 {
        let lsn = Lsn(world.last().get() - world.rng.u64(0..20));
        assert_eq!(world.lose_and_restore(Point::Lsn(lsn), 100 + round).lsn, lsn);
        let term = world.db.core().group.last().1;
        assert!(term.get() > round + 1, "a term of its own");
        for _ in 0..20 {
            world.commit();
        }
        world.upload();
        if round == 1 {
            world.snapshot();
            world.commit();
            world.upload();
        }
    }
    let last = world.last();
    for lsn in (1..=last.get()).step_by(7).chain([last.get()]) {
        world.check_restore(Point::Lsn(Lsn(lsn)), Lsn(lsn));
    }
    assert_eq!(world.archive().newest_lineage().unwrap(), world.chain.owner.lineage);
    let listing = world.archive().verify().unwrap();
    assert_eq!(world.archive().list().unwrap(), listing, "heads tell as much");
    assert_eq!(listing.lineages.len(), 4);
    for lineage in &listing.lineages {
        assert!(lineage.holes.is_empty() && lineage.intervals.len() == 1, "{lineage:?}");
    }
    let newest =
        listing.lineages.iter().find(|lineage| lineage.lineage == world.chain.owner.lineage).unwrap();
    assert_eq!(newest.intervals[0].last, last);
}

#[test]
fn a_gap_is_named_and_everything_around_it_comes_back() {
    let mut world = World::filled(5);
    let before = world.chain.next.previous();
    for _ in 0..20 {
        world.commit();
    }
    // The archiver was away: a snapshot stands in for what it missed.
    let snapshot = world.snapshot();
    world.chain.gap(&world.store, snapshot.next(), snapshot);
    for _ in 0..10 {
        world.commit();
    }
    world.upload();
    world.check_restore(Point::Lsn(before), before);
    world.check_restore(Point::Lsn(snapshot), snapshot);
    world.check_restore(Point::Latest, world.last());
    let within = snapshot.previous();
    let error = world.restore(Point::Lsn(within)).unwrap_err();
    let named = format!("lsn {} to {snapshot}", before.next());
    assert!(matches!(error, Error::NotFound { .. }) && error.to_string().contains(&named), "{error}");
    let listing = world.archive().verify().unwrap();
    assert_eq!(world.archive().list().unwrap(), listing, "heads tell as much");
    let lineage = &listing.lineages[0];
    assert_eq!(lineage.intervals.len(), 2, "{lineage:?}");
    assert_eq!((lineage.intervals[0].last, lineage.intervals[1].first), (before, snapshot));
    assert!(lineage.holes[0].is_named_gap);
    // The snapshot itself can be restored.
    assert_eq!((lineage.holes[0].first, lineage.holes[0].last), (before.next(), snapshot.previous()));
}

#[test]
fn where_the_snapshot_behind_a_gap_is_damaged_that_is_told_and_not_the_gap() {
    let mut world = World::filled(9);
    for _ in 0..20 {
        world.commit();
    }
    let snapshot = world.snapshot();
    world.chain.gap(&world.store, snapshot.next(), snapshot);
    world.commit();
    world.upload();
    let key = crate::archive::layout::snapshot_key(world.chain.owner.lineage, snapshot);
    let mut body = world.store.peek(&key).unwrap().to_vec();
    body[80] ^= 1;
    world.store.tamper(&key, Some(&body));
    for point in [Point::Latest, Point::Lsn(snapshot), Point::Lsn(world.last())] {
        match world.restore(point) {
            Err(Error::ArchiveCorrupt(damage)) => assert_eq!(damage.key, key),
            other => panic!("{point}: {other:?}"),
        }
    }
    assert!(matches!(world.restore(Point::Lsn(snapshot.previous())), Err(Error::NotFound { .. })));
}

#[test]
fn several_databases_in_one_archive_are_told_apart() {
    let world = World::filled(6);
    let other = World::filled(7);
    for key in other.store.keys() {
        let _ = world.store.put_new(&key, &other.store.peek(&key).unwrap()).unwrap();
    }
    assert!(matches!(world.restore(Point::Latest).unwrap_err(), Error::InvalidArgument(_)));
    let of_one = world.restore_options().lineage(world.chain.owner.lineage);
    world.archive().restore(TO, &of_one).unwrap();
    world.check_restored(world.last());
    let db = Database::open(TO, options(&world.environment)).unwrap();
    assert_eq!(db.id(), world.db.id());
    assert_eq!(&read_all(&db).unwrap(), world.state_at(world.last()));
}

#[test]
fn a_link_in_the_directory_is_refused_and_nothing_is_written_behind_it() {
    let world = World::filled(8);
    for link in ["seed", "pages", "seed/log"] {
        let place = tempfile::tempdir().unwrap();
        let (to, elsewhere) = (place.path().join("to"), place.path().join("elsewhere"));
        let environment = crate::Environment::system().unwrap();
        for folder in [&to, &to.join("seed"), &elsewhere] {
            environment.disk.create_dir(folder).unwrap();
        }
        let link = to.join(link);
        let _ = environment.disk.remove_dir(&link);
        std::os::unix::fs::symlink(&elsewhere, &link).unwrap();
        let archive = crate::archive::Archive::with_client(world.client(), &environment);
        let error = archive.restore(&to, &crate::archive::RestoreOptions::new()).unwrap_err();
        assert!(matches!(error, Error::InvalidArgument(_)), "{error}");
        assert!(environment.disk.list(&elsewhere).unwrap().is_empty());
    }
}

#[test]
fn a_snapshot_that_the_chain_does_not_reach_yet_is_restored_where_it_is_asked_for_or_nothing_else_is_there() {
    let mut world = World::filled(9);
    let reached = world.last();
    for _ in 0..15 {
        world.commit();
    }
    // Its transactions are all whole, so that it needs no log: it can be restored as it is. But it may be of another history.
    let snapshot = world.snapshot();
    let time_ms = world.model.states[&snapshot].0;
    for (point, expected) in
        [(Point::Latest, reached), (Point::TimeMs(time_ms), reached), (Point::Lsn(snapshot), snapshot)]
    {
        let report = world.check_restore(point, expected);
        let [note] = &report.notes[..] else { panic!("{report:?}") };
        assert!(note.contains(&format!("beyond lsn {reached}, where the log")), "{note}");
    }
    assert!(matches!(world.restore(Point::Lsn(snapshot.next())), Err(Error::NotFound { .. })));
    world.forget_restored();
    let view = world.archive().open_at("view", Point::Latest, None, options(&world.environment)).unwrap();
    assert_eq!((view.lsn(), view.notes().len()), (reached, 1));
    for listing in [world.archive().list().unwrap(), world.archive().verify().unwrap()] {
        let lineage = &listing.lineages[0];
        assert_eq!(lineage.intervals.last().map(|interval| interval.last), Some(reached));
        let ahead: Vec<Lsn> =
            lineage.snapshots.iter().filter(|found| found.is_ahead).map(|found| found.lsn).collect();
        assert_eq!(ahead, [snapshot]);
    }
    // Where everything before it is damaged, there is nothing else.
    let objects: Vec<String> = world.store.keys();
    let own = crate::archive::layout::snapshot_key(world.chain.owner.lineage, snapshot);
    let bodies: Vec<_> = objects.iter().map(|key| world.store.peek(key).unwrap()).collect();
    for key in objects.iter().filter(|key| key.contains("/snapshot/") && **key != own) {
        world.store.tamper(key, Some(b"damaged"));
    }
    let key = crate::archive::layout::start_key(world.chain.owner.lineage);
    let (mut start, _) =
        crate::archive::object::Start::decode(&key, &world.store.peek(&key).unwrap()).unwrap();
    start.first_lsn = Lsn(2);
    world.store.tamper(&key, Some(&start.encode().bytes));
    let report = world.check_restore(Point::Latest, snapshot);
    assert!(report.notes.len() > 1, "{report:?}");
    let listing = world.archive().list().unwrap();
    let reaches: Vec<Lsn> = listing.lineages[0].intervals.iter().map(|interval| interval.last).collect();
    assert_eq!(reaches, [snapshot]);
    // So it is where the lineage began with the first entry, and retention let go of that.
    start.first_lsn = Lsn::FIRST;
    world.store.tamper(&key, Some(&start.encode().bytes));
    let first = objects.iter().find(|key| key.contains("/log/")).unwrap();
    world.store.tamper(first, None);
    let report = world.check_restore(Point::Latest, snapshot);
    assert!(report.notes.len() > 1, "{report:?}");
    objects.iter().zip(&bodies).for_each(|(key, body)| world.store.tamper(key, Some(body)));
    // One that needs log which is not there: as an upload leaves it that a crash cut off.
    let key = world.store.keys().into_iter().rfind(|key| key.contains("/snapshot/")).unwrap();
    let body = world.store.peek(&key).unwrap();
    let (mut object, _) = crate::archive::object::SnapshotObject::decode(&key, &body).unwrap();
    object.trees.replay_from = reached.next();
    object.base_term = object.term;
    world.store.tamper(&key, Some(&object.encode().bytes));
    let report = world.check_restore(Point::Latest, reached);
    assert_eq!(report.notes.len(), 1, "{report:?}");
}

#[test]
fn by_time_a_later_moment_never_gives_an_earlier_state_however_the_clock_jumped() {
    let mut world = World::new(10);
    let day = 24 * 3600 * 1000;
    for wall_ms in [10 * day, 9 * day, 12 * day, 1, 11 * day, 13 * day] {
        world.clock.set_wall_ms(wall_ms);
        for _ in 0..8 {
            world.commit();
        }
        world.upload();
    }
    let times: Vec<(Lsn, u64)> = world.model.states.iter().map(|(lsn, (time, _))| (*lsn, *time)).collect();
    assert!(times.windows(2).all(|pair| pair[0].1 <= pair[1].1), "{times:?}");
    let mut before = Lsn::ZERO;
    for time_ms in (9 * day..14 * day).step_by(day as usize / 4) {
        let Some((expected, _)) = times.iter().rfind(|(_, time)| *time <= time_ms) else { continue };
        assert!(*expected >= before);
        before = *expected;
        world.check_restore(Point::TimeMs(time_ms), *expected);
    }
    assert_eq!(before, world.last());
}

#[test]
fn a_copy_of_an_archive_that_takes_no_hold_is_restored_all_the_same_and_that_is_told() {
    use crate::archive::Archive;
    use crate::archive::store::{Client, Directory, Retry};
    let world = World::filled(9);
    for full in [true, false] {
        let disk = logwood_base::disk::SimulatedDisk::new(1);
        let elsewhere = super::world::environment(&disk, &world.clock, 1);
        let copy = Directory::open(&elsewhere, "archive".as_ref()).unwrap();
        for key in world.store.keys() {
            let _ = copy.put_new(&key, &world.store.peek(&key).unwrap()).unwrap();
        }
        if full {
            disk.set_capacity(Some(disk.used_bytes()));
        } else {
            // Copying tools leave out what is empty.
            logwood_base::disk::Disk::remove_dir(&disk, "archive/incoming".as_ref()).unwrap();
        }
        let copy = Directory::open_existing(&elsewhere, "archive".as_ref()).unwrap();
        let pause =
            std::sync::Arc::new(crate::archive::store::ManualPause::new(std::sync::Arc::clone(&world.clock)));
        let client =
            Client::with_pause(std::sync::Arc::new(copy), &world.environment, Retry::default(), pause);
        let archive = Archive::with_client(client, &world.environment);
        let report = archive.restore(TO, &world.restore_options()).unwrap();
        assert_eq!(report.lsn, world.last());
        assert!(report.notes.iter().any(|note| note.contains("retention is not kept away")), "{report:?}");
        world.check_restored(world.last());
        world.forget_restored();
    }
}

#[test]
fn a_restore_that_finds_out_that_it_cannot_hold_leaves_no_hold_behind() {
    use crate::archive::Archive;
    use crate::archive::store::{Client, Directory, ManualPause, Retry};
    let world = World::filled(10);
    let place = tempfile::tempdir().unwrap();
    let root = place.path().join("archive");
    let store = Directory::open(&crate::Environment::system().unwrap(), &root).unwrap();
    for key in world.store.keys() {
        let _ = store.put_new(&key, &world.store.peek(&key).unwrap()).unwrap();
    }
    // What stands among the runs and cannot be opened may be one that is at work.
    let runs = root.join("run");
    logwood_base::disk::create_dir_all(&*crate::Environment::system().unwrap().disk, &runs).unwrap();
    std::os::unix::fs::symlink("loop", runs.join("loop")).unwrap();
    let pause = std::sync::Arc::new(ManualPause::new(std::sync::Arc::clone(&world.clock)));
    let store = std::sync::Arc::new(store);
    let client =
        Client::with_pause(std::sync::Arc::clone(&store) as _, &world.environment, Retry::default(), pause);
    let report =
        Archive::with_client(client, &world.environment).restore(TO, &world.restore_options()).unwrap();
    assert_eq!(report.lsn, world.last());
    assert!(report.notes.iter().any(|note| note.contains("nothing is held")), "{report:?}");
    assert!(store.list("hold/").unwrap().is_empty());
}
