//! The way into the queue: entries, votes, memberships, bases.
//!
//! Whatever can be refused is refused here, before anything is numbered: rules of the group, limits, and a full disk
//! (the queue never holds more than what fits into segments that are already written with zeros).

use logwood_base::limits::{self, MEMBERSHIP_BYTES_MAX};
use logwood_base::sync::atomic::Ordering;
use logwood_base::sync::{Arc, MutexGuard};
use logwood_base::{Error, GroupId, Lsn, NodeId, Result, Term};

use crate::format::batch::{BatchFields, ENTRY_FIXED_BYTES, FIXED_BYTES, Kind, LSN_MAX};
use crate::format::header::table_bytes;
use crate::format::{BLOCK, header};
use crate::group_state::{GroupState, Violation, entry_bytes};
use crate::image::{Body, Image, room_for};
use crate::mutants::planted;
use crate::options::{Append, Durability};
use crate::shared::{Shared, State, open_image};

/// Bytes queued and not submitted beyond which an append helps to write before it returns.
const QUEUED_IMAGES_MAX: usize = 64;

/// Bytes of a base batch, at most.
const BASE_BYTES_MAX: usize = FIXED_BYTES + 64 + MEMBERSHIP_BYTES_MAX;

const _: () = assert!(BASE_BYTES_MAX <= BLOCK as usize);

impl Shared {
    /// Queues entries. Answers the image that holds the last of them.
    pub(crate) fn append(&self, id: GroupId, append: &Append<'_>) -> Result<u64> {
        let payloads = self.check_entries(append)?;
        let mut state = self.reserve(payloads)?;
        let prev_term = match append.previous {
            Some((lsn, _)) if lsn != append.first_lsn.previous() => {
                return Err(Error::InvalidArgument(format!("{lsn} is not before {}", append.first_lsn)));
            }
            previous => previous.map(|(_, term)| term),
        };
        let group = state.group(id)?;
        group.log.check_append(append.first_lsn, append.term, prev_term).map_err(refused)?;
        let before = group.log.term_of(append.first_lsn.previous()).unwrap_or(Term::NONE);
        let first_term = append.entries.first().map_or(append.term, |(term, _)| *term);
        if first_term < before {
            return Err(Error::InvalidArgument(format!("term {first_term} behind term {before}")));
        }
        let sequence = self.enqueue_entries(&mut state, id, append);
        self.evict_recent(&mut state, id);
        let crowded = state.queue.len() > QUEUED_IMAGES_MAX && self.can_lead(&state);
        if crowded {
            // The entries have their numbers: whoever waits for them is told if this fails.
            let _ = self.lead(state);
        } else {
            drop(state);
        }
        if self.readers_waiting.load(Ordering::Relaxed) > 0 {
            self.news.notify_all();
        }
        self.wake_writer();
        Ok(sequence)
    }

    /// Encodes entries into images. Everything has been checked.
    fn enqueue_entries(&self, state: &mut State, id: GroupId, append: &Append<'_>) -> u64 {
        let limit = self.options.batch_limit();
        let batches_max = (self.options.batches_in_flight_max / 2).max(1);
        let State { groups, queue, spare, next_sequence, recent_bytes, .. } = state;
        let Some(group) = groups.get_mut(&id) else { return 0 };
        if append.first_lsn <= group.log.record.last.0 {
            *recent_bytes -= group.begin_override(append.first_lsn);
        }
        group.log.record.append_term = append.term;
        let mut lsn = append.first_lsn;
        let mut sequence = 0;
        for (term, payload) in append.entries {
            let fields = BatchFields {
                kind: Kind::Append,
                group: id,
                append_term: append.term,
                prev_term: group.log.record.last.1,
                commit_lsn: group.log.record.committed,
                first_lsn: lsn,
                count: 1,
            };
            let more = payload.len() + ENTRY_FIXED_BYTES + FIXED_BYTES;
            let has_place = |image: &Image| {
                image.frames.len() < batches_max || image.is_continued_by(group.epoch, &fields)
            };
            let image = open_image(queue, spare, next_sequence, (more, limit), has_place);
            image.put_entry(group.epoch, fields, *term, payload);
            image.durable |= append.durability == Durability::Durable;
            sequence = image.sequence;
            group.log.push(lsn, *term);
            group.recent.push(lsn, *term, Arc::from(*payload));
            *recent_bytes += entry_bytes(payload.len());
            lsn = lsn.next();
        }
        if let Some(image) = queue.back_mut() {
            image.appends += 1;
        }
        sequence
    }

