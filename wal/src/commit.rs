//! Group commit: the threads that wait for their entries write them.
//!
//! A thread that waits for a ticket looks whether the image with its entries is still queued and a place in flight is
//! free. If so it *leads*: under the lock it takes the front image and gives its batches their place and checksums;
//! outside of the lock it writes; under the lock again it marks the image done. There is no hop to another thread and
//! no timer. While one leader's write is on its way, entries of others gather in the next image, and another waiting
//! thread leads that: several leaders are several writes in flight. Images are acknowledged in their order.
//!
//! # How many writes at a time
//! A write costs the processors the same for one commit as for twenty, so commits should share; but while one write is
//! on its way the device could take another. The log knows its *crowd*: how many appends were lately queued or in
//! flight at once. An image is written when nothing is in flight, or when it carries its share of the crowd, a
//! `writes_wanted`-th, so that about so many writes share the crowd evenly. A lone thread and two threads never wait for
//! company; many threads form groups, each led by the thread that makes it complete, which needs no waking.
//! What was measured: `docs/decisions/0006-how-many-writes-at-a-time.md`.
//!
//! # Nobody is forgotten
//! A thread sleeps only when it has seen, under the lock, that it may not lead: something is in flight or exclusive.
//! 1. Everything in flight or exclusive ends in [`Shared::release`], which wakes one thread when one may lead now. With the
//!    last write in flight the share no longer counts: then whatever is queued may be led.
//! 2. An image that grows to its share is led by who made it grow, as soon as that thread waits. If it never does, 1 holds.
//! 3. Who is woken to lead and finds that another thread led first sleeps again, or goes if it is done: that other thread
//!    will release in its turn.
//! 4. Who cannot go on, because the disk is full, wakes the next one, who then is told the same. A log that stops wakes all.
//! 5. Between looking and sleeping nothing is missed: [`logwood_base::sync::Signal`]. An acknowledgement wakes all threads
//!    of an image at once, without the lock, and they go without taking it. Futures are woken by the writer task:
//!    [`crate::calls`].
//!
//! # Rules held here
//! 1. At most `batches_in_flight_max` batches are submitted and not acknowledged.
//! 2. A durable image is written only when no buffered bytes before it are unsynced: they are synced first, by a sync
//!    that nobody else's write overlaps, so that the image carries a `durable_end` behind them.
//! 3. After a write that is waited for, and after a sync, the next batch begins in a fresh block.
//! 4. Every batch carries the position before which everything was synced when it was submitted.
//! 5. A failed write or sync stops the log. It is never tried again. A disk that panics fails too ([`DiskCall`]).
//! 6. What was submitted comes home, be it to a log that has stopped: who closes the log waits for that before anybody
//!    else may open it, or a write of the old handle would go over what the new one wrote.
//!
//! Buffered images are written under the lock: a single call into the page cache, in order.

use logwood_base::sync::atomic::Ordering;
use logwood_base::sync::{Arc, MutexGuard};
use logwood_base::{LogPosition, Result};

use crate::calls::Calls;
use crate::disk_call::DiskCall;
use crate::format::batch::{self, BatchFields, Kind, Placement};
use crate::format::{BLOCK, block_up};
use crate::image::{Body, Frame, Image};
use crate::index::Run;
use crate::mutants::planted;
use crate::segment::Segment;
use crate::shared::{InFlight, Shared, State};

/// An image with its place.
pub(crate) struct Placed {
    pub(crate) segment: Arc<Segment>,
    pub(crate) offset: u32,
    pub(crate) image: Image,
}

impl Shared {
    /// Waits until an image is acknowledged, and leads when nobody else has written it.
    pub(crate) fn wait(&self, sequence: u64) -> Result<()> {
        if self.is_acknowledged(sequence) {
            return Ok(());
        }
        let mut state = self.state.lock();
        loop {
            if self.is_acknowledged(sequence) {
                return Ok(());
            }
            if let Some(poison) = &state.poison {
                return Err(poison.clone());
            }
            let queued = state.queued(sequence).is_some();
            if queued && self.can_lead(&state) {
                self.lead(state)?;
                if self.is_acknowledged(sequence) {
                    return Ok(());
                }
                state = self.state.lock();
                continue;
            }
            let Some(round) = state.round_of(sequence) else {
                return Err(logwood_base::Error::Closed);
            };
            let seen = round.signal.count();
            if let Some(image) = state.queued(sequence) {
                image.waiters += 1;
            }
            drop(state);
            round.signal.wait(seen);
            // Most are woken because it is done: they go without the lock.
            if self.is_acknowledged(sequence) {
                return Ok(());
            }
            state = self.state.lock();
            if let Some(image) = state.queued(sequence) {
                image.waiters -= 1;
            }
        }
    }

