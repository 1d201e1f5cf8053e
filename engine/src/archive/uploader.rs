//! The log's way into the chain: gather, check, put, read back, let go.
//!
//! One step does a bounded piece of work and a few requests: one object of the log, and where there is none to put, or now
//! and again beside them, one piece of a snapshot. What must hold at the end of each, and at a crash within, stands in
//! `docs/format/archive.md`, "Uploading entries". In short:
//!
//! | after the put the key shows | then |
//! |---|---|
//! | exactly what was put | confirmed: the hold in the log moves behind it |
//! | another object of this chain | compared with the log here; equal: confirmed as far as entries are decided |
//! | a gap that another one left | the entry that its snapshot ends with is compared; the end of a database's log lies before it: `Fenced` |
//! | what closes the lineage | `Fenced`: another one has superseded it |
//! | one with other entries | `Fenced`: this archiver writes nothing more |
//! | nothing, and the put was refused | a stray refusal: put again, a few times |
//! | nothing, and the put failed | the failure is the answer; the next step tries again |
//! | nothing, although the put was answered | `ArchiveCorrupt` |
//!
//! # Invariants
//! 1. Everything below `chain.position().next` is in the chain, as it is in the log here, or in a gap.
//! 2. The hold in the log is never beyond what was read back.
//! 3. Nothing is gathered that is not decided.

use std::time::Duration;

use logwood_base::sync::Arc;
use logwood_base::{Error, Lsn, Result};
use logwood_wal::Hold;

use super::chain::{Chain, Item};
use super::lineage::LocalLineage;
use super::object::{Link, LogManifest, LogWriter};
use super::options::ArchiveOptions;
use super::putting::Found;
use super::snapshot::{Proven, SnapshotJob};
use super::source::Source;
use super::status::Shared;
use super::store::Client;

/// After so many objects, or so much time, the place in the chain is noted in the directory.
const NOTE_OBJECTS: u64 = 64;
const NOTE_TIME: Duration = Duration::from_secs(60);

/// However many entries wait, a piece of a snapshot follows so many objects of the log: one that never got on where commits are as
/// fast as the archive would never be there, and with it the log that it bounds. It costs the log no more than a fifth.
const OBJECTS_A_PIECE: u32 = 4;

/// One archiver's work. Stepped by its task and by flushes, one at a time.
#[derive(Debug)]
pub(super) struct Uploader {
    pub(super) client: Client,
    pub(super) source: Source,
    pub(super) options: ArchiveOptions,
    pub(super) shared: Arc<Shared>,
    pub(super) chain: Chain,
    /// Absent while a gap is being left.
    pub(super) hold: Option<Hold>,
    /// Entries up to here do not count as backlog: they were there before the archiver, or are settled.
    pub(super) attached_at: Lsn,
    pub(super) gathered: Option<LogWriter>,
    /// Bytes of the gathered entries that commits counted.
    pub(super) counted: u64,
    /// When the oldest gathered entry was gathered.
    pub(super) waiting_since: Option<Duration>,
    /// When buffered commits were first seen that nobody has made durable.
    pub(super) unsynced_since: Option<Duration>,
    /// An object of somebody else, and up to where it was compared.
    pub(super) other: Option<(Item, Lsn)>,
    /// What this archiver has tried to put at its place in the chain, the newest last: any of it may take effect late.
    pub(super) tried: Vec<Link>,
    /// The log does not reach back to the chain's end any more.
    pub(super) parted: bool,
    /// How far the snapshot of a gap was when the backlog was full last.
    pub(super) gap_pieces: u64,
    /// The chain begins here, behind entries that nobody archived, and has no snapshot yet to begin with.
    pub(super) base_missing: Option<Lsn>,
    /// From here on the archive has lost what this directory had confirmed, and the log does not have it any more: no point can be
    /// restored before that of the snapshot with which the chain goes on.
    pub(super) lost_from: Option<Lsn>,
    pub(super) snapshot: Option<SnapshotJob>,
    /// Snapshots that failed since one was finished, and when the next one is due at the earliest, by the monotonic clock.
    pub(super) put_off: (u32, Duration),
    /// Objects of the log since the last piece of a snapshot, or since there was none of both to do.
    pub(super) objects_in_a_row: u32,
    /// `None` when page segments that are there already are not read.
    pub(super) proven: Option<Proven>,
    /// No snapshot was taken yet by an archiver that reads them.
    pub(super) proof_due: bool,
    /// Bytes of entries archived since the last snapshot.
    pub(super) since_snapshot: u64,
    pub(super) local: LocalLineage,
    pub(super) noted: (Duration, u64),
    /// When an object was put last, by the monotonic clock, and the time of its newest entry.
    pub(super) certain_at: (Duration, u64),
    /// When it was looked last whether the lineage's start is there, by the monotonic clock.
    pub(super) start_seen: Duration,
    /// Why nothing more is done.
    pub(super) fenced: Option<Error>,
}

