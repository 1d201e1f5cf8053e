//! An ordered map within a database.

use std::ops::RangeBounds;

use logwood_base::digest::Digest;
use logwood_base::sync::Arc;
use logwood_base::{KeyspaceId, Lsn, Result, limits};
use logwood_btree::{At, RangeSize, Value, ValueReader};
use logwood_wal::Durability;

use crate::catalog::KeyspaceShared;
use crate::core::Handle;
use crate::entry::{self, Operation};
use crate::range::{Range, behind_prefix, bounds, half_open, is_empty, longest_key, prefix_bounds};

/// A keyspace: an ordered map from keys to values, both bytes. Handles are cheap to clone and can be used from any
/// thread.
///
/// Reads see the newest commit that is visible. To read several things of one moment, take a
/// [`Snapshot`](crate::Snapshot).
///
/// ```
/// # use logwood::{Database, Options};
/// # let directory = tempfile::tempdir()?;
/// let db = Database::open(directory.path(), Options::new())?;
/// let ks = db.ensure_keyspace("settings")?;
/// ks.put(b"theme", b"dark")?;
/// assert_eq!(ks.get(b"theme")?.as_deref(), Some(&b"dark"[..]));
/// ks.delete(b"theme")?;
/// assert!(!ks.contains(b"theme")?);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Keyspace {
    shared: Arc<KeyspaceShared>,
    core: Arc<Handle>,
}

impl Keyspace {
    pub(crate) const fn new(shared: Arc<KeyspaceShared>, core: Arc<Handle>) -> Self {
        Self { shared, core }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.shared.name
    }

    /// Its number, never used twice in one database.
    #[must_use]
    pub fn id(&self) -> KeyspaceId {
        self.shared.id
    }

    /// The value of a key. Where the leaf is in the cache it takes no lock, and writes nothing that threads share but a
    /// mark that the leaf is in use, when no read has left one since the cache last looked for what to evict. Where it is not
    /// it takes one read of the disk, or a few in a large tree that was just opened. A value of more than a few KiB that is
    /// not in memory is read whole, and not kept: see [`Keyspace::value_reader`].
    ///
    /// ```
    /// # use logwood::{Database, Options};
    /// # let directory = tempfile::tempdir()?;
    /// # let db = Database::open(directory.path(), Options::new())?;
    /// # let ks = db.ensure_keyspace("k")?;
    /// ks.put(b"a", b"1")?;
    /// assert_eq!(ks.get(b"a")?.as_deref(), Some(&b"1"[..]));
    /// assert!(ks.get(b"b")?.is_none());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// `NotFound` when the keyspace was dropped; `Corruption` when the page that held the key is damaged (other keys
    /// can be read); `Io`.
    #[inline]
    pub fn get(&self, key: &[u8]) -> Result<Option<Value>> {
        self.shared.check_exists()?;
        self.shared.tree.get(key, At::Latest)
    }

    /// Calls `read` with the value of a key where it lies, without copying it; a long value that is on disk only is read first.
    ///
    /// `read` runs while the page is held: keep it short, and call nothing of the database in it.
    ///
    /// ```
    /// # use logwood::{Database, Options};
    /// # let directory = tempfile::tempdir()?;
    /// # let db = Database::open(directory.path(), Options::new())?;
    /// let ks = db.ensure_keyspace("logs")?;
    /// ks.put(b"today", &[7; 10_000])?;
    /// assert_eq!(ks.get_with(b"today", |value| value.map(<[u8]>::len))?, Some(10_000));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`Keyspace::get`].
    #[inline]
    pub fn get_with<R>(&self, key: &[u8], read: impl FnOnce(Option<&[u8]>) -> R) -> Result<R> {
        self.shared.check_exists()?;
        self.shared.tree.get_with(key, At::Latest, read)
    }

    /// The value of a key, to be read piece by piece: for values that are better not held in memory whole. `None` when there is
    /// none.
    ///
    /// The reader stays on the value that was there when it was made, whatever is written afterwards. It holds one piece of 256 KiB,
    /// which one read brings from the disk when it is asked for.
    ///
    /// ```
    /// use std::io::{Read, Seek, SeekFrom};
    /// # use logwood::{Database, Options};
    /// # let directory = tempfile::tempdir()?;
    /// # let db = Database::open(directory.path(), Options::new())?;
    /// let ks = db.ensure_keyspace("films")?;
    /// ks.put(b"trailer", &vec![7; 3_000_000])?;
    /// let mut film = ks.value_reader(b"trailer")?.expect("it was put");
    /// assert_eq!(film.len(), 3_000_000);
    /// film.seek(SeekFrom::Start(2_999_990))?;
    /// let mut end = Vec::new();
    /// film.read_to_end(&mut end)?;
    /// assert_eq!(end, [7; 10]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`Keyspace::get`]. Damage to a piece is found when that piece is read, and is an [`std::io::Error`] with the
    /// [`Error`](crate::Error) inside.
    pub fn value_reader(&self, key: &[u8]) -> Result<Option<ValueReader>> {
        self.shared.check_exists()?;
        self.shared.tree.value_reader(key, At::Latest)
    }