    /// Lets the oldest entries in memory go beyond the bound; those that are not written yet stay.
    pub(crate) fn evict_recent(&self, state: &mut State, first: GroupId) {
        let bound = self.options.recent_bytes_max;
        let mut excess = state.recent_bytes.saturating_sub(bound);
        let mut freed = 0;
        let mut evict = |group: &mut GroupState| {
            while freed < excess {
                let Some(bytes) = group.recent.evict(group.stored) else { break };
                freed += bytes;
            }
        };
        if excess > 0 {
            state.groups.get_mut(&first).into_iter().for_each(&mut evict);
            state.groups.values_mut().for_each(&mut evict);
            excess = freed;
            state.recent_bytes -= excess;
        }
    }

    fn check_entries(&self, append: &Append<'_>) -> Result<usize> {
        let mut before = Term::FIRST;
        let mut bytes = 0;
        for (term, payload) in append.entries {
            limits::check("entry payload bytes", payload.len(), self.options.payload_bytes_max())?;
            if *term < before || *term > append.term {
                return Err(Error::InvalidArgument(format!("entry of term {term} out of order")));
            }
            before = *term;
            bytes += payload.len() + ENTRY_FIXED_BYTES + FIXED_BYTES;
        }
        if append.entries.is_empty() {
            return Err(Error::InvalidArgument("no entries".to_owned()));
        }
        if append.first_lsn.0.saturating_add(append.entries.len() as u64) > LSN_MAX.0 {
            return Err(Error::InvalidArgument("beyond the numbering".to_owned()));
        }
        limits::check("bytes of one append", bytes, self.options.segment_bytes as usize)?;
        Ok(bytes)
    }

