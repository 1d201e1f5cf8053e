//! Every command, what it does and what it prints.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::support::{Place, program, records, run, run_with};

const FRUIT: &str = "apple\tred\nbanana\tyellow\ncherry\tred\ndate\tbrown\n";

#[test]
fn what_is_put_can_be_read_in_another_process_and_deleted() {
    let place = Place::new();
    assert_eq!(place.run("put", &["k", "v"]).done(), "", "a put has nothing to say");
    assert_eq!(place.run("get", &["k"]).done(), "v\n");
    place.run("put", &["k", "w"]).done();
    assert_eq!(place.run("get", &["k"]).done(), "w\n");
    assert_eq!(place.run("delete", &["k"]).done(), "");
    place.run("get", &["k"]).fails(1, "'k'");
    place.run("delete", &["k"]).done();
}

#[test]
fn any_bytes_pass_through_the_command_line_in_escaped_form() {
    let place = Place::new();
    place.run("put", &[r"k\x00\xff\n", r"a\x09b\x5cx41"]).done();
    assert_eq!(place.run("scan", &[]).done(), "k\\x00\\xff\\x5cn\ta\\x09b\\x5cx41\n");
    assert_eq!(place.run("get", &[r"k\x00\xff\x5cn"]).done(), "a\\x09b\\x5cx41\n");
    assert_eq!(place.run("get", &[r"k\x00\xff\n", "--raw"]).done(), "a\tb\\x41");
    place.run("put", &["empty", ""]).done();
    assert_eq!(place.run("get", &["empty"]).done(), "\n");
    assert_eq!(place.run("get", &["empty", "--raw"]).done(), "");
    place.run("put", &["--", "-k", "-v"]).done();
    assert_eq!(place.run("get", &["--", "-k"]).done(), "-v\n");
}

#[test]
fn raw_values_are_their_bytes_and_nothing_else() {
    let place = Place::new();
    let value: Vec<u8> = (0..=255).collect();
    let text: String = value.iter().map(|byte| format!("\\x{byte:02x}")).collect();
    place.run("put", &["k", &text]).done();
    let output = program().args(["get", &place.db, "k", "--raw"]).output().unwrap();
    assert_eq!(output.stdout, value);
}

#[test]
fn a_scan_prints_the_range_that_was_asked_for() {
    let place = Place::with(FRUIT);
    let keys = |options: &[&str]| {
        let all: Vec<&str> = ["--keys"].iter().chain(options).copied().collect();
        place.run("scan", &all).done().split_whitespace().collect::<Vec<_>>().join(" ")
    };
    assert_eq!(place.run("scan", &[]).done(), FRUIT);
    assert_eq!(keys(&["--from", "b"]), "banana cherry date");
    assert_eq!(keys(&["--from", "banana", "--to", "date"]), "banana cherry");
    assert_eq!(keys(&["--to", "banana\\x00"]), "apple banana");
    assert_eq!(keys(&["--prefix", "c"]), "cherry");
    assert_eq!(keys(&["--prefix", "c", "--to", "cha"]), "");
    assert_eq!(keys(&["--from", "z", "--to", "a"]), "");
    assert_eq!(keys(&["--reverse"]), "date cherry banana apple");
    assert_eq!(keys(&["--reverse", "--limit", "2", "--to", "date"]), "cherry banana");
    assert_eq!(keys(&["--limit", "0"]), "");
    assert_eq!(keys(&["--limit", "18446744073709551615", "--prefix", ""]), "apple banana cherry date");
}

#[test]
fn counts_and_digests_are_of_the_range() {
    let place = Place::with(FRUIT);
    assert_eq!(place.run("count", &[]).done(), "4\n");
    assert_eq!(place.run("count", &["--from", "b", "--to", "d"]).done(), "2\n");
    assert_eq!(place.run("count", &["--prefix", "zz"]).done(), "0\n");

    let digest = |options: &[&str]| {
        let line = place.run("digest", options).done();
        let (lsn, hex) = line.trim_end().split_once('\t').unwrap();
        assert!(lsn.parse::<u64>().unwrap() > 0);
        assert_eq!(hex.len(), 32);
        u128::from_str_radix(hex, 16).unwrap()
    };
    let mut expected = logwood_base::digest::Digest::EMPTY;
    for line in FRUIT.lines() {
        let (key, value) = line.split_once('\t').unwrap();
        expected.add(key.as_bytes(), value.as_bytes());
    }
    assert_eq!(digest(&[]), expected.sum);
    assert_eq!(digest(&["--to", "c"]).wrapping_add(digest(&["--from", "c"])), expected.sum);
    assert_eq!(digest(&["--prefix", "zz"]), 0);
}

