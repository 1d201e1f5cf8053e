//! How large a range is, about, and where to cut it.
//!
//! Every parent knows how many records a child had that is on disk only; a leaf in memory knows how many it has. What
//! is not known, the records below an inner node that changed since the last checkpoint, is estimated from its
//! siblings or from a few of its own children. So a key has a *rank*, about the number of records before it, which
//! costs one way down and a look at the children of each node on it, whatever the range holds; and a rank has a key.
//!
//! What a node's parent holds to be its size, and what the node itself finds when it is looked into, may differ. A rank
//! inside the node is then stretched to what the parent says: so ranks ascend with keys, whatever was estimated. Inside
//! a leaf they are exact: a tree that is one leaf is measured exactly.

use std::borrow::Cow;
use std::cell::Cell;

use crossbeam_epoch::Guard;
use logwood_base::{Error, Lsn, Result};

use crate::cursor::KeyRange;
use crate::descent::TreeCore;
use crate::node::inner::Inner;
use crate::node::leaf::Leaf;
use crate::node::slot::Node;
use crate::node::view::View;
use crate::shared::Shared;
use crate::version::{Seek, version_at};

/// Children of a node on the way that are looked into when they do not say how many records they hold.
const SAMPLES_ON_WAY: usize = 32;

/// The same, of a node beside the way.
const SAMPLES_BESIDE: usize = 12;

/// Leaves between both ends of a range that are looked at for how large its records are.
const LEAVES_BETWEEN: u128 = 6;

/// About how large a range is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct RangeSize {
    /// Records.
    pub records: u64,
    /// Bytes of their keys and values, before compression.
    pub bytes: u64,
}

struct Measuring<'s> {
    shared: &'s Shared,
    core: &'s TreeCore,
    guard: &'s Guard,
    at: Lsn,
    /// Records of the leaves that were looked at, and their bytes.
    seen: Cell<(u64, u64)>,
}

/// About how large a range is.
pub(crate) fn size(shared: &Shared, core: &TreeCore, range: &KeyRange) -> Result<RangeSize> {
    if range.is_empty() {
        return Ok(RangeSize::default());
    }
    let guard = crossbeam_epoch::pin();
    let measuring = Measuring::new(shared, core, &guard);
    let (low, high) = measuring.ranks(range)?;
    let records = high.saturating_sub(low);
    // The leaves at both ends were looked at on the way to their ranks; how large records are, others in between tell too.
    for part in 1..=LEAVES_BETWEEN {
        if measuring.seen.get().0 < records {
            let rank = u128::from(records) * part / (LEAVES_BETWEEN + 1);
            measuring.key_at(low.saturating_add(u64::try_from(rank).unwrap_or(u64::MAX)))?;
        }
    }
    let (seen, bytes) = measuring.seen.get();
    let bytes = u128::from(records) * u128::from(bytes) / u128::from(seen.max(1));
    Ok(RangeSize { records, bytes: u64::try_from(bytes).unwrap_or(u64::MAX) })
}

/// Up to `parts - 1` ascending keys inside a range, which cut it into parts of about as many records each.
pub(crate) fn split_keys(
    shared: &Shared,
    core: &TreeCore,
    range: &KeyRange,
    parts: usize,
) -> Result<Vec<Vec<u8>>> {
    let mut keys: Vec<Vec<u8>> = Vec::new();
    if range.is_empty() {
        return Ok(keys);
    }
    let guard = crossbeam_epoch::pin();
    let measuring = Measuring::new(shared, core, &guard);
    let (low, high) = measuring.ranks(range)?;
    let records = u128::from(high.saturating_sub(low));
    // There are not more places to cut at than there are records, however many parts are asked for.
    let parts = (parts as u128).min(records);
    for part in 1..parts {
        let rank = low.saturating_add(u64::try_from(records * part / parts).unwrap_or(u64::MAX));
        let key = measuring.key_at(rank)?;
        let inside = key > range.low && range.high.as_ref().is_none_or(|high| key < *high);
        if inside && keys.last().is_none_or(|last| *last < key) {
            keys.push(key);
        }
    }
    Ok(keys)
}

impl<'s> Measuring<'s> {
    fn new(shared: &'s Shared, core: &'s TreeCore, guard: &'s Guard) -> Self {
        Self { shared, core, guard, at: shared.registry.visible(), seen: Cell::new((0, 0)) }
    }

    /// The ranks at which a range begins and ends.
    fn ranks(&self, range: &KeyRange) -> Result<(u64, u64)> {
        let low = self.rank(Seek::From(&range.low))?;
        let high = range.high.as_deref();
        Ok((low, self.rank(high.map_or(Seek::Below(None), Seek::From))?))
    }

    /// About how many records stand before a key, or before the end.
    fn rank(&self, seek: Seek<'_>) -> Result<u64> {
        let way = self.core.way(self.shared, seek, self.guard)?;
        let leaf = self.visible(&way.node, seek)?;
        let view = View::new(&leaf, self.at);
        let place = match seek {
            Seek::From(key) | Seek::Below(Some(key)) => view.place_of(key),
            Seek::Below(None) => view.end(),
        };
        let mut rank = view.records(View::start(), place).count() as u64;
        let mut total = self.look_at(&view);
        for (inner, child) in way.steps.iter().rev() {
            let weights = self.weights(inner);
            rank = sum(&weights[..*child]).saturating_add(stretch(rank, total, weights[*child]));
            total = sum(&weights);
        }
        Ok(rank)
    }

