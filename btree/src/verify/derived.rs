//! What pages were found to hold while their bytes were in memory, for whoever walks the trees afterwards.
//!
//! Proving a tree takes each leaf twice: its bytes, and what its parent says of it. The pass over the files sees every
//! byte anyhow. It leaves here, for every leaf whose values stand in it, the checksum, the sums of its records and its
//! first and last key: all that a parent speaks of. The walk compares these with the parent's entry, and reads the page
//! again only where something does not agree, to name what and where, or where nothing is remembered: leaves with long
//! values, and those that came when the memory for this was used up.
//!
//! A leaf with delta blocks is more than a sum of its pages: a change takes the place of what was there. So a hash of each
//! key and that of its record are kept, too, of leaves and blocks, as long as there is room: what a block replaces is taken
//! from the image's sums, what it brings is added. Two keys of one hash make a sum that is not the parent's, and the pages
//! are read.
//!
//! Nothing is proven less: the sums were computed from the records, and the records' bytes have the checksum that the
//! parent holds.

use std::collections::BTreeMap;
use std::mem::size_of;
use std::path::Path;

use logwood_base::checksum::{Seed, checksum};
use logwood_base::digest::{Digest, record_hash};
use logwood_base::{Result, SegmentNo};

use super::segment::{Proven, SegmentCheck};
use super::{Damage, KeyRange};
use crate::format::child::ChildEntry;
use crate::format::leaf::LeafValue;
use crate::format::manifest::{ContentHash, SegmentEntry};
use crate::format::page::{PageKind, PageRef};

/// What [`Derived`] holds by default: enough for some twenty GB of leaves, or for the hashes of some ten million records.
const BYTES_MAX: usize = 256 << 20;

/// Most bytes of hashes that are gathered of one segment: several segments are read at once.
const SEGMENT_HASHES_MAX: usize = BYTES_MAX / 8;

/// The hash of a record that a delta block takes away. None has it but by accident.
const TAKEN_AWAY: u128 = 0;

/// What all segments that were read are known to hold.
#[derive(Clone, Debug)]
pub struct Derived {
    segments: BTreeMap<SegmentNo, DerivedSegment>,
    bytes_left: usize,
}

/// What one segment was found to hold.
#[derive(Clone, Debug)]
pub struct DerivedSegment {
    number: SegmentNo,
    hash: ContentHash,
    pub(super) pages: u64,
    pub(super) damage: Vec<Damage>,
    /// Leaves and delta blocks, by ascending offset.
    derived: Vec<DerivedPage>,
    /// First and last key of each.
    keys: Vec<u8>,
    /// Hashes of each key of each, and of what stands under it. None are kept where there was no room.
    key_hashes: Vec<u32>,
    record_hashes: Vec<u128>,
    /// There were too many hashes: none are kept any more.
    without_hashes: bool,
    /// Those of the page that was read last.
    pub(super) sums: PageSums,
}

#[derive(Clone, Copy, Debug)]
struct DerivedPage {
    kind: PageKind,
    offset: u32,
    bytes: u32,
    crc: u32,
    /// Where its two keys stand, and how long they are.
    keys_at: u32,
    first_bytes: u32,
    last_bytes: u32,
    /// Where its hashes stand.
    hashes_at: u32,
    /// Of a delta block, only the count means something.
    digest: Digest,
}

/// What is remembered of one page.
struct Known<'d> {
    first: &'d [u8],
    last: &'d [u8],
    digest: Digest,
    key_hashes: &'d [u32],
    record_hashes: &'d [u128],
}

/// Sums up the records of one leaf, or the changes of one delta block.
#[derive(Clone, Debug, Default)]
pub(super) struct PageSums {
    digest: Digest,
    key_hashes: Vec<u32>,
    record_hashes: Vec<u128>,
    first: Vec<u8>,
    last: Vec<u8>,
    /// A value stands elsewhere.
    has_overflow: bool,
}

impl PageSums {
    pub(super) fn clear(&mut self) {
        (self.digest, self.has_overflow) = (Digest::EMPTY, false);
        self.key_hashes.clear();
        self.record_hashes.clear();
    }

    /// Adds the next record; `None` takes one away.
    pub(super) fn add(&mut self, key: &[u8], value: Option<&LeafValue<'_>>) {
        if self.digest.count == 0 {
            self.first.clear();
            self.first.extend_from_slice(key);
        }
        self.last.clear();
        self.last.extend_from_slice(key);
        let hash = match value {
            Some(LeafValue::Inline(value)) => record_hash(key, value),
            // Of a page with one of these nothing is kept.
            Some(LeafValue::Overflow(_)) => {
                self.has_overflow = true;
                TAKEN_AWAY
            }
            None => TAKEN_AWAY,
        };
        self.digest.add_hash(hash);
        self.key_hashes.push(hash_of_key(key));
        self.record_hashes.push(hash);
    }

    /// The first key, if there is one.
    pub(super) fn first(&self) -> Option<&[u8]> {
        (self.digest.count > 0).then_some(&self.first)
    }
}

