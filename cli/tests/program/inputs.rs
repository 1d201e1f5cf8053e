//! Files to load that are not quite what they should be.

use std::fs;

use crate::support::{Place, records, run, run_with};

#[track_caller]
fn loads(place: &Place, options: &[&str], text: &[u8], expected: &str) {
    let mut words = vec!["load", &place.db];
    words.extend(options);
    run_with(&words, text).done();
    assert_eq!(place.run("scan", &[]).done(), expected);
}

#[test]
fn an_empty_file_loads_nothing_and_is_done() {
    let place = Place::new();
    let file = place.file("empty", b"");
    for options in [&[][..], &["--format", "csv", "--key", "k"], &["--format", "jsonl", "--key", "k"]] {
        let mut words = vec!["load", &place.db, &file];
        words.extend(options);
        assert!(run(&words).done().contains("0 records"));
    }
    assert_eq!(place.run("count", &[]).done(), "0\n");
}

#[test]
fn the_last_line_needs_no_line_end_and_carriage_returns_belong_to_it() {
    loads(&Place::new(), &[], b"a\t1\r\nb\t2", "a\t1\nb\t2\n");
    loads(&Place::new(), &["--raw"], b"a\t1\r\nb\\x41\t2", "a\t1\\x0d\nb\\x5cx41\t2\n");
}

#[test]
fn nul_bytes_and_bytes_beyond_ascii_are_bytes_like_any_other() {
    loads(&Place::new(), &[], b"a\0b\t\xff\xfe\n\xc3\xa9\t\n", "a\\x00b\t\\xff\\xfe\n\\xc3\\xa9\t\n");
}

#[test]
fn csv_and_json_lines_keep_the_whole_record() {
    let csv = b"name,id\r\n\"Smith, J\",7\r\nJones,8\r\n";
    loads(&Place::new(), &["-", "--format", "csv", "--key", "id"], csv, "7\t\"Smith, J\",7\n8\tJones,8\n");
    let jsonl = b"{\"id\":7,\"n\":\"\\u00e9\"}\n{\"id\":\"x\"}\n";
    loads(
        &Place::new(),
        &["-", "--format", "jsonl", "--key", "id"],
        jsonl,
        "7\t{\"id\":7,\"n\":\"\\x5cu00e9\"}\nx\t{\"id\":\"x\"}\n",
    );
}

#[test]
fn a_key_that_the_header_does_not_have_is_named_with_those_it_has() {
    let place = Place::new();
    let file = place.file("people.csv", b"name,id\nSmith,7\n");
    let load = |options: &[&str]| run(["load", &place.db, &file].iter().chain(options));
    load(&["--format", "csv", "--key", "nr"]).fails(65, "no column 'nr'; it has name, id");
    load(&[]).fails(65, "is it --format csv?");
    assert!(load(&["--format", "jsonl", "--key", "id", "--skip-bad"]).done().contains("2 bad lines"));
}

#[test]
fn values_are_loaded_up_to_their_limit_in_full() {
    let place = Place::new();
    let sizes = [0, 1, 4095, 4096, 4097, 65_536, 1 << 20, (1 << 20) + 1, 5 << 20];
    let mut text = String::new();
    for size in sizes {
        text.push_str(&format!("k{size}\t{}\n", "v".repeat(size)));
    }
    let file = place.file("huge.tsv", text.as_bytes());
    run(["load", &place.db, &file]).done();
    for size in sizes {
        let value = place.run("get", &[&format!("k{size}"), "--raw"]).done();
        assert_eq!(value.len(), size);
        assert!(value.bytes().all(|byte| byte == b'v'));
    }
    place.run("verify", &[]).done();
}

#[test]
fn a_line_that_no_record_can_have_is_named_and_passed_over_with_skip_bad() {
    let place = Place::new();
    let mut text = b"a\t1\nb\t".to_vec();
    text.resize(text.len() + (64 << 20) + 1, b'v');
    text.extend_from_slice(b"\nc\t3\n");
    let file = place.file("long.tsv", &text);
    let ran = run(["load", &place.db, &file, "--skip-bad"]);
    assert!(ran.done().contains("line 2: its value has 67108865 bytes"));
    assert_eq!(place.run("scan", &[]).done(), "a\t1\nc\t3\n");
}

#[test]
fn a_load_in_one_transaction_is_there_whole_or_not_at_all() {
    let place = Place::with("before\t1\n");
    let mut text = records(3000);
    text.push_str("no tab in this line\n");
    let file = place.file("bad.tsv", text.as_bytes());
    run(["load", &place.db, &file, "--transaction"]).fails(65, "line 3001");
    assert_eq!(place.run("scan", &[]).done(), "before\t1\n");
    assert!(
        run(["load", &place.db, &file, "--transaction", "--skip-bad"])
            .done()
            .starts_with("3000 records in 1 batch")
    );
    assert_eq!(place.run("count", &[]).done(), "3001\n");
    assert_eq!(run(["load", &place.db, &file, "--transaction", "--batch", "5"]).code, 64);
    // Larger than any batch by default, and opened again by every other command.
    let text: String = (0..90).map(|number| format!("large-{number}\t{}\n", "v".repeat(1 << 20))).collect();
    let file = place.file("large.tsv", text.as_bytes());
    assert!(
        run(["load", &place.db, &file, "--transaction", "--durability", "buffered"])
            .done()
            .contains("90 records")
    );
    assert_eq!(place.run("count", &["--prefix", "large-"]).done(), "90\n");
    place.run("verify", &[]).done();
}

#[test]
fn a_directory_or_an_unreadable_stream_as_input_is_3() {
    let place = Place::new();
    fs::create_dir(place.path("folder")).unwrap();
    let folder = place.path("folder");
    run(["load", &place.db, folder.to_str().unwrap()]).fails(3, "folder");
    assert!(!place.path("db").exists(), "an input that cannot be read makes no database");
}
