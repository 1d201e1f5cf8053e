//! BYTES of a log object: entries, compressed, behind a manifest that says what they are.
//!
//! The manifest:
//!
//! | bytes | name | meaning |
//! |---|---|---|
//! | 16, 16 | owner | database id, lineage id |
//! | 8, 8 | LSNs | of the first entry and of the last |
//! | 8 | count | of entries |
//! | 8, 8 | terms | of the first entry and of the last |
//! | 8, 8 | times | of the first entry and of the last, milliseconds since 1970 |
//! | 32 | entries hash | SHA-256 of the entries, uncompressed |
//! | 32 | previous | link of the object before it in the chain |
//! | varint | marks | digest marks among the entries, then for each, ascending: |
//! | varint | LSN − first | |
//! | varint, … | payload | the entry's own |
//! | 1 | compression | 1: lz4 blocks |
//! | varint | frames | then, for each: |
//! | 4 | raw bytes | of entries in it; 1 to [`ARCHIVE_FRAME_BYTES_MAX`] |
//! | 4 | stored bytes | equal to raw bytes: stored as they are; never more |
//!
//! The content is the frames, one behind the other; an entry may begin in one and end in the next. The entries are
//! *canonical*: they depend on the log alone, not on who archives it.
//!
//! | bytes | name | meaning |
//! |---|---|---|
//! | varint | term | at least 1 |
//! | varint, … | payload | at most [`ENTRY_PAYLOAD_BYTES_MAX`] |
//!
//! # Validity
//! Beyond the envelope's: first ≤ last and the count is theirs; frames' sizes sum to the content, and their raw sizes to
//! at most [`ARCHIVE_ENTRIES_BYTES_MAX`]; the hash is that of the decompressed entries; they are dense, their terms and
//! times never go back, the first's and the last's are those of the manifest; each payload is an entry.

use logwood_base::codec::{CodecError, Reader, Writer};
use logwood_base::limits::{ARCHIVE_ENTRIES_BYTES_MAX, ARCHIVE_FRAME_BYTES_MAX, ENTRY_PAYLOAD_BYTES_MAX};
use logwood_base::{ArchiveDamage, Error, Lsn, Result, Term};
use sha2::{Digest as _, Sha256};

use super::{Kind, Link, Owner, open_as, take_count, take_lsn, undecodable};
use crate::archive::layout::{hex, log_key};
use crate::entry::{Body, DecodeError, Entry};

mod writer;

pub use writer::LogWriter;

/// Most bytes of a content: frames never take more than their entries.
pub(crate) const CONTENT_BYTES_MAX: u64 = ARCHIVE_ENTRIES_BYTES_MAX as u64;

const LZ4: u8 = 1;
const FRAME_ENTRY_BYTES: usize = 8;

/// What a log object says of its entries.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LogManifest {
    /// Whose they are.
    pub owner: Owner,
    /// The first entry.
    pub first_lsn: Lsn,
    /// The last entry.
    pub last_lsn: Lsn,
    /// Its term, of the first.
    pub first_term: Term,
    /// Of the last.
    pub last_term: Term,
    /// When the first was made, in milliseconds since 1970.
    pub first_time_ms: u64,
    /// When the last was made.
    pub last_time_ms: u64,
    /// SHA-256 of the entries, uncompressed.
    pub entries_hash: [u8; 32],
    /// The object before it in the chain.
    pub previous: Link,
    /// Digest marks among the entries: LSN and payload.
    pub marks: Vec<(Lsn, Vec<u8>)>,
}

/// A log object, read and proven.
#[derive(Clone, Debug)]
pub struct LogObject {
    /// What it says of its entries.
    pub manifest: LogManifest,
    /// Names it in the chain.
    pub link: Link,
    entries: Vec<u8>,
}

impl LogManifest {
    /// Where the object stands.
    #[must_use]
    pub fn key(&self) -> String {
        log_key(self.owner.lineage, self.first_lsn)
    }

    /// Reads the manifest of an object whose content was not read, and which is not proven therefore.
    pub(crate) fn peek(key: &str, manifest: &[u8]) -> Result<Self> {
        let manifest = Self::take(&mut Reader::new(manifest)).map_err(|error| undecodable(key, error))?;
        if manifest.key() == key {
            return Ok(manifest);
        }
        // Of another place, it says nothing of the entries that are missed at this one.
        Err(ArchiveDamage::new(key, "object key", key, manifest.key()).into())
    }

