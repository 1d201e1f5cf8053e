//! Puts and deletes that take effect together.
//!
//! A batch *is* the payload of the commit that it becomes (see [`crate::entry`]): every put is encoded once, where
//! the log will copy it from. The time is filled in when the commit gets its place in the log.

use std::ops::RangeBounds;

use logwood_base::limits;
use logwood_base::sync::Arc;
use logwood_base::{Error, KeyspaceId, Result};

use crate::catalog::KeyspaceShared;
use crate::entry::{self, HEADER_BYTES, Operation};
use crate::keyspace::Keyspace;
use crate::range::{half_open, is_empty, longest_key};

/// Puts and deletes over any keyspaces of one database, committed at once by
/// [`Database::commit`](crate::Database::commit). A later operation on a key wins.
///
/// ```
/// # use logwood::{Database, Durability, Options};
/// # let directory = tempfile::tempdir()?;
/// let db = Database::open(directory.path(), Options::new())?;
/// let users = db.ensure_keyspace("users")?;
/// let by_name = db.ensure_keyspace("users-by-name")?;
///
/// let mut batch = db.batch();
/// batch.put(&users, b"17", b"Ada")?;
/// batch.put(&by_name, b"Ada", b"17")?;
/// let lsn = db.commit(batch, Durability::Durable)?;
/// assert!(db.visible_lsn() >= lsn);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Batch {
    /// A commit's payload so far.
    payload: Vec<u8>,
    operations: usize,
    /// Which open database's keyspaces it may name.
    pub(crate) instance: u64,
    /// Those that it names.
    keyspaces: Vec<Arc<KeyspaceShared>>,
    key_bytes_max: usize,
    value_bytes_max: usize,
    pub(crate) batch_bytes_max: usize,
}

impl Batch {
    pub(crate) fn new(instance: u64, options: &crate::Options) -> Self {
        let mut payload = Vec::with_capacity(256);
        entry::begin_commit(&mut payload);
        Self {
            payload,
            operations: 0,
            instance,
            keyspaces: Vec::new(),
            key_bytes_max: options.key_bytes_max,
            value_bytes_max: options.value_bytes_max,
            batch_bytes_max: options.batch_bytes_max,
        }
    }

    /// Sets the value of a key.
    ///
    /// ```
    /// # use logwood::{Database, Durability, Options};
    /// # let directory = tempfile::tempdir()?;
    /// # let db = Database::open(directory.path(), Options::new())?;
    /// # let ks = db.ensure_keyspace("k")?;
    /// let mut batch = db.batch();
    /// batch.put(&ks, b"a", b"1")?;
    /// batch.put(&ks, b"a", b"2")?;
    /// db.commit(batch, Durability::Durable)?;
    /// assert_eq!(ks.get(b"a")?.as_deref(), Some(&b"2"[..]));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// `LimitExceeded` for a key, value or batch that is too long; `InvalidArgument` for a keyspace of another
    /// database. The batch is as before then.
    pub fn put(&mut self, keyspace: &Keyspace, key: &[u8], value: &[u8]) -> Result<()> {
        self.check_put(key, value.len())?;
        self.add(keyspace, |keyspace| Operation::Put { keyspace, key, value })
    }

    /// Takes the value of a key away; no matter if it has none.
    ///
    /// ```
    /// # use logwood::{Database, Durability, Options};
    /// # let directory = tempfile::tempdir()?;
    /// # let db = Database::open(directory.path(), Options::new())?;
    /// # let ks = db.ensure_keyspace("k")?;
    /// let mut batch = db.batch();
    /// batch.put(&ks, b"a", b"1")?;
    /// batch.delete(&ks, b"a")?;
    /// db.commit(batch, Durability::Durable)?;
    /// assert!(ks.get(b"a")?.is_none());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`Batch::put`].
    pub fn delete(&mut self, keyspace: &Keyspace, key: &[u8]) -> Result<()> {
        limits::check("key bytes", key.len(), self.key_bytes_max)?;
        self.add(keyspace, |keyspace| Operation::Delete { keyspace, key })
    }

