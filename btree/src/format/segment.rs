//! The bytes of a page segment: `pages/{number:020}.pages`.
//!
//! Header, pages, index, zeros, trailer; a multiple of 4 KiB long. All numbers little-endian.
//!
//! Header, the same in every version:
//!
//! | offset | bytes | name | meaning |
//! |---|---|---|---|
//! | 0 | 8 | magic | `lwpages1` |
//! | 8 | 2 | read version | needed to read the file: 1 |
//! | 10 | 2 | write version | that wrote it: 1 |
//! | 12 | 1 | cipher id | 0 = none |
//! | 13 | 1 | stream | 0 base, 1 delta, 2 hot, 3 cold, 4 overflow; of interest to statistics only |
//! | 14 | 2 | | zero |
//! | 16 | 8 | number | that of the file's name |
//! | 24 | 16 | database id | |
//! | 40 | 20 | | zero |
//! | 60 | 4 | crc32 | of bytes 0–59 |
//!
//! From offset 64 pages stand one behind the other without gaps ([`super::page`]), each described by the index:
//!
//! | bytes | name | meaning |
//! |---|---|---|
//! | 1 | kind | as in the page |
//! | 1 | level | 0 leaf, delta, overflow; 1 … of inner pages |
//! | varint | keyspace | |
//! | varint | stored bytes | the page's offset is the sum of those before it |
//! | 4 | crc32 | seeded with the page's place, as the parent has it |
//! | varint | shared | bytes in common with the low key of the page before |
//! | varint, … | rest | of the low key: the least key that belongs to the page; of an overflow page, the record's key |
//!
//! Trailer, the last 64 bytes:
//!
//! | offset | bytes | name | meaning |
//! |---|---|---|---|
//! | 0 | 8 | magic | `lwpagend` |
//! | 8 | 8 | number | that of the header |
//! | 16 | 4 | index offset | where the pages end |
//! | 20 | 4 | index bytes | |
//! | 24 | 4 | page count | |
//! | 28 | 4 | index crc32 | |
//! | 32 | 28 | | zero |
//! | 60 | 4 | crc32 | of bytes 0–59 |
//!
//! # Validity
//! 1. Header, index and trailer verify; index entries cover header to index exactly; what lies between index and
//!    trailer is zero. So every byte of the file is covered.
//! 2. A segment counts only when a manifest names it, by number *and* SHA-256 of all its bytes. It is then sealed:
//!    never grown, punched, recycled or healed in place. Damaged pages are written again elsewhere.
//! 3. A segment that no manifest names is a left-over of a crash, however whole it looks. It is thrown away, not
//!    continued, and its number is not used again while any file or readable manifest knows it.
//! 4. A read version above ours, in a header that verifies, is a newer format and not damage.
//!
//! Readers of pages need none of this: a parent's reference is enough. The index is for whom no parent leads: the
//! cleaner, the scrub, and healing, which learn from it keyspace and key range of every page.

use logwood_base::checksum::{Seed, checksum};
use logwood_base::codec::{CodecError, Reader, Writer};
use logwood_base::limits::{BLOCK_BYTES, KEY_BYTES_MAX, PAGE_BYTES_MAX};
use logwood_base::{DatabaseId, FormatVersion, KeyspaceId, PageAddr, SegmentNo};

use super::page::{ENVELOPE_BYTES, PageKind, PageRef};
use super::records::common_bytes;

/// Length of the header; the first page stands here.
pub const HEADER_BYTES: usize = 64;
/// Length of the trailer.
pub const TRAILER_BYTES: usize = 64;
/// The greatest version that this program reads, and the one that it writes.
pub const VERSION: FormatVersion = FormatVersion(1);

const MAGIC: &[u8; 8] = b"lwpages1";
const END_MAGIC: &[u8; 8] = b"lwpagend";

/// Which pages a segment gathers: those that are likely to die together.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(u8)]
pub enum Stream {
    /// Images written by ordinary checkpoints.
    Base = 0,
    /// Delta blocks.
    Delta = 1,
    /// Images that are rewritten often.
    Hot = 2,
    /// Images moved by the cleaner: they have proved to live long.
    Cold = 3,
    /// Pieces of long values.
    Overflow = 4,
}

impl Stream {
    /// All of them, in order of their byte.
    pub const ALL: [Self; 5] = [Self::Base, Self::Delta, Self::Hot, Self::Cold, Self::Overflow];

    /// The stream that `byte` stands for.
    #[must_use]
    pub fn from_byte(byte: u8) -> Option<Self> {
        Self::ALL.get(usize::from(byte)).copied()
    }
}

