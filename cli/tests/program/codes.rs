//! Every exit code, and that its reason stands on one line.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use crate::support::{Place, Ran, fingerprint, program, records, run, run_with};

const READERS: [&[&str]; 9] = [
    &["get", "k"],
    &["delete", "k"],
    &["scan"],
    &["count"],
    &["digest"],
    &["keyspaces"],
    &["stat"],
    &["verify"],
    &["log"],
];

#[test]
fn help_and_version_are_printed_and_done() {
    for words in [&["--help"][..], &["-h"], &["help"], &["--version"], &["load", "--help"], &["help", "scan"]]
    {
        assert!(!run(words).done().is_empty());
    }
    assert!(run(["--help"]).done().contains("Examples:"));
}

#[test]
fn wrong_usage_is_64() {
    let place = Place::new();
    let db = place.db.as_str();
    for words in [
        &["nonsense"][..],
        &["get", db],
        &["get", db, "a", "b"],
        &["put", db, "a"],
        &["scan", db, "--limit", "x"],
        &["scan", db, "--limit", "-1"],
        &["load", db, "--batch", "0"],
        &["load", db, "--format", "xml"],
        &["load", db, "--durability", "maybe"],
        &["load", db, "--format", "csv"],
        &["load", db, "--format", "jsonl"],
        &["load", db, "--key", "id"],
        &["load", db, "--format", "csv", "--key", "id", "--raw"],
        &["load", db, "--nonsense"],
        &["keyspaces", db, "--create", "a", "--drop", "b"],
        &["demo", "--records", "1"],
        &["log", db, "--from", "x"],
        &["log", db, "--from", "0"],
        &["load", db, "--keyspace", ""],
        &["put", db, "a", "b", "--keyspace", &"k".repeat(256)],
        &["keyspaces", db, "--create", ""],
        &["keyspaces", db, "--create", &"k".repeat(256)],
        &["bench", db, "fill", "--keyspace", ""],
        &["get", db, "a", "--keyspace", ""],
        &["scan", db, "--keyspace", ""],
        &["put", db, "a", "b", "--keyspace", "\\xff"],
        &["load", db, "--endpoint", "nonsense"],
        &["load", db, "--ca-file", "/nowhere"],
        &["load", db, "--timeout", "1s"],
    ] {
        run(words).fails(64, "");
    }
    assert_eq!(run::<&str>([]).code, 64);
    assert!(!place.path("db").exists(), "wrong usage leaves nothing behind");
}

#[test]
fn reading_where_no_database_is_is_1_and_makes_none() {
    let place = Place::new();
    fs::create_dir(place.path("empty")).unwrap();
    fs::create_dir(place.path("other")).unwrap();
    place.file("other/notes.txt", b"not a database");
    for folder in ["pages", "log"] {
        fs::create_dir_all(place.path("foreign").join(folder)).unwrap();
        place.file(&format!("foreign/{folder}/one.txt"), b"not ours");
    }
    for directory in ["absent", "empty", "other", "foreign"] {
        let path = place.path(directory);
        for words in READERS {
            let path = path.to_str().unwrap();
            run([words[0], path].iter().chain(&words[1..])).fails(1, "no logwood database");
        }
    }
    assert!(!place.path("absent").exists());
    assert_eq!(fingerprint(&place.path("other")).len(), 2);
    assert_eq!(fingerprint(&place.path("foreign")).len(), 5);
    assert_eq!(fingerprint(&place.path("empty")).len(), 1);
}

#[test]
fn a_directory_whose_creation_was_cut_off_is_no_database_and_no_damage() {
    let place = Place::new();
    for folder in ["db", "db/manifest", "db/pages", "db/log"] {
        fs::create_dir(place.path(folder)).unwrap();
    }
    place.file("db/log/00000000000000000001.log", &[0; 8192]);
    place.run("verify", &[]).fails(1, "no logwood database");
    place.run("scan", &[]).fails(1, "no logwood database");
    place.run("stat", &[]).fails(1, "no logwood database");
    place.run("put", &["k", "v"]).done();
    assert_eq!(place.run("get", &["k"]).done(), "v\n");
}

#[test]
fn a_directory_with_other_things_in_it_is_not_made_a_database() {
    let place = Place::new();
    fs::create_dir(place.path("db")).unwrap();
    place.file("db/notes.txt", b"not a database");
    fs::create_dir(place.path("db/pages")).unwrap();
    place.file("db/pages/one.txt", b"not ours");
    for words in [&["put", "k", "v"][..], &["load"], &["keyspaces", "--create", "k"]] {
        place.run(words[0], &words[1..]).fails(64, "is not empty and holds no logwood database");
    }
    assert_eq!(fingerprint(&place.path("db")).len(), 4);
}

#[test]
fn what_is_not_there_is_1() {
    let place = Place::with("a\t1\n");
    place.run("get", &["b"]).fails(1, "'b'");
    for words in [&["get", "a"][..], &["scan"], &["count"], &["digest"]] {
        place.run(words[0], &[&words[1..], &["--keyspace", "k"]].concat()).fails(1, "keyspace 'k'");
    }
    place.run("load", &["no-such-file.tsv"]).fails(1, "no-such-file.tsv");
}

