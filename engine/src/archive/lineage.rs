//! BYTES of `DIR/LINEAGE`: which history the directory writes to its archive.
//!
//! | offset | bytes | name | meaning |
//! |---|---|---|---|
//! | 0 | 8 | magic | `lwlineag` |
//! | 8 | 2 | read version | 1 |
//! | 10 | 2 | write version | 1 |
//! | 12 | 16 | database id | |
//! | 28 | 16 | log id | of the log beside it |
//! | 44 | 16 | lineage id | 0: none is taken yet |
//! | 60 | 16 | parent | its lineage id; 0: none |
//! | 76 | 8 | fork LSN | the last entry that parent and lineage both have; 0: none |
//! | 84 | 8 | confirmed | LSN at which the last object begins that was read back or compared by this directory, and noted; 0: none |
//! | 92 | 32 | link | of that object |
//! | 124 | 4 | crc32 | of bytes 0–123 |
//!
//! All numbers are little-endian. While it is written it is called `LINEAGE.new`; it gets its name when it is synced.
//!
//! # Validity
//! The checksum verifies, and database and log are those beside it. Anything else means: no lineage is known here, and a
//! new one is taken. That is never wrong, only longer: its chain begins with a snapshot of its own.

use std::path::{Path, PathBuf};

use logwood_base::checksum::{Seed, checksum};
use logwood_base::codec::{CodecError, Reader, Writer};
use logwood_base::{Access, DatabaseId, Disk, Error, FormatVersion, LineageId, LogId, Lsn, Result};

use super::object::{LSN_MAX, Link, Parent};
use crate::directory::{LINEAGE_MAGIC, LINEAGE_NAME, LINEAGE_NEW_NAME};

const BYTES: usize = 128;
const VERSION: FormatVersion = FormatVersion(1);

/// What a directory knows of its archive.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct LocalLineage {
    pub(crate) database: DatabaseId,
    pub(crate) log: LogId,
    /// `None` until the first archiver draws it.
    pub(crate) lineage: Option<LineageId>,
    pub(crate) parent: Option<Parent>,
    /// Where the last object that was confirmed begins, and its link: a hint where to walk from, and by its link known for one of
    /// this history.
    pub(crate) confirmed: Option<(Lsn, Link)>,
}

impl LocalLineage {
    /// Reads the file of the directory whose database and log these are.
    ///
    /// # Errors
    /// `UnsupportedFormat` when a newer program wrote it; `Io`.
    pub(crate) fn read(disk: &dyn Disk, root: &Path, database: DatabaseId, log: LogId) -> Result<Self> {
        let none = Self { database, log, lineage: None, parent: None, confirmed: None };
        let path = root.join(LINEAGE_NAME);
        let file = match disk.open(&path, Access::Read) {
            Ok(file) => file,
            Err(Error::NotFound { .. }) => return Ok(none),
            Err(error) => return Err(error),
        };
        if file.size()? != BYTES as u64 {
            tracing::warn!(path = %path.display(), "is damaged: a new lineage will be taken");
            return Ok(none);
        }
        let mut bytes = [0u8; BYTES];
        file.read_at(0, &mut bytes)?;
        match Self::decode(&bytes) {
            Ok(Ok(found)) if (found.database, found.log) == (database, log) => Ok(found),
            Ok(Ok(_)) => Ok(none),
            Ok(Err(needed)) => Err(Error::UnsupportedFormat { path, needed, supported: VERSION }),
            Err(_) => {
                tracing::warn!(path = %path.display(), "is damaged: a new lineage will be taken");
                Ok(none)
            }
        }
    }

    /// Writes the file; durable when this returns.
    ///
    /// # Errors
    /// `DiskFull`, `Io`; the file before stands then, or this one.
    pub(crate) fn write(&self, disk: &dyn Disk, root: &Path) -> Result<()> {
        let new = root.join(LINEAGE_NEW_NAME);
        match disk.remove(&new) {
            Ok(()) | Err(Error::NotFound { .. }) => {}
            Err(error) => return Err(error),
        }
        let file = disk.create(&new)?;
        file.write_at(0, &self.encode())?;
        file.sync()?;
        drop(file);
        disk.rename(&new, &self.path(root))?;
        disk.sync_dir(root)
    }

    fn path(&self, root: &Path) -> PathBuf {
        root.join(LINEAGE_NAME)
    }

    fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(BYTES);
        bytes.put_bytes(LINEAGE_MAGIC);
        bytes.put_u16(VERSION.0);
        bytes.put_u16(VERSION.0);
        bytes.put_u128(self.database.0);
        bytes.put_u128(self.log.0);
        bytes.put_u128(self.lineage.unwrap_or_default().0);
        bytes.put_u128(self.parent.map_or(0, |parent| parent.lineage.0));
        bytes.put_u64(self.parent.map_or(0, |parent| parent.fork_lsn.get()));
        let (first, link) = self.confirmed.unwrap_or_default();
        bytes.put_u64(first.get());
        bytes.put_bytes(&link.0);
        let crc = checksum(Seed::new(), &bytes);
        bytes.put_u32(crc);
        bytes
    }

    /// The outer error is damage, the inner one the version of a newer format.
    fn decode(bytes: &[u8; BYTES]) -> Result<Result<Self, FormatVersion>, CodecError> {
        let mut reader = Reader::new(bytes);
        let body = reader.bytes(BYTES - 4, "lineage")?;
        let error = reader.error("checksum");
        if reader.u32("checksum")? != checksum(Seed::new(), body) {
            return Err(error);
        }
        let mut reader = Reader::new(body);
        let error = reader.error("magic");
        if reader.array::<8>("magic")? != *LINEAGE_MAGIC {
            return Err(error);
        }
        let version = FormatVersion(reader.u16("read version")?);
        if version > VERSION {
            return Ok(Err(version));
        }
        reader.u16("write version")?;
        let database = DatabaseId(reader.u128("database id")?);
        let log = LogId(reader.u128("log id")?);
        let some = |id: u128| (id != 0).then_some(LineageId(id));
        let lineage = some(reader.u128("lineage id")?);
        let parent = some(reader.u128("parent")?);
        let fork_lsn = Lsn(reader.u64("fork lsn")?);
        let parent = parent.map(|lineage| Parent { lineage, fork_lsn });
        let first = Lsn(reader.u64("confirmed")?);
        let link = Link(reader.array("link")?);
        let confirmed = (first > Lsn::ZERO).then_some((first, link));
        if fork_lsn.max(first) > LSN_MAX {
            return Err(reader.error("LSNs"));
        }
        Ok(Ok(Self { database, log, lineage, parent, confirmed }))
    }
}

#[cfg(test)]
mod tests {
    use logwood_base::disk::SimulatedDisk;

    use super::*;

    fn sample() -> LocalLineage {
        LocalLineage {
            database: DatabaseId(1),
            log: LogId(2),
            lineage: Some(LineageId(3)),
            parent: Some(Parent { lineage: LineageId(4), fork_lsn: Lsn(5) }),
            confirmed: Some((Lsn(6), Link([7; 32]))),
        }
    }

    /// A change here is a new format version.
    #[test]
    fn its_bytes_are_pinned() {
        let golden = "6c776c696e65616701000100010000000000000000000000000000000200000000000000000000000000000003000000\
            000000000000000000000000040000000000000000000000000000000500000000000000060000000000000007070707\
            070707070707070707070707070707070707070707070707070707079a078d97";
        let hex: String = sample().encode().iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, golden);
    }

    #[test]
    fn what_is_written_is_read_and_other_logs_do_not_inherit_it() {
        let disk = SimulatedDisk::new(1);
        let root = Path::new("db");
        disk.create_dir(root).unwrap();
        let none = LocalLineage { lineage: None, parent: None, confirmed: None, ..sample() };
        assert_eq!(LocalLineage::read(&disk, root, DatabaseId(1), LogId(2)).unwrap(), none);
        for written in [sample(), none] {
            written.write(&disk, root).unwrap();
            assert_eq!(LocalLineage::read(&disk, root, DatabaseId(1), LogId(2)).unwrap(), written);
        }
        sample().write(&disk, root).unwrap();
        assert_eq!(LocalLineage::read(&disk, root, DatabaseId(1), LogId(9)).unwrap().lineage, None);
    }

    #[test]
    fn damage_means_a_new_lineage_and_a_newer_version_is_named() {
        let disk = SimulatedDisk::new(1);
        let root = Path::new("db");
        let whole = sample().encode();
        assert_eq!(whole.len(), BYTES);
        for at in 0..BYTES {
            let mut bytes = whole.clone();
            bytes[at] ^= 1;
            disk.write_file(&root.join(LINEAGE_NAME), &bytes);
            let found = LocalLineage::read(&disk, root, DatabaseId(1), LogId(2)).unwrap();
            assert_eq!(found.lineage, None, "byte {at}");
        }
        let mut newer = whole;
        newer[8] = 2;
        let crc = checksum(Seed::new(), &newer[..BYTES - 4]);
        newer[BYTES - 4..].copy_from_slice(&crc.to_le_bytes());
        disk.write_file(&root.join(LINEAGE_NAME), &newer);
        let error = LocalLineage::read(&disk, root, DatabaseId(1), LogId(2)).unwrap_err();
        assert!(matches!(error, Error::UnsupportedFormat { .. }));
    }
}
