//! The delta area of a leaf: its newest changes, append-only.
//!
//! One writer appends; any number of readers look, without locks. An entry is whole before the count that covers it
//! is stored with `Release`; a reader loads the count with `Acquire` and looks no further. LSNs never decrease from
//! slot to slot, so what a reader must not see yet stands at the end.
//!
//! Each entry has a fingerprint of one byte. A reader compares all of them at once and touches only entries that are
//! probably its own.

use std::sync::OnceLock;

use logwood_base::Lsn;
use logwood_base::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};

/// Entries of one area. More would make reads search longer, fewer would make leaves be rebuilt more often.
pub(crate) const DELTA_SLOTS: usize = 16;

const LANES: u64 = 0x0101_0101_0101_0101;

/// The newest changes of one leaf.
#[derive(Debug)]
pub(crate) struct DeltaArea {
    count: AtomicU32,
    fingerprints: [AtomicU64; DELTA_SLOTS / 8],
    /// Bytes of keys and values, for the writer.
    bytes: AtomicUsize,
    slots: [OnceLock<DeltaEntry>; DELTA_SLOTS],
}

/// One change.
#[derive(Debug)]
pub(crate) struct DeltaEntry {
    pub(crate) lsn: Lsn,
    /// The first eight bytes of the key, padded with zeros: orders most keys without a look at them.
    head: u64,
    key_bytes: u32,
    deleted: bool,
    /// Key, then value.
    bytes: Box<[u8]>,
}

impl DeltaEntry {
    /// A put, or a delete when there is no value.
    pub(crate) fn new(lsn: Lsn, key: &[u8], value: Option<&[u8]>) -> Self {
        let body = value.unwrap_or_default();
        let mut bytes = Vec::with_capacity(key.len() + body.len());
        bytes.extend_from_slice(key);
        bytes.extend_from_slice(body);
        let mut head = [0u8; 8];
        let short = key.len().min(8);
        head[..short].copy_from_slice(&key[..short]);
        let head = u64::from_be_bytes(head);
        Self {
            lsn,
            head,
            key_bytes: key.len() as u32,
            deleted: value.is_none(),
            bytes: bytes.into_boxed_slice(),
        }
    }

    /// The changed key.
    pub(crate) fn key(&self) -> &[u8] {
        &self.bytes[..self.key_bytes as usize]
    }

    /// How its key stands to another entry's.
    pub(crate) fn order(&self, other: &Self) -> std::cmp::Ordering {
        self.head.cmp(&other.head).then_with(|| self.key().cmp(other.key()))
    }

    /// Its new value; `None` when it was deleted.
    pub(crate) fn value(&self) -> Option<&[u8]> {
        (!self.deleted).then(|| &self.bytes[self.key_bytes as usize..])
    }
}

/// One byte that differs for most different keys.
pub(crate) fn fingerprint(key: &[u8]) -> u8 {
    let word = |bytes: &[u8]| {
        let mut padded = [0u8; 8];
        padded[..bytes.len()].copy_from_slice(bytes);
        u64::from_le_bytes(padded)
    };
    let first = word(&key[..key.len().min(8)]);
    let last = word(&key[key.len().saturating_sub(8)..]);
    let mixed = (first ^ last.rotate_left(29) ^ key.len() as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed >> 56) as u8
}

impl DeltaArea {
    /// An empty area.
    pub(crate) fn new() -> Self {
        Self {
            count: AtomicU32::new(0),
            fingerprints: [const { AtomicU64::new(0) }; DELTA_SLOTS / 8],
            bytes: AtomicUsize::new(0),
            slots: [const { OnceLock::new() }; DELTA_SLOTS],
        }
    }

    /// How many entries readers may see.
    pub(crate) fn len(&self) -> usize {
        self.count.load(Ordering::Acquire) as usize
    }

    /// Bytes of keys and values.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Appends an entry. Only the holder of the writer's lock calls this, and only when there is room.
    pub(crate) fn push(&self, entry: DeltaEntry) {
        let at = self.len();
        let (word, shift) = (at / 8, (at % 8) * 8);
        let mark = u64::from(fingerprint(entry.key())) << shift;
        self.bytes.fetch_add(entry.bytes.len(), Ordering::Relaxed);
        let before = self.slots[at].set(entry);
        assert!(before.is_ok(), "a published delta slot is never written again");
        let marks = self.fingerprints[word].load(Ordering::Relaxed);
        self.fingerprints[word].store(marks | mark, Ordering::Relaxed);
        self.count.store(at as u32 + 1, Ordering::Release);
    }

    /// The newest entry of `key` that is visible at `at`.
    pub(crate) fn find(&self, key: &[u8], at: Lsn) -> Option<&DeltaEntry> {
        let count = self.len();
        let sought = LANES.wrapping_mul(u64::from(fingerprint(key)));
        for word in (0..count.div_ceil(8)).rev() {
            let difference = self.fingerprints[word].load(Ordering::Relaxed) ^ sought;
            // The high bit of each byte that is zero, perhaps of some others too; the key decides.
            let mut hits = difference.wrapping_sub(LANES) & !difference & (LANES << 7);
            while hits != 0 {
                let lane = 7 - hits.leading_zeros() as usize / 8;
                hits &= !(0x80 << (lane * 8));
                let slot = word * 8 + lane;
                if slot >= count {
                    continue;
                }
                if let Some(entry) = self.slots[slot].get()
                    && entry.lsn <= at
                    && entry.key() == key
                {
                    return Some(entry);
                }
            }
        }
        None
    }

    /// The entries visible at `at`, oldest first.
    pub(crate) fn visible(&self, at: Lsn) -> impl DoubleEndedIterator<Item = &DeltaEntry> {
        self.slots[..self.len()].iter().filter_map(OnceLock::get).filter(move |entry| entry.lsn <= at)
    }

    /// The LSN of the newest entry.
    pub(crate) fn newest(&self) -> Option<Lsn> {
        self.slots[..self.len()].last().and_then(OnceLock::get).map(|entry| entry.lsn)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_visible_entry_of_a_key_is_found_among_full_slots() {
        let mut rng = fastrand::Rng::with_seed(2);
        for _ in 0..500 {
            let area = DeltaArea::new();
            let mut entries: Vec<(u64, Vec<u8>)> = Vec::new();
            for lsn in 0..rng.u64(0..=16) {
                let key: Vec<u8> = (0..rng.usize(0..20)).map(|_| rng.u8(0..2)).collect();
                area.push(DeltaEntry::new(Lsn(lsn), &key, Some(&lsn.to_le_bytes())));
                entries.push((lsn, key));
            }
            for (_, key) in &entries {
                let at = rng.u64(0..17);
                let expected = entries.iter().rev().find(|(lsn, other)| *lsn <= at && other == key);
                let found = area.find(key, Lsn(at)).map(|entry| entry.lsn.0);
                assert_eq!(found, expected.map(|(lsn, _)| *lsn));
            }
        }
    }
}
