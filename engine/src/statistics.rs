//! What a database tells about itself.

use std::time::Duration;

use logwood_base::disk::DiskDescription;
use logwood_base::sync::atomic::{AtomicU64, Ordering};
use logwood_base::{DatabaseId, LogId, Lsn};

use crate::core::Core;

/// The places in the order of commits that the parts of a database have reached.
///
/// On this disk `appended ≥ durable`; in the order of commits `appended ≥ committed ≥ visible ≥ checkpoint ≥ purged`;
/// and a checkpoint is never ahead of what is durable. [`Watermarks::check`] asserts it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct Watermarks {
    /// The last entry that has a number.
    pub appended: Lsn,
    /// Up to here, entries survive a power cut.
    pub durable: Lsn,
    /// Up to here, entries are decided: here, where nothing is replicated, by having reached their own durability.
    pub committed: Lsn,
    /// Up to here, readers see.
    pub visible: Lsn,
    /// Up to here, the newest checkpoint holds everything.
    pub checkpoint: Lsn,
    /// Up to here, the log has let entries go.
    pub purged: Lsn,
}

impl Watermarks {
    /// Asserts the relations between them. This is the one place that knows them.
    ///
    /// # Panics
    /// When one does not hold, which is a bug.
    pub fn check(&self) {
        assert!(self.appended >= self.durable, "{self:?}");
        assert!(self.appended >= self.committed, "{self:?}");
        assert!(self.committed >= self.visible, "{self:?}");
        assert!(self.visible >= self.checkpoint, "{self:?}");
        assert!(self.durable >= self.checkpoint, "{self:?}");
        assert!(self.checkpoint >= self.purged, "{self:?}");
    }
}

/// A moment of a database, in numbers.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Statistics {
    /// The database.
    pub database: DatabaseId,
    /// Its log in this directory.
    pub log_id: LogId,
    /// How far everything has come.
    pub watermarks: Watermarks,
    /// Commits since it was opened, changes of keyspaces included.
    pub commits: u64,
    /// Bytes of their entries.
    pub commit_bytes: u64,
    /// Keyspaces.
    pub keyspaces: usize,
    /// Anonymous memory that the database holds, in bytes: of the trees with the room between their leaves, page
    /// segments that are being written, the log's recent entries and buffers, and what is kept for transactions. Each
    /// part has an option that bounds it: see `docs/guide/tuning.md`. Comes on top: what the caller holds (batches,
    /// values, change sets), a checkpoint's lists (about 300 bytes for a page it writes), and the allocator's own.
    pub memory_bytes: usize,
    /// Bytes of log that opening would replay now, about.
    pub replay_bytes: u64,
    /// Checkpoints finished since it was opened.
    pub checkpoints: u64,
    /// What opening did.
    pub recovery: RecoveryReport,
    /// Transactions, and what is kept for them.
    pub transactions: TransactionStatistics,
    /// Bulk writes that are under way, and the log that is kept for them.
    pub bulk_writes: BulkStatistics,
    /// The log's own.
    pub log: logwood_wal::Statistics,
    /// The trees' own.
    pub trees: logwood_btree::ForestStatistics,
    /// Backend of the disk and how it makes writes durable.
    pub disk: DiskDescription,
    /// The archiver's own, while one is attached.
    #[cfg(feature = "archive")]
    pub archive: Option<crate::archive::ArchiveStatus>,
    /// Why writes are refused, when they are.
    pub poisoned: Option<String>,
}

/// Transactions, and what is kept for them.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct TransactionStatistics {
    /// Transactions that are alive.
    pub live: usize,
    /// Where the oldest of them reads.
    pub oldest: Option<Lsn>,
    /// How many were refused since the database was opened, because of a conflict or their age.
    pub refused: u64,
    /// Memory for the keys of recent commits.
    pub history_bytes: usize,
}

/// Bulk writes that are under way. The log is kept from the first fragment of the oldest one on, with all that others commit,
/// until it ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct BulkStatistics {
    /// How many have something in the log and have not ended.
    pub under_way: usize,
    /// The first fragment of the oldest of them.
    pub oldest: Option<Lsn>,
    /// Bytes of their fragments in the log.
    pub log_bytes: u64,
}

