//! A database on a simulated disk, an archive in memory that can be made to fail, and what must hold between them.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use logwood_base::disk::SimulatedDisk;
use logwood_base::environment::{ManualClock, ManualSpawner, SeededRandom};
use logwood_base::{Clock, Environment, LineageId, Lsn};

use crate::archive::chain::{self, Chain, Item};
use crate::archive::layout::{page_key, parse_lsn, snapshot_prefix};
use crate::archive::object::{Kind, SnapshotObject};
use crate::archive::store::{Client, ManualPause, Memory, Retry, Store};
use crate::archive::{ArchiveOptions, Archiver};
use crate::{Database, Durability, Keyspace, Options};

pub(super) use super::faulty::{Fault, Faulty};

pub(super) const DIR: &str = "db";

/// A machine.
#[derive(Clone)]
pub(super) struct Rig {
    pub(super) disk: SimulatedDisk,
    pub(super) clock: Arc<ManualClock>,
    pub(super) spawner: ManualSpawner,
    pub(super) store: Faulty,
    pub(super) environment: Environment,
}

impl Rig {
    pub(super) fn new(seed: u64) -> Self {
        let clock = Arc::new(ManualClock::new(1_000_000));
        Self::with_clock(seed, &Memory::with_clock(Arc::clone(&clock) as Arc<dyn Clock>), clock)
    }

    /// A machine whose archive has a clock of its own, which stands still until it is moved.
    pub(super) fn with_store_clock(seed: u64, store_clock: &Arc<ManualClock>) -> Self {
        let archive = Memory::with_clock(Arc::clone(store_clock) as Arc<dyn Clock>);
        Self::with_clock(seed, &archive, Arc::new(ManualClock::new(1_000_000)))
    }

    /// Another machine, with a disk and a clock of its own and the same archive.
    pub(super) fn beside(seed: u64, disk: SimulatedDisk, archive: &Memory) -> Self {
        Self::on(seed, disk, archive, Arc::new(ManualClock::new(1_000_000)))
    }

    /// Another machine with what this one's disk holds, and with a clock of its own. Its process has ended.
    pub(super) fn copy(&self) -> Self {
        let copy = Self::beside(self.environment.random.u64(), self.disk.snapshot(), &self.store.inner);
        copy.disk.kill_process();
        copy
    }

    fn with_clock(seed: u64, archive: &Memory, clock: Arc<ManualClock>) -> Self {
        Self::on(seed, SimulatedDisk::new(seed), archive, clock)
    }

    fn on(seed: u64, disk: SimulatedDisk, archive: &Memory, clock: Arc<ManualClock>) -> Self {
        let spawner = ManualSpawner::new();
        let environment = Environment {
            disk: Arc::new(disk.clone()),
            clock: Arc::clone(&clock) as Arc<dyn Clock>,
            random: Arc::new(SeededRandom::new(seed)),
            spawner: Arc::new(spawner.clone()),
        };
        Self { disk, clock, spawner, store: Faulty::over(archive), environment }
    }

    pub(super) fn options(&self) -> Options {
        Options::new()
            .log_segment_bytes(64 << 10)
            .page_segment_bytes(64 << 10)
            .cache_bytes(512 << 10)
            .recovery_log_bytes_max(1 << 20)
            .log_recent_bytes_max(16 << 10)
            .log_pool_segments(1)
            .unarchived_log_bytes_max(0)
            .environment(self.environment.clone())
    }

    pub(super) fn open(&self) -> (Database, Keyspace) {
        let db = Database::open(DIR, self.options()).unwrap();
        let keyspace = db.ensure_keyspace("k").unwrap();
        (db, keyspace)
    }

    pub(super) fn archive(&self) -> ArchiveOptions {
        let pause = Arc::new(ManualPause::new(Arc::clone(&self.clock)));
        ArchiveOptions::to_store(Arc::new(self.store.clone()))
            .background(false)
            .snapshot_log_bytes(0)
            .object_bytes(8 << 10)
            .retry(Retry { attempts: 3, ..Retry::default() })
            .pause(pause)
    }

    /// A client that no fault reaches.
    pub(super) fn client(&self) -> Client {
        self.client_of(Arc::new(self.store.inner.clone()))
    }

    pub(super) fn client_of(&self, store: Arc<dyn Store>) -> Client {
        let pause = Arc::new(ManualPause::new(Arc::clone(&self.clock)));
        Client::with_pause(store, &self.environment, Retry { attempts: 1, ..Retry::default() }, pause)
    }

    pub(super) fn has_page(&self, hash: &[u8; 32]) -> bool {
        self.store.inner.peek(&page_key(hash)).is_some()
    }

    /// Lets time pass, and background work with it.
    pub(super) fn pass(&self, time: Duration) {
        let until = self.clock.monotonic() + time;
        loop {
            assert!(
                self.spawner.run_until_idle(self.clock.monotonic(), 100_000),
                "background work never rests"
            );
            let now = self.clock.monotonic();
            if now >= until {
                return;
            }
            let due = self.spawner.next_due().unwrap_or(until).clamp(now, until);
            self.clock.advance((due - now).max(Duration::from_millis(1)));
        }
    }

