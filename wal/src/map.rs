//! Sealed segments mapped into memory, for readers that catch up on long stretches of the log.
//!
//! Never used by recovery or a scrub: a file that was cut short underneath a map is a SIGBUS, and what the page cache
//! shows proves nothing about the disk. A segment whose map is in use is never recycled under a new number; it is
//! unlinked, which leaves the map intact.
#![allow(unsafe_code)]

use std::path::Path;
use std::sync::{Arc, Weak};

use logwood_base::Disk;
use parking_lot::Mutex;

/// A whole segment file in memory, read only.
#[derive(Debug)]
pub(crate) struct SegmentMap(memmap2::Mmap);

impl SegmentMap {
    /// The file's bytes.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }
}

/// The map of one segment while somebody uses it.
#[derive(Debug, Default)]
pub(crate) struct MapSlot(Mutex<Weak<SegmentMap>>);

impl MapSlot {
    /// The map in use, or a new one. `None` where the disk has no files to map or the mapping fails: the caller
    /// then reads.
    pub(crate) fn get(&self, disk: &dyn Disk, path: &Path, bytes: u32) -> Option<Arc<SegmentMap>> {
        let mut slot = self.0.lock();
        if let Some(map) = slot.upgrade() {
            return Some(map);
        }
        if disk.describe().backend == "simulated" {
            return None;
        }
        let map = Arc::new(SegmentMap(map_file(path, bytes)?));
        *slot = Arc::downgrade(&map);
        Some(map)
    }

    /// Whether a map is in use.
    pub(crate) fn in_use(&self) -> bool {
        self.0.lock().strong_count() > 0
    }
}

#[allow(clippy::disallowed_methods, reason = "a map needs the system's own file, which no trait can lend")]
fn map_file(path: &Path, bytes: u32) -> Option<memmap2::Mmap> {
    let file = std::fs::File::open(path).ok()?;
    // A shorter file would fault where its bytes are missing.
    if file.metadata().ok()?.len() < u64::from(bytes) {
        return None;
    }
    // SAFETY: the file is a sealed segment of a log whose directory this process has locked: nobody writes to it,
    // it is never recycled while `in_use` says so, and its length was checked just now.
    unsafe { memmap2::Mmap::map(&file) }.ok()
}
