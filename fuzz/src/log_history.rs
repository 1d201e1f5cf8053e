//! A script of calls on a log of two groups over a simulated disk, with crashes, faults and flipped bits, beside a
//! model.
//!
//! The input is cut into steps of four bytes: what, and three arguments; every input is a valid script.
//!
//! | what mod 16 | step |
//! |---|---|
//! | 0–4 | append entries to a group, perhaps in a new term and over entries that are not committed |
//! | 5 | call what is acknowledged committed |
//! | 6 | vote |
//! | 7 | let entries go |
//! | 8 | let time pass and background work go on |
//! | 9 | close and open |
//! | 10 | kill the process, its writes landing before or after the next one opens |
//! | 11 | cut the power |
//! | 12, 13 | cut the power, or kill, at the n-th changing call from here |
//! | 14 | the n-th call of a kind fails |
//! | 15 | close, flip a bit of a file, open, judge; the script ends |
//!
//! The model is, per group, a list of states, one per appended entry. (Between groups no order is promised: each
//! gathers its own batches.) Held:
//! 1. A log that is opened holds one whole state of each group, not older than what was acknowledged: durably for a
//!    power cut, at all for a kill. It opens, whenever nothing but crashes happened.
//! 2. A vote that was answered stays, or a newer one that was begun is there.
//! 3. A call fails only when a fault was armed.
//! 4. After a flipped bit, the log is refused as damaged or holds the last state; refused, it is healed by the entries
//!    that were written, and then holds the last state.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use logwood_base::disk::SimulatedDisk;
use logwood_base::disk::simulated::{Fault, Operation, Outcome};
use logwood_base::environment::{ManualClock, ManualSpawner, SeededRandom};
use logwood_base::{Clock, DatabaseId, Environment, Error, GroupId, Lsn, NodeId, Result, Term};
use logwood_wal::{Append, BaseState, Durability, Entry, Expect, Group, Hole, Log};

use crate::log_segment::options;

const DIR: &str = "db/log";
const GROUPS: u64 = 2;
/// Steps beyond these are not run.
const STEPS_MAX: usize = 200;

/// The entries of a group, from LSN 1 on: term and payload.
type Entries = Vec<(u64, Arc<[u8]>)>;

/// What the model knows of a group.
struct Model {
    /// The states after each entry that was appended; the first is the empty group.
    history: Vec<Entries>,
    /// The newest state that a power cut must leave.
    durable: usize,
    /// The newest state that a kill must leave.
    acknowledged: usize,
    /// The term of the next append.
    term: u64,
    /// How many entries were called committed.
    committed: u64,
    /// Up to where entries were let go.
    released: u64,
    /// The last vote that was answered, and those begun since.
    votes: Vec<(u64, u64)>,
}

impl Model {
    fn new() -> Self {
        Self {
            history: vec![Entries::new()],
            durable: 0,
            acknowledged: 0,
            term: 1,
            committed: 0,
            released: 0,
            votes: vec![(0, 0)],
        }
    }

    fn now(&self) -> &Entries {
        self.history.last().expect("the empty group is there")
    }

    /// Whether what a log holds is this state. Entries may be gone that were let go.
    fn is(&self, at: usize, base: u64, held: &Entries) -> bool {
        base <= self.released && self.history[at].get(base as usize..).is_some_and(|rest| rest == held)
    }
}

/// What must be there after a process ended.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Least {
    Durable,
    Acknowledged,
}

/// Runs the target.
pub fn run(bytes: &[u8]) {
    let seed = bytes.iter().take(8).fold(11, |seed, byte| seed << 8 ^ u64::from(*byte));
    let mut world = World::new(seed);
    for step in bytes.chunks_exact(4).take(STEPS_MAX) {
        let [what, a, b, c] = *step else { unreachable!("chunks of four") };
        if what % 16 == 15 {
            return world.flip(usize::from(a), u32::from_le_bytes([b, c, a, 0]), 1 << (a % 8));
        }
        if world.step(what, a, b, c).is_err() {
            world.fell();
        }
    }
    world.disk.cancel_stop();
    world.disk.clear_faults();
    world.end_process();
    world.disk.kill_process();
    world.open_with(Least::Acknowledged);
}

