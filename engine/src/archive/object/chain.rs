//! BYTES of what a chain has besides entries: its start, and named gaps.
//!
//! The manifest of a start object, at `lineage/{id}/start`:
//!
//! | bytes | name | meaning |
//! |---|---|---|
//! | 16, 16 | owner | database id, lineage id |
//! | 8 | first LSN | of the chain; 1, or behind the fork, or where its own snapshot makes the beginning |
//! | 8 | created | milliseconds since 1970, by the writer's clock; for people |
//! | 1 | parent | 0: none; 1, 2: follows: |
//! | 16 | parent | its lineage id |
//! | 8 | fork LSN | the last entry that both have; the first LSN is the next one |
//! | 8 | parent's next | only behind a 2: the entry that came next in the parent's chain when this one began; behind the fork |
//!
//! The manifest of a gap, at the key of its first entry:
//!
//! | bytes | name | meaning |
//! |---|---|---|
//! | 16, 16 | owner | |
//! | 8, 8 | LSNs | the first and the last entry that were not archived; a last one of 2^62: the lineage has ended |
//! | 8 | snapshot | LSN of the snapshot that stands in for them; not below the last |
//! | 8 | left | milliseconds since 1970, by the writer's clock |
//! | 32 | previous | link of the object before it in the chain |
//!
//! Neither has a content.

use logwood_base::codec::{CodecError, Reader, Writer};
use logwood_base::{ArchiveDamage, LineageId, Lsn, Result};

use super::{Encoded, Kind, LSN_MAX, Link, Owner, encode, open_as, take_lsn, undecodable};
use crate::archive::layout::{log_key, start_key};

/// The lineage that another one forks from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Parent {
    /// The lineage.
    pub lineage: LineageId,
    /// The last entry that both have.
    pub fork_lsn: Lsn,
}

/// Where a chain begins.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Start {
    /// Whose it is.
    pub owner: Owner,
    /// The first entry of the chain.
    pub first_lsn: Lsn,
    /// When it was made, by the writer's clock, in milliseconds since 1970.
    pub created_ms: u64,
    /// What came before.
    pub parent: Option<Parent>,
    /// The entry that came next in the parent's chain when this one began: whether it was written to after that is told by
    /// this, and by no clock. `None` where it was not noted.
    pub parent_next: Option<Lsn>,
}

/// Entries that were never archived.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Gap {
    /// Whose they are.
    pub owner: Owner,
    /// The first of them.
    pub first_lsn: Lsn,
    /// The last of them.
    pub last_lsn: Lsn,
    /// The snapshot that stands in for them.
    pub snapshot_lsn: Lsn,
    /// When it was left, by the writer's clock, in milliseconds since 1970.
    pub left_ms: u64,
    /// The object before it in the chain.
    pub previous: Link,
}

impl Start {
    /// Whether nothing can be restored before the chain has a snapshot.
    #[must_use]
    pub fn needs_snapshot(&self) -> bool {
        self.parent.is_none() && self.first_lsn > Lsn::FIRST
    }

    /// The object.
    #[must_use]
    pub fn encode(&self) -> Encoded {
        let mut bytes = Vec::with_capacity(96);
        self.owner.put(&mut bytes);
        bytes.put_u64(self.first_lsn.get());
        bytes.put_u64(self.created_ms);
        let noted = self.parent_next.filter(|_| self.parent.is_some());
        bytes.put_u8(u8::from(self.parent.is_some()) + u8::from(noted.is_some()));
        if let Some(parent) = self.parent {
            bytes.put_u128(parent.lineage.0);
            bytes.put_u64(parent.fork_lsn.get());
        }
        if let Some(next) = noted {
            bytes.put_u64(next.get());
        }
        encode(Kind::Start, &bytes, &[])
    }

    /// Reads the object that was fetched from `key`.
    ///
    /// # Errors
    /// `ArchiveCorrupt`, `UnsupportedFormat`.
    pub fn decode(key: &str, bytes: &[u8]) -> Result<(Self, Link)> {
        let envelope = open_as(key, bytes, Kind::Start)?;
        let start =
            Self::take(envelope.manifest, envelope.content).map_err(|error| undecodable(key, error))?;
        if start_key(start.owner.lineage) != key {
            return Err(ArchiveDamage::new(key, "object key", key, start_key(start.owner.lineage)).into());
        }
        Ok((start, envelope.link))
    }

