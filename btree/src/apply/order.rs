//! Changes in the order of trees and keys.
//!
//! Replay sorts a hundred thousand changes at a time, whose keys lie anywhere in memory: a comparison that looks at two
//! keys waits for both. So numbers are sorted: of each key the eight bytes behind what all of them begin with, and where
//! the change stood before. Keys are looked at where those bytes are equal, also to find out which changes are of one key.

use logwood_base::KeyspaceId;

use super::{Point, Points};
use crate::node::entries::head_of;

/// Below this many, keys are compared as they are.
const FEW: usize = 32;

/// Sorts by tree and key. Of equal keys the last one stays.
pub(super) fn sort<'t>(mut points: Points<'t>) -> Points<'t> {
    let place = |point: &Point<'_>| -> KeyspaceId { point.core.id };
    if points.windows(2).all(|pair| (place(&pair[0]), pair[0].key) < (place(&pair[1]), pair[1].key)) {
        return points;
    }
    if points.len() <= FEW {
        points.sort_by(|a, b| (place(a), a.key).cmp(&(place(b), b.key)));
        // What is dropped is the second one of two.
        points.dedup_by(|next, kept| {
            let same = (place(next), next.key) == (place(kept), kept.key);
            if same {
                *kept = *next;
            }
            same
        });
        return points;
    }
    in_order(&points, |point| (place(point), point.key)).into_iter().map(|at| points[at]).collect()
}

/// Which items there are in the order of trees and keys, by their numbers; of those with equal ones the last alone. `place` is
/// asked often, and answers the same each time. Takes about 24 bytes for each item meanwhile.
///
/// ```
/// # use logwood_base::KeyspaceId;
/// # use logwood_btree::in_order;
/// let written = [(2, "b"), (1, "x"), (2, "a"), (2, "b")];
/// let order = in_order(&written, |(keyspace, key)| (KeyspaceId(*keyspace), key.as_bytes()));
/// assert_eq!(order, [1, 2, 3]);
/// ```
///
/// # Panics
/// With more than `u32::MAX` items.
pub fn in_order<T>(items: &[T], place: impl Fn(&T) -> (KeyspaceId, &[u8])) -> Vec<usize> {
    let count = u32::try_from(items.len()).expect("fewer than four billion are sorted together");
    let keyspace = |at: &u32| place(&items[*at as usize]).0;
    let mut numbers: Vec<u32> = (0..count).collect();
    numbers.sort_by_key(keyspace);
    let mut sorted = Vec::with_capacity(items.len());
    for run in numbers.chunk_by(|a, b| keyspace(a) == keyspace(b)) {
        sort_keys(run, |at| place(&items[at as usize]).1, &mut sorted);
    }
    sorted
}

/// Appends the numbers of one tree's items.
fn sort_keys<'t>(numbers: &[u32], key: impl Fn(u32) -> &'t [u8], sorted: &mut Vec<usize>) {
    let shared = shared_bytes(numbers, &key);
    let key = |at: u32| &key(at)[shared..];
    let mut order: Vec<(u64, u32)> = numbers.iter().map(|&at| (head_of(key(at)), at)).collect();
    order.sort_unstable_by(|a, b| {
        a.0.cmp(&b.0).then_with(|| key(a.1).cmp(key(b.1))).then_with(|| a.1.cmp(&b.1))
    });
    let is_last = |at: usize| {
        let (head, this) = order[at];
        order.get(at + 1).is_none_or(|&(next_head, next)| head != next_head || key(this) != key(next))
    };
    sorted.extend((0..order.len()).filter(|&at| is_last(at)).map(|at| order[at].1 as usize));
}

/// How many bytes all keys begin with.
fn shared_bytes<'t>(numbers: &[u32], key: impl Fn(u32) -> &'t [u8]) -> usize {
    let Some((&first, rest)) = numbers.split_first() else { return 0 };
    let first = key(first);
    rest.iter().fold(first.len(), |shared, &at| {
        let common = first[..shared].iter().zip(key(at)).take_while(|(a, b)| a == b);
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
    fn changes_are_sorted_by_tree_and_key_and_the_last_of_equal_ones_stays() {
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
            let points: Points<'_> = keys
                .iter()
                .zip(&values)
                .map(|(key, value)| Point { core: &trees[rng.usize(0..=round % 3)], key, value: Some(value) })
                .collect();
            let mut expected: Vec<_> =
                points.iter().map(|point| (point.core.id, point.key, point.value)).collect();
            expected.sort_by(|a, b| (a.0, a.1).cmp(&(b.0, b.1)));
            let last = |at: usize| {
                expected.get(at + 1).is_none_or(|next| (next.0, next.1) != (expected[at].0, expected[at].1))
            };
            let expected = (0..expected.len()).filter(|&at| last(at)).map(|at| expected[at]);
            let points = sort(points);
            assert!(points.iter().map(|point| (point.core.id, point.key, point.value)).eq(expected));
        }
    }
}
