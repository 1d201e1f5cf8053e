//! Changes at one LSN that touch more leaves than memory may hold: those of a large batch, and those that are replayed.
//!
//! They are applied in the order of their keys, a piece at a time: some changes of one tree, and some leaves, since what a piece
//! replaces cannot be freed before it ends. Between two pieces the locks are let go, leaves that did not change are evicted,
//! and what was replaced is freed. So anybody may come between two leaves of an entry, and what that means is said in
//! [`sorted`](super::sorted): a checkpoint of before among them, which sees neither half. Beyond a bound, changed leaves go straight to pages, as those of
//! [`sorted`](super::sorted) changes do; that is safe for the same reasons, and a full disk is no failure at all here: what
//! does not get to its page stays in memory.
//!
//! A batch is looked through before it is written to the log, so that a page that cannot be read is the answer to it
//! alone. Leaves that will be rebuilt do not come into memory for it: a page that can be read then, and no more when the batch is
//! applied, stops the caller. The order that it was looked through in is kept until it is applied.
//!
//! # What is kept of before
//! 1. Whoever reads below the LSN finds what he would have found, whatever was in memory: in the leaf itself, or in its page.
//! 2. A page serves him only if it says all of the leaf to everybody who may read below ([`Applier::older_of`]). Its file stays
//!    for as long as that past does, and no manifest from this LSN on reaches it.
//! 3. Of a leaf that was on disk the page serves: its memory serves the next ones. So a batch over leaves on disk takes
//!    memory for what is new alone. Of one that was in memory the leaf itself serves, as ever, until a part of the cache is kept so.
//! 4. A checkpoint of before (C < L) goes to that page by the past of the new leaf, as it does for leaves that
//!    [`sorted`](super::sorted) changes have sent to disk; a crash leaves its manifest, which names the page.

use logwood_base::{Lsn, Result};

use super::order::Order;
use super::sorted::Pass;
use super::{Applier, Change, ChangeKind, Point, check_order, look_up, parts, preload};
use crate::account::Class;
use crate::node::delta::DELTA_SLOTS;
use crate::shared::Shared;

/// Leaves of one piece: what they take is at most this part of the cache, or they are so few that letting go would be what
/// costs.
const PIECE_SHARE: usize = 16;
const PIECE_LEAVES_MIN: usize = 64;
/// A batch is large when its leaves may take more than this part of the cache, which is the room that is made for it.
const SCATTERED_SHARE: usize = 8;
/// What leaves were before stays in memory up to this part of the cache.
const KEPT_SHARE: usize = 8;
/// Changed leaves stay in memory up to this many eighths of it.
const DIRTY_EIGHTHS: usize = 7;

/// Bytes that a change takes while it is sorted, beside those of its key and value: itself, a head with its number, and its
/// number twice.
const SORTED_BYTES: usize = size_of::<Change<'_>>() + size_of::<(u64, u32)>() + 2 * size_of::<u32>();

/// How the pieces are applied.
#[derive(Clone, Copy)]
pub(super) struct Pieces {
    pub(super) lsn: Lsn,
    /// Whether somebody may read below the LSN.
    pub(super) keeps_past: bool,
    /// Memory for nodes.
    pub(super) bound: usize,
}

/// Leaves that one piece changes at most.
pub(super) fn piece_leaves(shared: &Shared) -> usize {
    (shared.options.cache_bytes / PIECE_SHARE / shared.options.leaf_bytes).max(PIECE_LEAVES_MIN)
}

