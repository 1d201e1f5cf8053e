//! Disks that fail: at each sync, each write, each read, in turn.

use std::path::Path;

use logwood_base::disk::simulated::{Fault, Operation, Outcome};

use super::world::{Step, World};
use crate::{Durability, Error};

fn put(key: u8, bytes: u16) -> Step {
    Step::Put { keyspace: 0, key, bytes, durable: true }
}

/// A database with some content and a checkpoint, without background work.
fn filled(seed: u64) -> World {
    let mut world = World::new(seed);
    world.open(0).unwrap();
    world.step(&Step::Create { keyspace: 0 }).unwrap();
    for key in 0..40 {
        world.step(&put(key, u16::from(key))).unwrap();
    }
    world.step(&Step::Checkpoint).unwrap();
    for key in 20..60 {
        world.step(&put(key, 70 + u16::from(key))).unwrap();
    }
    world
}

/// Steps that write in every way.
fn writing() -> Vec<Step> {
    let mut steps = vec![put(1, 30), put(2, 64), Step::Checkpoint, put(3, 10)];
    steps.push(Step::Put { keyspace: 0, key: 4, bytes: 20, durable: false });
    steps.extend([
        Step::Create { keyspace: 1 },
        put(5, 3),
        Step::Drop { keyspace: 1 },
        Step::Checkpoint,
        put(6, 7),
    ]);
    let operations: Vec<_> = (10..20).map(|key| (0, key, Some(u16::from(key)))).collect();
    for meddles in [false, true] {
        steps.push(Step::Transact { guard: (0, 1), operations: operations.clone(), meddles, durable: true });
        steps.push(Step::PutIf { keyspace: 0, key: 9, bytes: 20, holds: meddles });
        steps.push(Step::TransactRange { keyspace: 0, from: 1, to: 3, key: 2, durable: !meddles });
    }
    steps.extend((0..30).map(|key| put(key, 300)));
    steps.extend([Step::Background { steps: 50 }, Step::Compact, put(7, 9)]);
    steps
}

#[test]
pub(super) fn after_the_kth_failed_sync_nothing_is_acknowledged_and_nothing_acknowledged_is_lost() {
    let mut unnoticed = 0;
    for k in 1.. {
        let mut world = filled(k);
        world.disk.set_fault(
            Fault::new(&[Operation::Sync, Operation::WriteDurable, Operation::SyncDir], Outcome::Io).nth(k),
        );
        let outcome = writing().iter().try_for_each(|step| world.step(step));
        world.disk.clear_faults();
        let ks = world.db().keyspace("ks0").unwrap();
        // What was visible before stays readable.
        assert!(ks.get(b"key-025").unwrap().is_some());
        match outcome {
            Err(error) => {
                unnoticed = 0;
                assert!(matches!(error, Error::Poisoned { .. } | Error::Io { .. }), "{k}: {error}");
                // Later syncs would succeed: nothing is acknowledged all the same.
                assert!(ks.put(b"after", b"failure").is_err(), "after the sync {k} had failed: {error}");
                assert!(ks.put_with(b"after", b"failure", Durability::Buffered).is_err());
                assert!(world.db().create_keyspace("after").is_err());
                assert!(world.db().checkpoint().is_err());
            }
            // A sync of background work may fail unseen; several runs that notice nothing have fewer syncs than k.
            Ok(()) if unnoticed == 8 => return,
            Ok(()) => unnoticed += 1,
        }
        drop(ks);
        world.power_cut(k).unwrap();
        world.check().unwrap();
        world.verify_clean();
        world.step(&put(8, 8)).unwrap();
    }
}

/// An error, and whether the file that it names was there before the step that it ended.
type Refused = (Error, bool);

