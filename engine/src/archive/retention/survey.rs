//! What an archive holds, as far as retention cares, and what of it no promised point needs.
//!
//! What cannot be read is named and does not stop the rest:
//! - a snapshot: it is no base. While it stays, only pages go that a snapshot names which goes with them, for nobody knows
//!   what an unreadable one names. It goes itself once a base is newer.
//! - a start: while it stands, no snapshot and no log goes of any lineage, for its own could need any of them.
//! - a log object: where it stands before a base, nothing needs it; where a base needs it, nothing of its lineage goes.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use logwood_base::{ArchiveDamage, LineageId, Lsn, Result};

use crate::archive::chain::{self, Chain, Content, Item, readable};
use crate::archive::layout::{
    LINEAGES_PREFIX, log_key, log_prefix, page_key, parse_lsn, parse_start, snapshot_key, snapshot_prefix,
    start_key,
};
use crate::archive::object::{Kind, Link, Owner, SnapshotObject, Start};
use crate::archive::order::{self, Written};
use crate::archive::store::Client;

/// A lineage that another one has superseded stays until another one was put to so long after it, by the store's clock:
/// longer than an archiver goes on without looking for its place.
const SUPERSEDED_TIME_MIN: Duration = Duration::from_secs(2 * 3600);

/// Stores tell in whole seconds when an object was put.
const PUT_TIME_ROUNDING_MS: u64 = 1000;

/// One snapshot.
struct SnapshotFacts {
    lsn: Lsn,
    bytes: u64,
    /// `None` when it cannot be read.
    read: Option<ReadSnapshot>,
}

struct ReadSnapshot {
    time_ms: u64,
    replay_from: Lsn,
    pages: Vec<String>,
    /// Whether all its pages are listed, with their lengths.
    whole: bool,
}

/// A snapshot to begin with.
#[derive(Clone, Copy)]
struct Base {
    lsn: Lsn,
    replay_from: Lsn,
}

/// One lineage.
struct LineageFacts {
    /// `None` when it cannot be read.
    start: Option<Start>,
    start_bytes: u64,
    /// Ascending.
    snapshots: Vec<SnapshotFacts>,
    /// Where each object begins, and its bytes.
    log: BTreeMap<Lsn, u64>,
    /// The time of the newest entry that can be read; 0 without one.
    entries_ms: u64,
    /// Where the chain ends; `None` when its newest object cannot be read.
    end: Option<End>,
    /// The entry that comes next, or an earlier one where the newest object cannot be read.
    next: Option<Lsn>,
    /// When its newest object was put, by the store's clock; `None` when it has gone meanwhile.
    put_ms: Option<u64>,
}

/// Where a lineage is closed before it is taken away.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct End {
    pub(super) owner: Owner,
    /// The entry that would come next.
    pub(super) next: Lsn,
    pub(super) previous: Link,
    /// What closes it stands there already.
    pub(super) is_closed: bool,
}

/// What no point needs.
#[derive(Debug, Default)]
pub(super) struct Plan {
    /// Keys with their bytes, in the order in which they go.
    pub(super) deletions: Vec<(String, u64)>,
    /// The lineages that go as a whole, which are closed first, and of these the children before their parents.
    pub(super) ends: Vec<End>,
    /// The lineages that were looked at, and what they forked from.
    pub(super) parents: Parents,
}

/// What each lineage forked from.
#[derive(Debug, Default)]
pub(super) struct Parents(BTreeMap<LineageId, Option<LineageId>>);

/// The whole archive.
pub(super) struct Survey {
    lineages: BTreeMap<LineageId, LineageFacts>,
    /// What tells which of them is later than which.
    written: BTreeMap<LineageId, Written>,
    wall_ms: u64,
    keep_ms: u64,
    pub(super) damage: Vec<ArchiveDamage>,
}

