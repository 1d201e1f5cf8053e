//! Versions of leaves, and who needs them.
//!
//! A leaf that is rebuilt, split or merged at LSN L leaves its old form behind for readers below L. The new leaf names
//! it as [`Previous`]: one part per old leaf that its key range touches, each valid below the LSN at which that old
//! leaf was superseded. After a split both halves name the same old leaf; after a merge one leaf names two. The leaf that
//! takes over the range of subtrees which a range delete has detached names them all in one part: a tree of its own.
//!
//! A version that serves the LSNs from its base up to `valid_below` is *needed* while a registered snapshot or the
//! visible LSN lies in that range, or the range ends above the visible LSN. What is not needed is unlinked: at most
//! one version per live snapshot stays, and one for what is not published yet.
//!
//! A reader at the latest LSN that arrives too late finds a gap: nothing valid for its LSN. That happens only when a
//! newer LSN is visible by then, so it takes that one and tries again. A registered snapshot never finds a gap.

pub(crate) mod cell;
mod prune;
pub(crate) mod registry;

use std::borrow::Cow;
use std::sync::Arc;

use crossbeam_epoch::Guard;
use logwood_base::sync::atomic::{AtomicU64, Ordering};
use logwood_base::{Lsn, Result};

use cell::EpochCell;
#[cfg(test)]
pub(crate) use prune::LOOKS;
pub(crate) use prune::prune;
use registry::Needs;

use crate::descent::TreeCore;
use crate::node::leaf::Leaf;
use crate::node::slot::Node;
use crate::shared::Shared;

/// The versions before a leaf, by key.
pub(crate) struct Previous {
    /// Sorted by `low`; each part reaches to the next one's.
    parts: Vec<Part>,
    /// Releases of snapshots that were taken into account when this was looked through, plus one; 0 while that has to be
    /// done again anyway: see [`prune`].
    settled: AtomicU64,
}

/// One older leaf, or several in a tree.
#[derive(Clone)]
pub(crate) struct Part {
    /// The first key that the part answers for.
    pub(crate) low: Box<[u8]>,
    pub(crate) older: Older,
    /// Readers below this LSN, and not below the leaf's base, use it.
    pub(crate) valid_below: Lsn,
}

/// What served a key range before.
#[derive(Clone)]
pub(crate) enum Older {
    Leaf(Leaf),
    /// Subtrees that were detached whole. Nothing changes in them any more, but pages come and go.
    Tree(Arc<TreeCore>),
}

impl Older {
    /// The first LSN that it serves. Of a tree that is different for each leaf.
    fn base_lsn(&self) -> Lsn {
        match self {
            Self::Leaf(leaf) => leaf.base_lsn(),
            Self::Tree(_) => Lsn::ZERO,
        }
    }

    /// Whether both are the same.
    fn is(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Leaf(a), Self::Leaf(b)) => a.is(b),
            (Self::Tree(a), Self::Tree(b)) => Arc::ptr_eq(a, b),
            _ => false,
        }
    }
}

/// Which record of a leaf is sought.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Seek<'k> {
    /// The key itself, or the first one behind it.
    From(&'k [u8]),
    /// The greatest key below; below the end when there is none.
    Below(Option<&'k [u8]>),
}

/// The version of a leaf that serves an LSN, with the key range that it answers for.
pub(crate) struct Version<'l> {
    pub(crate) leaf: Cow<'l, Leaf>,
    /// `None`: from wherever the leaf in the tree does.
    pub(crate) low: Option<Vec<u8>>,
    /// `None`: to wherever the leaf in the tree does.
    pub(crate) high: Option<Vec<u8>>,
}

/// What serves an LSN, as far as it can be told without reading pages.
pub(crate) struct Stand<'l> {
    pub(crate) found: Found<'l>,
    /// As in [`Version`].
    pub(crate) low: Option<Vec<u8>>,
    /// As in [`Version`].
    pub(crate) high: Option<Vec<u8>>,
}

/// A leaf, or a tree in which the leaf is to be sought.
pub(crate) enum Found<'l> {
    Leaf(Cow<'l, Leaf>),
    Tree(Arc<TreeCore>),
}

impl Previous {
    /// A list of parts, sorted by `low`; `None` when there are none.
    pub(crate) fn new(parts: Vec<Part>) -> Option<Self> {
        debug_assert!(parts.windows(2).all(|pair| pair[0].low < pair[1].low), "parts are sorted");
        (!parts.is_empty()).then(|| Self { parts, settled: AtomicU64::new(0) })
    }

    /// The parts.
    pub(crate) fn parts(&self) -> &[Part] {
        &self.parts
    }

