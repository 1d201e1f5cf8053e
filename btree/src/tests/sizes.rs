//! Sizes and cuts of ranges, against what the ranges hold.

use std::ops::Bound;

use logwood_base::Error;
use logwood_base::disk::simulated::SimulatedDisk;

use super::world::{Model, checkpoint, commit, create, everything, open, scan, small};
use crate::planted::{self, Bug};
use crate::{RangeSize, Tree};

const RECORDS: u64 = 30_000;

fn key(n: u64) -> Vec<u8> {
    format!("key{:08}", n.wrapping_mul(7919) % 1_000_003).into_bytes()
}

fn bounds<'k>(from: &'k [u8], to: &'k [u8]) -> (Bound<&'k [u8]>, Bound<&'k [u8]>) {
    (Bound::Included(from), Bound::Excluded(to))
}

/// What a range holds.
fn exact<'m>(records: impl Iterator<Item = (&'m Vec<u8>, &'m Vec<u8>)>) -> RangeSize {
    records.fold(RangeSize::default(), |size, (key, value)| RangeSize {
        records: size.records + 1,
        bytes: size.bytes + (key.len() + value.len()) as u64,
    })
}

/// Requires sizes and cuts that are about right.
fn require(tree: &Tree, model: &Model, what: &str) {
    let near = |found: u64, exact: u64, percent: u64| {
        let off = found.abs_diff(exact);
        assert!(off * 100 <= exact * percent + 6_000, "{what}: {found} for {exact}");
    };
    let keys: Vec<&Vec<u8>> = model.keys().collect();
    let places = [(0, 10), (10, 35), (35, 36), (40, 99), (0, 100), (50, 50)];
    for (from, to) in
        places.map(|(from, to)| (keys[(keys.len() - 1) * from / 100], keys[(keys.len() - 1) * to / 100]))
    {
        let found = tree.approximate_size(bounds(from, to)).unwrap();
        let exact = exact(model.range(from.clone()..to.clone()));
        near(found.records, exact.records, 25);
        near(found.bytes, exact.bytes, 40);
    }
    let whole = tree.approximate_size(everything()).unwrap();
    near(whole.records, model.len() as u64, 20);
    assert_eq!(tree.approximate_size(bounds(b"b", b"a")).unwrap(), RangeSize::default());
    for (from, to, parts) in [(&b""[..], &b"l"[..], 8), (b"key001", b"key009", 3), (b"key002", b"key008", 16)]
    {
        let cuts = tree.split_keys(bounds(from, to), parts).unwrap();
        assert_eq!(cuts.len(), parts - 1, "{what}");
        assert!(cuts.is_sorted_by(|a, b| a < b) && cuts[0][..] > *from && cuts[parts - 2][..] < *to);
        let edges: Vec<&[u8]> =
            [from].into_iter().chain(cuts.iter().map(|cut| &cut[..])).chain([to]).collect();
        let all = model.range(from.to_vec()..to.to_vec()).count();
        for edge in edges.windows(2) {
            let part = model.range(edge[0].to_vec()..edge[1].to_vec()).count() * parts;
            assert!(part * 2 > all && part < all * 2, "{what}: {part} of {all} in one of {parts} parts");
        }
    }
}

#[test]
fn sizes_and_cuts_are_about_right_in_memory_on_disk_and_half_changed() {
    let disk = SimulatedDisk::new(1);
    let forest = create(&disk, small());
    let tree = forest.create_tree(logwood_base::Lsn(1), super::world::KEYSPACE).unwrap();
    let mut lsn = 1;
    let mut put = |forest: &crate::Forest, from: u64, to: u64, step: usize| {
        let records: Vec<_> =
            (from..to).step_by(step).map(|n| (key(n), vec![n as u8; (n % 60) as usize])).collect();
        for chunk in records.chunks(500) {
            lsn += 1;
            let changes: Vec<_> = chunk.iter().map(|(key, value)| (&key[..], Some(&value[..]))).collect();
            commit(forest, lsn, &changes);
        }
    };
    put(&forest, 0, RECORDS, 1);
    let model = scan(&tree, &forest.snapshot());
    require(&tree, &model, "never on disk");
    checkpoint(&forest).unwrap();
    require(&tree, &model, "in memory and on disk");
    drop((tree, forest));

    let (forest, _) = open(&disk, small()).unwrap();
    let tree = forest.tree(super::world::KEYSPACE).unwrap();
    let size = tree.approximate_size(everything()).unwrap();
    assert!(forest.statistics().cold_reads < 32, "eight ways down: {:?}", forest.statistics());
    assert!(size.records.abs_diff(RECORDS) < RECORDS / 5, "{size:?}");
    require(&tree, &model, "on disk");
    // Changed here and there: above that nothing is known for sure.
    put(&forest, 0, RECORDS, 97);
    put(&forest, RECORDS, RECORDS + RECORDS / 3, 1);
    require(&tree, &scan(&tree, &forest.snapshot()), "half changed");
}