/// Runs the steps, gives room as soon as one was refused, and goes on with the steps behind it. Answers what was refused.
fn refused_by_a_full_disk(world: &mut World, context: &str) -> Vec<Refused> {
    let mut refused = Vec::new();
    for step in writing() {
        let before = world.disk.paths();
        let was_there = |path: &Path| before.iter().any(|there| there.ends_with(path));
        match world.step(&step) {
            Ok(()) => {}
            Err(Error::DiskFull { operation, path }) => {
                let key = world.db().keyspace("ks0").unwrap().get(b"key-025").unwrap();
                assert!(key.is_some(), "{context}: reads go on");
                world.disk.clear_faults();
                world.disk.set_capacity(None);
                world
                    .resume()
                    .unwrap_or_else(|error| panic!("{context}: {step:?}, with room again: {error}"));
                let was_there = was_there(&path);
                refused.push((Error::DiskFull { operation, path }, was_there));
            }
            // It stays so until it is opened again.
            Err(error @ Error::Poisoned { .. }) => {
                let was_there = world.disk.struck().first().is_some_and(|(_, path)| was_there(path));
                refused.push((error, was_there));
                break;
            }
            Err(error) => panic!("{context}: {step:?}: {error}"),
        }
    }
    refused
}

/// Nothing that was acknowledged is missing behind a power cut, and nothing is damaged.
fn is_whole_behind_a_power_cut(world: &mut World, seed: u64) {
    world.disk.clear_faults();
    world.disk.set_capacity(None);
    world.power_cut(seed).unwrap();
    world.check().unwrap();
    world.verify_clean();
}

#[test]
pub(super) fn a_full_disk_stops_writes_cleanly_at_any_place_and_they_resume_without_reopening() {
    const TAKES_ROOM: &[Operation] =
        &[Operation::Create, Operation::CreateDir, Operation::Allocate, Operation::SetSize];
    for k in 1.. {
        let mut world = filled(k);
        let fault = Fault::new(TAKES_ROOM, Outcome::DiskFull).nth(k);
        world.disk.set_fault(if k.is_multiple_of(2) { fault } else { fault.for_ever() });
        let refused = refused_by_a_full_disk(&mut world, &format!("growing call {k}"));
        assert!(world.db().statistics().poisoned.is_none(), "{k}: {refused:?}");
        let struck = world.disk.struck();
        is_whole_behind_a_power_cut(&mut world, k);
        match (struck.first(), &refused[..]) {
            // Behind the last such call of the run.
            (None, []) => {
                assert!(k > 40, "{k}");
                return;
            }
            (Some((_, struck)), [(Error::DiskFull { path, .. }, _)]) => assert_eq!(path, struck, "{k}"),
            other => panic!("{k}: {other:?}"),
        }
    }
}

#[test]
pub(super) fn with_any_number_of_blocks_left_what_does_not_fit_is_refused_and_nothing_is_final() {
    let (mut refusals, mut whole_runs) = (0, 0);
    // Work in the background is put off in silence; several runs that notice nothing had room for everything.
    for blocks in 0.. {
        let mut world = filled(blocks);
        world.disk.set_capacity(Some(world.disk.used_bytes() + blocks * 4096));
        let refused = refused_by_a_full_disk(&mut world, &format!("{blocks} blocks left"));
        let is_full = |(error, _): &Refused| matches!(error, Error::DiskFull { .. });
        assert!(refused.len() <= 1 && refused.iter().all(is_full), "{blocks}: {refused:?}");
        assert!(world.db().statistics().poisoned.is_none(), "{blocks}");
        is_whole_behind_a_power_cut(&mut world, blocks);
        refusals += refused.len();
        whole_runs = if refused.is_empty() { whole_runs + 1 } else { 0 };
        if whole_runs == 16 {
            break;
        }
    }
    assert!(refusals > 40, "{refusals}");
}

#[test]
pub(super) fn a_write_that_finds_no_room_is_refused_or_where_its_room_was_reserved_final() {
    let (mut finals, mut refusals) = (0, 0);
    for k in 1.. {
        let mut world = filled(k);
        world.disk.set_fault(Fault::new(Operation::WRITES, Outcome::DiskFull).nth(k));
        let refused = refused_by_a_full_disk(&mut world, &format!("write {k}"));
        let is_poisoned = world.db().statistics().poisoned.is_some();
        let struck = world.disk.struck();
        is_whole_behind_a_power_cut(&mut world, k);
        match (struck.first(), &refused[..]) {
            (None, []) => break,
            // Batches are written over what was written before. That they find no room is a failed write.
            (Some((_, struck)), [(Error::Poisoned { .. }, true)]) => {
                assert!(is_poisoned && struck.starts_with("db/log"), "{k}: {struck:?}");
                finals += 1;
            }
            // A file of the log that is being prepared, pages, a manifest.
            (Some((_, struck)), [(Error::DiskFull { path, .. }, was_there)]) => {
                assert!(!is_poisoned && path == struck, "{k}: {struck:?}: {path:?}");
                assert!(!was_there || !struck.starts_with("db/log"), "{k}: {struck:?}");
                refusals += 1;
            }
            other => panic!("{k}: {other:?}"),
        }
    }
    assert!(finals > 40 && refusals > 40, "{finals} final, {refusals} refused");
}

