//! Finding the way from a root to a leaf, loading pages on the way where they are not in memory.

use std::cmp::Ordering;
use std::sync::{Arc, OnceLock, Weak};

use crossbeam_epoch::Guard;
use logwood_base::sync::atomic::{self, AtomicU64};
use logwood_base::{KeyspaceId, Lsn, Result};
use smallvec::SmallVec;

use crate::cursor::KeyRange;
use crate::node::inner::Inner;
use crate::node::slot::{Node, Seen, Slot};
use crate::node::{Cold, Image};
use crate::shared::Shared;
use crate::store::{PageRef, Pin};
use crate::version::Seek;

/// One tree: a root word.
pub(crate) struct TreeCore {
    pub(crate) id: KeyspaceId,
    pub(crate) root: Slot,
    /// The tree exists from this LSN on …
    pub(crate) created: Lsn,
    /// … and no longer from this one on; `u64::MAX` while it was not dropped.
    dropped: AtomicU64,
    /// Keeps the files of a dropped tree for as long as somebody holds the tree.
    pin: OnceLock<Pin>,
    /// The keys that it may hold: all, unless it was detached from another one.
    pub(crate) range: KeyRange,
    /// If it is no more than the image of a leaf that another one has replaced, whose pages are garbage as such.
    pub(crate) old_page: Option<OldPage>,
}

/// What must be known of a replaced leaf that only its page stands for.
pub(crate) struct OldPage {
    /// Itself, for the eviction.
    pub(crate) tree: Weak<TreeCore>,
    /// The pages of its long values, which an address does not tell.
    pub(crate) overflow: Vec<PageRef>,
}

/// The inner nodes above a leaf, from the root down, with the number of the child that the way goes through.
/// Few trees are higher than there is room in place.
pub(crate) type Steps<'g> = SmallVec<[(&'g Inner, usize); 4]>;

/// A way from the root to a node.
pub(crate) struct Way<'g> {
    pub(crate) steps: Steps<'g>,
    /// What stands at the end.
    pub(crate) node: Seen<'g>,
    /// Whether this way has brought it into memory.
    pub(crate) loaded: bool,
}

