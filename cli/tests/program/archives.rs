//! Archives: loading with one, losing the database, getting it back.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::process::Stdio;

use serde_json::Value;

use crate::support::{Place, Ran, copy, program, records, run, run_with, walk};

/// A place whose database was loaded with an archive beside it; the archive's URL; what each batch was acknowledged with.
fn archived(count: u32) -> (Place, String, Vec<(u64, String)>) {
    let place = Place::new();
    let url = format!("file://{}", place.path("archive").display());
    let words = ["load", &place.db, "-", "--acks", "--batch", "100", "--archive", &url];
    let printed = run_with(words, records(count).as_bytes()).done();
    let acks = printed.lines().map(|line| line.split_once('\t').unwrap());
    let acks = acks.map(|(lsn, key)| (lsn.parse().unwrap(), key.to_owned())).collect();
    (place, url, acks)
}

fn digest_of(words: &[&str]) -> (String, String) {
    let printed = run([&["digest"], words].concat()).done();
    let (lsn, digest) = printed.trim_end().split_once('\t').unwrap();
    (lsn.to_owned(), digest.to_owned())
}

#[test]
fn a_lost_database_comes_back_whole_and_as_it_was_before() {
    let (place, url, acks) = archived(2000);
    let (last, digest) = digest_of(&[&place.db]);
    fs::remove_dir_all(&place.db).unwrap();
    let told = run(["restore", "--from", &url, &place.db]).done();
    assert!(told.starts_with(&format!("restored up to LSN {last}, ")), "{told}");
    assert_eq!(digest_of(&[&place.db]).1, digest);
    run(["verify", &place.db]).done();

    let (lsn, key) = &acks[4];
    let (lsn, earlier) = (lsn.to_string(), place.path("earlier").display().to_string());
    run(["restore", "--from", &url, &earlier, "--lsn", &lsn]).done();
    assert_eq!(run(["count", &earlier]).done(), "500\n");
    assert_eq!(run(["scan", &earlier, "--reverse", "--limit", "1", "--keys"]).done(), format!("{key}\n"));
    // The same, without restoring.
    assert_eq!(run(["count", "--archive", &url, "--lsn", &lsn]).done(), "500\n");
    let (at, looked) = digest_of(&["--archive", &url, "--lsn", &lsn]);
    assert_eq!((at, looked), (lsn.clone(), digest_of(&[&earlier]).1));
    let value = run(["get", "--archive", &url, "--lsn", &lsn, key]).done();
    assert_eq!(value, run(["get", &earlier, key]).done());
    run(["get", "--archive", &url, "--lsn", &lsn, "key-001999"]).fails(1, "there is no key");
    assert_eq!(
        run(["scan", "--archive", &url, "--from", "key-001998", "--keys"]).done(),
        "key-001998\nkey-001999\n"
    );

    let part = place.path("part").display().to_string();
    run([
        "restore",
        "--from",
        &url,
        &part,
        "--keyspace",
        "default",
        "--from-key",
        "key-000010",
        "--to-key",
        "key-000020",
    ])
    .done();
    assert_eq!(run(["count", &part]).done(), "10\n");
}

#[test]
fn restored_written_archived_lost_and_restored_again() {
    let (place, url, _) = archived(300);
    for round in 0..3 {
        fs::remove_dir_all(&place.db).unwrap();
        run(["restore", "--from", &url, &place.db]).done();
        run(["put", &place.db, &format!("round {round}"), "there"]).done();
        let told = run(["archive", &place.db, "--to", &url]).done();
        assert!(told.starts_with("archived up to LSN "), "{told}");
    }
    fs::remove_dir_all(&place.db).unwrap();
    run(["restore", "--from", &url, &place.db]).done();
    assert_eq!(run(["count", &place.db]).done(), "303\n");
    let status = run(["archive-status", &url, "--json"]).done();
    let lines: Vec<Value> = status.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let lineages = lines.iter().filter(|line| line["created_ms"].is_u64()).count();
    assert_eq!(lineages, 4, "{status}");
    assert!(lines.iter().all(|line| line["hole"].is_null()), "{status}");
}

