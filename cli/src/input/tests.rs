//! The formats together, through the public reader.

use proptest::prelude::*;

use super::*;

type Found = Vec<Result<(Vec<u8>, Vec<u8>), (u64, String)>>;

fn all(bytes: &[u8], format: &Format) -> Found {
    let mut records = Records::new(bytes, format.clone()).unwrap();
    let mut found = Vec::new();
    loop {
        match records.next() {
            Ok(None) => return found,
            Ok(Some(record)) => found.push(Ok((record.key.into_owned(), record.value.into_owned()))),
            Err(InputError::Bad { line, why }) => found.push(Err((line, why))),
            Err(other) => panic!("{other}"),
        }
    }
}

fn tsv(bytes: &[u8]) -> Found {
    all(bytes, &Format::Tsv { raw: false })
}

fn csv(bytes: &[u8]) -> Found {
    all(bytes, &Format::Csv { key: "id".to_owned() })
}

fn jsonl(bytes: &[u8]) -> Found {
    all(bytes, &Format::Jsonl { key: "id".to_owned() })
}

fn record(key: &[u8], value: &[u8]) -> Result<(Vec<u8>, Vec<u8>), (u64, String)> {
    Ok((key.to_vec(), value.to_vec()))
}

#[track_caller]
fn bad(found: &Found, index: usize, line: u64, words: &str) {
    let (at, why) = found[index].as_ref().unwrap_err();
    assert_eq!(*at, line);
    assert!(why.contains(words), "{why}");
}

#[test]
fn tsv_splits_at_the_first_tab_and_decodes_both_sides() {
    let found = tsv(b"k\\x00\tv\\x0a\\n\na\tb\tc\n\t\nlast\tvalue");
    assert_eq!(
        found,
        [record(b"k\0", b"v\n\\n"), record(b"a", b"b\tc"), record(b"", b""), record(b"last", b"value")]
    );
}

#[test]
fn raw_tsv_keeps_every_byte() {
    let found = all(b"k\\x00\tv\\x0a\r\n\0\t\xff\n", &Format::Tsv { raw: true });
    assert_eq!(found, [record(br"k\x00", b"v\\x0a\r"), record(b"\0", b"\xff")]);
}

#[test]
fn a_carriage_return_before_the_line_feed_belongs_to_the_line_end() {
    assert_eq!(tsv(b"a\tb\r\nc\td\\x0d\r\n"), [record(b"a", b"b"), record(b"c", b"d\r")]);
    assert_eq!(jsonl(b"{\"id\":\"a\"}\r\n"), [record(b"a", b"{\"id\":\"a\"}")]);
    assert_eq!(csv(b"id,x\r\na,1\r\n"), [record(b"a", b"a,1")]);
}

#[test]
fn an_empty_input_has_no_records_in_any_format() {
    assert!(tsv(b"").is_empty());
    assert!(jsonl(b"").is_empty());
    assert!(csv(b"").is_empty());
    assert!(csv(b"id\n").is_empty());
}

#[test]
fn bad_lines_are_named_by_their_number_and_reading_goes_on() {
    let found = tsv(b"a\tb\nno tab\n\nc\td");
    bad(&found, 1, 2, "no TAB");
    bad(&found, 2, 3, "no TAB");
    assert_eq!(found[3], record(b"c", b"d"));

    let found = jsonl(b"{\"id\":1}\nx\n{}\n{\"id\":2}");
    bad(&found, 1, 2, "not a JSON object");
    bad(&found, 2, 3, "no field 'id'");
    assert_eq!(found[3], record(b"2", b"{\"id\":2}"));

    let found = csv(b"x,id\n1,a\n2\n\n3,b,c\n\"4\n\",d\n5,e");
    assert_eq!(found[0], record(b"a", b"1,a"));
    bad(&found, 1, 3, "1 fields, the header has 2");
    bad(&found, 2, 5, "3 fields");
    assert_eq!(found[3], record(b"d", b"\"4\n\",d"));
    assert_eq!(found[4], record(b"e", b"5,e"));
}

#[test]
fn a_header_must_name_the_key_once() {
    let header = |text: &str| {
        let error = Records::new(text.as_bytes(), Format::Csv { key: "id".to_owned() }).err().unwrap();
        assert!(
            matches!(error, InputError::Header { .. } | InputError::Unclosed { line: 1, last: 1 }),
            "{error}"
        );
        error.to_string()
    };
    assert_eq!(header("name,size\n"), "line 1: the header has no column 'id'; it has name, size");
    assert!(header("id,id\n").contains("twice"));
    assert!(header("\"id").contains("not closed"));
}

#[test]
fn a_byte_order_mark_before_a_header_is_no_part_of_its_first_name() {
    assert_eq!(csv(b"\xef\xbb\xbfid,x\na,1"), [record(b"a", b"a,1")]);
}

#[test]
fn the_longest_key_is_taken_and_one_byte_more_is_a_bad_line() {
    let mut text = vec![b'k'; KEY_BYTES_MAX];
    text.extend_from_slice(b"\tv\n");
    text.extend_from_slice(&vec![b'k'; KEY_BYTES_MAX + 1]);
    text.extend_from_slice(b"\tv\n");
    text.extend_from_slice("\\x6b".repeat(KEY_BYTES_MAX).as_bytes());
    text.extend_from_slice(b"\tw");
    let found = tsv(&text);
    assert_eq!(found[0], record(&vec![b'k'; KEY_BYTES_MAX], b"v"));
    bad(&found, 1, 2, "its key has 65536 bytes, more than the limit of 65535");
    assert_eq!(found[2], record(&vec![b'k'; KEY_BYTES_MAX], b"w"));
}

proptest! {
    #[test]
    fn what_scan_prints_loads_again(records in proptest::collection::vec(any::<(Vec<u8>, Vec<u8>)>(), 0..20)) {
        let mut text = String::new();
        for (key, value) in &records {
            crate::escape::escape_into(&mut text, key);
            text.push('\t');
            crate::escape::escape_into(&mut text, value);
            text.push('\n');
        }
        let found: Vec<_> = tsv(text.as_bytes()).into_iter().map(Result::unwrap).collect();
        prop_assert_eq!(found, records);
    }

    #[test]
    fn any_bytes_are_read_to_the_end_without_a_panic(bytes: Vec<u8>, raw: bool) {
        let lines = bytes.iter().filter(|byte| **byte == b'\n').count() + 1;
        let formats = [
            Format::Tsv { raw },
            Format::Jsonl { key: "id".to_owned() },
            Format::Csv { key: "id".to_owned() },
        ];
        for format in formats {
            if let Ok(mut records) = Records::new(&bytes[..], format) {
                let mut read = 0;
                while !matches!(records.next(), Ok(None)) {
                    read += 1;
                }
                prop_assert!(read <= lines);
            }
        }
    }

    #[test]
    fn csv_of_any_fields_keeps_key_and_record(rows in proptest::collection::vec(any::<(String, String)>(), 0..10)) {
        let quoted = |field: &str| format!("\"{}\"", field.replace('"', "\"\""));
        let mut text = "id,x\n".to_owned();
        for (key, other) in &rows {
            text.push_str(&format!("{},{}\n", quoted(key), quoted(other)));
        }
        let found: Vec<_> = csv(text.as_bytes()).into_iter().map(Result::unwrap).collect();
        prop_assert_eq!(found.len(), rows.len());
        for ((key, value), (expected, other)) in found.iter().zip(&rows) {
            prop_assert_eq!(key, expected.as_bytes());
            let record = format!("{},{}", quoted(expected), quoted(other));
            prop_assert_eq!(value, record.as_bytes());
        }
    }
}
