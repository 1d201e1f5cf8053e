//! What can happen next: every step of a process, every deed of the disk.

use super::bytes::{BLOCK_UNITS, Kind, Mark, Position, Unit, zeros};
use super::disk::{Disk, Owner};
use super::end_rule::Reader;
use super::group::Group;
use super::mutation::Mutation;
use super::promise::{Promise, show, views};
use super::search::World;
use super::state::{Carries, Fault, Flight, LogWorld, Phase, Process, Roll, State};
use super::step::Step;

impl World for LogWorld {
    type State = State;
    type Step = Step;

    fn start(&self) -> State {
        let groups = vec![Group::default(); usize::from(self.bounds.groups)];
        let mut state = State {
            disk: Disk::default(),
            promise: Promise::new(views(&groups)),
            process: Process { groups, ..Process::default() },
            committed: vec![0; usize::from(self.bounds.groups)],
            fault: None,
            payload: 0,
            budget: self.bounds.budget,
        };
        state.disk.create(1, self.bounds.blocks);
        state.disk.sync_directory();
        self.write_header(&mut state, 1, None);
        state.disk.land(Owner::Flight(0));
        state.process.synced = Position { segment: 1, offset: state.process.next };
        state
    }

    fn steps(&self, state: &State, steps: &mut Vec<Step>) {
        match &state.process.phase {
            Phase::Refused => return,
            Phase::Dead => {
                for which in 0..self.open_outcomes(state) {
                    steps.push(Step::Open { which, peer_ahead: false });
                    if self.bounds.heals
                        && usize::from(state.promise.acknowledged) + 1 < state.promise.states.len()
                    {
                        steps.push(Step::Open { which, peer_ahead: true });
                    }
                }
            }
            Phase::Serving => self.serving_steps(state, steps),
            Phase::Cleaned(_)
            | Phase::Created(_)
            | Phase::Written(_)
            | Phase::Pointed(_)
            | Phase::Cleared(_)
            | Phase::Removed(_) => steps.push(Step::OpenOn),
        }
        self.disk_steps(state, steps);
    }

    fn take(&self, state: &State, step: Step) -> Result<State, String> {
        if let Step::Open { which, peer_ahead } = step {
            return self.open(state, which, peer_ahead);
        }
        if let Step::OpenOn = step {
            return Ok(self.open_on(state).unwrap_or_else(|| state.clone()));
        }
        let mut after = state.clone();
        self.change(&mut after, step);
        Ok(after)
    }

    fn tell(&self, before: &State, step: Step, after: Option<&State>) -> String {
        let mut told = step.to_string();
        if let Step::Cut { which } = step {
            told = format!("{told}: {}", before.disk.outcome(true, which).1.join(", "));
        }
        if let Step::Open { which, .. } = step
            && self.bounds.waits
        {
            let late = before.disk.outcome(false, which).1;
            if !late.is_empty() {
                told = format!("{told}; of the late writes {}", late.join(", "));
            }
        }
        let Some(after) = after else { return told };
        let mut seen: Vec<String> = written(before);
        for batch in written(after) {
            if let Some(index) = seen.iter().position(|other| *other == batch) {
                seen.remove(index);
            } else {
                told = format!("{told}\n      - {batch}");
            }
        }
        let served = matches!(step, Step::Open { .. } | Step::OpenOn)
            && after.promise.states.len() == 1
            && after.process.flights.is_empty();
        if served {
            told = format!("{told}\n      - holds {}", show(&after.promise.states[0]));
        }
        if after.promise.votes != before.promise.votes {
            told = format!("{told}\n      - the vote is answered");
        }
        let acknowledged = |state: &State| state.promise.dropped + state.promise.acknowledged;
        if after.process.phase == Phase::Serving && acknowledged(after) > acknowledged(before) {
            told = format!("{told}\n      - acknowledged up to {}", after.process.synced);
        }
        told
    }
}

/// The batches on their way to the disk.
fn written(state: &State) -> Vec<String> {
    let pending = state.disk.files.iter().flat_map(|file| &file.pending).flat_map(|pending| &pending.content);
    let mut batches: Vec<String> = pending
        .filter_map(|unit| match unit {
            Unit::Part(batch, 0) => Some(batch.to_string()),
            Unit::Head(header) => Some(match header.predecessor {
                Some(end) => format!("header of segment {}: its predecessor ended at {end}", header.segment),
                None => format!("header of segment {}", header.segment),
            }),
            _ => None,
        })
        .collect();
    batches.sort();
    batches.dedup();
    batches
}

