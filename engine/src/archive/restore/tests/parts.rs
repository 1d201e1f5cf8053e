//! One keyspace, one range, one look: without restoring everything.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use logwood_base::sync::Mutex;

use super::spoiled::{Spoil, Spoiled};
use super::world::{TO, World, client, options};
use crate::archive::{Archive, Point, RestoreProgress, RestoreStep};
use crate::tests::checks::read_all;
use crate::{Database, Error, Lsn};

#[test]
fn one_keyspace_and_one_range_become_databases_of_their_own() {
    let world = World::filled(31);
    let lsn = Lsn(world.last().get() - 10);
    let state = world.state_at(lsn).clone();
    let (name, records) = state.iter().max_by_key(|(_, records)| records.len()).unwrap();
    assert!(records.len() > 20);
    let (from, to) = (records.keys().nth(5).unwrap().clone(), records.keys().nth(15).unwrap().clone());
    let ranges =
        [(None, None), (Some(&from[..]), None), (None, Some(&to[..])), (Some(&from[..]), Some(&to[..]))];
    for (from, to) in ranges {
        let wanted = world.restore_options().point(Point::Lsn(lsn)).keyspace(name).range(from, to);
        let report = world.archive().restore(TO, &wanted).unwrap();
        assert_eq!(report.lsn, lsn);
        assert_ne!(report.database, world.db.id(), "another database");
        let db = Database::open(TO, options(&world.environment)).unwrap();
        let mut expected = records.clone();
        expected
            .retain(|key, _| from.is_none_or(|from| &key[..] >= from) && to.is_none_or(|to| &key[..] < to));
        assert_eq!(read_all(&db).unwrap(), [(name.clone(), expected)].into());
        db.keyspace(name).unwrap().put(b"it", b"can be written to").unwrap();
        db.close().unwrap();
        world.forget_restored();
    }
    let nothing = world.restore_options().keyspace("nothing");
    assert!(matches!(world.archive().restore(TO, &nothing).unwrap_err(), Error::NotFound { .. }));
    let no_keyspace = world.restore_options().range(Some(b"a"), None);
    assert!(matches!(world.archive().restore(TO, &no_keyspace).unwrap_err(), Error::InvalidArgument(_)));
}

#[test]
fn a_view_shows_one_point_fetches_what_it_reads_and_takes_no_writes() {
    let world = World::filled(32);
    for lsn in (1..=world.last().get()).step_by(11).map(Lsn) {
        let view =
            world.archive().open_at("view", Point::Lsn(lsn), None, options(&world.environment)).unwrap();
        assert_eq!(view.lsn(), lsn);
        let state = world.state_at(lsn);
        assert_eq!(view.keyspaces(), state.keys().cloned().collect::<Vec<_>>());
        for (name, records) in state {
            let ks = view.keyspace(name).unwrap();
            assert_eq!(ks.count_all().unwrap(), records.len() as u64);
            for (key, value) in records.iter().step_by(7) {
                assert_eq!(ks.get(key).unwrap().as_deref(), Some(&value[..]));
            }
            assert!(matches!(ks.put(b"a", b"b"), Err(Error::InvalidArgument(_))));
        }
        let again = world.archive().open_at("view", Point::Latest, None, options(&world.environment));
        assert!(matches!(again.unwrap_err(), Error::AlreadyOpen { .. }));
        view.close().unwrap();
    }
}

#[test]
fn a_view_reads_again_without_fetching_and_names_the_page_that_is_damaged() {
    let world = World::filled(33);
    let read = |spoil: fn(&str) -> Option<Spoil>, directory: &str| {
        let pages = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&pages);
        let script = move |_, key: &str| {
            counted.fetch_add(usize::from(key.starts_with("pages/")), Ordering::SeqCst);
            spoil(key)
        };
        let store = Arc::new(Spoiled::new(&world.store, script));
        let archive =
            Archive::with_client(client(store, &world.environment, &world.clock), &world.environment);
        let found = archive
            .open_at(directory, Point::Latest, None, options(&world.environment))
            .and_then(|view| view.keyspace("a")?.iter()?.collect::<Result<Vec<_>, Error>>());
        (found.map(|found| found.len()), pages.load(Ordering::SeqCst))
    };
    let records = world.state_at(world.last())["a"].len();
    let (found, fetched) = read(|_| None, "view");
    assert!(found.unwrap() == records && fetched > 0);
    let (found, fetched) = read(|_| None, "view");
    assert_eq!((found.unwrap(), fetched), (records, 0));
    // Where opening it meets the damage, the log alone does as well.
    let (found, _) = read(|key| key.starts_with("pages/").then_some(Spoil::Flip), "other");
    assert_eq!(found.unwrap(), records);
    // What reading meets is the answer.
    let world = World::large(33);
    let (rots, rotten) = (Arc::new(AtomicBool::new(false)), Spoil::Flip);
    let is_rotten = Arc::clone(&rots);
    let script = move |_, key: &str| {
        (is_rotten.load(Ordering::SeqCst) && key.starts_with("pages/")).then(|| rotten.clone())
    };
    let store = Arc::new(Spoiled::new(&world.store, script));
    let archive = Archive::with_client(client(store, &world.environment, &world.clock), &world.environment);
    let view = archive.open_at("view", Point::Latest, None, options(&world.environment)).unwrap();
    rots.store(true, Ordering::SeqCst);
    let found = view.keyspace("a").unwrap().iter().and_then(|all| all.collect::<Result<Vec<_>, Error>>());
    assert!(matches!(found.unwrap_err(), Error::ArchiveCorrupt(damage) if damage.key.starts_with("pages/")));
}

