//! Running a transaction until it commits.

use std::time::Duration;

use logwood_base::sync::Arc;
use logwood_base::{Environment, Error, Result};
use logwood_wal::Durability;

use super::Transaction;
use crate::core::Handle;

/// How [`Database::transact`](crate::Database::transact) goes about it.
///
/// ```
/// use std::time::Duration;
/// use logwood::{Durability, TransactOptions};
/// let options = TransactOptions::new()
///     .durability(Durability::Buffered)
///     .attempts_max(5)
///     .delay_max(Duration::from_millis(2));
/// # let _ = options;
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TransactOptions {
    durability: Option<Durability>,
    attempts_max: u32,
    delay_min: Duration,
    delay_max: Duration,
}

impl Default for TransactOptions {
    fn default() -> Self {
        Self {
            durability: None,
            attempts_max: 20,
            delay_min: Duration::from_micros(50),
            delay_max: Duration::from_millis(20),
        }
    }
}

impl TransactOptions {
    /// The defaults.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// What the commit promises. Default: [`Options::durability`](crate::Options::durability).
    #[must_use]
    pub const fn durability(mut self, durability: Durability) -> Self {
        self.durability = Some(durability);
        self
    }

    /// Most times that the transaction is run, the first one included; at least once. Default: 20.
    #[must_use]
    pub const fn attempts_max(mut self, attempts: u32) -> Self {
        self.attempts_max = attempts;
        self
    }

    /// Bound of the random delay before the third attempt; it doubles with each one. There is none before the second.
    /// Default: 50 µs.
    #[must_use]
    pub const fn delay_min(mut self, delay: Duration) -> Self {
        self.delay_min = delay;
        self
    }

    /// Longest delay between two attempts. Default: 20 ms.
    #[must_use]
    pub const fn delay_max(mut self, delay: Duration) -> Self {
        self.delay_max = delay;
        self
    }

    /// The delay before an attempt, counted from 1: drawn from zero up to a bound that doubles.
    fn delay(&self, attempt: u32, environment: &Environment) -> Duration {
        let Some(doublings) = attempt.checked_sub(3) else { return Duration::ZERO };
        let bound = self.delay_min.saturating_mul(1 << doublings.min(20)).min(self.delay_max);
        let nanos = u64::try_from(bound.as_nanos()).unwrap_or(u64::MAX);
        Duration::from_nanos(if nanos == 0 { 0 } else { environment.random.u64() % nanos })
    }
}

/// Runs `work` in transactions until one commits.
pub(crate) fn transact<R, E: From<Error>>(
    core: &Arc<Handle>,
    options: TransactOptions,
    mut work: impl FnMut(&mut Transaction) -> Result<R, E>,
) -> Result<R, E> {
    let durability = options.durability.unwrap_or(core.options.durability);
    let mut attempt = 1;
    loop {
        let mut transaction = Transaction::begin(core);
        let result = work(&mut transaction)?;
        let error = match transaction.commit(durability) {
            Ok(_) => return Ok(result),
            Err(error) => error,
        };
        let again = matches!(error, Error::Conflict(_) | Error::TooOld { .. });
        if !again || attempt >= options.attempts_max {
            return Err(error.into());
        }
        attempt += 1;
        let delay = options.delay(attempt, &core.environment);
        if !delay.is_zero() {
            core.environment.clock.sleep(delay);
        }
        // What is applied and not visible yet would be a conflict again, unseen by the next attempt.
        core.publisher.settle().map_err(|error| core.write_failed(error))?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::world::World;

    #[test]
    fn delays_are_random_below_a_bound_that_doubles_up_to_the_longest() {
        let environment = World::new(1).environment();
        let options =
            TransactOptions::new().delay_min(Duration::from_micros(100)).delay_max(Duration::from_millis(1));
        let longest = |attempt| (0..200).map(|_| options.delay(attempt, &environment)).max().unwrap();
        assert_eq!((longest(1), longest(2)), (Duration::ZERO, Duration::ZERO));
        for (attempt, bound_us) in [(3, 100), (4, 200), (5, 400), (7, 1000), (400, 1000)] {
            let longest = longest(attempt).as_micros();
            assert!(longest < bound_us && longest > bound_us * 3 / 4, "attempt {attempt}: {longest} µs");
        }
        assert_eq!(options.delay_max(Duration::ZERO).delay(9, &environment), Duration::ZERO);
    }
}
