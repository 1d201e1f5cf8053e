//! Which commits may be seen: `visible_lsn` is a prefix in which every commit has reached its own durability.
//!
//! A commit is applied to the trees while its write may still be in flight. It is queued here, in LSN order, before
//! anybody can wait for it; whoever finds the front of the queue done takes it off and publishes. So
//!
//! 1. nothing is seen before it is as durable as its writer asked;
//! 2. a commit that is answered is visible, its writer reads it back;
//! 3. nobody has to be woken for it: a waiter whose own write is done waits for the writes before it by leading them
//!    (a buffered commit behind a durable one waits for the sync of that one);
//! 4. behind a failed write nothing is ever published: it stays at the front.
//!
//! Called by the commit path ([`crate::commit`]) with the log's tickets; generic so that a test can drive every
//! interleaving with tickets of its own.

use std::collections::VecDeque;
use std::task::{Context, Poll};

use logwood_base::sync::Mutex;
use logwood_base::sync::atomic::{AtomicU64, Ordering};
use logwood_base::{Error, Lsn, Result};

use crate::planted::{Bug, planted};

/// A write on its way to the durability that was asked for.
pub(crate) trait PendingWrite: Clone {
    /// Whether it has reached its durability. Never true of a write that failed, nor of one behind it.
    fn is_done(&self) -> bool;

    /// Waits for the outcome, doing the write itself when nobody does.
    fn wait(&self) -> Result<()>;

    /// Like `wait` for tasks of an executor.
    fn poll(&self, context: &mut Context<'_>) -> Poll<Result<()>>;
}

/// The commits that are applied and not visible yet. `publish` is called for the trees before `visible` says so, with
/// ascending LSNs, never at the same time. `announce` is called for those who wait for news, and look at `visible` then,
/// behind it and without a lock: whoever is woken may call the database at once. It may be called by several at the same
/// time, and a later one may overtake an earlier.
pub(crate) struct Publisher<T> {
    queue: Mutex<Queue<T>>,
    visible: AtomicU64,
    publish: Box<dyn Fn(Lsn) + Send + Sync>,
    announce: Box<dyn Fn(Lsn) + Send + Sync>,
}

struct Queue<T> {
    /// Ascending LSNs.
    pending: VecDeque<(Lsn, T)>,
}

impl<T: PendingWrite> Publisher<T> {
    pub(crate) fn new(
        visible: Lsn,
        publish: Box<dyn Fn(Lsn) + Send + Sync>,
        announce: Box<dyn Fn(Lsn) + Send + Sync>,
    ) -> Self {
        let queue = Queue { pending: VecDeque::new() };
        Self { queue: Mutex::new(queue), visible: AtomicU64::new(visible.get()), publish, announce }
    }

    /// The newest LSN that readers see.
    pub(crate) fn visible(&self) -> Lsn {
        Lsn(self.visible.load(Ordering::Acquire))
    }

    /// Queues a commit. Called in LSN order, under the sequencer's lock.
    pub(crate) fn register(&self, lsn: Lsn, write: T) {
        if planted(Bug::PublishBeforeDurable) {
            (self.publish)(lsn);
        }
        let mut queue = self.queue.lock();
        debug_assert!(queue.pending.back().is_none_or(|(before, _)| *before < lsn));
        queue.pending.push_back((lsn, write));
    }

    /// Waits until `lsn`, whose own write is `write`, is visible.
    pub(crate) fn wait(&self, lsn: Lsn, write: &T) -> Result<()> {
        write.wait()?;
        self.wait_visible(lsn)
    }

    /// Waits until `lsn` is visible, whose write may be anybody's.
    pub(crate) fn wait_visible(&self, lsn: Lsn) -> Result<()> {
        while let Some(earlier) = self.advance(lsn)? {
            earlier.wait()?;
        }
        Ok(())
    }

    /// As [`Publisher::wait`], for executors.
    pub(crate) fn poll(&self, lsn: Lsn, write: &T, context: &mut Context<'_>) -> Poll<Result<()>> {
        if let Poll::Ready(outcome) = write.poll(context) {
            outcome?;
        } else {
            return Poll::Pending;
        }
        self.poll_visible(lsn, context)
    }

    /// As [`Publisher::wait_visible`], for executors.
    pub(crate) fn poll_visible(&self, lsn: Lsn, context: &mut Context<'_>) -> Poll<Result<()>> {
        while let Some(earlier) = self.advance(lsn)? {
            match earlier.poll(context) {
                Poll::Ready(outcome) => outcome?,
                Poll::Pending => return Poll::Pending,
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Waits until everything queued so far is visible.
    pub(crate) fn settle(&self) -> Result<()> {
        let Some(last) = self.queue.lock().pending.back().map(|(lsn, write)| (*lsn, write.clone())) else {
            return Ok(());
        };
        self.wait(last.0, &last.1)
    }

    /// Whether anything is queued.
    pub(crate) fn is_settled(&self) -> bool {
        self.queue.lock().pending.is_empty()
    }

    /// As [`Publisher::wait`], but nobody is told: of a caller with a lock that whoever is woken may want. It calls
    /// [`Publisher::tell`] when it has given it back.
    pub(crate) fn wait_untold(&self, lsn: Lsn, write: &T) -> Result<()> {
        write.wait()?;
        while let (_, Some(earlier)) = self.publish_done(lsn)? {
            earlier.wait()?;
        }
        Ok(())
    }

    /// Tells those who wait for news what is visible.
    pub(crate) fn tell(&self) {
        (self.announce)(self.visible());
    }

    /// Publishes what is done at the front, and tells of it. Answers as [`Publisher::publish_done`] does.
    fn advance(&self, lsn: Lsn) -> Result<Option<T>> {
        if self.visible() >= lsn {
            return Ok(None);
        }
        let (published, stands) = self.publish_done(lsn)?;
        if published {
            self.tell();
        }
        Ok(stands)
    }

    /// Publishes what is done at the front. Answers whether that was anything, and the first write that stands between
    /// `lsn` and its readers; none when `lsn` is visible.
    fn publish_done(&self, lsn: Lsn) -> Result<(bool, Option<T>)> {
        let mut queue = self.queue.lock();
        let mut done = None;
        while let Some((front, write)) = queue.pending.front()
            && write.is_done()
        {
            done = Some(*front);
            queue.pending.pop_front();
        }
        if let Some(done) = done {
            // Under the lock, so that the numbers ascend.
            (self.publish)(done);
            self.visible.store(done.get(), Ordering::Release);
        }
        if self.visible() >= lsn {
            return Ok((done.is_some(), None));
        }
        match queue.pending.front() {
            Some((_, write)) => Ok((done.is_some(), Some(write.clone()))),
            None => Err(Error::Internal(format!("lsn {lsn} was never queued for publishing"))),
        }
    }
}

impl<T> std::fmt::Debug for Publisher<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Publisher").field("visible", &self.visible).finish_non_exhaustive()
    }
}

#[cfg(test)]
#[path = "publish_tests.rs"]
mod tests;
