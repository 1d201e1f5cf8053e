//! Restoring a database from an archive into a new directory.
//!
//! 1. Find the history and the newest snapshot at or before the point (`read/plan.rs`).
//! 2. Place holds, so that retention spares what is needed from here on.
//! 3. Fill the directory (`engine/src/seed.rs`): the entries from the snapshot's `replay_from` up to the point, each
//!    object proven by its hash and its place in the chain, as a fresh log that is read back; then page segments, several
//!    at a time, each proven by its SHA-256, read back from the device, and its records summed up while they are in
//!    memory; then the manifest. Where a snapshot turns out to be damaged the next older one is taken.
//! 4. Walk the trees: what each parent says of its children against what was derived from their records; then count and
//!    digest of each keyspace against those that the snapshot carries.
//! 5. Note the parent and the fork in `DIR/LINEAGE`, for whoever archives the restored database, and put everything into
//!    its place.
//!
//! The first open that can write appends an entry in a term of its own: see `docs/format/seed.md`. What is restored in
//! part is another database, with its own identity and entries from 1 on: see `restore/partial.rs`.
//!
//! # Crash story
//! A crash in steps 1–4 leaves `DIR/seed/`, which nobody opens (`WrongKind`). The same call goes on with it: page segments
//! that have their names are whole and are not fetched again; the log is written anew. A call for another point does the
//! same, and throws away what that point does not need. In step 5 `LINEAGE` comes first: it names the log that it belongs
//! to, so that without that log it means nothing. What follows is the seed's.
//! Holds of a restore that crashed are ignored after a week.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use logwood_base::digest::Digest;
use logwood_base::{ArchiveDamage, DatabaseId, Environment, Error, KeyspaceId, LogId, Lsn, Result};
use logwood_btree::store::SegmentEntry;
use logwood_btree::verify::{Derived, DerivedSegment};

use super::layout::{log_key, snapshot_key};
use super::lineage::LocalLineage;
use super::object::{Parent, SnapshotObject};
use super::read::entries::{Entries, Reached};
use super::read::history::starts;
use super::read::plan::{Base, Plan, lost_snapshot};
use super::read::{Archive, FETCHING, Point};
use super::store::Client;
use crate::ahead::Ahead;
use crate::planted::{Bug, planted};
use crate::seed::log::SeededLog;
use crate::seed::{Origin, OriginKind, Seed, refuse_inside};
use crate::state::EngineState;

mod hold;
mod options;
mod partial;
#[cfg(test)]
mod tests;

pub(super) use hold::Holds;
pub use options::{RestoreOptions, RestoreProgress, RestoreReport, RestoreStep};

impl Archive {
    /// Restores a database into a directory that does not exist, is empty, or holds what an earlier attempt left.
    ///
    /// ```
    /// use logwood::archive::{Archive, ArchiveOptions, RestoreOptions, StoreOptions};
    /// use logwood::{Database, Environment, Options};
    ///
    /// # let directory = tempfile::tempdir()?;
    /// let url = format!("file://{}", directory.path().join("archive").display());
    /// let db = Database::open(directory.path().join("db"), Options::new())?;
    /// let archiver = db.archive(ArchiveOptions::to(&url))?;
    /// db.ensure_keyspace("default")?.put(b"key", b"value")?;
    /// archiver.flush()?;
    ///
    /// let archive = Archive::open(&url, &StoreOptions::new(), &Environment::system()?)?;
    /// let report = archive.restore(directory.path().join("restored"), &RestoreOptions::new())?;
    /// assert_eq!(report.lsn, db.visible_lsn());
    /// let restored = Database::open(directory.path().join("restored"), Options::new())?;
    /// assert_eq!(restored.keyspace("default")?.get(b"key")?.as_deref(), Some(&b"value"[..]));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// - `ArchiveCorrupt`: an object that is needed is damaged or missing; it names the key and the entries.
    /// - `NotFound`: the archive does not hold the point, the lineage or the keyspace.
    /// - `ArchiveUnavailable`, `DiskFull`, `Io`: the same call goes on where this one stopped.
    /// - `AlreadyExists`, `AlreadyOpen`, `InvalidArgument`: for the directory, which must not lie inside of a database or an
    ///   archive either; `InvalidArgument` also for options, or where the archive is one of several databases and no lineage is
    ///   named. Nothing was changed.
    /// - `UnsupportedFormat`: archived by a newer version.
    pub fn restore(&self, to: impl AsRef<Path>, options: &RestoreOptions) -> Result<RestoreReport> {
        options.check_database()?;
        refuse_inside(&*self.environment.disk, to.as_ref())?;
        match &options.keyspace {
            Some(keyspace) => partial::restore(self, to.as_ref(), keyspace, options),
            None if options.from.is_some() || options.to.is_some() => {
                Err(Error::InvalidArgument("a range of keys needs a keyspace".to_owned()))
            }
            None => Restore::begin(self, options)?.run(to.as_ref()),
        }
    }
}

