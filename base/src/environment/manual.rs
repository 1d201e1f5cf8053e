//! Clock, randomness and background work that move only when told, for tests and the simulator.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use super::{Clock, Random, Spawner, Step, Task, TaskControl, TaskHandle};
use crate::Result;

/// A clock that stands still until it is moved.
///
/// ```
/// use logwood_base::Clock;
/// use logwood_base::environment::ManualClock;
/// use std::time::Duration;
/// let clock = ManualClock::new(1_000);
/// clock.advance(Duration::from_millis(5));
/// assert_eq!((clock.monotonic(), clock.wall_ms()), (Duration::from_millis(5), 1_005));
/// clock.set_wall_ms(0); // somebody sets the machine's clock; monotonic time goes on
/// assert_eq!((clock.monotonic(), clock.wall_ms()), (Duration::from_millis(5), 0));
/// ```
#[derive(Debug)]
pub struct ManualClock {
    monotonic_ns: AtomicU64,
    wall_ms: AtomicU64,
}

impl ManualClock {
    /// A clock that starts at the given wall time, in milliseconds since 1970.
    #[must_use]
    pub fn new(wall_ms: u64) -> Self {
        Self { monotonic_ns: AtomicU64::new(0), wall_ms: AtomicU64::new(wall_ms) }
    }

    /// Lets time pass.
    pub fn advance(&self, by: Duration) {
        let ns = u64::try_from(by.as_nanos()).unwrap_or(u64::MAX);
        let before = self.monotonic_ns.fetch_add(ns, Ordering::SeqCst);
        let passed_ms = (before + ns) / 1_000_000 - before / 1_000_000;
        self.wall_ms.fetch_add(passed_ms, Ordering::SeqCst);
    }

    /// Sets the wall clock, as an operator or a time server might: either way.
    pub fn set_wall_ms(&self, wall_ms: u64) {
        self.wall_ms.store(wall_ms, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn monotonic(&self) -> Duration {
        Duration::from_nanos(self.monotonic_ns.load(Ordering::SeqCst))
    }

    fn wall_ms(&self) -> u64 {
        self.wall_ms.load(Ordering::SeqCst)
    }

    fn sleep(&self, time: Duration) {
        self.advance(time);
    }
}

/// Random bytes that depend on nothing but a seed and the order of the calls.
///
/// ```
/// use logwood_base::Random;
/// use logwood_base::environment::SeededRandom;
/// let (one, other) = (SeededRandom::new(7), SeededRandom::new(7));
/// assert_eq!([one.u64(), one.u64()], [other.u64(), other.u64()]);
/// ```
#[derive(Debug)]
pub struct SeededRandom(Mutex<fastrand::Rng>);

impl SeededRandom {
    /// A source that always draws the same from the same seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(Mutex::new(fastrand::Rng::with_seed(seed)))
    }
}

impl Random for SeededRandom {
    fn fill(&self, bytes: &mut [u8]) {
        self.0.lock().fill(bytes);
    }
}

/// Keeps tasks until somebody steps them, on the stepping thread.
///
/// ```
/// use logwood_base::environment::ManualSpawner;
/// use logwood_base::{Spawner, Step, Task};
/// use std::time::Duration;
/// struct Sweeper;
/// impl Task for Sweeper {
///     fn step(&mut self) -> Step {
///         Step::Wait(Some(Duration::from_secs(5)))
///     }
/// }
/// let spawner = ManualSpawner::new();
/// let task = spawner.spawn("sweeper", Box::new(Sweeper))?;
/// let now = Duration::ZERO;
/// assert!(spawner.run_until_idle(now, 10), "at most 10 steps");
/// assert_eq!(spawner.next_due(), Some(Duration::from_secs(5)));
/// task.wake();
/// let sweeper = spawner.runnable(now)[0];
/// assert_eq!(spawner.name(sweeper).as_deref(), Some("sweeper"));
/// assert!(spawner.step(sweeper, now), "it goes on");
/// drop(task); // stops it
/// assert!(!spawner.step(sweeper, now));
/// # Ok::<(), logwood_base::Error>(())
/// ```
#[derive(Clone, Default)]
pub struct ManualSpawner {
    tasks: Arc<Mutex<BTreeMap<u64, Slot>>>,
    next: Arc<AtomicU64>,
}

struct Slot {
    name: String,
    /// Absent while it is being stepped.
    task: Option<Box<dyn Task>>,
    /// Monotonic time before which it need not be stepped; `None`: only when woken.
    due: Option<Duration>,
}

struct ManualControl {
    spawner: ManualSpawner,
    id: u64,
}

impl ManualSpawner {
    /// A spawner without tasks.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The tasks that want to be stepped at `now`, by number, in the order they were spawned.
    #[must_use]
    pub fn runnable(&self, now: Duration) -> Vec<u64> {
        let tasks = self.tasks.lock();
        tasks.iter().filter(|(_, slot)| slot.due.is_some_and(|due| due <= now)).map(|(id, _)| *id).collect()
    }

