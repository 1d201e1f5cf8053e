//! One segment file of the open log.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use logwood_base::checksum::Seed;
use logwood_base::limits::BLOCK_BYTES;
use logwood_base::{AlignedBuffer, Disk, Error, File, LogId, Result, SegmentNo};

use crate::format::header::SegmentHeader;
use crate::format::{BLOCK, file_name, segment_seed};
use crate::map::{MapSlot, SegmentMap};

/// Zeros are written in pieces of this size. The page cache keeps each as one large folio, and a small write into a
/// folio costs ext4 a walk over all of its blocks: so pieces are not made as large as they could be.
const ZERO_BYTES: usize = 32 << 10;

/// Zeros are written in pieces of this size, each durable before the next, while there is time.
const PATIENT_BYTES: usize = 64 << 10;

/// A segment with a valid header.
pub(crate) struct Segment {
    pub(crate) number: SegmentNo,
    /// Size of the file.
    pub(crate) bytes: u32,
    pub(crate) file: Arc<dyn File>,
    seed: Seed,
    map: MapSlot,
}

impl Segment {
    /// Wraps an open file.
    pub(crate) fn new(log: LogId, number: SegmentNo, bytes: u32, file: Arc<dyn File>) -> Self {
        Self { number, bytes, file, seed: segment_seed(log, number), map: MapSlot::default() }
    }

    /// What the checksum of a batch at `offset` is bound to.
    pub(crate) fn seed_at(&self, offset: u32) -> Seed {
        self.seed.clone().u64(u64::from(offset))
    }

    /// The file mapped into memory, where the disk is a real one and the segment is complete.
    pub(crate) fn map(&self, disk: &dyn Disk) -> Option<Arc<SegmentMap>> {
        self.map.get(disk, self.file.path(), self.bytes)
    }

    /// Whether somebody still reads it through a map.
    pub(crate) fn is_mapped(&self) -> bool {
        self.map.in_use()
    }
}

impl fmt::Debug for Segment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Segment").field("number", &self.number).field("bytes", &self.bytes).finish()
    }
}

/// A file that waits to become a segment: its name and all its blocks are durable.
#[derive(Debug)]
pub(crate) struct Prepared {
    pub(crate) number: SegmentNo,
    pub(crate) bytes: u32,
    pub(crate) file: Arc<dyn File>,
}

/// Path of a segment's file.
pub(crate) fn path_of(dir: &Path, segment: SegmentNo) -> PathBuf {
    dir.join(file_name(segment))
}

/// Creates a segment's file and writes all of it with zeros, so that later writes change neither its size nor where
/// its blocks lie. File and name are durable on return. What was made is taken away again when that fails.
///
/// `has_time` is asked before each piece: as long as it says so, the file is written little by little, and what others
/// write and sync meanwhile does not wait for all of it.
pub(crate) fn create_written(
    disk: &dyn Disk,
    dir: &Path,
    number: SegmentNo,
    bytes: u32,
    sync_name: bool,
    has_time: &dyn Fn() -> bool,
) -> Result<Prepared> {
    let path = path_of(dir, number);
    let file = disk.create(&path)?;
    let written = write_zeros(&*file, bytes, has_time).and_then(|()| file.sync());
    let named = written.and_then(|()| if sync_name { disk.sync_dir(dir) } else { Ok(()) });
    match named {
        Ok(()) => Ok(Prepared { number, bytes, file }),
        Err(error) => {
            drop(file);
            // The file has no header; if it cannot be removed now, the next opening does.
            let _ = disk.remove(&path);
            Err(error)
        }
    }
}

/// Gives the file of a segment that is no longer needed a new number. Its old bytes never verify under it.
pub(crate) fn recycle(disk: &dyn Disk, dir: &Path, old: &Segment, number: SegmentNo) -> Result<Prepared> {
    let path = path_of(dir, number);
    disk.rename(old.file.path(), &path)?;
    disk.sync_dir(dir)?;
    let file = disk.open(&path, logwood_base::Access::ReadWrite)?;
    Ok(Prepared { number, bytes: old.bytes, file })
}

/// Writes a header to the start of its file, durably.
pub(crate) fn write_header(file: &dyn File, header: &SegmentHeader) -> Result<u32> {
    let (bytes, crc) = header.encode();
    if bytes.len() + 3 * BLOCK_BYTES > header.segment_bytes as usize {
        return Err(Error::Internal("a segment has no room behind its header".to_owned()));
    }
    file.write_durable(0, &bytes)?;
    Ok(crc)
}

fn write_zeros(file: &dyn File, bytes: u32, has_time: &dyn Fn() -> bool) -> Result<()> {
    let zeros = AlignedBuffer::zeroed(PATIENT_BYTES.min(bytes as usize));
    let mut offset = 0;
    let mut allocated = false;
    while offset < bytes {
        let left = (bytes - offset) as usize;
        if has_time() {
            if !allocated {
                file.allocate(u64::from(bytes))?;
                allocated = true;
            }
            let piece = &zeros[..zeros.len().min(left)];
            file.write_durable(u64::from(offset), piece)?;
            offset += piece.len() as u32;
        } else {
            let piece = &zeros[..ZERO_BYTES.min(zeros.len()).min(left)];
            file.write_at(u64::from(offset), piece)?;
            offset += piece.len() as u32;
        }
    }
    debug_assert!(offset.is_multiple_of(BLOCK));
    Ok(())
}
