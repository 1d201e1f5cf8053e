//! Backups: beside work, brought up to date, cut off at every write, on failing disks.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use logwood_base::Term;
use logwood_base::disk::simulated::{Fault, Operation, Outcome};
use logwood_base::disk::{Disk, SimulatedDisk};
use logwood_base::environment::{ManualClock, ManualSpawner, SeededRandom};

use super::checks::read_all;
use super::world::{DIR, State, Step, World, scale};
use crate::{BackupOptions, BackupReport, Database, Environment, Error, Lsn, OriginKind, Result, inspect};

pub(super) const TO: &str = "backup";

fn put(key: u8, bytes: u16) -> Step {
    Step::Put { keyspace: key, key, bytes, durable: !key.is_multiple_of(3) }
}

/// A database of several page segments, with log behind its checkpoint.
fn filled(seed: u64) -> World {
    let mut world = World::new(seed);
    world.options = world.options.clone().background(false);
    world.open(0).unwrap();
    for keyspace in 0..3 {
        world.step(&Step::Create { keyspace }).unwrap();
    }
    for key in 0..90 {
        world.step(&put(key, if key % 8 == 0 { 64 } else { 3 })).unwrap();
    }
    world.step(&Step::Checkpoint).unwrap();
    for key in 30..60 {
        world.step(&put(key, 40)).unwrap();
    }
    world
}

/// Changes most of it, so that old page segments die.
fn change(world: &mut World) {
    for key in 0..200u8 {
        world.step(&put(key, u16::from(key % 6))).unwrap();
    }
    world.step(&Step::DeleteRange { keyspace: 1, from: 5, to: 50 }).unwrap();
    world.step(&Step::Compact).unwrap();
    world.step(&put(7, 9)).unwrap();
}

fn now(world: &World) -> State {
    world.history[world.history.len() - 1].clone()
}

/// An environment of a disk and nothing else.
fn beside(disk: &SimulatedDisk) -> Environment {
    Environment {
        disk: Arc::new(disk.clone()),
        clock: Arc::new(ManualClock::new(5_000_000)),
        random: Arc::new(SeededRandom::new(77)),
        spawner: Arc::new(ManualSpawner::new()),
    }
}

/// Opens the backup as it is on a copy of the disk, reads it, writes to it, opens it again, and verifies its files.
pub(super) fn read_backup(world: &World) -> Result<State> {
    let disk = world.disk.snapshot();
    let environment = beside(&disk);
    let options = world.options.clone().environment(environment.clone()).create(false);
    let db = Database::open(TO, options.clone())?;
    let state = read_all(&db)?;
    db.ensure_keyspace("own")?.put(b"own", b"write")?;
    db.close()?;
    let db = Database::open(TO, options)?;
    assert_eq!(&*db.keyspace("own")?.get(b"own")?.unwrap(), b"write");
    db.close()?;
    let mut damage = Vec::new();
    inspect::verify_in(&environment, Path::new(TO), &mut |found| damage.push(found), &mut |_| {})?;
    assert!(damage.is_empty(), "{damage:?}");
    assert_eq!(inspect::stat_in(&environment, Path::new(TO))?.origin, None);
    Ok(state)
}

fn check_report(world: &World, report: &BackupReport, state: &State) {
    let records: Vec<(String, u64)> =
        report.keyspaces.iter().map(|(name, digest)| (name.clone(), digest.count)).collect();
    let expected: Vec<(String, u64)> =
        state.iter().map(|(name, records)| (name.clone(), records.len() as u64)).collect();
    assert_eq!(records, expected);
    for (name, digest) in &report.keyspaces {
        assert_eq!(world.db().keyspace(name).unwrap().digest_all().unwrap(), *digest);
    }
}

