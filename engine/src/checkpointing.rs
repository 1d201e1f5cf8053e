//! Checkpoints: when they begin, how fast they go, and what they let go of.
//!
//! A checkpoint is exactly the state at one LSN. It is pinned under the sequencer's lock as the last applied one,
//! then made durable and visible, and only then is anything written: pages never hold what a crash could take back.
//! Writers go on meanwhile.
//!
//! How fast: *pressure* is the log that opening would have to replay, as a share of `recovery_log_bytes_max`, or the
//! changed pages and the old ones that only the running checkpoint still needs, as a share of twice `dirty_bytes_max`,
//! whichever is greater.
//!
//! | pressure | what happens |
//! |---|---|
//! | from 0.5 | the background task works on a checkpoint, with pauses that shrink as pressure grows |
//! | from 0.7 | every writer does parts of it before its commit, by the bytes it commits, more as pressure grows |
//! | from 1.0 | a writer goes on with it until pressure is below 1 again |
//!
//! So writers are slowed smoothly, and a process without background threads works the same way. A checkpoint that was
//! asked for is written by who asked, and rests between its steps while others commit ([`crate::pace`]), up to 0.7.
//!
//! After a checkpoint, entries below the *older* manifest's `replay_from` are released: should the newest manifest be
//! lost, the one before it still opens.

use std::time::Duration;

use logwood_base::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use logwood_base::sync::{Arc, Mutex, Weak};
use logwood_base::{Error, Lsn, Result, Step, Task, TaskHandle};
use logwood_btree::store::Manifest;
use logwood_btree::{Checkpoint, CheckpointJob, Progress, Snapshot};

use crate::core::Core;
use crate::pace::Pace;
use crate::planted::{Bug, planted};
use crate::statistics::logged_bytes;

/// Pressure at which the background task begins, and at which writers help, in thousandths.
const BEGIN: u64 = 500;
const HELP: u64 = 700;
const FULL: u64 = 1000;

/// Bytes of commits between two parts that a writer does, just above [`HELP`] and just below [`FULL`].
const BYTES_PER_PART: (u64, u64) = (8 << 10, 256);

/// Parts that a writer does before one commit while pressure is below [`FULL`].
const PARTS_MAX: u64 = 256;

/// The state of checkpoints of one database.
#[derive(Debug)]
pub(crate) struct Checkpointer {
    work: Mutex<Work>,
    /// Bytes of log behind the newest manifest's `replay_from`, about.
    replay_bytes: AtomicU64,
    /// Bytes committed since a writer last helped.
    unhelped: AtomicU64,
    /// Bytes of versions that were kept when the running checkpoint began: what is kept beyond them goes with it.
    kept_before: AtomicU64,
    /// Whether a checkpoint is wanted although pressure is low.
    asked: AtomicBool,
    /// LSN of the newest checkpoint.
    newest: AtomicU64,
    finished: AtomicU64,
    /// The directory may soon belong to another process: no step begins any more.
    stopping: AtomicBool,
    task: Mutex<Option<TaskHandle>>,
}

#[derive(Debug)]
struct Work {
    running: Option<Running>,
}

#[derive(Debug)]
struct Running {
    job: CheckpointJob,
    at: Lsn,
    /// What [`Checkpointer::replay_bytes`] was when the LSN was pinned.
    bytes_before: u64,
    /// Keeps the versions of `at` until the job is done.
    pinned: Snapshot,
}

/// What a step came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Outcome {
    /// There is more to do.
    Unfinished,
    /// A checkpoint became durable, or there was nothing to write.
    Finished,
}

impl Checkpointer {
    pub(crate) fn new(checkpoint: Lsn, replay_bytes: u64) -> Self {
        Self {
            work: Mutex::new(Work { running: None }),
            replay_bytes: AtomicU64::new(replay_bytes),
            unhelped: AtomicU64::new(0),
            kept_before: AtomicU64::new(u64::MAX),
            asked: AtomicBool::new(false),
            newest: AtomicU64::new(checkpoint.get()),
            finished: AtomicU64::new(0),
            stopping: AtomicBool::new(false),
            task: Mutex::new(None),
        }
    }

    /// The LSN of the newest durable checkpoint.
    pub(crate) fn newest(&self) -> Lsn {
        Lsn(self.newest.load(Ordering::Acquire))
    }

