//! The real disk through plain system calls: always available, and the one that `strace` sees whole.
//!
//! A file is two descriptors of one inode: an ordinary one, and one opened with `O_DIRECT` where the file system has
//! it. A durable write of whole blocks from aligned memory is one `pwritev2(RWF_DSYNC)` on the direct descriptor,
//! which the kernel can turn into a single forced write; any other is one on the ordinary descriptor; where the
//! kernel refuses the flag it is a write and an `fdatasync`. The kernel keeps both views coherent: a direct write
//! first writes back, then throws away what the page cache holds of its range.
//!
//! What was refused once is not tried again on the same file; [`describe`](Disk::describe) tells what the file opened
//! last got.
//!
//! Files are made with mode 0600, directories with 0700; a symbolic link as last part of a file's path is refused;
//! nothing is inherited by child processes.
#![allow(clippy::disallowed_methods, reason = "this is the module that the ban points to")]

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags};
use rustix::io::Errno;

use super::{Access, DirEntry, DirLock, Disk, DiskDescription, File};
use crate::{Error, Result};

mod file;
mod lock;

pub(crate) use file::PlainFile;
use file::{Refused, sync_descriptor};

/// The real disk through plain system calls. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct PlainDisk {
    without_direct: bool,
    without_dsync: bool,
    seen: Arc<Refused>,
}

impl PlainDisk {
    /// The machine's file system.
    ///
    /// ```
    /// use logwood_base::disk::{Disk, File, PlainDisk};
    /// let directory = tempfile::tempdir()?;
    /// let disk = PlainDisk::new();
    /// let file = disk.create(&directory.path().join("file"))?;
    /// file.write_durable(0, b"kept")?;
    /// disk.sync_dir(directory.path())?; // or its name may be lost
    /// let mut bytes = [0; 4];
    /// file.read_at(0, &mut bytes)?;
    /// assert_eq!(&bytes, b"kept");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The same without direct access, or without `RWF_DSYNC`, or both: what a lesser file system or kernel leaves.
    /// For tests and comparisons.
    #[must_use]
    pub fn without(direct: bool, dsync: bool) -> Self {
        Self { without_direct: direct, without_dsync: dsync, seen: Arc::new(Refused::new(direct, dsync)) }
    }

    fn open_file(&self, path: &Path, flags: OFlags, operation: &'static str) -> Result<PlainFile> {
        let refused = Refused::new(self.without_direct, self.without_dsync);
        PlainFile::open(path, flags, operation, refused, Arc::clone(&self.seen))
    }

    /// As [`Disk::create`], for the backends that build on this one.
    pub(crate) fn create_plain(&self, path: &Path) -> Result<PlainFile> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL;
        self.open_file(path, flags, "create")
    }

    /// As [`Disk::open`], for the backends that build on this one.
    pub(crate) fn open_plain(&self, path: &Path, access: Access) -> Result<PlainFile> {
        let flags = match access {
            Access::Read => OFlags::RDONLY,
            Access::ReadWrite => OFlags::RDWR,
        };
        self.open_file(path, flags, "open")
    }
}

impl Disk for PlainDisk {
    fn create(&self, path: &Path) -> Result<Arc<dyn File>> {
        Ok(Arc::new(self.create_plain(path)?))
    }

    fn open(&self, path: &Path, access: Access) -> Result<Arc<dyn File>> {
        Ok(Arc::new(self.open_plain(path, access)?))
    }

    fn remove(&self, path: &Path) -> Result<()> {
        rustix::fs::unlinkat(CWD, path, AtFlags::empty()).map_err(|error| failed("remove", path, error))
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<()> {
        rustix::fs::renameat(CWD, from, CWD, to).map_err(|error| failed("rename", from, error))
    }

    fn link(&self, from: &Path, to: &Path) -> Result<()> {
        rustix::fs::linkat(CWD, from, CWD, to, AtFlags::empty()).map_err(|error| {
            // The name that stands in the way is the new one.
            failed("link", if error == Errno::EXIST { to } else { from }, error)
        })
    }

    fn create_dir(&self, path: &Path) -> Result<()> {
        match rustix::fs::mkdirat(CWD, path, Mode::RWXU) {
            Ok(()) => Ok(()),
            Err(Errno::EXIST) => {
                let found = rustix::fs::stat(path).map_err(|error| failed("create_dir", path, error))?;
                if FileType::from_raw_mode(found.st_mode) == FileType::Directory {
                    Ok(())
                } else {
                    Err(failed("create_dir", path, Errno::NOTDIR))
                }
            }
            Err(error) => Err(failed("create_dir", path, error)),
        }
    }

    fn remove_dir(&self, path: &Path) -> Result<()> {
        rustix::fs::unlinkat(CWD, path, AtFlags::REMOVEDIR).map_err(|error| failed("remove_dir", path, error))
    }

    fn list(&self, path: &Path) -> Result<Vec<DirEntry>> {
        let io_error = |source: io::Error| Error::io("list", path, source);
        let mut entries = Vec::new();
        for entry in std::fs::read_dir(path).map_err(io_error)? {
            let entry = entry.map_err(io_error)?;
            let metadata = match entry.metadata() {
                Ok(metadata) => metadata,
                // Removed since the directory was read.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(io_error(error)),
            };
            // No name of ours is anything but ASCII; a foreign one only has to look foreign.
            let name = entry.file_name().to_string_lossy().into_owned();
            let is_dir = metadata.is_dir();
            entries.push(DirEntry { name, is_dir, bytes: if is_dir { 0 } else { metadata.len() } });
        }
        entries.sort_unstable();
        Ok(entries)
    }

    fn modified_ms(&self, path: &Path) -> Result<u64> {
        let modified = std::fs::symlink_metadata(path).and_then(|metadata| metadata.modified());
        let modified = modified.map_err(|source| Error::io("modified_ms", path, source))?;
        let since = modified.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Ok(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }

    fn sync_dir(&self, path: &Path) -> Result<()> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = rustix::fs::openat(CWD, path, flags, Mode::empty())
            .map_err(|error| failed("sync_dir", path, error))?;
        sync_descriptor(&directory, true).map_err(|error| failed("sync_dir", path, error))
    }

    fn lock(&self, directory: &Path) -> Result<Box<dyn DirLock>> {
        Ok(Box::new(lock::PlainLock::take(directory)?))
    }

    fn describe(&self) -> DiskDescription {
        self.seen.describe("plain")
    }
}

/// The error of a system call on `path`.
fn failed(operation: &'static str, path: &Path, error: Errno) -> Error {
    Error::io(operation, path, error.into())
}

#[cfg(test)]
mod tests;