    /// Whether the front image may be submitted now.
    pub(crate) fn can_lead(&self, state: &State) -> bool {
        let Some(front) = state.queue.front() else { return false };
        let batches = state.batches_in_flight;
        !state.exclusive
            && state.poison.is_none()
            && (batches == 0
                || (batches + front.frames.len() <= self.options.batches_in_flight_max
                    && self.is_worth_a_write(state, front)))
    }

    /// Whether the front image is worth a write of its own while others are on their way: it is full, costs next to
    /// nothing, or carries its share of the crowd.
    fn is_worth_a_write(&self, state: &State, front: &Image) -> bool {
        !front.open || !front.durable || front.appends * self.writes_wanted >= state.crowd.appends()
    }

    /// Does one piece of work for the front image: syncs what precedes it, goes on in the next segment, or writes
    /// it. The caller has checked [`Shared::can_lead`]. Nobody is left asleep who could lead next, also when it fails.
    pub(crate) fn lead(&self, mut state: MutexGuard<'_, State>) -> Result<()> {
        let Some(front) = state.queue.front() else { return Ok(()) };
        let (durable, room) = (front.durable, front.room());
        if durable && state.dirty && !planted!(self.options, SkipSyncOfBuffered) {
            self.sync_buffered(state);
            return Ok(());
        }
        if room > state.room() {
            let rolled = self.roll(state);
            if rolled.is_err() {
                // Without room for a segment each of the waiting threads has to be told.
                self.release(self.state.lock(), Calls::default());
            }
            return rolled;
        }
        let Some(mut image) = state.queue.pop_front() else { return Ok(()) };
        image.open = false;
        let (state, calls) =
            if durable { self.write_durable(state, image) } else { self.write_buffered(state, image) };
        self.release(state, calls);
        Ok(())
    }

