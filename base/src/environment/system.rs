//! The real machine's clock, randomness and threads.
#![allow(clippy::disallowed_methods, reason = "this is the module that the ban points to")]

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use parking_lot::{Condvar, Mutex};

use super::{Clock, Environment, Random, Spawner, Step, Task, TaskControl, TaskHandle};
use crate::{Error, Result};

#[cfg(unix)]
impl Environment {
    /// The real machine: the backend is chosen by `LOGWOOD_DISK` (`plain` or `uring`), else by what the machine
    /// allows.
    ///
    /// ```
    /// use logwood_base::Environment;
    /// let env = Environment::system()?;
    /// let before = env.clock.monotonic();
    /// assert!(env.clock.monotonic() >= before);
    /// assert_ne!(env.random.u64(), env.random.u64());
    /// println!("{}", env.disk.describe().durable_write);
    /// # Ok::<(), logwood_base::Error>(())
    /// ```
    ///
    /// # Errors
    /// `InvalidArgument` when `LOGWOOD_DISK` names an unknown backend or one that this machine forbids.
    pub fn system() -> Result<Self> {
        Ok(Self {
            disk: crate::disk::probe::system_disk()?,
            clock: Arc::new(SystemClock::new()),
            random: Arc::new(SystemRandom),
            spawner: Arc::new(ThreadSpawner),
        })
    }
}

/// The machine's clocks.
#[derive(Debug)]
pub struct SystemClock {
    started: Instant,
}

impl SystemClock {
    /// A clock whose monotonic time starts now.
    #[must_use]
    pub fn new() -> Self {
        Self { started: Instant::now() }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    fn monotonic(&self) -> Duration {
        self.started.elapsed()
    }

    fn wall_ms(&self) -> u64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    }

    fn sleep(&self, time: Duration) {
        thread::sleep(time);
    }
}

/// The operating system's randomness.
#[derive(Debug)]
pub struct SystemRandom;

impl Random for SystemRandom {
    /// # Panics
    /// When the operating system has no randomness to give, which no supported one does after boot.
    fn fill(&self, bytes: &mut [u8]) {
        getrandom::fill(bytes).expect("the operating system gives random bytes");
    }
}

/// Gives every task a thread of its own.
///
/// ```
/// use logwood_base::environment::ThreadSpawner;
/// use logwood_base::{Spawner, Step, Task};
/// use std::sync::mpsc::{Sender, channel};
/// struct Answering(Sender<&'static str>);
/// impl Task for Answering {
///     fn step(&mut self) -> Step {
///         self.0.send("awake").expect("somebody listens");
///         Step::Wait(None) // until it is woken
///     }
/// }
/// let (answers, answered) = channel();
/// let task = ThreadSpawner.spawn("answering", Box::new(Answering(answers)))?;
/// assert_eq!(answered.recv(), Ok("awake"));
/// task.wake();
/// assert_eq!(answered.recv(), Ok("awake"));
/// drop(task); // stops it, and waits for its thread
/// assert!(answered.recv().is_err());
/// # Ok::<(), logwood_base::Error>(())
/// ```
#[derive(Debug)]
pub struct ThreadSpawner;

/// What a task's thread and its handle share.
#[derive(Default)]
struct Signals {
    state: Mutex<SignalState>,
    changed: Condvar,
}

#[derive(Default)]
struct SignalState {
    woken: bool,
    stopping: bool,
}