#[test]
fn a_cache_stays_within_its_bound_and_what_is_read_again_is_fetched_again() {
    let world = World::large(34);
    let records = world.state_at(world.last())["a"].clone();
    let bytes = |world: &World| {
        let listed = world.environment.disk.list("view/cache".as_ref()).unwrap();
        listed.iter().map(|file| file.bytes).sum::<u64>()
    };
    let segment = 64 << 10;
    for most in [u64::MAX, 3 * segment + 100, 1] {
        let archive = world.archive().cache_bytes_max(most);
        let view = archive.open_at("view", Point::Latest, None, options(&world.environment)).unwrap();
        let keyspace = view.keyspace("a").unwrap();
        for _ in 0..2 {
            for (key, value) in &records {
                assert_eq!(keyspace.get(key).unwrap().as_deref(), Some(&value[..]));
            }
        }
        // One segment is kept however small the bound is.
        assert!(bytes(&world) <= most.max(segment), "{} of {most}", bytes(&world));
        assert!(most < u64::MAX || bytes(&world) >= 8 * segment, "{}", bytes(&world));
        view.close().unwrap();
    }
    // What the last one left serves the next one, as far as it goes.
    let view = world.archive().open_at("view", Point::Latest, None, options(&world.environment)).unwrap();
    assert_eq!(view.keyspace("a").unwrap().count_all().unwrap(), records.len() as u64);
}

#[test]
fn a_part_is_restored_from_an_older_snapshot_where_a_page_of_the_newest_is_damaged() {
    let mut world = World::large(35);
    let pages = |world: &World| -> Vec<String> {
        world.store.keys().into_iter().filter(|key| key.starts_with("pages/")).collect()
    };
    let older = pages(&world);
    (0..60).for_each(|_| world.commit());
    world.upload();
    let newest = world.snapshot();
    world.commit();
    world.upload();
    let records = world.state_at(world.last())["a"].clone();
    let options = world.restore_options().keyspace("a");
    let whole = world.archive().restore(TO, &options).unwrap();
    assert!(whole.snapshot == Some(newest) && whole.notes.is_empty(), "{whole:?}");
    world.forget_restored();
    let mut passed_over = 0;
    for key in pages(&world).into_iter().filter(|key| !older.contains(key)) {
        let body = world.store.peek(&key).unwrap();
        for damaged in [Some(&b"rotten"[..]), None] {
            world.store.tamper(&key, damaged);
            let report = world.archive().restore(TO, &options).unwrap();
            // A page that holds nothing of the keyspace is not missed.
            if report.snapshot < Some(newest) {
                let [note] = &report.notes[..] else { panic!("{report:?}") };
                assert!(note.contains(&key), "{note}");
                passed_over += 1;
            }
            let db = Database::open(TO, super::world::options(&world.environment)).unwrap();
            assert_eq!(read_all(&db).unwrap(), [("a".to_owned(), records.clone())].into());
            db.close().unwrap();
            world.forget_restored();
        }
        world.store.tamper(&key, Some(&body));
    }
    assert!(passed_over >= 2, "{passed_over}");
    // Where each has one, and the log does not begin with the first entry any more, the damage is the answer.
    pages(&world).iter().for_each(|key| world.store.tamper(key, Some(b"rotten")));
    let first = world.store.keys().into_iter().find(|key| key.contains("/log/")).unwrap();
    world.store.tamper(&first, None);
    match world.archive().restore(TO, &options) {
        Err(Error::ArchiveCorrupt(damage)) => assert_eq!(damage.key, first),
        other => panic!("{other:?}"),
    }
}

#[test]
fn progress_is_told_of_every_step_never_goes_back_and_ends_at_the_total() {
    let world = World::large(36);
    let lsn = Lsn(world.last().get() - 5);
    let mut all: Vec<RestoreStep> = Vec::new();
    for (point, keyspace) in [(Point::Lsn(lsn), None), (Point::Latest, None), (Point::Lsn(lsn), Some("a"))] {
        let told: Arc<Mutex<Vec<RestoreProgress>>> = Arc::default();
        let telling = Arc::clone(&told);
        let options = world.restore_options().point(point).progress(move |at| telling.lock().push(at));
        let options = match keyspace {
            Some(keyspace) => options.keyspace(keyspace),
            None => options,
        };
        let report = world.archive().restore(TO, &options).unwrap();
        world.forget_restored();
        let told = told.lock().clone();
        let mut steps: Vec<RestoreStep> = told.iter().map(|at| at.step).collect();
        steps.dedup();
        let expected: &[RestoreStep] = match keyspace {
            None => &[RestoreStep::Entries, RestoreStep::Pages, RestoreStep::Verify],
            Some(_) => &[RestoreStep::Entries, RestoreStep::Records],
        };
        assert_eq!(steps, expected, "{point}: each begins once");
        for step in steps {
            let of_step: Vec<&RestoreProgress> = told.iter().filter(|at| at.step == step).collect();
            assert!(of_step.windows(2).all(|pair| pair[0].done <= pair[1].done), "{of_step:?}");
            assert!(of_step.windows(2).all(|pair| pair[0].total <= pair[1].total), "{of_step:?}");
            let last = of_step[of_step.len() - 1];
            let total = match (step, point) {
                // How far the archive goes is not known before its end.
                (RestoreStep::Entries, Point::Latest) => {
                    assert_eq!(last.total, 0);
                    report.lsn.get()
                }
                (RestoreStep::Entries, _) => lsn.get(),
                (RestoreStep::Pages, _) => report.bytes,
                (RestoreStep::Records, _) => world.state_at(lsn)["a"].len() as u64,
                _ => last.total,
            };
            assert!(total > 0 && last.done == total, "{point}: {last:?} of {total}");
            all.push(step);
        }
    }
    assert_eq!(all.len(), 8);
}
