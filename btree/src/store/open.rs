//! Creating and opening a store.
//!
//! Opening never walks a tree and reads no page: it reads the manifests and two directories. What it throws away,
//! and in which order:
//! 1. Both directories are synced first: a process that was killed may have left names that are not durable, and
//!    what is decided now must not look different after a power cut.
//! 2. Copies of manifests that were being written, and newer generations of which no copy verifies, are removed, and
//!    the directory is synced: from here on no file on disk speaks of the segments that go next.
//! 3. Segments that no readable manifest names are removed: left-overs of a crash, never continued.
//!
//! A crash leaves no named manifest that cannot be opened: such a one was damaged at rest, and it and the segments that
//! only it names may be all that tells what was lost. So when there is one, nothing is thrown away before the caller has
//! accepted all that it opens beside the trees, the log above all, and says so ([`Store::clear_leftovers`]).

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;
use std::sync::Arc;

use logwood_base::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use logwood_base::sync::{Mutex, RwLock};
use logwood_base::{Corruption, Disk, Error, Generation, LogPosition, Lsn, Result, SegmentNo, disk};

#[cfg(test)]
use super::planted::{Bug, planted};
use super::reader::OpenFiles;
use super::{
    DeadSegment, Identity, Inner, Manifest, OlderGeneration, Sealed, SegmentState, State, Store,
    StoreOptions, manifest_dir, pages_dir, parse_segment_name, segment_path,
};
use crate::manifest::{self, Chosen, ManifestSummary, Opened};

/// How far the number in a file's name may be above what the readable manifests know.
const NAMES_AHEAD_MAX: u64 = 1 << 32;

/// The generation that [`Store::create`] writes.
pub(crate) const CREATED: Generation = Generation(1);

/// What the first manifest of a new store says: no trees yet.
#[derive(Clone, Copy, Debug)]
pub struct Beginning<'a> {
    /// The state that the (empty) trees are: `Lsn::ZERO` for a new database.
    pub checkpoint_lsn: Lsn,
    /// The log must hold the entries from here on.
    pub replay_from: Lsn,
    /// Every byte of the log before it was synced.
    pub log_durable_end: LogPosition,
    /// Opaque to the trees.
    pub engine_state: &'a [u8],
}

impl Store {
    /// Creates an empty store in `dir`, with its first manifest durable on return.
    ///
    /// Calling it again after a crash in the middle is fine: unreadable files of the first generation are replaced
    /// as long as nothing else is there. The first generation holds no data, so nothing can be lost by that; the
    /// caller still calls it only for a database that its log shows to be new.
    ///
    /// # Errors
    /// `AlreadyExists` when a readable manifest, a later generation or a page segment is there; `DiskFull`, `Io`.
    pub fn create(
        disk: Arc<dyn Disk>,
        dir: &Path,
        identity: Identity,
        options: StoreOptions,
        beginning: Beginning<'_>,
    ) -> Result<Self> {
        options.check()?;
        let (pages, manifests) = (pages_dir(dir), manifest_dir(dir));
        disk::create_dir_all(&*disk, &pages)?;
        disk::create_dir_all(&*disk, &manifests)?;
        // A process that was killed here may have left directories whose names are not durable, and they look made.
        disk.sync_dir(dir)?;
        sync_parent(&*disk, dir)?;
        let exists = || Error::AlreadyExists { what: "tree store", name: dir.display().to_string() };
        let generations = manifest::list(&*disk, &manifests)?;
        if !disk.list(&pages)?.is_empty() || generations.keys().any(|generation| *generation != CREATED) {
            return Err(exists());
        }
        let found = manifest::read(&*disk, &manifests, CREATED)?;
        if found.manifest.is_some() || found.newer.is_some() {
            return Err(exists());
        }
        manifest::remove(&*disk, &manifests, CREATED)?;
        let first = Manifest {
            generation: CREATED,
            database: identity.database,
            log: identity.log,
            checkpoint_lsn: beginning.checkpoint_lsn,
            replay_from: beginning.replay_from,
            log_durable_end: beginning.log_durable_end,
            next_segment: SegmentNo(1),
            engine_state: beginning.engine_state.to_vec(),
            trees: Vec::new(),
            detached: Vec::new(),
            segments: Vec::new(),
        };
        manifest::write(&*disk, &manifests, &first)?;
        let last = first.generation;
        Ok(Self::assemble(disk, dir, options, false, first, Vec::new(), SegmentNo(1), last))
    }

