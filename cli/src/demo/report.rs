//! What the demo tells: a line of JSON for each step as it ends, or one table at the end.

use std::io::{IsTerminal, stderr};
use std::time::Duration;

use comfy_table::{ContentArrangement, Table, presets};
use logwood_base::Clock;
use logwood_base::environment::SystemClock;
use serde_json::json;

use crate::exit::Failure;
use crate::output::Output;

/// What a step answers: what happened, and where to look.
pub(super) struct Told {
    pub(super) what: String,
    pub(super) look: String,
}

/// Runs steps one after the other and keeps what they tell.
pub(super) struct Report<'a> {
    output: &'a mut Output,
    clock: SystemClock,
    rows: Vec<[String; 4]>,
    failed: bool,
}

impl<'a> Report<'a> {
    pub(super) fn new(output: &'a mut Output) -> Self {
        Self { output, clock: SystemClock::new(), rows: Vec::new(), failed: false }
    }

    /// Runs a step. Answers its value, or `None` when it failed.
    pub(super) fn step<T>(
        &mut self,
        name: &str,
        step: impl FnOnce() -> Result<(T, Told), String>,
    ) -> Result<Option<T>, Failure> {
        if stderr().is_terminal() {
            eprint_line(name);
        }
        let before = self.clock.monotonic();
        let outcome = step();
        let took = self.clock.monotonic() - before;
        let (value, told) = match outcome {
            Ok((value, told)) => (Some(value), told),
            Err(why) => (None, Told { what: format!("FAILED: {why}"), look: String::new() }),
        };
        self.failed |= value.is_none();
        if self.output.is_json() {
            self.output.object(&json!({
                "step": name, "ok": value.is_some(), "ms": millis(took), "what": told.what, "look": told.look,
            }))?;
            self.output.flush()?;
        } else {
            self.rows.push([name.to_owned(), told.what, seconds(took), told.look]);
        }
        Ok(value)
    }

    /// Prints the table, or the last line of JSON. Answers whether every step succeeded.
    pub(super) fn end(self, files: &str) -> Result<bool, Failure> {
        let ok = !self.failed;
        let took = self.clock.monotonic();
        if self.output.is_json() {
            self.output.object(&json!({ "ok": ok, "ms": millis(took), "files": files }))?;
        } else {
            let mut table = Table::new();
            table.load_style(presets::UTF8_FULL_CONDENSED);
            table.set_content_arrangement(ContentArrangement::Dynamic).set_width(118);
            table.set_header(["step", "what happened", "took", "where to look"]);
            for row in &self.rows {
                table.add_row(row);
            }
            self.output.text(&table.to_string())?;
            let verdict = if ok { "Every step succeeded" } else { "A STEP FAILED" };
            self.output.text(&format!("{verdict}, in {}. {files}", seconds(took)))?;
        }
        self.output.flush()?;
        Ok(ok)
    }
}

/// A number with commas between its thousands.
pub(super) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Tells who watches which step is at work.
fn eprint_line(name: &str) {
    crate::exit::complain(&format!("demo: {name} ..."));
}

fn seconds(took: Duration) -> String {
    format!("{:.2} s", took.as_secs_f64())
}

fn millis(took: Duration) -> u64 {
    u64::try_from(took.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped_by_thousands() {
        assert_eq!(grouped(0), "0");
        assert_eq!(grouped(999), "999");
        assert_eq!(grouped(1000), "1,000");
        assert_eq!(grouped(1_234_567), "1,234,567");
    }
}