    /// Checkpoints finished since the database was opened.
    pub(crate) fn finished(&self) -> u64 {
        self.finished.load(Ordering::Relaxed)
    }

    /// Bytes of log that opening would replay now, about.
    pub(crate) fn replay_bytes(&self) -> u64 {
        self.replay_bytes.load(Ordering::Relaxed)
    }

    /// Counts log written.
    pub(crate) fn grew(&self, bytes: u64) {
        self.replay_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Has the background task look soon.
    pub(crate) fn wake(&self) {
        if let Some(task) = &*self.task.lock() {
            task.wake();
        }
    }

    /// Has the background task write a checkpoint soon, also of a state that was written before: cleaning has changed
    /// where pages belong.
    pub(crate) fn ask(&self) {
        self.asked.store(true, Ordering::Release);
        self.wake();
    }

    /// Stops the background task and gives up the checkpoint that runs, whoever steps it. Afterwards no step is running
    /// and none begins: what a later one wrote could land in a directory that another process has opened.
    pub(crate) fn stop(&self) {
        let task = self.task.lock().take();
        drop(task);
        self.stopping.store(true, Ordering::Release);
        self.work.lock().running = None;
    }

    /// To be asked with the lock of `work`.
    fn check_going(&self) -> Result<()> {
        if self.stopping.load(Ordering::Acquire) { Err(Error::Closed) } else { Ok(()) }
    }
}

impl Core {
    /// Starts the background task.
    pub(crate) fn start_checkpoints(self: &Arc<Self>) -> Result<()> {
        if self.options.background {
            let task = Background { core: Arc::downgrade(self) };
            let handle = self.environment.spawner.spawn("logwood-checkpoint", Box::new(task))?;
            *self.checkpointer.task.lock() = Some(handle);
        }
        Ok(())
    }

