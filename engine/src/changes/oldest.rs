//! The oldest LSN that changes can be read from.
//!
//! The log lets go of whole segments: its first entry may stand in the middle of large transactions. Whoever begins there
//! reads what was committed between their fragments, meets the end of one, and asks for its first fragment, which is gone. So
//! the oldest LSN is behind the last end of a transaction that began before the log's first entry.
//!
//! How far such an end may lie is known: what a database releases is whole, no transaction reaches over that place
//! ([`Fragments::whole_from`](crate::fragments::Fragments::whole_from)). The entries up to there are few, unless somebody
//! holds them, and are looked through once for each first entry that the log has had. What ends on the way is remembered:
//! whoever begins before it needs the first fragments of what began before him.

use std::collections::BTreeMap;
use std::path::Path;

use logwood_base::sync::Mutex;
use logwood_base::{Error, Lsn, Result};
use logwood_wal::Group;

use crate::entry::{Body, Entry};

/// Most bytes of entries that are read at once, beyond the first one.
const READ_BYTES: usize = 256 << 10;

/// What was found out last.
#[derive(Debug, Default)]
pub(crate) struct Oldest(Mutex<Found>);

#[derive(Clone, Debug, Default)]
struct Found {
    /// The log's first entry.
    first: Lsn,
    /// What was looked through, up to, and without.
    until: Lsn,
    oldest: Lsn,
    /// The ends of transactions whose beginnings the log has, with their first fragments.
    ended: BTreeMap<Lsn, Lsn>,
}

impl Oldest {
    /// The oldest LSN that changes can be read from. `whole` answers a place that no transaction reaches over which began
    /// before the log's first entry of that time.
    ///
    /// # Errors
    /// `Corruption`, `Io`, `Closed` from the log.
    pub(crate) fn of(&self, group: &Group, log: &Path, whole: &dyn Fn(&Group) -> Lsn) -> Result<Lsn> {
        self.ended_from(group, log, whole, Lsn::MAX).map(|(oldest, _)| oldest)
    }

    /// The same, and of the transactions that began before `from`, the ends from there on that were found up to that place,
    /// with their first fragments.
    ///
    /// # Errors
    /// As [`Oldest::of`].
    pub(crate) fn ended_from(
        &self,
        group: &Group,
        log: &Path,
        whole: &dyn Fn(&Group) -> Lsn,
        from: Lsn,
    ) -> Result<(Lsn, BTreeMap<Lsn, Lsn>)> {
        loop {
            // In this order: what is let go of meanwhile is released before.
            let first = group.first_lsn();
            let until = whole(group);
            let known = self.0.lock().clone();
            let mut found = match known.first == first {
                true => known,
                false => Found { first, until: first, oldest: first, ended: BTreeMap::new() },
            };
            match look(group, log, until, &mut found) {
                // Let go meanwhile.
                Err(Error::TooOld { .. }) => {}
                Err(error) => return Err(error),
                Ok(()) => {
                    let ended = found.ended.range(from..).filter(|(_, began)| **began < from);
                    let answer = (found.oldest, ended.map(|(end, began)| (*end, *began)).collect());
                    *self.0.lock() = found;
                    return Ok(answer);
                }
            }
        }
    }
}

/// Looks for the ends of transactions that began before the first entry, up to `until`.
fn look(group: &Group, log: &Path, until: Lsn, found: &mut Found) -> Result<()> {
    while found.until < until {
        let entries = group.read(found.until, until, READ_BYTES)?;
        let Some(last) = entries.last() else { break };
        found.until = last.lsn.next();
        for entry in &entries {
            let decoded = Entry::decode(&entry.payload).map_err(|error| error.at(log, entry.lsn))?;
            if let Body::CommitFragments { transaction, .. } = decoded.body {
                match transaction < found.first {
                    true => found.oldest = entry.lsn.next(),
                    false => drop(found.ended.insert(entry.lsn, transaction)),
                }
            }
        }
    }
    Ok(())
}