#[test]
pub(super) fn a_backup_opens_by_itself_with_a_log_and_a_term_of_its_own() {
    let mut world = filled(1);
    let expected = now(&world);
    let report = world.db().backup(TO).unwrap();
    check_report(&world, &report, &expected);
    assert!(report.segments_linked > 3 && report.segments_copied == 0, "{report:?}");
    let (source, copy) = (
        inspect::stat_in(&world.environment(), Path::new(DIR)).unwrap(),
        inspect::stat_in(&world.environment(), Path::new(TO)).unwrap(),
    );
    let origin = copy.origin.unwrap();
    assert_eq!((origin.kind, origin.lsn, origin.source), (OriginKind::Backup, report.lsn, source.log_id));
    assert_eq!((origin.log, origin.database), (copy.log_id, source.database));
    assert!(copy.log_id != source.log_id && copy.database == source.database && source.origin.is_none());
    assert_eq!((copy.checkpoint_lsn, copy.last_lsn), (report.lsn, report.lsn));
    // Its terms are asked for below.
    let _log = world.db().core().group.hold("the test", report.lsn.next()).unwrap();
    change(&mut world);
    assert_eq!(read_backup(&world).unwrap(), expected);

    // What both write at one LSN bears different terms.
    let copy = Database::open(TO, world.options.clone()).unwrap();
    let at = copy.visible_lsn();
    assert_eq!(at, report.lsn.next(), "a no-op of its own");
    let last = |db: &Database| db.core().group.term_of(at).unwrap();
    assert_eq!((last(world.db()), last(&copy)), (Term(1), Term(2)));
    copy.keyspace("ks0").unwrap().put(b"more", b"of it").unwrap();
    drop(copy);
    // Later openings stay in that term.
    let copy = Database::open(TO, world.options.clone()).unwrap();
    let lsn = copy.keyspace("ks0").unwrap().put(b"still", b"more").unwrap();
    assert_eq!(copy.core().group.term_of(lsn).unwrap(), Term(2));
    drop(copy);
    world.check().unwrap();
}

#[test]
pub(super) fn a_backup_of_an_empty_database_opens() {
    let mut world = World::new(1);
    world.open(0).unwrap();
    let report = world.db().backup(TO).unwrap();
    assert_eq!((report.lsn, report.bytes), (Lsn::ZERO, 0));
    assert_eq!(read_backup(&world).unwrap(), State::new());
}

#[test]
pub(super) fn a_later_backup_adds_only_what_is_new_and_opens_as_the_later_state() {
    let mut world = filled(2);
    let options = BackupOptions::new().link(false);
    let first = world.db().backup_with(TO, &options).unwrap();
    assert!(first.segments_copied > 3 && first.bytes_copied == first.bytes, "{first:?}");
    world.step(&put(3, 3)).unwrap();
    let second = world.db().backup_with(TO, &options).unwrap();
    assert_eq!(second.segments_kept + second.segments_copied, first.segments_copied + second.segments_copied);
    assert!(second.segments_kept >= first.segments_copied - 1, "{first:?} {second:?}");
    assert_eq!(read_backup(&world).unwrap(), now(&world));
    // Compaction writes everything anew: nothing of the first is needed, and nothing of it stays.
    change(&mut world);
    world.step(&Step::Compact).unwrap();
    let third = world.db().backup_with(TO, &options).unwrap();
    assert!(third.segments_copied > 0, "{third:?}");
    check_report(&world, &third, &now(&world));
    assert_eq!(read_backup(&world).unwrap(), now(&world));
    let pages =
        world.disk.paths().into_iter().filter(|path| path.starts_with("/backup/pages")).count() as u64;
    assert_eq!(pages, third.segments_copied + third.segments_kept);
    assert!(!world.disk.paths().iter().any(|path| path.starts_with("/backup/seed")));
}

#[test]
pub(super) fn a_page_segment_with_the_number_of_an_earlier_one_and_other_content_is_not_taken_for_it() {
    let mut world = filled(3);
    let early = world.fork();
    world.db().backup(TO).unwrap();
    // The database loses what it did since, is opened again, and uses the same numbers for something else.
    let copy = world.disk.snapshot();
    world.drop_all();
    let mut other = early;
    other.options = other.options.clone().background(false);
    for path in copy.paths().into_iter().filter(|path| path.starts_with("/backup")) {
        other.disk.write_file(&path, &copy.read_file(&path).unwrap());
    }
    other.open(0).unwrap();
    for key in 0..90 {
        other.step(&put(key, 1)).unwrap();
    }
    let report = other.db().backup(TO).unwrap();
    check_report(&other, &report, &now(&other));
    assert_eq!(read_backup(&other).unwrap(), now(&other));
}