    /// Opens the newest generation, as [`crate::manifest`] chooses it, and throws away what a crash left behind; what
    /// damage left behind stays until [`Store::clear_leftovers`]. `acceptable` judges the chosen generation: whether
    /// the log reaches its `replay_from`, whether it is the right database. The directory's lock is the caller's.
    ///
    /// # Errors
    /// `Corruption` naming the file when no manifest verifies, or a segment is missing or has another length;
    /// `UnsupportedFormat`; what `acceptable` answers; `Io`. Nothing was changed then.
    pub fn open(
        disk: Arc<dyn Disk>,
        dir: &Path,
        options: StoreOptions,
        acceptable: &dyn Fn(&ManifestSummary) -> Result<()>,
    ) -> Result<(Self, Opened)> {
        Self::open_as(disk, dir, options, acceptable, false)
    }

    /// Opens for reading only: changes nothing on disk.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub fn open_read_only(
        disk: Arc<dyn Disk>,
        dir: &Path,
        options: StoreOptions,
        acceptable: &dyn Fn(&ManifestSummary) -> Result<()>,
    ) -> Result<(Self, Opened)> {
        Self::open_as(disk, dir, options, acceptable, true)
    }

    fn open_as(
        disk: Arc<dyn Disk>,
        dir: &Path,
        options: StoreOptions,
        acceptable: &dyn Fn(&ManifestSummary) -> Result<()>,
        read_only: bool,
    ) -> Result<(Self, Opened)> {
        options.check()?;
        let (pages, manifests) = (pages_dir(dir), manifest_dir(dir));
        let mut chosen = manifest::choose(&*disk, &manifests)?;
        let found = segment_files(&*disk, &pages)?;
        if let Some(damage) = manifest::missing_segment(&chosen.manifest, &pages, &found) {
            #[cfg(test)]
            if planted(Bug::FallbackPastMissingFile) && !chosen.older.is_empty() {
                chosen.manifest = chosen.older.remove(0);
            } else {
                return Err(damage.into());
            }
            #[cfg(not(test))]
            return Err(damage.into());
        }
        refuse_names_far_ahead(&chosen, &pages, &manifests, &found)?;
        acceptable(&ManifestSummary::from(&chosen.manifest))?;

        let mut next = chosen.manifest.next_segment;
        next = chosen.older.iter().map(|older| older.next_segment).fold(next, SegmentNo::max);
        #[cfg(test)]
        let number_reused = planted(Bug::NumberReused);
        #[cfg(not(test))]
        let number_reused = false;
        if let Some(last) = found.keys().next_back().filter(|_| !number_reused) {
            next = next.max(last.next());
        }
        let leftovers = if read_only { Leftovers::default() } else { leftovers(&pages, &mut chosen, &found) };
        let Chosen { manifest, older, last_generation, notes, .. } = chosen;
        let store = Self::assemble(disk, dir, options, read_only, manifest, older, next, last_generation);
        let of_a_crash = leftovers.unusable.is_empty();
        *store.inner.leftovers.lock() = Some(leftovers);
        if of_a_crash && !read_only {
            store.clear_leftovers()?;
        }
        let manifest = Arc::clone(&store.inner.state.lock().current);
        Ok((store, Opened { manifest, notes }))
    }

    #[allow(clippy::too_many_arguments)] // Private, called twice, and each is a different thing.
    fn assemble(
        disk: Arc<dyn Disk>,
        dir: &Path,
        options: StoreOptions,
        read_only: bool,
        manifest: Manifest,
        older: Vec<Manifest>,
        next_segment: SegmentNo,
        last_generation: Generation,
    ) -> Self {
        let identity = Identity { database: manifest.database, log: manifest.log };
        let alive = manifest.segments.iter().map(|segment| {
            let sealed = Some(Sealed { bytes: segment.bytes, hash: segment.hash });
            let live_bytes = u64::from(segment.live_bytes);
            (segment.number, SegmentState { stream: segment.stream, live_bytes, sealed })
        });
        let mut state = State {
            segments: alive.collect(),
            next_segment,
            last_generation,
            current: Arc::new(manifest),
            older: Vec::new(),
            held: Vec::new(),
            pins: BTreeMap::new(),
            holds: BTreeMap::new(),
            tick: 1,
            dead: BTreeMap::new(),
            abandoned: BTreeMap::new(),
            forgotten: BTreeSet::new(),
        };
        for manifest in older {
            // What only an older generation names is dead already, and goes when that generation goes.
            for segment in &manifest.segments {
                if !state.segments.contains_key(&segment.number) {
                    let sealed = Sealed { bytes: segment.bytes, hash: segment.hash };
                    let dead = DeadSegment { stream: segment.stream, sealed, tick: 0 };
                    state.dead.insert(segment.number, dead);
                }
            }
            state.older.push(OlderGeneration { manifest: Arc::new(manifest), durable: true });
        }
        let files = OpenFiles::new(options.open_files_max);
        Self {
            inner: Arc::new(Inner {
                disk,
                pages_dir: pages_dir(dir),
                manifest_dir: manifest_dir(dir),
                identity,
                options,
                read_only,
                closed: AtomicBool::new(false),
                looking_for_room: Mutex::new(()),
                writers: Default::default(),
                images: RwLock::new(HashMap::new()),
                open_bytes: AtomicUsize::new(0),
                files,
                committing: Mutex::new(()),
                leftovers: Mutex::new(None),
                state: Mutex::new(state),
            }),
        }
    }

    /// Throws away what damage left behind: generations of the manifest that cannot be opened, and the page segments
    /// that only they name. To be called when everything that is opened beside the trees was accepted, because it is
    /// evidence until then. Durable on return. Costs nothing when there is nothing to throw away.
    ///
    /// ```
    /// # use std::{path::Path, sync::Arc};
    /// # use logwood_base::{DatabaseId, LogId, LogPosition, Lsn, disk::SimulatedDisk};
    /// # use logwood_btree::store::{Beginning, Identity, Store, StoreOptions};
    /// # let disk = Arc::new(SimulatedDisk::new(1));
    /// # let identity = Identity { database: DatabaseId(1), log: LogId(2) };
    /// # let (checkpoint_lsn, replay_from) = (Lsn::ZERO, Lsn::FIRST);
    /// # let beginning =
    /// #     Beginning { checkpoint_lsn, replay_from, log_durable_end: LogPosition::ZERO, engine_state: &[] };
    /// # let dir = Path::new("trees");
    /// # drop(Store::create(disk.clone(), dir, identity, StoreOptions::default(), beginning)?);
    /// let (store, _opened) = Store::open(disk, dir, StoreOptions::default(), &|_| Ok(()))?;
    /// // Open the log that belongs to it; only when that went well:
    /// store.clear_leftovers()?;
    /// # Ok::<(), logwood_base::Error>(())
    /// ```
    ///
    /// # Errors
    /// `Io`. What is left is found, and left, by the next opening.
    pub fn clear_leftovers(&self) -> Result<()> {
        let leftovers = self.inner.leftovers.lock().take();
        match leftovers {
            Some(leftovers) => {
                leftovers.clear(&*self.inner.disk, &self.inner.pages_dir, &self.inner.manifest_dir)
            }
            None => Ok(()),
        }
    }

    /// Ends what this store does in its directory, which somebody else may open next: what would write is answered `Closed`
    /// from here on, and so is a page that is no longer there. Whoever looks for room is waited for; that no other call
    /// writes meanwhile is the caller's part. Pages that are there can be read as before.
    ///
    /// ```
    /// # use std::{path::Path, sync::Arc};
    /// # use logwood_base::{DatabaseId, LogId, LogPosition, Lsn, disk::SimulatedDisk};
    /// # use logwood_btree::store::{Beginning, Identity, Store, StoreOptions};
    /// # let disk = Arc::new(SimulatedDisk::new(1));
    /// # let identity = Identity { database: DatabaseId(1), log: LogId(2) };
    /// # let (checkpoint_lsn, replay_from) = (Lsn::ZERO, Lsn::FIRST);
    /// # let beginning =
    /// #     Beginning { checkpoint_lsn, replay_from, log_durable_end: LogPosition::ZERO, engine_state: &[] };
    /// let store = Store::create(disk, Path::new("trees"), identity, StoreOptions::default(), beginning)?;
    /// store.require_room(1 << 20)?;
    /// store.close();
    /// assert!(matches!(store.require_room(1 << 20), Err(logwood_base::Error::Closed)));
    /// # Ok::<(), logwood_base::Error>(())
    /// ```
    pub fn close(&self) {
        self.inner.closed.store(true, Ordering::Release);
        let _looked = self.inner.looking_for_room.lock();
    }

    pub(super) fn is_closed(&self) -> bool {
        self.inner.closed.load(Ordering::Acquire)
    }

    pub(super) fn check_writable(&self) -> Result<()> {
        if self.is_closed() {
            return Err(Error::Closed);
        }
        if self.inner.read_only {
            return Err(Error::InvalidArgument("the store was opened for reading only".into()));
        }
        Ok(())
    }
}

