//! Giving space back while the database is in use, closing it, and packing it.
//!
//! Cleaning moves the live pages off the emptiest page segments: they are written anew with the next checkpoint, and
//! the segments go when the manifest that no longer names them is durable. Before that, the pages of dropped keyspaces and
//! deleted ranges are given back: a segment that only they fill goes without being cleaned. The background task works in
//! steps and waits while there is nothing to give back and nothing worth moving.

use std::time::Duration;

use logwood_base::sync::{Arc, Mutex, Weak};
use logwood_base::{Error, Result, Step, Task, TaskHandle};
use logwood_btree::Cleaned;
use logwood_wal::Woken;

use crate::core::Core;
use crate::pace::Pace;

/// How often the cleaner looks when nobody wakes it.
const LOOK: Duration = Duration::from_secs(10);

/// The cleaner of one database.
#[derive(Debug, Default)]
pub(crate) struct Cleaner {
    task: Mutex<Option<TaskHandle>>,
}

impl Cleaner {
    /// Has the cleaner look soon: a checkpoint has changed what is dead.
    pub(crate) fn wake(&self) {
        if let Some(task) = &*self.task.lock() {
            task.wake();
        }
    }

    fn stop(&self) {
        let task = self.task.lock().take();
        drop(task);
    }
}

impl Core {
    /// Starts the background task.
    pub(crate) fn start_cleaning(self: &Arc<Self>) -> Result<()> {
        if self.options.background {
            let pace = Pace::begin(&*self.environment.clock, self.visible_lsn());
            let task = Cleaning { core: Arc::downgrade(self), pace };
            let handle = self.environment.spawner.spawn("logwood-clean", Box::new(task))?;
            *self.cleaner.task.lock() = Some(handle);
        }
        Ok(())
    }

    /// Packs everything: see [`crate::Database::compact`].
    pub(crate) fn compact(&self) -> Result<()> {
        self.check_writable()?;
        self.end_dropped()?;
        self.forest.compact(&mut || self.checkpoint_always())?;
        // Whoever asks for space wants the log's too, and not when its keeper comes to it.
        match self.log.compact() {
            // Not even a small segment could be written; what was to go is gone.
            Ok(()) | Err(Error::DiskFull { .. }) => Ok(()),
            Err(error) => Err(self.write_failed(error)),
        }
    }

    /// Ends everything that runs and frees the directory.
    pub(crate) fn close(&self) -> Result<()> {
        // Who closes at the same time, or again, is answered by what the first one finds.
        let mut outcome = self.closing.lock();
        if let Some(outcome) = &*outcome {
            return outcome.clone();
        }
        self.sequencer.lock().closed = true;
        let (ended, woken) = self.end();
        *outcome = Some(ended.clone());
        drop(outcome);
        // Futures may close, and open the directory, inside of their wakers.
        drop(woken);
        ended
    }

    fn end(&self) -> (Result<()>, Woken) {
        self.checkpointer.stop();
        self.cleaner.stop();
        self.forest.store().close();
        let settled = self.log.sync().and_then(|()| self.publisher.settle());
        let (ended, woken) = self.log.close_and_wake();
        self.news.end();
        *self.lock.lock() = None;
        let ended = settled.and(ended).map_err(|error| self.write_failed(error));
        // A failure outside of the log stopped the writes, too, and whoever closes is the last to be told.
        (ended.and_then(|()| self.check_writable()), woken)
    }
}

/// Steps the cleaner.
struct Cleaning {
    core: Weak<Core>,
    pace: Pace,
}

impl Task for Cleaning {
    fn step(&mut self) -> Step {
        let Some(core) = self.core.upgrade() else { return Step::Done };
        if core.check_writable().is_err() {
            return Step::Wait(None);
        }
        let clock = &*core.environment.clock;
        self.pace.go_on(clock);
        let cleaned = match core.forest.give_back_step() {
            Ok(true) => Ok(Cleaned::More),
            Ok(false) => core.forest.clean_step(),
            Err(error) => Err(error),
        };
        match cleaned {
            Ok(Cleaned::More) => match self.pace.rest(clock, core.visible_lsn()) {
                Some(rest) => Step::Wait(Some(rest)),
                None => Step::Again,
            },
            Ok(Cleaned::Enough) => {
                // Its end wakes this task.
                core.checkpointer.ask();
                Step::Wait(Some(LOOK))
            }
            Ok(Cleaned::Nothing) => Step::Wait(Some(LOOK)),
            Err(Error::DiskFull { .. }) => Step::Wait(Some(LOOK)),
            Err(error) => {
                tracing::warn!(%error, "cleaning stopped at a page that cannot be read");
                Step::Wait(Some(LOOK))
            }
        }
    }
}
