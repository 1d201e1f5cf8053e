//! The file system as the engine sees it: the [`Disk`] and [`File`] traits.
//!
//! Everything above this crate reaches files only through these traits, so that a simulated disk can tear, lose,
//! reorder and misdirect what was written ([`simulated`]), and so that one place knows how this machine makes a write
//! durable fastest ([`probe`]).
//!
//! # What is assumed of the disk
//! 1. A sector of 512 bytes is written whole or not; a larger write may be torn anywhere.
//! 2. After a successful sync, what it covered survives a power cut; before it, any subset of the writes may.
//! 3. A failed sync tells nothing about what was written; neither does a later successful one.
//! 4. File creation, rename and removal are durable after the directory is synced.
//! 5. Bytes at rest may change; a write may go to the wrong place or be lost although acknowledged. All of it is
//!    detected; none is trusted.
//!
//! # Rules for implementations, held by [`conformance`]
//! - Offsets and lengths are bytes. Reads and writes are exact: short ones are errors.
//! - Calls may run at the same time from several threads on one file; overlapping writes at the same time are the
//!   caller's mistake.
//! - Every error is one of [`Error`](crate::Error)'s, with operation and path.

use std::fmt::Debug;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::{AlignedBuffer, Result};

pub mod conformance;
#[cfg(unix)]
pub mod plain;
#[cfg(unix)]
pub mod probe;
pub mod simulated;
#[cfg(all(target_os = "linux", not(logwood_portable)))]
pub mod uring;

#[cfg(unix)]
pub use plain::PlainDisk;
pub use simulated::SimulatedDisk;
#[cfg(all(target_os = "linux", not(logwood_portable)))]
pub use uring::UringDisk;

/// How a file is opened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Access {
    /// Reading only. Nothing about the file changes, not even its times where that can be had.
    Read,
    /// Reading and writing.
    ReadWrite,
}

/// Whether bytes were read from the device or perhaps from a cache.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ReadSource {
    /// The device was asked: what was read is what the disk holds.
    Device,
    /// The page cache may have answered; after a failed sync it can differ from the disk.
    PerhapsCache,
}

/// One name in a directory.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct DirEntry {
    /// The last part of the path.
    pub name: String,
    /// Whether it is a directory.
    pub is_dir: bool,
    /// Size in bytes; 0 for a directory.
    pub bytes: u64,
}

/// A range to read, for [`File::read_many`].
#[derive(Debug)]
pub struct ReadRequest<'a> {
    /// Where to start, in bytes.
    pub offset: u64,
    /// Filled whole.
    pub buffer: &'a mut [u8],
}

/// What a disk tells about itself, for statistics and benchmarks.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DiskDescription {
    /// The backend: `plain`, `uring`, `simulated`.
    pub backend: &'static str,
    /// How a durable write is done: `direct+dsync`, `dsync`, `fdatasync`, `F_FULLFSYNC`.
    pub durable_write: &'static str,
    /// Whether reads can go past the page cache.
    pub direct_reads: bool,
}

/// A file system.
pub trait Disk: Send + Sync + Debug + 'static {
    /// Creates a file for reading and writing (mode 0600), which must not exist.
    ///
    /// The name is durable only after [`Disk::sync_dir`] of its parent.
    ///
    /// # Errors
    /// `AlreadyExists`, `DiskFull`, `Io`.
    fn create(&self, path: &Path) -> Result<Arc<dyn File>>;

    /// Opens a file that exists. Symbolic links are not followed in the last part of the path.
    ///
    /// # Errors
    /// `NotFound`, `Io`.
    fn open(&self, path: &Path, access: Access) -> Result<Arc<dyn File>>;

    /// Removes a file. Durable after [`Disk::sync_dir`].
    ///
    /// # Errors
    /// `NotFound`, `Io`.
    fn remove(&self, path: &Path) -> Result<()>;

    /// Renames a file within one file system, replacing what has the new name. Durable after syncing both
    /// directories.
    ///
    /// # Errors
    /// `NotFound`, `Io`.
    fn rename(&self, from: &Path, to: &Path) -> Result<()>;

    /// Gives a file a second name. Callers copy instead when this fails.
    ///
    /// # Errors
    /// `NotFound`, `AlreadyExists`, `Io` where the file system has no links.
    fn link(&self, from: &Path, to: &Path) -> Result<()>;

    /// Makes a directory (mode 0700) unless it exists; its parent must exist.
    ///
    /// # Errors
    /// `Io`, also when a file of that name exists.
    fn create_dir(&self, path: &Path) -> Result<()>;

    /// Removes an empty directory.
    ///
    /// # Errors
    /// `NotFound`, `Io`.
    fn remove_dir(&self, path: &Path) -> Result<()>;

    /// What a directory holds, sorted by name.
    ///
    /// # Errors
    /// `NotFound`, `Io`.
    fn list(&self, path: &Path) -> Result<Vec<DirEntry>>;

    /// When a file was written to last, in milliseconds since 1970, by the clock of whoever keeps the file system: of two
    /// files of one file system, the difference is right whatever the clocks of those who wrote them said.
    ///
    /// # Errors
    /// `NotFound`, `Io`.
    fn modified_ms(&self, path: &Path) -> Result<u64>;

    /// Makes the names in a directory durable: creations, renames and removals before this call.
    ///
    /// # Errors
    /// `NotFound`, `Io`. A failed one tells nothing: see rule 3 above.
    fn sync_dir(&self, path: &Path) -> Result<()>;

    /// Takes the exclusive lock of a directory through a file in it, for as long as the guard lives. Released by the
    /// system when the process dies. Two handles in one process exclude each other, through links too.
    ///
    /// # Errors
    /// `AlreadyOpen`; `Io`.
    fn lock(&self, directory: &Path) -> Result<Box<dyn DirLock>>;

    /// Backend and durable write, for statistics.
    fn describe(&self) -> DiskDescription;
}

