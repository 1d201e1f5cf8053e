//! The public face of a database.

use std::path::Path;

use logwood_base::sync::Arc;
use logwood_base::{DatabaseId, Error, Lsn, Result};
use logwood_btree::verify::Damage;
use logwood_wal::Durability;

use crate::backup::{BackupOptions, BackupReport};
use crate::batch::Batch;
use crate::bulk::{BulkOptions, BulkWrite};
use crate::changes::{Changes, ChangesOptions};
use crate::core::Handle;
use crate::keyspace::Keyspace;
use crate::options::Options;
use crate::recovery;
use crate::snapshot::Snapshot;
use crate::statistics::Statistics;
use crate::ticket::Ticket;
use crate::transaction::{TransactOptions, Transaction};
use crate::verification::{VerifyProgress, VerifyReport};

/// An open database: a log, and a tree for each keyspace. Handles are cheap to clone and can be used from any thread.
///
/// One process at a time has a directory open. When the last handle is gone the directory is free again, as soon as the step
/// ends that background work may be in the middle of ([`Database::close`] waits for that); whatever was
/// acknowledged as durable is there at the next open, however the process ended.
///
/// ```
/// use logwood::{Database, Durability, Options};
///
/// # let directory = tempfile::tempdir()?;
/// let db = Database::open(directory.path(), Options::new())?;
/// let ks = db.ensure_keyspace("default")?;
/// ks.put(b"k1", b"durable when this returns")?;
///
/// let mut batch = db.batch();
/// for n in 0..1000u32 {
///     batch.put(&ks, format!("key {n:04}").as_bytes(), b"value")?;
/// }
/// db.commit(batch, Durability::Buffered)?;
/// assert_eq!(ks.count("key 0100".."key 0200")?, 100);
/// db.close()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Database {
    core: Arc<Handle>,
}

impl Database {
    /// Opens the database in a directory, and creates it when there is none: other files in the directory are left alone.
    ///
    /// Opening replays at most [`Options::recovery_log_bytes_max`] of log and walks no tree. It reads and checks the whole log
    /// that is there: what followers, the archiver and bulk writes hold takes time too, about as long as the disk takes to read
    /// it. [`Options::log_bytes_max`] bounds what they may hold.
    ///
    /// ```
    /// # use logwood::{Database, Options};
    /// # let directory = tempfile::tempdir()?;
    /// let db = Database::open(directory.path().join("shop.db"), Options::new().cache_bytes(64 << 20))?;
    /// assert!(db.keyspaces().is_empty());
    /// db.close()?;
    ///
    /// let missing = Database::open(directory.path().join("shop.bd"), Options::new().create(false));
    /// assert!(matches!(missing, Err(logwood::Error::NotFound { .. })));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// - `AlreadyOpen`: this or another process has it open.
    /// - `NotFound`: there is none, and [`Options::create`] says not to make one.
    /// - `Corruption`: a file that is needed is damaged or missing. Nothing was changed.
    /// - `WrongKind`: the directory holds a log without trees, or a backup or restore that was not finished.
    /// - `UnsupportedFormat`: written by a newer version.
    /// - `InvalidArgument` for options that contradict each other, `DiskFull`, `Io`.
    pub fn open(path: impl AsRef<Path>, options: Options) -> Result<Self> {
        recovery::open(path.as_ref(), options).map(|handle| Self { core: Arc::new(handle) })
    }