    /// A key before which about so many records stand.
    fn key_at(&self, rank: u64) -> Result<Vec<u8>> {
        'restart: loop {
            let (mut left, mut total) = (rank, None);
            let mut low = Vec::new();
            let mut slot = &self.core.root;
            loop {
                let mut seen = slot.load(self.guard);
                if let Node::Cold(_) = &*seen {
                    seen = match self.shared.load_child(self.core, slot, &low, self.guard)? {
                        Some(seen) => seen,
                        None => continue 'restart,
                    };
                }
                let Some(inner) = seen.inner() else {
                    let leaf = self.visible(&seen, Seek::From(&low))?;
                    let view = View::new(&leaf, self.at);
                    let records = self.look_at(&view);
                    let nth = stretch(left, total.unwrap_or(records), records);
                    let nth = usize::try_from(nth).unwrap_or(usize::MAX);
                    let record = view.records(View::start(), view.end()).nth(nth);
                    return Ok(record.map_or(low, |record| record.key()));
                };
                let weights = self.weights(inner);
                let found = sum(&weights);
                left = stretch(left, total.unwrap_or(found), found);
                let mut child = 0;
                while child + 1 < weights.len() && left >= weights[child] {
                    left -= weights[child];
                    child += 1;
                }
                if child > 0 {
                    low = inner.separator(child - 1);
                }
                total = Some(weights[child]);
                slot = &inner.slots()[child];
            }
        }
    }

    /// Counts the records of a leaf, and notes how large they are.
    fn look_at(&self, view: &View<'_>) -> u64 {
        let (mut records, mut bytes) = (0, 0);
        for record in view.records(View::start(), view.end()) {
            records += 1;
            bytes += (record.key_bytes() + record.value.len()) as u64;
        }
        let seen = self.seen.get();
        self.seen.set((seen.0 + records, seen.1 + bytes));
        records
    }

    /// The version of a leaf that readers see.
    fn visible<'l>(&self, node: &'l Node, seek: Seek<'_>) -> Result<Cow<'l, Leaf>> {
        match (version_at(self.shared, node, self.at, seek, self.guard)?, node) {
            (Some(version), _) => Ok(version.leaf),
            (None, Node::Leaf(leaf)) => Ok(Cow::Borrowed(leaf)),
            _ => Err(lost()),
        }
    }

    /// About how many records stand below each child of a node on the way.
    fn weights(&self, inner: &Inner) -> Vec<u64> {
        let known: Vec<_> = inner.slots().iter().map(|slot| known(&slot.load(self.guard))).collect();
        let unknown: Vec<_> = (0..known.len()).filter(|child| known[*child].is_none()).collect();
        let sampled = SAMPLES_ON_WAY.min(unknown.len());
        let samples: Vec<u64> = (0..sampled)
            .map(|sample| {
                self.estimate(&inner.slots()[unknown[sample * unknown.len() / sampled]].load(self.guard))
            })
            .collect();
        let mut nth = 0;
        let estimated = known.into_iter().map(|known| {
            known.unwrap_or_else(|| {
                nth += 1;
                // All of them when there are few, else the nearest one that was looked into.
                samples[(nth - 1) * sampled / unknown.len()]
            })
        });
        estimated.collect()
    }

    /// About how many records stand below a node beside the way: as many for each child as below a few of them.
    fn estimate(&self, node: &Node) -> u64 {
        let inner = match (known(node), node) {
            (Some(records), _) => return records,
            (None, Node::Inner(inner)) => inner,
            (None, _) => return 0,
        };
        let children = inner.slots().len();
        let sampled = SAMPLES_BESIDE.min(children);
        let samples = (0..sampled).map(|sample| inner.slots()[sample * children / sampled].load(self.guard));
        let records: u128 = samples.map(|child| u128::from(self.estimate(&child))).sum();
        u64::try_from(records * children as u128 / sampled as u128).unwrap_or(u64::MAX)
    }
}

/// The sum of counts that stand on the disk: whoever can write checksums can make them any.
fn sum(counts: &[u64]) -> u64 {
    counts.iter().fold(0, |sum, count| sum.saturating_add(*count))
}

/// `rank` of `from` as a rank of `to`.
fn stretch(rank: u64, from: u64, to: u64) -> u64 {
    if from == to {
        return rank;
    }
    let stretched = u128::from(rank) * u128::from(to) / u128::from(from.max(1));
    u64::try_from(stretched).unwrap_or(u64::MAX)
}

/// How many records stand below a node, about, if it says so by itself.
fn known(node: &Node) -> Option<u64> {
    match node {
        Node::Cold(cold) => Some(cold.entry.digest.count),
        Node::Leaf(leaf) => Some((leaf.len() + leaf.delta().map_or(0, |delta| delta.len())) as u64),
        Node::Inner(inner) => Some(inner.exact_image()?.entry.digest.count),
    }
}

/// A way always ends in a leaf.
fn lost() -> Error {
    Error::Internal("a way did not end in a leaf".into())
}
