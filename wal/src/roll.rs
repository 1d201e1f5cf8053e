//! Going on in the next segment, and preparing segments ahead.
//!
//! # A roll from segment k to k + 1
//! 1. In the background, long before: `k+1.log` is written with zeros (or renamed from a file that is no longer
//!    needed), synced, and its name is synced.
//! 2. Nobody submits any more. Buffered bytes of k are synced.
//! 3. The closing seal, which names k + 1, is written durably as one more batch of k.
//! 4. The last writes in flight come home. Now k, its seal included, is wholly synced.
//! 5. The header of k + 1 with the group table, and behind it a second copy of every vote, are written durably.
//! 6. Behind the closing seal one more is written durably, which says that the header of k + 1 is durable.
//! 7. Batches go to k + 1.
//!
//! A crash before 3 leaves k open at its end. After 3 the log ends in k; that k + 1 exists without a header says that
//! nothing in it was acknowledged. After 5 the header bounds k. After 6 a k + 1 without a header has lost it. Commits wait
//! for three writes: steps 3, 5 and 6.

use std::time::Duration;

use logwood_base::limits::LOG_SEGMENT_BYTES_MIN;
use logwood_base::sync::atomic::Ordering;
use logwood_base::sync::{Arc, MutexGuard};
use logwood_base::{Error, GroupId, LogPosition, Result};

use crate::append::{new_image, other_fields};
use crate::calls::Calls;
use crate::disk_call::DiskCall;
use crate::format::batch::Kind;
use crate::format::batch::{self, Placement, SEAL_BYTES};
use crate::format::header::{GroupRecord, SegmentHeader};
use crate::format::{BLOCK, block_up};
use crate::image::{Body, Image};
use crate::log::FIRST_SEGMENT_BYTES_MAX;
use crate::mutants::planted;
use crate::recovery::{Identity, Records};
use crate::segment::{Prepared, Segment, create_written, recycle};
use crate::shared::{Shared, State};

/// How long the preparation of a segment rests between two pieces, while nobody waits for it: a durable commit flushes the
/// device, and the flush waits for what was written before it.
const ZEROS_REST: Duration = Duration::from_micros(500);

/// A header with the state copies behind it, ready to be written at the start of a segment.
pub(crate) struct Opening {
    pub(crate) bytes: logwood_base::AlignedBuffer,
    pub(crate) end: u32,
    pub(crate) crc: u32,
}

