//! Power cuts, failing disks and damaged bytes under checkpoints and cold reads.

use logwood_base::disk::simulated::{Fault, Operation, Outcome, SimulatedDisk};
use logwood_base::{Error, KeyspaceId, Lsn};

use super::world::{
    KEYSPACE, Model, at, change, checkpoint, commit, create, dir, environment, everything, open, require,
    scan, small,
};
use crate::store::LivePercent;
use crate::{At, Change, ChangeKind, Cleaned, Forest, Tree, verify_directory};

fn key(n: u64) -> Vec<u8> {
    format!("key{:04}", n * 37 % 1009).into_bytes()
}

/// Puts keys `range`, each with its number and the LSN, some of them long, and deletes some others.
fn write(forest: &Forest, model: &mut Model, lsn: u64, range: std::ops::Range<u64>) {
    let mut changes: Vec<(Vec<u8>, Option<Vec<u8>>)> = Vec::new();
    for n in range {
        let length = if n % 41 == 0 { 3000 } else { 20 + n as usize % 30 };
        let mut value = format!("{n} at {lsn} ").into_bytes();
        value.resize(length, b'.');
        changes.push((key(n), if n % 7 == lsn % 7 { None } else { Some(value) }));
    }
    let borrowed: Vec<_> = changes.iter().map(|(key, value)| (key.as_slice(), value.as_deref())).collect();
    commit(forest, lsn, &borrowed);
    for (key, value) in changes {
        match value {
            Some(value) => drop(model.insert(key, value)),
            None => drop(model.remove(&key)),
        }
    }
}

fn begun(disk: &SimulatedDisk) -> (Forest, Tree, Model) {
    let forest = create(disk, small());
    let tree = forest.create_tree(Lsn(1), KEYSPACE).unwrap();
    let mut model = Model::new();
    write(&forest, &mut model, 2, 0..300);
    checkpoint(&forest).unwrap();
    (forest, tree, model)
}

/// What is on disk must be exactly one of the states that a checkpoint held.
fn require_one_of(disk: &SimulatedDisk, states: &[(u64, &Model)]) {
    let (forest, opened) = open(disk, small()).unwrap();
    let state = states.iter().find(|(lsn, _)| *lsn == opened.checkpoint_lsn.0);
    let (_, model) = state.unwrap_or_else(|| panic!("no checkpoint was at {}", opened.checkpoint_lsn));
    assert_eq!(opened.engine_state, b"state of the engine");
    require(&forest.tree(KEYSPACE).unwrap(), &forest.snapshot(), model);
    let mut damages = Vec::new();
    let report = forest.verify(&mut |damage| damages.push(damage), &mut |_| {}).unwrap();
    assert!(damages.is_empty() && report.space_errors.is_empty(), "{damages:?} {:?}", report.space_errors);
}

#[test]
fn a_power_cut_at_any_write_of_a_checkpoint_leaves_the_old_state_or_the_new_one() {
    let mut rng = fastrand::Rng::with_seed(5);
    let mut cut = 1;
    loop {
        let disk = SimulatedDisk::new(cut);
        let (forest, _, old) = begun(&disk);
        let mut new = old.clone();
        write(&forest, &mut new, 3, 100..400);
        disk.crash_at(cut);
        let snapshot = forest.snapshot();
        let ended = forest.checkpoint(&at(snapshot.lsn())).is_ok();
        // What comes after C is in no checkpoint.
        let mut later = new.clone();
        write(&forest, &mut later, 4, 0..30);
        if ended {
            disk.cancel_stop();
        }
        disk.crash(&mut rng);
        let states = [(2, &old), (3, &new)];
        require_one_of(&disk, if ended { &states[1..] } else { &states[..] });
        if ended {
            assert!(cut > 10, "a checkpoint changes the disk more often than {cut} times");
            break;
        }
        cut += 1;
    }
}

