//! One simulated file: what the page cache shows, what the device holds, and what lies between.
//!
//! 1. Every sector is *clean* (cache and device agree), *pending* (written, not synced) or *dropped* (the device lost
//!    it, and the kernel believes that it is clean: a failed sync, a lost write).
//! 2. A power cut gives each pending sector one of the versions that were written since the durable one, or the
//!    durable one; a dropped sector has what the device holds.
//! 3. The size has versions of its own, independent of the bytes: a file can be long and hold zeros, or short although
//!    sectors behind its end were written, which are gone then.
//! 4. A sync makes pending sectors clean. It does not touch dropped ones, and says OK.

use std::collections::{BTreeMap, BTreeSet};

use fastrand::Rng;

use super::content::{BLOCK_SECTORS, Content, Sector};
use crate::limits::SECTOR_BYTES;

/// Older versions kept of one pending sector. A test that rewrites a sector without end must not eat all memory.
const OLDER_VERSIONS_MAX: usize = 8;

#[derive(Clone, Debug, Default)]
pub(super) struct Inode {
    cache: Content,
    device: Content,
    /// Pending sectors with their older versions; the newest is in the cache.
    pending: BTreeMap<u64, Vec<Sector>>,
    /// Sizes since the durable one, which is the device's; the last is the cache's.
    sizes: Vec<u64>,
    dropped: BTreeSet<u64>,
    /// When it was written to last, by the disk's clock.
    pub(super) modified_ms: u64,
}

/// How likely a sector, a size or a name survives a power cut. Drawn once per cut, so that everything, nothing and all
/// between is met.
#[derive(Clone, Copy)]
pub(super) struct Survival(f64);

impl Survival {
    pub(super) fn draw(rng: &mut Rng) -> Self {
        Self([0.0, 0.1, 0.5, 0.5, 0.9, 1.0][rng.usize(..6)])
    }

    pub(super) fn survives(self, rng: &mut Rng) -> bool {
        rng.f64() < self.0
    }
}

/// The sectors that a range of bytes touches.
fn sectors(offset: u64, length: usize) -> std::ops::Range<u64> {
    let sector = SECTOR_BYTES as u64;
    if length == 0 { 0..0 } else { offset / sector..(offset + length as u64).div_ceil(sector) }
}

impl Inode {
    pub(super) fn size(&self) -> u64 {
        self.cache.size()
    }

    pub(super) fn read(&self, offset: u64, buffer: &mut [u8]) {
        self.cache.read(offset, buffer);
    }

    /// What a read past the cache gives: the kernel first writes pending sectors out, then asks the device.
    pub(super) fn read_device(&self, offset: u64, buffer: &mut [u8]) {
        self.cache.read(offset, buffer);
        let range = sectors(offset, buffer.len());
        let end = offset + buffer.len() as u64;
        for sector in self.dropped.range(range) {
            let bytes = self.device.sector(*sector);
            let start = sector * SECTOR_BYTES as u64;
            let (from, to) = (start.max(offset), (start + SECTOR_BYTES as u64).min(end));
            let inside = usize::try_from(from - start).expect("inside a sector");
            let count = usize::try_from(to - from).expect("inside a sector");
            let target = usize::try_from(from - offset).expect("inside the buffer");
            buffer[target..target + count].copy_from_slice(&bytes[inside..inside + count]);
        }
    }

    /// A write into the page cache.
    pub(super) fn write(&mut self, offset: u64, bytes: &[u8]) {
        for sector in sectors(offset, bytes.len()) {
            self.make_pending(sector);
        }
        self.cache.write(offset, bytes);
        self.note_size();
    }

    /// A durable write: its own sectors, and the size as far as they reach.
    pub(super) fn write_durable(&mut self, offset: u64, bytes: &[u8]) {
        self.cache.write(offset, bytes);
        for sector in sectors(offset, bytes.len()) {
            self.pending.remove(&sector);
            self.dropped.remove(&sector);
        }
        self.copy_to_device(sectors(offset, bytes.len()));
        self.make_size_durable(offset + bytes.len() as u64);
    }

    /// A durable write that failed: each sector on the device is new or old, nobody knows which, and the cache shows
    /// the new one.
    pub(super) fn write_durable_failing(&mut self, offset: u64, bytes: &[u8], rng: &mut Rng) {
        self.write(offset, bytes);
        let survival = Survival::draw(rng);
        for sector in sectors(offset, bytes.len()) {
            self.settle_blindly(sector, survival, rng);
        }
    }

    /// A write that the device acknowledged and never stored. A durable one went past the cache, which then shows the
    /// old bytes as well.
    pub(super) fn write_lost(&mut self, offset: u64, bytes: &[u8], durable: bool) {
        let end = offset + bytes.len() as u64;
        if durable {
            if end > self.size() {
                self.cache.set_size(end);
                self.note_size();
            }
            self.make_size_durable(end);
            return;
        }
        for sector in sectors(offset, bytes.len()) {
            self.pending.remove(&sector);
            self.dropped.insert(sector);
        }
        self.cache.write(offset, bytes);
        self.note_size();
    }