#[test]
pub(super) fn a_small_disk_fills_up_and_serves_again_when_it_has_room() {
    let mut world = filled(5);
    world.disk.set_capacity(Some(world.disk.used_bytes() + (600 << 10)));
    let mut full = false;
    for round in 0..4000u32 {
        match world.step(&put(round as u8, 60)) {
            Ok(()) => {}
            Err(Error::DiskFull { .. }) => {
                full = true;
                break;
            }
            Err(error) => panic!("{error}"),
        }
        if round % 16 == 0 {
            world.step(&Step::Background { steps: 20 }).unwrap();
        }
    }
    assert!(full, "the disk never filled up");
    assert!(world.db().keyspace("ks0").unwrap().get(b"key-025").unwrap().is_some());
    world.disk.set_capacity(None);
    world.resume().unwrap();
    world.step(&put(1, 60)).unwrap();
    world.step(&Step::Checkpoint).unwrap();
    world.check().unwrap();
    world.power_cut(1).unwrap();
    world.verify_clean();
}

#[test]
pub(super) fn the_kth_failed_read_surfaces_and_a_failed_iterator_stays_failed() {
    let mut world = World::new(1);
    world.open(0).unwrap();
    world.step(&Step::Create { keyspace: 0 }).unwrap();
    for round in 0..3u16 {
        for key in 0..96 {
            world.step(&put(key, 30 + round)).unwrap();
        }
    }
    world.step(&Step::Checkpoint).unwrap();
    for k in 1.. {
        // Everything is cold after opening.
        world.step(&Step::Reopen).unwrap();
        world.db = None;
        let db = crate::Database::open(super::world::DIR, world.options.clone()).unwrap();
        let ks = db.keyspace("ks0").unwrap();
        world.disk.set_fault(Fault::new(Operation::READS, Outcome::Io).nth(k).on("pages/"));
        let mut range = ks.iter().unwrap();
        let mut errors = 0;
        let mut seen = 0;
        for record in range.by_ref() {
            match record {
                Ok(_) => {
                    assert_eq!(errors, 0, "nothing comes after an error");
                    seen += 1;
                }
                Err(error) => {
                    assert!(matches!(error, Error::Io { .. }), "{error}");
                    errors += 1;
                }
            }
        }
        assert!(range.next().is_none() && range.next_back().is_none());
        world.disk.clear_faults();
        let is_behind_the_last = world.disk.struck().len() as u64 != k;
        assert_eq!(errors, u32::from(!is_behind_the_last), "read {k}");
        assert!(errors == 1 || seen == 96, "read {k}");
        // The page can be read when the disk can.
        assert_eq!(ks.iter().unwrap().filter(Result::is_ok).count(), 96);
        drop((range, ks));
        world.db = Some(db);
        if is_behind_the_last {
            assert!(k > 4, "the trees read from the disk: {k}");
            return;
        }
    }
}

