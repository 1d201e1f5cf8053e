//! Opening, step by step: a crash may come after each.
//!
//! 1. Wait until no write of an earlier process can land, where that can be shown; sync what the cache holds; read the
//!    log past the cache. Damage is named; it is healed or the log is refused. Sync the directory, remove what is not
//!    of the log.
//! 2. Sync the directory; create a new segment, numbered above every number in any name.
//! 3. Sync the directory; submit the header, which names where the predecessor ended.
//! 4. The header is durable: submit a seal, in a block of its own behind the predecessor's end, that names the new segment
//!    and says how far it is durable.
//! 5. The seal is durable: remove what is not of the log, skipped segments too.
//! 6. Sync the directory; serve.
//!
//! - Rule **seal behind**: steps 4 and 5. Nobody reads the seal while a header bounds the predecessor. Should the new
//!   segment vanish, it is what stands at the end of the newest one; and no skipped segment is left to bound that one.
//! - Rule **late writes**: where step 1 could not wait, nothing is served before step 4, and what the chain does not name
//!   is removed only then: the header of an earlier open may still land, and name it.
//! - Rule **healing**: the new segment gets a copy of every live entry, fetched ones included. Only what is doubtful or
//!   missing is fetched. It gets its name when all of it is synced; then the older segments are removed, then the log
//!   is served.

use std::rc::Rc;

use super::bytes::{BLOCK_UNITS, Batch, FIRST, Kind, Mark, Position, Unit, round_up};
use super::disk::Owner;
use super::end_rule::{Reader, Recovered};
use super::group::{Group, Slot};
use super::mutation::Mutation;
use super::promise::{View, views};
use super::state::{Carries, Fault, Flight, LogWorld, Phase, Plan, Process, State};

impl LogWorld {
    fn waits(&self) -> bool {
        self.bounds.waits && !self.without(Mutation::NoWaitForLateWrites)
    }

    /// In how many ways the late writes can end while an open waits for them.
    pub fn open_outcomes(&self, state: &State) -> u32 {
        if self.waits() { state.disk.outcomes(false) } else { 1 }
    }

    /// Step 1. `which` tells how late writes ended; `peer_ahead` whether the replica that healing asks has seen more
    /// than what was acknowledged here.
    pub fn open(&self, state: &State, which: u32, peer_ahead: bool) -> Result<State, String> {
        let mut after = state.clone();
        if self.waits() {
            after.disk = state.disk.outcome(false, which).0;
        }
        after.disk.land(Owner::Cache);
        let recovered = Reader::new(&after.disk, self.mutation).recover(self.bounds.groups);
        let Recovered { number, groups, end, previous, chain, predecessor, damage, unnamed, hollow } =
            recovered;
        let mut plan = Plan { number, predecessor, groups: Rc::new(groups), chain, heals: false };
        if let Some(damage) = damage {
            if after.fault.is_none() {
                return Err(format!("a false alarm: {damage:?} is reported, and the disk did nothing wrong"));
            }
            if after.fault != Some(Fault::File) {
                after.promise.check_votes(&plan.groups)?;
            }
            if !self.bounds.heals {
                after.process = Process { phase: Phase::Refused, ..Process::default() };
                return Ok(after);
            }
            plan.groups = Rc::new(self.healed(&after, &plan.groups, peer_ahead)?);
            plan.heals = true;
            after.promise.check_healed(&plan.groups)?;
        } else {
            // A misdirected write takes itself away too, and it may have been the one that would have told.
            let window = after.fault.map(|fault| self.bounds.window + u8::from(fault == Fault::Elsewhere));
            after.promise.check(&plan.groups, window)?;
            if self.bounds.waits {
                let faults = after.budget.faults() || after.fault.is_some();
                after.promise.serve_reads(&views(&plan.groups), faults);
            }
        }
        if self.without(Mutation::GoOnInTheSegment) && !plan.heals && Some(&end.segment) == plan.chain.last()
        {
            self.go_on(&mut after, plan, end, previous);
            return Ok(after);
        }
        after.disk.sync_directory();
        hollow.iter().for_each(|number| after.disk.remove(*number));
        if self.bounds.waits || self.without(Mutation::CleanBeforeHeader) {
            unnamed.iter().for_each(|number| after.disk.remove(*number));
        }
        if let Some(predecessor) = plan.predecessor {
            plan.chain.retain(|number| *number <= predecessor.segment || plan.heals);
        }
        after.process = Process { phase: Phase::Cleaned(plan), ..Process::default() };
        Ok(after)
    }

    fn go_on(&self, state: &mut State, plan: Plan, end: Position, previous: u64) {
        state.promise.serve(views(&plan.groups));
        state.process = Process {
            groups: plan.groups.to_vec(),
            segment: end.segment,
            next: round_up(end.offset),
            previous,
            fresh: true,
            synced: end,
            chain: plan.chain,
            ..Process::default()
        };
    }

