//! What an engine takes from outside: disk, clock, randomness and background work, as arguments.
//!
//! [`Environment::system`] is the real machine. The simulator passes its own, and steps all background work on one
//! thread from one seed. Nothing above this crate reads a clock, draws a random number or starts a thread by itself.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::disk::Disk;

mod manual;
mod system;

pub use manual::{ManualClock, ManualSpawner, SeededRandom};
pub use system::{SystemClock, SystemRandom, ThreadSpawner};

/// Disk, clock, randomness and background work, handed to everything that is opened.
#[derive(Clone, Debug)]
pub struct Environment {
    /// The file system.
    pub disk: Arc<dyn Disk>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Randomness, for identities and jitter. Never for secrets.
    pub random: Arc<dyn Random>,
    /// Runs background work.
    pub spawner: Arc<dyn Spawner>,
}

/// The time.
pub trait Clock: Send + Sync + fmt::Debug {
    /// Time since some fixed moment. Never goes back.
    fn monotonic(&self) -> Duration;

    /// Milliseconds since 1970-01-01 UTC. May jump either way.
    fn wall_ms(&self) -> u64;

    /// Lets time pass in the calling thread: for a caller that was refused and tries again, and for work that gives way to
    /// others; never to wait for something that others do.
    fn sleep(&self, time: Duration);
}

/// A source of random bytes.
pub trait Random: Send + Sync + fmt::Debug {
    /// Fills `bytes`.
    fn fill(&self, bytes: &mut [u8]);

    /// A uniformly drawn number.
    fn u64(&self) -> u64 {
        let mut bytes = [0u8; 8];
        self.fill(&mut bytes);
        u64::from_le_bytes(bytes)
    }
}

/// What a [`Task`] wants after a step.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    /// To be stepped again soon: there is more to do.
    Again,
    /// To be stepped when woken ([`TaskHandle::wake`]), or after the given time when there is one.
    Wait(Option<Duration>),
    /// Not to be stepped again.
    Done,
}

/// Background work, cut into short steps, so that a simulator can interleave them and a stop is prompt.
pub trait Task: Send {
    /// Does a bounded piece of work. Must not wait for another task.
    fn step(&mut self) -> Step;
}

/// Runs background work.
pub trait Spawner: Send + Sync + fmt::Debug {
    /// Starts stepping `task`. `name` shows in debuggers and traces.
    ///
    /// # Errors
    /// `Io` when the system refuses a thread.
    fn spawn(&self, name: &str, task: Box<dyn Task>) -> crate::Result<TaskHandle>;

    /// As [`Spawner::spawn`], for work that nobody waits for: where the system knows how, its thread gives way to all
    /// others.
    ///
    /// # Errors
    /// As [`Spawner::spawn`].
    fn spawn_patient(&self, name: &str, task: Box<dyn Task>) -> crate::Result<TaskHandle> {
        self.spawn(name, task)
    }
}

/// Wakes or stops a task. Dropping the handle stops it.
pub struct TaskHandle(Box<dyn TaskControl>);

/// What a [`Spawner`] implements behind a [`TaskHandle`].
pub trait TaskControl: Send + Sync {
    /// Has the task stepped soon if it waits. A wake while it is being stepped is not lost. Cheap: called on commit
    /// paths.
    fn wake(&self);

    /// Returns when the task is not being stepped and never will be again; the task has been dropped. Called at most
    /// once. From within a step of the task it returns at once: that step is the last one.
    fn stop(&mut self);
}

impl TaskHandle {
    /// Wraps a spawner's own control.
    #[must_use]
    pub fn new(control: Box<dyn TaskControl>) -> Self {
        Self(control)
    }

    /// Has the task stepped soon if it waits.
    pub fn wake(&self) {
        self.0.wake();
    }
}

impl Drop for TaskHandle {
    fn drop(&mut self) {
        self.0.stop();
    }
}

impl fmt::Debug for TaskHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TaskHandle")
    }
}
