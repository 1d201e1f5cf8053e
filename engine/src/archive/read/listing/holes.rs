//! What stands in no interval: every entry from the first of a lineage to the last that is known of is in a hole then.
//!
//! Entries that are there and right are of no use without a base: behind a hole up to the next snapshot; before the first
//! snapshot of a lineage whose parent cannot be restored up to the fork. Whether that is damage is what the hole before them is.
//! Where no snapshot follows in the lineage it always is: who lets go of entries on purpose leaves one behind them. Only of a
//! chain that begins behind entry 1, without a parent, the first one may not be there yet.

use logwood_base::{ArchiveDamage, LineageId, Lsn};

use super::intervals::Seen;
use super::{Hole, LineageListing, damaged};
use crate::archive::layout::{log_key, start_key};

/// Why what retention took is no damage.
pub(super) const LET_GO: &str = "no point before the oldest snapshot is kept: retention lets go of them";

/// Completes the holes of a lineage, whose intervals and whose parent are settled.
/// `unread`: starts that cannot be read.
pub(super) fn settle_holes(
    lineages: &mut [LineageListing],
    at: usize,
    seen: &Seen,
    unread: &[ArchiveDamage],
) {
    lineages[at].holes.extend(before_the_first(&lineages[at], seen));
    let missed = missing_ends(lineages, at, seen);
    lineages[at].holes.extend(missed);
    let settled = cut_out_intervals(&lineages[at]);
    lineages[at].holes = settled;
    let unused = unused(lineages, at, seen, unread);
    lineages[at].holes.extend(unused);
    lineages[at].holes.sort_by_key(|hole| (hole.first, hole.last));
}

/// Who begins without a parent behind entry 1 has let go of what came before, or could not tell whose it was.
fn before_the_first(lineage: &LineageListing, seen: &Seen) -> Option<Hole> {
    let last = seen.first_lsn.previous();
    let why = "this lineage begins behind them, with a snapshot and without a parent".to_owned();
    let hole = Hole { first: Lsn::FIRST, last, key: start_key(lineage.lineage), why, is_named_gap: true };
    (lineage.parent.is_none() && last >= Lsn::FIRST).then_some(hole)
}

/// The last entry that anything of the lineage itself tells of; the one before its first, where there is nothing.
fn reach(lineage: &LineageListing, seen: &Seen) -> Lsn {
    let runs = seen.runs.iter().map(|run| run.last);
    let intervals = lineage.intervals.iter().map(|interval| interval.last);
    let holes = lineage.holes.iter().map(|hole| hole.last);
    runs.chain(intervals).chain(holes).max().unwrap_or(seen.first_lsn.previous())
}

/// What a chain lacks behind its end, of which something else tells that it was there.
fn missing_ends(lineages: &[LineageListing], at: usize, seen: &Seen) -> Vec<Hole> {
    let lineage = &lineages[at];
    let reach = reach(lineage, seen);
    let snapshot = seen.bases.iter().max_by_key(|base| base.lsn);
    // The newest object of a chain stays as long as its lineage, and a snapshot goes before the log.
    if let Some(base) = snapshot.filter(|_| seen.objects.is_empty() && begins_with_log(lineages, at, seen)) {
        let last = seen.fork.map_or(base.lsn, |fork| fork.max(base.lsn));
        let key = log_key(lineage.lineage, base.lsn);
        let damage =
            ArchiveDamage::new(&key, "chain", "the object that holds it, or a later one", "no log at all");
        return vec![damaged(damage, (base.lsn, last))];
    }
    let behind_fork = missing_to_fork(lineages, at, seen, reach);
    let known = behind_fork.as_ref().map_or(reach, |hole| hole.last);
    let behind_snapshot = snapshot.filter(|base| base.lsn > known).map(|base| {
        let (first, last) = (known.next(), base.lsn);
        let key = log_key(lineage.lineage, first);
        let found = format!(
            "none, and a snapshot at lsn {last}, which needs the log from lsn {} on",
            base.replay_from
        );
        let hole = damaged(ArchiveDamage::new(&key, "chain", "an object", found), (first, last));
        let is_behind_gap = lineage.holes.iter().any(|hole| hole.is_named_gap && hole.last == known);
        let is_first = seen.bases.len() == 1 && !begins_with_log(lineages, at, seen);
        if base.replay_from <= first && !lineage.superseded && !is_behind_gap && !is_first {
            return hole;
        }
        let why =
            format!("not archived, or not yet: the log ends before what the snapshot at lsn {last} follows");
        Hole { why, is_named_gap: true, ..hole }
    });
    behind_fork.into_iter().chain(behind_snapshot).collect()
}