#[test]
fn the_exit_code_says_what_is_wrong_with_an_archive() {
    let (place, url, _) = archived(1000);
    let to = place.path("to").display().to_string();
    run(["restore", "--from", &url, &place.db]).fails(64, "exists already");
    run(["restore", "--from", &url, &to, "--lsn", "999999"]).fails(1, "the archive ends at lsn");
    assert!(!place.path("to").exists());
    run(["restore", "--from", "file:///", &to]).fails(64, "other than the root");
    run(["restore", "--from", &url, &to, "--time", "yesterday"]).fails(64, "is no time");
    run(["restore", "--from", &url, &to, "--time", "1969-12-31T23:59:59Z"]).fails(64, "from 1970 on");
    run(["restore", "--from", &url, &to, "--time", "1971-01-01T00:00:00Z"])
        .fails(1, "before the first entry");
    run(["restore", "--from", &url, &to, "--keyspace", "nothing"]).fails(1, "keyspace nothing");
    run(["restore", "--from", &url, &to, "--from-key", "a"]).fails(64, "--keyspace");
    run(["restore", "--from", "http://somewhere", &to]).fails(64, "file:// or s3://");
    run(["restore", "--from", "file:///nowhere/at/all", &to]).fails(1, "");
    run(["get", "--archive", &url, &place.db, "key"]).fails(64, "not both");
    run(["retention", &url, "--keep", "long"]).fails(64, "no duration");
    // What other programs reach their S3 with is nothing to a directory; what is asked for is.
    let status =
        program().args(["archive-status", &url]).env("AWS_CA_BUNDLE", "/nowhere/at/all").output().unwrap();
    assert!(status.status.success(), "{status:?}");
    run(["archive-status", &url, "--ca-file", "/nowhere/at/all"]).fails(64, "--ca-file");
    let kept = run(["retention", &url, "--keep", "35d", "--dry-run"]).done();
    assert!(kept.starts_with("0 objects of 0 bytes would be deleted"), "{kept}");

    // What is not finished does not open, and is gone on with.
    run(["count", &to]).fails(3, "not finished");
    run(["restore", "--from", &url, &to]).done();
    assert_eq!(run(["count", &to]).done(), "1000\n");

    run(["archive-status", &url]).done();
    let log =
        walk(&place.path("archive")).into_iter().filter(|path| path.to_string_lossy().contains("/log/"));
    let victim = log.max().unwrap();
    let mut bytes = fs::read(&victim).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&victim, bytes).unwrap();
    // Rot behind a head is found by reading everything.
    run(["archive-status", &url]).done();
    let status = run(["archive-status", &url, "--verify"]);
    assert_eq!(status.code, 2, "{status:?}");
    assert!(status.stdout.lines().any(|line| line.starts_with("hole\t")), "{status:?}");
    let again = place.path("again").display().to_string();
    run(["restore", "--from", &url, &again]).fails(2, "damage: lineage/");
}

#[test]
fn retention_prints_what_would_go_then_deletes_it_and_names_what_it_cannot_read() {
    let (place, url, _) = archived(1000);
    // Another history, which supersedes the first one; nothing of either is older than the window.
    fs::remove_dir_all(&place.db).unwrap();
    run(["restore", "--from", &url, &place.db]).done();
    run(["put", &place.db, "one", "more"]).done();
    run(["archive", &place.db, "--to", &url]).done();
    let before = walk(&place.path("archive"));
    let dry = run(["retention", &url, "--keep", "0s", "--dry-run"]).done();
    assert_eq!(walk(&place.path("archive")), before, "a dry run changes nothing");
    assert!(dry.lines().last().unwrap().contains("would be deleted; every point from "), "{dry}");
    let done = run(["retention", &url, "--keep", "0s"]).done();
    let keys = |printed: &str| -> Vec<String> {
        printed.lines().filter(|line| line.contains('/')).map(str::to_owned).collect()
    };
    assert_eq!(keys(&done), keys(&dry), "what was said is what was done");
    run(["archive-status", &url]).done();

    let start = walk(&place.path("archive")).into_iter().find(|path| path.ends_with("start")).unwrap();
    let damaged = start.with_file_name("snapshot").join(format!("{:020}", 3));
    fs::create_dir_all(damaged.parent().unwrap()).unwrap();
    fs::write(&damaged, b"rubbish").unwrap();
    let named = format!("/snapshot/{:020}", 3);
    for words in [["--keep", "1d", "--dry-run"].as_slice(), ["--keep", "1d"].as_slice()] {
        let told = run([&["retention", url.as_str()], words].concat());
        assert_eq!(told.code, 2, "{told:?}");
        assert!(told.stderr.contains(&named) && told.stdout.contains("stays restorable"), "{told:?}");
    }
    let status = run(["archive-status", &url]);
    assert_eq!(status.code, 2, "{status:?}");
    assert!(status.stdout.lines().any(|line| line.starts_with("snapshot\t3\t")), "{status:?}");
}

#[test]
fn a_history_that_has_lost_its_start_is_named_and_no_older_one_restored_in_its_place() {
    let (place, url, _) = archived(1000);
    fs::remove_dir_all(&place.db).unwrap();
    run(["restore", "--from", &url, &place.db]).done();
    run(["put", &place.db, "one", "more"]).done();
    // With a snapshot of its own.
    run(["archive", &place.db, "--to", &url, "--verify"]).done();
    let starts = walk(&place.path("archive")).into_iter().filter(|path| path.ends_with("start"));
    let start = starts.max_by_key(|path| fs::metadata(path).unwrap().modified().unwrap()).unwrap();
    fs::remove_file(&start).unwrap();
    let id = start.parent().unwrap().file_name().unwrap().to_str().unwrap().to_owned();
    let named = format!("lineage/{id}/start");
    let status = run(["archive-status", &url]);
    assert_eq!(status.code, 2, "{status:?}");
    assert!(status.stdout.lines().any(|line| line.starts_with("damage\t") && line.contains(&named)));
    let to = place.path("to").display().to_string();
    run(["restore", "--from", &url, &to]).fails(2, &named);
}

