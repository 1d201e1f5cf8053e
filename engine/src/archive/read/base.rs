//! Whether a lineage has anything to begin with, as far as a few requests tell: only then can its newest state be restored.
//!
//! A snapshot of its own is taken for one, and is not read. Without, all entries from 1 on are needed, or its parent up to the
//! fork. Of these it is looked whether the first and the last are there; holes in between, and rot, are found by a
//! [listing](super::Archive::list), which looks at every object.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use logwood_base::{ArchiveDamage, Error, LineageId, Lsn, Result};

use super::plan::snapshots_of;
use crate::archive::chain;
use crate::archive::layout::{log_key, log_prefix, parse_lsn, snapshot_prefix};
use crate::archive::object::Start;
use crate::archive::store::{Client, missing_object};

/// What a lineage lacks to begin with; `None` where nothing is known to be missing. At most ten requests for each lineage that
/// it came from, and a listing of its snapshots.
///
/// # Errors
/// `UnsupportedFormat`, `ArchiveUnavailable`.
pub(crate) fn missing_base(client: &Client, lineage: LineageId) -> Result<Option<ArchiveDamage>> {
    match look(client, lineage) {
        Ok(()) => Ok(None),
        Err(Error::ArchiveCorrupt(damage)) => Ok(Some(*damage)),
        Err(error) => Err(error),
    }
}

fn look(client: &Client, lineage: LineageId) -> Result<()> {
    let (mut lineage, mut fork, mut seen) = (lineage, None, BTreeSet::new());
    loop {
        let Some((start, _)) = chain::start_of(client, lineage)?.filter(|_| seen.insert(lineage)) else {
            return Err(missing_object(&crate::archive::layout::start_key(lineage)).into());
        };
        let last = fork.unwrap_or(Lsn::MAX);
        let base = snapshots_of(client, lineage)?.into_iter().filter(|lsn| *lsn <= last).max();
        if let Some(fork) = fork
            && base != Some(fork)
        {
            check_reaches(client, &start, fork)?;
        }
        if base.is_some() {
            return Ok(());
        }
        check_first(client, &start)?;
        match start.parent {
            Some(parent) => (lineage, fork) = (parent.lineage, Some(parent.fork_lsn)),
            None if start.first_lsn == Lsn::FIRST => return Ok(()),
            None => return Err(missing_object(&snapshot_prefix(lineage)).into()),
        }
    }
}

/// Whether a chain has the entry that a child forks behind.
fn check_reaches(client: &Client, start: &Start, fork: Lsn) -> Result<()> {
    let lineage = start.owner.lineage;
    if fork < start.first_lsn {
        return Ok(());
    }
    let mut next = start.first_lsn;
    if let Some((first, bytes)) = chain::listed_at(client, lineage, fork)? {
        let place = chain::peek(client, &log_key(lineage, first), bytes)?;
        next = place.map_or(first, |place| place.last_lsn.next());
    }
    if next > fork { Ok(()) } else { Err(chain::hole(lineage, next, fork.next()).into()) }
}

/// Whether the first object of a chain is there, if any is.
fn check_first(client: &Client, start: &Start) -> Result<()> {
    let (lineage, mut first) = (start.owner.lineage, None);
    client.list_behind(&log_prefix(lineage), "", |object| {
        first = parse_lsn(&object.key);
        first.map_or(ControlFlow::Continue(()), |_| ControlFlow::Break(()))
    })?;
    match first.filter(|first| *first > start.first_lsn) {
        Some(first) => Err(chain::hole(lineage, start.first_lsn, first).into()),
        None => Ok(()),
    }
}
