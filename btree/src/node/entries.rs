//! The entries of a delta area, and the memory of their keys and values.
//!
//! ```text
//! one object of the arena: owner, 16 slots | bytes of the first entries     more bytes: other objects
//! ```
//!
//! 1. Bytes are written once, before the entry that points to them, and never move; they go when the area goes.
//! 2. An entry is written once, before the count that covers it is stored with `Release`. Readers load the count with
//!    `Acquire` and look no further.
//! 3. Who appends holds the lock inside, so that no two can be given one slot.
#![allow(unsafe_code)]

use std::cell::UnsafeCell;
use std::fmt;
use std::mem::MaybeUninit;
use std::ptr::NonNull;
use std::sync::Arc;

use logwood_base::Lsn;
use logwood_base::sync::Mutex;
use logwood_base::sync::atomic::{AtomicPtr, AtomicU32, Ordering};
use smallvec::SmallVec;

use super::arena;
use super::delta::DELTA_SLOTS;
use crate::account::Account;

/// Entries that the first piece of memory has room for, when all are like the first one.
const FIRST_ENTRIES: usize = 4;
/// A piece of memory for several entries is not larger than this.
const CHUNK_BYTES: usize = 2 << 10;
/// The length of a value that is none.
const DELETED: u32 = u32::MAX;

/// One change.
pub(crate) struct DeltaEntry {
    pub(crate) lsn: Lsn,
    /// The first eight bytes of the key, padded with zeros: orders most keys without a look at them.
    pub(crate) head: u64,
    key_bytes: u32,
    value_bytes: u32,
    /// Key, then value, in the memory of the same [`Entries`].
    bytes: NonNull<u8>,
}

impl DeltaEntry {
    /// Key, then value.
    pub(super) fn all(&self) -> &[u8] {
        let value = if self.value_bytes == DELETED { 0 } else { self.value_bytes as usize };
        // SAFETY: `Area::push` wrote so many bytes there before it made the entry. An entry never leaves its area,
        // which gives the bytes back when it goes and not before.
        unsafe { std::slice::from_raw_parts(self.bytes.as_ptr(), self.key_bytes as usize + value) }
    }

    /// The changed key.
    pub(crate) fn key(&self) -> &[u8] {
        &self.all()[..self.key_bytes as usize]
    }

    /// How its key stands to another entry's.
    pub(crate) fn order(&self, other: &Self) -> std::cmp::Ordering {
        self.head.cmp(&other.head).then_with(|| self.key().cmp(other.key()))
    }

    /// Its new value; `None` when it was deleted.
    pub(crate) fn value(&self) -> Option<&[u8]> {
        (self.value_bytes != DELETED).then(|| &self.all()[self.key_bytes as usize..])
    }
}

impl fmt::Debug for DeltaEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeltaEntry").field("lsn", &self.lsn).field("key", &self.key()).finish_non_exhaustive()
    }
}

/// The first eight bytes of a key as a number that orders as the keys do.
pub(crate) fn head_of(key: &[u8]) -> u64 {
    match key.first_chunk() {
        Some(first) => u64::from_be_bytes(*first),
        None => {
            let mut padded = [0; 8];
            padded[..key.len()].copy_from_slice(key);
            u64::from_be_bytes(padded)
        }
    }
}

/// The entries of one leaf: none at first, then at most [`DELTA_SLOTS`].
pub(super) struct Entries {
    area: AtomicPtr<Area>,
    count: AtomicU32,
}

/// What is made at the first entry.
struct Area {
    /// Whose arena all this memory is of.
    account: Arc<Account>,
    /// Length of the object that begins with this.
    bytes: usize,
    writer: Mutex<Room>,
    slots: [UnsafeCell<MaybeUninit<DeltaEntry>>; DELTA_SLOTS],
}

/// Memory for the bytes of entries.
struct Room {
    next: NonNull<u8>,
    left: usize,
    /// Objects besides the area's own, with their lengths.
    more: SmallVec<[(NonNull<u8>, usize); 2]>,
}

// SAFETY: the area owns its memory. Slots are written under the lock inside, once each, and read only when the count
// says that they were; bytes are written before that and never again.
unsafe impl Send for Area {}
// SAFETY: sharing an area lets others read what is written no more, and append under the lock.
unsafe impl Sync for Area {}

