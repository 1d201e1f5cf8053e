//! Records from files: tab-separated text, CSV and JSON lines.
//!
//! [`Records`] reads a stream record by record and lends each as key and value. A line that is not a record is
//! answered as [`InputError::Bad`], named by its number, and reading goes on behind it when it is asked to: whether a
//! bad line ends a load is the caller's decision. Nothing is read ahead beyond the stream's own buffer, and a line is
//! bounded by what a record can hold, so memory stays bounded on any input.
//!
//! | module | format | key | value |
//! |---|---|---|---|
//! | `tsv` | `key TAB value` | before the first TAB | behind it |
//! | `csv` | CSV with a header | a column | the whole record |
//! | `jsonl` | one JSON object a line | a field | the whole line |

use std::borrow::Cow;
use std::fmt;
use std::io::{self, BufRead};

use logwood_base::limits::{KEY_BYTES_MAX, VALUE_BYTES_MAX};

mod csv;
mod jsonl;
mod lines;
mod tsv;

use csv::{CsvReader, CsvRecord};
use lines::{Line, Lines};

/// The formats that records are read from, with what each needs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Format {
    /// `key TAB value`; `raw` leaves `\xNN` as it stands.
    Tsv {
        /// Whether every byte stands for itself.
        raw: bool,
    },
    /// CSV with a header, whose column of this name holds the key.
    Csv {
        /// The column's name.
        key: String,
    },
    /// JSON objects, whose field of this name holds the key.
    Jsonl {
        /// The field's name.
        key: String,
    },
}

/// A record, borrowed from the reader.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Record<'a> {
    /// At most [`KEY_BYTES_MAX`] bytes.
    pub key: Cow<'a, [u8]>,
    /// At most [`VALUE_BYTES_MAX`] bytes.
    pub value: Cow<'a, [u8]>,
}

/// Why there is no record.
#[derive(Debug)]
pub enum InputError {
    /// A line is not a record; the next call goes on behind it.
    Bad {
        /// The number of the line, from 1; of a record of several lines, its first.
        line: u64,
        /// What is wrong with it.
        why: String,
    },
    /// A quote of this line is not closed before the end of the input: what is behind it is no records, and nothing can be
    /// gone on behind.
    Unclosed {
        /// The line.
        line: u64,
        /// The last one.
        last: u64,
    },
    /// The header does not say where the keys are, so no line can be read.
    Header {
        /// What is wrong with it.
        why: String,
    },
    /// The source could not be read.
    Io(io::Error),
}

impl fmt::Display for InputError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bad { line, why } => write!(f, "line {line}: {why}"),
            Self::Unclosed { line, last } => {
                write!(f, "line {line}: a quote is not closed before the end, which is on line {last}")
            }
            Self::Header { why } => write!(f, "line 1: {why}"),
            Self::Io(error) => write!(f, "reading failed: {error}"),
        }
    }
}

impl From<io::Error> for InputError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// Reads records one at a time.
pub struct Records<R> {
    kind: Kind<R>,
    /// Whether keys must ascend.
    ascending: bool,
    /// The last key, when they must.
    last: Option<Vec<u8>>,
}

enum Kind<R> {
    Tsv { lines: Lines<R>, raw: bool },
    Csv { reader: Box<CsvReader<R>>, key: usize, columns: usize },
    Jsonl { lines: Lines<R>, key: String },
    Empty,
}

/// The longest line of tab-separated text: four characters may stand for each byte.
const TSV_LINE_BYTES_MAX: usize = 4 * (KEY_BYTES_MAX + VALUE_BYTES_MAX) + 2;

/// The longest line or record that is a value whole, with its carriage return.
const VALUE_LINE_BYTES_MAX: usize = VALUE_BYTES_MAX + 2;

impl<R: BufRead> Records<R> {
    /// Begins to read, which for CSV reads the header.
    ///
    /// # Errors
    /// [`InputError::Header`] when the header has not exactly one column of the key's name; [`InputError::Unclosed`] when a
    /// quote in it is left open; [`InputError::Io`].
    pub fn new(source: R, format: Format) -> Result<Self, InputError> {
        let kind = match format {
            Format::Tsv { raw } => Kind::Tsv { lines: Lines::new(source, TSV_LINE_BYTES_MAX), raw },
            Format::Jsonl { key } => Kind::Jsonl { lines: Lines::new(source, VALUE_LINE_BYTES_MAX), key },
            Format::Csv { key } => {
                let mut reader = Box::new(CsvReader::new(source, VALUE_LINE_BYTES_MAX));
                match reader.next()? {
                    None => Kind::Empty,
                    Some((_, CsvRecord::Bad(why))) => return Err(InputError::Header { why }),
                    Some((line, CsvRecord::Unclosed(last))) => {
                        return Err(InputError::Unclosed { line, last });
                    }
                    Some((_, CsvRecord::Whole)) => {
                        let (key, columns) = (column(&reader, &key)?, reader.columns());
                        Kind::Csv { reader, key, columns }
                    }
                }
            }
        };
        Ok(Self { kind, ascending: false, last: None })
    }