#[test]
fn keyspaces_are_separate_and_come_and_go() {
    let place = Place::with(FRUIT);
    place.run("keyspaces", &["--create", "other"]).done();
    place.run("keyspaces", &["--create", "other"]).done();
    place.run("put", &["apple", "green", "--keyspace", "other"]).done();
    assert_eq!(place.run("get", &["apple"]).done(), "red\n");
    assert_eq!(place.run("get", &["apple", "--keyspace", "other"]).done(), "green\n");
    assert_eq!(place.run("keyspaces", &[]).done(), "default\nother\n");
    place.run("keyspaces", &["--drop", "other"]).done();
    place.run("keyspaces", &["--drop", "other"]).done();
    assert_eq!(place.run("keyspaces", &[]).done(), "default\n");
    place.run("get", &["apple", "--keyspace", "other"]).fails(1, "keyspace 'other'");
    place.run("keyspaces", &["--create", "other"]).done();
    assert_eq!(place.run("count", &["--keyspace", "other"]).done(), "0\n", "what was dropped stays gone");
}

#[test]
fn a_keyspace_is_named_as_it_is_printed() {
    for name in ["caf\u{e9}", "a\\x41", "tab\there"] {
        let place = Place::with(FRUIT);
        let typed = name.replace('\\', "\\x5c");
        place.run("put", &["apple", "green", "--keyspace", &typed]).done();
        let listed = place.run("keyspaces", &[]).done();
        let printed = listed.lines().find(|line| *line != "default").unwrap().to_owned();
        let printed = printed.as_str();
        place.run("put", &["pear", "yellow", "--keyspace", printed]).done();
        place.run("keyspaces", &["--create", printed]).done();
        assert_eq!(place.run("keyspaces", &[]).done(), listed, "no second one");
        assert_eq!(place.run("get", &["apple", "--keyspace", printed]).done(), "green\n");
        assert_eq!(place.run("count", &["--keyspace", printed]).done(), "2\n");
        run_with(["load", &place.db, "--keyspace", printed], b"plum\tblue\n").done();
        place.run("delete", &["pear", "--keyspace", printed]).done();
        place.run("get", &["pear", "--keyspace", printed]).fails(1, &format!("keyspace '{printed}'"));

        let url = format!("file://{}", place.path("archive").display());
        place.run("archive", &["--to", &url]).done();
        let to = place.path("to").display().to_string();
        let told = run(["restore", "--from", &url, &to, "--keyspace", printed, "--json"]).done();
        let told: Value = serde_json::from_str(&told).unwrap();
        assert_eq!(told["verified_keyspaces"][0]["keyspace"], printed, "{told}");
        assert_eq!(run(["count", &to, "--keyspace", printed]).done(), "2\n");
        assert_eq!(run(["count", "--archive", &url, "--keyspace", printed]).done(), "2\n");

        let dropped = place.run("keyspaces", &["--drop", printed, "--json"]).done();
        let dropped: Value = serde_json::from_str(&dropped).unwrap();
        assert_eq!((&dropped["keyspace"], &dropped["dropped"]), (&printed.into(), &true.into()));
        assert_eq!(place.run("keyspaces", &[]).done(), "default\n");
        place.run("count", &["--keyspace", printed]).fails(1, &format!("keyspace '{printed}'"));
    }
}

#[test]
fn acknowledgements_name_each_batch_by_its_last_key() {
    let place = Place::new();
    let ran = run_with(["load", &place.db, "-", "--acks", "--batch", "2"], b"a\t1\nc\\x00\t2\nb\t3\n");
    let lines: Vec<(u64, &str)> = ran
        .stdout
        .lines()
        .map(|line| line.split_once('\t').unwrap())
        .map(|(lsn, key)| (lsn.parse().unwrap(), key))
        .collect();
    assert_eq!(lines.iter().map(|line| line.1).collect::<Vec<_>>(), ["c\\x00", "b"]);
    assert!(lines[0].0 < lines[1].0);
    assert_eq!(ran.code, 0);
    assert!(ran.stderr.contains("3 records in 2 batches"));
}

