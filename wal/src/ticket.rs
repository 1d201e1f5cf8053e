//! Waiting for an append: by blocking, which may write for others too, or as a future without any runtime.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use logwood_base::sync::Arc;
use logwood_base::{Lsn, Result};

use crate::shared::Shared;

/// The promise of an append. Dropping it neither cancels the entries nor waits for them.
///
/// As a future it asks the log's writer task to write, so that no thread needs to block.
#[derive(Clone)]
pub struct Ticket {
    shared: Arc<Shared>,
    sequence: u64,
    last: Lsn,
}

impl Ticket {
    pub(crate) fn new(shared: Arc<Shared>, sequence: u64, last: Lsn) -> Self {
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
        self.shared.wake_writer_for_poll();
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
