//! The formats that the program loads: tab-separated text, CSV, JSON lines; and the escapes it prints.
//!
//! The first byte of the input chooses the format, the second the source's buffer; the rest is the file.
//!
//! Held:
//! 1. What is read does not depend on how the source cuts the bytes.
//! 2. The numbers of bad lines do not fall (in CSV a carriage return alone ends a record, but not a line), and lie
//!    in the file.
//! 3. A record that was read, printed as `scan` prints it, reads back as it was; the value of a CSV or JSON record
//!    is a piece of the file, and alone in a file gives the same record.
//! 4. Raw text without a bad line is its records, byte for byte.
//! 5. `unescape(escape(bytes))` is `bytes` for the input itself, the text is printable, and reading never lengthens.
//! 6. Reading holds no more memory than twice the longest line and an allowance.

use std::io::BufReader;

use logwood_cli::escape::{escape, unescape};
use logwood_cli::input::{Format, InputError, Records};

use crate::allocation;

/// The column and field that holds the key.
pub const KEY: &str = "id";

type Read = Vec<Result<(Vec<u8>, Vec<u8>), u64>>;

/// Runs the target.
pub fn run(bytes: &[u8]) {
    let [choice, buffer, text @ ..] = bytes else { return };
    let format = match choice % 4 {
        0 => Format::Tsv { raw: false },
        1 => Format::Tsv { raw: true },
        2 => Format::Csv { key: KEY.to_owned() },
        _ => Format::Jsonl { key: KEY.to_owned() },
    };
    escapes(text);
    let whole = read(text, text.len().max(1), &format);
    for buffer in [1, 2, usize::from(*buffer) + 3] {
        assert_eq!(read(text, buffer, &format), whole, "read otherwise through a buffer of {buffer}");
    }
    let Some(whole) = whole else { return };
    let bad: Vec<u64> = whole.iter().filter_map(|record| record.as_ref().err().copied()).collect();
    let lines = text.split(|byte| *byte == b'\n').count() as u64;
    assert!(bad.is_sorted() && bad.last().is_none_or(|last| *last <= lines), "{bad:?} of {lines}");
    for (key, value) in whole.iter().flatten() {
        reads_back(key, value, text, &format);
    }
    if format == (Format::Tsv { raw: true }) && bad.is_empty() {
        let mut written = Vec::new();
        for (key, value) in whole.iter().flatten() {
            written.extend([&key[..], b"\t", value, b"\n"].concat());
        }
        let ended = text.last().is_none_or(|last| *last == b'\n');
        assert_eq!(written, [text, if ended { &b""[..] } else { b"\n" }].concat());
    }
}

/// Every record and every bad line; `None` when the header is refused.
fn read(text: &[u8], buffer: usize, format: &Format) -> Option<Read> {
    allocation::bounded("the reader alone", 4 * text.len(), || {
        let mut records = match Records::new(BufReader::with_capacity(buffer, text), format.clone()) {
            Ok(records) => records,
            Err(InputError::Header { .. } | InputError::Unclosed { .. }) => return None,
            Err(error) => panic!("{error}"),
        };
        let mut found: Read = Vec::new();
        loop {
            match records.next() {
                Ok(None) => break,
                Ok(Some(record)) => found.push(Ok((record.key.into_owned(), record.value.into_owned()))),
                Err(InputError::Bad { line, .. } | InputError::Unclosed { line, .. }) => {
                    found.push(Err(line))
                }
                Err(error) => panic!("{error}"),
            }
            assert!(found.len() <= text.len() + 1, "more records than bytes: it does not end");
        }
        assert!(matches!(records.next(), Ok(None)), "something behind the end");
        Some(found)
    })
}

fn reads_back(key: &[u8], value: &[u8], text: &[u8], format: &Format) {
    let printed = format!("{}\t{}\n", escape(key), escape(value));
    let tsv = Format::Tsv { raw: false };
    let again = Some(vec![Ok((key.to_vec(), value.to_vec()))]);
    assert_eq!(read(printed.as_bytes(), 64, &tsv), again, "printed and read back");
    let alone = match format {
        Format::Tsv { .. } => return,
        Format::Jsonl { .. } => value.to_vec(),
        // A carriage return at the end of either is data.
        Format::Csv { .. } => [header(text), b"\r\n", value, b"\r\n"].concat(),
    };
    assert!(
        value.is_empty() || text.windows(value.len()).any(|piece| piece == value),
        "not a piece of the file"
    );
    assert_eq!(read(&alone, 64, format), again, "a record alone in a file");
}

/// The first record of a CSV file, as it stands. A quote opens a field only as its first byte; one that closes may be
/// followed by more of the field.
fn header(text: &[u8]) -> &[u8] {
    let mut start = 0;
    while let Some(empty) = [&b"\n"[..], b"\r\n"].iter().find(|end| text[start..].starts_with(end)) {
        start += empty.len();
    }
    let (mut at_start, mut quoted, mut closing) = (true, false, false);
    let end = text[start..].iter().position(|byte| {
        match byte {
            b'"' if at_start => quoted = true,
            b'"' if closing => closing = false,
            b'"' if quoted => closing = true,
            _ if quoted && !closing => {}
            b'\n' => return true,
            _ => (quoted, closing) = (false, false),
        }
        at_start = *byte == b',' && !quoted;
        false
    });
    let header = &text[start..end.map_or(text.len(), |end| start + end)];
    header.strip_suffix(b"\r").unwrap_or(header)
}

fn escapes(bytes: &[u8]) {
    let printed = escape(bytes);
    assert!(printed.bytes().all(|byte| matches!(byte, 0x20..=0x7e)), "not printable");
    assert_eq!(unescape(printed.as_bytes()), bytes);
    assert!(unescape(bytes).len() <= bytes.len(), "reading lengthens");
}
