//! Times of entries, as people read them.

pub use logwood::archive::utc;

/// Milliseconds since 1970 of a time as RFC 3339 writes it: `2026-01-31T23:59:59Z`, with a fraction of a second and an
/// offset (`+01:00`) where there are any. `None` for what is none, or lies before 1970.
#[must_use]
pub fn parse(text: &str) -> Option<u64> {
    let (date, rest) = text.split_once(['T', 't', ' '])?;
    let [year, month, day] = numbers(date, '-', [4, 2, 2])?;
    let zone = rest.find(['Z', 'z', '+', '-'])?;
    let (clock, zone) = rest.split_at(zone);
    let (clock, fraction) = clock.split_once('.').unwrap_or((clock, "0"));
    let [hour, minute, second] = numbers(clock, ':', [2, 2, 2])?;
    if fraction.is_empty() || !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    // Digits behind the third are less than a millisecond.
    let ms: u64 = format!("{fraction:0<3}")[..3].parse().ok()?;
    let offset_minutes = match zone {
        "Z" | "z" => 0,
        zone => {
            let [hours, minutes] = numbers(&zone[1..], ':', [2, 2])?;
            if hours > 23 || minutes > 59 {
                return None;
            }
            let offset = i64::try_from(hours * 60 + minutes).ok()?;
            if zone.starts_with('-') { -offset } else { offset }
        }
    };
    let leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let days = match month {
        2 => 28 + u64::from(leap),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    };
    let is_time =
        (1..=12).contains(&month) && (1..=days).contains(&day) && hour < 24 && minute < 60 && second < 61;
    if !is_time || year < 1970 {
        return None;
    }
    // The days of the months before, as if years began in March.
    let (from_march, year_from_march) = if month > 2 { (month - 3, year) } else { (month + 9, year - 1) };
    let days_before =
        365 * year_from_march + year_from_march / 4 - year_from_march / 100 + year_from_march / 400;
    let days = days_before + (153 * from_march + 2) / 5 + day - 1 - 719_468;
    let minutes = i64::try_from((days * 24 + hour) * 60 + minute).ok()? - offset_minutes;
    Some((u64::try_from(minutes).ok()? * 60 + second) * 1000 + ms)
}

/// A duration: a number and `s`, `m`, `h` or `d`. `None` for what is none.
#[must_use]
pub fn duration(text: &str) -> Option<std::time::Duration> {
    let unit = text.chars().next_back()?;
    let seconds = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3600,
        'd' => 86_400,
        _ => return None,
    };
    let number = &text[..text.len() - 1];
    let plain = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    let number = plain.then(|| number.parse::<u64>().ok()).flatten()?;
    number.checked_mul(seconds).map(std::time::Duration::from_secs)
}

/// Numbers of so many digits each, between separators.
fn numbers<const N: usize>(text: &str, separator: char, digits: [usize; N]) -> Option<[u64; N]> {
    let mut found = [0; N];
    let mut parts = text.split(separator);
    for (number, digits) in found.iter_mut().zip(digits) {
        let part = parts.next()?;
        let plain = part.len() == digits && part.bytes().all(|byte| byte.is_ascii_digit());
        *number = plain.then(|| part.parse().ok()).flatten()?;
    }
    parts.next().is_none().then_some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_printed_is_read() {
        for ms in (0..4_200_000_000_000).step_by(86_400_001 * 7) {
            assert_eq!(parse(&utc(ms)), Some(ms), "{}", utc(ms));
        }
        assert_eq!(parse("1970-01-01T01:00:00+01:00"), Some(0));
        assert_eq!(parse("1969-12-31T23:30:00-00:30"), None);
        assert_eq!(parse("1970-01-01T00:00:00.5Z"), Some(500));
        assert_eq!(parse("2000-02-29t00:00:00.1239z"), Some(951_782_400_123));
        for wrong in [
            "",
            "2026",
            "2026-01-31",
            "2026-02-30T00:00:00Z",
            "2026-01-31T24:00:00Z",
            "2026-01-31T00:00:00",
            "2026-01-31T00:00:00.Z",
            "2026-1-31T00:00:00Z",
            "2026-01-31T00:00:00+1",
            "2026-01-31T00:00:00+99:99",
            "2026-01-31T00:00:00+24:00",
            "2026-01-31T00:00:00-23:60",
        ] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn durations_have_a_unit() {
        assert_eq!(duration("35d"), Some(std::time::Duration::from_secs(35 * 86_400)));
        assert_eq!(duration("90s").map(|found| found.as_secs()), Some(90));
        for wrong in ["", "5", "d", "-5d", "5 d", "5w", "99999999999999999999d"] {
            assert_eq!(duration(wrong), None, "{wrong}");
        }
    }
}