impl Shared {
    /// Goes on in the next segment. The caller holds no image.
    ///
    /// # Errors
    /// `DiskFull` when no segment can be prepared: the log is as before.
    pub(crate) fn roll<'a>(&'a self, mut state: MutexGuard<'a, State>) -> Result<()> {
        if state.dirty {
            // Its own piece of work; whoever leads comes back here.
            self.sync_buffered(state);
            return Ok(());
        }
        let Some(next) = state.prepared.pop_front() else {
            drop(state);
            return self.prepare_segment(|state| state.prepared.is_empty());
        };
        self.roll_into(state, next);
        Ok(())
    }

    /// Steps 3 to 7. Nothing that was written is buffered, and nobody else rolls.
    fn roll_into<'a>(&'a self, mut state: MutexGuard<'a, State>, next: Prepared) {
        state.exclusive = true;
        // The seal is a batch in flight like any other, and takes the place that the image which led here would have had.
        // The lock is held since that was looked at: nothing can have failed in between, and no seal follows a failure.
        debug_assert!(state.poison.is_none() && state.batches_in_flight < self.options.batches_in_flight_max);
        state = self.write_closing_seal(state, &next);
        state = self.drain(state);
        if state.poison.is_none() {
            state = self.begin_segment(state, next);
        }
        state.exclusive = false;
        self.drained.notify_all();
        self.release(state, Calls::default());
    }

    /// Waits until nothing is in flight. The caller has made the log exclusive.
    fn drain<'a>(&'a self, mut state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        while !state.in_flight.is_empty() && state.poison.is_none() {
            self.drained.wait(&mut state);
        }
        state
    }

    /// Step 3: the seal is numbered in front of what is queued, because it is placed before it.
    fn write_closing_seal<'a>(
        &'a self,
        mut state: MutexGuard<'a, State>,
        next: &Prepared,
    ) -> MutexGuard<'a, State> {
        let buffer = state.spare.pop().unwrap_or_default();
        // It is acknowledged together with what precedes it: its number is the one before the queue's first.
        let before = state.queue.front().map_or(state.next_sequence, |image| image.sequence) - 1;
        let mut seal = Image::new(before, buffer);
        seal.durable = true;
        seal.put_seal(Some(next.number));
        let (state, calls) = self.write_durable(state, seal);
        drop(state);
        calls.make(self);
        self.state.lock()
    }

    /// Steps 5 to 7.
    fn begin_segment<'a>(&'a self, state: MutexGuard<'a, State>, next: Prepared) -> MutexGuard<'a, State> {
        let Prepared { number, bytes, file } = next;
        let segment = Arc::new(Segment::new(self.log, number, bytes, file));
        let records = placed_records(&state);
        let before = (Arc::clone(state.current()), (state.end.offset, state.previous_crc));
        let opening =
            opening((self.log, self.database), &segment, state.end, state.previous_crc, false, &records);
        drop(state);
        let call = DiskCall::begin(self, None, true);
        let end = LogPosition::new(number, opening.end);
        let written = segment.file.write_durable(0, &opening.bytes);
        let written = written.and_then(|()| point_at(&before.0, before.1, end));
        let mut state = call.end();
        match written {
            Ok(()) => {
                state.tail = block_up(opening.end);
                state.end = end;
                state.durable_end = state.end;
                state.previous_crc = opening.crc;
                state.segments.push(segment);
                state.ending = false;
                state.figures.rolls += 1;
            }
            Err(error) => {
                let calls = self.stop(&mut state, &error);
                drop(state);
                calls.make(self);
                state = self.state.lock();
            }
        }
        state
    }

    /// Prepares one more segment for an append that waits for it, if `wanted` still says so once nobody else prepares one.
    pub(crate) fn prepare_segment(&self, wanted: impl Fn(&State) -> bool) -> Result<()> {
        self.short_of_room.fetch_add(1, Ordering::Relaxed);
        let one_at_a_time = self.preparing.lock();
        self.short_of_room.fetch_sub(1, Ordering::Relaxed);
        self.prepare(one_at_a_time, wanted, &|| false)
    }

    /// Prepares one more segment ahead, while commits go on: little by little, unless an append comes to wait for it, or
    /// nobody waits for the device, because what is written is buffered.
    pub(crate) fn prepare_ahead(&self) -> Result<()> {
        let has_time = || {
            let has_time = self.short_of_room.load(Ordering::Relaxed) == 0 && !self.state.lock().dirty;
            if has_time {
                self.env.clock.sleep(ZEROS_REST);
            }
            has_time
        };
        self.prepare(self.preparing.lock(), |state| self.wants_segment(state), &has_time)
    }

    fn prepare(
        &self,
        _one_at_a_time: MutexGuard<'_, ()>,
        wanted: impl Fn(&State) -> bool,
        has_time: &dyn Fn() -> bool,
    ) -> Result<()> {
        let mut state = self.lock()?;
        if !wanted(&state) {
            return Ok(());
        }
        let number = state.next_segment;
        state.next_segment = number.next();
        drop(state);
        let sync_name = !planted!(self.options, SkipDirectorySync);
        let disk = &*self.env.disk;
        let bytes = self.options.segment_bytes;
        let prepared = create_written(disk, &self.dir, number, bytes, sync_name, has_time)?;
        self.state.lock().prepared.push_back(prepared);
        Ok(())
    }

    /// Lets a segment go: its file becomes a prepared one when it has the right size, nobody reads it, and the pool takes
    /// more; else it is removed. The caller has made sure that nothing in it is needed.
    ///
    /// The pool takes twice as many as are written ahead, so that where as many come free as are used none is written anew
    /// and none removed: a removal hands blocks back to the device, and durable commits wait for that.
    pub(crate) fn let_go(&self, segment: Arc<Segment>) -> Result<()> {
        let _one_at_a_time = self.preparing.lock();
        let disk = &*self.env.disk;
        let mut state = self.lock()?;
        let fits = segment.bytes == self.options.segment_bytes && !segment.is_mapped();
        let alone = Arc::strong_count(&segment) == 1;
        if fits && alone && state.prepared.len() < 2 * self.options.pool_segments {
            let number = state.next_segment;
            state.next_segment = number.next();
            drop(state);
            let prepared = recycle(disk, &self.dir, &segment, number)?;
            self.state.lock().prepared.push_back(prepared);
            return Ok(());
        }
        drop(state);
        disk.remove(segment.file.path())?;
        disk.sync_dir(&self.dir)
    }

    /// Gives back all space that is not needed now: see [`crate::Log::compact`].
    pub(crate) fn compact(&self) -> Result<()> {
        // On a full disk some go only behind the small segment.
        let let_go =
            |step: Result<bool>| if matches!(step, Err(Error::DiskFull { .. })) { Ok(false) } else { step };
        while let_go(self.let_go_step())? {}
        self.sync_all()?;
        self.begin_small_segment()?;
        while self.let_go_step()? {}
        self.empty_pool(&self.preparing.lock())
    }

    /// Goes on in a segment that is as small as one that an opening begins, or smaller, so that the one before it can go. Beside
    /// commits the log stays where it is: what is queued was promised room, and it needs the segment anyway.
    fn begin_small_segment(&self) -> Result<()> {
        let one_at_a_time = self.preparing.lock();
        // Their numbers come before that of the small one.
        self.empty_pool(&one_at_a_time)?;
        let mut state = self.lock()?;
        // Each of both is bounded by an eighth of a segment, and some blocks.
        let content = self.header_room(&state) + self.aside(&state) as u32;
        // Smaller ones where segments are small, too, but no smaller than any may be.
        let quarter = self.options.segment_bytes / 4 / BLOCK * BLOCK;
        let bytes = quarter.clamp(LOG_SEGMENT_BYTES_MIN, FIRST_SEGMENT_BYTES_MAX);
        if bytes >= state.current().bytes || content > bytes / 2 {
            return Ok(());
        }
        let number = state.next_segment;
        state.next_segment = number.next();
        drop(state);
        let next = create_written(&*self.env.disk, &self.dir, number, bytes, true, &|| false)?;
        let mut state = self.lock()?;
        let quiet = state.queue.is_empty() && state.in_flight.is_empty() && !state.exclusive && !state.dirty;
        if quiet && state.prepared.is_empty() {
            // What is appended meanwhile is promised no room in this segment: it waits for whoever prepares.
            state.ending = true;
            self.roll_into(state, next);
            return self.lock().map(drop);
        }
        drop(state);
        self.remove_prepared(&next)
    }

    /// Removes the prepared segments on which nothing counts that is queued. No seal names them yet.
    fn empty_pool(&self, _one_at_a_time: &MutexGuard<'_, ()>) -> Result<()> {
        loop {
            let mut state = self.lock()?;
            let Some(last) = state.prepared.pop_back() else { return Ok(()) };
            if !self.has_room(&state, 0, self.aside(&state)) {
                state.prepared.push_back(last);
                return Ok(());
            }
            drop(state);
            self.remove_prepared(&last)?;
        }
    }

    fn remove_prepared(&self, prepared: &Prepared) -> Result<()> {
        self.env.disk.remove(prepared.file.path())?;
        self.env.disk.sync_dir(&self.dir)
    }

    /// Queues and writes an idle seal. Without room for one nothing is queued.
    pub(crate) fn seal(&self) -> Result<()> {
        let is_wanted = |state: &State| {
            let quiet = state.queue.is_empty() && state.in_flight.is_empty() && !state.exclusive;
            quiet && state.unproven
        };
        if !is_wanted(&*self.lock()?) {
            return Ok(());
        }
        let mut state = self.reserve(SEAL_BYTES)?;
        if !is_wanted(&state) {
            return Ok(());
        }
        let image = new_image(&mut state);
        image.put_seal(None);
        let sequence = image.sequence;
        drop(state);
        self.wait(sequence)
    }
}

