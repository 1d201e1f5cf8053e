//! The memory form of nodes.
//!
//! | module | what it holds |
//! |---|---|
//! | [`leaf`] | immutable sorted base, with a delta area beside it |
//! | [`content`] | what a leaf is built of: runs of old leaves, and new records |
//! | [`block`], [`arena`] | the memory of one leaf; memory of all leaves |
//! | [`delta`] | the newest changes of one leaf |
//! | [`entries`] | the entries of a delta area, and the memory of their bytes |
//! | `plan` | how the bytes of a leaf to be will lie |
//! | [`overflow`] | long values: where they stand on disk |
//! | [`inner`] | separators and child words |
//! | [`slot`] | one child word: leaf, inner node, or the address of a page on disk |
//! | [`view`] | a leaf as of one LSN |
//! | [`prefetch`] | having memory near before it is read |
//! | [`search`] | searching by key heads |

pub(crate) mod arena;
mod block;
pub(crate) mod content;
pub(crate) mod delta;
pub(crate) mod entries;
pub(crate) mod inner;
pub(crate) mod leaf;
pub(crate) mod overflow;
mod plan;
pub(crate) mod prefetch;
pub(crate) mod search;
pub(crate) mod slot;
pub(crate) mod view;

use logwood_base::Lsn;

use crate::format::child::ChildEntry;
use crate::format::page::PageRef;
use crate::version::cell::EpochCell;
use crate::version::{Part, Previous};

/// The disk form of a node: what its parent keeps about it, and the overflow pages of a leaf's long values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Image {
    pub(crate) entry: ChildEntry,
    pub(crate) overflow: Vec<PageRef>,
}

impl Image {
    /// Every page of the node itself.
    pub(crate) fn pages(&self) -> impl Iterator<Item = &PageRef> {
        self.entry.pages().chain(&self.overflow)
    }

    /// Every page of the node itself.
    pub(crate) fn into_pages(self) -> Vec<PageRef> {
        self.pages().copied().collect()
    }

    /// Whether this is `before` with a delta block more.
    pub(crate) fn extends(&self, before: &Self) -> bool {
        let deltas = before.entry.deltas.len();
        self.entry.page == before.entry.page
            && self.entry.deltas.get(..deltas) == Some(&before.entry.deltas[..])
    }
}

/// A node that is only on disk.
pub(crate) struct Cold {
    pub(crate) entry: ChildEntry,
    /// 0 for a leaf.
    pub(crate) level: u8,
    /// Older versions of a leaf that went to its page without ever having been in memory.
    pub(crate) past: EpochCell<Previous>,
}

impl Cold {
    /// A node whose page serves all LSNs.
    pub(crate) fn new(entry: ChildEntry, level: u8) -> Self {
        Self { entry, level, past: EpochCell::new(None) }
    }

    /// Whether it is the page of a leaf that does not serve `at`: what hangs behind it does.
    pub(crate) fn is_newer_than(&self, at: Lsn) -> bool {
        self.level == 0 && self.entry.newest_lsn() > at
    }

    /// A leaf whose page serves from its own LSN on.
    pub(crate) fn with_past(entry: ChildEntry, past: Vec<Part>) -> Self {
        Self { entry, level: 0, past: EpochCell::new(Previous::new(past)) }
    }
}

impl std::fmt::Debug for Cold {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cold").field("entry", &self.entry).field("level", &self.level).finish_non_exhaustive()
    }
}
