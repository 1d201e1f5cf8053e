//! What an archive holds, as far as retention cares, and what of it no promised point needs.
//!
//! What cannot be read is named and does not stop the rest:
//! - a snapshot: it is no base. While it stays, only pages go that a snapshot names which goes with them, for nobody knows
//!   what an unreadable one names. It goes itself once a base is newer.
//! - a start, or one that is missing where a lineage stands: while that is so, no snapshot and no log goes of any lineage, for its own could need any of them.
//! - a log object: where it stands before a base, nothing needs it; where a base needs it, it is no base, and an older one is.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use logwood_base::{ArchiveDamage, Clock, LineageId, Lsn, Result};

use super::facts::{Facts, Numbers};
use super::lineage::{Base, LineageFacts, Listed, ReadSnapshot, SnapshotFacts};
use super::plan::{End, Object, Parents, Plan};
use crate::archive::chain::{self, Content, readable};
use crate::archive::layout::{log_key, start_key};
use crate::archive::object::{Kind, Start};
use crate::archive::order::{self, Written};
use crate::archive::read::history;
use crate::archive::read::standing::Standing;
use crate::archive::store::Client;

/// A lineage that another one has superseded stays until another one was put to so long after it, by the store's clock:
/// longer than an archiver goes on without looking for its place.
const SUPERSEDED_TIME_MIN: Duration = Duration::from_secs(2 * 3600);

/// The whole archive.
pub(super) struct Survey {
    lineages: BTreeMap<LineageId, LineageFacts>,
    /// What tells which of them is later than which.
    written: BTreeMap<LineageId, Written>,
    /// The run's time, no later than can be since an archiver's first run.
    now_ms: u64,
    keep_ms: u64,
    pub(super) damage: Vec<ArchiveDamage>,
}

impl Survey {
    pub(super) fn take(
        client: &Client,
        clock: &dyn Clock,
        keep: Duration,
        facts: &mut Facts,
    ) -> Result<Self> {
        let keep_ms = u64::try_from(keep.as_millis()).unwrap_or(u64::MAX);
        let (lineages, written) = (BTreeMap::new(), BTreeMap::new());
        let now_ms = clock.wall_ms();
        let mut survey = Self { lineages, written, now_ms, keep_ms, damage: Vec::new() };
        for id in history::lineages(client)? {
            let listed = Listed::take(client, id)?;
            if listed.start.is_none() && !history::is_lineage(listed.snapshots.len(), listed.log.len()) {
                continue;
            }
            let found = survey.lineage(client, id, listed, facts)?;
            let written = found
                .start
                .as_ref()
                .map(|start| Written::new(start, found.entries_ms, found.put_ms, found.next));
            survey.written.extend(written.map(|written| (id, written)));
            survey.lineages.insert(id, found);
        }
        survey.judge_pages(facts);
        survey.now_ms = survey.now_ms.min(facts.latest_ms(clock.monotonic()));
        survey.judge_bases(client, facts)?;
        Ok(survey)
    }

    /// Finds out which snapshots have all their pages, now that those of all are known.
    fn judge_pages(&mut self, facts: &mut Facts) {
        let whole = facts.whole();
        for (id, lineage) in &mut self.lineages {
            for snapshot in &mut lineage.snapshots {
                let known = facts.snapshot(*id, snapshot.lsn);
                if let (Some(read), Some(known)) = (&mut snapshot.read, known) {
                    read.is_base = known.is_whole(&whole);
                }
            }
        }
        let is_there = |id: LineageId, lsn: Lsn| {
            let lineage = self.lineages.get(&id);
            lineage.is_some_and(|lineage| lineage.snapshots.iter().any(|snapshot| snapshot.lsn == lsn))
        };
        facts.forget(is_there);
    }

    /// Whether the start of every lineage is known: one that cannot be read may need any other one to begin with.
    fn knows_all(&self) -> bool {
        self.lineages.values().all(|lineage| lineage.start.is_some())
    }