#[test]
fn a_history_whose_parent_lost_its_end_or_everything_is_not_called_sound() {
    for everything in [false, true] {
        let (place, url, _) = archived(300);
        let archive = place.path("archive");
        let parent = fs::read_dir(archive.join("lineage")).unwrap().next().unwrap().unwrap().path();
        fs::remove_dir_all(&place.db).unwrap();
        run(["restore", "--from", &url, &place.db]).done();
        run(["put", &place.db, "one", "more"]).done();
        run(["archive", &place.db, "--to", &url]).done();
        run(["archive-status", &url, "--verify"]).done();
        if everything {
            fs::remove_dir_all(&parent).unwrap();
        } else {
            fs::remove_file(walk(&parent.join("log")).into_iter().max().unwrap()).unwrap();
        }
        for words in [["archive-status", url.as_str()].as_slice(), &["archive-status", &url, "--verify"]] {
            let status = run(words);
            assert_eq!(status.code, 2, "{status:?}");
            assert!(status.stdout.lines().any(|line| line.starts_with("hole\t")), "{status:?}");
        }
        let to = place.path("to").display().to_string();
        assert_ne!(run(["restore", "--from", &url, &to]).code, 0);
        let told = run(["retention", &url, "--keep", "1d", "--json"]);
        assert_eq!(told.code, 2, "{told:?}");
        assert!(serde_json::from_str::<Value>(&told.stdout).unwrap()["from_ms"].is_null(), "{told:?}");
        let told = run(["retention", &url, "--keep", "1d"]);
        assert!(told.code == 2 && told.stdout.contains("the newest state cannot be restored"), "{told:?}");

        // Whoever archives it again mends that.
        run(["archive", &place.db, "--to", &url]).done();
        run(["restore", "--from", &url, &to]).done();
        assert_eq!(digest_of(&[&to]).1, digest_of(&[&place.db]).1);
        let told = run(["retention", &url, "--keep", "1d"]).done();
        assert!(told.contains("stays restorable"), "{told}");
    }
}

#[test]
fn the_status_of_what_is_no_archive_is_that_there_is_none() {
    let (place, _, _) = archived(100);
    let empty = place.path("empty");
    fs::create_dir(&empty).unwrap();
    for directory in [empty.display().to_string(), place.db.clone()] {
        let url = format!("file://{directory}");
        let there_is_none = "archive with a lineage does not exist";
        run(["archive-status", &url]).fails(1, there_is_none);
        run(["archive-status", &url, "--verify"]).fails(1, there_is_none);
        let to = place.path("to").display().to_string();
        run(["restore", "--from", &url, &to]).fails(1, there_is_none);
        run(["retention", &url, "--keep", "35d"]).fails(1, there_is_none);
        run(["retention", &url, "--keep", "35d", "--dry-run", "--json"]).fails(1, there_is_none);
    }
}

#[test]
fn an_archive_that_goes_while_it_is_written_to_is_3() {
    let (place, url, _) = archived(100);
    let words = ["load", &place.db, "-", "--acks", "--batch", "100", "--archive", &url];
    let piped = || Stdio::piped();
    let mut load = program().args(words).stdin(piped()).stdout(piped()).stderr(piped()).spawn().unwrap();
    let mut stdin = load.stdin.take().unwrap();
    stdin.write_all(records(100).as_bytes()).unwrap();
    let mut acknowledged = BufReader::new(load.stdout.take().unwrap());
    acknowledged.read_line(&mut String::new()).unwrap();
    // Something may just be put there.
    while fs::remove_dir_all(place.path("archive/incoming")).is_err() {}
    stdin.write_all(records(200).as_bytes()).unwrap();
    drop(stdin);
    std::io::copy(&mut acknowledged, &mut std::io::sink()).unwrap();
    let ran: Ran = load.wait_with_output().unwrap().into();
    assert_eq!(ran.code, 3, "{ran:?}");
    // Whatever it was about to ask or to put.
    assert!(ran.stderr.contains("logwood: archive: ") && ran.stderr.contains(" of lineage/"), "{ran:?}");
    assert!(ran.stderr.contains(" failed: "), "{ran:?}");
    run(["archive", &place.db, "--to", &url]).done();
    let (last, _) = digest_of(&[&place.db]);
    let status = run(["archive-status", &url]).done();
    assert!(status.contains(&format!("interval\t1\t{last}\t")), "{status}");
}

/// The ways to lose what was archived last.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Loss {
    RolledBack,
    NewestObject,
    All,
}

