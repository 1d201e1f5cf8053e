//! What opening takes in memory while it replays, and that a helper changes nothing but how fast it is.

use std::path::Path;
use std::sync::{Arc, Mutex};

use logwood_base::disk::simulated::{Fault, Operation, Outcome};
use logwood_base::environment::ThreadSpawner;
use logwood_wal::{Append, Expect, Log};

use super::checks::read_all;
use super::world::{DIR, State, Step, World, scale, small_options};
use crate::commit::GROUP;
use crate::entry::{Body, Entry};
use crate::options::{RecoveryProgress, RecoveryStep};
use crate::{BulkOptions, Database, Durability, Error, Keyspace, Result};

const ROUNDS: u8 = 40;
const VALUE_BYTES: usize = 300;

/// A database that is killed when the same records were overwritten often, each time by a transaction of many entries, and no
/// checkpoint came. How many bytes of older versions it keeps when it has been opened again.
fn versions_kept(keys: u64, overwrite: impl Fn(&World, &Keyspace, u8)) -> usize {
    let mut world = World::new(1);
    world.options = world.options.clone().cache_bytes(64 << 20).recovery_log_bytes_max(64 << 20);
    world.open(0).unwrap();
    let ks = world.db().create_keyspace("ks").unwrap();
    for round in 0..ROUNDS {
        overwrite(&world, &ks, round);
    }
    drop(ks);
    world.drop_all();
    let db = crate::Database::open(super::world::DIR, world.options.clone()).unwrap();
    // Before a read lets go of some.
    let kept = db.statistics().trees.version_bytes;
    let recovery = db.statistics().recovery;
    assert!(recovery.bytes_replayed > u64::from(ROUNDS) * keys * VALUE_BYTES as u64, "{recovery:?}");
    let ks = db.keyspace("ks").unwrap();
    assert_eq!(ks.count_all().unwrap(), keys);
    assert_eq!(ks.get(&7u64.to_be_bytes()).unwrap().as_deref(), Some(&[ROUNDS - 1; VALUE_BYTES][..]));
    kept
}

#[test]
fn replay_keeps_no_versions_of_transactions_that_are_larger_than_an_entry() {
    // Of three entries, joined in memory when they are applied.
    let keys = 150;
    let kept = versions_kept(keys, |world, ks, round| {
        let mut batch = world.db().batch();
        for key in 0..keys {
            batch.put(ks, &key.to_be_bytes(), &[round; VALUE_BYTES]).unwrap();
        }
        world.db().commit(batch, Durability::Buffered).unwrap();
    });
    assert_eq!(kept, 0);
}

#[test]
fn replay_keeps_the_versions_of_no_more_than_one_bulk_write() {
    // More than is joined in memory: read again from the log.
    let keys = 400;
    let kept = versions_kept(keys, |world, ks, round| {
        let mut bulk = world.db().bulk_write(BulkOptions::new()).unwrap();
        for key in 0..keys {
            bulk.put(ks, &key.to_be_bytes(), &[round; VALUE_BYTES]).unwrap();
        }
        bulk.commit(Durability::Buffered).unwrap();
    });
    let once = keys as usize * VALUE_BYTES;
    assert!(kept < 3 * once, "{kept} bytes of versions of records of {once} bytes");
}

#[test]
fn everything_is_replayed_however_little_may_be_dirty() {
    for dirty in [1, 3, 5, 4096] {
        let mut world = World::new(1);
        world.open(0).unwrap();
        let ks = world.db().create_keyspace("ks").unwrap();
        for n in 0..50u8 {
            ks.put(&[n], &[n; 300]).unwrap();
        }
        drop(ks);
        world.drop_all();
        let db = Database::open(DIR, world.options.clone().dirty_bytes_max(dirty)).unwrap();
        assert_eq!(db.keyspace("ks").unwrap().count_all().unwrap(), 50, "{dirty} bytes");
    }
}

#[test]
fn what_replay_gathers_has_room_from_the_beginning() {
    // An assertion of the applier is what fails. Of this cache replay gathers 32 KiB.
    let mut world = World::new(1);
    world.options = world.options.clone().recovery_log_bytes_max(64 << 20);
    world.open(0).unwrap();
    let ks = world.db().create_keyspace("ks").unwrap();
    for key in 0..200u64 {
        ks.put_with(&key.to_be_bytes(), &[7; 9_000], Durability::Buffered).unwrap();
    }
    drop(ks);
    world.drop_all();
    let db = crate::Database::open(super::world::DIR, world.options.clone()).unwrap();
    assert!(db.statistics().recovery.entries_replayed > 4, "less was replayed than is gathered at a time");
    assert_eq!(db.keyspace("ks").unwrap().count_all().unwrap(), 200);
}

#[test]
fn entries_that_are_larger_than_the_options_of_today_allow_are_replayed() {
    let mut world = World::new(2);
    let segments = |bytes| world.options.clone().recovery_log_bytes_max(64 << 20).log_segment_bytes(bytes);
    let (large, small) = (segments(4 << 20), segments(64 << 10));
    world.options = large;
    world.open(0).unwrap();
    let ks = world.db().create_keyspace("ks").unwrap();
    for key in 0..8u64 {
        let mut batch = world.db().batch();
        for part in 0..40u64 {
            batch.put(&ks, &[key.to_be_bytes(), part.to_be_bytes()].concat(), &[7; 9_000]).unwrap();
        }
        world.db().commit(batch, Durability::Buffered).unwrap();
    }
    drop(ks);
    world.drop_all();
    let db = crate::Database::open(super::world::DIR, small).unwrap();
    assert_eq!(db.keyspace("ks").unwrap().count_all().unwrap(), 320);
}

