//! One file of the plain disk: exact reads and writes, and the ways to make a write durable.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{CWD, FileType, Mode, OFlags};
use rustix::io::Errno;

use super::failed;
use crate::disk::{DiskDescription, File, ReadSource};
use crate::limits::BLOCK_BYTES;
use crate::{AlignedBuffer, Error, Result};

/// Zeros are written in pieces of this size where the file system cannot reserve room.
const ZEROS_BYTES: usize = 256 << 10;

/// Which ways of writing and reading are refused: by the kernel, by the file system, or by the caller's wish.
#[derive(Debug, Default)]
pub(super) struct Refused {
    direct: AtomicBool,
    dsync: AtomicBool,
}

impl Refused {
    pub(super) fn new(direct: bool, dsync: bool) -> Self {
        Self { direct: AtomicBool::new(direct), dsync: AtomicBool::new(dsync) }
    }

    fn may_direct(&self) -> bool {
        cfg!(all(target_os = "linux", not(logwood_portable))) && !self.direct.load(Ordering::Relaxed)
    }

    fn may_dsync(&self) -> bool {
        cfg!(all(target_os = "linux", not(logwood_portable))) && !self.dsync.load(Ordering::Relaxed)
    }

    pub(super) fn describe(&self, backend: &'static str) -> DiskDescription {
        let durable_write = match (self.may_direct(), self.may_dsync()) {
            (true, true) => "direct+dsync",
            (false, true) => "dsync",
            (_, false) if cfg!(target_vendor = "apple") => "F_FULLFSYNC",
            (_, false) => "fdatasync",
        };
        DiskDescription { backend, durable_write, direct_reads: self.may_direct() }
    }
}

/// An open file of the plain disk.
#[derive(Debug)]
pub(crate) struct PlainFile {
    path: PathBuf,
    ordinary: OwnedFd,
    /// A second descriptor of the same inode that goes past the page cache.
    direct: Option<OwnedFd>,
    /// What this file's file system refuses.
    refused: Refused,
    /// What any file of this disk was refused last, for the description.
    #[cfg_attr(
        any(not(target_os = "linux"), logwood_portable),
        expect(dead_code, reason = "only Linux has ways of writing that a file system may refuse")
    )]
    seen: Arc<Refused>,
}

impl PlainFile {
    pub(super) fn open(
        path: &Path,
        flags: OFlags,
        operation: &'static str,
        refused: Refused,
        seen: Arc<Refused>,
    ) -> Result<Self> {
        let ordinary = open_descriptor(path, flags).map_err(|error| failed(operation, path, error))?;
        let found = rustix::fs::fstat(&ordinary).map_err(|error| failed(operation, path, error))?;
        if FileType::from_raw_mode(found.st_mode) != FileType::RegularFile {
            let refused = io::Error::new(io::ErrorKind::InvalidInput, "not a regular file");
            return Err(Error::io(operation, path, refused));
        }
        let direct = if refused.may_direct() { open_direct(path, flags, &found) } else { None };
        seen.direct.store(direct.is_none(), Ordering::Relaxed);
        Ok(Self { path: path.to_owned(), ordinary, direct, refused, seen })
    }

    /// The descriptor that reads and writes through the page cache.
    #[cfg(all(target_os = "linux", not(logwood_portable)))]
    pub(crate) fn ordinary(&self) -> &OwnedFd {
        &self.ordinary
    }

    fn failed(&self, operation: &'static str, error: Errno) -> Error {
        failed(operation, &self.path, error)
    }

    fn ended_early(&self) -> Error {
        Error::io("read", &self.path, io::ErrorKind::UnexpectedEof.into())
    }

    /// Reads past the cache, or answers `None` when the file system does not want that after all.
    fn read_direct(&self, direct: &OwnedFd, offset: u64, length: usize) -> Result<Option<AlignedBuffer>> {
        let lead = usize::try_from(offset % BLOCK_BYTES as u64).expect("less than a block");
        let start = offset - lead as u64;
        let wanted = lead + length;
        let mut buffer = AlignedBuffer::zeroed(wanted.next_multiple_of(BLOCK_BYTES));
        let mut filled = 0;
        while filled < wanted {
            match rustix::io::pread(direct, &mut buffer[filled..], start + filled as u64) {
                Ok(0) => return Err(self.ended_early()),
                Ok(count) => {
                    filled += count;
                    // Behind a length that is no multiple of a block lies the end of the file: nothing more can be
                    // read, and a read from there would not be aligned.
                    if !count.is_multiple_of(BLOCK_BYTES) && filled < wanted {
                        return Err(self.ended_early());
                    }
                }
                Err(Errno::INTR) => {}
                Err(Errno::INVAL | Errno::OPNOTSUPP) => return Ok(None),
                Err(error) => return Err(self.failed("read", error)),
            }
        }
        if lead > 0 {
            buffer.copy_within(lead..wanted, 0);
        }
        buffer.truncate(length);
        Ok(Some(buffer))
    }

