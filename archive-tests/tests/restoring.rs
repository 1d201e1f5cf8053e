//! A database is archived to a real S3 server, lost, and restored through a network that does its worst.
#![allow(clippy::disallowed_methods)] // A real server, real sockets, a real clock, real files.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use logwood::archive::object::{Kind, RetentionRun};
use logwood::archive::store::{self, Retry, Secret};
use logwood::archive::{
    Archive, ArchiveOptions, Client, Point, RestoreOptions, RetentionOptions, StoreOptions, retention,
};
use logwood::{Database, Durability, Environment, Error, Lsn, Options};
use logwood_archive_tests::server::{ACCESS_KEY, BUCKET, SECRET_KEY};
use logwood_archive_tests::{Fault, Proxy, Rule, S3Server};

const URL: &str = "s3://archive/db";

fn store_options(endpoint: &str) -> StoreOptions {
    StoreOptions::new()
        .endpoint(endpoint)
        .credentials(ACCESS_KEY, Secret::new(SECRET_KEY))
        .request_timeout(Duration::from_secs(2))
}

/// Small objects and segments, so that there are many of each.
fn options() -> Options {
    Options::new().page_segment_bytes(64 << 10).log_segment_bytes(64 << 10)
}

fn archive_options(endpoint: &str) -> ArchiveOptions {
    ArchiveOptions::to(URL)
        .store_options(store_options(endpoint))
        .background(false)
        .object_bytes(8 << 10)
        .snapshot_log_bytes(100 << 10)
}

/// An archive that is read through `endpoint`, with quick retries.
fn archive(endpoint: &str) -> Archive {
    let environment = Environment::system().unwrap();
    let store = store::open(URL, &store_options(endpoint), &environment).unwrap();
    let retry = Retry {
        attempts: 4,
        first_pause: Duration::from_millis(2),
        longest_pause: Duration::from_millis(20),
    };
    Archive::with_client(Client::new(store, &environment, retry), &environment)
}

type Records = BTreeMap<Vec<u8>, Vec<u8>>;

struct World {
    server: S3Server,
    directory: tempfile::TempDir,
    db: Database,
    /// What there is after each commit.
    states: BTreeMap<Lsn, Records>,
}

impl World {
    fn path(&self, name: &str) -> std::path::PathBuf {
        self.directory.path().join(name)
    }
}

/// A database whose commits are all archived, with snapshots among them.
fn archived(seed: u64) -> World {
    let (server, directory) = (S3Server::start().unwrap(), tempfile::tempdir().unwrap());
    let db = Database::open(directory.path().join("db"), options()).unwrap();
    let archiver = db.archive(archive_options(&server.endpoint())).unwrap();
    let mut rng = fastrand::Rng::with_seed(seed);
    let ks = db.ensure_keyspace("default").unwrap();
    let (mut records, mut states) = (Records::new(), BTreeMap::new());
    for round in 0..120u32 {
        let mut batch = db.batch();
        for _ in 0..20 {
            let key = format!("key {:04}", rng.u32(0..2000)).into_bytes();
            let value: Vec<u8> =
                format!("{round} ").into_bytes().into_iter().chain((0..100).map(|_| rng.u8(..))).collect();
            batch.put(&ks, &key, &value).unwrap();
            records.insert(key, value);
        }
        let lsn = db.commit(batch, Durability::Durable).unwrap();
        states.insert(lsn, records.clone());
        if round % 10 == 9 {
            archiver.flush().unwrap();
        }
    }
    archiver.stop().unwrap();
    World { server, directory, db, states }
}

fn read(path: &Path) -> Records {
    let db = Database::open(path, options()).unwrap();
    let ks = db.keyspace("default").unwrap();
    let records = ks.iter().unwrap().map(|record| record.map(|(key, value)| (key.to_vec(), value.to_vec())));
    records.collect::<Result<_, _>>().unwrap()
}

fn last(world: &World) -> (Lsn, &Records) {
    let (lsn, records) = world.states.last_key_value().unwrap();
    (*lsn, records)
}