struct ThreadControl {
    signals: Arc<Signals>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Spawner for ThreadSpawner {
    fn spawn(&self, name: &str, task: Box<dyn Task>) -> Result<TaskHandle> {
        start(name, task, || ())
    }

    fn spawn_patient(&self, name: &str, task: Box<dyn Task>) -> Result<TaskHandle> {
        start(name, task, give_way)
    }
}

/// How much less of a processor a patient thread gets, on the system's scale of 0 to 19.
#[cfg(all(target_os = "linux", not(logwood_portable)))]
const PATIENCE: i32 = 10;

/// Lowers the priority of the calling thread. That it stays as it is does no harm.
fn give_way() {
    // Elsewhere this would be the process's priority.
    #[cfg(all(target_os = "linux", not(logwood_portable)))]
    let _ = rustix::process::nice(PATIENCE);
}

/// Starts a thread that steps a task, after `prepare`.
fn start(name: &str, mut task: Box<dyn Task>, prepare: fn()) -> Result<TaskHandle> {
    let signals = Arc::new(Signals::default());
    let seen = Arc::clone(&signals);
    let thread = thread::Builder::new()
        .name(name.to_owned())
        .spawn(move || {
            prepare();
            let mut step = Step::Again;
            while step != Step::Done && seen.pause(step) {
                step = task.step();
            }
        })
        .map_err(|source| Error::io("start of a thread", std::path::Path::new(name), source))?;
    Ok(TaskHandle::new(Box::new(ThreadControl { signals, thread: Some(thread) })))
}

impl Signals {
    /// Waits as `step` asks. Answers whether to go on.
    fn pause(&self, step: Step) -> bool {
        let mut state = self.state.lock();
        if let Step::Wait(limit) = step {
            // What is further away than the clock reaches never comes.
            let deadline = limit.and_then(|limit| Instant::now().checked_add(limit));
            while !state.woken && !state.stopping {
                match deadline {
                    None => self.changed.wait(&mut state),
                    Some(deadline) => {
                        if self.changed.wait_until(&mut state, deadline).timed_out() {
                            break;
                        }
                    }
                }
            }
        }
        state.woken = false;
        !state.stopping
    }
}

impl TaskControl for ThreadControl {
    fn wake(&self) {
        let mut state = self.signals.state.lock();
        if !state.woken {
            state.woken = true;
            self.signals.changed.notify_one();
        }
    }

    fn stop(&mut self) {
        self.signals.state.lock().stopping = true;
        self.signals.changed.notify_one();
        let Some(thread) = self.thread.take() else { return };
        // The last handle may be dropped by the task itself, which cannot wait for its own end.
        if thread.thread().id() != thread::current().id() {
            // A panic in the task was reported by its thread; a drop must not raise it again.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    struct Counting(Arc<AtomicUsize>);

    impl Task for Counting {
        fn step(&mut self) -> Step {
            self.0.fetch_add(1, Ordering::SeqCst);
            Step::Wait(None)
        }
    }

    #[test]
    fn a_waiting_task_runs_when_woken_and_stops_when_dropped() {
        let count = Arc::new(AtomicUsize::new(0));
        let handle = ThreadSpawner.spawn("counting", Box::new(Counting(Arc::clone(&count)))).unwrap();
        while count.load(Ordering::SeqCst) < 1 {
            thread::yield_now();
        }
        handle.wake();
        while count.load(Ordering::SeqCst) < 2 {
            thread::yield_now();
        }
        drop(handle);
        assert_eq!(Arc::strong_count(&count), 1, "the task itself is gone");
    }

    #[test]
    fn a_task_may_wait_longer_than_the_clock_reaches() {
        struct Patient(std::sync::mpsc::Sender<()>);
        impl Task for Patient {
            fn step(&mut self) -> Step {
                self.0.send(()).unwrap();
                Step::Wait(Some(Duration::MAX))
            }
        }
        let (stepped, steps) = std::sync::mpsc::channel();
        let patient = ThreadSpawner.spawn("patient", Box::new(Patient(stepped))).unwrap();
        steps.recv().unwrap();
        patient.wake();
        steps.recv().unwrap();
    }

    #[cfg(all(target_os = "linux", not(logwood_portable)))]
    #[test]
    fn a_patient_task_gives_way_and_nobody_else_does() {
        struct Asking(std::sync::mpsc::Sender<i32>);
        impl Task for Asking {
            fn step(&mut self) -> Step {
                self.0.send(rustix::process::getpriority_process(None).unwrap()).unwrap();
                Step::Done
            }
        }
        let before = rustix::process::getpriority_process(None).unwrap();
        let (asked, answers) = std::sync::mpsc::channel();
        let patient = ThreadSpawner.spawn_patient("patient", Box::new(Asking(asked.clone()))).unwrap();
        assert_eq!(answers.recv().unwrap(), (before + PATIENCE).min(19));
        let other = ThreadSpawner.spawn("other", Box::new(Asking(asked))).unwrap();
        assert_eq!(answers.recv().unwrap(), before);
        drop((patient, other));
        assert_eq!(rustix::process::getpriority_process(None).unwrap(), before);
    }
}