impl Survey {
    pub(super) fn take(
        client: &Client,
        wall_ms: u64,
        keep: Duration,
        pages: &BTreeMap<String, u64>,
    ) -> Result<Self> {
        let listed: BTreeMap<String, u64> =
            client.list(LINEAGES_PREFIX)?.into_iter().map(|object| (object.key, object.bytes)).collect();
        let keep_ms = u64::try_from(keep.as_millis()).unwrap_or(u64::MAX);
        let (lineages, written) = (BTreeMap::new(), BTreeMap::new());
        let mut survey = Self { lineages, written, wall_ms, keep_ms, damage: Vec::new() };
        for id in listed.keys().filter_map(|key| parse_start(key)) {
            let facts = survey.lineage(client, id, &listed, pages)?;
            let written = facts.start.as_ref().map(|start| Written::new(start, facts.entries_ms, facts.next));
            survey.written.extend(written.map(|written| (id, written)));
            survey.lineages.insert(id, facts);
        }
        Ok(survey)
    }

    /// Points of the latest history from here on stay.
    pub(super) fn window_ms(&self) -> u64 {
        let newest_ms = self.lineages.values().map(|lineage| lineage.entries_ms).max();
        self.window_before(newest_ms.unwrap_or(0))
    }

    /// Points of a lineage from here on stay: by its own entries' times, for its writer's clock may be behind all others.
    fn window_of(&self, lineage: &LineageFacts) -> u64 {
        self.window_before(lineage.entries_ms)
    }

    /// What is kept before a time. It is no later than the newest object was put, by the store's clock: where the run is at
    /// work on the machine that wrote the entries, one clock that jumped ahead would end all windows otherwise.
    fn window_before(&self, newest_ms: u64) -> u64 {
        let put_ms = self.newest_put_ms().map_or(0, |put_ms| put_ms.saturating_add(PUT_TIME_ROUNDING_MS));
        self.wall_ms.min(newest_ms).min(put_ms).saturating_sub(self.keep_ms)
    }

    /// When anything was put to a chain last, by the store's clock.
    fn newest_put_ms(&self) -> Option<u64> {
        self.lineages.values().filter_map(|lineage| lineage.put_ms).max()
    }

    fn lineage(
        &mut self,
        client: &Client,
        id: LineageId,
        listed: &BTreeMap<String, u64>,
        pages: &BTreeMap<String, u64>,
    ) -> Result<LineageFacts> {
        let under = |prefix: String| {
            let found = listed.range(prefix.clone()..).take_while(move |(key, _)| key.starts_with(&prefix));
            found.filter_map(|(key, bytes)| Some((parse_lsn(key)?, *bytes))).collect::<BTreeMap<_, _>>()
        };
        let key = start_key(id);
        let start = readable(client.require(&key, Kind::Start, Start::decode), &mut self.damage)?;
        let mut end = start.as_ref().map(|(start, link)| End {
            owner: start.owner,
            next: start.first_lsn,
            previous: *link,
            is_closed: false,
        });
        let start = start.map(|(start, _)| start);
        let mut snapshots = Vec::new();
        for (lsn, bytes) in under(snapshot_prefix(id)) {
            let found = client.require(&snapshot_key(id, lsn), Kind::Snapshot, SnapshotObject::decode);
            let read = readable(found, &mut self.damage)?.map(|(found, _)| ReadSnapshot::of(&found, pages));
            snapshots.push(SnapshotFacts { lsn, bytes, read });
        }
        let log = under(log_prefix(id));
        let of_snapshots = snapshots.iter().filter_map(|snapshot| snapshot.read.as_ref());
        let snapshot_ms = of_snapshots.map(|snapshot| snapshot.time_ms).max().unwrap_or(0);
        let tail = chain::tail(client, id, &log, &mut self.damage)?;
        let entries_ms = snapshot_ms.max(tail.time_ms);
        let next = tail.next.or(end.map(|end| end.next));
        if !log.is_empty() {
            end = end.zip(tail.newest.as_ref()).map(|(end, newest)| end.behind(newest));
        }
        let start_bytes = listed.get(&key).copied().unwrap_or(0);
        let newest = log.keys().next_back().map_or(key, |first| log_key(id, *first));
        let put_ms = client.head(&newest)?.map(|found| found.put_ms);
        Ok(LineageFacts { start, start_bytes, snapshots, log, entries_ms, end, next, put_ms })
    }

