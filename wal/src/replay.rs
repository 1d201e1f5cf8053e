//! What batches on disk do to a group, in order; and what is doubtful about a group behind a hole.
//!
//! Without a hole every rule must hold: a batch that breaks one is corruption. *Behind a hole* batches are missing
//! that may have replaced entries, so that everything above the last known commit LSN is doubtful until something
//! later confirms it: a header's table, a base, a copy, or the `prev_term` of an append that names (LSN, term). Two
//! logs that hold the same (LSN, term) agree in everything before it; so one match settles all. Where the match
//! fails, the doubtful entries become a gap whose end is known, to be fetched.

use logwood_base::{LogPosition, Lsn, NodeId, Term};

use crate::format::batch::{Batch, Kind, StateBody};
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
            Kind::Base => self.base(batch),
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
            let above = self.log.record.last.0 > fields.last_lsn();
            self.confirm(fields.last_lsn(), last_term);
            self.doubt = above.then(|| fields.last_lsn().next());
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

    fn base(&mut self, batch: &Batch<'_>) {
        let (lsn, term) = (batch.fields.first_lsn, batch.fields.prev_term);
        let Ok((membership_lsn, membership)) = batch.base_membership() else { return };
        let keeps = self.log.set_base(lsn, term, (membership_lsn, membership.to_vec()));
        if keeps {
            self.log.index.drop_to(lsn);
        } else {
            self.log.index.clear();
        }
        if let Some(doubt) = self.doubt {
            self.doubt = Some(doubt.max(lsn.next()));
        }
    }

    /// Compares with a later header's table, or, behind a hole, learns from it.
    pub(crate) fn check_table(&mut self, table: &GroupRecord) -> Result<(), Violation> {
        if self.doubt.is_some() {
            if table.base.0 > self.log.record.base.0 {
                let keeps = self.log.set_base(table.base.0, table.base.1, table.membership.clone());
                if keeps { self.log.index.drop_to(table.base.0) } else { self.log.index.clear() }
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
        let record = &self.log.record;
        if record.last != table.last {
            return Err(violation("last entry in table", say(record.last), say(table.last)));
        }
        if record.base != table.base {
            return Err(violation("base in table", say(record.base), say(table.base)));
        }
        Ok(())
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
