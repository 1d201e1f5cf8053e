//! Numbered work, done ahead of whoever needs its results.
//!
//! Helpers are tasks of the spawner. Nobody relies on them: whoever needs a result that nobody has begun does the work
//! itself, and while a helper is at it does other work that is due. So it is as right, if slower, where nothing steps
//! the helpers. A job that panics does so where its result is taken.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::thread;

use logwood_base::sync::{Arc, Condvar, Mutex};
use logwood_base::{Environment, Result, Step, Task, TaskHandle};

/// Results of jobs `0..count`, taken in order.
pub(crate) struct Ahead<T> {
    shared: Arc<Shared<T>>,
    helpers: Vec<TaskHandle>,
}

struct Shared<T> {
    job: Box<dyn Fn(usize) -> T + Send + Sync>,
    count: usize,
    /// Most results that are waiting or being made.
    window: usize,
    state: Mutex<State<T>>,
    changed: Condvar,
}

struct State<T> {
    /// Jobs before this one were begun.
    begun: usize,
    /// Results before this one were taken.
    taken: usize,
    /// Results that wait.
    done: BTreeMap<usize, thread::Result<T>>,
    /// Nothing more is begun.
    stopped: bool,
}

impl<T: Send + 'static> Ahead<T> {
    /// Begins with `helpers` helpers, whose tasks have this name; at most `window` results are held in memory.
    pub(crate) fn new(
        environment: &Environment,
        name: &str,
        (helpers, window): (usize, usize),
        count: usize,
        job: impl Fn(usize) -> T + Send + Sync + 'static,
    ) -> Result<Self> {
        let state = State { begun: 0, taken: 0, done: BTreeMap::new(), stopped: false };
        let shared = Arc::new(Shared {
            job: Box::new(job),
            count,
            window: window.max(1),
            state: Mutex::new(state),
            changed: Condvar::new(),
        });
        let helpers = (0..helpers.min(count.saturating_sub(1)))
            .map(|_| environment.spawner.spawn(name, Box::new(Helper(Arc::clone(&shared)))))
            .collect::<Result<_>>()?;
        Ok(Self { shared, helpers })
    }

    /// The next result; `None` behind the last one.
    pub(crate) fn take(&mut self) -> Option<T> {
        let mut state = self.shared.state.lock();
        let wanted = state.taken;
        if wanted == self.shared.count {
            return None;
        }
        loop {
            if let Some(result) = state.done.remove(&wanted) {
                state.taken += 1;
                drop(state);
                self.helpers.iter().for_each(TaskHandle::wake);
                return Some(result.unwrap_or_else(|panic| resume_unwind(panic)));
            }
            match self.shared.claim(&mut state) {
                Some(job) => {
                    drop(state);
                    self.shared.run(job);
                    state = self.shared.state.lock();
                }
                None => self.shared.changed.wait(&mut state),
            }
        }
    }
}

impl<T> Shared<T> {
    /// The next job that is due.
    fn claim(&self, state: &mut State<T>) -> Option<usize> {
        let is_due = !state.stopped && state.begun < self.count && state.begun < state.taken + self.window;
        is_due.then(|| {
            state.begun += 1;
            state.begun - 1
        })
    }

    fn run(&self, job: usize) {
        // Whoever waits for it would do so for ever.
        let result = catch_unwind(AssertUnwindSafe(|| (self.job)(job)));
        self.state.lock().done.insert(job, result);
        self.changed.notify_all();
    }
}

impl<T> Drop for Ahead<T> {
    fn drop(&mut self) {
        // The helpers end with their handles, each after the job that it is at.
        self.shared.state.lock().stopped = true;
    }
}

struct Helper<T>(Arc<Shared<T>>);

impl<T: Send> Task for Helper<T> {
    fn step(&mut self) -> Step {
        let claimed = {
            let mut state = self.0.state.lock();
            if state.begun == self.0.count {
                return Step::Done;
            }
            self.0.claim(&mut state)
        };
        match claimed {
            Some(job) => {
                self.0.run(job);
                Step::Again
            }
            None => Step::Wait(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use logwood_base::disk::SimulatedDisk;
    use logwood_base::environment::{ManualClock, ManualSpawner, SeededRandom, ThreadSpawner};
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    fn environment(threads: bool) -> Environment {
        let clock = Arc::new(ManualClock::new(0));
        Environment {
            disk: Arc::new(SimulatedDisk::new(1)),
            random: Arc::new(SeededRandom::new(1)),
            spawner: if threads { Arc::new(ThreadSpawner) } else { Arc::new(ManualSpawner::new()) },
            clock,
        }
    }

    #[test]
    fn results_come_in_order_with_helpers_and_where_nothing_steps_them() {
        for threads in [false, true] {
            let mut ahead = Ahead::new(&environment(threads), "squares", (3, 5), 200, |n| n * n).unwrap();
            for n in 0..200 {
                assert_eq!(ahead.take(), Some(n * n));
            }
            assert_eq!(ahead.take(), None);
        }
    }

    #[test]
    #[should_panic(expected = "job 7")]
    fn a_panic_comes_to_whoever_takes_the_result() {
        let job = |n: usize| assert!(n != 7, "job {n}");
        let mut ahead = Ahead::new(&environment(true), "panics", (2, 4), 20, job).unwrap();
        while ahead.take().is_some() {}
    }

    #[test]
    fn no_more_is_held_than_the_window() {
        let running = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&running);
        let job = move |n: usize| {
            counted.fetch_add(1, Ordering::SeqCst);
            n
        };
        let mut ahead = Ahead::new(&environment(true), "counts", (4, 3), 100, job).unwrap();
        for n in 0..50 {
            assert_eq!(ahead.take(), Some(n));
            assert!(running.load(Ordering::SeqCst) <= n + 1 + 3);
        }
        drop(ahead);
        let ended = running.load(Ordering::SeqCst);
        assert!(ended <= 53, "{ended}: dropping it ends the work");
    }
}
