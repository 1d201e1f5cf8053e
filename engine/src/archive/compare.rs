//! Comparing what somebody else has put into the chain with the log here: whether it is this history or another one.
//!
//! | what stands there | what is compared |
//! |---|---|
//! | entries | each of them that the log still holds: term and payload |
//! | a gap | the entry that its snapshot ends with: of all others nothing is in the archive |
//!
//! Two copies of a directory that went on by themselves have other entries from some LSN on, and never the same ones
//! again. So whoever finds the *last* entry of an object equal knows all that is before it. What the log has let go of
//! tells nothing: then it takes another proof that an object belongs to this history, or there is none.

use logwood_base::{Error, Lsn, Result};

use super::layout::snapshot_key;
use super::object::{Gap, Kind, LogObject};
use super::read::plan::owned_snapshot;
use super::source::Source;
use super::store::Client;
use crate::planted::{Bug, planted};

/// Compares an archived object with the log here, for the entries in `from..=until`. Answers whether the last of them was
/// compared: entries that the log has let go cannot be.
///
/// # Errors
/// `Fenced` when they are others; what the log answers.
pub(super) fn entries(source: &Source, object: &LogObject, from: Lsn, until: Lsn) -> Result<bool> {
    if planted(Bug::TrustRefusal) {
        return Ok(true);
    }
    let fenced = |lsn: Lsn, reason: &str| {
        let key = object.manifest.key();
        Err(Error::Fenced { key, reason: format!("entry {lsn} {reason}") })
    };
    let first = source.group.first_lsn();
    let mut archived = object.entries().skip_while(|(lsn, ..)| *lsn < from.max(first));
    let mut here: std::vec::IntoIter<logwood_wal::Entry> = Vec::new().into_iter();
    while let Some((lsn, term, payload)) = archived.next().filter(|(lsn, ..)| *lsn <= until) {
        let mut entry = here.next();
        if entry.is_none() {
            here = source.read(lsn, until)?.into_iter();
            entry = here.next();
        }
        match entry {
            Some(entry) if entry.lsn != lsn => {
                return Err(Error::Internal(format!("the log gave entry {} for {lsn}", entry.lsn)));
            }
            Some(entry) if entry.term != term => return fenced(lsn, "is of another term there"),
            Some(entry) if *entry.payload != *payload => return fenced(lsn, "is another one there"),
            Some(_) => {}
            None => return Ok(false),
        }
    }
    Ok(until >= first)
}

/// Compares a gap whose snapshot ends with an entry that is decided here with that entry. Answers whether it could be: not
/// where the log has let go of the entry, nor where the snapshot is gone, or does not say what it ends with.
///
/// # Errors
/// `Fenced` when it is another one; `ArchiveCorrupt` of the snapshot; what log and store answer.
pub(super) fn gap(client: &Client, source: &Source, gap: &Gap) -> Result<bool> {
    if planted(Bug::TrustGap) {
        return Ok(true);
    }
    let lsn = gap.snapshot_lsn;
    let Some(here) = source.entry(lsn)? else { return Ok(false) };
    let key = snapshot_key(gap.owner.lineage, lsn);
    let found = client.fetch(&key, Kind::Snapshot, |key, bytes| owned_snapshot(gap.owner, key, bytes))?;
    let Some(there) = found else { return Ok(false) };
    match there.ends_with(here.term, &here.payload) {
        Some(false) => {
            let reason =
                format!("entry {lsn}, which the snapshot behind this gap ends with, is another one there");
            Err(Error::Fenced { key: gap.key(), reason })
        }
        // Terms and times alone may well be the same, where a clock stood still.
        known => Ok(known.is_some()),
    }
}
