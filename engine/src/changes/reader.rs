//! Walking over the entries of a log, commit by commit, without losing what a commit needs.
//!
//! # Invariants
//! 1. Nothing beyond the bound that the caller names is read: what is not visible may still be replaced.
//! 2. The hold covers the entry that comes next, the commit that was handed out last, with `hold_until_released` all that was
//!    not released, and the first fragments: of every transaction that is open at the reader's position, and of every one
//!    that ended where the hold reaches. Whoever begins anew at what was not released meets that end, and reads its
//!    fragments, which may stand far before it.
//! 3. A transaction that began before the reader's first entry and ends behind it is met by its end alone. So a reader is
//!    told of those when it begins, and holds from its own place on: what others keep is not counted against its bound.
//! 4. A commit of which a part could not be read is the one that comes next, as long as it takes: it is handed out again
//!    from its beginning, or nothing is any more.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::{Path, PathBuf};

use logwood_base::{Error, Lsn, Result};
use logwood_wal::{Group, Hold};

use super::ChangesOptions;
use super::change_set::ChangeSet;
use super::oldest::Oldest;
use crate::entry::{Body, Entry};
use crate::planted::{Bug, planted};

/// Most bytes of entries that are read ahead, beyond the first one.
const AHEAD_BYTES: usize = 256 << 10;

/// Where a reader begins, and what is known there.
pub(crate) struct Beginning {
    pub(crate) from: Lsn,
    /// The last entry of that moment.
    pub(crate) last: Lsn,
    /// The first fragments of transactions that are open: at `from`, or at `last` when `ended` has those that end between.
    pub(crate) open: BTreeSet<Lsn>,
    /// The ends up to `last` of transactions that began before `from`, with their first fragments. Of those that ended
    /// before what the log may let go of, the reader finds out itself.
    pub(crate) ended: BTreeMap<Lsn, Lsn>,
}

/// A place in the order of commits.
#[derive(Debug)]
pub(crate) struct Reader {
    group: Group,
    /// Named in errors.
    log: PathBuf,
    /// The entry that comes next.
    next: Lsn,
    /// Entries that were read, from `next` on.
    ahead: VecDeque<logwood_wal::Entry>,
    /// The commit that was handed out.
    current: Option<logwood_wal::Entry>,
    /// Why that commit could not be read to its end.
    torn: Option<Error>,
    /// The first fragments of transactions that are open here.
    open: BTreeSet<Lsn>,
    /// The ends of transactions with their first fragments: of those that were passed and are needed still, and of those to
    /// come that began before the first entry.
    ended: BTreeMap<Lsn, Lsn>,
    hold: Option<Hold>,
    /// With `hold_until_released`: the first entry that is needed.
    needed: Option<Lsn>,
    failed: Option<Error>,
}

impl Reader {
    pub(crate) fn new(
        group: Group,
        log: &Path,
        beginning: Beginning,
        (oldest, whole): (&Oldest, &dyn Fn(&Group) -> Lsn),
        options: &ChangesOptions,
    ) -> Result<Self> {
        let Beginning { from, last, open, mut ended } = beginning;
        let from = from.max(Lsn::FIRST);
        if from > last.next() {
            let why = format!("changes from lsn {from} on are asked for, and the log ends at {last}");
            return Err(Error::Replaced(why));
        }
        // Whatever is found out below stays true until the reader has a hold of its own.
        let all = options.hold.then(|| hold_all(&group, &options.name, 0)).transpose()?;
        // Behind what the log may let go of, no transaction has lost its beginning.
        if from < whole(&group) {
            let (oldest, more) = oldest.ended_from(&group, log, whole, from)?;
            if from < oldest {
                return Err(Error::TooOld { what: "change", asked: from, oldest });
            }
            ended.extend(more);
        }
        let needed = (options.hold && options.until_released).then_some(from);
        let mut reader = Self {
            group,
            log: log.to_owned(),
            next: from,
            ahead: VecDeque::new(),
            current: None,
            torn: None,
            open,
            ended,
            hold: None,
            needed,
            failed: None,
        };
        if all.is_some() {
            let first =
                if planted(Bug::ChangesHoldAll) { reader.group.first_lsn() } else { reader.needed_from() };
            let held = reader.group.hold_bounded(&options.name, first, options.log_bytes_max);
            reader.hold = Some(held.map_err(|error| reader.too_old(error))?);
        }
        Ok(reader)
    }

    /// The first entry that was not handed out, or the commit that could not be read to its end.
    pub(crate) fn position(&self) -> Lsn {
        match &self.current {
            Some(entry) if self.torn.is_some() => entry.lsn,
            _ => self.next,
        }
    }

    /// The newest entry of the log.
    pub(crate) fn appended(&self) -> Lsn {
        self.group.appended_lsn()
    }

    /// The hold, for somebody else to keep. It may have been taken away.
    pub(crate) fn take_hold(&mut self) -> Option<Hold> {
        self.hold.take()
    }

    /// Whether the hold was taken away.
    pub(crate) fn is_lost(&self) -> bool {
        self.hold.as_ref().is_some_and(Hold::is_lost)
    }

