//! Deleting what no promised point needs.
//!
//! Promised is every point from `keep` before now on, in each lineage, and of each lineage its newest state. Now is the
//! clock's time or the newest entry's in the archive, whichever is earlier, so that neither a clock that runs ahead nor
//! an archive that nobody wrote to for long shortens what is kept.
//!
//! Of a lineage stay: its start object; the newest snapshot that is at least `keep` old and has all its pages, its *base*;
//! everything after that; what a lineage needs that forked from it and has no base of its own; the newest log object.
//! Without a base everything stays. A page segment stays while any snapshot that stays names it.
//!
//! The order, and why nothing is deleted that an upload or a restore needs, stand in `docs/format/archive.md`,
//! "Retention".

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use logwood_base::{Environment, Error, LineageId, Lsn, Result};

use super::chain::Chain;
use super::layout::{
    HOLDS_PREFIX, LINEAGES_PREFIX, PAGES_PREFIX, RETENTION_KEY, log_key, log_prefix, page_key, parse_lsn,
    parse_start, snapshot_key, snapshot_prefix, start_key,
};
use super::object::hold::CONDEMNED_MAX;
use super::object::{Hold, Kind, RetentionRun, SnapshotObject, Start};
use super::store::Client;
use crate::planted::{Bug, planted};

/// A hold that is older than this was left behind by a crash.
pub const HOLD_AGE_MAX: Duration = Duration::from_secs(7 * 24 * 3600);
/// A run that is older than this was left behind by a crash.
pub const RUN_AGE_MAX: Duration = Duration::from_secs(24 * 3600);
/// A run deletes no longer than this.
const RUN_TIME_MAX: Duration = Duration::from_secs(3600);

/// What a run keeps, and how much it does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RetentionOptions {
    /// How far back points stay restorable.
    pub keep: Duration,
    /// Whether it only says what would go.
    pub dry_run: bool,
    /// Most objects that it deletes, at most [`CONDEMNED_MAX`]; the next run goes on.
    pub deletions_max: usize,
}

/// What a run did, or would do.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct RetentionReport {
    /// Points from here on stay restorable, in milliseconds since 1970.
    pub from_ms: u64,
    /// What was deleted, or would be, in that order.
    pub condemned: Vec<String>,
    /// Bytes of it.
    pub bytes: u64,
    /// What was spared because an upload or a restore needs it.
    pub spared: Vec<String>,
}

/// Deletes what no point needs that is at most `keep` old.
///
/// ```
/// use std::{sync::Arc, time::Duration};
/// use logwood::archive::{Client, RetentionOptions, retention, store};
///
/// # let environment = logwood::Environment::system()?;
/// let client = Client::new(Arc::new(store::Memory::new()), &environment, Default::default());
/// let week = Duration::from_secs(7 * 24 * 3600);
/// let options = RetentionOptions { keep: week, dry_run: true, deletions_max: 1000 };
/// assert!(retention(&client, &environment, &options)?.condemned.is_empty());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// `AlreadyOpen` while another run is at work, and once after one that crashed more than a day ago; `ArchiveCorrupt` when a snapshot or a hold cannot be read: then nothing is
/// known to be unneeded, and nothing was deleted; `ArchiveUnavailable`.
pub fn retention(
    client: &Client,
    environment: &Environment,
    options: &RetentionOptions,
) -> Result<RetentionReport> {
    let wall_ms = environment.clock.wall_ms();
    // Pages are listed before snapshots are read: one that comes later is not in the list.
    let pages: BTreeMap<String, u64> =
        client.list(PAGES_PREFIX)?.into_iter().map(|page| (page.key, page.bytes)).collect();
    let survey = Survey::take(client, wall_ms, &pages)?;
    let from_ms = survey.now_ms.saturating_sub(options.keep.as_millis() as u64);
    let plan = survey.plan(client, from_ms, &pages)?;
    let most = options.deletions_max.min(CONDEMNED_MAX);
    let condemned: Vec<(String, u64)> = plan.into_iter().take(most).collect();
    let report = RetentionReport { from_ms, ..RetentionReport::default() };
    if condemned.is_empty() || options.dry_run {
        return Ok(report.with(condemned, Vec::new()));
    }
    let run = RetentionRun {
        id: LineageId::random(&*environment.random).0,
        begun_ms: wall_ms,
        condemned: condemned.iter().map(|(key, _)| key.clone()).collect(),
    };
    raise_flag(client, &run)?;
    let deleted = delete(client, environment, &run, condemned);
    let lowered = client.delete(RETENTION_KEY);
    let (deleted, spared) = deleted?;
    lowered?;
    Ok(report.with(deleted, spared))
}

impl RetentionReport {
    fn with(mut self, deleted: Vec<(String, u64)>, spared: Vec<String>) -> Self {
        self.bytes = deleted.iter().map(|(_, bytes)| bytes).sum();
        self.condemned = deleted.into_iter().map(|(key, _)| key).collect();
        self.spared = spared;
        self
    }
}

/// A key and the length of what stands there.
type Object = (String, u64);