/// A restore at work. The view of one point fills its directory by the same steps.
pub(super) struct Restore<'a> {
    archive: &'a Archive,
    options: &'a RestoreOptions,
    plan: Plan,
    report: RestoreReport,
    /// What the page segments hold, derived while they were in memory.
    derived: Derived,
    started: Duration,
}

/// What a directory is filled from.
pub(super) struct Source {
    pub(super) base: Base,
    pub(super) holds: Holds,
}

impl<'a> Restore<'a> {
    pub(super) fn begin(archive: &'a Archive, options: &'a RestoreOptions) -> Result<Self> {
        let started = archive.environment.clock.monotonic();
        let plan = Plan::new(archive, options.lineage, options.point)?;
        let owner = plan.owner();
        let report = RestoreReport {
            database: owner.database,
            lineage: owner.lineage,
            parent: owner.lineage,
            lsn: Lsn::ZERO,
            time_ms: 0,
            snapshot: None,
            entries: 0,
            segments_fetched: 0,
            segments_kept: 0,
            bytes: 0,
            keyspaces: Vec::new(),
            notes: Vec::new(),
            took: Duration::ZERO,
        };
        Ok(Self { archive, options, plan, report, derived: Derived::default(), started })
    }

    pub(super) fn database(&self) -> DatabaseId {
        self.report.database
    }

    /// Begins with none of these snapshots, for what was found wrong with them.
    pub(super) fn pass_over(&mut self, snapshots: &[(Lsn, Error)]) {
        snapshots.iter().for_each(|(snapshot, damage)| self.plan.pass_over(*snapshot, damage.clone()));
    }

    fn run(mut self, to: &Path) -> Result<RestoreReport> {
        let environment = &self.archive.environment;
        let seed = Arc::new(Seed::begin(environment, to, OriginKind::Restore, self.report.database)?);
        seed.prepare()?;
        let (source, log) = self.fill(&seed, true)?;
        seed.write_manifest(&source.base.trees, &log)?;
        if self.options.verify {
            self.verify(&seed, &source.base)?;
        }
        drop(source.holds);
        self.note_parent(environment, to, log.id, source.base.is_ahead)?;
        let seed =
            Arc::into_inner(seed).ok_or_else(|| Error::Internal("a helper outlived its work".to_owned()))?;
        seed.commit(&self.origin(&log))?;
        self.report.took = self.archive.elapsed(self.started);
        tracing::info!(to = %to.display(), lsn = %self.report.lsn, took = ?self.report.took, "database is restored");
        Ok(self.report)
    }

    /// Writes the log, and the page segments if they are wanted, of the newest snapshot that is whole.
    pub(super) fn fill(&mut self, seed: &Arc<Seed>, pages: bool) -> Result<(Source, SeededLog)> {
        loop {
            let source = self.next_source()?;
            let (log, reached) = match self.write_log(seed, &source.base) {
                Ok(written) => written,
                // Snapshots that the chain has not come to need less of it.
                Err(error) if self.plan.falls_to_ahead(&self.archive.client, &source.base, &error)? => {
                    self.plan.passed_over.push(error);
                    continue;
                }
                Err(error) => return Err(error),
            };
            // A snapshot that the chain does not reach yet, or whose pages are damaged, is not the only one.
            let read = self.check_reach(&source.base, reached).and_then(|()| source.holds.check());
            let filled = read.and_then(|()| match pages {
                true => self.fetch_pages(seed, &source.base),
                false => Ok(()),
            });
            match filled {
                Ok(()) => return Ok((source, log)),
                Err(error @ Error::ArchiveCorrupt(_)) => self.plan.passed_over.push(error),
                Err(error) => return Err(error),
            }
        }
    }

    /// The next best snapshot, held.
    fn next_source(&mut self) -> Result<Source> {
        let base = self.plan.next_base(&self.archive.client)?;
        let holds = Holds::place(self.archive, &self.plan.history, &base)?;
        self.report.notes = self.plan.passed_over.iter().map(ToString::to_string).collect();
        self.report.notes.extend(self.plan.doubts.iter().cloned());
        self.report.notes.extend(holds.note());
        self.report.snapshot = base.snapshot.as_ref().map(SnapshotObject::lsn);
        Ok(Source { base, holds })
    }

