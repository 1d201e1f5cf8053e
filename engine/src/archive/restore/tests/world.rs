//! A database on a simulated disk, an archive of it in memory, and a model that knows the state at every LSN.
//!
//! Objects are written here by the codec itself, in sizes and at moments that a test chooses: an archiver chooses its own.

use std::path::Path;
use std::sync::Arc;

use logwood_base::disk::SimulatedDisk;
use logwood_base::environment::{ManualClock, ManualSpawner, SeededRandom};
use logwood_base::{Clock, LineageId, Term};

use crate::archive::layout::{page_key, start_key};
use crate::archive::object::{Gap, KeyspaceDigest, Link, LogWriter, Owner, Parent, SnapshotObject, Start};
use crate::archive::store::{ManualPause, Memory, Retry};
use crate::archive::tests::model::Model;
use crate::archive::{Archive, Client, Point, Put, RestoreOptions, RestoreReport, Store};
use crate::state::EngineState;
use crate::tests::checks::read_all;
use crate::tests::world::{State, small_options};
use crate::{Database, Durability, Environment, Lsn, Options, Result};

/// Where the restored database stands.
pub(super) const TO: &str = "restored";

pub(super) struct World {
    pub(super) disk: SimulatedDisk,
    pub(super) clock: Arc<ManualClock>,
    pub(super) environment: Environment,
    pub(super) rng: fastrand::Rng,
    pub(super) store: Memory,
    pub(super) db: Database,
    pub(super) chain: ChainWriter,
    pub(super) model: Model,
}

/// What a lineage's archiver would remember.
#[derive(Clone, Debug)]
pub(super) struct ChainWriter {
    pub(super) owner: Owner,
    pub(super) link: Link,
    pub(super) next: Lsn,
    before: (Term, u64),
}

pub(super) fn options(environment: &Environment) -> Options {
    // Uncompressed: short histories have several page segments.
    small_options().environment(environment.clone()).background(false).compression(false)
}

impl World {
    pub(super) fn new(seed: u64) -> Self {
        let disk = SimulatedDisk::new(seed);
        let clock = Arc::new(ManualClock::new(1_000_000));
        let environment = environment(&disk, &clock, seed);
        let db = Database::open("db", options(&environment)).unwrap();
        let store = Memory::with_clock(Arc::clone(&clock) as Arc<dyn Clock>);
        let chain = ChainWriter::begin(&store, &db, Lsn::FIRST, None, seed);
        Self {
            disk,
            clock,
            environment,
            rng: fastrand::Rng::with_seed(seed),
            store,
            db,
            chain,
            model: Model::default(),
        }
    }

    /// A few keyspaces, a few hundred commits, several objects and two snapshots.
    pub(super) fn filled(seed: u64) -> Self {
        let mut world = Self::new(seed);
        for round in 0..6 {
            for _ in 0..25 {
                world.commit();
            }
            world.upload();
            if round == 1 || round == 3 {
                world.snapshot();
            }
        }
        world
    }

    /// As many records that do not compress as make a dozen page segments, and a snapshot of them with some log behind.
    pub(super) fn large(seed: u64) -> Self {
        let mut world = Self::new(seed);
        let keyspace = world.db.create_keyspace("a").unwrap();
        let records = world.model.state.entry("a".to_owned()).or_default();
        for n in 0..160u32 {
            let mut batch = world.db.batch();
            for part in 0..4 {
                let key = format!("large {:03} {part}", (n * 37) % 160).into_bytes();
                let value: Vec<u8> = (0..1200).map(|_| world.rng.u8(..)).collect();
                batch.put(&keyspace, &key, &value).unwrap();
                records.insert(key, value);
            }
            world.db.commit(batch, Durability::Durable).unwrap();
        }
        world.model.note(&world.db);
        world.upload();
        world.snapshot();
        for _ in 0..20 {
            world.commit();
        }
        world.upload();
        world
    }

    pub(super) fn last(&self) -> Lsn {
        self.db.visible_lsn()
    }

    /// One random change.
    pub(super) fn commit(&mut self) {
        self.clock.advance(std::time::Duration::from_millis(self.rng.u64(1..50)));
        self.model.commit(&self.db, &mut self.rng, Durability::Durable);
    }

    /// The state that a restore to an LSN must give.
    pub(super) fn state_at(&self, lsn: Lsn) -> &State {
        self.model.at(lsn)
    }

    /// Archives everything that is not archived yet, as one object.
    pub(super) fn upload(&mut self) {
        self.chain.upload(&self.store, &self.db, self.last());
    }

    /// Archives a checkpoint of now.
    pub(super) fn snapshot(&mut self) -> Lsn {
        self.chain.snapshot(&self.store, &self.db)
    }

    /// The database is gone; a restored one takes its place, and is archived as a lineage of its own.
    pub(super) fn lose_and_restore(&mut self, point: Point, seed: u64) -> RestoreReport {
        self.lose_and_restore_with(&self.restore_options().point(point), seed)
    }

    pub(super) fn lose_and_restore_with(&mut self, restoring: &RestoreOptions, seed: u64) -> RestoreReport {
        let to = format!("db{seed}");
        let report = self.archive().restore(&to, restoring).unwrap();
        self.db.close().unwrap();
        crate::seed::settle::remove_tree(&self.disk, self.db.path()).unwrap();
        self.db = Database::open(&to, options(&self.environment)).unwrap();
        self.model.go_back_to(report.lsn);
        let parent = Parent { lineage: report.parent, fork_lsn: report.lsn };
        self.chain = ChainWriter::begin(&self.store, &self.db, report.lsn.next(), Some(parent), seed);
        report
    }

    pub(super) fn client(&self) -> Client {
        client(Arc::new(self.store.clone()), &self.environment, &self.clock)
    }