/// A call that reads, and whether it did so without an error.
type Call = (&'static str, fn(&crate::Database, &crate::Keyspace) -> crate::Result<()>);

#[test]
fn every_call_that_reads_answers_a_failed_read_and_works_when_the_disk_does() {
    let keys: [&[u8]; 3] = [b"key-001", b"key-050", b"key-090"];
    let calls: &[Call] = &[
        ("get_many", |_, ks| ks.get_many(&[b"key-001", b"key-050", b"key-090"]).map(drop)),
        ("count", |_, ks| ks.count("key-010".."key-050").map(drop)),
        ("digest", |_, ks| ks.digest("key-010".."key-050").map(drop)),
        ("approximate_size", |_, ks| ks.approximate_size::<&[u8]>(..).map(drop)),
        ("split_keys", |_, ks| ks.split_keys::<&[u8]>(.., 3).map(drop)),
        ("first", |_, ks| ks.first().map(drop)),
        ("last", |_, ks| ks.last().map(drop)),
        ("put_if", |_, ks| ks.put_if(b"key-001", b"new", crate::Condition::Absent).map(drop)),
        ("transact", |db, ks| {
            db.transact(crate::TransactOptions::new(), |transaction| {
                transaction.get(ks, b"key-001").map(drop)
            })
        }),
        ("snapshot", |db, ks| db.snapshot().get(ks, b"key-001").map(drop)),
    ];
    let mut world = filled(1);
    for key in 0..96 {
        world.step(&put(key, 63)).unwrap();
    }
    for (name, call) in calls {
        // Everything is cold after opening.
        world.step(&Step::Checkpoint).unwrap();
        world.step(&Step::Reopen).unwrap();
        world.db = None;
        let db = crate::Database::open(super::world::DIR, world.options.clone()).unwrap();
        let ks = db.keyspace("ks0").unwrap();
        world.disk.set_fault(Fault::new(Operation::READS, Outcome::Io).on("pages/"));
        let failed = call(&db, &ks);
        assert!(matches!(failed, Err(Error::Io { .. })), "{name}: {failed:?}");
        world.disk.clear_faults();
        call(&db, &ks).unwrap_or_else(|error| panic!("{name}, once more: {error}"));
        assert!(db.statistics().poisoned.is_none(), "{name}: a failed read stops nothing");
        assert!(ks.get_many(&keys).unwrap().iter().all(Option::is_some));
        drop(ks);
        world.db = Some(db);
    }
}

#[test]
pub(super) fn a_failed_read_in_recovery_is_an_error_and_the_next_open_succeeds() {
    for k in 1.. {
        let mut world = filled(k);
        world.step(&Step::Kill).unwrap();
        world.drop_all();
        world.disk.kill_process();
        world.disk.set_fault(Fault::new(Operation::READS, Outcome::Io).nth(k));
        let outcome = world.open(world.durable);
        world.disk.clear_faults();
        let struck = world.disk.struck();
        if let Err(error) = outcome {
            assert!(matches!(error, Error::Io { .. }), "{k}: {error}");
            world.drop_all();
            world.disk.kill_process();
            world.open(world.durable).unwrap();
        }
        world.check().unwrap();
        if struck.is_empty() {
            assert!(k > 10, "{k}");
            return;
        }
    }
}

#[test]
pub(super) fn a_missing_file_is_named_and_nothing_is_made_in_its_place() {
    let mut world = filled(2);
    world.step(&Step::Reopen).unwrap();
    world.step(&Step::Checkpoint).unwrap();
    world.step(&put(1, 1)).unwrap();
    world.drop_all();
    world.disk.kill_process();
    let files: Vec<_> = world.disk.paths().into_iter().filter(|path| !path.ends_with("LOCK")).collect();
    let mut refused = 0;
    for path in &files {
        if world.disk.read_file(path).is_none() {
            continue;
        }
        let mut fork = world.fork();
        fork.disk.remove_file(path);
        let before = fork.disk.paths();
        match fork.open(fork.durable) {
            // A second copy of a manifest, an older generation, or a spare segment is not needed.
            Ok(()) => fork.check().unwrap(),
            Err(error) => {
                refused += 1;
                let Error::Corruption(corruption) = &error else {
                    panic!("without {}: {error}", path.display());
                };
                assert!(path.ends_with(&corruption.path), "without {}: {error}", path.display());
                assert_eq!(fork.disk.paths(), before, "without {}", path.display());
            }
        }
    }
    assert!(refused >= 10, "{refused} of {files:?}");
}

#[test]
pub(super) fn a_directory_whose_manifests_are_gone_is_damage_and_not_a_new_database() {
    let mut world = filled(2);
    world.drop_all();
    world.disk.kill_process();
    for path in world.disk.paths() {
        if path.to_string_lossy().contains("manifest/") && world.disk.read_file(&path).is_some() {
            world.disk.remove_file(&path);
        }
    }
    let error = world.open(0).unwrap_err();
    assert!(matches!(error, Error::Corruption(_)), "{error}");
}

#[test]
pub(super) fn a_poisoned_database_serves_what_was_visible_and_reopens() {
    let world = filled(9);
    let ks = world.db().keyspace("ks0").unwrap();
    let before = ks.count_all().unwrap();
    world.disk.set_fault(Fault::new(Operation::WRITES, Outcome::Io).on("log/"));
    let error = ks.put_with(b"new", b"value", Durability::Durable).unwrap_err();
    assert!(matches!(error, Error::Poisoned { .. } | Error::Io { .. }), "{error}");
    assert_eq!(ks.get(b"new").unwrap(), None, "what failed is not seen");
    assert_eq!(ks.count_all().unwrap(), before);
    for _ in 0..3 {
        assert!(matches!(ks.put(b"other", b"value"), Err(Error::Poisoned { .. })));
    }
    assert!(world.db().create_keyspace("x").is_err());
    assert!(world.db().checkpoint().is_err());
    assert!(world.db().statistics().poisoned.is_some());
}

#[test]
pub(super) fn a_keyspace_whose_entry_failed_is_not_there() {
    let mut world = filled(9);
    world.disk.set_fault(Fault::new(Operation::WRITES, Outcome::Io).on("log/"));
    world.db().create_keyspace("failed").unwrap_err();
    assert_eq!(world.db().keyspaces(), ["ks0"]);
    assert!(matches!(world.db().keyspace("failed"), Err(Error::NotFound { .. })));
    world.db = None;
}

#[test]
pub(super) fn the_older_manifest_opens_when_the_newest_is_lost() {
    let mut world = filled(3);
    for round in 0..3 {
        for key in 0..90 {
            world.step(&put(key, 60 + round)).unwrap();
        }
        world.step(&Step::Checkpoint).unwrap();
        world.step(&Step::Background { steps: 100 }).unwrap();
    }
    world.db().close().unwrap();
    world.drop_all();
    let mut manifests: Vec<_> =
        world.disk.paths().into_iter().filter(|path| path.to_string_lossy().contains("manifest/")).collect();
    manifests.sort();
    let newest = manifests.last().unwrap().file_stem().unwrap().to_owned();
    for path in manifests.iter().filter(|path| path.file_stem() == Some(&newest)) {
        world.disk.flip_bit(path, 40, 0xff);
    }
    world.open(world.durable).unwrap();
    world.check().unwrap();
}

#[test]
pub(super) fn a_checkpoint_holds_only_what_a_power_cut_leaves() {
    for seed in 0..20 {
        let mut world = filled(seed);
        for key in 0..10 {
            world.step(&Step::Put { keyspace: 0, key, bytes: 11, durable: false }).unwrap();
        }
        world.step(&Step::Checkpoint).unwrap();
        world.power_cut(seed).unwrap();
        world.check().unwrap();
    }
}

#[test]
fn what_a_closed_database_left_unfinished_is_never_written_into_a_directory_that_others_opened() {
    let mut world = filled(3);
    let old = world.db().clone();
    // A checkpoint that a writer began to help with, and that nobody has finished.
    let core = std::sync::Arc::clone(old.core());
    core.begin_part_of_checkpoint().unwrap();
    old.close().unwrap();
    // Somebody else has the directory now.
    world.open(world.durable).unwrap();
    world.step(&put(1, 33)).unwrap();
    let before: Vec<_> = world.disk.paths();
    let late = old.checkpoint();
    assert!(matches!(late, Err(Error::Closed)), "{late:?}");
    assert!(matches!(old.compact(), Err(Error::Closed)));
    assert_eq!(world.disk.paths(), before, "a closed handle changed the directory");
    world.step(&Step::Checkpoint).unwrap();
    drop((old, core));
    world.power_cut(1).unwrap();
    world.check().unwrap();
    world.verify_clean();
}

#[test]
fn closing_after_a_failed_checkpoint_tells_that_writes_were_stopped() {
    let world = filled(5);
    world.disk.set_fault(Fault::new(&[Operation::Sync], Outcome::Io).nth(1));
    assert!(world.db().checkpoint().is_err());
    world.disk.clear_faults();
    let closed = world.db().close();
    assert!(matches!(closed, Err(Error::Poisoned { .. })), "{closed:?}");
}