    /// Writes an image and waits until it is durable, outside of the lock.
    pub(crate) fn write_durable<'a>(
        &'a self,
        mut state: MutexGuard<'a, State>,
        mut image: Image,
    ) -> (MutexGuard<'a, State>, Calls) {
        let fresh_blocks = !planted!(self.options, NoFreshBlock);
        // Then it is the closing seal, by who rolls.
        let exclusive = state.exclusive;
        let placed_bytes = image.bytes.len();
        let (segment, offset, flight) = self.place(&mut state, &mut image);
        if fresh_blocks {
            image.bytes.pad_to(block_up(placed_bytes as u32) as usize);
            state.tail = offset + image.bytes.len() as u32;
        }
        state.figures.durable_writes += 1;
        let queued = state.queue.iter().map(|image| image.appends).sum();
        state.crowd.submitted(image.appends, queued);
        self.release(state, Calls::default());
        let placed = Placed { segment, offset, image };
        let call = DiskCall::begin(self, Some(flight), exclusive);
        let written = self.submit(&placed);
        let mut state = call.end();
        state.give_back(placed.image.bytes, self.options.batch_limit());
        let calls = self.complete(&mut state, flight, written);
        (state, calls)
    }

    /// The one durable write of a commit.
    fn submit(&self, placed: &Placed) -> Result<()> {
        let offset = u64::from(placed.offset);
        if planted!(self.options, AcknowledgeBeforeSync) {
            return placed.segment.file.write_at(offset, &placed.image.bytes);
        }
        let written = placed.segment.file.write_durable(offset, &placed.image.bytes);
        if written.is_err() && planted!(self.options, RetryFailedSync) {
            return placed.segment.file.sync();
        }
        written
    }

    /// Writes an image into the page cache, under the lock.
    fn write_buffered<'a>(
        &'a self,
        mut state: MutexGuard<'a, State>,
        mut image: Image,
    ) -> (MutexGuard<'a, State>, Calls) {
        let (segment, offset, flight) = self.place(&mut state, &mut image);
        state.dirty = true;
        // The first bytes in a block are written with the rest of it: of a block that is not in the page cache, a part
        // cannot be written before the disk has been read. The tail stays exact, and what follows goes over the zeros.
        let end = offset + image.bytes.len() as u32;
        if end - end % BLOCK >= offset {
            image.bytes.pad_to((block_up(end) - offset) as usize);
        }
        let call = DiskCall::begin_locked(self, state, flight);
        let written = segment.file.write_at(u64::from(offset), &image.bytes);
        let mut state = call.end();
        state.give_back(image.bytes, self.options.batch_limit());
        let calls = self.complete(&mut state, flight, written);
        (state, calls)
    }

    /// Syncs buffered bytes, alone. The next batch begins in a fresh block even if the sync fails.
    pub(crate) fn sync_buffered(&self, mut state: MutexGuard<'_, State>) {
        state.exclusive = true;
        state.tail = block_up(state.tail);
        state.figures.syncs += 1;
        let segment = Arc::clone(state.current());
        let end = state.end;
        drop(state);
        let call = DiskCall::begin(self, None, true);
        let synced = segment.file.sync();
        let mut state = call.end();
        let calls = match synced {
            Err(error) => self.stop(&mut state, &error),
            Ok(()) => {
                while !state.in_flight.is_empty() && state.poison.is_none() {
                    self.drained.wait(&mut state);
                }
                // Nothing was submitted meanwhile: what is stored now was written before the sync.
                if state.poison.is_none() {
                    state.dirty = false;
                    state.durable_end = state.durable_end.max(end);
                    state.groups.values_mut().for_each(|group| group.durable = group.stored);
                }
                Calls::default()
            }
        };
        state.exclusive = false;
        self.drained.notify_all();
        self.release(state, calls);
    }

    /// Gives an image's batches their place: checksums, index, records. The image is in flight from here on.
    pub(crate) fn place(&self, state: &mut State, image: &mut Image) -> (Arc<Segment>, u32, u64) {
        let segment = Arc::clone(state.current());
        let offset = state.tail;
        let durable_end =
            if planted!(self.options, NoDurableEnd) { LogPosition::ZERO } else { state.durable_end };
        let (mut reached, mut copied) = (Vec::with_capacity(1), Vec::new());
        for frame in &image.frames {
            let at = offset + frame.start as u32;
            let seed = match planted!(self.options, UnseededChecksum) {
                true => logwood_base::checksum::Seed::new(),
                false => segment.seed_at(at),
            };
            let placement = Placement { durable_end, previous_crc: state.previous_crc };
            let bytes = &mut image.bytes[frame.start..frame.end];
            state.previous_crc = batch::finish(bytes, &frame.fields, &placement, seed);
            let end = offset + frame.end as u32;
            note_placed(state, frame, &segment, (at, end));
            let BatchFields { kind, group, first_lsn, .. } = frame.fields;
            match kind {
                Kind::Append => reached.push((group, frame.epoch, frame.fields.last_lsn())),
                Kind::Base => reached.push((group, frame.epoch, first_lsn)),
                Kind::Copy => {
                    let start = LogPosition::new(segment.number, at);
                    copied.push((group, frame.epoch, run_of(frame, start, end)));
                }
                Kind::State | Kind::Seal => {}
            }
        }
        let end = offset + image.bytes.len() as u32;
        state.tail = end;
        state.end = LogPosition::new(segment.number, end);
        state.batches_in_flight += image.frames.len();
        state.figures.batches += image.frames.len() as u64;
        let flight = state.next_flight;
        state.next_flight += 1;
        state.in_flight.push_back(InFlight {
            flight,
            sequence: image.sequence,
            batches: image.frames.len(),
            appends: image.appends,
            end: state.end,
            durable: image.durable,
            done: false,
            proves: image.frames.iter().all(|frame| frame.fields.kind == Kind::Seal),
            round: Arc::clone(&image.round),
            reached,
            copied,
        });
        (segment, offset, flight)
    }

    /// Marks an image done and acknowledges, in order, what can be. When its write failed, the log stops.
    fn complete(&self, state: &mut State, flight: u64, written: Result<()>) -> Calls {
        state.came_home(flight);
        if let Err(error) = written {
            return self.stop(state, &error);
        }
        let mut calls = Calls::default();
        while state.in_flight.front().is_some_and(|flight| flight.done) && state.poison.is_none() {
            let Some(flight) = state.in_flight.pop_front() else { break };
            state.batches_in_flight -= flight.batches;
            if flight.durable {
                state.crowd.came_home(flight.appends);
            }
            if flight.durable {
                state.durable_end = flight.end;
            }
            for (id, epoch, lsn) in &flight.reached {
                if let Some(group) = state.groups.get_mut(id).filter(|group| group.epoch == *epoch) {
                    group.stored = group.stored.max(*lsn);
                    if flight.durable {
                        group.durable = group.durable.max(*lsn);
                    }
                }
            }
            for (id, epoch, run) in &flight.copied {
                if let Some(group) = state.groups.get_mut(id).filter(|group| group.epoch == *epoch) {
                    group.log.index.replace_above(group.placed.base.0, *run);
                }
            }
            self.acknowledged.store(flight.sequence, Ordering::Release);
            calls.everybody(&flight.round, &mut state.futures);
            state.unproven = !flight.proves;
        }
        if state.is_home() && (state.exclusive || state.poison.is_some()) {
            self.drained.notify_all();
        }
        calls
    }

    /// Releases the lock, then calls who is to lead next and who waits to be told; and once a segment, when it has begun
    /// to fill, who prepares the next ones.
    pub(crate) fn release(&self, mut state: MutexGuard<'_, State>, mut calls: Calls) {
        let current = Some(state.current().number);
        if state.keeper_called != current && self.wants_segment(&state) {
            state.keeper_called = current;
            calls.keeper_task();
        }
        if self.can_lead(&state) {
            if let Some(image) = state.queue.iter().find(|image| image.waiters > 0) {
                calls.one_of(&image.round);
            } else if state.queue.iter().any(|image| image.polled) {
                calls.writer_task();
            }
        }
        drop(state);
        calls.make(self);
    }
}

