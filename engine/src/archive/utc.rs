//! Times of entries, as people read them.

/// Milliseconds since 1970 as `2026-01-31T23:59:59.000Z`, the form of RFC 3339. Any number is a time; behind the year 9999 it has
/// more digits.
///
/// ```
/// assert_eq!(logwood::archive::utc(1_769_903_999_000), "2026-01-31T23:59:59.000Z");
/// ```
#[must_use]
pub fn utc(ms: u64) -> String {
    let (days, of_day) = (ms / 86_400_000, ms % 86_400_000);
    let (year, month, day) = civil(days);
    let (seconds, ms) = (of_day / 1000, of_day % 1000);
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{ms:03}Z")
}

/// Year, month and day of a number of days since 1970.
///
/// Years are taken to begin in March, so that the leap day is their last: a day of the year then gives its month by
/// a straight line, and four hundred years always have the same number of days.
fn civil(days: u64) -> (u64, u64, u64) {
    const DAYS_OF_400_YEARS: u64 = 146_097;
    // From the first of March of the year 0.
    let days = days + 719_468;
    let (era, day_of_era) = (days / DAYS_OF_400_YEARS, days % DAYS_OF_400_YEARS);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = 400 * era + year_of_era + u64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_those_of_the_calendar() {
        assert_eq!(utc(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(utc(951_782_399_999), "2000-02-28T23:59:59.999Z");
        assert_eq!(utc(951_782_400_000), "2000-02-29T00:00:00.000Z");
        assert_eq!(utc(1_735_689_599_001), "2024-12-31T23:59:59.001Z");
        assert_eq!(utc(4_107_542_400_000), "2100-03-01T00:00:00.000Z");
        // Any time that a damaged entry may claim is a time.
        assert!(utc(u64::MAX).ends_with('Z'));
    }

    #[test]
    fn days_follow_each_other() {
        let mut before = (1969, 12, 31);
        for day in 0..100_000 {
            let next = civil(day);
            let (year, month, of_month) = next;
            let follows = (before.0, before.1, before.2 + 1) == next
                || (before.0, before.1 + 1, 1) == next
                || (before.0 + 1, 1, 1) == next;
            assert!(follows && (1..=12).contains(&month) && (1..=31).contains(&of_month) && year < 2300);
            before = next;
        }
    }
}
