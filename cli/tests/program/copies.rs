//! `backup`, `changes`, `delete-range`, `load --sorted`, `bench`.

use std::fs;
use std::path::Path;
use std::time::Duration;

use logwood::{ChangesOptions, Database, Durability, Options};
use logwood_base::{Error, Lsn};
use serde_json::Value;

use crate::support::{Place, copy, fingerprint, records, run, run_with};

const FRUIT: &str = "apple\tred\nbanana\tyellow\ncherry\tred\ndate\tbrown\n";

#[test]
fn a_backup_opens_by_itself_is_told_by_stat_and_is_brought_up_to_date() {
    let place = Place::with(FRUIT);
    let to = place.path("backup").to_str().unwrap().to_owned();
    let digest = place.run("digest", &[]).done();
    let printed = place.run("backup", &[&to]).done();
    assert!(printed.contains("4 records") && printed.contains("read back and compared"), "{printed}");
    let hex = digest.trim_end().split('\t').nth(1).unwrap();
    assert!(printed.contains(hex), "{printed} {digest}");
    assert!(run(["stat", &to]).done().contains("copy\ta backup of LSN 2, never opened\n"));
    run(["verify", &to]).done();

    place.run("put", &["elder", "black"]).done();
    let again: Value = serde_json::from_str(&place.run("backup", &[&to, "--json", "--copy"]).done()).unwrap();
    assert_eq!(again["keyspaces"][0]["records"], 5, "{again}");
    assert_eq!(run(["get", &to, "elder"]).done(), "black\n");
    // It was opened: a database in its own right, which is not overwritten.
    assert!(!run(["stat", &to]).done().contains("copy\t"));
    let before = fingerprint(place.path("backup").as_ref());
    place.run("backup", &[&to]).fails(64, "exists already");
    assert_eq!(fingerprint(place.path("backup").as_ref()), before);
    run(["put", &to, "fig", "green"]).done();
    place.run("get", &["fig"]).fails(1, "'fig'");
}

#[test]
fn a_backup_goes_nowhere_else_and_a_damaged_database_is_named() {
    let place = Place::with(&records(2000));
    fs::create_dir(place.path("papers")).unwrap();
    fs::write(place.path("papers").join("thesis"), "words").unwrap();
    let papers = place.path("papers").to_str().unwrap().to_owned();
    let before = fingerprint(papers.as_ref());
    place.run("backup", &[&papers]).fails(64, "thesis");
    run(["load", &papers, &place.file("f.tsv", FRUIT.as_bytes())]).fails(64, "no logwood database");
    assert_eq!(fingerprint(papers.as_ref()), before);
    // Whoever has left a lock there has made no database of it, and an empty directory is one still with it.
    fs::write(place.path("papers").join("LOCK"), "").unwrap();
    let before = fingerprint(papers.as_ref());
    place.run("backup", &[&papers]).fails(64, "thesis");
    run(["put", &papers, "a", "1"]).fails(64, "no logwood database");
    assert_eq!(fingerprint(papers.as_ref()), before);
    fs::create_dir(place.path("locked")).unwrap();
    fs::write(place.path("locked").join("LOCK"), "").unwrap();
    run(["put", place.path("locked").to_str().unwrap(), "a", "1"]).done();
    place.run("backup", &[&place.db]).fails(64, "is the database itself");
    let nowhere = place.path("nothing").to_str().unwrap().to_owned();
    run(["backup", &nowhere, place.path("to").to_str().unwrap()]).fails(1, "no logwood database");
    assert!(!place.path("to").exists() && !place.path("nothing").exists());

    place.run("compact", &[]).done();
    let pages = place.path("db").join("pages");
    // In every file: the first page of one alone may be dead, and nobody needs it.
    for victim in fs::read_dir(pages).unwrap() {
        let victim = victim.unwrap().path();
        let mut bytes = fs::read(&victim).unwrap();
        bytes[100] ^= 1;
        fs::write(&victim, bytes).unwrap();
    }
    for link in [&[][..], &["--copy"][..]] {
        let to = place.path(&format!("bad{}", link.len())).to_str().unwrap().to_owned();
        let words: Vec<&str> = [to.as_str()].iter().chain(link).copied().collect();
        place.run("backup", &words).fails(2, ".pages");
        run(["get", &to, "key-000001"]).fails(3, "not finished");
        run(["stat", &to]).fails(3, "not finished");
    }
}