/// Whether entries of a lineage can be restored without a snapshot of its own: then its log goes up before its first one.
fn begins_with_log(lineages: &[LineageListing], at: usize, seen: &Seen) -> bool {
    let Some((parent, fork)) = lineages[at].parent else { return seen.first_lsn == Lsn::FIRST };
    lineages.iter().filter(|other| other.lineage == parent).any(|parent| {
        parent.intervals.iter().any(|interval| (interval.first..=interval.last).contains(&fork))
    })
}

/// A child was begun behind the end: its start proves that the lineage once reached the fork. Retention takes no end, unless it
/// takes everything, and then every child has a snapshot of its own.
fn missing_to_fork(lineages: &[LineageListing], at: usize, seen: &Seen, reach: Lsn) -> Option<Hole> {
    let lineage = &lineages[at];
    let fork = seen.fork.filter(|fork| *fork > reach)?;
    let behind = |child: &&LineageListing| {
        child.parent.is_some_and(|(parent, fork)| parent == lineage.lineage && fork > reach)
    };
    let key = log_key(lineage.lineage, reach.next());
    let found = format!("none, and a lineage that began behind lsn {fork}");
    let mut hole = damaged(ArchiveDamage::new(&key, "chain", "an object", found), (reach.next(), fork));
    let is_all_gone =
        seen.runs.is_empty() && seen.bases.is_empty() && lineage.holes.iter().all(|hole| hole.is_named_gap);
    let mut children = lineages.iter().filter(behind);
    if lineage.superseded || is_all_gone && children.all(|child| has_snapshot_behind(child, fork)) {
        (hole.is_named_gap, hole.why) = (true, LET_GO.to_owned());
    }
    Some(hole)
}

/// The holes without the points that snapshots hold. Damage is named even if nothing is left of it.
fn cut_out_intervals(lineage: &LineageListing) -> Vec<Hole> {
    let intervals: Vec<(Lsn, Lsn)> =
        lineage.intervals.iter().map(|interval| (interval.first, interval.last)).collect();
    let mut settled = Vec::new();
    for hole in &lineage.holes {
        let parts = without((hole.first, hole.last), &intervals);
        if parts.is_empty() && !hole.is_named_gap {
            settled.push(hole.clone());
        }
        settled.extend(parts.into_iter().map(|(first, last)| Hole { first, last, ..hole.clone() }));
    }
    settled
}

