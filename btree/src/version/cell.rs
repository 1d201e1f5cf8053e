//! A pointer that one writer replaces while readers follow it.
//!
//! What was replaced is dropped only when no reader that was pinned at that moment is left.
#![allow(unsafe_code)]

use crossbeam_epoch::{Atomic, Guard, Owned, unprotected};
use logwood_base::sync::atomic::Ordering;

/// Holds a `T` or nothing.
#[derive(Debug)]
pub(crate) struct EpochCell<T>(Atomic<T>);

impl<T: Send + Sync + 'static> EpochCell<T> {
    /// A cell that holds `value`.
    pub(crate) fn new(value: Option<T>) -> Self {
        Self(value.map_or_else(Atomic::null, Atomic::new))
    }

    /// What the cell holds now, for as long as the guard pins this thread.
    pub(crate) fn load<'g>(&'g self, guard: &'g Guard) -> Option<&'g T> {
        let shared = self.0.load(Ordering::Acquire, guard);
        // SAFETY: a value leaves a cell that lives, as this one does for 'g, only through `replace`, which defers its
        // drop until every thread that is pinned now has unpinned; `guard` keeps this thread pinned for 'g.
        unsafe { shared.as_ref() }
    }

    /// Puts another value in, and drops the old one when nobody can be reading it.
    pub(crate) fn replace(&self, value: Option<T>, guard: &Guard) {
        let old = match value {
            Some(value) => self.0.swap(Owned::new(value), Ordering::AcqRel, guard),
            None => self.0.swap(crossbeam_epoch::Shared::null(), Ordering::AcqRel, guard),
        };
        if !old.is_null() {
            // SAFETY: the swap took the only pointer from which new readers could find the value, and took it once.
            unsafe { guard.defer_destroy(old) };
        }
    }
}

impl<T> Drop for EpochCell<T> {
    fn drop(&mut self) {
        // SAFETY: `&mut self` proves that nobody else uses the cell, so no guard is needed to look.
        let guard = unsafe { unprotected() };
        let old = self.0.swap(crossbeam_epoch::Shared::null(), Ordering::Relaxed, guard);
        if !old.is_null() {
            // SAFETY: the pointer came from this cell, which owned the value and is going away.
            drop(unsafe { old.into_owned() });
        }
    }
}
