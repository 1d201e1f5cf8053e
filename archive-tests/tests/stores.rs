//! The S3 store against a real server: the rules of all stores, and everything that a network does.
#![allow(clippy::disallowed_methods)] // A real server, real sockets, a real clock.

use std::sync::Arc;
use std::time::Duration;

use logwood::archive::store::{self, Retry, conformance};
use logwood::archive::{Client, Put, Store, StoreOptions};
use logwood::{Environment, Error};
use logwood_archive_tests::server::{ACCESS_KEY, BUCKET, SECRET_KEY};
use logwood_archive_tests::{Fault, Proxy, Rule, S3Server};

/// A store on the server, as a user opens one; requests may take a second.
fn open(endpoint: &str, prefix: &str) -> Arc<dyn Store> {
    open_within(endpoint, prefix, Duration::from_secs(1))
}

fn open_within(endpoint: &str, prefix: &str, timeout: Duration) -> Arc<dyn Store> {
    let options = StoreOptions::new()
        .endpoint(endpoint)
        .credentials(ACCESS_KEY, store::Secret::new(SECRET_KEY))
        .request_timeout(timeout);
    store::open(&format!("s3://{BUCKET}/{prefix}"), &options, &Environment::system().unwrap()).unwrap()
}

fn client(store: &Arc<dyn Store>) -> Client {
    let retry = Retry {
        attempts: 3,
        first_pause: Duration::from_millis(5),
        longest_pause: Duration::from_millis(20),
    };
    Client::new(Arc::clone(store), &Environment::system().unwrap(), retry)
}

#[test]
fn a_real_server_keeps_the_rules_of_all_stores_with_a_prefix_and_without() {
    let server = S3Server::start().unwrap();
    for prefix in ["", "some/where"] {
        let store = open(&server.endpoint(), prefix);
        // A server over a directory cannot hold an object and a folder of one name; nothing asks it to.
        conformance::run(&store);
        store::probe(&*store, &Environment::system().unwrap()).unwrap();
    }
    let directory = tempfile::tempdir().unwrap();
    let url = format!("file://{}", directory.path().display());
    conformance::run(&store::open(&url, &StoreOptions::new(), &Environment::system().unwrap()).unwrap());
    conformance::run(&(Arc::new(store::Memory::new()) as Arc<dyn Store>));
}

#[test]
fn wrong_credentials_are_refused_and_never_printed() {
    let server = S3Server::start().unwrap();
    let secret = "another-secret-that-nobody-may-print";
    let options =
        StoreOptions::new().endpoint(server.endpoint()).credentials(ACCESS_KEY, store::Secret::new(secret));
    let environment = Environment::system().unwrap();
    let store = store::open(&format!("s3://{BUCKET}/x"), &options, &environment).unwrap();
    let error = store.get("key", 10).unwrap_err();
    assert!(matches!(error, Error::ArchiveUnavailable { .. }), "{error}");
    for printed in [format!("{error}"), format!("{error:?}"), format!("{options:?}"), format!("{store:?}")] {
        assert!(!printed.contains(secret), "{printed}");
    }
}

#[test]
fn what_a_network_does_once_is_tried_again() {
    let server = S3Server::start().unwrap();
    let proxy = Proxy::before(server.address()).unwrap();
    let store = open(&proxy.endpoint(), "p");
    let client = client(&store);
    let pause = Duration::from_millis(1500);
    let faults = [
        Fault::Status(500),
        Fault::Status(503),
        Fault::Status(429),
        Fault::Stall(pause),
        Fault::Reset,
        Fault::LoseAnswer(pause),
    ];
    for (at, fault) in faults.into_iter().enumerate() {
        let key = format!("pages/{at}");
        proxy.add(Rule::new(fault.clone()).method("PUT").times(1));
        let lost = matches!(fault, Fault::LoseAnswer(_));
        // A put whose answer was lost took effect: the next one is refused, and what is there is to be compared.
        assert_eq!(
            client.put_new(&key, b"body").unwrap(),
            if lost { Put::Exists } else { Put::Created },
            "{fault:?}"
        );
        proxy.add(Rule::new(fault.clone()).method("GET").times(1));
        assert_eq!(client.list("pages/").unwrap().len(), at + 1, "{fault:?}");
        proxy.add(Rule::new(fault.clone()).method("HEAD").times(1));
        assert_eq!(client.head(&key).unwrap().unwrap().bytes, 4, "{fault:?}");
        proxy.clear();
    }
    proxy.add(Rule::new(Fault::Status(503)));
    match client.head("pages/0").unwrap_err() {
        Error::ArchiveUnavailable { key, cause, .. } => {
            assert!(key == "pages/0" && cause.contains("503"), "{cause}")
        }
        error => panic!("{error}"),
    }
}

#[test]
fn a_body_that_is_cut_short_is_an_error_and_no_shorter_object() {
    let server = S3Server::start().unwrap();
    let proxy = Proxy::before(server.address()).unwrap();
    let store = open(&proxy.endpoint(), "p");
    store.put_new("pages/a", &[7; 10_000]).unwrap();
    proxy.add(Rule::new(Fault::CutBody).method("GET").times(2));
    assert!(matches!(store.get("pages/a", 20_000).unwrap_err(), Error::ArchiveUnavailable { .. }));
    assert!(store.get_range("pages/a", 10..5000).is_err());
    assert_eq!(store.get("pages/a", 20_000).unwrap().unwrap(), [7; 10_000]);
}