/// The entries that are in no interval and in no hole yet: nothing is left to apply them to.
fn unused(lineages: &[LineageListing], at: usize, seen: &Seen, unread: &[ArchiveDamage]) -> Vec<Hole> {
    let lineage = &lineages[at];
    // A child that holds nothing misses the point that it was to begin with.
    let first = match lineage.parent {
        Some((_, fork)) if lineage.intervals.is_empty() => fork,
        _ => seen.first_lsn,
    };
    let intervals = lineage.intervals.iter().map(|interval| (interval.first, interval.last));
    let mut known: Vec<(Lsn, Lsn)> =
        intervals.chain(lineage.holes.iter().map(|hole| (hole.first, hole.last))).collect();
    known.sort_unstable();
    let last = reach(lineage, seen).max(if first < seen.first_lsn { first } else { Lsn::ZERO });
    if last < first {
        return Vec::new();
    }
    let mut unused = Vec::new();
    for (first, last) in without((first, last), &known) {
        let before = lineage.holes.iter().find(|hole| hole.last.next() == first);
        let parent = lineage.parent.filter(|_| before.is_none() && first <= seen.first_lsn);
        let is_damaged = match (before, parent) {
            (Some(hole), _) => !hole.is_named_gap,
            (None, Some((parent, fork))) => {
                is_unread(unread, parent) || is_damaged_at(lineages, parent, fork)
            }
            (None, None) => false,
        };
        let object = seen.objects.range(..=first).next_back().map_or(first, |(object, _)| *object);
        let (key, why) = match parent {
            Some((parent, _)) if lineages.iter().all(|other| other.lineage != parent) => {
                let what = if is_unread(unread, parent) { "cannot be read" } else { "is gone" };
                (start_key(parent), format!("nothing to begin with: its parent {parent} {what}"))
            }
            Some((parent, fork)) => {
                let key = log_key(lineage.lineage, object);
                (key, format!("nothing to begin with: {parent} cannot be restored up to lsn {fork}"))
            }
            None => {
                let why = "nothing to begin with: no snapshot is left that these entries follow";
                (log_key(lineage.lineage, object), why.to_owned())
            }
        };
        let is_named_gap = lineage.superseded || has_snapshot_behind(lineage, last) && !is_damaged;
        if !is_named_gap && waits_for_first_snapshot(lineage, seen) {
            let why = "its first snapshot is not there yet, which these entries follow".to_owned();
            unused.push(Hole { first, last, key, why, is_named_gap: true });
            continue;
        }
        unused.push(Hole { first, last, key, why, is_named_gap });
    }
    unused
}

/// Whether all that is known of a lineage is what an archiver leaves that has not finished its first snapshot: a chain without
/// a parent that begins behind entry 1, from there on, and nothing that was begun behind it.
fn waits_for_first_snapshot(lineage: &LineageListing, seen: &Seen) -> bool {
    let needs_one = lineage.parent.is_none() && seen.first_lsn > Lsn::FIRST;
    let is_whole = lineage.holes.iter().all(|hole| hole.last < seen.first_lsn);
    needs_one && is_whole && lineage.snapshots.is_empty() && seen.fork.is_none()
}

/// Whether a snapshot stands behind an entry. The log that it needs may still be on its way, as behind a gap.
fn has_snapshot_behind(lineage: &LineageListing, lsn: Lsn) -> bool {
    lineage.snapshots.iter().any(|snapshot| snapshot.damage.is_none() && snapshot.lsn > lsn)
}

/// Whether it is for damage that a parent does not lead to a fork. One that is gone went as a whole.
fn is_damaged_at(lineages: &[LineageListing], parent: LineageId, fork: Lsn) -> bool {
    let Some(parent) = lineages.iter().find(|other| other.lineage == parent) else { return false };
    match parent.holes.iter().find(|hole| (hole.first..=hole.last).contains(&fork)) {
        Some(hole) => !hole.is_named_gap,
        None => parent.holes.iter().any(|hole| !hole.is_named_gap),
    }
}

fn is_unread(unread: &[ArchiveDamage], lineage: LineageId) -> bool {
    let key = start_key(lineage);
    unread.iter().any(|damage| damage.key == key)
}

/// What is left of a range, without others that stand in order.
fn without((first, last): (Lsn, Lsn), others: &[(Lsn, Lsn)]) -> Vec<(Lsn, Lsn)> {
    let (mut parts, mut next) = (Vec::new(), first);
    for (from, to) in others.iter().filter(|(from, to)| *from <= last && *to >= first) {
        if *from > next {
            parts.push((next, from.previous()));
        }
        next = next.max(to.next());
    }
    if next <= last {
        parts.push((next, last));
    }
    parts
}
