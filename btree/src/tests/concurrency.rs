//! Readers beside a writer.

use std::io::Read;
use std::sync::atomic::{AtomicBool, Ordering};

use logwood_base::Lsn;

use super::world::{Model, change, checkpoint, commit, everything, one_tree, require, small};
use crate::At;
use crate::store::LivePercent;

/// Every commit writes its own number to all keys of one group. So a reader that sees a prefix of the commits sees
/// one number in every group, and never an older one than before.
#[test]
#[expect(clippy::disallowed_methods, reason = "what is tested are threads")]
fn concurrent_readers_see_whole_commits_in_order() {
    const KEYS: u64 = 400;
    let (forest, tree) = one_tree(small());
    let key = |n: u64| format!("key{:05}", n * 7919 % 10_007).into_bytes();
    let write = |lsn: u64| {
        let keys: Vec<Vec<u8>> = (0..KEYS).map(key).collect();
        let value = lsn.to_be_bytes();
        let changes: Vec<_> = keys.iter().map(|key| change(key, Some(&value))).collect();
        forest.apply(Lsn(lsn), &changes).unwrap();
        forest.publish(Lsn(lsn));
    };
    write(2);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for reader in 0..2u64 {
            let (forest, tree, done) = (&forest, &tree, &done);
            scope.spawn(move || {
                let mut rng = fastrand::Rng::with_seed(reader);
                let mut newest = 0;
                while !done.load(Ordering::Relaxed) {
                    let value = tree.get(&key(rng.u64(0..KEYS)), At::Latest).unwrap().unwrap();
                    let lsn = u64::from_be_bytes(value[..].try_into().unwrap());
                    assert!(lsn >= newest, "{lsn} was read after {newest}");
                    newest = lsn;
                    if rng.u8(..) < 8 {
                        let snapshot = forest.snapshot();
                        let mut cursor = tree.cursor(everything(), &snapshot);
                        let mut seen = 0;
                        while let Some((_, value)) = cursor.next().unwrap() {
                            assert_eq!(value, snapshot.lsn().0.to_be_bytes(), "half a commit");
                            seen += 1;
                        }
                        assert_eq!(seen, KEYS);
                        newest = newest.max(snapshot.lsn().0);
                    }
                }
            });
        }
        let mut rng = fastrand::Rng::with_seed(9);
        for lsn in 3..400 {
            if rng.u8(..) < 40 {
                // Keys that come and go make leaves split and merge under the readers.
                std::thread::yield_now();
            }
            write(lsn);
        }
        done.store(true, Ordering::Relaxed);
    });
}

#[test]
fn a_leaf_is_marked_as_used_by_the_first_read_and_not_by_those_after_it() {
    let (forest, tree) = one_tree(small());
    for lsn in 2..400u64 {
        commit(&forest, lsn, &[(&lsn.to_be_bytes(), Some(b"value"))]);
    }
    let keys: Vec<[u8; 8]> = (2..400u64).map(u64::to_be_bytes).collect();
    keys.iter().for_each(|key| drop(tree.get(key, At::Latest).unwrap()));
    let stores = || forest.shared.account.shared_stores.load(Ordering::Relaxed);
    let before = stores();
    for _ in 0..3 {
        keys.iter().for_each(|key| assert!(tree.contains(key, At::Latest).unwrap()));
    }
    assert_eq!(stores(), before, "a leaf that is marked was marked again");
}

#[test]
fn a_held_snapshot_costs_one_version_of_each_leaf_and_gives_it_back() {
    let (forest, tree) = one_tree(small());
    let value = [1u8; 40];
    let keys: Vec<Vec<u8>> = (0..500u64).map(|n| n.to_be_bytes().to_vec()).collect();
    let all: Vec<_> = keys.iter().map(|key| (key.as_slice(), Some(&value[..]))).collect();
    commit(&forest, 2, &all);
    let snapshot = forest.snapshot();
    let mut most = 0;
    for round in 0..60u64 {
        let value = [round as u8; 40];
        let all: Vec<_> = keys.iter().map(|key| (key.as_slice(), Some(&value[..]))).collect();
        commit(&forest, 3 + round, &all);
        most = most.max(forest.statistics().version_bytes);
    }
    let statistics = forest.statistics();
    let served = statistics.clean_bytes + statistics.dirty_bytes;
    // What the snapshot holds, what the last commit left behind until it is looked through, and a chain's middle.
    assert!(most <= 3 * served, "{most} bytes of versions beside {served}");
    assert_eq!(tree.get(&keys[3], At::Snapshot(&snapshot)).unwrap().unwrap(), &[1u8; 40][..]);
    drop(snapshot);
    assert_eq!(forest.statistics().version_bytes, 0);
}

