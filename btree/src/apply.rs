//! Changes to the trees, in LSN order, by one writer at a time.
//!
//! A batch is cut at its range deletes. Between them changes are sorted by tree and key, the last one of each key
//! wins, and they are applied leaf by leaf: few changes go to the leaf's delta area, many rebuild it. Everything that
//! can fail (a damaged page, a full batch) fails before anything is changed.
//!
//! | module | what it does |
//! |---|---|
//! | [`write`] | point changes of one leaf: append, or rebuild |
//! | [`split`] | new leaves and inner nodes in the place of old ones |
//! | [`merge`] | a small leaf joins its neighbour |
//! | [`sorted`] | more changes than memory may hold, straight to pages |
//! | [`pieces`] | changes that touch more leaves than memory may hold, and those that are replayed |
//! | [`detach`] | a range delete: its ends change, what stands between them leaves the tree whole |
//! | [`order`] | changes in the order of trees and keys |

mod detach;
mod merge;
mod order;
mod pieces;
mod sorted;
mod split;
mod write;

use std::sync::Arc;

use crossbeam_epoch::Guard;
use logwood_base::limits::{self, KEY_BYTES_MAX, VALUE_BYTES_MAX};
use logwood_base::{Error, KeyspaceId, Lsn, Result};
use smallvec::SmallVec;

use crate::descent::TreeCore;
use crate::shared::{Shared, Writer};

/// One change of one tree.
#[derive(Clone, Copy, Debug)]
pub struct Change<'a> {
    /// Whose tree.
    pub keyspace: KeyspaceId,
    /// What happens.
    pub kind: ChangeKind<'a>,
}

/// What happens to a tree.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ChangeKind<'a> {
    /// The key has this value from now on.
    Put {
        /// At most `KEY_BYTES_MAX` long.
        key: &'a [u8],
        /// At most `VALUE_BYTES_MAX` long.
        value: &'a [u8],
    },
    /// The key is absent from now on.
    Delete {
        /// Which key.
        key: &'a [u8],
    },
    /// All keys of a range are absent from now on.
    DeleteRange {
        /// The first key of the range.
        from: &'a [u8],
        /// The first key behind it; `None`: to the end.
        to: Option<&'a [u8]>,
    },
}

pub use order::in_order;
pub(crate) use pieces::{Orders, apply_scattered, is_scattered, prepare_scattered, replay};
pub use sorted::SortedChanges;
pub(crate) use sorted::{apply_sorted, prepare_sorted};

/// Puts and deletes of one entry, mostly few.
type Points<'a> = SmallVec<[Point<'a>; 2]>;

/// A put or a delete, with its tree looked up.
#[derive(Clone, Copy)]
struct Point<'a> {
    core: &'a TreeCore,
    key: &'a [u8],
    /// `None` deletes.
    value: Option<&'a [u8]>,
}

/// The trees that an entry changes: mostly one.
type Trees = SmallVec<[Arc<TreeCore>; 1]>;

/// One application of one LSN.
struct Applier<'s> {
    shared: &'s Shared,
    writer: &'s mut Writer,
    guard: &'s Guard,
    lsn: Lsn,
    /// Whether somebody may read below the LSN.
    keeps_past: bool,
    /// Bytes of older versions in memory beyond which the page of a leaf that is rebuilt serves who reads below.
    kept_max: usize,
}

/// Applies the changes of one entry, of which [`prepare`] made nothing that can fail be left, if it was called.
pub(crate) fn apply(
    shared: &Shared,
    writer: &mut Writer,
    lsn: Lsn,
    changes: &[Change<'_>],
    prepared: bool,
    guard: &Guard,
) -> Result<()> {
    check_order(writer, lsn)?;
    let trees = if prepared { look_up(shared, changes)? } else { prepare(shared, changes)? };
    let mut applier = Applier { shared, writer, guard, lsn, keeps_past: true, kept_max: usize::MAX };
    for part in parts(changes) {
        for run in sorted(part.points, &trees)?.chunk_by(|a, b| a.core.id == b.core.id) {
            applier.write(run[0].core, run, usize::MAX)?;
        }
        part.delete_range(&mut applier, &trees)?;
    }
    writer.applied = lsn;
    writer.tidy(&shared.registry, guard);
    Ok(())
}

fn check_order(writer: &Writer, lsn: Lsn) -> Result<()> {
    if lsn > writer.applied {
        return Ok(());
    }
    let found = writer.applied;
    Err(Error::InvalidArgument(format!("entry {lsn} applied behind entry {found}")))
}

/// Puts and deletes of an entry, and the range delete behind them.
struct Part<'c, 'a> {
    points: &'c [Change<'a>],
    range: Option<&'c Change<'a>>,
}

