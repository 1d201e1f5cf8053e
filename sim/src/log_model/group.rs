//! What a group's log is, composed from batches in physical order.
//!
//! - Rule **append**: an append behind k replaces everything above k. Physical order decides, not the term.
//! - Rule **copy**: a copy carries entries that are current forward. It fills what is not here because its source is
//!   gone, it never truncates, and contradicting what is current is corruption.
//! - Rule **base**: everything up to the base goes. What is above stays only if the log held the base in its term.
//! - Rule **doubt**: behind a hole, everything above the commit LSN known before it is doubtful, and so is where the
//!   group ends, until an append, a table or a copy names the (LSN, term) that is current.

use super::bytes::{Batch, Entry, Kind, Mark, Row};
use super::mutation::Mutation;

/// One LSN above the base.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Slot {
    /// The entry; `None` while only a later copy can tell.
    pub entry: Option<Entry>,
    /// Whether a hole may have replaced it.
    pub doubtful: bool,
    /// The newest segment that holds it.
    pub home: u8,
}

/// A group as composed so far.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct Group {
    /// The newest vote.
    pub vote: u8,
    /// The commit LSN.
    pub commit: u8,
    /// What was let go.
    pub base: Mark,
    /// From base + 1 on.
    pub slots: Vec<Slot>,
    /// The term of the last entry, also where the entry itself is not here yet.
    pub last_term: u8,
    /// A hole may have held more entries than are known.
    pub open_end: bool,
    /// What named the end of the doubtful entries: a good copy must hold it in this term.
    pub wanted: Option<Mark>,
}

/// A batch that contradicts what is current: corruption.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Contradiction;

impl Group {
    /// A group as a header's table has it: its entries are still to come.
    pub fn from_row(row: &Row) -> Self {
        let unknown = Slot { entry: None, doubtful: false, home: 0 };
        let slots = vec![unknown; usize::from(row.last.lsn - row.base.lsn)];
        let Row { vote, commit, base, last } = *row;
        Self { vote, commit, base, slots, last_term: last.term, open_end: false, wanted: None }
    }

    /// What a header's table says of it.
    pub fn row(&self) -> Row {
        Row { vote: self.vote, commit: self.commit, base: self.base, last: self.last() }
    }

    /// The last entry.
    pub fn last(&self) -> Mark {
        if self.slots.is_empty() { self.base } else { Mark { lsn: self.last_lsn(), term: self.last_term } }
    }

    fn last_lsn(&self) -> u8 {
        self.base.lsn + self.slots.len() as u8
    }

    /// The slot of an LSN above the base.
    pub fn slot(&self, lsn: u8) -> Option<&Slot> {
        self.slots.get(usize::from(lsn.checked_sub(self.base.lsn + 1)?))
    }

    /// The term at an LSN, where it is known.
    pub fn term(&self, lsn: u8) -> Option<u8> {
        if lsn == self.base.lsn {
            return Some(self.base.term);
        }
        self.slot(lsn)?.entry.map(|entry| entry.term)
    }

    /// Whether everything above the base is here, and none of it doubtful.
    pub fn complete(&self) -> bool {
        !self.open_end && self.slots.iter().all(|slot| slot.entry.is_some() && !slot.doubtful)
    }

    /// A hole in the log: see rule doubt.
    pub fn hole(&mut self) {
        let solid = self.commit.saturating_sub(self.base.lsn);
        for slot in self.slots.iter_mut().skip(usize::from(solid)) {
            slot.doubtful = true;
        }
        self.open_end = true;
    }

    /// A later batch or table says which entry stood at `mark`: with the same term here, everything up to it is as it
    /// was there. Otherwise what is here up to it stays doubtful. Nothing above it stays.
    fn cut_behind(&mut self, mark: Mark, mutation: Mutation) -> Result<(), Contradiction> {
        if mark.lsn < self.base.lsn {
            return Err(Contradiction);
        }
        let confirmed = mark.lsn <= self.last_lsn() && self.term(mark.lsn) == Some(mark.term);
        let keep = usize::from(mark.lsn - self.base.lsn);
        if self.open_end {
            let lost = Slot { entry: None, doubtful: true, home: 0 };
            self.slots.resize(keep.max(self.slots.len()), lost);
        }
        if keep > self.slots.len() {
            return Err(Contradiction);
        }
        self.slots.truncate(keep);
        self.wanted = self.wanted.filter(|wanted| wanted.lsn <= mark.lsn);
        let certain = |slot: &Slot| slot.entry.is_some() && !slot.doubtful;
        // Only an entry from before the hole vouches for what is below it: those entries were one log once. An entry
        // written behind the hole says nothing of what the hole has replaced.
        let vouches = |slot: &Slot| slot.doubtful || mutation == Mutation::LaterEntryVouches;
        if confirmed {
            if self.slots.last().is_some_and(vouches) {
                self.slots
                    .iter_mut()
                    .filter(|slot| slot.entry.is_some())
                    .for_each(|slot| slot.doubtful = false);
            }
        } else if keep == 0 || self.slots.last().is_some_and(certain) {
            // Nothing here was doubtful, and still it is not what the batch stands on.
            return Err(Contradiction);
        } else if self.slots.last().is_some_and(|slot| slot.doubtful) {
            self.wanted = Some(mark);
        }
        self.last_term = mark.term;
        self.open_end = false;
        Ok(())
    }

