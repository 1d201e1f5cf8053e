//! Page segments for a directory that is being filled: linked where that is possible, else copied, and proven by their
//! hash before they get their names.

use std::path::{Path, PathBuf};

use logwood_base::disk::Disk;
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
        match hash_of(self.disk(), &path) {
            Ok(found) if found == (segment.hash, u64::from(segment.bytes)) => return Ok(true),
            Ok(_) => self.disk().remove(&path)?,
            Err(Error::NotFound { .. }) => {}
            Err(error) => return Err(error),
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
        if self.disk().link(&standing, &path).is_err() {
            return match self.copy_segment(segment, &standing) {
                Err(Error::Corruption(_) | Error::NotFound { .. }) => Ok(false),
                copied => copied.map(|()| true),
            };
        }
        // The earlier backup may have rotted since: then the source has a better one.
        if !planted(Bug::TrustSegmentNumbers)
            && hash_of(self.disk(), &path)? != (segment.hash, u64::from(segment.bytes))
        {
            self.disk().remove(&path)?;
            return Ok(false);
        }
        Ok(true)
    }

    /// Adds a page segment whose bytes come in pieces.
    ///
    /// # Errors
    /// `DiskFull`, `Io`.
    pub(crate) fn write_segment(&self, segment: &SegmentEntry) -> Result<SegmentWriter<'_>> {
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

    fn copy_segment(&self, segment: &SegmentEntry, source: &Path) -> Result<()> {
        let mut writer = self.write_segment(segment)?;
        let copied = for_each_piece(self.disk(), source, |piece| writer.write(piece));
        copied.and_then(|()| writer.finish()).map_err(|error| match error {
            // What was read is what is damaged.
            Error::Corruption(damage) => Corruption { path: source.to_owned(), ..*damage }.into(),
            other => other,
        })
    }

    fn segment_path(&self, number: SegmentNo) -> PathBuf {
        self.work.pages().join(file_name(number))
    }
}

/// Writes a page segment that comes in pieces.
pub(crate) struct SegmentWriter<'a> {
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
    pub(crate) fn write(&mut self, piece: &[u8]) -> Result<()> {
        self.hasher.update(piece);
        self.file.write_at(self.at, piece)?;
        self.at += piece.len() as u64;
        Ok(())
    }

    /// Gives the segment its name, when it is what the manifest says.
    ///
    /// # Errors
    /// `Corruption` when it is not; `DiskFull`, `Io`.
    pub(crate) fn finish(self) -> Result<()> {
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