    /// Takes the lock once everything queued and `bytes` more fit into segments that exist; prepares one if needed.
    ///
    /// # Errors
    /// `DiskFull` when no segment can be prepared; nothing has been numbered then.
    pub(crate) fn reserve(&self, bytes: usize) -> Result<MutexGuard<'_, State>> {
        self.reserve_before(bytes, |state| self.aside(state))
    }

    /// The same, with the blocks at the log's end left free that `aside` says.
    fn reserve_before(&self, bytes: usize, aside: impl Fn(&State) -> u64) -> Result<MutexGuard<'_, State>> {
        let has_room = |state: &State| self.has_room(state, bytes, aside(state));
        loop {
            let state = self.lock()?;
            if has_room(&state) {
                return Ok(state);
            }
            drop(state);
            self.prepare_segment(|state| !has_room(state))?;
        }
    }

    /// Bytes at the log's end that only the bases may take with which a segment goes: when the disk is full, the log
    /// still makes room by itself. A block for the base of each group, and two more, because reserving one is cautious.
    /// Of very many groups not all may find place.
    pub(crate) fn aside(&self, state: &State) -> u64 {
        let blocks = self.options.segment_bytes / BLOCK / 8;
        u64::from(BLOCK) * (2 + (state.groups.len() as u64).min(u64::from(blocks)))
    }

    /// Whether the queue and `bytes` more certainly fit into the current and the prepared segments, before `aside`.
    pub(crate) fn has_room(&self, state: &State, bytes: usize, aside: u64) -> bool {
        // Cut into images, every image may need a block more.
        let images = u64::from(BLOCK) * (1 + bytes as u64 / self.options.batch_limit() as u64);
        let queued: u64 = state.queue.iter().map(|image| u64::from(image.room())).sum();
        let wanted = queued + u64::from(room_for(bytes)) + images + aside;
        let current = u64::from(state.room());
        if wanted <= current {
            return true;
        }
        // An image that does not fit any more leaves the end of a segment unused.
        let lost = u64::from(self.options.segment_bytes / 4 + 3 * BLOCK);
        let header = u64::from(self.header_room(state));
        let prepared = state.prepared.iter().map(|next| u64::from(next.bytes).saturating_sub(header + lost));
        wanted <= current.saturating_sub(lost) + prepared.sum::<u64>()
    }

    /// Bytes that a new segment's header, state copies and the seals at its end take.
    pub(crate) fn header_room(&self, state: &State) -> u32 {
        let table = table_bytes(state.groups.values().map(|group| &group.log.record));
        let states = state.groups.values().filter(|group| group.log.record.has_state()).count();
        let membership: usize =
            state.groups.values().map(|group| group.log.record.membership.1.len() + 128).sum();
        let bytes = header::FIXED_BYTES + table + membership;
        room_for(bytes) + BLOCK * 4 + states as u32
    }

    /// Refuses a group table that would crowd out the entries of a segment.
    pub(crate) fn check_table(&self, state: &State, more: usize) -> Result<()> {
        let limit = self.options.segment_bytes as usize / 8;
        let room = self.header_room(state) as usize;
        limits::check("bytes of the group table", room + more, limit.max(7 * BLOCK as usize))
    }

    /// Writes vote and membership twice, in two blocks, and reads both back past the cache.
    pub(crate) fn write_state(
        &self,
        id: GroupId,
        vote: Option<(Term, NodeId)>,
        membership: Option<(Lsn, &[u8])>,
    ) -> Result<()> {
        let _one_at_a_time = self.state_writing.lock();
        let queued = self.queue_state(id, vote, membership)?;
        self.wait(queued.sequence)?;
        self.read_back_state(id, &queued)
    }

    /// Queues both copies. The caller holds `state_writing`.
    pub(crate) fn queue_state(
        &self,
        id: GroupId,
        vote: Option<(Term, NodeId)>,
        membership: Option<(Lsn, &[u8])>,
    ) -> Result<QueuedState> {
        let bytes = 2 * (FIXED_BYTES + 64 + MEMBERSHIP_BYTES_MAX) + 2 * BLOCK as usize;
        if let Some((_, bytes)) = membership {
            limits::check("membership bytes", bytes.len(), MEMBERSHIP_BYTES_MAX)?;
        }
        let mut state = self.reserve(bytes)?;
        self.check_table(&state, membership.map_or(0, |(_, bytes)| bytes.len()))?;
        let group = state.group_mut(id)?;
        let record = &mut group.log.record;
        if let Some(vote) = vote {
            if vote.0 < record.vote.0 {
                return Err(Error::InvalidArgument(format!("term {} below {}", vote.0, record.vote.0)));
            }
            // What was asked for counts, not only what is durable: a vote whose write failed may be there.
            let (term, voted) = record.vote;
            if vote.0 == term && voted != NodeId::default() && vote.1 != voted {
                return Err(Error::AlreadyExists {
                    what: "vote",
                    name: format!("for {voted} in term {term}"),
                });
            }
            record.vote = vote;
        }
        if let Some((lsn, bytes)) = membership {
            record.membership = (lsn, bytes.to_vec());
        }
        let (vote, membership, epoch) = (record.vote, record.membership.clone(), group.epoch);
        let fields = other_fields(Kind::State, id, group, Lsn::FIRST, Term::NONE);
        let copies = if planted!(self.options, OneCopyOfVote) { 1 } else { 2 };
        let image = new_image(&mut state);
        for _ in 0..copies {
            let body = Body::State { vote, membership: membership.clone() };
            image.put_other(epoch, fields, body, true);
        }
        Ok(QueuedState { sequence: image.sequence, copies, vote, membership })
    }

    /// Moves a group's base, durably; for upkeep not when a holder needs what would go.
    pub(crate) fn write_base(
        &self,
        id: GroupId,
        lsn: Lsn,
        term: Term,
        membership: (Lsn, Vec<u8>),
        mover: Mover,
    ) -> Result<()> {
        limits::check("membership bytes", membership.1.len(), MEMBERSHIP_BYTES_MAX)?;
        let mut state = match mover {
            Mover::LettingGo => self.reserve_before(BASE_BYTES_MAX, |_| 0)?,
            Mover::Owner | Mover::Upkeep => self.reserve(BASE_BYTES_MAX)?,
        };
        self.check_table(&state, membership.1.len())?;
        let group = state.group_mut(id)?;
        // Looked at under the lock that holds are taken under: one may have come since the base was decided on.
        if mover != Mover::Owner && lsn > group.releasable() {
            return Ok(());
        }
        if lsn > LSN_MAX || lsn < group.log.record.base.0 || (lsn > Lsn::ZERO) != (term >= Term::FIRST) {
            return Err(Error::InvalidArgument(format!("base {lsn} in term {term}")));
        }
        let keeps_entries = group.log.keeps_entries_above(lsn, term);
        if lsn <= group.log.record.committed && !keeps_entries {
            return Err(Error::InvalidArgument(format!("base {lsn} in term {term} contradicts the log")));
        }
        group.log.set_base(lsn, term, membership.clone(), keeps_entries);
        let mut freed = 0;
        if keeps_entries {
            while let Some(bytes) = group.recent.evict(lsn) {
                freed += bytes;
            }
        } else {
            freed = group.recent.clear();
            group.begin_epoch(lsn);
        }
        group.released = group.released.max(lsn);
        let fields = other_fields(Kind::Base, id, group, lsn, term);
        let epoch = group.epoch;
        state.recent_bytes -= freed;
        let image = new_image(&mut state);
        image.put_other(epoch, fields, Body::Base { membership, keeps_entries }, false);
        let sequence = image.sequence;
        drop(state);
        self.wait(sequence)
    }

    /// Compares what stands on the device with what was written. Both copies must be there: their segment is kept from
    /// the moment that they were placed, and may have been let go of since.
    pub(crate) fn read_back_state(&self, id: GroupId, queued: &QueuedState) -> Result<()> {
        let places = std::mem::take(&mut self.lock()?.group_mut(id)?.state_at);
        let mut checked = Ok(());
        for (segment, start, end) in &places {
            checked = checked.and_then(|()| {
                let found = crate::reader::read_back(segment, *start, *end)?;
                // What the group's record says by now may be newer: a base behind the copies brings a membership too.
                if (found.0, &found.1) == (queued.vote, &queued.membership) {
                    return Ok(());
                }
                let (path, offset) = (segment.file.path(), u64::from(*start));
                let check = "state read back";
                Err(logwood_base::Corruption::new(path, offset, check, "what was written", "other").into())
            });
        }
        if places.len() != queued.copies {
            checked =
                Err(Error::Internal(format!("{} of {} copies of a state", places.len(), queued.copies)));
        }
        if let Err(error) = &checked {
            let calls = self.stop(&mut self.state.lock(), error);
            calls.make(self);
        }
        checked
    }
}