#[test]
fn a_checkpoint_that_fails_can_be_run_again_and_loses_nothing() {
    for outcome in [Outcome::Io, Outcome::DiskFull] {
        for nth in 1..40 {
            let disk = SimulatedDisk::new(nth);
            let (forest, tree, mut model) = begun(&disk);
            write(&forest, &mut model, 3, 50..350);
            let operations = if nth % 2 == 0 { &[Operation::Sync][..] } else { Operation::WRITES };
            disk.set_fault(Fault::new(operations, outcome.clone()).nth(nth.div_ceil(2)));
            let first = checkpoint(&forest);
            disk.clear_faults();
            require(&tree, &forest.snapshot(), &model);
            write(&forest, &mut model, 4, 0..20);
            // A manifest that may be on disk or not is settled by the next one.
            checkpoint(&forest).unwrap_or_else(|error| panic!("{nth}: {error}, after {first:?}"));
            forest.shared.evict_everything();
            require(&tree, &forest.snapshot(), &model);
            disk.crash(&mut fastrand::Rng::with_seed(nth));
            require_one_of(&disk, &[(4, &model)]);
        }
    }
}

#[test]
fn a_damaged_page_takes_only_its_own_keys_away() {
    let disk = SimulatedDisk::new(1);
    let (_, _, model) = begun(&disk);
    let paths: Vec<_> =
        disk.paths().into_iter().filter(|path| path.to_string_lossy().contains("/pages/")).collect();
    let mut named = 0;
    for path in &paths {
        let bytes = disk.read_file(path).unwrap().len() as u64;
        for offset in (0..bytes).step_by(211) {
            let damaged = disk.snapshot();
            damaged.flip_bit(path, offset, 4);
            let (forest, _) = open(&damaged, small()).unwrap();
            let tree = forest.tree(KEYSPACE).unwrap();
            let (mut lost, mut values) = (Vec::new(), 0);
            for (key, value) in &model {
                match tree.get(key, At::Latest) {
                    Ok(found) => assert_eq!(found.as_deref(), Some(value.as_slice())),
                    Err(Error::Corruption(corruption)) => {
                        let affects = corruption.affects.clone().unwrap_or_default();
                        assert!(affects.contains("keyspace 7"), "{affects}");
                        values += usize::from(affects.contains("the value of"));
                        lost.push(key.clone());
                    }
                    Err(other) => panic!("{other}"),
                }
            }
            let mut damages = Vec::new();
            forest.verify(&mut |damage| damages.push(damage), &mut |_| {}).unwrap();
            assert!(!damages.is_empty(), "the flipped bit at {offset} was not named");
            for key in &lost {
                let covers = damages.iter().any(|damage| {
                    damage.range.as_ref().is_some_and(|range| {
                        range.low <= *key && range.high.as_ref().is_none_or(|high| key < high)
                    })
                });
                assert!(covers, "verify does not name {key:?}");
            }
            let mut cursor = tree.cursor(everything(), &forest.snapshot());
            let failed = loop {
                match cursor.next() {
                    Ok(Some(_)) => {}
                    Ok(None) => break false,
                    Err(_) => break true,
                }
            };
            assert_eq!(failed, !lost.is_empty());
            assert_eq!(cursor.next().is_err(), failed, "a cursor that failed stays failed");
            if !lost.is_empty() {
                // A change of a lost key is refused whole, but for one whose leaf is there; one of another key goes on.
                let other = model.keys().find(|key| !lost.contains(key));
                if values == 0 {
                    let refused = forest.apply(Lsn(3), &[change(b"key0", None), change(&lost[0], None)]);
                    assert!(matches!(refused, Err(Error::Corruption(_))), "{refused:?}");
                }
                if let Some(other) = other {
                    commit(&forest, 3, &[(other, Some(b"new"))]);
                    assert_eq!(tree.get(other, At::Latest).unwrap().unwrap(), &b"new"[..]);
                }
                named += 1;
            }
        }
    }
    assert!(named > 20, "{named} damages took keys away");
}

