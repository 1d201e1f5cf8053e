//! The demo, small.

use std::fs;

use serde_json::Value;

use crate::support::{Place, run};

#[test]
fn the_demo_succeeds_and_leaves_nothing_behind() {
    let place = Place::new();
    let text = run(["demo", "--records", "5000", "--dir", &place.db]).done();
    assert!(text.contains("Every step succeeded"), "{text}");
    assert!(!place.path("db").exists());
}

#[test]
fn the_demo_keeps_its_files_when_told_to_and_prints_json() {
    let place = Place::new();
    let text = run(["demo", "--records", "2000", "--dir", &place.db, "--keep", "--json"]).done();
    let steps: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let (verdict, steps) = steps.split_last().unwrap();
    assert_eq!(verdict["ok"], true);
    assert_eq!(steps.len(), 10);
    for step in steps {
        assert_eq!(step["ok"], true);
        assert!(step["ms"].is_u64() && step["what"].is_string() && step["step"].is_string());
    }
    let db = place.path("db/db");
    assert_eq!(run(["count", db.to_str().unwrap()]).done(), "2000\n");
    assert_eq!(run(["verify", place.path("db/damaged").to_str().unwrap()]).code, 2);
}

#[test]
fn the_demo_does_not_touch_a_directory_that_is_not_empty() {
    let place = Place::new();
    fs::create_dir(place.path("db")).unwrap();
    place.file("db/mine", b"precious");
    run(["demo", "--dir", &place.db]).fails(64, "not empty");
    assert_eq!(fs::read(place.path("db/mine")).unwrap(), b"precious");
}