/// Short, so that many fit into memory.
fn hash_of_key(key: &[u8]) -> u32 {
    checksum(Seed::new(), key)
}

impl DerivedSegment {
    pub(super) fn new(entry: &SegmentEntry) -> Self {
        Self {
            number: entry.number,
            hash: entry.hash,
            pages: 0,
            damage: Vec::new(),
            derived: Vec::new(),
            keys: Vec::new(),
            key_hashes: Vec::new(),
            record_hashes: Vec::new(),
            without_hashes: false,
            sums: PageSums::default(),
        }
    }

    /// Verifies a segment's bytes, whose hash was proven to be the manifest's. `path` is where they stand; damage is
    /// kept, and told by whoever verifies the directory.
    ///
    /// # Errors
    /// `UnsupportedFormat`.
    pub fn of_proven(path: &Path, entry: &SegmentEntry, bytes: &[u8]) -> Result<Self> {
        SegmentCheck::new(path, entry, true).run(&mut Proven::new(bytes))
    }

    /// Keeps the sums of the leaf or delta block that was just read.
    pub(super) fn keep(&mut self, page: &PageRef, kind: PageKind) {
        let sums = &self.sums;
        if sums.has_overflow || sums.digest.count == 0 {
            return;
        }
        if self.without_hashes && kind != PageKind::Leaf {
            return;
        }
        let places = (u32::try_from(self.keys.len()), u32::try_from(self.key_hashes.len()));
        let (Ok(keys_at), Ok(hashes_at)) = places else { return };
        self.keys.extend_from_slice(&sums.first);
        self.keys.extend_from_slice(&sums.last);
        if !self.without_hashes {
            self.key_hashes.extend_from_slice(&sums.key_hashes);
            self.record_hashes.extend_from_slice(&sums.record_hashes);
        }
        self.derived.push(DerivedPage {
            kind,
            offset: page.addr.offset,
            bytes: page.bytes,
            crc: page.crc,
            keys_at,
            first_bytes: sums.first.len() as u32,
            last_bytes: sums.last.len() as u32,
            hashes_at,
            digest: sums.digest,
        });
        if self.hashes_bytes() > SEGMENT_HASHES_MAX {
            self.forget_hashes();
        }
    }

    /// Gives back what was reserved and not used.
    fn shrink(&mut self) {
        self.derived.shrink_to_fit();
        self.keys.shrink_to_fit();
        self.key_hashes.shrink_to_fit();
        self.record_hashes.shrink_to_fit();
        self.sums = PageSums::default();
    }

    /// Keeps of leaves what settles those without delta blocks.
    fn forget_hashes(&mut self) {
        (self.key_hashes, self.record_hashes, self.without_hashes) = (Vec::new(), Vec::new(), true);
        self.derived.retain(|page| page.kind == PageKind::Leaf);
        self.derived.shrink_to_fit();
    }

    fn bytes(&self) -> usize {
        self.keys.len() + self.derived.len() * size_of::<DerivedPage>() + self.hashes_bytes()
    }

    fn hashes_bytes(&self) -> usize {
        self.key_hashes.len() * (size_of::<u32>() + size_of::<u128>())
    }

    /// What is remembered of the page that is meant.
    fn known(&self, page: &PageRef, kind: PageKind) -> Option<Known<'_>> {
        let at = self.derived.binary_search_by_key(&page.addr.offset, |known| known.offset).ok()?;
        let known = &self.derived[at];
        let (first, rest) = self.keys[known.keys_at as usize..].split_at(known.first_bytes as usize);
        let hashes = known.hashes_at as usize..known.hashes_at as usize + known.digest.count as usize;
        let is_meant = (known.kind, known.bytes, known.crc) == (kind, page.bytes, page.crc);
        is_meant.then(|| Known {
            first,
            last: &rest[..known.last_bytes as usize],
            digest: known.digest,
            key_hashes: self.key_hashes.get(hashes.clone()).unwrap_or_default(),
            record_hashes: self.record_hashes.get(hashes).unwrap_or_default(),
        })
    }
}

impl Known<'_> {
    fn is_inside(&self, range: &KeyRange) -> bool {
        self.first >= &range.low[..] && range.high.as_ref().is_none_or(|high| self.last < &high[..])
    }

    /// Hashes of each key, and of what stands under it; `None` when they were not kept.
    fn hashes(&self) -> Option<impl Iterator<Item = (u32, u128)>> {
        let all = self.key_hashes.len() as u64 == self.digest.count;
        all.then(|| self.key_hashes.iter().copied().zip(self.record_hashes.iter().copied()))
    }
}

impl Default for Derived {
    fn default() -> Self {
        Self::new(BYTES_MAX)
    }
}

impl Derived {
    /// Remembers pages in at most `bytes_max` bytes: about a hundred bytes a leaf, and twenty a record as long as there is
    /// room.
    #[must_use]
    pub const fn new(bytes_max: usize) -> Self {
        Self { segments: BTreeMap::new(), bytes_left: bytes_max }
    }