#[test]
fn a_read_error_is_answered_and_the_next_read_goes_on() {
    let disk = SimulatedDisk::new(1);
    let (_, _, model) = begun(&disk);
    let (forest, _) = open(&disk, small()).unwrap();
    let tree = forest.tree(KEYSPACE).unwrap();
    let (first, value) = model.first_key_value().unwrap();
    disk.set_fault(Fault::new(Operation::READS, Outcome::Io).on("pages/"));
    assert!(matches!(tree.get(first, At::Latest), Err(Error::Io { .. })));
    disk.clear_faults();
    assert_eq!(tree.get(first, At::Latest).unwrap().as_deref(), Some(value.as_slice()));
    require(&tree, &forest.snapshot(), &model);
}

#[test]
fn a_dropped_tree_gives_its_space_back_and_a_checkpoint_before_the_drop_still_holds_it() {
    let disk = SimulatedDisk::new(1);
    let (forest, tree, model) = begun(&disk);
    let other = KeyspaceId(9);
    forest.create_tree(Lsn(3), other).unwrap();
    let put = ChangeKind::Put { key: b"other", value: b"value" };
    forest.apply(Lsn(3), &[Change { keyspace: other, kind: put }]).unwrap();
    forest.publish(Lsn(3));
    checkpoint(&forest).unwrap();
    let before = forest.statistics().store.live_bytes;
    let snapshot = forest.snapshot();
    forest.shared.evict_everything();
    forest.drop_tree(Lsn(4), KEYSPACE).unwrap();
    forest.apply(Lsn(4), &[]).unwrap();
    forest.publish(Lsn(4));
    forest.checkpoint(&at(snapshot.lsn())).unwrap();
    let (reopened, _) = open(&disk.snapshot(), small()).unwrap();
    require(&reopened.tree(KEYSPACE).unwrap(), &reopened.snapshot(), &model);
    for _ in 0..3 {
        checkpoint(&forest).unwrap();
        while forest.give_back_step().unwrap() {}
    }
    assert!(forest.statistics().store.live_bytes < before / 10);
    // Who holds the tree reads it on.
    assert_eq!(scan(&tree, &snapshot), model);
    drop((tree, snapshot));
    for _ in 0..3 {
        checkpoint(&forest).unwrap();
    }
    disk.crash(&mut fastrand::Rng::with_seed(1));
    let (forest, _) = open(&disk, small()).unwrap();
    assert_eq!(forest.keyspaces(), [other]);
    let report = forest.verify(&mut |damage| panic!("{damage:?}"), &mut |_| {}).unwrap();
    assert!(report.space_errors.is_empty(), "{:?}", report.space_errors);
}

#[test]
fn cleaning_and_compacting_give_space_back_while_in_use() {
    let disk = SimulatedDisk::new(1);
    let (forest, tree, mut model) = begun(&disk);
    for lsn in 3..40 {
        write(&forest, &mut model, lsn, lsn * 13 % 300..lsn * 13 % 300 + 20);
        checkpoint(&forest).unwrap();
    }
    let before = forest.statistics().store;
    forest.compact(&mut || checkpoint(&forest).map(drop)).unwrap();
    let after = forest.statistics().store;
    assert!(after.total_bytes < before.total_bytes, "{before:?} {after:?}");
    let page_files =
        disk.paths().iter().filter(|path| path.to_string_lossy().contains("/pages/")).count() as u64;
    assert_eq!(page_files, after.segments, "files that nobody needs are gone");
    require(&tree, &forest.snapshot(), &model);
    forest.shared.evict_everything();
    require(&tree, &forest.snapshot(), &model);
    let disk_arc = environment(&disk).disk;
    let report = verify_directory(&disk_arc, dir(), &mut |damage| panic!("{damage:?}"), &mut |_| {}).unwrap();
    assert!(report.space_errors.is_empty(), "{:?}", report.space_errors);
    assert_eq!(report.trees.len(), 1);
}