/// Cuts changes behind their range deletes.
fn parts<'c, 'a>(changes: &'c [Change<'a>]) -> impl Iterator<Item = Part<'c, 'a>> {
    let is_range = |change: &Change<'_>| matches!(change.kind, ChangeKind::DeleteRange { .. });
    changes.split_inclusive(is_range).map(move |part| match part.split_last() {
        Some((last, points)) if is_range(last) => Part { points, range: Some(last) },
        _ => Part { points: part, range: None },
    })
}

impl Part<'_, '_> {
    fn delete_range(&self, applier: &mut Applier<'_>, trees: &[Arc<TreeCore>]) -> Result<()> {
        match self.range {
            Some(Change { keyspace, kind: ChangeKind::DeleteRange { from, to } }) => {
                applier.delete_range(tree_of(trees, *keyspace)?, from, *to)
            }
            _ => Ok(()),
        }
    }
}

/// Does everything that can fail before anything is changed. Answers the trees that are changed.
pub(crate) fn prepare(shared: &Shared, changes: &[Change<'_>]) -> Result<Trees> {
    let trees = look_up(shared, changes)?;
    if shared.has_cold() {
        let guard = crossbeam_epoch::pin();
        for change in changes {
            preload(shared, tree_of(&trees, change.keyspace)?, change, &guard)?;
        }
    }
    Ok(trees)
}

/// One of a few trees. Batches touch few, mostly one.
fn tree_of(trees: &[Arc<TreeCore>], keyspace: KeyspaceId) -> Result<&TreeCore> {
    let found = trees.iter().find(|core| core.id == keyspace).map(|core| &**core);
    found.ok_or_else(|| Error::NotFound { what: "keyspace", name: keyspace.to_string() })
}

/// The trees that are changed, each once. Refuses what passes a limit.
fn look_up(shared: &Shared, changes: &[Change<'_>]) -> Result<Trees> {
    let all = shared.trees.read();
    let mut trees = Trees::new();
    for change in changes {
        if let ChangeKind::Put { key, value } = change.kind {
            limits::check("key bytes", key.len(), KEY_BYTES_MAX)?;
            limits::check("value bytes", value.len(), VALUE_BYTES_MAX)?;
        }
        if trees.iter().all(|core| core.id != change.keyspace) {
            let core = all.get(&change.keyspace).cloned();
            let name = || change.keyspace.to_string();
            trees.push(core.ok_or_else(|| Error::NotFound { what: "keyspace", name: name() })?);
        }
    }
    Ok(trees)
}

/// Loads the leaves that a change touches. Nothing is evicted while the writer's lock is held, so they stay.
fn preload(shared: &Shared, core: &TreeCore, change: &Change<'_>, guard: &Guard) -> Result<()> {
    match change.kind {
        ChangeKind::Put { key, .. } | ChangeKind::Delete { key } => {
            core.leaf_of(shared, key, guard).map(drop)
        }
        // What stands between the leaves at its ends is detached as it is.
        ChangeKind::DeleteRange { from, to } => {
            let first = core.leaf_of(shared, from, guard).map(drop);
            to.map_or(Ok(()), |to| core.leaf_of(shared, to, guard).map(drop)).and(first)
        }
    }
}

/// Puts and deletes in the order of trees and keys, the last one of each key.
fn sorted<'t, 'a: 't>(changes: &[Change<'a>], trees: &'t [Arc<TreeCore>]) -> Result<Points<'t>> {
    let points = changes.iter().map(|change| point(change, trees)).collect::<Result<_>>()?;
    Ok(order::sort(points))
}

/// A put or a delete with its tree.
fn point<'t, 'a: 't>(change: &Change<'a>, trees: &'t [Arc<TreeCore>]) -> Result<Point<'t>> {
    let core = tree_of(trees, change.keyspace)?;
    match change.kind {
        ChangeKind::Put { key, value } => Ok(Point { core, key, value: Some(value) }),
        ChangeKind::Delete { key } => Ok(Point { core, key, value: None }),
        ChangeKind::DeleteRange { .. } => {
            Err(Error::Internal("a range delete among puts and deletes".into()))
        }
    }
}
