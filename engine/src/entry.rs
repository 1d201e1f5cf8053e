//! BYTES of an entry's payload: what the log carries, replicas exchange and the archive keeps.
//!
//! An entry holds effects, never conditions: applying the same entries in the same order gives the same trees
//! anywhere. Its LSN and term stand in the log's batch around it (see `docs/format/entry.md`). All numbers are
//! little-endian; a *varint* is base 128, shortest form; a *string* is a varint length and the bytes.
//!
//! | offset | size | name | meaning |
//! |---|---|---|---|
//! | 0 | 1 | kind | see below |
//! | 1 | 1 | flags | bit 0: a request follows; all others 0 |
//! | 2 | 8 | time_ms | `max(previous entry's, clock)`, milliseconds since 1970 |
//! | 10 | 16 | client | only with a request: who sent it |
//! | 26 | 8 | request | only with a request: its number at that client |
//! | 10 or 34 | … | body | by kind |
//!
//! | kind | name | body |
//! |---|---|---|
//! | 1 | commit | operations up to the end: see [`operation`] |
//! | 2 | create keyspace | varint id, string name (UTF-8) |
//! | 3 | drop keyspace | varint id |
//! | 4 | membership | opaque bytes up to the end |
//! | 5 | open mark | varint keyspace, range |
//! | 6 | mark | varint LSN of the open mark, varint keyspace, range, u64 count, u128 sum of the digest |
//! | 7 | fragment | varint transaction, varint sequence from 0, a piece of operations up to the end |
//! | 8 | commit of fragments | varint transaction, varint count, varint bytes, u128 hash |
//! | 9 | abort | varint transaction |
//! | 10 | no-op | nothing |
//!
//! A *range* is a string `from`, one byte (1: bounded, 0: to the end), and the string `to` when bounded; `to` is
//! excluded. A *transaction* is the LSN of its first fragment. Pieces may end anywhere, also inside an operation:
//! only all of them together are operations, and their hash is [`fragments_hash`].
//!
//! Valid is a payload that is read to its last byte by this table. A kind or flag that is not in it was written by a
//! newer version, which is not damage.
//!
//! Keyspace 0 is kept for the system keyspace (sessions of clients); user keyspaces are numbered from 1.

use std::path::Path;

use logwood_base::codec::{CodecError, Reader, Writer};
use logwood_base::digest::{Digest, RecordHasher};
use logwood_base::limits::{KEY_BYTES_MAX, KEYSPACE_NAME_BYTES_MAX};
use logwood_base::{Corruption, Error, FormatVersion, KeyspaceId, Lsn};

pub mod operation;
#[cfg(test)]
mod tests;

pub use operation::{Operation, OperationIter, Operations};

/// The version of the table above. A payload that needs a newer one is refused as such.
pub const ENTRY_FORMAT: FormatVersion = FormatVersion(1);

/// Bytes before the body of an entry without a request.
pub const HEADER_BYTES: usize = 10;

const FLAG_REQUEST: u8 = 1;
const TIME_OFFSET: usize = 2;

mod kind {
    pub(super) const COMMIT: u8 = 1;
    pub(super) const CREATE_KEYSPACE: u8 = 2;
    pub(super) const DROP_KEYSPACE: u8 = 3;
    pub(super) const MEMBERSHIP: u8 = 4;
    pub(super) const OPEN_MARK: u8 = 5;
    pub(super) const MARK: u8 = 6;
    pub(super) const FRAGMENT: u8 = 7;
    pub(super) const COMMIT_FRAGMENTS: u8 = 8;
    pub(super) const ABORT: u8 = 9;
    pub(super) const NO_OP: u8 = 10;
}

/// A decoded payload. It borrows from the bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Entry<'a> {
    /// When it was committed, in milliseconds since 1970; never less than the entry before.
    pub time_ms: u64,
    /// Which request of which client it answers.
    pub request: Option<Request>,
    /// What it does.
    pub body: Body<'a>,
}

/// A client's request, for exactly-once retries.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Request {
    /// The client's random identity.
    pub client: u128,
    /// Counts the client's requests.
    pub number: u64,
}

/// Keys from `from` up to, and without, `to`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct KeyRange<'a> {
    /// The first key.
    pub from: &'a [u8],
    /// The key behind the last one; `None`: to the end.
    pub to: Option<&'a [u8]>,
}

