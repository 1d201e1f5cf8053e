//! How a snapshot stands to the chain of its lineage: whether it is of the same history.
//!
//! A snapshot is put before the chain has come to it where it is to stand in for a gap. Whoever put it may have been a copy of
//! the database, which was refused at the gap: then the chain is of another history. The chain tells, as soon as it has come
//! so far. Until then it has to be believed to whoever put it that what it holds follows what the chain ends with: it is begun
//! with only where nothing else leads to what is asked for, and that is said.

use std::ops::ControlFlow;

use logwood_base::{ArchiveDamage, LineageId, Lsn, Result};

use crate::archive::chain::{self, Item};
use crate::archive::layout::{log_key, log_prefix};
use crate::archive::object::SnapshotObject;
use crate::archive::store::Client;
use crate::planted::{Bug, planted};

/// See the head of this file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Standing {
    /// The chain has the entry that it ends with.
    InChain,
    /// The chain has another entry there: what is wrong.
    Contradicted(ArchiveDamage),
    /// The chain ends before what follows the snapshot; the entry that would come next there.
    Ahead(Lsn),
    /// Nothing is said against it: the chain has a gap or a hole there, or cannot be read, or does not say as much.
    Unknown,
}

/// Looks how a snapshot stands.
///
/// # Errors
/// `UnsupportedFormat`, `ArchiveUnavailable`.
pub(crate) fn standing(client: &Client, snapshot: &SnapshotObject) -> Result<Standing> {
    let (lineage, lsn) = (snapshot.owner.lineage, snapshot.lsn());
    let at = chain::listed_at(client, lineage, lsn)?.map(|(first, _)| first);
    standing_at(client, snapshot, at, || is_followed(client, lineage, lsn))
}

/// As [`standing`], where it is known with which entry the last object begins `at` or before the snapshot's, and whether others
/// are listed behind that.
pub(crate) fn standing_at(
    client: &Client,
    snapshot: &SnapshotObject,
    at: Option<Lsn>,
    is_followed: impl FnOnce() -> Result<bool>,
) -> Result<Standing> {
    let Some(first) = at.filter(|_| !planted(Bug::TrustSnapshot)) else { return Ok(Standing::Unknown) };
    let (lineage, lsn) = (snapshot.owner.lineage, snapshot.lsn());
    let found = chain::readable(chain::fetch(client, &log_key(lineage, first)), &mut Vec::new())?;
    let Some(item) = found.flatten() else { return Ok(Standing::Unknown) };
    if let Item::Log(object) = &item
        && let Some((_, term, payload)) = object.entries().find(|(found, ..)| *found == lsn)
    {
        return Ok(match snapshot.ends_with(term, payload) {
            Some(true) => Standing::InChain,
            Some(false) => {
                let (expected, found) = (format!("the entry at lsn {lsn} of the chain"), "another one");
                let check = "what a snapshot ends with";
                Standing::Contradicted(ArchiveDamage::new(&snapshot.key(), check, expected, found))
            }
            None => Standing::Unknown,
        });
    }
    let next = item.place().next();
    // A gap that names it goes as far as that.
    if next < snapshot.trees.replay_from && !is_followed()? {
        return Ok(Standing::Ahead(next));
    }
    Ok(Standing::Unknown)
}

/// Whether objects of a chain are listed that begin behind an entry.
fn is_followed(client: &Client, lineage: LineageId, lsn: Lsn) -> Result<bool> {
    let mut found = false;
    client.list_behind(&log_prefix(lineage), &log_key(lineage, lsn), |_| {
        found = true;
        ControlFlow::Break(())
    })?;
    Ok(found)
}