/// The answer to whoever writes to a lineage that has ended.
pub(super) fn ended(key: String) -> Error {
    let reason =
        "another lineage has superseded it, and retention lets go of it: attach another archiver".to_owned();
    Error::Fenced { key, reason }
}

impl Uploader {
    /// Does a piece of work, if there is one that is due. `now`: everything decided is due.
    pub(super) fn step(&mut self, now: bool) -> Result<bool> {
        self.step_both(now, now)
    }

    /// As [`Uploader::step`], where it is told apart what is due: what waits of the log, and a snapshot that was put off.
    fn step_both(&mut self, log_now: bool, snapshot_now: bool) -> Result<bool> {
        if let Some(fenced) = &self.fenced {
            return Err(fenced.clone());
        }
        let stepped = self.step_log(log_now).and_then(|did| {
            self.objects_in_a_row += u32::from(did);
            // Where the chain has nothing to begin with, its entries are of no use until then.
            let most = if self.base_missing.is_some() { 1 } else { OBJECTS_A_PIECE };
            if did && self.objects_in_a_row < most {
                return Ok(true);
            }
            self.objects_in_a_row = 0;
            self.step_snapshot(snapshot_now).map(|did_snapshot| did || did_snapshot)
        });
        let stepped = self.heed(stepped);
        if stepped.is_ok() {
            self.note(false);
        }
        stepped
    }

    /// Stops for good when a step was refused for that.
    fn heed(&mut self, stepped: Result<bool>) -> Result<bool> {
        if let Err(error @ Error::Fenced { .. }) = &stepped {
            tracing::error!(%error, "the archiver stops");
            self.fenced = Some(error.clone());
            self.shared.update(|figures| figures.status.stopped = Some(error.to_string()));
            self.let_go();
        }
        stepped
    }

    /// Gives up what this archiver, which will do nothing more, holds. Where a full backlog stops writes, the log stays for
    /// the next archiver, as far as that; where it does not, nothing else would ever bound it.
    fn let_go(&mut self) {
        self.gathered = None;
        // The files of its checkpoint stay no longer; what it has put in the archive is ignored after a week.
        self.snapshot = None;
        if self.leaves_gaps() {
            self.hold = None;
        }
    }

    /// Keeps the log for the next archiver.
    pub(super) fn keep(&self) -> Option<Hold> {
        self.source.keep(self.first_comparable())
    }

    /// Where the log is to begin: with the last object that was confirmed, by which the next archiver knows that the end of the
    /// chain is of this history. What `LINEAGE` notes may be older.
    fn first_comparable(&self) -> Lsn {
        self.shared.figures().confirmed.map_or(self.reached().next(), |(first, _)| first)
    }

    /// Whether a full backlog leaves a gap instead of stopping writes.
    pub(super) fn leaves_gaps(&self) -> bool {
        self.options.leave_gaps && self.source.decides_alone()
    }

