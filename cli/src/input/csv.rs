//! CSV with a header; a named column gives the key, the record as it stands in the file is the value.
//!
//! The rules are those of `csv-core`: fields may be quoted, a doubled quote stands for one, quoted fields may hold
//! line ends, and empty lines are skipped. A line ends in a line feed, with or without a carriage return before it; any
//! other carriage return is data. On top of them a record must have as many fields as the header, and a
//! quote must be closed: a file that was cut off is named, not stored. The value is the record's own bytes without
//! its line end, so that quoting, spacing and encoding are kept.

use std::io::{self, BufRead};

use csv_core::{ReadRecordResult, Reader, ReaderBuilder, Terminator};

/// Reads records and keeps their bytes.
pub(super) struct CsvReader<R> {
    source: R,
    parser: Reader,
    /// The record's bytes as consumed from the source, line ends around it included.
    raw: Vec<u8>,
    /// The record's fields without quotes, one behind the other, and where each ends.
    fields: Vec<u8>,
    ends: Vec<usize>,
    columns: usize,
    /// Line feeds consumed so far.
    feeds: u64,
    record_bytes_max: usize,
}

/// What [`CsvReader::next`] met.
pub(super) enum CsvRecord {
    /// A record, which [`CsvReader::raw`] and [`CsvReader::field`] answer about.
    Whole,
    /// A record that cannot be taken, and why.
    Bad(String),
    /// One with a quote that is not closed before the end of the input, which is on this line.
    Unclosed(u64),
}

impl<R: BufRead> CsvReader<R> {
    pub(super) fn new(source: R, record_bytes_max: usize) -> Self {
        Self {
            source,
            parser: ReaderBuilder::new().terminator(Terminator::Any(b'\n')).build(),
            raw: Vec::new(),
            fields: vec![0; 4096],
            ends: vec![0; 64],
            columns: 0,
            feeds: 0,
            record_bytes_max,
        }
    }

    /// The record's bytes, without line ends around it.
    pub(super) fn raw(&self) -> &[u8] {
        without_line_end(&self.raw[leading_feeds(&self.raw)..])
    }

    /// One of the record's fields, without quotes.
    pub(super) fn field(&self, index: usize) -> &[u8] {
        let start = if index == 0 { 0 } else { self.ends[index - 1] };
        let field = &self.fields[start..self.ends[index]];
        // The parser knows line feeds only.
        let has_return = index + 1 == self.columns && without_feed(&self.raw).ends_with(b"\r");
        if has_return { field.strip_suffix(b"\r").unwrap_or(field) } else { field }
    }

    /// How many fields the record has.
    pub(super) fn columns(&self) -> usize {
        self.columns
    }

    /// Reads the next record, with the number of the line it begins on; `None` at the end of the input.
    pub(super) fn next(&mut self) -> io::Result<Option<(u64, CsvRecord)>> {
        self.raw.clear();
        let mut feeds_before = self.feeds;
        let (mut length, mut written, mut ended) = (0u64, 0, 0);
        loop {
            let input = match self.source.fill_buf() {
                Ok(input) => input,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            let at_end = input.is_empty();
            if at_end && length == 0 {
                return Ok(None);
            }
            // The last record needs no line end in the file, but the parser is given one: that it takes it for a part
            // of a field is how an open quote shows.
            let input = if at_end { b"\n" } else { input };
            let (result, used, more_written, more_ended) =
                self.parser.read_record(input, &mut self.fields[written..], &mut self.ends[ended..]);
            if !at_end {
                self.feeds += memchr::memchr_iter(b'\n', &input[..used]).count() as u64;
                length += used as u64;
                if length <= self.record_bytes_max as u64 {
                    self.raw.extend_from_slice(&input[..used]);
                }
                self.source.consume(used);
            }
            let too_long = length > self.record_bytes_max as u64;
            // A record that is too long is followed to its end over the same memory.
            (written, ended) = if too_long { (0, 0) } else { (written + more_written, ended + more_ended) };
            match result {
                ReadRecordResult::InputEmpty
                    if at_end && !too_long && leading_feeds(&self.raw) == self.raw.len() =>
                {
                    return Ok(None);
                }
                ReadRecordResult::InputEmpty if at_end => {
                    let line = feeds_before + first_line(&self.raw);
                    // The parser waits for the quote, and no more is coming: the next call must find nothing.
                    self.parser.reset();
                    let last = self.feeds + u64::from(!self.raw.ends_with(b"\n"));
                    return Ok(Some((line, CsvRecord::Unclosed(last))));
                }
                ReadRecordResult::InputEmpty => {}
                ReadRecordResult::OutputFull => self.fields.resize(self.fields.len() * 2, 0),
                ReadRecordResult::OutputEndsFull => self.ends.resize(self.ends.len() * 2, 0),
                ReadRecordResult::End => return Ok(None),
                ReadRecordResult::Record if !too_long && self.raw().is_empty() => {
                    // An empty line whose line end has a carriage return.
                    self.raw.clear();
                    (length, written, ended, feeds_before) = (0, 0, 0, self.feeds);
                }
                ReadRecordResult::Record => {
                    self.columns = ended;
                    let line = feeds_before + first_line(&self.raw);
                    let record = if too_long {
                        CsvRecord::Bad(format!(
                            "the record has {length} bytes, more than the limit of {} (is a quote left open?)",
                            self.record_bytes_max
                        ))
                    } else {
                        CsvRecord::Whole
                    };
                    return Ok(Some((line, record)));
                }
            }
        }
    }
}

/// The line of `raw` on which its record begins, counted from 1.
fn first_line(raw: &[u8]) -> u64 {
    1 + leading_feeds(raw) as u64
}

fn leading_feeds(raw: &[u8]) -> usize {
    raw.iter().position(|byte| *byte != b'\n').unwrap_or(raw.len())
}

fn without_feed(raw: &[u8]) -> &[u8] {
    raw.strip_suffix(b"\n").unwrap_or(raw)
}

fn without_line_end(raw: &[u8]) -> &[u8] {
    let line = without_feed(raw);
    line.strip_suffix(b"\r").unwrap_or(line)
}

#[cfg(test)]
mod tests {
    use std::io::BufReader;

