//! How work that can wait gives way to commits.
//!
//! A durable commit flushes the device, and the flush waits for all that was written before it, whoever wrote it; and a
//! thread that never rests is interrupted when the system likes, with a lock in its hand that commits need. So checkpoints
//! and cleaning rest after each of their steps, for about as long as the step took, while commits go on beside them: they
//! take twice as long, and no commit waits for more than a step.
//!
//! Measured: `docs/decisions/0015-work-that-gives-way.md`.

use std::time::Duration;

use logwood_base::{Clock, Lsn};

/// Bounds of one rest.
const REST: (Duration, Duration) = (Duration::from_micros(100), Duration::from_millis(2));

/// Commits go on when the last one became visible less than this ago.
const LATELY: Duration = Duration::from_millis(10);

/// How one piece of work alternates with commits.
#[derive(Debug)]
pub(crate) struct Pace {
    /// When the step in hand began.
    began: Duration,
    /// The newest visible commit that was seen, and when it was new.
    visible: Lsn,
    moved: Option<Duration>,
}

impl Pace {
    /// Work begins, with its first step.
    pub(crate) fn begin(clock: &dyn Clock, visible: Lsn) -> Self {
        Self { began: clock.monotonic(), visible, moved: None }
    }

    /// A step has ended. Answers how long to rest before the next one, if at all. The rest is over when
    /// [`Pace::go_on`] is called.
    pub(crate) fn rest(&mut self, clock: &dyn Clock, visible: Lsn) -> Option<Duration> {
        let now = clock.monotonic();
        if visible != self.visible {
            self.visible = visible;
            self.moved = Some(now);
        }
        let took = now.saturating_sub(self.began);
        self.began = now;
        let lately = self.moved.is_some_and(|moved| now.saturating_sub(moved) < LATELY);
        lately.then(|| took.clamp(REST.0, REST.1))
    }

    /// The next step begins.
    pub(crate) fn go_on(&mut self, clock: &dyn Clock) {
        self.began = clock.monotonic();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use logwood_base::environment::ManualClock;

    #[test]
    fn work_beside_commits_rests_for_as_long_as_its_step_took() {
        let clock = ManualClock::new(0);
        let mut pace = Pace::begin(&clock, Lsn(1));
        clock.advance(Duration::from_micros(300));
        assert_eq!(pace.rest(&clock, Lsn(2)), Some(Duration::from_micros(300)));
        clock.advance(Duration::from_millis(1));
        pace.go_on(&clock);
        clock.advance(Duration::from_micros(5));
        assert_eq!(pace.rest(&clock, Lsn(2)), Some(REST.0), "a commit became visible a moment ago");
        clock.advance(Duration::from_millis(5));
        assert_eq!(pace.rest(&clock, Lsn(3)), Some(REST.1));
    }

    #[test]
    fn work_that_no_commit_waits_beside_does_not_rest() {
        let clock = ManualClock::new(0);
        let mut pace = Pace::begin(&clock, Lsn(1));
        clock.advance(Duration::from_millis(1));
        assert_eq!(pace.rest(&clock, Lsn(1)), None);
        assert!(pace.rest(&clock, Lsn(2)).is_some());
        clock.advance(LATELY);
        assert_eq!(pace.rest(&clock, Lsn(2)), None, "the last commit is long ago");
    }
}
