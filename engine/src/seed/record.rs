//! BYTES of the two small files of a directory that is, or was, filled from elsewhere.
//!
//! `ORIGIN`: what the directory is a copy of.
//!
//! | offset | bytes | name | meaning |
//! |---|---|---|---|
//! | 0 | 8 | magic | `lworigin` |
//! | 8 | 2 | read version | needed to read the file: 1 |
//! | 10 | 2 | write version | that wrote it: 1 |
//! | 12 | 1 | kind | 1 backup, 2 restore |
//! | 13 | 16 | database id | |
//! | 29 | 16 | source | the log id of the directory that was copied; 0 when it came from an archive |
//! | 45 | 16 | log id | of the log in this directory |
//! | 61 | 8 | LSN | the state that it is a copy of |
//! | 69 | 8 | time_ms | of the newest entry up to there |
//! | 77 | 4 | crc32 | of all bytes before |
//!
//! `seed/COMMIT`: the files of the database that is to take its place.
//!
//! | offset | bytes | name | meaning |
//! |---|---|---|---|
//! | 0 | 8 | magic | `lwseedok` |
//! | 8 | 2 | read version | 1 |
//! | 10 | 2 | write version | 1 |
//! | 12 | varint | count | then `count` times, ascending: |
//! | | string | name | `log/…`, `manifest/…` or `pages/…` |
//! | | 4 | crc32 | of all bytes before |
//!
//! All numbers are little-endian. Valid is what verifies, is read to its last byte, and names plain files of the three
//! folders only. Both files get their names after they were synced: one that does not verify is damage, not a crash.

use std::path::Path;

use logwood_base::checksum::{Seed, checksum};
use logwood_base::codec::{CodecError, Reader, Writer};
use logwood_base::disk::Disk;
use logwood_base::{Access, Corruption, DatabaseId, Error, FormatVersion, LogId, Lsn, Result};

use crate::directory::Layout;

const VERSION: FormatVersion = FormatVersion(1);
pub(crate) const ORIGIN_MAGIC: &[u8; 8] = b"lworigin";
const COMMIT_MAGIC: &[u8; 8] = b"lwseedok";
const CRC_BYTES: usize = 4;
const NAME_BYTES_MAX: usize = 64;

/// Longest file that is read at all: two million names.
const RECORD_BYTES_MAX: u64 = 128 << 20;

/// How a directory came to be a copy.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum OriginKind {
    /// By [`Database::backup`](crate::Database::backup).
    Backup,
    /// By a restore from an archive.
    Restore,
}

/// What a directory is a copy of. It says so until it is opened for writing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Origin {
    /// How it was copied.
    pub kind: OriginKind,
    /// The database, which the copy shares.
    pub database: DatabaseId,
    /// The log of the directory that was copied; 0 when it came from an archive.
    pub source: LogId,
    /// The log of this directory.
    pub log: LogId,
    /// The state that it is a copy of.
    pub lsn: Lsn,
    /// The time of the newest entry in it, in milliseconds since 1970.
    pub time_ms: u64,
}

impl Origin {
    /// Refuses one that tells of another directory than the one whose database and log these are.
    pub(crate) fn check_own(
        &self,
        layout: &Layout,
        (database, log): (DatabaseId, LogId),
    ) -> Result<(), Corruption> {
        if (self.database, self.log) == (database, log) {
            return Ok(());
        }
        let said = |database, log| format!("log {log} of database {database}");
        let (expected, found) = (said(database, log), said(self.database, self.log));
        let path = super::settle::origin_path(layout);
        Err(Corruption::new(&path, 0, "identity of the copy", expected, found))
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = begin(ORIGIN_MAGIC);
        bytes.put_u8(match self.kind {
            OriginKind::Backup => 1,
            OriginKind::Restore => 2,
        });
        bytes.put_u128(self.database.0);
        bytes.put_u128(self.source.0);
        bytes.put_u128(self.log.0);
        bytes.put_u64(self.lsn.get());
        bytes.put_u64(self.time_ms);
        end(bytes)
    }

    pub(crate) fn decode(bytes: &[u8], path: &Path) -> Result<Self> {
        let mut reader = open(bytes, ORIGIN_MAGIC, path)?;
        Self::decode_body(&mut reader).map_err(|error| damage(path, error))
    }

