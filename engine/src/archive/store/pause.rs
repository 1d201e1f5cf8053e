//! Waiting between two attempts, as an argument: so that a stop is prompt and tests do not wait.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use logwood_base::environment::ManualClock;
use logwood_base::sync::{Condvar, Mutex};

/// Waits between attempts.
pub trait Pause: Send + Sync + Debug {
    /// Lets time pass. Answers false when it was told to stop: nothing more is to be tried.
    fn pause(&self, time: Duration) -> bool;

    /// Ends pauses, this one and all later ones.
    fn stop(&self);
}

/// Waits in the calling thread.
#[derive(Debug, Default)]
pub struct ThreadPause {
    stopped: Mutex<bool>,
    changed: Condvar,
}

impl Pause for ThreadPause {
    fn pause(&self, time: Duration) -> bool {
        let mut stopped = self.stopped.lock();
        #[cfg(not(logwood_shuttle))]
        if !*stopped {
            self.changed.wait_for(&mut stopped, time);
        }
        #[cfg(logwood_shuttle)]
        let _ = (time, &mut stopped);
        !*stopped
    }

    fn stop(&self) {
        *self.stopped.lock() = true;
        self.changed.notify_all();
    }
}

/// Moves a manual clock on instead of waiting.
#[derive(Debug)]
pub struct ManualPause {
    clock: Arc<ManualClock>,
    stopped: Mutex<bool>,
}

impl ManualPause {
    /// Pauses that move `clock` on.
    #[must_use]
    pub fn new(clock: Arc<ManualClock>) -> Self {
        Self { clock, stopped: Mutex::new(false) }
    }
}

impl Pause for ManualPause {
    fn pause(&self, time: Duration) -> bool {
        self.clock.advance(time);
        !*self.stopped.lock()
    }

    fn stop(&self) {
        *self.stopped.lock() = true;
    }
}