const _: () = {
    assert!(align_of::<Area>() <= arena::ALIGNMENT, "objects of the arena are aligned for an area");
    assert!(DELETED as usize > logwood_base::limits::VALUE_BYTES_MAX, "no value is as long as none");
};

impl Entries {
    pub(super) const fn new() -> Self {
        Self { area: AtomicPtr::new(std::ptr::null_mut()), count: AtomicU32::new(0) }
    }

    /// How many entries readers may see.
    pub(super) fn len(&self) -> usize {
        self.count.load(Ordering::Acquire) as usize
    }

    fn area(&self) -> Option<&Area> {
        // SAFETY: a pointer that is not null came from `Area::new` and stays what it is until `self` is dropped.
        unsafe { self.area.load(Ordering::Acquire).as_ref() }
    }

    /// The entry at `at`, if readers may see it.
    pub(super) fn get(&self, at: usize) -> Option<&DeltaEntry> {
        if at >= self.len() {
            return None;
        }
        let slot = self.area()?.slots.get(at)?.get();
        // SAFETY: the count covers the slot, so it was written before and is never written again.
        let slot = unsafe { &*slot };
        // SAFETY: as above.
        Some(unsafe { slot.assume_init_ref() })
    }

    /// The first entries that readers may see.
    pub(super) fn first(&self, count: usize) -> impl DoubleEndedIterator<Item = &DeltaEntry> {
        (0..count).filter_map(|at| self.get(at))
    }

    /// Looks at the newest entry, beside which the next one goes: for nothing but to have its memory near.
    pub(super) fn warm(&self) {
        let newest = self.len().checked_sub(1).and_then(|at| self.get(at));
        std::hint::black_box(newest.map(|entry| entry.head));
    }

    /// Appends a put, or a delete when there is no value; `publish` is called before readers see it. Answers how much
    /// memory that took.
    ///
    /// # Panics
    /// When there is no room.
    pub(super) fn push(
        &self,
        lsn: Lsn,
        key: &[u8],
        value: Option<&[u8]>,
        account: &Arc<Account>,
        publish: impl FnOnce(usize),
    ) -> usize {
        let mut taken = 0;
        let area = match self.area() {
            Some(area) => area,
            None => {
                let bytes = key.len() + value.map_or(0, <[u8]>::len);
                let (area, size) = self.begin(bytes, account);
                taken = size;
                area
            }
        };
        let mut room = area.writer.lock();
        let at = self.count.load(Ordering::Relaxed) as usize;
        assert!(at < DELTA_SLOTS, "a full area takes no entry");
        let (bytes, grown) = room.store(key, value.unwrap_or_default(), at, account);
        let entry = DeltaEntry {
            lsn,
            head: head_of(key),
            key_bytes: key.len() as u32,
            value_bytes: value.map_or(DELETED, |value| value.len() as u32),
            bytes,
        };
        // SAFETY: the count does not cover the slot, so nobody reads it, and the lock keeps other writers away.
        unsafe { (*area.slots[at].get()).write(entry) };
        publish(at);
        self.count.store(at as u32 + 1, Ordering::Release);
        taken + grown
    }

    /// Makes the area, with room for some entries of so many bytes.
    fn begin(&self, entry_bytes: usize, account: &Arc<Account>) -> (&Area, usize) {
        let room = (entry_bytes * FIRST_ENTRIES).clamp(entry_bytes, CHUNK_BYTES.max(entry_bytes));
        let bytes = arena::rounded(size_of::<Area>() + room);
        let object = account.arena.take(bytes);
        // SAFETY: the object is longer than an area.
        let next = unsafe { object.add(size_of::<Area>()) };
        let left = bytes - size_of::<Area>();
        let area = Area {
            account: Arc::clone(account),
            bytes,
            writer: Mutex::new(Room { next, left, more: SmallVec::new() }),
            slots: [const { UnsafeCell::new(MaybeUninit::uninit()) }; DELTA_SLOTS],
        };
        let made = object.cast::<Area>();
        // SAFETY: the object is long enough, aligned to 64, and nobody else's.
        unsafe { made.write(area) };
        let null = std::ptr::null_mut();
        match self.area.compare_exchange(null, made.as_ptr(), Ordering::AcqRel, Ordering::Acquire) {
            // SAFETY: it was just written, and goes only with `self`.
            Ok(_) => (unsafe { made.as_ref() }, bytes),
            Err(other) => {
                // SAFETY: made above, and nobody has seen it.
                unsafe { Area::destroy(made) };
                // SAFETY: as in `area`.
                (unsafe { &*other }, 0)
            }
        }
    }
}

