//! A process that serves: appending, votes, rolling, letting go.
//!
//! - Rule **durable_end**: a batch carries the position before which everything was synced when it was submitted.
//! - Rule **fresh block**: a batch begins a fresh block when a sync was submitted since the last one. A durable write is
//!   a sync, so it never shares a block with what was buffered before it.
//! - Rule **window**: at most W batches are submitted and not acknowledged; they are acknowledged in order.
//! - Rule **votes twice**: a vote is two batches in two blocks. It is answered when both, and the header of their
//!   segment, are durable. One that an open found is answered only when it stands in two places of the log.
//! - Rule **roll**: create k + 1, sync the directory, close k with a seal that names k + 1, sync k wholly, and only
//!   then submit the header of k + 1.
//! - Rule **letting go**: a segment goes only when what replaces its entries (copy, base, override) is acknowledged,
//!   and its votes stand in two other places of the log: a segment that was skipped is not of it.

use std::rc::Rc;

use super::bytes::{BLOCK_UNITS, Batch, Entry, FIRST, Header, Kind, Mark, Position, Unit, round_up, zeros};
use super::disk::Owner;
use super::end_rule::Reader;
use super::mutation::Mutation;
use super::promise::views;
use super::state::{Carries, Flight, LogWorld, Phase, Roll, State};

impl LogWorld {
    /// Whether the process may submit `units` more now.
    pub fn has_room(&self, state: &State, units: u8) -> bool {
        let process = &state.process;
        let window = self.bounds.window + if self.without(Mutation::UnboundedFlight) { 1 } else { 0 };
        let start = round_up(process.next);
        let closing = BLOCK_UNITS;
        let may_write = matches!(process.phase, Phase::Serving) && !matches!(process.roll, Roll::Sealed(_));
        may_write
            && process.flights.len() < usize::from(window)
            && start + units + closing <= self.bounds.blocks * BLOCK_UNITS
    }

    /// Submits one batch of a group.
    pub fn submit(&self, state: &mut State, group: u8, kind: Kind, units: u8, buffered: bool) {
        let process = &mut state.process;
        let alone = !buffered && !self.without(Mutation::NoFreshBlock);
        let offset = if process.fresh || alone { round_up(process.next) } else { process.next };
        let place = Position { segment: process.segment, offset };
        let durable_end = match self.mutation {
            Mutation::OwnEndIsDurable => Position { offset: offset + units, ..place },
            Mutation::RoundDurableEnd => {
                Position { offset: round_up(process.synced.offset), ..process.synced }
            }
            _ => process.synced,
        };
        let seeded = !self.without(Mutation::UnseededChecksum);
        let lsn = match &kind {
            Kind::Append { previous, .. } => previous.lsn + 1,
            _ => 0,
        };
        let carries = match &kind {
            Kind::Append { .. } => Carries::Entry { group, lsn },
            Kind::Copy { .. } => Carries::Copy,
            Kind::Base { .. } => Carries::Base,
            Kind::Vote(_) => Carries::Vote { group },
            Kind::Seal(_) => Carries::Seal,
        };
        let batch = Batch::new(place, units, (group, kind), durable_end, process.previous, seeded);
        let id = process.next_flight;
        let owner = if buffered { Owner::Cache } else { Owner::Flight(id) };
        for block in offset / BLOCK_UNITS..=(offset + units - 1) / BLOCK_UNITS {
            let mut content = zeros();
            if block == offset / BLOCK_UNITS && offset % BLOCK_UNITS == 1 {
                content[0] = state.disk.newest(place.segment, block)[0].clone();
            }
            for (index, unit) in content.iter_mut().enumerate() {
                let at = block * BLOCK_UNITS + index as u8;
                if (offset..offset + units).contains(&at) {
                    *unit = Unit::Part(Rc::clone(&batch), at - offset);
                }
            }
            state.disk.write(place.segment, owner, block, content);
        }
        process.previous = batch.crc;
        process.next = offset + units;
        process.fresh = !buffered && !self.without(Mutation::NoFreshBlock);
        // The writer's own memory follows the rules: what is left out shows in what a reader makes of it. A base that
        // keeps too much is the exception that is wrong on the disk only.
        let mut truth = Batch::new(place, units, (group, batch.kind.clone()), durable_end, 0, seeded);
        if let (Mutation::BaseIgnoresTerm, Kind::Base { mark, .. }) = (self.mutation, &batch.kind) {
            let stays = process.groups[usize::from(group)].term(mark.lsn) == Some(mark.term);
            let kind = Kind::Base { mark: *mark, stays };
            truth = Batch::new(place, units, (group, kind), durable_end, 0, seeded);
        }
        // A copy composed too early contradicts; the process does not read its own copies.
        let _ = process.groups[usize::from(group)].apply(&truth, Mutation::None);
        self.fly(state, id, batch.end(), buffered, carries);
    }

