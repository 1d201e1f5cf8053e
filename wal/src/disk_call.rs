//! Calls into the disk on which others depend: who panics in one must leave nobody asleep.
//!
//! The disk is an argument, and may be anybody's. A thread that unwinds out of it would leave its image in flight for
//! ever, or the log exclusive: then everybody who waits for that image or a later one sleeps for ever, and so does who
//! closes the log. Therefore a panic counts as a failed write: the log stops, all are told, and the panic goes on.

use logwood_base::Error;
use logwood_base::sync::MutexGuard;

use crate::shared::{Shared, State};

/// Such a call. Dropping it without [`DiskCall::end`], which only unwinding does, stops the log.
pub(crate) struct DiskCall<'a> {
    shared: &'a Shared,
    /// The lock, when the call is made under it.
    state: Option<MutexGuard<'a, State>>,
    /// What is on its way.
    flight: Option<u64>,
    /// Whether the caller made the log exclusive.
    exclusive: bool,
}

impl<'a> DiskCall<'a> {
    /// A call without the lock, for an image in flight or by who made the log exclusive.
    pub(crate) fn begin(shared: &'a Shared, flight: Option<u64>, exclusive: bool) -> Self {
        Self { shared, state: None, flight, exclusive }
    }

    /// A call under the lock.
    pub(crate) fn begin_locked(shared: &'a Shared, state: MutexGuard<'a, State>, flight: u64) -> Self {
        Self { shared, state: Some(state), flight: Some(flight), exclusive: false }
    }

    /// The call came back, with a result or an error. Takes the lock.
    pub(crate) fn end(mut self) -> MutexGuard<'a, State> {
        let state = self.state.take().unwrap_or_else(|| self.shared.state.lock());
        std::mem::forget(self);
        state
    }
}

impl Drop for DiskCall<'_> {
    fn drop(&mut self) {
        let mut state = self.state.take().unwrap_or_else(|| self.shared.state.lock());
        state.exclusive &= !self.exclusive;
        self.flight.into_iter().for_each(|flight| state.came_home(flight));
        let calls = self.shared.stop(&mut state, &Error::Internal("the disk panicked".to_owned()));
        drop(state);
        calls.make(self.shared);
    }
}