    fn put(&self, bytes: &mut Vec<u8>) {
        self.owner.put(bytes);
        bytes.put_u64(self.first_lsn.get());
        bytes.put_u64(self.last_lsn.get());
        bytes.put_u64(self.last_lsn.next().entries_since(self.first_lsn));
        bytes.put_u64(self.first_term.get());
        bytes.put_u64(self.last_term.get());
        bytes.put_u64(self.first_time_ms);
        bytes.put_u64(self.last_time_ms);
        bytes.put_bytes(&self.entries_hash);
        bytes.put_bytes(&self.previous.0);
        bytes.put_varint(self.marks.len() as u64);
        for (lsn, payload) in &self.marks {
            bytes.put_varint(lsn.entries_since(self.first_lsn));
            bytes.put_length_prefixed(payload);
        }
    }

    fn take(reader: &mut Reader<'_>) -> Result<Self, CodecError> {
        let owner = Owner::take(reader)?;
        let first_lsn = take_lsn(reader, "first lsn")?;
        let error = reader.error("last lsn");
        let last_lsn = take_lsn(reader, "last lsn")?;
        let count = reader.u64("count of entries")?;
        if last_lsn < first_lsn || count != last_lsn.next().entries_since(first_lsn) {
            return Err(error);
        }
        let error = reader.error("terms");
        let (first_term, last_term) = (Term(reader.u64("first term")?), Term(reader.u64("last term")?));
        let (first_time_ms, last_time_ms) = (reader.u64("first time")?, reader.u64("last time")?);
        if first_term == Term::NONE || last_term < first_term || last_time_ms < first_time_ms {
            return Err(error);
        }
        let entries_hash = reader.array("entries hash")?;
        let previous = Link(reader.array("previous object")?);
        let mut marks: Vec<(Lsn, Vec<u8>)> = Vec::new();
        for _ in 0..take_count(reader, 2, "count of marks")? {
            let error = reader.error("mark");
            let behind = reader.varint("mark")?;
            let lsn = first_lsn.checked_add(behind).filter(|lsn| *lsn <= last_lsn).ok_or(error)?;
            if marks.last().is_some_and(|(before, _)| *before >= lsn) {
                return Err(error);
            }
            marks.push((lsn, reader.length_prefixed(ENTRY_PAYLOAD_BYTES_MAX, "mark")?.to_vec()));
        }
        Ok(Self {
            owner,
            first_lsn,
            last_lsn,
            first_term,
            last_term,
            first_time_ms,
            last_time_ms,
            entries_hash,
            previous,
            marks,
        })
    }
}

impl LogObject {
    /// Reads the object that was fetched from `key` and proves everything that it says of itself.
    ///
    /// # Errors
    /// `ArchiveCorrupt`, `UnsupportedFormat`.
    pub fn decode(key: &str, bytes: &[u8]) -> Result<Self> {
        let envelope = open_as(key, bytes, Kind::Log)?;
        let mut reader = Reader::new(envelope.manifest);
        let manifest = LogManifest::take(&mut reader).map_err(|error| undecodable(key, error))?;
        let frames =
            take_frames(&mut reader, envelope.content.len()).map_err(|error| undecodable(key, error))?;
        let damage = |check, expected: String, found: String| {
            let damage = ArchiveDamage::new(key, check, expected, found);
            Error::from(damage.taking(manifest.first_lsn, manifest.last_lsn))
        };
        if manifest.key() != key {
            return Err(ArchiveDamage::new(key, "object key", key, manifest.key()).into());
        }
        let total: usize = frames.iter().map(|(raw, _)| raw).sum();
        let mut entries = vec![0u8; total];
        let (mut content, mut at) = (envelope.content, 0);
        for (raw, stored) in frames {
            let (frame, rest) = content.split_at(stored);
            let room = &mut entries[at..at + raw];
            if stored == raw {
                room.copy_from_slice(frame);
            } else if lz4_flex::block::decompress_into(frame, room).ok() != Some(raw) {
                return Err(damage("frame", format!("{raw} bytes"), "another length".to_owned()));
            }
            (content, at) = (rest, at + raw);
        }
        let hash: [u8; 32] = Sha256::digest(&entries).into();
        if hash != manifest.entries_hash {
            return Err(damage("entries hash", hex(&manifest.entries_hash), hex(&hash)));
        }
        let object = Self { manifest, link: envelope.link, entries };
        object.check_entries().map_err(|what| {
            let damage = ArchiveDamage::new(key, "entries", what, "other entries");
            damage.taking(object.manifest.first_lsn, object.manifest.last_lsn)
        })?;
        Ok(object)
    }

