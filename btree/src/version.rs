//! Versions of leaves, and who needs them.
//!
//! A leaf that is rebuilt, split or merged at LSN L leaves its old form behind for readers below L. The new leaf names
//! it as [`Previous`]: one part per old leaf that its key range touches, each valid below the LSN at which that old
//! leaf was superseded. After a split both halves name the same old leaf; after a merge one leaf names two.
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

use crossbeam_epoch::Guard;
use logwood_base::Lsn;
use logwood_base::sync::atomic::{AtomicU64, Ordering};

#[cfg(test)]
pub(crate) use prune::LOOKS;
pub(crate) use prune::prune;
use registry::Needs;

use crate::node::leaf::Leaf;

/// The versions before a leaf, by key.
pub(crate) struct Previous {
    /// Sorted by `low`; each part reaches to the next one's.
    parts: Vec<Part>,
    /// Releases of snapshots that were taken into account when this was looked through, plus one; 0 while that has to be
    /// done again anyway: see [`prune`].
    settled: AtomicU64,
}

/// One older leaf.
#[derive(Clone)]
pub(crate) struct Part {
    /// The first key that the part answers for.
    pub(crate) low: Box<[u8]>,
    pub(crate) leaf: Leaf,
    /// Readers below this LSN, and not below the leaf's base, use it.
    pub(crate) valid_below: Lsn,
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
pub(crate) struct Version<'g> {
    pub(crate) leaf: &'g Leaf,
    pub(crate) low: Option<&'g [u8]>,
    pub(crate) high: Option<&'g [u8]>,
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

/// The version of `leaf` that serves `at` for what is sought, or `None` where it has been let go.
pub(crate) fn version_at<'g>(
    leaf: &'g Leaf,
    at: Lsn,
    seek: Seek<'_>,
    guard: &'g Guard,
) -> Option<Version<'g>> {
    let mut version = Version { leaf, low: None, high: None };
    while version.leaf.base_lsn() > at {
        let previous = version.leaf.header().prev.load(guard)?;
        let number = previous.part_of(seek);
        let part = &previous.parts[number];
        if part.valid_below <= at {
            return None;
        }
        // The first part reaches down to wherever its leaf does; the fences around it say where that is.
        if number > 0 {
            version.low = Some(version.low.map_or(&*part.low, |low| low.max(&*part.low)));
        }
        if let Some(next) = previous.parts.get(number + 1) {
            version.high = Some(version.high.map_or(&*next.low, |high| high.min(&*next.low)));
        }
        version.leaf = &part.leaf;
    }
    Some(version)
}
