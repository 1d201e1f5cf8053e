//! The parent's entry for a child.
//!
//! It stands in inner pages behind each separator, and in the manifest for each root.
//!
//! | bytes | name | meaning |
//! |---|---|---|
//! | 1 | flags | bits 0–1 delta blocks n, bits 2–3 resolved r ≤ n, bit 4 unresolved, others zero |
//! | … | base | address, stored bytes and crc32 of the base image: segment varint, offset varint, length varint, crc 4 |
//! | varint | base LSN | state at which the base image was written |
//! | … | delta × n | page as above, then first LSN varint, last LSN varint |
//! | varint | count | records of *the base plus its first r deltas* |
//! | 16 | digest | their sum: `base::digest` |
//!
//! # Validity
//! 1. Each delta's first LSN ≤ its last, above the last of the one before it, and above the base's LSN.
//! 2. `unresolved` is set when deltas beyond the first r changed records without knowing what they replaced, and in
//!    an inner node when it is set in any child: count and digest then hold only after resolving.

use logwood_base::Lsn;
use logwood_base::codec::{CodecError, Reader, Writer};
use logwood_base::digest::Digest;
use logwood_base::limits::DELTA_BLOCKS_MAX;

use super::page::PageRef;

const COUNT_BITS: u8 = 0b11;
const RESOLVED_SHIFT: u8 = 2;
const UNRESOLVED_BIT: u8 = 0b1_0000;
const KNOWN_BITS: u8 = 0b1_1111;

const _: () = assert!(DELTA_BLOCKS_MAX == COUNT_BITS as usize, "the number of deltas fills two bits");

/// A delta block as its leaf's parent knows it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DeltaRef {
    /// Where it stands.
    pub page: PageRef,
    /// The oldest change in it.
    pub first_lsn: Lsn,
    /// The newest change in it.
    pub last_lsn: Lsn,
}

/// What a parent keeps about a child.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ChildEntry {
    /// The base image.
    pub page: PageRef,
    /// The state at which the base image was written.
    pub lsn: Lsn,
    /// Up to [`DELTA_BLOCKS_MAX`] delta blocks, oldest first.
    pub deltas: Vec<DeltaRef>,
    /// Records of the base plus its first `resolved` deltas.
    pub digest: Digest,
    /// How many deltas `digest` covers: r in the design.
    pub resolved: u8,
    /// Whether count and digest need resolving, here or below.
    pub unresolved: bool,
}

impl ChildEntry {
    /// The entry of a page without delta blocks.
    #[must_use]
    pub const fn of_image(page: PageRef, lsn: Lsn, digest: Digest) -> Self {
        Self { page, lsn, deltas: Vec::new(), digest, resolved: 0, unresolved: false }
    }

    /// The state at which the newest of its pages was written: what the base and all deltas together say.
    #[must_use]
    pub fn newest_lsn(&self) -> Lsn {
        self.deltas.last().map_or(self.lsn, |delta| delta.last_lsn)
    }

    /// The base image and the delta blocks.
    pub fn pages(&self) -> impl Iterator<Item = &PageRef> {
        std::iter::once(&self.page).chain(self.deltas.iter().map(|delta| &delta.page))
    }

    /// Whether the LSNs ascend as the format asks for, and the counts fit.
    fn is_consistent(&self) -> bool {
        let mut above = self.lsn;
        let ascending = self.deltas.iter().all(|delta| {
            let fits = above < delta.first_lsn && delta.first_lsn <= delta.last_lsn;
            above = delta.last_lsn;
            fits
        });
        ascending && self.deltas.len() <= DELTA_BLOCKS_MAX && usize::from(self.resolved) <= self.deltas.len()
    }

    /// Appends the entry.
    ///
    /// # Panics
    /// When LSNs do not ascend, or there are more delta blocks than the format admits.
    pub fn put(&self, out: &mut impl Writer) {
        assert!(self.is_consistent(), "not a child entry: {self:?}");
        let unresolved = if self.unresolved { UNRESOLVED_BIT } else { 0 };
        out.put_u8(self.deltas.len() as u8 | self.resolved << RESOLVED_SHIFT | unresolved);
        self.page.put(out);
        out.put_varint(self.lsn.get());
        for delta in &self.deltas {
            delta.page.put(out);
            out.put_varint(delta.first_lsn.get());
            out.put_varint(delta.last_lsn.get());
        }
        out.put_varint(self.digest.count);
        out.put_u128(self.digest.sum);
    }

    /// Reads what [`ChildEntry::put`] appended.
    ///
    /// # Errors
    /// When the bytes end, or break one of the rules above.
    pub fn take(reader: &mut Reader<'_>) -> Result<Self, CodecError> {
        let error = reader.error("child flags");
        let flags = reader.u8("child flags")?;
        if flags & !KNOWN_BITS != 0 {
            return Err(error);
        }
        let page = PageRef::take(reader)?;
        let lsn = Lsn(reader.varint("child LSN")?);
        let mut deltas = Vec::new();
        for _ in 0..flags & COUNT_BITS {
            let page = PageRef::take(reader)?;
            let first_lsn = Lsn(reader.varint("delta first LSN")?);
            let last_lsn = Lsn(reader.varint("delta last LSN")?);
            deltas.push(DeltaRef { page, first_lsn, last_lsn });
        }
        let digest = Digest { count: reader.varint("child count")?, sum: reader.u128("child digest")? };
        let resolved = flags >> RESOLVED_SHIFT & COUNT_BITS;
        let entry = Self { page, lsn, deltas, digest, resolved, unresolved: flags & UNRESOLVED_BIT != 0 };
        if entry.is_consistent() { Ok(entry) } else { Err(error) }
    }
}