impl LogWorld {
    fn serving_steps(&self, state: &State, steps: &mut Vec<Step>) {
        let (process, budget) = (&state.process, &state.budget);
        let room = self.has_room(state, 1);
        for group in (0..self.bounds.groups).filter(|_| room) {
            let log = &process.groups[usize::from(group)];
            let floor = log.commit.max(log.base.lsn).max(state.committed[usize::from(group)]);
            if budget.appends > 0 {
                steps.push(Step::Append { group, units: 1, buffered: false });
            }
            if budget.long_appends > 0 && self.has_room(state, 3) {
                steps.push(Step::Append { group, units: 3, buffered: false });
            }
            if budget.buffered > 0 {
                steps.push(Step::Append { group, units: 1, buffered: true });
            }
            for entries in (1..=2).filter(|_| budget.overrides > 0) {
                if log.last().lsn >= floor + entries {
                    steps.push(Step::Override { group, entries });
                }
            }
            let window = usize::from(self.bounds.window);
            if budget.votes > 0 && self.has_room(state, 3) && process.flights.len() + 1 < window {
                steps.push(Step::Vote { group });
            }
            if budget.bases > 0 && log.commit > log.base.lsn {
                steps.push(Step::Base { group });
            }
            if budget.jumps > 0 {
                let last = log.last();
                let term = last.term + 1;
                steps.push(Step::Jump { group, mark: Mark { lsn: last.lsn + 1, term } });
                if last.lsn > floor + 1 {
                    steps.push(Step::Jump { group, mark: Mark { lsn: last.lsn - 1, term } });
                }
            }
            if budget.copies > 0 && process.chain.len() > 1 && self.held_by_oldest(state, group).is_some() {
                steps.push(Step::Copy { group });
            }
            if self.bounds.commits && self.acknowledged(state, group) > log.commit {
                steps.push(Step::Commit { group });
            }
        }
        if room && budget.seals > 0 && process.flights.is_empty() {
            steps.push(Step::Seal);
        }
        let dirty = process.flights.iter().any(|flight| flight.buffered && !flight.done);
        if dirty {
            steps.push(Step::FullSync);
            if budget.lost > 0 {
                steps.push(Step::FullSyncLost);
            }
            for landed in (0..1 << state.disk.owed(Owner::Cache)).filter(|_| budget.failures > 0) {
                steps.push(Step::FailFull { landed });
            }
        }
        if budget.purges > 0 && self.can_let_go(state) {
            steps.push(Step::LetGo);
        }
        if budget.rolls > 0 && process.roll == Roll::None && !process.flights.iter().any(is_header) {
            // Where late writes may land, an old segment is removed: what lands in it then harms nobody.
            let settled = self.bounds.waits || self.without(Mutation::RecycleUnderLateWrites);
            if self.bounds.recycles && settled && self.can_let_go(state) {
                steps.push(Step::Roll { recycle: true });
            }
            steps.push(Step::Roll { recycle: false });
        }
        if self.can_roll_on(state) {
            steps.push(Step::RollOn);
        }
    }

    /// The last LSN of a group that is acknowledged.
    fn acknowledged(&self, state: &State, group: u8) -> u8 {
        let open = state.process.flights.iter().filter_map(|flight| match flight.carries {
            Carries::Entry { group: of, lsn } if of == group => Some(lsn - 1),
            _ => None,
        });
        let last = state.process.groups[usize::from(group)].last().lsn;
        open.min().map_or(last, |open| open.min(last))
    }

