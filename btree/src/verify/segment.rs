//! One page segment: its frame, its pages, its hash. Over a file, or over bytes in memory that were proven elsewhere.

use std::borrow::Cow;
use std::path::Path;

use logwood_base::codec::CodecError;
use logwood_base::{Corruption, Error, Result, SegmentNo};

use super::derived::{DerivedSegment, PageSums};
use super::{Damage, KeyRange, hex};
use crate::format::delta::DeltaReader;
use crate::format::inner::InnerReader;
use crate::format::leaf::LeafReader;
use crate::format::manifest::{ContentHash, SegmentEntry};
use crate::format::page::{self, PageKind, PageRef, checksum_at};
use crate::format::segment::{
    HEADER_BYTES, HeaderFault, Label, SegmentHeader, TRAILER_BYTES, Trailer, VERSION, read_index,
};

/// The bytes of a segment: handed out in order, but for its trailer and index, which are asked for before.
pub(super) trait SegmentBytes {
    /// How many there are.
    fn size(&self) -> u64;

    /// Some of them, which are there.
    fn part(&self, at: u64, length: usize) -> Result<Cow<'_, [u8]>>;

    /// The next ones, which are there.
    fn take(&mut self, length: usize) -> Result<&[u8]>;

    /// Goes to `offset`, which is not before what was taken.
    fn skip_to(&mut self, offset: u64) -> Result<()>;

    /// The hash of all of them; `None` when they were proven before.
    fn finish(&mut self) -> Result<Option<ContentHash>>;
}

/// Bytes in memory whose hash is that of the manifest.
pub(super) struct Proven<'a> {
    bytes: &'a [u8],
    taken: usize,
}

impl<'a> Proven<'a> {
    pub(super) const fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, taken: 0 }
    }
}

impl SegmentBytes for Proven<'_> {
    fn size(&self) -> u64 {
        self.bytes.len() as u64
    }

    fn part(&self, at: u64, length: usize) -> Result<Cow<'_, [u8]>> {
        let part = self.bytes.get(at as usize..).and_then(|rest| rest.get(..length));
        part.map(Cow::Borrowed).ok_or_else(beyond)
    }

    fn take(&mut self, length: usize) -> Result<&[u8]> {
        let taken = self.bytes.get(self.taken..).and_then(|rest| rest.get(..length)).ok_or_else(beyond)?;
        self.taken += length;
        Ok(taken)
    }

    fn skip_to(&mut self, offset: u64) -> Result<()> {
        self.taken = offset as usize;
        Ok(())
    }

    fn finish(&mut self) -> Result<Option<ContentHash>> {
        Ok(None)
    }
}

/// A segment that shrank while it was read, or a mistake of the caller.
pub(super) fn beyond() -> Error {
    Error::Internal("a read beyond what the trailer promises".into())
}

/// Verifies one segment, and gathers what its leaves and delta blocks hold.
pub(super) struct SegmentCheck<'a> {
    path: &'a Path,
    entry: &'a SegmentEntry,
    /// Whether somebody asks for what pages hold, and not for damage alone.
    derives: bool,
    found: DerivedSegment,
}

impl<'a> SegmentCheck<'a> {
    pub(super) fn new(path: &'a Path, entry: &'a SegmentEntry, derives: bool) -> Self {
        Self { path, entry, derives, found: DerivedSegment::new(entry) }
    }

    /// Reads all of it. Damage that only the content hash sees is named as such.
    pub(super) fn run(mut self, bytes: &mut dyn SegmentBytes) -> Result<DerivedSegment> {
        let size = bytes.size();
        if size != u64::from(self.entry.bytes) {
            let expected = format!("{} bytes", self.entry.bytes);
            self.damage(0, "page segment length", expected, format!("{size} bytes"));
        }
        let index = self.index(bytes)?;
        self.header(bytes.take(HEADER_BYTES.min(size as usize))?)?;
        if let Some((trailer, index)) = index {
            self.pages(bytes, trailer, &index)?;
            let zeros_at = u64::from(trailer.index_offset) + index.len() as u64;
            bytes.skip_to(zeros_at)?;
            let zeros = bytes.take((size - TRAILER_BYTES as u64 - zeros_at) as usize)?;
            if let Some(at) = zeros.iter().position(|byte| *byte != 0) {
                let found = format!("{:02x}", zeros[at]);
                self.damage(zeros_at + at as u64, "segment padding", "00".to_owned(), found);
            }
        }
        if let Some(hash) = bytes.finish()?
            && hash != self.entry.hash
            && self.found.damage.is_empty()
        {
            self.damage(0, "content hash", hex(&self.entry.hash), hex(&hash));
        }
        Ok(self.found)
    }

    fn damage(&mut self, at: u64, check: &'static str, expected: String, found: String) {
        self.found.damage.push(Damage::at(Corruption::new(self.path, at, check, expected, found)));
    }

    fn structure(&mut self, at: u64, check: &'static str, error: CodecError) {
        self.damage(at, check, "a valid one".to_owned(), error.to_string());
    }