/// What an entry does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Body<'a> {
    /// Puts and deletes, at once.
    Commit(Operations<'a>),
    /// A new, empty keyspace.
    CreateKeyspace {
        /// Its number, never used before.
        id: KeyspaceId,
        /// Its name.
        name: &'a str,
    },
    /// A keyspace goes, with all it holds.
    DropKeyspace {
        /// Its number.
        id: KeyspaceId,
    },
    /// Who belongs to the group from here on; the bytes belong to the replication above.
    Membership(&'a [u8]),
    /// Every storage replica takes a snapshot here, to compare at the mark that follows.
    OpenMark {
        /// The keyspace compared.
        keyspace: KeyspaceId,
        /// The range compared.
        range: KeyRange<'a>,
    },
    /// The digest that the leader found for an open mark.
    Mark {
        /// The LSN of the open mark.
        opened: Lsn,
        /// The keyspace compared.
        keyspace: KeyspaceId,
        /// The range compared.
        range: KeyRange<'a>,
        /// What a replica must find at `opened`.
        digest: Digest,
    },
    /// A piece of a transaction that is too large for one entry.
    Fragment {
        /// The LSN of the transaction's first fragment.
        transaction: Lsn,
        /// Counts the transaction's fragments from 0.
        sequence: u32,
        /// A piece of its operations.
        piece: &'a [u8],
    },
    /// All fragments of a transaction take effect, here.
    CommitFragments {
        /// The LSN of its first fragment.
        transaction: Lsn,
        /// How many fragments it has.
        count: u32,
        /// How many bytes its pieces have together.
        bytes: u64,
        /// [`fragments_hash`] of its pieces.
        hash: u128,
    },
    /// A transaction's fragments take no effect.
    Abort {
        /// The LSN of its first fragment.
        transaction: Lsn,
    },
    /// Nothing; a new leader's first entry.
    NoOp,
}

/// Why a payload could not be decoded.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DecodeError {
    /// The bytes do not follow the table. Behind a valid checksum that is damage, or a bug of the writer.
    Malformed(CodecError),
    /// A kind or a flag that this version does not know.
    Newer,
}

impl From<CodecError> for DecodeError {
    fn from(error: CodecError) -> Self {
        Self::Malformed(error)
    }
}

impl DecodeError {
    /// The error that names the log folder and the entry.
    #[must_use]
    pub fn at(self, log: &Path, lsn: Lsn) -> Error {
        match self {
            Self::Malformed(CodecError { offset, what }) => {
                Corruption::new(log, offset as u64, "entry payload", what, "other bytes")
                    .affecting(format_args!("lsn {lsn}"))
                    .into()
            }
            Self::Newer => Error::UnsupportedFormat {
                path: log.to_owned(),
                needed: FormatVersion(ENTRY_FORMAT.0 + 1),
                supported: ENTRY_FORMAT,
            },
        }
    }
}

impl<'a> Entry<'a> {
    /// Reads a payload. Operations are checked one by one as they are iterated.
    ///
    /// ```
    /// use logwood::entry::{Body, DecodeError, Entry};
    /// let payload = Entry { time_ms: 1, request: None, body: Body::NoOp }.encode();
    /// assert_eq!(Entry::decode(&payload)?.body, Body::NoOp);
    /// assert!(matches!(Entry::decode(&payload[..5]), Err(DecodeError::Malformed(_))));
    /// assert!(matches!(Entry::decode(&[99, 0]), Err(DecodeError::Newer)));
    /// # Ok::<(), DecodeError>(())
    /// ```
    ///
    /// # Errors
    /// [`DecodeError::Malformed`], [`DecodeError::Newer`].
    pub fn decode(payload: &'a [u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(payload);
        let kind = reader.u8("kind")?;
        let flags = reader.u8("flags")?;
        if !(kind::COMMIT..=kind::NO_OP).contains(&kind) || flags & !FLAG_REQUEST != 0 {
            return Err(DecodeError::Newer);
        }
        let time_ms = reader.u64("time")?;
        let request = if flags & FLAG_REQUEST != 0 {
            Some(Request { client: reader.u128("client")?, number: reader.u64("request number")? })
        } else {
            None
        };
        let body = Body::decode(kind, &mut reader)?;
        reader.finish("end of the entry")?;
        Ok(Self { time_ms, request, body })
    }

