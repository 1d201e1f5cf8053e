//! Serializable transactions: optimistic, validated in the one order of the log.
//!
//! A transaction reads at a snapshot and gathers what it changes. It notes what it reads ([`reads`]), and when it
//! commits, under the sequencer's lock, nothing of that may have been changed by a commit behind its snapshot
//! ([`recent`]). So all its reads would still give the same answers at its own place in the log, and the history is
//! that of running one transaction after the other in the order of their LSNs. Only effects are logged.
//!
//! ```text
//! begin            reads at s            validate (s, applied]   append, apply    write durable, visible
//!   │ s = visible ────────────── commit ──────│──────────────────────│── lock released ──│──────▶ answered
//! ```
//!
//! # Validated against what is applied, not against what is visible
//! Between `visible` and `applied` stand commits whose write is in flight. Were they left out, two transactions that
//! read the same and write what the other one reads could both pass while neither is durable. They are taken in, so
//! the next transaction validates while the write of the one before is still in flight: no lock is held over its write.
//!
//! What may happen to a commit C in flight while transaction T is validated against it:
//! 1. *T passes, and C's write fails.* T stands behind C in the log and is answered only when everything before it has
//!    reached its durability: T is not answered either, the database is poisoned, and what is there after reopening
//!    is a prefix of the log. T without C is never there.
//! 2. *T is refused because of C.* The refusal tells that C happened. It is answered only when C is visible; where C's
//!    write fails, T is answered `Poisoned` and not `Conflict`. So nobody learns of a commit that a crash takes back,
//!    and whoever tries again sees C.
//! 3. *C finds the disk full.* C keeps its place and is written when there is room; until then whoever waits for T's
//!    refusal is answered `DiskFull`. Nothing of T was written.
//!
//! The same holds for conditions ([`crate::condition`]), which are read at what is applied.
//!
//! The lock is held over writes where a transaction is larger than an entry (its fragments, but the last), and where a
//! catalog change or what a full disk left behind comes first: see [`crate::commit`].
//!
//! # What is protected
//! | read | conflicts with a commit that |
//! |---|---|
//! | a key, present or not | puts or deletes the key, or deletes a range around it |
//! | a range, as far as it was walked | puts or deletes any key there, or deletes a range that meets it |
//! | a count | as a range walked to its end |
//! | through [`Transaction::snapshot`] | nothing |
//!
//! A put of the value that was there already is a change. A transaction that writes nothing is never validated: what
//! it has read was true at its snapshot.

mod intervals;
mod live;
mod range;
mod reads;
mod recent;
mod retry;
mod writes;

use std::ops::RangeBounds;

use logwood_base::sync::{Arc, Mutex};
use logwood_base::{Error, Lsn, Result, limits};
use logwood_btree::{Value, ValueReader};
use logwood_wal::Durability;

use crate::core::Handle;
use crate::keyspace::Keyspace;
use crate::range::{behind_prefix, bounds, half_open, longest_key, prefix_bounds};
use crate::snapshot::Snapshot;
use crate::ticket::Ticket;

pub(crate) use live::Transactions;
pub use range::TransactionRange;
use reads::ReadSet;
pub use retry::TransactOptions;
pub(crate) use retry::transact;
use writes::{Own, WriteSet};

/// A serializable transaction over the keyspaces of a database. Begun by
/// [`Database::transaction`](crate::Database::transaction); dropped, it has never been.
///
/// It reads the database as it was when it began, and its own writes. Nobody waits for it and it waits for nobody:
/// when it commits and another commit has changed what it read, it is refused with `Conflict`, and is to be run
/// again. [`Database::transact`](crate::Database::transact) does that.
///
/// ```
/// # use logwood::{Database, Durability, Options};
/// # let directory = tempfile::tempdir()?;
/// let db = Database::open(directory.path(), Options::new())?;
/// let accounts = db.ensure_keyspace("accounts")?;
/// accounts.put(b"ada", b"10")?;
///
/// let mut transaction = db.transaction();
/// let balance = transaction.get(&accounts, b"ada")?.unwrap();
/// transaction.put(&accounts, b"ada", b"7")?;
/// transaction.put(&accounts, b"alan", b"3")?;
/// assert_eq!(&*balance, b"10");
/// let lsn = transaction.commit(Durability::Durable)?;
/// assert_eq!(accounts.get(b"alan")?.as_deref(), Some(&b"3"[..]));
/// # assert!(lsn <= db.visible_lsn());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Transaction {
    core: Arc<Handle>,
    snapshot: Snapshot,
    reads: Mutex<ReadSet>,
    writes: WriteSet,
}

