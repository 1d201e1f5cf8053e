//! Waiting for an append: by blocking, which may write for others too, or as a future without any runtime.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use logwood_base::sync::Arc;
use logwood_base::{Lsn, Result};

use crate::shared::Open;

/// The promise of an append. Dropping it neither cancels the entries nor waits for them.
///
/// As a future it asks the log's writer task to write, so that no thread needs to block. Its waker is called by that task,
/// or by who closes the log, with no lock held: it may run the future at once, call the log, and drop or close it.
///
/// Appends that do not wait for each other:
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
/// let first = append(Lsn(1), &[(Term(1), b"set x 1")], Durability::Durable)?;
/// let second = append(Lsn(2), &[(Term(1), b"set y 2")], Durability::Durable)?;
/// second.wait()?; // one write for both, unless the first is under way already
/// assert!(first.is_done(), "they are acknowledged in order");
/// assert_eq!((first.last_lsn(), second.last_lsn()), (Lsn(1), Lsn(2)));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Ticket {
    shared: Arc<Open>,
    sequence: u64,
    last: Lsn,
}

impl Ticket {
    pub(crate) fn new(shared: Arc<Open>, sequence: u64, last: Lsn) -> Self {
        Self { shared, sequence, last }
    }

    /// The last entry that it covers.
    #[must_use]
    pub fn last_lsn(&self) -> Lsn {
        self.last
    }

    /// Whether the entries have reached the durability they were appended with.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.shared.is_acknowledged(self.sequence)
    }

    /// Returns when the entries have reached their durability. The calling thread writes them itself when nobody
    /// else does. May be called again after `DiskFull`.
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
    /// let ticket = append(Lsn(1), &[(Term(1), b"set x 1")], Durability::Durable)?;
    /// ticket.wait()?; // from here on a power cut cannot take it away
    /// assert_eq!(group.durable_lsn(), ticket.last_lsn());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// `Poisoned` when a write or sync failed: it is then unknown whether the entries are there after reopening.
    pub fn wait(&self) -> Result<()> {
        self.shared.wait(self.sequence)
    }
}

impl Future for Ticket {
    type Output = Result<()>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        if self.is_done() {
            return Poll::Ready(Ok(()));
        }
        let mut state = self.shared.state.lock();
        if self.is_done() {
            return Poll::Ready(Ok(()));
        }
        if let Err(error) = state.check() {
            return Poll::Ready(Err(error));
        }
        if let Some(round) = state.round_of(self.sequence) {
            let mut wakers = round.wakers.lock();
            if !wakers.iter().any(|waker| waker.will_wake(context.waker())) {
                wakers.push(context.waker().clone());
            }
        }
        if let Some(image) = state.queued(self.sequence) {
            image.polled = true;
        }
        drop(state);
        self.shared.wake_writer_at_once();
        Poll::Pending
    }
}

impl fmt::Debug for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ticket")
            .field("last", &self.last)
            .field("done", &self.is_done())
            .finish_non_exhaustive()
    }
}
