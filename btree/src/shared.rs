//! What all handles of a forest share, and what only the holder of the writer's lock may touch.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::sync::{Arc, Weak};

use crossbeam_epoch::Guard;
use logwood_base::sync::atomic::{AtomicBool, Ordering};
use logwood_base::sync::{Mutex, RwLock};
use logwood_base::{KeyspaceId, Lsn, SegmentNo};

use crate::account::{Account, Class};
use crate::descent::TreeCore;
use crate::forest::ForestOptions;
use crate::node::Cold;
use crate::node::leaf::Leaf;
use crate::store::{Detached, PageLabel, PageRef, Store};
use crate::version::cell::EpochCell;
use crate::version::registry::Registry;
use crate::version::{self, Previous};

/// Versions looked through in one go when snapshots went away.
const TIDY_STEP: usize = 512;

/// Where the numbers begin under which the eviction finds trees that were dropped or detached: no keyspace is as high.
pub(crate) const LEFT_FROM: KeyspaceId = KeyspaceId(1 << 63);

/// The inside of a [`Forest`](crate::Forest).
pub(crate) struct Shared {
    pub(crate) options: ForestOptions,
    pub(crate) account: Arc<Account>,
    pub(crate) registry: Registry,
    pub(crate) store: Store,
    pub(crate) trees: RwLock<BTreeMap<KeyspaceId, Arc<TreeCore>>>,
    pub(crate) writer: Mutex<Writer>,
    /// Leaves that came into memory with versions behind them, for the writer to look after.
    pub(crate) loaded: Mutex<Vec<Leaf>>,
    /// Pages of leaves that were replaced, and that came into memory for readers of before.
    pub(crate) old_pages: Mutex<VecDeque<Weak<TreeCore>>>,
    /// Held by whoever writes pages ahead of every checkpoint, and by the commit of a checkpoint, which must know them all.
    /// Locked before the writer.
    pub(crate) writing_ahead: Mutex<()>,
    /// Held by whoever gives pages back. Locked before the writer.
    pub(crate) giving_back: Mutex<()>,
    /// Whether any node was ever on disk only: until then nothing need be loaded before a change.
    pub(crate) ever_cold: AtomicBool,
}

/// What the single writer knows.
#[derive(Default)]
pub(crate) struct Writer {
    /// The newest LSN that was applied.
    pub(crate) applied: Lsn,
    /// The state that the newest manifest holds.
    pub(crate) checkpoint: Lsn,
    /// Number of the last checkpoint job that was begun.
    pub(crate) job: u64,
    /// Whether one is under way.
    pub(crate) job_runs: bool,
    /// How far it has come, until its nodes learn their new addresses.
    pub(crate) walk: Option<WalkPosition>,
    /// Pages that trees reach no more, or will not from some LSN on.
    pub(crate) garbage: Vec<Garbage>,
    /// Dropped and detached trees that no checkpoint has found the pages of.
    pub(crate) dropped: Vec<Arc<TreeCore>>,
    /// Dropped and detached trees that somebody holds, for the eviction: under numbers of their own.
    pub(crate) left: BTreeMap<KeyspaceId, Weak<TreeCore>>,
    /// Subtrees on disk that no tree reaches, and whose pages were not given back yet. The manifest names them.
    pub(crate) detached: Vec<Detached>,
    /// Pages that were written for states which no checkpoint has come to.
    pub(crate) ahead: Vec<Ahead>,
    /// New leaves with versions behind them, in LSN order, until their LSN is visible.
    fresh: VecDeque<(Lsn, Aged)>,
    /// Leaves with versions behind them that snapshots hold.
    held: VecDeque<Aged>,
    /// How many of `held` are still to be looked at since a snapshot went away.
    held_unseen: usize,
    /// Where the eviction's clock hand stands.
    pub(crate) hand: (KeyspaceId, Vec<u8>),
    /// Calls of the eviction that are still to be skipped.
    pub(crate) eviction_pause: u32,
    /// Whether the next entry's leaves were brought into memory, and must stay there: see [`crate::preparation`].
    pub(crate) prepared: bool,
    /// Segments whose pages wait to be moved by the next checkpoint.
    pub(crate) marked: BTreeSet<SegmentNo>,
    /// Bytes of the nodes that were marked since the last checkpoint.
    pub(crate) marked_bytes: usize,
    /// The segment that is being marked, and its pages that were not looked at yet.
    pub(crate) marking: Option<(SegmentNo, Vec<PageLabel>)>,
}

