//! BYTES of a snapshot: a checkpoint's manifest, and what a restore proves itself by.
//!
//! | bytes | name | meaning |
//! |---|---|---|
//! | 16, 16 | owner | database id, lineage id |
//! | 8 | checkpoint LSN | C, as in the key: the trees are exactly the state at C |
//! | 8 | replay from | what must be applied again begins here: at most C + 1 |
//! | 8 | base term | of the entry before `replay from`; 0 only before the first entry |
//! | 8 | term | of the entry at C; 0 only without entries |
//! | 8 | time | of the entry at C, in milliseconds since 1970 |
//! | varint, … | membership | of the group at `replay from` − 1, opaque; at most [`MEMBERSHIP_BYTES_MAX`] |
//! | varint | keyspaces | then for each, ascending by number: |
//! | varint | keyspace | |
//! | 1 | known | 0: nothing follows; 1: |
//! | 8, 16 | digest | count and sum of its records at C |
//! | 8 | generation | of the trees' manifest |
//! | 0, 32 | entry | SHA-256 of the payload of the entry at C; absent where it was not known |
//!
//! The content is that manifest as `btree/src/format/manifest.rs` has it. It names the page segments, each by number,
//! length and SHA-256; a segment stands at `pages/{SHA-256}`.
//!
//! # Validity
//! Beyond the envelope's: the trees' manifest is valid and is of the same database, checkpoint and `replay from`; the
//! keyspaces are its trees.

use logwood_base::codec::{CodecError, Reader, Writer};
use logwood_base::digest::Digest;
use logwood_base::limits::MEMBERSHIP_BYTES_MAX;
use logwood_base::{ArchiveDamage, Error, Generation, KeyspaceId, Lsn, Result, Term};
use logwood_btree::store::{Manifest, SegmentEntry};
use sha2::Digest as _;

use super::{Encoded, Kind, Link, Owner, encode, open_as, take_count, undecodable};
use crate::archive::layout::{Sha256, snapshot_key};
use crate::entry::time_of;

/// What a keyspace holds at a snapshot.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct KeyspaceDigest {
    /// Its number.
    pub keyspace: KeyspaceId,
    /// Count and digest of its records, when they were known without reading.
    pub digest: Option<Digest>,
}

/// A snapshot, read and proven.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SnapshotObject {
    /// Whose it is.
    pub owner: Owner,
    /// Term of the entry before `replay_from`.
    pub base_term: Term,
    /// Term of the entry at the checkpoint.
    pub term: Term,
    /// When the entry at the checkpoint was made, in milliseconds since 1970.
    pub time_ms: u64,
    /// Membership of the group before `replay_from`, opaque.
    pub membership: Vec<u8>,
    /// SHA-256 of the payload of the entry at the checkpoint, when the log still held it: by this the snapshot is known for
    /// one of this history, and not of a copy that went on by itself.
    pub entry: Option<Sha256>,
    /// What each keyspace holds, ascending by number.
    pub digests: Vec<KeyspaceDigest>,
    /// The checkpoint, and the page segments that hold it.
    pub trees: Manifest,
}

impl SnapshotObject {
    /// The trees are exactly the state at this LSN.
    #[must_use]
    pub fn lsn(&self) -> Lsn {
        self.trees.checkpoint_lsn
    }

    /// Where the object stands.
    #[must_use]
    pub fn key(&self) -> String {
        snapshot_key(self.owner.lineage, self.lsn())
    }

    /// Whether the entry that it ends with is this one; `None` where it does not say so much.
    pub(crate) fn ends_with(&self, term: Term, payload: &[u8]) -> Option<bool> {
        if (term, time_of(payload)) != (self.term, self.time_ms) {
            return Some(false);
        }
        self.entry.map(|entry| entry == Sha256::from(sha2::Sha256::digest(payload)))
    }

    /// The page segments that it needs.
    #[must_use]
    pub fn pages(&self) -> &[SegmentEntry] {
        &self.trees.segments
    }

    /// The object.
    #[must_use]
    pub fn encode(&self) -> Encoded {
        let mut bytes = Vec::with_capacity(128 + 32 * self.digests.len());
        self.owner.put(&mut bytes);
        bytes.put_u64(self.lsn().get());
        bytes.put_u64(self.trees.replay_from.get());
        bytes.put_u64(self.base_term.get());
        bytes.put_u64(self.term.get());
        bytes.put_u64(self.time_ms);
        bytes.put_length_prefixed(&self.membership);
        bytes.put_varint(self.digests.len() as u64);
        for KeyspaceDigest { keyspace, digest } in &self.digests {
            bytes.put_varint(keyspace.get());
            bytes.put_u8(u8::from(digest.is_some()));
            if let Some(digest) = digest {
                bytes.put_u64(digest.count);
                bytes.put_u128(digest.sum);
            }
        }
        bytes.put_u64(self.trees.generation.get());
        if let Some(entry) = &self.entry {
            bytes.put_bytes(entry);
        }
        encode(Kind::Snapshot, &bytes, &self.trees.encode())
    }

