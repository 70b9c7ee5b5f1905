//! What the benchmark prints: a table for people, one JSON object a line for programs.

/// A figure, and what is asked of it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Figure {
    pub name: &'static str,
    pub unit: &'static str,
    /// What the value is compared with.
    pub limit: Option<&'static str>,
    pub goal: Goal,
}

/// What a figure has to reach: at least `must`, hopefully `aim`; or at most, when less is better. It is asked of the ratio
/// to the figure's limit, or of the value itself where there is none.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Goal {
    pub must: f64,
    pub aim: f64,
    pub less_is_better: bool,
}

impl Goal {
    pub fn is_met_by(self, reached: f64) -> bool {
        if self.less_is_better { reached <= self.must } else { reached >= self.must }
    }

    pub fn is_exceeded_by(self, reached: f64) -> bool {
        if self.less_is_better { reached <= self.aim } else { reached >= self.aim }
    }
}

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
    pub figure: Figure,
    pub outcome: Outcome,
    /// What explains the figure.
    pub note: Option<String>,
}

impl Report {
    fn ratio(&self) -> Option<f64> {
        match &self.outcome {
            Outcome::Measured { value, limit: Some(limit) } if *limit > 0.0 => Some(value / limit),
            Outcome::Measured { .. } | Outcome::Missing { .. } | Outcome::Failed { .. } => None,
        }
    }

    /// What the goal is asked of.
    fn reached(&self) -> Option<f64> {
        match (&self.outcome, self.figure.limit) {
            (Outcome::Measured { .. }, Some(_)) => self.ratio(),
            (Outcome::Measured { value, .. }, None) => Some(*value),
            (Outcome::Missing { .. } | Outcome::Failed { .. }, _) => None,
        }
    }

    /// A row that is missing or has failed is not met.
    pub fn is_met(&self) -> bool {
        self.reached().is_some_and(|reached| self.figure.goal.is_met_by(reached))
    }

    pub fn json(&self) -> String {
        let mut object = serde_json::Map::new();
        object.insert("row".to_owned(), self.figure.name.into());
        match &self.outcome {
            Outcome::Measured { value, limit } => {
                object.insert("value".to_owned(), rounded(*value).into());
                object.insert("unit".to_owned(), self.figure.unit.into());
                object.insert("limit".to_owned(), limit.map(rounded).into());
                object.insert("ratio".to_owned(), self.ratio().map(rounded).into());
            }
            Outcome::Missing { reason } => drop(object.insert("missing".to_owned(), reason.as_str().into())),
            Outcome::Failed { reason } => drop(object.insert("failed".to_owned(), reason.as_str().into())),
        }
        object.insert("goal".to_owned(), self.figure.goal.must.into());
        object.insert("aim".to_owned(), self.figure.goal.aim.into());
        object.insert("met".to_owned(), self.is_met().into());
        if let Some(note) = &self.note {
            object.insert("note".to_owned(), note.as_str().into());
        }
        serde_json::Value::Object(object).to_string()
    }

    pub fn line(&self) -> String {
        let name = self.figure.name;
        let (value, limit) = match &self.outcome {
            Outcome::Missing { reason } => return format!("{name:<24} missing: {reason}"),
            Outcome::Failed { reason } => return format!("{name:<24} failed: {reason}"),
            Outcome::Measured { value, limit } => (*value, *limit),
        };
        let measured = format!("{name:<24} {value:>10.2} {:<13}", self.figure.unit);
        let (goal, reached) = (self.figure.goal, self.reached().unwrap_or(f64::NAN));
        let sign = if goal.less_is_better { "<=" } else { ">=" };
        let verdict = match (goal.is_exceeded_by(reached), goal.is_met_by(reached)) {
            (true, _) => "aim met",
            (false, true) => "met",
            (false, false) => "NOT MET",
        };
        let asked = format!("{sign} {} (aim {})  {verdict}", goal.must, goal.aim);
        let note = self.note.as_ref().map(|note| format!("; {note}")).unwrap_or_default();
        match (limit, self.figure.limit) {
            (Some(limit), Some(to)) => format!("{measured} {reached:>6.2}x  {asked}  to {limit:.2}: {to}{note}"),
            (_, _) => format!("{measured} {:>7}  {asked}{note}", ""),
        }
    }
}

/// Four decimals: more than any of these measurements can tell.
fn rounded(value: f64) -> f64 {
    (value * 10_000.0).round() / 10_000.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::rows::Row;

    #[test]
    fn a_row_that_is_missing_is_not_met() {
        let report = Report {
            figure: Row::Postgres64.figure(),
            outcome: Outcome::Missing { reason: "no pgbench".to_owned() },
            note: None,
        };

        assert!(!report.is_met());
        assert_eq!(report.line(), "postgres-64              missing: no pgbench");
    }

    #[test]
    fn a_row_without_a_limit_is_judged_by_its_value() {
        let goal = Goal { must: 25_000.0, aim: 60_000.0, less_is_better: false };
        let figure = Figure { name: "drain", unit: "tasks/s", limit: None, goal };
        let of = |value| Report { figure, outcome: Outcome::Measured { value, limit: None }, note: None };

        assert!(of(25_000.0).is_met());
        assert!(!of(24_999.0).is_met());
    }

    #[test]
    fn a_latency_is_met_from_below() {
        let of = |value| Report {
            figure: Row::Sqlite1.figure(),
            outcome: Outcome::Measured { value, limit: Some(1.0) },
            note: None,
        };

        assert!(of(0.9).is_met());
        assert!(!of(1.1).is_met());
    }
}
