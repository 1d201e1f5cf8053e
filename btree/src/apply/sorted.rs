//! Changes of one entry that are more than memory may hold: they come in order, and go straight to pages.
//!
//! The changes are taken up a mebibyte at a time and merged into the leaves that they fall into, some [pieces](super::pieces) of
//! leaves one after the other: what a leaf was is freed when its piece ends. While few leaves wait for
//! the next checkpoint, a changed leaf stays in memory, as ever. Beyond that, what it becomes is written to page segments at
//! once, and its parent gets addresses in its place: one leaf becomes many, when input in order fills an empty range. One
//! leaf stays *open*, in memory: the last one, while more is to come for it, or a small one, which those behind it join until
//! it is large enough. When another one is opened, it gets its page too. So deletes, too, leave little behind in memory.
//!
//! # Why that is safe
//! 1. *A crash.* The pages are nobody's until a manifest names them. One below this LSN never does, so that opening throws
//!    their segments away, and replay writes them anew.
//! 2. *A checkpoint of before (C < L).* It finds a leaf on disk that is newer than C, and goes to what that names as its
//!    past. The new pages count as alive, and its manifest leaves them out: [`Writer::ahead`](crate::shared::Writer) has them.
//! 3. *Readers of before.* The address carries the past until nobody needs it, and hands it to the leaf when its page is
//!    loaded. A leaf that did not change since its image is not kept in memory for it: its past is the address of its old page.
//! 4. *A full disk* is no failure yet: what does not get to its page stays in memory, until that holds as much as the cache
//!    may.
//! 5. *A failure half way* leaves the trees with a part of the entry. The caller stops for good; nothing of it was published,
//!    and what it will find when it opens again is the log.

mod pages;

use std::ops::Range;

use logwood_base::{Error, KeyspaceId, Lsn, Result};

use super::pieces::{Pieces, apply_runs, piece_leaves};
use super::{Applier, Change, ChangeKind, Point, check_order, tree_of};
use crate::account::Class;
use crate::descent::TreeCore;
use crate::shared::{Place, Shared};
use crate::version::Seek;

/// Bytes of changes that are taken up at a time, or one change that is larger.
const CHUNK_BYTES: usize = 1 << 20;

/// Puts and deletes in the order of keyspace and key, each key once.
pub trait SortedChanges {
    /// The next change, or `None` behind the last one.
    ///
    /// # Errors
    /// Whatever keeps it from being read. Nothing more is asked for then.
    fn next(&mut self) -> Result<Option<Change<'_>>>;
}

/// Some changes, with their bytes.
#[derive(Default)]
struct Chunk {
    bytes: Vec<u8>,
    points: Vec<Copied>,
}

/// A put or a delete in a [`Chunk`].
struct Copied {
    keyspace: KeyspaceId,
    key: Range<usize>,
    /// `None` deletes.
    value: Option<Range<usize>>,
}

impl Chunk {
    /// Takes up the next changes. Answers whether there may be more.
    fn fill(&mut self, changes: &mut dyn SortedChanges) -> Result<bool> {
        let last = self.points.pop().map(|last| (last.keyspace, self.bytes[last.key].to_vec()));
        self.points.clear();
        self.bytes.clear();
        while self.bytes.len() < CHUNK_BYTES {
            let Some(change) = changes.next()? else { return Ok(false) };
            let (key, value) = match change.kind {
                ChangeKind::Put { key, value } => (key, Some(value)),
                ChangeKind::Delete { key } => (key, None),
                ChangeKind::DeleteRange { .. } => {
                    return Err(Error::InvalidArgument("a range delete among sorted changes".into()));
                }
            };
            let before = match self.points.last() {
                Some(last) => Some((last.keyspace, &self.bytes[last.key.clone()])),
                None => last.as_ref().map(|(keyspace, key)| (*keyspace, &key[..])),
            };
            if before.is_some_and(|before| before >= (change.keyspace, key)) {
                return Err(Error::InvalidArgument("sorted changes that are out of order".into()));
            }
            let start = self.bytes.len();
            self.bytes.extend_from_slice(key);
            let middle = self.bytes.len();
            self.bytes.extend_from_slice(value.unwrap_or_default());
            let value = value.map(|_| middle..self.bytes.len());
            self.points.push(Copied { keyspace: change.keyspace, key: start..middle, value });
        }
        Ok(true)
    }
}

/// What is known while the changes pass by.
pub(super) struct Pass {
    /// Leaves of one piece.
    leaves_max: usize,
    /// Whether others follow behind those at hand.
    pub(super) more: bool,
    /// Whether the disk took every page so far.
    pub(super) has_room: bool,
    /// Bytes of changed leaves, and of what was kept of them, beyond which they go to pages.
    pub(super) dirty_max: usize,
    /// The same of changed leaves on a full disk: it is tried again when nothing else is left.
    pub(super) dirty_max_without_room: usize,
    /// Bytes that older readers have kept from before.
    kept_before: usize,
    /// Whose the open leaf is, and where it begins.
    open: Option<(KeyspaceId, Vec<u8>)>,
}

impl Pass {
    pub(super) fn new(shared: &Shared, dirty_max: usize, dirty_max_without_room: usize) -> Self {
        Self {
            leaves_max: piece_leaves(shared),
            more: true,
            has_room: true,
            dirty_max,
            dirty_max_without_room,
            kept_before: shared.account.bytes(Class::Kept),
            open: None,
        }
    }

    /// Bytes of older versions that were kept since the beginning.
    pub(super) fn kept(&self, shared: &Shared) -> usize {
        shared.account.bytes(Class::Kept).saturating_sub(self.kept_before)
    }

