//! What the commands print on stdout: text for people and pipes, or one JSON object a line.
//!
//! Keys and values are printed escaped in both (see [`crate::escape`]): JSON strings cannot hold any bytes, so a key
//! is the same text in a column and in a JSON string. A closed pipe is [`Failure::ClosedPipe`], with which `main` ends
//! in peace; any other failure of stdout is an I/O error, so that output lost to a full disk is not taken for done.

use std::io::{self, BufWriter, StdoutLock, Write};

use serde_json::Value;

use crate::escape;
use crate::exit::Failure;

/// So many of something: `1 record`, `2 records`, `3 entries`, `4 batches`.
#[must_use]
pub fn counted(count: u64, what: &str) -> String {
    match what.strip_suffix('y') {
        _ if count == 1 => format!("{count} {what}"),
        Some(stem) => format!("{count} {stem}ies"),
        None if what.ends_with("ch") => format!("{count} {what}es"),
        None => format!("{count} {what}s"),
    }
}

/// Stdout, buffered.
pub struct Output {
    stdout: BufWriter<StdoutLock<'static>>,
    json: bool,
    line: String,
}

impl Output {
    /// Locks stdout.
    #[must_use]
    pub fn new(json: bool) -> Self {
        Self { stdout: BufWriter::with_capacity(1 << 16, io::stdout().lock()), json, line: String::new() }
    }

    /// Whether one JSON object a line was asked for.
    #[must_use]
    pub fn is_json(&self) -> bool {
        self.json
    }

    /// Prints a line of text.
    ///
    /// # Errors
    /// When stdout takes no more.
    pub fn text(&mut self, line: &str) -> Result<(), Failure> {
        self.write(line.as_bytes())?;
        self.write(b"\n")
    }

    /// Prints an object on a line.
    ///
    /// # Errors
    /// When stdout takes no more.
    pub fn object(&mut self, object: &Value) -> Result<(), Failure> {
        self.text(&object.to_string())
    }

    /// Prints `text`, or `object` when JSON was asked for.
    ///
    /// # Errors
    /// When stdout takes no more.
    pub fn line(&mut self, text: &str, object: &Value) -> Result<(), Failure> {
        if self.json { self.object(object) } else { self.text(text) }
    }

    /// Prints a record: `key TAB value`, or the key alone.
    ///
    /// # Errors
    /// When stdout takes no more.
    pub fn record(&mut self, key: &[u8], value: Option<&[u8]>) -> Result<(), Failure> {
        // Written by hand: a scan prints millions of them, and building an object for each would be most of its time.
        let mut line = std::mem::take(&mut self.line);
        line.clear();
        if self.json {
            line.push_str("{\"key\":\"");
            push_json_string(&mut line, key);
            if let Some(value) = value {
                line.push_str("\",\"value\":\"");
                push_json_string(&mut line, value);
            }
            line.push_str("\"}\n");
        } else {
            escape::escape_into(&mut line, key);
            if let Some(value) = value {
                line.push('\t');
                escape::escape_into(&mut line, value);
            }
            line.push('\n');
        }
        let written = self.write(line.as_bytes());
        self.line = line;
        written
    }

    /// Writes bytes as they are.
    ///
    /// # Errors
    /// When stdout takes no more.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.stdout.write_all(bytes).map_err(stdout_failure)
    }

    /// Sends everything on its way.
    ///
    /// # Errors
    /// When stdout takes no more.
    pub fn flush(&mut self) -> Result<(), Failure> {
        self.stdout.flush().map_err(stdout_failure)
    }
}

/// Adds `bytes` as they are printed, as the inside of a JSON string.
fn push_json_string(line: &mut String, bytes: &[u8]) {
    let start = line.len();
    escape::escape_into(line, bytes);
    // What is printed is printable ASCII, of which JSON escapes the quote and the backslash alone.
    if line.as_bytes()[start..].iter().any(|byte| matches!(byte, b'"' | b'\\')) {
        let escaped = line[start..].replace('\\', "\\\\").replace('"', "\\\"");
        line.replace_range(start.., &escaped);
    }
}

fn stdout_failure(source: io::Error) -> Failure {
    if source.kind() == io::ErrorKind::BrokenPipe {
        Failure::ClosedPipe
    } else {
        Failure::stream("stdout", source)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_inside_of_a_json_string_is_what_the_text_form_prints(bytes: Vec<u8>) {
            let mut line = "\"".to_owned();
            push_json_string(&mut line, &bytes);
            line.push('"');
            prop_assert_eq!(serde_json::from_str::<String>(&line).unwrap(), escape::escape(&bytes));
        }
    }
}
