//! BYTES of the envelope that every object but a page segment has: a head, a manifest, and for some kinds a content.
//!
//! | offset | bytes | name | meaning |
//! |---|---|---|---|
//! | 0 | 8 | magic | `lwarchv1` |
//! | 8 | 2 | read version | needed to read the object: 1 |
//! | 10 | 2 | write version | that wrote it: 1 |
//! | 12 | 1 | kind | 1 start · 2 log · 3 gap · 4 snapshot · 5 hold · 6 retention run |
//! | 13 | 3 | | zero |
//! | 16 | 4 | manifest bytes | |
//! | 20 | 8 | content bytes | log: frames; snapshot: a manifest of the trees; else 0 |
//! | 28 | 32 | hash | SHA-256 of manifest and content |
//! | 60 | 4 | head crc32 | of bytes 0–59 |
//! | 64 | … | manifest | by kind: [`log`], [`chain`], [`snapshot`], [`hold`] |
//! | … | … | content | |
//!
//! All numbers are little-endian. The head keeps its layout in every version.
//!
//! # Validity
//! 1. The head verifies, with its magic, a known kind and zeros where they belong. A read version above ours in a head
//!    that verifies is a newer format and not damage.
//! 2. Nothing is left over, the lengths are within the kind's bounds, and the hash is that of the bytes. Only then is
//!    anything parsed.
//! 3. The manifest reads to its last byte and says the lineage and LSN of the key it was fetched by.
//!
//! The SHA-256 of a head is the object's [`Link`]: the next object of a chain names it.

use std::path::Path;

use logwood_base::checksum::{Seed, checksum};
use logwood_base::codec::{CodecError, Reader, Writer};
use logwood_base::{ArchiveDamage, DatabaseId, Error, FormatVersion, LineageId, Lsn, Result};
use sha2::{Digest as _, Sha256};

use crate::archive::layout::hex;

pub mod chain;
pub mod hold;
pub mod log;
pub mod snapshot;

pub use chain::{Gap, Parent, Start};
pub use hold::{Hold, RetentionRun};
pub use log::{LogManifest, LogObject, LogWriter};
pub use snapshot::{KeyspaceDigest, SnapshotObject};

/// The greatest version that this program reads, and the one that it writes.
pub const VERSION: FormatVersion = FormatVersion(1);
/// Length of the head.
pub const HEAD_BYTES: usize = 64;
/// Most bytes of a manifest, of any kind.
pub const MANIFEST_BYTES_MAX: usize = 16 << 20;

const MAGIC: &[u8; 8] = b"lwarchv1";

/// What proves an object: the SHA-256 of its head, which has the SHA-256 of the rest.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Link(pub [u8; 32]);

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Link({})", hex(&self.0))
    }
}

impl std::fmt::Display for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

/// What an object is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Kind {
    /// Where a chain begins.
    Start = 1,
    /// Entries.
    Log = 2,
    /// Entries that were never archived.
    Gap = 3,
    /// A checkpoint.
    Snapshot = 4,
    /// What an upload or a restore needs.
    Hold = 5,
    /// What a retention run condemns.
    Retention = 6,
}

impl Kind {
    const ALL: [Self; 6] = [Self::Start, Self::Log, Self::Gap, Self::Snapshot, Self::Hold, Self::Retention];

    /// Most bytes of an object of this kind. A reader fetches no more.
    #[must_use]
    pub const fn bytes_max(self) -> u64 {
        let content = match self {
            Self::Log => log::CONTENT_BYTES_MAX,
            Self::Snapshot => logwood_btree::format::manifest::MANIFEST_BYTES_MAX,
            _ => 0,
        };
        (HEAD_BYTES + MANIFEST_BYTES_MAX) as u64 + content
    }
}

/// An object's bytes, taken apart and proven whole.
#[derive(Clone, Copy, Debug)]
pub struct Envelope<'a> {
    /// What it is.
    pub kind: Kind,
    /// Names it in a chain.
    pub link: Link,
    /// What describes it.
    pub manifest: &'a [u8],
    /// What it carries.
    pub content: &'a [u8],
}

