//! Deleting what no promised point needs.
//!
//! Promised is every point from `keep` before now on, in each lineage, and the newest state of the latest one. Now is the
//! clock's time, that of the newest entry of the lineage, or that at which the store says that something was archived last,
//! whichever is earlier, so that neither a clock that runs ahead, also that of a machine that writes, nor one of a machine that
//! wrote and was behind, nor an archive that nobody wrote to for long shortens what is kept. So an archive that nobody writes to
//! has nothing to let go of after a while.
//!
//! Of a lineage stay: its start object; the newest snapshot that is at least `keep` old, has all its pages, and is borne out by
//! the log, its *base*; everything after that; what a lineage needs that forked from it and has no base of its own; the newest log object.
//! Without a base everything stays. A page segment stays while any snapshot that stays names it.
//!
//! A lineage is *superseded* when another one of its database is later (`order`), its own newest entry lies before the
//! window, its newest object was put hours, and `keep`, before the newest one of another, by the store's clock, and no lineage
//! that stays needs it: then it is closed, and all of it goes.
//!
//! What is damaged is named and does not stop the rest (`survey`), but for a hold: nobody knows what it holds.
//!
//! | module | what it does |
//! |---|---|
//! | `survey`, `lineage`, `plan` | what the archive holds, and what of it goes |
//! | `facts` | what is known of snapshots, from run to run |
//! | `needs` | what of that is spared, because it is held or lives after all |
//! | `flag` | what keeps other runs, and holders, away |
//! | `task` | an archiver's own runs |
//!
//! The order, and why nothing is deleted that an upload or a restore needs, stand in `docs/format/archive.md`,
//! "Retention".

use std::collections::BTreeSet;
use std::time::Duration;

use logwood_base::{ArchiveDamage, Environment, LineageId, Result};

use super::layout::{log_key, snapshot_prefix};
use super::object::RetentionRun;
use super::object::hold::CONDEMNED_MAX;
use super::read::base::missing_base;
use super::store::Client;
use facts::Facts;
use flag::Flag;
use needs::{Look, needed};
use plan::{End, Object, Plan};
use survey::Survey;
pub(super) use task::Retainer;

mod facts;
mod flag;
mod lineage;
mod needs;
mod plan;
mod survey;
mod task;

/// A hold that is older than this, by the store's clock, was left behind by a crash.
pub const HOLD_AGE_MAX: Duration = Duration::from_secs(7 * 24 * 3600);
/// A run that is older than this, by the store's clock, was left behind by a crash.
pub const RUN_AGE_MAX: Duration = Duration::from_secs(24 * 3600);
/// A run deletes no longer than this, by either of its clocks.
const RUN_TIME_MAX: Duration = Duration::from_secs(3600);
/// After so many deletions a run looks whether its flag still stands.
const DELETIONS_BETWEEN_LOOKS: usize = 256;
/// After so many deletions without an answer a run ends.
const UNANSWERED_MAX: usize = 1000;

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
    /// Every point of the latest history from here on stays restorable, in milliseconds since 1970: where the window begins, or
    /// the oldest point that there is, whichever is later.
    pub from_ms: u64,
    /// When the oldest point of the latest history was committed that can be restored; `None`: nothing can.
    pub oldest_ms: Option<u64>,
    /// The newest state of the latest history has nothing to begin with, as far as a few requests tell: nothing is promised of it.
    /// `damage` says why; where it is empty, the first snapshot of that history is not there yet.
    pub is_newest_lost: bool,
    /// What was deleted, or would be, in that order.
    pub condemned: Vec<String>,
    /// Bytes of it.
    pub bytes: u64,
    /// How many objects more are not needed and were not deleted, because there are more than it deletes at once, or because it
    /// ended before: the next runs go on with them.
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
/// `AlreadyOpen` while another run is at work, and for a day after one that crashed, or could not name what it had no answer
/// to; `ArchiveCorrupt` when a hold cannot be
/// read that is not a week old: then nothing is known to be unneeded, and nothing was deleted, nor would be; `ArchiveUnavailable`. Damage
/// of other objects is in the report.
pub fn retention(
    client: &Client,
    environment: &Environment,
    options: &RetentionOptions,
) -> Result<RetentionReport> {
    run(client, environment, options, &mut Facts::default())
}

