//! Where a group's entries stand, and in which terms: compact, so that memory does not grow with entries.
//!
//! A [`Run`] is a stretch of one segment in which consecutive entries of one group are found by walking over its
//! batches. Small batches that follow each other are joined into one run of about 64 KiB, so that a run (32 bytes and
//! a flag) stands for many entries, and a run is also what one read brings in. Terms change rarely: they are kept as
//! the places where they do.
//!
//! 1. Runs are ascending and do not overlap. A missing LSN above the group's base is a *gap*: known to exist, not
//!    found (yet). Copies of idle groups fill gaps; what is left of them after recovery is corruption.
//! 2. Inside the bytes of a run, the first batches that hold its LSNs are the current ones: a run that was cut short
//!    by an override is closed and never joined again.

use logwood_base::{LogPosition, Lsn, SegmentNo, Term};

use crate::format::BLOCK;

/// A run is joined with what follows until it has about this many bytes.
const RUN_BYTES: u32 = 64 << 10;

/// Consecutive entries of a group in one segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Run {
    pub(crate) first: Lsn,
    pub(crate) last: Lsn,
    /// A batch of the group begins here; entries before `first` that it may hold do not belong to the run.
    pub(crate) start: LogPosition,
    /// End of the last batch that belongs to the run.
    pub(crate) end: u32,
    /// Bytes of the group's own batches between `start` and `end`, with their padding.
    pub(crate) bytes: u32,
    pub(crate) closed: bool,
}

/// The runs of a group.
#[derive(Clone, Debug, Default)]
pub(crate) struct RunIndex {
    runs: Vec<Run>,
}

impl RunIndex {
    /// Adds a batch that was appended: it replaces everything at or after its first entry.
    pub(crate) fn append(&mut self, run: Run) {
        self.truncate(run.first);
        if let Some(before) = self.runs.last_mut() {
            let adjoins = !before.closed
                && before.last.next() == run.first
                && before.start.segment == run.start.segment
                && before.end <= run.start.offset
                && run.end - before.start.offset <= RUN_BYTES;
            if adjoins {
                // The padding in front of a fresh block is part of what an entry takes.
                let gap = run.start.offset - before.end;
                before.bytes += run.bytes + if gap < BLOCK { gap } else { 0 };
                before.last = run.last;
                before.end = run.end;
                return;
            }
        }
        self.runs.push(run);
    }

    /// Adds a copied batch: it takes the place of what its entries had, and drops nothing else.
    pub(crate) fn replace(&mut self, run: Run) {
        let at = self.cut_out(run.first, run.last);
        self.runs.insert(at, Run { closed: true, ..run });
    }

    /// The same of the entries above `base` alone: those below went while the copy was on its way.
    pub(crate) fn replace_above(&mut self, base: Lsn, run: Run) {
        let first = run.first.max(base.next());
        if first <= run.last {
            self.replace(Run { first, ..run });
        }
    }

    /// Lets nothing join the last run any more: what follows does not adjoin it.
    pub(crate) fn close(&mut self) {
        if let Some(run) = self.runs.last_mut() {
            run.closed = true;
        }
    }

    /// Forgets every entry at or after `from`.
    pub(crate) fn truncate(&mut self, from: Lsn) {
        while let Some(run) = self.runs.last_mut() {
            if run.last < from {
                return;
            }
            if run.first < from {
                run.last = from.previous();
                run.closed = true;
                return;
            }
            self.runs.pop();
        }
    }

    /// Forgets every entry at or before `to`.
    pub(crate) fn drop_to(&mut self, to: Lsn) {
        let gone = self.runs.partition_point(|run| run.last <= to);
        self.runs.drain(..gone);
        if let Some(run) = self.runs.first_mut() {
            run.first = run.first.max(to.next());
        }
    }

    /// Forgets everything.
    pub(crate) fn clear(&mut self) {
        self.runs.clear();
    }

