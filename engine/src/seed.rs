//! Filling a directory with a database that exists elsewhere: what backups and restores share.
//!
//! Format, rules and crash stories: `docs/format/seed.md`. The steps, in the order in which they are called:
//!
//! 1. [`Seed::begin`] takes the directory's lock and refuses what must not be overwritten, which stays as it is. Whoever has
//!    more to refuse does so before [`Seed::prepare`] makes `seed/`.
//! 2. [`Seed::add_segment`], or [`Seed::add_proven`] for bytes in memory, for each page segment that the manifest names.
//! 3. [`Seed::write_log`]: the entries from `replay_from` on, as a fresh log.
//! 4. [`Seed::write_manifest`]: the source's, with the fresh log's identity.
//! 5. [`Seed::verify`] reads everything back and answers count and digest of each keyspace.
//! 6. [`Seed::commit`] puts it into its place.
//!
//! A failure anywhere leaves what is done for the next call of the same kind. Until step 6 an earlier backup in the
//! directory stays what it is; from then on [`settle::settle`] finishes, whoever calls it.
//!
//! # Invariants
//! 1. A page segment in `seed/pages` bears its name only when it is whole, has the hash that the manifest asks for, and
//!    is synced.
//! 2. Outside of `seed/` nothing changes before `seed/COMMIT` is durable.

use std::path::{Component, Path, PathBuf};

use logwood_base::digest::Digest;
use logwood_base::disk::{DirLock, Disk, create_dir_all};
use logwood_base::{Access, Corruption, DatabaseId, Environment, Error, KeyspaceId, LogId, Lsn, Result};
use logwood_btree::manifest;
use logwood_btree::store::{Manifest, Store, StoreOptions};
use logwood_btree::verify::Derived;
use logwood_btree::verify_directory_with;

use crate::directory::{LINEAGE_NAME, LINEAGE_NEW_NAME, LOCK_NAME, Layout, REPLICA_NAME};
use crate::planted::{Bug, planted};
use crate::verification::VerifyProgress;
use log::SeededLog;
pub use record::{Origin, OriginKind};
pub(crate) use segments::Added;
#[cfg(feature = "archive")]
pub(crate) use segments::file_name;

pub(crate) mod log;
pub(crate) mod record;
mod segments;
pub(crate) mod settle;

/// The folders of a database.
const FOLDERS: [&str; 3] = ["log", "manifest", "pages"];

/// A directory that is being filled.
#[derive(Debug)]
pub(crate) struct Seed {
    environment: Environment,
    /// Where the database is to stand.
    target: Layout,
    /// Where it is made.
    work: Layout,
    /// What stands there already, if that is a backup of the same database: what it says of itself, and what it holds unless
    /// that is damaged.
    replaced: Option<Origin>,
    standing: Option<Manifest>,
    /// Kept to the end.
    _lock: Box<dyn DirLock>,
}

impl Seed {
    /// Begins to fill `root`: a directory that does not exist, is empty, or is an earlier or an unfinished copy of the
    /// same database. `kind` says what will stand there; only a backup takes the place of an earlier one. What is refused
    /// is left as it was, without a lock in it.
    ///
    /// # Errors
    /// `AlreadyOpen`; `AlreadyExists` when something stands there that is no copy any more, or is one of another
    /// database; `InvalidArgument` for a directory with files that are not a database's; `DiskFull`, `Io`.
    pub(crate) fn begin(
        environment: &Environment,
        root: &Path,
        kind: OriginKind,
        database: DatabaseId,
    ) -> Result<Self> {
        let disk = &*environment.disk;
        let target = Layout::new(root);
        refuse_untouched(environment, &target, kind, database)?;
        create_dir_all(disk, root)?;
        let lock = disk.lock(root)?;
        // Once more, now that nobody else fills it.
        refuse_links(disk, &target)?;
        settle::finish(disk, &target)?;
        let (replaced, standing) = replaceable(environment, &target, kind, database)?;
        check_names(disk, &target)?;
        let work = Layout::new(&target.seed());
        Ok(Self { environment: environment.clone(), target, work, replaced, standing, _lock: lock })
    }

    /// Makes the folders in which the database is made.
    ///
    /// # Errors
    /// `DiskFull`, `Io`.
    pub(crate) fn prepare(&self) -> Result<()> {
        let (disk, work) = (self.disk(), &self.work);
        disk.create_dir(&work.root)?;
        disk.sync_dir(&self.target.root)?;
        for folder in FOLDERS {
            disk.create_dir(&work.root.join(folder))?;
        }
        // Log and manifest are made anew; page segments that have their names are whole.
        settle::clear(disk, &work.log())?;
        settle::clear(disk, &work.manifest())?;
        disk.sync_dir(&work.root)
    }