#[test]
fn restores_succeed_through_everything_that_a_network_does_now_and_then() {
    let world = archived(1);
    let proxy = Proxy::before(world.server.address()).unwrap();
    let (lsn, records) = last(&world);
    let pause = Duration::from_millis(2500);
    let foreign: Arc<[u8]> = Arc::from(&b"the body of something else"[..]);
    let faults = [
        Fault::Status(500),
        Fault::Status(503),
        Fault::Status(429),
        // Of what is there, once: it is asked for again.
        Fault::Status(404),
        Fault::Reset,
        Fault::CutBody,
        Fault::FlipBit,
        Fault::Replace(foreign),
        Fault::Stall(pause),
        Fault::LoseAnswer(pause),
    ];
    for (at, fault) in faults.into_iter().enumerate() {
        let slow = matches!(fault, Fault::Stall(_) | Fault::LoseAnswer(_));
        for (part, skip) in [("/start", 0), ("/log/", 2), ("/snapshot/", 0), ("/pages/", 1), ("/hold/", 0)] {
            let method = if part == "/hold/" { "PUT" } else { "GET" };
            let absent = matches!(fault, Fault::Status(404));
            let body = absent || matches!(fault, Fault::CutBody | Fault::FlipBit | Fault::Replace(_));
            if (body && method == "PUT") || (slow && part == "/start") {
                continue;
            }
            proxy.add(
                Rule::new(fault.clone()).method(method).path(part).skip(skip).times(if slow || absent {
                    1
                } else {
                    3
                }),
            );
        }
        let to = world.path(&format!("restored{at}"));
        let report = archive(&proxy.endpoint())
            .restore(&to, &RestoreOptions::new().database(options()))
            .unwrap_or_else(|error| panic!("{fault:?}: {error}"));
        let spoiled = proxy.take_requests().iter().filter(|request| request.spoiled).count();
        assert!(spoiled > 2, "{fault:?}: {spoiled}");
        assert!(report.lsn == lsn && report.snapshot.is_some(), "{report:?}");
        assert_eq!(&read(&to), records, "{fault:?}");
        proxy.clear();
    }
}

#[test]
fn what_a_server_serves_wrongly_for_ever_is_named() {
    let world = archived(2);
    let proxy = Proxy::before(world.server.address()).unwrap();
    let restore = |to: &str| archive(&proxy.endpoint()).restore(world.path(to), &RestoreOptions::new());
    // The last log object: an older one of the same chain in its place, as after a rollback of the store.
    let mut keys: Vec<String> = walk(&world.server.bucket_path());
    keys.sort();
    let log: Vec<&String> = keys.iter().filter(|key| key.contains("/log/")).collect();
    let (newest, older) = (log[log.len() - 1], log[log.len() - 2]);
    let body = std::fs::read(world.server.object_path(older)).unwrap();
    proxy.add(Rule::new(Fault::Replace(Arc::from(&body[..]))).method("GET").path(newest));
    match restore("a") {
        Err(Error::ArchiveCorrupt(damage)) => {
            assert!(newest.ends_with(&damage.key), "{damage}");
            assert!(damage.lsns.is_some(), "{damage}");
        }
        other => panic!("{other:?}"),
    }
    proxy.clear();
    // It is listed, and never there: that is no end of the chain.
    proxy.add(Rule::new(Fault::Status(404)).method("GET").path(newest));
    match restore("a") {
        Err(Error::ArchiveCorrupt(damage)) => assert!(newest.ends_with(&damage.key), "{damage}"),
        other => panic!("{other:?}"),
    }
    proxy.clear();
    // Every page: no snapshot can be begun with; the log from entry 1 on can.
    proxy.add(Rule::new(Fault::FlipBit).method("GET").path("/pages/"));
    let report = restore("b").unwrap();
    assert!(
        report.snapshot.is_none() && report.notes.iter().all(|note| note.contains("pages/")),
        "{report:?}"
    );
    assert_eq!(&read(&world.path("b")), last(&world).1);
    proxy.clear();
    // Nothing answers: unavailable, and the same call goes on later.
    proxy.add(Rule::new(Fault::Status(503)).path("/pages/"));
    let error = restore("c").unwrap_err();
    assert!(matches!(error, Error::ArchiveUnavailable { .. }), "{error}");
    assert!(matches!(Database::open(world.path("c"), options()), Err(Error::WrongKind { .. })));
    proxy.clear();
    restore("c").unwrap();
    assert_eq!(&read(&world.path("c")), last(&world).1);
}

#[test]
fn the_archiver_gets_everything_through_the_same_network() {
    let server = S3Server::start().unwrap();
    let proxy = Proxy::before(server.address()).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let db = Database::open(directory.path().join("db"), options()).unwrap();
    let archiver = db.archive(archive_options(&proxy.endpoint())).unwrap();
    let ks = db.ensure_keyspace("default").unwrap();
    let mut records = Records::new();
    let pause = Duration::from_millis(2500);
    let faults = [
        Fault::Status(500),
        Fault::Status(429),
        Fault::Reset,
        Fault::LoseAnswer(pause),
        Fault::CutBody,
        Fault::FlipBit,
    ];
    for (at, fault) in faults.into_iter().enumerate() {
        for number in 0..200u32 {
            let (key, value) = (format!("{at} {number}").into_bytes(), vec![number as u8; 100]);
            ks.put_with(&key, &value, Durability::Buffered).unwrap();
            records.insert(key, value);
        }
        proxy.add(Rule::new(fault.clone()).method("PUT").times(2));
        proxy.add(Rule::new(fault).method("GET").skip(1).times(1));
        archiver.flush().unwrap();
        proxy.clear();
    }
    proxy.take_requests();
    archiver.flush().unwrap();
    assert!(proxy.take_requests().is_empty(), "nothing to say, no requests");
    archiver.stop().unwrap();
    let to = directory.path().join("restored");
    archive(&server.endpoint()).restore(&to, &RestoreOptions::new()).unwrap();
    assert_eq!(read(&to), records);
}

