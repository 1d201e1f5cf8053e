//! Changes in the order of trees and keys.
//!
//! Replay sorts a hundred thousand changes at a time, whose keys lie anywhere in memory: a comparison that looks at two
//! keys waits for both. So numbers are sorted: of each key the eight bytes behind what all of them begin with, and where
//! the change stood before. Keys are looked at where those bytes are equal, also to find out which changes are of one key.

use std::sync::Arc;

use logwood_base::{KeyspaceId, Result};

use super::{Change, ChangeKind, Point, Points, point};
use crate::descent::TreeCore;
use crate::node::entries::head_of;
use crate::node::prefetch::prefetch;

/// Below this many, keys are compared as they are.
const FEW: usize = 32;

/// Changes that are asked for together: they and their keys stay near until they are applied.
pub(super) const CHUNK_POINTS: usize = 4096;
/// What is asked for of a key at most.
const KEY_BYTES: usize = 128;

/// Puts and deletes in the order of trees and keys, by their numbers: of each key the last one alone. It takes so little that
/// who looks through changes keeps it until they are applied.
pub(super) struct Order(Vec<u32>);

impl Order {
    /// The order of puts and deletes.
    pub(super) fn of(changes: &[Change<'_>]) -> Self {
        Self(numbers(changes, place_of))
    }

    /// The changes that it is the order of, some at a time.
    pub(super) fn chunks<'t, 'a: 't>(
        &self,
        changes: &'t [Change<'a>],
        trees: &'t [Arc<TreeCore>],
    ) -> impl ExactSizeIterator<Item = Result<Vec<Point<'t>>>> {
        self.0.chunks(CHUNK_POINTS).map(move |numbers| points(changes, numbers, trees))
    }
}

/// Changes by their numbers, which lie anywhere, and so do their keys: all are asked for before the first one is looked at.
fn points<'t, 'a: 't>(
    changes: &[Change<'a>],
    numbers: &[u32],
    trees: &'t [Arc<TreeCore>],
) -> Result<Vec<Point<'t>>> {
    let change = |number: &u32| &changes[*number as usize];
    for number in numbers {
        prefetch(std::ptr::from_ref(change(number)).addr(), size_of::<Change<'_>>());
    }
    let mut points = Vec::with_capacity(numbers.len());
    for number in numbers {
        let point = point(change(number), trees)?;
        prefetch(point.key.as_ptr().addr(), point.key.len().min(KEY_BYTES));
        points.push(point);
    }
    Ok(points)
}

/// Where a put or a delete belongs.
fn place_of<'c>(change: &'c Change<'_>) -> (KeyspaceId, &'c [u8]) {
    let (ChangeKind::Put { key, .. }
    | ChangeKind::Delete { key }
    | ChangeKind::DeleteRange { from: key, .. }) = change.kind;
    (change.keyspace, key)
}

/// Sorts by tree and key. Of equal keys the last one stays.
pub(super) fn sort<'t>(mut points: Points<'t>) -> Points<'t> {
    let place = |point: &Point<'t>| -> (KeyspaceId, &'t [u8]) { (point.core.id, point.key) };
    if points.is_sorted_by(|a, b| place(a) < place(b)) {
        return points;
    }
    if points.len() <= FEW {
        points.sort_by(|a, b| place(a).cmp(&place(b)));
        // What is dropped is the second one of two.
        points.dedup_by(|next, kept| {
            let same = place(next) == place(kept);
            if same {
                *kept = *next;
            }
            same
        });
        return points;
    }
    in_order(&points, |point| (point.core.id, point.key)).into_iter().map(|at| points[at]).collect()
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
    numbers(items, place).into_iter().map(|at| at as usize).collect()
}

/// What [`in_order`] answers, in half the memory.
fn numbers<T>(items: &[T], place: impl Fn(&T) -> (KeyspaceId, &[u8])) -> Vec<u32> {
    let count = u32::try_from(items.len()).expect("fewer than four billion are sorted together");
    let mut numbers: Vec<u32> = (0..count).collect();
    if items.is_sorted_by(|a, b| place(a) < place(b)) {
        return numbers;
    }
    let keyspace = |at: &u32| place(&items[*at as usize]).0;
    numbers.sort_by_key(keyspace);
    let mut sorted = Vec::with_capacity(items.len());
    for run in numbers.chunk_by(|a, b| keyspace(a) == keyspace(b)) {
        sort_keys(run, |at| place(&items[at as usize]).1, &mut sorted);
    }
    sorted
}

/// Appends the numbers of one tree's items.
fn sort_keys<'t>(numbers: &[u32], key: impl Fn(u32) -> &'t [u8], sorted: &mut Vec<u32>) {
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
    sorted.extend((0..order.len()).filter(|&at| is_last(at)).map(|at| order[at].1));
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