    /// Finds out which bases are states of their history, and are followed by the log that a listing says is there: of every
    /// lineage, before anything is decided by what one has. One that is not is no base, and the next older one is looked at.
    fn judge_bases(&mut self, client: &Client, facts: &mut Facts) -> Result<()> {
        if !self.knows_all() {
            return Ok(());
        }
        let (depth, mut damage) = (self.lineages.len(), std::mem::take(&mut self.damage));
        let mut judged = BTreeSet::new();
        loop {
            let bases = self.lineages.keys().filter_map(|id| Some((*id, self.base(*id, depth)?)));
            let due: Vec<_> = bases.filter(|(id, base)| judged.insert((*id, base.lsn))).collect();
            if due.is_empty() {
                self.damage = damage;
                return Ok(());
            }
            for (id, base) in due {
                let Some(lineage) = self.lineages.get_mut(&id) else { continue };
                if lineage.reaches_from(client, base, &mut damage)?
                    && is_of_chain(client, (id, base.lsn), facts, &mut damage)?
                {
                    continue;
                }
                let refuted = lineage.snapshots.iter_mut().find(|snapshot| snapshot.lsn == base.lsn);
                if let Some(read) = refuted.and_then(|snapshot| snapshot.read.as_mut()) {
                    read.is_base = false;
                }
            }
        }
    }

    /// Points of the latest history from here on stay.
    pub(super) fn window_ms(&self) -> u64 {
        let newest_ms = self.lineages.values().map(|lineage| lineage.entries_ms).max();
        self.window_before(newest_ms.unwrap_or(0))
    }

    /// The lineage that is the latest of those whose starts can be read.
    pub(super) fn latest(&self) -> Option<LineageId> {
        self.written.keys().copied().max_by_key(|id| order::rank(&self.written, *id))
    }

    /// When the oldest point of the latest history was committed that can be restored; where that lies before the window, one
    /// such. `None` where there is none.
    pub(super) fn oldest_ms(&self, client: &Client) -> Result<Option<u64>> {
        let Some(latest) = self.latest() else { return Ok(None) };
        let (window_ms, mut oldest_ms, mut last) = (self.window_ms(), None, Lsn::MAX);
        for id in Parents::of(&self.lineages).line(latest) {
            let Some(lineage) = self.lineages.get(&id) else { break };
            oldest_ms = oldest_ms.into_iter().chain(lineage.oldest_base_ms(last)).min();
            let Some(start) = &lineage.start else { break };
            // Where the log between the fork and a snapshot was let go of, nothing before the fork leads on.
            let reaches_back = lineage.log.is_empty() || lineage.log.contains_key(&start.first_lsn);
            if !reaches_back || oldest_ms.is_some_and(|oldest_ms| oldest_ms <= window_ms) {
                break;
            }
            if let Some(parent) = start.parent {
                last = parent.fork_lsn;
                continue;
            }
            // From the first entry on nothing else is needed.
            let first = lineage.log.get(&Lsn::FIRST).filter(|_| !start.needs_snapshot());
            let Some(bytes) = first else { break };
            let found = readable(chain::peek(client, &log_key(id, Lsn::FIRST), *bytes), &mut Vec::new())?;
            let first_ms = found.flatten().and_then(|place| match place.content {
                Content::Entries((_, first_ms), _) => Some(first_ms),
                Content::Gap(_) => None,
            });
            return Ok(oldest_ms.into_iter().chain(first_ms).min());
        }
        Ok(oldest_ms)
    }

    /// Points of a lineage from here on stay: by its own entries' times, for its writer's clock may be behind all others.
    fn window_of(&self, lineage: &LineageFacts) -> u64 {
        self.window_before(lineage.entries_ms)
    }

    /// What is kept before a time. It is no later than the newest object was put, by the store's clock: where the run is at
    /// work on the machine that wrote the entries, one clock that jumped ahead would end all windows otherwise.
    fn window_before(&self, newest_ms: u64) -> u64 {
        let put_ms = self.newest_put_ms().map_or(0, order::put_by);
        self.now_ms.min(newest_ms).min(put_ms).saturating_sub(self.keep_ms)
    }

    /// Whether all windows end where something was written last, so that they stay as they are until something is.
    pub(super) fn is_still(&self) -> bool {
        let put_ms = self.newest_put_ms().map_or(0, order::put_by);
        let newest_ms = self.lineages.values().map(|lineage| lineage.entries_ms).max().unwrap_or(0);
        self.now_ms >= newest_ms.min(put_ms)
    }

    /// When anything was put to a chain last, by the store's clock.
    pub(super) fn newest_put_ms(&self) -> Option<u64> {
        self.lineages.values().filter_map(|lineage| lineage.put_ms).max()
    }

