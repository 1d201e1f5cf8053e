//! What leaves were found to hold while their bytes were in memory, for whoever walks the trees afterwards.
//!
//! Proving a tree takes each leaf twice: its bytes, and what its parent says of it. The pass over the files sees every
//! byte anyhow. It leaves here, for every leaf whose values stand in it, the checksum, the sums of its records and its
//! first and last key: all that a parent speaks of. The walk compares these with the parent's entry, and reads the page
//! again only where something does not agree, to name what and where, or where nothing is remembered: leaves with long
//! values or delta blocks, and those that came when the memory for this was used up.
//!
//! Nothing is proven less: the sums were computed from the records, and the records' bytes have the checksum that the
//! parent holds.

use std::collections::BTreeMap;
use std::mem::size_of;
use std::path::Path;

use logwood_base::digest::Digest;
use logwood_base::{Result, SegmentNo};

use super::segment::{Proven, SegmentCheck};
use super::{Damage, KeyRange};
use crate::format::child::ChildEntry;
use crate::format::leaf::LeafValue;
use crate::format::manifest::{ContentHash, SegmentEntry};
use crate::format::page::PageRef;

/// What [`Derived`] holds by default: enough for some twenty GB of leaves.
const BYTES_MAX: usize = 256 << 20;

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
    /// By ascending offset.
    leaves: Vec<DerivedLeaf>,
    /// First and last key of each leaf.
    keys: Vec<u8>,
    /// Those of the leaf that was read last.
    pub(super) sums: LeafSums,
}

#[derive(Clone, Copy, Debug)]
struct DerivedLeaf {
    offset: u32,
    bytes: u32,
    crc: u32,
    /// Where its two keys stand, and how long they are.
    keys_at: u32,
    first_bytes: u32,
    last_bytes: u32,
    digest: Digest,
}

/// Sums up the records of one leaf.
#[derive(Clone, Debug, Default)]
pub(super) struct LeafSums {
    digest: Digest,
    first: Vec<u8>,
    last: Vec<u8>,
    /// A value stands elsewhere.
    has_overflow: bool,
}

impl LeafSums {
    pub(super) fn clear(&mut self) {
        (self.digest, self.has_overflow) = (Digest::EMPTY, false);
    }

    pub(super) fn add(&mut self, key: &[u8], value: &LeafValue<'_>) {
        if self.digest.count == 0 {
            self.first.clear();
            self.first.extend_from_slice(key);
        }
        self.last.clear();
        self.last.extend_from_slice(key);
        match value {
            LeafValue::Inline(value) => self.digest.add(key, value),
            LeafValue::Overflow(_) => {
                self.digest.count += 1;
                self.has_overflow = true;
            }
        }
    }

    /// The first key, if there is one.
    pub(super) fn first(&self) -> Option<&[u8]> {
        (self.digest.count > 0).then_some(&self.first)
    }
}

impl DerivedSegment {
    pub(super) fn new(entry: &SegmentEntry) -> Self {
        Self {
            number: entry.number,
            hash: entry.hash,
            pages: 0,
            damage: Vec::new(),
            leaves: Vec::new(),
            keys: Vec::new(),
            sums: LeafSums::default(),
        }
    }

    /// Verifies a segment's bytes, whose hash was proven to be the manifest's. `path` is where they stand; damage is
    /// kept, and told by whoever verifies the directory.
    ///
    /// # Errors
    /// `UnsupportedFormat`.
    pub fn of_proven(path: &Path, entry: &SegmentEntry, bytes: &[u8]) -> Result<Self> {
        SegmentCheck::new(path, entry).run(&mut Proven::new(bytes))
    }

    /// Keeps the sums of the leaf that was just read.
    pub(super) fn keep_leaf(&mut self, page: &PageRef) {
        let sums = &self.sums;
        if sums.has_overflow || sums.digest.count == 0 {
            return;
        }
        let Ok(keys_at) = u32::try_from(self.keys.len()) else { return };
        self.keys.extend_from_slice(&sums.first);
        self.keys.extend_from_slice(&sums.last);
        self.leaves.push(DerivedLeaf {
            offset: page.addr.offset,
            bytes: page.bytes,
            crc: page.crc,
            keys_at,
            first_bytes: sums.first.len() as u32,
            last_bytes: sums.last.len() as u32,
            digest: sums.digest,
        });
    }

    fn bytes(&self) -> usize {
        self.keys.len() + self.leaves.len() * size_of::<DerivedLeaf>()
    }

    /// The sums of the leaf at a place, its first and its last key.
    fn leaf(&self, page: &PageRef) -> Option<(Digest, &[u8], &[u8])> {
        let at = self.leaves.binary_search_by_key(&page.addr.offset, |leaf| leaf.offset).ok()?;
        let leaf = &self.leaves[at];
        let (first, rest) = self.keys[leaf.keys_at as usize..].split_at(leaf.first_bytes as usize);
        let is_meant = (leaf.bytes, leaf.crc) == (page.bytes, page.crc);
        is_meant.then_some((leaf.digest, first, &rest[..leaf.last_bytes as usize]))
    }
}

impl Default for Derived {
    fn default() -> Self {
        Self::new(BYTES_MAX)
    }
}

impl Derived {
    /// Remembers leaves in at most `bytes_max` bytes, about a hundred bytes each.
    #[must_use]
    pub const fn new(bytes_max: usize) -> Self {
        Self { segments: BTreeMap::new(), bytes_left: bytes_max }
    }

    /// Adds what a segment holds; of its leaves only when there is room. A segment's damage is never forgotten.
    pub fn add(&mut self, mut segment: DerivedSegment) {
        segment.leaves.shrink_to_fit();
        segment.keys.shrink_to_fit();
        match self.bytes_left.checked_sub(segment.bytes()) {
            Some(left) => self.bytes_left = left,
            None => (segment.leaves, segment.keys) = (Vec::new(), Vec::new()),
        }
        self.segments.insert(segment.number, segment);
    }

    /// What is known of a segment, if it has been read.
    pub(super) fn segment(&self, entry: &SegmentEntry) -> Option<&DerivedSegment> {
        self.segments.get(&entry.number).filter(|known| known.hash == entry.hash)
    }

    /// The sums of a leaf, when what is remembered of it agrees with everything that its parent says.
    pub(crate) fn agreed(&self, entry: &ChildEntry, range: &KeyRange) -> Option<Digest> {
        if !entry.deltas.is_empty() {
            return None;
        }
        let (digest, first, last) = self.segments.get(&entry.page.addr.segment)?.leaf(&entry.page)?;
        let is_inside = first >= &range.low[..] && range.high.as_ref().is_none_or(|high| last < &high[..]);
        let is_stated = digest.count == entry.digest.count && (entry.unresolved || digest == entry.digest);
        (is_inside && is_stated).then_some(digest)
    }
}