    /// What is not needed.
    pub(super) fn plan(&mut self, client: &Client, pages: &BTreeMap<String, u64>) -> Result<Plan> {
        let mut plan = Plan::default();
        let (mut snapshots, mut log, mut starts) = (Vec::new(), Vec::new(), Vec::new());
        let (mut named, mut released) = (BTreeSet::new(), BTreeSet::new());
        let mut is_certain = true;
        let depth = self.lineages.len();
        let mut damage = std::mem::take(&mut self.damage);
        // One that cannot be read may need any other one to begin with.
        let all_known = self.lineages.values().all(|lineage| lineage.start.is_some());
        for (id, lineage) in &self.lineages {
            let end = lineage.end.filter(|_| all_known && self.is_superseded(*id, depth));
            let ends = end.is_some();
            let base = match self.base(*id, depth).filter(|_| all_known) {
                Some(base) if lineage.reaches_from(client, base, &mut damage)? => Some(base),
                _ => None,
            };
            for snapshot in &lineage.snapshots {
                let goes = ends || base.is_some_and(|base| snapshot.lsn < base.lsn);
                if goes {
                    snapshots.push((snapshot_key(*id, snapshot.lsn), snapshot.bytes));
                }
                match &snapshot.read {
                    Some(read) if goes => released.extend(&read.pages),
                    Some(read) => named.extend(&read.pages),
                    None => is_certain &= goes,
                }
            }
            let mut objects = lineage.log.iter().peekable();
            while let Some((first, bytes)) = objects.next() {
                // The object ends where the next one begins; the newest stays as long as its lineage.
                let before = |next: &Lsn| base.is_some_and(|base| *next <= base.replay_from);
                if !(ends || objects.peek().is_some_and(|(next, _)| before(next))) {
                    break;
                }
                // What closes a lineage goes behind its start.
                if !end.is_some_and(|end| end.is_closed && end.next == *first) {
                    log.push((log_key(*id, *first), *bytes));
                }
            }
            if let Some(end) = end {
                starts.push((start_key(*id), lineage.start_bytes));
                plan.ends.push(end);
            }
        }
        self.damage = damage;
        plan.parents = Parents::of(&self.lineages);
        plan.ends.sort_by_key(|end| Reverse(plan.parents.line(end.owner.lineage).len()));
        let dead = pages
            .iter()
            .filter(|(key, _)| !named.contains(key) && (is_certain || released.contains(key)))
            .map(|(key, bytes)| (key.clone(), *bytes));
        // A start goes when nothing else is left: it is what a later run finds the rest by.
        plan.deletions = snapshots.into_iter().chain(log).chain(starts).chain(dead).collect();
        Ok(plan)
    }

    /// Whether all of a lineage may go: another one of its database is later, no point of the window is its own, nothing was
    /// put to it for as long as the window by the store's clock, and no lineage that stays needs it to begin with. `depth` as for [`Survey::base`].
    fn is_superseded(&self, id: LineageId, depth: usize) -> bool {
        let Some(lineage) = self.lineages.get(&id).filter(|_| depth > 0) else { return false };
        let Some(owner) = lineage.owner() else { return false };
        let own = order::rank(&self.written, id);
        let is_later = |(other, facts): (&LineageId, &LineageFacts)| {
            let is_sister = facts.owner().is_some_and(|found| found.database == owner.database);
            is_sister && order::rank(&self.written, *other) > own
        };
        let puts = self.newest_put_ms().zip(lineage.put_ms);
        let stood_still_ms = puts.map_or(0, |(newest, own)| newest.saturating_sub(own));
        let still_ms_min = self.keep_ms.max(SUPERSEDED_TIME_MIN.as_millis() as u64);
        let needs_it =
            |child: LineageId| !self.is_superseded(child, depth - 1) && self.base(child, depth - 1).is_none();
        // What closes it was put by a run that judged so before, and nobody puts anything behind it.
        let is_closed = lineage.end.is_some_and(|end| end.is_closed);
        lineage.newest_ms() < self.window_ms()
            && (is_closed || stood_still_ms > still_ms_min)
            && self.lineages.iter().any(is_later)
            && !self.children(id).any(|(child, _)| needs_it(child))
    }

    /// The lineages that fork from one, and where.
    fn children(&self, id: LineageId) -> impl Iterator<Item = (LineageId, Lsn)> {
        self.lineages.iter().filter_map(move |(child, facts)| {
            let parent = facts.start.as_ref()?.parent.filter(|parent| parent.lineage == id)?;
            Some((*child, parent.fork_lsn))
        })
    }

