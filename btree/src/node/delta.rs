//! The delta area of a leaf: its newest changes, append-only.
//!
//! One writer appends; any number of readers look, without locks. An entry is whole before the count that covers it
//! is stored with `Release`; a reader loads the count with `Acquire` and looks no further. LSNs never decrease from
//! slot to slot, so what a reader must not see yet stands at the end.
//!
//! Each entry has a fingerprint of one byte. A reader compares all of them at once and touches only entries that are
//! probably its own. Count and fingerprints stand in the leaf's header, which every reader has before it; the entries
//! are elsewhere, made at the first change.

use std::sync::Arc;

use logwood_base::Lsn;
use logwood_base::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use super::entries::{DeltaEntry, Entries, head_of};
use crate::account::Account;

/// Entries of one area. More would make reads search longer, fewer would make leaves be rebuilt more often.
pub(crate) const DELTA_SLOTS: usize = 16;

const _: () = assert!(DELTA_SLOTS.is_multiple_of(8), "fingerprints stand in whole words");

const LANES: u64 = 0x0101_0101_0101_0101;

/// The newest changes of one leaf.
#[derive(Debug)]
pub(crate) struct DeltaArea {
    entries: Entries,
    /// Bytes of keys and values, for the writer.
    bytes: AtomicU32,
    fingerprints: [AtomicU64; DELTA_SLOTS / 8],
}

/// The newest change of each key, sorted by key.
pub(crate) struct Newest<'a> {
    entries: [Option<&'a DeltaEntry>; DELTA_SLOTS],
    count: usize,
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
    pub(crate) const fn new() -> Self {
        Self {
            entries: Entries::new(),
            bytes: AtomicU32::new(0),
            fingerprints: [const { AtomicU64::new(0) }; DELTA_SLOTS / 8],
        }
    }

    /// How many entries readers may see.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Bytes of keys and values.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed) as usize
    }

    /// Appends a put, or a delete when there is no value. Answers how much memory that took. Only the holder of the
    /// writer's lock calls this, and only when there is room.
    pub(crate) fn push(&self, lsn: Lsn, key: &[u8], value: Option<&[u8]>, account: &Arc<Account>) -> usize {
        let bytes = self.bytes() + key.len() + value.map_or(0, <[u8]>::len);
        self.bytes.store(bytes as u32, Ordering::Relaxed);
        self.entries.push(lsn, key, value, account, |at| {
            let (word, shift) = (at / 8, (at % 8) * 8);
            let mark = u64::from(fingerprint(key)) << shift;
            let marks = self.fingerprints[word].load(Ordering::Relaxed);
            self.fingerprints[word].store(marks | mark, Ordering::Relaxed);
        })
    }

    /// Looks at the newest entry, beside which the next one goes, for nothing but to have its memory near.
    pub(crate) fn warm(&self) {
        self.entries.warm();
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
                if let Some(entry) = self.entries.get(slot)
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
        self.entries.first(self.len()).filter(move |entry| entry.lsn <= at)
    }

    /// Of the entries visible at `at`, the newest one of each key.
    pub(crate) fn newest_of_each(&self, at: Lsn) -> Newest<'_> {
        let mut newest = Newest::default();
        let mut heads = [0; DELTA_SLOTS];
        for entry in self.visible(at) {
            let count = newest.count;
            let mut between = heads[..count].partition_point(|head| *head < entry.head);
            // Heads that are equal are rare: most keys differ in their first eight bytes.
            while between < count && heads[between] == entry.head {
                match newest.entries[between].map(|other| other.order(entry)) {
                    Some(std::cmp::Ordering::Less) => between += 1,
                    _ => break,
                }
            }
            let same = between < count
                && heads[between] == entry.head
                && newest.entries[between].is_some_and(|other| other.key() == entry.key());
            if !same {
                heads.copy_within(between..count, between + 1);
                newest.entries.copy_within(between..count, between + 1);
                heads[between] = entry.head;
                newest.count += 1;
            }
            newest.entries[between] = Some(entry);
        }
        newest
    }

    /// The LSN of the newest entry.
    pub(crate) fn newest(&self) -> Option<Lsn> {
        self.entries.get(self.len().checked_sub(1)?).map(|entry| entry.lsn)
    }
}

impl<'a> Newest<'a> {
    /// How many keys.
    pub(crate) const fn len(&self) -> usize {
        self.count
    }

    /// The change of the key numbered `at`, in the order of keys.
    pub(crate) fn get(&self, at: usize) -> Option<&'a DeltaEntry> {
        self.entries[..self.count].get(at).copied().flatten()
    }

    /// The number of the first key that is not below `key`.
    pub(crate) fn place_of(&self, key: &[u8]) -> usize {
        let head = head_of(key);
        self.entries[..self.count].partition_point(|entry| {
            entry.is_some_and(|entry| match entry.head.cmp(&head) {
                std::cmp::Ordering::Equal => entry.key() < key,
                order => order.is_lt(),
            })
        })
    }

    /// All of them, in the order of keys.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &'a DeltaEntry> {
        self.entries[..self.count].iter().copied().flatten()
    }
}

impl Default for Newest<'_> {
    fn default() -> Self {
        Self { entries: [None; DELTA_SLOTS], count: 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_visible_entry_of_a_key_is_found_among_full_slots() {
        let mut rng = fastrand::Rng::with_seed(2);
        for _ in 0..500 {
            let (area, account) = (DeltaArea::new(), Arc::default());
            let mut entries: Vec<(u64, Vec<u8>)> = Vec::new();
            for lsn in 0..rng.u64(0..=16) {
                let key: Vec<u8> = (0..rng.usize(0..20)).map(|_| rng.u8(0..2)).collect();
                area.push(Lsn(lsn), &key, Some(&lsn.to_le_bytes()), &account);
                entries.push((lsn, key));
            }
            for (_, key) in &entries {
                let at = rng.u64(0..17);
                let expected = entries.iter().rev().find(|(lsn, other)| *lsn <= at && other == key);
                let found = area.find(key, Lsn(at)).map(|entry| entry.lsn.0);
                assert_eq!(found, expected.map(|(lsn, _)| *lsn));
            }
            let at = rng.u64(0..17);
            let mut expected = std::collections::BTreeMap::new();
            expected.extend(entries.iter().filter(|(lsn, _)| *lsn <= at).map(|(lsn, key)| (&key[..], *lsn)));
            let newest = area.newest_of_each(Lsn(at));
            assert!(newest.iter().map(|entry| (entry.key(), entry.lsn.0)).eq(expected.clone()));
            let sought: Vec<u8> = (0..rng.usize(0..20)).map(|_| rng.u8(0..2)).collect();
            assert_eq!(newest.place_of(&sought), expected.range(..&sought[..]).count());
        }
    }
}
