//! Page segments for a directory that is being filled: linked where that is possible, else copied, and proven by their
//! hash before they get their names.

use std::path::{Path, PathBuf};

use logwood_base::disk::Disk;
#[cfg(feature = "archive")]
use logwood_base::{Access, AlignedBuffer};
use logwood_base::{Corruption, Error, File, Result, SegmentNo};
use logwood_btree::store::{ContentHash, ContentHasher, SegmentEntry};

use super::{Seed, for_each_piece, remove_if_there, unfinished};
use crate::planted::{Bug, planted};

/// How a page segment came into the directory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Added {
    /// It was there, from an earlier backup or an attempt that was not finished.
    Kept,
    /// As another name of the same file.
    Linked,
    /// Byte by byte.
    Copied,
}

/// The name of a page segment's file.
pub(crate) fn file_name(number: SegmentNo) -> String {
    format!("{:020}.pages", number.get())
}

impl Seed {
    /// Adds a page segment that stands in a file which does not change meanwhile. A link shares the file with the
    /// source: bytes that rot there rot in both.
    ///
    /// # Errors
    /// `Corruption` when the source is not what the manifest says; `DiskFull`, `Io`.
    pub(crate) fn add_segment(&self, segment: &SegmentEntry, source: &Path, link: bool) -> Result<Added> {
        if self.has_segment(segment)? {
            return Ok(Added::Kept);
        }
        let path = self.segment_path(segment.number);
        if link && self.disk().link(source, &path).is_ok() {
            return Ok(Added::Linked);
        }
        self.copy_segment(segment, source)?;
        Ok(Added::Copied)
    }

    /// Whether a page segment is there already: from an attempt that was not finished, or from the earlier backup, when
    /// number and content are the same.
    pub(crate) fn has_segment(&self, segment: &SegmentEntry) -> Result<bool> {
        let path = self.segment_path(segment.number);
        if self.is_whole(segment, &path)? {
            return Ok(true);
        }
        let earlier = self.standing.as_ref().and_then(|manifest| manifest.segment(segment.number));
        let same = |earlier: &&SegmentEntry| {
            planted(Bug::TrustSegmentNumbers)
                || (earlier.hash, earlier.bytes) == (segment.hash, segment.bytes)
        };
        if earlier.filter(same).is_none() {
            return Ok(false);
        }
        let standing = self.target.pages().join(file_name(segment.number));
        // The earlier backup may have rotted since: then the source has a better one.
        if self.disk().link(&standing, &path).is_ok() {
            return if planted(Bug::TrustSegmentNumbers) { Ok(true) } else { self.is_whole(segment, &path) };
        }
        match self.copy_segment(segment, &standing) {
            Err(Error::Corruption(_) | Error::NotFound { .. }) => Ok(false),
            Err(error) if error.unreadable(0).is_some() => Ok(false),
            copied => copied.map(|()| true),
        }
    }

    /// Whether a file that is there is what the manifest says of a page segment. If it is not, or the device does not give it
    /// back, it goes.
    fn is_whole(&self, segment: &SegmentEntry, path: &Path) -> Result<bool> {
        match hash_of(self.disk(), path) {
            Ok(found) if found == (segment.hash, u64::from(segment.bytes)) => return Ok(true),
            Ok(_) => {}
            Err(Error::NotFound { .. }) => return Ok(false),
            Err(error) => match error.unreadable(0) {
                Some(damage) => tracing::warn!(%damage, "a page segment of an earlier backup is copied anew"),
                None => return Err(error),
            },
        }
        self.disk().remove(path)?;
        Ok(false)
    }

