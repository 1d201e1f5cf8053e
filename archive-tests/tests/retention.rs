//! Retention, and then restores to a hundred random points of the window, from a real S3 server and from a directory.
//!
//! Commits are made days apart by a clock that is moved by hand; disks, sockets and files are real.
#![allow(clippy::disallowed_methods)] // A real server, real sockets, real files.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use logwood::archive::store::{self, Retry, Secret};
use logwood::archive::{
    Archive, ArchiveOptions, Archiver, Client, Point, RestoreOptions, RetentionOptions, RetentionReport,
    Store, StoreOptions, retention,
};
use logwood::{Database, Durability, Environment, Error, Lsn, Options};
use logwood_archive_tests::S3Server;
use logwood_archive_tests::server::{ACCESS_KEY, BUCKET, SECRET_KEY};
use logwood_base::Clock;
use logwood_base::environment::ManualClock;

const HOUR: Duration = Duration::from_secs(3600);
const POINTS: usize = 100;

type Records = BTreeMap<Vec<u8>, Vec<u8>>;

/// A database that was written to for twenty days, archived all the while.
struct World {
    environment: Environment,
    clock: Arc<ManualClock>,
    store: Arc<dyn Store>,
    directory: tempfile::TempDir,
    db: Database,
    archiver: Archiver,
    /// What there is after each commit, and its time.
    states: BTreeMap<Lsn, (u64, Records)>,
    rng: fastrand::Rng,
}

impl World {
    fn new(url: &str, options: &StoreOptions, seed: u64) -> Self {
        let clock = Arc::new(ManualClock::new(1_700_000_000_000));
        let system = Environment::system().unwrap();
        let environment = Environment { clock: Arc::clone(&clock) as Arc<dyn Clock>, ..system };
        let store = store::open(url, options, &environment).unwrap();
        let directory = tempfile::tempdir().unwrap();
        let db = Database::open(directory.path().join("db"), database_options(&environment)).unwrap();
        let archiver = db
            .archive(
                ArchiveOptions::to_store(Arc::clone(&store))
                    .background(false)
                    .object_bytes(8 << 10)
                    .snapshot_log_bytes(60 << 10),
            )
            .unwrap();
        let states = BTreeMap::new();
        let rng = fastrand::Rng::with_seed(seed);
        let mut world = Self { environment, clock, store, directory, db, archiver, states, rng };
        world.live(Duration::from_secs(20 * 24 * 3600), 240);
        world
    }

    /// Commits `commits` times within `time`.
    fn live(&mut self, time: Duration, commits: u32) {
        let keyspace = self.db.ensure_keyspace("default").unwrap();
        let mut records =
            self.states.last_key_value().map(|(_, (_, records))| records.clone()).unwrap_or_default();
        for n in 0..commits {
            self.clock.advance(time / commits);
            let mut batch = self.db.batch();
            for _ in 0..8 {
                let key = format!("key {:03}", self.rng.u32(0..400)).into_bytes();
                let value: Vec<u8> = (0..self.rng.usize(10..250)).map(|_| self.rng.u8(..)).collect();
                batch.put(&keyspace, &key, &value).unwrap();
                records.insert(key, value);
            }
            let lsn = self.db.commit(batch, Durability::Buffered).unwrap();
            self.states.insert(lsn, (self.clock.wall_ms(), records.clone()));
            if n % 4 == 3 {
                self.archiver.flush().unwrap();
            }
        }
        self.archiver.flush().unwrap();
    }

    fn client(&self) -> Client {
        Client::new(Arc::clone(&self.store), &self.environment, Retry::default())
    }

    fn retain(&self, keep: Duration) -> RetentionReport {
        let options = RetentionOptions { keep, dry_run: false, deletions_max: 100_000 };
        retention(&self.client(), &self.environment, &options).unwrap()
    }

    fn restore(&self, to: &Path, point: Point) -> logwood::Result<Lsn> {
        let archive = Archive::with_client(self.client(), &self.environment);
        let options = RestoreOptions::new().point(point).database(database_options(&self.environment));
        archive.restore(to, &options).map(|report| report.lsn)
    }

    /// The last commit at or before a time.
    fn at(&self, time_ms: u64) -> Lsn {
        let before = self.states.iter().filter(|(_, (time, _))| *time <= time_ms);
        before.map(|(lsn, _)| *lsn).max().unwrap_or_default()
    }