    /// Steps 2 to 6, and the removal that ends healing. A step that waits for writes in flight is not enabled.
    pub fn open_on(&self, state: &State) -> Option<State> {
        let mut after = state.clone();
        after.process.phase = match state.process.phase.clone() {
            Phase::Cleaned(plan) => {
                after.disk.sync_directory();
                after.disk.create(plan.number, self.bounds.blocks);
                if plan.heals {
                    after.disk.hide(plan.number);
                }
                Phase::Created(plan)
            }
            Phase::Created(plan) => {
                if !self.without(Mutation::NoDirectorySync) {
                    after.disk.sync_directory();
                }
                self.write_first(&mut after, &plan);
                if self.without(Mutation::SealBehindEarly) {
                    self.point_at(&mut after, &plan);
                }
                Phase::Written(plan)
            }
            Phase::Written(plan) => {
                let flights = &state.process.flights;
                let header_only = |flight: &Flight| flight.done || flight.carries != Carries::Header;
                let early = self.without(Mutation::HealRemovesEarly) && flights.iter().all(header_only);
                if flights.iter().any(|flight| !flight.done) && !(plan.heals && early) {
                    return None;
                }
                if plan.heals {
                    let number = plan.number;
                    after.disk.reveal(number);
                    after.promise.serve(views(&plan.groups));
                    after.disk.numbers().iter().filter(|n| **n < number).for_each(|n| after.disk.remove(*n));
                    Phase::Removed(plan)
                } else {
                    if ![Mutation::NoSealBehind, Mutation::SealBehindEarly].contains(&self.mutation) {
                        self.point_at(&mut after, &plan);
                    }
                    Phase::Pointed(plan)
                }
            }
            Phase::Pointed(plan) => {
                if state.process.flights.iter().any(|flight| !flight.done) {
                    return None;
                }
                let chain = &state.process.chain;
                let mut outside = state.disk.numbers();
                outside.retain(|number| !chain.contains(number));
                if self.without(Mutation::SkippedStays) {
                    outside
                        .retain(|number| Reader::new(&state.disk, Mutation::None).header(*number).is_none());
                }
                outside.iter().for_each(|number| after.disk.remove(*number));
                Phase::Cleared(plan)
            }
            Phase::Cleared(plan) => {
                after.disk.sync_directory();
                self.serve(&mut after, &plan);
                Phase::Serving
            }
            Phase::Removed(plan) => {
                if state.process.flights.iter().any(|flight| !flight.done) {
                    return None;
                }
                after.disk.sync_directory();
                after.fault = None;
                after.process.chain = vec![plan.number];
                self.serve(&mut after, &plan);
                Phase::Serving
            }
            Phase::Dead | Phase::Serving | Phase::Refused => return None,
        };
        Some(after)
    }

    fn serve(&self, state: &mut State, plan: &Plan) {
        state.process.flights.clear();
        state.process.synced = Position { segment: plan.number, offset: state.process.next };
        let start = views(&plan.groups);
        state.promise.serve(start);
        self.answer_votes(state);
    }

    /// The seal behind the predecessor's end, where there is a block for it. Otherwise a closing seal stands there.
    fn point_at(&self, state: &mut State, plan: &Plan) {
        let Some(end) = plan.predecessor else { return };
        let place = Position { offset: round_up(end.offset), ..end };
        let is_gone = state.disk.file(end.segment).is_none();
        if is_gone || place.offset + BLOCK_UNITS > self.bounds.blocks * BLOCK_UNITS {
            return;
        }
        let durable_end = Position { segment: plan.number, offset: FIRST };
        let previous = Reader::new(&state.disk, Mutation::None).checksum_before(end);
        let kind = (0, Kind::Seal(Some(plan.number)));
        let seeded = !self.without(Mutation::UnseededChecksum);
        let seal = Batch::new(place, 1, kind, durable_end, previous, seeded);
        let id = state.process.next_flight;
        let content = [Unit::Part(seal, 0), Unit::Zero];
        state.disk.write(place.segment, Owner::Flight(id), place.offset / BLOCK_UNITS, content);
        let (buffered, done, stands_on) = (false, false, 0);
        state.process.flights.push(Flight { id, end, buffered, done, carries: Carries::Seal, stands_on });
        state.process.next_flight += 1;
    }