#[test]
fn what_the_archive_has_lost_and_the_log_has_let_go_of_is_named() {
    for loss in [Loss::RolledBack, Loss::NewestObject, Loss::All] {
        let place = Place::with(&records(500));
        let (archive, saved) = (place.path("archive"), place.path("saved"));
        let url = format!("file://{}", archive.display());
        run(["archive", &place.db, "--to", &url]).done();
        let (kept, _) = digest_of(&[&place.db]);
        copy(&archive, &saved);
        run_with(["load", &place.db, "--batch", "100"], records(500).as_bytes()).done();
        run(["archive", &place.db, "--to", &url]).done();
        run(["compact", &place.db]).done();
        if loss == Loss::NewestObject {
            let objects = walk(&archive).into_iter().filter(|path| path.to_string_lossy().contains("/log/"));
            fs::remove_file(objects.max().unwrap()).unwrap();
        } else {
            fs::remove_dir_all(&archive).unwrap();
        }
        if loss == Loss::RolledBack {
            fs::rename(&saved, &archive).unwrap();
        }
        let last = digest_of(&[&place.db]).0.parse::<u64>().unwrap() - 1;
        let first = if loss == Loss::All { 1 } else { kept.parse::<u64>().unwrap() + 1 };
        let ran = run(["archive", &place.db, "--to", &url, "--json"]);
        assert_eq!((ran.code, ran.stderr.lines().count()), (0, 1), "{loss:?}: {ran:?}");
        let words =
            format!("lost what it had from lsn {first} on, or is another one, and the log had let go of it");
        assert!(ran.stderr.contains(&words), "{loss:?}: {ran:?}");
        assert!(ran.stderr.contains(&format!("lsn {first} to {last} cannot be restored")), "{ran:?}");
        let told: Value = serde_json::from_str(&ran.stdout).unwrap();
        assert_eq!((&told["gaps"], &told["newest_gap"]), (&1.into(), &serde_json::json!([first, last])));
        assert_eq!(told["lost"], told["newest_gap"]);
        let ran = run(["archive", &place.db, "--to", &url, "--json"]);
        let told: Value = serde_json::from_str(&ran.stdout).unwrap();
        assert!(told["newest_gap"].is_null() && ran.stderr.is_empty(), "told once: {ran:?}");
        let to = place.path("to").display().to_string();
        run(["restore", "--from", &url, &to]).done();
        assert_eq!(digest_of(&[&to]).1, digest_of(&[&place.db]).1);
    }
}

#[test]
fn a_directory_in_the_place_of_a_start_is_named_and_hides_nothing_beside_it() {
    let (place, url, _) = archived(200);
    let start = walk(&place.path("archive")).into_iter().find(|path| path.ends_with("start")).unwrap();
    fs::remove_dir_all(&place.db).unwrap();
    run(["restore", "--from", &url, &place.db]).done();
    run(["archive", &place.db, "--to", &url]).done();
    let (last, _) = digest_of(&[&place.db]);
    run(["archive", &place.db, "--to", &url, "--verify"]).done();
    fs::remove_file(&start).unwrap();
    fs::create_dir(&start).unwrap();
    let ran = run(["archive-status", &url]);
    assert_eq!((ran.code, ran.stderr.as_str()), (2, ""), "{ran:?}");
    let damage = ran.stdout.lines().find(|line| line.starts_with("damage\t")).unwrap();
    assert!(damage.contains("/start\t0\tobject: expected a file, found not a regular file"), "{ran:?}");
    assert_eq!(ran.stdout.matches("lineage\t").count(), 1, "{ran:?}");
    assert!(ran.stdout.contains(&format!("interval\t{last}\t{last}\t")), "{ran:?}");
    let to = place.path("to").display().to_string();
    run(["restore", "--from", &url, &to]).fails(2, "damage: lineage/");
}

#[test]
fn no_output_holds_a_secret() {
    let (place, url, _) = archived(100);
    let secret = "planted-secret-that-nobody-may-print";
    let to = place.path("to").display().to_string();
    let s3 = "s3://bucket/prefix";
    let nobody = "http://127.0.0.1:1";
    let commands: [&[&str]; 9] = [
        &["archive", &place.db, "--to", s3, "--endpoint", nobody],
        &["archive-status", s3, "--endpoint", nobody],
        &["restore", "--from", s3, &to, "--endpoint", nobody],
        &["retention", s3, "--keep", "1d", "--endpoint", nobody],
        &["count", "--archive", s3, "--endpoint", nobody],
        &["load", &to, "--archive", s3, "--endpoint", nobody],
        &["restore", "--from", "s3://user:planted-secret-that-nobody-may-print@host/x", &to],
        &["restore", "--from", &url, &to, "--json"],
        &["archive-status", &url, "--json"],
    ];
    let children: Vec<_> = commands
        .iter()
        .map(|words| {
            program()
                .args(*words)
                .env("AWS_ACCESS_KEY_ID", "id")
                .env("AWS_SECRET_ACCESS_KEY", secret)
                .env("AWS_SESSION_TOKEN", secret)
                .env("RUST_LOG", "trace")
                .stdin(std::process::Stdio::null())
                .output()
                .unwrap()
        })
        .collect();
    for (words, output) in commands.iter().zip(children) {
        let printed =
            format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(!printed.contains(secret), "{words:?}: {printed}");
        assert!(!printed.is_empty(), "{words:?}");
    }
}