    pub(super) fn archive(&self) -> Archive {
        Archive::with_client(self.client(), &self.environment)
    }

    pub(super) fn restore_options(&self) -> RestoreOptions {
        RestoreOptions::new().database(options(&self.environment))
    }

    pub(super) fn restore(&self, point: Point) -> Result<RestoreReport> {
        self.archive().restore(TO, &self.restore_options().point(point))
    }

    /// Restores and compares everything with the model; the restored directory is gone afterwards.
    pub(super) fn check_restore(&self, point: Point, expected: Lsn) -> RestoreReport {
        let report = self.restore(point).unwrap_or_else(|error| panic!("{point}: {error}"));
        assert_eq!(report.lsn, expected, "{point}");
        self.check_restored(expected);
        self.forget_restored();
        report
    }

    pub(super) fn check_restored(&self, expected: Lsn) {
        let db = Database::open(TO, options(&self.environment)).unwrap();
        assert_eq!(&read_all(&db).unwrap(), self.state_at(expected), "lsn {expected}");
        db.close().unwrap();
    }

    pub(super) fn forget_restored(&self) {
        crate::seed::settle::remove_tree(&self.disk, Path::new(TO)).unwrap();
    }
}

pub(super) fn environment(disk: &SimulatedDisk, clock: &Arc<ManualClock>, seed: u64) -> Environment {
    Environment {
        disk: Arc::new(disk.clone()),
        clock: Arc::clone(clock) as _,
        random: Arc::new(SeededRandom::new(seed)),
        spawner: Arc::new(ManualSpawner::new()),
    }
}

pub(super) fn client(store: Arc<dyn Store>, environment: &Environment, clock: &Arc<ManualClock>) -> Client {
    client_with(store, environment, clock, Retry::default())
}

pub(super) fn client_with(
    store: Arc<dyn Store>,
    environment: &Environment,
    clock: &Arc<ManualClock>,
    retry: Retry,
) -> Client {
    Client::with_pause(store, environment, retry, Arc::new(ManualPause::new(Arc::clone(clock))))
}

impl ChainWriter {
    pub(super) fn begin(
        store: &Memory,
        db: &Database,
        first_lsn: Lsn,
        parent: Option<Parent>,
        seed: u64,
    ) -> Self {
        let owner = Owner { database: db.id(), lineage: LineageId((u128::from(seed) << 64) | 7) };
        let start = Start { owner, first_lsn, created_ms: 1, parent, parent_next: None }.encode();
        put(store, &start_key(owner.lineage), &start.bytes);
        Self { owner, link: start.link, next: first_lsn, before: (Term::NONE, 0) }
    }

    /// Forgets what came before, as if the chain went on from elsewhere.
    pub(super) fn restart_at(&mut self, term: Term, time_ms: u64) {
        self.before = (term, time_ms);
    }

    pub(super) fn upload(&mut self, store: &Memory, db: &Database, last: Lsn) {
        let mut writer = LogWriter::new(self.owner, self.next, self.before);
        while writer.next_lsn() <= last {
            for entry in db.core().group.read(writer.next_lsn(), last.next(), 1 << 20).unwrap() {
                writer.push(entry.lsn, entry.term, &entry.payload).unwrap();
            }
        }
        if writer.is_empty() {
            return;
        }
        let (manifest, object) = writer.finish(self.link);
        put(store, &manifest.key(), &object.bytes);
        self.link = object.link;
        self.next = last.next();
        self.before = (manifest.last_term, manifest.last_time_ms);
    }

    pub(super) fn snapshot(&self, store: &Memory, db: &Database) -> Lsn {
        let core = db.core();
        let (manifest, snapshot) = core.checkpoint_held().unwrap();
        for segment in &manifest.segments {
            let path = core.forest.store().segment_path(segment.number);
            let bytes = core.environment.disk.open(&path, logwood_base::Access::Read).unwrap();
            let mut body = vec![0; segment.bytes as usize];
            bytes.read_at(0, &mut body).unwrap();
            let _ = store.put_new(&page_key(&segment.hash), &body).unwrap();
        }
        let digests = manifest.trees.iter().map(|tree| {
            let digest = core.forest.tree(tree.keyspace).unwrap();
            let all = (std::ops::Bound::Unbounded, std::ops::Bound::Unbounded);
            KeyspaceDigest { keyspace: tree.keyspace, digest: Some(digest.digest(all, &snapshot).unwrap()) }
        });
        let state = EngineState::decode(&manifest.engine_state, Path::new("m")).unwrap();
        let lsn = manifest.checkpoint_lsn;
        let object = SnapshotObject {
            owner: self.owner,
            base_term: core.group.term_of(manifest.replay_from.previous()).unwrap_or(Term::NONE),
            term: core.group.term_of(lsn).unwrap(),
            time_ms: state.time_ms,
            membership: Vec::new(),
            entry: None,
            digests: digests.collect(),
            trees: (*manifest).clone(),
        };
        put(store, &object.key(), &object.encode().bytes);
        lsn
    }

    /// Leaves out everything up to, and without, `behind`, for which a snapshot stands in.
    pub(super) fn gap(&mut self, store: &Memory, behind: Lsn, snapshot_lsn: Lsn) {
        let gap = Gap {
            owner: self.owner,
            first_lsn: self.next,
            last_lsn: behind.previous(),
            snapshot_lsn,
            left_ms: 5,
            previous: self.link,
        };
        let object = gap.encode();
        put(store, &gap.key(), &object.bytes);
        (self.link, self.next) = (object.link, behind);
    }
}

fn put(store: &Memory, key: &str, bytes: &[u8]) {
    assert_eq!(store.put_new(key, bytes).unwrap(), Put::Created, "{key}");
}