    /// Fetches the page segments that are not there yet, and derives what all of them hold.
    fn fetch_pages(&mut self, seed: &Arc<Seed>, base: &Base) -> Result<()> {
        let segments = Arc::new(base.trees.segments.clone());
        let total = segments.iter().map(|segment| u64::from(segment.bytes)).sum();
        (self.report.bytes, self.report.segments_kept, self.report.segments_fetched) = (total, 0, 0);
        self.derived = Derived::default();
        let (client, work, list) = (self.archive.client.clone(), Arc::clone(seed), Arc::clone(&segments));
        let verifies = self.options.verify;
        // Each job also writes and verifies: so that several are at the disk, too, and no body waits in memory.
        let mut fetched = Ahead::new(
            &self.archive.environment,
            FETCHING,
            self.archive.fetching(),
            segments.len(),
            move |at| fetch_page(&client, &work, &list[at], verifies),
        )?;
        let mut done = 0;
        for segment in segments.iter() {
            let Some(found) = fetched.take() else { break };
            let (kept, derived) = found?;
            if kept {
                self.report.segments_kept += 1;
            } else {
                self.report.segments_fetched += 1;
            }
            derived.into_iter().for_each(|derived| self.derived.add(derived));
            done += u64::from(segment.bytes);
            self.options.report(RestoreStep::Pages, done, total);
        }
        Ok(())
    }

    /// Writes the entries behind the base, up to the point. Answers the last of them, too.
    fn write_log(&mut self, seed: &Seed, base: &Base) -> Result<(SeededLog, Option<Reached>)> {
        let trees = &base.trees;
        let options = self.options;
        let wanted = match options.point {
            Point::Lsn(lsn) => lsn.get(),
            _ => 0,
        };
        let progress = Box::new(move |lsn: Lsn| {
            // The point may lie within an object.
            let done = if wanted > 0 { lsn.get().min(wanted) } else { lsn.get() };
            options.report(RestoreStep::Entries, done, wanted);
        });
        let mut entries =
            Entries::new(self.archive, &self.plan.history, trees.replay_from, options.point, progress)?;
        let before = trees.replay_from.previous();
        let written =
            seed.write_log(&options.database, self.report.database, (before, base.term), &mut entries);
        if let (Err(Error::NotFound { .. }), Some(gap)) = (&written, entries.gap_before_point()) {
            // The gap alone does not keep the point from being restored: it was left behind a snapshot.
            let is_ahead = |lsn: &Lsn| self.plan.is_ahead(gap.owner.lineage, *lsn);
            if let Some(missing) = lost_snapshot(&self.archive.client, gap, is_ahead)? {
                return Err(missing);
            }
            if !self.plan.passed_over.is_empty() {
                return Err(self.plan.passed_over.remove(0));
            }
        }
        if let (Err(Error::ArchiveCorrupt(_)), Some(first)) = (&written, entries.first_behind_fork())
            && let Some(unkept) = self.plan.unkept_behind_fork(&self.archive.client, first)?
        {
            return Err(unkept);
        }
        let log = written?;
        self.report.entries = log.entries;
        Ok((log, entries.reached()))
    }

    /// Refuses a log that ends before the snapshot, or before the point.
    fn check_reach(&mut self, base: &Base, reached: Option<Reached>) -> Result<()> {
        let at = base.trees.checkpoint_lsn;
        let last = reached.map_or(base.trees.replay_from.previous(), |reached| reached.lsn);
        if last < at {
            let history = &self.plan.history;
            let lineage = history.stretches[history.stretch_of(last.next())].lineage();
            return Err(super::chain::hole(lineage, last.next(), at.next()).into());
        }
        if let Point::Lsn(wanted) = self.options.point
            && last < wanted
        {
            // Where not even the first entry is there, it is not the archive that ends.
            if let Some(damage) = self.plan.passed_over.first().filter(|_| last == Lsn::ZERO) {
                return Err(damage.clone());
            }
            self.check_end(last)?;
            let name = format!("lsn {wanted}, for the archive ends at lsn {last},");
            return Err(Error::NotFound { what: "archived entry", name });
        }
        if last == Lsn::ZERO {
            let name = format!("at or before {}, which lies before the first entry,", self.options.point);
            return Err(Error::NotFound { what: "archived entry", name });
        }
        let of_snapshot = base.snapshot.as_ref().map_or(0, |snapshot| snapshot.time_ms);
        let history = &self.plan.history;
        self.report.parent = history.stretches[history.stretch_of(last)].lineage();
        self.report.lsn = last;
        self.report.time_ms = reached.map_or(of_snapshot, |reached| reached.time_ms);
        Ok(())
    }

