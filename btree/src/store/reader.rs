//! Reading pages, sealed or not, and proving them.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use logwood_base::codec::CodecError;
use logwood_base::disk::ReadRequest;
use logwood_base::sync::RwLock;
use logwood_base::{Access, AlignedBuffer, Corruption, Error, File, Result, SegmentNo};

use super::{PageLabel, Store};
use crate::format::page::{self, Page, PageFault, PageRef};
use crate::format::segment::{TRAILER_BYTES, Trailer, read_index};

/// How much several pages are read with at once.
const RUN_BYTES_MAX: u64 = 1 << 20;

/// How far apart pages may stand that are read at once: to read this much costs less than to ask the device once more.
const GAP_BYTES_MAX: u64 = 32 << 10;

/// Page segments that are open for reading, the most recently used ones.
#[derive(Debug)]
pub(super) struct OpenFiles {
    files: RwLock<HashMap<SegmentNo, OpenFile>>,
    max: usize,
    clock: AtomicU64,
}

#[derive(Debug)]
struct OpenFile {
    file: Arc<dyn File>,
    used: AtomicU64,
}

impl OpenFiles {
    pub(super) fn new(max: usize) -> Self {
        Self { files: RwLock::default(), max: max.max(1), clock: AtomicU64::new(0) }
    }

    fn get(&self, number: SegmentNo) -> Option<Arc<dyn File>> {
        let files = self.files.read();
        let open = files.get(&number)?;
        open.used.store(self.clock.fetch_add(1, Ordering::Relaxed), Ordering::Relaxed);
        Some(Arc::clone(&open.file))
    }

    pub(super) fn insert(&self, number: SegmentNo, file: Arc<dyn File>) {
        let used = AtomicU64::new(self.clock.fetch_add(1, Ordering::Relaxed));
        let mut files = self.files.write();
        if files.len() >= self.max
            && let Some(oldest) = files
                .iter()
                .min_by_key(|(number, open)| (open.used.load(Ordering::Relaxed), **number))
                .map(|(number, _)| *number)
        {
            files.remove(&oldest);
        }
        files.insert(number, OpenFile { file, used });
    }

    pub(super) fn remove(&self, number: SegmentNo) {
        self.files.write().remove(&number);
    }
}

impl Store {
    /// Reads a page and proves it against the reference.
    ///
    /// The caller holds a [`Pin`](super::Pin) taken before it learnt the address, or knows otherwise that a tree
    /// still reaches the page: a segment's file may go when neither is the case.
    ///
    /// # Errors
    /// `Corruption` naming file, offset and check when the bytes are not the page that was meant, or the file is
    /// missing or too short; `Io`.
    pub fn read(&self, page: &PageRef) -> Result<Page> {
        if let Some(stored) = self.read_open(page) {
            return self.judge(page, stored);
        }
        let mut stored = vec![0; page.bytes as usize];
        let result = self
            .file(page.addr.segment)
            .and_then(|file| file.read_at(u64::from(page.addr.offset), &mut stored));
        self.explain(page, result)?;
        self.judge(page, stored)
    }

    /// Reads a page past the page cache where that is possible: what a scrub calls. Pages of segments that are not
    /// sealed are read from memory.
    ///
    /// # Errors
    /// As [`Store::read`]; but a page that the device does not give back is `Corruption`, too.
    pub fn read_from_device(&self, page: &PageRef) -> Result<Page> {
        if let Some(stored) = self.read_open(page) {
            return self.judge(page, stored);
        }
        let result = self
            .file(page.addr.segment)
            .and_then(|file| file.read_past_cache(u64::from(page.addr.offset), page.bytes as usize));
        let (stored, _) = self
            .explain(page, result)
            .map_err(|error| error.unreadable(u64::from(page.addr.offset)).map_or(error, Into::into))?;
        self.judge(page, stored.to_vec())
    }