/// The group table as of what was placed so far.
pub(crate) fn placed_records(state: &State) -> Vec<(GroupId, GroupRecord)> {
    state.groups.iter().map(|(id, group)| (*id, group.placed.clone())).collect()
}

/// A group's first batch in a log: its base.
pub(crate) fn base_image(state: &mut State, id: GroupId) -> Option<u64> {
    let group = state.groups.get(&id)?;
    let (base, membership) = (group.log.record.base, group.log.record.membership.clone());
    let fields = other_fields(Kind::Base, id, group, base.0, base.1);
    let epoch = group.epoch;
    let image = new_image(state);
    image.put_other(epoch, fields, Body::Base { membership, keeps_entries: false }, false);
    Some(image.sequence)
}

/// Writes a seal behind the end of a segment, of which the offset and the checksum are given, that says how far the next
/// segment is durable. It stands in a block of its own, outside of the log: only where nothing else tells of the next
/// segment is it read. A log of before has no block for it where a closing seal stands at the very end.
pub(crate) fn point_at(segment: &Segment, (end, crc): (u32, u32), durable_end: LogPosition) -> Result<()> {
    let at = block_up(end);
    if at + BLOCK > segment.bytes {
        return Ok(());
    }
    let mut seal = Image::new(0, logwood_base::AlignedBuffer::default());
    seal.put_seal(Some(durable_end.segment));
    let placement = Placement { durable_end, previous_crc: crc };
    for frame in &seal.frames {
        let part = &mut seal.bytes[frame.start..frame.end];
        batch::finish(part, &frame.fields, &placement, segment.seed_at(at));
    }
    seal.bytes.pad_to(BLOCK as usize);
    segment.file.write_durable(u64::from(at), &seal.bytes)
}

