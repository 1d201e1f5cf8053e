//! The page store: immutable page segments, written once, read by reference, given back when they are dead.
//!
//! | module | what it does |
//! |---|---|
//! | [`open`](Store::open) | create, open, throw away what a crash left behind |
//! | `writer` | append pages to streams, seal segments |
//! | `reader` | read and verify pages, sealed or not |
//! | `space` | live bytes, pins and holds, victims for the cleaner |
//! | `commit` | the next generation of the manifest, then the files that nobody needs |
//!
//! # The life of a page
//! 1. [`Store::append`] puts it into the open segment of a stream and answers its [`PageRef`]. It can be read at
//!    once. An open segment stays in memory, whole, until it is sealed: at most [`StoreOptions::open_bytes_max`] for
//!    all streams, and a page or two.
//! 2. [`Store::seal_all`] writes and syncs what is open. From here on the segment is immutable.
//! 3. [`Store::commit`] writes a manifest whose trees reach the page. From here on it survives a crash.
//! 4. [`Store::retire`] says that no tree reaches it any more. The segment's live bytes fall.
//! 5. A segment without live bytes leaves the next manifest. Its file is unlinked when no manifest on disk names
//!    it, no [`Pin`] is older than its death, there is no [`Hold`] of it, and nobody holds a manifest that names it.
//!
//! # When writing fails
//! A full disk, a failed write or a failed sync of a segment fails that call, and *abandons* the segment: it is
//! never synced again, never trusted, and its file goes. Nothing is lost: its pages stay readable from memory. The
//! owner of the trees asks [`Store::abandoned`] which pages those were, writes their content again, and
//! [`Store::forget`]s the segment; until then no manifest can be committed. Reads go on all the while.
//!
//! # Invariants
//! 1. Only sealed segments are named by a manifest, and every segment that one names is whole and synced, its name
//!    included, before the manifest is written.
//! 2. A number, of a segment or a generation, is greater than any that a file name or a readable manifest knew when
//!    the store was opened, and is given out once.
//! 3. A file that a manifest on disk names is not unlinked. Manifests go first, and their going is synced.
//! 4. At any time the newest durable generation and the one before it can be opened.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use logwood_base::limits::{self, BLOCK_BYTES, PAGE_SEGMENT_BYTES_MAX};
use logwood_base::sync::atomic::{AtomicBool, AtomicUsize};
use logwood_base::sync::{Mutex, RwLock};
use logwood_base::{DatabaseId, Disk, Error, Generation, LogId, Lsn, Result, SegmentNo};

pub use crate::format::manifest::{ContentHash, Detached, Manifest, Root, SegmentEntry, TreeEntry};
pub use crate::format::page::{Compression, Page, PageKind, PageRef};
pub use crate::format::segment::{Label, PageLabel, Stream};
pub use crate::manifest::{ManifestSummary, Opened};
pub use commit::Commit;
pub use hash::ContentHasher;
pub use open::Beginning;
pub(crate) use open::segment_files;
pub use space::{Hold, LivePercent, Pin, StoreStatistics};

mod commit;
mod hash;
mod open;
#[cfg(test)]
pub(crate) mod planted;
mod reader;
mod space;
mod writer;

#[cfg(test)]
mod tests;

/// How a store behaves.
#[derive(Clone, Debug)]
pub struct StoreOptions {
    /// A segment is sealed when it has grown beyond this. 16 MiB by default.
    pub segment_bytes: u32,
    /// Pages are written to the file in pieces of this, a multiple of 4 KiB. 256 KiB by default: hashing and copying a
    /// piece is one stretch of work, and what stands behind it waits.
    pub write_bytes: usize,
    /// Segments are sealed sooner when all that are open take more memory than this. 32 MiB by default.
    pub open_bytes_max: usize,
    /// Whether pages may be compressed.
    pub compression: Compression,
    /// Most page segments kept open for reading. 128 by default.
    pub open_files_max: usize,
}

impl Default for StoreOptions {
    fn default() -> Self {
        Self {
            segment_bytes: 16 << 20,
            write_bytes: 256 << 10,
            open_bytes_max: 32 << 20,
            compression: Compression::Auto,
            open_files_max: 128,
        }
    }
}

impl StoreOptions {
    fn check(&self) -> Result<()> {
        limits::check("page segment bytes", self.segment_bytes as usize, PAGE_SEGMENT_BYTES_MAX as usize)?;
        if self.write_bytes == 0 || !self.write_bytes.is_multiple_of(BLOCK_BYTES) {
            return Err(Error::InvalidArgument(format!("pieces of {} bytes to write", self.write_bytes)));
        }
        Ok(())
    }
}

/// Whose files these are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Identity {
    /// Shared by all replicas of a database.
    pub database: DatabaseId,
    /// The log in the same directory.
    pub log: LogId,
}

/// The page segments and manifests of one directory. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Store {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    disk: Arc<dyn Disk>,
    pages_dir: PathBuf,
    manifest_dir: PathBuf,
    identity: Identity,
    options: StoreOptions,
    /// Nothing is written, created or removed.
    read_only: bool,
    /// The directory may be somebody else's by now.
    closed: AtomicBool,
    /// Held by who looks for room, with a file of its own.
    looking_for_room: Mutex<()>,
    /// One open segment per stream. Locked before `state`.
    writers: [Mutex<Option<writer::SegmentWriter>>; Stream::ALL.len()],
    /// Images of segments that are not sealed, for readers.
    images: RwLock<HashMap<SegmentNo, Arc<writer::Image>>>,
    /// Bytes of pages in open segments.
    open_bytes: AtomicUsize,
    files: reader::OpenFiles,
    /// Held through a commit, so that one ends before the next begins. Locked before `state`.
    committing: Mutex<()>,
    /// What opening found and has not thrown away yet.
    leftovers: Mutex<Option<open::Leftovers>>,
    state: Mutex<State>,
}

