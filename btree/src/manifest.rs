//! Which generation of the manifest is the state of the trees: writing one, and choosing one at open.
//!
//! Files: `manifest/{generation:020}.a` and `.b`, two copies with the same bytes ([`crate::format::manifest`]).
//! While they are written they are called `….a.new` and `….b.new`.
//!
//! # Writing generation g
//! 1. Every page segment that it names is synced, its name too. (The caller's part.)
//! 2. Both copies are written under their `.new` names, synced, renamed, and the directory is synced.
//! 3. Both are read back past the page cache and must be the bytes that were written. g is durable.
//! 4. The files of generations other than g and the durable one before it are removed, and the directory is synced.
//! 5. Page segments that no manifest on disk names may be removed.
//!
//! A copy gets its name only when it is whole and synced. So a file of that name that does not verify was damaged at
//! rest, and is never the trace of a crash; a missing copy may be one. A failure in steps 2 or 3 leaves it open
//! whether g is on disk: its number is not used again, and what g and the generations before need is kept until a
//! later one is durable.
//!
//! # Choosing
//! From the newest generation down:
//!
//! | copies of this generation | answer |
//! |---|---|
//! | one or two verify, and agree | this one |
//! | none verifies, one is of a newer format | `UnsupportedFormat` |
//! | both verify and differ | `Corruption` |
//! | none verifies | noted; the next older one, if any |
//!
//! The chosen one must find all its segments, with their lengths, and be accepted by the caller (the log reaches its
//! `replay_from`). If not, that is the answer, also when an older generation would do better: a readable newer
//! manifest proves that the state went on. When no generation verifies, that is `Corruption` naming the newest file.
//! Nothing is ever created in the place of what is missing. All of it is read past the page cache, since an earlier
//! process may have seen a sync fail.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use logwood_base::{
    Access, Corruption, DatabaseId, Disk, Error, Generation, LogId, LogPosition, Lsn, Result, SegmentNo,
    limits,
};

use crate::format::manifest::{MANIFEST_BYTES_MAX, Manifest, VERSION};
use crate::format::segment::HeaderFault;
#[cfg(test)]
use crate::store::planted::{Bug, planted};

/// The letters of the two copies.
const COPIES: [char; 2] = ['a', 'b'];

/// What a manifest says of itself, for whoever decides whether the log fits it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ManifestSummary {
    /// Its number.
    pub generation: Generation,
    /// Shared by all replicas.
    pub database: DatabaseId,
    /// The log beside it.
    pub log: LogId,
    /// The trees are exactly the state at this LSN.
    pub checkpoint_lsn: Lsn,
    /// The log must hold the entries from here on.
    pub replay_from: Lsn,
    /// Every byte of the log before it was synced.
    pub log_durable_end: LogPosition,
}

impl From<&Manifest> for ManifestSummary {
    fn from(manifest: &Manifest) -> Self {
        Self {
            generation: manifest.generation,
            database: manifest.database,
            log: manifest.log,
            checkpoint_lsn: manifest.checkpoint_lsn,
            replay_from: manifest.replay_from,
            log_durable_end: manifest.log_durable_end,
        }
    }
}

/// What opening found.
#[derive(Clone, Debug)]
pub struct Opened {
    /// The generation that was opened.
    pub manifest: std::sync::Arc<Manifest>,
    /// What a person should know and nobody needs to act on: a copy missing or damaged, left-overs thrown away.
    pub notes: Vec<String>,
}

/// A file of a manifest directory.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum ManifestFile {
    /// A copy under its final name.
    Copy(Generation),
    /// A copy that was being written.
    Unfinished(Generation),
    /// Something else.
    Foreign,
}

/// What a name stands for.
pub(crate) fn parse_name(name: &str) -> ManifestFile {
    let (stem, is_new) = match name.strip_suffix(".new") {
        Some(stem) => (stem, true),
        None => (name, false),
    };
    let digits = COPIES.iter().find_map(|copy| stem.strip_suffix(*copy)?.strip_suffix('.'));
    let number = digits
        .filter(|digits| digits.len() == 20 && digits.bytes().all(|byte| byte.is_ascii_digit()))
        .and_then(|digits| digits.parse().ok().map(Generation));
    match number {
        Some(generation) if is_new => ManifestFile::Unfinished(generation),
        Some(generation) => ManifestFile::Copy(generation),
        None => ManifestFile::Foreign,
    }
}

/// Where a copy stands.
pub(crate) fn copy_path(dir: &Path, generation: Generation, copy: char) -> PathBuf {
    dir.join(format!("{:020}.{copy}", generation.get()))
}

