//! Which lineages a history runs through.
//!
//! A lineage that was begun by a restore goes on where its parent was left: at the fork. What a point before the fork
//! looked like, only the parent knows.

use std::collections::BTreeSet;

use logwood_base::{ArchiveDamage, Error, LineageId, Lsn, Result};

use super::Archive;
use crate::archive::chain::{self, Content};
use crate::archive::layout::{LINEAGES_PREFIX, log_key, parse_start, start_key};
use crate::archive::object::{Link, Owner, Start};
use crate::archive::store::Client;

/// One lineage, as far as it belongs to a history.
#[derive(Clone, Debug)]
pub(crate) struct Stretch {
    pub(crate) start: Start,
    pub(crate) link: Link,
    /// The last entry that belongs to the history: where the next stretch forks.
    pub(crate) last: Lsn,
}

/// A lineage and those it came from, the oldest first.
#[derive(Clone, Debug)]
pub(crate) struct History {
    pub(crate) stretches: Vec<Stretch>,
}

impl Stretch {
    pub(crate) fn owner(&self) -> Owner {
        self.start.owner
    }

    pub(crate) fn lineage(&self) -> LineageId {
        self.start.owner.lineage
    }
}

impl History {
    /// The history that ends with a lineage. Where a parent's start is gone, because retention let go of all that was
    /// in it, the history begins behind it.
    pub(crate) fn of(client: &Client, lineage: LineageId) -> Result<Self> {
        let mut stretches: Vec<Stretch> = Vec::new();
        let mut seen = BTreeSet::new();
        let mut next = Some((lineage, Lsn::MAX));
        while let Some((lineage, last)) = next {
            let found = chain::start(client, lineage)?;
            let Some((start, link)) = found else {
                if stretches.is_empty() {
                    return Err(Error::NotFound { what: "lineage", name: lineage.to_string() });
                }
                break;
            };
            let child = stretches.last().map(|child| child.start.owner.database);
            if !seen.insert(lineage) || child.is_some_and(|database| database != start.owner.database) {
                let (expected, found) = ("a parent of the same database, once", "another one");
                return Err(ArchiveDamage::new(&start_key(lineage), "lineage", expected, found).into());
            }
            next = start.parent.map(|parent| (parent.lineage, parent.fork_lsn));
            stretches.push(Stretch { start, link, last });
        }
        stretches.reverse();
        Ok(Self { stretches })
    }

    /// Which stretch an entry lies in: the newest that has begun there.
    pub(crate) fn stretch_of(&self, lsn: Lsn) -> usize {
        self.stretches.iter().rposition(|stretch| stretch.start.first_lsn <= lsn).unwrap_or(0)
    }

    /// The last of the stretches.
    pub(crate) fn owner(&self) -> Owner {
        self.stretches[self.stretches.len() - 1].owner()
    }
}

/// Where all lineages begin.
#[derive(Debug, Default)]
pub(crate) struct Starts {
    pub(crate) found: Vec<(Start, Link)>,
    /// Starts that cannot be read.
    pub(crate) damage: Vec<ArchiveDamage>,
}

/// The starts of all lineages that a listing has.
pub(crate) fn starts(client: &Client) -> Result<Starts> {
    let mut starts = Starts::default();
    for object in client.list(LINEAGES_PREFIX)? {
        let Some(lineage) = parse_start(&object.key) else { continue };
        match chain::start(client, lineage) {
            Ok(start) => starts.found.extend(start),
            Err(Error::ArchiveCorrupt(evidence)) => starts.damage.push(*evidence),
            Err(error) => return Err(error),
        }
    }
    Ok(starts)
}

/// The lineage that was written to last: by the time of its newest entry, or of its start when it has none.
pub(crate) fn newest(archive: &Archive) -> Result<Owner> {
    let client = &archive.client;
    let Starts { found: starts, mut damage } = starts(client)?;
    let Some((first, _)) = starts.first() else {
        return match damage.pop() {
            Some(damage) => Err(damage.into()),
            None => Err(Error::NotFound { what: "archive", name: "with a lineage".to_owned() }),
        };
    };
    if starts.iter().any(|(start, _)| start.owner.database != first.owner.database) {
        let what = "the archive holds lineages of several databases: name the one to restore";
        return Err(Error::InvalidArgument(what.to_owned()));
    }
    if let [(only, _)] = &starts[..] {
        return Ok(only.owner);
    }
    let mut newest = (0, first.owner);
    for (start, _) in &starts {
        let written_ms = last_time(client, start.owner.lineage)?.max(start.created_ms);
        if written_ms >= newest.0 {
            newest = (written_ms, start.owner);
        }
    }
    Ok(newest.1)
}

/// The time of a lineage's newest entry, as far as heads tell; 0 when there is none.
fn last_time(client: &Client, lineage: LineageId) -> Result<u64> {
    for (first, bytes) in chain::listed(client, lineage)?.into_iter().rev() {
        match chain::peek(client, &log_key(lineage, first), bytes) {
            // Gaps have no time.
            Ok(found) => {
                if let Some(Content::Entries(_, (_, last_ms))) = found.map(|place| place.content) {
                    return Ok(last_ms);
                }
            }
            Err(Error::ArchiveCorrupt(_)) => return Ok(0),
            Err(error) => return Err(error),
        }
    }
    Ok(0)
}
