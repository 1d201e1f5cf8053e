//! What the log knows of one group: its record, where its entries stand, and its recent entries in memory.
//!
//! The rules by which batches change a group are written once, here, and used on both sides: a call that would break
//! one is refused before anything is numbered, and a batch on disk that breaks one is corruption.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use logwood_base::{Lsn, Term};

use crate::format::header::GroupRecord;
use crate::index::{RunIndex, TermIndex};
use crate::segment::Segment;

/// A rule that does not hold: what was checked, expected and found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Violation {
    pub(crate) check: &'static str,
    pub(crate) expected: String,
    pub(crate) found: String,
}

impl Violation {
    fn new(check: &'static str, expected: impl ToString, found: impl ToString) -> Self {
        Self { check, expected: expected.to_string(), found: found.to_string() }
    }
}

/// A group's record with the places and terms of its entries.
#[derive(Clone, Debug, Default)]
pub(crate) struct GroupLog {
    pub(crate) record: GroupRecord,
    pub(crate) terms: TermIndex,
    pub(crate) index: RunIndex,
}

impl GroupLog {
    /// A group as a segment's header describes it: its entries are known to exist, and not found yet.
    pub(crate) fn from_record(record: GroupRecord) -> Self {
        let mut terms = TermIndex::default();
        let (base, last) = (record.base, record.last);
        if last.0 > base.0 {
            if last.0.previous() > base.0 {
                terms.push(base.0.next(), Term::NONE);
            }
            terms.push(last.0, last.1);
        }
        Self { record, terms, index: RunIndex::default() }
    }

    /// The term of an entry from the base on; `None` beyond the last, `Term::NONE` for one that is not known.
    pub(crate) fn term_of(&self, lsn: Lsn) -> Option<Term> {
        if lsn == self.record.base.0 {
            return Some(self.record.base.1);
        }
        (lsn > self.record.base.0 && lsn <= self.record.last.0).then(|| self.terms.term_of(lsn))
    }

    /// Whether entries from `first` on may be appended by the leader of `append_term`, `prev_term` being the term of
    /// the entry before, when the sender said it.
    pub(crate) fn check_append(
        &self,
        first: Lsn,
        append_term: Term,
        prev_term: Option<Term>,
    ) -> Result<(), Violation> {
        let record = &self.record;
        if append_term < record.append_term {
            return Err(Violation::new("append term", format!(">= {}", record.append_term), append_term));
        }
        if first <= record.base.0 || first > record.last.0.next() {
            let expected = format!("{}..={}", record.base.0.next(), record.last.0.next());
            return Err(Violation::new("first lsn", expected, first));
        }
        if first <= record.committed {
            return Err(Violation::new("replaced lsn", format!("> {}", record.committed), first));
        }
        let before = self.term_of(first.previous()).unwrap_or(Term::NONE);
        match prev_term {
            Some(term) if before != Term::NONE && term != before => {
                Err(Violation::new("term before the first entry", before, term))
            }
            _ => Ok(()),
        }
    }

    /// Cuts off everything at or after `first`.
    pub(crate) fn truncate(&mut self, first: Lsn) {
        if first <= self.record.last.0 {
            let before = self.term_of(first.previous()).unwrap_or(Term::NONE);
            self.terms.truncate(first);
            self.record.last = (first.previous(), before);
        }
    }

    /// Adds an entry behind the last one.
    pub(crate) fn push(&mut self, lsn: Lsn, term: Term) {
        self.terms.push(lsn, term);
        self.record.last = (lsn, term);
    }

    /// Whether a base at (`lsn`, `term`) keeps the entries above it: only if the log held `lsn` in that term.
    pub(crate) fn keeps_entries_above(&self, lsn: Lsn, term: Term) -> bool {
        self.term_of(lsn).is_some_and(|held| held == term || held == Term::NONE)
    }

    /// Moves the base. `keeps` says whether the entries above it stay: whoever writes a base decides it by
    /// [`keeps_entries_above`](Self::keeps_entries_above), whoever reads one is told.
    pub(crate) fn set_base(&mut self, lsn: Lsn, term: Term, membership: (Lsn, Vec<u8>), keeps: bool) {
        let record = &mut self.record;
        record.base = (lsn, term);
        record.committed = record.committed.max(lsn);
        if !keeps {
            record.last = (lsn, term);
            record.committed = lsn;
        }
        if !keeps || membership.0 >= record.membership.0 {
            record.membership = membership;
        }
        record.append_term = record.append_term.max(term);
        if keeps {
            self.terms.drop_before(lsn);
        } else {
            self.terms = TermIndex::default();
        }
    }

