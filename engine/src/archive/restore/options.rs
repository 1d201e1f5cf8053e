//! What a restore is asked for, what it tells while it runs, and what it came to.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use logwood_base::digest::Digest;
use logwood_base::{DatabaseId, LineageId, Lsn, Result};

use crate::Options;
use crate::archive::read::Point;

/// What a restore is at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum RestoreStep {
    /// Page segments are fetched: `done` and `total` are bytes.
    Pages,
    /// Entries are fetched and written: `done` is an LSN, `total` the last one wanted, or 0 when that is not known.
    Entries,
    /// The trees are walked and compared with what their records summed up to: bytes.
    Verify,
    /// Records of a range are written: `done` counts them, `total` is how many there are.
    Records,
}

/// How far a restore has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct RestoreProgress {
    /// The step at work.
    pub step: RestoreStep,
    /// What is done of it, in the unit of the step.
    pub done: u64,
    /// What it has in all, as far as it is known by then: it grows when a second pass begins. 0 when not known.
    pub total: u64,
}

/// Told about a restore while it runs.
type Callback = Arc<dyn Fn(RestoreProgress) + Send + Sync>;

/// What is restored, and how. Built by its setters, which can be chained.
///
/// ```
/// use logwood::archive::{Point, RestoreOptions};
/// use logwood::Lsn;
/// let options = RestoreOptions::new().point(Point::Lsn(Lsn(4711))).keyspace("orders").range(Some(b"2026-"), None);
/// # let _ = options;
/// ```
#[derive(Clone)]
pub struct RestoreOptions {
    pub(super) point: Point,
    pub(super) lineage: Option<LineageId>,
    pub(super) keyspace: Option<String>,
    pub(super) from: Option<Vec<u8>>,
    pub(super) to: Option<Vec<u8>>,
    pub(super) verify: bool,
    pub(super) database: Options,
    pub(super) progress: Option<Callback>,
}

impl Default for RestoreOptions {
    fn default() -> Self {
        Self {
            point: Point::Latest,
            lineage: None,
            keyspace: None,
            from: None,
            to: None,
            verify: true,
            database: Options::new(),
            progress: None,
        }
    }
}

impl RestoreOptions {
    /// The defaults.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The point to restore. Default: [`Point::Latest`].
    #[must_use]
    pub fn point(mut self, point: Point) -> Self {
        self.point = point;
        self
    }

    /// The history to restore. Default: the latest lineage, see
    /// [`Archive::newest_lineage`](crate::archive::Archive::newest_lineage).
    #[must_use]
    pub fn lineage(mut self, lineage: LineageId) -> Self {
        self.lineage = Some(lineage);
        self
    }

    /// Restores this keyspace alone, as a new database. Default: all of them.
    #[must_use]
    pub fn keyspace(mut self, name: &str) -> Self {
        self.keyspace = Some(name.to_owned());
        self
    }

    /// Restores the keys from `from` up to, and without, `to` alone; needs a keyspace. Default: all of them.
    #[must_use]
    pub fn range(mut self, from: Option<&[u8]>, to: Option<&[u8]>) -> Self {
        (self.from, self.to) = (from.map(<[u8]>::to_vec), to.map(<[u8]>::to_vec));
        self
    }

    /// Whether everything is read back, and its counts and digests are computed from the records and compared with those
    /// of the snapshot. Default: true. Without, what was fetched is proven by hashes alone.
    #[must_use]
    pub fn verify(mut self, verify: bool) -> Self {
        self.verify = verify;
        self
    }

    /// What the restored directory is written with: sizes of log segments, bounds of entries. Default: the defaults.
    #[must_use]
    pub fn database(mut self, options: Options) -> Self {
        self.database = options;
        self
    }

    /// Told how far it has come. Default: nobody.
    #[must_use]
    pub fn progress(mut self, callback: impl Fn(RestoreProgress) + Send + Sync + 'static) -> Self {
        self.progress = Some(Arc::new(callback));
        self
    }

    pub(in crate::archive) fn check_database(&self) -> Result<()> {
        self.database.check()
    }

    pub(in crate::archive) fn database_options(&self) -> Options {
        self.database.clone()
    }

    pub(super) fn report(&self, step: RestoreStep, done: u64, total: u64) {
        if let Some(progress) = &self.progress {
            progress(RestoreProgress { step, done, total });
        }
    }
}

impl fmt::Debug for RestoreOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RestoreOptions")
            .field("point", &self.point)
            .field("lineage", &self.lineage)
            .field("keyspace", &self.keyspace)
            .finish_non_exhaustive()
    }
}

/// What was restored, and what it took.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct RestoreReport {
    /// The database: the archived one's, or a new one's when a part was restored.
    pub database: DatabaseId,
    /// The history that was restored.
    pub lineage: LineageId,
    /// The lineage in which the restored point lies: the same, or one that it came from.
    pub parent: LineageId,
    /// The last archived entry that is in it.
    pub lsn: Lsn,
    /// When that was committed, in milliseconds since 1970; 0 when there is none.
    pub time_ms: u64,
    /// The snapshot that was begun with; `None` when everything came from the log.
    pub snapshot: Option<Lsn>,
    /// Entries behind the snapshot.
    pub entries: u64,
    /// Page segments that were fetched.
    pub segments_fetched: u64,
    /// Page segments that were there, from an attempt that was not finished.
    pub segments_kept: u64,
    /// Bytes of all page segments.
    pub bytes: u64,
    /// Count and digest of each keyspace, computed from the records in the restored directory, as of the snapshot; for a
    /// part, of what was restored. Empty when it was not verified, or begun without a snapshot.
    pub keyspaces: Vec<(String, Digest)>,
    /// What was damaged and could be done without, and snapshots that may be of another history.
    pub notes: Vec<String>,
    /// How long it took.
    pub took: Duration,
}