    /// A seed that helpers shared, when they have ended.
    ///
    /// # Errors
    /// `Internal` when one has not.
    #[cfg(feature = "archive")]
    pub(crate) fn into_inner(shared: std::sync::Arc<Self>) -> Result<Self> {
        std::sync::Arc::into_inner(shared)
            .ok_or_else(|| Error::Internal("a helper outlived its work".to_owned()))
    }

    /// The earlier backup that this one will take the place of.
    pub(crate) const fn replaced(&self) -> Option<&Origin> {
        self.replaced.as_ref()
    }

    /// The folder in which the database is made.
    pub(crate) fn folder(&self) -> &Path {
        &self.work.root
    }

    /// Writes the manifest: `source`, with the fresh log beside it. Page segments that it does not name, left by an
    /// attempt that was not finished, go.
    pub(crate) fn write_manifest(&self, source: &Manifest, log: &SeededLog) -> Result<()> {
        let disk = self.disk();
        let named: Vec<String> =
            source.segments.iter().map(|segment| segments::file_name(segment.number)).collect();
        for file in disk.list(&self.work.pages())? {
            if !named.contains(&file.name) {
                disk.remove(&self.work.pages().join(&file.name))?;
            }
        }
        disk.sync_dir(&self.work.pages())?;
        let manifest = Manifest { log: log.id, log_durable_end: log.durable_end, ..source.clone() };
        manifest::write(disk, &self.work.manifest(), &manifest)
    }

    /// Reads every page segment and page back, and derives count and digest of each keyspace at the manifest's
    /// checkpoint from its records.
    ///
    /// # Errors
    /// The first damage; `Io`.
    pub(crate) fn verify(
        &self,
        progress: &mut dyn FnMut(VerifyProgress),
    ) -> Result<Vec<(KeyspaceId, Digest)>> {
        self.verify_with(Derived::default(), progress)
    }

    /// As [`Seed::verify`]. Page segments that `derived` has seen were read back when they were added.
    ///
    /// # Errors
    /// As [`Seed::verify`].
    pub(crate) fn verify_with(
        &self,
        derived: Derived,
        progress: &mut dyn FnMut(VerifyProgress),
    ) -> Result<Vec<(KeyspaceId, Digest)>> {
        let mut first: Option<Corruption> = None;
        let on_damage = &mut |damage: logwood_btree::verify::Damage| {
            first.get_or_insert(damage.corruption);
        };
        let (disk, root) = (&self.environment.disk, &self.work.root);
        let report = verify_directory_with(disk, root, derived, on_damage, &mut |now| {
            progress(VerifyProgress { bytes_done: now.bytes_done, bytes_total: now.bytes_total });
        })?;
        match first {
            Some(damage) => Err(damage.into()),
            None => Ok(report.trees),
        }
    }

    /// Puts the database into its place. When this returns, the directory opens as what was seeded; when it fails, as
    /// that, or as what it was.
    ///
    /// # Errors
    /// `DiskFull`, `Io`. Opening the directory finishes what was begun.
    pub(crate) fn commit(self, origin: &Origin) -> Result<()> {
        let disk = self.disk();
        replace(disk, &settle::origin_path(&self.work), &origin.encode())?;
        let mut names = Vec::new();
        for folder in FOLDERS {
            let files = disk.list(&self.work.root.join(folder))?;
            let files = files.into_iter().filter(|file| file.name != LOCK_NAME);
            names.extend(files.map(|file| format!("{folder}/{}", file.name)));
        }
        names.sort_unstable();
        for folder in FOLDERS {
            disk.sync_dir(&self.work.root.join(folder))?;
        }
        if planted(Bug::SwitchWithoutRecord) {
            settle::move_all(disk, &self.target, &self.work, &names)?;
        }
        replace(disk, &settle::commit_path(&self.work), &record::encode_commit(&names))?;
        settle::finish(disk, &self.target).map(drop)
    }

    fn disk(&self) -> &dyn Disk {
        &*self.environment.disk
    }
}

/// What a directory is a copy of, if nobody has opened it for writing since it was filled.
pub(crate) fn origin(disk: &dyn Disk, layout: &Layout) -> Result<Option<Origin>> {
    let path = settle::origin_path(layout);
    record::read(disk, &path)?.map(|bytes| Origin::decode(&bytes, &path)).transpose()
}