/// A segment's header, and behind it, in blocks of their own, one more copy of each group's vote and membership:
/// with the header's table that makes two, so that older segments may go.
pub(crate) fn opening(
    (log, database): Identity,
    segment: &Segment,
    predecessor: LogPosition,
    predecessor_crc: u32,
    rewriting: bool,
    records: &Records,
) -> Opening {
    let header = SegmentHeader {
        segment_bytes: segment.bytes,
        log,
        database,
        segment: segment.number,
        predecessor,
        predecessor_crc,
        rewriting,
        groups: records.to_vec(),
    };
    let (mut bytes, crc) = header.encode();
    let end = header.header_bytes() as u32;
    let mut opening = Opening { bytes: logwood_base::AlignedBuffer::default(), end, crc };
    let mut image = Image::new(0, logwood_base::AlignedBuffer::default());
    for (id, record) in records.iter().filter(|(_, record)| record.has_state()) {
        let fields = batch::BatchFields {
            kind: Kind::State,
            group: *id,
            append_term: record.append_term,
            prev_term: logwood_base::Term::NONE,
            commit_lsn: record.committed,
            first_lsn: logwood_base::Lsn::FIRST,
            count: 0,
        };
        let body = Body::State { vote: record.vote, membership: record.membership.clone() };
        image.put_other(0, fields, body, false);
    }
    let start = bytes.len() as u32;
    // What healing writes proves nothing until its first header stands.
    let durable_end = if rewriting { LogPosition::ZERO } else { predecessor };
    for frame in &image.frames {
        let at = start + frame.start as u32;
        let placement = Placement { durable_end, previous_crc: opening.crc };
        let part = &mut image.bytes[frame.start..frame.end];
        opening.crc = batch::finish(part, &frame.fields, &placement, segment.seed_at(at));
        opening.end = start + frame.end as u32;
    }
    bytes.extend_from_slice(&image.bytes);
    let padded = block_up(bytes.len() as u32) as usize;
    bytes.pad_to(padded);
    opening.bytes = bytes;
    opening
}