#[test]
fn any_point_comes_back_from_a_real_server_restored_or_looked_at() {
    let world = archived(3);
    let archive = archive(&world.server.endpoint());
    for (at, (lsn, records)) in world.states.iter().enumerate().step_by(17) {
        let to = world.path(&format!("restored{at}"));
        archive.restore(&to, &RestoreOptions::new().point(Point::Lsn(*lsn)).database(options())).unwrap();
        assert_eq!(&read(&to), records, "{lsn}");
        let view = archive.open_at(world.path("view"), Point::Lsn(*lsn), None, options()).unwrap();
        let (key, value) = records.iter().nth(at % records.len()).unwrap();
        assert_eq!(view.keyspace("default").unwrap().get(key).unwrap().as_deref(), Some(&value[..]));
        view.close().unwrap();
    }
    let listing = archive.list().unwrap();
    let [lineage] = &listing.lineages[..] else { panic!("{listing:?}") };
    assert_eq!(lineage.intervals.len(), 1);
    assert_eq!((lineage.intervals[0].first, lineage.intervals[0].last), (Lsn(1), world.db.visible_lsn()));
    assert!(lineage.holes.is_empty() && lineage.snapshots.len() > 1, "{lineage:?}");
    let kept: Vec<String> =
        walk(&world.server.bucket_path()).into_iter().filter(|key| key.contains("hold/")).collect();
    assert!(kept.is_empty(), "holds are taken back: {kept:?} in {BUCKET}");
}

/// The keys of all objects.
fn walk(bucket: &Path) -> Vec<String> {
    let (mut found, mut folders) = (Vec::new(), vec![bucket.to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if let Ok(key) = path.strip_prefix(bucket) {
                found.push(key.to_str().unwrap().to_owned());
            }
        }
    }
    found
}

#[test]
fn a_deletion_that_takes_effect_late_is_named_and_keeps_no_other_run_away() {
    let world = archived(9);
    let proxy = Proxy::before(world.server.address()).unwrap();
    let environment = Environment::system().unwrap();
    let client = |endpoint: &str| {
        let store = store::open(URL, &store_options(endpoint), &environment).unwrap();
        let retry = Retry { first_pause: Duration::from_millis(2), ..Retry::default() };
        Client::new(store, &environment, retry)
    };
    let options = RetentionOptions { keep: Duration::ZERO, dry_run: false, deletions_max: 1000 };
    // However the store is asked to delete. The first deletion is of the object by which a run learns the store's time.
    for method in ["DELETE", "POST"] {
        proxy.add(Rule::new(Fault::Late(Duration::from_millis(200))).method(method).skip(1).times(1));
    }
    let report = retention(&client(&proxy.endpoint()), &environment, &options).unwrap();
    assert!(report.condemned.len() > 5 && report.damage.is_empty(), "{report:?}");
    assert!(proxy.take_requests().iter().any(|request| request.spoiled));
    let left = |prefix: &str| client(&world.server.endpoint()).list(prefix).unwrap();
    assert_eq!((left("run/").len(), left("late/").len()), (0, 1));
    let key = left("late/")[0].key.clone();
    let late = client(&world.server.endpoint()).fetch(&key, Kind::Retention, RetentionRun::decode);
    let late = late.unwrap().unwrap().condemned;
    assert!(late.len() == 1 && late.iter().all(|key| report.condemned.contains(key)), "{late:?}");
    let unneeded = format!("pages/{}", "77".repeat(32));
    std::fs::write(world.server.object_path(&format!("db/{unneeded}")), b"of nobody").unwrap();
    let next = retention(&client(&world.server.endpoint()), &environment, &options).unwrap();
    assert_eq!(next.condemned, [unneeded]);
    let restored = archive(&world.server.endpoint()).restore(world.path("restored"), &RestoreOptions::new());
    assert_eq!(restored.unwrap().lsn, last(&world).0);
    assert_eq!(&read(&world.path("restored")), last(&world).1);
}
