//! A database as of one point, read from its archive without restoring it whole.
//!
//! The directory that the caller gives is taken when it is empty, or was marked as one of views before: for what is in it is
//! thrown away.
//!
//! ```text
//! DIR/VIEW               empty; the mark, durable before anything else is made here
//! DIR/cache/{sha256}     page segments that were read; they stay, within a bound, and serve every later view
//! DIR/at/                a database directory made anew by every opening: manifest and log, and no page segments
//! ```
//!
//! The log suffix behind the snapshot is fetched and replayed when the view is opened, as recovery replays it; pages are
//! fetched as reading comes to them. Reading one record takes as many page segments as the tree is deep, at most; reading
//! it again takes none.

use std::path::Path;

use logwood_base::disk::{DirEntry, DirLock, create_dir_all};
use logwood_base::sync::Arc;
use logwood_base::{Disk, Environment, Error, LineageId, Lsn, Result};

use super::lazy_disk::LazyDisk;
use super::{Archive, Point};
use crate::archive::layout::PAGES_PREFIX;
use crate::archive::restore::{Holds, Restore, RestoreOptions, RestoreReport};
use crate::directory::{LOCK_NAME, Layout};
use crate::seed::settle::remove_tree;
use crate::seed::{self, OriginKind, Seed, refuse_inside};
use crate::{Database, Keyspace, Options, Snapshot};

const MARK_NAME: &str = "VIEW";
const CACHE_NAME: &str = "cache";
const AT_NAME: &str = "at";

/// A database as of one point of its archive, for reading. Writes to its keyspaces answer `InvalidArgument`.
///
/// ```
/// use logwood::archive::{Archive, ArchiveOptions, Point, StoreOptions};
/// use logwood::{Database, Environment, Options};
///
/// # let directory = tempfile::tempdir()?;
/// let url = format!("file://{}", directory.path().join("archive").display());
/// let db = Database::open(directory.path().join("db"), Options::new())?;
/// let archiver = db.archive(ArchiveOptions::to(&url))?;
/// let ks = db.ensure_keyspace("default")?;
/// let before = ks.put(b"key", b"old")?;
/// ks.put(b"key", b"new")?;
/// archiver.flush()?;
///
/// let archive = Archive::open(&url, &StoreOptions::new(), &Environment::system()?)?;
/// let view = archive.open_at(directory.path().join("view"), Point::Lsn(before), None, Options::new())?;
/// assert_eq!(view.lsn(), before);
/// assert_eq!(view.keyspace("default")?.get(b"key")?.as_deref(), Some(&b"old"[..]));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct ArchivedDatabase {
    database: Database,
    report: RestoreReport,
    _holds: Holds,
    _lock: Box<dyn DirLock>,
}

impl ArchivedDatabase {
    /// The last entry that is in it.
    #[must_use]
    pub fn lsn(&self) -> Lsn {
        self.report.lsn
    }

    /// When that was committed, in milliseconds since 1970.
    #[must_use]
    pub fn time_ms(&self) -> u64 {
        self.report.time_ms
    }

    /// What was damaged in the archive and could be done without.
    #[must_use]
    pub fn notes(&self) -> &[String] {
        &self.report.notes
    }

    /// A keyspace.
    ///
    /// # Errors
    /// `NotFound`. Reading answers `ArchiveUnavailable` or `ArchiveCorrupt` when a page cannot be fetched.
    pub fn keyspace(&self, name: &str) -> Result<Keyspace> {
        self.database.keyspace(name)
    }

    /// The names of the keyspaces, sorted.
    #[must_use]
    pub fn keyspaces(&self) -> Vec<String> {
        self.database.keyspaces()
    }

    /// All of it, to read several things of one moment. Its own LSN may be a little greater than [`Self::lsn`]: large
    /// transactions that had not ended there are ended without effect.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        self.database.snapshot()
    }

    /// Gives up the directory.
    ///
    /// # Errors
    /// `Poisoned` when something failed meanwhile.
    pub fn close(&self) -> Result<()> {
        self.database.close()
    }

    pub(crate) fn restored(&self) -> &RestoreReport {
        &self.report
    }
}

