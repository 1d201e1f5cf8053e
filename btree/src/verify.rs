//! Verification of the files: every byte of every page segment and of every copy of a manifest.
//!
//! This is the part that needs no tree. It hunts bytes that rotted at rest, files that are missing, shortened or
//! swapped, and pages that verify but make no sense. What only the trees can tell (that parents refer to the right
//! pages, that counts and digests are those of the records) is the walk's part.
//!
//! Steps, for each page segment that a readable manifest names, past the page cache where that is possible:
//! 1. Length, header, trailer, index.
//! 2. Each page against the index's checksum; its envelope; its structure; its keys against its low key.
//! 3. Zeros between index and trailer, and the SHA-256 of the whole file against the manifest.
//!
//! Memory stays bounded: a window of one MiB, one page, and the index of one segment. Nothing is changed. What is
//! merely left over from a crash (files that no manifest names, copies that were being written) is a note.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use logwood_base::codec::CodecError;
use logwood_base::{Access, Corruption, Disk, Error, File, Generation, KeyspaceId, Result, SegmentNo};

use crate::format::delta::DeltaReader;
use crate::format::inner::InnerReader;
use crate::format::leaf::LeafReader;
use crate::format::manifest::{ContentHash, Manifest, SegmentEntry};
use crate::format::page::{self, PageKind, PageRef, checksum_at};
use crate::format::segment::{
    HEADER_BYTES, HeaderFault, Label, SegmentHeader, TRAILER_BYTES, Trailer, VERSION, read_index,
};
use crate::manifest::{self, ManifestFile};
use crate::store::{Store, manifest_dir, pages_dir, segment_files, segment_path};

mod stream;

use stream::ByteStream;

/// The keys that damage takes away.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KeyRange {
    /// The least of them.
    pub low: Vec<u8>,
    /// The first one beyond, when it is known.
    pub high: Option<Vec<u8>>,
}

/// Damage that a verification found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Damage {
    /// File, offset, check, expected, found.
    pub corruption: Corruption,
    /// Whose records are affected, when that is known.
    pub keyspace: Option<KeyspaceId>,
    /// Which keys are affected, when that is known.
    pub range: Option<KeyRange>,
}

impl Damage {
    /// Damage of which nothing is known but the place.
    #[must_use]
    pub const fn at(corruption: Corruption) -> Self {
        Self { corruption, keyspace: None, range: None }
    }

    /// Damage to a page: names keyspace and keys in the evidence too.
    #[must_use]
    pub fn of_page(corruption: Corruption, keyspace: KeyspaceId, range: KeyRange) -> Self {
        let low = range.low.escape_ascii();
        let affects = match &range.high {
            Some(high) => format!("keyspace {keyspace}, keys from {low} to before {}", high.escape_ascii()),
            None => format!("keyspace {keyspace}, keys from {low} on"),
        };
        let corruption = corruption.affecting(affects);
        Self { corruption, keyspace: Some(keyspace), range: Some(range) }
    }
}

/// How far a verification has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct FilesProgress {
    /// Bytes read.
    pub bytes_done: u64,
    /// Bytes that there are to read.
    pub bytes_total: u64,
}

/// What a verification of the files has read.
#[derive(Clone, Debug, Default)]
pub struct FilesReport {
    /// Page segments and copies of manifests.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Pages.
    pub pages: u64,
    /// How many damages were named.
    pub damages: u64,
    /// What a person should know and is no damage.
    pub notes: Vec<String>,
    /// The newest readable generation.
    pub manifest: Option<Arc<Manifest>>,
}

impl Store {
    /// Verifies the files of the newest durable generation, beside readers and writers. Its files stay while this
    /// runs.
    ///
    /// # Errors
    /// `Io`; `UnsupportedFormat`. Damage is handed to `on_damage`.
    pub fn verify_files(
        &self,
        on_damage: &mut dyn FnMut(Damage),
        progress: &mut dyn FnMut(FilesProgress),
    ) -> Result<FilesReport> {
        let manifest = self.manifest();
        let (pages, manifests) = self.dirs();
        let mut verifier = Verifier::new(self.disk(), pages, on_damage, progress);
        verifier.generation(manifests, manifest.generation)?;
        verifier.segments([&*manifest])?;
        verifier.report.manifest = Some(manifest);
        Ok(verifier.report)
    }
}

