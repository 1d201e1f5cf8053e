//! One process has a directory open, and a directory is what it was made as.

use std::process::Command;

use crate::{Database, Error, LogOnly, Options};

/// Set in the child process: the directory that it tries to open.
const CHILD: &str = "LOGWOOD_TEST_OPENS";

fn is_already_open(result: Result<Database, Error>) -> bool {
    matches!(result, Err(Error::AlreadyOpen { .. }))
}

#[test]
fn a_second_open_is_refused_in_this_process_and_through_a_link() {
    let home = tempfile::tempdir().unwrap();
    let (directory, link) = (home.path().join("db"), home.path().join("link"));
    let db = Database::open(&directory, Options::new()).unwrap();
    std::os::unix::fs::symlink(&directory, &link).unwrap();
    assert!(is_already_open(Database::open(&directory, Options::new())));
    assert!(is_already_open(Database::open(&link, Options::new())));
    db.close().unwrap();
    let again = Database::open(&link, Options::new()).unwrap();
    assert!(is_already_open(Database::open(&directory, Options::new())));
    drop(again);
    Database::open(&directory, Options::new()).unwrap();
}

#[test]
fn handles_keep_the_directory_until_the_last_is_gone() {
    let home = tempfile::tempdir().unwrap();
    let db = Database::open(home.path(), Options::new()).unwrap();
    let ks = db.ensure_keyspace("k").unwrap();
    ks.put(b"a", b"1").unwrap();
    drop(db);
    assert!(is_already_open(Database::open(home.path(), Options::new())));
    drop(ks);
    let db = Database::open(home.path(), Options::new()).unwrap();
    assert_eq!(db.keyspace("k").unwrap().get(b"a").unwrap().as_deref(), Some(&b"1"[..]));
}

#[test]
fn another_process_is_refused_and_a_killed_one_is_not_in_the_way() {
    if let Ok(directory) = std::env::var(CHILD) {
        child(&directory);
    }
    let home = tempfile::tempdir().unwrap();
    let db = Database::open(home.path(), Options::new()).unwrap();
    assert_eq!(run_child(home.path()), Some(11), "the child sees AlreadyOpen");
    db.close().unwrap();
    assert_eq!(run_child(home.path()), None, "the child has it open and kills itself");
    let db = Database::open(home.path(), Options::new()).unwrap();
    let ks = db.keyspace("child").unwrap();
    assert_eq!(ks.get(b"key").unwrap().as_deref(), Some(&b"durable"[..]));
}

/// Exit code of a child process that opens the directory; `None` when a signal ended it.
fn run_child(directory: &std::path::Path) -> Option<i32> {
    let name = "tests::lock::another_process_is_refused_and_a_killed_one_is_not_in_the_way";
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture"])
        .env(CHILD, directory)
        .output()
        .unwrap()
        .status
        .code()
}

fn child(directory: &str) -> ! {
    match Database::open(directory, Options::new()) {
        Err(Error::AlreadyOpen { .. }) => std::process::exit(11),
        Err(error) => panic!("{error}"),
        Ok(db) => {
            db.ensure_keyspace("child").unwrap().put(b"key", b"durable").unwrap();
            let id = std::process::id().to_string();
            Command::new("kill").args(["-KILL", &id]).status().unwrap();
            loop {
                std::thread::yield_now();
            }
        }
    }
}

#[test]
fn a_closed_database_refuses_writes_and_goes_on_reading() {
    let home = tempfile::tempdir().unwrap();
    let db = Database::open(home.path(), Options::new()).unwrap();
    let ks = db.ensure_keyspace("k").unwrap();
    ks.put(b"a", b"1").unwrap();
    db.close().unwrap();
    db.close().unwrap();
    assert!(matches!(ks.put(b"a", b"2"), Err(Error::Closed)));
    assert!(matches!(db.create_keyspace("x"), Err(Error::Closed)));
    assert!(matches!(db.checkpoint(), Err(Error::Closed)));
    assert_eq!(ks.get(b"a").unwrap().as_deref(), Some(&b"1"[..]));
}

#[test]
fn databases_and_logs_without_trees_refuse_each_others_directories() {
    let home = tempfile::tempdir().unwrap();
    let (database, log) = (home.path().join("database"), home.path().join("log"));
    Database::open(&database, Options::new()).unwrap().close().unwrap();
    LogOnly::open(&log, Options::new()).unwrap().close().unwrap();
    let refused = LogOnly::open(&database, Options::new()).unwrap_err();
    assert!(matches!(refused, Error::WrongKind { .. }), "{refused}");
    let refused = Database::open(&log, Options::new()).unwrap_err();
    assert!(matches!(refused, Error::WrongKind { .. }), "{refused}");
    let none = home.path().join("none");
    assert!(matches!(Database::open(&none, Options::new().create(false)), Err(Error::NotFound { .. })));
    assert!(matches!(LogOnly::open(&none, Options::new().create(false)), Err(Error::NotFound { .. })));
    assert!(!none.exists(), "a refusal leaves nothing behind");
}