#[test]
fn a_file_in_the_place_of_a_directory_is_3_and_deleting_from_an_absent_keyspace_is_done() {
    let place = Place::with("a\t1\n");
    let file = place.file("file", b"");
    for words in [&["get", &file, "a"][..], &["scan", &file], &["delete", &file, "a"], &["stat", &file]] {
        run(words).fails(3, "");
    }
    place.run("delete", &["a", "--keyspace", "k"]).done();
    place.run("delete-range", &["--all", "--keyspace", "k"]).done();
    assert_eq!(place.run("count", &[]).done(), "1\n");
}

#[test]
fn a_key_that_is_too_long_is_65() {
    let place = Place::new();
    let longest = "k".repeat(65_535);
    place.run("put", &[&longest, "v"]).done();
    assert_eq!(place.run("get", &[&longest]).done(), "v\n");
    place.run("put", &[&format!("{longest}k"), "v"]).fails(65, "65536");
    assert_eq!(place.run("count", &[]).done(), "1\n");
    let ran = run_with(["load", &place.db, "-"], format!("a\t1\n{longest}k\tv\n").as_bytes());
    assert_eq!(ran.code, 65);
    assert!(ran.stderr.contains("line 2"));
    assert_eq!(place.run("count", &[]).done(), "2\n");
}

#[test]
fn a_bad_line_is_65_is_named_and_everything_before_it_is_kept() {
    let place = Place::new();
    let text = b"a\t1\nb\t2\nc\t3\nbad\nd\t4\n";
    let ran = run_with(["load", &place.db, "--batch", "2"], text);
    assert_eq!(ran.code, 65, "{ran:?}");
    let lines: Vec<_> = ran.stderr.lines().collect();
    assert!(lines.len() == 2 && lines[0].contains("line 4"), "{ran:?}");
    assert!(lines[1].contains("3 records were loaded before this"), "{ran:?}");
    assert_eq!(place.run("scan", &["--keys"]).done(), "a\nb\nc\n");

    let ran = run_with(["load", &place.db, "--skip-bad"], text);
    assert_eq!(ran.code, 0);
    assert!(ran.stdout.contains("1 bad line"), "{ran:?}");
    assert!(ran.stdout.contains("line 4"), "{ran:?}");
    assert_eq!(place.run("scan", &["--keys"]).done(), "a\nb\nc\nd\n");
}

#[test]
fn one_record_is_one_record() {
    let place = Place::new();
    let ran = run_with(["load", &place.db], b"a\t1\nbad\n");
    assert!(ran.stderr.contains("logwood: 1 record was loaded before this\n"), "{ran:?}");
    let loaded = run_with(["load", &place.db, "--skip-bad"], b"a\t1\nbad\n").done();
    assert!(loaded.starts_with("1 record in 1 batch, 1 bad line skipped"), "{loaded}");
    assert_eq!(place.run("delete-range", &["--all"]).done(), "1 record deleted\n");
    assert_eq!(place.run("delete-range", &["--all"]).done(), "0 records deleted\n");
}

#[test]
fn the_limit_of_a_files_size_is_3_like_a_full_disk_and_what_was_acknowledged_stays() {
    let place = Place::with("a\t1\n");
    // In blocks of 512 or 1024 bytes: less than the log has to hold.
    let file = place.file("records", records(20_000).as_bytes());
    let script = format!(
        "ulimit -f 256; exec '{}' load '{}' '{file}' --acks --batch 100",
        env!("CARGO_BIN_EXE_logwood"),
        place.db
    );
    let ran: Ran = Command::new("sh").args(["-c", &script]).output().unwrap().into();
    assert_eq!(ran.code, 3, "{ran:?}");
    assert!(ran.stderr.lines().all(|line| line.starts_with("logwood: ")), "{ran:?}");
    assert!(ran.stderr.contains("too large"), "{ran:?}");
    let acknowledged = ran.stdout.lines().count() * 100;
    let count: usize = place.run("count", &[]).done().trim_end().parse().unwrap();
    assert!(count > acknowledged, "{count} records, {acknowledged} and one acknowledged");
}

