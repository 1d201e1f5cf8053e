//! `stat`, `verify` and `log` change nothing, not even a tail that a crash left.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::Stdio;

use crate::support::{Place, fingerprint, program, records};

#[track_caller]
fn nothing_changes(place: &Place, directory: &Path) {
    let before = fingerprint(directory);
    for command in ["stat", "verify", "log"] {
        for options in [&[][..], &["--json"]] {
            let words = [&[command, directory.to_str().unwrap()], options].concat();
            crate::support::run(words).done();
            let after = fingerprint(directory);
            assert_eq!(
                before.keys().collect::<Vec<_>>(),
                after.keys().collect::<Vec<_>>(),
                "{command} makes and removes no file"
            );
            for (path, about) in &before {
                assert!(after[path] == *about, "{command} changed {}", path.display());
            }
        }
    }
    let _ = place;
}

#[test]
fn inspecting_a_closed_database_changes_nothing() {
    let place = Place::with(&records(2000));
    nothing_changes(&place, &place.path("db"));
    place.run("compact", &[]).done();
    nothing_changes(&place, &place.path("db"));
}

#[test]
fn inspecting_after_a_kill_changes_nothing() {
    let place = Place::new();
    let mut load = program()
        .args(["load", &place.db, "-", "--acks", "--batch", "10"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut stdin = load.stdin.take().unwrap();
    stdin.write_all(records(100).as_bytes()).unwrap();
    stdin.flush().unwrap();
    let mut acknowledged = BufReader::new(load.stdout.take().unwrap()).lines();
    for _ in 0..5 {
        acknowledged.next().unwrap().unwrap();
    }
    load.kill().unwrap();
    load.wait().unwrap();
    nothing_changes(&place, &place.path("db"));

    // A torn tail: the newest log segment's last bytes are not what was written.
    let mut segments: Vec<_> =
        fs::read_dir(place.path("db/log")).unwrap().map(|entry| entry.unwrap().path()).collect();
    segments.sort();
    // The newest ones may be made ahead, and hold nothing but zeros yet.
    let is_used = |path: &&std::path::PathBuf| fs::read(path).unwrap().iter().any(|byte| *byte != 0);
    let newest = segments.iter().rev().find(is_used).unwrap();
    let mut bytes = fs::read(newest).unwrap();
    let end = bytes.iter().rposition(|byte| *byte != 0).unwrap();
    bytes[end] ^= 1;
    fs::write(newest, bytes).unwrap();
    nothing_changes(&place, &place.path("db"));
}

#[test]
fn a_database_in_use_can_be_inspected() {
    let place = Place::new();
    let mut load = program()
        .args(["load", &place.db, "-", "--acks", "--batch", "10"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut stdin = load.stdin.take().unwrap();
    stdin.write_all(records(100).as_bytes()).unwrap();
    stdin.flush().unwrap();
    let mut acknowledged = BufReader::new(load.stdout.take().unwrap()).lines();
    for _ in 0..10 {
        acknowledged.next().unwrap().unwrap();
    }
    place.run("stat", &[]).done();
    place.run("verify", &[]).done();
    assert!(place.run("log", &[]).done().lines().count() >= 10);
    drop(stdin);
    assert_eq!(load.wait().unwrap().code(), Some(0));
}