/// Holds a directory's lock until dropped.
pub trait DirLock: Send + Sync + Debug {}

/// An open file.
pub trait File: Send + Sync + Debug {
    /// The path it was opened by, for messages.
    fn path(&self) -> &Path;

    /// Its size in bytes.
    ///
    /// # Errors
    /// `Io`.
    fn size(&self) -> Result<u64>;

    /// Fills `buffer` from `offset`.
    ///
    /// # Errors
    /// `Io`, also when the file ends before (kind `UnexpectedEof`).
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<()>;

    /// Reads `length` bytes from `offset` past the page cache where that is possible. `offset` and `length` need no
    /// alignment.
    ///
    /// # Errors
    /// `Io`, also when the file ends before.
    fn read_past_cache(&self, offset: u64, length: usize) -> Result<(AlignedBuffer, ReadSource)>;

    /// Fills several buffers, with as many reads in flight as the backend can.
    ///
    /// # Errors
    /// `Io`; the buffers' content is then undefined.
    fn read_many(&self, requests: &mut [ReadRequest<'_>]) -> Result<()> {
        requests.iter_mut().try_for_each(|request| self.read_at(request.offset, request.buffer))
    }

    /// Writes; durable only after [`File::sync`]. Grows the file when it ends before. Survives the process from the
    /// moment of return.
    ///
    /// # Errors
    /// `DiskFull`, `Io`; what was written is then unknown.
    fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<()>;

    /// Writes these bytes and returns when they, *and only they*, are durable: bytes written by
    /// [`File::write_at`] earlier need a [`File::sync`] of their own. Several may run at the same time from several
    /// threads. Fastest when `offset` and length are multiples of [`BLOCK_BYTES`](crate::limits::BLOCK_BYTES), the
    /// memory is an [`AlignedBuffer`]'s and the range was written before; correct for any.
    ///
    /// # Errors
    /// `DiskFull`, `Io`; what was written is then unknown, and nothing later makes it known.
    fn write_durable(&self, offset: u64, bytes: &[u8]) -> Result<()>;

    /// Makes everything written before durable, size included (`fdatasync`; `F_FULLFSYNC` on macOS).
    ///
    /// # Errors
    /// `Io`, `DiskFull`; what was written is then unknown, and a later success does not make it known.
    fn sync(&self) -> Result<()>;

    /// Reserves room up to `size` and makes the file at least that long. The new bytes read as zeros.
    ///
    /// # Errors
    /// `DiskFull`, `Io`.
    fn allocate(&self, size: u64) -> Result<()>;

    /// Cuts or lengthens the file.
    ///
    /// # Errors
    /// `DiskFull`, `Io`.
    fn set_size(&self, size: u64) -> Result<()>;
}

/// Makes `path` and every missing parent, and syncs each directory that gained a name. The name of the directory that
/// was there already is synced too: whoever made it may have crashed, or never synced it.
///
/// ```
/// use logwood_base::disk::{Disk, SimulatedDisk, create_dir_all};
/// let disk = SimulatedDisk::new(1);
/// create_dir_all(&disk, "a/b/c".as_ref())?;
/// create_dir_all(&disk, "a/b/c".as_ref())?; // it is there
/// assert!(disk.list("a/b/c".as_ref())?.is_empty());
/// # Ok::<(), logwood_base::Error>(())
/// ```
///
/// # Errors
/// As [`Disk::create_dir`] and [`Disk::sync_dir`].
pub fn create_dir_all(disk: &dyn Disk, path: &Path) -> Result<()> {
    let mut missing: Vec<PathBuf> = Vec::new();
    let mut current = path.to_owned();
    while disk.list(&current).is_err() {
        missing.push(current.clone());
        match current.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => current = parent.to_owned(),
            _ => break,
        }
    }
    if missing.last() != Some(&current) {
        sync_parent(disk, &current)?;
    }
    for directory in missing.iter().rev() {
        disk.create_dir(directory)?;
        sync_parent(disk, directory)?;
    }
    Ok(())
}

/// Makes the name of a directory durable. The root has none.
fn sync_parent(disk: &dyn Disk, directory: &Path) -> Result<()> {
    match directory.parent() {
        Some(parent) if parent.as_os_str().is_empty() => disk.sync_dir(Path::new(".")),
        Some(parent) => disk.sync_dir(parent),
        None => Ok(()),
    }
}
