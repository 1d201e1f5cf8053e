//! What can be restored from an archive: every interval, and every hole with what is wrong there.
//!
//! A point can be restored when a base lies at or before it, and all entries between are there and prove themselves. A
//! base is a snapshot whose object is right, whose pages are there, which the chain does not contradict, and whose entries
//! from `replay_from` on are there; the empty database before entry 1; or the fork, where the parent can be restored up to
//! there. A snapshot that the chain has not come to is one where there is nothing else.
//!
//! From its first entry to the last that anything tells of, a lineage has every entry in an interval or in a hole. What a
//! child was begun behind, its parent once had.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use logwood_base::{ArchiveDamage, DatabaseId, Error, LineageId, Lsn, Result};
use logwood_btree::store::SegmentEntry;

use super::history::{Starts, starts};
use super::plan::{owned_snapshot, reach_of_wrong, snapshots_of};
use super::standing::{Standing, standing_at};
use super::{Archive, FETCHING};
use crate::ahead::Ahead;
use crate::archive::chain::{self, Chain, Content, Item, Place};
use crate::archive::layout::{PAGES_PREFIX, Sha256, log_key, page_key, snapshot_key};
use crate::archive::object::{Kind, Link, Owner, SnapshotObject, Start};
use crate::archive::order::{self, Written};
use crate::archive::store::Client;

mod holes;
mod intervals;

use holes::settle_holes;
use intervals::{BaseAt, Run, Seen, settle_intervals};

/// What an archive holds.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Listing {
    /// Every lineage that has a start, in the order in which they began: children behind their parents.
    pub lineages: Vec<LineageListing>,
    /// Starts that cannot be read. What lies in their lineages is not listed.
    pub damage: Vec<ArchiveDamage>,
}

impl Listing {
    /// Whether nothing is damaged or missing that was not left out on purpose, or let go of by retention.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        let lineage_is_sound = |lineage: &LineageListing| {
            lineage.holes.iter().all(|hole| hole.is_named_gap)
                && lineage.snapshots.iter().all(|snapshot| snapshot.damage.is_none())
        };
        self.damage.is_empty() && self.lineages.iter().all(lineage_is_sound)
    }
}

/// One history of a database.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct LineageListing {
    /// The database.
    pub database: DatabaseId,
    /// The lineage.
    pub lineage: LineageId,
    /// When it began, in milliseconds since 1970, by the clock of whoever began it.
    pub created_ms: u64,
    /// The lineage that it came from, and the last entry that both have.
    pub parent: Option<(LineageId, Lsn)>,
    /// Every interval of points that can be restored, ascending. Points before the fork are the parent's.
    pub intervals: Vec<Interval>,
    /// Everything that is missing, left out or damaged, or that nothing is left to apply to, ascending. Together with the
    /// intervals these are all entries from the first of the lineage to the last that is known of.
    pub holes: Vec<Hole>,
    /// All snapshots, ascending.
    pub snapshots: Vec<SnapshotListing>,
    /// It is closed: another one has superseded it, and retention is about to take it away.
    pub superseded: bool,
    /// How many log objects follow each other; when everything is read, prove themselves as well.
    pub log_objects: u64,
    /// Bytes of all log objects, as they are stored.
    pub log_bytes: u64,
}

/// Points that can be restored, both ends included.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Interval {
    /// The first point.
    pub first: Lsn,
    /// The last point.
    pub last: Lsn,
    /// When the first was committed, in milliseconds since 1970.
    pub first_time_ms: u64,
    /// When the last was committed.
    pub last_time_ms: u64,
}

/// Entries that cannot be restored: they are not in the archive, cannot be believed, or have nothing to be applied to. A point
/// that a snapshot holds is in none, unless that is all there is to a damaged object.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Hole {
    /// The first entry.
    pub first: Lsn,
    /// The last entry; the first, when it is not known how many there are.
    pub last: Lsn,
    /// The object.
    pub key: String,
    /// What is wrong, on one line.
    pub why: String,
    /// Whether it was left on purpose, behind a snapshot, or let go of by retention: no damage.
    pub is_named_gap: bool,
}

/// A snapshot.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct SnapshotListing {
    /// The state that it holds.
    pub lsn: Lsn,
    /// When that was committed, in milliseconds since 1970; 0 when it cannot be read.
    pub time_ms: u64,
    /// Bytes of its page segments, shared ones included.
    pub page_bytes: u64,
    /// What is wrong with it, on one line.
    pub damage: Option<String>,
    /// The log of its lineage ends before it, as while a gap is being left; or it was put by a copy of the database that was
    /// refused then, and is of another history. It is restored where its LSN is asked for, or there is nothing else.
    pub is_ahead: bool,
}