    fn disk_steps(&self, state: &State, steps: &mut Vec<Step>) {
        let (process, budget) = (&state.process, &state.budget);
        let serving = process.phase == Phase::Serving;
        for flight in process.flights.iter().filter(|flight| !flight.done && !flight.buffered) {
            let id = flight.id;
            steps.push(Step::Land { flight: id });
            if budget.failures > 0 && serving {
                let blocks = state.disk.owed(Owner::Flight(id));
                steps.extend((0..1 << blocks).map(|landed| Step::Fail { flight: id, landed }));
            }
            // A vote is read back past the cache: what the disk loses then is seen.
            let trusted = serving && !matches!(flight.carries, Carries::Vote { .. });
            if trusted && budget.lost > 0 {
                steps.push(Step::LandLost { flight: id });
            }
            if trusted && budget.misdirected > 0 {
                let victims = state.disk.used_blocks().into_iter().filter(|at| self.guarded(state, *at));
                steps.extend(victims.map(|(number, block)| Step::LandElsewhere {
                    flight: id,
                    number,
                    block,
                }));
            }
        }
        let idle = process.phase == Phase::Dead;
        if budget.cuts > 0 {
            // A dead process loses to a power cut only what is still undecided.
            let outcomes = state.disk.outcomes(true);
            if !idle || outcomes > 1 || state.disk.files.iter().any(|file| !file.deceiving.is_empty()) {
                steps.extend((0..outcomes).map(|which| Step::Cut { which }));
            }
        }
        if budget.kills > 0 && !idle {
            steps.push(Step::Kill);
        }
        if !self.bounds.waits || self.without(Mutation::NoWaitForLateWrites) {
            steps.extend((0..state.disk.owed(Owner::Late)).map(|index| Step::LateLand { index }));
        }
        if serving || idle {
            if budget.rots > 0 {
                let used = state.disk.used_blocks().into_iter().filter(|at| self.guarded(state, *at));
                steps.extend(used.map(|(number, block)| Step::Rot { number, block }));
            }
            if budget.vanished > 0 && idle {
                // What nothing can name may vanish unseen: the only segment there is.
                let numbers = state.disk.numbers();
                let named = numbers.iter().filter(|number| self.is_named(state, **number));
                steps.extend(named.map(|&number| Step::Vanish { number }));
            }
        }
    }

    /// Where late writes may land, the header of the newest segment is not hit before a batch stands behind it: until
    /// then it alone bounds its predecessor. It is the same window as that of the last batches.
    fn guarded(&self, state: &State, (number, block): (u8, u8)) -> bool {
        let reader = Reader::new(&state.disk, Mutation::None);
        let named = state.disk.numbers().iter().any(|other| {
            reader
                .header(*other)
                .and_then(|header| header.predecessor)
                .is_some_and(|end| end.segment == number)
        });
        self.bounds.waits
            || block > 0
            || named
            || reader.batches(number).iter().any(|batch| batch.durable_end.segment == number)
    }

    /// Whether something names a segment, or has to: the one before the newest names that one.
    fn is_named(&self, state: &State, number: u8) -> bool {
        let reader = Reader::new(&state.disk, Mutation::None);
        let numbers = state.disk.numbers();
        let by_header = numbers.iter().any(|other| {
            reader
                .header(*other)
                .and_then(|header| header.predecessor)
                .is_some_and(|end| end.segment == number)
        });
        let seals = |batch: &std::rc::Rc<super::bytes::Batch>| batch.kind == Kind::Seal(Some(number));
        let newest = numbers.iter().all(|other| *other <= number || reader.header(*other).is_none());
        let before = reader.header(number).and_then(|header| header.predecessor);
        let follows = before.is_some_and(|end| numbers.contains(&end.segment));
        let by_seal = || numbers.iter().any(|other| reader.batches(*other).iter().any(seals));
        by_header || newest && (follows || by_seal())
    }

