//! Durations and sizes as people write them: `15m`, `1h30m`, `2MiB`.

use std::time::Duration;

/// Largest first: a duration names each unit at most once, in this order.
const DURATION_UNITS: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)];
const SIZE_UNITS: [(&str, u64); 4] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];

/// Reads `1h30m`, `20s`, `500ms`. `None` for anything else, and for what does not fit.
pub fn parse_duration(text: &str) -> Option<Duration> {
    let mut units = DURATION_UNITS.iter();
    let mut total: u64 = 0;
    let mut rest = text;
    loop {
        let (number, after) = leading_number(rest)?;
        let end = after.find(|c: char| c.is_ascii_digit()).unwrap_or(after.len());
        let (unit, next) = after.split_at(end);
        let (_, factor) = units.find(|(name, _)| *name == unit)?;
        total = total.checked_add(number.checked_mul(*factor)?)?;
        if next.is_empty() {
            return Some(Duration::from_millis(total));
        }
        rest = next;
    }
}

/// Writes a duration as [`parse_duration`] reads it; parts of a millisecond are dropped.
pub fn render_duration(duration: Duration) -> String {
    let mut left = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    if left == 0 {
        return "0s".to_owned();
    }
    let mut text = String::new();
    for (unit, factor) in DURATION_UNITS {
        if left >= factor {
            text.push_str(&format!("{}{unit}", left / factor));
            left %= factor;
        }
    }
    text
}

/// Reads `2MiB`, `512KiB`, `100B`.
pub fn parse_size(text: &str) -> Option<u64> {
    let (number, unit) = leading_number(text)?;
    let (_, factor) = SIZE_UNITS.iter().find(|(name, _)| *name == unit)?;
    number.checked_mul(*factor)
}

fn leading_number(text: &str) -> Option<(u64, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, rest) = text.split_at(end);
    Some((digits.parse().ok()?, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_and_written() {
        for (text, millis) in [
            ("15m", 900_000),
            ("20s", 20_000),
            ("24h", 86_400_000),
            ("1h30m", 5_400_000),
            ("500ms", 500),
            ("1d2h3m4s5ms", 93_784_005),
            ("0s", 0),
            ("1m1ms", 60_001),
        ] {
            assert_eq!(parse_duration(text), Some(Duration::from_millis(millis)), "{text}");
            assert_eq!(
                parse_duration(&render_duration(Duration::from_millis(millis))),
                Some(Duration::from_millis(millis))
            );
        }
        assert_eq!(render_duration(Duration::from_secs(5400)), "1h30m");
    }

    #[test]
    fn other_texts_are_no_durations() {
        for text in [
            "",
            "15",
            "m",
            "15 m",
            "-1s",
            "1.5h",
            "30m1h",
            "1h1h",
            "1H",
            "99999999999999999999s",
            "999999999999999999d",
            "1h ",
            "１h",
        ] {
            assert_eq!(parse_duration(text), None, "{text}");
        }
    }

    #[test]
    fn sizes_are_read() {
        assert_eq!(parse_size("2MiB"), Some(2 << 20));
        assert_eq!(parse_size("512KiB"), Some(512 << 10));
        assert_eq!(parse_size("1GiB"), Some(1 << 30));
        assert_eq!(parse_size("100B"), Some(100));
        for text in ["", "2", "2MB", "2mib", "MiB", "-1B", "1 MiB", "99999999999999GiB"] {
            assert_eq!(parse_size(text), None, "{text}");
        }
    }
}