#[test]
fn retention_takes_a_superseded_lineage_away_as_a_whole() {
    let (place, url, _) = archived(1000);
    let archive = place.path("archive");
    let old = fs::read_dir(archive.join("lineage")).unwrap().next().unwrap().unwrap().path();
    fs::remove_dir_all(&place.db).unwrap();
    run(["restore", "--from", &url, &place.db]).done();
    let (last, digest) = digest_of(&[&place.db]);
    run(["put", &place.db, "one", "more"]).done();
    // A snapshot, so that the new lineage needs nothing of the old one.
    run(["archive", &place.db, "--to", &url, "--verify"]).done();
    let is_there = || walk(&archive).iter().any(|path| path.starts_with(&old) && path.is_file());

    // Its archiver may still be at work: nothing goes within two hours, by the clock of the file system.
    run(["retention", &url, "--keep", "0s"]).done();
    assert!(is_there());
    let newest = walk(&old.join("log")).into_iter().max().unwrap();
    let file = fs::File::options().write(true).open(&newest).unwrap();
    file.set_modified(std::time::SystemTime::now() - std::time::Duration::from_secs(3 * 3600)).unwrap();
    let dry = run(["retention", &url, "--keep", "0s", "--dry-run"]).done();
    assert!(dry.lines().any(|line| line.ends_with("/start")), "{dry}");
    assert!(is_there());
    let done = run(["retention", &url, "--keep", "0s"]).done();
    assert_eq!(done.lines().count(), dry.lines().count(), "{done}");
    assert!(!is_there(), "{:?}", walk(&old));
    let status = run(["archive-status", &url, "--verify"]).done();
    assert_eq!(status.lines().filter(|line| line.starts_with("lineage\t")).count(), 1, "{status}");

    // What is left is all that the restored database has.
    fs::remove_dir_all(&place.db).unwrap();
    run(["restore", "--from", &url, &place.db]).done();
    assert_eq!(run(["get", &place.db, "one"]).done(), "more\n");
    run(["delete", &place.db, "one"]).done();
    assert_eq!(digest_of(&[&place.db]).1, digest, "as it was at LSN {last}");
}

#[test]
fn a_rotten_page_is_named_by_verify_and_mended_by_archiving_with_verify() {
    let (place, url, _) = archived(1000);
    run(["archive", &place.db, "--to", &url, "--verify"]).done();
    run(["archive-status", &url, "--verify"]).done();
    let page = walk(&place.path("archive/pages")).into_iter().find(|path| path.is_file()).unwrap();
    let mut bytes = fs::read(&page).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&page, bytes).unwrap();
    run(["archive-status", &url]).done();
    let status = run(["archive-status", &url, "--verify"]);
    let name = page.file_name().unwrap().to_string_lossy().into_owned();
    assert!(status.code == 2 && status.stdout.contains(&name), "{status:?}");
    let told = run(["archive", &place.db, "--to", &url, "--verify"]).done();
    assert!(told.contains("1 page segment in the archive was damaged"), "{told}");
    run(["archive-status", &url, "--verify"]).done();
}

#[test]
fn options_of_the_store_are_checked_before_it_is_asked() {
    let place = Place::new();
    let url = "s3://bucket/prefix";
    let wrong = |words: &[&str], told: &str| {
        run([&["archive-status", url], words].concat()).fails(64, told);
    };
    wrong(&["--timeout", "soon"], "no duration");
    wrong(&["--timeout", "0s"], "no duration");
    wrong(&["--ca-file", "/nowhere/at/all"], "--ca-file /nowhere/at/all");
    let file = place.path("no-certificate").display().to_string();
    fs::write(&file, "nothing").unwrap();
    wrong(&["--ca-file", &file], "none in PEM form");
    wrong(&["--endpoint", "https://user:password@host"], "the endpoint holds credentials");
    for endpoint in
        ["localhost:9000", "", "ftp://host", "http://host:99999", "http://bad host", "http://[::1"]
    {
        wrong(&["--endpoint", endpoint], "is no URL");
    }
    // An option goes before the environment, whatever that holds.
    let with = |name: &str, value: &str, words: &[&str]| {
        let words = [&["archive-status", url, "--timeout", "1s"], words].concat();
        let mut program = program();
        program.args(words).env("AWS_ACCESS_KEY_ID", "id").env("AWS_SECRET_ACCESS_KEY", "key");
        Ran::from(program.env(name, value).output().unwrap())
    };
    for name in ["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT"] {
        with(name, "localhost:9000", &[]).fails(64, "is no URL");
        with(name, "localhost:9000", &["--endpoint", "http://127.0.0.1:1"]).fails(3, "127.0.0.1:1");
    }
}

