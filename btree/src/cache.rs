//! Keeping memory in its bounds: clean leaves go, by a clock with a second chance.
//!
//! A hand moves over the trees in key order, one lowest inner node at a time. A leaf that was used since the hand
//! came by is spared once. One that goes is replaced by the address of its page; readers that stand on it finish
//! first. An inner node whose children are all on disk goes the same way at the hand's next visit.
//!
//! What may go: the disk has it as it is, no version hangs behind it, and no snapshot is older than its newest
//! change: so whoever loads it again, at whatever LSN, finds what he would have found.
//!
//! Only the holder of the writer's lock evicts: the writer after each entry, and a reader that loaded a page when the
//! writer is idle.

use crossbeam_epoch::Guard;
use logwood_base::KeyspaceId;
use logwood_base::sync::atomic::Ordering;

use crate::account::Class;
use crate::descent::TreeCore;
use crate::node::Cold;
use crate::node::inner::Inner;
use crate::node::leaf::Leaf;
use crate::node::slot::Node;
#[cfg(test)]
use crate::planted::{Bug, planted};
use crate::shared::{Shared, Writer};
use crate::version;
use crate::version::registry::Needs;
use std::sync::Arc;

/// Inner nodes that the hand looks at in one go: bounds how long a writer or reader is held up. More of them when memory
/// is beyond its bound by this part of the cache: a checkpoint has made much of it clean.
const VISITS: usize = 8;
const VISITS_FAR: usize = 64;
const FAR_SHARE: usize = 16;
/// Calls that are skipped after the hand found nothing while most of memory is dirty: only a checkpoint helps then,
/// and looking for the few clean leaves would slow every writer down.
const PAUSE: u32 = 64;
/// Unlinked nodes that are left to the collector's own pace, which is to wake for every hundred calls, however large
/// nodes are. Beyond it it is asked to go on, so often: it takes some nodes each time, and needs three for those of now.
const RETIRED_BYTES: usize = 1 << 20;
const COLLECTIONS: usize = 16;
/// While no leaf may go, inner nodes without leaves are looked for once all of them take more than this part of the cache.
const INNER_SHARE: usize = 8;
/// Room that is made ahead of one entry is not more than this part of the cache.
const ROOM_SHARE: usize = 8;

impl Shared {
    /// Evicts a little if memory is over its bound and no writer is at work; else the writer will.
    pub(crate) fn evict_if_idle(&self, guard: &Guard) {
        if self.cached_bytes() > self.options.cache_bytes
            && let Some(mut writer) = self.writer.try_lock()
        {
            self.evict(&mut writer, self.options.cache_bytes, guard);
        }
    }

    /// Evicts ahead of loading, for so many leaves: once they are in memory, none goes before they are changed.
    pub(crate) fn make_room(&self, writer: &mut Writer, leaves: usize) {
        if leaves > 1 && self.has_cold() {
            let room = (leaves * self.options.leaf_bytes).min(self.options.cache_bytes / ROOM_SHARE);
            self.evict(writer, self.options.cache_bytes - room, &crossbeam_epoch::pin());
            self.collect();
        }
    }

    /// Has unlinked nodes freed, when there are many and no reader stands on them. The caller is not pinned, or nothing
    /// of this moment goes.
    pub(crate) fn collect(&self) {
        for _ in 0..COLLECTIONS {
            if self.account.bytes(Class::Retired) <= RETIRED_BYTES {
                break;
            }
            crossbeam_epoch::pin().flush();
        }
    }

    /// Evicts until no more than `bound` bytes are cached, or the hand has come a good way.
    pub(crate) fn evict(&self, writer: &mut Writer, bound: usize, guard: &Guard) {
        if writer.prepared {
            return;
        }
        let nothing_goes =
            self.account.bytes(Class::Clean) == 0 && self.account.inner_bytes() <= bound / INNER_SHARE;
        if self.cached_bytes() <= bound || nothing_goes {
            return;
        }
        if writer.eviction_pause > 0 {
            writer.eviction_pause -= 1;
            return;
        }
        self.take_loaded(writer);
        self.evict_old_pages(bound, guard);
        let before = self.account.evictions.load(Ordering::Relaxed);
        let needs = self.registry.needs();
        let far = self.cached_bytes() > bound + self.options.cache_bytes / FAR_SHARE;
        for _ in 0..if far { VISITS_FAR } else { VISITS } {
            if !self.move_hand(writer, &needs, guard) || self.cached_bytes() <= bound {
                break;
            }
        }
        let mostly_dirty = self.account.bytes(Class::Clean) < self.options.cache_bytes / 8
            && self.account.bytes(Class::Dirty) > self.options.cache_bytes / 2;
        if mostly_dirty && self.account.evictions.load(Ordering::Relaxed) == before {
            writer.eviction_pause = PAUSE;
        }
        guard.flush();
    }

