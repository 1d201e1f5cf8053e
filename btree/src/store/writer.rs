//! Appending pages to streams, and sealing segments.
//!
//! Steps of a segment:
//! 1. The first page draws a number. The image grows in memory: header, pages.
//! 2. Whenever a whole piece ([`StoreOptions::write_bytes`](super::StoreOptions)) has gathered, it is hashed and
//!    written, at a block boundary, from aligned memory. The file is created with the first piece.
//! 3. Sealing appends index and trailer, writes the rest, syncs the file, then the directory. Only now is the
//!    segment sealed, and only now does its image leave memory.
//!
//! Any failure on the way abandons the segment: after a failed sync nobody knows what the disk holds, and the page
//! cache, asked again, would say that all is well.

use std::sync::Arc;

use logwood_base::codec::Writer;
use logwood_base::limits::{PAGE_BYTES_MAX, PAGE_SEGMENT_BYTES_MAX};
use logwood_base::sync::{RwLock, atomic::Ordering};
use logwood_base::{AlignedBuffer, Error, File, PageAddr, Result, SegmentNo};
use sha2::{Digest as _, Sha256};

#[cfg(test)]
use super::planted::{Bug, planted};
use super::{Abandoned, Sealed, SegmentState, SegmentSummary, Store, Stream};
use crate::format::page::{self, PageRef, checksum_at};
use crate::format::segment::{HEADER_BYTES, IndexBuilder, Label, PageLabel, SegmentHeader, read_index};

/// The bytes of a segment that is not sealed, for readers.
#[derive(Debug)]
pub(super) struct Image {
    pub(super) bytes: RwLock<AlignedBuffer>,
}

/// The open segment of a stream.
#[derive(Debug)]
pub(super) struct SegmentWriter {
    number: SegmentNo,
    image: Arc<Image>,
    index: IndexBuilder,
    pages_end: u32,
    file: Option<Arc<dyn File>>,
    /// Bytes at the image's start that were hashed and written.
    written: usize,
    hasher: Sha256,
}

impl Store {
    /// Appends a page to a stream's open segment. It can be read at once through the answer; it survives a crash
    /// when a manifest whose trees reach it has been committed after [`Store::seal_all`].
    ///
    /// # Errors
    /// `DiskFull`, `Io`: the page was not taken, and the stream's segment may have been abandoned: see
    /// [`Store::abandoned`]. The next call begins a new one.
    ///
    /// # Panics
    /// When the body is longer than a page may be.
    pub fn append(&self, stream: Stream, label: &Label<'_>, body: &[u8]) -> Result<PageRef> {
        self.check_writable()?;
        let mut slot = self.inner.writers[stream as usize].lock();
        if slot.as_ref().is_some_and(|writer| self.is_full(writer)) {
            let writer = slot.take().expect("looked at above");
            self.seal(vec![writer])?;
        }
        let writer = slot.get_or_insert_with(|| self.begin(stream));
        let page = writer.append(label, body, self.inner.options.compression);
        self.inner.open_bytes.fetch_add(page.bytes as usize, Ordering::Relaxed);
        {
            let mut state = self.inner.state.lock();
            let segment = state.segments.get_mut(&writer.number).expect("open segments are known");
            segment.live_bytes += u64::from(page.bytes);
        }
        let piece = self.inner.options.write_bytes;
        while writer.unwritten() >= piece {
            if let Err(cause) = self.write_piece(writer, piece) {
                // The page stands in the image, but its owner is told that it was not taken, and never asks for it.
                let writer = slot.take().expect("it was there");
                self.abandon(writer, &cause);
                return Err(cause);
            }
        }
        Ok(page)
    }

    /// Finds out whether the disk has room for so many bytes of pages: it is taken, and given back. Somebody else may have it
    /// when they are written. Where the file system cannot reserve room, taking it writes so many zeros.
    ///
    /// # Errors
    /// `DiskFull`, `Io`, `Closed`. The store is as it was.
    pub fn require_room(&self, bytes: u64) -> Result<()> {
        let _one_at_a_time = self.inner.looking_for_room.lock();
        self.check_writable()?;
        let number = {
            let mut state = self.inner.state.lock();
            let number = state.next_segment;
            state.next_segment = number.next();
            number
        };
        // Cut off by a crash, it is a segment that no manifest names: opening throws it away.
        let path = self.segment_path(number);
        let file = self.inner.disk.create(&path)?;
        let room = file.allocate(bytes);
        drop(file);
        self.inner.disk.remove(&path)?;
        room
    }

