//! Where the pages are of trees that were dropped, and of subtrees that range deletes have detached.
//!
//! The first checkpoint at the LSN of the drop, or above, looks at what of such a tree is in memory, without reading a
//! page:
//!
//! | what | what becomes of its pages |
//! |---|---|
//! | a leaf in memory, whether it changed since it was written or not | known, and retired at once |
//! | an inner node that nothing changed below, and everything that is on disk only | noted: a *detached subtree* |
//! | another inner node | were discarded; its children are looked at |
//!
//! The detached subtrees stand in the manifest from then on, until [`Forest::give_back_step`](crate::Forest::give_back_step)
//! has walked them. So the space is accounted for whatever comes between, and no checkpoint waits for the walk. Where many
//! children of one node are noted, a page is written that names them, and is noted instead.

use std::sync::Arc;

use logwood_base::{KeyspaceId, Result};

use super::write::write_inner_page;
use super::{CheckpointJob, Phase, STEP_CHILDREN};
use crate::account::Class;
use crate::descent::TreeCore;
use crate::format::child::ChildEntry;
use crate::node::inner::Inner;
use crate::node::leaf::Leaf;
use crate::node::slot::Node;
use crate::shared::Shared;
use crate::store::{Detached, PageRef, Root};

/// Children of one node that the manifest names one by one.
const NAMED_ALONE_MAX: usize = 4;

/// The walk over the trees of one checkpoint that were dropped or detached.
#[derive(Default)]
pub(super) struct Detaching {
    pub(super) trees: Vec<Arc<TreeCore>>,
    /// How many of them were begun.
    begun: usize,
    /// The nodes that are being looked at, from the root down.
    stack: Vec<Frame>,
    /// What was found on disk.
    pub(super) roots: Vec<Detached>,
    /// Pages that nothing reaches any more.
    pub(super) pages: Vec<PageRef>,
    /// Pages that were written for the roots: in vain, when the checkpoint fails.
    pub(super) written: Vec<PageRef>,
}

/// An inner node that changed since it was written.
struct Frame {
    node: Arc<Inner>,
    low: Vec<u8>,
    next: usize,
    /// Children on disk, by their low keys.
    entries: Vec<(Vec<u8>, ChildEntry)>,
}

impl std::fmt::Debug for Detaching {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Detaching").field("trees", &self.trees.len()).finish_non_exhaustive()
    }
}

impl Detaching {
    pub(super) fn new(trees: Vec<Arc<TreeCore>>) -> Self {
        Self { trees, ..Self::default() }
    }

    /// Everything that was found; what is left knows of nothing.
    pub(super) fn take(&mut self) -> Self {
        std::mem::take(self)
    }

    /// Whether it is about this tree.
    pub(super) fn is_of(&self, core: &Arc<TreeCore>) -> bool {
        self.trees.iter().any(|tree| Arc::ptr_eq(tree, core))
    }

    /// Looks a little further. Answers whether all was found.
    fn step(&mut self, shared: &Shared) -> Result<bool> {
        for _ in 0..STEP_CHILDREN {
            if self.stack.last().is_some_and(|frame| frame.next == frame.node.slots().len()) {
                self.finish_frame(shared)?;
            } else if self.stack.is_empty() && self.begun == self.trees.len() {
                return Ok(true);
            } else {
                // Nothing moves in such a tree any more, but pages may still be loaded and evicted.
                let _writer = shared.writer.lock();
                self.look();
            }
        }
        Ok(false)
    }

    /// Looks at the next child, or at the root of the next tree.
    fn look(&mut self) {
        let guard = crossbeam_epoch::pin();
        let Some(frame) = self.stack.last_mut() else {
            let core = Arc::clone(&self.trees[self.begun]);
            self.begun += 1;
            match &*core.root.load(&guard) {
                Node::Leaf(leaf) => self.leaf(leaf),
                Node::Inner(node) => match node.exact_image() {
                    Some(image) => self.note(core.id, node.level(), image.entry),
                    None => self.enter(node, core.range.low.clone()),
                },
                Node::Cold(cold) => self.note(core.id, cold.level, cold.entry.clone()),
            }
            return;
        };
        let child = frame.next;
        frame.next += 1;
        let low = if child == 0 { frame.low.clone() } else { frame.node.separator(child - 1) };
        let node = Arc::clone(&frame.node);
        match &*node.slots()[child].load(&guard) {
            Node::Leaf(leaf) => self.leaf(leaf),
            Node::Inner(inner) => match inner.exact_image() {
                Some(image) => frame.entries.push((low, image.entry)),
                None => self.enter(inner, low),
            },
            Node::Cold(cold) => frame.entries.push((low, cold.entry.clone())),
        }
    }

    /// The pages of a leaf are its own, whether it changed since they were written or not.
    fn leaf(&mut self, leaf: &Leaf) {
        self.pages.append(&mut leaf.pages());
        // No checkpoint writes it any more.
        leaf.header().share.move_to(Class::Kept);
    }

    fn enter(&mut self, node: &Arc<Inner>, low: Vec<u8>) {
        self.stack.push(Frame { node: Arc::clone(node), low, next: 0, entries: Vec::new() });
    }

    fn note(&mut self, keyspace: KeyspaceId, level: u8, child: ChildEntry) {
        self.roots.push(Detached { keyspace, root: Root { level, child } });
    }

    fn finish_frame(&mut self, shared: &Shared) -> Result<()> {
        let keyspace = self.trees[self.begun - 1].id;
        let Some(Frame { node, low, entries, .. }) = self.stack.last() else { return Ok(()) };
        let level = node.level();
        let found: Vec<_> = if entries.len() <= NAMED_ALONE_MAX {
            entries.iter().map(|(_, entry)| (level - 1, entry.clone())).collect()
        } else {
            let entry = write_inner_page(shared, keyspace, level, low, entries)?;
            self.written.push(entry.page);
            vec![(level, entry)]
        };
        self.stack.pop();
        found.into_iter().for_each(|(level, entry)| self.note(keyspace, level, entry));
        Ok(())
    }
}

impl CheckpointJob {
    /// Looks for the pages of trees that were dropped or detached.
    pub(super) fn detach_some(&mut self) -> Result<()> {
        let shared = Arc::clone(&self.shared);
        if self.detaching.step(&shared)? {
            self.report.bytes += self.detaching.written.iter().map(|page| u64::from(page.bytes)).sum::<u64>();
            self.phase = Phase::Seal;
        }
        Ok(())
    }
}