/// Whether the leaves of a batch may take more memory than there is room for.
pub(crate) fn is_scattered(shared: &Shared, changes: &[Change<'_>]) -> bool {
    changes.len().saturating_mul(shared.options.leaf_bytes) > shared.options.cache_bytes / SCATTERED_SHARE
}

/// The order of the puts and deletes in each part of a batch.
pub(crate) struct Orders(Vec<Order>);

impl Orders {
    fn of(changes: &[Change<'_>]) -> Self {
        Self(parts(changes).map(|part| Order::of(part.points)).collect())
    }
}

/// Finds out whether every page can be read that applying would read, and refuses what that would refuse. What is on disk and
/// will be rebuilt stays there. Answers the order in which the changes are to be applied.
pub(crate) fn prepare_scattered(shared: &Shared, changes: &[Change<'_>]) -> Result<Orders> {
    let trees = look_up(shared, changes)?;
    let orders = Orders::of(changes);
    if !shared.has_cold() {
        return Ok(orders);
    }
    for (part, order) in parts(changes).zip(&orders.0) {
        for points in order.chunks(part.points, &trees) {
            let points = points?;
            let mut rest = &points[..];
            while let Some(first) = rest.first() {
                let guard = crossbeam_epoch::pin();
                let way = first.core.way_to_level(shared, first.key, 0, &guard)?;
                let here = |point: &&Point<'_>| point.core.id == first.core.id && way.reaches(point.key);
                let count = 1 + rest[1..].iter().take_while(here).count();
                if count <= DELTA_SLOTS {
                    // It will take them in and stay in memory, so it need not be read twice.
                    first.core.leaf_of(shared, first.key, &guard)?;
                } else {
                    shared.look_at_leaf(first.core, first.key, &guard)?;
                }
                rest = &rest[count..];
            }
        }
        if let Some(range) = part.range {
            preload(shared, super::tree_of(&trees, range.keyspace)?, range, &crossbeam_epoch::pin())?;
        }
    }
    Ok(orders)
}

/// Applies the changes of a large batch, which [`prepare_scattered`] has looked through and put in order. The caller holds no
/// lock, and nobody else applies meanwhile.
pub(crate) fn apply_scattered(
    shared: &Shared,
    lsn: Lsn,
    changes: &[Change<'_>],
    orders: &Orders,
) -> Result<()> {
    check_order(&shared.writer.lock(), lsn)?;
    let how = Pieces { lsn, keeps_past: true, bound: shared.options.cache_bytes };
    apply_pieces(shared, changes, orders, how)
}

/// Applies the changes of several entries as if they were one at `lsn`, the last one's, which is visible from the
/// beginning: nobody reads yet. So no version is kept, and the memory of a leaf that is rebuilt serves the next ones.
///
/// What the changes take themselves counts against the cache, and so do `beside` bytes that the caller holds.
pub(crate) fn replay(shared: &Shared, lsn: Lsn, changes: &[Change<'_>], beside: usize) -> Result<()> {
    check_order(&shared.writer.lock(), lsn)?;
    shared.registry.publish(lsn);
    let taken = beside + changes.iter().map(|change| bytes_of(change) + SORTED_BYTES).sum::<usize>();
    let cache = shared.options.cache_bytes;
    let how = Pieces { lsn, keeps_past: false, bound: cache - taken.min(cache / 2) };
    apply_pieces(shared, changes, &Orders::of(changes), how)
}

fn bytes_of(change: &Change<'_>) -> usize {
    match change.kind {
        ChangeKind::Put { key, value } => key.len() + value.len(),
        ChangeKind::Delete { key } => key.len(),
        ChangeKind::DeleteRange { from, to } => from.len() + to.map_or(0, <[u8]>::len),
    }
}

fn apply_pieces(shared: &Shared, changes: &[Change<'_>], orders: &Orders, how: Pieces) -> Result<()> {
    let trees = look_up(shared, changes)?;
    let mut pass = Pass::new(shared, how.bound / 8 * DIRTY_EIGHTHS, usize::MAX);
    for (part, order) in parts(changes).zip(&orders.0) {
        let leaves_max = piece_leaves(shared);
        let mut chunks = order.chunks(part.points, &trees);
        while let Some(points) = chunks.next() {
            pass.more = chunks.len() > 0;
            apply_runs(shared, how, &points?, |applier, run| {
                let more = run.len().min(leaves_max) * shared.options.leaf_bytes;
                let changed = shared.account.bytes(Class::Dirty) + pass.kept(shared);
                if changed + more <= pass.dirty_max {
                    return applier.write(run[0].core, run, leaves_max);
                }
                applier.write_sorted(run[0].core, run, &mut pass)
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

/// Applies sorted changes, a piece at a time. `work` gets those of one tree that are left, does those of some leaves, and
/// answers how many that were.
pub(super) fn apply_runs<'p>(
    shared: &Shared,
    how: Pieces,
    points: &[Point<'p>],
    mut work: impl FnMut(&mut Applier<'_>, &[Point<'p>]) -> Result<usize>,
) -> Result<()> {
    for run in points.chunk_by(|a, b| a.core.id == b.core.id) {
        let mut rest = run;
        while !rest.is_empty() {
            let done = apply_piece(shared, how, |applier| work(applier, rest))?;
            rest = &rest[done..];
        }
    }
    Ok(())
}

/// Does a piece, and gives back what it left behind: memory stays bounded however many pieces there are.
fn apply_piece<T>(
    shared: &Shared,
    how: Pieces,
    work: impl FnOnce(&mut Applier<'_>) -> Result<T>,
) -> Result<T> {
    let writing_ahead = shared.writing_ahead.lock();
    let mut writer = shared.writer.lock();
    let guard = crossbeam_epoch::pin();
    let Pieces { lsn, keeps_past, bound } = how;
    let kept_max = shared.options.cache_bytes / KEPT_SHARE;
    let done = work(&mut Applier { shared, writer: &mut writer, guard: &guard, lsn, keeps_past, kept_max })?;
    writer.tidy(&shared.registry, &guard);
    shared.evict(&mut writer, bound, &guard);
    drop((writer, writing_ahead, guard));
    shared.collect();
    #[cfg(test)]
    shared.account.pieces.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    Ok(done)
}