/// Whether nobody has opened the directory for writing since it was filled. A damaged `ORIGIN` says so as well as a
/// whole one.
pub(crate) fn is_copy(disk: &dyn Disk, layout: &Layout) -> Result<bool> {
    Ok(record::read(disk, &settle::origin_path(layout))?.is_some())
}

/// Says that the directory is a database in its own right from here on. May be called again after it failed.
pub(crate) fn forget_origin(disk: &dyn Disk, layout: &Layout) -> Result<()> {
    remove_if_there(disk, &settle::origin_path(layout))?;
    disk.sync_dir(&layout.root)
}

/// The earlier backup that may be brought up to date; refuses what must not be overwritten.
fn replaced(
    environment: &Environment,
    target: &Layout,
    kind: OriginKind,
    database: DatabaseId,
) -> Result<Option<Origin>> {
    let disk = &*environment.disk;
    let mut stands = false;
    for folder in FOLDERS {
        stands |= Layout::has_files(disk, &target.root.join(folder))?;
    }
    if !stands {
        return Ok(None);
    }
    match origin(disk, target)? {
        Some(origin) if kind == OriginKind::Backup && origin.kind == kind && origin.database == database => {
            Ok(Some(origin))
        }
        _ => Err(Error::AlreadyExists { what: "database", name: target.root.display().to_string() }),
    }
}

/// The earlier backup that may be brought up to date, with its manifest where that can be used.
fn replaceable(
    environment: &Environment,
    target: &Layout,
    kind: OriginKind,
    database: DatabaseId,
) -> Result<(Option<Origin>, Option<Manifest>)> {
    let replaced = replaced(environment, target, kind, database)?;
    let standing = if replaced.is_some() { standing(environment, target)? } else { None };
    if let (Some(origin), Some(manifest)) = (&replaced, &standing) {
        // What decides whether a later state may take its place must be its own.
        origin.check_own(target, (manifest.database, manifest.log))?;
    }
    Ok((replaced, standing))
}

/// The manifest of an earlier backup.
fn standing(environment: &Environment, target: &Layout) -> Result<Option<Manifest>> {
    let disk = std::sync::Arc::clone(&environment.disk);
    match Store::open_read_only(disk, &target.root, StoreOptions::default(), &|_| Ok(())) {
        Ok((_, opened)) => Ok(Some((*opened.manifest).clone())),
        // Nothing of it can be used. What takes its place is whole by itself.
        Err(Error::Corruption(damage)) => {
            tracing::warn!(%damage, "an earlier backup is damaged and will be replaced");
            Ok(None)
        }
        Err(error) => match error.unreadable(0) {
            Some(damage) => {
                tracing::warn!(%damage, "an earlier backup cannot be read and will be replaced");
                Ok(None)
            }
            None => Err(error),
        },
    }
}

/// Refuses a directory inside of a database's, a log's or an archive's: its next opening would take what is there for its own,
/// and it would be lost together with it. For those whom others tell where to write; restoring in part reads a view that it keeps inside of its own `seed/`.
///
/// # Errors
/// `InvalidArgument`.
pub(crate) fn refuse_inside(disk: &dyn Disk, root: &Path) -> Result<()> {
    let path = without_detours(root);
    for outer in path.ancestors().skip(1) {
        // The working directory has no name in a relative path, and is not above one that leads out of it.
        let outer = match outer.as_os_str().is_empty() {
            true if path.starts_with("..") => continue,
            true => Path::new("."),
            false => outer,
        };
        if let Some(what) = what_stands_in(disk, outer) {
            let why = format!("{} lies inside of the {what} in {}", root.display(), outer.display());
            return Err(Error::InvalidArgument(why));
        }
    }
    Ok(())
}

/// A path without `.`, and without what `..` takes back, by its words alone: nobody is asked for symbolic links.
fn without_detours(path: &Path) -> PathBuf {
    let mut straight = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir
                if matches!(straight.components().next_back(), Some(Component::Normal(_))) =>
            {
                straight.pop();
            }
            Component::ParentDir if straight.has_root() => {}
            part => straight.push(part),
        }
    }
    straight
}