    /// Forgets the open leaf, which stays in memory: it may have been detached.
    pub(super) fn leave_open(&mut self) {
        self.open = None;
    }
}

/// Applies sorted changes as those of the entry at `lsn`.
pub(crate) fn apply_sorted(shared: &Shared, lsn: Lsn, changes: &mut dyn SortedChanges) -> Result<()> {
    check_order(&shared.writer.lock(), lsn)?;
    let mut chunk = Chunk::default();
    let cache = shared.options.cache_bytes;
    let mut pass = Pass::new(shared, cache / 4, cache);
    while pass.more {
        pass.more = chunk.fill(changes)?;
        let mut trees = super::Trees::new();
        for points in chunk.points.chunk_by(|a, b| a.keyspace == b.keyspace) {
            trees.push(
                shared.tree(points[0].keyspace).ok_or_else(|| Error::NotFound {
                    what: "keyspace",
                    name: points[0].keyspace.to_string(),
                })?,
            );
        }
        let points: Vec<Point<'_>> = chunk
            .points
            .iter()
            .map(|point| {
                Ok(Point {
                    core: tree_of(&trees, point.keyspace)?,
                    key: &chunk.bytes[point.key.clone()],
                    value: point.value.clone().map(|value| &chunk.bytes[value]),
                })
            })
            .collect::<Result<_>>()?;
        // The locks are let go between two pieces: a checkpoint of before goes on, and readers evict.
        apply_runs(shared, Pieces { lsn, keeps_past: true, bound: cache }, &points, |applier, run| {
            applier.write_sorted(run[0].core, run, &mut pass)
        })?;
    }
    shared.writer.lock().applied = lsn;
    Ok(())
}

/// Reads what sorted changes would have to read. Answers about how many bytes of pages the leaves take that they change.
pub(crate) fn prepare_sorted(shared: &Shared, changes: &mut dyn SortedChanges) -> Result<u64> {
    if !shared.has_cold() {
        return Ok(shared.account.bytes(Class::Dirty) as u64);
    }
    let mut bytes = 0;
    // The leaf that was looked at last ends here.
    let mut seen: Option<(KeyspaceId, Option<Vec<u8>>)> = None;
    while let Some(change) = changes.next()? {
        let (ChangeKind::Put { key, .. } | ChangeKind::Delete { key }) = change.kind else { continue };
        let inside = seen.as_ref().is_some_and(|(keyspace, high)| {
            *keyspace == change.keyspace && high.as_ref().is_none_or(|high| key < &high[..])
        });
        if !inside {
            let name = || change.keyspace.to_string();
            let core = shared.tree(change.keyspace);
            let core = core.ok_or_else(|| Error::NotFound { what: "keyspace", name: name() })?;
            let guard = crossbeam_epoch::pin();
            // Long values count whole in what a leaf costs, and stay where they are.
            let (way, whole) = shared.look_at_leaf(&core, key, &guard)?;
            bytes += whole.min(2 * shared.options.leaf_bytes) as u64;
            seen = Some((core.id, way.high()));
        }
    }
    Ok(bytes)
}

impl Applier<'_> {
    /// Applies sorted changes of one tree, in memory or straight to pages: those of the first leaves, as many as a piece may
    /// change. Answers how many changes those are.
    pub(super) fn write_sorted(
        &mut self,
        core: &TreeCore,
        points: &[Point<'_>],
        pass: &mut Pass,
    ) -> Result<usize> {
        let guard = self.guard;
        let mut rest = points;
        for _ in 0..pass.leaves_max {
            let Some(first) = rest.first() else { break };
            let way = core.way(self.shared, Seek::From(first.key), guard)?;
            let leaf =
                way.node.leaf().ok_or_else(|| Error::Internal("a way did not end in a leaf".into()))?;
            let count = 1 + rest[1..].iter().take_while(|point| way.reaches(point.key)).count();
            let (here, behind) = rest.split_at(count);
            let bytes = |point: &Point<'_>| point.key.len() + point.value.map_or(0, <[u8]>::len);
            let dirty = self.shared.account.bytes(Class::Dirty) + here.iter().map(bytes).sum::<usize>();
            let kept = pass.kept(self.shared);
            let may_wait = dirty <= pass.dirty_max_without_room;
            let to_disk = if pass.has_room { dirty + kept > pass.dirty_max } else { !may_wait };
            let fits = !to_disk && self.fits(leaf, here);
            let older = match fits {
                true => None,
                false if to_disk && self.keeps_past => Some(self.older_of(core, &way, leaf)),
                false => self.older_on_disk(core, &way, leaf),
            };
            self.make_dirty(&way, leaf, Place { keyspace: core.id, key: first.key });
            if to_disk {
                pass.open.take_if(|(keyspace, low)| *keyspace == core.id && way.covers(low));
                let open = pass.more && behind.is_empty();
                match self.rebuild_on_disk(core, &way, leaf, older.as_ref(), here, open) {
                    Ok(None) => {}
                    Ok(Some(low)) => self.open(pass, (core.id, low), may_wait)?,
                    Err(Error::DiskFull { .. }) if may_wait => {
                        pass.has_room = false;
                        self.rebuild(core, &way, leaf, older.as_ref(), here);
                    }
                    Err(error) => return Err(error),
                }
            } else if fits {
                here.iter().for_each(|point| leaf.push(self.lsn, point.key, point.value));
            } else {
                self.rebuild(core, &way, leaf, older.as_ref(), here);
            }
            rest = behind;
        }
        Ok(points.len() - rest.len())
    }
}