/// What is known of every segment and generation.
#[derive(Debug)]
struct State {
    /// Segments that may hold pages of a tree: open, sealed or abandoned.
    segments: BTreeMap<SegmentNo, SegmentState>,
    next_segment: SegmentNo,
    /// The greatest generation that was ever tried or seen.
    last_generation: Generation,
    /// The newest durable generation.
    current: Arc<Manifest>,
    /// Older generations that may stand on disk, whole or torn: the one before, and those whose commit failed.
    older: Vec<OlderGeneration>,
    /// Manifests that were handed out: their files stay while someone holds them.
    held: Vec<std::sync::Weak<Manifest>>,
    /// How many pins were taken at each tick, and the tick that the next death is given.
    pins: BTreeMap<u64, usize>,
    tick: u64,
    /// How many holds there are of each segment.
    holds: BTreeMap<SegmentNo, usize>,
    /// Sealed segments that nothing reaches, with the tick of their death. Their files stand until they may go.
    dead: BTreeMap<SegmentNo, DeadSegment>,
    abandoned: BTreeMap<SegmentNo, Abandoned>,
    /// Abandoned segments that were forgotten: retiring their pages means nothing.
    forgotten: BTreeSet<SegmentNo>,
}

/// A generation besides the current one.
#[derive(Clone, Debug)]
struct OlderGeneration {
    manifest: Arc<Manifest>,
    /// Whether its commit succeeded: then it stays openable until there are two newer ones.
    durable: bool,
}

#[derive(Clone, Debug)]
struct SegmentState {
    stream: Stream,
    live_bytes: u64,
    /// `None` until it is sealed.
    sealed: Option<Sealed>,
}

#[derive(Clone, Copy, Debug)]
struct Sealed {
    bytes: u32,
    hash: ContentHash,
}

#[derive(Clone, Copy, Debug)]
struct DeadSegment {
    stream: Stream,
    sealed: Sealed,
    tick: u64,
}

/// A segment whose writing failed. Its pages can be read until it is forgotten, and must be written again.
#[derive(Clone, Debug)]
pub struct Abandoned {
    /// Number of the segment.
    pub number: SegmentNo,
    /// What failed.
    pub cause: Error,
    /// Every page that was appended to it, dead ones included.
    pub pages: Vec<PageLabel>,
}

/// A segment that [`Store::seal_all`] sealed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SegmentSummary {
    /// Number of the segment.
    pub number: SegmentNo,
    /// Length of the file.
    pub bytes: u32,
    /// SHA-256 of the file.
    pub hash: ContentHash,
}

impl Store {
    /// Whose files these are.
    #[must_use]
    pub fn identity(&self) -> Identity {
        self.inner.identity
    }

    /// The newest durable generation. Its files stay as they are while the answer is held, also when newer
    /// generations no longer need them: so a backup or a transfer copies them in peace.
    #[must_use]
    pub fn manifest(&self) -> Arc<Manifest> {
        let mut state = self.inner.state.lock();
        let manifest = Arc::clone(&state.current);
        state.held.push(Arc::downgrade(&manifest));
        manifest
    }

    /// The least `replay_from` of the generations that may have to be opened after a crash. The log must keep
    /// everything from here on.
    #[must_use]
    pub fn replay_from(&self) -> Lsn {
        let state = self.inner.state.lock();
        let older = state.older.iter().map(|older| older.manifest.replay_from);
        older.fold(state.current.replay_from, Lsn::min)
    }

    /// Whether a segment is not sealed, or could not be.
    pub(crate) fn is_open(&self, number: SegmentNo) -> bool {
        self.inner.images.read().contains_key(&number)
    }

    pub(crate) fn disk(&self) -> &dyn Disk {
        &*self.inner.disk
    }

    /// The directories of the page segments and of the manifests.
    pub(crate) fn dirs(&self) -> (&Path, &Path) {
        (&self.inner.pages_dir, &self.inner.manifest_dir)
    }

    /// Where a segment's file stands.
    #[must_use]
    pub fn segment_path(&self, number: SegmentNo) -> PathBuf {
        segment_path(&self.inner.pages_dir, number)
    }
}

/// Where the page segments of a database stand.
#[must_use]
pub fn pages_dir(dir: &Path) -> PathBuf {
    dir.join("pages")
}

/// Where the manifests of a database stand.
#[must_use]
pub fn manifest_dir(dir: &Path) -> PathBuf {
    dir.join("manifest")
}

pub(crate) fn segment_path(pages_dir: &Path, number: SegmentNo) -> PathBuf {
    pages_dir.join(format!("{:020}.pages", number.get()))
}

/// The number in the name of a page segment.
pub(crate) fn parse_segment_name(name: &str) -> Option<SegmentNo> {
    let digits = name.strip_suffix(".pages")?;
    let plain = digits.len() == 20 && digits.bytes().all(|byte| byte.is_ascii_digit());
    plain.then(|| digits.parse().ok().map(SegmentNo)).flatten()
}