#[test]
fn a_segment_that_a_checkpoint_empties_while_it_is_being_cleaned_is_no_error() {
    let disk = SimulatedDisk::new(1);
    let (forest, tree, mut model) = begun(&disk);
    write(&forest, &mut model, 3, 0..290);
    let victim = forest.victim(LivePercent { images: 100, deltas: 100 }).expect("something is alive");
    // All of it is written anew, and two generations later no manifest names what was written before.
    for lsn in 4..9 {
        write(&forest, &mut model, lsn, 0..300);
        checkpoint(&forest).unwrap();
    }
    assert!(forest.store().live_bytes().iter().all(|(number, _)| *number != victim.number));
    forest.mark_pages(&forest.pages_of(&victim).unwrap()).unwrap();
    require(&tree, &forest.snapshot(), &model);
    let kept = forest.statistics().store.waiting_segments;
    drop(victim);
    checkpoint(&forest).unwrap();
    assert!(forest.statistics().store.waiting_segments < kept, "its file goes when nobody looks into it");
    require_one_of(&disk, &[(8, &model)]);
}

#[test]
fn cleaning_in_steps_waits_for_a_checkpoint_when_enough_is_marked_and_comes_to_its_end() {
    // Of a cache of 64 KiB, a quarter would fill no segment, and be worth moving again at once.
    for (cache_bytes, page_segment_bytes) in
        [(64 << 10, 16 << 10), (64 << 10, 64 << 10), (512 << 10, 16 << 10)]
    {
        let disk = SimulatedDisk::new(1);
        let options = crate::ForestOptions { cache_bytes, page_segment_bytes, ..small() };
        let forest = create(&disk, options.clone());
        forest.create_tree(Lsn(1), KEYSPACE).unwrap();
        let mut model = Model::new();
        let mut rng = fastrand::Rng::with_seed(1);
        for lsn in 2..30 {
            let keys: Vec<u32> =
                if lsn == 2 { (0..8_000).collect() } else { (0..600).map(|_| rng.u32(0..8_000)).collect() };
            let records: Vec<([u8; 4], [u8; 100])> =
                keys.iter().map(|key| (key.to_be_bytes(), std::array::from_fn(|_| rng.u8(..)))).collect();
            let changes: Vec<(&[u8], Option<&[u8]>)> =
                records.iter().map(|(key, value)| (&key[..], Some(&value[..]))).collect();
            commit(&forest, lsn, &changes);
            model.extend(records.iter().map(|(key, value)| (key.to_vec(), value.to_vec())));
            checkpoint(&forest).unwrap();
        }
        drop(forest);
        let (forest, _) = open(&disk, options).unwrap();
        let before = forest.statistics().store;
        let (mut waits, mut steps) = (0, 0);
        loop {
            steps += 1;
            assert!(steps < 2_000, "cleaning never ends");
            match forest.clean_step().unwrap() {
                Cleaned::More => {}
                Cleaned::Enough => {
                    // What one step has brought in beyond it: 64 pages of small leaves.
                    let most = (cache_bytes / 4).max(64 << 10) + (64 << 10);
                    assert!(forest.dirty_bytes() <= most, "{} bytes marked", forest.dirty_bytes());
                    assert_eq!(forest.clean_step().unwrap(), Cleaned::Enough);
                    checkpoint(&forest).unwrap();
                    waits += 1;
                }
                Cleaned::Nothing => break,
            }
        }
        assert!(waits > 1, "{waits} waits in {steps} steps");
        checkpoint(&forest).unwrap();
        checkpoint(&forest).unwrap();
        let after = forest.statistics().store;
        assert!(after.total_bytes < before.total_bytes, "{before:?} {after:?}");
        require(&forest.tree(KEYSPACE).unwrap(), &forest.snapshot(), &model);
        let report = forest.verify(&mut |damage| panic!("{damage:?}"), &mut |_| {}).unwrap();
        assert!(report.space_errors.is_empty(), "{:?}", report.space_errors);
    }
}

