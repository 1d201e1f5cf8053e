//! A pointer that one writer replaces while readers follow it.
//!
//! What was replaced is dropped only when no reader that was pinned at that moment is left.
#![allow(unsafe_code)]

use std::ptr;

use crossbeam_epoch::Guard;
use logwood_base::sync::atomic::{AtomicPtr, Ordering};

/// Holds a `T` or nothing.
#[derive(Debug)]
pub(crate) struct EpochCell<T>(AtomicPtr<T>);

fn boxed<T>(value: Option<T>) -> *mut T {
    value.map_or(ptr::null_mut(), |value| Box::into_raw(Box::new(value)))
}

impl<T: Send + Sync + 'static> EpochCell<T> {
    /// A cell that holds `value`.
    pub(crate) fn new(value: Option<T>) -> Self {
        Self(AtomicPtr::new(boxed(value)))
    }

    /// What the cell holds now, for as long as the guard pins this thread.
    pub(crate) fn load<'g>(&'g self, _guard: &'g Guard) -> Option<&'g T> {
        let value = self.0.load(Ordering::Acquire);
        // SAFETY: a value leaves a cell that lives, as this one does for 'g, only through `replace`, which defers its
        // drop until every thread that is pinned now has unpinned; the guard keeps this thread pinned for 'g.
        unsafe { value.as_ref() }
    }

    /// Puts another value in, and drops the old one when nobody can be reading it.
    pub(crate) fn replace(&self, value: Option<T>, guard: &Guard) {
        let old = self.0.swap(boxed(value), Ordering::AcqRel);
        if !old.is_null() {
            // SAFETY: the pointer came from `boxed`. The swap took the only one from which new readers could find the
            // value, and took it once.
            let drop_old = move || drop(unsafe { Box::from_raw(old) });
            // SAFETY: a thread that is pinned now may follow the old pointer until it unpins, and the call waits for that;
            // to be dropped on another thread is sound, for the value is `Send`.
            unsafe { guard.defer_unchecked(drop_old) };
        }
    }
}

impl<T> Drop for EpochCell<T> {
    fn drop(&mut self) {
        // `&mut self` proves that nobody else uses the cell, so no guard is needed to look.
        let old = self.0.swap(ptr::null_mut(), Ordering::Relaxed);
        if !old.is_null() {
            // SAFETY: the pointer came from `boxed`; this cell owned the value and is going away.
            drop(unsafe { Box::from_raw(old) });
        }
    }
}
