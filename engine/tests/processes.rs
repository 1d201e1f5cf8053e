//! Two processes and one directory. Alone in its program: a process that is being started holds, for a moment, copies
//! of all locks of the one that starts it.

use std::process::Command;

use logwood::{Database, Error, Options};

/// Set in the child process: the directory that it tries to open.
const CHILD: &str = "LOGWOOD_TEST_OPENS";

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
    let name = "another_process_is_refused_and_a_killed_one_is_not_in_the_way";
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
