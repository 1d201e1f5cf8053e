//! Telling those who follow changes that more is visible.
//!
//! A thread that waits is counted before it looks at `visible` for the last time; who publishes stores `visible` before it
//! looks whether anybody is counted. Both are sequentially consistent, so one of the two sees the other, and publishing
//! costs one load when nobody waits.

use std::collections::BTreeMap;
use std::fmt;
use std::task::Waker;
use std::time::Duration;

use logwood_base::Lsn;
use logwood_base::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use logwood_base::sync::{Condvar, Mutex};

/// What is visible, and who waits for more.
#[derive(Default)]
pub(crate) struct News {
    visible: AtomicU64,
    /// Threads that wait, and wakers that are registered.
    waiting: AtomicUsize,
    /// Nothing more will come: the database was closed, or stopped after a failure.
    ended: AtomicBool,
    waiters: Mutex<Waiters>,
    more: Condvar,
}

#[derive(Default)]
struct Waiters {
    next: u64,
    wakers: BTreeMap<u64, Waker>,
}

impl News {
    pub(crate) fn new(visible: Lsn) -> Self {
        Self { visible: AtomicU64::new(visible.get()), ..Self::default() }
    }

    /// The newest LSN that was told of: visible, and perhaps not the newest that is.
    pub(crate) fn visible(&self) -> Lsn {
        Lsn(self.visible.load(Ordering::SeqCst))
    }

    /// More is visible. Who tells of less than another one did before changes nothing.
    pub(crate) fn published(&self, lsn: Lsn) {
        self.visible.fetch_max(lsn.get(), Ordering::SeqCst);
        if self.waiting.load(Ordering::SeqCst) > 0 {
            self.wake();
        }
    }

    /// Nothing more will come.
    pub(crate) fn end(&self) {
        self.ended.store(true, Ordering::SeqCst);
        self.wake();
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.ended.load(Ordering::SeqCst)
    }

    /// Has everybody who waits look again.
    fn wake(&self) {
        let mut waiters = self.waiters.lock();
        let wakers = std::mem::take(&mut waiters.wakers);
        self.waiting.fetch_sub(wakers.len(), Ordering::SeqCst);
        self.more.notify_all();
        drop(waiters);
        wakers.into_values().for_each(Waker::wake);
    }

    /// A number for somebody who may wait.
    pub(super) fn join(&self) -> u64 {
        let mut waiters = self.waiters.lock();
        waiters.next += 1;
        waiters.next
    }

    /// Forgets who left.
    pub(super) fn leave(&self, waiter: u64) {
        if self.waiters.lock().wakers.remove(&waiter).is_some() {
            self.waiting.fetch_sub(1, Ordering::SeqCst);
        }
    }

    /// Waits until `lsn` is visible, nothing more will come, or `left` has passed; perhaps shorter.
    pub(super) fn wait(&self, lsn: Lsn, left: Duration) {
        self.waiting.fetch_add(1, Ordering::SeqCst);
        let mut waiters = self.waiters.lock();
        if self.visible() < lsn && !self.has_ended() {
            #[cfg(not(logwood_shuttle))]
            self.more.wait_for(&mut waiters, left);
            #[cfg(logwood_shuttle)]
            let _ = left;
            #[cfg(logwood_shuttle)]
            self.more.wait(&mut waiters);
        }
        drop(waiters);
        self.waiting.fetch_sub(1, Ordering::SeqCst);
    }

    /// Has `waker` woken at the next news. Answers whether there is something to look at by now.
    pub(super) fn register(&self, waiter: u64, lsn: Lsn, waker: &Waker) -> bool {
        let mut waiters = self.waiters.lock();
        if waiters.wakers.insert(waiter, waker.clone()).is_none() {
            self.waiting.fetch_add(1, Ordering::SeqCst);
        }
        self.visible() >= lsn || self.has_ended()
    }
}

impl fmt::Debug for News {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("News").field("visible", &self.visible).finish_non_exhaustive()
    }
}
