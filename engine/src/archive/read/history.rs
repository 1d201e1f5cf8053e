//! Which lineages a history runs through.
//!
//! A lineage that was begun by a restore goes on where its parent was left: at the fork. What a point before the fork
//! looked like, only the parent knows.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

use logwood_base::{ArchiveDamage, Error, LineageId, Lsn, Result};

use super::Archive;
use crate::archive::chain;
use crate::archive::layout::{
    LINEAGES_PREFIX, behind_lineage, lineage_prefix, log_key, log_prefix, parse_lineage, snapshot_prefix,
    start_key,
};
use crate::archive::object::{Link, Owner, Start};
use crate::archive::order::{self, Written};
use crate::archive::store::{Client, missing_object};

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
    /// Why a parent's start cannot be read, also where it is missing and more of the lineage is there than retention leaves: the
    /// history begins behind it, where a snapshot leads to what is asked for.
    pub(crate) cut: Option<Error>,
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
        let (mut seen, mut cut) = (BTreeSet::new(), None);
        let mut next = Some((lineage, Lsn::MAX));
        while let Some((lineage, last)) = next {
            let found = match chain::start_of(client, lineage) {
                Err(error @ Error::ArchiveCorrupt(_)) if !stretches.is_empty() => {
                    cut = Some(error);
                    break;
                }
                found => found?,
            };
            let Some((start, link)) = found else {
                if stretches.is_empty() {
                    return Err(Error::NotFound { what: "lineage", name: lineage.to_string() });
                }
                cut = lost_start(client, lineage)?.map(Error::from);
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
        Ok(Self { stretches, cut })
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

/// All lineages of which there is anything, ascending. A listing is asked for the first object of each, and goes on
/// behind the lineage: so what a lineage holds is not listed.
pub(crate) fn lineages(client: &Client) -> Result<Vec<LineageId>> {
    let (mut lineages, mut after) = (Vec::new(), String::new());
    loop {
        let mut next = None;
        client.list_behind(LINEAGES_PREFIX, &after, |object| {
            next = parse_lineage(&object.key);
            next.map_or(ControlFlow::Continue(()), |_| ControlFlow::Break(()))
        })?;
        let Some(lineage) = next else { return Ok(lineages) };
        lineages.push(lineage);
        after = behind_lineage(lineage);
    }
}

/// The starts of all lineages that a listing has. Of one that has none it is damage, unless what stands there is what retention
/// leaves of a lineage.
pub(crate) fn starts(client: &Client) -> Result<Starts> {
    let mut starts = Starts::default();
    for lineage in lineages(client)? {
        match chain::readable(chain::start_of(client, lineage), &mut starts.damage)? {
            Some(Some(start)) => starts.found.push(start),
            Some(None) => starts.damage.extend(lost_start(client, lineage)?),
            None => {}
        }
    }
    Ok(starts)
}

/// The damage that it is that a lineage has no start, when that is some.
fn lost_start(client: &Client, lineage: LineageId) -> Result<Option<ArchiveDamage>> {
    let (mut snapshots, mut log) = (0, 0);
    let (of_snapshots, of_log) = (snapshot_prefix(lineage), log_prefix(lineage));
    client.list_behind(&lineage_prefix(lineage), "", |object| {
        snapshots += usize::from(object.key.starts_with(&of_snapshots));
        log += usize::from(object.key.starts_with(&of_log));
        if is_lineage(snapshots, log) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })?;
    Ok(is_lineage(snapshots, log).then(|| missing_object(&start_key(lineage))))
}

/// Whether so much is a lineage whose start was lost. Without one, retention leaves what closed a lineage, for a moment or after
/// a crash, and an archiver that stood still one object more, which it does not count.
pub(crate) fn is_lineage(snapshots: usize, log: usize) -> bool {
    snapshots > 0 || log > 2
}

/// The lineage that is the latest: see [`order`]. None is chosen where one may be later that cannot be read: its start, or its
/// newest object, on which it depends.
pub(crate) fn newest(archive: &Archive) -> Result<Owner> {
    let client = &archive.client;
    let Starts { found: starts, damage } = starts(client)?;
    if let Some(damage) = damage.into_iter().next() {
        return Err(damage.into());
    }
    let Some((first, _)) = starts.first() else {
        return Err(Error::NotFound { what: "archive", name: "with a lineage".to_owned() });
    };
    if starts.iter().any(|(start, _)| start.owner.database != first.owner.database) {
        let what = "the archive holds lineages of several databases: name the one to restore";
        return Err(Error::InvalidArgument(what.to_owned()));
    }
    if let [(only, _)] = &starts[..] {
        return Ok(only.owner);
    }
    let (mut written, mut unread) = (BTreeMap::new(), Vec::new());
    for (start, _) in &starts {
        let lineage = start.owner.lineage;
        let listed = chain::listed(client, lineage)?;
        let mut damage = Vec::new();
        let tail = chain::tail(client, lineage, &listed, &mut damage)?;
        let next = tail.next.or(Some(start.first_lsn));
        let newest = listed.keys().next_back().map_or(start_key(lineage), |first| log_key(lineage, *first));
        let put_ms = client.head(&newest)?.map(|found| found.put_ms);
        let known = Written::new(start, tail.time_ms, put_ms, next);
        if !listed.is_empty() && tail.newest.is_none() {
            let damage = damage.into_iter().next().unwrap_or_else(|| missing_object(&newest));
            unread.push((lineage, known.at_the_latest(put_ms), damage));
        }
        written.insert(lineage, known);
    }
    let latest = |written: &BTreeMap<_, _>| {
        let latest = starts.iter().max_by_key(|(start, _)| order::rank(written, start.owner.lineage));
        latest.map_or(first.owner, |(start, _)| start.owner)
    };
    let found = latest(&written);
    for (lineage, latest_it_may_be, damage) in unread {
        let known = written.insert(lineage, latest_it_may_be);
        if latest(&written) != found {
            return Err(damage.into());
        }
        written.extend(known.map(|known| (lineage, known)));
    }
    Ok(found)
}