#[test]
fn a_point_is_asked_of_an_archive_and_never_answered_with_what_a_database_holds_now() {
    let (place, url, _) = archived(200);
    let none = "0".repeat(32);
    for option in [
        ["--lsn", "2"],
        ["--time", "2000-01-01T00:00:00Z"],
        ["--time", "garbage"],
        ["--lineage", &none],
        ["--cache", "cache"],
        ["--endpoint", "nonsense"],
        ["--ca-file", "/nowhere"],
        ["--timeout", "1s"],
    ] {
        for command in ["count", "scan", "digest"] {
            run([&[command, &place.db][..], &option].concat()).fails(64, option[0]);
            run([&[command][..], &option].concat()).fails(64, "");
        }
        run([&["get", &place.db, "key-000001"][..], &option].concat()).fails(64, option[0]);
    }
    assert_eq!(run(["count", "--archive", &url, "--lsn", "2"]).done(), "100\n");
}

#[test]
fn what_retention_took_is_not_there_and_no_damage_and_it_promises_what_is_left() {
    let (place, url, acks) = archived(1000);
    let first = time_of(&url, "2");
    let kept = |keep: &str| {
        let told = run(["retention", &url, "--keep", keep, "--json"]).done();
        serde_json::from_str::<Value>(told.lines().last().unwrap()).unwrap()["from_ms"].as_u64().unwrap()
    };
    // Older than the archive is nothing that is promised of it.
    assert!(kept("35d") <= first && kept("35d") > first - 60_000, "{} {first}", kept("35d"));
    run(["archive", &place.db, "--to", &url, "--verify"]).done();
    std::thread::sleep(std::time::Duration::from_millis(5));
    run(["put", &place.db, "one", "more"]).done();
    run(["archive", &place.db, "--to", &url]).done();
    let told = run(["retention", &url, "--keep", "0s"]).done();
    assert!(told.contains("/log/"), "{told}");
    let status = run(["archive-status", &url]).done();
    let interval = status.lines().find(|line| line.starts_with("interval\t")).unwrap();
    let oldest: u64 = interval.split('\t').nth(1).unwrap().parse().unwrap();
    assert!(oldest > acks[8].0, "{status}");

    let told = format!("points before lsn {oldest} are not kept");
    let to = place.path("to").display().to_string();
    for point in [["--lsn", "2"], ["--lsn", "3"], ["--time", "2000-01-01T00:00:00Z"]] {
        run([&["restore", "--from", &url, &to][..], &point].concat()).fails(1, &told);
        run([&["count", "--archive", &url][..], &point].concat()).fails(1, &told);
    }
    let (oldest, before) = (oldest.to_string(), (oldest - 1).to_string());
    run(["count", "--archive", &url, "--lsn", &before]).fails(1, &told);
    assert_eq!(run(["count", "--archive", &url, "--lsn", &oldest]).done(), "1000\n");
    // Nor does a longer window bring back what has gone.
    assert_eq!(kept("1h"), time_of(&url, &oldest));

    // Where the snapshot itself cannot be used, that is what is wrong.
    let snapshot =
        walk(&place.path("archive")).into_iter().find(|path| path.ends_with(format!("{oldest:0>20}")));
    fs::write(snapshot.unwrap(), "rubbish").unwrap();
    run(["count", "--archive", &url, "--lsn", &oldest]).fails(2, "damage: lineage/");
}

#[test]
fn of_a_restored_history_retention_promises_and_restores_what_leads_over_the_fork() {
    let (mut place, url, _) = archived(300);
    let load = |db: &str, count| {
        let words = ["load", db, "-", "--batch", "50", "--archive", &url];
        run_with(words, records(count).as_bytes()).done();
    };
    run(["archive", &place.db, "--to", &url, "--verify"]).done();
    let restored = |place: &mut Place, name: &str| {
        place.db = place.path(name).display().to_string();
        run(["restore", "--from", &url, &place.db]).done();
    };
    restored(&mut place, "second");
    load(&place.db, 200);
    run(["archive", &place.db, "--to", &url, "--verify"]).done();
    std::thread::sleep(std::time::Duration::from_millis(5));
    load(&place.db, 100);
    restored(&mut place, "third");
    load(&place.db, 100);
    run(["retention", &url, "--keep", "0s"]).done();

    // The middle one has lost what follows its fork.
    let status = run(["archive-status", &url]).done();
    let is_middle =
        |block: &&str| block.lines().any(|line| line.starts_with("snapshot\t")) && block.contains("hole\t");
    let middle = status.split("lineage\t").skip(1).find(is_middle).unwrap_or_else(|| panic!("{status}"));
    let number = |name: &str, at: usize| -> u64 {
        let line = middle.lines().find(|line| line.starts_with(name)).unwrap();
        line.split('\t').nth(at).unwrap().parse().unwrap()
    };
    let (first, oldest) = (number("hole\t", 1), number("snapshot\t", 1));
    let last = oldest - 1;
    assert!(first <= last, "{status}");
    let to = place.path("to").display().to_string();
    for lsn in [first, last] {
        let ran = run(["restore", "--from", &url, &to, "--lsn", &lsn.to_string()]);
        ran.fails(1, &format!("points from lsn {first} to {last} are not kept"));
    }
    let told = run(["retention", &url, "--keep", "1h", "--json"]).done();
    let told = serde_json::from_str::<Value>(told.lines().last().unwrap()).unwrap();
    assert_eq!(told["from_ms"].as_u64().unwrap(), time_of(&url, &oldest.to_string()), "{status}");
}