/// As [`retention`], with what earlier runs know.
fn run(
    client: &Client,
    environment: &Environment,
    options: &RetentionOptions,
    facts: &mut Facts,
) -> Result<RetentionReport> {
    // Told to stop, it lowers its flag.
    let client = &client.finishing();
    // Pages are listed before snapshots are read: one that comes later is not in the list.
    facts.list_pages(client)?;
    let mut survey = Survey::take(client, &*environment.clock, options.keep, facts)?;
    let (window_ms, oldest_ms) = (survey.window_ms(), survey.oldest_ms(client)?);
    let from_ms = window_ms.max(oldest_ms.unwrap_or(0));
    let mut report = RetentionReport { from_ms, oldest_ms, ..RetentionReport::default() };
    let mut plan = survey.plan(facts);
    facts.is_still = survey.is_still();
    report.damage = std::mem::take(&mut survey.damage);
    if let Some(latest) = survey.latest()
        && let Some(damage) = missing_base(client, latest)?
    {
        report.is_newest_lost = true;
        // Of a chain that waits for its first snapshot nothing is missing.
        let is_to_come = damage.key == snapshot_prefix(latest) && !survey.has_children(latest);
        if !is_to_come && !report.damage.contains(&damage) {
            report.damage.push(damage);
        }
    }
    if plan.deletions.is_empty() {
        return Ok(report);
    }
    let put_ms = match options.dry_run {
        true => survey.newest_put_ms().unwrap_or(0),
        false => flag::store_time(client, environment)?,
    };
    let look = Look::Ahead { put_ms };
    let spared = needed(client, look, &plan, facts, &mut report.damage)?;
    // What is held takes no place among what a run can condemn.
    (plan.held, plan.deletions) = plan.deletions.into_iter().partition(|(object, _)| spared.contains(object));
    report.spare(plan.held.iter().map(|(object, _)| *object));
    report.left = plan.deletions.len();
    plan.deletions.truncate(options.deletions_max.min(CONDEMNED_MAX));
    if options.dry_run {
        plan.deletions.iter().for_each(|(object, bytes)| report.count(*object, *bytes));
        return Ok(report);
    }
    if plan.deletions.is_empty() {
        return Ok(report);
    }
    let begun_ms = environment.clock.wall_ms();
    let condemned = plan.deletions.iter().map(|(object, _)| object.key()).collect();
    let id = LineageId::random(&*environment.random).0;
    let flag = Flag::raise(client, RetentionRun { id, begun_ms, condemned })?;
    let mut unanswered = BTreeSet::new();
    let at_work = AtWork { client, environment, flag: &flag, begun_ms };
    let deleted = at_work.delete(&plan, facts, &mut unanswered, &mut report);
    let lowered = flag.lower(client, unanswered);
    deleted?;
    lowered?;
    Ok(report)
}

impl RetentionReport {
    /// Whether there was nothing to do, nor to be told.
    fn is_empty(&self) -> bool {
        self.condemned.is_empty() && self.left == 0 && self.spared.is_empty() && self.damage.is_empty()
    }

    fn count(&mut self, object: Object, bytes: u64) {
        self.condemned.push(object.key());
        self.bytes += bytes;
        self.left -= 1;
    }

    fn spare(&mut self, objects: impl Iterator<Item = Object>) {
        self.spared.extend(objects.map(|object| object.key()));
    }
}

/// A run whose flag stands.
struct AtWork<'a> {
    client: &'a Client,
    environment: &'a Environment,
    flag: &'a Flag,
    /// By the run's own clock.
    begun_ms: u64,
}

impl AtWork<'_> {
    /// Deletes what nobody needs. `unanswered` are the keys of which a deletion was not answered, or only when it was asked
    /// for again, and so may take effect later.
    fn delete(
        &self,
        plan: &Plan,
        facts: &mut Facts,
        unanswered: &mut BTreeSet<String>,
        report: &mut RetentionReport,
    ) -> Result<()> {
        let Self { client, environment, flag, begun_ms } = *self;
        let started = environment.clock.monotonic();
        let needed = needed(client, Look::Raised { flag, begun_ms }, plan, facts, &mut report.damage)?;
        let mut delete = |key: String| {
            let (deleted, is_answered) = client.delete_told(&key);
            if !is_answered {
                unanswered.insert(key);
            }
            deleted.map(|()| unanswered.len() < UNANSWERED_MAX)
        };
        for (at, (object, bytes)) in plan.deletions.iter().enumerate() {
            let wall = environment.clock.wall_ms().abs_diff(begun_ms);
            let elapsed = environment.clock.monotonic().saturating_sub(started);
            let is_over = elapsed > RUN_TIME_MAX || wall > RUN_TIME_MAX.as_millis() as u64;
            if is_over || client.is_stopped() {
                break;
            }
            if at % DELETIONS_BETWEEN_LOOKS == 0 && !flag.stands(client)? {
                break;
            }
            if needed.contains(object) {
                report.left -= 1;
                report.spare([*object].into_iter());
                continue;
            }
            let mut goes_on = delete(object.key())?;
            report.count(*object, *bytes);
            let of_object = |end: &&End| *object == Object::Start(end.owner.lineage);
            if let Some(end) = plan.ends.iter().find(of_object) {
                goes_on &= delete(log_key(end.owner.lineage, end.next))?;
            }
            if !goes_on {
                break;
            }
        }
        Ok(())
    }
}