/// Makes the name of `dir` durable. A parent that may not be read was not made by us: its names are its owner's.
fn sync_parent(disk: &dyn Disk, dir: &Path) -> Result<()> {
    let parent = dir.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    match disk.sync_dir(parent) {
        Err(Error::Io { source, .. }) if source.kind() == std::io::ErrorKind::PermissionDenied => Ok(()),
        other => other,
    }
}

/// The page segments in a directory, by number, with their lengths.
pub(crate) fn segment_files(disk: &dyn Disk, pages: &Path) -> Result<BTreeMap<SegmentNo, u64>> {
    let entries = match disk.list(pages) {
        Err(Error::NotFound { .. }) => Vec::new(),
        other => other?,
    };
    let files = entries.into_iter().filter(|entry| !entry.is_dir);
    Ok(files.filter_map(|entry| Some((parse_segment_name(&entry.name)?, entry.bytes))).collect())
}

/// Refuses names with numbers that nobody can have written: new numbers exceed every name, and would run out.
fn refuse_names_far_ahead(
    chosen: &Chosen,
    pages: &Path,
    manifests: &Path,
    found: &BTreeMap<SegmentNo, u64>,
) -> Result<()> {
    let known = std::iter::once(&chosen.manifest).chain(&chosen.older);
    let next = known.map(|manifest| manifest.next_segment.get()).fold(0, u64::max);
    let last = found.last_key_value().map_or(0, |(number, _)| number.get());
    let is_far = |last: u64, known: u64| last.saturating_sub(known) > NAMES_AHEAD_MAX;
    let (path, known, last, check) = if is_far(last, next) {
        (segment_path(pages, SegmentNo(last)), next, last, "page segment number")
    } else if is_far(chosen.last_generation.get(), chosen.manifest.generation.get()) {
        let last = chosen.last_generation;
        let path = manifest::copy_path(manifests, last, 'a');
        (path, chosen.manifest.generation.get(), last.get(), "manifest generation")
    } else {
        return Ok(());
    };
    let expected = format!("at most {NAMES_AHEAD_MAX} above {known}, which a manifest knows");
    Err(Corruption::new(&path, 0, check, expected, last).into())
}

