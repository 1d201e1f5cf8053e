//! The delta area of a leaf: its newest changes, append-only.
//!
//! One writer appends; any number of readers look, without locks. An entry is whole before the count that covers it
//! is stored with `Release`; a reader loads the count with `Acquire` and looks no further. LSNs never decrease from
//! slot to slot, so what a reader must not see yet stands at the end.
//!
//! Each entry has a fingerprint of one byte. A reader compares all of them at once and touches only entries that are
//! probably its own. Count and fingerprints stand in the leaf's header, which every reader has before it; the entries
//! are elsewhere, made at the first change.

use std::sync::OnceLock;

use logwood_base::Lsn;
use logwood_base::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use super::entries::{DeltaEntry, Entries};

/// Entries of one area. More would make reads search longer, fewer would make leaves be rebuilt more often.
pub(crate) const DELTA_SLOTS: usize = 16;

const LANES: u64 = 0x0101_0101_0101_0101;

/// The newest changes of one leaf.
#[derive(Debug)]
pub(crate) struct DeltaArea {
    count: AtomicU32,
    fingerprints: [AtomicU64; DELTA_SLOTS / 8],
    /// Bytes of keys and values, for the writer.
    bytes: AtomicU32,
    entries: OnceLock<Box<Entries>>,
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
            bytes: AtomicU32::new(0),
            entries: OnceLock::new(),
        }
    }

    /// How many entries readers may see.
    pub(crate) fn len(&self) -> usize {
        self.count.load(Ordering::Acquire) as usize
    }

    /// Bytes of keys and values.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed) as usize
    }

    /// Appends a put, or a delete when there is no value. Answers how much memory that took. Only the holder of the
    /// writer's lock calls this, and only when there is room.
    pub(crate) fn push(&self, lsn: Lsn, key: &[u8], value: Option<&[u8]>) -> usize {
        let at = self.len();
        let (word, shift) = (at / 8, (at % 8) * 8);
        let mark = u64::from(fingerprint(key)) << shift;
        let bytes = self.bytes() + key.len() + value.map_or(0, <[u8]>::len);
        self.bytes.store(bytes as u32, Ordering::Relaxed);
        let mut taken = 0;
        let entries = self.entries.get_or_init(|| {
            taken = size_of::<Entries>();
            Box::new(Entries::new())
        });
        taken += entries.set(at, lsn, key, value);
        let marks = self.fingerprints[word].load(Ordering::Relaxed);
        self.fingerprints[word].store(marks | mark, Ordering::Relaxed);
        self.count.store(at as u32 + 1, Ordering::Release);
        taken
    }

    /// Looks at the slot that the next entry goes to, for nothing but to have its memory near.
    pub(crate) fn warm(&self) {
        let entries = self.entries.get();
        std::hint::black_box(entries.and_then(|entries| entries.get(self.len().min(DELTA_SLOTS - 1))));
    }

    /// The newest entry of `key` that is visible at `at`.
    pub(crate) fn find(&self, key: &[u8], at: Lsn) -> Option<&DeltaEntry> {
        let count = self.len();
        if count == 0 {
            return None;
        }
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
                if let Some(entry) = self.entries.get()?.get(slot)
                    && entry.lsn <= at
                    && entry.key() == key
                {
                    return Some(entry);
                }
            }
        }
        None
    }

    /// The entries that are counted, oldest first.
    fn first(&self) -> impl DoubleEndedIterator<Item = &DeltaEntry> {
        let count = self.len();
        self.entries.get().into_iter().flat_map(move |entries| entries.first(count))
    }

    /// The entries visible at `at`, oldest first.
    pub(crate) fn visible(&self, at: Lsn) -> impl DoubleEndedIterator<Item = &DeltaEntry> {
        self.first().filter(move |entry| entry.lsn <= at)
    }

    /// The LSN of the newest entry.
    pub(crate) fn newest(&self) -> Option<Lsn> {
        self.first().next_back().map(|entry| entry.lsn)
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
                area.push(Lsn(lsn), &key, Some(&lsn.to_le_bytes()));
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