/// What opening did.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct RecoveryReport {
    /// Entries applied behind the checkpoint.
    pub entries_replayed: u64,
    /// Their bytes.
    pub bytes_replayed: u64,
    /// Bytes of an unfinished write at the log's end, which nobody was promised.
    pub bytes_dropped: u64,
    /// How long it took.
    pub took: Duration,
}

/// Counts what no other part counts.
#[derive(Debug)]
pub(crate) struct Counters {
    commits: AtomicU64,
    commit_bytes: AtomicU64,
    recovery: RecoveryReport,
}

impl Counters {
    pub(crate) const fn new(recovery: RecoveryReport) -> Self {
        Self { commits: AtomicU64::new(0), commit_bytes: AtomicU64::new(0), recovery }
    }

    /// Counts an entry.
    pub(crate) fn committed(&self, bytes: u64) {
        self.commits.fetch_add(1, Ordering::Relaxed);
        self.commit_bytes.fetch_add(bytes, Ordering::Relaxed);
    }
}

#[cfg(feature = "archive")]
impl Counters {
    /// Bytes of entries since the database was opened.
    pub(crate) fn bytes(&self) -> u64 {
        self.commit_bytes.load(Ordering::Relaxed)
    }
}

/// About what an entry's payload takes in the log, with its share of batch headers.
pub(crate) const fn logged_bytes(payload: usize) -> u64 {
    payload as u64 + 24
}

impl Core {
    /// Reads the watermarks, the lowest first: those above can only have grown meanwhile.
    pub(crate) fn watermarks(&self) -> Watermarks {
        let purged = self.group.first_lsn().previous();
        let checkpoint = self.checkpointer.newest();
        let visible = self.visible_lsn();
        let durable = self.group.durable_lsn();
        // Where nothing is replicated, what is visible is what is decided.
        let marks = Watermarks {
            appended: self.group.appended_lsn(),
            durable,
            committed: visible,
            visible,
            checkpoint,
            purged: purged.min(checkpoint),
        };
        marks.check();
        marks
    }

    pub(crate) fn statistics(&self) -> Statistics {
        let (log, trees) = (self.log.statistics(), self.forest.statistics());
        let transactions = self.transactions.statistics();
        let bulk_writes = self.bulk_statistics();
        let memory_bytes = trees.held_bytes
            + trees.inner_bytes
            + trees.store.open_bytes as usize
            + log.recent_bytes
            + log.buffer_bytes
            + transactions.history_bytes;
        let statistics = Statistics {
            database: self.database,
            log_id: self.log.id(),
            watermarks: self.watermarks(),
            commits: self.counters.commits.load(Ordering::Relaxed),
            commit_bytes: self.counters.commit_bytes.load(Ordering::Relaxed),
            keyspaces: self.catalog.len(),
            replay_bytes: self.checkpointer.replay_bytes(),
            checkpoints: self.checkpointer.finished(),
            recovery: self.counters.recovery,
            memory_bytes,
            transactions,
            bulk_writes,
            log,
            trees,
            disk: self.environment.disk.describe(),
            #[cfg(feature = "archive")]
            archive: self.archive_status(),
            poisoned: self.poison.cause().map(|cause| cause.to_string()),
        };
        publish_gauges(&statistics);
        statistics
    }
}

/// Hands the numbers to the `metrics` facade. Done when somebody asks, never on a read or write.
fn publish_gauges(statistics: &Statistics) {
    let marks = &statistics.watermarks;
    for (name, lsn) in [
        ("logwood_appended_lsn", marks.appended),
        ("logwood_durable_lsn", marks.durable),
        ("logwood_visible_lsn", marks.visible),
        ("logwood_checkpoint_lsn", marks.checkpoint),
    ] {
        metrics::gauge!(name).set(lsn.get() as f64);
    }
    metrics::gauge!("logwood_replay_bytes").set(statistics.replay_bytes as f64);
    metrics::gauge!("logwood_memory_bytes").set(statistics.memory_bytes as f64);
    metrics::gauge!("logwood_bulk_writes").set(statistics.bulk_writes.under_way as f64);
    metrics::gauge!("logwood_bulk_write_log_bytes").set(statistics.bulk_writes.log_bytes as f64);
    metrics::counter!("logwood_transactions_refused_total").absolute(statistics.transactions.refused);
    metrics::counter!("logwood_commits_total").absolute(statistics.commits);
    metrics::counter!("logwood_commit_bytes_total").absolute(statistics.commit_bytes);
}