    /// Writes with `RWF_DSYNC` on one descriptor. Answers how many bytes are durable; fewer than asked only when the
    /// kernel refuses to go on in this way.
    #[cfg(all(target_os = "linux", not(logwood_portable)))]
    fn write_dsync(&self, descriptor: &OwnedFd, offset: u64, bytes: &[u8]) -> Result<usize> {
        use rustix::io::ReadWriteFlags;
        let direct = !std::ptr::eq(descriptor, &raw const self.ordinary);
        let mut written = 0;
        while written < bytes.len() {
            let rest = [io::IoSlice::new(&bytes[written..])];
            let place = offset + written as u64;
            match rustix::io::pwritev2(descriptor, &rest, place, ReadWriteFlags::DSYNC) {
                Ok(0) => return Err(self.failed("write", Errno::IO)),
                Ok(count) => {
                    written += count;
                    if direct && !written.is_multiple_of(BLOCK_BYTES) {
                        return Ok(written);
                    }
                }
                Err(Errno::INTR) => {}
                Err(Errno::INVAL) if direct => {
                    self.refused.direct.store(true, Ordering::Relaxed);
                    self.seen.direct.store(true, Ordering::Relaxed);
                    return Ok(written);
                }
                Err(Errno::OPNOTSUPP | Errno::NOSYS) => {
                    self.refused.dsync.store(true, Ordering::Relaxed);
                    self.seen.dsync.store(true, Ordering::Relaxed);
                    return Ok(written);
                }
                Err(error) => return Err(self.failed("write", error)),
            }
        }
        Ok(written)
    }

    #[cfg(any(not(target_os = "linux"), logwood_portable))]
    fn write_dsync(&self, _descriptor: &OwnedFd, _offset: u64, _bytes: &[u8]) -> Result<usize> {
        Ok(0)
    }

    /// Writes zeros from the file's end up to `size`, for file systems that cannot reserve room.
    fn write_zeros(&self, size: u64) -> Result<()> {
        let zeros = vec![0u8; ZEROS_BYTES];
        let mut end = self.size()?;
        while end < size {
            let count = usize::try_from(size - end).map_or(ZEROS_BYTES, |rest| rest.min(ZEROS_BYTES));
            self.write_at(end, &zeros[..count])?;
            end += count as u64;
        }
        Ok(())
    }
}

impl File for PlainFile {
    fn path(&self) -> &Path {
        &self.path
    }

    fn size(&self) -> Result<u64> {
        let found = rustix::fs::fstat(&self.ordinary).map_err(|error| self.failed("size", error))?;
        u64::try_from(found.st_size).map_err(|_| self.failed("size", Errno::OVERFLOW))
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        let mut filled = 0;
        while filled < buffer.len() {
            match rustix::io::pread(&self.ordinary, &mut buffer[filled..], offset + filled as u64) {
                Ok(0) => return Err(self.ended_early()),
                Ok(count) => filled += count,
                Err(Errno::INTR) => {}
                Err(error) => return Err(self.failed("read", error)),
            }
        }
        Ok(())
    }