    /// Adds a page segment whose bytes come in pieces.
    ///
    /// # Errors
    /// `DiskFull`, `Io`.
    fn write_segment(&self, segment: &SegmentEntry) -> Result<SegmentWriter<'_>> {
        let path = self.segment_path(segment.number);
        let unfinished = unfinished(&path);
        remove_if_there(self.disk(), &unfinished)?;
        let file = self.disk().create(&unfinished)?;
        let hasher = ContentHasher::new();
        Ok(SegmentWriter {
            disk: self.disk(),
            path,
            unfinished,
            file,
            hasher,
            at: 0,
            expected: segment.clone(),
        })
    }

    /// The bytes of a page segment that an attempt left which was not finished, when they are what the manifest says.
    #[cfg(feature = "archive")]
    pub(crate) fn read_segment(&self, segment: &SegmentEntry) -> Result<Option<AlignedBuffer>> {
        let path = self.segment_path(segment.number);
        let file = match self.disk().open(&path, Access::Read) {
            Ok(file) => file,
            Err(Error::NotFound { .. }) => return Ok(None),
            Err(error) => return Err(error),
        };
        if file.size()? == u64::from(segment.bytes) {
            match file.read_past_cache(0, segment.bytes as usize) {
                Ok((bytes, _)) => {
                    let mut hasher = ContentHasher::new();
                    hasher.update(&bytes);
                    if hasher.finish() == segment.hash {
                        return Ok(Some(bytes));
                    }
                }
                Err(error) if error.unreadable(0).is_some() => {}
                Err(error) => return Err(error),
            }
        }
        drop(file);
        self.disk().remove(&path)?;
        Ok(None)
    }

    /// Adds a page segment whose bytes have the hash that the manifest asks for. `read_back`: it gets its name only when
    /// the device gives back the same bytes.
    ///
    /// # Errors
    /// `Corruption` when it gives back others; `DiskFull`, `Io`.
    #[cfg(feature = "archive")]
    pub(crate) fn add_proven(&self, segment: &SegmentEntry, bytes: &[u8], read_back: bool) -> Result<()> {
        let path = self.segment_path(segment.number);
        let unfinished = unfinished(&path);
        remove_if_there(self.disk(), &unfinished)?;
        let file = self.disk().create(&unfinished)?;
        file.write_at(0, bytes)?;
        file.sync()?;
        if read_back && !planted(Bug::NoReadBack) {
            let (found, _) = file.read_past_cache(0, bytes.len())?;
            if found[..] != *bytes {
                let at = found.iter().zip(bytes).position(|(found, written)| found != written).unwrap_or(0);
                let (expected, found) = (format!("{:02x}", bytes[at]), format!("{:02x}", found[at]));
                return Err(Corruption::new(&path, at as u64, "bytes read back", expected, found).into());
            }
        }
        self.disk().rename(&unfinished, &path)
    }

    fn copy_segment(&self, segment: &SegmentEntry, source: &Path) -> Result<()> {
        let mut writer = self.write_segment(segment)?;
        let copied = for_each_piece(self.disk(), source, |piece| writer.write(piece));
        copied.and_then(|()| writer.finish()).map_err(|error| match error {
            // What was read is what is damaged.
            Error::Corruption(damage) => Corruption { path: source.to_owned(), ..*damage }.into(),
            other => other,
        })
    }

    /// Where a page segment stands until everything is there.
    pub(crate) fn segment_path(&self, number: SegmentNo) -> PathBuf {
        self.work.pages().join(file_name(number))
    }
}

/// Writes a page segment that comes in pieces.
struct SegmentWriter<'a> {
    disk: &'a dyn Disk,
    path: PathBuf,
    unfinished: PathBuf,
    file: std::sync::Arc<dyn File>,
    hasher: ContentHasher,
    at: u64,
    expected: SegmentEntry,
}

impl SegmentWriter<'_> {
    /// The next bytes.
    fn write(&mut self, piece: &[u8]) -> Result<()> {
        self.hasher.update(piece);
        self.file.write_at(self.at, piece)?;
        self.at += piece.len() as u64;
        Ok(())
    }

    /// Gives the segment its name, when it is what the manifest says.
    ///
    /// # Errors
    /// `Corruption` when it is not; `DiskFull`, `Io`.
    fn finish(self) -> Result<()> {
        let found = (self.hasher.finish(), self.at);
        if found != (self.expected.hash, u64::from(self.expected.bytes)) {
            remove_if_there(self.disk, &self.unfinished)?;
            let expected = describe((self.expected.hash, u64::from(self.expected.bytes)));
            return Err(Corruption::new(&self.path, 0, "page segment hash", expected, describe(found)).into());
        }
        self.file.sync()?;
        self.disk.rename(&self.unfinished, &self.path)
    }
}

fn describe((hash, bytes): (ContentHash, u64)) -> String {
    let hex: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{hex} of {bytes} bytes")
}

/// Hash and length of a file, read past the cache.
fn hash_of(disk: &dyn Disk, path: &Path) -> Result<(ContentHash, u64)> {
    let (mut hasher, mut bytes) = (ContentHasher::new(), 0);
    for_each_piece(disk, path, |piece| {
        hasher.update(piece);
        bytes += piece.len() as u64;
        Ok(())
    })?;
    Ok((hasher.finish(), bytes))
}
