//! A disk that counts the durable writes that pass through it, how large they are, and how many are on their way at
//! the same time: so that the raw device can be asked for exactly what we ask of it.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use logwood_base::disk::{DirEntry, DirLock, DiskDescription, ReadRequest, ReadSource};
use logwood_base::{Access, AlignedBuffer, Disk, File, Result};

/// The disk that does the work, and the counts.
#[derive(Debug)]
pub struct WatchedDisk {
    disk: Arc<dyn Disk>,
    counts: Arc<Counts>,
}

/// What durable writes were asked for.
#[derive(Debug, Default)]
pub struct Counts {
    in_flight: AtomicU64,
    writes: AtomicU64,
    bytes: AtomicU64,
    /// Sum over the writes of how many were on their way when each was submitted, itself included.
    depths: AtomicU64,
}

/// A stretch of writes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Writes {
    pub writes: u64,
    pub bytes: u64,
    pub depths: u64,
}

impl Writes {
    /// Mean size.
    pub fn bytes_each(&self) -> f64 {
        self.bytes as f64 / self.writes.max(1) as f64
    }

    /// Mean number on their way when one is submitted, itself included.
    pub fn depth(&self) -> f64 {
        self.depths as f64 / self.writes.max(1) as f64
    }
}

impl Counts {
    /// What was counted since the last call.
    pub fn take(&self) -> Writes {
        Writes {
            writes: self.writes.swap(0, Ordering::Relaxed),
            bytes: self.bytes.swap(0, Ordering::Relaxed),
            depths: self.depths.swap(0, Ordering::Relaxed),
        }
    }
}

impl WatchedDisk {
    /// Watches what passes to `disk`.
    pub fn new(disk: Arc<dyn Disk>) -> (Arc<Self>, Arc<Counts>) {
        let counts = Arc::new(Counts::default());
        (Arc::new(Self { disk, counts: Arc::clone(&counts) }), counts)
    }

    fn watch(&self, file: Arc<dyn File>) -> Arc<dyn File> {
        Arc::new(WatchedFile { file, counts: Arc::clone(&self.counts) })
    }
}

impl Disk for WatchedDisk {
    fn create(&self, path: &Path) -> Result<Arc<dyn File>> {
        self.disk.create(path).map(|file| self.watch(file))
    }

    fn open(&self, path: &Path, access: Access) -> Result<Arc<dyn File>> {
        self.disk.open(path, access).map(|file| self.watch(file))
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
        self.disk.describe()
    }
}

#[derive(Debug)]
struct WatchedFile {
    file: Arc<dyn File>,
    counts: Arc<Counts>,
}

impl File for WatchedFile {
    fn path(&self) -> &Path {
        self.file.path()
    }

    fn size(&self) -> Result<u64> {
        self.file.size()
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        self.file.read_at(offset, buffer)
    }

    fn read_past_cache(&self, offset: u64, length: usize) -> Result<(AlignedBuffer, ReadSource)> {
        self.file.read_past_cache(offset, length)
    }

    fn read_many(&self, requests: &mut [ReadRequest<'_>]) -> Result<()> {
        self.file.read_many(requests)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<()> {
        self.file.write_at(offset, bytes)
    }

    fn write_durable(&self, offset: u64, bytes: &[u8]) -> Result<()> {
        let counts = &self.counts;
        let before = counts.in_flight.fetch_add(1, Ordering::Relaxed);
        counts.depths.fetch_add(before + 1, Ordering::Relaxed);
        counts.writes.fetch_add(1, Ordering::Relaxed);
        counts.bytes.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        let written = self.file.write_durable(offset, bytes);
        counts.in_flight.fetch_sub(1, Ordering::Relaxed);
        written
    }

    fn sync(&self) -> Result<()> {
        self.file.sync()
    }

    fn allocate(&self, size: u64) -> Result<()> {
        self.file.allocate(size)
    }

    fn set_size(&self, size: u64) -> Result<()> {
        self.file.set_size(size)
    }
}
