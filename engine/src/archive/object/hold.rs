//! BYTES of what keeps uploads, restores and retention out of each other's way.
//!
//! The manifest of a hold, at `hold/{id}`:
//!
//! | bytes | name | meaning |
//! |---|---|---|
//! | 16 | lineage | |
//! | 8 | placed | milliseconds since 1970, by the holder's clock; for people |
//! | 8, 8 | LSNs | the first and the last entry whose objects are needed; 0, 0: none |
//! | 8 | snapshot | LSN of the snapshot that is needed, its pages included; 0: none |
//! | varint | pages | then for each: |
//! | 32 | SHA-256 | of a page segment that is needed |
//!
//! The manifest of a retention run, at `run/{id}`; and when it has ended, of what it asked for without an answer, at
//! `late/{id}`:
//!
//! | bytes | name | meaning |
//! |---|---|---|
//! | 16 | run | its id, as in the key: random |
//! | 8 | begun | milliseconds since 1970, by the run's clock; for people |
//! | varint | keys | at most [`CONDEMNED_MAX`]; then for each: |
//! | varint, … | key | of an object that the run wants to delete, or may yet have deleted |
//!
//! Neither has a content.

use std::collections::BTreeSet;

use logwood_base::codec::{CodecError, Reader, Writer};
use logwood_base::{ArchiveDamage, LineageId, Lsn, Result};

use super::{Encoded, Kind, encode, open_as, take_count, undecodable};
use crate::archive::layout::{
    Sha256, late_key, log_prefix, page_key, parse_lsn, run_key, snapshot_key, start_key,
};

/// Most objects that one retention run condemns; the next run goes on.
pub const CONDEMNED_MAX: usize = 50_000;

/// Longest key of an object.
const KEY_BYTES_MAX: usize = 128;

/// What an upload or a restore needs while it runs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Hold {
    /// The lineage that it works on.
    pub lineage: LineageId,
    /// When it was placed, by the holder's clock, in milliseconds since 1970: for people.
    pub placed_ms: u64,
    /// The first and the last entry whose objects are needed.
    pub log: Option<(Lsn, Lsn)>,
    /// The snapshot that is needed.
    pub snapshot: Option<Lsn>,
    /// Page segments that are needed.
    pub pages: Vec<Sha256>,
}

/// What a retention run wants to delete; or, when it has ended, what may be deleted late.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RetentionRun {
    /// Tells runs apart.
    pub id: u128,
    /// When it began, by its clock, in milliseconds since 1970: for others than itself, for people.
    pub begun_ms: u64,
    /// Keys of objects.
    pub condemned: BTreeSet<String>,
}

impl Hold {
    /// The object.
    #[must_use]
    pub fn encode(&self) -> Encoded {
        let mut bytes = Vec::with_capacity(64 + 32 * self.pages.len());
        bytes.put_u128(self.lineage.0);
        bytes.put_u64(self.placed_ms);
        let (first, last) = self.log.unwrap_or_default();
        bytes.put_u64(first.get());
        bytes.put_u64(last.get());
        bytes.put_u64(self.snapshot.unwrap_or_default().get());
        bytes.put_varint(self.pages.len() as u64);
        for page in &self.pages {
            bytes.put_bytes(page);
        }
        encode(Kind::Hold, &bytes, &[])
    }

    /// Reads the object that was fetched from `key`.
    ///
    /// # Errors
    /// `ArchiveCorrupt`, `UnsupportedFormat`.
    pub fn decode(key: &str, bytes: &[u8]) -> Result<Self> {
        let envelope = open_as(key, bytes, Kind::Hold)?;
        Self::take(envelope.manifest, envelope.content).map_err(|error| undecodable(key, error))
    }

