//! A run's flag: rows 1 and 4 of the table in `docs/format/archive.md`, "Retention"; what a run leaves behind that had no
//! answer to a deletion; and what others have left behind.

use std::collections::BTreeSet;
use std::time::Duration;

use logwood_base::{Environment, Error, LineageId, Result};

use super::RUN_AGE_MAX;
use crate::archive::layout::{LATE_PREFIX, PROBES_PREFIX, RUNS_PREFIX, probe_key};
use crate::archive::object::{Kind, RetentionRun};
use crate::archive::store::{Client, missing};

/// The store's time: when an object was put that nobody needs. A run cannot tell it by its flag before it knows what it condemns.
pub(super) fn store_time(client: &Client, environment: &Environment) -> Result<u64> {
    let key = probe_key(LineageId::random(&*environment.random).0);
    let put = client.put_new(&key, b"time");
    let found = client.head(&key);
    // One that stays is taken away by a run, a day later.
    let deleted = client.delete(&key);
    let found = found?;
    deleted?;
    match found {
        Some(found) => Ok(found.put_ms),
        None => put.and_then(|_| Err(missing(&key))),
    }
}

/// The run's object while it stands in the archive, so that nobody begins to use what it condemns.
pub(super) struct Flag {
    run: RetentionRun,
    key: String,
    /// When it was put, by the store's clock: what every age is judged by.
    pub(super) put_ms: u64,
}

impl Flag {
    /// Raises it, unless another run is at work. What is left of runs that crashed, or that ended a day ago, is taken away, and
    /// what was left a day ago of looking what the store does.
    pub(super) fn raise(client: &Client, run: RetentionRun) -> Result<Self> {
        let key = run.key();
        let put = client.put_new(&key, &run.encode().bytes);
        let found = client.head(&key).and_then(|found| match found {
            Some(found) => Ok(found),
            None => put.and_then(|_| Err(missing(&key))),
        });
        // It may stand there, and nobody else lowers it.
        let found = found.inspect_err(|_| drop(client.delete(&key)))?;
        let flag = Self { run, key, put_ms: found.put_ms };
        // Raised first: of two runs that begin at once at least one sees the other, and perhaps both do.
        flag.check_alone(client).inspect_err(|_| drop(client.delete(&flag.key)))?;
        Ok(flag)
    }

    fn check_alone(&self, client: &Client) -> Result<()> {
        for prefix in [RUNS_PREFIX, LATE_PREFIX, PROBES_PREFIX] {
            for other in client.list(prefix)?.into_iter().filter(|other| other.key != self.key) {
                let Some(found) = client.head(&other.key)? else { continue };
                if Duration::from_millis(self.put_ms.saturating_sub(found.put_ms)) > RUN_AGE_MAX {
                    client.delete(&other.key)?;
                } else if prefix == RUNS_PREFIX {
                    return Err(Error::AlreadyOpen { path: other.key.into() });
                }
            }
        }
        Ok(())
    }

    /// Whether it stands: who took it for a dead run's goes on as if this run were none.
    pub(super) fn stands(&self, client: &Client) -> Result<bool> {
        Ok(client.head(&self.key)?.is_some())
    }

    /// Takes it back; what was asked for without an answer is named before that, and stands for a day.
    pub(super) fn lower(self, client: &Client, unanswered: BTreeSet<String>) -> Result<()> {
        if !unanswered.is_empty() {
            let late = RetentionRun { condemned: unanswered, ..self.run };
            let key = late.late_key();
            client.put_new(&key, &late.encode().bytes)?;
            client.require(&key, Kind::Retention, RetentionRun::decode)?;
            tracing::warn!(key, "deletions were not answered: nobody begins to use what they may yet take");
        }
        client.delete(&self.key)
    }
}
