//! An archiver's own retention: a task beside its uploads, which wait for nothing of it.
//!
//! A run begins every hour, by the monotonic clock, however much or little is archived; the first one when the archiver is
//! attached. While there is more to delete than one run condemns, and it deleted something, the next one follows at once: what
//! comes to an archive in a day is a small part of what a day of runs takes. Where a run fails, or another one is at work, it is
//! tried again after an hour. What is known of snapshots is kept from run to run (`facts`).
//!
//! An archiver that puts nothing asks for nothing. A run found nothing to delete, nothing that is held, nothing damaged, and all
//! windows end where something was written last: then the next one would find the same, until somebody puts something. It is
//! spared, for a day at most: others may have, or a hold has died.

use std::time::Duration;

use logwood_base::sync::Arc;
use logwood_base::{Environment, Error, Lsn, Result, Step, Task};

use super::facts::Facts;
use super::{RetentionOptions, RetentionReport, run};
use crate::archive::object::Link;
use crate::archive::object::hold::CONDEMNED_MAX;
use crate::archive::status::Shared;
use crate::archive::store::Client;

/// Between the end of a run and the next one.
const INTERVAL: Duration = Duration::from_secs(3600);
/// After so long a run looks what others have put, although this archiver has put nothing.
const SPARED_MAX: Duration = Duration::from_secs(24 * 3600);

/// What tells that an archiver has put something, or may have: where its chain ends, its snapshots, its page segments, what
/// failed.
type Activity = (Option<(Lsn, Link)>, u64, u64, u64);

/// Runs retention now and then.
#[derive(Debug)]
pub(in crate::archive) struct Retainer {
    client: Client,
    environment: Environment,
    keep: Duration,
    shared: Arc<Shared>,
    facts: Facts,
    /// When the next run begins, by the monotonic clock.
    due: Duration,
    /// What the archiver had put, and when that was, when a run began that found nothing to do.
    idle_since: Option<(Activity, Duration)>,
}

impl Retainer {
    pub(in crate::archive) fn new(
        client: Client,
        environment: Environment,
        keep: Duration,
        shared: Arc<Shared>,
    ) -> Self {
        let due = environment.clock.monotonic();
        shared.update(|figures| figures.retained_at = Some(due));
        Self { client, environment, keep, shared, facts: Facts::default(), due, idle_since: None }
    }

    /// Answers whether the archiver goes on.
    fn run_once(&mut self) -> bool {
        let (activity, began) = (self.activity(), self.environment.clock.monotonic());
        let is_known = |(before, then)| before == activity && began.saturating_sub(then) < SPARED_MAX;
        if self.idle_since.is_some_and(is_known) {
            self.due = began + INTERVAL;
            self.shared.update(|figures| figures.retained_at = Some(began));
            return true;
        }
        let options = RetentionOptions { keep: self.keep, dry_run: false, deletions_max: CONDEMNED_MAX };
        let ran = self
            .facts
            .begin(&self.client, &self.environment)
            .and_then(|()| run(&self.client, &self.environment, &options, &mut self.facts));
        let is_idle = self.facts.is_still && ran.as_ref().is_ok_and(RetentionReport::is_empty);
        self.idle_since = is_idle.then_some((activity, began));
        let is_behind = ran.as_ref().is_ok_and(|report| report.left > 0 && !report.condemned.is_empty());
        let now = self.environment.clock.monotonic();
        self.due = if is_behind { now } else { now + INTERVAL };
        if !self.client.is_stopped() {
            self.tell(ran, now);
        }
        !self.client.is_stopped()
    }

    fn activity(&self) -> Activity {
        let figures = self.shared.figures();
        let status = &figures.status;
        (figures.confirmed, status.snapshots, status.pages.0, status.failures)
    }

    fn tell(&self, ran: Result<RetentionReport>, now: Duration) {
        match &ran {
            Ok(report) => tracing::debug!(deleted = report.condemned.len(), left = report.left, "retention"),
            Err(Error::AlreadyOpen { path }) => {
                tracing::info!(run = %path.display(), "another retention run is at work, or has crashed");
            }
            Err(error) => tracing::warn!(%error, "retention failed and is tried again in an hour"),
        }
        self.shared.update(|figures| {
            let status = &mut figures.status;
            match ran {
                Ok(report) => {
                    figures.retained_at = Some(now);
                    status.retention_deleted += report.condemned.len() as u64;
                    status.retention_left = report.left as u64;
                    status.retention_failing = report.damage.first().map(ToString::to_string);
                }
                Err(error) => status.retention_failing = Some(error.to_string()),
            }
            status.retention_failures += u64::from(status.retention_failing.is_some());
        });
    }
}

impl Task for Retainer {
    fn step(&mut self) -> Step {
        // A lineage that is another one's by now is not this archiver's to keep.
        let has_stopped = self.shared.figures().status.stopped.is_some();
        let is_due = self.environment.clock.monotonic() >= self.due;
        if has_stopped || is_due && !self.run_once() {
            return Step::Done;
        }
        let now = self.environment.clock.monotonic();
        match self.due.saturating_sub(now) {
            Duration::ZERO => Step::Again,
            left => Step::Wait(Some(left)),
        }
    }
}
