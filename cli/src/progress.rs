//! A progress bar on stderr, for work that takes more than a second and somebody who watches.
//!
//! Nothing is drawn unless stderr is a terminal, nor within the first second, so that scripts and quick commands see
//! nothing of it. It is drawn by the working thread itself, at most ten times a second.

use std::io::{IsTerminal, stderr};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use logwood_base::Clock;
use logwood_base::environment::SystemClock;

/// Work shorter than this shows no bar.
const QUIET: Duration = Duration::from_secs(1);

/// How often the clock is asked: not on each of a million records.
const UNITS_PER_LOOK: u64 = 64;

/// The progress of one piece of work.
pub struct Progress {
    clock: SystemClock,
    bar: Option<ProgressBar>,
    /// What is counted, and how many there are when that is known.
    unit: &'static str,
    total: Option<u64>,
    looks: u64,
    watched: bool,
}

impl Progress {
    /// Begins work whose units are counted as `unit`, `total` of them when that is known.
    #[must_use]
    pub fn new(unit: &'static str, total: Option<u64>) -> Self {
        let watched = stderr().is_terminal();
        Self { clock: SystemClock::new(), bar: None, unit, total, looks: 0, watched }
    }

    /// Tells how far the work is.
    pub fn at(&mut self, position: u64) {
        self.looks += 1;
        if !self.watched || (self.bar.is_none() && !self.looks.is_multiple_of(UNITS_PER_LOOK)) {
            return;
        }
        if self.bar.is_none() && self.clock.monotonic() >= QUIET {
            self.bar = Some(self.draw());
        }
        if let Some(bar) = &self.bar {
            bar.set_position(position);
        }
    }

    fn draw(&self) -> ProgressBar {
        let target = ProgressDrawTarget::stderr_with_hz(10);
        let bar = ProgressBar::with_draw_target(self.total, target).with_elapsed(self.clock.monotonic());
        let (done, total, rate) = match self.unit {
            "bytes" => ("{bytes}".to_owned(), "{total_bytes}", "{bytes_per_sec}"),
            unit => (format!("{{human_pos}} {unit}"), "{human_len}", "{per_sec}"),
        };
        let template = if self.total.is_some() {
            format!("{{elapsed}} {{wide_bar}} {done} of {total}, {rate}, {{eta}} left")
        } else {
            format!("{{elapsed}} {{spinner}} {done}, {rate}")
        };
        match ProgressStyle::with_template(&template) {
            Ok(style) => bar.with_style(style),
            Err(_) => bar,
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
