//! The intervals of points that bases and runs of entries make.

use std::collections::{BTreeMap, BTreeSet};

use logwood_base::{LineageId, Lsn, Result};

use super::{Interval, LineageListing};

/// A run of entries without a hole.
#[derive(Clone, Copy, Debug)]
pub(super) struct Run {
    pub(super) first: Lsn,
    pub(super) last: Lsn,
    pub(super) first_time_ms: u64,
    pub(super) last_time_ms: u64,
}

/// A state that entries can be applied to.
#[derive(Clone, Copy, Debug)]
pub(super) struct BaseAt {
    pub(super) lsn: Lsn,
    pub(super) time_ms: u64,
    pub(super) replay_from: Lsn,
    /// The chain has not come to it.
    pub(super) is_ahead: bool,
}

/// What was seen of a lineage.
#[derive(Debug)]
pub(super) struct Seen {
    pub(super) runs: Vec<Run>,
    pub(super) bases: Vec<BaseAt>,
    /// The first entry that the start names.
    pub(super) first_lsn: Lsn,
    /// Where objects begin, and their lengths, as a listing had them.
    pub(super) objects: BTreeMap<Lsn, u64>,
    /// The last fork of a child.
    pub(super) fork: Option<Lsn>,
}

/// Works out the intervals: of parents before those of their children. Answers that order. `time_of` tells when an entry in the
/// middle of a run was committed, if that can be read.
pub(super) fn settle_intervals(
    lineages: &mut [LineageListing],
    seen: &[Seen],
    mut time_of: impl FnMut(LineageId, Lsn) -> Result<Option<u64>>,
) -> Result<Vec<usize>> {
    let mut settled: BTreeSet<LineageId> = BTreeSet::new();
    let mut order = Vec::new();
    loop {
        let due = lineages.iter().position(|lineage| {
            // A parent that is not there, or is among its own ancestors, gives nothing to begin with.
            let waits = |parent: LineageId| {
                !settled.contains(&parent) && lineages.iter().any(|other| other.lineage == parent)
            };
            !settled.contains(&lineage.lineage) && !lineage.parent.is_some_and(|(parent, _)| waits(parent))
        });
        let Some(at) = due.or_else(|| lineages.iter().position(|other| !settled.contains(&other.lineage)))
        else {
            return Ok(order);
        };
        let Seen { runs, bases, first_lsn, .. } = &seen[at];
        let mut all = bases.clone();
        if *first_lsn == Lsn::FIRST && lineages[at].parent.is_none() {
            all.push(BaseAt { lsn: Lsn::ZERO, time_ms: 0, replay_from: Lsn::FIRST, is_ahead: false });
        }
        if let Some((parent, fork)) = lineages[at].parent {
            let of_parent = lineages.iter().find(|other| other.lineage == parent);
            let within = |interval: &&Interval| (interval.first..=interval.last).contains(&fork);
            if let Some(interval) = of_parent.and_then(|parent| parent.intervals.iter().find(within)) {
                let time_ms = match fork {
                    _ if fork == interval.first => interval.first_time_ms,
                    _ if fork == interval.last => interval.last_time_ms,
                    // Where it cannot be read it was no later than what follows it here and there.
                    _ => time_of(parent, fork)?.unwrap_or_else(|| {
                        let behind = runs.iter().find(|run| run.first == fork.next());
                        behind.map_or(u64::MAX, |run| run.first_time_ms).min(interval.last_time_ms)
                    }),
                };
                all.push(BaseAt { lsn: fork, time_ms, replay_from: fork.next(), is_ahead: false });
            }
        }
        let reached: Vec<BaseAt> = all.iter().copied().filter(|base| !base.is_ahead).collect();
        let found = intervals(runs, &reached);
        lineages[at].intervals = if found.is_empty() { intervals(runs, &all) } else { found };
        settled.insert(lineages[at].lineage);
        order.push(at);
    }
}

/// The intervals that bases and runs make, joined where they touch.
fn intervals(runs: &[Run], bases: &[BaseAt]) -> Vec<Interval> {
    let mut found: Vec<Interval> = Vec::new();
    for base in bases {
        let holding = |lsn: Lsn| runs.iter().find(|run| (run.first..=run.last).contains(&lsn));
        let needs_log = base.replay_from <= base.lsn;
        let before = holding(base.replay_from).filter(|run| run.last >= base.lsn);
        if needs_log && before.is_none() {
            continue;
        }
        let behind = holding(base.lsn.next());
        let (last, last_time_ms) = match behind {
            Some(run) => (run.last, run.last_time_ms),
            None => (base.lsn, base.time_ms),
        };
        let at_first = base.lsn == Lsn::ZERO;
        let (first, first_time_ms) = match behind {
            Some(run) if at_first => (run.first, run.first_time_ms),
            _ if at_first => continue,
            _ => (base.lsn, base.time_ms),
        };
        found.push(Interval { first, last, first_time_ms, last_time_ms });
    }
    found.sort_by_key(|interval| (interval.first, interval.last));
    let mut joined: Vec<Interval> = Vec::new();
    for interval in found {
        match joined.last_mut() {
            Some(before) if interval.first <= before.last.next() => {
                if interval.last > before.last {
                    (before.last, before.last_time_ms) = (interval.last, interval.last_time_ms);
                }
            }
            _ => joined.push(interval),
        }
    }
    joined
}