    fn decode_body(reader: &mut Reader<'_>) -> Result<Self, CodecError> {
        let error = reader.error("kind of origin");
        let kind = match reader.u8("kind of origin")? {
            1 => OriginKind::Backup,
            2 => OriginKind::Restore,
            _ => return Err(error),
        };
        let origin = Self {
            kind,
            database: DatabaseId(reader.u128("database id")?),
            source: LogId(reader.u128("source")?),
            log: LogId(reader.u128("log id")?),
            lsn: Lsn(reader.u64("lsn")?),
            time_ms: reader.u64("time")?,
        };
        reader.finish("end of the origin")?;
        Ok(origin)
    }
}

/// The bytes of `COMMIT`: `names` are relative to the directory and ascend.
pub(super) fn encode_commit(names: &[String]) -> Vec<u8> {
    let mut bytes = begin(COMMIT_MAGIC);
    bytes.put_varint(names.len() as u64);
    names.iter().for_each(|name| bytes.put_length_prefixed(name.as_bytes()));
    end(bytes)
}

/// Reads what [`encode_commit`] wrote.
pub(super) fn decode_commit(bytes: &[u8], path: &Path) -> Result<Vec<String>> {
    let mut reader = open(bytes, COMMIT_MAGIC, path)?;
    decode_names(&mut reader).map_err(|error| damage(path, error))
}

fn decode_names(reader: &mut Reader<'_>) -> Result<Vec<String>, CodecError> {
    let error = reader.error("count of files");
    let count = reader.varint("count of files")?;
    if count > reader.remaining() as u64 {
        return Err(error);
    }
    let mut names: Vec<String> = Vec::new();
    for _ in 0..count {
        let error = reader.error("name of a file");
        let name = std::str::from_utf8(reader.length_prefixed(NAME_BYTES_MAX, "name of a file")?);
        let name = name.ok().filter(|name| is_plain(name)).ok_or(error)?;
        if names.last().is_some_and(|before| before.as_str() >= name) {
            return Err(error);
        }
        names.push(name.to_owned());
    }
    reader.finish("end of the record")?;
    Ok(names)
}

/// Whether a name is one of a file directly in one of the three folders.
fn is_plain(name: &str) -> bool {
    name.split_once('/').is_some_and(|(folder, file)| {
        super::FOLDERS.contains(&folder)
            && !file.starts_with('.')
            && !file.is_empty()
            && file.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'.')
    })
}

/// The bytes of a small file; `None` when there is none.
pub(super) fn read(disk: &dyn Disk, path: &Path) -> Result<Option<Vec<u8>>> {
    let file = match disk.open(path, Access::Read) {
        Ok(file) => file,
        Err(Error::NotFound { .. }) => return Ok(None),
        Err(error) => return Err(error),
    };
    let size = file.size()?;
    if size > RECORD_BYTES_MAX {
        let expected = format!("at most {RECORD_BYTES_MAX} bytes");
        return Err(Corruption::new(path, 0, "length", expected, size).into());
    }
    let (bytes, _) = file.read_past_cache(0, size as usize)?;
    Ok(Some(bytes.to_vec()))
}

/// Reads a small file that begins and ends as these do, and checks that. Answers its bytes; `None` when there is none.
pub(crate) fn check(disk: &dyn Disk, path: &Path, magic: &[u8; 8]) -> Result<Option<u64>> {
    let Some(bytes) = read(disk, path)? else { return Ok(None) };
    open(&bytes, magic, path)?;
    Ok(Some(bytes.len() as u64))
}