    /// From here on a record whose key does not come behind the one before it is a bad line.
    #[must_use]
    pub fn ascending(self) -> Self {
        Self { ascending: true, ..self }
    }

    /// Reads the next record; `None` at the end of the input.
    ///
    /// # Errors
    /// [`InputError::Bad`], behind which reading goes on; [`InputError::Unclosed`]; [`InputError::Io`].
    #[expect(clippy::should_implement_trait, reason = "it lends the record, which an Iterator cannot")]
    pub fn next(&mut self) -> Result<Option<Record<'_>>, InputError> {
        let (line, record) = match &mut self.kind {
            Kind::Empty => return Ok(None),
            Kind::Tsv { lines, raw } => {
                let Some((number, line)) = whole_line(lines)? else { return Ok(None) };
                (number, tsv::split(line, *raw))
            }
            Kind::Jsonl { lines, key } => {
                let Some((number, line)) = whole_line(lines)? else { return Ok(None) };
                let line = line.strip_suffix(b"\r").unwrap_or(line);
                let record = jsonl::key(line, key)
                    .map(|key| Record { key: Cow::Owned(key), value: Cow::Borrowed(line) });
                (number, record)
            }
            Kind::Csv { reader, key, columns } => {
                let Some((number, record)) = reader.next()? else { return Ok(None) };
                let record = match record {
                    CsvRecord::Bad(why) => Err(why),
                    CsvRecord::Unclosed(last) => return Err(InputError::Unclosed { line: number, last }),
                    CsvRecord::Whole if reader.columns() != *columns => {
                        Err(format!("it has {} fields, the header has {columns}", reader.columns()))
                    }
                    CsvRecord::Whole => Ok(Record {
                        key: Cow::Borrowed(reader.field(*key)),
                        value: Cow::Borrowed(reader.raw()),
                    }),
                };
                (number, record)
            }
        };
        let record = record.and_then(within_limits);
        let record = match self.ascending {
            true => record.and_then(|record| behind(&mut self.last, record)),
            false => record,
        };
        record.map(Some).map_err(|why| InputError::Bad { line, why })
    }
}

/// Refuses a key that does not come behind `last`, and keeps the others there.
fn behind<'a>(last: &mut Option<Vec<u8>>, record: Record<'a>) -> Result<Record<'a>, String> {
    if let Some(last) = last.as_deref().filter(|last| *record.key <= **last) {
        return Err(format!("its key is not behind the one before it, '{}'", crate::escape::escape(last)));
    }
    let last = last.get_or_insert_default();
    last.clear();
    last.extend_from_slice(&record.key);
    Ok(record)
}

/// The next line with its number, or the error of one that is too long.
fn whole_line<R: BufRead>(lines: &mut Lines<R>) -> Result<Option<(u64, &[u8])>, InputError> {
    let number = lines.number() + 1;
    match lines.next()? {
        None => Ok(None),
        Some(Line::Whole(line)) => Ok(Some((number, line))),
        Some(Line::TooLong(length)) => Err(InputError::Bad {
            line: number,
            why: format!("it has {length} bytes, more than any record can have"),
        }),
    }
}

/// Refuses a record that no database takes.
fn within_limits(record: Record<'_>) -> Result<Record<'_>, String> {
    for (what, length, limit) in
        [("key", record.key.len(), KEY_BYTES_MAX), ("value", record.value.len(), VALUE_BYTES_MAX)]
    {
        if length > limit {
            return Err(format!("its {what} has {length} bytes, more than the limit of {limit}"));
        }
    }
    Ok(record)
}

/// The column whose name is `key`.
fn column<R: BufRead>(header: &CsvReader<R>, key: &str) -> Result<usize, InputError> {
    let mut found = (0..header.columns()).filter(|&index| header.field(index) == key.as_bytes());
    match (found.next(), found.next()) {
        (Some(index), None) => Ok(index),
        (None, _) => {
            let names: Vec<_> =
                (0..header.columns()).map(|index| crate::escape::escape(header.field(index))).collect();
            Err(InputError::Header {
                why: format!("the header has no column '{key}'; it has {}", names.join(", ")),
            })
        }
        (Some(_), Some(_)) => {
            Err(InputError::Header { why: format!("the header has the column '{key}' twice") })
        }
    }
}

#[cfg(test)]
mod tests;
