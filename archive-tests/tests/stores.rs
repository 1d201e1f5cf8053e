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
    let options = StoreOptions::new()
        .endpoint(endpoint)
        .credentials(ACCESS_KEY, store::Secret::new(SECRET_KEY))
        .request_timeout(Duration::from_secs(1));
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
        assert_eq!(client.size(&key).unwrap(), Some(4), "{fault:?}");
        proxy.clear();
    }
    proxy.add(Rule::new(Fault::Status(503)));
    match client.size("pages/0").unwrap_err() {
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
