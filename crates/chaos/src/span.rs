//! Percentiles of what was timed.

use std::time::Duration;

/// The smallest span that `percent` of all do not exceed; `None` of nothing. Sorts them.
pub fn percentile(spans: &mut [Duration], percent: usize) -> Option<Duration> {
    spans.sort_unstable();
    let place = (spans.len() * percent).div_ceil(100).saturating_sub(1);
    spans.get(place).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_is_one_of_the_spans() {
        let mut spans: Vec<Duration> = (1..=200).rev().map(Duration::from_millis).collect();

        assert_eq!(percentile(&mut spans, 99), Some(Duration::from_millis(198)));
        assert_eq!(percentile(&mut spans, 50), Some(Duration::from_millis(100)));
        assert_eq!(percentile(&mut spans[..1], 99), Some(Duration::from_millis(1)));
        assert_eq!(percentile(&mut [], 99), None);
    }
}
