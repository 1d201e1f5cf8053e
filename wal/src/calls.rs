//! Who is to be called once the lock is released: collected under the lock, called without it, so that nobody who is
//! woken finds it taken.
//!
//! # Whose threads call wakers
//! A waker is somebody else's code: an executor may run the future inside of it, which then appends, closes the log, or
//! drops the last handle of what is built on it. The thread that leads a write may be rolling, with the log exclusive; it
//! may be letting segments go, or hold locks of who embeds the log, which nobody here knows of. Code that wants any of
//! these would wait for its own thread, for ever. Therefore wakers are called by the writer task alone, between two pieces
//! of its work, when its thread holds nothing; and by who closes the log, at the very end.
//! 1. Wakers are handed over under the lock under which their image was acknowledged or the log stopped.
//! 2. The writer task takes them under the lock, and looks once more under the lock before it rests: what was handed over
//!    before is called, and who hands over later wakes it.
//! 3. A log that is closed has no writer task any more. Who closes it takes what is left when everything has come home.
//!    Behind that no future waits: whoever polls is told that it is closed.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::task::Waker;

use logwood_base::sync::Arc;

use crate::image::Round;
use crate::shared::Shared;

/// Futures that are to be woken by the writer task.
#[derive(Debug, Default)]
pub(crate) struct Futures {
    wakers: Vec<Waker>,
    /// Whether the writer task is at work, and looks here before it rests.
    pub(crate) writer_looks: bool,
}

impl Futures {
    /// Takes those that were handed over. They are woken without the lock.
    pub(crate) fn take(&mut self) -> Woken {
        Woken(std::mem::take(&mut self.wakers))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.wakers.is_empty()
    }
}

/// Futures that are woken when this is dropped, where nothing is held. A waker that panics keeps no other one asleep, and ends
/// nobody's work: its panic is told by the panic hook, and goes no further.
#[derive(Debug)]
#[must_use = "futures are woken where it is dropped"]
pub struct Woken(Vec<Waker>);

impl Woken {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Drop for Woken {
    fn drop(&mut self) {
        for waker in self.0.drain(..) {
            let _panicked = catch_unwind(AssertUnwindSafe(|| waker.wake()));
        }
    }
}

/// Threads to wake, and tasks. Dropping it without [`Calls::make`] leaves them asleep.
#[derive(Debug, Default)]
#[must_use = "somebody waits to be called"]
pub(crate) struct Calls {
    /// A round of which one thread is to lead.
    leader: Option<Arc<Round>>,
    /// Rounds whose threads are all woken.
    rounds: Vec<Arc<Round>>,
    /// Whether only the writer task can lead.
    writer: bool,
    /// Whether futures were handed over to a writer task that rests.
    futures: bool,
    /// Whether the keeper task should prepare a segment.
    keeper: bool,
}

impl Calls {
    /// Everybody who waits for the round: threads, and the futures, which are handed over.
    pub(crate) fn everybody(&mut self, round: &Arc<Round>, futures: &mut Futures) {
        if round.signal.raise() {
            self.rounds.push(Arc::clone(round));
        }
        futures.wakers.append(&mut round.wakers.lock());
        self.futures |= !futures.is_empty() && !futures.writer_looks;
    }

    /// One thread that waits for the round.
    pub(crate) fn one_of(&mut self, round: &Arc<Round>) {
        if round.signal.raise() {
            self.leader = Some(Arc::clone(round));
        }
    }

    /// The writer task.
    pub(crate) fn writer_task(&mut self) {
        self.writer = true;
    }

    /// The keeper task.
    pub(crate) fn keeper_task(&mut self) {
        self.keeper = true;
    }

    /// Calls them: first who leads, because the device waits for that.
    pub(crate) fn make(self, shared: &Shared) {
        self.leader.into_iter().for_each(|round| round.signal.wake_one());
        self.rounds.into_iter().for_each(|round| round.signal.wake_all());
        if self.futures {
            shared.wake_writer_at_once();
        }
        if self.writer {
            shared.wake_writer();
        }
        if self.keeper {
            shared.wake_keeper();
        }
    }
}
