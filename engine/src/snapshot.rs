//! The database as it was at one moment.

use std::ops::RangeBounds;

use logwood_base::digest::Digest;
use logwood_base::{Error, Lsn, Result};
use logwood_btree::{At, Value, ValueReader};

use crate::keyspace::Keyspace;
use crate::range::{Range, behind_prefix, bounds, prefix_bounds};

/// A view of all keyspaces at one LSN, which never changes. Taking it costs a lock for an instant; what it still needs is kept
/// until it is dropped. How much that is stands in the [statistics](crate::Statistics). A keyspace that is dropped is gone from
/// snapshots too.
///
/// ```
/// # use logwood::{Database, Options};
/// # let directory = tempfile::tempdir()?;
/// # let db = Database::open(directory.path(), Options::new())?;
/// let ks = db.ensure_keyspace("accounts")?;
/// ks.put(b"ada", b"10")?;
/// let before = db.snapshot();
/// ks.put(b"ada", b"20")?;
/// assert_eq!(before.get(&ks, b"ada")?.as_deref(), Some(&b"10"[..]));
/// assert_eq!(ks.get(b"ada")?.as_deref(), Some(&b"20"[..]));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Snapshot {
    trees: logwood_btree::Snapshot,
    instance: u64,
}

impl Snapshot {
    pub(crate) const fn new(trees: logwood_btree::Snapshot, instance: u64) -> Self {
        Self { trees, instance }
    }