/// What the first bytes of an object say.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Heading<'a> {
    pub(crate) kind: Kind,
    pub(crate) link: Link,
    /// `None` when it does not end within these bytes.
    pub(crate) manifest: Option<&'a [u8]>,
    /// Bytes of head and manifest.
    pub(crate) first_bytes: u64,
}

/// An object ready to be put.
#[derive(Clone, PartialEq, Eq)]
pub struct Encoded {
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// Its link.
    pub link: Link,
}

impl std::fmt::Debug for Encoded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Encoded").field("bytes", &self.bytes.len()).field("link", &self.link).finish()
    }
}

/// Puts a head in front of manifest and content.
pub(crate) fn encode(kind: Kind, manifest: &[u8], content: &[u8]) -> Encoded {
    let mut bytes = Vec::with_capacity(HEAD_BYTES + manifest.len() + content.len());
    bytes.put_bytes(MAGIC);
    bytes.put_u16(VERSION.0);
    bytes.put_u16(VERSION.0);
    bytes.put_u8(kind as u8);
    bytes.put_bytes(&[0; 3]);
    bytes.put_u32(u32::try_from(manifest.len()).expect("manifests are bounded by MANIFEST_BYTES_MAX"));
    bytes.put_u64(content.len() as u64);
    let hash = Sha256::new().chain_update(manifest).chain_update(content).finalize();
    bytes.put_bytes(&hash);
    bytes.put_u32(checksum(Seed::new(), &bytes));
    let link = Link(Sha256::digest(&bytes).into());
    bytes.put_bytes(manifest);
    bytes.put_bytes(content);
    Encoded { bytes, link }
}

/// Takes an object apart, after proving that it is whole.
///
/// # Errors
/// `ArchiveCorrupt`; `UnsupportedFormat`.
pub fn open<'a>(key: &str, bytes: &'a [u8]) -> Result<Envelope<'a>> {
    let head = check_head(key, bytes, bytes.len() as u64)?;
    let rest = &bytes[HEAD_BYTES..];
    let hash: [u8; 32] = Sha256::digest(rest).into();
    if hash != head.hash {
        return Err(ArchiveDamage::new(key, "object hash", hex(&head.hash), hex(&hash)).into());
    }
    let (manifest, content) = rest.split_at(head.manifest_bytes as usize);
    Ok(Envelope { kind: head.kind, link: head.link, manifest, content })
}

/// Looks at the first bytes of an object of `total` bytes. What they say is only proven by [`open`].
///
/// # Errors
/// As [`open`], for what is wrong with the head.
pub(crate) fn peek<'a>(key: &str, first: &'a [u8], total: u64) -> Result<Heading<'a>> {
    let head = check_head(key, first, total)?;
    let manifest_bytes = head.manifest_bytes as usize;
    let manifest = first[HEAD_BYTES..].get(..manifest_bytes);
    let first_bytes = (HEAD_BYTES + manifest_bytes) as u64;
    Ok(Heading { kind: head.kind, link: head.link, manifest, first_bytes })
}

/// Judges the head of an object of `total` bytes, of which `bytes` are the first.
fn check_head(key: &str, bytes: &[u8], total: u64) -> Result<CheckedHead> {
    let damage = |check, expected: String, found: String| {
        Err(Error::from(ArchiveDamage::new(key, check, expected, found)))
    };
    if bytes.len() < HEAD_BYTES {
        return damage("object length", format!("at least {HEAD_BYTES} bytes"), bytes.len().to_string());
    }
    let (fields, stored_crc) = bytes[..HEAD_BYTES].split_at(HEAD_BYTES - 4);
    let crc = checksum(Seed::new(), fields);
    if crc.to_le_bytes() != stored_crc {
        return damage("head checksum", hex(&crc.to_le_bytes()), hex(stored_crc));
    }
    let head = read_head(fields).map_err(|error| undecodable(key, error))?;
    if let Some(version) = head.newer {
        return Err(Error::UnsupportedFormat {
            path: Path::new(key).to_owned(),
            needed: version,
            supported: VERSION,
        });
    }
    let Some(kind) = Kind::ALL.into_iter().find(|kind| *kind as u8 == head.kind) else {
        return damage("object kind", "1 to 6".to_owned(), head.kind.to_string());
    };
    let rest = total.saturating_sub(HEAD_BYTES as u64);
    let stated = (head.manifest_bytes as u64).checked_add(head.content_bytes);
    if stated != Some(rest) || total > kind.bytes_max() {
        let expected = format!("{} and {} bytes", head.manifest_bytes, head.content_bytes);
        return damage("object length", expected, rest.to_string());
    }
    let link = Link(Sha256::digest(&bytes[..HEAD_BYTES]).into());
    Ok(CheckedHead { kind, link, manifest_bytes: head.manifest_bytes, hash: head.hash })
}