    /// Seals every open segment: index, trailer, sync, and one sync of the directory. Pages appended before are on
    /// disk when this returns; those appended meanwhile may or may not be.
    ///
    /// # Errors
    /// `DiskFull`, `Io`: the segments that could not be sealed have been abandoned.
    pub fn seal_all(&self) -> Result<Vec<SegmentSummary>> {
        // Appending goes on, into new segments, while these are synced.
        let writers: Vec<_> = self.inner.writers.iter().filter_map(|slot| slot.lock().take()).collect();
        if writers.is_empty() { Ok(Vec::new()) } else { self.seal(writers) }
    }

    /// Whether a segment is to be sealed before more is appended: it has reached its size, or all open ones together
    /// take more memory than they may, and this one has its share of that. (One of them always has.)
    fn is_full(&self, writer: &SegmentWriter) -> bool {
        let options = &self.inner.options;
        let bytes = writer.pages_end as usize + writer.index.bytes().len();
        let crowded = self.inner.open_bytes.load(Ordering::Relaxed) >= options.open_bytes_max;
        bytes >= options.segment_bytes as usize
            || crowded && bytes >= options.open_bytes_max / Stream::ALL.len()
    }

    /// Begins a segment under a new number. Nothing is created on disk yet.
    fn begin(&self, stream: Stream) -> SegmentWriter {
        let mut state = self.inner.state.lock();
        let number = state.next_segment;
        state.next_segment = number.next();
        state.segments.insert(number, SegmentState { stream, live_bytes: 0, sealed: None });
        let header = SegmentHeader { number, database: self.inner.identity.database, stream };
        // Room for the page that passes the target and for the index: growing would copy the whole image. What is not
        // used costs address space only, and what was used is the system's again when the segment is sealed.
        let options = &self.inner.options;
        let room = (options.segment_bytes as usize).min(options.open_bytes_max) + 2 * PAGE_BYTES_MAX;
        let mut bytes = AlignedBuffer::mapped(room);
        bytes.extend_from_slice(&header.encode());
        let image = Arc::new(Image { bytes: RwLock::new(bytes) });
        self.inner.images.write().insert(number, Arc::clone(&image));
        SegmentWriter {
            number,
            image,
            index: IndexBuilder::default(),
            pages_end: HEADER_BYTES as u32,
            file: None,
            written: 0,
            hasher: Sha256::new(),
        }
    }

    /// Writes the next `length` bytes of the image.
    fn write_piece(&self, writer: &mut SegmentWriter, length: usize) -> Result<()> {
        if writer.file.is_none() {
            writer.file = Some(self.inner.disk.create(&self.segment_path(writer.number))?);
        }
        let file = writer.file.as_ref().expect("created above");
        let bytes = writer.image.bytes.read();
        let piece = &bytes[writer.written..writer.written + length];
        file.write_at(writer.written as u64, piece)?;
        writer.hasher.update(piece);
        writer.written += length;
        Ok(())
    }

    /// Completes, writes and syncs segments, then their names. Each is sealed or abandoned when this returns.
    fn seal(&self, writers: Vec<SegmentWriter>) -> Result<Vec<SegmentSummary>> {
        let mut failure: Option<Error> = None;
        // All are written before the first is synced: one commit of the file system's journal then covers them all.
        let written = self.each(writers, &mut failure, |writer| self.complete(writer));
        let mut synced = self.each(written, &mut failure, |writer| sync(writer));
        #[cfg(test)]
        let names = if planted(Bug::NoPagesDirectorySync) {
            Ok(())
        } else {
            self.inner.disk.sync_dir(&self.inner.pages_dir)
        };
        #[cfg(not(test))]
        let names = self.inner.disk.sync_dir(&self.inner.pages_dir);
        if let Err(cause) = names {
            synced.drain(..).for_each(|writer| self.abandon(writer, &cause));
            failure.get_or_insert(cause);
        }
        let summaries = synced.into_iter().map(|writer| self.sealed(writer)).collect();
        match failure {
            None => Ok(summaries),
            Some(cause) => Err(cause),
        }
    }

    /// Does a step for each segment, and answers those that it succeeded for. The others are abandoned.
    fn each(
        &self,
        writers: Vec<SegmentWriter>,
        failure: &mut Option<Error>,
        mut step: impl FnMut(&mut SegmentWriter) -> Result<()>,
    ) -> Vec<SegmentWriter> {
        let mut succeeded = Vec::with_capacity(writers.len());
        for mut writer in writers {
            match step(&mut writer) {
                Ok(()) => succeeded.push(writer),
                Err(cause) => {
                    self.abandon(writer, &cause);
                    failure.get_or_insert(cause);
                }
            }
        }
        succeeded
    }