/// What the header says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SegmentHeader {
    /// Number of the segment.
    pub number: SegmentNo,
    /// The database that it belongs to.
    pub database: DatabaseId,
    /// Which pages it gathers.
    pub stream: Stream,
}

/// Why a header is refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum HeaderFault {
    /// It is whole, and of a version that this program does not read.
    Newer(FormatVersion),
    /// It is damaged.
    Damaged(CodecError),
}

impl From<CodecError> for HeaderFault {
    fn from(error: CodecError) -> Self {
        Self::Damaged(error)
    }
}

impl SegmentHeader {
    /// The header's bytes.
    #[must_use]
    pub fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut out = Vec::with_capacity(HEADER_BYTES);
        out.put_bytes(MAGIC);
        out.put_u16(VERSION.0);
        out.put_u16(VERSION.0);
        out.put_u8(0);
        out.put_u8(self.stream as u8);
        out.put_u16(0);
        out.put_u64(self.number.get());
        out.put_u128(self.database.0);
        close_block(out)
    }

    /// Reads a header.
    ///
    /// # Errors
    /// [`HeaderFault::Newer`] only when the header verifies.
    pub fn decode(bytes: &[u8]) -> Result<Self, HeaderFault> {
        let mut reader = open_block(bytes, MAGIC, "segment header")?;
        let read_version = FormatVersion(reader.u16("read version")?);
        if read_version > VERSION {
            return Err(HeaderFault::Newer(read_version));
        }
        reader.u16("write version")?;
        let error = reader.error("cipher id");
        if reader.u8("cipher id")? != 0 {
            return Err(error.into());
        }
        let error = reader.error("stream");
        let stream = Stream::from_byte(reader.u8("stream")?).ok_or(error)?;
        reader.u16("reserved")?;
        let number = SegmentNo(reader.u64("segment number")?);
        let database = DatabaseId(reader.u128("database id")?);
        Ok(Self { number, database, stream })
    }
}

/// Pads to 60 bytes and appends their checksum.
fn close_block(mut out: Vec<u8>) -> [u8; 64] {
    out.resize(60, 0);
    let crc = checksum(Seed::new(), &out);
    out.put_u32(crc);
    out.try_into().expect("64 bytes")
}

/// Verifies a block of 64 bytes and reads its magic.
fn open_block<'a>(bytes: &'a [u8], magic: &[u8; 8], what: &'static str) -> Result<Reader<'a>, CodecError> {
    let mut reader = Reader::new(bytes);
    let body = reader.bytes(60, what)?;
    let error = reader.error(what);
    if reader.u32(what)? != checksum(Seed::new(), body) {
        return Err(error);
    }
    let mut reader = Reader::new(body);
    let error = reader.error(what);
    if reader.array::<8>(what)? == *magic { Ok(reader) } else { Err(error) }
}

/// What a page's index entry says of it besides its place.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Label<'a> {
    /// What it holds.
    pub kind: PageKind,
    /// 0 for leaves, their delta blocks and overflow pages.
    pub level: u8,
    /// Whose it is.
    pub keyspace: KeyspaceId,
    /// The least key that belongs to it (a fence will do); of an overflow page, the record's key.
    pub low_key: &'a [u8],
}

/// A page as the index names it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PageLabel {
    /// Where it stands, and its checksum.
    pub page: PageRef,
    /// What it holds.
    pub kind: PageKind,
    /// 0 for leaves, their delta blocks and overflow pages.
    pub level: u8,
    /// Whose it is.
    pub keyspace: KeyspaceId,
    /// The least key that belongs to it.
    pub low_key: Vec<u8>,
}

/// Gathers the index while pages are appended.
#[derive(Debug, Default)]
pub struct IndexBuilder {
    bytes: Vec<u8>,
    last_key: Vec<u8>,
    count: u32,
}

impl IndexBuilder {
    /// Adds the next page.
    ///
    /// # Panics
    /// When the low key is longer than a key may be.
    pub fn push(&mut self, page: &PageRef, label: &Label<'_>) {
        assert!(
            label.low_key.len() <= KEY_BYTES_MAX,
            "a low key of {} bytes is too long",
            label.low_key.len()
        );
        let shared = common_bytes(&self.last_key, label.low_key);
        let out = &mut self.bytes;
        out.put_u8(label.kind as u8);
        out.put_u8(label.level);
        out.put_varint(label.keyspace.get());
        out.put_varint(u64::from(page.bytes));
        out.put_u32(page.crc);
        out.put_varint(shared as u64);
        out.put_length_prefixed(&label.low_key[shared..]);
        self.last_key.truncate(shared);
        self.last_key.extend_from_slice(&label.low_key[shared..]);
        self.count += 1;
    }