    /// The oldest snapshot that a lineage needs; `None`: all of it. `depth` bounds how many forks are followed: more than
    /// there are lineages would be a circle.
    fn base(&self, id: LineageId, depth: usize) -> Option<Base> {
        let lineage = self.lineages.get(&id).filter(|_| depth > 0)?;
        lineage.start.as_ref()?;
        let from_ms = self.window_of(lineage);
        let mut oldest = lineage.newest(|_, time_ms| time_ms <= from_ms)?;
        for (child, fork_lsn) in self.children(id) {
            // A child with a base of its own needs nothing of its parent.
            if self.base(child, depth - 1).is_none() {
                let needed = lineage.newest(|lsn, _| lsn <= fork_lsn)?;
                if needed.lsn < oldest.lsn {
                    oldest = needed;
                }
            }
        }
        Some(oldest)
    }
}

impl Parents {
    fn of(lineages: &BTreeMap<LineageId, LineageFacts>) -> Self {
        let parent = |facts: &LineageFacts| Some(facts.start.as_ref()?.parent?.lineage);
        Self(lineages.iter().map(|(id, facts)| (*id, parent(facts))).collect())
    }

    /// Whether a lineage was there.
    pub(super) fn knows(&self, id: LineageId) -> bool {
        self.0.contains_key(&id)
    }

    /// A lineage and all that it came from.
    pub(super) fn line(&self, id: LineageId) -> Vec<LineageId> {
        let mut line = vec![id];
        while let Some(parent) = line.last().and_then(|id| self.0.get(id).copied().flatten())
            && !line.contains(&parent)
        {
            line.push(parent);
        }
        line
    }
}

impl End {
    /// The end behind the newest object of a chain.
    fn behind(self, newest: &chain::Place) -> Self {
        match &newest.content {
            Content::Gap(gap) if gap.is_end() => {
                Self { next: newest.next(), previous: gap.previous, is_closed: true, ..self }
            }
            _ => Self { next: newest.next(), previous: newest.link, ..self },
        }
    }
}

impl ReadSnapshot {
    fn of(found: &SnapshotObject, listed: &BTreeMap<String, u64>) -> Self {
        let named = found.pages().iter().map(|page| (page_key(&page.hash), u64::from(page.bytes)));
        let named: Vec<(String, u64)> = named.collect();
        Self {
            time_ms: found.time_ms,
            replay_from: found.trees.replay_from,
            whole: named.iter().all(|(key, bytes)| listed.get(key) == Some(bytes)),
            pages: named.into_iter().map(|(key, _)| key).collect(),
        }
    }
}

impl LineageFacts {
    fn owner(&self) -> Option<Owner> {
        self.start.as_ref().map(|start| start.owner)
    }

    /// When it was written to last: its newest entry, or its beginning.
    fn newest_ms(&self) -> u64 {
        self.entries_ms.max(self.start.as_ref().map_or(0, |start| start.created_ms))
    }

    /// The newest whole snapshot that suits.
    fn newest(&self, suits: impl Fn(Lsn, u64) -> bool) -> Option<Base> {
        self.snapshots.iter().rev().find_map(|snapshot| {
            let read = snapshot.read.as_ref().filter(|read| read.whole)?;
            let (lsn, replay_from) = (snapshot.lsn, read.replay_from);
            suits(lsn, read.time_ms).then_some(Base { lsn, replay_from })
        })
    }

    /// Whether what follows a base is where a listing says: it was not believed for anything that is deleted.
    fn reaches_from(&self, client: &Client, base: Base, damage: &mut Vec<ArchiveDamage>) -> Result<bool> {
        let (Some(owner), Some((first, _))) = (self.owner(), self.log.range(..=base.replay_from).next_back())
        else {
            // The chain begins behind the base, or is empty: nothing goes.
            return Ok(false);
        };
        let found = readable(Chain::from_lsn(client, owner, *first).next_item(), damage)?.flatten();
        let next = self.log.range(first.next()..).next().map(|(next, _)| *next);
        // A snapshot that the chain does not reach yet was put for a gap that never came.
        Ok(found.is_some_and(|item| {
            let behind = item.last_lsn().next();
            // Where the base needs entries up to itself, a gap has none of them.
            let needs_entries = base.replay_from <= base.lsn;
            !(needs_entries && matches!(item, Item::Gap(..)))
                && next.map_or(behind >= base.replay_from, |next| behind == next)
        }))
    }
}
