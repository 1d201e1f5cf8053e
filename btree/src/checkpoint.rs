//! Checkpoints: exactly the state at one LSN, written beside the writer.
//!
//! # Steps
//! 1. A snapshot at C is registered, so that every version of C stays.
//! 2. *Walk*: all trees that exist at C, in key order, bottom-up. Clean subtrees are taken over by their address. The
//!    content of a changed leaf as of C is written, then its parent's page, and so on up. The writer's lock is held
//!    for one child at a time, never while a page is encoded or written.
//! 3. *Detach*: where the pages are of trees that were dropped up to C, and of subtrees that were detached.
//! 4. *Seal*: the segments with these pages are completed and synced.
//! 5. *Commit*: pages that C does not reach are retired, the manifest is written.
//! 6. *Attach*: leaves and inner nodes learn their new addresses. Those that did not change since C are clean.
//!
//! # Delta blocks
//! Of a leaf that has an image, and that was neither rebuilt nor split nor merged since, only the changes between the
//! image and C are written, as a block that the parent's entry adds to the image: up to three, and while they stay small
//! beside it. Then the leaf is written whole again. A random write to a tree that is much larger than memory so costs a
//! little more than its record, and not a page.
//!
//! # While trees change under the walk
//! The walk stands on keys, not on nodes. Structure is taken as it is when the walk comes by, content as of C: so a
//! leaf that was split since C is written in two halves of its content at C, and one that was merged since as the
//! leaves that it was.
//!
//! # When it fails
//! Nothing was attached: what was dirty is dirty, and the next job writes it again. Pages that were written for
//! nothing are retired by the next commit, or go with their abandoned segment.

mod attach;
mod detaching;
mod retire;
mod walk;
mod write;

use std::collections::HashSet;
use std::sync::Arc;

use logwood_base::{Error, Generation, KeyspaceId, LogPosition, Lsn, PageAddr, Result};

use crate::account::PageWrites;
use crate::descent::TreeCore;
use crate::forest::Forest;
use crate::node::Image;
use crate::node::inner::Inner;
use crate::node::leaf::Leaf;
use crate::shared::{Shared, WalkPosition};
use crate::snapshot::Snapshot;
use crate::store::{Commit, PageRef, TreeEntry};

use walk::Frame;
pub(crate) use write::LeafBody;

/// Children that one step takes up.
const STEP_CHILDREN: usize = 48;
/// Bytes of pages beyond which a step takes up no more.
const STEP_BYTES: u64 = 128 << 10;
/// Nodes that one step attaches, under the writer's lock.
const STEP_ATTACHED: usize = 64;

/// What a checkpoint is to hold.
#[derive(Clone, Copy, Debug)]
pub struct Checkpoint<'a> {
    /// C: not above what is applied, committed and durable; at the visible LSN or above, or at a live snapshot.
    pub at: Lsn,
    /// The first entry that must be applied again after opening: min(C + 1, oldest fragment open at C).
    pub replay_from: Lsn,
    /// Every byte of the log before it was synced.
    pub log_durable_end: LogPosition,
    /// Kept in the manifest and given back when it is opened.
    pub engine_state: &'a [u8],
}

/// What a checkpoint did.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct CheckpointReport {
    /// The manifest's generation.
    pub generation: Generation,
    /// C.
    pub lsn: Lsn,
    /// Leaf images written.
    pub leaves: u64,
    /// Delta blocks written in the place of an image.
    pub deltas: u64,
    /// Inner pages written.
    pub inners: u64,
    /// Stored bytes of all pages written, overflow pages included.
    pub bytes: u64,
}

impl CheckpointReport {
    fn count(&self, total: &mut PageWrites) {
        total.leaves += self.leaves;
        total.deltas += self.deltas;
        total.inners += self.inners;
        total.bytes += self.bytes;
    }
}

/// How far a [`CheckpointJob`] has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Progress {
    /// There is more to do.
    More,
    /// The checkpoint is durable and all its pages are in use.
    Done(CheckpointReport),
}

