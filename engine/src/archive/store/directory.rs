//! A store in a directory of a [`Disk`]: for archives on another file system, and for tests with a simulated one.
//!
//! An object is a file whose path is its key. It is written under a name in `incoming/`, synced, then *linked* to its
//! own name, which fails when that exists; then the name is synced. The store's clock is the file system's: that of the server,
//! where it is mounted from one. So an object is there whole or not at all, of two
//! writers one wins, and what was answered survives a power cut. File systems without hard links are refused.

use std::ops::{ControlFlow, Range};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use logwood_base::disk::{DirEntry, File, create_dir_all};
use logwood_base::{Access, ArchiveDamage, Disk, Environment, Error, Random, Result};

use super::{Head, Listed, Put, Store, check_size, is_key};
use crate::seed::{refuse_inside, what_stands_in};

const INCOMING: &str = "incoming";

/// A store in a directory.
#[derive(Clone, Debug)]
pub struct Directory {
    disk: Arc<dyn Disk>,
    random: Arc<dyn Random>,
    root: PathBuf,
    /// Whether `incoming/` was there when it was opened: where that is gone, the store is, and not an object of it.
    was_made: bool,
}

impl Directory {
    /// Opens the store in `root`, which is made if it does not exist. What crashed puts left behind is removed, and no file of
    /// another name.
    ///
    /// # Errors
    /// `InvalidArgument` for the directory of a database, and for one inside of a database or an archive; `Io`, `DiskFull`.
    pub fn open(environment: &Environment, root: &Path) -> Result<Self> {
        refuse_inside(&*environment.disk, root)?;
        if what_stands_in(&*environment.disk, root) == Some("database") {
            let why = format!("{} is a database, and its archive would be lost with it", root.display());
            return Err(Error::InvalidArgument(why));
        }
        let store = Self {
            disk: Arc::clone(&environment.disk),
            random: Arc::clone(&environment.random),
            root: root.to_owned(),
            was_made: true,
        };
        let incoming = store.incoming();
        create_dir_all(&*store.disk, &incoming)?;
        let is_ours = |name: &str| name.len() == 32 && name.bytes().all(|byte| byte.is_ascii_hexdigit());
        for left in store.disk.list(&incoming)? {
            if left.is_dir || !is_ours(&left.name) {
                continue;
            }
            // Of a put that is going on elsewhere: it fails, and is tried again.
            match store.disk.remove(&incoming.join(left.name)) {
                Ok(()) | Err(Error::NotFound { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(store)
    }

    /// As [`Directory::open`], of a store that must exist, without changing anything.
    ///
    /// # Errors
    /// `NotFound`, `Io`.
    pub fn open_existing(environment: &Environment, root: &Path) -> Result<Self> {
        environment.disk.list(root).map_err(|error| match error {
            Error::NotFound { .. } => Error::NotFound { what: "archive", name: root.display().to_string() },
            other => other,
        })?;
        let (disk, random) = (Arc::clone(&environment.disk), Arc::clone(&environment.random));
        Ok(Self { disk, random, root: root.to_owned(), was_made: false })
    }

    fn incoming(&self) -> PathBuf {
        self.root.join(INCOMING)
    }

    fn path(&self, key: &str) -> Result<PathBuf> {
        if is_key(key) {
            return Ok(self.root.join(key));
        }
        Err(Error::InvalidArgument(format!("{} is no key of an object", key.escape_debug())))
    }

    fn read(&self, key: &str, path: &Path, range: Option<Range<u64>>, max: u64) -> Result<Vec<u8>> {
        let file = self.open_object(key, path)?;
        let size = file.size()?;
        let range = range.unwrap_or(0..size);
        if range.end > size || range.start > range.end {
            return Err(ArchiveDamage::new(key, "object length", format!("{range:?}"), size).into());
        }
        check_size(key, range.end - range.start, max)?;
        let mut bytes = vec![0u8; (range.end - range.start) as usize];
        file.read_at(range.start, &mut bytes)?;
        Ok(bytes)
    }

    fn put(&self, key: &str, bytes: &[u8]) -> Result<Put> {
        let path = self.path(key)?;
        let folder = path.parent().unwrap_or(&self.root);
        if self.absent("put", key, self.open_object(key, &path))?.is_some() {
            // It may have been linked by a process that died before it synced the name.
            self.disk.sync_dir(folder)?;
            return Ok(Put::Exists);
        }
        let name = format!("{:016x}{:016x}", self.random.u64(), self.random.u64());
        let incoming = self.incoming().join(name);
        let file = self.disk.create(&incoming)?;
        let written = file.write_at(0, bytes).and_then(|()| file.sync());
        drop(file);
        let linked = written.and_then(|()| {
            create_dir_all(&*self.disk, folder)?;
            match self.disk.link(&incoming, &path) {
                Ok(()) => Ok(Put::Created),
                Err(Error::AlreadyExists { .. }) => Ok(Put::Exists),
                Err(error) => Err(error),
            }
        });
        // Whatever came of it, the incoming name has served; when it cannot be removed, the next open does it.
        let _ = self.disk.remove(&incoming);
        let put = linked?;
        self.disk.sync_dir(folder)?;
        Ok(put)
    }

    /// What is not there is no failure here; that the store itself is gone, such as a directory that is not mounted any more,
    /// is one, and says nothing of its objects.
    fn absent<T>(&self, operation: &'static str, key: &str, found: Result<T>) -> Result<Option<T>> {
        match found {
            Ok(found) => Ok(Some(found)),
            Err(Error::NotFound { .. }) => match self.disk.list(&self.incoming()) {
                Err(error @ Error::NotFound { .. }) if self.was_made => {
                    let cause = error.to_string();
                    Err(Error::ArchiveUnavailable { operation, key: key.to_owned(), cause })
                }
                _ => Ok(None),
            },
            Err(error) => Err(error),
        }
    }

    fn open_object(&self, key: &str, path: &Path) -> Result<Arc<dyn File>> {
        self.disk.open(path, Access::Read).map_err(|error| no_object(key, &error).unwrap_or(error))
    }

    /// Tells of what lies in a folder behind `after`; `key` is what all keys there begin with.
    fn tell(
        &self,
        folder: &Path,
        key: &str,
        after: &str,
        each: &mut dyn FnMut(Listed) -> ControlFlow<()>,
    ) -> Result<ControlFlow<()>> {
        // By key, in which a slash follows the name of a folder.
        let entries = self.absent("list", key, self.disk.list(folder))?.unwrap_or_default().into_iter();
        // What an editor, a file manager or the server of a mounted directory leaves has a name that no object has.
        let mut entries: Vec<(String, DirEntry)> = entries
            .filter(|entry| is_key(&entry.name))
            .map(|entry| (format!("{key}{}{}", entry.name, if entry.is_dir { "/" } else { "" }), entry))
            .filter(|(key, _)| key.as_str() > after || after.starts_with(key))
            .filter(|(key, _)| !key.starts_with(INCOMING))
            .collect();
        entries.sort();
        for (key, entry) in entries {
            let told = match entry.is_dir {
                true => self.tell(&folder.join(&entry.name), &key, after, each)?,
                false if key == after => continue,
                false => each(Listed { key, bytes: entry.bytes }),
            };
            if told.is_break() {
                return Ok(told);
            }
        }
        Ok(ControlFlow::Continue(()))
    }
}

/// The damage of what stands in the place of an object and is no file, such as a directory.
fn no_object(key: &str, error: &Error) -> Option<Error> {
    let Error::Io { source, .. } = error else { return None };
    // What a device answers, or a server behind a mounted directory, it may answer otherwise tomorrow.
    error.unreadable(0).filter(|_| source.raw_os_error().is_none())?;
    Some(ArchiveDamage::new(key, "object", "a file", source).into())
}

/// Of a put: what is not there is the store itself, or was taken out of it while it was put.
fn gone(key: &str, error: Error) -> Error {
    match error {
        Error::NotFound { .. } => {
            Error::ArchiveUnavailable { operation: "put", key: key.to_owned(), cause: error.to_string() }
        }
        other => other,
    }
}

impl Store for Directory {
    fn put_new(&self, key: &str, bytes: &[u8]) -> Result<Put> {
        self.put(key, bytes).map_err(|error| gone(key, error))
    }

    fn get(&self, key: &str, bytes_max: u64) -> Result<Option<Vec<u8>>> {
        self.absent("get", key, self.read(key, &self.path(key)?, None, bytes_max))
    }

    fn get_range(&self, key: &str, range: Range<u64>) -> Result<Option<Vec<u8>>> {
        self.absent("get", key, self.read(key, &self.path(key)?, Some(range), u64::MAX))
    }

    fn head(&self, key: &str) -> Result<Option<Head>> {
        let path = self.path(key)?;
        let Some(file) = self.absent("head", key, self.open_object(key, &path))? else { return Ok(None) };
        let Some(put_ms) = self.absent("head", key, self.disk.modified_ms(&path))? else { return Ok(None) };
        Ok(Some(Head { bytes: file.size()?, put_ms }))
    }

    fn list_behind(
        &self,
        prefix: &str,
        after: &str,
        each: &mut dyn FnMut(Listed) -> ControlFlow<()>,
    ) -> Result<()> {
        let folder = match prefix.strip_suffix('/') {
            Some(folder) => self.path(folder)?,
            None => self.root.clone(),
        };
        self.tell(&folder, prefix, after, each).map(drop)
    }

    fn delete(&self, key: &str) -> Result<()> {
        let path = self.path(key)?;
        if self.absent("delete", key, self.disk.remove(&path))?.is_some() {
            self.disk.sync_dir(path.parent().unwrap_or(&self.root))?;
        }
        Ok(())
    }
}