    fn fly(&self, state: &mut State, id: u8, end: Position, buffered: bool, carries: Carries) {
        let stands_on = state.promise.dropped + state.promise.acknowledged;
        state.process.flights.push(Flight { id, end, buffered, done: false, carries, stands_on });
        state.process.next_flight += 1;
        state.promise.submitted(views(&state.process.groups));
    }

    /// Appends one entry behind `previous`.
    pub fn append(&self, state: &mut State, group: u8, previous: Mark, term: u8, units: u8, buffered: bool) {
        let commit = state.process.groups[usize::from(group)].commit;
        let entry = Entry { term, payload: state.payload };
        self.submit(state, group, Kind::Append { previous, commit, entry }, units, buffered);
    }

    /// Asks for a vote.
    pub fn vote(&self, state: &mut State, group: u8) {
        let index = usize::from(group);
        let vote = state.promise.asked[index] + 1;
        state.promise.asked[index] = vote;
        self.submit(state, group, Kind::Vote(vote), 1, false);
        if !self.without(Mutation::OneCopyOfAVote) {
            self.submit(state, group, Kind::Vote(vote), 1, false);
        }
    }

    /// The entries of a group that only the oldest segment holds.
    pub fn held_by_oldest(&self, state: &State, group: u8) -> Option<Kind> {
        let oldest = *state.process.chain.first()?;
        let group = &state.process.groups[usize::from(group)];
        let first = group.slots.iter().position(|slot| slot.home == oldest)?;
        let run = group.slots[first..].iter().take_while(|slot| slot.home == oldest);
        let entries: Option<Vec<Entry>> = run.map(|slot| slot.entry).collect();
        Some(Kind::Copy { first: group.base.lsn + 1 + first as u8, entries: entries? })
    }

    /// A write in flight ends well.
    pub fn land(&self, state: &mut State, id: u8, really: bool) {
        state.disk.land(Owner::Flight(id));
        self.done(state, |flight| flight.id == id && !flight.buffered, really);
    }

    /// Everything in the page cache is synced. What follows begins a fresh block.
    pub fn full_sync(&self, state: &mut State, really: bool) {
        state.disk.land(Owner::Cache);
        state.process.fresh = !self.without(Mutation::NoFreshBlock);
        self.done(state, |flight| flight.buffered, really);
    }

    /// Marks writes as done, acknowledges in order, answers votes. `evidence`: whether they are really on the disk.
    fn done(&self, state: &mut State, which: impl Fn(&Flight) -> bool, evidence: bool) {
        let State { process, promise, .. } = state;
        for flight in process.flights.iter_mut().filter(|flight| which(flight)) {
            flight.done = true;
            if evidence {
                promise.guarded = promise.guarded.max(flight.stands_on);
            }
        }
        while let Some(first) = process.flights.first() {
            let covered = self.without(Mutation::AcknowledgeOverBuffered)
                && first.buffered
                && process.flights.iter().any(|flight| flight.done && !flight.buffered);
            if !first.done && !covered {
                break;
            }
            let flight = process.flights.remove(0);
            process.synced = flight.end;
            promise.acknowledged += 1;
            if let (Carries::Entry { group, lsn }, false) = (flight.carries, self.bounds.commits) {
                process.groups[usize::from(group)].commit = lsn;
            }
        }
        promise.forget(state.budget.faults() || state.fault.is_some());
        self.answer_votes(state);
    }

