//! Following a group's entries as they are appended.

use std::time::Duration;

use logwood_base::sync::Arc;
use logwood_base::sync::atomic::Ordering;
use logwood_base::{Error, GroupId, Lsn, Result, Term};

use crate::options::Entry;
use crate::shared::Open;

/// How many bytes one step of a tail brings, at most, beyond its first entry.
const TAIL_BYTES: usize = 1 << 20;

/// A reader that waits at the end of a group. It sees entries as soon as they are appended, before they are durable
/// or committed. Made by [`Group::tail`](crate::Group::tail).
#[derive(Debug)]
pub struct Tail {
    shared: Arc<Open>,
    group: GroupId,
    next: Lsn,
    previous: Option<(Lsn, Term)>,
}

impl Tail {
    pub(crate) fn new(shared: Arc<Open>, group: GroupId, from: Lsn) -> Self {
        Self { shared, group, next: from, previous: None }
    }

    /// The entry that comes next.
    #[must_use]
    pub fn position(&self) -> Lsn {
        self.next
    }

    /// The next entries; `None` when there are none within `timeout`. With a timeout of zero it never waits.
    ///
    /// ```
    /// # use logwood_base::{DatabaseId, Environment, GroupId, Lsn, NodeId, Term};
    /// # use logwood_wal::{Append, BaseState, Durability, Expect, Log, LogOptions};
    /// # let (env, directory) = (Environment::system()?, tempfile::tempdir()?);
    /// # let log = Log::create(&env, directory.path(), DatabaseId(1), LogOptions::default())?;
    /// # let group = log.create_group(GroupId(1), BaseState::default())?;
    /// # let append = |first_lsn, entries: &[(Term, &[u8])], durability| {
    /// #     group.append(Append { term: Term(2), previous: None, first_lsn, entries, durability })
    /// # };
    /// append(Lsn(1), &[(Term(1), b"set x 1"), (Term(1), b"set y 2")], Durability::Durable)?.wait()?;
    /// let mut tail = group.tail(Lsn(1));
    /// assert_eq!(tail.next(std::time::Duration::ZERO)?.expect("two stand there").len(), 2);
    /// append(Lsn(2), &[(Term(2), b"set y 3")], Durability::Durable)?.wait()?;
    /// let replaced = tail.next(std::time::Duration::ZERO).unwrap_err();
    /// assert!(matches!(replaced, logwood_base::Error::Replaced(_)), "begin a new one");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// `TooOld` when the next entry was let go; `Replaced` when entries that were handed out have been replaced: go
    /// on with a new tail; `Poisoned` and `Closed` while waiting; what reading answers.
    pub fn next(&mut self, timeout: Duration) -> Result<Option<Vec<Entry>>> {
        let deadline = self.shared.env.clock.monotonic().saturating_add(timeout);
        loop {
            self.check_previous()?;
            let entries = self.shared.read(self.group, self.next, Lsn::MAX, TAIL_BYTES)?;
            if let Some(last) = entries.last() {
                self.previous = Some((last.lsn, last.term));
                self.next = last.lsn.next();
                return Ok(Some(entries));
            }
            let left = deadline.saturating_sub(self.shared.env.clock.monotonic());
            if left.is_zero() {
                return Ok(None);
            }
            self.pause(left)?;
        }
    }

    fn check_previous(&self) -> Result<()> {
        let Some((lsn, term)) = self.previous else { return Ok(()) };
        let state = self.shared.state.lock();
        let log = &state.group(self.group)?.log;
        if lsn >= log.record.base.0 && log.term_of(lsn) != Some(term) {
            return Err(Error::Replaced(format!(
                "entries up to {lsn} of group {} were replaced",
                self.group
            )));
        }
        Ok(())
    }

    /// Waits for an append. The count of waiting readers is raised before the end is looked at again, so that none
    /// is missed.
    fn pause(&self, left: Duration) -> Result<()> {
        self.shared.readers_waiting.fetch_add(1, Ordering::SeqCst);
        let paused = self.shared.lock().and_then(|mut state| {
            if state.group(self.group)?.log.record.last.0 < self.next {
                #[cfg(not(logwood_shuttle))]
                self.shared.news.wait_for(&mut state, left);
                #[cfg(logwood_shuttle)]
                let _ = left;
                #[cfg(logwood_shuttle)]
                self.shared.news.wait(&mut state);
            }
            Ok(())
        });
        self.shared.readers_waiting.fetch_sub(1, Ordering::SeqCst);
        paused
    }
}