#[test]
pub(super) fn what_is_no_backup_of_this_database_is_never_overwritten() {
    let world = filled(4);
    let options = |path: &str| (path.to_owned(), world.options.clone());
    let backup = |to: &str| world.db().backup(to).unwrap_err();
    // Itself; another database; a backup that was opened; a backup of another database; other files.
    assert!(matches!(backup(DIR), Error::AlreadyOpen { .. }));
    let (path, open) = options("other");
    let other = Database::open(&path, open).unwrap();
    assert!(matches!(backup("other"), Error::AlreadyOpen { .. }));
    other.backup("of other").unwrap();
    drop(other);
    assert!(matches!(backup("other"), Error::AlreadyExists { .. }));
    assert!(matches!(backup("of other"), Error::AlreadyExists { .. }));
    // Inside of itself, of another database, of what is being filled.
    for inside in ["db/seed", "db/pages", "db/a/b/c", "other/seed", "of other/seed/log"] {
        assert!(matches!(backup(inside), Error::InvalidArgument(_)), "{inside}");
    }
    assert!(!world.disk.paths().iter().any(|path| path.starts_with("/db/seed") || path.starts_with("/db/a")));
    world.db().backup(TO).unwrap();
    world.db().backup(TO).unwrap();
    Database::open(TO, world.options.clone()).unwrap().close().unwrap();
    assert!(matches!(backup(TO), Error::AlreadyExists { .. }));
    world.disk.write_file(Path::new("/files/thesis.txt"), b"words");
    assert!(matches!(backup("files"), Error::InvalidArgument(_)));
    assert_eq!(world.disk.read_file(Path::new("/files/thesis.txt")).unwrap(), b"words");
    world.db().close().unwrap();
    assert!(matches!(world.db().backup("closed"), Err(Error::Closed)));
}

#[test]
pub(super) fn cleaning_and_checkpoints_during_a_backup_leave_what_it_copies() {
    let mut world = filled(5);
    let expected = now(&world);
    let db = world.db().clone();
    let ks = db.keyspace("ks0").unwrap();
    let options = BackupOptions::new().progress(move |_| {
        ks.put(b"meanwhile", b"written").unwrap();
        db.compact().unwrap();
        db.checkpoint().unwrap();
        db.core().log.maintain().unwrap();
    });
    world.db().backup_with(TO, &options).unwrap();
    drop(options);
    assert_eq!(read_backup(&world).unwrap(), expected);
    world.drop_all();
}

#[test]
pub(super) fn a_backup_holds_the_fragments_of_a_transaction_that_is_open() {
    // Orphaned by a full disk, it is open at the backup's checkpoint: its first fragment is where replay begins.
    let (mut world, _) = super::basics::orphaned();
    world.disk.clear_faults();
    let orphan = world.db().core().sequencer.lock().applier.fragments.oldest();
    let expected = read_all(world.db()).unwrap();
    let report = world.db().backup(TO).unwrap();
    assert!(report.entries >= 1 && orphan.is_some(), "{report:?}");
    assert_eq!(read_backup(&world).unwrap(), expected);
    world.drop_all();
}

/// Opens a fresh backup on a disk that is full from the `k`-th of some calls on, and writes to it when there is room.
/// Answers whether it was opened, and whether it was a copy still then.
fn write_to_copy(operations: &'static [Operation], on: &str, k: u64) -> Option<bool> {
    let world = filled(9);
    world.db().backup(TO).unwrap();
    world.disk.set_fault(Fault::new(operations, Outcome::DiskFull).on(on).nth(k).for_ever());
    let options = world.options.clone().create(false);
    let copy = match Database::open(TO, options.clone()) {
        Ok(copy) => copy,
        // Its log may have stopped as a whole; the next opening finds room.
        Err(Error::DiskFull { .. } | Error::Poisoned { .. }) => return None,
        Err(error) => panic!("{k}: {error}"),
    };
    let origin = || inspect::stat_in(&world.environment(), Path::new(TO)).unwrap().origin;
    let is_copy = origin().is_some();
    if is_copy {
        let refused = copy.keyspace("ks0").unwrap().put(b"refused", b"");
        assert!(matches!(refused, Err(Error::DiskFull { .. })), "{k}: {refused:?}");
        let refused = copy.create_keyspace("refused").err();
        assert!(matches!(refused, Some(Error::DiskFull { .. })), "{k}: {refused:?}");
    }
    world.disk.clear_faults();
    copy.keyspace("ks0").unwrap().put(b"own", b"write").unwrap();
    assert_eq!(origin(), None);
    drop(copy);
    assert!(matches!(world.db().backup(TO), Err(Error::AlreadyExists { .. })), "{k}");
    let copy = Database::open(TO, options).unwrap();
    assert_eq!(copy.keyspace("ks0").unwrap().get(b"own").unwrap().as_deref(), Some(&b"write"[..]));
    Some(is_copy)
}

