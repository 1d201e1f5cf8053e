//! An archive as whoever restores from it sees it.
//!
//! | module | what it does |
//! |---|---|
//! | `history` | which lineages a history runs through, and which of several is meant |
//! | `base` | whether a lineage has anything to begin with, as far as a few requests tell |
//! | `plan` | the snapshot to begin with, for a point in time |
//! | `standing` | whether a snapshot is of the history that its lineage's chain is |
//! | `entries` | the entries from there up to the point, proven and fetched ahead |
//! | `listing` | every interval that can be restored, and every hole |
//! | [`view`] | a database as of one point, whose pages are fetched as they are read |
//!
//! Nothing here writes to the archive, but for the hold that keeps retention away while it is read.

use std::sync::Arc;
use std::time::Duration;

use logwood_base::{Environment, LineageId, Lsn, Result};

use super::store::{Client, Retry, Store, StoreOptions, open};

pub(crate) mod base;
pub(crate) mod entries;
pub(crate) mod history;
mod lazy_disk;
mod listing;
pub(crate) mod plan;
pub(crate) mod standing;
pub mod view;

/// Name of the tasks that fetch objects ahead.
pub(super) const FETCHING: &str = "archive-fetch";

use listing::Reading;
pub use listing::{Hole, Interval, LineageListing, Listing, SnapshotListing};
pub use view::ArchivedDatabase;

/// A point in the history of a database.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum Point {
    /// The last entry that was archived.
    #[default]
    Latest,
    /// Everything up to this entry, and nothing behind it.
    Lsn(Lsn),
    /// Everything that was committed up to this time, in milliseconds since 1970, by the clocks of those who committed.
    /// Where nothing was written around that time, that is the last entry before.
    TimeMs(u64),
}

/// An archive that is read. Cheap to clone.
///
/// ```
/// use logwood::archive::{Archive, RestoreOptions, StoreOptions};
/// use logwood::{Environment, Error};
///
/// # let directory = tempfile::tempdir()?;
/// let url = format!("file://{}", directory.path().display());
/// let archive = Archive::open(&url, &StoreOptions::new(), &Environment::system()?)?;
/// assert!(archive.list()?.lineages.is_empty());
/// let nothing = archive.restore(directory.path().join("restored"), &RestoreOptions::new());
/// assert!(matches!(nothing, Err(Error::NotFound { .. })));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Archive {
    pub(crate) client: Client,
    pub(crate) environment: Environment,
    pub(crate) parallel: usize,
    pub(crate) cache_bytes_max: u64,
}

/// What a view keeps of what it fetched, by default.
const CACHE_BYTES_MAX: u64 = 4 << 30;

impl Archive {
    /// Opens the archive at a URL: `file:///path`, or `s3://bucket/prefix`. Nothing is read yet.
    ///
    /// ```
    /// # use logwood::Environment;
    /// # use logwood::archive::{Archive, StoreOptions};
    /// # let directory = tempfile::tempdir()?;
    /// let (options, environment) = (StoreOptions::new(), Environment::system()?);
    /// let url = format!("file://{}", directory.path().display());
    /// let archive = Archive::open(&url, &options, &environment)?;
    /// assert!(Archive::open("ftp://host/archive", &options, &environment).is_err());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// `InvalidArgument` for other URLs; `NotFound` for a directory that does not exist.
    pub fn open(url: &str, options: &StoreOptions, environment: &Environment) -> Result<Self> {
        let store = open(url, &options.clone().existing(true), environment)?;
        Ok(Self::over(store, environment))
    }

    /// The archive in a store that is open.
    #[must_use]
    pub fn over(store: Arc<dyn Store>, environment: &Environment) -> Self {
        Self::with_client(Client::new(store, environment, Retry::default()), environment)
    }

    /// The archive behind a client, with the client's own retries.
    #[must_use]
    pub fn with_client(client: Client, environment: &Environment) -> Self {
        Self { client, environment: environment.clone(), parallel: 8, cache_bytes_max: CACHE_BYTES_MAX }
    }

    /// How many objects are fetched at the same time. Default: 8. Each takes up to 16 MiB of memory, and as much again
    /// while it is decompressed.
    #[must_use]
    pub fn parallel(mut self, parallel: usize) -> Self {
        self.parallel = parallel.max(1);
        self
    }

    /// Most bytes of page segments that a view keeps in its directory: beyond, what was opened longest ago goes. One segment
    /// is kept however small the bound is. Default: 4 GiB.
    #[must_use]
    pub fn cache_bytes_max(mut self, bytes: u64) -> Self {
        self.cache_bytes_max = bytes;
        self
    }