    /// The earliest moment at which a task wants to be stepped.
    #[must_use]
    pub fn next_due(&self) -> Option<Duration> {
        self.tasks.lock().values().filter_map(|slot| slot.due).min()
    }

    /// The name that a task was spawned with.
    #[must_use]
    pub fn name(&self, id: u64) -> Option<String> {
        self.tasks.lock().get(&id).map(|slot| slot.name.clone())
    }

    /// Steps one task. Answers false when it is gone.
    pub fn step(&self, id: u64, now: Duration) -> bool {
        let Some(mut task) = self.take(id) else { return false };
        let step = task.step();
        let mut tasks = self.tasks.lock();
        // A task whose handle was dropped while it was stepped has no slot any more and is dropped here.
        let Some(slot) = tasks.get_mut(&id) else { return false };
        let woken = slot.due.is_some();
        slot.due = match step {
            _ if woken => Some(Duration::ZERO),
            Step::Again => Some(Duration::ZERO),
            Step::Wait(limit) => limit.map(|limit| now.saturating_add(limit)),
            Step::Done => {
                tasks.remove(&id);
                return false;
            }
        };
        slot.task = Some(task);
        true
    }

    /// Steps every task that wants it until none does, at most `steps` times. Answers whether all are at rest.
    pub fn run_until_idle(&self, now: Duration, steps: usize) -> bool {
        for _ in 0..steps {
            let Some(id) = self.runnable(now).first().copied() else { return true };
            self.step(id, now);
        }
        self.runnable(now).is_empty()
    }

    /// Drops every task without stepping it again, as a killed process does.
    pub fn kill_all(&self) {
        let killed = std::mem::take(&mut *self.tasks.lock());
        drop(killed);
    }

    fn take(&self, id: u64) -> Option<Box<dyn Task>> {
        let mut tasks = self.tasks.lock();
        let slot = tasks.get_mut(&id)?;
        slot.due = None;
        slot.task.take()
    }
}

impl Spawner for ManualSpawner {
    fn spawn(&self, name: &str, task: Box<dyn Task>) -> Result<TaskHandle> {
        let id = self.next.fetch_add(1, Ordering::SeqCst);
        let slot = Slot { name: name.to_owned(), task: Some(task), due: Some(Duration::ZERO) };
        self.tasks.lock().insert(id, slot);
        Ok(TaskHandle::new(Box::new(ManualControl { spawner: self.clone(), id })))
    }
}

impl TaskControl for ManualControl {
    fn wake(&self) {
        if let Some(slot) = self.spawner.tasks.lock().get_mut(&self.id) {
            slot.due = Some(Duration::ZERO);
        }
    }

    fn stop(&mut self) {
        let removed = self.spawner.tasks.lock().remove(&self.id);
        drop(removed);
    }
}

impl fmt::Debug for ManualSpawner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ManualSpawner").field("tasks", &self.tasks.lock().len()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Once(Arc<AtomicU64>);

    impl Task for Once {
        fn step(&mut self) -> Step {
            self.0.fetch_add(1, Ordering::SeqCst);
            Step::Wait(Some(Duration::from_secs(5)))
        }
    }

    #[test]
    fn a_task_moves_only_when_stepped_and_due() {
        let spawner = ManualSpawner::new();
        let steps = Arc::new(AtomicU64::new(0));
        let handle = spawner.spawn("once", Box::new(Once(Arc::clone(&steps)))).unwrap();
        assert_eq!(steps.load(Ordering::SeqCst), 0);
        assert!(spawner.run_until_idle(Duration::ZERO, 10));
        assert_eq!(steps.load(Ordering::SeqCst), 1);
        assert_eq!(spawner.next_due(), Some(Duration::from_secs(5)));
        handle.wake();
        assert!(spawner.run_until_idle(Duration::ZERO, 10));
        assert_eq!(steps.load(Ordering::SeqCst), 2);
        drop(handle);
        assert_eq!(Arc::strong_count(&steps), 1);
    }

    #[test]
    fn the_same_seed_draws_the_same() {
        let (a, b) = (SeededRandom::new(7), SeededRandom::new(7));
        assert_eq!((a.u64(), a.u64()), (b.u64(), b.u64()));
        assert_ne!(SeededRandom::new(7).u64(), SeededRandom::new(8).u64());
    }

    #[test]
    fn the_wall_clock_follows_and_can_jump() {
        let clock = ManualClock::new(1_000);
        clock.advance(Duration::from_micros(1_500));
        clock.advance(Duration::from_micros(500));
        assert_eq!(clock.wall_ms(), 1_002);
        clock.set_wall_ms(5);
        assert_eq!((clock.wall_ms(), clock.monotonic()), (5, Duration::from_millis(2)));
    }
}
