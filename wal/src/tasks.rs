//! Background work: the writer, who seals quiet moments, writes for those who only poll and wakes them, and the keeper,
//! who prepares segments ahead and lets old ones go.
//!
//! Both are helpers only. A thread that waits does what it waits for by itself, so that nothing stands still when no
//! task is ever stepped.

use std::sync::Weak;

use logwood_base::sync::Arc;
use logwood_base::sync::atomic::Ordering;
use logwood_base::{Result, Step, Task};

use crate::shared::Shared;

/// Writes for those who only poll, wakes them, and seals when it has been quiet for a while.
pub(crate) struct Writer {
    shared: Weak<Shared>,
    /// The last image that was acknowledged at the step before.
    seen: u64,
}

/// Prepares segments and lets go.
pub(crate) struct Keeper {
    shared: Weak<Shared>,
}

impl Shared {
    /// Starts both tasks.
    pub(crate) fn start_tasks(self: &Arc<Self>) -> Result<()> {
        let writer = Writer { shared: Arc::downgrade(self), seen: u64::MAX };
        let keeper = Keeper { shared: Arc::downgrade(self) };
        let writer = self.env.spawner.spawn("logwood-log-writer", Box::new(writer))?;
        let keeper = self.env.spawner.spawn("logwood-log-keeper", Box::new(keeper))?;
        let mut tasks = self.tasks.lock();
        tasks.writer = Some(writer);
        tasks.keeper = Some(keeper);
        Ok(())
    }

    /// Has the writer task look soon even if it only waits for its time.
    pub(crate) fn wake_writer_at_once(&self) {
        if let Some(writer) = &self.tasks.lock().writer {
            writer.wake();
        }
    }

    /// Writes everything that is queued, and wakes the futures that wait for it, image by image. Others may write at the
    /// same time. Only for the writer task, which holds nothing.
    fn drain_queue(&self) -> Result<()> {
        let mut state = self.lock()?;
        while let Some(sequence) = state.queue.front().map(|image| image.sequence) {
            drop(state);
            self.wait(sequence)?;
            state = self.lock()?;
            let woken = state.futures.take();
            if !woken.is_empty() {
                drop(state);
                drop(woken);
                state = self.lock()?;
            }
        }
        Ok(())
    }
}

impl Shared {
    /// Makes everything durable that was numbered before the call.
    ///
    /// What is queued does not tell what is missing: another thread may have taken the last image out of the queue and
    /// be on its way to the disk with it. The numbers tell, because images are acknowledged in their order.
    pub(crate) fn sync_all(&self) -> Result<()> {
        let last = self.lock()?.next_sequence - 1;
        self.wait(last)?;
        let mut state = self.lock()?;
        while state.exclusive {
            self.drained.wait(&mut state);
            state.check()?;
        }
        if state.dirty {
            self.sync_buffered(state);
            state = self.state.lock();
        }
        state.check()
    }
}

impl Task for Writer {
    fn step(&mut self) -> Step {
        let Some(shared) = self.shared.upgrade() else { return Step::Done };
        let mut state = shared.state.lock();
        state.futures.writer_looks = true;
        let woken = state.futures.take();
        let goes_on = state.check().is_ok();
        let polled = state.queue.iter().any(|image| image.polled);
        drop(state);
        // Who was woken for them alone has not seen a quiet moment.
        let told = !woken.is_empty();
        drop(woken);
        if !goes_on {
            return Step::Done;
        }
        let acknowledged = shared.acknowledged.load(Ordering::Acquire);
        let quiet = acknowledged == self.seen && !told;
        self.seen = acknowledged;
        // A failure stops the log by itself, or is a full disk, which the next caller hears of.
        let result = match (polled, quiet) {
            (true, _) => shared.drain_queue(),
            (false, true) => shared.drain_queue().and_then(|()| shared.seal()),
            (false, false) => Ok(()),
        };
        let mut state = shared.state.lock();
        if !state.futures.is_empty() {
            return Step::Again;
        }
        state.futures.writer_looks = false;
        if state.check().is_err() {
            return Step::Done;
        }
        let at_rest = !state.unproven && state.queue.is_empty();
        if (quiet && at_rest) || result.is_err() {
            shared.writer_asleep.store(true, Ordering::Release);
            return Step::Wait(None);
        }
        Step::Wait(Some(shared.options.seal_delay))
    }
}

impl Task for Keeper {
    fn step(&mut self) -> Step {
        let Some(shared) = self.shared.upgrade() else { return Step::Done };
        if shared.lock().is_err() {
            return Step::Done;
        }
        // A full disk is told to the caller who needs the room, and tried again at the next wake.
        match shared.maintain_step(true) {
            Ok(true) => Step::Again,
            Ok(false) => Step::Wait(None),
            Err(error) => {
                tracing::warn!(log = %shared.log, %error, "upkeep of the log failed");
                Step::Wait(None)
            }
        }
    }
}
