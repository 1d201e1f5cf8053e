//! A disk on which the page segments of a snapshot seem to stand before they were fetched.
//!
//! A segment is fetched whole when it is first opened, and proven by its SHA-256: no smaller part of it can be proven to
//! be what was archived. It is kept in a cache under its hash, which serves every snapshot that shares it. When the cache
//! passes its bound, what was opened longest ago goes, and what nobody has opened yet goes first; whoever has it open reads
//! on, and it is fetched again when it is opened again. Everything else goes to the disk below.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use logwood_base::disk::{DirEntry, DirLock, Disk, DiskDescription, File};
use logwood_base::sync::{Arc, Mutex};
use logwood_base::{Access, Error, Result};
use logwood_btree::store::{ContentHasher, SegmentEntry};

use crate::archive::layout::hex;
use crate::archive::store::Client;
use crate::seed::file_name;

/// A disk with the segments of one snapshot on it.
#[derive(Debug)]
pub(super) struct LazyDisk {
    below: Arc<dyn Disk>,
    client: Client,
    /// Where segments seem to stand.
    pages: PathBuf,
    /// Where they do stand once they were fetched.
    cache: PathBuf,
    /// By the name that they seem to have.
    segments: Mutex<BTreeMap<String, SegmentEntry>>,
    /// Held while one is fetched: whoever comes second finds it there.
    cached: Mutex<Cached>,
    cache_bytes_max: u64,
}

/// What the cache holds.
#[derive(Debug, Default)]
struct Cached {
    /// By name: length, when it was opened last (0: not by this view), and whether it has proven itself.
    files: BTreeMap<String, (u64, u64, bool)>,
    openings: u64,
}

impl Cached {
    /// The one to let go of: the one opened longest ago, but for `wanted`.
    fn oldest(&self, wanted: &str) -> Option<String> {
        let others = self.files.iter().filter(|(name, _)| *name != wanted);
        others.min_by_key(|(_, (_, opened, _))| *opened).map(|(name, _)| name.clone())
    }

    fn bytes(&self) -> u64 {
        self.files.values().map(|(bytes, ..)| bytes).sum()
    }
}

impl LazyDisk {
    /// The cache is trimmed to its bound at once.
    pub(super) fn new(
        below: Arc<dyn Disk>,
        client: Client,
        (pages, cache): (PathBuf, PathBuf),
        cache_bytes_max: u64,
        segments: &[SegmentEntry],
    ) -> Result<Self> {
        let mut cached = Cached::default();
        for file in below.list(&cache)? {
            cached.files.insert(file.name, (file.bytes, 0, false));
        }
        let named = segments.iter().map(|segment| (file_name(segment.number), segment.clone()));
        let segments = Mutex::new(named.collect());
        let disk = Self { below, client, pages, cache, segments, cached: Mutex::default(), cache_bytes_max };
        disk.trim(&mut cached, "")?;
        *disk.cached.lock() = cached;
        Ok(disk)
    }

    /// Lets go of what was opened longest ago until the cache is within its bound, or `wanted` alone is left.
    fn trim(&self, cached: &mut Cached, wanted: &str) -> Result<()> {
        while cached.bytes() > self.cache_bytes_max {
            let Some(oldest) = cached.oldest(wanted) else { break };
            match self.below.remove(&self.cache.join(&oldest)) {
                Ok(()) | Err(Error::NotFound { .. }) => {}
                Err(error) => return Err(error),
            }
            cached.files.remove(&oldest);
        }
        Ok(())
    }

    /// The segment that seems to stand at a path.
    fn segment(&self, path: &Path) -> Option<SegmentEntry> {
        let name = (path.parent() == Some(&self.pages))
            .then(|| path.file_name().and_then(OsStr::to_str))
            .flatten()?;
        self.segments.lock().get(name).cloned()
    }

    /// Opens a segment in the cache, after fetching it unless it is there, whole.
    fn open_segment(&self, segment: &SegmentEntry) -> Result<Arc<dyn File>> {
        let name = hex(&segment.hash);
        let path = self.cache.join(&name);
        let mut cached = self.cached.lock();
        let is_proven = cached.files.get(&name).is_some_and(|(.., is_proven)| *is_proven);
        if !is_proven && !self.is_whole(&path, segment)? {
            self.fetch(&path, segment)?;
        }
        cached.openings += 1;
        let opened = cached.openings;
        cached.files.insert(name.clone(), (u64::from(segment.bytes), opened, true));
        self.trim(&mut cached, &name)?;
        self.below.open(&path, Access::Read)
    }

    fn is_whole(&self, path: &Path, segment: &SegmentEntry) -> Result<bool> {
        let file = match self.below.open(path, Access::Read) {
            Ok(file) => file,
            Err(Error::NotFound { .. }) => return Ok(false),
            Err(error) => return Err(error),
        };
        if file.size()? != u64::from(segment.bytes) {
            return Ok(false);
        }
        let (bytes, _) = file.read_past_cache(0, segment.bytes as usize)?;
        let mut hasher = ContentHasher::new();
        hasher.update(&bytes);
        Ok(hasher.finish() == segment.hash)
    }

    fn fetch(&self, path: &Path, segment: &SegmentEntry) -> Result<()> {
        let body = self.client.page(&segment.hash, segment.bytes)?;
        let unfinished = path.with_extension("part");
        for left in [&unfinished, path] {
            match self.below.remove(left) {
                Ok(()) | Err(Error::NotFound { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        let file = self.below.create(&unfinished)?;
        file.write_at(0, &body)?;
        // Not synced: what does not prove itself when it is opened next is fetched again.
        self.below.rename(&unfinished, path)
    }
}

impl Disk for LazyDisk {
    fn create(&self, path: &Path) -> Result<Arc<dyn File>> {
        self.below.create(path)
    }

    fn open(&self, path: &Path, access: Access) -> Result<Arc<dyn File>> {
        match self.segment(path) {
            Some(segment) => self.open_segment(&segment),
            None => self.below.open(path, access),
        }
    }

    fn remove(&self, path: &Path) -> Result<()> {
        match self.segment(path) {
            Some(segment) => {
                self.segments.lock().remove(&file_name(segment.number));
                Ok(())
            }
            None => self.below.remove(path),
        }
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<()> {
        self.below.rename(from, to)
    }

    fn link(&self, from: &Path, to: &Path) -> Result<()> {
        self.below.link(from, to)
    }

    fn create_dir(&self, path: &Path) -> Result<()> {
        self.below.create_dir(path)
    }

    fn remove_dir(&self, path: &Path) -> Result<()> {
        self.below.remove_dir(path)
    }

    fn list(&self, path: &Path) -> Result<Vec<DirEntry>> {
        let mut entries = self.below.list(path)?;
        if path == self.pages {
            let segments = self.segments.lock();
            let seeming = segments.iter().map(|(name, segment)| DirEntry {
                name: name.clone(),
                is_dir: false,
                bytes: u64::from(segment.bytes),
            });
            entries.extend(seeming);
            entries.sort();
        }
        Ok(entries)
    }

    fn modified_ms(&self, path: &Path) -> Result<u64> {
        self.below.modified_ms(path)
    }

    fn sync_dir(&self, path: &Path) -> Result<()> {
        self.below.sync_dir(path)
    }

    fn lock(&self, directory: &Path) -> Result<Box<dyn DirLock>> {
        self.below.lock(directory)
    }

    fn describe(&self) -> DiskDescription {
        self.below.describe()
    }
}