    /// Answers every vote that may be: no copy of it, nor the header of its segment, is in flight, and it stands in two
    /// places of the log. A vote that an open found, and nobody had answered, may stand in one only: it is asked for
    /// again before it is answered.
    pub fn answer_votes(&self, state: &mut State) {
        let State { process, promise, .. } = state;
        let header = |flight: &Flight| !flight.done && flight.carries == Carries::Header;
        if process.flights.iter().any(header) && !self.without(Mutation::VoteBeforeHeader) {
            return;
        }
        let reader = Reader::new(&state.disk, Mutation::None);
        for group in 0..self.bounds.groups {
            let open = |flight: &Flight| !flight.done && flight.carries == Carries::Vote { group };
            let index = usize::from(group);
            let vote = process.groups[index].vote;
            if vote == promise.votes[index] || process.flights.iter().any(open) {
                continue;
            }
            let places = reader.vote_places(&process.chain, group, vote);
            let careless =
                [Mutation::AdoptedVoteIsAnswered, Mutation::OneCopyOfAVote].contains(&self.mutation);
            if places >= 2 || careless {
                promise.votes[index] = promise.votes[index].max(vote);
            }
        }
    }

    /// Begins a roll: a new file, or the oldest segment under a new number.
    pub fn begin_roll(&self, state: &mut State, recycle: bool) {
        let number = state.disk.numbers().last().map_or(1, |last| last + 1);
        if recycle {
            let oldest = state.process.chain.remove(0);
            state.disk.rename(oldest, number);
        } else {
            state.disk.create(number, self.bounds.blocks);
        }
        state.process.roll = Roll::Created(number);
    }

    /// Whether the next step of a roll may be taken.
    pub fn can_roll_on(&self, state: &State) -> bool {
        let process = &state.process;
        match process.roll {
            Roll::None => false,
            Roll::Created(_) => {
                !self.without(Mutation::SealBeforeName)
                    || process.flights.len() < usize::from(self.bounds.window)
            }
            Roll::Named(_) => process.flights.len() < usize::from(self.bounds.window),
            Roll::Sealed(_) => process.flights.is_empty() || self.without(Mutation::HeaderBeforeSync),
        }
    }

    /// Takes it.
    pub fn roll_on(&self, state: &mut State) {
        match state.process.roll {
            Roll::None => {}
            Roll::Created(next) if self.without(Mutation::SealBeforeName) => {
                self.submit(state, 0, Kind::Seal(Some(next)), 1, false);
                state.process.roll = Roll::Sealed(next);
            }
            Roll::Created(next) => {
                if !self.without(Mutation::NoDirectorySync) {
                    state.disk.sync_directory();
                }
                state.process.roll = Roll::Named(next);
            }
            Roll::Named(next) => {
                self.submit(state, 0, Kind::Seal(Some(next)), 1, false);
                state.process.roll = Roll::Sealed(next);
            }
            Roll::Sealed(next) => {
                if self.without(Mutation::SealBeforeName) {
                    state.disk.sync_directory();
                }
                let end = Position { segment: state.process.segment, offset: state.process.next };
                let id = state.process.next_flight;
                self.write_header(state, next, Some(end));
                self.fly(state, id, Position { segment: next, offset: FIRST }, false, Carries::Header);
            }
        }
    }

    /// Submits a header as the next flight, and goes on behind it.
    pub fn write_header(&self, state: &mut State, number: u8, predecessor: Option<Position>) {
        let table = state.process.groups.iter().map(super::group::Group::row).collect();
        let header = Rc::new(Header { segment: number, predecessor, table });
        let owner = Owner::Flight(state.process.next_flight);
        state.disk.write(number, owner, 0, [Unit::Head(header), Unit::Zero]);
        let process = &mut state.process;
        (process.segment, process.next, process.previous, process.fresh) = (number, FIRST, 0, true);
        process.roll = Roll::None;
        process.chain.push(number);
    }

    /// Whether the oldest segment may go.
    pub fn can_let_go(&self, state: &State) -> bool {
        let process = &state.process;
        let Some(&oldest) = process.chain.first() else { return false };
        let early = |flight: &Flight| match flight.carries {
            Carries::Copy => self.without(Mutation::SourceGoesBeforeCopy),
            Carries::Base => self.without(Mutation::EntriesGoBeforeBase),
            _ => false,
        };
        let reader = Reader::new(&state.disk, self.mutation);
        let stay = &process.chain[1..];
        let needed = if self.without(Mutation::VotesGo) { 1 } else { 2 };
        let votes = (0..self.bounds.groups).all(|group| {
            let vote = process.groups[usize::from(group)].vote;
            vote == 0 || reader.vote_places(stay, group, vote) >= needed
        });
        oldest < process.segment
            && process.flights.iter().all(early)
            && process.groups.iter().flat_map(|group| &group.slots).all(|slot| slot.home != oldest)
            && votes
    }
}
