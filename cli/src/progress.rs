//! A progress bar on stderr, for work that takes more than a second and somebody who watches.
//!
//! Nothing is drawn unless stderr is a terminal, nor within the first second, so that scripts and quick commands see
//! nothing of it. [`Progress`] is drawn by the working thread itself, at most ten times a second; [`Waiting`] by a thread
//! of its own, for work that does not tell how far it is.

use std::io::{IsTerminal, stderr};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use logwood_base::Clock;
use logwood_base::environment::SystemClock;

/// Work shorter than this shows no bar.
const QUIET: Duration = Duration::from_secs(1);

/// How often a bar is drawn at most, each second.
const HERTZ: u8 = 10;

/// The progress of one piece of work.
pub struct Progress {
    clock: Arc<dyn Clock>,
    began: Duration,
    bar: Option<ProgressBar>,
    /// Where to draw, until it is drawn; `None` when nobody watches.
    target: Option<ProgressDrawTarget>,
    /// What is counted, and how many there are when that is known.
    unit: &'static str,
    total: Option<u64>,
}

impl Progress {
    /// Begins work whose units are counted as `unit`, `total` of them when that is known.
    #[must_use]
    pub fn new(unit: &'static str, total: Option<u64>) -> Self {
        let target = stderr().is_terminal().then(|| ProgressDrawTarget::stderr_with_hz(HERTZ));
        Self::on(target, Arc::new(SystemClock::new()), unit, total)
    }

    fn on(
        target: Option<ProgressDrawTarget>,
        clock: Arc<dyn Clock>,
        unit: &'static str,
        total: Option<u64>,
    ) -> Self {
        Self { began: clock.monotonic(), clock, bar: None, target, unit, total }
    }

    /// Tells how far the work is.
    pub fn at(&mut self, position: u64) {
        if self.target.is_some() {
            let elapsed = self.clock.monotonic().saturating_sub(self.began);
            if elapsed >= QUIET {
                self.bar = self.target.take().map(|target| self.draw(target, elapsed));
            }
        }
        if let Some(bar) = &self.bar {
            bar.set_position(position);
        }
    }

    fn draw(&self, target: ProgressDrawTarget, elapsed: Duration) -> ProgressBar {
        let bar = ProgressBar::with_draw_target(self.total, target).with_elapsed(elapsed);
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

/// The progress of work that is done in steps, each with a bar of its own: to be told from any thread.
pub struct Steps<S>(Mutex<Option<(S, Progress)>>);

impl<S> Default for Steps<S> {
    fn default() -> Self {
        Self(Mutex::new(None))
    }
}

impl<S: PartialEq> Steps<S> {
    /// Tells that `step` has come to `done` of `total` units; of a total of 0 nothing is known.
    pub fn at(&self, step: S, unit: &'static str, done: u64, total: u64) {
        let Ok(mut shown) = self.0.lock() else { return };
        if shown.as_ref().is_none_or(|(before, _)| *before != step) {
            *shown = Some((step, Progress::new(unit, (total > 0).then_some(total))));
        }
        if let Some((_, progress)) = shown.as_mut() {
            progress.at(done);
        }
        // Its bar goes before anything else is printed.
        if total > 0 && done >= total {
            *shown = None;
        }
    }
}

/// A sign on the terminal that work goes on, until it is dropped.
#[must_use = "the sign goes when it is dropped"]
pub struct Waiting(Option<(Sender<()>, JoinHandle<()>)>);

impl Waiting {
    /// Begins to wait for `what`, as "writing a checkpoint".
    #[expect(clippy::disallowed_methods, reason = "what is waited for has this thread")]
    pub fn new(what: &'static str) -> Self {
        if !stderr().is_terminal() {
            return Self(None);
        }
        let (end, ended) = channel();
        let thread = thread::spawn(move || {
            if ended.recv_timeout(QUIET) == Err(RecvTimeoutError::Timeout) {
                let target = ProgressDrawTarget::stderr_with_hz(HERTZ);
                let bar = ProgressBar::with_draw_target(None, target).with_elapsed(QUIET).with_message(what);
                let bar = match ProgressStyle::with_template("{elapsed} {spinner} {msg}") {
                    Ok(style) => bar.with_style(style),
                    Err(_) => bar,
                };
                while ended.recv_timeout(Duration::from_secs(1) / u32::from(HERTZ))
                    == Err(RecvTimeoutError::Timeout)
                {
                    bar.tick();
                }
                bar.finish_and_clear();
            }
        });
        Self(Some((end, thread)))
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if let Some((end, thread)) = self.0.take() {
            drop(end);
            // What it drew is gone before anything else is printed.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use indicatif::TermLike;
    use logwood_base::environment::ManualClock;

    use super::*;

    /// Keeps what is written to it.
    #[derive(Clone, Default, Debug)]
    struct Terminal(Arc<Mutex<String>>);

    impl TermLike for Terminal {
        fn width(&self) -> u16 {
            100
        }
        fn move_cursor_up(&self, _: usize) -> io::Result<()> {
            Ok(())
        }
        fn move_cursor_down(&self, _: usize) -> io::Result<()> {
            Ok(())
        }
        fn move_cursor_right(&self, _: usize) -> io::Result<()> {
            Ok(())
        }
        fn move_cursor_left(&self, _: usize) -> io::Result<()> {
            Ok(())
        }
        fn write_line(&self, text: &str) -> io::Result<()> {
            self.write_str(text)
        }
        fn write_str(&self, text: &str) -> io::Result<()> {
            self.0.lock().unwrap().push_str(text);
            Ok(())
        }
        fn clear_line(&self) -> io::Result<()> {
            Ok(())
        }
        fn flush(&self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_bar_is_drawn_after_a_second_for_somebody_who_watches() {
        let (terminal, clock) = (Terminal::default(), Arc::new(ManualClock::new(0)));
        let target = || ProgressDrawTarget::term_like(Box::new(terminal.clone()));
        let unwatched = Progress::on(None, clock.clone(), "records", None);
        let mut both = [unwatched, Progress::on(Some(target()), clock.clone(), "records", Some(1_000))];
        let mut work = |position: u64| {
            both.iter_mut().for_each(|progress| progress.at(position));
            terminal.0.lock().unwrap().clone()
        };
        assert_eq!(work(0), "", "nothing in the first second");
        clock.advance(QUIET);
        // One call is enough: what is counted by whole files calls seldom.
        let drawn = work(300);
        assert!(drawn.contains("records of 1,000"), "{drawn}");
    }
}
