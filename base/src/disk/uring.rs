//! The real disk with reads in depth: as the plain one, but [`File::read_many`] goes through io_uring.
//!
//! Durable writes stay plain system calls: a lone one is fastest as one blocking call, and several in flight come from
//! several committing threads (`docs/decisions/0002-durable-writes.md`).
//!
//! Rings are kept in a small pool. When none can be had (too many files, no memory), the reads are plain ones.

use std::path::Path;
use std::sync::Arc;

use parking_lot::Mutex;

use super::plain::{PlainDisk, PlainFile};
use super::{Access, DirEntry, DirLock, Disk, DiskDescription, File, ReadRequest, ReadSource};
use crate::{AlignedBuffer, Error, Result};

mod ring;

use ring::Ring;

/// Rings kept for the next reader; each holds at most 1 MiB of buffers.
const RINGS_KEPT_MAX: usize = 4;

/// The real disk with reads in depth. Cheap to clone.
#[derive(Clone, Debug)]
pub struct UringDisk {
    plain: PlainDisk,
    rings: Arc<Pool>,
}

#[derive(Debug, Default)]
struct Pool(Mutex<Vec<Ring>>);

#[derive(Debug)]
struct UringFile {
    plain: PlainFile,
    rings: Arc<Pool>,
}

impl UringDisk {
    /// The machine's file system, with io_uring.
    ///
    /// ```
    /// use logwood_base::Disk;
    /// use logwood_base::disk::{PlainDisk, UringDisk};
    /// use std::sync::Arc;
    /// let disk: Arc<dyn Disk> = match UringDisk::new() {
    ///     Ok(disk) => Arc::new(disk),
    ///     Err(_) => Arc::new(PlainDisk::new()), // as `system_disk` does
    /// };
    /// println!("{}", disk.describe().backend);
    /// ```
    ///
    /// # Errors
    /// `Io` when the machine has no io_uring or forbids it, as many containers do.
    pub fn new() -> Result<Self> {
        let first =
            Ring::new().map_err(|source| Error::io("io_uring_setup", Path::new("io_uring"), source))?;
        Ok(Self { plain: PlainDisk::new(), rings: Arc::new(Pool(Mutex::new(vec![first]))) })
    }

    fn wrap(&self, plain: PlainFile) -> Arc<dyn File> {
        Arc::new(UringFile { plain, rings: Arc::clone(&self.rings) })
    }
}

impl Disk for UringDisk {
    fn create(&self, path: &Path) -> Result<Arc<dyn File>> {
        Ok(self.wrap(self.plain.create_plain(path)?))
    }

    fn open(&self, path: &Path, access: Access) -> Result<Arc<dyn File>> {
        Ok(self.wrap(self.plain.open_plain(path, access)?))
    }