    /// Reads several pages with as many reads in flight as the disk can, and proves each by itself: damage to one
    /// does not hide the others.
    #[must_use]
    pub fn read_many(&self, pages: &[PageRef]) -> Vec<Result<Page>> {
        let mut results: Vec<Option<Result<Page>>> = pages.iter().map(|_| None).collect();
        let mut by_segment: BTreeMap<SegmentNo, Vec<usize>> = BTreeMap::new();
        for (n, page) in pages.iter().enumerate() {
            match self.read_open(page) {
                Some(stored) => results[n] = Some(self.judge(page, stored)),
                None => by_segment.entry(page.addr.segment).or_default().push(n),
            }
        }
        for (number, wanted) in by_segment {
            let mut buffers: Vec<Vec<u8>> =
                wanted.iter().map(|&n| vec![0; pages[n].bytes as usize]).collect();
            let mut requests: Vec<ReadRequest<'_>> = wanted
                .iter()
                .zip(&mut buffers)
                .map(|(&n, buffer)| ReadRequest { offset: u64::from(pages[n].addr.offset), buffer })
                .collect();
            let read = self.file(number).and_then(|file| file.read_many(&mut requests));
            for (n, stored) in wanted.into_iter().zip(buffers) {
                // One failure leaves all buffers undefined: ask again one by one, so that each gets its own answer.
                let result = if read.is_ok() { self.judge(&pages[n], stored) } else { self.read(&pages[n]) };
                results[n] = Some(result);
            }
        }
        results.into_iter().map(|result| result.expect("each page was read above")).collect()
    }

    /// As [`Store::read_from_device`], for several pages: those that stand close to each other come with one read. Each is
    /// proven by itself, and damage to one does not hide the others.
    #[must_use]
    pub fn read_many_from_device(&self, pages: &[PageRef]) -> Vec<Result<Page>> {
        let mut results: Vec<Option<Result<Page>>> = pages.iter().map(|_| None).collect();
        let mut order: Vec<usize> = (0..pages.len()).collect();
        order.sort_unstable_by_key(|&n| (pages[n].addr.segment, pages[n].addr.offset));
        let mut rest = &order[..];
        while let Some(first) = rest.first() {
            let from = u64::from(pages[*first].addr.offset);
            let (count, length) = run_at_start(pages, rest);
            let (run, behind) = rest.split_at(count);
            rest = behind;
            let read = (count > 1).then(|| self.read_run(pages[*first].addr.segment, from, length)).flatten();
            for &n in run {
                let page = &pages[n];
                results[n] = Some(match &read {
                    Some(bytes) => {
                        let start = (u64::from(page.addr.offset) - from) as usize;
                        self.judge(page, bytes[start..start + page.bytes as usize].to_vec())
                    }
                    None => self.read_from_device(page),
                });
            }
        }
        results.into_iter().map(|result| result.expect("each page was read above")).collect()
    }

    /// What stands in one stretch of a sealed segment. `None` when that cannot be read as a whole: each page is to be read by
    /// itself then, to get an answer of its own.
    fn read_run(&self, number: SegmentNo, offset: u64, length: usize) -> Option<AlignedBuffer> {
        if self.inner.images.read().contains_key(&number) {
            return None;
        }
        let read = self.file(number).and_then(|file| file.read_past_cache(offset, length));
        read.ok().map(|(bytes, _)| bytes)
    }

    /// What stands in a sealed segment, from its index: for the cleaner and for healing. Of one that died since, too, while a
    /// [`Pin`](super::Pin) from when it was alive is held.
    ///
    /// # Errors
    /// `Corruption` when trailer or index do not verify; `Io`; `NotFound` for a segment that is not sealed, or gone.
    pub fn pages_of(&self, number: SegmentNo) -> Result<Vec<PageLabel>> {
        let sealed = {
            let state = self.inner.state.lock();
            let alive = state.segments.get(&number).and_then(|segment| segment.sealed);
            alive.or_else(|| state.dead.get(&number).map(|dead| dead.sealed))
        };
        let Some(sealed) = sealed else {
            return Err(Error::NotFound { what: "sealed page segment", name: number.to_string() });
        };
        let path = self.segment_path(number);
        let file = self.file(number)?;
        let mut trailer = [0; TRAILER_BYTES];
        let at = u64::from(sealed.bytes) - TRAILER_BYTES as u64;
        file.read_at(at, &mut trailer)?;
        let damaged = |at: u64, error: CodecError| structure_damage(&path, at, error);
        let trailer =
            Trailer::decode(&trailer, number, u64::from(sealed.bytes)).map_err(|e| damaged(at, e))?;
        let at = u64::from(trailer.index_offset);
        let mut index = vec![0; trailer.index_bytes as usize];
        file.read_at(at, &mut index)?;
        trailer.check_index(number, &index).map_err(|e| damaged(at, e))?;
        let mut pages = Vec::new();
        read_index(number, &index, trailer.index_offset, |page, label| {
            pages.push(PageLabel {
                page: *page,
                kind: label.kind,
                level: label.level,
                keyspace: label.keyspace,
                low_key: label.low_key.to_vec(),
            });
        })
        .map_err(|e| damaged(at, e))?;
        Ok(pages)
    }

