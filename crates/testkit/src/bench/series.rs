//! What a row gave, round after round, and the middle of it.

use std::time::Duration;

use crate::bench::report::{Figure, Outcome, Report};

/// One measurement of a row, with its limit when it has one.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sample {
    pub value: f64,
    pub limit: Option<f64>,
    /// What explains the figure; the last one is printed.
    pub note: Option<String>,
}

/// Why there is no measurement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unmeasured {
    /// What it needs is not here.
    Missing(String),
    Failed(String),
}

impl From<f64> for Sample {
    fn from(value: f64) -> Self {
        Self { value, ..Self::default() }
    }
}

impl Sample {
    /// A measurement beside its limit.
    pub fn beside(value: f64, limit: f64) -> Self {
        Self { value, limit: Some(limit), note: None }
    }

    #[must_use]
    pub fn noting(mut self, note: String) -> Self {
        self.note = Some(note);
        self
    }
}

impl From<String> for Unmeasured {
    fn from(reason: String) -> Self {
        Self::Failed(reason)
    }
}

impl From<&str> for Unmeasured {
    fn from(reason: &str) -> Self {
        Self::Failed(reason.to_owned())
    }
}

/// The measurements of one row.
#[derive(Clone, Debug, Default)]
pub struct Series {
    values: Vec<f64>,
    limits: Vec<f64>,
    note: Option<String>,
    ended: Option<Unmeasured>,
}

impl Series {
    /// Whether measuring again is of no use.
    pub fn has_ended(&self) -> bool {
        self.ended.is_some()
    }

    pub fn push(&mut self, measured: Result<Sample, Unmeasured>) {
        match measured {
            Ok(sample) => {
                self.values.push(sample.value);
                self.limits.extend(sample.limit);
                self.note = sample.note.or(self.note.take());
            }
            Err(why) => self.ended = Some(why),
        }
    }

    /// The medians; a row that failed once has failed.
    pub fn report(&self, figure: Figure) -> Report {
        let outcome = match (&self.ended, median(&mut self.values.clone())) {
            (Some(Unmeasured::Missing(reason)), _) => Outcome::Missing { reason: reason.clone() },
            (Some(Unmeasured::Failed(reason)), _) => Outcome::Failed { reason: reason.clone() },
            (None, None) => Outcome::Failed { reason: "nothing was measured".to_owned() },
            (None, Some(value)) => Outcome::Measured { value, limit: median(&mut self.limits.clone()) },
        };
        Report { figure, outcome, note: self.note.clone() }
    }
}

pub fn median(values: &mut [f64]) -> Option<f64> {
    quantile(values, 0.5)
}

/// The value that this share of all of them does not exceed.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "there are thousands of values, not quadrillions"
)]
pub fn quantile(values: &mut [f64], share: f64) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let last = values.len().checked_sub(1)?;
    values.get((last as f64 * share).ceil() as usize).copied()
}

pub fn milliseconds(span: Duration) -> f64 {
    span.as_secs_f64() * 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::rows::Row;

    #[test]
    fn a_quantile_is_a_value_that_was_measured() {
        let mut values: Vec<f64> = (1..=100).rev().map(f64::from).collect();

        assert_eq!(quantile(&mut values, 0.99), Some(100.0));
        assert_eq!(quantile(&mut values, 0.5), Some(51.0));
        assert_eq!(quantile(&mut [], 0.5), None);
    }

    #[test]
    fn one_failure_fails_the_row_whatever_was_measured_before() {
        let mut series = Series::default();
        series.push(Ok(Sample::beside(3.0, 2.0)));
        series.push(Err("it ended".into()));

        let report = series.report(Row::Sqlite1.figure());

        assert_eq!(report.outcome, Outcome::Failed { reason: "it ended".to_owned() });
        assert!(series.has_ended());
    }

    #[test]
    fn medians_of_values_and_limits_are_compared() {
        let mut series = Series::default();
        for (value, limit) in [(1.0, 4.0), (9.0, 6.0), (2.0, 5.0)] {
            series.push(Ok(Sample::beside(value, limit)));
        }

        let report = series.report(Row::Sqlite1.figure());

        assert_eq!(report.outcome, Outcome::Measured { value: 2.0, limit: Some(5.0) });
    }
}