/// Verifies every file under `dir` that the trees keep, without opening a store: every generation of the manifest,
/// and every segment that one of them names. Changes nothing.
///
/// # Errors
/// `Io`; `UnsupportedFormat`. Damage is handed to `on_damage`.
pub fn verify_files(
    disk: &dyn Disk,
    dir: &Path,
    on_damage: &mut dyn FnMut(Damage),
    progress: &mut dyn FnMut(FilesProgress),
) -> Result<FilesReport> {
    let (pages, manifests) = (pages_dir(dir), manifest_dir(dir));
    let mut verifier = Verifier::new(disk, &pages, on_damage, progress);
    let listed = match manifest::list(disk, &manifests) {
        Err(Error::NotFound { .. }) => BTreeMap::new(),
        other => other?,
    };
    let mut readable = Vec::new();
    for (generation, names) in listed.iter().rev() {
        if names.contains(&ManifestFile::Unfinished(*generation)) {
            verifier.note(format!("generation {generation} of the manifest was being written"));
        }
        if names.contains(&ManifestFile::Copy(*generation)) {
            readable.extend(verifier.generation(&manifests, *generation)?);
        }
    }
    if readable.is_empty() {
        let expected = "a readable generation of the manifest";
        verifier.damage(Damage::at(Corruption::new(&manifests, 0, "manifest is there", expected, "none")));
    }
    verifier.segments(&readable)?;
    verifier.surplus(&readable)?;
    verifier.report.manifest = readable.into_iter().next().map(Arc::new);
    Ok(verifier.report)
}

struct Verifier<'a> {
    disk: &'a dyn Disk,
    pages: &'a Path,
    on_damage: &'a mut dyn FnMut(Damage),
    on_progress: &'a mut dyn FnMut(FilesProgress),
    progress: FilesProgress,
    report: FilesReport,
}

impl<'a> Verifier<'a> {
    fn new(
        disk: &'a dyn Disk,
        pages: &'a Path,
        on_damage: &'a mut dyn FnMut(Damage),
        on_progress: &'a mut dyn FnMut(FilesProgress),
    ) -> Self {
        let (progress, report) = (FilesProgress::default(), FilesReport::default());
        Self { disk, pages, on_damage, on_progress, progress, report }
    }

    fn damage(&mut self, damage: Damage) {
        self.report.damages += 1;
        (self.on_damage)(damage);
    }

    fn note(&mut self, note: String) {
        self.report.notes.push(note);
    }

    /// Verifies the copies of one generation. Of a store at work, newer ones may have replaced it: they are gone then.
    fn generation(&mut self, dir: &Path, generation: Generation) -> Result<Option<Manifest>> {
        let files = manifest::read(self.disk, dir, generation)?;
        self.report.files += (files.valid + files.damage.len()) as u64;
        self.report.bytes += files.bytes;
        if files.manifest.is_none()
            && let Some(newer) = files.newer
        {
            return Err(newer);
        }
        if files.valid == 1 && files.damage.is_empty() {
            self.note(format!("generation {generation} of the manifest has one copy only"));
        }
        files.damage.into_iter().for_each(|damage| self.damage(Damage::at(damage)));
        Ok(files.manifest)
    }

