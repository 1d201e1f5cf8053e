//! Writing a log object.

use logwood_base::codec::Writer;
use logwood_base::limits::{
    ARCHIVE_ENTRIES_BYTES_MAX, ARCHIVE_FRAME_BYTES_MAX, ENTRY_PAYLOAD_BYTES_MAX, check,
};
use logwood_base::{Error, Lsn, Result, Term};
use sha2::{Digest as _, Sha256};

use super::{LZ4, LogManifest};
use crate::archive::object::{Encoded, Kind, Link, Owner, encode};
use crate::entry::{Body, DecodeError, Entry};

/// What an entry takes besides its payload, at most.
const ENTRY_OVERHEAD_MAX: usize = 10 + 4;

/// Gathers entries for a log object. Each is checked: it has the number that follows, a term and a time that do not go
/// back, and a payload that decodes.
#[derive(Debug)]
pub struct LogWriter {
    owner: Owner,
    first_lsn: Lsn,
    next: Lsn,
    first: (Term, u64),
    last: (Term, u64),
    marks: Vec<(Lsn, Vec<u8>)>,
    entries: Vec<u8>,
}

impl LogWriter {
    /// An object that begins at `first_lsn`, behind an entry of `before`'s term and time.
    #[must_use]
    pub fn new(owner: Owner, first_lsn: Lsn, before: (Term, u64)) -> Self {
        Self {
            owner,
            first_lsn,
            next: first_lsn,
            first: before,
            last: before,
            marks: Vec::new(),
            entries: Vec::new(),
        }
    }

    /// The entry that comes next.
    #[must_use]
    pub fn next_lsn(&self) -> Lsn {
        self.next
    }

    /// Bytes gathered.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.entries.len()
    }

    /// Whether nothing was gathered.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Whether an object has room for one more entry with such a payload.
    #[must_use]
    pub fn has_room(&self, payload_bytes: usize) -> bool {
        self.entries.len() + payload_bytes + ENTRY_OVERHEAD_MAX <= ARCHIVE_ENTRIES_BYTES_MAX
    }

    /// Takes the next entry.
    ///
    /// # Errors
    /// `Corruption`-like evidence as `Internal` for an entry that does not follow or does not decode: it must not be
    /// archived; `UnsupportedFormat` for one of a newer version; `LimitExceeded` without room.
    pub fn push(&mut self, lsn: Lsn, term: Term, payload: &[u8]) -> Result<()> {
        check("entry bytes", payload.len(), ENTRY_PAYLOAD_BYTES_MAX)?;
        check("archived entries bytes", self.entries.len() + payload.len(), ARCHIVE_ENTRIES_BYTES_MAX)?;
        let refuse = |what: &str| Err(Error::Internal(format!("entry {lsn} is not archived: {what}")));
        if lsn != self.next {
            return refuse("it does not follow the one before");
        }
        let entry = match Entry::decode(payload) {
            Ok(entry) => entry,
            Err(error @ DecodeError::Newer) => return Err(error.at(std::path::Path::new("log"), lsn)),
            Err(DecodeError::Malformed(error)) => return refuse(&error.to_string()),
        };
        if term < self.last.0 || term == Term::NONE || entry.time_ms < self.last.1 {
            return refuse("its term or its time goes back");
        }
        if self.entries.is_empty() {
            self.first = (term, entry.time_ms);
        }
        if matches!(entry.body, Body::Mark { .. }) {
            self.marks.push((lsn, payload.to_vec()));
        }
        self.last = (term, entry.time_ms);
        self.next = lsn.next();
        self.entries.put_varint(term.get());
        self.entries.put_length_prefixed(payload);
        Ok(())
    }

    /// The object, compressed.
    ///
    /// # Panics
    /// Without entries.
    #[must_use]
    pub fn finish(&self, previous: Link) -> (LogManifest, Encoded) {
        assert!(!self.entries.is_empty(), "a log object holds entries");
        let manifest = LogManifest {
            owner: self.owner,
            first_lsn: self.first_lsn,
            last_lsn: self.next.previous(),
            first_term: self.first.0,
            last_term: self.last.0,
            first_time_ms: self.first.1,
            last_time_ms: self.last.1,
            entries_hash: Sha256::digest(&self.entries).into(),
            previous,
            marks: self.marks.clone(),
        };
        let (mut frames, mut content) = (Vec::new(), Vec::new());
        for raw in self.entries.chunks(ARCHIVE_FRAME_BYTES_MAX) {
            let packed = lz4_flex::block::compress(raw);
            let stored = if packed.len() < raw.len() { &packed } else { raw };
            frames.push((raw.len() as u32, stored.len() as u32));
            content.extend_from_slice(stored);
        }
        let mut bytes = Vec::with_capacity(256);
        manifest.put(&mut bytes);
        bytes.put_u8(LZ4);
        bytes.put_varint(frames.len() as u64);
        for (raw, stored) in frames {
            bytes.put_u32(raw);
            bytes.put_u32(stored);
        }
        let encoded = encode(Kind::Log, &bytes, &content);
        (manifest, encoded)
    }
}
