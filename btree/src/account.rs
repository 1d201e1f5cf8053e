//! Who holds how much memory.
//!
//! A leaf is counted in exactly one class, and moves between them under the writer's lock: *clean* (the tree serves
//! from it, and the disk has it too), *dirty* (changed since the last checkpoint), *kept* (an older version that a
//! snapshot or an unpublished change still needs) and *retired* (unlinked, waiting until no reader can stand on it).
//! The sum is what the trees hold in memory. Counting happens when nodes are made, superseded and freed, never when
//! they are read.

use std::sync::Arc;

use logwood_base::sync::Mutex;
use logwood_base::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};

use crate::node::arena::Arena;

/// The memory of one forest's nodes, and its counters.
#[derive(Debug, Default)]
pub(crate) struct Account {
    pub(crate) arena: Arena,
    bytes: [AtomicUsize; 4],
    inner_bytes: AtomicUsize,
    pub(crate) cold_reads: AtomicU64,
    pub(crate) overflow_reads: AtomicU64,
    /// Memory of references to long values, which is not the arena's.
    pub(crate) reference_bytes: AtomicUsize,
    pub(crate) evictions: AtomicU64,
    pub(crate) written: Mutex<PageWrites>,
    #[cfg(test)]
    /// Pieces that large entries were applied in; a test holds that none changes many leaves.
    pub(crate) pieces: AtomicU64,
    #[cfg(test)]
    /// Inner nodes that were built; a test holds that neighbours that split share their parent's.
    pub(crate) inners: AtomicU64,
    #[cfg(test)]
    /// Stores that readers made to memory which other readers share; a test holds that cached reads make none.
    pub(crate) shared_stores: AtomicU64,
}

/// What checkpoints have written since the forest was opened.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct PageWrites {
    /// Leaf images.
    pub leaves: u64,
    /// Delta blocks, in the place of a leaf image each.
    pub deltas: u64,
    /// Inner pages.
    pub inners: u64,
    /// Stored bytes of all pages, those of long values included.
    pub bytes: u64,
    /// Pages that had to be written for no other reason than that cleaning empties their segment.
    pub moved: u64,
}

/// The class a node is counted in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(crate) enum Class {
    /// The tree serves from it, and the last checkpoint has it as it is.
    Clean = 0,
    /// The tree serves from it.
    Dirty = 1,
    /// An older version that somebody needs.
    Kept = 2,
    /// Unlinked; freed when no reader can stand on it.
    Retired = 3,
}

const CLASSES: [Class; 4] = [Class::Clean, Class::Dirty, Class::Kept, Class::Retired];

impl Account {
    /// Bytes of one class of leaves.
    pub(crate) fn bytes(&self, class: Class) -> usize {
        self.bytes[class as usize].load(Ordering::Relaxed)
    }

    /// Bytes of inner nodes.
    pub(crate) fn inner_bytes(&self) -> usize {
        self.inner_bytes.load(Ordering::Relaxed)
    }

    /// Everything.
    pub(crate) fn resident(&self) -> usize {
        CLASSES.iter().map(|class| self.bytes(*class)).sum::<usize>() + self.inner_bytes()
    }
}

/// One leaf's share of the account; gives it back when dropped.
#[derive(Debug)]
pub(crate) struct Share {
    account: Arc<Account>,
    class: AtomicU8,
    bytes: AtomicUsize,
}

impl Share {
    /// Counts `bytes` as dirty.
    pub(crate) fn new(account: &Arc<Account>, bytes: usize) -> Self {
        account.bytes[Class::Dirty as usize].fetch_add(bytes, Ordering::Relaxed);
        Self {
            account: Arc::clone(account),
            class: AtomicU8::new(Class::Dirty as u8),
            bytes: AtomicUsize::new(bytes),
        }
    }

    /// The account that this is a share of.
    pub(crate) fn account(&self) -> &Arc<Account> {
        &self.account
    }

    /// Counts `more` bytes in the present class.
    pub(crate) fn grow(&self, more: usize) {
        self.bytes.fetch_add(more, Ordering::Relaxed);
        self.account.bytes[usize::from(self.class.load(Ordering::Relaxed))]
            .fetch_add(more, Ordering::Relaxed);
    }

    /// Bytes of this share.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Counts the bytes in another class from now on. Only the holder of the writer's lock moves shares.
    pub(crate) fn move_to(&self, class: Class) {
        let before = self.class.swap(class as u8, Ordering::Relaxed);
        let bytes = self.bytes();
        self.account.bytes[usize::from(before)].fetch_sub(bytes, Ordering::Relaxed);
        self.account.bytes[class as usize].fetch_add(bytes, Ordering::Relaxed);
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let class = usize::from(self.class.load(Ordering::Relaxed));
        self.account.bytes[class].fetch_sub(self.bytes(), Ordering::Relaxed);
    }
}

/// An inner node's share; gives it back when dropped.
#[derive(Debug)]
pub(crate) struct InnerShare {
    account: Arc<Account>,
    bytes: usize,
    retired: AtomicBool,
}

impl InnerShare {
    /// Counts `bytes`.
    pub(crate) fn new(account: &Arc<Account>, bytes: usize) -> Self {
        account.inner_bytes.fetch_add(bytes, Ordering::Relaxed);
        #[cfg(test)]
        account.inners.fetch_add(1, Ordering::Relaxed);
        Self { account: Arc::clone(account), bytes, retired: AtomicBool::new(false) }
    }

    /// The node was unlinked: it counts among what waits for readers from here on.
    pub(crate) fn retire(&self) {
        if !self.retired.swap(true, Ordering::Relaxed) {
            self.account.inner_bytes.fetch_sub(self.bytes, Ordering::Relaxed);
            self.account.bytes[Class::Retired as usize].fetch_add(self.bytes, Ordering::Relaxed);
        }
    }
}

impl Drop for InnerShare {
    fn drop(&mut self) {
        let account = &self.account;
        let counted = if self.retired.load(Ordering::Relaxed) {
            &account.bytes[Class::Retired as usize]
        } else {
            &account.inner_bytes
        };
        counted.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}