/// A checkpoint under way, in bounded steps. Dropping it gives it up: nothing is lost, everything stays dirty.
#[derive(Debug)]
pub struct CheckpointJob {
    shared: Arc<Shared>,
    /// Keeps the versions of C.
    snapshot: Snapshot,
    number: u64,
    replay_from: Lsn,
    log_durable_end: LogPosition,
    engine_state: Vec<u8>,
    /// The trees that exist at C and were not walked yet, the next one last.
    trees: Vec<Arc<TreeCore>>,
    /// The nodes being written, from the root down to a parent of leaves.
    stack: Vec<Frame>,
    finished: Vec<TreeEntry>,
    /// Trees dropped and subtrees detached up to C, and what was found of them.
    detaching: detaching::Detaching,
    written: Written,
    /// Pages that this checkpoint reaches, whatever becomes garbage meanwhile: those of leaves that changed since C, but had a
    /// page that says what they were at C; those that a delta block was added to; those of long values.
    kept_beside_changes: HashSet<PageAddr>,
    phase: Phase,
    report: CheckpointReport,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    Walk,
    Detach,
    Seal,
    Commit,
    Attach,
    Over,
}

/// What was written and waits for the commit.
#[derive(Default)]
struct Written {
    leaves: Vec<WrittenLeaf>,
    inners: Vec<VisitedInner>,
    /// Pages that no node in memory stands for.
    loose: Vec<PageRef>,
    /// All pages.
    pages: Vec<PageRef>,
    /// What they take.
    bytes: u64,
    /// Pages that leaves still have and that the trees at C do not reach, unless this job reaches them all the same.
    replaced: Vec<PageRef>,
}

/// A leaf that serves now and that was written as it was at C.
struct WrittenLeaf {
    leaf: Leaf,
    /// `None` when it held no records at C.
    image: Option<Image>,
    /// The pages of the image that were written now.
    fresh: Vec<PageRef>,
    /// Whether the image is the one before with a delta block more.
    extends: bool,
    /// Long values that were written elsewhere, and where.
    moved: write::Moved,
}

/// An inner node that the walk counted as clean from its visit on.
struct VisitedInner {
    node: Arc<Inner>,
    /// Its first change before the visit.
    dirty_before: Lsn,
    /// Its page, when it says everything that stands below.
    image: Option<Image>,
}

impl Written {
    fn took(&mut self, page: PageRef) {
        self.bytes += u64::from(page.bytes);
        self.pages.push(page);
    }
}

impl std::fmt::Debug for Written {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Written").field("pages", &self.pages.len()).finish_non_exhaustive()
    }
}

impl Forest {
    /// Writes a checkpoint. Writers go on meanwhile, on other threads.
    ///
    /// ```
    /// # use logwood_base::{DatabaseId, Environment, KeyspaceId, LogId, LogPosition, Lsn};
    /// # use logwood_btree::{At, Change, ChangeKind, Checkpoint, Forest, ForestOptions, Identity, Progress};
    /// # use std::ops::Bound;
    /// # let (env, directory) = (Environment::system()?, tempfile::tempdir()?);
    /// # let identity = Identity { database: DatabaseId(1), log: LogId(2) };
    /// # let forest = Forest::create(&env, directory.path(), identity, ForestOptions::default())?;
    /// # let tree = forest.create_tree(Lsn(1), KeyspaceId(1))?;
    /// # let put = |key: &'static str, value: &'static str| {
    /// #     let (key, value) = (key.as_bytes(), value.as_bytes());
    /// #     Change { keyspace: KeyspaceId(1), kind: ChangeKind::Put { key, value } }
    /// # };
    /// # forest.replay(Lsn(2), &[put("ada", "1815"), put("alan", "1912"), put("grace", "1906")])?;
    /// // What the log must still hold, and what it says to have synced, come from the engine.
    /// let (at, log_durable_end) = (Lsn(2), LogPosition::ZERO);
    /// let report =
    ///     forest.checkpoint(&Checkpoint { at, replay_from: Lsn(3), log_durable_end, engine_state: b"catalog" })?;
    /// assert_eq!((report.lsn, report.leaves), (Lsn(2), 1));
    /// assert_eq!((forest.dirty_bytes(), forest.oldest_dirty_lsn()), (0, None));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`Forest::begin_checkpoint`] and [`CheckpointJob::step`].
    pub fn checkpoint(&self, checkpoint: &Checkpoint<'_>) -> Result<CheckpointReport> {
        let mut job = self.begin_checkpoint(checkpoint)?;
        loop {
            if let Progress::Done(report) = job.step()? {
                return Ok(report);
            }
        }
    }