impl Transaction {
    pub(crate) fn begin(core: &Arc<Handle>) -> Self {
        let trees = core.begin_transaction();
        let options = &core.options;
        Self {
            snapshot: Snapshot::new(trees, core.instance),
            reads: Mutex::new(ReadSet::new(options.transaction_reads_bytes_max)),
            writes: WriteSet::new(options.batch_bytes_max),
            core: Arc::clone(core),
        }
    }

    /// What it reads at, without its own writes. Reads through it are not protected: another commit may change what
    /// they saw before this transaction commits.
    ///
    /// ```
    /// # use logwood::{Database, Options};
    /// # let directory = tempfile::tempdir()?;
    /// # let db = Database::open(directory.path(), Options::new())?;
    /// # let ks = db.ensure_keyspace("k")?;
    /// let transaction = db.transaction();
    /// // For a report beside the transaction's own work: it conflicts with nobody.
    /// let rows = transaction.snapshot().count_all(&ks)?;
    /// assert_eq!(rows, 0);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub const fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }

    /// The value of a key.
    ///
    /// ```
    /// # use logwood::{Database, Durability, Options};
    /// # let directory = tempfile::tempdir()?;
    /// # let db = Database::open(directory.path(), Options::new())?;
    /// # let ks = db.ensure_keyspace("k")?;
    /// ks.put(b"a", b"1")?;
    /// let mut transaction = db.transaction();
    /// transaction.put(&ks, b"b", b"2")?;
    /// assert_eq!(transaction.get(&ks, b"a")?.as_deref(), Some(&b"1"[..]));
    /// assert_eq!(transaction.get(&ks, b"b")?.as_deref(), Some(&b"2"[..]), "it sees what it has written");
    /// ks.put(b"a", b"changed")?;
    /// assert!(matches!(transaction.commit(Durability::Durable), Err(logwood::Error::Conflict(_))));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`Snapshot::get`]; `LimitExceeded` when it has read more than
    /// [`Options::transaction_reads_bytes_max`](crate::Options::transaction_reads_bytes_max) allows.
    pub fn get(&self, keyspace: &Keyspace, key: &[u8]) -> Result<Option<Value>> {
        self.get_with(keyspace, key, |value| value.map(Value::from))
    }

    /// Calls `read` with the value of a key where it lies; see [`Keyspace::get_with`].
    ///
    /// ```
    /// # use logwood::{Database, Options};
    /// # let directory = tempfile::tempdir()?;
    /// # let db = Database::open(directory.path(), Options::new())?;
    /// # let ks = db.ensure_keyspace("k")?;
    /// ks.put(b"a", &[7; 1000])?;
    /// let transaction = db.transaction();
    /// assert_eq!(transaction.get_with(&ks, b"a", |value| value.map(<[u8]>::len))?, Some(1000));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`Transaction::get`].
    pub fn get_with<R>(
        &self,
        keyspace: &Keyspace,
        key: &[u8],
        read: impl FnOnce(Option<&[u8]>) -> R,
    ) -> Result<R> {
        self.snapshot.check(keyspace)?;
        match self.writes.get(keyspace.shared(), key) {
            Own::Written(value) => Ok(read(value)),
            Own::Untouched => {
                self.reads.lock().key(keyspace.shared(), key)?;
                self.snapshot.get_with(keyspace, key, read)
            }
        }
    }

