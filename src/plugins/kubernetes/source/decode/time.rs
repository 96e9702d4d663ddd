//! Times as annotations have them.

/// An RFC 3339 time in Unix nanoseconds; `None` if it is none, or before 1970.
pub(super) fn rfc3339(text: &str) -> Option<u64> {
    let bytes = text.as_bytes();
    let number = |from: usize, to: usize| -> Option<i64> {
        let digits = bytes.get(from..to)?;
        let all = digits.iter().all(u8::is_ascii_digit);
        all.then(|| digits.iter().fold(0, |n, d| n * 10 + i64::from(d - b'0')))
    };
    let is = |at: usize, wanted: &[u8]| bytes.get(at).is_some_and(|b| wanted.contains(b));
    let marks = is(4, b"-") && is(7, b"-") && is(10, b"Tt ") && is(13, b":") && is(16, b":");
    if !marks {
        return None;
    }
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) || hour > 23 || minute > 59 {
        return None;
    }
    let mut at = 19;
    let mut nanos = 0;
    if is(at, b".") {
        let digits = bytes[at + 1..].iter().take_while(|b| b.is_ascii_digit());
        let count = digits.count();
        let kept = count.min(9);
        nanos = number(at + 1, at + 1 + kept)? * 10_i64.pow(9 - kept as u32);
        at += 1 + count;
    }
    let offset = match bytes.get(at)? {
        b'Z' | b'z' if bytes.len() == at + 1 => 0,
        sign @ (b'+' | b'-') if bytes.len() == at + 6 && is(at + 3, b":") => {
            let seconds = number(at + 1, at + 3)? * 3600 + number(at + 4, at + 6)? * 60;
            if *sign == b'-' { -seconds } else { seconds }
        }
        _ => return None,
    };
    let days = days_since_1970(year, month, day);
    let seconds = days * 86_400 + hour * 3600 + minute * 60 + second - offset;
    u64::try_from(seconds.checked_mul(1_000_000_000)?.checked_add(nanos)?).ok()
}

/// Days of the proleptic Gregorian calendar, counted in years that begin in March, so that the
/// leap day is the last of its year.
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let (year, month) = match month {
        1 | 2 => (year - 1, month + 9),
        _ => (year, month - 3),
    };
    let leap_days = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    // Days from 1 March 0000 to 1 January 1970.
    const EPOCH: i64 = 719_468;
    year * 365 + leap_days + (month * 153 + 2) / 5 + day - 1 - EPOCH
}

#[cfg(test)]
mod tests {
    use super::rfc3339;

    #[test]
    fn reads_times() {
        let second = 1_000_000_000;
        assert_eq!(rfc3339("1970-01-01T00:00:00Z"), Some(0));
        assert_eq!(
            rfc3339("2024-02-29T12:34:56.789Z"),
            Some(1_709_210_096 * second + 789_000_000)
        );
        assert_eq!(
            rfc3339("2024-02-29T14:34:56.123456789123+02:00"),
            Some(1_709_210_096 * second + 123_456_789)
        );
        assert_eq!(
            rfc3339("2026-11-21T00:00:00-00:30"),
            rfc3339("2026-11-21T00:30:00Z")
        );
    }

    #[test]
    fn refuses_what_is_no_time() {
        for text in [
            "",
            "2024",
            "2024-02-29T12:34:56",
            "2024-13-29T12:34:56Z",
            "2024-02-29T12:34:56Zx",
            "1969-12-31T23:59:59Z",
            "9999-12-31T23:59:59Z",
            "2024-02-29T12:34:56+0200",
            "٢٠٢٤-02-29T12:34:56Z",
        ] {
            assert_eq!(rfc3339(text), None, "{text}");
        }
    }
}