    /// Begins a checkpoint, to be stepped to its end.
    ///
    /// In steps, with whatever else there is to do between them:
    ///
    /// ```
    /// # use logwood_base::{DatabaseId, Environment, KeyspaceId, LogId, LogPosition, Lsn};
    /// # use logwood_btree::{At, Change, ChangeKind, Checkpoint, Forest, ForestOptions, Identity, Progress};
    /// # use std::ops::Bound;
    /// # let (env, directory) = (Environment::system()?, tempfile::tempdir()?);
    /// # let identity = Identity { database: DatabaseId(1), log: LogId(2) };
    /// # let forest = Forest::create(&env, directory.path(), identity, ForestOptions::default())?;
    /// # let tree = forest.create_tree(Lsn(1), KeyspaceId(1))?;
    /// # let put = |key: &'static str, value: &'static str| {
    /// #     let (key, value) = (key.as_bytes(), value.as_bytes());
    /// #     Change { keyspace: KeyspaceId(1), kind: ChangeKind::Put { key, value } }
    /// # };
    /// # forest.replay(Lsn(2), &[put("ada", "1815"), put("alan", "1912"), put("grace", "1906")])?;
    /// # let log_durable_end = LogPosition::ZERO;
    /// # let checkpoint_at = |at: Lsn| Checkpoint { at, replay_from: at.next(), log_durable_end, engine_state: &[] };
    /// let mut job = forest.begin_checkpoint(&checkpoint_at(Lsn(2)))?;
    /// assert!(forest.begin_checkpoint(&checkpoint_at(Lsn(2))).is_err(), "one at a time");
    /// forest.apply(Lsn(3), &[put("ada", "1852")])?; // it is not in the checkpoint
    /// let report = loop {
    ///     if let Progress::Done(report) = job.step()? {
    ///         break report;
    ///     }
    /// };
    /// assert_eq!((report.lsn, forest.oldest_dirty_lsn()), (Lsn(2), Some(Lsn(3))));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// `InvalidArgument` when one is under way, or for an LSN above what was applied or below the last checkpoint;
    /// `TooOld` for one below the visible LSN at which no snapshot lives.
    pub fn begin_checkpoint(&self, checkpoint: &Checkpoint<'_>) -> Result<CheckpointJob> {
        let mut writer = self.shared.writer.lock();
        let at = checkpoint.at;
        if writer.job_runs {
            return Err(Error::InvalidArgument("a checkpoint is under way".into()));
        }
        if at > writer.applied || at < writer.checkpoint {
            let (last, applied) = (writer.checkpoint, writer.applied);
            let message = format!("checkpoint at {at}, outside of {last} to {applied}");
            return Err(Error::InvalidArgument(message));
        }
        let snapshot = self.snapshot_at(at)?;
        writer.job += 1;
        writer.job_runs = true;
        writer.walk = Some(WalkPosition { keyspace: KeyspaceId(0), next: Some(Vec::new()) });
        let mut trees: Vec<Arc<TreeCore>> = self.shared.trees.read().values().cloned().collect();
        trees.extend(writer.dropped.iter().cloned());
        trees.retain(|core| core.exists_at(at));
        trees.sort_by_key(|core| std::cmp::Reverse(core.id));
        let dropped = writer.dropped.iter().filter(|core| core.dropped() <= at).cloned().collect();
        Ok(CheckpointJob {
            shared: Arc::clone(&self.shared),
            snapshot,
            number: writer.job,
            replay_from: checkpoint.replay_from,
            log_durable_end: checkpoint.log_durable_end,
            engine_state: checkpoint.engine_state.to_vec(),
            trees,
            stack: Vec::new(),
            finished: Vec::new(),
            detaching: detaching::Detaching::new(dropped),
            written: Written::default(),
            kept_beside_changes: HashSet::new(),
            phase: Phase::Walk,
            report: CheckpointReport { lsn: at, ..CheckpointReport::default() },
        })
    }
}