    /// That the archive ends where it was read to: a history that forks from further behind tells that it went on, unless it is
    /// closed there.
    fn check_end(&self, last: Lsn) -> Result<()> {
        let (client, history) = (&self.archive.client, &self.plan.history);
        let (lineage, next) = (history.stretches[history.stretch_of(last.next())].lineage(), last.next());
        let parents = starts(client)?.found.into_iter().filter_map(|(start, _)| start.parent);
        let forks = parents.filter(|parent| parent.lineage == lineage).map(|parent| parent.fork_lsn);
        let key = log_key(lineage, next);
        match forks.max().filter(|fork| *fork > last) {
            Some(fork) if client.is_gone(&key)? => {
                let found = format!("none, and a lineage that began behind lsn {fork}");
                Err(ArchiveDamage::new(&key, "chain", "an object", found).taking(next, fork).into())
            }
            _ => Ok(()),
        }
    }

    /// Compares what was restored with what the snapshot says of itself.
    fn verify(&mut self, seed: &Seed, base: &Base) -> Result<()> {
        let options = self.options;
        let derived = std::mem::take(&mut self.derived);
        let found = seed.verify_with(derived, &mut |now| {
            options.report(RestoreStep::Verify, now.bytes_done, now.bytes_total);
        })?;
        let Some(snapshot) = &base.snapshot else { return Ok(()) };
        check_digests(snapshot, &found)?;
        let state = EngineState::decode(&base.trees.engine_state, Path::new(&snapshot.key()))?;
        let name = |id: KeyspaceId| state.keyspaces.iter().find(|(known, _)| *known == id);
        let named = found.into_iter().filter_map(|(id, digest)| Some((name(id)?.1.clone(), digest)));
        self.report.keyspaces = named.collect();
        Ok(())
    }

    /// Tells the restored directory whose child its next lineage is: nobody's, where the snapshot may be of another history than
    /// the log that its lineage goes on with.
    fn note_parent(&self, environment: &Environment, to: &Path, log: LogId, is_ahead: bool) -> Result<()> {
        let parent = Parent { lineage: self.report.parent, fork_lsn: self.report.lsn };
        let note = LocalLineage {
            database: self.report.database,
            log,
            lineage: planted(Bug::KeepLineage).then_some(parent.lineage),
            parent: (!is_ahead).then_some(parent),
            confirmed: None,
        };
        note.write(&*environment.disk, to)
    }

    pub(super) fn origin(&self, log: &SeededLog) -> Origin {
        let mut origin = Origin::new(OriginKind::Restore, self.report.database, LogId(0));
        (origin.log, origin.lsn, origin.time_ms) = (log.id, self.report.lsn, self.report.time_ms);
        origin
    }

    pub(super) fn into_report(self) -> RestoreReport {
        self.report
    }
}

/// Sees to it that a page segment stands in the directory. Answers whether it was there, and what it holds.
fn fetch_page(
    client: &Client,
    seed: &Seed,
    segment: &SegmentEntry,
    verifies: bool,
) -> Result<(bool, Option<DerivedSegment>)> {
    let path = seed.segment_path(segment.number);
    let derive = |bytes: &[u8]| match verifies {
        true => DerivedSegment::of_proven(&path, segment, bytes).map(Some),
        false => Ok(None),
    };
    if let Some(bytes) = seed.read_segment(segment)? {
        return Ok((true, derive(&bytes)?));
    }
    let body = client.page(&segment.hash, segment.bytes)?;
    seed.add_proven(segment, &body, verifies)?;
    Ok((false, derive(&body)?))
}

/// Compares counts and digests that were computed from records with those that a snapshot carries.
fn check_digests(snapshot: &SnapshotObject, found: &[(KeyspaceId, Digest)]) -> Result<()> {
    for stated in &snapshot.digests {
        let Some(expected) = stated.digest.filter(|_| !planted(Bug::SkipDigests)) else { continue };
        let there =
            found.iter().find(|(keyspace, _)| *keyspace == stated.keyspace).map(|(_, digest)| *digest);
        if there != Some(expected) {
            let key = snapshot_key(snapshot.owner.lineage, snapshot.lsn());
            let check = "count and digest of a keyspace";
            let (expected, found) =
                (format!("{expected:?}"), format!("keyspace {}: {there:?}", stated.keyspace));
            return Err(ArchiveDamage::new(&key, check, expected, found).into());
        }
    }
    Ok(())
}