    /// Reads the object that was fetched from `key`.
    ///
    /// # Errors
    /// `ArchiveCorrupt`, `UnsupportedFormat`.
    pub fn decode(key: &str, bytes: &[u8]) -> Result<(Self, Link)> {
        let envelope = open_as(key, bytes, Kind::Snapshot)?;
        let stated = Stated::take(envelope.manifest).map_err(|error| undecodable(key, error))?;
        let damage = |expected: &str| {
            Error::from(ArchiveDamage::new(key, "snapshot", expected, "another manifest of the trees"))
        };
        let trees = match Manifest::decode(envelope.content, stated.generation) {
            Ok(trees) => trees,
            Err(logwood_btree::format::segment::HeaderFault::Newer(needed)) => {
                return Err(Error::UnsupportedFormat {
                    path: key.into(),
                    needed,
                    supported: logwood_btree::format::manifest::VERSION,
                });
            }
            Err(_) => return Err(damage("a manifest of the trees that verifies")),
        };
        if trees.database != stated.owner.database
            || (trees.checkpoint_lsn, trees.replay_from) != (stated.lsn, stated.replay_from)
        {
            return Err(damage("the stated database, checkpoint and replay from"));
        }
        let digests = stated.digests.iter().map(|digest| digest.keyspace);
        if !digests.eq(trees.trees.iter().map(|tree| tree.keyspace)) {
            return Err(damage("the stated keyspaces"));
        }
        let Stated { owner, base_term, term, time_ms, membership, entry, digests, .. } = stated;
        let snapshot = Self { owner, base_term, term, time_ms, membership, entry, digests, trees };
        if snapshot.key() != key {
            return Err(ArchiveDamage::new(key, "object key", key, snapshot.key()).into());
        }
        Ok((snapshot, envelope.link))
    }
}

/// The manifest of a snapshot.
struct Stated {
    owner: Owner,
    lsn: Lsn,
    replay_from: Lsn,
    base_term: Term,
    term: Term,
    time_ms: u64,
    membership: Vec<u8>,
    entry: Option<Sha256>,
    digests: Vec<KeyspaceDigest>,
    generation: Generation,
}

impl Stated {
    fn take(bytes: &[u8]) -> Result<Self, CodecError> {
        let mut reader = Reader::new(bytes);
        let owner = Owner::take(&mut reader)?;
        let error = reader.error("lsn");
        let (lsn, replay_from) = (Lsn(reader.u64("checkpoint lsn")?), Lsn(reader.u64("replay from")?));
        if lsn > super::LSN_MAX || replay_from == Lsn::ZERO || replay_from > lsn.next() {
            return Err(error);
        }
        let error = reader.error("terms");
        let (base_term, term) = (Term(reader.u64("base term")?), Term(reader.u64("term")?));
        let base_exists = replay_from > Lsn::FIRST;
        if (base_term > Term::NONE) != base_exists
            || (term > Term::NONE) != (lsn > Lsn::ZERO)
            || term < base_term
        {
            return Err(error);
        }
        let time_ms = reader.u64("time")?;
        let membership = reader.length_prefixed(MEMBERSHIP_BYTES_MAX, "membership")?.to_vec();
        let mut digests: Vec<KeyspaceDigest> = Vec::new();
        for _ in 0..take_count(&mut reader, 2, "count of keyspaces")? {
            let error = reader.error("keyspace");
            let keyspace = KeyspaceId(reader.varint("keyspace")?);
            if digests.last().is_some_and(|last| last.keyspace >= keyspace) {
                return Err(error);
            }
            let digest = match reader.u8("whether the digest is known")? {
                0 => None,
                1 => Some(Digest { count: reader.u64("count")?, sum: reader.u128("digest")? }),
                _ => return Err(error),
            };
            digests.push(KeyspaceDigest { keyspace, digest });
        }
        let generation = Generation(reader.u64("generation")?);
        let entry = match reader.remaining() {
            0 => None,
            _ => Some(reader.array("entry")?),
        };
        reader.finish("end of the manifest")?;
        Ok(Self { owner, lsn, replay_from, base_term, term, time_ms, membership, entry, digests, generation })
    }
}