    /// Restores random points of the window, by LSN and by time.
    fn check_window(&mut self, from_ms: u64, points: usize) {
        let (oldest, newest) = (self.at(from_ms), *self.states.last_key_value().unwrap().0);
        let to = self.directory.path().join("restored");
        for n in 0..points {
            let lsn = Lsn(self.rng.u64(oldest.get()..=newest.get()));
            let (lsn, (time_ms, records)) = self.states.range(..=lsn).next_back().unwrap();
            let point = if n % 2 == 0 { Point::Lsn(*lsn) } else { Point::TimeMs(*time_ms) };
            assert_eq!(self.restore(&to, point).unwrap_or_else(|error| panic!("{point}: {error}")), *lsn);
            assert_eq!(&read(&to, &self.environment), records, "{point}");
            std::fs::remove_dir_all(&to).unwrap();
        }
    }
}

fn database_options(environment: &Environment) -> Options {
    Options::new()
        .environment(environment.clone())
        .background(false)
        .page_segment_bytes(64 << 10)
        .log_segment_bytes(64 << 10)
}

fn read(path: &Path, environment: &Environment) -> Records {
    let db = Database::open(path, database_options(environment)).unwrap();
    let keyspace = db.keyspace("default").unwrap();
    let records =
        keyspace.iter().unwrap().map(|record| record.map(|(key, value)| (key.to_vec(), value.to_vec())));
    records.collect::<Result<_, _>>().unwrap()
}

fn reached(server: &S3Server) -> StoreOptions {
    StoreOptions::new()
        .endpoint(server.endpoint())
        .credentials(ACCESS_KEY, Secret::new(SECRET_KEY))
        .request_timeout(Duration::from_secs(10))
}

/// Retention in steps, each of which leaves the window whole; then many points of it.
fn retain_and_restore(url: &str, options: &StoreOptions, seed: u64) {
    let mut world = World::new(url, options, seed);
    let before = world.client().list("").unwrap();
    let mut gone = 0;
    let mut from_ms = 0;
    for days in [15, 10, 7] {
        let report = world.retain(24 * days * HOUR);
        assert!(report.damage.is_empty(), "{report:?}");
        (gone, from_ms) = (gone + report.condemned.len(), report.from_ms);
        world.check_window(from_ms, 4);
    }
    assert!(gone > 20, "{gone} of {} objects", before.len());
    // What is older than the window is gone, and said to be.
    let to = world.directory.path().join("old");
    let error = world.restore(&to, Point::Lsn(Lsn(5))).unwrap_err();
    assert!(matches!(error, Error::NotFound { .. } | Error::ArchiveCorrupt(_)), "{error}");
    let listing = Archive::with_client(world.client(), &world.environment).verify().unwrap();
    assert!(listing.lineages[0].holes.iter().all(|hole| hole.is_named_gap), "{listing:?}");
    world.check_window(from_ms, POINTS);
    // Life goes on behind it.
    world.live(24 * HOUR, 40);
    let from_ms = world.retain(24 * 2 * HOUR).from_ms;
    world.check_window(from_ms, 10);
}

#[test]
fn after_retention_a_hundred_random_points_of_the_window_come_back_from_a_directory() {
    let directory = tempfile::tempdir().unwrap();
    let url = format!("file://{}", directory.path().join("archive").display());
    retain_and_restore(&url, &StoreOptions::new(), 1);
}

#[test]
fn after_retention_a_hundred_random_points_of_the_window_come_back_from_a_real_server() {
    let server = S3Server::start().unwrap();
    retain_and_restore(&format!("s3://{BUCKET}/window"), &reached(&server), 2);
}

#[test]
fn retention_beside_uploads_and_restores_of_a_real_server_takes_nothing_that_either_needs() {
    let server = S3Server::start().unwrap();
    let mut world = World::new(&format!("s3://{BUCKET}/beside"), &reached(&server), 3);
    let (client, environment) = (world.client(), world.environment.clone());
    let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let stopped = Arc::clone(&stop);
    // One run after the other, with windows of all lengths, until everything else is done.
    let runs = std::thread::spawn(move || {
        let mut rng = fastrand::Rng::with_seed(4);
        let (mut deleted, mut runs) = (0, 0);
        while !stopped.load(std::sync::atomic::Ordering::Relaxed) || runs < 3 {
            let keep = HOUR * rng.u32(24 * 5..24 * 12);
            let options = RetentionOptions { keep, dry_run: false, deletions_max: rng.usize(1..200) };
            deleted += retention(&client, &environment, &options).unwrap().condemned.len();
            runs += 1;
        }
        (deleted, runs)
    });
    for _ in 0..6 {
        world.live(24 * HOUR, 20);
        let newest_ms = world.states.last_key_value().unwrap().1.0;
        world.check_window(newest_ms - 24 * 4 * HOUR.as_millis() as u64, 3);
    }
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    let (deleted, runs) = runs.join().unwrap();
    assert!(deleted > 20 && runs > 2, "{deleted} objects in {runs} runs");
    let newest_ms = world.states.last_key_value().unwrap().1.0;
    world.check_window(newest_ms - 24 * 4 * HOUR.as_millis() as u64, 10);
}