fn begin(magic: &[u8; 8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(96);
    bytes.put_bytes(magic);
    bytes.put_u16(VERSION.0);
    bytes.put_u16(VERSION.0);
    bytes
}

fn end(mut bytes: Vec<u8>) -> Vec<u8> {
    let crc = checksum(Seed::new(), &bytes);
    bytes.put_u32(crc);
    bytes
}

/// Verifies a file and reads up to its body.
fn open<'a>(bytes: &'a [u8], magic: &[u8; 8], path: &Path) -> Result<Reader<'a>> {
    let newer = |needed| Error::UnsupportedFormat { path: path.to_owned(), needed, supported: VERSION };
    let opened = || -> Result<Result<Reader<'a>, FormatVersion>, CodecError> {
        let mut whole = Reader::new(bytes);
        let body = whole.bytes(bytes.len().saturating_sub(CRC_BYTES), "body")?;
        let error = whole.error("checksum");
        if whole.u32("checksum")? != checksum(Seed::new(), body) {
            return Err(error);
        }
        let mut reader = Reader::new(body);
        let error = reader.error("magic");
        if reader.array::<8>("magic")? != *magic {
            return Err(error);
        }
        let read_version = FormatVersion(reader.u16("read version")?);
        reader.u16("write version")?;
        Ok(if read_version > VERSION { Err(read_version) } else { Ok(reader) })
    };
    opened().map_err(|error| damage(path, error))?.map_err(newer)
}

fn damage(path: &Path, error: CodecError) -> Error {
    Corruption::new(path, error.offset as u64, error.what, "a valid one", "other bytes").into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin() -> Origin {
        Origin {
            kind: OriginKind::Backup,
            database: DatabaseId(1),
            source: LogId(2),
            log: LogId(3),
            lsn: Lsn(4),
            time_ms: 5,
        }
    }

    fn names() -> Vec<String> {
        ["log/00000000000000000001.log", "manifest/00000000000000000007.a", "pages/1.pages"]
            .map(str::to_owned)
            .to_vec()
    }

    #[test]
    fn the_bytes_are_pinned() {
        let mut expected = b"lworigin\x01\0\x01\0\x01".to_vec();
        for (size, value) in [(16, 1), (16, 2), (16, 3), (8, 4), (8, 5)] {
            expected.push(value);
            expected.resize(expected.len() + size - 1, 0);
        }
        expected.extend_from_slice(b"\xf3\x79\x92\x49");
        let encoded = origin().encode();
        assert_eq!(encoded.escape_ascii().to_string(), expected.escape_ascii().to_string());
        assert_eq!(Origin::decode(&encoded, Path::new("ORIGIN")).unwrap(), origin());
        let commit = encode_commit(&names());
        let text = "lwseedok\\x01\\x00\\x01\\x00\\x03\\x1clog/00000000000000000001.log\
                    \\x1fmanifest/00000000000000000007.a\\rpages/1.pages";
        assert!(commit.escape_ascii().to_string().starts_with(text), "{}", commit.escape_ascii());
        assert_eq!(decode_commit(&commit, Path::new("COMMIT")).unwrap(), names());
    }

    #[test]
    fn damage_newer_versions_and_names_that_lead_elsewhere_are_refused() {
        let path = Path::new("f");
        for whole in [origin().encode(), encode_commit(&names())] {
            for length in 0..whole.len() {
                assert!(Origin::decode(&whole[..length], path).is_err());
                assert!(decode_commit(&whole[..length], path).is_err());
            }
            for at in 0..whole.len() {
                let mut flipped = whole.clone();
                flipped[at] ^= 1;
                assert!(matches!(Origin::decode(&flipped, path), Err(Error::Corruption(_))));
                assert!(matches!(decode_commit(&flipped, path), Err(Error::Corruption(_))));
            }
        }
        let mut newer = begin(ORIGIN_MAGIC);
        newer[8] = 2;
        assert!(matches!(Origin::decode(&end(newer), path), Err(Error::UnsupportedFormat { .. })));
        for name in ["log/../x", "x", "/etc/passwd", "log/a/b", "log/", "LOCK", "log/.x", "other/x"] {
            assert!(decode_commit(&encode_commit(&[name.to_owned()]), path).is_err(), "{name}");
        }
        let mut twice = names();
        twice.push(twice[2].clone());
        assert!(decode_commit(&encode_commit(&twice), path).is_err());
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_decoding_panic(bytes: Vec<u8>, as_origin: bool) {
            let mut record = begin(if as_origin { ORIGIN_MAGIC } else { COMMIT_MAGIC });
            record.extend_from_slice(&bytes);
            let record = end(record);
            let _ = Origin::decode(&record, Path::new("f"));
            let _ = decode_commit(&record, Path::new("f"));
        }
    }
}