    /// The value of a key, to be read piece by piece; see [`Keyspace::value_reader`]. The reader outlives the transaction.
    ///
    /// ```
    /// # use std::io::Read;
    /// # use logwood::{Database, Options};
    /// # let directory = tempfile::tempdir()?;
    /// # let db = Database::open(directory.path(), Options::new())?;
    /// # let films = db.ensure_keyspace("films")?;
    /// films.put(b"trailer", &vec![7; 500_000])?;
    /// let transaction = db.transaction();
    /// let mut film = transaction.value_reader(&films, b"trailer")?.expect("it was put");
    /// let mut beginning = [0; 4];
    /// film.read_exact(&mut beginning)?;
    /// assert_eq!((beginning, film.len()), ([7; 4], 500_000));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`Transaction::get`], and as [`Keyspace::value_reader`] while it is read.
    pub fn value_reader(&self, keyspace: &Keyspace, key: &[u8]) -> Result<Option<ValueReader>> {
        self.snapshot.check(keyspace)?;
        match self.writes.get(keyspace.shared(), key) {
            Own::Written(value) => Ok(value.map(|value| ValueReader::from(Box::from(value)))),
            Own::Untouched => {
                self.reads.lock().key(keyspace.shared(), key)?;
                self.snapshot.value_reader(keyspace, key)
            }
        }
    }

    /// The values of several keys; faster than one by one.
    ///
    /// ```
    /// # use logwood::{Database, Options};
    /// # let directory = tempfile::tempdir()?;
    /// # let db = Database::open(directory.path(), Options::new())?;
    /// # let ks = db.ensure_keyspace("k")?;
    /// ks.put(b"a", b"1")?;
    /// let mut transaction = db.transaction();
    /// transaction.put(&ks, b"b", b"2")?;
    /// let found = transaction.get_many(&ks, &[b"a", b"b", b"c"])?;
    /// assert!(found[0].is_some() && found[1].is_some() && found[2].is_none());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`Transaction::get`].
    pub fn get_many(&self, keyspace: &Keyspace, keys: &[&[u8]]) -> Result<Vec<Option<Value>>> {
        self.snapshot.check(keyspace)?;
        let own: Vec<_> = keys.iter().map(|key| self.writes.get(keyspace.shared(), key)).collect();
        let sought: Vec<_> =
            keys.iter().zip(&own).filter(|(_, own)| **own == Own::Untouched).map(|(key, _)| *key).collect();
        {
            let mut reads = self.reads.lock();
            sought.iter().try_for_each(|key| reads.key(keyspace.shared(), key))?;
        }
        let mut found = self.snapshot.get_many(keyspace, &sought)?.into_iter();
        let values = own.into_iter().map(|own| match own {
            Own::Written(value) => value.map(Value::from),
            Own::Untouched => found.next().flatten(),
        });
        Ok(values.collect())
    }

    /// Whether a key has a value. Costs what [`Snapshot::contains`] costs, and memory for the key, which is remembered.
    ///
    /// ```
    /// # use logwood::{Database, Options};
    /// # let directory = tempfile::tempdir()?;
    /// # let db = Database::open(directory.path(), Options::new())?;
    /// # let ks = db.ensure_keyspace("k")?;
    /// let mut transaction = db.transaction();
    /// transaction.put(&ks, b"a", b"1")?;
    /// assert!(transaction.contains(&ks, b"a")? && !ks.contains(b"a")?);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`Transaction::get`].
    pub fn contains(&self, keyspace: &Keyspace, key: &[u8]) -> Result<bool> {
        self.snapshot.check(keyspace)?;
        match self.writes.get(keyspace.shared(), key) {
            Own::Written(value) => Ok(value.is_some()),
            Own::Untouched => {
                self.reads.lock().key(keyspace.shared(), key)?;
                self.snapshot.contains(keyspace, key)
            }
        }
    }

