//! Locks and atomics as the engine uses them: `parking_lot` and `std`, or `shuttle`'s under
//! `--cfg logwood_shuttle`, so that a test can drive every interleaving of the commit path and the lock-free parts.
//!
//! Code whose interleavings matter takes its primitives from here and from nowhere else.

mod signal;

pub use signal::Signal;

#[cfg(not(logwood_shuttle))]
pub use parking_lot::{Condvar, Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard};
#[cfg(not(logwood_shuttle))]
pub use std::sync::{Arc, Weak, atomic};

#[cfg(logwood_shuttle)]
pub use explored::{Condvar, Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard};
#[cfg(logwood_shuttle)]
pub use shuttle::sync::atomic;
#[cfg(logwood_shuttle)]
pub use std::sync::{Arc, Weak};

/// Releases a lock, and hands it to the thread that has waited for it longest, if any does.
///
/// An ordinary release lets whoever comes first take it: a thread that takes a lock again and again, as a walk does,
/// then keeps it from one that has to be woken first.
#[cfg(not(logwood_shuttle))]
pub fn hand_over<T>(guard: MutexGuard<'_, T>) {
    MutexGuard::unlock_fair(guard);
}

/// Releases a lock: who takes it next is explored anyway.
#[cfg(logwood_shuttle)]
pub fn hand_over<T>(guard: MutexGuard<'_, T>) {
    drop(guard);
}

/// `shuttle`'s primitives behind `parking_lot`'s signatures.
#[cfg(logwood_shuttle)]
mod explored {
    use std::ops::{Deref, DerefMut};

    pub use shuttle::sync::{RwLockReadGuard, RwLockWriteGuard};

    /// A lock without poisoning.
    #[derive(Debug, Default)]
    pub struct Mutex<T>(shuttle::sync::Mutex<T>);

    /// Holds a [`Mutex`]. Empty only inside [`Condvar::wait`].
    #[derive(Debug)]
    pub struct MutexGuard<'a, T>(Option<shuttle::sync::MutexGuard<'a, T>>);

    impl<T> Mutex<T> {
        /// A lock around `value`.
        pub const fn new(value: T) -> Self {
            Self(shuttle::sync::Mutex::new(value))
        }

        /// Waits for the lock.
        pub fn lock(&self) -> MutexGuard<'_, T> {
            MutexGuard(Some(self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)))
        }

        /// Takes the lock if it is free.
        pub fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
            self.0.try_lock().ok().map(|guard| MutexGuard(Some(guard)))
        }
    }

    impl<T> Deref for MutexGuard<'_, T> {
        type Target = T;
        fn deref(&self) -> &T {
            self.0.as_ref().expect("a guard is empty only while waiting")
        }
    }

    impl<T> DerefMut for MutexGuard<'_, T> {
        fn deref_mut(&mut self) -> &mut T {
            self.0.as_mut().expect("a guard is empty only while waiting")
        }
    }

    /// Waits for a change under a [`Mutex`].
    #[derive(Debug, Default)]
    pub struct Condvar(shuttle::sync::Condvar);

    impl Condvar {
        /// A condition nobody waits for.
        pub const fn new() -> Self {
            Self(shuttle::sync::Condvar::new())
        }

        /// Releases the lock until woken.
        pub fn wait<T>(&self, guard: &mut MutexGuard<'_, T>) {
            let inner = guard.0.take().expect("a guard is empty only while waiting");
            guard.0 = Some(self.0.wait(inner).unwrap_or_else(std::sync::PoisonError::into_inner));
        }

        /// Wakes one waiter.
        pub fn notify_one(&self) {
            self.0.notify_one();
        }

        /// Wakes all waiters.
        pub fn notify_all(&self) {
            self.0.notify_all();
        }
    }

    /// A lock that many readers share.
    #[derive(Debug, Default)]
    pub struct RwLock<T>(shuttle::sync::RwLock<T>);

    impl<T> RwLock<T> {
        /// A lock around `value`.
        pub const fn new(value: T) -> Self {
            Self(shuttle::sync::RwLock::new(value))
        }

        /// Waits to read.
        pub fn read(&self) -> RwLockReadGuard<'_, T> {
            self.0.read().unwrap_or_else(std::sync::PoisonError::into_inner)
        }

        /// Waits to write.
        pub fn write(&self) -> RwLockWriteGuard<'_, T> {
            self.0.write().unwrap_or_else(std::sync::PoisonError::into_inner)
        }
    }
}