/// Puts the run's object, so that nobody begins to use what it condemns. One that a crash left behind is taken away, and
/// no more: the next run begins.
fn raise_flag(client: &Client, run: &RetentionRun) -> Result<()> {
    let put = client.put_new(RETENTION_KEY, &run.encode().bytes);
    let Some(found) = client.fetch(RETENTION_KEY, Kind::Retention, RetentionRun::decode)? else {
        return put.and_then(|_| Err(super::store::missing(RETENTION_KEY)));
    };
    if found.id == run.id {
        return Ok(());
    }
    if run.begun_ms.saturating_sub(found.begun_ms) > RUN_AGE_MAX.as_millis() as u64 {
        client.delete(RETENTION_KEY)?;
    }
    Err(Error::AlreadyOpen { path: RETENTION_KEY.into() })
}

/// Deletes what nobody holds. Answers what was deleted and what was spared.
fn delete(
    client: &Client,
    environment: &Environment,
    run: &RetentionRun,
    condemned: Vec<Object>,
) -> Result<(Vec<Object>, Vec<String>)> {
    let started = environment.clock.monotonic();
    let needed = needed_now(client, run)?;
    let (mut deleted, mut spared) = (Vec::new(), Vec::new());
    for (key, bytes) in condemned {
        let wall = environment.clock.wall_ms().abs_diff(run.begun_ms);
        let elapsed = environment.clock.monotonic().saturating_sub(started);
        if elapsed > RUN_TIME_MAX || wall > RUN_TIME_MAX.as_millis() as u64 {
            break;
        }
        if needed.contains(&key) {
            spared.push(key);
            continue;
        }
        client.delete(&key)?;
        deleted.push((key, bytes));
    }
    Ok((deleted, spared))
}

/// What holds and snapshots need of what is condemned, looked up after the flag was raised: holds first, because a hold is
/// taken back only after its snapshot stands.
fn needed_now(client: &Client, run: &RetentionRun) -> Result<BTreeSet<String>> {
    let mut needed = BTreeSet::new();
    if planted(Bug::IgnoreHolds) {
        return Ok(needed);
    }
    for listed in client.list(HOLDS_PREFIX)? {
        let Some(hold) = client.fetch(&listed.key, Kind::Hold, Hold::decode)? else { continue };
        if run.begun_ms.saturating_sub(hold.placed_ms) > HOLD_AGE_MAX.as_millis() as u64 {
            client.delete(&listed.key)?;
            continue;
        }
        needed.extend(hold.pages.iter().map(page_key));
        if let Some(lsn) = hold.snapshot {
            needed.insert(snapshot_key(hold.lineage, lsn));
        }
        if let Some((first, last)) = hold.log {
            let prefix = log_prefix(hold.lineage);
            let keys: Vec<&String> = run.condemned.iter().filter(|key| key.starts_with(&prefix)).collect();
            // The object that holds the first entry begins at it or before it.
            let before = keys.iter().rfind(|key| parse_lsn(key).is_some_and(|lsn| lsn <= first));
            needed.extend(before.map(|key| (*key).clone()));
            let within =
                keys.iter().filter(|key| parse_lsn(key).is_some_and(|lsn| lsn > first && lsn <= last));
            needed.extend(within.map(|key| (*key).clone()));
        }
    }
    let condemned_pages = run.condemned.iter().any(|key| key.starts_with(PAGES_PREFIX));
    let listed = if condemned_pages { client.list(LINEAGES_PREFIX)? } else { Vec::new() };
    for object in listed {
        let stays = !run.condemned.contains(&object.key);
        let is_snapshot = object.key.contains("/snapshot/") && parse_lsn(&object.key).is_some();
        if !(stays || needed.contains(&object.key)) || !is_snapshot {
            continue;
        }
        let found = client.fetch(&object.key, Kind::Snapshot, SnapshotObject::decode)?;
        needed
            .extend(found.iter().flat_map(|(snapshot, _)| snapshot.pages()).map(|page| page_key(&page.hash)));
    }
    Ok(needed)
}

/// One snapshot, as far as retention cares.
struct SnapshotFacts {
    lsn: Lsn,
    time_ms: u64,
    replay_from: Lsn,
    bytes: u64,
    pages: Vec<String>,
    /// Whether all its pages are listed, with their lengths.
    whole: bool,
}

/// One lineage.
struct LineageFacts {
    start: Start,
    /// Ascending.
    snapshots: Vec<SnapshotFacts>,
    /// Where each object begins, and its bytes.
    log: BTreeMap<Lsn, u64>,
}

/// The whole archive.
struct Survey {
    lineages: BTreeMap<LineageId, LineageFacts>,
    now_ms: u64,
}

