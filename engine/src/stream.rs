//! Values that are read from somewhere while they are written.
//!
//! The bytes go where the log takes them from: into the payload of the entry. So a value is held once until it is committed,
//! and once more in its tree until a checkpoint has written it.

use std::io::{ErrorKind, Read};

use logwood_base::sync::Arc;
use logwood_base::{Error, KeyspaceId, Lsn, Result, limits};

use crate::batch::Batch;
use crate::entry;
use crate::entry::HEADER_BYTES;
use crate::entry::operation::{begin_put, put_bytes};
use crate::keyspace::Keyspace;
use crate::transaction::Transaction;

/// How much is asked of a source at once.
const READ_BYTES: usize = 256 << 10;

/// Appends a put whose value is the next `bytes` bytes of `source`. When that fails, a part of it stands behind what was there.
///
/// # Errors
/// `Source`.
fn put_from(
    payload: &mut Vec<u8>,
    keyspace: KeyspaceId,
    key: &[u8],
    bytes: usize,
    source: &mut dyn Read,
) -> Result<()> {
    // No more than is needed: a value of 64 MiB is not to cost 128.
    payload.reserve_exact(put_bytes(keyspace, key.len(), bytes));
    begin_put(payload, keyspace, key, bytes);
    let value = payload.len();
    fill(payload, value + bytes, source).map_err(|error| failed(error, payload.len() - value, bytes))
}

/// What is answered for a source that failed, or ended, behind `read` bytes.
fn failed(error: std::io::Error, read: usize, expected: usize) -> Error {
    Error::Source { read: read as u64, expected: expected as u64, source: Arc::new(error) }
}

/// Reads until there are `end` bytes.
fn fill(payload: &mut Vec<u8>, end: usize, source: &mut dyn Read) -> std::io::Result<()> {
    while payload.len() < end {
        let at = payload.len();
        payload.resize(end.min(at + READ_BYTES), 0);
        let read = source.read(&mut payload[at..]);
        let room = payload.len() - at;
        payload.truncate(at + read.as_ref().map_or(0, |read| *read.min(&room)));
        match read {
            // What it claims to have read beyond what it was given room for does not exist, and who knows what the rest is.
            Ok(claimed) if claimed > room => return Err(ErrorKind::InvalidData.into()),
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Err(error) if error.kind() != ErrorKind::Interrupted => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

impl Batch {
    /// Sets the value of a key to the next `bytes` bytes of `source`, of which no more is read. The value is not held anywhere
    /// but in the batch.
    ///
    /// ```
    /// # use logwood::{Database, Durability, Options};
    /// # let directory = tempfile::tempdir()?;
    /// # let db = Database::open(directory.path(), Options::new())?;
    /// let films = db.ensure_keyspace("films")?;
    /// let path = directory.path().join("trailer.mp4");
    /// std::fs::write(&path, vec![7; 500_000])?;
    ///
    /// let file = std::fs::File::open(&path)?;
    /// let bytes = file.metadata()?.len();
    /// let mut batch = db.batch();
    /// batch.put(&films, b"trailer/name", b"trailer.mp4")?;
    /// batch.put_stream(&films, b"trailer", bytes, file)?;
    /// db.commit(batch, Durability::Durable)?;
    /// assert_eq!(films.value_reader(b"trailer")?.expect("it was put").len(), 500_000);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`Batch::put`], before anything is read; `Source` when `source` fails, or ends before. The batch is as before then, also
    /// when `source` panics.
    pub fn put_stream(
        &mut self,
        keyspace: &Keyspace,
        key: &[u8],
        bytes: u64,
        mut source: impl Read,
    ) -> Result<()> {
        let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
        self.check_put(key, bytes)?;
        // Before anything is read.
        let length = self.bytes() - HEADER_BYTES + put_bytes(keyspace.id(), key.len(), bytes);
        limits::check("batch bytes", length, self.batch_bytes_max)?;
        self.append(keyspace, |payload, keyspace| put_from(payload, keyspace, key, bytes, &mut source))
    }
}

impl Transaction {
    /// Sets the value of a key to the next `bytes` bytes of `source`, of which no more is read: as [`Transaction::put`] does.
    /// It takes memory for the value in the transaction, and once more in its entry while it commits.
    ///
    /// ```
    /// # use logwood::{Database, Durability, Options};
    /// # let directory = tempfile::tempdir()?;
    /// # let db = Database::open(directory.path(), Options::new())?;
    /// # let films = db.ensure_keyspace("films")?;
    /// let mut transaction = db.transaction();
    /// if !transaction.contains(&films, b"trailer")? {
    ///     transaction.put_stream(&films, b"trailer", 500_000, std::io::repeat(7))?;
    /// }
    /// transaction.commit(Durability::Durable)?;
    /// assert_eq!(films.value_reader(b"trailer")?.expect("it was put").len(), 500_000);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`Transaction::put`], before anything is read; `Source` when `source` fails, or ends before. The transaction is as
    /// before then.
    pub fn put_stream(
        &mut self,
        keyspace: &Keyspace,
        key: &[u8],
        bytes: u64,
        mut source: impl Read,
    ) -> Result<()> {
        let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
        self.put_made(keyspace, key, bytes, || {
            let mut value = Vec::with_capacity(bytes);
            match fill(&mut value, bytes, &mut source) {
                Ok(()) => Ok(value),
                Err(error) => Err(failed(error, value.len(), bytes)),
            }
        })
    }
}

impl Keyspace {
    /// Sets the value of a key to the next `bytes` bytes of `source`, of which no more is read: as [`Keyspace::put`] does, for
    /// values that come from a file or over a network. Nothing is written before all of it was read.
    ///
    /// It takes memory for the value once while it is read and written to the log, and once in the tree until a checkpoint has
    /// written it.
    ///
    /// ```
    /// # use logwood::{Database, Options};
    /// # let directory = tempfile::tempdir()?;
    /// # let db = Database::open(directory.path(), Options::new())?;
    /// # let ks = db.ensure_keyspace("films")?;
    /// ks.put_stream(b"trailer", 500_000, std::io::repeat(7))?;
    /// assert_eq!(ks.value_reader(b"trailer")?.expect("it was put").len(), 500_000);
    ///
    /// let short = ks.put_stream(b"trailer", 500_000, &b"it ends here"[..]);
    /// assert!(matches!(short, Err(logwood::Error::Source { read: 12, expected: 500_000, .. })));
    /// assert_eq!(ks.value_reader(b"trailer")?.expect("it is as before").len(), 500_000);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`Keyspace::put`]; `Source` when `source` fails, or ends before: nothing was changed.
    pub fn put_stream(&self, key: &[u8], bytes: u64, mut source: impl Read) -> Result<Lsn> {
        let options = &self.core().options;
        limits::check("key bytes", key.len(), options.key_bytes_max)?;
        let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
        limits::check("value bytes", bytes, options.value_bytes_max)?;
        self.shared().check_exists()?;
        let mut payload = Vec::new();
        entry::begin_commit(&mut payload);
        put_from(&mut payload, self.id(), key, bytes, &mut source)?;
        self.commit_payload(&mut payload, options.durability)
    }
}