    /// Remembers what is committed; never more than the group has.
    pub(crate) fn set_committed(&mut self, lsn: Lsn) {
        self.record.committed = self.record.committed.max(lsn.min(self.record.last.0));
    }
}

/// One group of the open log.
#[derive(Debug, Default)]
pub(crate) struct GroupState {
    /// As appended: what callers see. Its index follows the batches as they are placed.
    pub(crate) log: GroupLog,
    /// As placed: what the batches submitted so far say. A new segment's header is made of it.
    pub(crate) placed: GroupRecord,
    pub(crate) recent: Recent,
    /// Written, in this term of appending.
    pub(crate) stored: Lsn,
    /// Synced.
    pub(crate) durable: Lsn,
    /// Begins anew with every override, so that acknowledgements of overridden entries count for nothing.
    pub(crate) epoch: u64,
    /// Entries up to here may go as far as the owner is concerned.
    pub(crate) released: Lsn,
    pub(crate) holders: BTreeMap<u64, Holder>,
    /// Where the copies of a state stand until it is read back: segment, start and end. Its segment is kept meanwhile.
    pub(crate) state_at: Vec<(Arc<Segment>, u32, u32)>,
}

/// Somebody who still needs entries.
#[derive(Clone, Debug)]
pub(crate) struct Holder {
    pub(crate) name: String,
    /// The first entry that is still needed.
    pub(crate) from: Lsn,
    /// Bytes of segments, from that entry's on, beyond which the hold is lost, unless others keep the same; 0: no bound of its
    /// own.
    pub(crate) bytes_max: u64,
}

impl GroupState {
    /// A group as recovery found it: all of it is written and synced.
    pub(crate) fn recovered(log: GroupLog) -> Self {
        let placed = log.record.clone();
        let (last, base) = (placed.last.0, placed.base.0);
        Self { log, placed, stored: last, durable: last, released: base, ..Self::default() }
    }

    /// Begins to replace entries from `first` on: in memory at once, in the index when the batch is placed. Answers
    /// how many bytes of memory that freed.
    pub(crate) fn begin_override(&mut self, first: Lsn) -> usize {
        self.log.truncate(first);
        let freed = self.recent.truncate(first);
        self.begin_epoch(first);
        freed
    }

    /// What was written from `first` on counts no more: neither what is replaced, nor what is acknowledged late.
    pub(crate) fn begin_epoch(&mut self, first: Lsn) {
        self.stored = self.stored.min(first.previous());
        self.durable = self.durable.min(first.previous());
        self.epoch += 1;
    }

    /// The entries up to which nobody needs anything any more.
    pub(crate) fn releasable(&self) -> Lsn {
        let held = self.holders.values().map(|holder| holder.from.previous()).min();
        self.released.min(held.unwrap_or(Lsn::MAX))
    }
}

/// Entries in memory, the newest of a group.
#[derive(Debug, Default)]
pub(crate) struct Recent {
    first: Lsn,
    entries: VecDeque<(Term, Arc<[u8]>)>,
}

impl Recent {
    /// The oldest entry in memory; meaningless when there is none.
    pub(crate) fn first(&self) -> Option<Lsn> {
        (!self.entries.is_empty()).then_some(self.first)
    }

    pub(crate) fn get(&self, lsn: Lsn) -> Option<&(Term, Arc<[u8]>)> {
        let at = usize::try_from(lsn.0.checked_sub(self.first.0)?).ok()?;
        self.entries.get(at)
    }

    pub(crate) fn push(&mut self, lsn: Lsn, term: Term, payload: Arc<[u8]>) {
        if self.entries.is_empty() {
            self.first = lsn;
        }
        self.entries.push_back((term, payload));
    }

    /// Forgets the oldest entry if it is at or before `limit`. Answers its bytes.
    pub(crate) fn evict(&mut self, limit: Lsn) -> Option<usize> {
        if self.entries.is_empty() || self.first > limit {
            return None;
        }
        let (_, payload) = self.entries.pop_front()?;
        self.first = self.first.next();
        Some(entry_bytes(payload.len()))
    }

    /// Forgets every entry at or after `from`. Answers their bytes.
    fn truncate(&mut self, from: Lsn) -> usize {
        let kept = usize::try_from(from.0.saturating_sub(self.first.0)).unwrap_or(usize::MAX);
        let mut freed = 0;
        while self.entries.len() > kept {
            freed += self.entries.pop_back().map_or(0, |(_, payload)| entry_bytes(payload.len()));
        }
        freed
    }

    /// Forgets everything. Answers its bytes.
    pub(crate) fn clear(&mut self) -> usize {
        self.truncate(Lsn::ZERO)
    }
}

/// What an entry in memory takes, its bookkeeping included.
pub(crate) const fn entry_bytes(payload: usize) -> usize {
    payload + 48
}