/// Pages that the newest manifest may reach and a later one does not.
pub(crate) struct Garbage {
    pub(crate) pages: Vec<PageRef>,
    /// A checkpoint at this LSN or above does not reach them …
    pub(crate) from: Lsn,
    /// … if its job has a greater number: the one under way may have taken them up already.
    pub(crate) after_job: u64,
    /// The job under way that certainly has taken them up: its walk was past them. 0: none.
    pub(crate) taken_up_by: u64,
}

/// Pages that a checkpoint below an LSN does not reach.
pub(crate) struct Ahead {
    pub(crate) since: Lsn,
    pub(crate) pages: Vec<PageRef>,
}

/// A leaf with versions behind it, in memory or as the address of its page.
pub(crate) enum Aged {
    Leaf(Leaf),
    Cold(Arc<Cold>),
}

impl Aged {
    /// What hangs behind it.
    fn past(&self) -> &EpochCell<Previous> {
        match self {
            Self::Leaf(leaf) => &leaf.header().prev,
            Self::Cold(cold) => &cold.past,
        }
    }

    /// Whether it serves the newest state, as far as it can tell. Those before it are pruned through the one that does.
    fn is_current(&self) -> bool {
        match self {
            Self::Leaf(leaf) => leaf.superseded_at() == Lsn::MAX,
            Self::Cold(_) => true,
        }
    }
}

/// Where a page's node stands, to tell whether a walk is past it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place<'k> {
    pub(crate) keyspace: KeyspaceId,
    /// Any key of the node.
    pub(crate) key: &'k [u8],
}

/// How far the walk of the job under way has come: everything before was taken up.
#[derive(Clone, Debug)]
pub(crate) struct WalkPosition {
    pub(crate) keyspace: KeyspaceId,
    /// `None`: the whole tree.
    pub(crate) next: Option<Vec<u8>>,
}

impl WalkPosition {
    fn is_past(&self, place: Place<'_>) -> bool {
        place.keyspace < self.keyspace
            || place.keyspace == self.keyspace && self.next.as_ref().is_none_or(|next| place.key < &next[..])
    }
}

impl Writer {
    /// A writer that goes on behind `lsn`, which the newest manifest holds, with what that has still to give back.
    pub(crate) fn at(lsn: Lsn, detached: Vec<Detached>) -> Self {
        Self { applied: lsn, checkpoint: lsn, detached, ..Self::default() }
    }

    /// Notes that no state from `from` on reaches the pages of a node that stood at `place`.
    pub(crate) fn discard(&mut self, pages: Vec<PageRef>, from: Lsn, place: Place<'_>) {
        if pages.is_empty() {
            return;
        }
        let past = self.walk.as_ref().is_some_and(|walk| walk.is_past(place));
        let taken_up_by = if past { self.job } else { 0 };
        self.garbage.push(Garbage { pages, from, after_job: self.job, taken_up_by });
    }

    /// Notes that no state from `from` on reaches the pages. Not while a job walks.
    pub(crate) fn discard_pages(&mut self, pages: Vec<PageRef>, from: Lsn) {
        if !pages.is_empty() {
            self.garbage.push(Garbage { pages, from, after_job: self.job, taken_up_by: 0 });
        }
    }

    /// A tree, or a part of one, that nobody reaches any more but through older versions and handles.
    pub(crate) fn detach(&mut self, core: Arc<TreeCore>) {
        self.left.retain(|_, core| core.strong_count() > 0);
        let last = self.left.last_key_value().map_or(LEFT_FROM, |(last, _)| KeyspaceId(last.0 + 1));
        self.left.insert(last, Arc::downgrade(&core));
        self.dropped.push(core);
    }