/// A log of many parts with all kinds of entries, and no checkpoint: what was acknowledged, and the directory.
fn random_log(seed: u64) -> World {
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut world = World::new(seed);
    world.options = world.options.clone().cache_bytes(64 << 20).recovery_log_bytes_max(64 << 20);
    world.open(0).unwrap();
    for keyspace in 0..2 {
        world.step(&Step::Create { keyspace }).unwrap();
    }
    for _ in 0..300 {
        let (keyspace, key, durable) = (rng.u8(0..3), rng.u8(..), rng.u8(0..9) == 0);
        // Some of them are larger than an entry.
        let operations = (0..rng.usize(1..60))
            .map(|_| (rng.u8(0..3), rng.u8(..), (rng.u8(0..4) > 0).then(|| rng.u16(0..900))))
            .collect();
        let step = match rng.u8(0..20) {
            0 => Step::Create { keyspace },
            1 if rng.u8(0..4) == 0 => Step::Drop { keyspace },
            2..5 => Step::Batch { operations, durable },
            5 => Step::DeleteRange { keyspace, from: key, to: key.saturating_add(9) },
            6..8 => Step::Delete { keyspace, key },
            _ => Step::Put { keyspace, key, bytes: rng.u16(0..2_000), durable },
        };
        world.step(&step).unwrap();
    }
    world.disk.kill_process();
    world.drop_all();
    world
}

/// Opens what `world` left with a cache of which each part gets 16 KiB; with threads, a helper reads ahead.
fn open_with(world: &World, threads: bool, told: Arc<Mutex<Vec<RecoveryProgress>>>) -> Result<Database> {
    let options = small_options().recovery_log_bytes_max(64 << 20);
    let mut environment = world.environment();
    if threads {
        environment.spawner = Arc::new(ThreadSpawner);
    }
    let options =
        options.environment(environment).progress(move |progress| told.lock().unwrap().push(progress));
    Database::open(DIR, options)
}

fn open_and_read(world: &World, threads: bool) -> Result<State> {
    let db = open_with(world, threads, Arc::default())?;
    assert!(db.statistics().recovery.entries_replayed > 100);
    db.verify(&mut |damage| panic!("{damage:?}"), &mut |_| {}).unwrap();
    read_all(&db)
}

#[test]
fn a_helper_that_reads_ahead_and_one_that_never_runs_make_the_same_trees() {
    for seed in 0..4 * scale() {
        let world = random_log(seed);
        let acknowledged = &world.history[world.acknowledged];
        for threads in [false, true] {
            let found = open_and_read(&world.fork(), threads).unwrap();
            assert!(found == *acknowledged, "seed {seed}, threads {threads}");
        }
    }
}

#[test]
fn a_read_that_fails_anywhere_in_the_log_is_answered_and_loses_nothing() {
    let world = random_log(77);
    let acknowledged = &world.history[world.acknowledged];
    for threads in [false, true] {
        let (mut failed, mut while_replaying) = (0, 0);
        for nth in 1.. {
            let fork = world.fork();
            fork.disk.set_fault(Fault::new(Operation::READS, Outcome::Io).on("log/").nth(nth));
            let told = Arc::new(Mutex::new(Vec::new()));
            match open_with(&fork, threads, Arc::clone(&told)) {
                Err(Error::Io { .. }) => failed += 1,
                Err(error) => panic!("read {nth}: {error}"),
                Ok(_) => break,
            }
            let scanned =
                |told: &RecoveryProgress| told.step == RecoveryStep::ScanLog && told.done == told.total;
            while_replaying += usize::from(told.lock().unwrap().last().is_some_and(scanned));
            fork.disk.clear_faults();
            fork.disk.kill_process();
            assert!(open_and_read(&fork, !threads).unwrap() == *acknowledged, "behind read {nth}");
        }
        assert!(
            while_replaying > 5 && while_replaying < failed,
            "{while_replaying} of {failed} behind the scan"
        );
    }
}

#[test]
fn an_entry_that_cannot_be_decoded_in_the_middle_is_answered_by_its_lsn() {
    let world = random_log(78);
    let log_folder = Path::new(DIR).join("log");
    let mut told = Vec::new();
    for threads in [false, true] {
        let fork = world.fork();
        let (log, _) = Log::open(
            &fork.environment(),
            &log_folder,
            Expect::default(),
            small_options().log_options(),
            &mut |_| {},
        )
        .unwrap();
        let group = log.group(GROUP).unwrap();
        let (last, term) = group.last();
        let whole = Entry { time_ms: 0, request: None, body: Body::NoOp }.encode();
        let mut cut = whole.clone();
        cut.pop();
        let payloads = std::iter::once(&cut).chain(std::iter::repeat_n(&whole, 500));
        let entries: Vec<_> = payloads.map(|payload| (term, &payload[..])).collect();
        let (first_lsn, durability) = (last.next(), logwood_wal::Durability::Durable);
        group
            .append(Append { term, previous: None, first_lsn, entries: &entries, durability })
            .unwrap()
            .wait()
            .unwrap();
        drop((group, log));
        fork.disk.kill_process();
        let error = open_with(&fork, threads, Arc::default()).map(drop).unwrap_err();
        assert!(matches!(error, Error::Corruption(_)), "{error}");
        assert!(error.to_string().contains(&format!("lsn {first_lsn}")), "{error}");
        told.push(error.to_string());
    }
    assert_eq!(told[0], told[1]);
}
