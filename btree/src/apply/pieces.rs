//! Changes at one LSN that touch more leaves than memory may hold: those of a large batch, and those that are replayed.
//!
//! They are applied in the order of their keys, a piece at a time. Between two pieces the locks are let go, leaves that did
//! not change are evicted, and what was replaced is freed. Beyond a bound, changed leaves go straight to pages, as those of
//! [`sorted`](super::sorted) changes do; that is safe for the same reasons, and a full disk is no failure at all here: what
//! does not get to its page stays in memory.
//!
//! A batch is looked through before it is written to the log, so that a page that cannot be read is the answer to it
//! alone. The pages do not stay in memory for it: one that can be read then, and no more when the batch is applied, stops
//! the caller.

use logwood_base::{Lsn, Result};

use super::sorted::Pass;
use super::{Applier, Change, ChangeKind, Point, check_order, look_up, parts, preload, sorted};
use crate::account::Class;
use crate::shared::Shared;
use crate::version::Seek;

/// Changes of one piece.
const PIECE_POINTS: usize = 4096;
/// A batch is large when its leaves may take more than this part of the cache, which is the room that is made for it.
const SCATTERED_SHARE: usize = 8;
/// Changed leaves stay in memory up to this many eighths of it.
const DIRTY_EIGHTHS: usize = 7;

/// Bytes that a change takes while it is sorted, beside those of its key and value.
const SORTED_BYTES: usize = size_of::<Change<'_>>() + 2 * size_of::<Point<'_>>() + 16;

/// How the pieces are applied.
#[derive(Clone, Copy)]
struct Pieces {
    lsn: Lsn,
    /// Whether somebody may read below the LSN.
    keeps_past: bool,
    /// Memory for nodes.
    bound: usize,
}

/// Whether the leaves of a batch may take more memory than there is room for.
pub(crate) fn is_scattered(shared: &Shared, changes: &[Change<'_>]) -> bool {
    changes.len().saturating_mul(shared.options.leaf_bytes) > shared.options.cache_bytes / SCATTERED_SHARE
}

/// Finds out whether every page can be read that applying would read, and refuses what that would refuse.
pub(crate) fn prepare_scattered(shared: &Shared, changes: &[Change<'_>]) -> Result<()> {
    let trees = look_up(shared, changes)?;
    if !shared.has_cold() {
        return Ok(());
    }
    for part in parts(changes) {
        let points = sorted(part.points, &trees)?;
        let mut rest = &points[..];
        while let Some(first) = rest.first() {
            let guard = crossbeam_epoch::pin();
            let way = first.core.way(shared, Seek::From(first.key), &guard)?;
            let here = |point: &&Point<'_>| point.core.id == first.core.id && way.reaches(point.key);
            rest = &rest[1 + rest[1..].iter().take_while(here).count()..];
        }
        if let Some(range) = part.range {
            preload(shared, super::tree_of(&trees, range.keyspace)?, range, &crossbeam_epoch::pin())?;
        }
    }
    Ok(())
}

/// Applies the changes of a large batch, which [`prepare_scattered`] has looked through. The caller holds no lock, and nobody
/// else applies meanwhile.
pub(crate) fn apply_scattered(shared: &Shared, lsn: Lsn, changes: &[Change<'_>]) -> Result<()> {
    check_order(&shared.writer.lock(), lsn)?;
    apply_pieces(shared, changes, Pieces { lsn, keeps_past: true, bound: shared.options.cache_bytes })
}

/// Applies the changes of several entries as if they were one at `lsn`, the last one's, which is visible from the
/// beginning: nobody reads yet. So no version is kept, and the memory of a leaf that is rebuilt serves the next ones.
///
/// What the changes take themselves counts against the cache.
pub(crate) fn replay(shared: &Shared, lsn: Lsn, changes: &[Change<'_>]) -> Result<()> {
    check_order(&shared.writer.lock(), lsn)?;
    shared.registry.publish(lsn);
    let taken: usize = changes.iter().map(|change| bytes_of(change) + SORTED_BYTES).sum();
    let cache = shared.options.cache_bytes;
    apply_pieces(shared, changes, Pieces { lsn, keeps_past: false, bound: cache - taken.min(cache / 2) })
}

fn bytes_of(change: &Change<'_>) -> usize {
    match change.kind {
        ChangeKind::Put { key, value } => key.len() + value.len(),
        ChangeKind::Delete { key } => key.len(),
        ChangeKind::DeleteRange { from, to } => from.len() + to.map_or(0, <[u8]>::len),
    }
}

fn apply_pieces(shared: &Shared, changes: &[Change<'_>], how: Pieces) -> Result<()> {
    let trees = look_up(shared, changes)?;
    let mut pass = Pass::new(shared, how.bound / 8 * DIRTY_EIGHTHS, usize::MAX);
    for part in parts(changes) {
        let points = sorted(part.points, &trees)?;
        let mut pieces = points.chunks(PIECE_POINTS).peekable();
        while let Some(piece) = pieces.next() {
            pass.more = pieces.peek().is_some();
            apply_piece(shared, how, |applier| {
                pass.oldest = shared.registry.needs().oldest();
                let may_become = shared.account.bytes(Class::Dirty) + piece.len() * shared.options.leaf_bytes;
                let mut runs = piece.chunk_by(|a, b| a.core.id == b.core.id);
                if may_become <= pass.dirty_max {
                    return runs.try_for_each(|run| applier.write(run[0].core, run));
                }
                runs.try_for_each(|run| applier.write_sorted(run[0].core, run, &mut pass))
            })?;
        }
        // What a range delete detaches is read by its past, until that is pruned.
        apply_piece(shared, Pieces { keeps_past: true, ..how }, |applier| {
            part.delete_range(applier, &trees)
        })?;
        pass.leave_open();
    }
    shared.writer.lock().applied = how.lsn;
    Ok(())
}

/// Does a piece, and gives back what it left behind: memory stays bounded however many pieces there are.
fn apply_piece(
    shared: &Shared,
    how: Pieces,
    work: impl FnOnce(&mut Applier<'_>) -> Result<()>,
) -> Result<()> {
    let writing_ahead = shared.writing_ahead.lock();
    let mut writer = shared.writer.lock();
    let guard = crossbeam_epoch::pin();
    let Pieces { lsn, keeps_past, bound } = how;
    work(&mut Applier { shared, writer: &mut writer, guard: &guard, lsn, keeps_past })?;
    writer.tidy(&shared.registry, &guard);
    shared.evict(&mut writer, bound, &guard);
    drop((writer, writing_ahead, guard));
    shared.collect();
    Ok(())
}