    fn read_past_cache(&self, offset: u64, length: usize) -> Result<(AlignedBuffer, ReadSource)> {
        // A length from damaged bytes must not allocate: nothing is read that the file does not hold.
        if offset.checked_add(length as u64).is_none_or(|end| end > u64::MAX / 2)
            || offset + length as u64 > self.size()?
        {
            return Err(self.ended_early());
        }
        if let Some(direct) = &self.direct
            && let Some(buffer) = self.read_direct(direct, offset, length)?
        {
            return Ok((buffer, ReadSource::Device));
        }
        let mut buffer = AlignedBuffer::zeroed(length);
        self.read_at(offset, &mut buffer)?;
        Ok((buffer, ReadSource::PerhapsCache))
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<()> {
        let mut written = 0;
        while written < bytes.len() {
            match rustix::io::pwrite(&self.ordinary, &bytes[written..], offset + written as u64) {
                Ok(0) => return Err(self.failed("write", Errno::IO)),
                Ok(count) => written += count,
                Err(Errno::INTR) => {}
                Err(error) => return Err(self.failed("write", error)),
            }
        }
        Ok(())
    }

    fn write_durable(&self, offset: u64, bytes: &[u8]) -> Result<()> {
        let aligned = offset.is_multiple_of(BLOCK_BYTES as u64)
            && bytes.len().is_multiple_of(BLOCK_BYTES)
            && bytes.as_ptr().addr().is_multiple_of(BLOCK_BYTES);
        let mut written = 0;
        if let Some(direct) = &self.direct
            && aligned
            && self.refused.may_direct()
            && self.refused.may_dsync()
        {
            written = self.write_dsync(direct, offset, bytes)?;
        }
        if written < bytes.len() && self.refused.may_dsync() {
            written += self.write_dsync(&self.ordinary, offset + written as u64, &bytes[written..])?;
        }
        if written < bytes.len() {
            self.write_at(offset + written as u64, &bytes[written..])?;
            self.sync()?;
        }
        Ok(())
    }

    fn sync(&self) -> Result<()> {
        // An interrupted sync is not retried: what it left undone cannot be told.
        sync_descriptor(&self.ordinary, false).map_err(|error| self.failed("sync", error))
    }

    #[cfg(all(target_os = "linux", not(logwood_portable)))]
    fn allocate(&self, size: u64) -> Result<()> {
        use rustix::fs::FallocateFlags;
        if size == 0 {
            return Ok(());
        }
        loop {
            match rustix::fs::fallocate(&self.ordinary, FallocateFlags::empty(), 0, size) {
                Ok(()) => return Ok(()),
                Err(Errno::INTR) => {}
                Err(Errno::OPNOTSUPP | Errno::NOSYS) => return self.write_zeros(size),
                Err(error) => return Err(self.failed("allocate", error)),
            }
        }
    }

    #[cfg(any(not(target_os = "linux"), logwood_portable))]
    fn allocate(&self, size: u64) -> Result<()> {
        self.write_zeros(size)
    }

    fn set_size(&self, size: u64) -> Result<()> {
        loop {
            match rustix::fs::ftruncate(&self.ordinary, size) {
                Ok(()) => return Ok(()),
                Err(Errno::INTR) => {}
                Err(error) => return Err(self.failed("set_size", error)),
            }
        }
    }
}

/// Opens one descriptor.
fn open_descriptor(path: &Path, flags: OFlags) -> rustix::io::Result<OwnedFd> {
    // A pipe or device put in a file's place must not make the open wait.
    let flags = flags | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let mode = Mode::RUSR | Mode::WUSR;
    #[cfg(all(target_os = "linux", not(logwood_portable)))]
    if !flags.intersects(OFlags::RDWR) {
        // Reading changes nothing, not even the time of the last access. Only a file's owner may ask for that.
        match rustix::fs::openat(CWD, path, flags | OFlags::NOATIME, mode) {
            Err(Errno::PERM) => {}
            answer => return answer,
        }
    }
    rustix::fs::openat(CWD, path, flags, mode)
}

/// Opens the direct descriptor of the file that `expected` describes, if the file system has such a thing.
#[cfg(all(target_os = "linux", not(logwood_portable)))]
fn open_direct(path: &Path, flags: OFlags, expected: &rustix::fs::Stat) -> Option<OwnedFd> {
    let flags = (flags - OFlags::CREATE - OFlags::EXCL) | OFlags::DIRECT;
    let descriptor = open_descriptor(path, flags).ok()?;
    // Another file may have taken the name in between.
    let found = rustix::fs::fstat(&descriptor).ok()?;
    ((found.st_dev, found.st_ino) == (expected.st_dev, expected.st_ino)).then_some(descriptor)
}

#[cfg(any(not(target_os = "linux"), logwood_portable))]
fn open_direct(_path: &Path, _flags: OFlags, _expected: &rustix::fs::Stat) -> Option<OwnedFd> {
    None
}

/// Makes what was written through any descriptor of a file durable; `metadata` too, for directories.
pub(super) fn sync_descriptor(descriptor: impl AsFd, metadata: bool) -> rustix::io::Result<()> {
    #[cfg(target_vendor = "apple")]
    {
        let _ = metadata;
        rustix::fs::fcntl_fullfsync(descriptor)
    }
    #[cfg(not(target_vendor = "apple"))]
    if metadata { rustix::fs::fsync(descriptor) } else { rustix::fs::fdatasync(descriptor) }
}