#[test]
fn clean_memory_stays_inside_the_cache() {
    let disk = SimulatedDisk::new(1);
    let (forest, _, mut model) = begun(&disk);
    for lsn in 3..60 {
        write(&forest, &mut model, lsn, lsn * 17 % 900..lsn * 17 % 900 + 100);
    }
    checkpoint(&forest).unwrap();
    drop(forest);
    let options = crate::ForestOptions { cache_bytes: 24 << 10, ..small() };
    let (forest, _) = open(&disk, options.clone()).unwrap();
    let tree = forest.tree(KEYSPACE).unwrap();
    let mut most = 0;
    for round in 0..5 {
        for (key, value) in &model {
            assert_eq!(tree.get(key, At::Latest).unwrap().as_deref(), Some(value.as_slice()));
            most = most.max(forest.shared.cached_bytes());
        }
        assert_eq!(scan(&tree, &forest.snapshot()), model, "round {round}");
        most = most.max(forest.shared.cached_bytes());
    }
    // One leaf with a long value, the way to it, and upper nodes that the hand has not come by yet.
    assert!(most < options.cache_bytes + (28 << 10), "{most} bytes of {}", options.cache_bytes);
    assert!(forest.statistics().evictions > 100);
}

#[test]
fn what_a_refused_entry_brought_into_memory_goes_again() {
    let disk = SimulatedDisk::new(1);
    let (forest, _, mut model) = begun(&disk);
    write(&forest, &mut model, 3, 0..900);
    checkpoint(&forest).unwrap();
    drop(forest);
    let (forest, _) = open(&disk, crate::ForestOptions { cache_bytes: 24 << 10, ..small() }).unwrap();
    let tree = forest.tree(KEYSPACE).unwrap();
    let read_all = || {
        for key in model.keys() {
            tree.get(key, At::Latest).unwrap();
        }
        forest.shared.cached_bytes()
    };
    let usual = read_all();
    // So few that room is made for their leaves.
    let few = model.keys().step_by(model.len() / 6);
    let changes: Vec<Change<'_>> = few.map(|key| change(key, Some(b"new"))).collect();
    let prepared = forest.prepare(&changes).unwrap();
    // An entry without changes, as a fragment is one, does not end it.
    forest.apply(Lsn(4), &[]).unwrap();
    assert!(read_all() > 2 * usual, "nothing goes, so that what will be changed stays");
    let loads = forest.statistics().cold_reads;
    read_all();
    assert_eq!(forest.statistics().cold_reads, loads);
    drop(prepared);
    // Each entry, and each load, makes some of it go.
    for lsn in 5..40 {
        forest.apply(Lsn(lsn), &[]).unwrap();
    }
    let after = read_all();
    assert!(after < usual + usual / 2, "{after} bytes, {usual} before");

    let prepared = forest.prepare(&changes).unwrap();
    let loads = forest.statistics().cold_reads;
    prepared.apply(Lsn(40)).unwrap();
    assert_eq!(forest.statistics().cold_reads, loads, "applying reads nothing");
}

#[test]
fn the_longest_keys_and_long_values_come_back_from_disk() {
    let disk = SimulatedDisk::new(1);
    let options = crate::ForestOptions::default();
    let forest = create(&disk, options.clone());
    forest.create_tree(Lsn(1), KEYSPACE).unwrap();
    let mut model = Model::new();
    for n in 0..24u8 {
        let mut key = vec![b'k'; logwood_base::limits::KEY_BYTES_MAX];
        *key.last_mut().unwrap() = n;
        let value = vec![n; if n % 8 == 0 { 1 << 20 } else { 10 }];
        commit(&forest, 2 + u64::from(n), &[(&key, Some(&value))]);
        model.insert(key, value);
    }
    require(&forest.tree(KEYSPACE).unwrap(), &forest.snapshot(), &model);
    checkpoint(&forest).unwrap();
    forest.shared.evict_everything();
    require(&forest.tree(KEYSPACE).unwrap(), &forest.snapshot(), &model);
    disk.crash(&mut fastrand::Rng::with_seed(1));
    let (forest, _) = open(&disk, options).unwrap();
    require(&forest.tree(KEYSPACE).unwrap(), &forest.snapshot(), &model);
    let report = forest.verify(&mut |damage| panic!("{damage:?}"), &mut |_| {}).unwrap();
    assert!(report.space_errors.is_empty(), "{:?}", report.space_errors);
}