impl Way<'_> {
    /// Whether `key` is below the end of the node's range.
    pub(crate) fn reaches(&self, key: &[u8]) -> bool {
        Self::reaches_below(&self.steps, key)
    }

    /// Whether `key` is below the end of the range below some steps.
    pub(crate) fn reaches_below(steps: &[(&Inner, usize)], key: &[u8]) -> bool {
        let step = steps.iter().rev().find(|(inner, child)| child + 1 < inner.slots().len());
        step.is_none_or(|(inner, child)| inner.compare_separator(*child, key) == Ordering::Greater)
    }

    /// Whether a key is in the node's range.
    pub(crate) fn covers(&self, key: &[u8]) -> bool {
        self.low().is_none_or(|low| &low[..] <= key) && self.reaches(key)
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
        Self {
            id,
            root: Slot::new(root),
            created,
            dropped: AtomicU64::new(u64::MAX),
            pin: OnceLock::new(),
            range: KeyRange { low: Vec::new(), high: None },
            old_page: None,
        }
    }

    /// The image of a leaf over `range` that the entry at `lsn` has replaced.
    pub(crate) fn old_page(id: KeyspaceId, image: Image, range: KeyRange, lsn: Lsn, pin: Pin) -> Arc<Self> {
        let page = Node::Cold(Arc::new(Cold::new(image.entry, 0)));
        Arc::new_cyclic(|tree| {
            let old_page = Some(OldPage { tree: Weak::clone(tree), overflow: image.overflow });
            Self { old_page, ..Self::detached(id, page, range, lsn, pin) }
        })
    }

    /// Subtrees over `range` that the entry at `lsn` has detached. It exists for readers of older versions only.
    pub(crate) fn detached(id: KeyspaceId, root: Node, range: KeyRange, lsn: Lsn, pin: Pin) -> Self {
        let core = Self { range, ..Self::new(id, root, lsn) };
        core.drop_at(lsn, pin);
        core
    }

    /// Notes that the tree is gone from `lsn` on.
    pub(crate) fn drop_at(&self, lsn: Lsn, pin: Pin) {
        // Set once: a tree is dropped once.
        let _ = self.pin.set(pin);
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

    /// The leaf that holds `key`.
    pub(crate) fn leaf_of<'g>(&self, shared: &Shared, key: &[u8], guard: &'g Guard) -> Result<Seen<'g>> {
        self.leaf_at(shared, key, Lsn::MAX, guard)
    }

    /// The leaf that holds `key`, if it is in memory.
    pub(crate) fn leaf_in_memory<'g>(&self, key: &[u8], guard: &'g Guard) -> Option<Seen<'g>> {
        let mut seen = self.root.load(guard);
        while let Some(inner) = seen.inner() {
            seen = inner.slots()[inner.child_of(key)].load(guard);
        }
        seen.leaf().is_some().then_some(seen)
    }

    /// The leaf that holds `key`, or the address of its page where that is too new for `at` and not in memory. The way that
    /// every read takes: nothing is noted on it.
    pub(crate) fn leaf_at<'g>(
        &self,
        shared: &Shared,
        key: &[u8],
        at: Lsn,
        guard: &'g Guard,
    ) -> Result<Seen<'g>> {
        'restart: loop {
            let mut seen = self.root.load(guard);
            while let Some(inner) = seen.inner() {
                let slot = &inner.slots()[inner.child_of(key)];
                seen = slot.load(guard);
                if let Node::Cold(cold) = &*seen {
                    if cold.is_newer_than(at) {
                        return Ok(seen);
                    }
                    seen = match shared.load_child(self, slot, key, guard)? {
                        Some(seen) => seen,
                        None => continue 'restart,
                    };
                }
            }
            if let Node::Cold(cold) = &*seen {
                if cold.is_newer_than(at) {
                    return Ok(seen);
                }
                // Only a root gets here: children were loaded on the way.
                shared.load_child(self, &self.root, key, guard)?;
                continue 'restart;
            }
            return Ok(seen);
        }
    }

    /// The way to the leaf, in memory, that a seek falls into.
    pub(crate) fn way<'g>(&self, shared: &Shared, seek: Seek<'_>, guard: &'g Guard) -> Result<Way<'g>> {
        self.way_at(shared, seek, Lsn::MAX, guard)
    }

    /// The way to the leaf that a seek falls into, or to the address of its page where that is too new for `at` and not in
    /// memory.
    pub(crate) fn way_at<'g>(
        &self,
        shared: &Shared,
        seek: Seek<'_>,
        at: Lsn,
        guard: &'g Guard,
    ) -> Result<Way<'g>> {
        'restart: loop {
            let mut steps: Steps<'g> = Steps::new();
            let mut slot = &self.root;
            loop {
                let mut seen = slot.load(guard);
                let mut loaded = false;
                if let Node::Cold(cold) = &*seen
                    && !cold.is_newer_than(at)
                {
                    loaded = true;
                    let key = match seek {
                        Seek::From(key) | Seek::Below(Some(key)) => key,
                        Seek::Below(None) => &[],
                    };
                    seen = match shared.load_child(self, slot, key, guard)? {
                        Some(seen) => seen,
                        None => continue 'restart,
                    };
                }
                let Some(inner) = seen.inner() else { return Ok(Way { steps, node: seen, loaded }) };
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
            let mut steps: Steps<'g> = Steps::new();
            let mut slot = &self.root;
            loop {
                let mut seen = slot.load(guard);
                if matches!(&*seen, Node::Cold(cold) if cold.level > level) {
                    seen = match shared.load_child(self, slot, key, guard)? {
                        Some(seen) => seen,
                        None => continue 'restart,
                    };
                }
                let Some(inner) = seen.inner().filter(|inner| inner.level() > level) else {
                    return Ok(Way { steps, node: seen, loaded: false });
                };
                let child = inner.child_of(key);
                steps.push((inner, child));
                slot = &inner.slots()[child];
            }
        }
    }

    /// The lowest inner node above `key` whose way down is in memory, if it stands right above leaves; the way to it;
    /// and where the part of the tree behind it begins. Loads nothing.
    pub(crate) fn resident_parent<'g>(&self, key: &[u8], guard: &'g Guard) -> Resident<'g> {
        let mut steps: Steps<'g> = Steps::new();
        let mut high = None;
        let mut seen = self.root.load(guard);
        while let Some(inner) = seen.inner() {
            if inner.level() == 1 {
                return (steps, Some(inner), high);
            }
            let child = inner.child_of(key);
            if child + 1 < inner.slots().len() {
                high = Some(inner.separator(child));
            }
            steps.push((inner, child));
            seen = inner.slots()[child].load(guard);
        }
        (steps, None, high)
    }
}

/// What [`TreeCore::resident_parent`] finds.
pub(crate) type Resident<'g> = (Steps<'g>, Option<&'g Inner>, Option<Vec<u8>>);