/// When an entry was committed.
fn time_of(url: &str, lsn: &str) -> u64 {
    let place = Place::new();
    let told = run(["restore", "--from", url, &place.db, "--lsn", lsn, "--json"]).done();
    serde_json::from_str::<Value>(&told).unwrap()["time_ms"].as_u64().unwrap()
}

#[test]
fn of_an_archive_that_holds_no_point_retention_promises_nothing() {
    let (place, url, _) = archived(100);
    for path in walk(&place.path("archive")).into_iter().filter(|path| path.ends_with("log")) {
        fs::remove_dir_all(path).unwrap();
    }
    let told = run(["retention", &url, "--keep", "35d"]).done();
    assert_eq!(told, "0 objects of 0 bytes deleted; there is no point that can be restored\n");
    let told = run(["retention", &url, "--keep", "35d", "--json"]).done();
    assert!(serde_json::from_str::<Value>(&told).unwrap()["from_ms"].is_null(), "{told}");
}

#[test]
fn what_was_not_archived_before_the_log_let_go_of_it_is_named() {
    let (place, url, _) = archived(1000);
    // Only of a directory that was archived the log is kept.
    let (lineage, aside) = (format!("{}/LINEAGE", place.db), place.path("LINEAGE"));
    fs::rename(&lineage, &aside).unwrap();
    run_with(["load", &place.db, "-", "--batch", "10"], records(1000).as_bytes()).done();
    run(["compact", &place.db]).done();
    fs::rename(&aside, &lineage).unwrap();
    let ran = run(["archive", &place.db, "--to", &url, "--json"]);
    assert_eq!((ran.code, ran.stderr.lines().count()), (0, 1), "{ran:?}");
    let told: Value = serde_json::from_str(&ran.stdout).unwrap();
    let (first, last) = (&told["newest_gap"][0], &told["newest_gap"][1]);
    assert!(first.as_u64().unwrap() < last.as_u64().unwrap(), "{ran:?}");
    assert!(ran.stderr.contains(&format!("lsn {first} to {last} were never archived")), "{ran:?}");
    let status = run(["archive-status", &url]).done();
    assert!(status.contains(&format!("hole\t{first}\t{last}\t")), "{status}");
    let told = run(["archive", &place.db, "--to", &url, "--json"]).done();
    assert!(serde_json::from_str::<Value>(&told).unwrap()["newest_gap"].is_null(), "told once: {told}");
}

#[test]
fn what_was_loaded_and_packed_without_the_archive_is_archived_by_the_next_command_that_names_it() {
    let (place, url, _) = archived(1000);
    for _ in 0..2 {
        run_with(["load", &place.db, "-", "--batch", "10"], records(1000).as_bytes()).done();
        run(["compact", &place.db]).done();
    }
    let ran = run(["archive", &place.db, "--to", &url]);
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""), "{ran:?}");
    let (last, _) = digest_of(&[&place.db]);
    let status = run(["archive-status", &url]).done();
    assert!(status.contains(&format!("interval\t1\t{last}\t")) && !status.contains("hole"), "{status}");
}

/// How far it comes before it is killed is left to the machine: what must hold does so at every moment.
#[test]
fn a_retention_run_that_is_killed_leaves_a_sound_archive_and_takes_nothing_that_is_promised() {
    for _ in 0..8 {
        let (place, url, _) = archived(300);
        for n in 0..6 {
            run(["put", &place.db, &format!("more {n}"), "there"]).done();
            run(["archive", &place.db, "--to", &url, "--verify"]).done();
        }
        let (_, digest) = digest_of(&[&place.db]);
        let runs = place.path("archive/run");
        let is_at_work = || {
            let names = fs::read_dir(&runs).into_iter().flatten().map(|entry| entry.unwrap().file_name());
            names.into_iter().any(|name| name.len() == 32)
        };
        let mut retention = program();
        let mut child =
            retention.args(["retention", &url, "--keep", "0s"]).stdout(Stdio::null()).spawn().unwrap();
        while child.try_wait().unwrap().is_none() {
            if is_at_work() {
                child.kill().unwrap();
                child.wait().unwrap();
                break;
            }
        }
        let status = run(["archive-status", &url, "--verify"]).done();
        assert!(status.contains("interval\t"), "{status}");
        let to = place.path("to").display().to_string();
        run(["restore", "--from", &url, &to]).done();
        assert_eq!(digest_of(&[&to]).1, digest);
        run(["put", &place.db, "one", "more"]).done();
        run(["archive", &place.db, "--to", &url]).done();
        // What a run that was killed has left is in the way of the next one for a day.
        let next = run(["retention", &url, "--keep", "0s"]);
        if next.code != 0 {
            assert!(is_at_work(), "{next:?}");
            next.fails(3, "is already open");
        }
    }
}

