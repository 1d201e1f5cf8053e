//! Every knob of a database, with its default.
//!
//! Limits of the formats stand in [`logwood_base::limits`] and cannot be raised here; an option can only be
//! stricter. Options are checked once, when the directory is opened.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use logwood_base::limits::{
    ENTRY_PAYLOAD_BYTES_MAX, KEY_BYTES_MAX, KEYSPACES_MAX, LOG_SEGMENT_BYTES_DEFAULT, LOG_SEGMENT_BYTES_MAX,
    LOG_SEGMENT_BYTES_MIN, PAGE_SEGMENT_BYTES_MAX, VALUE_BYTES_MAX,
};
use logwood_base::{DatabaseId, Environment, Error, Lsn, Result};

use logwood_btree::{Compression, ForestOptions};
use logwood_wal::LogOptions;

use crate::Durability;

/// What recovery has done so far, for progress bars.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct RecoveryProgress {
    /// The step at work.
    pub step: RecoveryStep,
    /// What is done of it: bytes when scanning, entries when replaying.
    pub done: u64,
    /// What it has in all, in the same unit; 0 when not known.
    pub total: u64,
    /// The last entry applied.
    pub lsn: Lsn,
}

/// The two steps of recovery.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum RecoveryStep {
    /// The log's segments are read and checked.
    ScanLog,
    /// Entries behind the last checkpoint are applied.
    Replay,
}

/// Told about recovery while it runs.
pub type ProgressCallback = Arc<dyn Fn(RecoveryProgress) + Send + Sync>;

