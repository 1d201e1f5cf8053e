//! What an archiver tells about itself, to statistics, to the `metrics` facade and to whoever waits.

use std::time::Duration;

use logwood_base::sync::Mutex;
use logwood_base::{Clock, LineageId, Lsn};
use logwood_wal::Group;

use super::object::Link;

/// A moment of an archiver.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct ArchiveStatus {
    /// The history that it writes.
    pub lineage: LineageId,
    /// Up to here, everything is archived and was read back, but for the gaps.
    pub archived: Lsn,
    /// Entries that are decided and not archived.
    pub lag_entries: u64,
    /// Bytes of entries, about, that are committed and not archived, of those since the archiver was attached.
    pub lag_bytes: u64,
    /// The age of the oldest entry that is decided and not archived: since it was committed. Zero when there is none.
    pub lag_time: Duration,
    /// Log objects put by this archiver.
    pub objects: u64,
    /// Bytes of entries in them, before compression.
    pub entries_bytes: u64,
    /// Bytes of those objects.
    pub object_bytes: u64,
    /// Objects that somebody else had put, and that were compared with the log here.
    pub compared: u64,
    /// Snapshots put by this archiver.
    pub snapshots: u64,
    /// Page segments put for them, and their bytes.
    pub pages: (u64, u64),
    /// Page segments that stood in the archive and were not what their names say, and were put anew.
    pub mended: u64,
    /// The newest snapshot in the archive that this archiver knows of.
    pub newest_snapshot: Option<Lsn>,
    /// Gaps left by this archiver; what the archive has lost is one.
    pub gaps: u64,
    /// The first and the last point that cannot be restored for the last of them that takes any; `None`: none does.
    pub newest_gap: Option<(Lsn, Lsn)>,
    /// That gap, where the archive no longer has what this directory had confirmed to be there, as its `LINEAGE` notes, and the log
    /// had let go of it: objects were removed, or the store was rolled back; or another lineage has superseded this one, and
    /// retention took it.
    pub lost: Option<(Lsn, Lsn)>,
    /// Steps that failed and are tried again, those of snapshots included.
    pub failures: u64,
    /// Why the last step failed, when it did: entries are not archived meanwhile.
    pub failing: Option<String>,
    /// Why the last snapshot failed, until one is finished: entries are archived meanwhile, and restoring them takes longer.
    pub snapshot_failing: Option<String>,
    /// How long ago a retention run of this archiver ended well, or had nothing to do because nothing was put; since it was
    /// attached, when none has. `None` without
    /// [`ArchiveOptions::keep`](super::ArchiveOptions::keep).
    pub retention_age: Option<Duration>,
    /// Objects that its retention runs have deleted.
    pub retention_deleted: u64,
    /// Objects that are not needed, and were more than the last run could delete: the next ones go on with them.
    pub retention_left: u64,
    /// Retention runs that failed, or met something that cannot be read.
    pub retention_failures: u64,
    /// Why the last run failed, or what it could not read, when that is so.
    pub retention_failing: Option<String>,
    /// Why the archiver has stopped for good, when it has.
    pub stopped: Option<String>,
}

/// What the archiver, its task and the statistics share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) lineage: LineageId,
    figures: Mutex<Figures>,
}

#[derive(Clone, Debug)]
pub(super) struct Figures {
    pub(super) status: ArchiveStatus,
    /// Link of the last object that is confirmed, and where it begins.
    pub(super) confirmed: Option<(Lsn, Link)>,
    /// Monotonic time since which the oldest entry that waits is known to wait.
    pub(super) behind_since: Option<Duration>,
    /// Monotonic time at which nothing waited last.
    pub(super) caught_up: Option<Duration>,
    /// When the last archived entry was made, in milliseconds since 1970, as far as that is known.
    pub(super) archived_ms: Option<u64>,
    /// Monotonic time at which a retention run ended well, or its task began.
    pub(super) retained_at: Option<Duration>,
}

impl Shared {
    pub(super) fn new(lineage: LineageId) -> Self {
        let status = ArchiveStatus {
            lineage,
            archived: Lsn::ZERO,
            lag_entries: 0,
            lag_bytes: 0,
            lag_time: Duration::ZERO,
            objects: 0,
            entries_bytes: 0,
            object_bytes: 0,
            compared: 0,
            snapshots: 0,
            pages: (0, 0),
            mended: 0,
            newest_snapshot: None,
            gaps: 0,
            newest_gap: None,
            lost: None,
            failures: 0,
            failing: None,
            snapshot_failing: None,
            retention_age: None,
            retention_deleted: 0,
            retention_left: 0,
            retention_failures: 0,
            retention_failing: None,
            stopped: None,
        };
        let figures = Figures {
            status,
            confirmed: None,
            behind_since: None,
            caught_up: None,
            archived_ms: None,
            retained_at: None,
        };
        Self { lineage, figures: Mutex::new(figures) }
    }