    /// Ends what bulk writes that were dropped have left open, where it can: it keeps the log, and only a write would end it
    /// otherwise. For those who ask for a checkpoint or for room.
    pub(crate) fn end_dropped(&self) -> Result<()> {
        let settled = {
            let mut sequencer = self.sequencer.lock();
            if sequencer.check_open().is_err() || !sequencer.is_unsettled() {
                return Ok(());
            }
            self.check_writable()?;
            self.settle_beginning(&mut sequencer)
        };
        self.publisher.tell();
        match settled {
            // The next write that finds room does it.
            Ok(()) | Err(Error::DiskFull { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Writes a checkpoint of this moment, or of a later one, before it returns.
    pub(crate) fn checkpoint_now(&self) -> Result<Lsn> {
        let goal = self.sequencer.lock().applier.applied();
        loop {
            let mut work = self.checkpointer.work.lock();
            self.finish_steps(&mut work)?;
            if self.checkpointer.newest() >= goal {
                return Ok(self.checkpointer.newest());
            }
        }
    }

    /// Does a writer's part before its commit, when pressure asks for it. Refuses a write when too much waits to be
    /// archived.
    pub(crate) fn assist(&self, bytes: u64) -> Result<()> {
        #[cfg(feature = "archive")]
        self.archive.check(self.counters.bytes())?;
        let pressure = self.pressure();
        if pressure < HELP {
            if pressure >= BEGIN {
                self.checkpointer.wake();
            }
            return Ok(());
        }
        let (slow, fast) = BYTES_PER_PART;
        let bytes = logged_bytes(bytes as usize);
        let unhelped = self.checkpointer.unhelped.fetch_add(bytes, Ordering::Relaxed) + bytes;
        let every = (FULL.saturating_sub(pressure) * slow / (FULL - HELP)).max(fast);
        let mut parts = (unhelped / every).min(PARTS_MAX);
        if parts == 0 && pressure < FULL {
            return Ok(());
        }
        self.checkpointer.unhelped.store(0, Ordering::Relaxed);
        loop {
            let full = self.pressure() >= FULL;
            if parts == 0 && !full {
                return Ok(());
            }
            parts = parts.saturating_sub(1);
            let work =
                if full { Some(self.checkpointer.work.lock()) } else { self.checkpointer.work.try_lock() };
            let Some(mut work) = work else { return Ok(()) };
            match self.step_checkpoint(&mut work) {
                Ok(Outcome::Unfinished) => {}
                Ok(Outcome::Finished) => return Ok(()),
                // There is room in the log still: the disk may have some again before it ends.
                Err(Error::DiskFull { .. }) if !full => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }

    /// Pressure in thousandths; see the module.
    fn pressure(&self) -> u64 {
        let share = |part: u64, whole: u64| part.saturating_mul(FULL) / whole.max(1);
        let log = share(self.checkpointer.replay_bytes(), self.options.recovery_log_bytes_max);
        let before = self.checkpointer.kept_before.load(Ordering::Relaxed);
        let kept = (self.forest.version_bytes() as u64).saturating_sub(before);
        let changed = self.forest.dirty_bytes() as u64 + kept;
        log.max(share(changed, self.options.dirty_bytes_bound().saturating_mul(2)))
    }

    /// Steps to the end of the checkpoint that runs, or of a new one. Gives way to commits while there is time: a caller
    /// who waits for a checkpoint waits a little longer, others do not notice it.
    fn finish_steps(&self, work: &mut Work) -> Result<()> {
        let clock = &*self.environment.clock;
        let mut pace = Pace::begin(clock, self.visible_lsn());
        while self.step_checkpoint(work)? == Outcome::Unfinished {
            if self.pressure() < HELP
                && let Some(rest) = pace.rest(clock, self.visible_lsn())
            {
                clock.sleep(rest);
                pace.go_on(clock);
            }
        }
        Ok(())
    }

    /// One bounded piece of work: pins a new LSN, or goes on with the checkpoint that runs.
    fn step_checkpoint(&self, work: &mut Work) -> Result<Outcome> {
        self.check_writable()?;
        self.checkpointer.check_going()?;
        let stepped = match &mut work.running {
            None => {
                let asked = self.checkpointer.asked.swap(false, Ordering::AcqRel);
                return self.begin_checkpoint(work, asked);
            }
            Some(running) => running.job.step(),
        };
        match stepped {
            Ok(Progress::More) => Ok(Outcome::Unfinished),
            Ok(Progress::Done(_)) => {
                self.checkpointer.kept_before.store(u64::MAX, Ordering::Relaxed);
                if let Some(running) = work.running.take() {
                    self.finish_checkpoint(&running);
                }
                Ok(Outcome::Finished)
            }
            Err(error) => {
                self.checkpointer.kept_before.store(u64::MAX, Ordering::Relaxed);
                work.running = None;
                Err(self.checkpoint_failed(error))
            }
        }
    }

    /// Writes a whole checkpoint of this moment, whether anything was committed since the last one or not: cleaning
    /// changes pages without a commit.
    pub(crate) fn checkpoint_always(&self) -> Result<()> {
        let mut work = self.checkpointer.work.lock();
        if work.running.is_some() {
            self.finish_steps(&mut work)?;
        }
        self.begin_checkpoint(&mut work, true)?;
        self.finish_steps(&mut work)?;
        Ok(())
    }

    /// Writes a checkpoint of this moment, and answers its manifest, whose files stay while it is held, and a snapshot of
    /// the same state.
    pub(crate) fn checkpoint_held(&self) -> Result<(Arc<Manifest>, Snapshot)> {
        let mut work = self.checkpointer.work.lock();
        if work.running.is_some() {
            self.finish_steps(&mut work)?;
        }
        self.begin_checkpoint(&mut work, true)?;
        let snapshot = work.running.as_ref().map(|running| running.pinned.clone());
        self.finish_steps(&mut work)?;
        // No other checkpoint can have come between: they take the same lock.
        let manifest = self.forest.store().manifest();
        match snapshot {
            Some(snapshot) if snapshot.lsn() == manifest.checkpoint_lsn => Ok((manifest, snapshot)),
            _ => {
                Err(Error::Internal(format!("a checkpoint at another lsn than {}", manifest.checkpoint_lsn)))
            }
        }
    }

    /// Begins a checkpoint and leaves it unfinished.
    #[cfg(test)]
    pub(crate) fn begin_part_of_checkpoint(&self) -> Result<Outcome> {
        let mut work = self.checkpointer.work.lock();
        self.step_checkpoint(&mut work)?;
        self.step_checkpoint(&mut work)
    }

    fn begin_checkpoint(&self, work: &mut Work, always: bool) -> Result<Outcome> {
        self.checkpointer.check_going()?;
        let (at, replay_from, state, pinned, bytes_before) = {
            let sequencer = self.sequencer.lock();
            let at = sequencer.applier.applied();
            if at == self.checkpointer.newest() && !always {
                return Ok(Outcome::Finished);
            }
            // By now the log has let go of what the checkpoint before has made useless.
            self.bound_bulk_writes(self.forest.store().replay_from());
            let pinned = self.forest.snapshot_at(at)?;
            let state = sequencer.applier.state().encode();
            (at, sequencer.applier.replay_from(), state, pinned, self.checkpointer.replay_bytes())
        };
        tracing::debug!(%at, "checkpoint begins");
        if !planted(Bug::CheckpointBeforeSync) {
            let durable = self.log.sync().and_then(|()| self.publisher.settle());
            durable.map_err(|error| self.write_failed(error))?;
        }
        // Nothing here is replicated: what is durable is decided. It rides on the next batch, and tells a later
        // opening which entries behind damage are beyond doubt.
        self.group.set_committed(at);
        let job = self.forest.begin_checkpoint(&Checkpoint {
            at,
            replay_from,
            log_durable_end: self.log.durable_position(),
            engine_state: &state,
        });
        let job = job.map_err(|error| self.checkpoint_failed(error))?;
        self.checkpointer.kept_before.store(self.forest.version_bytes() as u64, Ordering::Relaxed);
        work.running = Some(Running { job, at, bytes_before, pinned });
        Ok(Outcome::Unfinished)
    }

    fn finish_checkpoint(&self, running: &Running) {
        self.checkpointer.newest.store(running.at.get(), Ordering::Release);
        self.checkpointer.finished.fetch_add(1, Ordering::Relaxed);
        self.checkpointer.replay_bytes.fetch_sub(running.bytes_before, Ordering::Relaxed);
        metrics::counter!("logwood_checkpoints_total").increment(1);
        tracing::debug!(at = %running.at, "checkpoint is durable");
        self.cleaner.wake();
        let needed = match planted(Bug::ReleaseForNewestManifest) {
            true => running.at.next(),
            false => self.forest.store().replay_from(),
        };
        let needed = self.sequencer.lock().applier.fragments.whole_from(needed);
        self.group.release(needed.previous());
    }

    /// A checkpoint that failed is begun anew later when nothing doubtful was left behind: its unfinished segments
    /// are thrown away. A failed sync is final.
    fn checkpoint_failed(&self, error: Error) -> Error {
        tracing::warn!(%error, "checkpoint failed");
        match error {
            Error::DiskFull { .. } | Error::Corruption(_) => error,
            other => self.stop(&other),
        }
    }
}

/// Steps checkpoints when pressure asks for it, and settles commits that nobody waits for.
struct Background {
    core: Weak<Core>,
}

impl Task for Background {
    fn step(&mut self) -> Step {
        let Some(core) = self.core.upgrade() else { return Step::Done };
        if core.poison.check().is_err() {
            return Step::Wait(None);
        }
        if !core.publisher.is_settled()
            && let Err(error) = core.publisher.settle()
        {
            core.write_failed(error);
            return Step::Wait(Some(Duration::from_secs(1)));
        }
        let pressure = core.pressure();
        let Some(mut work) = core.checkpointer.work.try_lock() else {
            return Step::Wait(Some(Duration::from_millis(1)));
        };
        if work.running.is_none() && pressure < BEGIN && !core.checkpointer.asked.load(Ordering::Acquire) {
            return Step::Wait(None);
        }
        match core.step_checkpoint(&mut work) {
            // A checkpoint that nobody asked for goes slowly while there is time.
            Ok(Outcome::Unfinished) if pressure < HELP => {
                // Half pressure: a pause of a millisecond after every step; none where writers begin to help.
                Step::Wait(Some(Duration::from_micros((HELP - pressure.min(HELP)) * 5)))
            }
            Ok(_) => Step::Again,
            Err(Error::DiskFull { .. } | Error::Corruption(_)) => Step::Wait(Some(Duration::from_secs(1))),
            Err(_) => Step::Wait(None),
        }
    }
}