#[test]
fn a_locked_directory_is_3_and_is_free_after_its_holder_was_killed() {
    let place = Place::new();
    let mut holder = program()
        .args(["load", &place.db, "-", "--acks", "--batch", "1"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut stdin = holder.stdin.take().unwrap();
    stdin.write_all(b"a\t1\n").unwrap();
    stdin.flush().unwrap();
    let mut acknowledged = String::new();
    BufReader::new(holder.stdout.take().unwrap()).read_line(&mut acknowledged).unwrap();
    assert!(acknowledged.ends_with("\ta\n"));

    for words in [&["put", "b", "2"][..], &["get", "a"], &["scan"], &["count"], &["compact"]] {
        place.run(words[0], &words[1..]).fails(3, "already open");
    }
    let link = place.path("link");
    std::os::unix::fs::symlink(place.path("db"), &link).unwrap();
    run(["get", link.to_str().unwrap(), "a"]).fails(3, "already open");

    holder.kill().unwrap();
    holder.wait().unwrap();
    drop(stdin);
    assert_eq!(place.run("get", &["a"]).done(), "1\n", "acknowledged before the kill");
}

#[test]
fn a_file_where_the_directory_should_be_is_refused() {
    let place = Place::new();
    place.file("db", b"a file");
    for words in READERS.into_iter().chain([&["put", "k", "v"][..], &["compact"]]) {
        let ran = place.run(words[0], &words[1..]);
        assert!(matches!(ran.code, 1 | 3), "{words:?} {ran:?}");
        assert_eq!(ran.stderr.lines().count(), 1, "{ran:?}");
    }
    assert_eq!(fs::read(place.path("db")).unwrap(), b"a file");
}

#[test]
fn a_directory_that_may_not_be_written_is_3() {
    let place = Place::with("a\t1\n");
    let stranger = |words: &[&str]| -> Ran {
        let mut command = as_stranger(&place);
        command.args(words).stdin(Stdio::null());
        loop {
            match command.output() {
                // A test beside this one was starting a process just when the copy was written, and that process
                // has the file open until it becomes another program.
                Err(error) if error.kind() == std::io::ErrorKind::ExecutableFileBusy => {
                    std::thread::yield_now()
                }
                output => return output.unwrap().into(),
            }
        }
    };
    for path in crate::support::walk(&place.path("db")) {
        let mode = if path.is_dir() { 0o555 } else { 0o444 };
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }
    fs::set_permissions(place.path("."), fs::Permissions::from_mode(0o755)).unwrap();
    let before = fingerprint(&place.path("db"));
    let ran = stranger(&["put", &place.db, "b", "2"]);
    assert_eq!(ran.code, 3, "{ran:?}");
    assert_eq!(ran.stderr.lines().count(), 1, "{ran:?}");
    stranger(&["verify", &place.db]).done();
    stranger(&["stat", &place.db]).done();
    assert!(!stranger(&["log", &place.db]).done().is_empty());
    assert_eq!(fingerprint(&place.path("db")), before);
    for path in crate::support::walk(&place.path("db")) {
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }
}

/// The program, run by a user to whom permissions apply: root is asked by nobody.
fn as_stranger(place: &Place) -> Command {
    let copy = place.path("logwood");
    if !copy.exists() {
        fs::copy(env!("CARGO_BIN_EXE_logwood"), &copy).unwrap();
    }
    fs::set_permissions(&copy, fs::Permissions::from_mode(0o755)).unwrap();
    let mut command = Command::new(copy);
    if fs::metadata("/proc/self").map(|about| about.uid()).unwrap_or(0) == 0 {
        command.uid(65_534).gid(65_534);
    }
    command
}

#[test]
fn a_closed_pipe_is_0() {
    let place = Place::with(&records(20_000));
    let mut scan = program().args(["scan", &place.db]).stdout(Stdio::piped()).spawn().unwrap();
    let mut first = String::new();
    BufReader::new(scan.stdout.take().unwrap()).read_line(&mut first).unwrap();
    assert!(first.starts_with("key-000000\t"));
    assert_eq!(scan.wait().unwrap().code(), Some(0));
}

#[test]
fn a_closed_pipe_does_not_hide_damage() {
    let place = Place::with(&records(1_000));
    place.run("compact", &[]).done();
    for path in crate::support::walk(&place.path("db"))
        .into_iter()
        .filter(|path| path.extension().is_some_and(|is| is == "pages"))
    {
        let mut bytes = fs::read(&path).unwrap();
        bytes.iter_mut().for_each(|byte| *byte ^= 1);
        fs::write(&path, bytes).unwrap();
    }
    let mut verify = program().args(["verify", &place.db]).stdout(Stdio::piped()).spawn().unwrap();
    drop(verify.stdout.take());
    assert_eq!(verify.wait().unwrap().code(), Some(2));
}

#[test]
fn a_header_without_the_key_leaves_no_database() {
    let place = Place::new();
    let file = place.file("people.csv", b"name,email\na,b\n");
    place.run("load", &[&file, "--format", "csv", "--key", "id"]).fails(65, "people.csv");
    assert!(!place.path("db").exists());
}

#[test]
fn a_load_whose_acknowledgements_nobody_reads_is_still_whole() {
    let place = Place::new();
    let file = place.file("all.tsv", records(5000).as_bytes());
    let mut load = program()
        .args(["load", &place.db, &file, "--acks", "--batch", "10"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    drop(load.stdout.take());
    assert_eq!(load.wait().unwrap().code(), Some(0));
    assert_eq!(place.run("count", &[]).done(), "5000\n");
}

#[test]
fn output_that_is_lost_is_not_taken_for_done() {
    let place = Place::with("a\t1\n");
    let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let output = program().args(["scan", &place.db]).stdout(full).output().unwrap();
    assert_eq!(output.status.code(), Some(3));
    assert!(String::from_utf8(output.stderr).unwrap().contains("stdout"));
}