    /// The entries in order.
    #[must_use]
    pub fn entries(&self) -> ArchivedEntries<'_> {
        ArchivedEntries { reader: Reader::new(&self.entries), next: self.manifest.first_lsn }
    }

    /// The entry at a place of the entries' bytes, and the place of the one behind it; `None` at the end. The first
    /// place is 0.
    pub(crate) fn entry_at(&self, at: usize) -> Option<(Term, &[u8], usize)> {
        let mut reader = Reader::new(self.entries.get(at..)?);
        let (term, payload) = take_entry(&mut reader).ok()?;
        Some((term, payload, self.entries.len() - reader.remaining()))
    }

    /// When one of the entries was committed, in milliseconds since 1970.
    pub(crate) fn time_of(&self, lsn: Lsn) -> Option<u64> {
        let (mut at, mut next) = (0, self.manifest.first_lsn);
        while let Some((_, payload, behind)) = self.entry_at(at) {
            if next == lsn {
                return Some(crate::entry::time_of(payload));
            }
            (at, next) = (behind, next.next());
        }
        None
    }

    /// Bytes of the entries, uncompressed.
    #[must_use]
    pub fn entries_bytes(&self) -> usize {
        self.entries.len()
    }

    fn check_entries(&self) -> Result<(), &'static str> {
        let manifest = &self.manifest;
        let mut reader = Reader::new(&self.entries);
        let mut last = (manifest.first_term, manifest.first_time_ms);
        let mut lsn = manifest.first_lsn;
        let mut marks = manifest.marks.iter();
        while reader.remaining() > 0 {
            let (term, payload) = take_entry(&mut reader).map_err(|error| error.what)?;
            // An entry of a newer version has its header where this one has it, and is for the applier to refuse.
            let time_ms = match Entry::decode(payload) {
                Ok(entry) => {
                    if matches!(entry.body, Body::Mark { .. })
                        && marks.next() != Some(&(lsn, payload.to_vec()))
                    {
                        return Err("the marks of the manifest");
                    }
                    entry.time_ms
                }
                Err(DecodeError::Newer) => last.1,
                Err(DecodeError::Malformed(error)) => return Err(error.what),
            };
            let first = lsn == manifest.first_lsn;
            if first && (term, time_ms) != last {
                return Err("term and time of the first entry");
            }
            if term < last.0 || time_ms < last.1 || lsn > manifest.last_lsn {
                return Err("terms and times that do not go back");
            }
            last = (term, time_ms);
            lsn = lsn.next();
        }
        if lsn != manifest.last_lsn.next() || last != (manifest.last_term, manifest.last_time_ms) {
            return Err("the last entry of the manifest");
        }
        if marks.next().is_some() { Err("the marks of the manifest") } else { Ok(()) }
    }
}

/// Iterates over the entries of a [`LogObject`], which were checked when it was read.
#[derive(Clone, Debug)]
pub struct ArchivedEntries<'a> {
    reader: Reader<'a>,
    next: Lsn,
}

impl<'a> Iterator for ArchivedEntries<'a> {
    type Item = (Lsn, Term, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let (term, payload) = take_entry(&mut self.reader).ok()?;
        let lsn = self.next;
        self.next = lsn.next();
        Some((lsn, term, payload))
    }
}

fn take_entry<'a>(reader: &mut Reader<'a>) -> Result<(Term, &'a [u8]), CodecError> {
    let term = Term(reader.varint("term")?);
    Ok((term, reader.length_prefixed(ENTRY_PAYLOAD_BYTES_MAX, "entry")?))
}

/// Reads raw and stored lengths of all frames; nothing is left behind them, and they fill the content.
fn take_frames(reader: &mut Reader<'_>, content: usize) -> Result<Vec<(usize, usize)>, CodecError> {
    let error = reader.error("compression");
    if reader.u8("compression")? != LZ4 {
        return Err(error);
    }
    let error = reader.error("frames");
    let count = take_count(reader, FRAME_ENTRY_BYTES, "count of frames")?;
    let mut frames = Vec::with_capacity(count);
    let (mut raw_total, mut stored_total) = (0usize, 0usize);
    for _ in 0..count {
        let (raw, stored) = (reader.u32("raw bytes")? as usize, reader.u32("stored bytes")? as usize);
        if raw == 0 || raw > ARCHIVE_FRAME_BYTES_MAX || stored == 0 || stored > raw {
            return Err(error);
        }
        raw_total += raw;
        stored_total += stored;
        // Also bounds the sums before they can pass any number.
        if raw_total > ARCHIVE_ENTRIES_BYTES_MAX || stored_total > content {
            return Err(error);
        }
        frames.push((raw, stored));
    }
    reader.finish("end of the manifest")?;
    if stored_total == content && raw_total > 0 { Ok(frames) } else { Err(error) }
}