    /// Adds what a segment holds; of its pages only when there is room. A segment's damage is never forgotten.
    pub fn add(&mut self, mut segment: DerivedSegment) {
        if segment.bytes() > self.bytes_left {
            segment.forget_hashes();
        }
        // Hashes of records, which few leaves need, are the first to go.
        let mut others = self.segments.values_mut().filter(|other| !other.key_hashes.is_empty());
        while segment.bytes() > self.bytes_left
            && let Some(other) = others.next()
        {
            let before = other.bytes();
            other.forget_hashes();
            self.bytes_left += before - other.bytes();
        }
        if segment.bytes() > self.bytes_left {
            (segment.derived, segment.keys) = (Vec::new(), Vec::new());
        }
        self.bytes_left -= segment.bytes();
        segment.shrink();
        self.segments.insert(segment.number, segment);
    }

    /// What is known of a segment, if it has been read.
    pub(super) fn segment(&self, entry: &SegmentEntry) -> Option<&DerivedSegment> {
        self.segments.get(&entry.number).filter(|known| known.hash == entry.hash)
    }

    fn known(&self, page: &PageRef, kind: PageKind) -> Option<Known<'_>> {
        self.segments.get(&page.addr.segment)?.known(page, kind)
    }

    /// The sums of a leaf, when what is remembered of it agrees with everything that its parent says.
    pub(crate) fn agreed(&self, entry: &ChildEntry, range: &KeyRange) -> Option<Digest> {
        let image = self.known(&entry.page, PageKind::Leaf).filter(|image| image.is_inside(range))?;
        if !entry.deltas.is_empty() {
            let is_resolved = !entry.unresolved && usize::from(entry.resolved) == entry.deltas.len();
            return self
                .with_blocks(&image, entry, range)
                .filter(|sums| is_resolved && *sums == entry.digest);
        }
        let sums = image.digest;
        let is_stated = sums.count == entry.digest.count && (entry.unresolved || sums == entry.digest);
        is_stated.then_some(sums)
    }

    /// The sums of a leaf with its delta blocks laid over it, if no two of its keys have one hash.
    fn with_blocks(&self, image: &Known<'_>, entry: &ChildEntry, range: &KeyRange) -> Option<Digest> {
        let mut changes = Vec::new();
        // Of the changes of one key the newest counts: it comes first, and stays there.
        for delta in entry.deltas.iter().rev() {
            let block = self.known(&delta.page, PageKind::Delta).filter(|block| block.is_inside(range))?;
            changes.extend(block.hashes()?);
        }
        changes.sort_by_key(|(key, _)| *key);
        changes.dedup_by_key(|(key, _)| *key);
        let mut sums = image.digest;
        for (key, hash) in image.hashes()? {
            if changes.binary_search_by_key(&key, |(key, _)| *key).is_ok() {
                sums.remove_hash(hash);
            }
        }
        changes.iter().filter(|(_, hash)| *hash != TAKEN_AWAY).for_each(|(_, hash)| sums.add_hash(*hash));
        Some(sums)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::segment::Stream;
    use logwood_base::PageAddr;

    const RECORDS: u32 = 1000;

    fn page(number: u64) -> PageRef {
        PageRef { addr: PageAddr { segment: SegmentNo(number), offset: 0 }, bytes: 4096, crc: 7 }
    }

    /// A segment with one leaf.
    fn segment(number: u64) -> DerivedSegment {
        let entry = SegmentEntry {
            number: SegmentNo(number),
            bytes: 1 << 20,
            live_bytes: 0,
            stream: Stream::Base,
            hash: [0; 32],
        };
        let mut segment = DerivedSegment::new(&entry);
        for key in 0..RECORDS {
            segment.sums.add(&key.to_be_bytes(), Some(&LeafValue::Inline(b"value")));
        }
        segment.keep(&page(number), PageKind::Leaf);
        segment
    }

    #[test]
    fn the_room_of_forgotten_hashes_is_given_back_and_never_more_is_held_than_was_allowed() {
        let with_hashes = segment(1).bytes();
        let hashes = segment(1).hashes_bytes();
        assert_eq!(hashes, RECORDS as usize * 20);
        // Room for one with its hashes, and not for the next, though it forgets its own.
        let most = with_hashes + (with_hashes - hashes) / 2;
        let mut derived = Derived::new(most);
        let mut keeps_hashes = Vec::new();
        for number in 1..=40 {
            derived.add(segment(number));
            let held: usize = derived.segments.values().map(DerivedSegment::bytes).sum();
            assert_eq!(derived.bytes_left + held, most, "behind segment {number}");
            let known = derived.known(&page(number), PageKind::Leaf).expect("there is room for the leaf");
            assert_eq!(known.digest.count, u64::from(RECORDS));
            keeps_hashes.push(known.hashes().is_some());
        }
        // The first one's room serves the ones behind the second, which forgot its own.
        assert_eq!(keeps_hashes[..2], [true, false]);
        assert!(derived.known(&page(1), PageKind::Leaf).unwrap().hashes().is_none());
    }
}