#[test]
pub(super) fn a_copy_opened_on_a_full_disk_is_a_database_of_its_own_before_its_first_commit() {
    // Room for the log is found before there is anything to part; room for the directory may be missing behind it.
    let opened = (1..).find_map(|k| write_to_copy(Operation::GROWING, "backup", k));
    assert!(opened.is_some());
    assert_eq!(write_to_copy(&[Operation::Remove], "ORIGIN", 1), Some(true));
}

/// Cuts a backup off at its `n`-th changing call. Answers false when it ran to its end.
fn cut_off(world: &World, n: u64, kill: bool) -> bool {
    let outcome = {
        if kill {
            world.disk.kill_at(n)
        } else {
            world.disk.crash_at(n)
        }
        world.db().backup_with(TO, &BackupOptions::new().link(n.is_multiple_of(2)))
    };
    let stopped = world.disk.is_stopped();
    world.disk.cancel_stop();
    match outcome {
        Ok(_) => {}
        Err(error @ (Error::Corruption(_) | Error::Internal(_))) => panic!("at {n}: {error}"),
        Err(error) => assert!(stopped, "at {n}: {error}"),
    }
    stopped
}

/// A backup is cut off at every changing call. What is there afterwards is no database, or `earlier`, or the later
/// state; and the same call makes it whole.
fn cut_everywhere(earlier: bool) {
    let mut n = 1;
    loop {
        let mut world = filled(n);
        let mut before = None;
        if earlier {
            world.db().backup_with(TO, &BackupOptions::new().link(n % 3 == 0)).unwrap();
            before = Some(now(&world));
            change(&mut world);
        }
        let after = now(&world);
        let kill = n.is_multiple_of(3);
        let stopped = cut_off(&world, n, kill);
        for seed in 0..if kill { 1 } else { scale().clamp(2, 8) } {
            let mut world = world.fork();
            if kill {
                world.disk.kill_process();
                world.disk.land_late_writes(&mut fastrand::Rng::with_seed(n));
                world.open(world.acknowledged).unwrap();
            } else {
                world.power_cut(n * 8 + seed).unwrap();
            }
            match read_backup(&world) {
                Ok(found) if found == after => {}
                Ok(found) => assert!(stopped && Some(&found) == before.as_ref(), "at {n}: another state"),
                Err(Error::WrongKind { .. } | Error::NotFound { .. }) => {
                    assert!(stopped && before.is_none(), "at {n}: the earlier backup is lost");
                }
                Err(error) => panic!("at {n}: {error}"),
            }
            let report = world.db().backup(TO).unwrap();
            check_report(&world, &report, &now(&world));
            assert_eq!(read_backup(&world).unwrap(), now(&world));
        }
        if !stopped {
            assert!(n > 30, "a backup writes: {n}");
            return;
        }
        n += 1;
    }
}

#[test]
pub(super) fn a_first_backup_cut_off_at_any_write_opens_as_nothing_or_whole() {
    cut_everywhere(false);
}

#[test]
pub(super) fn a_later_backup_cut_off_at_any_write_opens_as_the_earlier_or_the_later() {
    cut_everywhere(true);
}