    /// The payload's bytes, as [`Entry::decode`] reads them.
    ///
    /// ```
    /// use logwood::KeyspaceId;
    /// use logwood::entry::{Body, Entry, Operation, Operations};
    /// let mut bytes = Vec::new();
    /// Operation::Put { keyspace: KeyspaceId(1), key: b"ada", value: b"1815" }.encode(&mut bytes);
    /// let body = Body::Commit(Operations::new(&bytes));
    /// let payload = Entry { time_ms: 1_769_860_800_000, request: None, body }.encode();
    /// assert_eq!(Entry::decode(&payload).map(|entry| entry.body), Ok(body));
    /// ```
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(64);
        encode_header(&mut bytes, self.body.kind(), self.time_ms, self.request);
        self.body.encode(&mut bytes);
        bytes
    }
}

impl<'a> Body<'a> {
    fn decode(kind: u8, reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        Ok(match kind {
            kind::COMMIT => Self::Commit(Operations::new(rest(reader)?)),
            kind::CREATE_KEYSPACE => {
                let id = keyspace(reader)?;
                let error = reader.error("keyspace name");
                let name = reader.length_prefixed(KEYSPACE_NAME_BYTES_MAX, "keyspace name")?;
                Self::CreateKeyspace { id, name: std::str::from_utf8(name).map_err(|_| error)? }
            }
            kind::DROP_KEYSPACE => Self::DropKeyspace { id: keyspace(reader)? },
            kind::MEMBERSHIP => Self::Membership(rest(reader)?),
            kind::OPEN_MARK => {
                Self::OpenMark { keyspace: keyspace(reader)?, range: KeyRange::decode(reader)? }
            }
            kind::MARK => Self::Mark {
                opened: Lsn(reader.varint("lsn of the open mark")?),
                keyspace: keyspace(reader)?,
                range: KeyRange::decode(reader)?,
                digest: Digest { count: reader.u64("count")?, sum: reader.u128("digest")? },
            },
            kind::FRAGMENT => Self::Fragment {
                transaction: Lsn(reader.varint("transaction")?),
                sequence: small(reader, "sequence")?,
                piece: rest(reader)?,
            },
            kind::COMMIT_FRAGMENTS => Self::CommitFragments {
                transaction: Lsn(reader.varint("transaction")?),
                count: small(reader, "count of fragments")?,
                bytes: reader.varint("bytes of fragments")?,
                hash: reader.u128("hash of fragments")?,
            },
            kind::ABORT => Self::Abort { transaction: Lsn(reader.varint("transaction")?) },
            kind::NO_OP => Self::NoOp,
            _ => return Err(DecodeError::Newer),
        })
    }

    const fn kind(&self) -> u8 {
        match self {
            Self::Commit(_) => kind::COMMIT,
            Self::CreateKeyspace { .. } => kind::CREATE_KEYSPACE,
            Self::DropKeyspace { .. } => kind::DROP_KEYSPACE,
            Self::Membership(_) => kind::MEMBERSHIP,
            Self::OpenMark { .. } => kind::OPEN_MARK,
            Self::Mark { .. } => kind::MARK,
            Self::Fragment { .. } => kind::FRAGMENT,
            Self::CommitFragments { .. } => kind::COMMIT_FRAGMENTS,
            Self::Abort { .. } => kind::ABORT,
            Self::NoOp => kind::NO_OP,
        }
    }