#[test]
fn changes_are_printed_in_order_from_any_lsn() {
    let place = Place::with(FRUIT);
    place.run("delete", &["apple"]).done();
    place.run("delete-range", &["--from", "b", "--to", "d"]).done();
    place.run("keyspaces", &["--create", "gone"]).done();
    place.run("keyspaces", &["--drop", "gone"]).done();
    let columns = |text: &str| {
        let columns = |line: &str| {
            let columns: Vec<&str> = line.split('\t').collect();
            [0, 2, 3, 4, 5].map(|at| columns[at]).join(" ")
        };
        text.lines().map(columns).collect::<Vec<_>>()
    };
    let all = place.run("changes", &[]).done();
    let expected = [
        "1 default create-keyspace - -",
        "2 default put apple red",
        "2 default put banana yellow",
        "2 default put cherry red",
        "2 default put date brown",
        "3 default delete apple -",
        "4 default delete-range b d",
        "5 gone create-keyspace - -",
        "6 gone drop-keyspace - -",
    ];
    assert_eq!(columns(&all), expected);
    let some = place.run("changes", &["--from", "2", "--limit", "2"]).done();
    assert_eq!(columns(&some), expected[1..6]);
    assert_eq!(columns(&place.run("changes", &["--from", "6"]).done()), ["6 #2 drop-keyspace - -"]);
    assert_eq!(place.run("changes", &["--from", "7"]).done(), "");
    let json = place.run("changes", &["--from", "4", "--limit", "1", "--json"]).done();
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(
        (&json["kind"], &json["key"], &json["to"]),
        (&"delete-range".into(), &"b".into(), &"d".into())
    );
}

/// A service that follows its own changes, and has dealt with none of them yet when it is stopped.
fn stopped_service(directory: &Path) -> Lsn {
    let options = Options::new().log_segment_bytes(1 << 20).follower("index", 0);
    let db = Database::open(directory, options).unwrap();
    let ks = db.ensure_keyspace("k").unwrap();
    let follow = ChangesOptions::new().name("index").hold_until_released(true);
    let changes = db.changes_with(db.visible_lsn().next(), &follow).unwrap();
    let next = changes.position();
    for n in 0..4000u32 {
        ks.put_with(&n.to_be_bytes(), &[b'v'; 1000], Durability::Buffered).unwrap();
    }
    drop((changes, ks));
    db.close().unwrap();
    next
}

#[test]
fn what_a_follower_needs_is_kept_by_every_command_that_is_told_of_it() {
    let place = Place::new();
    let next = stopped_service(place.db.as_ref());
    let follow = |directory: &Path| -> logwood::Result<u32> {
        let db = Database::open(directory, Options::new().create(false).follower("index", 0))?;
        let mut changes = db.changes_with(next, &ChangesOptions::new().name("index"))?;
        let mut commits = 0;
        while let Some(mut set) = changes.next(Duration::ZERO)? {
            while set.next()?.is_some() {}
            commits += 1;
        }
        drop(changes);
        db.close()?;
        Ok(commits)
    };
    let others = ["--follower", "mirror", "--follower", "index"];
    copy(place.db.as_ref(), &place.path("named"));
    let named = place.path("named").to_str().unwrap().to_owned();
    let to = place.path("to").to_str().unwrap().to_owned();
    for words in [
        &["compact", &named][..],
        &["backup", &named, &to],
        &["put", &named, "a", "1"],
        &["get", &named, "a"],
    ] {
        run(words.iter().chain(&others)).done();
    }
    assert_eq!(follow(named.as_ref()).unwrap(), 4002, "a keyspace and a record came to the 4,000");
    // Told of nobody, a command takes the log for its own.
    place.run("compact", &[]).done();
    let gone = follow(place.db.as_ref()).unwrap_err();
    assert!(matches!(gone, Error::TooOld { what: "change", .. }), "{gone}");
    run(["stat", &named, "--follower", "index"]).fails(64, "--follower");
    run(["count", "--archive", "file:///nowhere", "--follower", "index"]).fails(64, "--follower");
}