impl Archive {
    /// Opens a database as of a point, for reading. What is fetched is kept in `directory`, up to
    /// [`Archive::cache_bytes_max`]. It does not exist and is made, or is empty, or is that of an earlier view, of this archive or
    /// another one; it is used by one view at a time, and nothing in it is needed when the view is gone. `lineage`: `None` for
    /// the latest. See [`ArchivedDatabase`] for an example.
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
    /// let view = archive.open_at(directory.path().join("view"), Point::Latest, None, Options::new())?;
    /// assert_eq!(view.keyspace("default")?.get(b"key")?.as_deref(), Some(&b"value"[..]));
    /// assert!(view.keyspace("default")?.put(b"key", b"other").is_err(), "for reading");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// `InvalidArgument` for a directory that holds anything else, or lies inside of a database or an archive: nothing was
    /// changed. Otherwise as [`Archive::restore`], but for pages, which are missed when they are read: an older snapshot is begun with only where
    /// opening reads one that is damaged.
    pub fn open_at(
        &self,
        directory: impl AsRef<Path>,
        point: Point,
        lineage: Option<LineageId>,
        options: Options,
    ) -> Result<ArchivedDatabase> {
        let options = RestoreOptions::new().point(point).database(options);
        let options = match lineage {
            Some(lineage) => options.lineage(lineage),
            None => options,
        };
        options.check_database()?;
        refuse_inside(&*self.environment.disk, directory.as_ref())?;
        let lock = claim(&*self.environment.disk, directory.as_ref())?;
        self.view((directory.as_ref(), lock), &options, &mut Vec::new())
    }

    /// Opens a view in a directory of which all is its own. It begins with none of the snapshots that are passed over, for what
    /// was found wrong with them, nor with one of which a page turns out to be damaged that opening it reads.
    pub(crate) fn view(
        &self,
        (directory, lock): (&Path, Box<dyn DirLock>),
        options: &RestoreOptions,
        passed_over: &mut Vec<(Lsn, Error)>,
    ) -> Result<ArchivedDatabase> {
        let disk = &self.environment.disk;
        let (at, cache) = (directory.join(AT_NAME), directory.join(CACHE_NAME));
        disk.create_dir(&cache)?;
        loop {
            let (report, holds, opened) = self.begin_view((&at, &cache), options, passed_over)?;
            match (opened, report.snapshot) {
                (Ok(database), _) => {
                    database.refuse_writes();
                    return Ok(ArchivedDatabase { database, report, _holds: holds, _lock: lock });
                }
                (Err(error), Some(snapshot)) if is_damaged_page(&error) => {
                    passed_over.push((snapshot, error))
                }
                (Err(error), _) => return Err(error),
            }
        }
    }

    /// Makes a database directory anew, and opens it.
    fn begin_view(
        &self,
        (at, cache): (&Path, &Path),
        options: &RestoreOptions,
        passed_over: &[(Lsn, Error)],
    ) -> Result<(RestoreReport, Holds, Result<Database>)> {
        let disk = &self.environment.disk;
        remove_tree(&**disk, at)?;
        let mut restore = Restore::begin(self, options)?;
        restore.pass_over(passed_over);
        let seed = Arc::new(Seed::begin(&self.environment, at, OriginKind::Restore, restore.database())?);
        seed.prepare()?;
        let (source, log) = restore.fill(&seed, false)?;
        let trees = &source.base.trees;
        seed.write_manifest(trees, &log)?;
        Seed::into_inner(seed)?.commit(&restore.origin(&log))?;
        let layout = Layout::new(at);
        // Nobody writes to it: it need not part from what it is a copy of.
        seed::forget_origin(&**disk, &layout)?;

        let lazy = LazyDisk::new(
            Arc::clone(disk),
            self.client.clone(),
            (layout.pages(), cache.to_owned()),
            self.cache_bytes_max,
            &trees.segments,
        )?;
        let environment = Environment { disk: Arc::new(lazy), ..self.environment.clone() };
        let database = Options { create: false, ..options.database_options() };
        let opened = Database::open(at, database.environment(environment).background(false));
        Ok((restore.into_report(), source.holds, opened))
    }
}

/// Takes a directory for views, and marks it. What is refused is left as it was.
fn claim(disk: &dyn Disk, directory: &Path) -> Result<Box<dyn DirLock>> {
    let names = match disk.list(directory) {
        Err(Error::NotFound { .. }) => Vec::new(),
        listed => listed?,
    };
    let is_marked = names.iter().any(|entry| entry.name == MARK_NAME && !entry.is_dir);
    // Where a file system is mounted, it keeps a folder of its own.
    let is_nothing = |name: &str| name == LOCK_NAME || name == "lost+found";
    let strange = |entry: &&DirEntry| !is_marked && !is_nothing(&entry.name);
    if let Some(entry) = names.iter().find(strange) {
        let (directory, name) = (directory.display(), &entry.name);
        return Err(Error::InvalidArgument(format!(
            "{directory} holds {name}, and no view of an archive before: name a directory that holds nothing else"
        )));
    }
    create_dir_all(disk, directory)?;
    let lock = disk.lock(directory)?;
    if !is_marked {
        match disk.create(&directory.join(MARK_NAME)) {
            Ok(_) | Err(Error::AlreadyExists { .. }) => disk.sync_dir(directory)?,
            Err(error) => return Err(error),
        }
    }
    Ok(lock)
}

/// Whether an error is that of a page segment in the archive: another snapshot may do without it.
pub(crate) fn is_damaged_page(error: &Error) -> bool {
    matches!(error, Error::ArchiveCorrupt(damage) if damage.key.starts_with(PAGES_PREFIX))
}