    /// Changes the figures.
    pub(super) fn update(&self, change: impl FnOnce(&mut Figures)) {
        change(&mut self.figures.lock());
    }

    pub(super) fn figures(&self) -> Figures {
        self.figures.lock().clone()
    }

    /// The status, with what only the present knows. `group`: the log that is archived; `decided`: up to where.
    pub(crate) fn status(
        &self,
        group: &Group,
        decided: Lsn,
        backlog: u64,
        clock: &dyn Clock,
    ) -> ArchiveStatus {
        let figures = self.figures();
        let mut status = figures.status.clone();
        status.retention_age = figures.retained_at.map(|then| clock.monotonic().saturating_sub(then));
        status.lag_entries = decided.entries_since(status.archived);
        if status.lag_entries > 0 {
            status.lag_bytes = backlog;
            // What the log let go of is as old as may be.
            let made_ms = time_of(group, status.archived.next()).or(figures.archived_ms);
            status.lag_time = figures.lag_time(made_ms, clock);
        }
        status.publish();
        status
    }
}

/// When an entry was made, in milliseconds since 1970; `None` when the log does not hold it.
fn time_of(group: &Group, lsn: Lsn) -> Option<u64> {
    let read = group.read(lsn, lsn.next(), 1).ok()?;
    read.first().map(|entry| crate::entry::time_of(&entry.payload))
}

impl Figures {
    /// The age of the oldest entry that waits, which was made at `made_ms`. What its time says is believed as far as the
    /// monotonic clock bears it out, so that a wall clock that is set hides nothing and raises no alarm: it waits at least
    /// since it was seen, and at most since nothing waited.
    fn lag_time(&self, made_ms: Option<u64>, clock: &dyn Clock) -> Duration {
        let since = |then: Duration| clock.monotonic().saturating_sub(then);
        let (least, most) = (self.behind_since.map(since), self.caught_up.map(since));
        let age = made_ms.map(|made_ms| Duration::from_millis(clock.wall_ms().saturating_sub(made_ms)));
        let age = age.into_iter().chain(most).min().unwrap_or_default();
        age.max(least.unwrap_or_default())
    }
}

impl ArchiveStatus {
    /// Counts the points from `first` to `last` as lost, once, if there are any. Told again, they may have become more.
    pub(super) fn lose(&mut self, first: Lsn, last: Lsn) {
        if first <= last {
            self.gaps += u64::from(self.lost.is_none());
            self.newest_gap = Some((first, last));
            self.lost = self.newest_gap;
        }
    }

    /// Hands the numbers to the `metrics` facade.
    fn publish(&self) {
        for (name, value) in [
            ("logwood_archived_lsn", self.archived.get() as f64),
            ("logwood_archive_lag_entries", self.lag_entries as f64),
            ("logwood_archive_lag_bytes", self.lag_bytes as f64),
            ("logwood_archive_lag_seconds", self.lag_time.as_secs_f64()),
            ("logwood_archive_stopped", f64::from(u8::from(self.stopped.is_some()))),
        ] {
            metrics::gauge!(name).set(value);
        }
        if let Some(age) = self.retention_age {
            metrics::gauge!("logwood_archive_retention_age_seconds").set(age.as_secs_f64());
            metrics::gauge!("logwood_archive_retention_left").set(self.retention_left as f64);
        }
        for (name, value) in [
            ("logwood_archive_objects_total", self.objects),
            ("logwood_archive_object_bytes_total", self.object_bytes),
            ("logwood_archive_compared_total", self.compared),
            ("logwood_archive_snapshots_total", self.snapshots),
            ("logwood_archive_mended_total", self.mended),
            ("logwood_archive_gaps_total", self.gaps),
            ("logwood_archive_failures_total", self.failures),
            ("logwood_archive_retention_deleted_total", self.retention_deleted),
            ("logwood_archive_retention_failures_total", self.retention_failures),
        ] {
            metrics::counter!(name).absolute(value);
        }
    }
}
