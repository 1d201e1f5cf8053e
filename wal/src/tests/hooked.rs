//! A simulated disk with a hook before what changes files: for tests that block, fail or do something else in there;
//! and a gate for such a hook, which holds a write back.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver};
use std::time::Duration;

use logwood_base::disk::simulated::Operation;
use logwood_base::disk::{DirEntry, DirLock, DiskDescription, ReadSource, SimulatedDisk};
use logwood_base::{Access, AlignedBuffer, Disk, Error, File, Result};

/// Called before each `create`, `write_at`, `write_durable` and `sync`.
type Hook = Box<dyn Fn(Operation) + Send + Sync>;

/// What must happen in the end happens within this time; what must not, is waited for in vain as long as [`VAIN`].
pub(crate) const SOON: Duration = Duration::from_secs(20);
pub(crate) const VAIN: Duration = Duration::from_millis(200);

/// Blocks the next durable write while it is closed.
#[derive(Default)]
pub(crate) struct Gate {
    closed: AtomicBool,
    held: AtomicU64,
}

impl Gate {
    pub(crate) fn close(&self) {
        self.held.store(0, Ordering::SeqCst);
        self.closed.store(true, Ordering::SeqCst);
    }

    pub(crate) fn open(&self) {
        self.closed.store(false, Ordering::SeqCst);
    }

    pub(crate) fn wait_for_the_held_one(&self) {
        while self.held.load(Ordering::SeqCst) == 0 {
            std::thread::yield_now();
        }
    }

    /// Of several writes only the first one is held.
    pub(crate) fn pass(&self, operation: Operation) {
        if operation == Operation::WriteDurable
            && self.closed.load(Ordering::SeqCst)
            && self.held.fetch_add(1, Ordering::SeqCst) == 0
        {
            while self.closed.load(Ordering::SeqCst) {
                std::thread::yield_now();
            }
        }
    }
}

pub(crate) struct HookedDisk {
    disk: SimulatedDisk,
    hooks: Arc<Hooks>,
}

struct HookedFile {
    file: Arc<dyn File>,
    hooks: Arc<Hooks>,
}

struct Hooks {
    direct_reads: bool,
    /// A file, and the offset in it of a block that cannot be read.
    unreadable: Option<(PathBuf, u64)>,
    before: Hook,
}

impl HookedDisk {
    pub(crate) fn new(disk: &SimulatedDisk, before: impl Fn(Operation) + Send + Sync + 'static) -> Arc<Self> {
        Self::over(disk, Hooks { direct_reads: true, unreadable: None, before: Box::new(before) })
    }

    /// A disk that cannot read past its cache.
    pub(crate) fn without_direct_reads(disk: &SimulatedDisk) -> Arc<Self> {
        Self::over(disk, Hooks { direct_reads: false, unreadable: None, before: Box::new(|_| {}) })
    }

    /// A disk that fails to read the block at an offset of a file.
    pub(crate) fn with_an_unreadable_block(disk: &SimulatedDisk, path: &Path, offset: u64) -> Arc<Self> {
        let name = path.file_name().expect("a file").into();
        Self::over(
            disk,
            Hooks { direct_reads: true, unreadable: Some((name, offset)), before: Box::new(|_| {}) },
        )
    }

    fn over(disk: &SimulatedDisk, hooks: Hooks) -> Arc<Self> {
        Arc::new(Self { disk: disk.clone(), hooks: Arc::new(hooks) })
    }

    fn hooked(&self, file: Arc<dyn File>) -> Arc<dyn File> {
        Arc::new(HookedFile { file, hooks: Arc::clone(&self.hooks) })
    }
}

impl HookedFile {
    /// Fails where the unreadable block is among these bytes.
    fn before_read(&self, offset: u64, length: usize) -> Result<()> {
        let Some((name, at)) = &self.hooks.unreadable else { return Ok(()) };
        let is_met = self.path().ends_with(name) && offset < at + 4096 && *at < offset + length as u64;
        let failed = || Err(Error::io("read", self.path(), std::io::Error::from_raw_os_error(5)));
        if is_met { failed() } else { Ok(()) }
    }
}

impl Disk for HookedDisk {
    fn create(&self, path: &Path) -> Result<Arc<dyn File>> {
        (self.hooks.before)(Operation::Create);
        Ok(self.hooked(self.disk.create(path)?))
    }
    fn open(&self, path: &Path, access: Access) -> Result<Arc<dyn File>> {
        Ok(self.hooked(self.disk.open(path, access)?))
    }
    fn remove(&self, path: &Path) -> Result<()> {
        self.disk.remove(path)
    }
    fn rename(&self, from: &Path, to: &Path) -> Result<()> {
        self.disk.rename(from, to)
    }
    fn link(&self, from: &Path, to: &Path) -> Result<()> {
        self.disk.link(from, to)
    }
    fn create_dir(&self, path: &Path) -> Result<()> {
        self.disk.create_dir(path)
    }
    fn remove_dir(&self, path: &Path) -> Result<()> {
        self.disk.remove_dir(path)
    }
    fn list(&self, path: &Path) -> Result<Vec<DirEntry>> {
        self.disk.list(path)
    }
    fn modified_ms(&self, path: &Path) -> Result<u64> {
        self.disk.modified_ms(path)
    }
    fn sync_dir(&self, path: &Path) -> Result<()> {
        self.disk.sync_dir(path)
    }
    fn lock(&self, directory: &Path) -> Result<Box<dyn DirLock>> {
        self.disk.lock(directory)
    }
    fn describe(&self) -> DiskDescription {
        let described = self.disk.describe();
        DiskDescription { direct_reads: self.hooks.direct_reads && described.direct_reads, ..described }
    }
}

impl File for HookedFile {
    fn path(&self) -> &Path {
        self.file.path()
    }
    fn size(&self) -> Result<u64> {
        self.file.size()
    }
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        self.before_read(offset, buffer.len())?;
        self.file.read_at(offset, buffer)
    }
    fn read_past_cache(&self, offset: u64, length: usize) -> Result<(AlignedBuffer, ReadSource)> {
        self.before_read(offset, length)?;
        if self.hooks.direct_reads {
            return self.file.read_past_cache(offset, length);
        }
        let mut bytes = AlignedBuffer::zeroed(length);
        self.file.read_at(offset, &mut bytes)?;
        Ok((bytes, ReadSource::PerhapsCache))
    }
    fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<()> {
        (self.hooks.before)(Operation::Write);
        self.file.write_at(offset, bytes)
    }
    fn write_durable(&self, offset: u64, bytes: &[u8]) -> Result<()> {
        (self.hooks.before)(Operation::WriteDurable);
        self.file.write_durable(offset, bytes)
    }
    fn sync(&self) -> Result<()> {
        (self.hooks.before)(Operation::Sync);
        self.file.sync()
    }
    fn allocate(&self, size: u64) -> Result<()> {
        self.file.allocate(size)
    }
    fn set_size(&self, size: u64) -> Result<()> {
        self.file.set_size(size)
    }
}

impl fmt::Debug for HookedDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HookedDisk").field("disk", &self.disk).finish_non_exhaustive()
    }
}

impl fmt::Debug for HookedFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HookedFile").field("file", &self.file).finish_non_exhaustive()
    }
}

/// Does something on a thread of its own. When it panics nothing is told.
#[allow(clippy::disallowed_methods, reason = "what is tested are threads")]
pub(crate) fn aside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Receiver<T> {
    let (told, outcome) = mpsc::channel();
    std::thread::spawn(move || told.send(work()));
    outcome
}