/// What a batch changes now that it has its place.
fn note_placed(state: &mut State, frame: &Frame, segment: &Arc<Segment>, (at, end): (u32, u32)) {
    let start = LogPosition::new(segment.number, at);
    let fields = &frame.fields;
    let Some(group) = state.groups.get_mut(&fields.group) else { return };
    let placed = &mut group.placed;
    placed.committed = placed.committed.max(fields.commit_lsn);
    match (&frame.body, fields.kind) {
        (Body::Entries, Kind::Append) => {
            placed.append_term = fields.append_term;
            placed.last = (fields.last_lsn(), frame.last_term);
            group.log.index.append(run_of(frame, start, end));
        }
        // Until copies are written, their entries are read where they stood before.
        (Body::Entries, _) => {}
        (Body::Base { membership, keeps_entries }, _) => {
            placed.base = (fields.first_lsn, fields.prev_term);
            placed.append_term = placed.append_term.max(fields.prev_term);
            if *keeps_entries {
                placed.committed = placed.committed.max(fields.first_lsn);
                group.log.index.drop_to(fields.first_lsn);
            } else {
                placed.last = placed.base;
                placed.committed = fields.first_lsn;
                group.log.index.clear();
            }
            if !keeps_entries || membership.0 >= placed.membership.0 {
                placed.membership = membership.clone();
            }
        }
        (Body::State { vote, membership }, _) => {
            placed.vote = *vote;
            placed.membership = membership.clone();
            if group.state_at.len() >= 2 {
                group.state_at.clear();
            }
            group.state_at.push((Arc::clone(segment), at, end));
        }
        (Body::Seal, _) => {}
    }
}

/// Where the entries of a frame stand.
fn run_of(frame: &Frame, start: LogPosition, end: u32) -> Run {
    let (first, last) = (frame.fields.first_lsn, frame.fields.last_lsn());
    Run { first, last, start, end, bytes: end - start.offset, closed: false }
}
