//! A disk, a clock, background work that moves when told, and short ways to say common things.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use logwood_base::disk::SimulatedDisk;
use logwood_base::environment::{ManualClock, ManualSpawner, SeededRandom};
use logwood_base::{DatabaseId, Environment, GroupId, LogPosition, Lsn, NodeId, Result, Term};

use super::hooked::HookedDisk;
use crate::{Append, BaseState, Durability, Group, Log, LogOptions, Ticket};

pub(crate) const DATABASE: DatabaseId = DatabaseId(7);
pub(crate) const GROUP: GroupId = GroupId(1);

pub(crate) struct World {
    pub(crate) disk: SimulatedDisk,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) spawner: ManualSpawner,
    pub(crate) env: Environment,
    pub(crate) dir: PathBuf,
}

impl World {
    pub(crate) fn new(seed: u64) -> Self {
        Self::over(SimulatedDisk::new(seed), seed)
    }

    /// The same machine later, or in another future.
    pub(crate) fn over(disk: SimulatedDisk, seed: u64) -> Self {
        let clock = Arc::new(ManualClock::new(1_000));
        let spawner = ManualSpawner::new();
        let env = Environment {
            disk: Arc::new(disk.clone()),
            clock: Arc::clone(&clock) as Arc<_>,
            random: Arc::new(SeededRandom::new(seed)),
            spawner: Arc::new(spawner.clone()),
        };
        Self { disk, clock, spawner, env, dir: PathBuf::from("log") }
    }

    /// The same where the disk cannot be read past its cache.
    pub(crate) fn without_direct_reads(disk: SimulatedDisk, seed: u64) -> Self {
        let mut world = Self::over(disk, seed);
        world.env.disk = HookedDisk::without_direct_reads(&world.disk);
        world
    }

    pub(crate) fn create(&self, options: LogOptions) -> Result<(Log, Group)> {
        let log = Log::create(&self.env, &self.dir, DATABASE, options)?;
        let group = log.create_group(GROUP, BaseState::default())?;
        Ok((log, group))
    }

    /// Lets background work run until it is at rest, with time passing.
    pub(crate) fn rest(&self) {
        for _ in 0..4 {
            self.spawner.run_until_idle(self.env.clock.monotonic(), 10_000);
            self.clock.advance(Duration::from_millis(6));
        }
    }
}

/// Small segments.
pub(crate) fn small() -> LogOptions {
    LogOptions { segment_bytes: 64 << 10, batch_bytes_max: 8 << 10, ..LogOptions::default() }
}

/// The payload that entry `lsn` of `term` has in these tests.
pub(crate) fn payload(lsn: Lsn, term: Term, bytes: usize) -> Vec<u8> {
    let mut rng = fastrand::Rng::with_seed(lsn.0.wrapping_mul(1_000).wrapping_add(term.0));
    let mut payload = vec![0; bytes];
    rng.fill(&mut payload);
    payload
}

pub(crate) fn append_at(
    group: &Group,
    first: Lsn,
    term: Term,
    count: usize,
    bytes: usize,
    durability: Durability,
) -> Result<Ticket> {
    let payloads: Vec<_> = (0..count as u64).map(|n| payload(Lsn(first.0 + n), term, bytes)).collect();
    let entries: Vec<_> = payloads.iter().map(|payload| (term, &payload[..])).collect();
    group.append(Append { term, previous: None, first_lsn: first, entries: &entries, durability })
}

/// Appends behind the last entry and waits.
pub(crate) fn commit(group: &Group, term: u64, bytes: usize) -> Result<Lsn> {
    let lsn = group.last().0.next();
    append_at(group, lsn, Term(term), 1, bytes, Durability::Durable)?.wait()?;
    Ok(lsn)
}

/// Records a vote. Answers where its copies were placed.
pub(crate) fn vote(log: &Log, term: Term, node: NodeId) -> Vec<LogPosition> {
    let queued = log.shared.queue_state(GROUP, Some((term, node)), None).unwrap();
    log.shared.wait(queued.sequence).unwrap();
    let state = log.shared.state.lock();
    let copies = state.groups[&GROUP].state_at.iter();
    let places = copies.map(|(segment, start, _)| LogPosition::new(segment.number, *start)).collect();
    drop(state);
    log.shared.read_back_state(GROUP, &queued).unwrap();
    places
}

/// All entries of a group from its first, checked against what these tests write.
pub(crate) fn contents(group: &Group, bytes: usize) -> Vec<(Lsn, Term)> {
    let mut found = Vec::new();
    let mut cursor = group.cursor(group.first_lsn());
    while let Some(entry) = cursor.next().expect("entries can be read") {
        assert_eq!(entry.payload, payload(entry.lsn, entry.term, bytes), "payload of {}", entry.lsn);
        found.push((entry.lsn, entry.term));
    }
    found
}
