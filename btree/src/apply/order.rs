//! Changes in the order of trees and keys.
//!
//! Replay sorts a hundred thousand changes at a time, whose keys lie anywhere in memory: a comparison that looks at two
//! keys waits for both. So numbers are sorted: of each key the eight bytes behind what all of them begin with, and where
//! the change stood before. Keys are looked at where those bytes are equal.

use logwood_base::KeyspaceId;

use super::{Point, Points};
use crate::node::entries::head_of;

/// Below this many, keys are compared as they are.
const FEW: usize = 32;

/// Sorts by tree and key; of equal keys, the one that came first stands first.
pub(super) fn sort(points: &mut Points<'_>) {
    let place = |point: &Point<'_>| -> KeyspaceId { point.core.id };
    if points.windows(2).all(|pair| (place(&pair[0]), pair[0].key) < (place(&pair[1]), pair[1].key)) {
        return;
    }
    if points.len() <= FEW {
        points.sort_by(|a, b| (place(a), a.key).cmp(&(place(b), b.key)));
        return;
    }
    points.sort_by_key(place);
    for run in points.chunk_by_mut(|a, b| place(a) == place(b)) {
        sort_keys(run);
    }
}

/// Sorts changes of one tree.
fn sort_keys(points: &mut [Point<'_>]) {
    let shared = shared_bytes(points);
    let mut order: Vec<(u64, u32)> =
        points.iter().enumerate().map(|(at, point)| (head_of(&point.key[shared..]), at as u32)).collect();
    let key = |at: u32| &points[at as usize].key[shared..];
    order.sort_unstable_by(|a, b| {
        a.0.cmp(&b.0).then_with(|| key(a.1).cmp(key(b.1))).then_with(|| a.1.cmp(&b.1))
    });
    let sorted: Vec<Point<'_>> = order.iter().map(|(_, at)| points[*at as usize]).collect();
    points.copy_from_slice(&sorted);
}

/// How many bytes all keys begin with.
fn shared_bytes(points: &[Point<'_>]) -> usize {
    let Some((first, rest)) = points.split_first() else { return 0 };
    rest.iter().fold(first.key.len(), |shared, point| {
        let common = first.key[..shared].iter().zip(point.key).take_while(|(a, b)| a == b);
        common.count()
    })
}

#[cfg(test)]
mod tests {
    use logwood_base::Lsn;

    use super::*;
    use crate::descent::TreeCore;
    use crate::node::content::Content;
    use crate::node::leaf::Leaf;
    use crate::node::slot::Node;

    #[test]
    fn changes_are_sorted_by_tree_and_key_and_equal_ones_keep_their_order() {
        let mut rng = fastrand::Rng::with_seed(7);
        let tree = |id| {
            let root = Leaf::build(&Content::default(), Lsn::ZERO, None, &Default::default());
            TreeCore::new(KeyspaceId(id), Node::Leaf(root), Lsn(0))
        };
        let trees = [tree(1), tree(2), tree(3)];
        for round in 0..300 {
            let prefix = vec![b'p'; round % 12];
            let keys: Vec<Vec<u8>> = (0..rng.usize(0..200))
                .map(|_| {
                    let mut key = prefix.clone();
                    key.extend((0..rng.usize(0..12)).map(|_| rng.u8(0..3)));
                    key
                })
                .collect();
            let values: Vec<[u8; 1]> = (0..keys.len()).map(|at| [at as u8]).collect();
            let mut points: Points<'_> = keys
                .iter()
                .zip(&values)
                .map(|(key, value)| Point { core: &trees[rng.usize(0..=round % 3)], key, value: Some(value) })
                .collect();
            let mut expected: Vec<_> =
                points.iter().map(|point| (point.core.id, point.key, point.value)).collect();
            expected.sort_by(|a, b| (a.0, a.1).cmp(&(b.0, b.1)));
            sort(&mut points);
            assert!(points.iter().map(|point| (point.core.id, point.key, point.value)).eq(expected));
        }
    }
}
