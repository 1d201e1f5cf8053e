//! Where a page stands, what proves it, and its envelope.
//!
//! A page is stored as an envelope and a body, packed behind the previous page without rounding:
//!
//! | offset | bytes | name | meaning |
//! |---|---|---|---|
//! | 0 | 1 | kind | 1 leaf, 2 inner, 3 overflow, 4 delta |
//! | 1 | 1 | encoding | 0 plain, 1 lz4 block |
//! | 2 | 4 | raw bytes | only with lz4: length of the body after decompression, at most `PAGE_BYTES_MAX` |
//! | 2 or 6 | … | body | by kind |
//!
//! # Validity
//! 1. A page has no checksum of its own. Whoever refers to it keeps the CRC-32 of its stored bytes ([`PageRef`]),
//!    and so does the index of its segment: a lost, stale or misdirected write shows, because the referrer's
//!    checksum does not stand in the same write.
//! 2. The checksum is seeded with (segment number, offset), and with nothing else. The same bytes at another place
//!    do not verify. The database's identity stays out of the seed, and so does the directory: a backup, a new
//!    replica or a restore takes a segment over under its old number, by a hard link or a copy, and every parent's
//!    checksum stays right.
//! 3. The checksum is verified before anything is parsed or decompressed, and the raw length is bounded before room
//!    is made for it.
//!
//! Compression is tried on a sample first; a page is kept compressed only when that saves at least one eighth.

use std::borrow::Cow;

use logwood_base::checksum::{Seed, checksum};
use logwood_base::codec::{CodecError, Reader, Writer};
use logwood_base::limits::PAGE_BYTES_MAX;
use logwood_base::{PageAddr, SegmentNo};

/// Bytes in front of a plain body.
pub const ENVELOPE_BYTES: usize = 2;
/// Bytes in front of a compressed body.
const COMPRESSED_ENVELOPE_BYTES: usize = 6;
/// How much of a body is compressed to see whether the rest is worth it.
const SAMPLE_BYTES: usize = 2048;
/// lz4 never shrinks by more than this, so a greater raw length is a lie.
const LZ4_RATIO_MAX: usize = 255;

/// What a page holds.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(u8)]
pub enum PageKind {
    /// Records: [`super::leaf`].
    Leaf = 1,
    /// Children: [`super::inner`].
    Inner = 2,
    /// A piece of a long value, as it is.
    Overflow = 3,
    /// Changes of a leaf since its last image: [`super::delta`].
    Delta = 4,
}

impl PageKind {
    /// The kind that `byte` stands for.
    #[must_use]
    pub const fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            1 => Some(Self::Leaf),
            2 => Some(Self::Inner),
            3 => Some(Self::Overflow),
            4 => Some(Self::Delta),
            _ => None,
        }
    }
}

/// Whether bodies may be compressed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Compression {
    /// When a sample says that it pays.
    #[default]
    Auto,
    /// Never.
    Off,
}

/// A reference to a page: where it stands, how long it is, and what its stored bytes sum to.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct PageRef {
    /// Segment and offset.
    pub addr: PageAddr,
    /// Stored bytes, envelope included.
    pub bytes: u32,
    /// CRC-32 of the stored bytes, seeded with their place: [`checksum_at`].
    pub crc: u32,
}

impl PageRef {
    /// Fewest bytes that [`PageRef::put`] appends.
    pub const ENCODED_BYTES_MIN: usize = 7;

    /// Appends segment, offset and length as varints and the checksum as four bytes.
    pub fn put(&self, out: &mut impl Writer) {
        out.put_varint(self.addr.segment.get());
        out.put_varint(u64::from(self.addr.offset));
        out.put_varint(u64::from(self.bytes));
        out.put_u32(self.crc);
    }

