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
mod prefetch;
pub(crate) mod search;
pub(crate) mod slot;
pub(crate) mod view;

use crate::format::child::ChildEntry;
use crate::format::page::PageRef;

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
#[derive(Debug)]
pub(crate) struct Cold {
    pub(crate) entry: ChildEntry,
    /// 0 for a leaf.
    pub(crate) level: u8,
}