    /// Everything up to here is in it, and nothing else.
    ///
    /// ```
    /// # use logwood::{Database, Options};
    /// # let directory = tempfile::tempdir()?;
    /// # let db = Database::open(directory.path(), Options::new())?;
    /// # let ks = db.ensure_keyspace("k")?;
    /// let lsn = ks.put(b"a", b"1")?;
    /// assert!(db.snapshot().lsn() >= lsn);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn lsn(&self) -> Lsn {
        self.trees.lsn()
    }

    /// The value of a key. Costs what [`Keyspace::get`] costs; where the leaf has changed since, its older version is read.
    ///
    /// ```
    /// # use logwood::{Database, Options};
    /// # let directory = tempfile::tempdir()?;
    /// # let db = Database::open(directory.path(), Options::new())?;
    /// # let ks = db.ensure_keyspace("k")?;
    /// ks.put(b"a", b"1")?;
    /// let snapshot = db.snapshot();
    /// ks.put(b"a", b"2")?;
    /// assert_eq!(snapshot.get(&ks, b"a")?.as_deref(), Some(&b"1"[..]));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`Keyspace::get`]; `InvalidArgument` for a keyspace of another database.
    pub fn get(&self, keyspace: &Keyspace, key: &[u8]) -> Result<Option<Value>> {
        self.check(keyspace)?;
        keyspace.shared().tree.get(key, At::Snapshot(&self.trees))
    }

    /// Calls `read` with the value of a key where it lies; see [`Keyspace::get_with`].
    ///
    /// ```
    /// # use logwood::{Database, Options};
    /// # let directory = tempfile::tempdir()?;
    /// # let db = Database::open(directory.path(), Options::new())?;
    /// # let ks = db.ensure_keyspace("k")?;
    /// ks.put(b"a", b"1")?;
    /// let snapshot = db.snapshot();
    /// ks.put(b"a", b"2")?;
    /// assert_eq!(snapshot.get_with(&ks, b"a", |value| value.map(<[u8]>::to_vec))?, Some(b"1".to_vec()));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`Snapshot::get`].
    pub fn get_with<R>(
        &self,
        keyspace: &Keyspace,
        key: &[u8],
        read: impl FnOnce(Option<&[u8]>) -> R,
    ) -> Result<R> {
        self.check(keyspace)?;
        keyspace.shared().tree.get_with(key, At::Snapshot(&self.trees), read)
    }

    /// The value of a key, to be read piece by piece; see [`Keyspace::value_reader`]. The reader outlives the snapshot.
    ///
    /// ```
    /// use std::io::Read;
    /// # use logwood::{Database, Options};
    /// # let directory = tempfile::tempdir()?;
    /// # let db = Database::open(directory.path(), Options::new())?;
    /// # let ks = db.ensure_keyspace("films")?;
    /// ks.put(b"trailer", &vec![7; 1_000_000])?;
    /// let mut film = db.snapshot().value_reader(&ks, b"trailer")?.expect("it was put");
    /// ks.put(b"trailer", b"cut")?;
    /// assert_eq!(std::io::copy(&mut film, &mut std::io::sink())?, 1_000_000);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`Snapshot::get`].
    pub fn value_reader(&self, keyspace: &Keyspace, key: &[u8]) -> Result<Option<ValueReader>> {
        self.check(keyspace)?;
        keyspace.shared().tree.value_reader(key, At::Snapshot(&self.trees))
    }

    /// The values of several keys; faster than one by one.
    ///
    /// ```
    /// # use logwood::{Database, Options};
    /// # let directory = tempfile::tempdir()?;
    /// # let db = Database::open(directory.path(), Options::new())?;
    /// # let ks = db.ensure_keyspace("k")?;
    /// ks.put(b"a", b"1")?;
    /// let snapshot = db.snapshot();
    /// ks.put(b"a", b"2")?;
    /// let found = snapshot.get_many(&ks, &[b"a", b"b"])?;
    /// assert!(found[0].as_deref() == Some(b"1") && found[1].is_none());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`Snapshot::get`].
    pub fn get_many(&self, keyspace: &Keyspace, keys: &[&[u8]]) -> Result<Vec<Option<Value>>> {
        self.check(keyspace)?;
        keyspace.shared().tree.get_many(keys, At::Snapshot(&self.trees))
    }

    /// Whether a key has a value.
    ///
    /// ```
    /// # use logwood::{Database, Options};
    /// # let directory = tempfile::tempdir()?;
    /// # let db = Database::open(directory.path(), Options::new())?;
    /// # let ks = db.ensure_keyspace("k")?;
    /// let before = db.snapshot();
    /// ks.put(b"a", b"1")?;
    /// assert!(!before.contains(&ks, b"a")? && db.snapshot().contains(&ks, b"a")?);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`Snapshot::get`].
    pub fn contains(&self, keyspace: &Keyspace, key: &[u8]) -> Result<bool> {
        self.check(keyspace)?;
        keyspace.shared().tree.contains(key, At::Snapshot(&self.trees))
    }

    /// The records of a range of keys, in both directions. Nothing is read before the first record is asked for, and then leaf by
    /// leaf.
    ///
    /// ```
    /// # use logwood::{Database, Options};
    /// # let directory = tempfile::tempdir()?;
    /// # let db = Database::open(directory.path(), Options::new())?;
    /// # let ks = db.ensure_keyspace("k")?;
    /// ks.put(b"a", b"1")?;
    /// let snapshot = db.snapshot();
    /// ks.put(b"a", b"2")?;
    /// let values: Vec<_> = snapshot.range(&ks, "a".."b")?.map(|record| record.map(|(_, value)| value)).collect::<Result<_, _>>()?;
    /// assert_eq!(values, [&b"1"[..]]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`Snapshot::get`].
    pub fn range<K: AsRef<[u8]>>(&self, keyspace: &Keyspace, range: impl RangeBounds<K>) -> Result<Range> {
        self.check(keyspace)?;
        Ok(Range::new(keyspace.shared().tree.cursor(bounds(&range), &self.trees)))
    }

    /// The records whose keys begin with `prefix`.
    ///
    /// ```
    /// # use logwood::{Database, Options};
    /// # let directory = tempfile::tempdir()?;
    /// # let db = Database::open(directory.path(), Options::new())?;
    /// # let ks = db.ensure_keyspace("k")?;
    /// ks.put(b"user/ada", b"")?;
    /// let snapshot = db.snapshot();
    /// ks.put(b"user/alan", b"")?;
    /// assert_eq!(snapshot.prefix(&ks, b"user/")?.count(), 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`Snapshot::get`].
    pub fn prefix(&self, keyspace: &Keyspace, prefix: &[u8]) -> Result<Range> {
        let behind = behind_prefix(prefix);
        self.range::<&[u8]>(keyspace, prefix_bounds(prefix, behind.as_deref()))
    }

    /// All records.
    ///
    /// ```
    /// # use logwood::{Database, Options};
    /// # let directory = tempfile::tempdir()?;
    /// # let db = Database::open(directory.path(), Options::new())?;
    /// # let ks = db.ensure_keyspace("k")?;
    /// let snapshot = db.snapshot();
    /// ks.put(b"a", b"1")?;
    /// assert!(snapshot.iter(&ks)?.next().is_none());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`Snapshot::get`].
    pub fn iter(&self, keyspace: &Keyspace) -> Result<Range> {
        self.range::<&[u8]>(keyspace, ..)
    }

    /// The record with the least key. Costs one way down the tree.
    ///
    /// ```
    /// # use logwood::{Database, Options};
    /// # let directory = tempfile::tempdir()?;
    /// # let db = Database::open(directory.path(), Options::new())?;
    /// # let ks = db.ensure_keyspace("k")?;
    /// ks.put(b"b", b"2")?;
    /// let snapshot = db.snapshot();
    /// ks.put(b"a", b"1")?;
    /// let (key, value) = snapshot.first(&ks)?.expect("there is one");
    /// assert_eq!((&*key, &*value), (&b"b"[..], &b"2"[..]));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`Snapshot::get`].
    pub fn first(&self, keyspace: &Keyspace) -> Result<Option<(Value, Value)>> {
        self.iter(keyspace)?.next().transpose()
    }

    /// The record with the greatest key. Costs one way down the tree.
    ///
    /// ```
    /// # use logwood::{Database, Options};
    /// # let directory = tempfile::tempdir()?;
    /// # let db = Database::open(directory.path(), Options::new())?;
    /// # let ks = db.ensure_keyspace("k")?;
    /// ks.put(b"a", b"1")?;
    /// let snapshot = db.snapshot();
    /// ks.put(b"b", b"2")?;
    /// let (key, value) = snapshot.last(&ks)?.expect("there is one");
    /// assert_eq!((&*key, &*value), (&b"a"[..], &b"1"[..]));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`Snapshot::get`].
    pub fn last(&self, keyspace: &Keyspace) -> Result<Option<(Value, Value)>> {
        self.iter(keyspace)?.next_back().transpose()
    }

    /// How many records a range has. Costs what [`Keyspace::count`] costs.
    ///
    /// ```
    /// # use logwood::{Database, Options};
    /// # let directory = tempfile::tempdir()?;
    /// # let db = Database::open(directory.path(), Options::new())?;
    /// # let ks = db.ensure_keyspace("k")?;
    /// ks.put(b"a", b"1")?;
    /// let snapshot = db.snapshot();
    /// ks.put(b"b", b"2")?;
    /// assert_eq!(snapshot.count(&ks, "a".."z")?, 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`Snapshot::get`].
    pub fn count<K: AsRef<[u8]>>(&self, keyspace: &Keyspace, range: impl RangeBounds<K>) -> Result<u64> {
        self.check(keyspace)?;
        keyspace.shared().tree.count(bounds(&range), &self.trees)
    }

    /// How many records there are. Costs what [`Snapshot::count`] costs.
    ///
    /// ```
    /// # use logwood::{Database, Options};
    /// # let directory = tempfile::tempdir()?;
    /// # let db = Database::open(directory.path(), Options::new())?;
    /// # let ks = db.ensure_keyspace("k")?;
    /// let snapshot = db.snapshot();
    /// ks.put(b"a", b"1")?;
    /// assert_eq!(snapshot.count_all(&ks)?, 0);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`Snapshot::get`].
    pub fn count_all(&self, keyspace: &Keyspace) -> Result<u64> {
        self.count::<&[u8]>(keyspace, ..)
    }

    /// The digest of a range. Means and costs what [`Keyspace::digest`] does.
    ///
    /// ```
    /// # use logwood::{Database, Options};
    /// # let directory = tempfile::tempdir()?;
    /// # let db = Database::open(directory.path(), Options::new())?;
    /// # let ks = db.ensure_keyspace("k")?;
    /// ks.put(b"a", b"1")?;
    /// let snapshot = db.snapshot();
    /// ks.put(b"b", b"2")?;
    /// assert_eq!(snapshot.digest(&ks, "a".."b")?, ks.digest("a".."b")?);
    /// assert_ne!(snapshot.digest(&ks, "a"..)?, ks.digest("a"..)?);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`Snapshot::get`].
    pub fn digest<K: AsRef<[u8]>>(&self, keyspace: &Keyspace, range: impl RangeBounds<K>) -> Result<Digest> {
        self.check(keyspace)?;
        keyspace.shared().tree.digest(bounds(&range), &self.trees)
    }

    /// The digest of all records. Costs what [`Snapshot::digest`] costs.
    ///
    /// ```
    /// # use logwood::{Database, Options};
    /// # let directory = tempfile::tempdir()?;
    /// # let db = Database::open(directory.path(), Options::new())?;
    /// # let ks = db.ensure_keyspace("k")?;
    /// let snapshot = db.snapshot();
    /// ks.put(b"a", b"1")?;
    /// assert_eq!(snapshot.digest_all(&ks)?, logwood::Digest::EMPTY);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`Snapshot::get`].
    pub fn digest_all(&self, keyspace: &Keyspace) -> Result<Digest> {
        self.digest::<&[u8]>(keyspace, ..)
    }

    pub(crate) fn check(&self, keyspace: &Keyspace) -> Result<()> {
        if keyspace.instance() != self.instance {
            let name = keyspace.name();
            return Err(Error::InvalidArgument(format!("keyspace {name} belongs to another database")));
        }
        keyspace.shared().check_exists()
    }
}