    /// Reads what [`PageRef::put`] appended.
    ///
    /// # Errors
    /// When the bytes end, or a number is out of its range.
    pub fn take(reader: &mut Reader<'_>) -> Result<Self, CodecError> {
        let segment = SegmentNo(reader.varint("page segment")?);
        let error = reader.error("page offset");
        let offset = u32::try_from(reader.varint("page offset")?).map_err(|_| error)?;
        let error = reader.error("page length");
        let bytes = u32::try_from(reader.varint("page length")?).map_err(|_| error)?;
        if (bytes as usize) < ENVELOPE_BYTES || bytes as usize > PAGE_BYTES_MAX {
            return Err(error);
        }
        let crc = reader.u32("page checksum")?;
        Ok(Self { addr: PageAddr { segment, offset }, bytes, crc })
    }
}

/// The checksum of a page's stored bytes at its place.
#[must_use]
pub fn checksum_at(addr: PageAddr, stored: &[u8]) -> u32 {
    checksum(Seed::new().u64(addr.segment.get()).u64(u64::from(addr.offset)), stored)
}

/// A page as it was read: verified, decompressed.
#[derive(Clone, Debug)]
pub struct Page {
    kind: PageKind,
    bytes: Vec<u8>,
    start: usize,
}

impl Page {
    /// What it holds.
    #[must_use]
    pub const fn kind(&self) -> PageKind {
        self.kind
    }

    /// The body, for the reader of its kind.
    #[must_use]
    pub fn body(&self) -> &[u8] {
        &self.bytes[self.start..]
    }
}

/// Why stored bytes are not the page that was meant.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PageFault {
    /// They do not sum to what the referrer says.
    Checksum {
        /// The referrer's checksum.
        expected: u32,
        /// That of the bytes.
        found: u32,
    },
    /// They sum up and yet make no sense: a bug of the writer, or damage that the checksum missed.
    Structure(CodecError),
}

impl From<CodecError> for PageFault {
    fn from(error: CodecError) -> Self {
        Self::Structure(error)
    }
}

/// Appends the stored form of a page and returns how many bytes that was.
///
/// # Panics
/// When the body is longer than [`PAGE_BYTES_MAX`] less the envelope: the caller cuts pages.
pub fn seal(kind: PageKind, body: &[u8], compression: Compression, out: &mut impl Writer) -> u32 {
    assert!(body.len() + ENVELOPE_BYTES <= PAGE_BYTES_MAX, "a page of {} bytes is too long", body.len());
    out.put_u8(kind as u8);
    if compression == Compression::Auto
        && let Some(packed) = compress(body)
    {
        out.put_u8(1);
        out.put_u32(body.len() as u32);
        out.put_bytes(&packed);
        return (COMPRESSED_ENVELOPE_BYTES + packed.len()) as u32;
    }
    out.put_u8(0);
    out.put_bytes(body);
    (ENVELOPE_BYTES + body.len()) as u32
}

/// The compressed body, when that saves at least one eighth.
fn compress(body: &[u8]) -> Option<Vec<u8>> {
    const WORTH: usize = 64;
    if body.len() < WORTH {
        return None;
    }
    let pays = |raw: usize, packed: usize| packed <= raw - raw / 8;
    if body.len() >= 2 * SAMPLE_BYTES {
        // The middle: heads and tables at either end are not like the records.
        let from = (body.len() - SAMPLE_BYTES) / 2;
        let sample = lz4_flex::block::compress(&body[from..from + SAMPLE_BYTES]);
        if !pays(SAMPLE_BYTES, sample.len()) {
            return None;
        }
    }
    let packed = lz4_flex::block::compress(body);
    pays(body.len(), packed.len() + COMPRESSED_ENVELOPE_BYTES - ENVELOPE_BYTES).then_some(packed)
}

/// Verifies stored bytes against a reference and opens the envelope.
///
/// # Errors
/// [`PageFault`], with the checksum judged before anything is parsed.
pub fn open(page: &PageRef, stored: Vec<u8>) -> Result<Page, PageFault> {
    let found = checksum_at(page.addr, &stored);
    if found != page.crc {
        return Err(PageFault::Checksum { expected: page.crc, found });
    }
    Ok(open_unproven(stored)?)
}

