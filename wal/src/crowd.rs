//! How many commit at the same time: what decides how many should share a write (see [`crate::commit`]).

/// Appends that wait for a durable write, now and lately.
#[derive(Debug, Default)]
pub(crate) struct Crowd {
    /// In flight now.
    in_flight: usize,
    /// The greatest number that was in flight and queued at once, forgotten by an eighth with every write.
    lately: usize,
}

impl Crowd {
    /// How many there were at once lately.
    pub(crate) fn appends(&self) -> usize {
        self.lately
    }

    /// A write was submitted for `appends` of them, and `queued` stay behind.
    pub(crate) fn submitted(&mut self, appends: usize, queued: usize) {
        self.in_flight += appends;
        self.lately = (self.lately - self.lately.div_ceil(8)).max(self.in_flight + queued);
    }

    /// A write was acknowledged.
    pub(crate) fn came_home(&mut self, appends: usize) {
        self.in_flight -= appends;
    }
}

/// Among how many writes a crowd is shared out: one more than there are processors to prepare them, because a write
/// needs its thread at both ends only.
pub(crate) fn writes_wanted(batches_in_flight_max: usize) -> usize {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    (processors + 1).min(batches_in_flight_max).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crowd_is_noticed_at_once_and_forgotten_write_by_write() {
        let mut crowd = Crowd::default();
        crowd.submitted(1, 31);
        assert_eq!(crowd.appends(), 32);
        crowd.came_home(1);
        let mut writes = 0;
        while crowd.appends() > 1 {
            crowd.submitted(1, 0);
            crowd.came_home(1);
            writes += 1;
        }
        assert!((12..20).contains(&writes), "forgotten after {writes} lone writes");
        crowd.submitted(1, 0);
        assert_eq!(crowd.appends(), 1, "a lone thread is its own crowd");
    }

    #[test]
    fn no_more_writes_are_wanted_than_batches_may_be_in_flight() {
        assert_eq!(writes_wanted(1), 1);
        assert!((2..=8).contains(&writes_wanted(8)));
    }
}