    /// The values of several keys, all of one moment, in the order of the keys. Faster than one by one where the tree is
    /// larger than the processor's caches: the lookups wait for memory together.
    ///
    /// ```
    /// # use logwood::{Database, Options};
    /// # let directory = tempfile::tempdir()?;
    /// # let db = Database::open(directory.path(), Options::new())?;
    /// let ks = db.ensure_keyspace("capitals")?;
    /// ks.put(b"NO", b"Oslo")?;
    /// ks.put(b"IT", b"Rome")?;
    /// let found = ks.get_many(&[b"IT", b"XX", b"NO"])?;
    /// assert_eq!(found.iter().map(|value| value.as_deref()).collect::<Vec<_>>(), [Some(&b"Rome"[..]), None, Some(b"Oslo")]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`Keyspace::get`].
    pub fn get_many(&self, keys: &[&[u8]]) -> Result<Vec<Option<Value>>> {
        self.shared.check_exists()?;
        self.shared.tree.get_many(keys, At::Snapshot(&self.core.forest.snapshot()))
    }

    /// Whether a key has a value. Costs what [`Keyspace::get`] costs, without copying the value; reads no long value.
    ///
    /// ```
    /// # use logwood::{Database, Options};
    /// # let directory = tempfile::tempdir()?;
    /// # let db = Database::open(directory.path(), Options::new())?;
    /// # let ks = db.ensure_keyspace("k")?;
    /// ks.put(b"a", b"")?;
    /// assert!(ks.contains(b"a")? && !ks.contains(b"b")?);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`Keyspace::get`].
    pub fn contains(&self, key: &[u8]) -> Result<bool> {
        self.shared.check_exists()?;
        self.shared.tree.contains(key, At::Latest)
    }

    /// Sets the value of a key, as durably as [`Options::durability`](crate::Options::durability) says. A durable one
    /// takes one durable write of the disk, shared with all threads that commit at the same time; many records at once
    /// are cheaper in a [`Batch`](crate::Batch).
    ///
    /// ```
    /// # use logwood::{Database, Options};
    /// # let directory = tempfile::tempdir()?;
    /// # let db = Database::open(directory.path(), Options::new())?;
    /// # let ks = db.ensure_keyspace("k")?;
    /// let lsn = ks.put(b"a", b"1")?;
    /// assert!(db.durable_lsn() >= lsn, "it survives a power cut");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// `LimitExceeded` for a key or value that is too long, `NotFound` when the keyspace was dropped: nothing was
    /// changed. `DiskFull` when there is no room: nothing was changed, or the write has its place in the log and takes
    /// effect when there is room. `Poisoned` when this or an earlier write failed: reopen, and the value may be there or not.
    pub fn put(&self, key: &[u8], value: &[u8]) -> Result<Lsn> {
        self.put_with(key, value, self.core.options.durability)
    }

    /// Sets the value of a key, as durably as said here.
    ///
    /// ```
    /// # use logwood::{Database, Durability, Options};
    /// # let directory = tempfile::tempdir()?;
    /// # let db = Database::open(directory.path(), Options::new())?;
    /// # let ks = db.ensure_keyspace("k")?;
    /// // Survives the end of the process, but perhaps no power cut.
    /// ks.put_with(b"a", b"1", Durability::Buffered)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`Keyspace::put`].
    pub fn put_with(&self, key: &[u8], value: &[u8], durability: Durability) -> Result<Lsn> {
        limits::check("key bytes", key.len(), self.core.options.key_bytes_max)?;
        limits::check("value bytes", value.len(), self.core.options.value_bytes_max)?;
        self.commit(Some(&Operation::Put { keyspace: self.shared.id, key, value }), durability)
    }

