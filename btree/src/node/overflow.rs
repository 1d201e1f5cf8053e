//! Long values in memory: where they stand on disk, instead of what they are.
//!
//! All versions of a leaf that show the same value share one [`OverflowValue`]. When a checkpoint moves the value, it tells
//! them all the new place. The place keeps the files that it names, for as long as anybody has it; who gives the pages up is
//! told in `docs/format/pages.md`.

use std::fmt;
use std::sync::Arc;

use logwood_base::PageAddr;
use logwood_base::sync::Mutex;
use logwood_base::sync::atomic::{AtomicBool, Ordering};

use crate::account::Account;
use crate::format::overflow::OverflowRef;
#[cfg(test)]
use crate::planted::{Bug, planted};
use crate::store::{Hold, PageRef, Store};

/// A value that stands in overflow pages.
pub(crate) struct OverflowValue {
    /// Length of the value.
    pub(crate) bytes: usize,
    /// Hash of key and value.
    pub(crate) record_hash: u128,
    place: Mutex<Arc<OverflowPlace>>,
    /// Whether the next checkpoint is to write it elsewhere.
    moving: AtomicBool,
    account: Arc<Account>,
}

/// The pages of a long value, whose files stay while this lives.
pub(crate) struct OverflowPlace {
    pub(crate) extents: Vec<PageRef>,
    _hold: Hold,
}

/// The value of a record in memory.
#[derive(Clone, Copy)]
pub(crate) enum RecordValue<'v> {
    /// Its bytes.
    Inline(&'v [u8]),
    /// Where they are.
    Overflow(&'v Arc<OverflowValue>),
}

impl OverflowValue {
    /// What a leaf's page says of a value. The pages cannot go meanwhile.
    pub(crate) fn new(reference: OverflowRef, store: &Store, account: &Arc<Account>) -> Self {
        let OverflowRef { total_bytes, record_hash, extents } = reference;
        let value = Self {
            bytes: usize::try_from(total_bytes).unwrap_or(usize::MAX),
            record_hash,
            place: Mutex::new(OverflowPlace::new(extents, store)),
            moving: AtomicBool::new(false),
            account: Arc::clone(account),
        };
        account.reference_bytes.fetch_add(value.memory_bytes(), Ordering::Relaxed);
        value
    }

    /// Where it stands now.
    pub(crate) fn place(&self) -> Arc<OverflowPlace> {
        Arc::clone(&self.place.lock())
    }

    /// What a leaf's page is to say of it.
    pub(crate) fn reference(&self) -> OverflowRef {
        let extents = self.place().extents.clone();
        OverflowRef { total_bytes: self.bytes as u64, record_hash: self.record_hash, extents }
    }

    /// Asks the next checkpoint to write it elsewhere, if one of its pages stands at `addr`.
    pub(crate) fn ask_to_move(&self, addr: PageAddr) {
        if self.place().extents.iter().any(|page| page.addr == addr) {
            self.moving.store(true, Ordering::Relaxed);
        }
    }

    /// Whether it is to be written elsewhere.
    pub(crate) fn is_moving(&self) -> bool {
        self.moving.load(Ordering::Relaxed)
    }

    /// A checkpoint has written it elsewhere.
    pub(crate) fn move_to(&self, extents: Vec<PageRef>, store: &Store) {
        #[cfg(test)]
        if planted(Bug::MovedValueIsNotTold) {
            return;
        }
        *self.place.lock() = OverflowPlace::new(extents, store);
        self.moving.store(false, Ordering::Relaxed);
    }

    /// Memory that it takes, about: the same wherever it stands, since values are always cut alike.
    pub(crate) fn memory_bytes(&self) -> usize {
        size_of::<Self>() + size_of::<OverflowPlace>() + self.place().extents.len() * size_of::<PageRef>()
    }
}

impl Drop for OverflowValue {
    fn drop(&mut self) {
        self.account.reference_bytes.fetch_sub(self.memory_bytes(), Ordering::Relaxed);
    }
}

impl OverflowPlace {
    fn new(extents: Vec<PageRef>, store: &Store) -> Arc<Self> {
        #[cfg(test)]
        if planted(Bug::LongValuesKeepNoFile) {
            return Arc::new(Self { extents, _hold: store.hold(&[]) });
        }
        let hold = store.hold(&extents);
        Arc::new(Self { extents, _hold: hold })
    }
}

impl<'v> RecordValue<'v> {
    /// Length of the value, wherever it is.
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Inline(bytes) => bytes.len(),
            Self::Overflow(value) => value.bytes,
        }
    }

    /// What of it stands in the leaf.
    pub(crate) const fn inline(&self) -> &'v [u8] {
        match self {
            Self::Inline(bytes) => bytes,
            Self::Overflow(_) => &[],
        }
    }

    /// The value that stands elsewhere, if it does.
    pub(crate) const fn overflow(&self) -> Option<&'v Arc<OverflowValue>> {
        match self {
            Self::Inline(_) => None,
            Self::Overflow(value) => Some(value),
        }
    }
}

impl fmt::Debug for OverflowValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OverflowValue").field("bytes", &self.bytes).finish_non_exhaustive()
    }
}

impl fmt::Debug for RecordValue<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Inline(bytes) => write!(f, "\"{}\"", bytes.escape_ascii()),
            Self::Overflow(value) => value.fmt(f),
        }
    }
}
