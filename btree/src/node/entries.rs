//! The entries of a delta area, and the memory of their keys and values.
//!
//! Bytes are written once, before the entry that points to them exists, and never move: several entries share an
//! allocation, which is freed with the area. So an entry that can be reached points to bytes that are whole.
#![allow(unsafe_code)]

use std::fmt;
use std::mem::MaybeUninit;
use std::ptr::NonNull;
use std::sync::OnceLock;

use logwood_base::Lsn;
use logwood_base::sync::Mutex;
use smallvec::SmallVec;

use super::delta::DELTA_SLOTS;

/// Entries that the first allocation has room for, when all are like the first one.
const FIRST_ENTRIES: usize = 4;
/// An allocation for several entries is not larger than this.
const CHUNK_BYTES: usize = 2 << 10;

/// One change.
pub(crate) struct DeltaEntry {
    pub(crate) lsn: Lsn,
    /// The first eight bytes of the key, padded with zeros: orders most keys without a look at them.
    head: u64,
    key_bytes: u32,
    value_bytes: u32,
    deleted: bool,
    /// Key, then value, in a chunk of the same [`Entries`].
    bytes: NonNull<u8>,
}

// SAFETY: the bytes behind the pointer are never written again and belong to nobody but the entries.
unsafe impl Send for DeltaEntry {}
// SAFETY: as above; sharing an entry shares bytes that nobody writes.
unsafe impl Sync for DeltaEntry {}

impl DeltaEntry {
    /// Key, then value.
    pub(super) fn all(&self) -> &[u8] {
        let length = self.key_bytes as usize + self.value_bytes as usize;
        // SAFETY: `Entries::set` wrote so many bytes there before it made the entry. An entry never leaves its
        // `Entries`, which frees the bytes when it is dropped and not before.
        unsafe { std::slice::from_raw_parts(self.bytes.as_ptr(), length) }
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
        (!self.deleted).then(|| &self.all()[self.key_bytes as usize..])
    }
}

impl fmt::Debug for DeltaEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeltaEntry").field("lsn", &self.lsn).field("key", &self.key()).finish_non_exhaustive()
    }
}

/// The slots of one area. Each is set once.
#[derive(Debug)]
pub(super) struct Entries {
    slots: [OnceLock<DeltaEntry>; DELTA_SLOTS],
    chunks: Mutex<Chunks>,
}

/// The allocations behind the entries.
#[derive(Debug, Default)]
struct Chunks {
    all: SmallVec<[NonNull<[MaybeUninit<u8>]>; 3]>,
    /// Bytes of the last one that are taken.
    used: usize,
}

// SAFETY: the chunks own their memory; a thread that holds the lock only hands out parts that nobody else has.
unsafe impl Send for Chunks {}

impl Entries {
    /// All slots empty.
    pub(super) fn new() -> Self {
        Self { slots: [const { OnceLock::new() }; DELTA_SLOTS], chunks: Mutex::default() }
    }

    /// Fills a slot: a put, or a delete when there is no value. Answers how much memory that took.
    pub(super) fn set(&self, at: usize, lsn: Lsn, key: &[u8], value: Option<&[u8]>) -> usize {
        let body = value.unwrap_or_default();
        let (bytes, taken) = self.chunks.lock().store(key, body, at);
        let mut head = [0u8; 8];
        let short = key.len().min(8);
        head[..short].copy_from_slice(&key[..short]);
        let before = self.slots[at].set(DeltaEntry {
            lsn,
            head: u64::from_be_bytes(head),
            key_bytes: key.len() as u32,
            value_bytes: body.len() as u32,
            deleted: value.is_none(),
            bytes,
        });
        assert!(before.is_ok(), "a published delta slot is never written again");
        taken
    }

    /// The entry of a slot that was set.
    pub(super) fn get(&self, at: usize) -> Option<&DeltaEntry> {
        self.slots[at].get()
    }

    /// The entries of the first slots.
    pub(super) fn first(&self, count: usize) -> impl DoubleEndedIterator<Item = &DeltaEntry> {
        self.slots[..count].iter().filter_map(OnceLock::get)
    }
}

impl Chunks {
    /// Copies a key and a value behind each other, `before` entries behind the first one. Answers where to, and how
    /// many bytes were allocated for that.
    fn store(&mut self, key: &[u8], value: &[u8], before: usize) -> (NonNull<u8>, usize) {
        let bytes = key.len() + value.len();
        let room = self.all.last().map_or(0, |chunk| chunk.len() - self.used);
        let mut taken = 0;
        if bytes > room || self.all.is_empty() {
            let entries = before.max(FIRST_ENTRIES).min(DELTA_SLOTS - before);
            taken = (bytes * entries).min(CHUNK_BYTES).max(bytes);
            let chunk = Box::leak(Box::<[u8]>::new_uninit_slice(taken));
            self.all.push(NonNull::from(chunk));
            self.used = 0;
        }
        let chunk = self.all[self.all.len() - 1];
        assert!(self.used + bytes <= chunk.len(), "the chunk has room");
        // SAFETY: inside the chunk, as just asserted.
        let to = unsafe { chunk.cast::<u8>().add(self.used) };
        // SAFETY: the chunk lives, and nobody was told of the bytes behind `used`; the key is elsewhere.
        unsafe { to.copy_from_nonoverlapping(NonNull::from(key).cast(), key.len()) };
        // SAFETY: still inside the chunk: key and value together have room.
        let behind = unsafe { to.add(key.len()) };
        // SAFETY: as for the key.
        unsafe { behind.copy_from_nonoverlapping(NonNull::from(value).cast(), value.len()) };
        self.used += bytes;
        (to, taken)
    }
}

impl Drop for Chunks {
    fn drop(&mut self) {
        for chunk in self.all.drain(..) {
            // SAFETY: `store` leaked this box, and each is taken back once. The entries go with the chunks.
            drop(unsafe { Box::from_raw(chunk.as_ptr()) });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_of_all_lengths_keep_their_bytes() {
        let mut rng = fastrand::Rng::with_seed(5);
        for _ in 0..300 {
            let entries = Entries::new();
            let longest = [1, 10, 300, 5000][rng.usize(0..4)];
            let mut bytes = |_| (0..rng.usize(0..longest)).map(|_| rng.u8(..)).collect::<Vec<u8>>();
            let records: Vec<(Vec<u8>, Vec<u8>)> =
                (0..DELTA_SLOTS).map(|at| (bytes(at), bytes(at))).collect();
            for (at, (key, value)) in records.iter().enumerate() {
                entries.set(at, Lsn(at as u64), key, (at % 5 != 4).then_some(value));
            }
            for (at, (entry, (key, value))) in entries.first(DELTA_SLOTS).zip(&records).enumerate() {
                assert_eq!(entry.key(), key);
                assert_eq!(entry.value(), (at % 5 != 4).then_some(&value[..]));
            }
        }
    }
}