    /// The identity that all copies of this database share.
    ///
    /// ```
    /// # use logwood::{Database, Options};
    /// # let directory = tempfile::tempdir()?;
    /// let db = Database::open(directory.path().join("db"), Options::new())?;
    /// db.backup(directory.path().join("backup"))?;
    /// let copy = Database::open(directory.path().join("backup"), Options::new())?;
    /// assert_eq!(copy.id(), db.id());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn id(&self) -> DatabaseId {
        self.core.database
    }

    /// The directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.core.path
    }

    /// A keyspace that exists.
    ///
    /// ```
    /// # use logwood::{Database, Options};
    /// # let directory = tempfile::tempdir()?;
    /// # let db = Database::open(directory.path(), Options::new())?;
    /// assert!(matches!(db.keyspace("users"), Err(logwood::Error::NotFound { .. })));
    /// db.create_keyspace("users")?;
    /// assert_eq!(db.keyspace("users")?.name(), "users");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// `NotFound`.
    pub fn keyspace(&self, name: &str) -> Result<Keyspace> {
        let shared = self.core.catalog.by_name(name)?;
        Ok(Keyspace::new(shared, Arc::clone(&self.core)))
    }

    /// Creates a keyspace; it is durable when this returns.
    ///
    /// ```
    /// # use logwood::{Database, Options};
    /// # let directory = tempfile::tempdir()?;
    /// # let db = Database::open(directory.path(), Options::new())?;
    /// let users = db.create_keyspace("users")?;
    /// assert!(matches!(db.create_keyspace("users"), Err(logwood::Error::AlreadyExists { .. })));
    /// # drop(users);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// `AlreadyExists`; `InvalidArgument` or `LimitExceeded` for the name or the number of keyspaces; otherwise as
    /// [`Keyspace::put`].
    pub fn create_keyspace(&self, name: &str) -> Result<Keyspace> {
        let shared = self.core.create_keyspace(name)?;
        Ok(Keyspace::new(shared, Arc::clone(&self.core)))
    }

    /// A keyspace, created if it does not exist.
    ///
    /// ```
    /// # use logwood::{Database, Options};
    /// # let directory = tempfile::tempdir()?;
    /// # let db = Database::open(directory.path(), Options::new())?;
    /// db.ensure_keyspace("users")?.put(b"17", b"Ada")?;
    /// assert_eq!(db.ensure_keyspace("users")?.count_all()?, 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`Database::create_keyspace`], without `AlreadyExists`.
    pub fn ensure_keyspace(&self, name: &str) -> Result<Keyspace> {
        loop {
            match self.keyspace(name) {
                Err(Error::NotFound { .. }) => {}
                found => return found,
            }
            match self.create_keyspace(name) {
                Err(Error::AlreadyExists { .. }) => {}
                created => return created,
            }
        }
    }

    /// Drops a keyspace with all it holds, in snapshots too. Its handles answer `NotFound` from here on; iterators and value
    /// readers that were made before read on to their end. Its name can be used again. Costs one durable write, which commits wait for, however much it holds; the space is given back in the
    /// background.
    ///
    /// ```
    /// # use logwood::{Database, Options};
    /// # let directory = tempfile::tempdir()?;
    /// # let db = Database::open(directory.path(), Options::new())?;
    /// let old = db.create_keyspace("2025")?;
    /// old.put(b"k", b"v")?;
    /// assert_eq!(db.keyspaces(), ["2025"]);
    /// db.drop_keyspace("2025")?;
    /// assert!(db.keyspaces().is_empty());
    /// assert!(matches!(old.get(b"k"), Err(logwood::Error::NotFound { .. })));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// `NotFound`; otherwise as [`Keyspace::put`].
    pub fn drop_keyspace(&self, name: &str) -> Result<()> {
        self.core.drop_keyspace(name)
    }

    /// The names of the keyspaces, sorted.
    ///
    /// ```
    /// # use logwood::{Database, Options};
    /// # let directory = tempfile::tempdir()?;
    /// # let db = Database::open(directory.path(), Options::new())?;
    /// db.ensure_keyspace("visits")?;
    /// db.ensure_keyspace("users")?;
    /// assert_eq!(db.keyspaces(), ["users", "visits"]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn keyspaces(&self) -> Vec<String> {
        self.core.catalog.names()
    }

    /// An empty batch.
    ///
    /// ```
    /// # use logwood::{Database, Durability, Options};
    /// # let directory = tempfile::tempdir()?;
    /// # let db = Database::open(directory.path(), Options::new())?;
    /// # let ks = db.ensure_keyspace("k")?;
    /// let mut batch = db.batch();
    /// batch.put(&ks, b"a", b"1")?;
    /// batch.delete(&ks, b"b")?;
    /// db.commit(batch, Durability::Durable)?; // both or neither; dropped, it has never been
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn batch(&self) -> Batch {
        Batch::new(self.core.instance, &self.core.options)
    }

    /// Commits a batch and waits for the durability that is asked for.
    ///
    /// ```
    /// # use logwood::{Database, Durability, Options};
    /// # let directory = tempfile::tempdir()?;
    /// # let db = Database::open(directory.path(), Options::new())?;
    /// # let ks = db.ensure_keyspace("k")?;
    /// let mut batch = db.batch();
    /// batch.put(&ks, b"a", b"1")?;
    /// batch.delete(&ks, b"b")?;
    /// let lsn = db.commit(batch, Durability::Durable)?;
    /// assert!(db.durable_lsn() >= lsn);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`Keyspace::put`]; `InvalidArgument` for a batch of another database.
    pub fn commit(&self, batch: Batch, durability: Durability) -> Result<Lsn> {
        self.commit_async(batch, durability)?.wait()
    }

    /// Commits a batch and answers a ticket to wait for, or to `.await`. Tickets may be answered in any order; commits
    /// take effect in the order of these calls.
    ///
    /// ```
    /// # use logwood::{Database, Durability, Options};
    /// # let directory = tempfile::tempdir()?;
    /// # let db = Database::open(directory.path(), Options::new())?;
    /// # let ks = db.ensure_keyspace("k")?;
    /// let mut batch = db.batch();
    /// batch.put(&ks, b"a", b"1")?;
    /// let ticket = db.commit_async(batch, Durability::Durable)?;
    /// // Something else, while the disk is at work …
    /// let lsn = ticket.wait()?;
    /// assert!(db.visible_lsn() >= lsn);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`Database::commit`], for what is known before the write.
    pub fn commit_async(&self, batch: Batch, durability: Durability) -> Result<Ticket> {
        if batch.instance != self.core.instance {
            return Err(Error::InvalidArgument("the batch belongs to another database".to_owned()));
        }
        let (mut payload, keyspaces) = batch.into_parts();
        let (lsn, write) = self.core.begin_commit(&mut payload, &keyspaces, durability)?;
        Ok(Ticket::new(Arc::clone(&self.core), lsn, write))
    }

    /// Begins a write of any number of puts and deletes that take effect at once.
    ///
    /// ```
    /// # use logwood::{Database, Durability, Options};
    /// # let directory = tempfile::tempdir()?;
    /// # let db = Database::open(directory.path(), Options::new())?;
    /// # let ks = db.ensure_keyspace("k")?;
    /// use logwood::BulkOptions;
    /// let mut bulk = db.bulk_write(BulkOptions::new().memory_bytes(64 << 20))?;
    /// for n in 0..1_000u32 {
    ///     bulk.put(&ks, &n.to_be_bytes(), b"value")?; // in this order nothing is sorted
    /// }
    /// bulk.commit(Durability::Durable)?;
    /// assert_eq!(ks.count_all()?, 1_000);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// `InvalidArgument` for options out of bounds; `Poisoned`, `Closed`.
    pub fn bulk_write(&self, options: BulkOptions) -> Result<BulkWrite> {
        BulkWrite::begin(&self.core, options)
    }

    /// Begins a transaction, which reads the database as it is now. Waits for no commit.
    ///
    /// ```
    /// # use logwood::{Database, Durability, Options};
    /// # let directory = tempfile::tempdir()?;
    /// # let db = Database::open(directory.path(), Options::new())?;
    /// # let ks = db.ensure_keyspace("k")?;
    /// let mut transaction = db.transaction();
    /// let visits = transaction.get(&ks, b"visits")?.map_or(0, |visits| visits[0]);
    /// transaction.put(&ks, b"visits", &[visits + 1])?;
    /// transaction.commit(Durability::Durable)?;
    /// assert_eq!(ks.get(b"visits")?.as_deref(), Some(&[1][..]));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn transaction(&self) -> Transaction {
        Transaction::begin(&self.core)
    }

    /// Runs `work` in a transaction and commits it; runs it again, in a new transaction, when it conflicts. `work`
    /// must change nothing but the transaction, or bear to be run several times. Its own error ends it, and nothing is
    /// written.
    ///
    /// ```
    /// # use logwood::{Database, Options, Result, TransactOptions};
    /// # let directory = tempfile::tempdir()?;
    /// # let db = Database::open(directory.path(), Options::new())?;
    /// let counters = db.ensure_keyspace("counters")?;
    /// let next = db.transact(TransactOptions::new(), |transaction| -> Result<u64> {
    ///     let last = transaction.get(&counters, b"orders")?;
    ///     let next = last.map_or(1, |last| u64::from_be_bytes((*last).try_into().unwrap()) + 1);
    ///     transaction.put(&counters, b"orders", &next.to_be_bytes())?;
    ///     Ok(next)
    /// })?;
    /// assert_eq!(next, 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// What `work` answers; the last `Conflict` or `TooOld` when
    /// [`TransactOptions::attempts_max`] is reached; otherwise as [`Transaction::commit`].
    pub fn transact<R, E: From<Error>>(
        &self,
        options: TransactOptions,
        work: impl FnMut(&mut Transaction) -> Result<R, E>,
    ) -> Result<R, E> {
        crate::transaction::transact(&self.core, options, work)
    }

    /// The database as it is now. Taking it costs a lock for an instant; what it still needs is kept until it is dropped.
    ///
    /// ```
    /// # use logwood::{Database, Options};
    /// # let directory = tempfile::tempdir()?;
    /// # let db = Database::open(directory.path(), Options::new())?;
    /// # let ks = db.ensure_keyspace("k")?;
    /// let before = db.snapshot();
    /// ks.put(b"a", b"1")?;
    /// assert_eq!((before.count_all(&ks)?, ks.count_all()?), (0, 1));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        Snapshot::new(self.core.forest.snapshot(), self.core.instance)
    }

    /// Writes a checkpoint that holds everything committed before this call, and answers its LSN. Checkpoints also
    /// happen by themselves. Costs writing the leaves that changed since the last one and the pages above them, and the syncs of
    /// their files and of the manifest; reads and writes go on meanwhile.
    ///
    /// ```
    /// # use logwood::{Database, Options};
    /// # let directory = tempfile::tempdir()?;
    /// # let db = Database::open(directory.path(), Options::new())?;
    /// db.ensure_keyspace("k")?.put(b"k", b"v")?;
    /// let lsn = db.checkpoint()?;
    /// assert_eq!(db.statistics().watermarks.checkpoint, lsn);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// `DiskFull`, and a later one may succeed; `Corruption`; `Poisoned`.
    pub fn checkpoint(&self) -> Result<Lsn> {
        self.core.end_dropped()?;
        self.core.checkpoint_now()
    }

    /// Packs all trees densely and gives the space of everything dead back. It takes as much free space as the live
    /// data, for as long as it runs; reads and writes go on.
    ///
    /// Of the log, what nobody needs goes too, with what is kept for later. Where nothing is written meanwhile and nobody holds
    /// entries, one small segment is left of it (1 MiB); the commits behind it wait until the next one is written.
    ///
    /// ```
    /// # use logwood::{Database, Durability, Options};
    /// # let directory = tempfile::tempdir()?;
    /// # let db = Database::open(directory.path(), Options::new())?;
    /// let ks = db.ensure_keyspace("k")?;
    /// let mut batch = db.batch();
    /// batch.put(&ks, b"k", &[7; 1 << 20])?;
    /// db.commit(batch, Durability::Durable)?;
    /// ks.delete(b"k")?;
    /// db.compact()?;
    /// assert!(db.statistics().trees.store.live_bytes < 1 << 20);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`Database::checkpoint`].
    pub fn compact(&self) -> Result<()> {
        self.core.compact()
    }

    /// Copies the database into a directory that opens by itself, while it is in use: as [`Database::backup_with`] and
    /// [`BackupOptions::default`].
    ///
    /// ```
    /// # use logwood::{Database, Options};
    /// # let directory = tempfile::tempdir()?;
    /// let db = Database::open(directory.path().join("db"), Options::new())?;
    /// let ks = db.ensure_keyspace("default")?;
    /// ks.put(b"k", b"saved")?;
    /// let report = db.backup(directory.path().join("backup"))?;
    /// ks.put(b"k", b"not saved")?;
    ///
    /// let copy = Database::open(directory.path().join("backup"), Options::new())?;
    /// assert_eq!(copy.keyspace("default")?.get(b"k")?.as_deref(), Some(&b"saved"[..]));
    /// assert!(copy.visible_lsn() > report.lsn, "it is a database in its own right now");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`Database::backup_with`].
    pub fn backup(&self, to: impl AsRef<Path>) -> Result<BackupReport> {
        self.backup_with(to, &BackupOptions::default())
    }

    /// Copies the database into a directory that opens by itself, while it is in use. The copy holds every commit that
    /// was visible when the call began. It writes a checkpoint, then takes as much time as linking (or copying) the page
    /// segments and reading them back.
    ///
    /// `to` is a new or empty directory; or an earlier backup of the same database that nobody has opened for writing:
    /// then only page segments that it does not have are added, and a crash at any moment leaves either the earlier
    /// backup or this one; or a backup that was not finished, which this call goes on with.
    ///
    /// The copy is the same database ([`Database::id`]) with a log of its own. The first time it is opened for writing it
    /// becomes a database in its own right.
    ///
    /// ```
    /// # use logwood::{BackupOptions, Database, Options};
    /// # let directory = tempfile::tempdir()?;
    /// # let db = Database::open(directory.path().join("db"), Options::new())?;
    /// let report = db.backup_with(directory.path().join("backup"), &BackupOptions::new().link(false))?;
    /// assert_eq!(report.lsn, db.visible_lsn());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// `AlreadyExists` when `to` is a database that is no backup of this one, or no longer, or a backup of a later state
    /// ([`BackupOptions::replace_newer`]); `AlreadyOpen`;
    /// `InvalidArgument` when it holds other files; `Corruption` when the database is damaged, or the backup is not what
    /// was written; `DiskFull`, `Io`; otherwise as [`Database::checkpoint`].
    pub fn backup_with(&self, to: impl AsRef<Path>, options: &BackupOptions) -> Result<BackupReport> {
        self.core.backup(to.as_ref(), options)
    }

    /// Follows the commits from `from` on, in order: as [`Database::changes_with`] and [`ChangesOptions::default`].
    ///
    /// ```
    /// # use logwood::{Database, Options};
    /// # let directory = tempfile::tempdir()?;
    /// # let db = Database::open(directory.path(), Options::new())?;
    /// # let ks = db.ensure_keyspace("k")?;
    /// use std::time::Duration;
    /// use logwood::Change;
    ///
    /// let mut changes = db.changes(db.visible_lsn().next())?;
    /// ks.put(b"a", b"1")?;
    /// let mut commit = changes.next(Duration::from_secs(1))?.expect("there is one");
    /// assert!(matches!(commit.next()?, Some(Change::Put { key: b"a", value: b"1", .. })));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`Database::changes_with`].
    pub fn changes(&self, from: Lsn) -> Result<Changes> {
        self.changes_with(from, &ChangesOptions::default())
    }

    /// Follows the commits from `from` on, in order. `from` is at most one beyond the newest commit.
    ///
    /// To begin with everything: take the changes from `visible_lsn().next()` on, then a snapshot, copy it, and pass over
    /// the commits up to its LSN. A snapshot also shows commits that were made as buffered, and that a power cut may take:
    /// before a copy of it is kept elsewhere, make a durable commit, of an empty batch for instance, so that
    /// [`Database::durable_lsn`] has reached the snapshot's LSN.
    ///
    /// ```
    /// # use logwood::{Database, Options};
    /// # let directory = tempfile::tempdir()?;
    /// # let db = Database::open(directory.path(), Options::new())?;
    /// use logwood::ChangesOptions;
    ///
    /// // The log keeps what this reader has not dealt with, up to a GiB.
    /// let options = ChangesOptions::new().name("search index").log_bytes_max(1 << 30);
    /// let changes = db.changes_with(db.oldest_change_lsn()?, &options)?;
    /// # drop(changes);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// - `TooOld` when the log has let go of `from`: see [`Database::oldest_change_lsn`].
    /// - `Replaced` when the log ends more than one before `from`. Who followed buffered commits without
    ///   [`ChangesOptions::durable_only`] learns here that a power cut took some of them back, if others have not taken
    ///   their LSNs yet: build anew.
    /// - `Closed`; `Poisoned`, with a hold; `Corruption`, `Io` from the log.
    pub fn changes_with(&self, from: Lsn, options: &ChangesOptions) -> Result<Changes> {
        Changes::new(Arc::clone(&self.core), from, options)
    }

    /// The oldest LSN that [`Database::changes`] can begin at. It moves up as checkpoints let the log go, and never past
    /// what somebody holds. It is never inside of a large transaction of which the first part is gone: what the log has before
    /// the older checkpoint is looked through for the end of one, once for each time that the log has moved. That is little,
    /// unless somebody holds it.
    ///
    /// ```
    /// # use logwood::{Database, Lsn, Options};
    /// # let directory = tempfile::tempdir()?;
    /// # let db = Database::open(directory.path(), Options::new())?;
    /// db.ensure_keyspace("k")?;
    /// assert_eq!(db.oldest_change_lsn()?, Lsn(1), "nothing was let go yet");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// `Corruption`, `Io` from the log.
    pub fn oldest_change_lsn(&self) -> Result<Lsn> {
        self.core.oldest_change_lsn()
    }

    /// Reads every byte of every file and derives again what can be derived: checksums, structure, counts and
    /// digests. Damage is handed to `on_damage`; the rest goes on to be verified. Reads and writes go on meanwhile.
    ///
    /// ```
    /// # use logwood::{Database, Options};
    /// # let directory = tempfile::tempdir()?;
    /// # let db = Database::open(directory.path(), Options::new())?;
    /// db.ensure_keyspace("k")?.put(b"a", b"1")?;
    /// let report = db.verify(&mut |damage| eprintln!("{}", damage.corruption), &mut |_progress| {})?;
    /// assert_eq!(report.damages, 0);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// `Closed`, also when the database is closed meanwhile: what others do in the directory then is no damage. `Io`, behind the
    /// damage that was found in what can be read, and others that kept it from looking. Damage is not an
    /// error here, nor is a page segment that the device does not give back: that is damage.
    pub fn verify(
        &self,
        on_damage: &mut dyn FnMut(Damage),
        progress: &mut dyn FnMut(VerifyProgress),
    ) -> Result<VerifyReport> {
        self.core.verify(on_damage, progress)
    }

    /// How the database is doing. Also hands the numbers to the `metrics` facade.
    ///
    /// ```
    /// # use logwood::{Database, Options};
    /// # let directory = tempfile::tempdir()?;
    /// # let db = Database::open(directory.path(), Options::new())?;
    /// let statistics = db.statistics();
    /// println!("{} bytes of memory, {} commits", statistics.memory_bytes, statistics.commits);
    /// assert!(statistics.poisoned.is_none());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn statistics(&self) -> Statistics {
        self.core.statistics()
    }

    /// The newest commit that readers see.
    ///
    /// ```
    /// # use logwood::{Database, Options};
    /// # let directory = tempfile::tempdir()?;
    /// # let db = Database::open(directory.path(), Options::new())?;
    /// # let ks = db.ensure_keyspace("k")?;
    /// let lsn = ks.put(b"a", b"1")?;
    /// assert!(db.visible_lsn() >= lsn);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn visible_lsn(&self) -> Lsn {
        self.core.visible_lsn()
    }

    /// Up to here, everything survives a power cut.
    ///
    /// ```
    /// # use logwood::{Database, Durability, Options};
    /// # let directory = tempfile::tempdir()?;
    /// # let db = Database::open(directory.path(), Options::new())?;
    /// # let ks = db.ensure_keyspace("k")?;
    /// let lsn = ks.put_with(b"a", b"1", Durability::Durable)?;
    /// assert!(db.durable_lsn() >= lsn);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn durable_lsn(&self) -> Lsn {
        self.core.group.durable_lsn()
    }

    /// Answers writes with `InvalidArgument` from here on.
    #[cfg(feature = "archive")]
    pub(crate) fn refuse_writes(&self) {
        self.core.sequencer.lock().read_only = true;
    }

    /// The identity of the log in the directory.
    #[cfg(feature = "archive")]
    pub(crate) fn log_id(&self) -> logwood_base::LogId {
        self.core.log.id()
    }

    #[cfg(any(test, feature = "archive"))]
    pub(crate) const fn core(&self) -> &Arc<Handle> {
        &self.core
    }

    /// Makes all commits durable, ends background work and frees the directory. Other handles answer `Closed` to
    /// writes from here on; what they read may still be read, as long as nobody else opens the directory and takes pages
    /// away: `Closed`, then. Whoever closes at the same time waits, and gets the same answer as who closes later.
    ///
    /// Dropping the last handle does the same, and tells nobody when it fails.
    ///
    /// ```
    /// # use logwood::{Database, Options};
    /// # let directory = tempfile::tempdir()?;
    /// # let db = Database::open(directory.path(), Options::new())?;
    /// # let ks = db.ensure_keyspace("k")?;
    /// ks.put(b"a", b"1")?;
    /// db.close()?;
    /// assert!(matches!(ks.put(b"b", b"2"), Err(logwood::Error::Closed)));
    /// assert_eq!(ks.get(b"a")?.as_deref(), Some(&b"1"[..]));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// `Poisoned` when a write failed: reopen. The directory is free in any case.
    pub fn close(&self) -> Result<()> {
        self.core.close()
    }
}