    /// Ends the process: what was cached survives when there is no power cut.
    pub(super) fn kill(&self, power_cut: Option<u64>) {
        self.spawner.kill_all();
        match power_cut {
            Some(seed) => self.disk.crash(&mut fastrand::Rng::with_seed(seed)),
            None => self.disk.kill_process(),
        }
    }
}

/// Commits `count` records of `bytes` bytes, compressible in part.
pub(super) fn fill(
    db: &Database,
    keyspace: &Keyspace,
    range: Range<u32>,
    bytes: usize,
    durability: Durability,
) {
    for n in range {
        let mut batch = db.batch();
        let value: Vec<u8> = format!("value of {n} ").into_bytes().into_iter().cycle().take(bytes).collect();
        batch.put(keyspace, format!("key {:05}", n % 300).as_bytes(), &value).unwrap();
        db.commit(batch, durability).unwrap();
    }
}

/// Commits much, and lets the log go of all of it that nobody holds.
pub(super) fn fill_and_let_go(db: &Database, keyspace: &Keyspace, rounds: Range<u32>) {
    for round in rounds {
        fill(db, keyspace, round * 200..round * 200 + 200, 1000, Durability::Durable);
        db.checkpoint().unwrap();
        db.core().log.maintain().unwrap();
    }
}

/// What the log holds, from its first entry on.
pub(super) fn log_entries(db: &Database) -> BTreeMap<Lsn, (u64, Vec<u8>)> {
    let group = &db.core().group;
    let mut entries = BTreeMap::new();
    let mut next = group.first_lsn();
    loop {
        let read = group.read(next, Lsn::MAX, 1 << 20).unwrap();
        let Some(last) = read.last() else { return entries };
        next = last.lsn.next();
        entries.extend(read.into_iter().map(|entry| (entry.lsn, (entry.term.get(), entry.payload.to_vec()))));
    }
}

/// A whole chain: its entries and its gaps.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub(super) struct Archived {
    pub(super) entries: BTreeMap<Lsn, (u64, Vec<u8>)>,
    pub(super) gaps: Vec<(Lsn, Lsn)>,
    pub(super) objects: usize,
}

/// Reads a chain from its start and proves it; and that every snapshot of it is whole.
pub(super) fn read_archive(rig: &Rig, lineage: LineageId) -> Archived {
    let client = rig.client();
    let (start, link) = chain::start(&client, lineage).unwrap().expect("a start object");
    let mut walk = Chain::from_start(&client, &start, link);
    let mut archived = Archived::default();
    while let Some(item) = walk.next_item().unwrap() {
        archived.objects += 1;
        match item {
            Item::Gap(gap, _) => {
                let key = crate::archive::layout::snapshot_key(lineage, gap.snapshot_lsn);
                assert!(rig.store.inner.peek(&key).is_some(), "a gap without its snapshot");
                archived.gaps.push((gap.first_lsn, gap.last_lsn));
            }
            Item::Log(object) => {
                let entries = object.entries();
                archived
                    .entries
                    .extend(entries.map(|(lsn, term, payload)| (lsn, (term.get(), payload.to_vec()))));
            }
        }
    }
    assert_eq!(chain::listed(&client, lineage).unwrap().len(), archived.objects, "objects beside the chain");
    let snapshots = snapshots(rig, lineage);
    let base = snapshots.values().any(|snapshot| snapshot.trees.replay_from >= start.first_lsn);
    assert!(!start.needs_snapshot() || base || archived.objects == 0, "a chain without a beginning");
    for snapshot in snapshots.values() {
        for page in snapshot.pages() {
            let found = rig.store.inner.peek(&page_key(&page.hash));
            assert_eq!(found.map(|page| page.len()), Some(page.bytes as usize), "a page of a snapshot");
        }
    }
    archived
}

/// All snapshots of a lineage.
pub(super) fn snapshots(rig: &Rig, lineage: LineageId) -> BTreeMap<Lsn, SnapshotObject> {
    let client = rig.client();
    let listed = client.list(&snapshot_prefix(lineage)).unwrap();
    let read = |key: &str| client.require(key, Kind::Snapshot, SnapshotObject::decode).unwrap().0;
    listed.iter().map(|object| (parse_lsn(&object.key).unwrap(), read(&object.key))).collect()
}

/// What must hold between a database and its chain, whenever everything was flushed.
pub(super) fn check_agreement(rig: &Rig, db: &Database, archiver: &Archiver) -> Archived {
    let archived = read_archive(rig, archiver.lineage());
    let here = log_entries(db);
    for (lsn, entry) in &here {
        let in_gap = archived.gaps.iter().any(|(first, last)| (*first..=*last).contains(lsn));
        let found = archived.entries.get(lsn);
        if archived.entries.keys().next().is_some_and(|first| lsn >= first) && !in_gap {
            assert_eq!(found, Some(entry), "entry {lsn}");
        }
    }
    let last = *here.keys().next_back().unwrap();
    let ends = [archived.entries.keys().next_back().copied(), archived.gaps.last().map(|(_, last)| *last)];
    let snapshots = snapshots(rig, archiver.lineage()).into_keys().next_back();
    assert_eq!(
        ends.into_iter().max().flatten().or(snapshots),
        Some(last),
        "the chain ends where the log does"
    );
    assert_eq!(archiver.status().archived, last);
    archived
}