#[test]
fn deleting_a_range_says_how_much_and_never_takes_everything_by_accident() {
    let place = Place::with(FRUIT);
    place.run("delete-range", &[]).fails(64, "--all");
    assert_eq!(place.run("delete-range", &["--prefix", "z"]).done(), "0 records deleted\n");
    assert_eq!(place.run("delete-range", &["--from", "b", "--to", "d"]).done(), "2 records deleted\n");
    assert_eq!(place.run("scan", &["--keys"]).done(), "apple\ndate\n");
    assert_eq!(place.run("delete-range", &["--all"]).done(), "2 records deleted\n");
    assert_eq!(place.run("count", &[]).done(), "0\n");
    assert_eq!(place.run("delete-range", &["--all", "--keyspace", "none"]).done(), "0 records deleted\n");
}

#[test]
fn a_sorted_load_refuses_what_is_not_sorted() {
    let place = Place::new();
    run_with(["load", &place.db, "--sorted"], FRUIT.as_bytes()).done();
    let unsorted = "fig\t1\nelder\t2\ngrape\t3\n";
    let ran = run_with(["load", &place.db, "--sorted"], unsorted.as_bytes());
    assert_eq!(ran.code, 65, "{ran:?}");
    assert!(ran.stderr.contains("line 2") && ran.stderr.contains("'fig'"), "{ran:?}");
    assert_eq!(place.run("count", &[]).done(), "5\n", "what came before it is kept");
    let skipped = run_with(["load", &place.db, "--sorted", "--skip-bad"], unsorted.as_bytes()).done();
    assert!(skipped.contains("1 bad line skipped"), "{skipped}");
    place.run("get", &["grape"]).done();
    let empty_keys = run_with(["load", &place.db, "--sorted"], b"\t1\n\t2\n");
    assert!(empty_keys.code == 65 && empty_keys.stderr.contains("line 2"), "{empty_keys:?}");
}

#[test]
fn a_sorted_load_is_committed_in_large_pieces_or_in_batches_where_they_are_asked_for() {
    let place = Place::new();
    let lines: String = (0..3000).map(|n| format!("{n:08}\tvalue {n}\n")).collect();
    let acknowledged = run_with(["load", &place.db, "--sorted", "--acks"], lines.as_bytes()).done();
    assert_eq!(acknowledged.lines().filter(|line| line.contains('\t')).count(), 1, "{acknowledged}");
    assert_eq!(place.run("count", &[]).done(), "3000\n");
    let in_batches = ["load", &place.db, "--sorted", "--acks", "--batch", "1000"];
    let acknowledged = run_with(in_batches, lines.as_bytes()).done();
    assert_eq!(acknowledged.lines().filter(|line| line.contains('\t')).count(), 3, "{acknowledged}");
    place.run("verify", &[]).done();
}

#[test]
fn sizes_cut_a_range_into_parts_of_about_the_same_size() {
    let place = Place::with(&records(5000));
    let parts = |options: &[&str]| {
        let text = place.run("sizes", options).done();
        let part = |line: &str| {
            let (key, numbers) = line.split_once('\t').unwrap();
            let (records, bytes) = numbers.split_once('\t').unwrap();
            (key.to_owned(), records.parse::<u64>().unwrap(), bytes.parse::<u64>().unwrap())
        };
        text.lines().map(part).collect::<Vec<_>>()
    };
    let whole = parts(&[]);
    assert_eq!((whole.len(), whole[0].0.as_str()), (1, "-"));
    assert!((4000..6000).contains(&whole[0].1) && whole[0].2 > 400_000, "{whole:?}");
    let quarters = parts(&["--parts", "4"]);
    assert_eq!(quarters.len(), 4);
    assert!(quarters.iter().all(|(_, records, _)| (800..1800).contains(records)), "{quarters:?}");
    assert!(quarters.is_sorted_by(|a, b| a.0 == "-" || a.0 < b.0), "{quarters:?}");
    let some = parts(&["--from", "key-001000", "--to", "key-002000"]);
    assert_eq!(some[0].0, "key-001000");
    assert!((700..1400).contains(&some[0].1), "{some:?}");
}

