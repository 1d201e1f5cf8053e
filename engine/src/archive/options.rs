//! Every knob of an archiver, with its default.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use logwood_base::limits::{ARCHIVE_ENTRIES_BYTES_MAX, ENTRY_PAYLOAD_BYTES_MAX};
use logwood_base::{Environment, Error, LineageId, Result};

use super::store::{self, Pause, Retry, Store, StoreOptions, ThreadPause};

/// Where and how an archiver works. Built by its setters, which can be chained:
///
/// ```
/// use std::time::Duration;
/// use logwood::archive::ArchiveOptions;
/// let options = ArchiveOptions::to("s3://bucket/inventory").interval(Duration::from_secs(1));
/// # let _ = options;
/// ```
#[derive(Clone)]
pub struct ArchiveOptions {
    place: Place,
    pub(super) store: StoreOptions,
    pub(super) lineage: Option<LineageId>,
    pub(super) interval: Duration,
    pub(super) object_bytes: usize,
    pub(super) backlog_bytes_max: u64,
    pub(super) leave_gaps: bool,
    pub(super) snapshot_log_bytes: u64,
    pub(super) keep: Option<Duration>,
    pub(super) verify_pages: bool,
    pub(super) retry: Retry,
    pub(super) background: bool,
    pause: Option<Arc<dyn Pause>>,
}

#[derive(Clone)]
enum Place {
    Url(String),
    Store(Arc<dyn Store>),
}

impl fmt::Debug for ArchiveOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Neither the URL nor the store: somebody may have put a password there.
        f.debug_struct("ArchiveOptions")
            .field("lineage", &self.lineage)
            .field("interval", &self.interval)
            .field("object_bytes", &self.object_bytes)
            .field("backlog_bytes_max", &self.backlog_bytes_max)
            .field("leave_gaps", &self.leave_gaps)
            .field("snapshot_log_bytes", &self.snapshot_log_bytes)
            .field("keep", &self.keep)
            .field("verify_pages", &self.verify_pages)
            .finish_non_exhaustive()
    }
}

impl ArchiveOptions {
    /// Archives to a URL: `file:///path` or `s3://bucket/prefix`. One prefix is for one database.
    #[must_use]
    pub fn to(url: impl Into<String>) -> Self {
        Self::at(Place::Url(url.into()))
    }

    /// Archives to a store that the caller brings.
    #[must_use]
    pub fn to_store(store: Arc<dyn Store>) -> Self {
        Self::at(Place::Store(store))
    }

    fn at(place: Place) -> Self {
        Self {
            place,
            store: StoreOptions::default(),
            lineage: None,
            interval: Duration::from_secs(5),
            object_bytes: 4 << 20,
            backlog_bytes_max: 1 << 30,
            leave_gaps: false,
            snapshot_log_bytes: 256 << 20,
            keep: None,
            verify_pages: false,
            retry: Retry::default(),
            background: true,
            pause: None,
        }
    }

    /// How a store named by a URL is reached: endpoint, credentials. Default: the usual environment variables.
    #[must_use]
    pub fn store_options(mut self, options: StoreOptions) -> Self {
        self.store = options;
        self
    }

    /// The lineage to write to: for a replica that archives beside others. Default: the one that the directory has
    /// written to, or a new one.
    #[must_use]
    pub fn lineage(mut self, lineage: LineageId) -> Self {
        self.lineage = Some(lineage);
        self
    }

    /// Entries wait at most this long before they are uploaded. It bounds what a lost site can lose. Default: 5 s.
    #[must_use]
    pub fn interval(mut self, interval: Duration) -> Self {
        self.interval = interval;
        self
    }

    /// Entries are uploaded sooner when this many bytes of them have gathered. Default: 4 MiB; from 1 byte to 14 MiB.
    #[must_use]
    pub fn object_bytes(mut self, bytes: usize) -> Self {
        self.object_bytes = bytes;
        self
    }

    /// Most bytes of entries that wait to be archived, counted from when the archiver is attached. Beyond, writes answer
    /// `ArchiveBehind` until the archive has caught up, or a gap is left. Default: 1 GiB.
    #[must_use]
    pub fn backlog_bytes_max(mut self, bytes: u64) -> Self {
        self.backlog_bytes_max = bytes;
        self
    }

    /// Whether a full backlog leaves a named gap behind a new snapshot, instead of stopping writes: points within the gap
    /// cannot be restored. Only beside a database. Default: false.
    #[must_use]
    pub fn leave_gaps(mut self, leave: bool) -> Self {
        self.leave_gaps = leave;
        self
    }

    /// A snapshot is uploaded when this many bytes of entries were archived since the last one. It bounds what a restore
    /// has to replay. 0: none but those that a chain needs. Default: 256 MiB.
    #[must_use]
    pub fn snapshot_log_bytes(mut self, bytes: u64) -> Self {
        self.snapshot_log_bytes = bytes;
        self
    }

    /// How far back points stay restorable; what none of them needs is deleted, by runs that begin every hour, beside the
    /// uploads. What a run knows of snapshots is kept for the next one: about 150 bytes of memory for each page segment in the
    /// archive, and a bit for each in each snapshot. Default: everything is kept.
    #[must_use]
    pub fn keep(mut self, keep: Duration) -> Self {
        self.keep = Some(keep);
        self
    }

    /// Whether page segments that stand in the archive already are read whole, once by each archiver, and put anew where
    /// they are not what their names say; the first snapshot is then taken at once. It reads as many bytes from the archive
    /// as the database has. Default: false: what is there with the right length was read back when it was put, and what rots
    /// afterwards is found by [`Archive::verify`](super::Archive::verify).
    #[must_use]
    pub fn verify_pages(mut self, verify: bool) -> Self {
        self.verify_pages = verify;
        self
    }

    /// How often and how long a request is tried again. Default: see [`Retry`].
    #[must_use]
    pub fn retry(mut self, retry: Retry) -> Self {
        self.retry = retry;
        self
    }

    /// Whether the archiver works by itself. Default: true. Without, it works within
    /// [`Archiver::flush`](super::Archiver::flush).
    #[must_use]
    pub fn background(mut self, background: bool) -> Self {
        self.background = background;
        self
    }

    /// Waits between attempts. Default: in the archiver's thread.
    #[must_use]
    pub fn pause(mut self, pause: Arc<dyn Pause>) -> Self {
        self.pause = Some(pause);
        self
    }

    pub(super) fn check(&self) -> Result<()> {
        let most = ARCHIVE_ENTRIES_BYTES_MAX - 2 * ENTRY_PAYLOAD_BYTES_MAX;
        if !(1..=most).contains(&self.object_bytes) {
            let found = self.object_bytes;
            return Err(Error::InvalidArgument(format!("object_bytes is {found}, not within 1..={most}")));
        }
        Ok(())
    }

    /// A client of the store.
    pub(super) fn client(&self, environment: &Environment) -> Result<store::Client> {
        let store = match &self.place {
            Place::Url(url) => store::open(url, &self.store, environment)?,
            Place::Store(store) => Arc::clone(store),
        };
        let pause = self.pause.clone().unwrap_or_else(|| Arc::new(ThreadPause::default()));
        Ok(store::Client::with_pause(store, environment, self.retry, pause))
    }
}