    /// The records of a range of keys, in both directions. The transaction can be written to when the iterator is
    /// gone. Costs what [`Snapshot::range`] costs; own writes are laid over it as they are met, and of what was walked the ends are
    /// remembered, however many records it saw.
    ///
    /// ```
    /// # use logwood::{Database, Durability, Options};
    /// # let directory = tempfile::tempdir()?;
    /// # let db = Database::open(directory.path(), Options::new())?;
    /// let queue = db.ensure_keyspace("queue")?;
    /// queue.put(b"0001", b"wash")?;
    /// queue.put(b"0002", b"dry")?;
    /// let mut transaction = db.transaction();
    /// // What is not walked is not conflicted on: the others may take the second one.
    /// let first = transaction.range(&queue, "0000"..)?.next().transpose()?;
    /// let (key, job) = first.expect("there are two");
    /// transaction.delete(&queue, &key)?;
    /// transaction.commit(Durability::Durable)?;
    /// assert_eq!(&*job, b"wash");
    /// assert_eq!(queue.count_all()?, 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`Transaction::get`].
    pub fn range<K: AsRef<[u8]>>(
        &self,
        keyspace: &Keyspace,
        range: impl RangeBounds<K>,
    ) -> Result<TransactionRange<'_>> {
        let (from, to) = half_open(&range);
        let to = to.as_deref();
        let below = self.snapshot.range::<&[u8]>(keyspace, bounds(&range))?;
        let shared = keyspace.shared();
        let walk = self.reads.lock().walk(shared, from.to_vec(), to.map(<[u8]>::to_vec))?;
        let own = self.writes.of(shared).filter(|_| to.is_none_or(|to| *to > *from));
        let own = own.map(|writes| (writes.range(&from, to), writes.deleted()));
        Ok(TransactionRange::new(self, walk, below, own))
    }

    /// The records whose keys begin with `prefix`. Costs what [`Transaction::range`] costs.
    ///
    /// ```
    /// # use logwood::{Database, Options};
    /// # let directory = tempfile::tempdir()?;
    /// # let db = Database::open(directory.path(), Options::new())?;
    /// # let ks = db.ensure_keyspace("k")?;
    /// ks.put(b"user/ada", b"")?;
    /// let mut transaction = db.transaction();
    /// transaction.put(&ks, b"user/alan", b"")?;
    /// assert_eq!(transaction.prefix(&ks, b"user/")?.count(), 2);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`Transaction::get`].
    pub fn prefix(&self, keyspace: &Keyspace, prefix: &[u8]) -> Result<TransactionRange<'_>> {
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
    /// ks.put(b"a", b"1")?;
    /// let mut transaction = db.transaction();
    /// transaction.delete(&ks, b"a")?;
    /// assert!(transaction.iter(&ks)?.next().is_none());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`Transaction::get`].
    pub fn iter(&self, keyspace: &Keyspace) -> Result<TransactionRange<'_>> {
        self.range::<&[u8]>(keyspace, ..)
    }

    /// The record with the least key, own writes among them.
    ///
    /// ```
    /// # use logwood::{Database, Options};
    /// # let directory = tempfile::tempdir()?;
    /// # let db = Database::open(directory.path(), Options::new())?;
    /// # let ks = db.ensure_keyspace("k")?;
    /// ks.put(b"b", b"2")?;
    /// let transaction = db.transaction();
    /// ks.put(b"a", b"1")?;
    /// let (key, value) = transaction.first(&ks)?.expect("there is one");
    /// assert_eq!((&*key, &*value), (&b"b"[..], &b"2"[..]));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`Transaction::get`].
    pub fn first(&self, keyspace: &Keyspace) -> Result<Option<(Value, Value)>> {
        self.iter(keyspace)?.next().transpose()
    }

    /// The record with the greatest key, own writes among them.
    ///
    /// ```
    /// # use logwood::{Database, Options};
    /// # let directory = tempfile::tempdir()?;
    /// # let db = Database::open(directory.path(), Options::new())?;
    /// # let ks = db.ensure_keyspace("k")?;
    /// ks.put(b"a", b"1")?;
    /// let transaction = db.transaction();
    /// ks.put(b"b", b"2")?;
    /// let (key, value) = transaction.last(&ks)?.expect("there is one");
    /// assert_eq!((&*key, &*value), (&b"a"[..], &b"1"[..]));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`Transaction::get`].
    pub fn last(&self, keyspace: &Keyspace) -> Result<Option<(Value, Value)>> {
        self.iter(keyspace)?.next_back().transpose()
    }

    /// How many records a range has. Costs what [`Snapshot::count`] costs, and a look at every record of the range that the
    /// transaction itself has written.
    ///
    /// ```
    /// # use logwood::{Database, Options};
    /// # let directory = tempfile::tempdir()?;
    /// # let db = Database::open(directory.path(), Options::new())?;
    /// # let ks = db.ensure_keyspace("k")?;
    /// ks.put(b"a", b"1")?;
    /// let mut transaction = db.transaction();
    /// transaction.put(&ks, b"b", b"2")?;
    /// assert_eq!(transaction.count(&ks, "a".."z")?, 2);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`Transaction::get`].
    pub fn count<K: AsRef<[u8]>>(&self, keyspace: &Keyspace, range: impl RangeBounds<K>) -> Result<u64> {
        let mut count = self.snapshot.count::<&[u8]>(keyspace, bounds(&range))?;
        let (from, to) = half_open(&range);
        let to = to.as_deref();
        let shared = keyspace.shared();
        self.reads.lock().range(shared, from.to_vec(), to.map(<[u8]>::to_vec))?;
        if to.is_some_and(|to| *to <= *from) {
            return Ok(0);
        }
        let Some(writes) = self.writes.of(shared) else { return Ok(count) };
        for (from, to) in writes.deleted().within(&from, to) {
            let to = to.map_or(std::ops::Bound::Unbounded, std::ops::Bound::Excluded);
            let deleted = self.snapshot.count::<&[u8]>(keyspace, (std::ops::Bound::Included(from), to))?;
            // Damaged pages that bear right checksums may say that a part holds more than the whole.
            count = count.saturating_sub(deleted);
        }
        for (key, value) in writes.range(&from, to) {
            let was = !writes.deleted().contains(key) && self.snapshot.contains(keyspace, key)?;
            count = count.saturating_add(u64::from(value.is_some())).saturating_sub(u64::from(was));
        }
        Ok(count)
    }

    /// How many records there are. Costs what [`Transaction::count`] costs, and conflicts with every change of the keyspace.
    ///
    /// ```
    /// # use logwood::{Database, Options};
    /// # let directory = tempfile::tempdir()?;
    /// # let db = Database::open(directory.path(), Options::new())?;
    /// # let ks = db.ensure_keyspace("k")?;
    /// let mut transaction = db.transaction();
    /// transaction.put(&ks, b"a", b"1")?;
    /// assert_eq!((transaction.count_all(&ks)?, ks.count_all()?), (1, 0));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`Transaction::get`].
    pub fn count_all(&self, keyspace: &Keyspace) -> Result<u64> {
        self.count::<&[u8]>(keyspace, ..)
    }

    /// Sets the value of a key.
    ///
    /// ```
    /// # use logwood::{Database, Durability, Options};
    /// # let directory = tempfile::tempdir()?;
    /// # let db = Database::open(directory.path(), Options::new())?;
    /// # let ks = db.ensure_keyspace("k")?;
    /// let mut transaction = db.transaction();
    /// transaction.put(&ks, b"a", b"1")?;
    /// assert!(ks.get(b"a")?.is_none(), "nobody else sees it yet");
    /// transaction.commit(Durability::Durable)?;
    /// assert!(ks.get(b"a")?.is_some());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// `LimitExceeded` for a key or value that is too long, or when the transaction would change more than
    /// [`Options::batch_bytes_max`](crate::Options::batch_bytes_max) allows; `InvalidArgument` for a keyspace of
    /// another database; `NotFound` when the keyspace was dropped. The transaction is as before then.
    pub fn put(&mut self, keyspace: &Keyspace, key: &[u8], value: &[u8]) -> Result<()> {
        self.check_put(keyspace, key, value.len())?;
        self.writes.write(keyspace.shared(), key, Some(value))
    }

    /// As [`Transaction::put`] of a value of that length, which is asked for when there may be so much.
    pub(crate) fn put_made(
        &mut self,
        keyspace: &Keyspace,
        key: &[u8],
        bytes: usize,
        value: impl FnOnce() -> Result<Vec<u8>>,
    ) -> Result<()> {
        self.check_put(keyspace, key, bytes)?;
        self.writes.check(keyspace.shared(), key, Some(bytes))?;
        self.writes.write_owned(keyspace.shared(), key, Some(value()?.into_boxed_slice()))
    }

    fn check_put(&self, keyspace: &Keyspace, key: &[u8], value_bytes: usize) -> Result<()> {
        self.snapshot.check(keyspace)?;
        limits::check("key bytes", key.len(), self.core.options.key_bytes_max)?;
        limits::check("value bytes", value_bytes, self.core.options.value_bytes_max)
    }

    /// Takes the value of a key away; no matter if it has none.
    ///
    /// ```
    /// # use logwood::{Database, Durability, Options};
    /// # let directory = tempfile::tempdir()?;
    /// # let db = Database::open(directory.path(), Options::new())?;
    /// # let ks = db.ensure_keyspace("k")?;
    /// ks.put(b"a", b"1")?;
    /// let mut transaction = db.transaction();
    /// transaction.delete(&ks, b"a")?;
    /// transaction.commit(Durability::Durable)?;
    /// assert!(ks.get(b"a")?.is_none());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`Transaction::put`].
    pub fn delete(&mut self, keyspace: &Keyspace, key: &[u8]) -> Result<()> {
        self.snapshot.check(keyspace)?;
        limits::check("key bytes", key.len(), self.core.options.key_bytes_max)?;
        self.writes.write(keyspace.shared(), key, None)
    }

    /// Takes the values of a range of keys away, those that other commits put there meanwhile too: it reads nothing.
    ///
    /// ```
    /// # use logwood::{Database, Durability, Options};
    /// # let directory = tempfile::tempdir()?;
    /// # let db = Database::open(directory.path(), Options::new())?;
    /// # let ks = db.ensure_keyspace("k")?;
    /// let mut transaction = db.transaction();
    /// transaction.delete_range(&ks, "2025".."2026")?;
    /// transaction.put(&ks, b"2025-12-31", b"the only one that stays")?;
    /// ks.put(b"2025-07-01", b"put by somebody else meanwhile")?;
    /// transaction.commit(Durability::Durable)?;
    /// assert_eq!(ks.count_all()?, 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`Transaction::put`].
    pub fn delete_range<K: AsRef<[u8]>>(
        &mut self,
        keyspace: &Keyspace,
        range: impl RangeBounds<K>,
    ) -> Result<()> {
        self.snapshot.check(keyspace)?;
        limits::check("key bytes", longest_key(&range), self.core.options.key_bytes_max)?;
        let (from, to) = half_open(&range);
        self.writes.delete_range(keyspace.shared(), &from, to.as_deref())
    }

    /// Bytes that its changes take in the log, at most.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.writes.bytes()
    }

    /// Commits: all that was written takes effect at once, or nothing. Waits for the durability that is asked for.
    /// Answers the commit's LSN, or that of the snapshot when nothing was written; then it never fails.
    ///
    /// ```
    /// # use logwood::{Database, Durability, Options};
    /// # let directory = tempfile::tempdir()?;
    /// # let db = Database::open(directory.path(), Options::new())?;
    /// # let ks = db.ensure_keyspace("seats")?;
    /// use logwood::Error;
    ///
    /// let (mut first, mut second) = (db.transaction(), db.transaction());
    /// for transaction in [&mut first, &mut second] {
    ///     let free = !transaction.contains(&ks, b"seat 1")?;
    ///     assert!(free);
    ///     transaction.put(&ks, b"seat 1", b"taken")?;
    /// }
    /// first.commit(Durability::Durable)?;
    /// match second.commit(Durability::Durable) {
    ///     Err(Error::Conflict(conflict)) => assert_eq!(conflict.keyspace, "seats"),
    ///     other => panic!("{other:?}"),
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// - `Conflict`, naming what was read and has changed: run the transaction again. Nothing was written.
    /// - `TooOld` when it has read, and so much was committed since it began that conflicts cannot be ruled out any more
    ///   ([`Options::transaction_history_bytes_max`](crate::Options::transaction_history_bytes_max)): run it again.
    /// - `NotFound` when a keyspace that was read or written was dropped; `Closed`: nothing was written.
    /// - `DiskFull`: nothing was written, or the commit has its place in the log and takes effect when there is room.
    /// - `Poisoned` when this or an earlier write failed: reopen, and the commit may be there or not.
    pub fn commit(self, durability: Durability) -> Result<Lsn> {
        self.commit_async(durability)?.wait()
    }

    /// Commits, and answers a ticket to wait for, or to `.await`. A conflict is answered by the ticket, once the
    /// commit that it conflicts with is visible.
    ///
    /// ```
    /// # use logwood::{Database, Durability, Options};
    /// # let directory = tempfile::tempdir()?;
    /// # let db = Database::open(directory.path(), Options::new())?;
    /// # let ks = db.ensure_keyspace("k")?;
    /// let mut transaction = db.transaction();
    /// transaction.put(&ks, b"a", b"1")?;
    /// let ticket = transaction.commit_async(Durability::Durable)?;
    /// // Also to be awaited.
    /// ticket.wait()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`Transaction::commit`], without `Conflict`, for what is known before the write.
    pub fn commit_async(mut self, durability: Durability) -> Result<Ticket> {
        let core = Arc::clone(&self.core);
        let read = self.snapshot.lsn();
        let writes = std::mem::replace(&mut self.writes, WriteSet::new(0));
        if writes.is_empty() {
            return Ok(Ticket::nothing(core, read));
        }
        let reads = self.reads.lock();
        let (mut payload, mut keyspaces) = writes.into_parts();
        keyspaces.extend(reads.keyspaces().cloned());
        let begun = if reads.is_empty() {
            core.begin_commit(&mut payload, &keyspaces, durability).map_err(Into::into)
        } else {
            core.prevalidate(&reads, read).map_err(Into::into).and_then(|seen| {
                core.begin_commit_if(&mut payload, &keyspaces, durability, |_| {
                    Ok(core.validate(&reads, seen)?)
                })
            })
        };
        match begun {
            Ok((lsn, write)) => Ok(Ticket::new(Arc::clone(&core), lsn, write)),
            Err(refusal) => {
                core.transactions.note_refusal(&refusal.error);
                match refusal.error {
                    Error::Conflict(conflict) => Ok(Ticket::refused(Arc::clone(&core), *conflict)),
                    error => Err(error),
                }
            }
        }
    }

    /// Gives it up. Dropping it does the same.
    ///
    /// ```
    /// # use logwood::{Database, Options};
    /// # let directory = tempfile::tempdir()?;
    /// # let db = Database::open(directory.path(), Options::new())?;
    /// # let ks = db.ensure_keyspace("k")?;
    /// let mut transaction = db.transaction();
    /// transaction.put(&ks, b"a", b"1")?;
    /// transaction.rollback();
    /// assert!(ks.get(b"a")?.is_none());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn rollback(self) {}
}

impl Drop for Transaction {
    fn drop(&mut self) {
        self.core.end_transaction(self.snapshot.lsn());
    }
}