/// A head that verifies and fits the length of its object.
struct CheckedHead {
    kind: Kind,
    link: Link,
    manifest_bytes: u32,
    hash: [u8; 32],
}

/// As [`open`], for an object that must be of one kind.
pub(crate) fn open_as<'a>(key: &str, bytes: &'a [u8], kind: Kind) -> Result<Envelope<'a>> {
    let envelope = open(key, bytes)?;
    if envelope.kind == kind {
        return Ok(envelope);
    }
    Err(ArchiveDamage::new(key, "object kind", kind as u8, envelope.kind as u8).into())
}

/// What does not decode behind a valid hash.
pub(crate) fn undecodable(key: &str, error: CodecError) -> Error {
    let found = format!("other bytes at {}", error.offset);
    ArchiveDamage::new(key, "object manifest", error.what, found).into()
}

struct Head {
    kind: u8,
    manifest_bytes: u32,
    content_bytes: u64,
    hash: [u8; 32],
    newer: Option<FormatVersion>,
}

fn read_head(fields: &[u8]) -> Result<Head, CodecError> {
    let mut reader = Reader::new(fields);
    let error = reader.error("magic");
    if reader.array::<8>("magic")? != *MAGIC {
        return Err(error);
    }
    let read_version = FormatVersion(reader.u16("read version")?);
    reader.u16("write version")?;
    let newer = (read_version > VERSION).then_some(read_version);
    let kind = reader.u8("kind")?;
    let error = reader.error("reserved bytes");
    if reader.array::<3>("reserved bytes")? != [0; 3] && newer.is_none() {
        return Err(error);
    }
    let manifest_bytes = reader.u32("manifest length")?;
    let content_bytes = reader.u64("content length")?;
    Ok(Head { kind, manifest_bytes, content_bytes, hash: reader.array("hash")?, newer })
}

/// Whose an object is: the first bytes of most manifests.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Owner {
    /// The database.
    pub database: DatabaseId,
    /// One history of it.
    pub lineage: LineageId,
}

impl Owner {
    pub(crate) fn put(self, bytes: &mut Vec<u8>) {
        bytes.put_u128(self.database.0);
        bytes.put_u128(self.lineage.0);
    }

    pub(crate) fn take(reader: &mut Reader<'_>) -> Result<Self, CodecError> {
        let database = DatabaseId(reader.u128("database id")?);
        let lineage = LineageId(reader.u128("lineage id")?);
        Ok(Self { database, lineage })
    }
}

/// The greatest LSN that a log gives out.
pub(crate) const LSN_MAX: Lsn = Lsn(1 << 62);

/// Reads an LSN that can number an entry.
pub(crate) fn take_lsn(reader: &mut Reader<'_>, what: &'static str) -> Result<Lsn, CodecError> {
    let error = reader.error(what);
    let lsn = Lsn(reader.u64(what)?);
    if lsn == Lsn::ZERO || lsn > LSN_MAX { Err(error) } else { Ok(lsn) }
}

/// Reads how many things follow, each of at least `bytes_min` bytes, so that room can be made for them.
pub(crate) fn take_count(
    reader: &mut Reader<'_>,
    bytes_min: usize,
    what: &'static str,
) -> Result<usize, CodecError> {
    let error = reader.error(what);
    let count = reader.varint(what)?;
    if count > (reader.remaining() / bytes_min) as u64 { Err(error) } else { Ok(count as usize) }
}

#[cfg(test)]
#[path = "object_tests.rs"]
mod tests;
