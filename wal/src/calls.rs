//! Who is to be called once the lock is released: collected under the lock, called without it, so that nobody who is
//! woken finds it taken.

use std::task::Waker;

use logwood_base::sync::Arc;

use crate::image::Round;
use crate::shared::Shared;

/// Threads and futures to wake. Dropping it without [`Calls::make`] leaves them asleep.
#[derive(Debug, Default)]
#[must_use = "somebody waits to be called"]
pub(crate) struct Calls {
    /// A round of which one thread is to lead.
    leader: Option<Arc<Round>>,
    /// Rounds whose threads are all woken.
    rounds: Vec<Arc<Round>>,
    wakers: Vec<Waker>,
    /// Whether only the writer task can lead.
    writer: bool,
    /// Whether the keeper task should prepare a segment.
    keeper: bool,
}

impl Calls {
    /// Everybody who waits for the round.
    pub(crate) fn everybody(&mut self, round: &Arc<Round>) {
        if round.signal.raise() {
            self.rounds.push(Arc::clone(round));
        }
        self.wakers.append(&mut round.wakers.lock());
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
        self.wakers.into_iter().for_each(Waker::wake);
        if self.writer {
            shared.wake_writer();
        }
        if self.keeper {
            shared.wake_keeper();
        }
    }
}