/// How much of each log object and of each page segment is read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Reading {
    /// Head and manifest; of a page segment, whether it is there.
    Heads,
    /// All of it.
    Whole,
}

/// What looks damaged is looked at anew, so often at most, where objects went meanwhile: that is retention at work, and no damage.
const LOOKS_MAX: u32 = 3;

/// The page segments that are there.
#[derive(Default)]
struct Pages {
    /// By key: their lengths, or what is wrong with those that were read.
    listed: BTreeMap<String, Result<u64, ArchiveDamage>>,
    /// Those that were read.
    read: BTreeSet<Sha256>,
}

pub(super) fn list(archive: &Archive, reading: Reading) -> Result<Listing> {
    for _ in 1..LOOKS_MAX {
        let (listing, seen) = look(archive, reading)?;
        if listing.is_sound() || !has_shrunk(&archive.client, &listing, &seen)? {
            return Ok(listing);
        }
    }
    look(archive, reading).map(|(listing, _)| listing)
}

/// Whether objects of a chain are gone that were listed.
fn has_shrunk(client: &Client, listing: &Listing, seen: &[Seen]) -> Result<bool> {
    for (lineage, seen) in listing.lineages.iter().zip(seen) {
        let now = chain::listed(client, lineage.lineage)?;
        if seen.objects.keys().any(|first| !now.contains_key(first)) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Snapshots are listed first: behind their pages they are put, and when the chain has passed them, but for one that a gap waits
/// for. So what is put meanwhile is not missed. What retention takes meanwhile is missed, snapshots before anything else.
fn look(archive: &Archive, reading: Reading) -> Result<(Listing, Vec<Seen>)> {
    let Starts { found: mut starts, damage } = starts(&archive.client)?;
    let began: BTreeMap<_, _> =
        starts.iter().map(|(start, _)| (start.owner.lineage, Written::new(start, 0, None, None))).collect();
    starts.sort_by_key(|(start, _)| order::rank(&began, start.owner.lineage));
    let snapshots_listed: Vec<Vec<Lsn>> = starts
        .iter()
        .map(|(start, _)| snapshots_of(&archive.client, start.owner.lineage))
        .collect::<Result<_>>()?;
    let mut pages = Pages::default();
    if !starts.is_empty() {
        let listed = archive.client.list(PAGES_PREFIX)?.into_iter();
        pages.listed = listed.map(|page| (page.key, Ok(page.bytes))).collect();
    }
    let mut lineages = Vec::new();
    let mut seen = Vec::new();
    // By parent: the last fork, up to which it was there.
    let mut forks: BTreeMap<LineageId, Lsn> = BTreeMap::new();
    for parent in starts.iter().filter_map(|(start, _)| start.parent) {
        let fork = forks.entry(parent.lineage).or_insert(parent.fork_lsn);
        *fork = parent.fork_lsn.max(*fork);
    }
    for ((start, link), snapshots_listed) in starts.iter().zip(snapshots_listed) {
        let mut lineage = LineageListing {
            database: start.owner.database,
            lineage: start.owner.lineage,
            created_ms: start.created_ms,
            parent: start.parent.map(|parent| (parent.lineage, parent.fork_lsn)),
            intervals: Vec::new(),
            holes: Vec::new(),
            snapshots: Vec::new(),
            superseded: false,
            log_objects: 0,
            log_bytes: 0,
        };
        let objects = chain::listed(&archive.client, start.owner.lineage)?;
        let fork = forks.get(&start.owner.lineage).copied();
        let (runs, absent) = walk(archive, (start, *link), (&objects, fork), reading, &mut lineage)?;
        let listed = (snapshots_listed, &objects);
        let bases = snapshots(archive, start.owner, listed, reading, &mut pages, &mut lineage)?;
        excuse_retention(start.first_lsn, &absent, &bases, &mut lineage);
        seen.push(Seen { runs, bases, first_lsn: start.first_lsn, objects, fork });
        lineages.push(lineage);
    }
    let time_of = |lineage, lsn| time_of(&archive.client, lineage, lsn);
    for at in settle_intervals(&mut lineages, &seen, time_of)? {
        settle_holes(&mut lineages, at, &seen[at], &damage);
    }
    Ok((Listing { lineages, damage }, seen))
}

/// When an entry was committed, as the object says that holds it; `None` where that cannot be read.
fn time_of(client: &Client, lineage: LineageId, lsn: Lsn) -> Result<Option<u64>> {
    let Some((first, _)) = chain::listed_at(client, lineage, lsn)? else { return Ok(None) };
    match chain::readable(chain::fetch(client, &log_key(lineage, first)), &mut Vec::new())?.flatten() {
        Some(Item::Log(object)) => Ok(object.time_of(lsn)),
        _ => Ok(None),
    }
}

/// Looks at every object of a chain, of which a child forks behind `fork`. Answers the runs between holes, and where those holes
/// begin at which nothing is.
fn walk(
    archive: &Archive,
    (start, link): (&Start, Link),
    (listed, fork): (&BTreeMap<Lsn, u64>, Option<Lsn>),
    reading: Reading,
    into: &mut LineageListing,
) -> Result<(Vec<Run>, BTreeSet<Lsn>)> {
    let client = &archive.client;
    let owner = start.owner;
    let hints: Vec<Lsn> = listed.keys().copied().collect();
    let keys = listed.iter().map(|(lsn, bytes)| (log_key(owner.lineage, *lsn), *bytes));
    let job: (_, Vec<(String, u64)>) = (client.clone(), keys.collect());
    let mut places =
        Ahead::new(&archive.environment, FETCHING, archive.fetching(), hints.len(), move |at| {
            let (key, bytes) = &job.1[at];
            match reading {
                Reading::Heads => chain::peek(&job.0, key, *bytes),
                Reading::Whole => Ok(chain::fetch(&job.0, key)?.map(|item| item.place())),
            }
        })?;
    let mut chain = Chain::from_start(client, start, link);
    let mut runs: Vec<Run> = Vec::new();
    let mut absent = BTreeSet::new();
    let mut broken = true;
    for (at, first) in hints.iter().copied().enumerate() {
        let fetched = places.take().unwrap_or(Ok(None));
        let wanted = chain.position().next;
        if first < wanted {
            // Between two objects of the chain, and none of it.
            continue;
        }
        if first > wanted {
            into.holes.push(damaged(chain::hole(owner.lineage, wanted, first), (wanted, first.previous())));
            absent.insert(wanted);
            (chain, broken) = (Chain::from_lsn(client, owner, first), true);
        }
        // An object reaches to the next one, and the last as far as a child knows of it, or a snapshot.
        let of_last = fork.filter(|fork| *fork > first).unwrap_or(first);
        let mut behind = hints.get(at + 1).map_or(of_last, |next| next.previous());
        let admitted = match fetched {
            Ok(Some(place)) => chain.admit(&place).map(|()| Some(place)),
            other => other,
        };
        match admitted {
            Ok(Some(Place { last_lsn: last, content, .. })) => match content {
                Content::Entries((_, first_time_ms), (_, last_time_ms)) => {
                    into.log_objects += 1;
                    into.log_bytes += listed[&first];
                    match runs.last_mut().filter(|_| !broken) {
                        Some(run) => (run.last, run.last_time_ms) = (last, last_time_ms),
                        None => runs.push(Run { first, last, first_time_ms, last_time_ms }),
                    }
                    broken = false;
                }
                // Nothing follows, and nothing is missing.
                Content::Gap(gap) if gap.is_end() => into.superseded = true,
                Content::Gap(gap) => {
                    let snapshot = gap.snapshot_lsn;
                    let why = format!("never archived; the snapshot at lsn {snapshot} stands in for them");
                    into.holes.push(Hole { first, last, key: gap.key(), why, is_named_gap: true });
                    broken = true;
                }
            },
            Ok(None) => {
                into.holes.push(damaged(chain::hole(owner.lineage, first, behind.next()), (first, behind)));
                absent.insert(first);
                (chain, broken) = (Chain::from_lsn(client, owner, behind.next()), true);
            }
            Err(Error::ArchiveCorrupt(damage)) => {
                if at + 1 == hints.len() {
                    behind = reach_of_wrong(client, &chain, listed[&first], behind)?;
                }
                into.holes.push(damaged(*damage, (first, behind)));
                (chain, broken) = (Chain::from_lsn(client, owner, behind.next()), true);
            }
            Err(error) => return Err(error),
        }
    }
    Ok((runs, absent))
}

/// Entries that are not there, from the first on, are no damage when nothing that is left needs them: retention lets go of them,
/// from the oldest on, and of all snapshots before the first that it keeps; of a lineage that is closed it takes everything. It
/// spoils none: an object that is there and wrong is damage wherever it stands.
fn excuse_retention(first: Lsn, absent: &BTreeSet<Lsn>, bases: &[BaseAt], into: &mut LineageListing) {
    let oldest = bases.iter().map(|base| base.replay_from).min();
    let mut next = first;
    for hole in &mut into.holes {
        let is_needed = !into.superseded && oldest.is_none_or(|oldest| oldest <= hole.last);
        if hole.first != next || !absent.contains(&hole.first) || is_needed {
            return;
        }
        hole.is_named_gap = true;
        hole.why = holes::LET_GO.to_owned();
        next = hole.last.next();
    }
}

fn damaged(damage: ArchiveDamage, (first, last): (Lsn, Lsn)) -> Hole {
    let damage = damage.taking(first, last);
    Hole { first, last, why: damage.to_string(), key: damage.key, is_named_gap: false }
}

/// Proves every snapshot of a lineage. Answers those that can be begun with.
fn snapshots(
    archive: &Archive,
    owner: Owner,
    (snapshots, listed): (Vec<Lsn>, &BTreeMap<Lsn, u64>),
    reading: Reading,
    pages: &mut Pages,
    into: &mut LineageListing,
) -> Result<Vec<BaseAt>> {
    let mut bases = Vec::new();
    for lsn in snapshots {
        let key = snapshot_key(owner.lineage, lsn);
        let found =
            archive.client.require(&key, Kind::Snapshot, |key, bytes| owned_snapshot(owner, key, bytes));
        let mut listing = SnapshotListing { lsn, time_ms: 0, page_bytes: 0, damage: None, is_ahead: false };
        match found {
            Ok(snapshot) => {
                listing.time_ms = snapshot.time_ms;
                listing.page_bytes = snapshot.pages().iter().map(|page| u64::from(page.bytes)).sum();
                if reading == Reading::Whole {
                    pages.read(archive, &snapshot)?;
                }
                listing.damage = pages.damage_of(&snapshot);
                if listing.damage.is_none() {
                    let at = listed.range(..=lsn).next_back().map(|(first, _)| *first);
                    let is_followed = || Ok(listed.range(lsn.next()..).next().is_some());
                    match standing_at(&archive.client, &snapshot, at, is_followed)? {
                        Standing::Contradicted(damage) => listing.damage = Some(damage.to_string()),
                        standing => listing.is_ahead = matches!(standing, Standing::Ahead(_)),
                    }
                }
                if listing.damage.is_none() {
                    let (time_ms, replay_from) = (snapshot.time_ms, snapshot.trees.replay_from);
                    bases.push(BaseAt { lsn, time_ms, replay_from, is_ahead: listing.is_ahead });
                }
            }
            Err(Error::ArchiveCorrupt(damage)) => listing.damage = Some(damage.to_string()),
            Err(error) => return Err(error),
        }
        // Retention has let go of it since it was listed.
        if listing.damage.is_none() || !archive.client.is_gone(&key)? {
            into.snapshots.push(listing);
        }
    }
    Ok(bases)
}

impl Pages {
    /// Reads the page segments of a snapshot that were not read for another one, and proves that they are what their names
    /// say.
    fn read(&mut self, archive: &Archive, snapshot: &SnapshotObject) -> Result<()> {
        let mut due: Vec<SegmentEntry> = snapshot.pages().to_vec();
        due.retain(|page| {
            matches!(self.listed.get(&page_key(&page.hash)), Some(Ok(_))) && self.read.insert(page.hash)
        });
        let (client, due) = (archive.client.clone(), Arc::new(due));
        let job = Arc::clone(&due);
        let mut bodies =
            Ahead::new(&archive.environment, FETCHING, archive.fetching(), due.len(), move |at| {
                client.page(&job[at].hash, job[at].bytes).map(drop)
            })?;
        for page in due.iter() {
            match bodies.take() {
                Some(Err(Error::ArchiveCorrupt(damage))) => {
                    self.listed.insert(page_key(&page.hash), Err(*damage));
                }
                Some(Err(error)) => return Err(error),
                Some(Ok(())) | None => {}
            }
        }
        Ok(())
    }

    /// What is wrong with the page segments of a snapshot.
    fn damage_of(&self, snapshot: &SnapshotObject) -> Option<String> {
        snapshot.pages().iter().find_map(|page| {
            let key = page_key(&page.hash);
            match self.listed.get(&key) {
                Some(Ok(bytes)) if *bytes == u64::from(page.bytes) => None,
                Some(Ok(bytes)) => Some(format!("{key} has {bytes} bytes and not {}", page.bytes)),
                Some(Err(damage)) => Some(damage.to_string()),
                None => Some(format!("{key} is missing")),
            }
        })
    }
}