    /// Helpers, and results that may wait.
    pub(crate) fn fetching(&self) -> (usize, usize) {
        (self.parallel - 1, self.parallel)
    }

    pub(crate) fn elapsed(&self, since: Duration) -> Duration {
        self.environment.clock.monotonic().saturating_sub(since)
    }

    /// Every lineage, every interval that can be restored, and every hole. Looks at the head of every log object, which is
    /// one request of a kilobyte for each, and proves that each follows the one before; reads and proves every snapshot;
    /// for each snapshot one log object as well, to see that the log does not contradict it; of page segments it looks whether
    /// they are there. So it finds what is missing, cut short, swapped or older. A body
    /// that rotted behind its head is found by [`Archive::verify`], and by restoring.
    ///
    /// ```
    /// # use logwood::archive::{Archive, ArchiveOptions, Point, StoreOptions};
    /// # use logwood::{Database, Environment, Lsn, Options};
    /// # let directory = tempfile::tempdir()?;
    /// # let url = format!("file://{}", directory.path().join("archive").display());
    /// # let db = Database::open(directory.path().join("db"), Options::new())?;
    /// # let archiver = db.archive(ArchiveOptions::to(&url))?;
    /// # let ks = db.ensure_keyspace("default")?;
    /// # ks.put(b"key", b"value")?;
    /// # archiver.flush()?;
    /// # let archive = Archive::open(&url, &StoreOptions::new(), &Environment::system()?)?;
    /// let listing = archive.list()?;
    /// let interval = listing.lineages[0].intervals[0];
    /// println!("any point from {} to {} can be restored", interval.first, interval.last);
    /// assert_eq!(interval.last, db.visible_lsn());
    /// assert!(listing.damage.is_empty() && listing.lineages[0].holes.is_empty());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// `ArchiveUnavailable`, `UnsupportedFormat`. Damage is no error here: it is what the listing tells.
    pub fn list(&self) -> Result<Listing> {
        listing::list(self, Reading::Heads)
    }

    /// As [`Archive::list`], and reads and proves the whole of every log object, and every page segment that a snapshot
    /// names, once: all the bytes of the archive that any point needs.
    ///
    /// ```
    /// # use logwood::archive::{Archive, ArchiveOptions, Point, StoreOptions};
    /// # use logwood::{Database, Environment, Lsn, Options};
    /// # let directory = tempfile::tempdir()?;
    /// # let url = format!("file://{}", directory.path().join("archive").display());
    /// # let db = Database::open(directory.path().join("db"), Options::new())?;
    /// # let archiver = db.archive(ArchiveOptions::to(&url))?;
    /// # let ks = db.ensure_keyspace("default")?;
    /// # ks.put(b"key", b"value")?;
    /// # archiver.flush()?;
    /// # let archive = Archive::open(&url, &StoreOptions::new(), &Environment::system()?)?;
    /// let listing = archive.verify()?; // reads all of it: from time to time
    /// assert!(listing.damage.is_empty() && listing.lineages.iter().all(|lineage| lineage.holes.is_empty()));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`Archive::list`].
    pub fn verify(&self) -> Result<Listing> {
        listing::list(self, Reading::Whole)
    }

    /// The lineage that is restored when none is named: the latest. A child is later than its parent unless the parent was
    /// written to after the child began; otherwise the times of the newest entries decide, none of which counts as later than the
    /// store says that it was put.
    ///
    /// ```
    /// # use logwood::archive::{Archive, ArchiveOptions, Point, StoreOptions};
    /// # use logwood::{Database, Environment, Lsn, Options};
    /// # let directory = tempfile::tempdir()?;
    /// # let url = format!("file://{}", directory.path().join("archive").display());
    /// # let db = Database::open(directory.path().join("db"), Options::new())?;
    /// # let archiver = db.archive(ArchiveOptions::to(&url))?;
    /// # let ks = db.ensure_keyspace("default")?;
    /// # ks.put(b"key", b"value")?;
    /// # archiver.flush()?;
    /// # let archive = Archive::open(&url, &StoreOptions::new(), &Environment::system()?)?;
    /// assert_eq!(archive.newest_lineage()?, archive.list()?.lineages[0].lineage);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// `NotFound` for an empty archive; `InvalidArgument` when it holds several databases; `ArchiveCorrupt` where damage leaves
    /// open which one is the latest: of a start, also one that is lost, or of a newest object; `ArchiveUnavailable`.
    pub fn newest_lineage(&self) -> Result<LineageId> {
        history::newest(self).map(|found| found.lineage)
    }
}