    fn remove(&self, path: &Path) -> Result<()> {
        self.plain.remove(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<()> {
        self.plain.rename(from, to)
    }

    fn link(&self, from: &Path, to: &Path) -> Result<()> {
        self.plain.link(from, to)
    }

    fn create_dir(&self, path: &Path) -> Result<()> {
        self.plain.create_dir(path)
    }

    fn remove_dir(&self, path: &Path) -> Result<()> {
        self.plain.remove_dir(path)
    }

    fn list(&self, path: &Path) -> Result<Vec<DirEntry>> {
        self.plain.list(path)
    }

    fn modified_ms(&self, path: &Path) -> Result<u64> {
        self.plain.modified_ms(path)
    }

    fn sync_dir(&self, path: &Path) -> Result<()> {
        self.plain.sync_dir(path)
    }

    fn lock(&self, directory: &Path) -> Result<Box<dyn DirLock>> {
        self.plain.lock(directory)
    }

    fn describe(&self) -> DiskDescription {
        DiskDescription { backend: "uring", ..self.plain.describe() }
    }
}

impl File for UringFile {
    fn path(&self) -> &Path {
        self.plain.path()
    }

    fn size(&self) -> Result<u64> {
        self.plain.size()
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        self.plain.read_at(offset, buffer)
    }

    fn read_past_cache(&self, offset: u64, length: usize) -> Result<(AlignedBuffer, ReadSource)> {
        self.plain.read_past_cache(offset, length)
    }

    fn read_many(&self, requests: &mut [ReadRequest<'_>]) -> Result<()> {
        if requests.len() < 2 {
            return self.plain.read_many(requests);
        }
        let kept = self.rings.0.lock().pop();
        let Some(mut ring) = kept.or_else(|| Ring::new().ok()) else {
            return self.plain.read_many(requests);
        };
        let answer = ring.read_many(self.plain.ordinary(), requests);
        if ring.is_idle() {
            let mut rings = self.rings.0.lock();
            if rings.len() < RINGS_KEPT_MAX {
                rings.push(ring);
            }
        }
        answer.map_err(|source| Error::io("read", self.plain.path(), source))
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<()> {
        self.plain.write_at(offset, bytes)
    }

    fn write_durable(&self, offset: u64, bytes: &[u8]) -> Result<()> {
        self.plain.write_durable(offset, bytes)
    }

    fn sync(&self) -> Result<()> {
        self.plain.sync()
    }

    fn allocate(&self, size: u64) -> Result<()> {
        self.plain.allocate(size)
    }

    fn set_size(&self, size: u64) -> Result<()> {
        self.plain.set_size(size)
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;
    use std::time::{Duration, Instant};

    use rustix::fs::{Advice, fadvise};

    use super::*;

    /// How long cold reads of 8 KiB take, all asked for at once.
    fn cold(disk: &dyn Disk, path: &Path, ordinary: impl AsFd, reads: usize, blocks: u64) -> Duration {
        let file = disk.open(path, Access::Read).unwrap();
        fadvise(ordinary, 0, None, Advice::DontNeed).unwrap();
        let mut rng = fastrand::Rng::with_seed(1);
        let mut buffers = vec![vec![0u8; 8_192]; reads];
        let places: Vec<u64> = (0..reads).map(|_| rng.u64(..blocks)).collect();
        let requests = buffers.iter_mut().zip(&places);
        let mut requests: Vec<_> =
            requests.map(|(buffer, place)| ReadRequest { offset: place * 8_192, buffer }).collect();
        #[allow(clippy::disallowed_methods, reason = "a measurement needs the real clock")]
        let started = Instant::now();
        file.read_many(&mut requests).unwrap();
        let taken = started.elapsed();
        for (buffer, place) in buffers.iter().zip(&places) {
            assert!(buffer[..8] == place.to_le_bytes());
        }
        taken
    }

    /// The figures: `LOGWOOD_PROBE_ROUNDS=4000 cargo test --release -p logwood-base cold_reads -- --nocapture`.
    #[test]
    fn cold_reads_in_depth_give_the_same_bytes_as_plain_ones() {
        let uring = match UringDisk::new() {
            Ok(uring) => uring,
            Err(error) => {
                println!("SKIPPED: {error}");
                return;
            }
        };
        let rounds = std::env::var("LOGWOOD_PROBE_ROUNDS").ok().and_then(|rounds| rounds.parse().ok());
        let reads: usize = rounds.unwrap_or(100);
        let blocks = 8 * reads as u64;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        let plain = PlainDisk::new();
        let file = plain.create_plain(&path).unwrap();
        for block in 0..blocks {
            let mut bytes = [0; 8_192];
            bytes[..8].copy_from_slice(&block.to_le_bytes());
            file.write_at(block * 8_192, &bytes).unwrap();
        }
        file.sync().unwrap();
        for _ in 0..3 {
            let one_by_one = cold(&plain, &path, file.ordinary(), reads, blocks);
            let in_depth = cold(&uring, &path, file.ordinary(), reads, blocks);
            println!("{reads} cold reads: plain {one_by_one:?}, uring {in_depth:?}");
        }
    }
}