/// Opens the envelope of bytes whose checksum was judged elsewhere.
///
/// # Errors
/// When the envelope makes no sense.
pub fn open_unproven(stored: Vec<u8>) -> Result<Page, CodecError> {
    Ok(match open_envelope(&stored)? {
        (kind, None) => Page { kind, start: ENVELOPE_BYTES, bytes: stored },
        (kind, Some(bytes)) => Page { kind, bytes, start: 0 },
    })
}

/// As [`open_unproven`], without a copy of a body that is stored plain.
///
/// # Errors
/// When the envelope makes no sense.
pub fn view_unproven(stored: &[u8]) -> Result<(PageKind, Cow<'_, [u8]>), CodecError> {
    Ok(match open_envelope(stored)? {
        (kind, None) => (kind, Cow::Borrowed(&stored[ENVELOPE_BYTES..])),
        (kind, Some(bytes)) => (kind, Cow::Owned(bytes)),
    })
}

/// What a page holds, and its body if it was compressed.
fn open_envelope(stored: &[u8]) -> Result<(PageKind, Option<Vec<u8>>), CodecError> {
    let mut reader = Reader::new(stored);
    let error = reader.error("page kind");
    let kind = PageKind::from_byte(reader.u8("page kind")?).ok_or(error)?;
    let error = reader.error("page encoding");
    match reader.u8("page encoding")? {
        0 => Ok((kind, None)),
        1 => {
            let error = reader.error("page raw length");
            let raw = reader.u32("page raw length")? as usize;
            let packed = reader.bytes(reader.remaining(), "page body")?;
            if raw > PAGE_BYTES_MAX || raw > packed.len().saturating_mul(LZ4_RATIO_MAX) {
                return Err(error);
            }
            let bytes = lz4_flex::block::decompress(packed, raw).map_err(|_| error)?;
            if bytes.len() == raw { Ok((kind, Some(bytes))) } else { Err(error) }
        }
        _ => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place() -> PageAddr {
        PageAddr { segment: SegmentNo(3), offset: 64 }
    }

    fn stored(body: &[u8], compression: Compression) -> (PageRef, Vec<u8>) {
        let mut out = Vec::new();
        let bytes = seal(PageKind::Leaf, body, compression, &mut out);
        (PageRef { addr: place(), bytes, crc: checksum_at(place(), &out) }, out)
    }

    #[test]
    fn compression_is_kept_only_when_it_pays() {
        let mut random = fastrand::Rng::with_seed(1);
        let noise: Vec<u8> = (0..8192).map(|_| random.u8(..)).collect();
        let (page, bytes) = stored(&noise, Compression::Auto);
        assert_eq!(page.bytes as usize, noise.len() + ENVELOPE_BYTES);
        assert_eq!(open(&page, bytes).unwrap().body(), noise);

        let text = b"the quick brown fox ".repeat(400);
        let (page, bytes) = stored(&text, Compression::Auto);
        assert!((page.bytes as usize) < text.len() / 4);
        assert_eq!(open(&page, bytes).unwrap().body(), text);
        assert!(stored(&text, Compression::Off).0.bytes as usize > text.len());
    }

    #[test]
    fn the_same_bytes_at_another_place_do_not_verify() {
        let (page, bytes) = stored(b"records", Compression::Off);
        let elsewhere = PageRef { addr: PageAddr { offset: 128, ..page.addr }, ..page };
        assert!(matches!(open(&elsewhere, bytes), Err(PageFault::Checksum { .. })));
    }

    #[test]
    fn a_raw_length_beyond_the_bound_makes_no_room() {
        for raw in [u32::MAX, PAGE_BYTES_MAX as u32 + 1, 256 * 8 + 1] {
            let mut bytes = vec![PageKind::Leaf as u8, 1];
            bytes.put_u32(raw);
            bytes.put_bytes(&[0; 8]);
            assert_eq!(open_unproven(bytes).unwrap_err().what, "page raw length");
        }
    }
}