/// Whether a directory is a database's, a log's or an archive's, in a word. What cannot be looked into is none of ours.
pub(crate) fn what_stands_in(disk: &dyn Disk, directory: &Path) -> Option<&'static str> {
    let names = disk.list(directory).ok()?;
    let has = |name: &str, is_dir| names.iter().any(|entry| entry.name == name && entry.is_dir == is_dir);
    let is_made = has("log", true) && (has("manifest", true) || has(REPLICA_NAME, false));
    let is_database = has(LOCK_NAME, false) && (is_made || has(settle::SEED_NAME, true));
    let is_archive = has("incoming", true) && has("lineage", true);
    if is_database { Some("database") } else { is_archive.then_some("archive") }
}

/// Refuses what must not be overwritten before anything is made there. A directory with a lock in it is refused under that.
fn refuse_untouched(
    environment: &Environment,
    target: &Layout,
    kind: OriginKind,
    database: DatabaseId,
) -> Result<()> {
    let disk = &*environment.disk;
    let names = match disk.list(&target.root) {
        Ok(names) => names,
        Err(Error::NotFound { .. }) => return Ok(()),
        Err(error) => return Err(error),
    };
    let has = |name: &str| names.iter().any(|entry| entry.name == name);
    if has(LOCK_NAME) {
        return Ok(());
    }
    refuse_links(disk, target)?;
    // Where a copy waits to be moved into its place, what stands there is not the whole of it.
    if !has(settle::SEED_NAME) {
        replaceable(environment, target, kind, database)?;
    }
    check_names(disk, target)
}

/// Refuses folders that are links: what is written goes into the directory, and nowhere else.
fn refuse_links(disk: &dyn Disk, target: &Layout) -> Result<()> {
    for root in [&target.root, &target.seed()] {
        let entries = match disk.list(root) {
            Ok(entries) => entries,
            Err(Error::NotFound { .. }) => continue,
            Err(error) => return Err(error),
        };
        let is_folder = |name: &str| name == settle::SEED_NAME || FOLDERS.contains(&name);
        if let Some(entry) = entries.iter().find(|entry| is_folder(&entry.name) && !entry.is_dir) {
            let path = root.join(&entry.name);
            return Err(Error::InvalidArgument(format!("{} is no directory", path.display())));
        }
    }
    Ok(())
}

/// Refuses a directory that holds something else than a database's files.
fn check_names(disk: &dyn Disk, target: &Layout) -> Result<()> {
    let known = [LOCK_NAME, LINEAGE_NAME, LINEAGE_NEW_NAME, settle::ORIGIN_NAME, settle::SEED_NAME];
    for entry in disk.list(&target.root)? {
        if !known.contains(&entry.name.as_str()) && !FOLDERS.contains(&entry.name.as_str()) {
            let (root, name) = (target.root.display(), entry.name);
            return Err(Error::InvalidArgument(format!(
                "{root} holds {name}, which is no part of a database"
            )));
        }
    }
    Ok(())
}

/// Writes a small file whole: it has its name only when it is synced.
fn replace(disk: &dyn Disk, path: &Path, bytes: &[u8]) -> Result<()> {
    let unfinished = unfinished(path);
    remove_if_there(disk, &unfinished)?;
    let file = disk.create(&unfinished)?;
    file.write_at(0, bytes)?;
    file.sync()?;
    disk.rename(&unfinished, path)?;
    disk.sync_dir(path.parent().unwrap_or(Path::new(".")))
}

/// The name of a file that is being written.
fn unfinished(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".part");
    PathBuf::from(name)
}

fn remove_if_there(disk: &dyn Disk, path: &Path) -> Result<()> {
    match disk.remove(path) {
        Err(Error::NotFound { .. }) => Ok(()),
        other => other,
    }
}

/// The bytes of a file from its start, in pieces of bounded length, handed to `each`.
fn for_each_piece(disk: &dyn Disk, path: &Path, mut each: impl FnMut(&[u8]) -> Result<()>) -> Result<()> {
    const PIECE_BYTES: u64 = 1 << 20;
    let file = disk.open(path, Access::Read)?;
    let size = file.size()?;
    let mut at = 0;
    while at < size {
        let length = (size - at).min(PIECE_BYTES);
        let (bytes, _) = file.read_past_cache(at, length as usize)?;
        each(&bytes)?;
        at += length;
    }
    Ok(())
}

/// A copy's origin, before its log is known.
impl Origin {
    pub(crate) const fn new(kind: OriginKind, database: DatabaseId, source: LogId) -> Self {
        Self { kind, database, source, log: LogId(0), lsn: Lsn::ZERO, time_ms: 0 }
    }
}
