//! Finishing or throwing away what is in `seed/`: see the table and steps 6 and 7 in `docs/format/seed.md`.
//!
//! Called under the directory's lock, by whoever opens it for writing and by whoever begins to fill it. Every step can be
//! done again after a crash in the middle of it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use logwood_base::disk::Disk;
use logwood_base::{Corruption, Error, Result};

use super::{FOLDERS, record, remove_if_there};
use crate::directory::{Kind, LOCK_NAME, Layout};

/// The folder in which a database is made.
pub(crate) const SEED_NAME: &str = "seed";

/// The file that says what a directory is a copy of.
pub(crate) const ORIGIN_NAME: &str = "ORIGIN";

/// The file that makes the database in `seed/` the one.
pub(crate) const COMMIT_NAME: &str = "COMMIT";

pub(super) fn commit_path(work: &Layout) -> PathBuf {
    work.root.join(COMMIT_NAME)
}

pub(crate) fn origin_path(layout: &Layout) -> PathBuf {
    layout.root.join(ORIGIN_NAME)
}

/// Brings a directory that is about to be opened for writing to one state: finishes what was committed, throws away
/// what was not.
///
/// # Errors
/// `WrongKind` when nothing but an unfinished copy stands there; `Corruption`, `DiskFull`, `Io`.
pub(crate) fn settle(disk: &dyn Disk, layout: &Layout) -> Result<()> {
    if finish(disk, layout)? || !is_there(disk, layout)? {
        return Ok(());
    }
    if !Layout::has_files(disk, &layout.manifest())? {
        let (path, holds) = (layout.root.clone(), Kind::Unfinished.words());
        return Err(Error::WrongKind { path, holds, wanted: Kind::Database.words() });
    }
    discard(disk, layout)
}

/// Moves a database that was committed into its place. Answers whether there was one.
pub(super) fn finish(disk: &dyn Disk, layout: &Layout) -> Result<bool> {
    let work = Layout::new(&layout.seed());
    let path = commit_path(&work);
    let Some(bytes) = record::read(disk, &path)? else { return Ok(false) };
    let names = record::decode_commit(&bytes, &path)?;
    // A process that was killed may have left the name without making it durable; what follows relies on it.
    disk.sync_dir(&work.root)?;
    move_all(disk, layout, &work, &names)?;
    match disk.rename(&origin_path(&work), &origin_path(layout)) {
        // Moved before a crash.
        Ok(()) | Err(Error::NotFound { .. }) => {}
        Err(error) => return Err(error),
    }
    disk.sync_dir(&layout.root)?;
    disk.remove(&path)?;
    disk.sync_dir(&work.root)?;
    discard(disk, layout)?;
    Ok(true)
}

/// Renames all files that `names` has into their place, and removes all others there.
pub(super) fn move_all(disk: &dyn Disk, layout: &Layout, work: &Layout, names: &[String]) -> Result<()> {
    for folder in FOLDERS {
        disk.create_dir(&layout.root.join(folder))?;
    }
    disk.sync_dir(&layout.root)?;
    FOLDERS.iter().try_for_each(|folder| move_folder(disk, layout, work, folder, names))
}

/// Renames the files of one folder that `names` has into their place, and removes all others there.
fn move_folder(
    disk: &dyn Disk,
    layout: &Layout,
    work: &Layout,
    folder: &str,
    names: &[String],
) -> Result<()> {
    let (from, to) = (work.root.join(folder), layout.root.join(folder));
    let in_work = names_in(disk, &from)?;
    let in_place = names_in(disk, &to)?;
    let named = names.iter().filter_map(|name| name.strip_prefix(folder)?.strip_prefix('/'));
    let named: BTreeSet<&str> = named.collect();
    for name in &named {
        if in_work.contains(*name) {
            disk.rename(&from.join(name), &to.join(name))?;
        } else if !in_place.contains(*name) {
            let expected = format!("{folder}/{name}, moved or not");
            return Err(Corruption::new(&commit_path(work), 0, "file is there", expected, "none").into());
        }
    }
    for name in in_place.iter().filter(|name| !named.contains(name.as_str()) && *name != LOCK_NAME) {
        disk.remove(&to.join(name))?;
    }
    // In this order: a file system may keep the two apart, and a name must be there before it is gone here.
    disk.sync_dir(&to)?;
    disk.sync_dir(&from)
}

fn names_in(disk: &dyn Disk, folder: &Path) -> Result<BTreeSet<String>> {
    match disk.list(folder) {
        Ok(entries) => Ok(entries.into_iter().map(|entry| entry.name).collect()),
        Err(Error::NotFound { .. }) => Ok(BTreeSet::new()),
        Err(error) => Err(error),
    }
}

/// Whether there is a `seed/`.
fn is_there(disk: &dyn Disk, layout: &Layout) -> Result<bool> {
    match disk.list(&layout.seed()) {
        Ok(_) => Ok(true),
        Err(Error::NotFound { .. }) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Throws `seed/` away, with whatever an unfinished restore has left in it.
fn discard(disk: &dyn Disk, layout: &Layout) -> Result<()> {
    remove_tree(disk, &layout.seed())?;
    disk.sync_dir(&layout.root)
}

/// Removes a directory with all it holds, if it is there.
pub(crate) fn remove_tree(disk: &dyn Disk, path: &Path) -> Result<()> {
    let entries = match disk.list(path) {
        Ok(entries) => entries,
        Err(Error::NotFound { .. }) => return Ok(()),
        Err(error) => return Err(error),
    };
    for entry in entries {
        let inner = path.join(entry.name);
        if entry.is_dir { remove_tree(disk, &inner)? } else { disk.remove(&inner)? }
    }
    disk.remove_dir(path)
}

/// Removes all files of a folder.
pub(super) fn clear(disk: &dyn Disk, folder: &Path) -> Result<()> {
    for name in names_in(disk, folder)? {
        remove_if_there(disk, &folder.join(name))?;
    }
    Ok(())
}