    /// Whether nothing of it can have become superfluous since it was last looked through.
    fn is_settled(&self, needs: &Needs) -> bool {
        self.settled.load(Ordering::Relaxed) == needs.releases() + 1
    }

    /// Notes that it was looked through. Below the visible LSN only registered snapshots need versions, and none is
    /// registered there any more: until one is released, what is needed now stays needed.
    fn settle(&self, needs: &Needs) {
        if self.parts.iter().all(|part| part.valid_below <= needs.visible()) {
            self.settled.store(needs.releases() + 1, Ordering::Relaxed);
        }
    }

    /// The number of the part that a seek falls into.
    fn part_of(&self, seek: Seek<'_>) -> usize {
        let behind = match seek {
            Seek::From(key) => self.parts.partition_point(|part| *part.low <= *key),
            Seek::Below(Some(key)) => self.parts.partition_point(|part| *part.low < *key),
            Seek::Below(None) => self.parts.len(),
        };
        behind.saturating_sub(1)
    }
}

/// The greater of two beginnings of ranges.
fn later(a: Option<Vec<u8>>, b: Option<&[u8]>) -> Option<Vec<u8>> {
    match (a, b) {
        (Some(a), Some(b)) if *a < *b => Some(b.to_vec()),
        (None, Some(b)) => Some(b.to_vec()),
        (a, _) => a,
    }
}

/// The lesser of two ends of ranges.
fn sooner(a: Option<Vec<u8>>, b: Option<&[u8]>) -> Option<Vec<u8>> {
    match (a, b) {
        (Some(a), Some(b)) if *a > *b => Some(b.to_vec()),
        (None, Some(b)) => Some(b.to_vec()),
        (a, _) => a,
    }
}

/// What serves `at` for what is sought below a leaf, in memory or not, or `None` where it has been let go.
pub(crate) fn stand_at<'l>(node: &'l Node, at: Lsn, seek: Seek<'_>, guard: &Guard) -> Option<Stand<'l>> {
    match node {
        Node::Leaf(leaf) if leaf.base_lsn() <= at => {
            Some(Stand { found: Found::Leaf(Cow::Borrowed(leaf)), low: None, high: None })
        }
        Node::Leaf(leaf) => stand_before(&leaf.header().prev, at, seek, guard),
        Node::Cold(cold) => stand_before(&cold.past, at, seek, guard),
        Node::Inner(_) => None,
    }
}

/// What serves `at` for what is sought, behind a leaf that is too new.
pub(crate) fn stand_before(
    before: &EpochCell<Previous>,
    at: Lsn,
    seek: Seek<'_>,
    guard: &Guard,
) -> Option<Stand<'static>> {
    let (mut low, mut high) = (None, None);
    let mut step = |before: &EpochCell<Previous>| {
        let previous = before.load(guard)?;
        let number = previous.part_of(seek);
        let part = &previous.parts[number];
        if part.valid_below <= at {
            return None;
        }
        // The first part reaches down to wherever its leaf does; the fences around it say where that is.
        if number > 0 {
            low = later(low.take(), Some(&part.low));
        }
        high = sooner(high.take(), previous.parts.get(number + 1).map(|next| &*next.low));
        Some(part.older.clone())
    };
    let mut older = step(before)?;
    loop {
        older = match older {
            Older::Leaf(leaf) if leaf.base_lsn() > at => step(&leaf.header().prev)?,
            Older::Leaf(leaf) => {
                return Some(Stand { found: Found::Leaf(Cow::Owned(leaf)), low, high });
            }
            Older::Tree(core) => return Some(Stand { found: Found::Tree(core), low, high }),
        };
    }
}

/// The version that serves `at` for what is sought below a leaf, in memory or too new to be read, or `None` where it has been
/// let go.
///
/// # Errors
/// `Corruption`, `Io` of a page of a detached tree.
pub(crate) fn version_at<'l>(
    shared: &Shared,
    node: &'l Node,
    at: Lsn,
    seek: Seek<'_>,
    guard: &Guard,
) -> Result<Option<Version<'l>>> {
    let Some(Stand { found, low, high }) = stand_at(node, at, seek, guard) else { return Ok(None) };
    match found {
        Found::Leaf(leaf) => Ok(Some(Version { leaf, low, high })),
        Found::Tree(core) => {
            let way = core.way_at(shared, seek, at, guard)?;
            let Some(version) = version_at(shared, &way.node, at, seek, guard)? else { return Ok(None) };
            let low = later(later(low, way.low().as_deref()), version.low.as_deref());
            let high = sooner(sooner(high, way.high().as_deref()), version.high.as_deref());
            Ok(Some(Version { leaf: Cow::Owned(version.leaf.into_owned()), low, high }))
        }
    }
}
