//! What the benchmark prints: a table for people, one JSON object a line for programs.

use crate::bench::rows::Row;

/// How a row came out.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    Measured {
        value: f64,
        limit: Option<f64>,
    },
    /// What it needs is not here.
    Missing {
        reason: String,
    },
    Failed {
        reason: String,
    },
}

#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    pub row: Row,
    pub outcome: Outcome,
}

impl Report {
    fn ratio(&self) -> Option<f64> {
        match &self.outcome {
            Outcome::Measured { value, limit: Some(limit) } if *limit > 0.0 => Some(value / limit),
            Outcome::Measured { .. } | Outcome::Missing { .. } | Outcome::Failed { .. } => None,
        }
    }

    /// `None` when nothing was asked of the row.
    pub fn is_met(&self) -> Option<bool> {
        match (&self.outcome, self.row.goal()) {
            (Outcome::Missing { .. } | Outcome::Failed { .. }, _) => Some(false),
            (Outcome::Measured { .. }, None) => None,
            (Outcome::Measured { .. }, Some(goal)) => Some(self.ratio().is_some_and(|ratio| goal.is_met_by(ratio))),
        }
    }

    pub fn json(&self) -> String {
        let mut object = serde_json::Map::new();
        object.insert("row".to_owned(), self.row.name().into());
        match &self.outcome {
            Outcome::Measured { value, limit } => {
                object.insert("value".to_owned(), rounded(*value).into());
                object.insert("unit".to_owned(), self.row.unit().into());
                object.insert("limit".to_owned(), limit.map(rounded).into());
                object.insert("ratio".to_owned(), self.ratio().map(rounded).into());
            }
            Outcome::Missing { reason } => drop(object.insert("missing".to_owned(), reason.as_str().into())),
            Outcome::Failed { reason } => drop(object.insert("failed".to_owned(), reason.as_str().into())),
        }
        object.insert("goal".to_owned(), self.row.goal().map(|goal| goal.must).into());
        object.insert("aim".to_owned(), self.row.goal().map(|goal| goal.aim).into());
        object.insert("met".to_owned(), self.is_met().into());
        serde_json::Value::Object(object).to_string()
    }

    pub fn line(&self) -> String {
        let name = self.row.name();
        let (value, limit) = match &self.outcome {
            Outcome::Missing { reason } => return format!("{name:<16} missing: {reason}"),
            Outcome::Failed { reason } => return format!("{name:<16} failed: {reason}"),
            Outcome::Measured { value, limit } => (*value, *limit),
        };
        let measured = format!("{name:<16} {value:>10.2} {:<13}", self.row.unit());
        let (Some(limit), Some(ratio), Some(goal)) = (limit, self.ratio(), self.row.goal()) else {
            return measured.trim_end().to_owned();
        };
        let sign = if goal.less_is_better { "<=" } else { ">=" };
        let verdict = match (goal.is_exceeded_by(ratio), goal.is_met_by(ratio)) {
            (true, _) => "aim met",
            (false, true) => "met",
            (false, false) => "NOT MET",
        };
        format!(
            "{measured} {limit:>10.2}  {ratio:>5.2}x  {sign} {:.2} (aim {:.2})  {verdict}   to: {}",
            goal.must,
            goal.aim,
            self.row.limit().unwrap_or_default()
        )
    }
}

/// Four decimals: more than any of these measurements can tell.
fn rounded(value: f64) -> f64 {
    (value * 10_000.0).round() / 10_000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_that_is_missing_is_not_met() {
        let report = Report { row: Row::Postgres64, outcome: Outcome::Missing { reason: "no pgbench".to_owned() } };

        assert_eq!(report.is_met(), Some(false));
        assert_eq!(report.line(), "postgres-64      missing: no pgbench");
    }

    #[test]
    fn a_latency_is_met_from_below() {
        let of = |value| Report { row: Row::Sqlite1, outcome: Outcome::Measured { value, limit: Some(1.0) } };

        assert_eq!(of(1.4).is_met(), Some(true));
        assert_eq!(of(1.6).is_met(), Some(false));
    }
}