    /// The stored bytes of a page whose segment is not sealed.
    fn read_open(&self, page: &PageRef) -> Option<Vec<u8>> {
        let image = self.inner.images.read().get(&page.addr.segment).map(Arc::clone)?;
        let bytes = image.bytes.read();
        let start = page.addr.offset as usize;
        // A reference that points outside is judged by the checksum of nothing.
        Some(bytes.get(start..start.saturating_add(page.bytes as usize)).unwrap_or_default().to_vec())
    }

    fn file(&self, number: SegmentNo) -> Result<Arc<dyn File>> {
        if let Some(file) = self.inner.files.get(number) {
            return Ok(file);
        }
        let file = self.inner.disk.open(&self.segment_path(number), Access::Read)?;
        self.inner.files.insert(number, Arc::clone(&file));
        Ok(file)
    }

    /// A missing file and a read beyond the end are damage, with evidence, unless the directory may be another's by now;
    /// other failures stay what they are.
    fn explain<T>(&self, page: &PageRef, result: Result<T>) -> Result<T> {
        let offset = u64::from(page.addr.offset);
        let damage = |found: &str| {
            if self.is_closed() {
                return Err(Error::Closed);
            }
            let path = self.segment_path(page.addr.segment);
            let expected = format!("a page of {} bytes", page.bytes);
            Err(Corruption::new(&path, offset, "page is there", expected, found).into())
        };
        match result {
            Err(Error::NotFound { .. }) => damage("no such file"),
            Err(Error::Io { ref source, .. }) if source.kind() == io::ErrorKind::UnexpectedEof => {
                damage("the file ends before")
            }
            other => other,
        }
    }

    fn judge(&self, page: &PageRef, stored: Vec<u8>) -> Result<Page> {
        let path = || self.segment_path(page.addr.segment);
        page::open(page, stored).map_err(|fault| match fault {
            PageFault::Checksum { expected, found } => {
                let (expected, found) = (format!("{expected:08x}"), format!("{found:08x}"));
                let offset = u64::from(page.addr.offset);
                Corruption::new(&path(), offset, "page checksum", expected, found).into()
            }
            PageFault::Structure(error) => structure_damage(&path(), u64::from(page.addr.offset), error),
        })
    }
}

/// How many of the first pages of `order`, which is sorted by place, are to be read at once, and how many bytes that is.
fn run_at_start(pages: &[PageRef], order: &[usize]) -> (usize, usize) {
    let end_of = |page: &PageRef| u64::from(page.addr.offset) + u64::from(page.bytes);
    let first = &pages[order[0]];
    let from = u64::from(first.addr.offset);
    let (mut count, mut end) = (1, end_of(first));
    for page in order[1..].iter().map(|&n| &pages[n]) {
        let longer = end.max(end_of(page));
        let joins = page.addr.segment == first.addr.segment
            && u64::from(page.addr.offset) <= end + GAP_BYTES_MAX
            && longer - from <= RUN_BYTES_MAX;
        if !joins {
            break;
        }
        (count, end) = (count + 1, longer);
    }
    (count, (end - from) as usize)
}

/// Evidence that what stands at `offset` verifies and yet makes no sense, or does not verify as a whole.
fn structure_damage(path: &std::path::Path, offset: u64, error: CodecError) -> Error {
    Corruption::new(path, offset, "page structure", "a well-formed one", error).into()
}