    /// Takes the values of a range of keys away. One that holds no key, as `"b".."a"`, adds nothing to the batch.
    ///
    /// ```
    /// # use logwood::{Database, Durability, Options};
    /// # let directory = tempfile::tempdir()?;
    /// # let db = Database::open(directory.path(), Options::new())?;
    /// let ks = db.ensure_keyspace("events")?;
    /// for day in ["2025-12-30", "2025-12-31", "2026-01-01"] {
    ///     ks.put(day.as_bytes(), b"")?;
    /// }
    /// let mut batch = db.batch();
    /// batch.delete_range(&ks, .."2026")?;
    /// batch.put(&ks, b"2026-01-02", b"")?;
    /// assert!(batch.bytes() < 100, "whatever it removes");
    /// db.commit(batch, Durability::Durable)?;
    /// assert_eq!(ks.count_all()?, 2);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`Batch::put`].
    pub fn delete_range<K: AsRef<[u8]>>(
        &mut self,
        keyspace: &Keyspace,
        range: impl RangeBounds<K>,
    ) -> Result<()> {
        limits::check("key bytes", longest_key(&range), self.key_bytes_max)?;
        let (from, to) = half_open(&range);
        let to = to.as_deref();
        self.append(keyspace, |payload, keyspace| {
            if !is_empty(&from, to) {
                Operation::DeleteRange { keyspace, from: &from, to }.encode(payload);
            }
            Ok(())
        })
    }

    /// Takes all that a keyspace holds away, and keeps the keyspace.
    ///
    /// ```
    /// # use logwood::{Database, Durability, Options};
    /// # let directory = tempfile::tempdir()?;
    /// # let db = Database::open(directory.path(), Options::new())?;
    /// # let ks = db.ensure_keyspace("k")?;
    /// ks.put(b"a", b"1")?;
    /// let mut batch = db.batch();
    /// batch.clear(&ks)?;
    /// batch.put(&ks, b"b", b"2")?;
    /// db.commit(batch, Durability::Durable)?;
    /// assert_eq!(ks.first()?.map(|(key, _)| key.to_vec()), Some(b"b".to_vec()));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`Batch::put`].
    pub fn clear(&mut self, keyspace: &Keyspace) -> Result<()> {
        self.delete_range::<&[u8]>(keyspace, ..)
    }

    /// How many operations it holds.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.operations
    }

    /// Whether it holds none. Committing it then changes nothing, and still takes an entry.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.operations == 0
    }

    /// How many bytes it takes in the log, headers of the log's batches apart.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.payload.len()
    }

    /// The payload, its time still 0, and the keyspaces that it names.
    pub(crate) fn into_parts(self) -> (Vec<u8>, Vec<Arc<KeyspaceShared>>) {
        (self.payload, self.keyspaces)
    }

    /// Refuses a key or a value that is too long.
    pub(crate) fn check_put(&self, key: &[u8], value_bytes: usize) -> Result<()> {
        limits::check("key bytes", key.len(), self.key_bytes_max)?;
        limits::check("value bytes", value_bytes, self.value_bytes_max)
    }

    fn add<'a>(
        &mut self,
        keyspace: &Keyspace,
        operation: impl FnOnce(KeyspaceId) -> Operation<'a>,
    ) -> Result<()> {
        self.append(keyspace, |payload, keyspace| {
            operation(keyspace).encode(payload);
            Ok(())
        })
    }

    /// Adds an operation that `encode` appends, or nothing when that fails.
    pub(crate) fn append(
        &mut self,
        keyspace: &Keyspace,
        encode: impl FnOnce(&mut Vec<u8>, KeyspaceId) -> Result<()>,
    ) -> Result<()> {
        if keyspace.instance() != self.instance {
            return Err(Error::InvalidArgument(format!(
                "keyspace {} belongs to another database",
                keyspace.name()
            )));
        }
        let shared = keyspace.shared();
        shared.check_exists()?;
        let before = self.payload.len();
        let appending = Appending { payload: &mut self.payload, taken_back_to: before };
        encode(appending.payload, shared.id)?;
        let length = appending.payload.len() - HEADER_BYTES;
        limits::check("batch bytes", length, self.batch_bytes_max)?;
        appending.keep();
        // The one named last is looked at first: most batches name few keyspaces, many times each.
        if !self.keyspaces.iter().rev().any(|named| Arc::ptr_eq(named, shared)) {
            self.keyspaces.push(Arc::clone(shared));
        }
        self.operations += usize::from(length > before - HEADER_BYTES);
        Ok(())
    }
}

/// An operation on its way into a batch: taken back when dropped, also by a panic in somebody's source of a value.
struct Appending<'a> {
    payload: &'a mut Vec<u8>,
    taken_back_to: usize,
}

impl Appending<'_> {
    fn keep(mut self) {
        self.taken_back_to = self.payload.len();
    }
}

impl Drop for Appending<'_> {
    fn drop(&mut self) {
        self.payload.truncate(self.taken_back_to);
    }
}
