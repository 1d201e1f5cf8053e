//! Deleting what no promised point needs.
//!
//! Promised is every point from `keep` before now on, in each lineage, and the newest state of the latest one. Now is the
//! clock's time, that of the newest entry of the lineage, or that at which the store says that something was archived last,
//! whichever is earlier, so that neither a clock that runs ahead, also that of a machine that writes, nor one of a machine that
//! wrote and was behind, nor an archive that nobody wrote to for long shortens what is kept.
//!
//! Of a lineage stay: its start object; the newest snapshot that is at least `keep` old and has all its pages, its *base*;
//! everything after that; what a lineage needs that forked from it and has no base of its own; the newest log object.
//! Without a base everything stays. A page segment stays while any snapshot that stays names it.
//!
//! A lineage is *superseded* when another one of its database is later (`order`), its own newest entry lies before the
//! window, its newest object was put hours, and `keep`, before the newest one of another, by the store's clock, and no lineage
//! that stays needs it: then it is closed, and all of it goes.
//!
//! What is damaged is named and does not stop the rest (`survey`), but for a hold: nobody knows what it holds.
//!
//! The order, and why nothing is deleted that an upload or a restore needs, stand in `docs/format/archive.md`,
//! "Retention".

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use logwood_base::{ArchiveDamage, Environment, Error, LineageId, Result};

use super::chain::{self, Item, readable};
use super::layout::{
    HOLDS_PREFIX, LINEAGES_PREFIX, PAGES_PREFIX, RUNS_PREFIX, lineage_prefix, log_key, log_prefix, page_key,
    parse_lsn, snapshot_key, start_key,
};
use super::object::hold::CONDEMNED_MAX;
use super::object::{Gap, Hold, Kind, RetentionRun, SnapshotObject};
use super::read::history;
use super::store::Client;
use crate::planted::{Bug, planted};
use survey::{End, Parents, Survey};

mod survey;