    /// Evicts what only readers of before see, the one that came first first.
    fn evict_old_pages(&self, bound: usize, guard: &Guard) {
        while self.cached_bytes() > bound
            && let Some(core) = self.old_pages.lock().pop_front()
        {
            let Some(core) = core.upgrade() else { continue };
            let seen = core.root.load(guard);
            if let Some(leaf) = seen.leaf()
                && let Some(image) = leaf.image()
            {
                leaf.header().share.move_to(Class::Retired);
                core.root.replace(Node::Cold(Arc::new(Cold::new(image.entry, 0))), guard);
                self.account.evictions.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// Evicts everything that may go.
    #[cfg(test)]
    pub(crate) fn evict_everything(&self) {
        let mut writer = self.writer.lock();
        let guard = crossbeam_epoch::pin();
        self.evict_old_pages(0, &guard);
        let needs = self.registry.needs();
        writer.hand = Default::default();
        // Twice for the second chance, and once for the inner nodes of each level.
        for _ in 0..6 {
            while self.move_hand(&mut writer, &needs, &guard) {
                if writer.hand.0 > KeyspaceId(0) && self.tree_from(&writer, writer.hand.0).is_none() {
                    break;
                }
            }
            writer.hand = Default::default();
        }
    }

    /// Looks at the leaves of one inner node and moves the hand behind it. Answers false when there are no trees.
    fn move_hand(&self, writer: &mut Writer, needs: &Needs, guard: &Guard) -> bool {
        let (keyspace, key) = std::mem::take(&mut writer.hand);
        let Some((number, core)) = self.tree_from(writer, keyspace) else {
            // Behind the last tree: once more from the first.
            return keyspace > KeyspaceId(0);
        };
        let key = if number == keyspace { key } else { Vec::new() };
        let high = self.visit(&core, &key, needs, guard);
        writer.hand = match high {
            Some(high) => (number, high),
            None => (KeyspaceId(number.0.saturating_add(1)), Vec::new()),
        };
        true
    }

    /// The tree of this keyspace, or of the next one that has any; behind them, those that were dropped or detached and
    /// are read on.
    fn tree_from(&self, writer: &Writer, keyspace: KeyspaceId) -> Option<(KeyspaceId, Arc<TreeCore>)> {
        let found = self.trees.read().range(keyspace..).next().map(|(id, core)| (*id, Arc::clone(core)));
        found.or_else(|| {
            writer.left.range(keyspace..).find_map(|(number, core)| Some((*number, core.upgrade()?)))
        })
    }

    /// Evicts below one inner node; answers where the next one begins.
    fn visit(&self, core: &TreeCore, key: &[u8], needs: &Needs, guard: &Guard) -> Option<Vec<u8>> {
        // Upper nodes on the way are in memory, or everything below them is not.
        let (steps, inner, high) = core.resident_parent(key, guard);
        let Some(inner) = inner else { return high };
        let mut all_cold = true;
        for slot in inner.slots() {
            let seen = slot.load(guard);
            all_cold &= matches!(&*seen, Node::Cold(cold) if !version::prune(&cold.past, needs, guard));
            if let Some(leaf) = seen.leaf()
                && let Some(cold) = may_go(leaf, needs, guard)
            {
                self.ever_cold.store(true, Ordering::Relaxed);
                leaf.header().share.move_to(Class::Retired);
                slot.replace(Node::Cold(Arc::new(cold)), guard);
                self.account.evictions.fetch_add(1, Ordering::Relaxed);
            }
        }
        if all_cold && let Some((parent, child)) = steps.last() {
            self.evict_inner(parent, *child, inner, guard);
        }
        high
    }

    /// Puts the address of an inner node without children in memory in its place.
    fn evict_inner(&self, parent: &Inner, child: usize, inner: &Inner, guard: &Guard) {
        if let Some(image) = inner.exact_image() {
            let cold = Cold::new(image.entry, inner.level());
            parent.slots()[child].replace(Node::Cold(Arc::new(cold)), guard);
            self.account.evictions.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// The address that may take a leaf's place.
fn may_go(leaf: &Leaf, needs: &Needs, guard: &Guard) -> Option<Cold> {
    let oldest = needs.oldest();
    #[cfg(test)]
    let oldest = if planted(Bug::EvictionIgnoresSnapshots) { logwood_base::Lsn::MAX } else { oldest };
    if !leaf.is_clean() || leaf.newest_lsn() > oldest || leaf.take_referenced() {
        return None;
    }
    let held = version::prune(&leaf.header().prev, needs, guard);
    #[cfg(test)]
    let held = held && !planted(Bug::EvictionIgnoresSnapshots);
    if held {
        return None;
    }
    Some(Cold::new(leaf.image()?.entry, 0))
}