    fn take(manifest: &[u8], content: &[u8]) -> Result<Self, CodecError> {
        Reader::new(content).finish("no content")?;
        let mut reader = Reader::new(manifest);
        let owner = Owner::take(&mut reader)?;
        let first_lsn = take_lsn(&mut reader, "first lsn")?;
        let created_ms = reader.u64("time of creation")?;
        let error = reader.error("parent");
        let form = reader.u8("parent")?;
        let parent = match form {
            0 => None,
            1 | 2 => {
                let lineage = LineageId(reader.u128("parent")?);
                let fork_lsn = Lsn(reader.u64("fork lsn")?);
                if fork_lsn != first_lsn.previous() || lineage == owner.lineage {
                    return Err(error);
                }
                Some(Parent { lineage, fork_lsn })
            }
            _ => return Err(error),
        };
        let error = reader.error("parent's next lsn");
        let parent_next = (form == 2).then(|| take_lsn(&mut reader, "parent's next lsn")).transpose()?;
        if parent_next.is_some_and(|next| next < first_lsn) {
            return Err(error);
        }
        reader.finish("end of the manifest")?;
        Ok(Self { owner, first_lsn, created_ms, parent, parent_next })
    }
}

impl Gap {
    /// Where the object stands.
    #[must_use]
    pub fn key(&self) -> String {
        log_key(self.owner.lineage, self.first_lsn)
    }

    /// What closes a lineage, at the key of the entry that would come next: nobody puts anything behind it.
    #[must_use]
    pub fn end(owner: Owner, next: Lsn, left_ms: u64, previous: Link) -> Self {
        Self { owner, first_lsn: next, last_lsn: LSN_MAX, snapshot_lsn: LSN_MAX, left_ms, previous }
    }

    /// Whether the lineage has ended.
    #[must_use]
    pub fn is_end(&self) -> bool {
        self.last_lsn == LSN_MAX
    }

    /// The object.
    #[must_use]
    pub fn encode(&self) -> Encoded {
        let mut bytes = Vec::with_capacity(96);
        self.owner.put(&mut bytes);
        bytes.put_u64(self.first_lsn.get());
        bytes.put_u64(self.last_lsn.get());
        bytes.put_u64(self.snapshot_lsn.get());
        bytes.put_u64(self.left_ms);
        bytes.put_bytes(&self.previous.0);
        encode(Kind::Gap, &bytes, &[])
    }

    /// Reads the object that was fetched from `key`.
    ///
    /// # Errors
    /// `ArchiveCorrupt`, `UnsupportedFormat`.
    pub fn decode(key: &str, bytes: &[u8]) -> Result<(Self, Link)> {
        let envelope = open_as(key, bytes, Kind::Gap)?;
        let gap = Self::take(envelope.manifest, envelope.content).map_err(|error| undecodable(key, error))?;
        if gap.key() != key {
            return Err(ArchiveDamage::new(key, "object key", key, gap.key()).into());
        }
        Ok((gap, envelope.link))
    }

    fn take(manifest: &[u8], content: &[u8]) -> Result<Self, CodecError> {
        Reader::new(content).finish("no content")?;
        let mut reader = Reader::new(manifest);
        let owner = Owner::take(&mut reader)?;
        let first_lsn = take_lsn(&mut reader, "first lsn")?;
        let error = reader.error("last lsn");
        let last_lsn = take_lsn(&mut reader, "last lsn")?;
        let snapshot_lsn = take_lsn(&mut reader, "snapshot lsn")?;
        if last_lsn < first_lsn || snapshot_lsn < last_lsn {
            return Err(error);
        }
        let left_ms = reader.u64("time")?;
        let previous = Link(reader.array("previous object")?);
        reader.finish("end of the manifest")?;
        Ok(Self { owner, first_lsn, last_lsn, snapshot_lsn, left_ms, previous })
    }
}
