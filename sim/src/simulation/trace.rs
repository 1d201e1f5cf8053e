//! What happened: a hash of all of it, and its last lines.

use std::collections::{BTreeMap, VecDeque};
use std::hash::{DefaultHasher, Hasher};

/// How many lines a failure shows.
const LINES: usize = 60;

/// A running trace.
#[derive(Default)]
pub struct Trace {
    hasher: DefaultHasher,
    lines: VecDeque<String>,
    counts: BTreeMap<&'static str, u64>,
    step: u64,
}

impl Trace {
    /// Takes a line in.
    pub fn note(&mut self, line: &str) {
        self.hasher.write(line.as_bytes());
        self.hasher.write_u8(b'\n');
        self.lines.push_back(format!("{:>4} {line}", self.step));
        if self.lines.len() > LINES {
            self.lines.pop_front();
        }
    }

    /// Counts an event.
    pub fn count(&mut self, what: &'static str) {
        *self.counts.entry(what).or_default() += 1;
    }

    /// The next step begins.
    pub fn next_step(&mut self) {
        self.step += 1;
    }

    /// Hash of everything so far.
    #[must_use]
    pub fn hash(&self) -> u64 {
        self.hasher.finish()
    }

    /// How often what happened.
    #[must_use]
    pub fn counts(&self) -> Vec<(&'static str, u64)> {
        self.counts.iter().map(|(what, count)| (*what, *count)).collect()
    }

    /// The last lines.
    #[must_use]
    pub fn tail(&self) -> Vec<String> {
        self.lines.iter().cloned().collect()
    }
}