#[test]
pub(super) fn a_cut_in_the_opening_that_finishes_a_backup_loses_nothing() {
    let mut rng = fastrand::Rng::with_seed(11);
    let mut finished = 0;
    for round in 0..60 * scale() {
        let mut world = filled(round);
        world.db().backup(TO).unwrap();
        let before = now(&world);
        world.step(&put(1, 9)).unwrap();
        let after = now(&world);
        // The last changing calls are those behind the record.
        let fork = world.fork();
        let calls = {
            let (disk, from) = (world.disk.clone(), world.disk.operations());
            world.db().backup(TO).unwrap();
            disk.operations() - from
        };
        let mut world = fork;
        world.options = world.options.clone().background(false);
        world.open(0).unwrap();
        world.disk.crash_at(calls - rng.u64(..calls / 3));
        let _ = world.db().backup(TO);
        world.disk.cancel_stop();
        world.drop_all();
        for _depth in 0..3 {
            world.disk.crash(&mut rng);
            world.disk.crash_at(rng.u64(1..30));
            let opened = Database::open(TO, world.options.clone().create(false));
            let stopped = world.disk.is_stopped();
            world.disk.cancel_stop();
            assert!(opened.is_ok() || stopped, "round {round}: {:?}", opened.err());
            drop(opened);
            world.spawner.kill_all();
        }
        world.disk.crash(&mut rng);
        let found = read_backup(&world).unwrap();
        assert!(found == before || found == after, "round {round}");
        finished += u64::from(found == after);
    }
    assert!(finished > 5, "{finished}");
}

#[test]
pub(super) fn a_failing_or_full_disk_stops_a_backup_and_not_the_database() {
    let mut failures = 0;
    for k in 1.. {
        let mut world = filled(k);
        world.db().backup(TO).unwrap();
        let before = now(&world);
        change(&mut world);
        let (operations, outcome) = match k % 2 {
            0 => (Operation::GROWING, Outcome::DiskFull),
            _ => (
                &[Operation::Sync, Operation::WriteDurable, Operation::SyncDir, Operation::Read][..],
                Outcome::Io,
            ),
        };
        world.disk.set_fault(Fault::new(operations, outcome).on("backup").nth(k / 2 + 1));
        let outcome = world.db().backup_with(TO, &BackupOptions::new().link(false));
        world.disk.clear_faults();
        match outcome {
            Ok(_) if failures > 20 && k > 60 => return,
            Ok(_) => {}
            Err(Error::DiskFull { .. } | Error::Io { .. }) => failures += 1,
            Err(error) => panic!("{k}: {error}"),
        }
        let found = read_backup(&world).unwrap();
        assert!(found == before || found == now(&world), "{k}");
        // The database never noticed.
        world.step(&put(1, 5)).unwrap();
        world.db().backup(TO).unwrap();
        assert_eq!(read_backup(&world).unwrap(), now(&world));
        world.check().unwrap();
    }
}

#[test]
pub(super) fn a_damaged_page_fails_the_backup_and_the_earlier_one_stays() {
    let mut world = filled(7);
    world.db().backup_with(TO, &BackupOptions::new().link(false)).unwrap();
    let before = now(&world);
    change(&mut world);
    world.step(&Step::Checkpoint).unwrap();
    let victim = world.disk.paths().into_iter().rfind(|path| path.starts_with("/db/pages")).unwrap();
    world.disk.flip_bit(&victim, 200, 3);
    for link in [false, true] {
        let outcome = world.db().backup_with(TO, &BackupOptions::new().link(link));
        assert!(matches!(outcome, Err(Error::Corruption(_))), "{outcome:?}");
        assert_eq!(read_backup(&world).unwrap(), before);
    }
}

#[test]
pub(super) fn a_page_segment_that_rotted_in_the_backup_is_copied_again() {
    let world = filled(8);
    let options = BackupOptions::new().link(false);
    world.db().backup_with(TO, &options).unwrap();
    let victim = world.disk.paths().into_iter().rfind(|path| path.starts_with("/backup/pages")).unwrap();
    world.disk.flip_bit(&victim, 200, 3);
    let report = world.db().backup_with(TO, &options).unwrap();
    assert!(report.segments_copied >= 1, "{report:?}");
    assert_eq!(read_backup(&world).unwrap(), now(&world));
}