    fn number(&self) -> SegmentNo {
        self.entry.number
    }

    fn header(&mut self, bytes: &[u8]) -> Result<()> {
        let found = match SegmentHeader::decode(bytes) {
            Ok(header) if header.number == self.number() => return Ok(()),
            Ok(header) => format!("the header of segment {}", header.number),
            Err(HeaderFault::Newer(needed)) => {
                let path = self.path.to_owned();
                return Err(Error::UnsupportedFormat { path, needed, supported: VERSION });
            }
            Err(HeaderFault::Damaged(error)) => error.to_string(),
        };
        self.damage(0, "segment header", format!("the header of segment {}", self.number()), found);
        Ok(())
    }

    /// Trailer and index, when both verify.
    fn index(&mut self, bytes: &dyn SegmentBytes) -> Result<Option<(Trailer, Vec<u8>)>> {
        let size = bytes.size();
        let Some(at) = size.checked_sub(TRAILER_BYTES as u64).filter(|at| *at >= HEADER_BYTES as u64) else {
            return Ok(None);
        };
        let trailer = match Trailer::decode(&bytes.part(at, TRAILER_BYTES)?, self.number(), size) {
            Ok(trailer) => trailer,
            Err(error) => {
                self.structure(at, "segment trailer", error);
                return Ok(None);
            }
        };
        let at = u64::from(trailer.index_offset);
        let index = bytes.part(at, trailer.index_bytes as usize)?;
        match trailer.check_index(self.number(), &index) {
            Ok(()) => Ok(Some((trailer, index.into_owned()))),
            Err(error) => {
                self.structure(at, "segment index", error);
                Ok(None)
            }
        }
    }

    fn pages(&mut self, bytes: &mut dyn SegmentBytes, trailer: Trailer, index: &[u8]) -> Result<()> {
        let mut failure = None;
        let mut count = 0;
        let read = read_index(self.number(), index, trailer.index_offset, |page, label| {
            count += 1;
            if failure.is_none() {
                match bytes.take(page.bytes as usize) {
                    Ok(stored) => self.page(page, label, stored),
                    Err(error) => failure = Some(error),
                }
            }
        });
        if let Some(error) = failure {
            return Err(error);
        }
        let error = read.err().or_else(|| {
            (count != trailer.count).then_some(CodecError { offset: index.len(), what: "number of pages" })
        });
        if let Some(error) = error {
            self.structure(u64::from(trailer.index_offset), "segment index", error);
        }
        Ok(())
    }

    fn page(&mut self, page: &PageRef, label: &Label<'_>, stored: &[u8]) {
        self.found.pages += 1;
        let at = u64::from(page.addr.offset);
        let found = checksum_at(page.addr, stored);
        let corruption = if found == page.crc {
            match judge(label, stored, &mut self.found.sums) {
                Ok(kind @ (PageKind::Leaf | PageKind::Delta)) if self.derives => {
                    return self.found.keep(page, kind);
                }
                Ok(_) => return,
                Err(error) => Corruption::new(self.path, at, "page structure", "a well-formed one", error),
            }
        } else {
            let (expected, found) = (format!("{:08x}", page.crc), format!("{found:08x}"));
            Corruption::new(self.path, at, "page checksum", expected, found)
        };
        let range = KeyRange { low: label.low_key.to_vec(), high: None };
        self.found.damage.push(Damage::of_page(corruption, label.keyspace, range));
    }
}

/// Judges a page that verifies: is it what its label says, and does its body hold together?
///
/// # Errors
/// The first rule that is broken.
pub fn check_page(label: &Label<'_>, stored: &[u8]) -> Result<(), CodecError> {
    judge(label, stored, &mut PageSums::default()).map(drop)
}

/// As [`check_page`]; of a leaf or a delta block, the sums of its records are left in `sums`.
fn judge(label: &Label<'_>, stored: &[u8], sums: &mut PageSums) -> Result<PageKind, CodecError> {
    let (kind, body) = page::view_unproven(stored)?;
    let broken = |what| Err(CodecError { offset: 0, what });
    if kind != label.kind {
        return broken("page kind of the index");
    }
    let is_below = |key: &[u8]| key < label.low_key;
    let below = match kind {
        PageKind::Leaf => {
            sums.clear();
            LeafReader::new(&body)?.check_each(|key, value| sums.add(key, Some(value)))?;
            sums.first().is_some_and(is_below)
        }
        PageKind::Delta => {
            sums.clear();
            DeltaReader::new(&body)?.check_each(|key, value| sums.add(key, value))?;
            sums.first().is_some_and(is_below)
        }
        PageKind::Inner => {
            let inner = InnerReader::new(&body)?;
            inner.check()?;
            if inner.level() != label.level {
                return broken("level of the index");
            }
            false
        }
        PageKind::Overflow => false,
    };
    if below { broken("low key of the index") } else { Ok(kind) }
}
