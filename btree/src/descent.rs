//! Finding the way from a root to a leaf, loading pages on the way where they are not in memory.

use std::cmp::Ordering;

use crossbeam_epoch::Guard;
use logwood_base::sync::atomic::{self, AtomicU64};
use logwood_base::{KeyspaceId, Lsn, Result};

use crate::node::inner::Inner;
use crate::node::slot::{Node, Seen, Slot};
use crate::shared::Shared;
use crate::version::Seek;

/// One tree: a root word.
pub(crate) struct TreeCore {
    pub(crate) id: KeyspaceId,
    pub(crate) root: Slot,
    /// The tree exists from this LSN on …
    pub(crate) created: Lsn,
    /// … and no longer from this one on; `u64::MAX` while it was not dropped.
    dropped: AtomicU64,
}

/// The inner nodes above a leaf, from the root down, with the number of the child that the way goes through.
pub(crate) type Steps<'g> = Vec<(&'g Inner, usize)>;

/// A way from the root to a node.
pub(crate) struct Way<'g> {
    pub(crate) steps: Steps<'g>,
    /// What stands at the end.
    pub(crate) node: Seen<'g>,
}

impl Way<'_> {
    /// Whether `key` is below the end of the node's range.
    pub(crate) fn reaches(&self, key: &[u8]) -> bool {
        let step = self.steps.iter().rev().find(|(inner, child)| child + 1 < inner.slots().len());
        step.is_none_or(|(inner, child)| inner.compare_separator(*child, key) == Ordering::Greater)
    }

    /// The first key of the node's range; `None`: from the beginning.
    pub(crate) fn low(&self) -> Option<Vec<u8>> {
        Self::low_of(&self.steps)
    }

    /// The first key of the range below some steps.
    pub(crate) fn low_of(steps: &[(&Inner, usize)]) -> Option<Vec<u8>> {
        let step = steps.iter().rev().find(|(_, child)| *child > 0);
        step.map(|(inner, child)| inner.separator(child - 1))
    }

    /// The first key behind the node's range; `None`: to the end.
    pub(crate) fn high(&self) -> Option<Vec<u8>> {
        let step = self.steps.iter().rev().find(|(inner, child)| child + 1 < inner.slots().len());
        step.map(|(inner, child)| inner.separator(*child))
    }
}

fn child_of(inner: &Inner, seek: Seek<'_>) -> usize {
    match seek {
        Seek::From(key) => inner.child_of(key),
        Seek::Below(Some(key)) => inner.child_below(key),
        Seek::Below(None) => inner.slots().len() - 1,
    }
}

impl TreeCore {
    /// A tree over `root`.
    pub(crate) fn new(id: KeyspaceId, root: Node, created: Lsn) -> Self {
        Self { id, root: Slot::new(root), created, dropped: AtomicU64::new(u64::MAX) }
    }

    /// Notes that the tree is gone from `lsn` on.
    pub(crate) fn drop_at(&self, lsn: Lsn) {
        self.dropped.store(lsn.0, atomic::Ordering::Release);
    }

    /// From which LSN on the tree does not exist.
    pub(crate) fn dropped(&self) -> Lsn {
        Lsn(self.dropped.load(atomic::Ordering::Acquire))
    }

    /// Whether the tree exists at `lsn`.
    pub(crate) fn exists_at(&self, lsn: Lsn) -> bool {
        self.created <= lsn && lsn < self.dropped()
    }

    /// The leaf that holds `key`. The way that every read takes: nothing is noted on it.
    pub(crate) fn leaf_of<'g>(&self, shared: &Shared, key: &[u8], guard: &'g Guard) -> Result<Seen<'g>> {
        'restart: loop {
            let mut seen = self.root.load(guard);
            let mut level = None;
            while let Some(inner) = seen.inner() {
                let slot = &inner.slots()[inner.child_of(key)];
                seen = slot.load(guard);
                level = Some(inner.level() - 1);
                if let Node::Cold(_) = &*seen {
                    seen = match shared.load_child(self, slot, level, key, guard)? {
                        Some(seen) => seen,
                        None => continue 'restart,
                    };
                }
            }
            if let Node::Cold(_) = &*seen {
                // Only a root gets here: children were loaded on the way.
                shared.load_child(self, &self.root, level, key, guard)?;
                continue 'restart;
            }
            return Ok(seen);
        }
    }

    /// The way to the leaf, in memory, that a seek falls into.
    pub(crate) fn way<'g>(&self, shared: &Shared, seek: Seek<'_>, guard: &'g Guard) -> Result<Way<'g>> {
        'restart: loop {
            let mut steps: Steps<'g> = Vec::with_capacity(4);
            let mut slot = &self.root;
            loop {
                let mut seen = slot.load(guard);
                if let Node::Cold(_) = &*seen {
                    let level = steps.last().map(|(inner, _)| inner.level() - 1);
                    let key = match seek {
                        Seek::From(key) | Seek::Below(Some(key)) => key,
                        Seek::Below(None) => &[],
                    };
                    seen = match shared.load_child(self, slot, level, key, guard)? {
                        Some(seen) => seen,
                        None => continue 'restart,
                    };
                }
                let Some(inner) = seen.inner() else { return Ok(Way { steps, node: seen }) };
                let child = child_of(inner, seek);
                steps.push((inner, child));
                slot = &inner.slots()[child];
            }
        }
    }

    /// The way to the topmost node at or below `level`, without loading it.
    pub(crate) fn way_to_level<'g>(
        &self,
        shared: &Shared,
        key: &[u8],
        level: u8,
        guard: &'g Guard,
    ) -> Result<Way<'g>> {
        'restart: loop {
            let mut steps: Steps<'g> = Vec::with_capacity(4);
            let mut slot = &self.root;
            let mut here = None;
            loop {
                let mut seen = slot.load(guard);
                if matches!(&*seen, Node::Cold(_)) && here.is_none_or(|here| here > level) {
                    seen = match shared.load_child(self, slot, here, key, guard)? {
                        Some(seen) => seen,
                        None => continue 'restart,
                    };
                }
                let Some(inner) = seen.inner().filter(|inner| inner.level() > level) else {
                    return Ok(Way { steps, node: seen });
                };
                let child = inner.child_of(key);
                steps.push((inner, child));
                slot = &inner.slots()[child];
                here = Some(inner.level() - 1);
            }
        }
    }
}