impl Survey {
    fn take(client: &Client, wall_ms: u64, pages: &BTreeMap<String, u64>) -> Result<Self> {
        let listed = client.list(LINEAGES_PREFIX)?;
        let ids: Vec<LineageId> = listed.iter().filter_map(|object| parse_start(&object.key)).collect();
        let mut lineages = BTreeMap::new();
        let mut newest_ms = 0;
        for id in ids {
            let (start, _) = client.require(&start_key(id), Kind::Start, Start::decode)?;
            let under = |prefix: String| {
                let mut found = BTreeMap::new();
                for object in listed.iter().filter(|object| object.key.starts_with(&prefix)) {
                    found.extend(parse_lsn(&object.key).map(|lsn| (lsn, object.bytes)));
                }
                found
            };
            let log = under(log_prefix(id));
            let mut snapshots = Vec::new();
            for (lsn, bytes) in under(snapshot_prefix(id)) {
                let key = snapshot_key(id, lsn);
                let (found, _) = client.require(&key, Kind::Snapshot, SnapshotObject::decode)?;
                let named = found.pages().iter().map(|page| (page_key(&page.hash), u64::from(page.bytes)));
                let named: Vec<(String, u64)> = named.collect();
                snapshots.push(SnapshotFacts {
                    lsn,
                    time_ms: found.time_ms,
                    replay_from: found.trees.replay_from,
                    bytes,
                    whole: named.iter().all(|(key, bytes)| pages.get(key) == Some(bytes)),
                    pages: named.into_iter().map(|(key, _)| key).collect(),
                });
            }
            newest_ms = snapshots.iter().map(|snapshot| snapshot.time_ms).fold(newest_ms, u64::max);
            // Gaps have no time: the newest object with entries tells.
            for first in log.keys().rev() {
                match Chain::from_lsn(client, start.owner, *first).next_item()? {
                    Some(super::chain::Item::Log(object)) => {
                        newest_ms = newest_ms.max(object.manifest.last_time_ms);
                        break;
                    }
                    _ => continue,
                }
            }
            lineages.insert(id, LineageFacts { start, snapshots, log });
        }
        Ok(Self { lineages, now_ms: wall_ms.min(newest_ms) })
    }

    /// What is not needed, with its bytes, in the order in which it goes.
    fn plan(
        &self,
        client: &Client,
        from_ms: u64,
        pages: &BTreeMap<String, u64>,
    ) -> Result<Vec<(String, u64)>> {
        let (mut snapshots, mut log) = (Vec::new(), Vec::new());
        let mut named: BTreeSet<&String> = BTreeSet::new();
        for (id, lineage) in &self.lineages {
            let base = match self.base(*id, from_ms, self.lineages.len()) {
                Some(base) if lineage.reaches_from(client, base)? => Some(base),
                _ => None,
            };
            for snapshot in &lineage.snapshots {
                if base.is_some_and(|base| snapshot.lsn < base.lsn) {
                    snapshots.push((snapshot_key(*id, snapshot.lsn), snapshot.bytes));
                } else {
                    named.extend(&snapshot.pages);
                }
            }
            let Some(base) = base else { continue };
            let mut objects = lineage.log.iter().peekable();
            while let Some((first, bytes)) = objects.next() {
                // The object ends where the next one begins; the newest always stays.
                match objects.peek() {
                    Some((next, _)) if **next <= base.replay_from => log.push((log_key(*id, *first), *bytes)),
                    _ => break,
                }
            }
        }
        let dead = pages.iter().filter(|(key, _)| !named.contains(key));
        Ok(snapshots.into_iter().chain(log).chain(dead.map(|(key, bytes)| (key.clone(), *bytes))).collect())
    }

    /// The oldest snapshot that a lineage needs; `None`: all of it. `depth` bounds how many forks are followed: more than
    /// there are lineages would be a circle.
    fn base(&self, id: LineageId, from_ms: u64, depth: usize) -> Option<&SnapshotFacts> {
        let lineage = self.lineages.get(&id).filter(|_| depth > 0)?;
        let own = lineage.newest(|snapshot| snapshot.time_ms <= from_ms)?;
        let mut oldest = own;
        for child in self.lineages.values() {
            let Some(parent) = child.start.parent.filter(|parent| parent.lineage == id) else { continue };
            // A child with a base of its own needs nothing of its parent.
            if self.base(child.start.owner.lineage, from_ms, depth - 1).is_none() {
                let needed = lineage.newest(|snapshot| snapshot.lsn <= parent.fork_lsn)?;
                if needed.lsn < oldest.lsn {
                    oldest = needed;
                }
            }
        }
        Some(oldest)
    }
}

impl LineageFacts {
    /// The newest whole snapshot that suits.
    fn newest(&self, suits: impl Fn(&SnapshotFacts) -> bool) -> Option<&SnapshotFacts> {
        self.snapshots.iter().rev().find(|snapshot| snapshot.whole && suits(snapshot))
    }

    /// Whether what follows a base is where a listing says: it was not believed for anything that is deleted.
    fn reaches_from(&self, client: &Client, base: &SnapshotFacts) -> Result<bool> {
        let Some((first, _)) = self.log.range(..=base.replay_from).next_back() else {
            // The chain begins behind the base, or is empty: nothing goes.
            return Ok(false);
        };
        let found = Chain::from_lsn(client, self.start.owner, *first).next_item()?;
        let next = self.log.range(first.next()..).next().map(|(next, _)| *next);
        Ok(found.is_some_and(|item| next.is_none_or(|next| item.last_lsn().next() == next)))
    }
}