    /// Archives everything that was committed before the call.
    pub(super) fn flush(&mut self) -> Result<Lsn> {
        self.source.sync()?;
        let goal = self.source.decided();
        while self.base_missing.is_some() || self.reached() < goal {
            // What is committed from here on goes up when it is due by itself: else this would not end while somebody commits. Up
            // to there a snapshot that fails is no failure.
            let is_reached = self.reached() >= goal;
            if !self.step_both(!is_reached, is_reached)? {
                break;
            }
        }
        if self.options.background {
            return Ok(self.reached());
        }
        loop {
            if let Some(fenced) = &self.fenced {
                return Err(fenced.clone());
            }
            let stepped = self.step_snapshot(true);
            if !self.heed(stepped)? {
                return Ok(self.reached());
            }
        }
    }

    /// Up to here, everything that is in the log here is in the archive.
    pub(super) fn reached(&self) -> Lsn {
        match &self.other {
            Some((_, compared)) => *compared,
            None => self.chain.position().next.previous(),
        }
    }

    pub(super) fn now(&self) -> Duration {
        self.source.environment.clock.monotonic()
    }

    fn step_log(&mut self, now: bool) -> Result<bool> {
        self.look_at_backlog();
        if self.parted {
            return self.step_gap();
        }
        self.sync_when_due(now)?;
        if self.other.is_some() {
            return self.step_other();
        }
        self.gather()?;
        if self.parted {
            return Ok(true);
        }
        let Some(gathered) = self.gathered.as_ref().filter(|gathered| !gathered.is_empty()) else {
            self.rest();
            return Ok(false);
        };
        let since = *self.waiting_since.get_or_insert(self.source.environment.clock.monotonic());
        self.shared.update(|figures| figures.behind_since = figures.behind_since.or(Some(since)));
        let waited = self.now().saturating_sub(since);
        if gathered.bytes() < self.options.object_bytes && waited < self.options.interval && !now {
            return Ok(false);
        }
        self.upload()?;
        Ok(true)
    }

    /// Nothing can be gathered: when nothing is committed beyond, nothing waits.
    fn rest(&self) {
        let now = self.now();
        if self.reached() >= self.source.group.appended_lsn() {
            self.shared.update(|figures| figures.caught_up = Some(now));
        }
    }

    /// Buffered commits wait for a sync of their own no longer than for their archiving.
    fn sync_when_due(&mut self, now: bool) -> Result<()> {
        if !self.source.decides_alone() || self.source.group.appended_lsn() <= self.source.decided() {
            self.unsynced_since = None;
            return Ok(());
        }
        let since = *self.unsynced_since.get_or_insert(self.source.environment.clock.monotonic());
        if now || self.now().saturating_sub(since) >= self.options.interval {
            self.unsynced_since = None;
            match self.source.sync() {
                // What is durable is archived all the same.
                Err(Error::DiskFull { .. } | Error::Poisoned { .. }) => {}
                other => other?,
            }
        }
        Ok(())
    }

    /// Takes decided entries in, until an object is full.
    fn gather(&mut self) -> Result<()> {
        let (position, decided) = (self.chain.position(), self.source.decided());
        let mut gathered = match self.gathered.take() {
            Some(gathered) => gathered,
            None => {
                let before = (position.term, position.time_ms);
                LogWriter::new(self.chain.owner(), position.next, before)
            }
        };
        let outcome = self.fill(&mut gathered, decided);
        self.gathered = Some(gathered);
        match outcome {
            Err(Error::TooOld { .. }) => {
                self.part("the log let go of entries that were not archived");
                Ok(())
            }
            other => other,
        }
    }

    fn fill(&mut self, gathered: &mut LogWriter, decided: Lsn) -> Result<()> {
        if gathered.is_empty() {
            self.counted = 0;
        }
        while gathered.bytes() < self.options.object_bytes && gathered.next_lsn() <= decided {
            let entries = self.source.read(gathered.next_lsn(), decided)?;
            if entries.is_empty() {
                break;
            }
            for entry in entries {
                if gathered.bytes() >= self.options.object_bytes || !gathered.has_room(entry.payload.len()) {
                    return Ok(());
                }
                gathered.push(entry.lsn, entry.term, &entry.payload)?;
                if entry.lsn > self.attached_at {
                    self.counted += entry.payload.len() as u64;
                }
            }
        }
        Ok(())
    }

