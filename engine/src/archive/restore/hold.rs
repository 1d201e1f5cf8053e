//! Keeping retention away from what a restore reads: rows a, b and d of the table in `docs/format/archive.md`.
//!
//! A restore may run with credentials that cannot write; or retention is at work on just what is needed, was killed while it
//! was, or has left a run that cannot be read. Then there is no hold, and what retention takes away meanwhile is missed by name:
//! the restore fails, and nothing else does. Of a lineage that goes as a whole, whose end would be the last thing to be missed,
//! it is looked in the end whether the start stands ([`Holds::check`]): it goes when the log has gone, and before what closes it.

use std::time::Duration;

use logwood_base::sync::{Arc, Mutex};
use logwood_base::{Environment, Error, LineageId, Result, Step, Task, TaskHandle};

use crate::archive::layout::start_key;
use crate::archive::object::{Hold, LSN_MAX, SnapshotObject};
use crate::archive::read::Archive;
use crate::archive::read::history::{History, Stretch};
use crate::archive::read::plan::Base;
use crate::archive::store::{Client, missing};
use crate::archive::{PlacedHold, chain};

/// How often it is looked whether a hold is to be renewed.
const LOOK: Duration = Duration::from_secs(3600);

/// Holds, renewed while they are needed, and taken back when dropped.
#[derive(Debug)]
pub(crate) struct Holds {
    placed: Arc<Placed>,
    refused: Option<Error>,
    /// What is read.
    lineages: Vec<LineageId>,
    renewal: Option<TaskHandle>,
}

#[derive(Debug)]
struct Placed {
    client: Client,
    environment: Environment,
    holds: Mutex<Vec<PlacedHold>>,
}

/// Renews holds, for as long as a restore or a view of an archive lasts.
struct Renewal(Arc<Placed>);

impl Task for Renewal {
    fn step(&mut self) -> Step {
        let Placed { client, environment, holds } = &*self.0;
        holds.lock().retain_mut(|hold| match hold.renew(client, environment) {
            Ok(true) => true,
            Ok(false) => {
                tracing::warn!("retention was not kept away for a while: what it took is missed by name");
                false
            }
            Err(error) => {
                tracing::warn!(%error, "a hold in the archive was not renewed, and is tried again");
                true
            }
        });
        Step::Wait(Some(LOOK))
    }
}

impl Holds {
    /// Holds a snapshot, its pages and the log from its `replay_from` on, in every lineage of the history.
    pub(crate) fn place(archive: &Archive, history: &History, base: &Base) -> Result<Self> {
        let (client, environment) = (archive.client.clone(), archive.environment.clone());
        let placed = Placed { client, environment, holds: Mutex::new(Vec::new()) };
        let mut holds = Self { placed: Arc::new(placed), refused: None, lineages: Vec::new(), renewal: None };
        let Placed { client, environment, holds: placed } = &*Arc::clone(&holds.placed);
        let from = base.trees.replay_from;
        let at = history.stretch_of(from);
        holds.lineages = history.stretches[at..].iter().map(Stretch::lineage).collect();
        for stretch in &history.stretches[at..] {
            // The object that holds `from` may begin before it.
            let listed = chain::listed(client, stretch.lineage())?;
            let first =
                listed.range(..=from).next_back().map_or(stretch.start.first_lsn, |(first, _)| *first);
            let is_of = |snapshot: &&SnapshotObject| snapshot.owner.lineage == stretch.lineage();
            let snapshot = base.snapshot.as_ref().filter(is_of);
            let hold = Hold {
                lineage: stretch.lineage(),
                placed_ms: 0,
                log: Some((first, stretch.last.min(LSN_MAX).max(first))),
                snapshot: snapshot.map(SnapshotObject::lsn),
                pages: snapshot
                    .map_or(Vec::new(), |_| base.trees.segments.iter().map(|page| page.hash).collect()),
            };
            let place = || PlacedHold::try_place(client, environment, hold.clone());
            // Retention is at work, on just that. It may be about to find out that it is needed: a page that was there
            // before its snapshot is condemned, and spared. What it asked for before it ended, or what cannot be read, stays
            // as it is for a day.
            let held = client.retried(|| match place() {
                Ok(Err(refusal)) if refusal.may_pass => Err(refusal.into()),
                other => Ok(other),
            });
            match held.and_then(|held| held).and_then(|held| held.map_err(Error::from)) {
                Ok(hold) => placed.lock().push(hold),
                // Also where a copy of an archive lies on a full disk, or lacks a directory that was empty.
                Err(
                    error @ (Error::ArchiveUnavailable { .. }
                    | Error::Io { .. }
                    | Error::DiskFull { .. }
                    | Error::NotFound { .. }),
                ) => {
                    holds.refused = Some(error);
                    break;
                }
                Err(error) => return Err(error),
            }
        }
        if !placed.lock().is_empty() {
            let renewal = Box::new(Renewal(Arc::clone(&holds.placed)));
            holds.renewal = Some(environment.spawner.spawn_patient("archive-hold", renewal)?);
        }
        Ok(holds)
    }

    /// Why nothing is held, or not all of it.
    pub(crate) fn refused(&self) -> Option<&Error> {
        self.refused.as_ref()
    }

    /// Sees to it that what was read without a hold did not end early because retention took the lineage away meanwhile.
    ///
    /// # Errors
    /// `ArchiveCorrupt` when it may have; `ArchiveUnavailable`.
    pub(crate) fn check(&self) -> Result<()> {
        if self.refused.is_none() {
            return Ok(());
        }
        for lineage in &self.lineages {
            let key = start_key(*lineage);
            if self.placed.client.is_gone(&key)? {
                return Err(missing(&key));
            }
        }
        Ok(())
    }

    /// What to tell of it.
    pub(super) fn note(&self) -> Option<String> {
        let refused = self.refused.as_ref()?;
        Some(format!("retention is not kept away, for nothing is held: {refused}"))
    }
}

impl Drop for Holds {
    fn drop(&mut self) {
        self.renewal = None;
        for hold in self.placed.holds.lock().drain(..) {
            // One that stays is ignored after a week.
            let _ = hold.remove(&self.placed.client);
        }
    }
}
