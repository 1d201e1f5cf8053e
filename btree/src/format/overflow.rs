//! References to values that are too long to stand in a leaf.
//!
//! The value is cut into pieces; each piece is the body of an overflow page. The leaf keeps:
//!
//! | bytes | name | meaning |
//! |---|---|---|
//! | varint | total bytes | length of the value, at most `VALUE_BYTES_MAX` |
//! | 16 | record hash | hash of key and value, as it enters the digest |
//! | varint | extents | how many pieces, at most [`EXTENTS_MAX`] |
//! | … | extent × n | segment varint, offset varint, stored bytes varint, crc32 |
//!
//! # Validity
//! Every piece but the last one has [`PIECE_BYTES`] bytes, so that any byte of a value is found in one read; the last one has the
//! rest, at least one. In order they make up exactly `total bytes`. The hash lets an overwrite or a delete keep the digest right
//! without reading the value; a scrub recomputes it from the pieces.

use logwood_base::codec::{CodecError, Reader, Writer};
use logwood_base::limits::{PAGE_BYTES_MAX, VALUE_BYTES_MAX};

use super::page::{ENVELOPE_BYTES, PageRef};

/// How long a piece is, but for the last one: long enough to make the reference short, short enough to fill segments well and
/// to be read for a part of it. A constant of the format.
pub const PIECE_BYTES: usize = 256 << 10;

/// Most pieces of one value.
pub const EXTENTS_MAX: usize = 1024;

const _: () = {
    assert!(PIECE_BYTES + ENVELOPE_BYTES <= PAGE_BYTES_MAX);
    assert!(VALUE_BYTES_MAX.div_ceil(PIECE_BYTES) <= EXTENTS_MAX);
};

/// Where a long value stands.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OverflowRef {
    /// Length of the value.
    pub total_bytes: u64,
    /// Hash of key and value: [`logwood_base::digest::record_hash`].
    pub record_hash: u128,
    /// The pieces in order.
    pub extents: Vec<PageRef>,
}

/// Cuts a value into the bodies of overflow pages.
pub fn pieces(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.chunks(PIECE_BYTES)
}

impl OverflowRef {
    /// Appends the reference.
    ///
    /// # Panics
    /// When there are more than [`EXTENTS_MAX`] pieces.
    pub fn put(&self, out: &mut impl Writer) {
        assert!(self.extents.len() <= EXTENTS_MAX, "{} pieces are too many", self.extents.len());
        out.put_varint(self.total_bytes);
        out.put_u128(self.record_hash);
        out.put_varint(self.extents.len() as u64);
        self.extents.iter().for_each(|extent| extent.put(out));
    }

    /// Reads what [`OverflowRef::put`] appended.
    ///
    /// # Errors
    /// When the bytes end, or a number is out of its range.
    pub fn take(reader: &mut Reader<'_>) -> Result<Self, CodecError> {
        let error = reader.error("overflow length");
        let total_bytes = reader.varint("overflow length")?;
        if total_bytes > VALUE_BYTES_MAX as u64 {
            return Err(error);
        }
        let record_hash = reader.u128("overflow record hash")?;
        let error = reader.error("overflow extents");
        let count = reader.varint("overflow extents")? as usize;
        if count > EXTENTS_MAX || count > reader.remaining() / PageRef::ENCODED_BYTES_MIN {
            return Err(error);
        }
        let extents = (0..count).map(|_| PageRef::take(reader)).collect::<Result<_, _>>()?;
        Ok(Self { total_bytes, record_hash, extents })
    }
}
