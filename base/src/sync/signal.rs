//! A count that threads sleep on until it changes, and that wakes all of them with one system call.
//!
//! A condition variable hands its lock to one woken thread after the other. Those who wait for a group commit do not
//! want the lock: they want to know that something happened, all of them, at once. So on Linux this is one futex word.
//! Elsewhere, and where interleavings are explored, it is a lock and a condition variable.
//!
//! # No wake is lost
//! Who sleeps: 1. reads the count, 2. sees that what it waits for has not happened, 3. says that it sleeps, 4. sleeps
//! only if the count is still what it read. Who wakes: a. makes it happen, b. raises the count, c. wakes if anybody
//! said that it sleeps. When a and 2 exclude each other (both hold a lock, or 2 reads what a stores), then either 2
//! sees it; or 1 came before b, and then 4 finds another count, unless it is asleep already; and 3 before 4 and b
//! before c, all in one order, so that c finds the sleeper.

#[cfg(any(logwood_shuttle, logwood_portable, not(target_os = "linux")))]
pub use locked::Signal;
#[cfg(all(not(logwood_shuttle), not(logwood_portable), target_os = "linux"))]
pub use word::Signal;

#[cfg(all(not(logwood_shuttle), not(logwood_portable), target_os = "linux"))]
mod word {
    use std::sync::atomic::{AtomicU32, Ordering};

    use rustix::thread::futex::{self, Flags};

    /// A count to sleep on.
    #[derive(Debug, Default)]
    pub struct Signal {
        count: AtomicU32,
        sleepers: AtomicU32,
    }

    impl Signal {
        /// The count now, to be handed to [`Signal::wait`].
        #[must_use]
        pub fn count(&self) -> u32 {
            self.count.load(Ordering::SeqCst)
        }

        /// Sleeps while the count is `seen`. It may return early: look again.
        pub fn wait(&self, seen: u32) {
            self.sleepers.fetch_add(1, Ordering::SeqCst);
            if self.count() == seen {
                // Interrupted, or changed in the meantime: in either case the caller looks again.
                let _ = futex::wait(&self.count, Flags::PRIVATE, seen, None);
            }
            self.sleepers.fetch_sub(1, Ordering::SeqCst);
        }

        /// Changes the count. Answers whether anybody may sleep on it, who must then be woken.
        #[must_use]
        pub fn raise(&self) -> bool {
            self.count.fetch_add(1, Ordering::SeqCst);
            self.sleepers.load(Ordering::SeqCst) > 0
        }

        /// Wakes all that sleep. After [`Signal::raise`].
        pub fn wake_all(&self) {
            self.wake(i32::MAX as u32);
        }

        /// Wakes one that sleeps, if there is one. After [`Signal::raise`].
        pub fn wake_one(&self) {
            self.wake(1);
        }

        fn wake(&self, threads: u32) {
            futex::wake(&self.count, Flags::PRIVATE, threads).expect("a word of ours can be woken on");
        }
    }
}

#[cfg(any(logwood_shuttle, logwood_portable, not(target_os = "linux")))]
mod locked {
    use crate::sync::{Condvar, Mutex};

    /// A count to sleep on.
    #[derive(Debug, Default)]
    pub struct Signal {
        count: Mutex<u32>,
        changed: Condvar,
    }

    impl Signal {
        /// The count now, to be handed to [`Signal::wait`].
        #[must_use]
        pub fn count(&self) -> u32 {
            *self.count.lock()
        }

        /// Sleeps while the count is `seen`. It may return early: look again.
        pub fn wait(&self, seen: u32) {
            let mut count = self.count.lock();
            if *count == seen {
                self.changed.wait(&mut count);
            }
        }

        /// Changes the count. Answers whether anybody may sleep on it, who must then be woken.
        #[must_use]
        pub fn raise(&self) -> bool {
            let mut count = self.count.lock();
            *count = count.wrapping_add(1);
            true
        }

        /// Wakes all that sleep. After [`Signal::raise`].
        pub fn wake_all(&self) {
            self.changed.notify_all();
        }

        /// Wakes one that sleeps, if there is one. After [`Signal::raise`].
        pub fn wake_one(&self) {
            self.changed.notify_one();
        }
    }
}

#[cfg(all(test, not(logwood_shuttle)))]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::Signal;

    /// Sleeps until `value` has reached `wanted`.
    fn await_value(signal: &Signal, value: &AtomicU64, wanted: u64) {
        loop {
            let seen = signal.count();
            if value.load(Ordering::SeqCst) >= wanted {
                return;
            }
            signal.wait(seen);
        }
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "what is tested are threads")]
    fn two_threads_that_wait_for_each_other_never_miss_a_wake() {
        const TURNS: u64 = 20_000;
        let (ping, pong) = (Signal::default(), Signal::default());
        let (pings, pongs) = (AtomicU64::new(0), AtomicU64::new(0));
        let turn = |signal: &Signal, value: &AtomicU64| {
            value.fetch_add(1, Ordering::SeqCst);
            if signal.raise() {
                signal.wake_all();
            }
        };
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for n in 1..=TURNS {
                    await_value(&ping, &pings, n);
                    turn(&pong, &pongs);
                }
            });
            for n in 1..=TURNS {
                turn(&ping, &pings);
                await_value(&pong, &pongs, n);
            }
        });
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "what is tested are threads")]
    fn one_wake_is_for_everybody_who_sleeps() {
        let signal = Signal::default();
        let value = AtomicU64::new(0);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| await_value(&signal, &value, 1));
            }
            std::thread::yield_now();
            value.store(1, Ordering::SeqCst);
            if signal.raise() {
                signal.wake_all();
            }
        });
        // Nobody sleeps any more, and nobody has to be woken.
        #[cfg(all(target_os = "linux", not(logwood_portable)))]
        assert!(!signal.raise());
    }
}