    /// Entries up to `lsn` are not needed any more, but for those that were not handed out.
    pub(crate) fn release(&mut self, lsn: Lsn) {
        let handed_out = self.position().previous();
        if let Some(needed) = &mut self.needed {
            *needed = (*needed).max(lsn.min(handed_out).next());
            self.move_hold();
        }
    }

    /// Goes on to the next commit that changes something, up to `bound`. Answers whether there is one.
    ///
    /// # Errors
    /// `TooOld`, `Corruption`, and these stay, as does whatever tore the commit before but `Io`; `Io`, `Closed`.
    pub(crate) fn advance(&mut self, bound: Lsn) -> Result<bool> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        match &self.torn {
            None => {}
            Some(Error::Io { .. }) => {
                self.torn = None;
                return Ok(true);
            }
            Some(error) => return Err(error.clone()),
        }
        let advanced = self.try_advance(bound).map_err(|error| self.too_old(error));
        if let Err(error @ (Error::TooOld { .. } | Error::Corruption(_) | Error::UnsupportedFormat { .. })) =
            &advanced
        {
            self.failed = Some(error.clone());
        }
        advanced
    }

    fn try_advance(&mut self, bound: Lsn) -> Result<bool> {
        self.current = None;
        if self.is_lost() {
            return Err(Error::TooOld { what: "change", asked: self.next, oldest: self.group.first_lsn() });
        }
        while self.next <= bound {
            let Some(entry) = self.read(bound)? else { break };
            let decoded = Entry::decode(&entry.payload).map_err(|error| error.at(&self.log, entry.lsn))?;
            let changes = match decoded.body {
                Body::Commit(_) | Body::CreateKeyspace { .. } | Body::DropKeyspace { .. } => true,
                Body::CommitFragments { transaction, .. } => {
                    self.open.remove(&transaction);
                    self.ended.insert(entry.lsn, transaction);
                    true
                }
                Body::Fragment { transaction, .. } => {
                    self.open.insert(transaction);
                    false
                }
                Body::Abort { transaction } => {
                    self.open.remove(&transaction);
                    false
                }
                Body::Membership(_) | Body::OpenMark { .. } | Body::Mark { .. } | Body::NoOp => false,
            };
            self.next = entry.lsn.next();
            if changes {
                self.current = Some(entry);
                self.move_hold();
                return Ok(true);
            }
        }
        self.move_hold();
        Ok(false)
    }

    /// The entry that comes next, which is not beyond `bound`.
    fn read(&mut self, bound: Lsn) -> Result<Option<logwood_wal::Entry>> {
        if self.ahead.is_empty() {
            self.ahead = self.group.read(self.next, bound.next(), AHEAD_BYTES)?.into();
        }
        Ok(self.ahead.pop_front())
    }

    /// The commit that was handed out.
    pub(crate) fn current(&mut self) -> Result<ChangeSet<'_>> {
        match &self.current {
            Some(entry) => ChangeSet::new(&self.group, &self.log, entry, &mut self.torn),
            None => Err(Error::Internal("no commit was reached".to_owned())),
        }
    }

    /// Moves the hold to the least of what is needed.
    fn move_hold(&mut self) {
        let needed = self.needed_from();
        if let Some(hold) = &self.hold {
            hold.advance(needed);
        }
    }

    /// The least of what is needed: see invariants 2 and 3.
    fn needed_from(&mut self) -> Lsn {
        let at = self.current.as_ref().map_or(self.next, |entry| entry.lsn);
        let needed = self.needed.map_or(at, |needed| needed.min(at));
        self.ended = self.ended.split_off(&needed);
        let open = self.open.first().filter(|_| !planted(Bug::ChangesForgetFragments));
        let ended = self.ended.values().filter(|_| !planted(Bug::ChangesForgetWhatEnded)).min();
        open.into_iter().chain(ended).fold(needed, |needed, first| needed.min(*first))
    }

    /// Says of entries that were let go which change is missing.
    fn too_old(&self, error: Error) -> Error {
        match error {
            Error::TooOld { oldest, .. } => Error::TooOld { what: "change", asked: self.next, oldest },
            other => other,
        }
    }
}

/// Holds all that the log has.
pub(crate) fn hold_all(group: &Group, name: &str, log_bytes_max: u64) -> Result<Hold> {
    loop {
        match group.hold_bounded(name, group.first_lsn(), log_bytes_max) {
            // Let go between the two calls.
            Err(Error::TooOld { .. }) => {}
            held => return held,
        }
    }
}

/// The first fragments of the transactions that are open right before `from`, of those that begin in the log.
pub(crate) fn open_before(group: &Group, log: &Path, from: Lsn) -> Result<BTreeSet<Lsn>> {
    let mut open = BTreeSet::new();
    let mut next = group.first_lsn();
    while next < from {
        let entries = group.read(next, from, AHEAD_BYTES)?;
        let Some(last) = entries.last() else { break };
        next = last.lsn.next();
        for entry in &entries {
            let decoded = Entry::decode(&entry.payload).map_err(|error| error.at(log, entry.lsn))?;
            match decoded.body {
                Body::Fragment { transaction, .. } => drop(open.insert(transaction)),
                Body::CommitFragments { transaction, .. } | Body::Abort { transaction } => {
                    open.remove(&transaction);
                }
                _ => {}
            }
        }
    }
    Ok(open)
}