struct World {
    disk: SimulatedDisk,
    clock: Arc<ManualClock>,
    spawner: ManualSpawner,
    random: Arc<SeededRandom>,
    rng: fastrand::Rng,
    log: Option<Log>,
    groups: BTreeMap<u64, Model>,
    armed: bool,
    counter: u32,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut world = Self {
            disk: SimulatedDisk::new(seed),
            clock: Arc::new(ManualClock::new(1_000_000)),
            spawner: ManualSpawner::new(),
            random: Arc::new(SeededRandom::new(seed)),
            rng: fastrand::Rng::with_seed(seed),
            log: None,
            groups: (1..=GROUPS).map(|group| (group, Model::new())).collect(),
            armed: false,
            counter: 0,
        };
        let log = Log::create(&world.environment(), Path::new(DIR), DatabaseId(0xdb), options())
            .expect("a new log on a sound disk");
        for group in 1..=GROUPS {
            log.create_group(GroupId(group), BaseState::default()).expect("a new group");
        }
        world.log = Some(log);
        world
    }

    fn environment(&self) -> Environment {
        Environment {
            disk: Arc::new(self.disk.clone()),
            clock: self.clock.clone(),
            random: self.random.clone(),
            spawner: Arc::new(self.spawner.clone()),
        }
    }

    fn log(&self) -> &Log {
        self.log.as_ref().expect("the log is open")
    }

    fn group(&self, number: u64) -> Group {
        self.log().group(GroupId(number)).expect("it was created")
    }

    fn model(&mut self, number: u64) -> &mut Model {
        self.groups.get_mut(&number).expect("it was created")
    }

    fn open_log(&self) -> Result<Log> {
        let expect = Expect { database: Some(DatabaseId(0xdb)), ..Expect::default() };
        Ok(Log::open(&self.environment(), Path::new(DIR), expect, options(), &mut |_| ())?.0)
    }

    /// Opens, and requires one whole state of each group, not older than `least`.
    fn open_with(&mut self, mut least: Least) {
        for _ in 0..8 {
            let opened = self.open_log().and_then(|log| Ok((self.held(&log)?, log)));
            match opened {
                Ok((found, log)) => {
                    self.log = Some(log);
                    self.adopt(&found, least);
                    return;
                }
                Err(error) => {
                    assert!(self.armed, "does not open: {error}");
                    least = least.min(self.stop());
                }
            }
        }
        panic!("does not open although nothing is armed any more");
    }

    /// Requires that what is there may be there, and goes on from it.
    fn adopt(&mut self, found: &BTreeMap<u64, (u64, Entries)>, least: Least) {
        assert_eq!(found.len(), self.groups.len());
        for number in 1..=GROUPS {
            let vote = self.group(number).vote();
            let (base, held) = &found[&number];
            let model = self.model(number);
            let least = if least == Least::Durable { model.durable } else { model.acknowledged };
            let at = (least..model.history.len()).rev().find(|at| model.is(*at, *base, held));
            let at = at.unwrap_or_else(|| {
                let lengths: Vec<usize> = model.history[least..].iter().map(Vec::len).collect();
                let there = base + held.len() as u64;
                panic!("group {number} has {there} entries; none of its states with {lengths:?} is there")
            });
            model.history.truncate(at + 1);
            (model.durable, model.acknowledged) = (at, at);
            // Others may have called committed what this disk has lost.
            model.committed = model.committed.min(model.now().len() as u64);
            let votes = &mut model.votes;
            assert!(votes.contains(&(vote.0.0, vote.1.0)), "the vote {vote:?} is none of {votes:?}");
            *votes = vec![(vote.0.0, vote.1.0)];
        }
    }

    /// Per group: its base, and the entries above.
    fn held(&self, log: &Log) -> Result<BTreeMap<u64, (u64, Entries)>> {
        let mut all = BTreeMap::new();
        for id in log.groups() {
            let group = log.group(id).expect("it was listed");
            let (base, last) = (group.base().0, group.last().0);
            let mut entries = Entries::new();
            while base.0 + (entries.len() as u64) < last.0 {
                let next = Lsn(base.0 + entries.len() as u64 + 1);
                let read = group.read(next, last.next(), 3000)?;
                assert!(!read.is_empty(), "{next} is between base and last, and not read");
                for entry in read {
                    assert_eq!(entry.lsn.0, base.0 + entries.len() as u64 + 1, "LSNs are dense");
                    entries.push((entry.term.0, entry.payload));
                }
            }
            all.insert(id.0, (base.0, entries));
        }
        Ok(all)
    }

    fn end_process(&mut self) {
        self.spawner.kill_all();
        self.log = None;
    }

    /// Ends what is left of a process that failed, and answers which state must be there.
    fn stop(&mut self) -> Least {
        self.disk.cancel_stop();
        self.disk.clear_faults();
        self.end_process();
        self.armed = false;
        self.disk.restart();
        // A power cut may have been what struck.
        Least::Durable
    }

    fn fell(&mut self) {
        assert!(self.armed, "a call failed and nothing was armed");
        let least = self.stop();
        self.open_with(least);
    }

    fn step(&mut self, what: u8, a: u8, b: u8, c: u8) -> Result<()> {
        let number = 1 + u64::from(a) % GROUPS;
        match what % 16 {
            0..=4 => self.append(number, b, c),
            5 => {
                let model = self.model(number);
                // What was overridden since is not acknowledged any more.
                let acknowledged = model.history[model.acknowledged].iter();
                let same = acknowledged.zip(model.now()).take_while(|(old, new)| old == new).count() as u64;
                model.committed = model.committed.max(same);
                let lsn = model.committed;
                self.group(number).set_committed(Lsn(lsn));
                Ok(())
            }
            6 => {
                let model = self.model(number);
                let (term, _) = *model.votes.last().expect("one is known");
                let vote = (term + u64::from(c % 3) + 1, u64::from(b));
                model.votes.push(vote);
                self.group(number).set_vote(Term(vote.0), NodeId(vote.1))?;
                self.model(number).votes = vec![vote];
                Ok(())
            }
            7 => {
                let model = self.model(number);
                model.released = model.committed.min(model.released + u64::from(b)).max(model.released);
                let lsn = model.released;
                self.group(number).release(Lsn(lsn));
                if c.is_multiple_of(2) { self.log().maintain() } else { Ok(()) }
            }
            8 => {
                self.clock.advance(Duration::from_millis(u64::from(b)));
                self.spawner.run_until_idle(self.clock.monotonic(), usize::from(a));
                Ok(())
            }
            9 => {
                self.log().close()?;
                for model in self.groups.values_mut() {
                    model.acknowledged = model.history.len() - 1;
                    model.durable = model.acknowledged;
                }
                self.end_process();
                self.open_with(Least::Durable);
                Ok(())
            }
            10 => {
                self.disk.kill_process();
                self.end_process();
                if c.is_multiple_of(2) {
                    self.disk.land_late_writes(&mut self.rng);
                }
                self.open_with(Least::Acknowledged);
                self.disk.land_late_writes(&mut self.rng);
                Ok(())
            }
            11 => {
                self.rng = fastrand::Rng::with_seed(u64::from(b) << 8 | u64::from(c));
                self.disk.crash(&mut self.rng);
                self.end_process();
                self.open_with(Least::Durable);
                Ok(())
            }
            12 | 13 => {
                self.armed = true;
                let n = 1 + u64::from(b) % 32;
                if what % 16 == 12 {
                    self.disk.crash_at(n)
                } else {
                    self.disk.kill_at(n)
                }
                Ok(())
            }
            _ => {
                self.armed = true;
                let kinds: [&[Operation]; 6] = [
                    Operation::WRITES,
                    Operation::READS,
                    Operation::GROWING,
                    &[Operation::Sync],
                    &[Operation::SyncDir],
                    &[Operation::Create],
                ];
                let outcome = if b.is_multiple_of(2) { Outcome::Io } else { Outcome::DiskFull };
                self.disk
                    .set_fault(Fault::new(kinds[usize::from(a % 6)], outcome).nth(1 + u64::from(c % 16)));
                Ok(())
            }
        }
    }

    fn append(&mut self, number: u64, b: u8, c: u8) -> Result<()> {
        let model = self.model(number);
        let mut entries = model.now().clone();
        let replaced = usize::from(c >> 2 & 3).min(entries.len() - model.committed as usize);
        let replaced = if c & 0x80 == 0 { 0 } else { replaced };
        let term = model.term.max(entries.last().map_or(1, |last| last.0)) + u64::from(replaced > 0);
        model.term = term;
        entries.truncate(entries.len() - replaced);
        let first_lsn = Lsn(entries.len() as u64 + 1);
        let previous = entries.last().map(|last| (first_lsn.previous(), Term(last.0)));
        let mut payloads: Vec<Arc<[u8]>> = Vec::new();
        for n in 0..=c & 3 {
            self.counter += 1;
            let mut payload = vec![self.counter as u8; usize::from(b) * 12 + usize::from(n)];
            payload.splice(..payload.len().min(4), self.counter.to_be_bytes());
            payloads.push(payload.into());
        }
        // A batch may end between the entries of one append: each is a state of its own.
        let mut states = Vec::new();
        for payload in &payloads {
            entries.push((term, payload.clone()));
            states.push(entries.clone());
        }
        let written: Vec<(Term, &[u8])> = payloads.iter().map(|payload| (Term(term), &payload[..])).collect();
        let durability = if c & 0x40 == 0 { Durability::Durable } else { Durability::Buffered };
        let append = Append { term: Term(term), previous, first_lsn, entries: &written, durability };
        let count = entries.len() as u64;
        self.model(number).history.extend(states);
        let ticket = self.group(number).append(append)?;
        let group = self.group(number);
        let last = group.last();
        assert_eq!(last, (Lsn(count), Term(term)));
        let read = group.read(first_lsn, Lsn(first_lsn.0 + 1), 1)?;
        assert_eq!(
            read.first().map(|entry| &*entry.payload),
            Some(&*payloads[0]),
            "appended and not readable"
        );
        // Some are left for a later one to carry.
        if c & 0x20 == 0 {
            ticket.wait()?;
            let model = self.model(number);
            model.acknowledged = model.history.len() - 1;
            if durability == Durability::Durable {
                model.durable = model.acknowledged;
            }
        }
        Ok(())
    }

    /// Closes, flips a bit somewhere, and judges what is there.
    fn flip(&mut self, file: usize, offset: u32, mask: u8) {
        self.disk.cancel_stop();
        self.disk.clear_faults();
        if self.log().close().is_err() {
            return self.fell();
        }
        self.end_process();
        let files: Vec<PathBuf> = self
            .disk
            .paths()
            .into_iter()
            .filter(|path| self.disk.read_file(path).is_some_and(|bytes| !bytes.is_empty()))
            .collect();
        let path = &files[file % files.len()];
        let size = self.disk.read_file(path).expect("it is listed").len() as u64;
        let at = u64::from(offset) % size;
        self.disk.flip_bit(path, at, mask);
        let place = format!("{} at {at}, mask {mask:#x}", path.display());
        match self.open_log().and_then(|log| self.held(&log)) {
            Ok(found) => assert!(self.holds_last(&found), "{place}: another state, and no error"),
            Err(Error::Corruption(_) | Error::UnsupportedFormat { .. }) => self.heal(&place),
            Err(error) => panic!("{place}: not named as damage: {error}"),
        }
    }

    fn holds_last(&self, found: &BTreeMap<u64, (u64, Entries)>) -> bool {
        self.groups.iter().all(|(number, model)| {
            let held = found.get(number);
            held.is_some_and(|(base, held)| model.is(model.history.len() - 1, *base, held))
        })
    }

    /// Gives back what the damage took. Where nothing says which log this is, nothing can be healed.
    fn heal(&self, place: &str) {
        let mut fetch = |hole: &Hole| {
            let entries = self.groups[&hole.group.0].now();
            let last = hole.last.map_or(entries.len() as u64, |(last, _)| last.0);
            let entry = |lsn: u64| Entry {
                lsn: Lsn(lsn),
                term: Term(entries[lsn as usize - 1].0),
                payload: entries[lsn as usize - 1].1.clone(),
            };
            Ok((hole.first.0..=last).map(entry).collect())
        };
        let expect = Expect { database: Some(DatabaseId(0xdb)), ..Expect::default() };
        let healed =
            Log::heal(&self.environment(), Path::new(DIR), expect, options(), &mut |_| (), &mut fetch);
        match healed {
            Ok((log, _)) => {
                let found = self.held(&log).unwrap_or_else(|error| panic!("{place}: healed, then: {error}"));
                assert!(self.holds_last(&found), "{place}: healed to another state");
                log.close().expect("a sound disk");
                drop(log);
                let again = self.open_log().and_then(|log| self.held(&log));
                let again = again.unwrap_or_else(|error| panic!("{place}: healed, then: {error}"));
                assert!(self.holds_last(&again), "{place}: healed, and another state the second time");
            }
            Err(error) => assert!(error.corruption().is_some(), "{place}: not healed: {error}"),
        }
    }
}