    /// Takes the value of a key away; no matter if it has none. Costs what [`Keyspace::put`] costs, either way.
    ///
    /// ```
    /// # use logwood::{Database, Options};
    /// # let directory = tempfile::tempdir()?;
    /// # let db = Database::open(directory.path(), Options::new())?;
    /// # let ks = db.ensure_keyspace("k")?;
    /// ks.put(b"a", b"1")?;
    /// ks.delete(b"a")?;
    /// assert!(ks.get(b"a")?.is_none());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`Keyspace::put`].
    pub fn delete(&self, key: &[u8]) -> Result<Lsn> {
        self.delete_with(key, self.core.options.durability)
    }

    /// Takes the value of a key away, as durably as said here.
    ///
    /// ```
    /// # use logwood::{Database, Durability, Options};
    /// # let directory = tempfile::tempdir()?;
    /// # let db = Database::open(directory.path(), Options::new())?;
    /// # let ks = db.ensure_keyspace("k")?;
    /// ks.delete_with(b"a", Durability::Buffered)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`Keyspace::put`].
    pub fn delete_with(&self, key: &[u8], durability: Durability) -> Result<Lsn> {
        limits::check("key bytes", key.len(), self.core.options.key_bytes_max)?;
        self.commit(Some(&Operation::Delete { keyspace: self.shared.id, key }), durability)
    }

    /// Takes the values of a range of keys away, as durably as [`Options::durability`](crate::Options::durability) says: one
    /// entry of a few bytes, in the time of two lookups, however many they are. Of a range that holds no key, as `"b".."a"`,
    /// the entry is empty, as that of an empty batch, and its LSN is answered.
    ///
    /// ```
    /// # use logwood::{Database, Options};
    /// # let directory = tempfile::tempdir()?;
    /// # let db = Database::open(directory.path(), Options::new())?;
    /// # let ks = db.ensure_keyspace("k")?;
    /// for key in ["a", "b", "c"] {
    ///     ks.put(key.as_bytes(), b"")?;
    /// }
    /// ks.delete_range("b"..)?;
    /// assert_eq!(ks.count_all()?, 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`Keyspace::put`].
    pub fn delete_range<K: AsRef<[u8]>>(&self, range: impl RangeBounds<K>) -> Result<Lsn> {
        limits::check("key bytes", longest_key(&range), self.core.options.key_bytes_max)?;
        let (from, to) = half_open(&range);
        let operation = Operation::DeleteRange { keyspace: self.shared.id, from: &from, to: to.as_deref() };
        let operation = (!is_empty(&from, to.as_deref())).then_some(&operation);
        self.commit(operation, self.core.options.durability)
    }

    /// The records of a range of keys, in both directions, as of now: `ks.range("a".."f")`. Takes a snapshot, which lives as
    /// long as the iterator; nothing is read before the first record is asked for, and then leaf by leaf.
    ///
    /// ```
    /// # use logwood::{Database, Options};
    /// # let directory = tempfile::tempdir()?;
    /// # let db = Database::open(directory.path(), Options::new())?;
    /// let ks = db.ensure_keyspace("letters")?;
    /// for letter in ["a", "b", "c", "d"] {
    ///     ks.put(letter.as_bytes(), b"")?;
    /// }
    /// let from_the_end: Vec<_> = ks.range("b"..)?.rev().map(|record| record.map(|(key, _)| key)).collect::<Result<_, _>>()?;
    /// assert_eq!(from_the_end, [&b"d"[..], b"c", b"b"]);
    /// assert_eq!(ks.first()?.map(|(key, _)| key.to_vec()), Some(b"a".to_vec()));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// `NotFound` when the keyspace was dropped.
    pub fn range<K: AsRef<[u8]>>(&self, range: impl RangeBounds<K>) -> Result<Range> {
        self.shared.check_exists()?;
        Ok(Range::new(self.shared.tree.cursor(bounds(&range), &self.core.forest.snapshot())))
    }

    /// The records whose keys begin with `prefix`.
    ///
    /// ```
    /// # use logwood::{Database, Options};
    /// # let directory = tempfile::tempdir()?;
    /// # let db = Database::open(directory.path(), Options::new())?;
    /// # let ks = db.ensure_keyspace("k")?;
    /// for user in ["user/ada", "user/alan", "visit/1"] {
    ///     ks.put(user.as_bytes(), b"")?;
    /// }
    /// assert_eq!(ks.prefix(b"user/")?.count(), 2);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`Keyspace::range`].
    pub fn prefix(&self, prefix: &[u8]) -> Result<Range> {
        let behind = behind_prefix(prefix);
        self.range::<&[u8]>(prefix_bounds(prefix, behind.as_deref()))
    }