fn unfinished_path(dir: &Path, generation: Generation, copy: char) -> PathBuf {
    dir.join(format!("{:020}.{copy}.new", generation.get()))
}

/// Both copies' paths.
pub(crate) fn copy_paths(dir: &Path, generation: Generation) -> impl Iterator<Item = PathBuf> {
    COPIES.into_iter().map(move |copy| copy_path(dir, generation, copy))
}

/// Writes both copies; durable on return (steps 2 and 3). A store does it by itself; a backup or a restore writes the
/// first manifest of a directory that nobody has opened yet.
///
/// # Errors
/// `LimitExceeded`, `DiskFull`, `Io`; `Corruption` when what is read back is not what was written.
pub fn write(disk: &dyn Disk, dir: &Path, manifest: &Manifest) -> Result<()> {
    let bytes = manifest.encode();
    limits::check("manifest bytes", bytes.len(), MANIFEST_BYTES_MAX as usize)?;
    let generation = manifest.generation;
    let written = COPIES.into_iter().try_for_each(|copy| {
        let file = disk.create(&unfinished_path(dir, generation, copy))?;
        file.write_at(0, &bytes)?;
        file.sync()
    });
    if let Err(error) = written {
        // Nothing bears its final name yet. The room may be needed: it may have been a full disk.
        let _ = remove_unfinished(disk, dir, generation);
        return Err(error);
    }
    for copy in COPIES {
        disk.rename(&unfinished_path(dir, generation, copy), &copy_path(dir, generation, copy))?;
    }
    sync_manifest_dir(disk, dir)?;
    for path in copy_paths(dir, generation) {
        let file = disk.open(&path, Access::Read)?;
        if file.size()? != bytes.len() as u64 || *file.read_past_cache(0, bytes.len())?.0 != *bytes {
            let (expected, found) = ("what was written and synced", "something else");
            return Err(Corruption::new(&path, 0, "manifest read back", expected, found).into());
        }
    }
    Ok(())
}

fn sync_manifest_dir(disk: &dyn Disk, dir: &Path) -> Result<()> {
    #[cfg(test)]
    if planted(Bug::NoManifestDirectorySync) {
        return Ok(());
    }
    disk.sync_dir(dir)
}