/// Who moves a base.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mover {
    /// Whom the group belongs to.
    Owner,
    /// Upkeep, which needs it for something else than to let a segment go at once.
    Upkeep,
    /// Upkeep, and with the base a segment goes.
    LettingGo,
}

/// A state on its way: what was written, how often, and by which image.
pub(crate) struct QueuedState {
    pub(crate) sequence: u64,
    copies: usize,
    vote: (Term, NodeId),
    membership: (Lsn, Vec<u8>),
}

/// An image that nothing else joins, written durably.
pub(crate) fn new_image(state: &mut State) -> &mut Image {
    if let Some(image) = state.queue.back_mut() {
        image.open = false;
    }
    let image = state.push_image();
    image.open = false;
    image.durable = true;
    image
}

/// The fields of a batch without entries.
pub(crate) fn other_fields(kind: Kind, id: GroupId, group: &GroupState, lsn: Lsn, term: Term) -> BatchFields {
    BatchFields {
        kind,
        group: id,
        append_term: group.log.record.append_term,
        prev_term: term,
        commit_lsn: group.log.record.committed,
        first_lsn: lsn,
        count: 0,
    }
}

/// A rule that a call would break.
fn refused(violation: Violation) -> Error {
    let Violation { check, expected, found } = violation;
    Error::InvalidArgument(format!("{check}: expected {expected}, found {found}"))
}