/// So many objects, past the client.
fn objects(server: &S3Server, folder: &str, count: usize) -> Vec<String> {
    let path = server.object_path(folder);
    std::fs::create_dir_all(&path).unwrap();
    let name = |n: usize| format!("{n:08}");
    (0..count).for_each(|n| std::fs::write(path.join(name(n)), b"x").unwrap());
    (0..count).map(|n| format!("pages/{}", name(n))).collect()
}

#[test]
fn a_listing_may_take_longer_than_a_request_and_goes_on_where_a_page_failed() {
    let server = S3Server::start().unwrap();
    let proxy = Proxy::before(server.address()).unwrap();
    let keys = objects(&server, "long/pages", 4500);
    // Five pages, each well within the timeout, on a busy machine, too; all of them are not.
    let timeout = Duration::from_secs(5);
    proxy.add(Rule::new(Fault::Delay(Duration::from_millis(1100))).method("GET").path("list-type"));
    let store = open_within(&proxy.endpoint(), "long", timeout);
    let began = std::time::Instant::now();
    let listed: Vec<String> = store.list("pages/").unwrap().into_iter().map(|found| found.key).collect();
    assert_eq!(listed, keys);
    assert!(began.elapsed() > timeout);
    assert_eq!(proxy.take_requests().len(), 5, "one request a page");
    proxy.clear();

    // The fourth page fails, more than once: only it is asked for again.
    proxy.add(Rule::new(Fault::Status(503)).method("GET").path("list-type").skip(3).times(2));
    let listed: Vec<String> =
        client(&store).list("pages/").unwrap().into_iter().map(|found| found.key).collect();
    assert_eq!(listed, keys);
    let requests = proxy.take_requests();
    assert_eq!(requests.len(), 3 + 2 + 2, "{requests:?}");
    assert!(requests[4].path.contains("start-after=long%2Fpages%2F00002999"), "{requests:?}");

    // One that always fails is an error in the end.
    proxy.add(Rule::new(Fault::Status(503)).method("GET").path("list-type"));
    assert!(matches!(client(&store).list("pages/"), Err(Error::ArchiveUnavailable { .. })));
}

#[test]
fn a_server_behind_tls_is_reached_by_whoever_trusts_its_authority() {
    let server = S3Server::start_tls().unwrap();
    let environment = Environment::system().unwrap();
    let options = StoreOptions::new()
        .endpoint(server.endpoint())
        .credentials(ACCESS_KEY, store::Secret::new(SECRET_KEY))
        .request_timeout(Duration::from_secs(10));
    assert!(server.endpoint().starts_with("https://"));
    let url = format!("s3://{BUCKET}/tls");
    let stranger = store::open(&url, &options, &environment).unwrap();
    assert!(matches!(stranger.list(""), Err(Error::ArchiveUnavailable { .. })), "nobody vouches for it");
    let trusting = options.clone().root_certificates(server.authority());
    conformance::run(&store::open(&url, &trusting, &environment).unwrap());
    let nonsense = options.root_certificates("no certificate");
    assert!(matches!(store::open(&url, &nonsense, &environment), Err(Error::InvalidArgument(_))));
}

/// Set for the process in which the test below looks.
const INNER: &str = "LOGWOOD_TEST_WITH_A_TOKEN";

#[test]
fn credentials_that_are_given_take_no_token_of_the_environment() {
    if std::env::var(INNER).is_err() {
        // The environment of this process is every test's.
        let this = std::env::current_exe().unwrap();
        let name = "credentials_that_are_given_take_no_token_of_the_environment";
        let status = std::process::Command::new(this)
            .args(["--exact", name])
            .env(INNER, "1")
            .env("AWS_SESSION_TOKEN", "the-token-of-other-credentials")
            .env("AWS_ACCESS_KEY_ID", "OTHER")
            .env("AWS_SECRET_ACCESS_KEY", "other")
            .status();
        assert!(status.unwrap().success());
        return;
    }
    let server = S3Server::start().unwrap();
    let proxy = Proxy::before(server.address()).unwrap();
    open(&proxy.endpoint(), "p").put_new("pages/a", b"body").unwrap();
    let token = |proxy: &Proxy| {
        let requests = proxy.take_requests();
        assert!(!requests.is_empty());
        requests.iter().any(|request| request.headers.iter().any(|name| name == "x-amz-security-token"))
    };
    assert!(!token(&proxy));
    // One's own token goes with one's own keys; the environment's token with its own.
    let own = StoreOptions::new()
        .endpoint(proxy.endpoint())
        .credentials(ACCESS_KEY, store::Secret::new(SECRET_KEY))
        .session_token(store::Secret::new("a token"));
    for options in [own, StoreOptions::new().endpoint(proxy.endpoint())] {
        let store = store::open(&format!("s3://{BUCKET}/p"), &options, &Environment::system().unwrap());
        let _ = store.unwrap().head("pages/a");
        assert!(token(&proxy));
    }
}
