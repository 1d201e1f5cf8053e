//! After a failed write or sync nothing more is promised: the failure is latched, and every later write answers it
//! until the directory is opened again. Reads of what was visible before go on.

use logwood_base::sync::Mutex;
use logwood_base::sync::atomic::{AtomicBool, Ordering};
use logwood_base::{Error, Result};

use crate::planted::{Bug, planted};

/// Latches the first failure.
#[derive(Debug)]
pub(crate) struct Poison {
    /// Read on every commit, without the lock.
    latched: AtomicBool,
    cause: Mutex<Option<Error>>,
}

impl Poison {
    pub(crate) const fn new() -> Self {
        Self { latched: AtomicBool::new(false), cause: Mutex::new(None) }
    }

    /// The failure that stopped the database, as every later write answers it.
    pub(crate) fn check(&self) -> Result<()> {
        if self.latched.load(Ordering::Acquire) { Err(self.cause().unwrap_or(Error::Closed)) } else { Ok(()) }
    }

    /// Stops the database because of `error`, unless it is stopped already. Answers what to tell the caller.
    pub(crate) fn latch(&self, error: &Error) -> Error {
        let mut cause = self.cause.lock();
        if cause.is_none() && !planted(Bug::ForgetFailure) {
            tracing::error!(%error, "writes are stopped until the database is opened again");
            *cause = Some(error.poison());
            self.latched.store(true, Ordering::Release);
        }
        cause.clone().unwrap_or_else(|| error.poison())
    }

    /// What stopped the database, if anything did.
    pub(crate) fn cause(&self) -> Option<Error> {
        self.cause.lock().clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_failure_is_the_one_that_is_told() {
        let poison = Poison::new();
        poison.check().unwrap();
        let first = Error::Internal("first".to_owned());
        poison.latch(&first);
        poison.latch(&Error::Closed);
        assert_eq!(poison.check().unwrap_err().to_string(), first.poison().to_string());
    }
}
