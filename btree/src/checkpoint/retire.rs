//! Pages that a checkpoint does not reach any more.

use std::sync::Arc;

use logwood_base::Result;

use super::CheckpointJob;
use crate::descent::TreeCore;
use crate::format::child::ChildEntry;
use crate::format::inner::InnerReader;
use crate::load::{read_leaf, undecodable};
use crate::node::slot::{Node, Slot};
#[cfg(test)]
use crate::planted::{Bug, planted};
use crate::shared::Shared;
use crate::store::{PageKind, PageRef};

/// Pages read in one step.
const STEP_PAGES: usize = 16;

/// Finds every page of trees that were dropped. Cold subtrees must be read for it: only leaves know the overflow
/// pages of their values.
#[derive(Default)]
pub(super) struct DroppedTrees {
    trees: Vec<Arc<TreeCore>>,
    /// How many of them were begun.
    begun: usize,
    /// Subtrees on disk that were not read yet.
    cold: Vec<ChildEntry>,
    pages: Vec<PageRef>,
}

impl std::fmt::Debug for DroppedTrees {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DroppedTrees").field("trees", &self.trees.len()).finish_non_exhaustive()
    }
}

impl DroppedTrees {
    pub(super) fn new(trees: Vec<Arc<TreeCore>>) -> Self {
        Self { trees, ..Self::default() }
    }

    /// Looks a little further. Answers whether all was found.
    pub(super) fn step(&mut self, shared: &Shared) -> Result<bool> {
        for _ in 0..STEP_PAGES {
            if let Some(entry) = self.cold.pop() {
                if let Err(error) = self.read(shared, &entry) {
                    self.cold.push(entry);
                    return Err(error);
                }
            } else if let Some(core) = self.trees.get(self.begun).cloned() {
                self.begun += 1;
                // Nothing moves in a tree that was dropped, but pages may still be loaded and evicted.
                let _writer = shared.writer.lock();
                self.resident(&core.root);
            } else {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The pages of what is in memory. Those of changed nodes are garbage already.
    fn resident(&mut self, slot: &Slot) {
        let guard = crossbeam_epoch::pin();
        let seen = slot.load(&guard);
        match &*seen {
            Node::Leaf(leaf) => {
                if let Some(image) = leaf.image().filter(|_| leaf.is_clean()) {
                    self.pages.extend(image.pages());
                }
            }
            Node::Inner(inner) => {
                if let Some(image) = inner.image() {
                    self.pages.extend(image.pages());
                }
                inner.slots().iter().for_each(|slot| self.resident(slot));
            }
            Node::Cold(cold) => self.cold.push(cold.entry.clone()),
        }
    }

    fn read(&mut self, shared: &Shared, entry: &ChildEntry) -> Result<()> {
        let page = match shared.store.read(&entry.page) {
            Ok(page) => page,
            Err(error) if error.corruption().is_some() => {
                // What hangs below a damaged page cannot be found, and is not worth failing every checkpoint.
                self.pages.extend(entry.pages());
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        self.pages.extend(entry.pages());
        if page.kind() == PageKind::Leaf {
            if let Ok(loaded) = read_leaf(&shared.store, &page, entry) {
                self.pages.extend(loaded.overflow);
            }
            return Ok(());
        }
        let decoding = |error| undecodable(&shared.store, &entry.page, error);
        let mut children = InnerReader::new(page.body()).map_err(decoding)?.iter();
        while let Some((_, child)) = children.next().map_err(decoding)? {
            self.cold.push(child);
        }
        Ok(())
    }
}

impl CheckpointJob {
    /// Tells the store which pages the trees at C do not reach any more, and answers those that they do not reach
    /// although they cannot be retired yet: later states below the change that replaced them may still use them.
    pub(super) fn retire(&mut self) -> Vec<PageRef> {
        let store = &self.shared.store;
        let mut writer = self.shared.writer.lock();
        let (at, number) = (self.snapshot.lsn(), self.number);
        let (gone, kept): (Vec<_>, Vec<_>) =
            std::mem::take(&mut writer.garbage).into_iter().partition(|garbage| {
                #[cfg(test)]
                if planted(Bug::RetiredWhileReached) {
                    return true;
                }
                garbage.from <= at && garbage.after_job < number
            });
        let unreached = kept
            .iter()
            .filter(|garbage| garbage.taken_up_by != number)
            .flat_map(|garbage| &garbage.pages)
            .filter(|page| !self.kept_beside_changes.contains(&page.addr))
            .copied()
            .collect();
        writer.garbage = kept;
        gone.iter().flat_map(|garbage| &garbage.pages).for_each(|page| store.retire(page));
        let dropped = std::mem::take(&mut self.dropped);
        dropped.pages.iter().for_each(|page| store.retire(page));
        writer.dropped.retain(|core| !dropped.trees.iter().any(|gone| gone.id == core.id));
        unreached
    }
}