#[test]
fn a_page_segment_of_the_earlier_backup_that_the_device_does_not_give_back_is_copied_from_the_source() {
    let victim = |world: &World| {
        let pages = world.disk.paths().into_iter().rfind(|path| path.starts_with("/backup/pages")).unwrap();
        pages.file_name().unwrap().to_str().unwrap().to_owned()
    };
    let unread = |path: &str| Fault::new(Operation::READS, Outcome::Io).on(path);
    // Copied from where it stands, which fails for as long as it is tried.
    let world = filled(14);
    let options = BackupOptions::new().link(false);
    world.db().backup_with(TO, &options).unwrap();
    let file = victim(&world);
    world.disk.set_fault(Fault::new(&[Operation::Link], Outcome::Io).on("backup/pages/").for_ever());
    world.disk.set_fault(unread(&format!("backup/pages/{file}")).for_ever());
    let report = world.db().backup_with(TO, &options).unwrap();
    assert_eq!(report.segments_copied, 1, "{report:?}");
    world.disk.clear_faults();
    assert_eq!(read_backup(&world).unwrap(), now(&world));
    // Linked: it is read by its name in the new one, until that is another file.
    world.disk.set_fault(unread(&format!("backup/seed/pages/{file}")));
    let report = world.db().backup_with(TO, &options).unwrap();
    assert_eq!(report.segments_copied, 1, "{report:?}");
    // Left there by an attempt that was not finished.
    world.disk.set_fault(Fault::new(Operation::GROWING, Outcome::DiskFull).on("backup/seed/log/").for_ever());
    assert!(matches!(world.db().backup_with(TO, &options), Err(Error::DiskFull { .. })));
    world.disk.clear_faults();
    world.disk.set_fault(unread(&format!("backup/seed/pages/{file}")).times(2));
    let report = world.db().backup_with(TO, &options).unwrap();
    assert_eq!(report.segments_copied, 1, "{report:?}");
    // Nor is the whole of it needed.
    world.disk.set_fault(unread("backup/manifest/").for_ever());
    let report = world.db().backup_with(TO, &options).unwrap();
    assert_eq!(report.segments_kept, 0, "{report:?}");
    world.disk.clear_faults();
    assert_eq!(read_backup(&world).unwrap(), now(&world));
}

/// Everything in a directory: folders, and files with what is in them.
fn fingerprint(disk: &SimulatedDisk, directory: &Path) -> Vec<(PathBuf, Option<Vec<u8>>)> {
    let mut found = Vec::new();
    for entry in disk.list(directory).unwrap() {
        let path = directory.join(&entry.name);
        found.push((path.clone(), disk.read_file(&path)));
        if entry.is_dir {
            found.extend(fingerprint(disk, &path));
        }
    }
    found.sort_unstable();
    found
}

#[test]
fn what_a_backup_refuses_is_left_as_it_was() {
    let world = filled(15);
    let files = ["pictures/cat", "papers/thesis", "papers/log/of a journey", "papers/LOCK", "diary/log/May"];
    for file in files {
        world.disk.write_file(&Path::new("/").join(file), b"words");
    }
    world.db().backup(TO).unwrap();
    world.db().backup("early").unwrap();
    // By more than the entry with which a copy becomes a database of its own.
    let ks = world.db().keyspace("ks0").unwrap();
    (0..3u8).for_each(|n| assert!(ks.put(b"later", &[n]).is_ok()));
    world.db().backup(TO).unwrap();
    let copy = Database::open("early", world.options.clone()).unwrap();
    for (db, to) in [
        (world.db(), "pictures"),
        (world.db(), "papers"),
        (world.db(), "diary"),
        (world.db(), "early"),
        (&copy, TO),
    ] {
        let before = fingerprint(&world.disk, Path::new(to));
        let refused = db.backup(to).unwrap_err();
        assert!(
            matches!(
                refused,
                Error::InvalidArgument(_) | Error::AlreadyExists { .. } | Error::AlreadyOpen { .. }
            ),
            "{to}: {refused}"
        );
        assert_eq!(fingerprint(&world.disk, Path::new(to)), before, "{to}: {refused}");
    }
}