    /// The kind in words, for people.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Commit(_) => "commit",
            Self::CreateKeyspace { .. } => "create keyspace",
            Self::DropKeyspace { .. } => "drop keyspace",
            Self::Membership(_) => "membership",
            Self::OpenMark { .. } => "open mark",
            Self::Mark { .. } => "mark",
            Self::Fragment { .. } => "fragment",
            Self::CommitFragments { .. } => "commit of fragments",
            Self::Abort { .. } => "abort",
            Self::NoOp => "no-op",
        }
    }

    fn encode(&self, bytes: &mut Vec<u8>) {
        match self {
            Self::Commit(operations) => bytes.put_bytes(operations.as_bytes()),
            Self::CreateKeyspace { id, name } => {
                bytes.put_varint(id.get());
                bytes.put_length_prefixed(name.as_bytes());
            }
            Self::DropKeyspace { id } => bytes.put_varint(id.get()),
            Self::Membership(opaque) => bytes.put_bytes(opaque),
            Self::OpenMark { keyspace, range } => {
                bytes.put_varint(keyspace.get());
                range.encode(bytes);
            }
            Self::Mark { opened, keyspace, range, digest } => {
                bytes.put_varint(opened.get());
                bytes.put_varint(keyspace.get());
                range.encode(bytes);
                bytes.put_u64(digest.count);
                bytes.put_u128(digest.sum);
            }
            Self::Fragment { transaction, sequence, piece } => {
                bytes.put_varint(transaction.get());
                bytes.put_varint(u64::from(*sequence));
                bytes.put_bytes(piece);
            }
            Self::CommitFragments { transaction, count, bytes: total, hash } => {
                bytes.put_varint(transaction.get());
                bytes.put_varint(u64::from(*count));
                bytes.put_varint(*total);
                bytes.put_u128(*hash);
            }
            Self::Abort { transaction } => bytes.put_varint(transaction.get()),
            Self::NoOp => {}
        }
    }
}

impl<'a> KeyRange<'a> {
    fn decode(reader: &mut Reader<'a>) -> Result<Self, CodecError> {
        let from = reader.length_prefixed(KEY_BYTES_MAX, "first key of the range")?;
        let error = reader.error("whether the range is bounded");
        let to = match reader.u8("whether the range is bounded")? {
            0 => None,
            1 => Some(reader.length_prefixed(KEY_BYTES_MAX, "end of the range")?),
            _ => return Err(error),
        };
        Ok(Self { from, to })
    }

    fn encode(&self, bytes: &mut Vec<u8>) {
        bytes.put_length_prefixed(self.from);
        bytes.put_u8(u8::from(self.to.is_some()));
        if let Some(to) = self.to {
            bytes.put_length_prefixed(to);
        }
    }
}

/// Appends the header of a commit, whose time is filled in by [`set_time`] once it is known.
pub(crate) fn begin_commit(bytes: &mut Vec<u8>) {
    encode_header(bytes, kind::COMMIT, 0, None);
}

/// Fills in the time of an encoded payload.
pub(crate) fn set_time(payload: &mut [u8], time_ms: u64) {
    payload[TIME_OFFSET..HEADER_BYTES].copy_from_slice(&time_ms.to_le_bytes());
}

/// The time of an encoded payload; 0 of bytes that are none.
#[cfg(feature = "archive")]
pub(crate) fn time_of(payload: &[u8]) -> u64 {
    let bytes = payload.get(TIME_OFFSET..HEADER_BYTES).and_then(|bytes| bytes.try_into().ok());
    bytes.map_or(0, u64::from_le_bytes)
}

/// The hash that binds a transaction's fragments: [`Digest`]'s record hash with an empty key and the pieces, in
/// order, as the value.
#[must_use]
pub fn fragments_hash<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> u128 {
    let mut hasher = fragments_hasher();
    pieces.into_iter().for_each(|piece| hasher.update(piece));
    hasher.finish()
}

/// Computes [`fragments_hash`] piece by piece.
pub(crate) fn fragments_hasher() -> RecordHasher {
    RecordHasher::new(b"")
}

fn encode_header(bytes: &mut Vec<u8>, kind: u8, time_ms: u64, request: Option<Request>) {
    bytes.put_u8(kind);
    bytes.put_u8(if request.is_some() { FLAG_REQUEST } else { 0 });
    bytes.put_u64(time_ms);
    if let Some(Request { client, number }) = request {
        bytes.put_u128(client);
        bytes.put_u64(number);
    }
}

fn keyspace(reader: &mut Reader<'_>) -> Result<KeyspaceId, CodecError> {
    reader.varint("keyspace").map(KeyspaceId)
}

fn small(reader: &mut Reader<'_>, what: &'static str) -> Result<u32, CodecError> {
    let error = reader.error(what);
    u32::try_from(reader.varint(what)?).map_err(|_| error)
}

fn rest<'a>(reader: &mut Reader<'a>) -> Result<&'a [u8], CodecError> {
    reader.bytes(reader.remaining(), "body")
}
