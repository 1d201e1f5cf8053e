//! What every [`Store`] must do, as a suite that takes one apart.
//!
//! It ships so that whoever brings a store of their own can hold it to the same rules.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::{Put, Store};

/// Holds a store to the rules. It must be empty, and is empty again afterwards.
///
/// ```
/// use logwood::archive::Store;
/// use logwood::archive::store::{Memory, conformance};
/// let store: std::sync::Arc<dyn Store> = std::sync::Arc::new(Memory::new());
/// conformance::run(&store);
/// ```
///
/// # Panics
/// When a rule does not hold.
pub fn run(store: &Arc<dyn Store>) {
    objects_are_whole_and_never_overwritten(&**store);
    parts_and_lengths_are_those_of_the_object(&**store);
    listings_are_by_prefix_and_ascending(&**store);
    deleting_is_idempotent(&**store);
    of_many_puts_at_once_one_creates(store);
    assert!(store.list("").expect("a listing").is_empty(), "the suite cleans up");
}

fn objects_are_whole_and_never_overwritten(store: &dyn Store) {
    assert_eq!(store.get("pages/a", 100).expect("a get"), None);
    for (key, bytes) in [("pages/a", &b"first"[..]), ("pages/empty", b"")] {
        assert_eq!(store.put_new(key, bytes).expect("a put"), Put::Created);
        assert_eq!(store.put_new(key, b"second").expect("a second put"), Put::Exists);
        assert_eq!(store.get(key, 100).expect("a get").as_deref(), Some(bytes));
        store.delete(key).expect("a delete");
    }
    let large: Vec<u8> = (0..5_000_000u32).map(|n| (n % 251) as u8).collect();
    assert_eq!(store.put_new("pages/large", &large).expect("a put"), Put::Created);
    assert!(store.get("pages/large", large.len() as u64).expect("a get").is_some_and(|found| found == large));
    assert!(store.get("pages/large", large.len() as u64 - 1).is_err(), "a bound is kept");
    store.delete("pages/large").expect("a delete");
}

fn parts_and_lengths_are_those_of_the_object(store: &dyn Store) {
    assert_eq!(store.head("pages/b").expect("a head"), None);
    assert_eq!(store.get_range("pages/b", 0..1).expect("a part"), None);
    store.put_new("pages/b", b"0123456789").expect("a put");
    let head = store.head("pages/b").expect("a head").expect("an object");
    assert_eq!(head.bytes, 10);
    store.put_new("pages/c", b"later").expect("a put");
    let later = store.head("pages/c").expect("a head").expect("an object");
    assert!(later.put_ms >= head.put_ms, "the store's clock does not go back");
    store.delete("pages/c").expect("a delete");
    assert_eq!(store.get_range("pages/b", 3..6).expect("a part").as_deref(), Some(&b"345"[..]));
    assert!(store.get_range("pages/b", 8..12).is_err(), "a part that is not there");
    store.delete("pages/b").expect("a delete");
}

fn listings_are_by_prefix_and_ascending(store: &dyn Store) {
    let keys = ["lineage/a/log/2", "lineage/a/log/10", "lineage/a/start", "lineage/ab/start", "retention"];
    for key in keys {
        store.put_new(key, key.as_bytes()).expect("a put");
    }
    let listed = |prefix| -> Vec<String> {
        store.list(prefix).expect("a listing").into_iter().map(|object| object.key).collect()
    };
    assert_eq!(listed("lineage/a/log/"), ["lineage/a/log/10", "lineage/a/log/2"]);
    assert_eq!(listed("lineage/a/"), ["lineage/a/log/10", "lineage/a/log/2", "lineage/a/start"]);
    assert_eq!(listed("nothing/"), Vec::<String>::new());
    assert_eq!(listed("").len(), keys.len());
    let behind = |prefix, after| -> Vec<String> {
        let mut found = Vec::new();
        let told = store.list_behind(prefix, after, &mut |object| {
            found.push(object.key);
            ControlFlow::Continue(())
        });
        told.expect("a listing");
        found
    };
    assert_eq!(behind("lineage/a/", "lineage/a/log/10"), ["lineage/a/log/2", "lineage/a/start"]);
    assert_eq!(behind("lineage/", "lineage/a0"), ["lineage/ab/start"], "behind a name that is none");
    assert_eq!(behind("lineage/", "lineage/a/log/"), keys_from(&keys, "lineage/a/log/10"));
    assert_eq!(behind("", "retention"), Vec::<String>::new());
    let mut told = 0;
    let listing = store.list_behind("", "", &mut |_| {
        told += 1;
        if told == 2 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    listing.expect("a listing that is broken off");
    assert_eq!(told, 2);
    let start = &store.list("lineage/ab/").expect("a listing")[0];
    assert_eq!(start.bytes, start.key.len() as u64);
    keys.iter().for_each(|key| store.delete(key).expect("a delete"));
}

/// The keys of lineages from one on, ascending.
fn keys_from(keys: &[&str], first: &str) -> Vec<String> {
    let mut found: Vec<String> = keys.iter().map(|key| (*key).to_owned()).collect();
    found.sort();
    found.retain(|key| key.starts_with("lineage/") && key.as_str() >= first);
    found
}

fn deleting_is_idempotent(store: &dyn Store) {
    store.put_new("hold/a", b"x").expect("a put");
    store.delete("hold/a").expect("a delete");
    store.delete("hold/a").expect("a delete of what is not there");
    assert_eq!(store.put_new("hold/a", b"y").expect("a put of a name that is free again"), Put::Created);
    assert_eq!(store.get("hold/a", 9).expect("a get").as_deref(), Some(&b"y"[..]));
    store.delete("hold/a").expect("a delete");
}

#[expect(clippy::disallowed_methods, reason = "what is tested are threads")]
fn of_many_puts_at_once_one_creates(store: &Arc<dyn Store>) {
    for round in 0..8 {
        let key = format!("pages/raced{round}");
        let created = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for writer in 0..4u8 {
                let (key, created) = (&key, &created);
                scope.spawn(move || {
                    if store.put_new(key, &[writer; 1000]).expect("a put") == Put::Created {
                        created.fetch_add(1, Ordering::SeqCst);
                    }
                });
            }
        });
        assert_eq!(created.load(Ordering::SeqCst), 1, "puts of one key that were answered as created");
        let body = store.get(&key, 1000).expect("a get").expect("an object");
        assert!(body.len() == 1000 && body.iter().all(|byte| *byte == body[0]), "a mixture");
        store.delete(&key).expect("a delete");
    }
}