/// A leaf that splits and is joined again, over and over, while a snapshot holds every state of it: looking through
/// its versions takes time by their number. It would not end if each was looked at along every way that leads to it.
#[test]
fn versions_of_a_leaf_that_splits_and_joins_under_snapshots_are_looked_at_once() {
    let (forest, tree) = one_tree(crate::ForestOptions { leaf_bytes: 256, ..small() });
    let value = [7; 60];
    let mut model = Model::new();
    let mut held = Vec::new();
    let mut lsn = 1;
    let mut step = |changes: &[(&[u8], Option<&[u8]>)], model: &mut Model| {
        lsn += 1;
        commit(&forest, lsn, changes);
        for (key, value) in changes {
            match value {
                Some(value) => drop(model.insert(key.to_vec(), value.to_vec())),
                None => drop(model.remove(*key)),
            }
        }
        held.push((forest.snapshot(), model.clone()));
    };
    for _ in 0..60 {
        for key in [b"a", b"b", b"c", b"d"] {
            step(&[(key, Some(&value))], &mut model);
        }
        step(&[(b"b", None), (b"c", None), (b"d", None)], &mut model);
    }
    for (snapshot, model) in held.drain(..).step_by(7) {
        require(&tree, &snapshot, &model);
    }
    require(&tree, &forest.snapshot(), &model);
    drop(held);
}

/// Readers begin and go on reading long values on threads of their own, while these are overwritten and their leaves are written,
/// evicted and moved by the cleaner. A value is all of one number, whoever reads it, however late.
#[test]
#[expect(clippy::disallowed_methods, reason = "what is tested are threads")]
fn long_values_are_read_whole_beside_overwriting_checkpoints_eviction_and_cleaning() {
    const KEYS: u8 = 6;
    let (forest, tree) = one_tree(crate::ForestOptions { page_segment_bytes: 64 << 10, ..small() });
    let value = |lsn: u64| vec![lsn as u8; 1_000 + lsn as usize * 37 % 9_000];
    let put = |lsn: u64, key: u8| commit(&forest, lsn, &[(&[key], Some(&value(lsn)))]);
    (0..KEYS).for_each(|key| put(2 + u64::from(key), key));
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for reader in 0..2u64 {
            let (forest, tree, done) = (&forest, &tree, &done);
            scope.spawn(move || {
                let mut rng = fastrand::Rng::with_seed(reader);
                let mut begun = Vec::new();
                while !done.load(Ordering::Relaxed) {
                    let key = [rng.u8(0..KEYS)];
                    match rng.u8(0..4) {
                        0 => {
                            let found = tree.get(&key, At::Latest).unwrap().unwrap();
                            assert!(found.iter().all(|byte| *byte == found[0]));
                        }
                        1 => {
                            let snapshot = forest.snapshot();
                            begun.push(tree.value_reader(&key, At::Snapshot(&snapshot)).unwrap().unwrap());
                        }
                        2 => begun.push(tree.value_reader(&key, At::Latest).unwrap().unwrap()),
                        _ => {}
                    }
                    if begun.len() > 8 {
                        let mut reader = begun.swap_remove(rng.usize(..begun.len()));
                        let (mut found, length) = (Vec::new(), reader.len());
                        reader.read_to_end(&mut found).unwrap();
                        assert!(found.len() as u64 == length && found.iter().all(|byte| *byte == found[0]));
                    }
                }
            });
        }
        let mut rng = fastrand::Rng::with_seed(9);
        for lsn in 10..260 {
            put(lsn, rng.u8(0..KEYS));
            match lsn % 6 {
                0 | 3 => drop(checkpoint(&forest).unwrap()),
                1 => forest.shared.evict_everything(),
                2 => while forest.clean_below(LivePercent { images: 100, deltas: 100 }).unwrap() {},
                _ => {}
            }
        }
        done.store(true, Ordering::Relaxed);
    });
    let report = forest.verify(&mut |damage| panic!("{damage:?}"), &mut |_| {}).unwrap();
    assert!(report.space_errors.is_empty(), "{:?}", report.space_errors);
}