#[test]
fn what_is_named_as_no_object_is_lies_in_nobodys_way() {
    let (place, url, _) = archived(300);
    let (_, digest) = digest_of(&[&place.db]);
    let archive = place.path("archive");
    let folders: Vec<_> = fs::read_dir(&archive).unwrap().map(|entry| entry.unwrap().path()).collect();
    for folder in folders.into_iter().chain(["run", "late"].map(|name| archive.join(name))) {
        fs::create_dir_all(&folder).unwrap();
        for name in [".DS_Store", ".nfs0001", "x~", "a b"] {
            fs::write(folder.join(name), "rubbish").unwrap();
        }
    }
    run(["archive-status", &url, "--verify"]).done();
    let to = place.path("to").display().to_string();
    let ran = run(["restore", "--from", &url, &to]);
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""), "{ran:?}");
    assert_eq!(digest_of(&[&to]).1, digest);
    assert_eq!(run(["count", "--archive", &url]).done(), "300\n");
    run(["put", &place.db, "one", "more"]).done();
    run(["archive", &place.db, "--to", &url]).done();
    run(["retention", &url, "--keep", "1d"]).done();
}

#[test]
fn an_archive_that_is_asked_for_wrongly_leaves_no_database_behind() {
    let place = Place::new();
    let endpoint = ["s3://bucket/prefix", "--endpoint", "nothing"].as_slice();
    let inside = format!("file://{}/archive", place.db);
    for words in [&[""], &["file://relative"], endpoint, &[inside.as_str()]] {
        let words = [&["load", &place.db, "-", "--archive"], words].concat();
        assert_eq!(run_with(&words, records(10).as_bytes()).code, 64, "{words:?}");
        assert!(!place.path("db").exists(), "{words:?}");
    }
}

#[test]
fn an_archive_within_its_database_and_a_cache_that_holds_other_things_are_refused() {
    let (place, url, _) = archived(300);
    let before = walk(std::path::Path::new(&place.db));
    for inside in ["", "/", "/archive", "/log/../deep/er"] {
        let to = format!("file://{}{inside}", place.db);
        run(["archive", &place.db, "--to", &to]).fails(64, "lies within");
    }
    let archive = place.path("archive").display().to_string();
    for cache in [&place.db, &archive] {
        run(["count", "--archive", &url, "--cache", cache])
            .fails(64, "name a directory that holds nothing else");
        let within = format!("{cache}/new");
        run(["count", "--archive", &url, "--cache", &within]).fails(64, "lies inside of the ");
        run(["restore", "--from", &url, &within]).fails(64, "lies inside of the ");
    }
    assert_eq!(walk(std::path::Path::new(&place.db)), before);
    // What stands where a view would have its own is somebody's.
    let home = place.path("home");
    let (at, file) = (home.join("at").display().to_string(), home.join("cache").join("mine"));
    run(["put", &at, "mine", "precious"]).done();
    std::fs::create_dir(home.join("cache")).unwrap();
    std::fs::write(&file, "mine").unwrap();
    let before = walk(&home);
    run(["count", "--archive", &url, "--cache", &home.display().to_string()])
        .fails(64, "holds at, and no view");
    assert_eq!(walk(&home), before);
    assert_eq!(run(["get", &at, "mine"]).done(), "precious\n");
    let cache = place.path("cache").display().to_string();
    for _ in 0..2 {
        assert_eq!(run(["count", "--archive", &url, "--cache", &cache]).done(), "300\n");
    }
}

#[test]
fn a_zone_that_there_is_not_and_a_signed_lineage_are_wrong_usage() {
    let (place, url, _) = archived(100);
    let to = place.path("to").display().to_string();
    for time in ["2026-01-31T00:00:00+99:99", "2026-01-31T00:00:00-23:99"] {
        run(["restore", "--from", &url, &to, "--time", time]).fails(64, "is no time");
    }
    let before = run(["restore", "--from", &url, &to, "--time", "2001-01-31T01:00:00+01:00"]);
    before.fails(1, "2001-01-31T00:00:00.000Z");
    let lineage = format!("+{}", "1".repeat(31));
    run(["restore", "--from", &url, &to, "--lineage", &lineage]).fails(64, "no identity");
}

#[test]
fn an_object_among_the_retention_runs_that_cannot_be_read_keeps_nobody_from_restoring() {
    for folder in ["run", "late"] {
        let (place, url, _) = archived(300);
        let foreign = place.path("archive").join(folder);
        fs::create_dir_all(&foreign).unwrap();
        fs::write(foreign.join("0".repeat(32)), "rubbish").unwrap();
        let (_, digest) = digest_of(&[&place.db]);
        let to = place.path("to").display().to_string();
        let ran = run(["restore", "--from", &url, &to]);
        assert_eq!((ran.code, ran.stderr.lines().count()), (0, 1), "{ran:?}");
        let named = format!("{folder}/{}", "0".repeat(32));
        assert!(ran.stderr.contains("retention is not kept away") && ran.stderr.contains(&named), "{ran:?}");
        assert_eq!(digest_of(&[&to]).1, digest);
    }
}