    use super::*;

    /// Line, raw bytes and fields of every record; or line and what is wrong.
    type Found = Vec<(u64, Result<(String, Vec<String>), String>)>;

    fn all(text: &str, buffer: usize, bound: usize) -> Found {
        let text_of = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let mut reader = CsvReader::new(BufReader::with_capacity(buffer, text.as_bytes()), bound);
        let mut found = Vec::new();
        while let Some((line, record)) = reader.next().unwrap() {
            found.push((
                line,
                match record {
                    CsvRecord::Bad(why) => Err(why),
                    CsvRecord::Unclosed(last) => Err(format!("open to {last}")),
                    CsvRecord::Whole => {
                        let fields = (0..reader.columns()).map(|n| text_of(reader.field(n))).collect();
                        Ok((text_of(reader.raw()), fields))
                    }
                },
            ));
        }
        found
    }

    #[track_caller]
    fn good(found: &Found, index: usize, line: u64, raw: &str, fields: &[&str]) {
        let (at, record) = &found[index];
        assert_eq!(*at, line);
        let fields = fields.iter().map(|field| (*field).to_owned()).collect();
        assert_eq!(record, &Ok((raw.to_owned(), fields)));
    }

    #[test]
    fn a_record_keeps_its_bytes_and_loses_only_its_line_end() {
        for buffer in [1, 2, 3, 5, 4096] {
            let found = all("a,b\r\n\r\n\"x\n\"\"y\", 1 \r\n\nlast,", buffer, 100);
            assert_eq!(found.len(), 3);
            good(&found, 0, 1, "a,b", &["a", "b"]);
            good(&found, 1, 3, "\"x\n\"\"y\", 1 ", &["x\n\"y", " 1 "]);
            good(&found, 2, 6, "last,", &["last", ""]);
            assert!(all("", buffer, 100).is_empty());
            assert!(all("\n\r\n", buffer, 100).is_empty());
        }
    }

    #[test]
    fn a_carriage_return_ends_no_line_by_itself() {
        for buffer in [1, 2, 3, 5, 4096] {
            let found = all("a,b\rc\r\n\r\n\"d\r\",\"e\"\r\nf\r,g\r\r\n\r\n", buffer, 100);
            assert_eq!(found.len(), 3, "{found:?}");
            good(&found, 0, 1, "a,b\rc", &["a", "b\rc"]);
            good(&found, 1, 3, "\"d\r\",\"e\"", &["d\r", "e"]);
            good(&found, 2, 4, "f\r,g\r", &["f\r", "g\r"]);
        }
    }

    #[test]
    fn many_and_long_fields_are_whole() {
        let long = "v".repeat(10_000);
        let row = vec![long.as_str(); 200].join(",");
        let found = all(&row, 1000, usize::MAX);
        good(&found, 0, 1, &row, &vec![long.as_str(); 200]);
    }

    #[test]
    fn an_open_quote_at_the_end_is_named_once_and_on_its_line() {
        for buffer in [1, 3, 4096] {
            for tail in ["c,\"d", "c,\"d\"\"", "\"", "c,\"d,e"] {
                let found = all(&format!("a,b\n{tail}"), buffer, 100);
                assert_eq!(found.len(), 2, "{tail}");
                assert_eq!(found[1].0, 2);
                assert_eq!(found[1].1, Err("open to 2".to_owned()), "{tail}");
            }
            let closed = all("a,b\nc,\"d\"", buffer, 100);
            good(&closed, 1, 2, "c,\"d\"", &["c", "d"]);
        }
    }

    #[test]
    fn a_record_beyond_the_bound_is_named_and_the_next_one_is_read() {
        for buffer in [1, 3, 4096] {
            let found = all("a,b\ncccccccccccc,\"\n\"\nd,e\n", buffer, 10);
            assert_eq!(found.len(), 3);
            assert_eq!(found[1].0, 2);
            assert!(found[1].1.as_ref().unwrap_err().contains("more than the limit of 10"));
            good(&found, 2, 4, "d,e", &["d", "e"]);
        }
    }
}