    /// Puts what is gathered and finds out what stands there then.
    fn upload(&mut self) -> Result<()> {
        let Some(gathered) = &self.gathered else { return Ok(()) };
        let link = self.chain.position().link.unwrap_or_default();
        let (manifest, encoded) = gathered.finish(link);
        let bytes = gathered.bytes() as u64;
        match self.put_next(&manifest.key(), &encoded, manifest.last_lsn)? {
            Found::Ours => self.confirm(&manifest, encoded.link, bytes, encoded.bytes.len() as u64),
            Found::Other(item) => self.adopt(*item)?,
        }
        Ok(())
    }

    /// An object of this archiver was read back.
    fn confirm(&mut self, manifest: &LogManifest, link: Link, bytes: u64, object_bytes: u64) {
        self.chain.follow_log(manifest, link);
        self.shared.update(|figures| {
            figures.status.objects += 1;
            figures.status.entries_bytes += bytes;
            figures.status.object_bytes += object_bytes;
        });
        self.since_snapshot += bytes;
        self.source.with_gate(|gate, _| gate.settle(self.counted));
        self.moved(Some((manifest.first_lsn, link)));
    }

    /// The place in the chain moved: the log may let go, and it is told.
    pub(super) fn moved(&mut self, confirmed: Option<(Lsn, Link)>) {
        self.gathered = None;
        self.waiting_since = None;
        let reached = self.reached();
        // What was counted before the end of the log is looked at has its entry before that end.
        let counted = self.source.with_gate(|_, committed| committed);
        if reached >= self.source.group.appended_lsn() {
            self.source.with_gate(|gate, _| gate.settle_all(counted));
            self.attached_at = self.attached_at.max(reached);
            self.rest();
        }
        let behind = self.source.decided() > reached;
        let now = self.now();
        let archived_ms = Some(self.chain.position().time_ms).filter(|time_ms| *time_ms > 0);
        self.shared.update(|figures| {
            figures.status.archived = reached;
            figures.confirmed = confirmed.or(figures.confirmed);
            figures.behind_since = behind.then_some(now);
            figures.archived_ms = archived_ms.or(figures.archived_ms);
            figures.status.failing = None;
        });
        if let Some(hold) = &self.hold {
            hold.advance(self.first_comparable());
        }
        if confirmed.is_some() {
            self.tried.clear();
            self.noted.1 += 1;
            // By the time of the newest entry: old ones, put now, make nobody's lineage young.
            self.certain_at = (now, self.chain.position().time_ms);
        }
    }

    /// Counts nothing that was committed so far as waiting, nor as archived when it is.
    pub(super) fn settle_all(&mut self) {
        // What is committed in between is waited for, and may be counted twice: the bound errs on the side of less.
        let appended = self.source.group.appended_lsn();
        self.source.with_gate(|gate, committed| gate.settle_all(committed));
        self.attached_at = self.attached_at.max(appended);
    }

    /// Notes the place in the chain in the directory: a hint for the next archiver, so that a failure is no failure.
    pub(super) fn note(&mut self, always: bool) {
        let (at, objects) = self.noted;
        let now = self.now();
        if objects == 0 || !(always || objects >= NOTE_OBJECTS || now.saturating_sub(at) >= NOTE_TIME) {
            return;
        }
        if self.source.check_open().is_err() {
            return;
        }
        self.noted = (now, 0);
        self.local.confirmed = self.shared.figures().confirmed;
        let disk = &*self.source.environment.disk;
        if let Err(error) = self.local.write(disk, &self.source.root) {
            tracing::warn!(%error, "the place in the archive was not noted");
        }
    }
}
