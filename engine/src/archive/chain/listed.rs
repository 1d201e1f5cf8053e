//! What a listing tells of a chain: a hint where to look, and no proof.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use logwood_base::{ArchiveDamage, LineageId, Lsn, Result};

use super::{Content, Place, peek, readable};
use crate::archive::layout::{log_key, log_prefix, parse_lsn};
use crate::archive::store::Client;

/// The LSNs at which objects of a chain begin, with their lengths, as a listing has them: a hint.
///
/// # Errors
/// `ArchiveUnavailable`.
pub fn listed(client: &Client, lineage: LineageId) -> Result<BTreeMap<Lsn, u64>> {
    listed_from(client, lineage, Lsn::ZERO)
}

/// As [`listed`], of the objects that begin at an LSN or behind it.
pub(crate) fn listed_from(client: &Client, lineage: LineageId, from: Lsn) -> Result<BTreeMap<Lsn, u64>> {
    let mut listed = BTreeMap::new();
    client.list_behind(&log_prefix(lineage), &before(lineage, from), |object| {
        listed.extend(parse_lsn(&object.key).map(|first| (first, object.bytes)));
        ControlFlow::Continue(())
    })?;
    Ok(listed)
}

/// The last object that begins at or before an LSN, with its length, as a listing has it. Stores list forwards alone, so
/// that it is looked for from further and further before.
pub(crate) fn listed_at(client: &Client, lineage: LineageId, lsn: Lsn) -> Result<Option<(Lsn, u64)>> {
    let mut entries = 1 << 10;
    loop {
        let from = Lsn(lsn.get().saturating_sub(entries));
        let mut found = None;
        client.list_behind(&log_prefix(lineage), &before(lineage, from), |object| {
            match parse_lsn(&object.key) {
                Some(first) if first > lsn => return ControlFlow::Break(()),
                Some(first) => found = Some((first, object.bytes)),
                None => {}
            }
            ControlFlow::Continue(())
        })?;
        if found.is_some() || from == Lsn::ZERO {
            return Ok(found);
        }
        entries = entries.saturating_mul(16);
    }
}

/// Behind which the objects are listed that begin at an LSN or behind it.
fn before(lineage: LineageId, from: Lsn) -> String {
    if from <= Lsn::FIRST { String::new() } else { log_key(lineage, from.previous()) }
}

/// The damage that a hole is: nothing stands at `next`, and yet the chain goes on behind it.
#[must_use]
pub fn hole(lineage: LineageId, next: Lsn, behind: Lsn) -> ArchiveDamage {
    let found = format!("none, and the chain goes on at {behind}");
    ArchiveDamage::new(&log_key(lineage, next), "chain", "an object", found).taking(next, behind.previous())
}

/// How a chain ends, as far as heads tell.
pub(crate) struct Tail {
    /// The newest object; `None` without one, and where it cannot be read.
    pub(crate) newest: Option<Place>,
    /// The entry that comes next; where the newest object cannot be read, one that does not come later. `None` where
    /// nothing is listed.
    pub(crate) next: Option<Lsn>,
    /// The time of the newest entry that can be read; 0 without one.
    pub(crate) time_ms: u64,
}

/// Looks at the end of a chain whose objects were `listed`, with their lengths.
///
/// # Errors
/// `UnsupportedFormat`, `ArchiveUnavailable`. Damage is kept.
pub(crate) fn tail(
    client: &Client,
    lineage: LineageId,
    listed: &BTreeMap<Lsn, u64>,
    damage: &mut Vec<ArchiveDamage>,
) -> Result<Tail> {
    // That an object begins there is proof enough that the chain went on so far.
    let next = listed.keys().next_back().map(|first| first.next());
    let mut tail = Tail { newest: None, next, time_ms: 0 };
    for (at, (first, bytes)) in listed.iter().rev().enumerate() {
        let place = readable(peek(client, &log_key(lineage, *first), *bytes), damage)?.flatten();
        // Gaps have no time: the newest object with entries tells.
        let time_ms = match place.as_ref().map(|place| &place.content) {
            Some(Content::Entries(_, (_, last_ms))) => Some(*last_ms),
            _ => None,
        };
        if at == 0 {
            tail.next = place.as_ref().map(Place::next).or(next);
            tail.newest = place;
        }
        if let Some(time_ms) = time_ms {
            tail.time_ms = time_ms;
            break;
        }
    }
    Ok(tail)
}