#[test]
fn a_backup_of_a_later_state_or_of_another_history_is_replaced_only_when_that_is_asked_for() {
    let mut world = filled(11);
    world.drop_all();
    let early = world.disk.snapshot();
    world.open(0).unwrap();
    (0..30).for_each(|key| world.step(&put(key, 5)).unwrap());
    let later = now(&world);
    let report = world.db().backup(TO).unwrap();
    let backup = world.disk.snapshot();
    world.drop_all();

    // The database is brought back to what it was, and writes less than it had written, then more.
    let mut back = World::new(12);
    for path in early.paths() {
        back.disk.write_file(&path, &early.read_file(&path).unwrap());
    }
    for path in backup.paths().into_iter().filter(|path| path.starts_with("/backup")) {
        back.disk.write_file(&path, &backup.read_file(&path).unwrap());
    }
    back.clock.advance(std::time::Duration::from_secs(60));
    let db = Database::open(DIR, back.options.clone()).unwrap();
    let ks = db.keyspace("ks0").unwrap();
    for expected in ["backup of a later state", "backup of another history"] {
        let refused = db.backup(TO).unwrap_err();
        assert!(matches!(refused, Error::AlreadyExists { what, .. } if what == expected), "{refused}");
        back.db = Some(db.clone());
        assert_eq!(read_backup(&back).unwrap(), later, "it is what it was");
        while db.visible_lsn() <= report.lsn {
            ks.put(b"another", b"history").unwrap();
        }
    }
    let replaced = db.backup_with(TO, &BackupOptions::new().replace_newer(true)).unwrap();
    assert_eq!(replaced.lsn, db.visible_lsn());
    assert_eq!(read_backup(&back).unwrap(), read_all(&db).unwrap());
    // From here on it is an earlier state of this history.
    ks.put(b"another", b"commit").unwrap();
    db.backup(TO).unwrap();
}

#[test]
fn a_copy_of_an_earlier_state_replaces_no_backup_unasked_though_its_log_has_let_go_of_where_that_ends() {
    let mut world = filled(13);
    world.db().backup("early").unwrap();
    (0..30).for_each(|key| world.step(&put(key, 5)).unwrap());
    let report = world.db().backup(TO).unwrap();
    world.drop_all();
    let db = Database::open("early", world.options.clone()).unwrap();
    let ks = db.keyspace("ks0").unwrap();
    while db.core().group.first_lsn() <= report.lsn.next() {
        ks.put(b"another", &[1; 900]).unwrap();
        db.checkpoint().unwrap();
        db.core().log.maintain().unwrap();
    }
    let refused = db.backup(TO).unwrap_err();
    assert!(matches!(refused, Error::AlreadyExists { what: "backup of another history", .. }), "{refused}");
    db.backup_with(TO, &BackupOptions::new().replace_newer(true)).unwrap();
    // From here on it is this database's.
    ks.put(b"another", b"commit").unwrap();
    db.backup(TO).unwrap();
}

#[test]
fn the_origin_of_another_copy_is_damage_and_nothing_takes_its_place() {
    let mut world = filled(1);
    world.db().backup(TO).unwrap();
    let earlier = world.disk.read_file(&Path::new(TO).join("ORIGIN")).unwrap();
    change(&mut world);
    world.db().backup("later").unwrap();
    world.disk.write_file(Path::new("later/ORIGIN"), &earlier);
    let is_named = |damage: &logwood_base::Corruption| {
        damage.path.ends_with("later/ORIGIN") && damage.check == "identity of the copy"
    };
    let mut damages = Vec::new();
    let mut on_damage = |damage: crate::Damage| damages.push(damage.corruption);
    inspect::verify_in(&world.environment(), Path::new("later"), &mut on_damage, &mut |_| {}).unwrap();
    assert!(matches!(&damages[..], [damage] if is_named(damage)), "{damages:?}");
    let before = fingerprint(&world.disk, Path::new("later"));
    let refused = world.db().backup("later").unwrap_err();
    assert!(refused.corruption().is_some_and(is_named), "{refused}");
    assert_eq!(fingerprint(&world.disk, Path::new("later")), before);
}