    /// All records. Costs what [`Keyspace::range`] costs: leaves are read as the walk comes to them.
    ///
    /// ```
    /// # use logwood::{Database, Options};
    /// # let directory = tempfile::tempdir()?;
    /// # let db = Database::open(directory.path(), Options::new())?;
    /// # let ks = db.ensure_keyspace("k")?;
    /// ks.put(b"a", b"1")?;
    /// ks.put(b"b", b"2")?;
    /// for record in ks.iter()? {
    ///     let (key, value) = record?;
    ///     println!("{} = {}", key.escape_ascii(), value.escape_ascii());
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`Keyspace::range`].
    pub fn iter(&self) -> Result<Range> {
        self.range::<&[u8]>(..)
    }

    /// The record with the least key. Costs a snapshot and one way down the tree.
    ///
    /// ```
    /// # use logwood::{Database, Options};
    /// # let directory = tempfile::tempdir()?;
    /// # let db = Database::open(directory.path(), Options::new())?;
    /// # let ks = db.ensure_keyspace("k")?;
    /// ks.put(b"a", b"1")?;
    /// ks.put(b"b", b"2")?;
    /// let (key, value) = ks.first()?.expect("there are two");
    /// assert_eq!((&*key, &*value), (&b"a"[..], &b"1"[..]));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`Keyspace::get`].
    pub fn first(&self) -> Result<Option<(Value, Value)>> {
        self.iter()?.next().transpose()
    }

    /// The record with the greatest key. Costs what [`Keyspace::first`] costs.
    ///
    /// ```
    /// # use logwood::{Database, Options};
    /// # let directory = tempfile::tempdir()?;
    /// # let db = Database::open(directory.path(), Options::new())?;
    /// # let ks = db.ensure_keyspace("k")?;
    /// ks.put(b"a", b"1")?;
    /// ks.put(b"b", b"2")?;
    /// let (key, value) = ks.last()?.expect("there are two");
    /// assert_eq!((&*key, &*value), (&b"b"[..], &b"2"[..]));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`Keyspace::get`].
    pub fn last(&self) -> Result<Option<(Value, Value)>> {
        self.iter()?.next_back().transpose()
    }

    /// How many records a range has. Costs a way down the tree at each end, and a look at every leaf of the range that changed
    /// since the last checkpoint.
    ///
    /// ```
    /// # use logwood::{Database, Options};
    /// # let directory = tempfile::tempdir()?;
    /// # let db = Database::open(directory.path(), Options::new())?;
    /// # let ks = db.ensure_keyspace("k")?;
    /// for key in ["a", "b", "c"] {
    ///     ks.put(key.as_bytes(), b"")?;
    /// }
    /// assert_eq!((ks.count("b"..)?, ks.count(.."b")?, ks.count("a"..="b")?), (2, 1, 2));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`Keyspace::get`].
    pub fn count<K: AsRef<[u8]>>(&self, range: impl RangeBounds<K>) -> Result<u64> {
        self.shared.check_exists()?;
        self.shared.tree.count(bounds(&range), &self.core.forest.snapshot())
    }

    /// How many records there are. Costs what [`Keyspace::count`] costs.
    ///
    /// ```
    /// # use logwood::{Database, Options};
    /// # let directory = tempfile::tempdir()?;
    /// # let db = Database::open(directory.path(), Options::new())?;
    /// # let ks = db.ensure_keyspace("k")?;
    /// ks.put(b"a", b"1")?;
    /// assert_eq!(ks.count_all()?, 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`Keyspace::get`].
    pub fn count_all(&self) -> Result<u64> {
        self.count::<&[u8]>(..)
    }

    /// About how large a range is: how many records, and bytes of their keys and values before compression. Takes time by
    /// the depth of the tree, also where [`Keyspace::count`] would have to look at every changed leaf.
    ///
    /// ```
    /// # use logwood::{Database, Options};
    /// # let directory = tempfile::tempdir()?;
    /// # let db = Database::open(directory.path(), Options::new())?;
    /// # let ks = db.ensure_keyspace("k")?;
    /// # let mut batch = db.batch();
    /// # for n in 0..1000u32 {
    /// #     batch.put(&ks, &n.to_be_bytes(), &[0; 100])?;
    /// # }
    /// # db.commit(batch, logwood::Durability::Buffered)?;
    /// // A thousand records; where would four workers begin?
    /// let size = ks.approximate_size::<&[u8]>(..)?;
    /// assert!((800..1200).contains(&size.records) && size.bytes > 80_000);
    /// assert_eq!(ks.split_keys::<&[u8]>(.., 4)?.len(), 3);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`Keyspace::get`].
    pub fn approximate_size<K: AsRef<[u8]>>(&self, range: impl RangeBounds<K>) -> Result<RangeSize> {
        self.shared.check_exists()?;
        self.shared.tree.approximate_size(bounds(&range))
    }

    /// Ascending keys inside a range that cut it into `parts` parts of about as many records; fewer keys where there are
    /// fewer records. Takes time by the depth of the tree for each key.
    ///
    /// ```
    /// # use logwood::{Database, Options};
    /// # let directory = tempfile::tempdir()?;
    /// # let db = Database::open(directory.path(), Options::new())?;
    /// # let ks = db.ensure_keyspace("k")?;
    /// for n in 0..100u8 {
    ///     ks.put_with(&[n], b"", logwood::Durability::Buffered)?;
    /// }
    /// let cuts = ks.split_keys::<&[u8]>(.., 2)?;
    /// assert!(cuts.len() == 1 && ks.count(..cuts[0].as_slice())? > 20);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`Keyspace::get`].
    pub fn split_keys<K: AsRef<[u8]>>(
        &self,
        range: impl RangeBounds<K>,
        parts: usize,
    ) -> Result<Vec<Vec<u8>>> {
        self.shared.check_exists()?;
        self.shared.tree.split_keys(bounds(&range), parts)
    }

    /// The digest of a range: equal for equal records, on any machine and in any database, and different for
    /// different ones unless somebody forges it. Costs what [`Keyspace::count`] costs, and hashing the records of the leaves that
    /// it looks at.
    ///
    /// ```
    /// # use logwood::{Database, Options};
    /// # let directory = tempfile::tempdir()?;
    /// # let db = Database::open(directory.path(), Options::new())?;
    /// let (here, there) = (db.ensure_keyspace("here")?, db.ensure_keyspace("there")?);
    /// for ks in [&here, &there] {
    ///     ks.put(b"a", b"1")?;
    ///     ks.put(b"b", b"2")?;
    /// }
    /// assert_eq!(here.digest_all()?, there.digest_all()?);
    /// there.put(b"b", b"3")?;
    /// assert_eq!(here.digest(..="a")?, there.digest(..="a")?);
    /// assert_ne!(here.digest("b"..)?, there.digest("b"..)?);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`Keyspace::get`].
    pub fn digest<K: AsRef<[u8]>>(&self, range: impl RangeBounds<K>) -> Result<Digest> {
        self.shared.check_exists()?;
        self.shared.tree.digest(bounds(&range), &self.core.forest.snapshot())
    }

    /// The digest of all records. Costs what [`Keyspace::digest`] costs.
    ///
    /// ```
    /// # use logwood::{Database, Options};
    /// # let directory = tempfile::tempdir()?;
    /// # let db = Database::open(directory.path(), Options::new())?;
    /// # let ks = db.ensure_keyspace("k")?;
    /// let empty = ks.digest_all()?;
    /// ks.put(b"a", b"1")?;
    /// assert_ne!(ks.digest_all()?, empty);
    /// ks.delete(b"a")?;
    /// assert_eq!(ks.digest_all()?, empty, "it says what is there, not how it came there");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`Keyspace::get`].
    pub fn digest_all(&self) -> Result<Digest> {
        self.digest::<&[u8]>(..)
    }

    pub(crate) fn shared(&self) -> &Arc<KeyspaceShared> {
        &self.shared
    }

    pub(crate) fn core(&self) -> &Arc<Handle> {
        &self.core
    }

    /// Which open database it belongs to.
    pub(crate) fn instance(&self) -> u64 {
        self.core.instance
    }

    fn commit(&self, operation: Option<&Operation<'_>>, durability: Durability) -> Result<Lsn> {
        let mut payload = Vec::with_capacity(256);
        entry::begin_commit(&mut payload);
        if let Some(operation) = operation {
            operation.encode(&mut payload);
        }
        self.commit_payload(&mut payload, durability)
    }

    /// Commits operations on this keyspace, and waits.
    pub(crate) fn commit_payload(&self, payload: &mut [u8], durability: Durability) -> Result<Lsn> {
        let keyspaces = std::slice::from_ref(&self.shared);
        let (lsn, write) = self.core.begin_commit(payload, keyspaces, durability)?;
        self.core.finish_commit(lsn, &write)
    }
}