    /// Pages so far.
    #[must_use]
    pub const fn count(&self) -> u32 {
        self.count
    }

    /// The index so far, for readers of an unfinished segment: see [`read_index`].
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Appends index, zeros and trailer to the image of segment `number`, whose pages are complete.
    pub fn finish(&self, number: SegmentNo, image: &mut logwood_base::AlignedBuffer) {
        let index_offset = image.len() as u32;
        image.put_bytes(&self.bytes);
        let end = (image.len() + TRAILER_BYTES).next_multiple_of(BLOCK_BYTES);
        image.pad_to(end - TRAILER_BYTES);
        let mut out = Vec::with_capacity(TRAILER_BYTES);
        out.put_bytes(END_MAGIC);
        out.put_u64(number.get());
        out.put_u32(index_offset);
        out.put_u32(self.bytes.len() as u32);
        out.put_u32(self.count);
        out.put_u32(checksum(Seed::new().u64(number.get()), &self.bytes));
        image.put_bytes(&close_block(out));
    }
}

/// What the trailer says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Trailer {
    /// Where the pages end and the index begins.
    pub index_offset: u32,
    /// Length of the index.
    pub index_bytes: u32,
    /// How many pages it names.
    pub count: u32,
    index_crc: u32,
}

impl Trailer {
    /// Reads the trailer of segment `number`, whose file is `file_bytes` long.
    ///
    /// # Errors
    /// When it does not verify, or does not fit the file.
    pub fn decode(bytes: &[u8], number: SegmentNo, file_bytes: u64) -> Result<Self, CodecError> {
        let mut reader = open_block(bytes, END_MAGIC, "segment trailer")?;
        let error = reader.error("segment trailer number");
        if reader.u64("segment trailer number")? != number.get() {
            return Err(error);
        }
        let error = reader.error("segment trailer");
        let index_offset = reader.u32("index offset")?;
        let index_bytes = reader.u32("index length")?;
        let count = reader.u32("page count")?;
        let index_crc = reader.u32("index checksum")?;
        let end = u64::from(index_offset) + u64::from(index_bytes) + TRAILER_BYTES as u64;
        if (index_offset as usize) < HEADER_BYTES || end.next_multiple_of(BLOCK_BYTES as u64) != file_bytes {
            return Err(error);
        }
        Ok(Self { index_offset, index_bytes, count, index_crc })
    }

    /// Verifies the index's bytes.
    ///
    /// # Errors
    /// When they do not sum up.
    pub fn check_index(&self, number: SegmentNo, index: &[u8]) -> Result<(), CodecError> {
        let sums = checksum(Seed::new().u64(number.get()), index) == self.index_crc;
        if sums { Ok(()) } else { Err(CodecError { offset: 0, what: "segment index checksum" }) }
    }
}

/// Walks an index whose pages end at `pages_end`, and hands each page to `visit`.
///
/// # Errors
/// When the bytes are not an index, or its pages do not fill header to `pages_end` exactly. What was visited before
/// an error was named by the bytes, and is not proven.
pub fn read_index(
    number: SegmentNo,
    index: &[u8],
    pages_end: u32,
    mut visit: impl FnMut(&PageRef, &Label<'_>),
) -> Result<(), CodecError> {
    let mut reader = Reader::new(index);
    let mut offset = HEADER_BYTES as u32;
    let mut low_key: Vec<u8> = Vec::new();
    while reader.remaining() > 0 {
        let error = reader.error("index entry");
        let kind = PageKind::from_byte(reader.u8("page kind")?).ok_or(error)?;
        let level = reader.u8("page level")?;
        let keyspace = KeyspaceId(reader.varint("page keyspace")?);
        let bytes = reader.varint("page length")?;
        let crc = reader.u32("page checksum")?;
        let shared = reader.varint("shared key bytes")?;
        let rest = reader.length_prefixed(KEY_BYTES_MAX, "low key")?;
        if bytes < ENVELOPE_BYTES as u64 || bytes > PAGE_BYTES_MAX as u64 || shared > low_key.len() as u64 {
            return Err(error);
        }
        low_key.truncate(shared as usize);
        low_key.extend_from_slice(rest);
        let end = offset.checked_add(bytes as u32).filter(|end| *end <= pages_end).ok_or(error)?;
        if low_key.len() > KEY_BYTES_MAX {
            return Err(error);
        }
        let page = PageRef { addr: PageAddr { segment: number, offset }, bytes: bytes as u32, crc };
        visit(&page, &Label { kind, level, keyspace, low_key: &low_key });
        offset = end;
    }
    if offset == pages_end { Ok(()) } else { Err(reader.error("end of the index")) }
}