#[test]
fn a_later_line_wins_and_a_second_load_adds() {
    let place = Place::with("a\t1\nb\t1\na\t2\n");
    assert_eq!(place.run("scan", &[]).done(), "a\t2\nb\t1\n");
    run_with(["load", &place.db, "--durability", "buffered"], b"b\t3\nc\t3\n").done();
    assert_eq!(place.run("scan", &[]).done(), "a\t2\nb\t3\nc\t3\n");
}

#[test]
fn what_scan_prints_loads_into_the_same_database_elsewhere() {
    let place = Place::new();
    for key in ["\\x00", "\\xff\\xfe", "plain", "\\x5cx41", "tab\\x09"] {
        place.run("put", &[key, &format!("{key}\\x0a{key}")]).done();
    }
    let other = Place::with(&place.run("scan", &[]).done());
    let digest = |place: &Place| place.run("digest", &[]).done().split_once('\t').unwrap().1.to_owned();
    assert_eq!(digest(&place), digest(&other));
}

#[test]
fn compaction_keeps_every_record() {
    let place = Place::with(&records(3000));
    for number in (0..3000).step_by(500) {
        place.run("delete", &[&format!("key-{number:06}")]).done();
    }
    let before = place.run("scan", &[]).done();
    place.run("compact", &[]).done();
    assert_eq!(place.run("scan", &[]).done(), before);
    assert_eq!(place.run("count", &[]).done(), "2994\n");
    place.run("verify", &[]).done();
}

#[test]
fn the_log_shows_entries_in_order_and_from_where_it_was_asked() {
    let place = Place::new();
    for number in 0..5 {
        place.run("put", &[&format!("k{number}"), "v"]).done();
    }
    place.run("delete", &["k3"]).done();
    let lsns = |options: &[&str]| -> Vec<u64> {
        let text = place.run("log", options).done();
        text.lines().map(|line| line.split('\t').next().unwrap().parse().unwrap()).collect()
    };
    let all = lsns(&[]);
    assert!(all.len() >= 6, "{all:?}");
    assert!(all.windows(2).all(|pair| pair[0] + 1 == pair[1]), "{all:?}");
    let middle = all[2];
    assert_eq!(lsns(&["--from", &middle.to_string(), "--limit", "2"]), [middle, middle + 1]);
    assert!(lsns(&["--from", "1000000"]).is_empty());
    assert!(lsns(&["--limit", "0"]).is_empty());
}

#[test]
fn a_large_load_leaves_a_checkpoint_behind() {
    let place = Place::with(&records(50_000));
    let stat: Value = serde_json::from_str(&place.run("stat", &["--json"]).done()).unwrap();
    assert_eq!(stat["checkpoint_lsn"], stat["last_lsn"]);
    assert_eq!(stat["keyspaces_at_checkpoint"][0]["records"], 50_000);
}

#[test]
fn stat_tells_what_there_is() {
    let place = Place::with(FRUIT);
    let text = place.run("stat", &[]).done();
    assert!(text.lines().all(|line| !line.trim().is_empty()), "{text}");
    assert!(text.contains("holds\ta database"), "{text}");
    place.run("compact", &[]).done();
    assert!(place.run("stat", &[]).done().contains("keyspace\tdefault, 4 records at the checkpoint"));
}

/// The commands that the program has, as it says itself.
fn commands() -> BTreeSet<String> {
    let help = run(["--help"]).done();
    let listed = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    let names = listed.take_while(|line| !line.is_empty()).filter_map(|line| line.split_whitespace().next());
    names.filter(|name| *name != "help").map(str::to_owned).collect()
}

