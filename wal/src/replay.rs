//! What batches on disk do to a group, in order; and what is doubtful about a group behind a hole.
//!
//! Without a hole every rule must hold: a batch that breaks one is corruption. *Behind a hole* batches are missing
//! that may have replaced entries, so that everything above the last known commit LSN is doubtful until something
//! later confirms it: a header's table, a base, a copy, or the `prev_term` of an append that names (LSN, term). Two
//! logs that hold the same (LSN, term) agree in everything before it; so one match settles all. Where the match
//! fails, the doubtful entries become a gap whose end is known, to be fetched. They do so at once, and an entry that is
//! read behind the hole ends the doubt: so none of those ever vouches for what the hole may have replaced.
//!
//! A base that a batch moves says itself whether the entries above it stay. What was replaced by a snapshot's may have
//! gone with its segment, and then nothing here could tell.

use logwood_base::{LogPosition, Lsn, NodeId, Term};

use crate::format::batch::{BaseBody, Batch, Kind, StateBody};
use crate::format::header::GroupRecord;
use crate::group_state::{GroupLog, Violation};
use crate::index::Run;

/// A group while its batches are read.
#[derive(Clone, Debug, Default)]
pub(crate) struct Replay {
    pub(crate) log: GroupLog,
    /// Entries from here on are doubtful: there was a hole since the group was last known for sure.
    pub(crate) doubt: Option<Lsn>,
}

impl Replay {
    /// A group as the oldest header describes it.
    pub(crate) fn from_record(record: GroupRecord) -> Self {
        Self { log: GroupLog::from_record(record), doubt: None }
    }

    /// A hole: what the group has above its commit LSN may have been replaced in it.
    pub(crate) fn enter_hole(&mut self) {
        let from = self.log.record.committed.max(self.log.record.base.0).next();
        self.doubt = Some(self.doubt.map_or(from, |doubt| doubt.min(from)));
        self.log.index.close();
    }

    /// Adopts the higher vote: it may stand in more places than one, and the newest may be torn.
    pub(crate) fn adopt_vote(&mut self, vote: (Term, NodeId)) {
        self.log.record.vote = self.log.record.vote.max(vote);
    }

    /// Applies a batch that stands at `start..end`.
    pub(crate) fn apply(&mut self, batch: &Batch<'_>, start: LogPosition, end: u32) -> Result<(), Violation> {
        match batch.fields.kind {
            Kind::Append => self.append(batch, start, end)?,
            Kind::Copy => self.copy(batch, start, end)?,
            Kind::Base => self.base(batch)?,
            Kind::State => {
                if let Ok(StateBody { vote, membership }) = batch.state() {
                    self.adopt_vote(vote);
                    self.log.record.membership = (membership.0, membership.1.to_vec());
                }
            }
            Kind::Seal => {}
        }
        self.log.set_committed(batch.fields.commit_lsn);
        Ok(())
    }

    fn append(&mut self, batch: &Batch<'_>, start: LogPosition, end: u32) -> Result<(), Violation> {
        let fields = &batch.fields;
        if self.doubt.is_some() {
            self.confirm(fields.first_lsn.previous(), fields.prev_term);
            self.doubt = None;
            // Commit and term before the hole may be older than what this batch was checked against.
            self.log.record.append_term = self.log.record.append_term.min(fields.append_term);
        }
        self.log.check_append(fields.first_lsn, fields.append_term, Some(fields.prev_term))?;
        self.log.truncate(fields.first_lsn);
        self.log.record.append_term = fields.append_term;
        for entry in batch.entries() {
            self.log.push(entry.lsn, entry.term);
        }
        self.log.index.append(run_of(batch, start, end));
        Ok(())
    }

    fn copy(&mut self, batch: &Batch<'_>, start: LogPosition, end: u32) -> Result<(), Violation> {
        let fields = &batch.fields;
        let last_term = batch.entries().last().map_or(Term::NONE, |entry| entry.term);
        if self.doubt.is_some_and(|doubt| fields.last_lsn() >= doubt) {
            self.confirm(fields.last_lsn(), last_term);
            // A copy tells nothing of what is above it, nor where the group ends.
            self.doubt = Some(fields.last_lsn().next());
        }
        let record = &self.log.record;
        if fields.first_lsn <= record.base.0 && fields.last_lsn() <= record.base.0 {
            return Ok(());
        }
        if fields.last_lsn() > record.last.0 {
            return Err(violation("copied lsn", format!("<= {}", record.last.0), fields.last_lsn()));
        }
        let last = record.last.0;
        for entry in batch.entries() {
            let held = self.log.term_of(entry.lsn).unwrap_or(Term::NONE);
            if held == Term::NONE && entry.lsn > self.log.record.base.0 {
                self.log.terms.set(entry.lsn, entry.lsn, entry.term, last);
            } else if held != Term::NONE && held != entry.term {
                return Err(violation("copied term", held, entry.term));
            }
        }
        self.log.index.replace(run_of(batch, start, end));
        self.log.index.drop_to(self.log.record.base.0);
        Ok(())
    }