    /// The run that holds `lsn`.
    pub(crate) fn find(&self, lsn: Lsn) -> Option<&Run> {
        let at = self.runs.partition_point(|run| run.last < lsn);
        self.runs.get(at).filter(|run| run.first <= lsn)
    }

    /// The gaps within `first..=last`.
    pub(crate) fn gaps(&self, first: Lsn, last: Lsn) -> Vec<(Lsn, Lsn)> {
        let mut gaps = Vec::new();
        let mut next = first;
        let from = self.runs.partition_point(|run| run.last < first);
        for run in &self.runs[from..] {
            if next > last || run.first > last {
                break;
            }
            if run.first > next {
                gaps.push((next, run.first.previous()));
            }
            next = run.last.next();
        }
        if next <= last {
            gaps.push((next, last));
        }
        gaps
    }

    /// The runs that lie in a segment.
    pub(crate) fn in_segment(&self, segment: SegmentNo) -> impl Iterator<Item = &Run> {
        self.runs.iter().filter(move |run| run.start.segment == segment)
    }

    /// The runs that lie in segments up to this one.
    pub(crate) fn through_segment(&self, segment: SegmentNo) -> impl Iterator<Item = &Run> {
        self.runs.iter().filter(move |run| run.start.segment <= segment)
    }

    /// All runs, ascending.
    pub(crate) fn runs(&self) -> &[Run] {
        &self.runs
    }

    /// Takes `first..=last` out of all runs, and answers where a run for them belongs.
    fn cut_out(&mut self, first: Lsn, last: Lsn) -> usize {
        let from = self.runs.partition_point(|run| run.last < first);
        let to = self.runs.partition_point(|run| run.first <= last);
        if from >= to {
            return from;
        }
        let (head, tail) = (self.runs[from], self.runs[to - 1]);
        let mut kept = Vec::with_capacity(2);
        if head.first < first {
            kept.push(Run { last: first.previous(), closed: true, ..head });
        }
        let at = from + kept.len();
        if tail.last > last {
            kept.push(Run { first: last.next(), ..tail });
        }
        self.runs.splice(from..to, kept);
        at
    }
}

/// In which term each entry of a group was written: the LSNs at which the term changes.
#[derive(Clone, Debug, Default)]
pub(crate) struct TermIndex {
    /// Ascending; `Term::NONE` marks entries whose term is not known (a gap).
    changes: Vec<(Lsn, Term)>,
}

impl TermIndex {
    /// The term of an entry that the group has. `Term::NONE` when it is not known.
    pub(crate) fn term_of(&self, lsn: Lsn) -> Term {
        let at = self.changes.partition_point(|(first, _)| *first <= lsn);
        at.checked_sub(1).map_or(Term::NONE, |at| self.changes[at].1)
    }

    /// Adds one entry behind the last one.
    pub(crate) fn push(&mut self, lsn: Lsn, term: Term) {
        if self.changes.last().is_none_or(|(_, before)| *before != term) {
            self.changes.push((lsn, term));
        }
    }

    /// Sets the term of entries inside what is known, `last` being the group's last entry.
    pub(crate) fn set(&mut self, first: Lsn, to: Lsn, term: Term, last: Lsn) {
        let after = (to < last).then(|| self.term_of(to.next()));
        let from = self.changes.partition_point(|(start, _)| *start < first);
        let until = self.changes.partition_point(|(start, _)| *start <= to.next());
        let mut inserted = Vec::with_capacity(2);
        let before = from.checked_sub(1).map(|at| self.changes[at].1);
        if before != Some(term) {
            inserted.push((first, term));
        }
        if let Some(after) = after.filter(|after| *after != term) {
            inserted.push((to.next(), after));
        }
        self.changes.splice(from..until, inserted);
    }

