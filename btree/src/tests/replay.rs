//! Replay: the changes of many entries at once, before anybody reads.

use logwood_base::Error;
use logwood_base::Lsn;
use logwood_base::disk::simulated::SimulatedDisk;

use super::world::{KEYSPACE, Model, at, change, create, one_tree, open, require, scale, small};
use crate::{Change, ChangeKind, ForestOptions};

/// A key, its new value, and the end of the range that goes in the place of one key.
type Drawn = (Vec<u8>, Option<Vec<u8>>, Option<Vec<u8>>);

/// Random changes, and what they make of a model.
fn draw(rng: &mut fastrand::Rng, model: &mut Model) -> Vec<Drawn> {
    let key = |rng: &mut fastrand::Rng| format!("key{:04}", rng.u32(0..3_000)).into_bytes();
    (0..rng.usize(0..2_000))
        .map(|_| match rng.u32(0..1_000) {
            0..2 => {
                let (a, b) = (key(rng), key(rng));
                let (from, to) = if a < b { (a, b) } else { (b, a) };
                model.retain(|key, _| *key < from || *key >= to);
                (from, None, Some(to))
            }
            2..300 => {
                let key = key(rng);
                model.remove(&key);
                (key, None, None)
            }
            _ => {
                let (key, value) = (key(rng), vec![rng.u8(..); rng.usize(0..90)]);
                model.insert(key.clone(), value.clone());
                (key, Some(value), None)
            }
        })
        .collect()
}

#[test]
fn what_is_replayed_together_is_what_would_have_been_applied_one_by_one() {
    for seed in 0..12 * u64::from(scale()) {
        let mut rng = fastrand::Rng::with_seed(seed);
        let disk = SimulatedDisk::new(seed);
        // A cache that holds a part: leaves are read on the way, and evicted.
        let options = ForestOptions { cache_bytes: 64 << rng.usize(10..14), ..small() };
        let mut forest = create(&disk, options.clone());
        let mut tree = forest.create_tree(Lsn(1), KEYSPACE).unwrap();
        let (mut model, mut lsn) = (Model::new(), 1);
        for _ in 0..rng.usize(1..8) {
            let drawn = draw(&mut rng, &mut model);
            let changes: Vec<Change<'_>> = drawn
                .iter()
                .map(|(key, value, to)| match to {
                    Some(to) => {
                        let kind = ChangeKind::DeleteRange { from: key, to: Some(to) };
                        Change { keyspace: KEYSPACE, kind }
                    }
                    None => change(key, value.as_deref()),
                })
                .collect();
            lsn += rng.u64(1..9);
            forest.replay(Lsn(lsn), &changes).unwrap();
            require(&tree, &forest.snapshot(), &model);
            if rng.bool() {
                forest.checkpoint(&at(Lsn(lsn))).unwrap();
                drop((tree, forest));
                forest = open(&disk, options.clone()).unwrap().0;
                tree = forest.tree(KEYSPACE).unwrap();
                require(&tree, &forest.snapshot(), &model);
            }
        }
    }
}

#[test]
fn replay_keeps_no_versions_and_takes_entries_in_order() {
    let (forest, tree) = one_tree(small());
    let keys: Vec<Vec<u8>> = (0..20_000u32).map(|n| n.to_be_bytes().to_vec()).collect();
    let mut model = Model::new();
    for round in 2..6u64 {
        let value = [round as u8; 40];
        let changes: Vec<Change<'_>> = keys.iter().map(|key| change(key, Some(&value))).collect();
        forest.replay(Lsn(round), &changes).unwrap();
        assert_eq!(forest.version_bytes(), 0);
        model = keys.iter().map(|key| (key.clone(), value.to_vec())).collect();
    }
    require(&tree, &forest.snapshot(), &model);
    assert_eq!((forest.applied_lsn(), forest.visible_lsn()), (Lsn(5), Lsn(5)));
    assert!(matches!(forest.replay(Lsn(5), &[]), Err(Error::InvalidArgument(_))));
}

#[test]
fn neighbours_that_split_share_the_building_of_their_parent() {
    let (forest, tree) = one_tree(small());
    let value = [7; 40];
    let built = || forest.shared.account.inners.load(std::sync::atomic::Ordering::Relaxed);
    let mut model = Model::new();
    let mut of_each = Vec::new();
    // The second one splits every leaf of the first.
    for lsn in [2, 3] {
        let before = built();
        let keys: Vec<Vec<u8>> =
            (0..10_000u32).map(|n| (2 * n + lsn as u32).to_be_bytes().to_vec()).collect();
        let changes: Vec<Change<'_>> = keys.iter().map(|key| change(key, Some(&value))).collect();
        forest.replay(Lsn(lsn), &changes).unwrap();
        model.extend(keys.iter().map(|key| (key.clone(), value.to_vec())));
        of_each.push(built() - before);
    }
    require(&tree, &forest.snapshot(), &model);
    let leaves = 10_000 * 48 / small().leaf_bytes as u64;
    assert!(of_each[1] < leaves / 4, "{of_each:?} inner nodes were built for {leaves} leaves that split");
}