    fn lineage(
        &mut self,
        client: &Client,
        id: LineageId,
        listed: Listed,
        facts: &mut Facts,
    ) -> Result<LineageFacts> {
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
        for (lsn, bytes) in listed.snapshots {
            let is_readable = facts.read(client, (id, lsn, bytes), &mut self.damage)?;
            let known = facts.snapshot(id, lsn).filter(|_| is_readable);
            let read = known.map(|known| ReadSnapshot {
                time_ms: known.time_ms,
                replay_from: known.replay_from,
                is_base: false,
            });
            snapshots.push(SnapshotFacts { lsn, bytes, read });
        }
        let log = listed.log;
        let of_snapshots = snapshots.iter().filter_map(|snapshot| snapshot.read.as_ref());
        let snapshot_ms = of_snapshots.map(|snapshot| snapshot.time_ms).max().unwrap_or(0);
        let tail = chain::tail(client, id, &log, &mut self.damage)?;
        let entries_ms = snapshot_ms.max(tail.time_ms);
        let next = tail.next.or(end.map(|end| end.next));
        if !log.is_empty() {
            end = end.zip(tail.newest.as_ref()).map(|(end, newest)| end.behind(newest));
        }
        let start_bytes = listed.start.unwrap_or(0);
        let newest = log.keys().next_back().map_or(key, |first| log_key(id, *first));
        let put_ms = client.head(&newest)?.map(|found| found.put_ms);
        Ok(LineageFacts { start, start_bytes, snapshots, log, entries_ms, end, next, put_ms })
    }

    /// What is not needed.
    pub(super) fn plan(&self, facts: &Facts) -> Plan {
        let mut plan = Plan::default();
        let (mut snapshots, mut log, mut starts) = (Vec::new(), Vec::new(), Vec::new());
        let (mut named, mut released) = (Numbers::default(), Numbers::default());
        let mut is_certain = true;
        let depth = self.lineages.len();
        let all_known = self.knows_all();
        for (id, lineage) in &self.lineages {
            let end = lineage.end.filter(|_| all_known && self.is_superseded(*id, depth));
            let ends = end.is_some();
            let base = self.base(*id, depth).filter(|_| all_known);
            for snapshot in &lineage.snapshots {
                let goes = ends || base.is_some_and(|base| snapshot.lsn < base.lsn);
                if goes {
                    snapshots.push((Object::Snapshot(*id, snapshot.lsn), snapshot.bytes));
                }
                let read = snapshot.read.and_then(|_| facts.snapshot(*id, snapshot.lsn));
                match read.map(|read| &read.pages) {
                    Some(pages) if goes => released.add(pages),
                    Some(pages) => named.add(pages),
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
                    log.push((Object::Log(*id, *first), *bytes));
                }
            }
            if let Some(end) = end {
                starts.push((Object::Start(*id), lineage.start_bytes));
                plan.ends.push(end);
            }
        }
        plan.parents = Parents::of(&self.lineages);
        plan.ends.sort_by_key(|end| Reverse(plan.parents.line(end.owner.lineage).len()));
        let is_in = |numbers: &Numbers, number: Option<u32>| number.is_some_and(|at| numbers.contains(at));
        let dead = facts
            .pages()
            .filter(|(_, _, number)| !is_in(&named, *number) && (is_certain || is_in(&released, *number)))
            .map(|(hash, bytes, _)| (Object::Page(hash), bytes));
        // A start goes when nothing else is left: it is what a later run finds the rest by.
        plan.deletions = snapshots.into_iter().chain(log).chain(starts).chain(dead).collect();
        plan
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

    /// Whether a lineage forks from one.
    pub(super) fn has_children(&self, id: LineageId) -> bool {
        self.children(id).next().is_some()
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

/// Whether a base is a state of this history, as far as the log shows, and not of a copy that went on by itself.
fn is_of_chain(
    client: &Client,
    base: (LineageId, Lsn),
    facts: &mut Facts,
    damage: &mut Vec<ArchiveDamage>,
) -> Result<bool> {
    match facts.standing(client, base, damage)? {
        Some(Standing::InChain | Standing::Unknown) => Ok(true),
        Some(Standing::Contradicted(evidence)) => {
            if !damage.contains(&evidence) {
                damage.push(evidence);
            }
            Ok(false)
        }
        Some(Standing::Ahead(_)) | None => Ok(false),
    }
}