    /// Verifies every segment that one of the manifests names, once.
    fn segments<'m>(&mut self, manifests: impl IntoIterator<Item = &'m Manifest>) -> Result<()> {
        let mut named: BTreeMap<SegmentNo, (&SegmentEntry, Generation)> = BTreeMap::new();
        for manifest in manifests {
            for segment in &manifest.segments {
                let (first, of) = *named.entry(segment.number).or_insert((segment, manifest.generation));
                if first.hash != segment.hash || first.bytes != segment.bytes {
                    let path = segment_path(self.pages, segment.number);
                    let expected = format!("what generation {of} names");
                    let found = format!("something else in generation {}", manifest.generation);
                    self.damage(Damage::at(Corruption::new(&path, 0, "content hash", expected, found)));
                }
            }
        }
        self.progress.bytes_total = named.values().map(|(segment, _)| u64::from(segment.bytes)).sum();
        (self.on_progress)(self.progress);
        named.values().try_for_each(|(segment, _)| self.segment(segment))
    }

    /// Notes files that no manifest names.
    fn surplus(&mut self, manifests: &[Manifest]) -> Result<()> {
        let named: BTreeSet<SegmentNo> =
            manifests.iter().flat_map(|manifest| manifest.segments.iter().map(|s| s.number)).collect();
        for (number, bytes) in segment_files(self.disk, self.pages)? {
            if !named.contains(&number) {
                self.note(format!("page segment {number} of {bytes} bytes is named by no manifest"));
            }
        }
        Ok(())
    }

    /// Verifies one segment. Damage that only the content hash sees is named as such.
    fn segment(&mut self, entry: &SegmentEntry) -> Result<()> {
        let path = segment_path(self.pages, entry.number);
        let damages = self.report.damages;
        self.report.files += 1;
        let file = match self.disk.open(&path, Access::Read) {
            Ok(file) => file,
            Err(Error::NotFound { .. }) => {
                let expected = format!("{} bytes, named by a manifest", entry.bytes);
                let missing = Corruption::new(&path, 0, "page segment is there", expected, "no such file");
                self.damage(Damage::at(missing));
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        let size = file.size()?;
        if size != u64::from(entry.bytes) {
            let expected = format!("{} bytes", entry.bytes);
            let wrong = Corruption::new(&path, 0, "page segment length", expected, format!("{size} bytes"));
            self.damage(Damage::at(wrong));
        }
        let index = self.index(&*file, entry.number, size)?;
        let mut stream = ByteStream::new(file, size);
        self.header(&path, stream.take(HEADER_BYTES.min(size as usize))?, entry.number)?;
        if let Some((trailer, index)) = index {
            self.pages(&path, &mut stream, entry.number, trailer, &index)?;
            let zeros_at = trailer.index_offset as u64 + index.len() as u64;
            stream.skip_to(zeros_at)?;
            let zeros = stream.take((size - TRAILER_BYTES as u64 - zeros_at) as usize)?;
            if let Some(at) = zeros.iter().position(|byte| *byte != 0) {
                let offset = zeros_at + at as u64;
                let found = format!("{:02x}", zeros[at]);
                self.damage(Damage::at(Corruption::new(&path, offset, "segment padding", "00", found)));
            }
        }
        let hash = stream.finish()?;
        if hash != entry.hash && self.report.damages == damages {
            let (expected, found) = (hex(&entry.hash), hex(&hash));
            self.damage(Damage::at(Corruption::new(&path, 0, "content hash", expected, found)));
        }
        self.report.bytes += size;
        self.progress.bytes_done += u64::from(entry.bytes);
        (self.on_progress)(self.progress);
        Ok(())
    }

    fn header(&mut self, path: &Path, bytes: &[u8], number: SegmentNo) -> Result<()> {
        let found = match SegmentHeader::decode(bytes) {
            Ok(header) if header.number == number => return Ok(()),
            Ok(header) => format!("the header of segment {}", header.number),
            Err(HeaderFault::Newer(needed)) => {
                return Err(Error::UnsupportedFormat { path: path.to_owned(), needed, supported: VERSION });
            }
            Err(HeaderFault::Damaged(error)) => error.to_string(),
        };
        let expected = format!("the header of segment {number}");
        self.damage(Damage::at(Corruption::new(path, 0, "segment header", expected, found)));
        Ok(())
    }

    /// Trailer and index, when both verify.
    fn index(&mut self, file: &dyn File, number: SegmentNo, size: u64) -> Result<Option<(Trailer, Vec<u8>)>> {
        let Some(at) = size.checked_sub(TRAILER_BYTES as u64).filter(|at| *at >= HEADER_BYTES as u64) else {
            return Ok(None);
        };
        let (bytes, _) = file.read_past_cache(at, TRAILER_BYTES)?;
        let trailer = match Trailer::decode(&bytes, number, size) {
            Ok(trailer) => trailer,
            Err(error) => {
                self.damage(structure(file.path(), at, "segment trailer", error));
                return Ok(None);
            }
        };
        let at = u64::from(trailer.index_offset);
        let (bytes, _) = file.read_past_cache(at, trailer.index_bytes as usize)?;
        match trailer.check_index(number, &bytes) {
            Ok(()) => Ok(Some((trailer, bytes.to_vec()))),
            Err(error) => {
                self.damage(structure(file.path(), at, "segment index", error));
                Ok(None)
            }
        }
    }

    fn pages(
        &mut self,
        path: &Path,
        stream: &mut ByteStream,
        number: SegmentNo,
        trailer: Trailer,
        index: &[u8],
    ) -> Result<()> {
        let mut failure = None;
        let mut count = 0;
        let read = read_index(number, index, trailer.index_offset, |page, label| {
            count += 1;
            if failure.is_none() {
                match stream.take(page.bytes as usize) {
                    Ok(stored) => self.page(path, page, label, stored),
                    Err(error) => failure = Some(error),
                }
            }
        });
        if let Some(error) = failure {
            return Err(error);
        }
        let error = read.err().or_else(|| {
            (count != trailer.count).then_some(CodecError { offset: index.len(), what: "number of pages" })
        });
        if let Some(error) = error {
            self.damage(structure(path, u64::from(trailer.index_offset), "segment index", error));
        }
        Ok(())
    }

    fn page(&mut self, path: &Path, page: &PageRef, label: &Label<'_>, stored: &[u8]) {
        self.report.pages += 1;
        let at = u64::from(page.addr.offset);
        let found = checksum_at(page.addr, stored);
        let corruption = if found == page.crc {
            match check_page(label, stored) {
                Ok(()) => return,
                Err(error) => Corruption::new(path, at, "page structure", "a well-formed one", error),
            }
        } else {
            let (expected, found) = (format!("{:08x}", page.crc), format!("{found:08x}"));
            Corruption::new(path, at, "page checksum", expected, found)
        };
        let range = KeyRange { low: label.low_key.to_vec(), high: None };
        self.damage(Damage::of_page(corruption, label.keyspace, range));
    }
}

/// Judges a page that verifies: is it what its label says, and does its body hold together?
///
/// # Errors
/// The first rule that is broken.
pub fn check_page(label: &Label<'_>, stored: &[u8]) -> Result<(), CodecError> {
    let page = page::open_unproven(stored.to_vec())?;
    let broken = |what| Err(CodecError { offset: 0, what });
    if page.kind() != label.kind {
        return broken("page kind of the index");
    }
    let first_key = match page.kind() {
        PageKind::Leaf => {
            let leaf = LeafReader::new(page.body())?;
            leaf.check()?;
            leaf.iter().next()?.map(|(key, _)| key.to_vec())
        }
        PageKind::Delta => {
            let delta = DeltaReader::new(page.body())?;
            delta.check()?;
            delta.iter().next()?.map(|(key, _)| key.to_vec())
        }
        PageKind::Inner => {
            let inner = InnerReader::new(page.body())?;
            inner.check()?;
            if inner.level() != label.level {
                return broken("level of the index");
            }
            None
        }
        PageKind::Overflow => None,
    };
    if first_key.is_some_and(|key| key[..] < *label.low_key) {
        broken("low key of the index")
    } else {
        Ok(())
    }
}

fn structure(path: &Path, offset: u64, check: &'static str, error: CodecError) -> Damage {
    Damage::at(Corruption::new(path, offset, check, "a valid one", error))
}

fn hex(hash: &ContentHash) -> String {
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}