/// Removes whatever is there of a generation. The caller syncs the directory.
pub(crate) fn remove(disk: &dyn Disk, dir: &Path, generation: Generation) -> Result<()> {
    for path in copy_paths(dir, generation) {
        match disk.remove(&path) {
            Ok(()) | Err(Error::NotFound { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    remove_unfinished(disk, dir, generation)
}

/// Removes what was being written of a generation. The caller syncs the directory.
pub(crate) fn remove_unfinished(disk: &dyn Disk, dir: &Path, generation: Generation) -> Result<()> {
    COPIES.into_iter().try_for_each(|copy| match disk.remove(&unfinished_path(dir, generation, copy)) {
        Err(Error::NotFound { .. }) => Ok(()),
        other => other,
    })
}

/// What the files of one generation hold.
#[derive(Debug, Default)]
pub(crate) struct GenerationFiles {
    /// What the copies say, when one verifies and they do not contradict each other.
    pub(crate) manifest: Option<Manifest>,
    /// How many copies verify.
    pub(crate) valid: usize,
    /// Copies that are there and do not verify.
    pub(crate) damage: Vec<Corruption>,
    /// Bytes of all copies.
    pub(crate) bytes: u64,
    /// A copy that only a newer program reads.
    pub(crate) newer: Option<Error>,
}

/// Reads the copies of one generation.
pub(crate) fn read(disk: &dyn Disk, dir: &Path, generation: Generation) -> Result<GenerationFiles> {
    let mut files = GenerationFiles::default();
    for path in copy_paths(dir, generation) {
        let file = match disk.open(&path, Access::Read) {
            Ok(file) => file,
            Err(Error::NotFound { .. }) => continue,
            Err(error) => return Err(error),
        };
        let size = file.size()?;
        files.bytes += size;
        if size > MANIFEST_BYTES_MAX {
            let expected = format!("at most {MANIFEST_BYTES_MAX} bytes");
            files.damage.push(Corruption::new(&path, 0, "manifest length", expected, size));
            continue;
        }
        let (bytes, _) = file.read_past_cache(0, size as usize)?;
        match Manifest::decode(&bytes, generation) {
            Ok(manifest) => match &files.manifest {
                Some(first) if *first != manifest => {
                    let found = "two valid copies that differ";
                    files.damage.push(Corruption::new(&path, 0, "manifest copies", "equal ones", found));
                    files.manifest = None;
                    files.valid = 0;
                    return Ok(files);
                }
                _ => {
                    files.manifest = Some(manifest);
                    files.valid += 1;
                }
            },
            Err(HeaderFault::Newer(needed)) => {
                files.newer = Some(Error::UnsupportedFormat { path, needed, supported: VERSION });
            }
            Err(HeaderFault::Damaged(error)) => {
                let offset = error.offset as u64;
                files.damage.push(Corruption::new(&path, offset, "manifest", "a valid copy", error));
            }
        }
    }
    Ok(files)
}

/// What a manifest directory holds, and which generation of it counts.
#[derive(Debug)]
pub(crate) struct Chosen {
    /// The generation to open.
    pub(crate) manifest: Manifest,
    /// Readable older ones, newest first.
    pub(crate) older: Vec<Manifest>,
    /// Generations of which no copy verifies.
    pub(crate) unreadable: BTreeSet<Generation>,
    /// Generations with files that were being written.
    pub(crate) unfinished: BTreeSet<Generation>,
    /// The greatest generation that any file name knows.
    pub(crate) last_generation: Generation,
    /// What to tell.
    pub(crate) notes: Vec<String>,
}

/// Names in a manifest directory, by generation.
pub(crate) fn list(disk: &dyn Disk, dir: &Path) -> Result<BTreeMap<Generation, Vec<ManifestFile>>> {
    let mut generations: BTreeMap<Generation, Vec<ManifestFile>> = BTreeMap::new();
    for entry in disk.list(dir)? {
        let file = parse_name(&entry.name);
        if let ManifestFile::Copy(generation) | ManifestFile::Unfinished(generation) = file {
            generations.entry(generation).or_default().push(file);
        }
    }
    Ok(generations)
}

/// Chooses the generation to open, by the table above.
pub(crate) fn choose(disk: &dyn Disk, dir: &Path) -> Result<Chosen> {
    let listed = match list(disk, dir) {
        Err(Error::NotFound { .. }) => BTreeMap::new(),
        other => other?,
    };
    let mut chosen: Option<Manifest> = None;
    let mut older = Vec::new();
    let (mut unreadable, mut unfinished) = (BTreeSet::new(), BTreeSet::new());
    let mut first_damage: Option<Corruption> = None;
    let mut notes = Vec::new();
    for (&generation, names) in listed.iter().rev() {
        if names.iter().any(|name| matches!(name, ManifestFile::Unfinished(_))) {
            unfinished.insert(generation);
        }
        if !names.iter().any(|name| matches!(name, ManifestFile::Copy(_))) {
            continue;
        }
        let files = read(disk, dir, generation)?;
        let contradict = files.valid == 0 && files.damage.iter().any(|d| d.check == "manifest copies");
        if chosen.is_none() && contradict {
            return Err(files.damage.into_iter().next_back().expect("found above").into());
        }
        if chosen.is_none()
            && files.manifest.is_none()
            && let Some(newer) = files.newer
        {
            return Err(newer);
        }
        notes.extend(files.damage.iter().map(|damage| damage.to_string()));
        if files.valid == 1 && files.damage.is_empty() {
            notes.push(format!("manifest generation {generation} has one copy only"));
        }
        if first_damage.is_none() {
            first_damage = files.damage.into_iter().next();
        }
        match files.manifest {
            Some(manifest) if chosen.is_none() => chosen = Some(manifest),
            Some(manifest) => older.push(manifest),
            None => {
                unreadable.insert(generation);
            }
        }
    }
    let Some(manifest) = chosen else {
        let nothing = || {
            Corruption::new(
                dir,
                0,
                "manifest is there",
                "a generation of the manifest",
                "no file of that name",
            )
        };
        return Err(first_damage.unwrap_or_else(nothing).into());
    };
    let last_generation = listed.last_key_value().map_or(manifest.generation, |(last, _)| *last);
    Ok(Chosen { manifest, older, unreadable, unfinished, last_generation, notes })
}

/// The first segment of `manifest` whose file is missing or has another length.
pub(crate) fn missing_segment(
    manifest: &Manifest,
    pages_dir: &Path,
    found: &BTreeMap<SegmentNo, u64>,
) -> Option<Corruption> {
    manifest.segments.iter().find_map(|segment| {
        let path = crate::store::segment_path(pages_dir, segment.number);
        let expected =
            format!("{} bytes, named by manifest generation {}", segment.bytes, manifest.generation);
        match found.get(&segment.number) {
            Some(bytes) if *bytes == u64::from(segment.bytes) => None,
            Some(bytes) => {
                Some(Corruption::new(&path, 0, "page segment length", expected, format!("{bytes} bytes")))
            }
            None => Some(Corruption::new(&path, 0, "page segment is there", expected, "no such file")),
        }
    })
}
