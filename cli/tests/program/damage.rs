//! Damaged files: named on one line each, and never read as something else.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::support::{Place, copy, records, rounds, run, walk};

/// A database with several files of every kind.
fn database() -> Place {
    let place = Place::with(&records(5000));
    place.run("compact", &[]).done();
    for number in 0..3 {
        place.run("put", &[&format!("key-{number:06}"), "updated"]).done();
    }
    place
}

fn files(directory: &Path) -> Vec<PathBuf> {
    walk(directory)
        .into_iter()
        .filter(|path| path.is_file() && fs::metadata(path).unwrap().len() > 0)
        .collect()
}

#[test]
fn a_flipped_byte_in_a_page_file_is_2_with_file_offset_what_and_range() {
    let place = database();
    let victim =
        files(&place.path("db/pages")).into_iter().max_by_key(|path| fs::metadata(path).unwrap().len());
    let victim = victim.expect("there are page files");
    let mut bytes = fs::read(&victim).unwrap();
    let middle = bytes.len() / 2;
    let place_of_damage = middle + bytes[middle..].iter().position(|byte| *byte != 0).unwrap_or(0);
    bytes[place_of_damage] ^= 0xff;
    fs::write(&victim, bytes).unwrap();

    let ran = place.run("verify", &[]);
    assert_eq!(ran.code, 2, "{ran:?}");
    let line = ran.stdout.lines().find(|line| line.starts_with(victim.to_str().unwrap())).expect(&ran.stdout);
    let columns: Vec<&str> = line.split('\t').collect();
    assert_eq!(columns.len(), 4, "{line}");
    let offset: usize = columns[1].parse().unwrap();
    assert!(offset <= place_of_damage, "the damage at {place_of_damage} is within what begins at {offset}");
    assert!(columns[2].contains("checksum"), "{line}");
    // The middle of the largest file is in a page of records.
    let of_victim = ran.stdout.lines().filter(|line| line.starts_with(victim.to_str().unwrap()));
    let mut ranges = of_victim.filter_map(|line| line.split('\t').nth(3));
    let names_keys = ranges.any(|range| range.contains("keys from ") && range.contains("'key-00"));
    assert!(names_keys, "{}", ran.stdout);

    let ran = place.run("verify", &["--json"]);
    assert_eq!(ran.code, 2);
    let objects: Vec<Value> = ran.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(objects.iter().any(|object| object["file"] == victim.to_str().unwrap()), "{objects:?}");
}

#[test]
fn whatever_is_flipped_nothing_else_is_ever_read() {
    let place = database();
    let expected = place.run("scan", &[]).done();
    let all = files(&place.path("db"));
    let mut random = fastrand::Rng::with_seed(7);
    let broken = place.path("broken");
    let mut named = 0;
    for round in 0..rounds(24) {
        let _ = fs::remove_dir_all(&broken);
        copy(&place.path("db"), &broken);
        let victim = &all[round as usize % all.len()];
        let victim = broken.join(victim.strip_prefix(place.path("db")).unwrap());
        let mut bytes = fs::read(&victim).unwrap();
        // Every other time within the bytes that are in use, at the front of a log segment.
        let bound = if random.bool() { bytes.len() } else { bytes.len().min(4096) };
        let offset = random.usize(0..bound);
        bytes[offset] ^= 1 << random.u32(0..8);
        fs::write(&victim, bytes).unwrap();
        let what = format!("byte {offset} of {}", victim.display());

        let broken = broken.to_str().unwrap();
        let verified = run(["verify", broken]);
        assert!(matches!(verified.code, 0 | 2 | 3), "{what}: {verified:?}");
        named += u32::from(verified.code == 2);
        let scanned = run(["scan", broken]);
        match scanned.code {
            0 => assert_eq!(scanned.stdout, expected, "{what}"),
            2 | 3 => {
                assert!(expected.starts_with(&scanned.stdout), "{what}: what was printed before is right");
                assert_eq!(scanned.stderr.lines().count(), 1, "{what}: {scanned:?}");
                assert_ne!(verified.code, 0, "{what}: verify must find what a scan finds: {scanned:?}");
            }
            other => panic!("{what}: {other}: {scanned:?}"),
        }
    }
    assert!(named > 0, "some of these flips are in bytes that matter");
}

#[test]
fn a_missing_file_is_named_and_not_made_anew() {
    let place = database();
    let expected = place.run("scan", &[]).done();
    let broken = place.path("broken");
    let mut refused = 0;
    for victim in files(&place.path("db")) {
        let _ = fs::remove_dir_all(&broken);
        copy(&place.path("db"), &broken);
        let victim = broken.join(victim.strip_prefix(place.path("db")).unwrap());
        fs::remove_file(&victim).unwrap();
        let left = files(&broken);
        let scanned = run(["scan", broken.to_str().unwrap()]);
        let missing = victim.display();
        match scanned.code {
            0 => assert_eq!(scanned.stdout, expected, "without {missing}"),
            2 => {
                refused += 1;
                assert!(expected.starts_with(&scanned.stdout), "without {missing}");
                assert!(scanned.stderr.contains(&missing.to_string()), "without {missing}: {scanned:?}");
                assert_eq!(files(&broken), left, "without {missing}: nothing is made or removed");
            }
            other => panic!("without {missing}: {other}: {scanned:?}"),
        }
    }
    assert!(refused >= 2, "pages and log are needed: {refused}");
}

#[test]
fn a_log_that_ends_early_because_of_damage_is_printed_up_to_there_and_is_2() {
    let place = Place::new();
    for key in ["a", "b", "c"] {
        place.run("put", &[key, "1"]).done();
    }
    let whole = place.run("log", &[]).done();
    let newest = files(&place.path("db/log")).into_iter().max().unwrap();
    let mut bytes = fs::read(&newest).unwrap();
    // In the first batch: the idle seal behind it says that it was durable.
    let at = bytes.windows(4).rposition(|window| window != [0; 4]).unwrap().min(4116);
    bytes[at] ^= 1;
    fs::write(&newest, bytes).unwrap();
    let ran = place.run("log", &[]);
    assert_eq!((ran.code, ran.stderr.lines().count()), (2, 1), "{ran:?}");
    assert!(whole.starts_with(&ran.stdout) && ran.stdout.len() < whole.len(), "{ran:?}");
    let one = place.run("log", &["--limit", "1"]);
    assert_eq!((one.code, one.stdout.lines().count()), (0, 1), "what was asked for is there: {one:?}");
}