/// What an opening throws away.
#[derive(Debug, Default)]
pub(super) struct Leftovers {
    /// Generations of the manifest that cannot be opened: damage.
    unusable: BTreeSet<Generation>,
    /// Generations with copies that were being written.
    unfinished: BTreeSet<Generation>,
    /// Segments that no manifest names that can be opened.
    surplus: Vec<SegmentNo>,
}

/// Finds what is to be thrown away, and takes it out of what is opened.
fn leftovers(pages: &Path, chosen: &mut Chosen, found: &BTreeMap<SegmentNo, u64>) -> Leftovers {
    let mut unusable = std::mem::take(&mut chosen.unreadable);
    // Readable older generations that miss a file cannot be opened: they go like unreadable ones.
    chosen.older.retain(|older| match manifest::missing_segment(older, pages, found) {
        None => true,
        Some(damage) => {
            chosen.notes.push(format!("generation {} is given up: {damage}", older.generation));
            unusable.insert(older.generation);
            false
        }
    });
    let unfinished = std::mem::take(&mut chosen.unfinished);
    let kept = std::iter::once(&chosen.manifest).chain(&chosen.older);
    let named: BTreeSet<SegmentNo> = kept.flat_map(|m| m.segments.iter().map(|s| s.number)).collect();
    let surplus: Vec<SegmentNo> = found.keys().filter(|number| !named.contains(number)).copied().collect();
    let notes = &mut chosen.notes;
    notes.extend(
        unusable.iter().map(|one| format!("generation {one} of the manifest cannot be opened and goes")),
    );
    notes.extend(unfinished.iter().map(|one| format!("an unfinished manifest of generation {one} goes")));
    notes.extend(surplus.iter().map(|one| format!("page segment {one}, which no manifest names, goes")));
    Leftovers { unusable, unfinished, surplus }
}

impl Leftovers {
    /// Throws them away, in the order that the head of this file gives.
    fn clear(self, disk: &dyn Disk, pages: &Path, manifests: &Path) -> Result<()> {
        disk.sync_dir(manifests)?;
        disk.sync_dir(pages)?;
        self.unusable.iter().try_for_each(|generation| manifest::remove(disk, manifests, *generation))?;
        self.unfinished
            .iter()
            .try_for_each(|generation| manifest::remove_unfinished(disk, manifests, *generation))?;
        if !self.unusable.is_empty() || !self.unfinished.is_empty() {
            disk.sync_dir(manifests)?;
        }
        self.surplus.iter().try_for_each(|number| disk.remove(&segment_path(pages, *number)))?;
        if self.surplus.is_empty() { Ok(()) } else { disk.sync_dir(pages) }
    }
}
