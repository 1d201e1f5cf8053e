//! Which of several histories of a database is the later one.
//!
//! Clocks of several machines cannot say: a database that is restored on a machine whose clock is behind writes entries
//! that look older than those of the machine that was lost. What can is the chain. A lineage states where its parent's
//! chain ended when it began; as long as the parent's chain still ends there, the child is the later one, and at least as
//! late as the parent. Only where the parent was written to *after* its child began, and between lineages that do not
//! descend from each other, the times of the newest entries decide; but no entry was made after the store says that it was
//! put, so that a clock that is ahead wins nothing that lasts. When objects were put decides nothing by itself: in a copy of an
//! archive all of them were put when it was copied, and a machine that comes back puts old entries now.

use std::collections::BTreeMap;

use logwood_base::{LineageId, Lsn};

use super::object::Start;

/// What tells how late a lineage is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Written {
    /// When it was written to last, by the clock of whoever wrote: its newest entry, or its beginning; no later than its newest
    /// object was put.
    pub(crate) newest_ms: u64,
    /// The entry that would come next; `None` when that is not known.
    pub(crate) next: Option<Lsn>,
    /// The lineage that it forked from, and the entry that came next there when it did, as far as its start says so.
    pub(crate) parent: Option<(LineageId, Option<Lsn>)>,
}

/// Ranks lineages: the latest is the greatest.
pub(crate) type Rank = (u64, usize, LineageId);

/// Stores tell in whole seconds when an object was put.
const PUT_TIME_ROUNDING_MS: u64 = 1000;

/// No entry of an object is later, by a right clock, which the store says was put then.
pub(crate) fn put_by(put_ms: u64) -> u64 {
    put_ms.saturating_add(PUT_TIME_ROUNDING_MS)
}

impl Written {
    /// `entries_ms`: the time of the newest entry; `put_ms`: when the newest object was put, by the store's clock, where that
    /// is known.
    pub(crate) fn new(start: &Start, entries_ms: u64, put_ms: Option<u64>, next: Option<Lsn>) -> Self {
        let parent = start.parent.map(|parent| (parent.lineage, start.parent_next));
        let put_ms = put_ms.map_or(u64::MAX, put_by);
        Self { newest_ms: entries_ms.max(start.created_ms).min(put_ms), next, parent }
    }

    /// As late as it can be, where the newest entry's time cannot be read.
    pub(crate) fn at_the_latest(self, put_ms: Option<u64>) -> Self {
        Self { newest_ms: put_ms.map_or(u64::MAX, put_by), ..self }
    }

    /// Whether it was written to after a child had found its end at `found`.
    fn went_on(&self, found: Option<Lsn>) -> bool {
        self.next.zip(found).is_some_and(|(next, found)| next > found)
    }
}

/// How late a lineage is, among all.
pub(crate) fn rank(all: &BTreeMap<LineageId, Written>, lineage: LineageId) -> Rank {
    let (mut latest_ms, mut generation) = (0, 0);
    let mut at = all.get(&lineage);
    while let Some(written) = at {
        latest_ms = latest_ms.max(written.newest_ms);
        // A circle of parents, which nobody writes, ends here.
        if generation == all.len() {
            break;
        }
        at = written.parent.and_then(|(parent, found)| {
            let parent = all.get(&parent).filter(|parent| !parent.went_on(found))?;
            generation += 1;
            Some(parent)
        });
    }
    (latest_ms, generation, lineage)
}

#[cfg(test)]
mod tests {
    use super::*;

    const P: LineageId = LineageId(9);
    const C: LineageId = LineageId(5);
    const D: LineageId = LineageId(7);

    fn written(newest_ms: u64, next: u64, parent: Option<(LineageId, Option<Lsn>)>) -> Written {
        Written { newest_ms, next: Some(Lsn(next)), parent }
    }

    fn latest(all: &[(LineageId, Written)]) -> LineageId {
        let all: BTreeMap<LineageId, Written> = all.iter().copied().collect();
        all.keys().copied().max_by_key(|lineage| rank(&all, *lineage)).unwrap()
    }

    #[test]
    fn a_child_is_later_than_a_parent_that_stood_still_whatever_the_clocks_say() {
        for child_ms in [1, 100, 200] {
            let parent = (P, written(100, 50, None));
            // Restored to the end; to an earlier point; by a program that did not note where the parent ended.
            for found in [Some(Lsn(50)), Some(Lsn(60)), None] {
                assert_eq!(
                    latest(&[parent, (C, written(child_ms, 20, Some((P, found))))]),
                    C,
                    "{child_ms} {found:?}"
                );
            }
        }
    }

    #[test]
    fn a_parent_that_went_on_and_strangers_are_compared_by_the_times_of_their_entries() {
        let parent = (P, written(100, 51, None));
        assert_eq!(latest(&[parent, (C, written(99, 60, Some((P, Some(Lsn(50))))))]), P);
        assert_eq!(latest(&[parent, (C, written(101, 60, Some((P, Some(Lsn(50))))))]), C);
        assert_eq!(latest(&[parent, (D, written(99, 60, None))]), P);
        // As late as its parent, a child is later than what is older than the parent.
        let child = (C, written(1, 60, Some((P, Some(Lsn(51))))));
        assert_eq!(latest(&[parent, child, (D, written(50, 9, None))]), C);
        assert_eq!(latest(&[parent, child, (D, written(150, 9, None))]), D);
    }

    #[test]
    fn a_grandchild_is_later_than_both_and_a_circle_ends() {
        let all = [
            (P, written(100, 50, None)),
            (C, written(40, 60, Some((P, Some(Lsn(50)))))),
            (D, written(20, 70, Some((C, Some(Lsn(60)))))),
        ];
        assert_eq!(latest(&all), D);
        let circle = [(P, written(1, 5, Some((C, None)))), (C, written(2, 5, Some((P, None))))];
        assert_eq!(latest(&circle), P);
    }
}