    pub(super) fn sync(&mut self) {
        let pending = std::mem::take(&mut self.pending);
        let mut sectors = pending.into_keys().peekable();
        // Whole runs at once, so that whole blocks are shared instead of copied.
        while let Some(first) = sectors.next() {
            let mut end = first + 1;
            while sectors.next_if_eq(&end).is_some() {
                end += 1;
            }
            self.copy_to_device(first..end);
        }
        self.sizes.clear();
        self.device.set_size(self.cache.size());
    }

    /// A sync that failed: each pending sector was stored or not, and the kernel calls all of them clean. The size
    /// stays what it was on the device; a later sync may store it.
    pub(super) fn sync_failing(&mut self, rng: &mut Rng) {
        let survival = Survival::draw(rng);
        let pending: Vec<u64> = self.pending.keys().copied().collect();
        for sector in pending {
            self.settle_blindly(sector, survival, rng);
        }
    }

    pub(super) fn set_size(&mut self, size: u64) {
        if size < self.cache.size() {
            // What is cut off reads as zeros if the file grows again, and the device may or may not know of it.
            for sector in self.cache.stored_sectors_from(size) {
                self.make_pending(sector);
            }
        }
        self.cache.set_size(size);
        self.note_size();
    }

    /// A power cut: settles everything that was not durable.
    pub(super) fn crash(&mut self, survival: Survival, rng: &mut Rng) {
        let pending = std::mem::take(&mut self.pending);
        let sizes = std::mem::take(&mut self.sizes);
        if pending.is_empty() && sizes.is_empty() && self.dropped.is_empty() {
            return;
        }
        for (sector, older) in pending {
            if survival.survives(rng) {
                // Mostly the newest version, at times one that was overwritten before the power went.
                let version = rng.usize(..2 * older.len() + 1);
                let bytes = older.get(version).copied().unwrap_or_else(|| self.cache.sector(sector));
                self.device.set_sector(sector, &bytes);
            }
        }
        if !sizes.is_empty() && survival.survives(rng) {
            let size = sizes[rng.usize(..sizes.len())];
            self.device.set_size(size);
        }
        self.device.trim();
        self.dropped.clear();
        self.cache = self.device.clone();
    }

    /// The tester's own hand: these bytes are in the file, cached and stored.
    pub(super) fn put(&mut self, bytes: &[u8]) {
        *self = Self::default();
        self.write_durable(0, bytes);
    }

    /// Flips bits at rest. The cache forgets what it held of that sector.
    pub(super) fn flip(&mut self, offset: u64, mask: u8) {
        let mut byte = [0];
        self.cache.read(offset, &mut byte);
        self.write_durable(offset, &[byte[0] ^ mask]);
    }

    pub(super) fn cut(&mut self, size: u64) {
        self.set_size(size);
        self.sync();
    }

    /// Whether a power cut would leave the file as it is.
    pub(super) fn is_settled(&self) -> bool {
        self.pending.is_empty() && self.sizes.is_empty() && self.dropped.is_empty()
    }

    /// Remembers the sector's present version, before it changes.
    fn make_pending(&mut self, sector: u64) {
        if self.dropped.remove(&sector) {
            // The device holds something older than the cache, and that is what a power cut may bring back.
            self.pending.insert(sector, Vec::new());
        } else if let Some(older) = self.pending.get_mut(&sector) {
            if older.len() == OLDER_VERSIONS_MAX {
                older.remove(OLDER_VERSIONS_MAX / 2);
            }
            older.push(self.cache.sector(sector));
        } else {
            self.pending.insert(sector, Vec::new());
        }
    }

    /// Stores a pending sector or drops it, in silence.
    fn settle_blindly(&mut self, sector: u64, survival: Survival, rng: &mut Rng) {
        self.pending.remove(&sector);
        if survival.survives(rng) {
            self.copy_to_device(sector..sector + 1);
        } else {
            self.dropped.insert(sector);
        }
    }

    /// Stores sectors as the cache has them, none of which is pending or dropped any more.
    fn copy_to_device(&mut self, range: std::ops::Range<u64>) {
        let mut sector = range.start;
        while sector < range.end {
            if sector.is_multiple_of(BLOCK_SECTORS) && sector + BLOCK_SECTORS <= range.end {
                self.device.share_block(sector / BLOCK_SECTORS, &self.cache);
                sector += BLOCK_SECTORS;
            } else {
                let bytes = self.cache.sector(sector);
                self.device.set_sector(sector, &bytes);
                sector += 1;
            }
        }
    }

    fn note_size(&mut self) {
        let newest = self.sizes.last().copied().unwrap_or_else(|| self.device.size());
        if newest != self.cache.size() {
            if self.sizes.len() == OLDER_VERSIONS_MAX {
                self.sizes.remove(OLDER_VERSIONS_MAX / 2);
            }
            self.sizes.push(self.cache.size());
        }
    }

    /// The size on the device covers `end`. A pending cut goes with it: file systems write the inode as a whole.
    fn make_size_durable(&mut self, end: u64) {
        if self.sizes.iter().any(|size| *size < self.device.size()) {
            self.device.set_size(self.cache.size());
            self.sizes.clear();
            return;
        }
        if end > self.device.size() {
            // Sectors behind the old end that were dropped or pending are not on the device and read as zeros.
            self.device.set_size(end);
        }
        let durable = self.device.size();
        self.sizes.retain(|size| *size > durable);
    }
}