#[test]
fn a_small_tree_is_measured_exactly_and_cut_where_there_are_records() {
    let (forest, tree) = super::world::one_tree(crate::ForestOptions::default());
    assert_eq!(tree.approximate_size(everything()).unwrap(), RangeSize::default());
    assert!(tree.split_keys(everything(), 4).unwrap().is_empty());
    commit(&forest, 2, &[(b"a", Some(b"1")), (b"b", Some(b"22")), (b"c", Some(b"333"))]);
    commit(&forest, 3, &[(b"b", None), (b"d", Some(b""))]);
    let whole = tree.approximate_size(everything()).unwrap();
    assert_eq!(whole, RangeSize { records: 3, bytes: 7 });
    assert_eq!(tree.approximate_size(bounds(b"b", b"d")).unwrap().records, 1);
    assert_eq!(tree.split_keys(everything(), 100).unwrap(), [b"c", b"d"]);
    assert_eq!(
        tree.split_keys(everything(), 1).unwrap().len() + tree.split_keys(everything(), 0).unwrap().len(),
        0
    );
    // What is applied and not published is not told of.
    forest.apply(logwood_base::Lsn(4), &[super::world::change(b"bb", Some(b"secret"))]).unwrap();
    assert_eq!(tree.split_keys(everything(), 100).unwrap(), [b"c", b"d"]);
}

#[test]
fn counts_that_no_tree_can_have_are_added_up_without_a_panic() {
    let disk = SimulatedDisk::new(2);
    let forest = create(&disk, small());
    forest.create_tree(logwood_base::Lsn(1), super::world::KEYSPACE).unwrap();
    for round in 0..40 {
        let records: Vec<_> = (round * 100..(round + 1) * 100).map(|n| (key(n), vec![1; 30])).collect();
        let changes: Vec<_> = records.iter().map(|(key, value)| (&key[..], Some(&value[..]))).collect();
        commit(&forest, round + 2, &changes);
    }
    planted::with(Some(Bug::HugeCounts), || checkpoint(&forest).unwrap());
    drop(forest);
    let (forest, _) = open(&disk, small()).unwrap();
    let tree = forest.tree(super::world::KEYSPACE).unwrap();
    let look = || {
        for range in [everything(), bounds(b"key", b"kez"), bounds(b"key001", b"key008")] {
            // A leaf that is looked into says that it is damaged; sums do not panic before.
            for outcome in [
                tree.approximate_size(range).map(drop),
                tree.split_keys(range, 7).map(drop),
                tree.count(range, &forest.snapshot()).map(drop),
            ] {
                assert!(matches!(outcome, Ok(()) | Err(Error::Corruption(_))), "{outcome:?}");
            }
        }
        tree.split_keys(bounds(b"a", b"b"), 2).unwrap()
    };
    assert!(look().is_empty());
    // Above what changed, sums are estimated from the children.
    commit(&forest, 100, &[(b"a", Some(b"first")), (b"z", Some(b"last"))]);
    assert!(look().len() <= 1);
}

#[test]
fn bytes_are_about_right_where_sizes_of_records_vary_along_the_keys() {
    let disk = SimulatedDisk::new(3);
    let forest = create(&disk, small());
    let tree = forest.create_tree(logwood_base::Lsn(1), super::world::KEYSPACE).unwrap();
    let mut bytes = 0;
    for round in 0..40u64 {
        // Small at both ends, large in the middle.
        let large = |n: u64| (n.min(3_999 - n) / 20) as usize;
        let records: Vec<_> = (round * 100..(round + 1) * 100).map(|n| (key(n), vec![1; large(n)])).collect();
        bytes += records.iter().map(|(key, value)| (key.len() + value.len()) as u64).sum::<u64>();
        let changes: Vec<_> = records.iter().map(|(key, value)| (&key[..], Some(&value[..]))).collect();
        commit(&forest, round + 2, &changes);
    }
    checkpoint(&forest).unwrap();
    let size = tree.approximate_size(everything()).unwrap();
    assert!(size.bytes > bytes / 2 && size.bytes < 2 * bytes, "{size:?}, {bytes} in truth");
}