    /// The table of a header met on the way.
    pub fn meet_table(&mut self, row: &Row, mutation: Mutation) -> Result<(), Contradiction> {
        self.vote = self.vote.max(row.vote);
        if self.base.lsn < row.base.lsn {
            if !self.open_end {
                return Err(Contradiction);
            }
            // The base itself lay in the hole. Whether what is above it stayed is for the last entry to tell.
            self.let_go(row.base, true);
        }
        if self.open_end {
            self.cut_behind(row.last, mutation)?;
        } else if self.last() != row.last {
            // What is between is not here: a hole.
            self.hole();
            let _ = self.cut_behind(row.last, mutation);
            return Err(Contradiction);
        }
        self.commit = self.commit.max(row.commit);
        Ok(())
    }

    fn let_go(&mut self, mark: Mark, stays: bool) {
        let gone = usize::from(mark.lsn.saturating_sub(self.base.lsn)).min(self.slots.len());
        self.slots.drain(..gone);
        if !stays {
            self.slots.clear();
            self.open_end = false;
        }
        self.base = mark;
    }

    /// Composes one batch of this group.
    pub fn apply(&mut self, batch: &Batch, mutation: Mutation) -> Result<(), Contradiction> {
        let home = batch.place.segment;
        match &batch.kind {
            Kind::Append { previous, commit, entry } => {
                if previous.lsn < self.commit {
                    return Err(Contradiction);
                }
                self.cut_behind(*previous, mutation)?;
                self.slots.push(Slot { entry: Some(*entry), doubtful: false, home });
                self.last_term = entry.term;
                self.commit = self.commit.max(*commit);
            }
            Kind::Copy { first, entries } => self.apply_copy(*first, entries, home, mutation)?,
            Kind::Base { mark, stays } => {
                let stays = match mutation {
                    Mutation::ReaderDecidesBase => self.term(mark.lsn) == Some(mark.term),
                    _ => *stays,
                };
                if mark.lsn > self.base.lsn {
                    self.let_go(*mark, stays);
                }
                self.commit = self.commit.max(mark.lsn);
            }
            Kind::Vote(vote) => self.vote = self.vote.max(*vote),
            Kind::Seal(_) => {}
        }
        Ok(())
    }

    fn apply_copy(
        &mut self,
        first: u8,
        entries: &[Entry],
        home: u8,
        mutation: Mutation,
    ) -> Result<(), Contradiction> {
        for (lsn, entry) in (first..).zip(entries) {
            if lsn <= self.base.lsn {
                continue;
            }
            let index = usize::from(lsn - self.base.lsn - 1);
            if index >= self.slots.len() {
                if !self.open_end && mutation == Mutation::CopyReplaces {
                    continue;
                }
                if !self.open_end {
                    return Err(Contradiction);
                }
                self.slots.resize(index + 1, Slot { entry: None, doubtful: true, home });
                self.last_term = entry.term;
            }
            let is_last = index + 1 == self.slots.len();
            let slot = &mut self.slots[index];
            let contradicts = slot.entry.is_some_and(|here| here.term != entry.term) && !slot.doubtful;
            if contradicts && mutation != Mutation::CopyReplaces {
                return Err(Contradiction);
            }
            *slot = Slot { entry: Some(*entry), doubtful: false, home };
            if is_last {
                self.last_term = entry.term;
            }
        }
        if mutation == Mutation::CopyTruncates {
            let keep = usize::from((first + entries.len() as u8 - 1).saturating_sub(self.base.lsn));
            self.slots.truncate(keep);
            self.last_term = entries.last().map_or(0, |entry| entry.term);
        }
        Ok(())
    }
}