    /// The header of the new segment, and for healing a copy of everything alive.
    fn write_first(&self, state: &mut State, plan: &Plan) {
        state.process.groups = plan.groups.to_vec();
        state.process.chain.clone_from(&plan.chain);
        let id = state.process.next_flight;
        let end = Position { segment: plan.number, offset: FIRST };
        self.write_header(state, plan.number, plan.predecessor);
        let header = Carries::Header;
        state.process.flights.push(Flight {
            id,
            end,
            buffered: false,
            done: false,
            carries: header,
            stands_on: 0,
        });
        state.process.next_flight += 1;
        // While it heals, nothing is promised that was not before: its writes are no states of their own.
        let promise = state.promise.clone();
        if plan.heals {
            for (index, group) in plan.groups.iter().enumerate() {
                let entries: Vec<_> = group.slots.iter().filter_map(|slot| slot.entry).collect();
                if !entries.is_empty() {
                    let copy = Kind::Copy { first: group.base.lsn + 1, entries };
                    self.submit(state, index as u8, copy, 1, false);
                }
            }
        }
        state.promise = promise;
    }

    /// A write of an open ends well.
    pub fn land_opening(&self, state: &mut State, id: u8) {
        state.disk.land(Owner::Flight(id));
        state
            .process
            .flights
            .iter_mut()
            .filter(|flight| flight.id == id)
            .for_each(|flight| flight.done = true);
    }

    /// What healing makes of damaged groups, asking other replicas for what is doubtful here. They have seen what was
    /// acknowledged here, or more.
    fn healed(&self, state: &State, damaged: &[Group], peer_ahead: bool) -> Result<Vec<Group>, String> {
        let promise = &state.promise;
        let mut peers: Vec<usize> = (usize::from(promise.acknowledged)..promise.states.len()).collect();
        if peer_ahead {
            peers.reverse();
        }
        for peer in peers {
            if let Some(healed) = self.healed_from(state, damaged, peer)? {
                return Ok(healed);
            }
        }
        Err("the log cannot be healed, and a good copy of everything acknowledged exists".into())
    }

    /// `None`: this replica does not hold what is current here where the hole ends, nor the base.
    fn healed_from(
        &self,
        state: &State,
        damaged: &[Group],
        peer: usize,
    ) -> Result<Option<Vec<Group>>, String> {
        let promise = &state.promise;
        let peer = &promise.states[peer];
        // A replica is good for what it is asked for. For the rest it may be behind.
        let behind = &promise.states[0];
        let mut healed = Vec::new();
        for (index, group) in damaged.iter().enumerate() {
            let holds =
                |mark: Mark| peer[index].base == mark || peer[index].term(mark.lsn) == Some(mark.term);
            let lacks =
                group.wanted.is_some_and(|mark| !holds(mark)) || group.base.lsn > 0 && !holds(group.base);
            if lacks && !group.complete() && !self.without(Mutation::HealFromAnyPeer) {
                return Ok(None);
            }
            let mut whole = if group.complete() {
                group.clone()
            } else {
                let file_is_gone = state.fault == Some(Fault::File);
                fill(group, &peer[index], file_is_gone).ok_or_else(|| {
                    format!("group {}: an entry above its base is gone, and no rot took it", index + 1)
                })?
            };
            if self.without(Mutation::HealOverwrites) && group.complete() {
                let lsns = behind[index].base.lsn + 1..;
                for (lsn, entry) in lsns.zip(&behind[index].entries) {
                    let at = lsn.checked_sub(whole.base.lsn + 1).map(usize::from);
                    if let Some(slot) = at.and_then(|at| whole.slots.get_mut(at)) {
                        slot.entry = *entry;
                    }
                }
            }
            healed.push(whole);
        }
        Ok(Some(healed))
    }
}

/// Fills what is doubtful or missing in a group from a good copy. `None`: what is missing is nothing that a hole took.
fn fill(damaged: &Group, good: &View, file_is_gone: bool) -> Option<Group> {
    let mut whole = damaged.clone();
    if whole.base.lsn < good.base.lsn {
        let gone = usize::from(good.base.lsn - whole.base.lsn).min(whole.slots.len());
        whole.slots.drain(..gone);
        whole.base = good.base;
    }
    if whole.open_end {
        let known = Slot { entry: None, doubtful: true, home: 0 };
        let last = usize::from(good.base.lsn) + good.entries.len();
        whole.slots.resize(last.saturating_sub(usize::from(whole.base.lsn)), known);
        whole.open_end = false;
    }
    for (lsn, slot) in (whole.base.lsn + 1..).zip(&mut whole.slots) {
        if slot.entry.is_none() && !slot.doubtful && !file_is_gone {
            return None;
        }
        if slot.entry.is_none() || slot.doubtful {
            let fetched =
                lsn.checked_sub(good.base.lsn + 1).and_then(|at| *good.entries.get(usize::from(at))?);
            *slot = Slot { entry: fetched, doubtful: false, home: slot.home };
        }
    }
    whole.wanted = None;
    whole.last_term =
        whole.slots.last().and_then(|slot| slot.entry).map_or(whole.base.term, |entry| entry.term);
    whole.complete().then_some(whole)
}