    /// Forgets every entry at or after `from`.
    pub(crate) fn truncate(&mut self, from: Lsn) {
        let kept = self.changes.partition_point(|(first, _)| *first < from);
        self.changes.truncate(kept);
    }

    /// Forgets every entry before `to`, and keeps the term of `to` itself.
    pub(crate) fn drop_before(&mut self, to: Lsn) {
        let at = self.changes.partition_point(|(first, _)| *first <= to);
        if at > 1 {
            self.changes.drain(..at - 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn run(first: u64, last: u64, segment: u64, start: u32, end: u32) -> Run {
        let start = LogPosition::new(SegmentNo(segment), start);
        Run { first: Lsn(first), last: Lsn(last), start, end, bytes: end, closed: false }
    }

    #[test]
    fn small_batches_join_and_an_override_ends_the_joining() {
        let mut index = RunIndex::default();
        index.append(run(1, 2, 1, 4096, 4200));
        index.append(run(3, 3, 1, 8192, 8300));
        assert_eq!(index.runs().len(), 1);
        index.append(run(3, 4, 1, 12288, 12400));
        assert_eq!(index.runs().len(), 2, "the overridden run is closed");
        index.append(run(5, 5, 2, 4096, 4200));
        assert_eq!(index.runs().len(), 3, "a run never spans segments");
        assert_eq!(index.find(Lsn(2)).unwrap().last, Lsn(2));
        assert_eq!(index.gaps(Lsn(1), Lsn(6)), vec![(Lsn(6), Lsn(6))]);
    }

    #[test]
    fn runs_and_terms_agree_with_a_map_under_random_changes() {
        for seed in 0..200 {
            let mut rng = fastrand::Rng::with_seed(seed);
            let (mut index, mut terms) = (RunIndex::default(), TermIndex::default());
            let mut model: BTreeMap<u64, (u64, u64)> = BTreeMap::new();
            let (mut position, mut base, mut term) = (0u32, 0u64, 1u64);
            for step in 0..100u64 {
                let last = model.keys().next_back().copied().unwrap_or(base);
                position += 100;
                let segment = 1 + step / 40;
                match rng.u8(..10) {
                    0..=5 => {
                        let first = if rng.u8(..4) == 0 { rng.u64(base + 1..=last + 1) } else { last + 1 };
                        term += u64::from(rng.u8(..5) == 0);
                        let to = first + rng.u64(..5);
                        model.retain(|lsn, _| *lsn < first);
                        index.append(run(first, to, segment, position, position + 50));
                        terms.truncate(Lsn(first));
                        for lsn in first..=to {
                            model.insert(lsn, (segment, term));
                            terms.push(Lsn(lsn), Term(term));
                        }
                    }
                    6..=7 if last > base => {
                        let first = rng.u64(base + 1..=last);
                        let to = rng.u64(first..=last);
                        index.replace(run(first, to, 9, position, position + 50));
                        for lsn in first..=to {
                            model.entry(lsn).and_modify(|entry| entry.0 = 9);
                        }
                        let same = terms.term_of(Lsn(first));
                        let until = (first..=to).take_while(|lsn| model[lsn].1 == same.0).last().unwrap();
                        terms.set(Lsn(first), Lsn(until), same, Lsn(last));
                    }
                    8 if last > base => {
                        base = rng.u64(base..=last);
                        model.retain(|lsn, _| *lsn > base);
                        index.drop_to(Lsn(base));
                        terms.drop_before(Lsn(base));
                    }
                    _ => {}
                }
                for lsn in base + 1..base + 30 {
                    let found = index.find(Lsn(lsn)).map(|run| run.start.segment.0);
                    assert_eq!(found, model.get(&lsn).map(|entry| entry.0), "seed {seed} lsn {lsn}");
                    if let Some((_, term)) = model.get(&lsn) {
                        assert_eq!(terms.term_of(Lsn(lsn)), Term(*term), "seed {seed} lsn {lsn}");
                    }
                }
            }
        }
    }
}