    fn change(&self, state: &mut State, step: Step) {
        match step {
            Step::Append { group, units, buffered } => {
                let paid = match (units, buffered) {
                    (_, true) => &mut state.budget.buffered,
                    (1, _) => &mut state.budget.appends,
                    _ => &mut state.budget.long_appends,
                };
                *paid -= 1;
                let last = state.process.groups[usize::from(group)].last();
                self.append(state, group, last, last.term.max(1), units, buffered);
            }
            Step::Override { group, entries } => self.override_last(state, group, entries),
            Step::FullSync => self.full_sync(state, true),
            Step::FullSyncLost => {
                spend_fault(state, Fault::Block);
                let mut pending = state.disk.files.iter_mut().flat_map(|file| &mut file.pending);
                if let Some(last) = pending.rfind(|pending| pending.owner == Owner::Cache) {
                    last.owner = Owner::Flight(u8::MAX);
                }
                take_first_block(&mut state.disk, u8::MAX);
                self.full_sync(state, false);
            }
            Step::Commit { group } => {
                let acknowledged = self.acknowledged(state, group);
                state.process.groups[usize::from(group)].commit = acknowledged;
                state.committed[usize::from(group)] = acknowledged;
            }
            Step::Vote { group } => {
                state.budget.votes -= 1;
                self.vote(state, group);
            }
            Step::Seal => {
                state.budget.seals -= 1;
                self.submit(state, 0, Kind::Seal(None), 1, false);
            }
            Step::Base { group } => {
                state.budget.bases -= 1;
                if let Some(mark) = state.process.committed(group) {
                    self.submit(state, group, Kind::Base { mark, stays: true }, 1, false);
                }
            }
            Step::Jump { group, mark } => {
                state.budget.jumps -= 1;
                let stays = self.without(Mutation::BaseIgnoresTerm);
                self.submit(state, group, Kind::Base { mark, stays }, 1, false);
            }
            Step::Copy { group } => {
                state.budget.copies -= 1;
                if let Some(copy) = self.held_by_oldest(state, group) {
                    self.submit(state, group, copy, 1, false);
                }
            }
            Step::LetGo => {
                state.budget.purges -= 1;
                let oldest = state.process.chain.remove(0);
                state.disk.remove(oldest);
            }
            Step::Roll { recycle } => {
                state.budget.rolls -= 1;
                self.begin_roll(state, recycle);
            }
            Step::RollOn => self.roll_on(state),
            Step::Land { flight } if state.process.phase == Phase::Serving => self.land(state, flight, true),
            Step::Land { flight } => self.land_opening(state, flight),
            Step::LandLost { flight } => {
                spend_fault(state, Fault::Block);
                take_first_block(&mut state.disk, flight);
                self.land(state, flight, false);
            }
            Step::LandElsewhere { flight, number, block } => {
                spend_fault(state, Fault::Elsewhere);
                let content = take_first_block(&mut state.disk, flight).unwrap_or_else(zeros);
                state.disk.damage(number, block, content);
                self.land(state, flight, false);
            }
            Step::Fail { flight, landed } => {
                state.budget.failures -= 1;
                state.disk.fail(Owner::Flight(flight), landed);
                self.die(state, true);
            }
            Step::FailFull { landed } => {
                state.budget.failures -= 1;
                state.disk.fail(Owner::Cache, landed);
                self.die(state, true);
            }
            Step::Cut { which } => {
                state.budget.cuts -= 1;
                self.die(state, true);
                state.disk = state.disk.outcome(true, which).0;
            }
            Step::Kill => {
                state.budget.kills -= 1;
                self.die(state, false);
            }
            Step::LateLand { index } => state.disk.land_late(index),
            Step::Rot { number, block } => {
                spend_fault(state, Fault::Block);
                state.disk.damage(number, block, [Unit::Bad, Unit::Bad]);
            }
            Step::Vanish { number } => {
                spend_fault(state, Fault::File);
                state.disk.remove(number);
                state.disk.files.retain(|file| file.seen.is_some() || file.kept != Some(number));
            }
            Step::Open { .. } | Step::OpenOn => {}
        }
    }

    fn override_last(&self, state: &mut State, group: u8, entries: u8) {
        state.budget.overrides -= 1;
        let log = &state.process.groups[usize::from(group)];
        let (last, early) = (log.last(), self.held_by_oldest(state, group));
        let lsn = last.lsn - entries;
        let Some(term) = log.term(lsn) else { return };
        self.append(state, group, Mark { lsn, term }, last.term + 1, 1, false);
        let composed_early =
            self.without(Mutation::CopyComposedEarly) || self.without(Mutation::CopyReplaces);
        if let (true, Some(copy), true) = (composed_early, early, state.process.chain.len() > 1) {
            self.submit(state, group, copy, 1, false);
        }
    }

    /// The process dies. What is in the page cache stays promised, unless the cache itself is lost or has lied.
    fn die(&self, state: &mut State, cache_is_lost: bool) {
        let (process, promise) = (&state.process, &mut state.promise);
        let held = process.flights.iter().take_while(|flight| flight.done || flight.buffered).count() as u8;
        let served = process.phase == Phase::Serving;
        promise.written = match (cache_is_lost, served) {
            (true, _) => 0,
            (false, true) => promise.acknowledged + held,
            (false, false) => promise.written,
        };
        state.disk.kill();
        state.process = Process { phase: Phase::Dead, ..Process::default() };
        if self.bounds.fresh_payloads && served {
            state.payload += 1;
        }
    }
}

/// One fault happens, and no other: one good copy always exists.
fn spend_fault(state: &mut State, fault: Fault) {
    let budget = &mut state.budget;
    (budget.rots, budget.lost, budget.misdirected, budget.vanished) = (0, 0, 0, 0);
    state.fault = Some(fault);
}

fn is_header(flight: &Flight) -> bool {
    flight.carries == Carries::Header
}

/// Takes the first block of a flight away, before it lands.
fn take_first_block(disk: &mut Disk, flight: u8) -> Option<super::bytes::Block> {
    for file in &mut disk.files {
        if let Some(index) = file.pending.iter().position(|pending| pending.owner == Owner::Flight(flight)) {
            return Some(file.pending.remove(index).content);
        }
    }
    None
}

const _: () = assert!(BLOCK_UNITS == 2, "the disk model decides units by halves of a block");
