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
//! Memory stays bounded: a window of one MiB, one page, and the index of one segment; for whoever walks the trees
//! afterwards, what [`Derived`] may hold, and that of one segment beside it. Nothing is changed. What is merely left over
//! from a crash (files that no manifest names, copies that were being written) is a note.
//!
//! | module | what it does |
//! |---|---|
//! | `segment` | steps 1 to 3, over a file or over bytes in memory |
//! | `derived` | remembers what leaves were found to hold, for whoever walks the trees afterwards |
//! | `stream` | one pass over a file |

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use logwood_base::{Access, Corruption, Disk, Error, Generation, KeyspaceId, Result, SegmentNo};

use crate::format::manifest::{ContentHash, Manifest, SegmentEntry};
use crate::load::describe;
use crate::manifest::{self, ManifestFile};
use crate::store::{Store, manifest_dir, pages_dir, segment_files, segment_path};

mod derived;
mod segment;
mod stream;

pub use derived::{Derived, DerivedSegment};
use segment::SegmentCheck;
pub use segment::check_page;
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
        let affects = describe(keyspace, Some(&range.low), range.high.as_deref());
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
        self.verify_and_derive(None, on_damage, progress).map(|(report, _)| report)
    }

    /// As [`Store::verify_files`], and remembers what leaves hold.
    pub(crate) fn verify_and_derive(
        &self,
        derived: Option<Derived>,
        on_damage: &mut dyn FnMut(Damage),
        progress: &mut dyn FnMut(FilesProgress),
    ) -> Result<(FilesReport, Option<Derived>)> {
        let manifest = self.manifest();
        let (pages, manifests) = self.dirs();
        let mut verifier = Verifier::new(self.disk(), pages, derived, on_damage, progress);
        verifier.generation(manifests, manifest.generation)?;
        verifier.segments([&*manifest])?;
        verifier.report.manifest = Some(manifest);
        Ok((verifier.report, verifier.derived))
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
    verify_and_derive(disk, dir, None, on_damage, progress).map(|(report, _)| report)
}

/// As [`verify_files`], and remembers what leaves hold. Segments that `derived` knows already are not read again.
pub(crate) fn verify_and_derive(
    disk: &dyn Disk,
    dir: &Path,
    derived: Option<Derived>,
    on_damage: &mut dyn FnMut(Damage),
    progress: &mut dyn FnMut(FilesProgress),
) -> Result<(FilesReport, Option<Derived>)> {
    let (pages, manifests) = (pages_dir(dir), manifest_dir(dir));
    let mut verifier = Verifier::new(disk, &pages, derived, on_damage, progress);
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
    Ok((verifier.report, verifier.derived))
}

struct Verifier<'a> {
    disk: &'a dyn Disk,
    pages: &'a Path,
    on_damage: &'a mut dyn FnMut(Damage),
    on_progress: &'a mut dyn FnMut(FilesProgress),
    progress: FilesProgress,
    report: FilesReport,
    /// What leaves hold, for those who ask for it.
    derived: Option<Derived>,
}

impl<'a> Verifier<'a> {
    fn new(
        disk: &'a dyn Disk,
        pages: &'a Path,
        derived: Option<Derived>,
        on_damage: &'a mut dyn FnMut(Damage),
        on_progress: &'a mut dyn FnMut(FilesProgress),
    ) -> Self {
        let (progress, report) = (FilesProgress::default(), FilesReport::default());
        Self { disk, pages, on_damage, on_progress, progress, report, derived }
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

    /// Verifies one segment, if that was not done when its bytes were in memory.
    fn segment(&mut self, entry: &SegmentEntry) -> Result<()> {
        let path = segment_path(self.pages, entry.number);
        self.report.files += 1;
        let known = self.derived.as_ref().and_then(|derived| derived.segment(entry)).map(|known| {
            self.report.pages += known.pages;
            known.damage.clone()
        });
        if let Some(damage) = known {
            damage.into_iter().for_each(|damage| self.damage(damage));
            self.counted(entry, u64::from(entry.bytes));
            return Ok(());
        }
        let file = match self.disk.open(&path, Access::Read) {
            Ok(file) => file,
            Err(Error::NotFound { .. }) => {
                let expected = format!("{} bytes, named by a manifest", entry.bytes);
                let missing = Corruption::new(&path, 0, "page segment is there", expected, "no such file");
                self.damage(Damage::at(missing));
                return Ok(());
            }
            Err(error) => {
                self.damage(Damage::at(error.unreadable(0).ok_or(error)?));
                return Ok(());
            }
        };
        let size = file.size()?;
        let check = SegmentCheck::new(&path, entry, self.derived.is_some());
        let mut bytes = ByteStream::new(file, size);
        let found = match check.run(&mut bytes) {
            Ok(found) => found,
            // Whoever walks the trees afterwards reads its pages one by one, and names those that it took.
            Err(error) => {
                self.damage(Damage::at(error.unreadable(bytes.position()).ok_or(error)?));
                self.counted(entry, size);
                return Ok(());
            }
        };
        self.report.pages += found.pages;
        found.damage.iter().cloned().for_each(|damage| self.damage(damage));
        if let Some(derived) = &mut self.derived {
            derived.add(found);
        }
        self.counted(entry, size);
        Ok(())
    }

    fn counted(&mut self, entry: &SegmentEntry, size: u64) {
        self.report.bytes += size;
        self.progress.bytes_done += u64::from(entry.bytes);
        (self.on_progress)(self.progress);
    }
}

fn hex(hash: &ContentHash) -> String {
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}