    /// A leaf with versions behind it was made at `lsn`.
    pub(crate) fn made(&mut self, lsn: Lsn, leaf: &Leaf) {
        self.fresh.push_back((lsn, Aged::Leaf(leaf.clone())));
    }

    /// A page with versions behind it was written at `lsn`.
    pub(crate) fn made_cold(&mut self, lsn: Lsn, cold: &Arc<Cold>) {
        self.fresh.push_back((lsn, Aged::Cold(Arc::clone(cold))));
    }

    /// A page with versions behind it came into memory.
    pub(crate) fn loaded(&mut self, leaf: Leaf) {
        self.held.push_back(Aged::Leaf(leaf));
        self.held_unseen = self.held.len();
    }

    /// Unlinks versions that nobody needs any more, some at a time. Answers whether there is more to look at.
    pub(crate) fn tidy(&mut self, registry: &Registry, guard: &Guard) -> bool {
        if registry.take_released() {
            self.held_unseen = self.held.len();
        }
        let visible = registry.visible();
        if self.held_unseen == 0 && self.fresh.front().is_none_or(|(lsn, _)| *lsn > visible) {
            return false;
        }
        let needs = registry.needs();
        for _ in 0..self.held_unseen.min(TIDY_STEP) {
            self.held_unseen -= 1;
            let Some(leaf) = self.held.pop_front() else { break };
            if leaf.is_current() && version::prune(leaf.past(), &needs, guard) {
                self.held.push_back(leaf);
            }
        }
        while let Some((_, leaf)) = self.fresh.pop_front_if(|(lsn, _)| *lsn <= needs.visible()) {
            // Also one that was superseded meanwhile: the versions behind it are behind its successor too.
            if version::prune(leaf.past(), &needs, guard) && leaf.is_current() {
                self.held.push_back(leaf);
            }
        }
        self.held_unseen > 0
    }
}

impl Shared {
    /// The tree of a keyspace.
    pub(crate) fn tree(&self, keyspace: KeyspaceId) -> Option<Arc<TreeCore>> {
        self.trees.read().get(&keyspace).cloned()
    }

    /// Lets go of versions now if no writer is at work; else the writer will.
    pub(crate) fn tidy_if_idle(&self) {
        if let Some(mut writer) = self.writer.try_lock() {
            let guard = crossbeam_epoch::pin();
            self.take_loaded(&mut writer);
            while writer.tidy(&self.registry, &guard) {}
            guard.flush();
        }
    }

    /// Hands the writer the leaves that came into memory with versions behind them.
    pub(crate) fn take_loaded(&self, writer: &mut Writer) {
        let loaded = std::mem::take(&mut *self.loaded.lock());
        loaded.into_iter().for_each(|leaf| writer.loaded(leaf));
    }

    /// Notes that the page of a replaced leaf came into memory.
    pub(crate) fn note_old_page(&self, core: &Weak<TreeCore>) {
        let mut old_pages = self.old_pages.lock();
        while old_pages.pop_front_if(|first| first.strong_count() == 0).is_some() {}
        old_pages.push_back(Weak::clone(core));
    }

    /// Notes that a node is on disk only.
    pub(crate) fn note_cold(&self) {
        self.ever_cold.store(true, Ordering::Relaxed);
    }

    /// Whether any node was ever on disk only.
    pub(crate) fn has_cold(&self) -> bool {
        self.ever_cold.load(Ordering::Relaxed)
    }

    /// Bytes that count against the cache: what the tree serves from, versions not included.
    pub(crate) fn cached_bytes(&self) -> usize {
        self.account.bytes(Class::Clean) + self.account.bytes(Class::Dirty) + self.account.inner_bytes()
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Forest").field("store", &self.store).finish_non_exhaustive()
    }
}