/// A hold that is older than this, by the store's clock, was left behind by a crash.
pub const HOLD_AGE_MAX: Duration = Duration::from_secs(7 * 24 * 3600);
/// A run that is older than this, by the store's clock, was left behind by a crash.
pub const RUN_AGE_MAX: Duration = Duration::from_secs(24 * 3600);
/// A run deletes no longer than this, by either of its clocks.
const RUN_TIME_MAX: Duration = Duration::from_secs(3600);
/// After so many deletions a run looks whether its flag still stands.
const DELETIONS_BETWEEN_LOOKS: usize = 256;

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
    /// How many objects more are not needed: the next runs go on with them.
    pub left: usize,
    /// What was spared because an upload or a restore needs it.
    pub spared: Vec<String>,
    /// What cannot be read. It stops nothing but what would need it: see the head of this module's file.
    pub damage: Vec<ArchiveDamage>,
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
/// `AlreadyOpen` while another run is at work, and for a day after one that crashed; `ArchiveCorrupt` when a hold cannot be
/// read that is not a week old: then nothing is known to be unneeded, and nothing was deleted; `ArchiveUnavailable`. Damage
/// of other objects is in the report.
pub fn retention(
    client: &Client,
    environment: &Environment,
    options: &RetentionOptions,
) -> Result<RetentionReport> {
    let wall_ms = environment.clock.wall_ms();
    // Pages are listed before snapshots are read: one that comes later is not in the list.
    let pages: BTreeMap<String, u64> =
        client.list(PAGES_PREFIX)?.into_iter().map(|page| (page.key, page.bytes)).collect();
    let mut survey = Survey::take(client, wall_ms, options.keep, &pages)?;
    let from_ms = survey.window_ms();
    let plan = survey.plan(client, &pages)?;
    let most = options.deletions_max.min(CONDEMNED_MAX);
    let survey::Plan { mut deletions, ends, parents } = plan;
    let left = deletions.len().saturating_sub(most);
    deletions.truncate(most);
    let condemned = deletions;
    let mut report = RetentionReport { from_ms, left, damage: survey.damage, ..RetentionReport::default() };
    if condemned.is_empty() || options.dry_run {
        return Ok(report.with(condemned, Vec::new()));
    }
    let run = RetentionRun {
        id: LineageId::random(&*environment.random).0,
        begun_ms: environment.clock.wall_ms(),
        condemned: condemned.iter().map(|(key, _)| key.clone()).collect(),
    };
    let flag = Flag::raise(client, &run)?;
    let mut is_late = false;
    let plan = (condemned, &ends[..], &parents);
    let deleted = delete(client, environment, (&run, &flag), plan, &mut is_late, &mut report.damage);
    let lowered = if is_late {
        // Until then what is asked for may still be done, to what somebody puts again meanwhile.
        tracing::warn!(flag = flag.key, "a deletion was not answered: no other run begins for a day");
        Ok(())
    } else {
        client.delete(&flag.key)
    };
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

/// The run's object while it stands in the archive, so that nobody begins to use what it condemns.
struct Flag {
    key: String,
    /// When it was put, by the store's clock: what every age is judged by.
    put_ms: u64,
}

impl Flag {
    /// Raises it, unless another run is at work. What a run left behind that crashed is taken away.
    fn raise(client: &Client, run: &RetentionRun) -> Result<Self> {
        let key = run.key();
        let put = client.put_new(&key, &run.encode().bytes);
        let Some(found) = client.head(&key)? else {
            return put.and_then(|_| Err(super::store::missing(&key)));
        };
        let flag = Self { key, put_ms: found.put_ms };
        // Raised first: of two runs that begin at once at least one sees the other, and perhaps both do.
        flag.check_alone(client).inspect_err(|_| drop(client.delete(&flag.key)))?;
        Ok(flag)
    }

    fn check_alone(&self, client: &Client) -> Result<()> {
        for other in client.list(RUNS_PREFIX)? {
            if other.key == self.key {
                continue;
            }
            match self.age(client, &other.key)? {
                None => {}
                Some(age) if age > RUN_AGE_MAX => client.delete(&other.key)?,
                Some(_) => return Err(Error::AlreadyOpen { path: other.key.into() }),
            }
        }
        Ok(())
    }

    /// How long ago an object was put when this run began, by the store's clock; `None` when it is gone.
    fn age(&self, client: &Client, key: &str) -> Result<Option<Duration>> {
        let found = client.head(key)?;
        Ok(found.map(|found| Duration::from_millis(self.put_ms.saturating_sub(found.put_ms))))
    }

    /// Whether it stands: who took it for a dead run's goes on as if this run were none.
    fn stands(&self, client: &Client) -> Result<bool> {
        Ok(client.head(&self.key)?.is_some())
    }
}

/// Deletes what nobody holds. Answers what was deleted and what was spared; `is_late` is set where a deletion was not answered,
/// or only when it was asked for again, and so may take effect later.
fn delete(
    client: &Client,
    environment: &Environment,
    (run, flag): (&RetentionRun, &Flag),
    (condemned, ends, parents): (Vec<Object>, &[End], &Parents),
    is_late: &mut bool,
    damage: &mut Vec<ArchiveDamage>,
) -> Result<(Vec<Object>, Vec<String>)> {
    let started = environment.clock.monotonic();
    let needed = needed_now(client, (run, flag), (ends, parents), damage)?;
    let mut delete = |key: &str| {
        let (deleted, is_answered) = client.delete_told(key);
        *is_late |= !is_answered;
        deleted
    };
    let (mut deleted, mut spared) = (Vec::new(), Vec::new());
    for (at, (key, bytes)) in condemned.into_iter().enumerate() {
        let wall = environment.clock.wall_ms().abs_diff(run.begun_ms);
        let elapsed = environment.clock.monotonic().saturating_sub(started);
        if elapsed > RUN_TIME_MAX || wall > RUN_TIME_MAX.as_millis() as u64 {
            break;
        }
        if at % DELETIONS_BETWEEN_LOOKS == 0 && !flag.stands(client)? {
            break;
        }
        if needed.contains(&key) {
            spared.push(key);
            continue;
        }
        delete(&key)?;
        if let Some(end) = ends.iter().find(|end| start_key(end.owner.lineage) == key) {
            delete(&log_key(end.owner.lineage, end.next))?;
        }
        deleted.push((key, bytes));
    }
    Ok((deleted, spared))
}

/// Closes a lineage, so that nobody writes to it any more. Answers false when somebody has written to it meanwhile: it lives.
fn close(client: &Client, run: &RetentionRun, end: &End) -> Result<bool> {
    let gap = Gap::end(end.owner, end.next, run.begun_ms, end.previous);
    let put = client.put_new(&gap.key(), &gap.encode().bytes);
    match chain::fetch(client, &gap.key())? {
        Some(Item::Gap(found, _)) => Ok(found.is_end()),
        Some(Item::Log(_)) => Ok(false),
        None => put.and_then(|_| Err(super::store::missing(&gap.key()))),
    }
}

/// What holds, lineages that live after all or were begun meanwhile, and snapshots need of what is condemned, looked up after
/// the flag was raised: holds first, because a hold is taken back only after its snapshot, or its start, stands; snapshots
/// last, those that were spared too.
fn needed_now(
    client: &Client,
    (run, flag): (&RetentionRun, &Flag),
    (ends, parents): (&[End], &Parents),
    damage: &mut Vec<ArchiveDamage>,
) -> Result<BTreeSet<String>> {
    let mut needed = BTreeSet::new();
    if planted(Bug::IgnoreHolds) {
        return Ok(needed);
    }
    for listed in client.list(HOLDS_PREFIX)? {
        // By its age alone, also when it cannot be read.
        if flag.age(client, &listed.key)?.is_some_and(|age| age > HOLD_AGE_MAX) {
            client.delete(&listed.key)?;
            continue;
        }
        let Some(hold) = client.fetch(&listed.key, Kind::Hold, Hold::decode)? else { continue };
        needed.extend(hold.pages.iter().map(page_key));
        if let Some(lsn) = hold.snapshot {
            needed.insert(snapshot_key(hold.lineage, lsn));
        }
        if hold.snapshot.is_some() || hold.log.is_some() {
            needed.insert(start_key(hold.lineage));
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
    let condemned_of = |prefix: &str| {
        let prefix = prefix.to_owned();
        let keys = run.condemned.range(prefix.clone()..);
        keys.take_while(move |key| key.starts_with(&prefix)).cloned()
    };
    // Begun since they were looked at: their lines of descent stay as they are.
    for lineage in history::lineages(client)?.into_iter().filter(|lineage| !parents.knows(*lineage)) {
        match readable(chain::start_of(client, lineage), damage)? {
            Some(start) => {
                let parent = start.and_then(|(start, _)| start.parent).map(|parent| parent.lineage);
                let line = parent.map_or(Vec::new(), |parent| parents.line(parent));
                needed.extend(line.into_iter().flat_map(|id| condemned_of(&lineage_prefix(id))));
            }
            // Nobody knows what it needs.
            None => needed.extend(condemned_of(LINEAGES_PREFIX)),
        }
    }
    let mut living = BTreeSet::new();
    for end in ends {
        let line = parents.line(end.owner.lineage);
        // A child is closed before its parent loses anything, also where this run takes nothing of the child itself.
        if !line.iter().any(|id| condemned_of(&lineage_prefix(*id)).next().is_some()) {
            continue;
        }
        let start = start_key(end.owner.lineage);
        let lives = living.contains(&end.owner.lineage) || needed.contains(&start);
        if lives || !close(client, run, end)? {
            needed.extend(line.iter().flat_map(|id| condemned_of(&lineage_prefix(*id))));
            living.extend(line);
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
        let found = client.fetch(&object.key, Kind::Snapshot, SnapshotObject::decode);
        let found = readable(found, damage)?.flatten();
        needed
            .extend(found.iter().flat_map(|(snapshot, _)| snapshot.pages()).map(|page| page_key(&page.hash)));
    }
    Ok(needed)
}
