//! Leaving a gap: giving up what waits, and going on behind a snapshot.
//!
//! The steps and what a crash between them leaves stand in `docs/format/archive.md`, "A gap". In short: the backlog is full
//! and the option says that writes go on, or the log let go of what was not archived; a snapshot goes up; the gap is put
//! that names it; the chain goes on where the snapshot's replay begins. However fast commits are, each gap ends after one
//! snapshot, and the log is not held for it any longer than the backlog may be.

use logwood_base::{Error, Lsn, Result};
use logwood_wal::Hold;

use super::chain::Item;
use super::layout::log_key;
use super::object::{Gap, Kind};
use super::putting::Found;
use super::snapshot::SnapshotJob;
use super::uploader::Uploader;
use super::walk::follow;
use crate::planted::{Bug, planted};

/// A gap's snapshot is begun anew after so many steps in a row that found the store out of reach.
const GAP_FAILURES_MAX: u32 = 8;

impl Uploader {
    /// Leaves a gap when the backlog is full and that is wanted, or when the hold in the log was lost.
    pub(super) fn look_at_backlog(&mut self) {
        if !self.parted && self.hold.as_ref().is_none_or(Hold::is_lost) {
            self.hold = self.source.hold(self.reached().next()).ok();
            if self.hold.is_none() {
                self.part("the log passed its bound and let go of entries that were not archived");
                return;
            }
        }
        if !self.leaves_gaps() || !self.source.with_gate(|gate, committed| gate.is_full(committed)) {
            return;
        }
        let pieces = self.snapshot.as_ref().filter(|_| self.parted).map_or(0, SnapshotJob::pieces);
        if pieces > self.gap_pieces {
            // The snapshot of the gap gets on, and goes on: begun anew whenever the backlog fills, it would never arrive where
            // commits are faster. The log is let go instead, and if it goes, another gap follows this one.
            self.gap_pieces = pieces;
            self.hold = None;
            self.settle_all();
        } else {
            self.part("too much waits to be archived");
        }
    }

    /// Gives up what waits: the chain will go on behind a snapshot.
    pub(super) fn part(&mut self, why: &str) {
        tracing::warn!(lineage = %self.shared.lineage, from = %self.reached().next(), why, "a gap is left in the archive");
        self.parted = true;
        self.gap_pieces = 0;
        self.hold = None;
        self.gathered = None;
        self.waiting_since = None;
        self.snapshot = None;
        self.settle_all();
    }

    /// One step of leaving a gap: a snapshot first, then the object that names what is missing.
    pub(super) fn step_gap(&mut self) -> Result<bool> {
        if planted(Bug::GapBeforeSnapshot) && self.snapshot.is_none() {
            let Some((_, manifest)) = self.source.checkpoint(true)? else { return Ok(false) };
            return self.leave_gap(manifest.replay_from, manifest.checkpoint_lsn).map(|()| true);
        }
        let Some(job) = &mut self.snapshot else {
            // What is committed by now is behind the snapshot that follows.
            self.settle_all();
            // By the entry that it ends with the snapshot is known for one of this history.
            let hold = self.source.hold(self.source.group.first_lsn())?;
            let Some((store, manifest)) = self.source.checkpoint(true)? else {
                let oldest = self.source.group.first_lsn();
                return Err(Error::TooOld { what: "entry", asked: self.reached().next(), oldest });
            };
            let replay_from = manifest.replay_from;
            self.snapshot = Some(SnapshotJob::new(self.chain.owner(), &self.source, store, manifest)?);
            // Held before anything is sent: later checkpoints must not let go of what follows the gap.
            hold.advance(replay_from);
            self.hold = Some(hold);
            return Ok(true);
        };
        if job.has_sent_pages() {
            // Seen before the snapshot stands in the lineage: it may be another history's.
            let key = log_key(self.shared.lineage, self.chain.position().next);
            if let Some(item) =
                self.client.fetch(&key, Kind::Log, |key, bytes| self.chain.decode(key, bytes))?
            {
                self.give_up_snapshot();
                self.meet(item)?;
                return Ok(true);
            }
        }
        match job.step(&self.client, &self.source, &self.shared, &mut self.proven, None) {
            Ok(true) => {}
            Ok(false) => return Ok(true),
            Err(error) => {
                // Begun anew, with a checkpoint of that time: what keeps this one from the archive may be in it. A store out of
                // reach is not in it, and a checkpoint is taken then only now and again.
                let failures = job.failed();
                if !matches!(error, Error::ArchiveUnavailable { .. }) || failures >= GAP_FAILURES_MAX {
                    self.give_up_snapshot();
                }
                return Err(error);
            }
        }
        let (replay_from, lsn) = job.base();
        self.leave_gap(replay_from, lsn)?;
        self.snapshot = None;
        self.since_snapshot = 0;
        // It has looked at all pages.
        self.proof_due = false;
        Ok(true)
    }

    fn leave_gap(&mut self, replay_from: Lsn, snapshot_lsn: Lsn) -> Result<()> {
        let position = self.chain.position();
        if replay_from <= position.next {
            // The log reaches back to the chain's end after all.
            (self.parted, self.base_missing) = (false, None);
            self.hold = self.source.hold(position.next).ok();
            return Ok(());
        }
        let gap = Gap {
            owner: self.chain.owner(),
            first_lsn: position.next,
            last_lsn: replay_from.previous(),
            snapshot_lsn,
            left_ms: self.source.environment.clock.wall_ms(),
            previous: position.link.unwrap_or_default(),
        };
        let encoded = gap.encode();
        match self.put_next(&gap.key(), &encoded, gap.last_lsn)? {
            Found::Ours => {
                let term = self.source.term_before(replay_from);
                self.chain.follow_gap(&gap, encoded.link, term);
                let lost_from = self.lost_from.take();
                self.shared.update(|figures| {
                    // The snapshot's own point is there, and none before, although the log may go on before it.
                    let first = lost_from.map_or(gap.first_lsn, |lost| lost.min(gap.first_lsn));
                    let taken = (first, gap.snapshot_lsn.previous());
                    let status = &mut figures.status;
                    // What the archive has lost was counted when that was seen.
                    status.gaps += u64::from(lost_from.is_none() || status.lost.is_none());
                    status.newest_gap =
                        Some(taken).filter(|(first, last)| first <= last).or(status.newest_gap);
                    if lost_from.is_some() {
                        status.lost = status.newest_gap;
                    }
                });
                (self.parted, self.base_missing) = (false, None);
                self.moved(Some((gap.first_lsn, encoded.link)));
                // By this the next archiver knows the end of the chain, whatever the log lets go of until then.
                self.note(true);
                Ok(())
            }
            Found::Other(item) => self.meet(*item),
        }
    }

    /// Goes on behind what somebody archived after all, if it is of this history. What the log has let go of meanwhile is
    /// known by what stands behind it, if that can be compared.
    fn meet(&mut self, item: Item) -> Result<()> {
        let first = self.source.group.first_lsn();
        if item.reaches() < first && !self.tried.contains(&item.link()) {
            let walked = follow(&self.client, &self.source, self.chain.clone(), None)?;
            if walked.is_known && !walked.ended {
                let reached = walked.chain.position().next.previous();
                (self.chain, self.other) = (walked.chain, walked.other.map(|other| (other, reached)));
                self.parted = false;
                self.moved(walked.confirmed);
                return Ok(());
            }
        }
        self.parted = item.last_lsn().next() < first;
        self.adopt(item)
    }
}
