//! Keeping retention away from what a restore reads: rows a, b and d of the table in `docs/format/archive.md`.
//!
//! A restore may run with credentials that cannot write. Then there is no hold, and what retention takes away meanwhile
//! is missed by name: the restore fails, and nothing else does.

use logwood_base::{Error, Result};

use crate::archive::object::{Hold, LSN_MAX, SnapshotObject};
use crate::archive::read::Archive;
use crate::archive::read::history::History;
use crate::archive::read::plan::Base;
use crate::archive::store::Client;
use crate::archive::{PlacedHold, chain};

/// Holds, taken back when dropped.
#[derive(Debug)]
pub(crate) struct Holds {
    client: Client,
    placed: Vec<PlacedHold>,
    refused: Option<Error>,
}

impl Holds {
    /// Holds a snapshot, its pages and the log from its `replay_from` on, in every lineage of the history.
    pub(super) fn place(archive: &Archive, history: &History, base: &Base) -> Result<Self> {
        let client = archive.client.clone();
        let mut holds = Self { client, placed: Vec::new(), refused: None };
        let from = base.trees.replay_from;
        let at = history.stretch_of(from);
        for stretch in &history.stretches[at..] {
            // The object that holds `from` may begin before it.
            let listed = chain::listed(&holds.client, stretch.lineage())?;
            let first =
                listed.range(..=from).next_back().map_or(stretch.start.first_lsn, |(first, _)| *first);
            let is_of = |snapshot: &&SnapshotObject| snapshot.owner.lineage == stretch.lineage();
            let snapshot = base.snapshot.as_ref().filter(is_of);
            let hold = Hold {
                lineage: stretch.lineage(),
                placed_ms: archive.environment.clock.wall_ms(),
                log: Some((first, stretch.last.min(LSN_MAX).max(first))),
                snapshot: snapshot.map(SnapshotObject::lsn),
                pages: snapshot
                    .map_or(Vec::new(), |_| base.trees.segments.iter().map(|page| page.hash).collect()),
            };
            let place = || PlacedHold::place(&holds.client, &*archive.environment.random, &hold);
            // Retention is at work, on just that. It may be about to find out that it is needed: a page that was there
            // before its snapshot is condemned, and spared.
            let held = holds.client.retried(|| match place() {
                Err(error @ Error::ArchiveUnavailable { operation: "hold", .. }) => Err(error),
                other => Ok(other),
            })?;
            match held {
                Ok(placed) => holds.placed.push(placed),
                // Also where a copy of an archive lies on a full disk, or lacks a directory that was empty.
                Err(
                    refused @ (Error::ArchiveUnavailable { .. }
                    | Error::Io { .. }
                    | Error::DiskFull { .. }
                    | Error::NotFound { .. }),
                ) => {
                    holds.refused = Some(refused);
                    break;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(holds)
    }

    /// What to tell of it.
    pub(super) fn note(&self) -> Option<String> {
        let refused = self.refused.as_ref()?;
        Some(format!("retention is not kept away, for the archive takes no hold: {refused}"))
    }
}

impl Drop for Holds {
    fn drop(&mut self) {
        for placed in self.placed.drain(..) {
            // One that stays is ignored after a week.
            let _ = placed.remove(&self.client);
        }
    }
}