impl Room {
    /// Copies a key and a value behind each other, `before` entries behind the first one. Answers where to, and how
    /// much memory was taken for that.
    fn store(&mut self, key: &[u8], value: &[u8], before: usize, account: &Account) -> (NonNull<u8>, usize) {
        let bytes = key.len() + value.len();
        let mut taken = 0;
        if bytes > self.left {
            let entries = before.max(FIRST_ENTRIES).min(DELTA_SLOTS - before);
            taken = arena::rounded((bytes * entries).min(CHUNK_BYTES).max(bytes));
            self.next = account.arena.take(taken);
            self.left = taken;
            self.more.push((self.next, taken));
        }
        let to = self.next;
        // SAFETY: `left` bytes behind `next` are inside an object of this area, and nobody was told of them.
        unsafe { to.copy_from_nonoverlapping(NonNull::from(key).cast(), key.len()) };
        // SAFETY: key and value together have room.
        let behind = unsafe { to.add(key.len()) };
        // SAFETY: as for the key.
        unsafe { behind.copy_from_nonoverlapping(NonNull::from(value).cast(), value.len()) };
        // SAFETY: as above.
        self.next = unsafe { to.add(bytes) };
        self.left -= bytes;
        (to, taken)
    }
}

impl Area {
    /// Gives an area and all its memory back.
    ///
    /// # Safety
    /// `area` was made by `Entries::begin`, and is used no more.
    unsafe fn destroy(area: NonNull<Self>) {
        // SAFETY: the caller owns it; what was read is forgotten by the memory that is given back.
        let Self { account, bytes, writer, slots: _ } = unsafe { area.read() };
        for (object, length) in &writer.lock().more {
            // SAFETY: `store` took it with this length, and no entry is left that points into it.
            unsafe { account.arena.give_back(*object, *length) };
        }
        // SAFETY: `begin` took it with this length.
        unsafe { account.arena.give_back(area.cast(), bytes) };
    }
}

impl Drop for Entries {
    fn drop(&mut self) {
        if let Some(area) = NonNull::new(self.area.load(Ordering::Relaxed)) {
            // SAFETY: the pointer came from `begin`, and `&mut self` shows that nobody looks at it any more.
            unsafe { Area::destroy(area) };
        }
    }
}

impl fmt::Debug for Entries {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.first(self.len())).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_of_all_lengths_keep_their_bytes() {
        let mut rng = fastrand::Rng::with_seed(5);
        let account = Arc::new(Account::default());
        for _ in 0..300 {
            let entries = Entries::new();
            let longest = [1, 10, 300, 5000][rng.usize(0..4)];
            let mut bytes = |_| (0..rng.usize(0..longest)).map(|_| rng.u8(..)).collect::<Vec<u8>>();
            let records: Vec<(Vec<u8>, Vec<u8>)> =
                (0..DELTA_SLOTS).map(|at| (bytes(at), bytes(at))).collect();
            let mut published = Vec::new();
            for (at, (key, value)) in records.iter().enumerate() {
                let value = (at % 5 != 4).then_some(&value[..]);
                entries.push(Lsn(at as u64), key, value, &account, |at| published.push(at));
                assert_eq!(entries.len(), at + 1);
            }
            assert!(published.into_iter().eq(0..DELTA_SLOTS));
            assert!(entries.get(DELTA_SLOTS).is_none());
            for (at, (entry, (key, value))) in entries.first(DELTA_SLOTS).zip(&records).enumerate() {
                assert_eq!(entry.key(), key);
                assert_eq!(entry.value(), (at % 5 != 4).then_some(&value[..]));
            }
        }
    }
}