    /// Index, trailer, and the last bytes.
    fn complete(&self, writer: &mut SegmentWriter) -> Result<()> {
        writer.index.finish(writer.number, &mut writer.image.bytes.write());
        while writer.unwritten() > 0 {
            let piece = writer.unwritten().min(self.inner.options.write_bytes);
            self.write_piece(writer, piece)?;
        }
        Ok(())
    }

    /// The segment stands on disk whole, with its name: readers go to the file from here on.
    fn sealed(&self, writer: SegmentWriter) -> SegmentSummary {
        let number = writer.number;
        self.inner.open_bytes.fetch_sub(writer.page_bytes(), Ordering::Relaxed);
        let hash = writer.hasher.finalize().into();
        let bytes = writer.written as u32;
        {
            let mut state = self.inner.state.lock();
            let segment = state.segments.get_mut(&number).expect("open segments are known");
            segment.sealed = Some(Sealed { bytes, hash });
            if segment.live_bytes == 0 {
                state.bury(number);
            }
        }
        if let Some(file) = writer.file {
            self.inner.files.insert(number, file);
        }
        self.inner.images.write().remove(&number);
        SegmentSummary { number, bytes, hash }
    }

    /// Gives a segment up. Its image stays for readers until [`Store::forget`]; its file goes at once, since it
    /// may be a full disk that has to be relieved.
    fn abandon(&self, mut writer: SegmentWriter, cause: &Error) {
        let number = writer.number;
        self.inner.open_bytes.fetch_sub(writer.page_bytes(), Ordering::Relaxed);
        if writer.file.take().is_some() {
            // When this fails, the file is a left-over without a manifest, which the next opening throws away.
            let _ = self.inner.disk.remove(&self.segment_path(number));
        }
        let mut pages = Vec::new();
        let read = read_index(number, writer.index.bytes(), writer.pages_end, |page, label| {
            pages.push(PageLabel {
                page: *page,
                kind: label.kind,
                level: label.level,
                keyspace: label.keyspace,
                low_key: label.low_key.to_vec(),
            });
        });
        assert!(read.is_ok(), "an index of our own is read");
        let mut state = self.inner.state.lock();
        state.abandoned.insert(number, Abandoned { number, cause: cause.clone(), pages });
    }

    /// Segments whose writing failed and whose pages must be written again, oldest first. Empty in good times.
    #[must_use]
    pub fn abandoned(&self) -> Vec<Abandoned> {
        self.inner.state.lock().abandoned.values().cloned().collect()
    }

    /// Drops an abandoned segment from memory. Call it when the content of all its pages has been appended again,
    /// or is not needed: nothing can be read from it any more.
    pub fn forget(&self, number: SegmentNo) {
        let mut state = self.inner.state.lock();
        if state.abandoned.remove(&number).is_some() {
            state.segments.remove(&number);
            state.forgotten.insert(number);
            drop(state);
            self.inner.images.write().remove(&number);
        }
    }
}

/// Makes a completed segment durable.
fn sync(writer: &SegmentWriter) -> Result<()> {
    let file = writer.file.as_ref().expect("something was written");
    #[cfg(test)]
    {
        if planted(Bug::ManifestBeforeSegmentSync) {
            return Ok(());
        }
        if planted(Bug::FailedSyncRetried) {
            return file.sync().or_else(|_| file.sync());
        }
    }
    file.sync()
}

impl SegmentWriter {
    fn page_bytes(&self) -> usize {
        self.pages_end as usize - HEADER_BYTES
    }

    fn unwritten(&self) -> usize {
        self.image.bytes.read().len() - self.written
    }

    fn append(&mut self, label: &Label<'_>, body: &[u8], compression: page::Compression) -> PageRef {
        let mut image = self.image.bytes.write();
        let start = image.len();
        debug_assert!(start <= PAGE_SEGMENT_BYTES_MAX as usize, "segments are sealed in time");
        let addr = PageAddr { segment: self.number, offset: start as u32 };
        let bytes = page::seal(label.kind, body, compression, &mut Appending(&mut image));
        let page = PageRef { addr, bytes, crc: checksum_at(addr, &image[start..]) };
        self.index.push(&page, label);
        self.pages_end = image.len() as u32;
        page
    }
}

/// Lets a page be written straight into the image.
struct Appending<'a>(&'a mut AlignedBuffer);

impl Writer for Appending<'_> {
    fn put_bytes(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }
}