    fn base(&mut self, batch: &Batch<'_>) -> Result<(), Violation> {
        let (lsn, term) = (batch.fields.first_lsn, batch.fields.prev_term);
        let Ok(BaseBody { keeps_entries, membership }) = batch.base() else { return Ok(()) };
        if lsn < self.log.record.base.0 {
            return Err(violation("base", format!(">= {}", self.log.record.base.0), lsn));
        }
        if keeps_entries {
            // The group held the base's entry in its term.
            self.confirm_base(lsn, term);
            if !self.log.keeps_entries_above(lsn, term) {
                let held = self.log.term_of(lsn).unwrap_or_default();
                return Err(violation("base", say((lsn, held)), say((lsn, term))));
            }
        }
        self.move_base((lsn, term), (membership.0, membership.1.to_vec()), keeps_entries);
        Ok(())
    }

    /// Entries up to a base are of no interest any more; those above it go too, or are as doubtful as they were.
    fn move_base(&mut self, (lsn, term): (Lsn, Term), membership: (Lsn, Vec<u8>), keeps_entries: bool) {
        self.log.set_base(lsn, term, membership, keeps_entries);
        if keeps_entries {
            self.log.index.drop_to(lsn);
            self.doubt = self.doubt.map(|doubt| doubt.max(lsn.next()));
        } else {
            self.log.index.clear();
            self.doubt = None;
        }
    }

    /// Compares with a later header's table, or, behind a hole, learns from it. A table that does not fit is a hole
    /// too: batches are missing, and nobody knows which.
    pub(crate) fn check_table(&mut self, table: &GroupRecord) -> Result<(), Violation> {
        let mut fits = Ok(());
        if self.doubt.is_none() {
            fits = self.compare(table);
            if fits.is_err() {
                self.enter_hole();
            }
        }
        if self.doubt.is_some() {
            if table.base.0 > self.log.record.base.0 {
                // Whether what is above it stayed is for the last entry to tell.
                self.confirm_base(table.base.0, table.base.1);
                self.move_base(table.base, table.membership.clone(), true);
            }
            self.confirm(table.last.0, table.last.1);
            self.doubt = None;
            self.log.truncate(table.last.0.next());
            self.log.index.truncate(table.last.0.next());
            self.log.record.append_term = table.append_term;
            self.log.record.membership = table.membership.clone();
            self.log.set_committed(table.committed);
        }
        self.adopt_vote(table.vote);
        fits.and_then(|()| self.compare(table))
    }

    fn compare(&self, table: &GroupRecord) -> Result<(), Violation> {
        let record = &self.log.record;
        if record.last != table.last {
            return Err(violation("last entry in table", say(record.last), say(table.last)));
        }
        if record.base != table.base {
            return Err(violation("base in table", say(record.base), say(table.base)));
        }
        Ok(())
    }

    /// As [`confirm`](Self::confirm), for a base that keeps what is above it. A term that is not known here is no
    /// contradiction, and what is below the base goes anyway.
    fn confirm_base(&mut self, lsn: Lsn, term: Term) {
        if self.log.term_of(lsn) != Some(Term::NONE) {
            self.confirm(lsn, term);
        }
    }

    /// Something later says that the group held `lsn` in `term`. Either it does, and all before is confirmed, or what
    /// is doubtful before it becomes a gap.
    fn confirm(&mut self, lsn: Lsn, term: Term) {
        let Some(doubt) = self.doubt else { return };
        if lsn < doubt || self.log.term_of(lsn) == Some(term) {
            return;
        }
        self.log.truncate(doubt);
        self.log.index.truncate(doubt);
        if lsn > doubt {
            self.log.terms.push(doubt, Term::NONE);
        }
        self.log.push(lsn, term);
    }
}

fn run_of(batch: &Batch<'_>, start: LogPosition, end: u32) -> Run {
    let (first, last) = (batch.fields.first_lsn, batch.fields.last_lsn());
    Run { first, last, start, end, bytes: end - start.offset, closed: false }
}

fn violation(check: &'static str, expected: impl ToString, found: impl ToString) -> Violation {
    Violation { check, expected: expected.to_string(), found: found.to_string() }
}

fn say((lsn, term): (Lsn, Term)) -> String {
    format!("{lsn} in term {term}")
}