/// Declares the options with default and setter each, so that the two cannot drift apart.
macro_rules! options {
    ($($(#[$doc:meta])* $name:ident: $type:ty = $default:expr;)*) => {
        /// How a directory is opened. Built by its setters, which can be chained:
        ///
        /// ```
        /// use logwood::{Durability, Options};
        /// let options = Options::new().cache_bytes(1 << 30).durability(Durability::Buffered);
        /// # let _ = options;
        /// ```
        #[derive(Clone)]
        pub struct Options {
            $(pub(crate) $name: $type,)*
            pub(crate) environment: Option<Environment>,
            pub(crate) progress: Option<ProgressCallback>,
            pub(crate) database_id: Option<DatabaseId>,
            pub(crate) followers: Vec<(String, u64)>,
        }

        impl Default for Options {
            fn default() -> Self {
                Self {
                    $($name: $default,)*
                    environment: None,
                    progress: None,
                    database_id: None,
                    followers: Vec::new(),
                }
            }
        }

        impl Options {
            $($(#[$doc])* #[must_use] pub fn $name(mut self, $name: $type) -> Self {
                self.$name = $name;
                self
            })*
        }

        impl fmt::Debug for Options {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct("Options")
                    $(.field(stringify!($name), &self.$name))*
                    .finish_non_exhaustive()
            }
        }
    };
}

options! {
    /// Whether a new database is made where there is none: in a directory that is absent, empty, or holds only files that are
    /// none of the engine's, which are left alone. Default: true. Otherwise it is `NotFound`.
    create: bool = true;
    /// What [`Keyspace::put`](crate::Keyspace::put) and its siblings promise. Default: [`Durability::Durable`].
    durability: Durability = Durability::Durable;
    /// Memory for pages. Default: 256 MiB; at least 64 KiB. What live snapshots hold back comes on top.
    cache_bytes: usize = 256 << 20;
    /// A checkpoint begins when this many bytes of pages have changed since the last one; at twice as many, writers wait
    /// for it. Default: 0, which means 7/16 of `cache_bytes`: the rest is for what a commit brings in.
    dirty_bytes_max: usize = 0;
    /// Most bytes of log that opening replays; checkpoints are paced by it and writers slowed when it nears.
    /// Default: 256 MiB; at least 64 KiB.
    recovery_log_bytes_max: u64 = 256 << 20;
    /// Size of a log segment's file, a multiple of 4 KiB. Default: 16 MiB; from 64 KiB to 1 GiB. An entry takes at most a quarter.
    log_segment_bytes: u32 = LOG_SEGMENT_BYTES_DEFAULT;
    /// Most log batches written beyond the oldest one that the disk has not acknowledged. It also bounds what rot of
    /// the very last batches can hide until the idle seal. Default: 8.
    log_batches_in_flight_max: usize = 8;
    /// Most bytes of one log batch. Default: 256 KiB.
    log_batch_bytes_max: usize = 256 << 10;
    /// Memory for recent entries, kept for followers and change readers. Default: 8 MiB; beside trees at most a sixteenth of
    /// `cache_bytes`, whatever is asked for.
    log_recent_bytes_max: usize = 8 << 20;
    /// Log segments written or recycled ahead; of those that come free twice as many are kept until
    /// [`Database::compact`](crate::Database::compact). Default: 2.
    log_pool_segments: usize = 2;
    /// Size of the log beyond which a holder that keeps entries from going loses its hold, and the oldest bulk write that
    /// does is given up. Default: 0, no bound.
    log_bytes_max: u64 = 0;
    /// Most bytes of log, in whole segments, that are kept for the next archiver while none is attached, of a database that was
    /// archived, or restored from an archive: what it archives entry by entry then. Of what is beyond, all of it goes, and the
    /// next archiver leaves a gap, which it names. Default: 1 GiB; 0: nothing is kept. Without the feature `archive` nothing is.
    unarchived_log_bytes_max: u64 = 1 << 30;
    /// Quiet time after which the log's end is sealed: from then on rot of the last batches cannot pass for a tear.
    /// Default: 5 ms.
    log_seal_delay: Duration = Duration::from_millis(5);
    /// Size of a page segment's file. Default: 16 MiB; from 4 KiB to 1 GiB. It ends behind the page that passes it.
    page_segment_bytes: u32 = 16 << 20;
    /// Bytes of a leaf in memory. Default: 8 KiB; from 256 bytes to 64 KiB.
    leaf_bytes: usize = 8 << 10;
    /// Whether pages are compressed where a sample says that it pays. Default: true.
    compression: bool = true;
    /// Longest key. Default, and most: 65,535.
    key_bytes_max: usize = KEY_BYTES_MAX;
    /// Longest value. Default, and most: 64 MiB.
    value_bytes_max: usize = VALUE_BYTES_MAX;
    /// Most bytes of one batch, keys and values and a few bytes per operation; [`Batch::bytes`](crate::Batch::bytes) counts
    /// about ten more, which every batch has. Default: 80 MiB; from 1 KiB to 1 GiB. Opening needs as
    /// much memory as the largest batch that was being written when the process ended. Applying one takes about 70 bytes for
    /// each operation to sort them, which of the shortest ones is three times their own length.
    batch_bytes_max: usize = 80 << 20;
    /// Memory for what one transaction notes of its reads, keys and about 40 bytes for each. Default: 64 MiB. A walk
    /// takes no more than two keys, however long it is.
    transaction_reads_bytes_max: usize = 64 << 20;
    /// Memory for the keys of commits behind the oldest live transaction. A transaction that runs while more is
    /// committed cannot be validated any more, and is refused as `TooOld`. It goes in pieces of 32 KiB, and may be passed
    /// by one of them. Default: 16 MiB.
    transaction_history_bytes_max: usize = 16 << 20;
    /// Most keyspaces. Default, and most: 4096.
    keyspaces_max: usize = KEYSPACES_MAX;
    /// Whether checkpoints and cleaning run by themselves. Default: true. Without, writers still do the steps
    /// that `recovery_log_bytes_max` and `dirty_bytes_max` ask for.
    background: bool = true;
}

impl Options {
    /// The defaults.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Disk, clock, randomness and background work. Default: [`Environment::system`], whose disk the environment
    /// variable `LOGWOOD_DISK` can choose (`plain` or `uring`); [`Statistics::disk`](crate::Statistics::disk) tells which
    /// one it is.
    ///
    /// ```
    /// use std::sync::Arc;
    /// use logwood::{Database, Environment, Options};
    ///
    /// # let directory = tempfile::tempdir()?;
    /// // The real machine, with all background work done by hand: nothing happens that a test does not ask for.
    /// let spawner = logwood_base::environment::ManualSpawner::new();
    /// let environment = Environment { spawner: Arc::new(spawner.clone()), ..Environment::system()? };
    /// let db = Database::open(directory.path(), Options::new().environment(environment))?;
    /// spawner.run_until_idle(std::time::Duration::ZERO, 10);
    /// # drop(db);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn environment(mut self, environment: Environment) -> Self {
        self.environment = Some(environment);
        self
    }

    /// Told how far recovery has come. Default: nobody.
    ///
    /// ```
    /// # use logwood::{Database, Options};
    /// # let directory = tempfile::tempdir()?;
    /// let options = Options::new().progress(|recovery| eprintln!("{recovery:?}"));
    /// let db = Database::open(directory.path(), options)?;
    /// # drop(db);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn progress(mut self, callback: impl Fn(RecoveryProgress) + Send + Sync + 'static) -> Self {
        self.progress = Some(Arc::new(callback));
        self
    }

    /// The database that the directory must belong to; a new one gets this identity. Default: any, and a new one
    /// draws its own.
    ///
    /// ```
    /// use logwood::{Database, DatabaseId, Error, Options};
    ///
    /// # let directory = tempfile::tempdir()?;
    /// let db = Database::open(directory.path(), Options::new())?;
    /// let id = db.id();
    /// db.close()?;
    /// # drop(db);
    /// assert!(Database::open(directory.path(), Options::new().database_id(id)).is_ok());
    /// let other = Database::open(directory.path(), Options::new().database_id(DatabaseId(7)));
    /// assert!(other.is_err(), "whoever mixed up two directories is told");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn database_id(mut self, database: DatabaseId) -> Self {
        self.database_id = Some(database);
        self
    }

    /// Somebody who follows changes with [`ChangesOptions::hold_until_released`](crate::ChangesOptions::hold_until_released)
    /// under this name, and is expected back after a restart. From the opening on the log keeps all that it has for him, until
    /// a reader of that name begins and holds for itself; when that reader is dropped, what it held is kept until the next one
    /// begins. Until then he is named in [`Statistics::log`](crate::Statistics::log) when he keeps most.
    ///
    /// `log_bytes_max` bounds what is kept while no reader of that name is there, in whole segments: until one has begun, and
    /// told where he is, all of the log is counted. Beyond, he keeps what somebody else keeps as well, without a bound or
    /// within one: the same commits or earlier ones. Nothing would be freed without him; he loses it when that one goes on.
    /// 0 is no bound but [`Options::log_bytes_max`]. May be called for several names; for a name once more, it replaces the
    /// bound. Default: nobody.
    ///
    /// ```
    /// use logwood::{ChangesOptions, Database, Lsn, Options};
    ///
    /// # let directory = tempfile::tempdir()?;
    /// let options = Options::new().follower("search index", 1 << 30);
    /// let db = Database::open(directory.path(), options)?;
    /// // However long it takes until the index is ready to follow:
    /// let follow = ChangesOptions::new().name("search index").hold_until_released(true);
    /// let changes = db.changes_with(Lsn(1), &follow)?;
    /// # drop(changes);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn follower(mut self, name: &str, log_bytes_max: u64) -> Self {
        self.followers.retain(|(known, _)| known != name);
        self.followers.push((name.to_owned(), log_bytes_max));
        self
    }

    /// Refuses what the formats cannot hold.
    pub(crate) fn check(&self) -> Result<()> {
        let ranges: [(&str, u64, u64, u64); 10] = [
            (
                "log_segment_bytes",
                u64::from(self.log_segment_bytes),
                u64::from(LOG_SEGMENT_BYTES_MIN),
                u64::from(LOG_SEGMENT_BYTES_MAX),
            ),
            ("log_batches_in_flight_max", self.log_batches_in_flight_max as u64, 1, u64::MAX),
            ("key_bytes_max", self.key_bytes_max as u64, 1, KEY_BYTES_MAX as u64),
            ("value_bytes_max", self.value_bytes_max as u64, 0, VALUE_BYTES_MAX as u64),
            ("keyspaces_max", self.keyspaces_max as u64, 1, KEYSPACES_MAX as u64),
            ("batch_bytes_max", self.batch_bytes_max as u64, 1 << 10, 1 << 30),
            ("recovery_log_bytes_max", self.recovery_log_bytes_max, 64 << 10, u64::MAX),
            ("cache_bytes", self.cache_bytes as u64, 64 << 10, u64::MAX),
            ("leaf_bytes", self.leaf_bytes as u64, 256, 64 << 10),
            (
                "page_segment_bytes",
                u64::from(self.page_segment_bytes),
                4 << 10,
                PAGE_SEGMENT_BYTES_MAX.into(),
            ),
        ];
        for (name, found, least, most) in ranges {
            if !(least..=most).contains(&found) {
                return Err(Error::InvalidArgument(format!(
                    "{name} is {found}, not within {least}..={most}"
                )));
            }
        }
        if !self.log_segment_bytes.is_multiple_of(logwood_base::limits::BLOCK_BYTES as u32) {
            return Err(Error::InvalidArgument("log_segment_bytes is not a multiple of 4096".to_owned()));
        }
        Ok(())
    }

    /// Most bytes of one entry's payload.
    pub(crate) fn payload_bytes_max(&self) -> usize {
        ENTRY_PAYLOAD_BYTES_MAX.min(self.log_segment_bytes as usize / 4)
    }

    /// What the log is opened with.
    pub(crate) fn log_options(&self) -> LogOptions {
        LogOptions {
            segment_bytes: self.log_segment_bytes,
            batches_in_flight_max: self.log_batches_in_flight_max,
            batch_bytes_max: self.log_batch_bytes_max,
            recent_bytes_max: self.log_recent_bytes_max,
            pool_segments: self.log_pool_segments,
            log_bytes_max: self.log_bytes_max,
            seal_delay: self.log_seal_delay,
        }
    }

    /// What the trees are opened with.
    pub(crate) fn forest_options(&self) -> ForestOptions {
        let compression = if self.compression { Compression::Auto } else { Compression::Off };
        ForestOptions {
            cache_bytes: self.cache_bytes,
            leaf_bytes: self.leaf_bytes,
            page_segment_bytes: self.page_segment_bytes,
            compression,
        }
    }

    /// Changed bytes at which a checkpoint begins.
    pub(crate) fn dirty_bytes_bound(&self) -> u64 {
        match self.dirty_bytes_max {
            0 => self.cache_bytes as u64 / 16 * 7,
            bytes => bytes as u64,
        }
    }

    /// The environment, or the real machine.
    pub(crate) fn environment_or_system(&self) -> Result<Environment> {
        match &self.environment {
            Some(environment) => Ok(environment.clone()),
            None => system_environment(),
        }
    }
}

#[cfg(unix)]
fn system_environment() -> Result<Environment> {
    Environment::system()
}

#[cfg(not(unix))]
fn system_environment() -> Result<Environment> {
    Err(Error::InvalidArgument("no disk is known for this platform: pass Options::environment".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_valid_and_bounds_are_named() {
        Options::new().check().unwrap();
        let error = Options::new().log_segment_bytes(1000).check().unwrap_err();
        assert_eq!(
            error.to_string(),
            "invalid argument: log_segment_bytes is 1000, not within 65536..=1073741824"
        );
        assert!(Options::new().log_segment_bytes((64 << 10) + 1).check().is_err());
        assert_eq!(Options::new().log_segment_bytes(64 << 10).payload_bytes_max(), 16 << 10);
        assert_eq!(Options::new().dirty_bytes_bound(), 112 << 20);
    }
}