impl CheckpointJob {
    /// Does a bounded piece of work; only sealing and the commit wait for the disk as long as the disk takes.
    ///
    /// ```
    /// # use logwood_base::{DatabaseId, Environment, KeyspaceId, LogId, LogPosition, Lsn};
    /// # use logwood_btree::{At, Change, ChangeKind, Checkpoint, Forest, ForestOptions, Identity, Progress};
    /// # use std::ops::Bound;
    /// # let (env, directory) = (Environment::system()?, tempfile::tempdir()?);
    /// # let identity = Identity { database: DatabaseId(1), log: LogId(2) };
    /// # let forest = Forest::create(&env, directory.path(), identity, ForestOptions::default())?;
    /// # let tree = forest.create_tree(Lsn(1), KeyspaceId(1))?;
    /// # let put = |key: &'static str, value: &'static str| {
    /// #     let (key, value) = (key.as_bytes(), value.as_bytes());
    /// #     Change { keyspace: KeyspaceId(1), kind: ChangeKind::Put { key, value } }
    /// # };
    /// # forest.replay(Lsn(2), &[put("ada", "1815"), put("alan", "1912"), put("grace", "1906")])?;
    /// # let log_durable_end = LogPosition::ZERO;
    /// # let checkpoint_at = |at: Lsn| Checkpoint { at, replay_from: at.next(), log_durable_end, engine_state: &[] };
    /// let mut job = forest.begin_checkpoint(&checkpoint_at(Lsn(2)))?;
    /// while !job.is_durable() {
    ///     assert_eq!(job.step()?, Progress::More);
    /// }
    /// assert_eq!(forest.store().manifest().checkpoint_lsn, job.lsn());
    /// while job.step()? == Progress::More {}
    /// assert!(job.step().is_err(), "it is at its end");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// `DiskFull`, `Io`, `Corruption` of a page that had to be read: the checkpoint is given up, everything stays
    /// dirty, and another one can be begun. `Closed` behind the end.
    pub fn step(&mut self) -> Result<Progress> {
        let result = match self.phase {
            Phase::Walk => self.walk_some(),
            Phase::Detach => self.detach_some(),
            Phase::Seal => self.seal(),
            Phase::Commit => self.commit(),
            Phase::Attach => {
                self.attach_some();
                Ok(())
            }
            Phase::Over => Err(Error::Closed),
        };
        if let Err(error) = result {
            self.give_up();
            return Err(error);
        }
        Ok(if self.phase == Phase::Over { Progress::Done(self.report) } else { Progress::More })
    }

    /// C.
    #[must_use]
    pub fn lsn(&self) -> Lsn {
        self.snapshot.lsn()
    }

    /// Whether the manifest is durable: what remains is to tell the nodes in memory.
    #[must_use]
    pub fn is_durable(&self) -> bool {
        matches!(self.phase, Phase::Attach)
    }

    /// Makes the pages durable.
    fn seal(&mut self) -> Result<()> {
        self.shared.store.seal_all()?;
        self.phase = Phase::Commit;
        Ok(())
    }

    /// Makes it durable that they are the state at C.
    fn commit(&mut self) -> Result<()> {
        // A page that came between what is counted here and what the store counts would be taken for one of C.
        let shared = Arc::clone(&self.shared);
        let _no_pages_come = shared.writing_ahead.lock();
        let (unreached, detached) = self.retire();
        self.finished.sort_by_key(|tree| tree.keyspace);
        self.report.generation = self.shared.store.commit(Commit {
            checkpoint_lsn: self.lsn(),
            replay_from: self.replay_from,
            log_durable_end: self.log_durable_end,
            engine_state: &self.engine_state,
            trees: std::mem::take(&mut self.finished),
            detached,
            unreached: &unreached,
            still_reached: &[],
        })?;
        self.report.bytes += self.written.bytes;
        self.report.count(&mut self.shared.account.written.lock());
        self.shared.writer.lock().walk = None;
        self.phase = Phase::Attach;
        Ok(())
    }
}

impl Drop for CheckpointJob {
    fn drop(&mut self) {
        self.give_up();
    }
}