    fn take(manifest: &[u8], content: &[u8]) -> Result<Self, CodecError> {
        Reader::new(content).finish("no content")?;
        let mut reader = Reader::new(manifest);
        let lineage = LineageId(reader.u128("lineage id")?);
        let placed_ms = reader.u64("time")?;
        let error = reader.error("lsns");
        let (first, last) = (Lsn(reader.u64("first lsn")?), Lsn(reader.u64("last lsn")?));
        let log = match (first, last) {
            (Lsn::ZERO, Lsn::ZERO) => None,
            (first, last) if first > Lsn::ZERO && first <= last => Some((first, last)),
            _ => return Err(error),
        };
        let snapshot = Some(Lsn(reader.u64("snapshot lsn")?)).filter(|lsn| *lsn > Lsn::ZERO);
        let count = take_count(&mut reader, 32, "count of pages")?;
        let pages = (0..count).map(|_| reader.array("page")).collect::<Result<_, _>>()?;
        reader.finish("end of the manifest")?;
        Ok(Self { lineage, placed_ms, log, snapshot, pages })
    }

    /// Whether one of these keys is needed. A log object that begins before the first needed entry may hold it, so that
    /// the caller gives the start of the object that does. What is of a lineage needs its start besides.
    #[must_use]
    pub fn needs_any_of(&self, condemned: &BTreeSet<String>) -> bool {
        let log = log_prefix(self.lineage);
        let in_log = |key: &String| {
            let lsn = key.strip_prefix(&log).and_then(parse_lsn);
            lsn.is_some_and(|lsn| self.log.is_some_and(|(first, last)| (first..=last).contains(&lsn)))
        };
        let is_of_lineage = self.snapshot.is_some() || self.log.is_some();
        is_of_lineage && condemned.contains(&start_key(self.lineage))
            || self.snapshot.is_some_and(|lsn| condemned.contains(&snapshot_key(self.lineage, lsn)))
            || self.pages.iter().any(|page| condemned.contains(&page_key(page)))
            || condemned.iter().any(in_log)
    }
}

impl RetentionRun {
    /// Where the object stands while the run is at work.
    #[must_use]
    pub fn key(&self) -> String {
        run_key(self.id)
    }

    /// Where what was not answered stands when it has ended.
    #[must_use]
    pub fn late_key(&self) -> String {
        late_key(self.id)
    }

    /// The object.
    #[must_use]
    pub fn encode(&self) -> Encoded {
        let mut bytes = Vec::with_capacity(64 + 80 * self.condemned.len());
        bytes.put_u128(self.id);
        bytes.put_u64(self.begun_ms);
        bytes.put_varint(self.condemned.len() as u64);
        for key in &self.condemned {
            bytes.put_length_prefixed(key.as_bytes());
        }
        encode(Kind::Retention, &bytes, &[])
    }

    /// Reads the object that was fetched from `key`.
    ///
    /// # Errors
    /// `ArchiveCorrupt`, `UnsupportedFormat`.
    pub fn decode(key: &str, bytes: &[u8]) -> Result<Self> {
        let envelope = open_as(key, bytes, Kind::Retention)?;
        let run = Self::take(envelope.manifest, envelope.content).map_err(|error| undecodable(key, error))?;
        if [run.key(), run.late_key()].iter().any(|own| own == key) {
            return Ok(run);
        }
        Err(ArchiveDamage::new(key, "object key", key, run.key()).into())
    }

    fn take(manifest: &[u8], content: &[u8]) -> Result<Self, CodecError> {
        Reader::new(content).finish("no content")?;
        let mut reader = Reader::new(manifest);
        let (id, begun_ms) = (reader.u128("run")?, reader.u64("time")?);
        let error = reader.error("count of keys");
        let count = take_count(&mut reader, 1, "count of keys")?;
        if count > CONDEMNED_MAX {
            return Err(error);
        }
        let mut condemned = BTreeSet::new();
        for _ in 0..count {
            let error = reader.error("key");
            let key = reader.length_prefixed(KEY_BYTES_MAX, "key")?;
            let key = std::str::from_utf8(key).map_err(|_| error)?;
            // Ascending, so that a run has one encoding.
            if condemned.last().is_some_and(|last: &String| last.as_str() >= key) {
                return Err(error);
            }
            condemned.insert(key.to_owned());
        }
        reader.finish("end of the manifest")?;
        Ok(Self { id, begun_ms, condemned })
    }
}