#[test]
fn machine_output_is_one_object_a_line_on_every_command() {
    let place = Place::with(FRUIT);
    let (db, there) = (place.db.as_str(), |name: &str| place.path(name).to_str().unwrap().to_owned());
    let mut asked = BTreeSet::new();
    let mut objects = |words: &[&str]| -> Vec<Value> {
        asked.insert(words[0].to_owned());
        let ran = run(words.iter().chain(&["--json"]));
        assert_eq!(ran.code, 0, "{words:?}: {ran:?}");
        let parsed = ran.stdout.lines().map(|line| {
            serde_json::from_str(line).unwrap_or_else(|error| panic!("{words:?}: {line}: {error}"))
        });
        let parsed: Vec<Value> =
            parsed.inspect(|value: &Value| assert!(value.is_object(), "{value}")).collect();
        assert!(!parsed.is_empty(), "{words:?} says nothing");
        parsed
    };
    assert_eq!(objects(&["get", db, "apple"])[0]["value"], "red");
    assert!(objects(&["put", db, "q\"\\x00", "\\x5c"])[0]["lsn"].as_u64().unwrap() > 0);
    let scan = objects(&["scan", db]);
    assert_eq!(scan.len(), 5);
    assert_eq!(scan[4]["key"], "q\"\\x00");
    assert_eq!(scan[4]["value"], "\\x5c");
    assert!(objects(&["scan", db, "--keys"])[0].get("value").is_none());
    assert_eq!(objects(&["delete", db, "q\"\\x00"])[0]["deleted"], true);
    assert_eq!(objects(&["delete", db, "q\"\\x00"])[0]["deleted"], false);
    assert_eq!(objects(&["count", db])[0]["count"], 4);
    assert_eq!(objects(&["digest", db])[0]["digest"].as_str().unwrap().len(), 32);
    assert_eq!(objects(&["keyspaces", db])[0]["keyspace"], "default");
    assert_eq!(objects(&["keyspaces", db, "--create", "x"])[0]["keyspace"], "x");
    assert_eq!(objects(&["keyspaces", db, "--drop", "x"])[0]["keyspace"], "x");
    let last = objects(&["stat", db])[0]["last_lsn"].as_u64().unwrap();
    assert_eq!(objects(&["verify", db])[0]["damages"], 0);
    let log = objects(&["log", db]);
    assert_eq!(log.last().unwrap()["lsn"], last);
    assert!(log.iter().all(|entry| entry["lsn"].is_u64()));
    let changes = objects(&["changes", db, "--from", "1"]);
    assert!(changes.iter().any(|change| change["kind"] == "put" && change["key"] == "apple"), "{changes:?}");

    let file = place.file("more.tsv", b"x\t1\ny\t2\nbad\nz\t3\n");
    let load = objects(&["load", db, &file, "--acks", "--batch", "2", "--skip-bad"]);
    assert_eq!(load[0]["key"], "y");
    assert_eq!(load.last().unwrap()["records"], 3);
    assert_eq!(load.last().unwrap()["skipped"], 1);

    let sizes = objects(&["sizes", db, "--parts", "1"]);
    assert_eq!(sizes.len(), 1);
    assert!(sizes[0]["records"].is_u64() && sizes[0]["bytes"].is_u64(), "{sizes:?}");
    let deleted = objects(&["delete-range", db, "--from", "x"]);
    assert_eq!(deleted[0]["deleted"], 3);
    assert!(deleted[0]["lsn"].as_u64().unwrap() > last);
    assert_eq!(objects(&["delete-range", db, "--from", "x"])[0]["deleted"], 0);
    assert_eq!(objects(&["compact", db])[0]["compacted"], true);
    assert_eq!(objects(&["backup", db, &there("backup")])[0]["keyspaces"][0]["records"], 4);
    let measured = objects(&["bench", db, "read", "--records", "100", "--operations", "10"]);
    assert_eq!(measured[0]["operations"], 10);

    let url = format!("file://{}", there("archive"));
    let archived = objects(&["archive", db, "--to", &url])[0]["lsn"].as_u64().unwrap();
    let intervals = objects(&["archive-status", &url]);
    assert!(intervals.iter().any(|line| line["last_lsn"] == archived), "{intervals:?}");
    assert_eq!(objects(&["retention", &url, "--keep", "1d", "--dry-run"])[0]["dry_run"], true);
    assert_eq!(objects(&["restore", "--from", &url, &there("restored")])[0]["lsn"], archived);
    let steps = objects(&["demo", "--records", "2000", "--dir", &there("demo")]);
    assert!(steps.len() > 5 && steps.iter().all(|step| step["ok"] != false), "{steps:?}");
    assert_eq!(asked, commands(), "every command was asked, and those alone");
}
