//! The archiver against a real S3 server, and against a proxy before it that spoils one answer of every kind.

use std::time::Duration;

use logwood::archive::store::{Retry, Secret};
use logwood::archive::{Archive, ArchiveOptions, Chain, Client, StoreOptions, chain, store};
use logwood::{Database, Durability, Environment, Lsn, Options};
use logwood_archive_tests::server::{ACCESS_KEY, BUCKET, SECRET_KEY};
use logwood_archive_tests::{Fault, Proxy, Rule, S3Server};

fn store_options(endpoint: &str) -> StoreOptions {
    StoreOptions::new()
        .endpoint(endpoint)
        .region("us-east-1")
        .credentials(ACCESS_KEY, Secret::new(SECRET_KEY))
        .request_timeout(Duration::from_secs(1))
}

fn retry() -> Retry {
    Retry { attempts: 4, first_pause: Duration::from_millis(5), longest_pause: Duration::from_millis(20) }
}

fn fill(db: &Database, count: u32) {
    let keyspace = db.ensure_keyspace("k").unwrap();
    for n in 0..count {
        let mut batch = db.batch();
        batch.put(&keyspace, &n.to_be_bytes(), &[7; 500]).unwrap();
        db.commit(batch, Durability::Buffered).unwrap();
    }
}

/// Walks the chain past the proxy. Answers its last entry.
fn last_archived(server: &S3Server, prefix: &str, lineage: logwood::LineageId) -> Lsn {
    let environment = Environment::system().unwrap();
    let url = format!("s3://{BUCKET}/{prefix}");
    let store = store::open(&url, &store_options(&server.endpoint()), &environment).unwrap();
    let client = Client::new(store, &environment, retry());
    let (start, link) = chain::start(&client, lineage).unwrap().expect("a start object");
    let mut walk = Chain::from_start(&client, &start, link);
    while walk.next_item().unwrap().is_some() {}
    walk.position().next.previous()
}

/// Everything that a network does now and then.
fn faults() -> [Fault; 9] {
    let wait = Duration::from_millis(1500);
    [
        Fault::Status(500),
        Fault::Status(503),
        Fault::Status(429),
        Fault::Stall(wait),
        Fault::Reset,
        Fault::CutBody,
        Fault::FlipBit,
        Fault::Replace(b"an older object".as_slice().into()),
        Fault::LoseAnswer(wait),
    ]
}

#[test]
fn a_spoiled_answer_of_any_kind_to_any_kind_of_request_loses_nothing() {
    let server = S3Server::start().unwrap();
    let folder = tempfile::tempdir().unwrap();
    for (at, fault) in faults().into_iter().enumerate() {
        let proxy =
            Proxy::before(server.endpoint().strip_prefix("http://").unwrap().parse().unwrap()).unwrap();
        let db = Database::open(folder.path().join(format!("db{at}")), Options::new()).unwrap();
        let prefix = format!("archive{at}");
        let options = ArchiveOptions::to(format!("s3://{BUCKET}/{prefix}"))
            .store_options(store_options(&proxy.endpoint()))
            .retry(retry())
            .object_bytes(20_000)
            .background(false);
        let archiver = db.archive(options).unwrap();
        for method in ["PUT", "GET"] {
            proxy.add(Rule::new(fault.clone()).method(method).path("/log/").times(2));
            fill(&db, 100);
            // A failure may be told; the next attempt ends well.
            let reached = (0..3).find_map(|_| archiver.flush().ok());
            assert_eq!(reached, Some(db.visible_lsn()), "{fault:?} of {method}");
        }
        assert!(proxy.take_requests().iter().any(|request| request.spoiled));
        assert_eq!(last_archived(&server, &prefix, archiver.lineage()), db.visible_lsn(), "{fault:?}");
        assert!(!format!("{archiver:?} {:?}", archiver.status()).contains(SECRET_KEY));
    }
}

#[test]
fn an_archiver_is_attached_and_looks_and_lists_although_each_kind_of_answer_is_spoiled() {
    let server = S3Server::start().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let environment = Environment::system().unwrap();
    for (at, fault) in faults().into_iter().enumerate() {
        let proxy = Proxy::before(server.address()).unwrap();
        let db = Database::open(folder.path().join(format!("db{at}")), Options::new()).unwrap();
        let prefix = format!("attached{at}");
        let url = format!("s3://{BUCKET}/{prefix}");
        let options = || {
            ArchiveOptions::to(&url)
                .store_options(store_options(&proxy.endpoint()))
                .retry(retry())
                .verify_pages(true)
                .background(false)
        };
        let parts = [
            ("PUT", "/probe/"),
            ("GET", "/probe/"),
            ("POST", "delete"),
            ("PUT", "/start"),
            ("GET", "/start"),
            ("HEAD", "/start"),
            ("HEAD", "/pages/"),
            ("HEAD", "/hold/"),
            ("GET", "list-type=2"),
        ];
        let mut lineages = Vec::new();
        for round in 0..2 {
            for (method, part) in parts {
                proxy.add(Rule::new(fault.clone()).method(method).path(part).times(1));
            }
            // A failure may be told; the next attempt ends well.
            let archiver = (0..3).find_map(|_| db.archive(options()).ok()).expect("an archiver");
            fill(&db, 100);
            let reached = (0..3).find_map(|_| archiver.flush().ok());
            assert_eq!(reached, Some(db.visible_lsn()), "{fault:?}, {round}");
            lineages.push(archiver.lineage());
        }
        assert_eq!(lineages[0], lineages[1], "{fault:?}");
        proxy.add(Rule::new(fault.clone()).method("GET").path("list-type=2").skip(1).times(1));
        let client = Client::new(
            store::open(&url, &store_options(&proxy.endpoint()), &environment).unwrap(),
            &environment,
            retry(),
        );
        let archive = Archive::with_client(client, &environment);
        let reaches = (0..3).find_map(|_| {
            let intervals = archive.list().ok()?.lineages.pop()?.intervals;
            intervals.last().map(|interval| interval.last).filter(|last| *last == db.visible_lsn())
        });
        assert!(reaches.is_some(), "{fault:?}");
        let requests = proxy.take_requests();
        for (method, part) in parts {
            let is_spoiled = |request: &&logwood_archive_tests::Request| {
                request.spoiled && request.method == method && request.path.contains(part)
            };
            assert!(requests.iter().any(|request| is_spoiled(&request)), "{fault:?}: {method} of {part}");
        }
        assert_eq!(last_archived(&server, &prefix, lineages[0]), db.visible_lsn(), "{fault:?}");
    }
}

#[test]
fn a_snapshot_reaches_a_real_server_and_the_next_archiver_goes_on() {
    let server = S3Server::start().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let db = Database::open(folder.path().join("db"), Options::new()).unwrap();
    let options = || {
        ArchiveOptions::to(format!("s3://{BUCKET}/snapshots"))
            .store_options(store_options(&server.endpoint()))
            .snapshot_log_bytes(10_000)
            .background(false)
    };
    let archiver = db.archive(options()).unwrap();
    fill(&db, 200);
    archiver.flush().unwrap();
    assert_eq!(archiver.status().newest_snapshot, Some(db.visible_lsn()));
    let lineage = archiver.lineage();
    archiver.stop().unwrap();
    let archiver = db.archive(options()).unwrap();
    fill(&db, 200);
    archiver.flush().unwrap();
    assert_eq!((archiver.lineage(), archiver.status().snapshots), (lineage, 1));
    assert_eq!(last_archived(&server, "snapshots", lineage), db.visible_lsn());
}