#[test]
fn every_workload_is_measured() {
    let place = Place::with(FRUIT);
    for workload in ["fill", "read", "scan", "mixed", "durable"] {
        let small = ["--records", "3000", "--operations", "40", "--threads", "2", "--json"];
        let words: Vec<&str> = [workload].iter().chain(&small).copied().collect();
        let measured: Value = serde_json::from_str(&place.run("bench", &words).done()).unwrap();
        assert_eq!((&measured["workload"], &measured["operations"]), (&workload.into(), &40.into()));
        let [p50, p999, max] = ["p50_us", "p999_us", "max_us"].map(|name| measured[name].as_f64().unwrap());
        assert!(0.0 < p50 && p50 <= p999 && p999 <= max, "{measured}");
    }
    let text = place.run("bench", &["read", "--records", "1000"]).done();
    assert!(text.starts_with("read: 1000 operations in ") && text.contains("p99.9"), "{text}");
    assert_eq!(place.run("scan", &[]).done(), FRUIT, "the data of others is left alone");
}

#[test]
fn changes_without_a_beginning_are_printed_from_where_they_can_be_read_whole() {
    use logwood::BulkOptions;

    let place = Place::with(FRUIT);
    for shift in 0..3u32 {
        let directory = place.path(&format!("bulk{shift}"));
        let db = Database::open(&directory, Options::new().log_segment_bytes(1 << 20)).unwrap();
        let ks = db.ensure_keyspace("k").unwrap();
        let mut bulk = db.bulk_write(BulkOptions::new().memory_bytes(64 << 10)).unwrap();
        for n in 0..20_000 + 1000 * shift {
            bulk.put(&ks, &n.to_be_bytes(), &[b'v'; 300]).unwrap();
            if n % 300 == 0 {
                ks.put_with(b"between", b"its fragments", Durability::Buffered).unwrap();
            }
        }
        bulk.commit(Durability::Durable).unwrap();
        // The log lets go of all segments but the last ones, in which the rest of the bulk write stands; and of none that the
        // checkpoint before the newest one needs.
        for _ in 0..2 {
            ks.put(b"behind", b"it").unwrap();
            db.checkpoint().unwrap();
        }
        let mut looks = 0;
        while db.statistics().log.segments > 2 {
            looks += 1;
            assert!(looks < 60_000, "{:?}", db.statistics().log);
            std::thread::park_timeout(std::time::Duration::from_millis(1));
        }
        drop((bulk, ks));
        db.close().unwrap();
        let printed = run(["changes", directory.to_str().unwrap()]).done();
        assert!(printed.contains("behind") && !printed.contains("between"), "{printed}");
    }
}

#[test]
fn a_backup_of_a_later_state_stays_unless_it_is_said_by_name() {
    let place = Place::with(FRUIT);
    let to = place.path("backup").to_str().unwrap().to_owned();
    let early = place.path("early").to_str().unwrap().to_owned();
    place.run("backup", &[&early]).done();
    place.run("put", &["elder", "black"]).done();
    place.run("put", &["fig", "green"]).done();
    place.run("backup", &[&to]).done();
    // Back to the earlier state, whose own backups go to the same place.
    let before = fingerprint(to.as_ref());
    run(["backup", &early, &to]).fails(64, "later state");
    assert_eq!(fingerprint(to.as_ref()), before);
    assert!(run(["stat", &to]).done().contains("never opened"));
    run(["backup", &early, &to, "--replace-newer"]).done();
    run(["get", &to, "fig"]).fails(1, "'fig'");
}
