//! One fault on one backend: what was wanted, what was done, and what came of it.

use std::time::Duration;

use serde_json::{Value, json};

use crate::{
    fault::{Backend, Control, Expects, Fault},
    violation::Violation,
};

/// Violations that are printed.
const SHOWN: usize = 8;

#[derive(Debug)]
pub struct Row {
    pub fault: &'static str,
    pub backend: Backend,
    pub seed: u64,
    pub wanted: u64,
    pub done: u64,
    pub cut: Option<String>,
    pub verdict: Verdict,
    pub controls: Vec<ControlRow>,
    pub figures: String,
    /// Of the run, without its controls.
    pub took: Duration,
    pub took_controls: Duration,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    Sound,
    Unsound(Vec<Violation>),
    /// Only controls were asked for.
    NotRun,
    /// The machine lacks something.
    NotHere {
        why: String,
        is_demanded: bool,
    },
    /// The injection itself went wrong, so that nothing is known.
    Broken(String),
}

#[derive(Debug)]
pub struct ControlRow {
    pub name: &'static str,
    pub verdict: ControlVerdict,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ControlVerdict {
    /// A good one passed, or a bad one was found to be what it is; with an example.
    Met(Option<String>),
    /// The checks prove nothing: they missed the flaw or saw one that is not there.
    Missed(String),
    Broken(String),
}

impl Row {
    pub fn new(fault: &Fault, backend: Backend, wanted: u64, seed: u64) -> Self {
        Self {
            fault: fault.name,
            backend,
            seed,
            wanted,
            done: 0,
            cut: None,
            verdict: Verdict::NotRun,
            controls: Vec::new(),
            figures: String::new(),
            took: Duration::ZERO,
            took_controls: Duration::ZERO,
        }
    }

    /// Whether the gate may pass.
    pub fn passes(&self) -> bool {
        let sound = match &self.verdict {
            Verdict::Sound | Verdict::NotRun => true,
            Verdict::NotHere { is_demanded, .. } => !is_demanded,
            Verdict::Unsound(_) | Verdict::Broken(_) => false,
        };
        sound && self.controls.iter().all(|control| matches!(control.verdict, ControlVerdict::Met(_)))
    }

    /// The line that is printed as soon as the row is done.
    pub fn line(&self) -> String {
        let mut parts = vec![format!("wanted {}, done {}", self.wanted, self.done)];
        parts.extend(self.cut.as_ref().map(|cut| format!("cut: {cut}")));
        parts.push(self.verdict.text());
        parts.push(self.controls_text());
        parts.push(format!("{:.1} + {:.1} s", self.took.as_secs_f64(), self.took_controls.as_secs_f64()));
        if !self.figures.is_empty() {
            parts.push(self.figures.clone());
        }
        format!("{} {}: {}", self.fault, self.backend.name(), parts.join("; "))
    }

    fn controls_text(&self) -> String {
        let met = self.controls.iter().filter(|control| matches!(control.verdict, ControlVerdict::Met(_))).count();
        match self.controls.len() {
            0 => "no controls run".to_owned(),
            all if all == met => format!("{all} controls met"),
            all => format!("{} of {all} CONTROLS NOT MET", all - met),
        }
    }

    /// Everything there is to say about what went wrong, and an example of what each control showed.
    pub fn details(&self) -> Vec<String> {
        let mut lines = Vec::new();
        match &self.verdict {
            Verdict::Unsound(violations) => {
                lines.extend(violations.iter().take(SHOWN).map(ToString::to_string));
                if violations.len() > SHOWN {
                    lines.push(format!("and {} more", violations.len() - SHOWN));
                }
            }
            Verdict::Broken(why) => lines.push(why.clone()),
            Verdict::Sound | Verdict::NotRun | Verdict::NotHere { .. } => {}
        }
        for control in &self.controls {
            lines.push(match &control.verdict {
                ControlVerdict::Met(None) => format!("control {} passed, as it should", control.name),
                ControlVerdict::Met(Some(example)) => format!("control {} was caught: {example}", control.name),
                ControlVerdict::Missed(what) => format!("control {} was NOT met: {what}", control.name),
                ControlVerdict::Broken(why) => format!("control {} could not be carried out: {why}", control.name),
            });
        }
        lines
    }

    /// The line of the table at the end.
    pub fn table_line(&self) -> String {
        format!(
            "{:<18} {:<9} {:>7} {:>7}  {:<9} {:<18} {:>6.1} s",
            self.fault,
            self.backend.name(),
            self.wanted,
            self.done,
            self.verdict.name(),
            self.controls_text(),
            (self.took + self.took_controls).as_secs_f64(),
        )
    }

    pub fn json(&self) -> Value {
        let controls: Vec<Value> = self
            .controls
            .iter()
            .map(|control| json!({"name": control.name, "met": matches!(control.verdict, ControlVerdict::Met(_))}))
            .collect();
        json!({
            "fault": self.fault,
            "backend": self.backend.name(),
            "seed": self.seed,
            "wanted": self.wanted,
            "done": self.done,
            "cut": self.cut,
            "verdict": self.verdict.name(),
            "passes": self.passes(),
            "why": self.details(),
            "controls": controls,
            "figures": self.figures,
            "seconds": self.took.as_secs_f64(),
            "control_seconds": self.took_controls.as_secs_f64(),
        })
    }
}

impl Verdict {
    fn name(&self) -> &'static str {
        match self {
            Self::Sound => "sound",
            Self::Unsound(_) => "UNSOUND",
            Self::NotRun => "not run",
            Self::NotHere { is_demanded: false, .. } => "not here",
            Self::NotHere { is_demanded: true, .. } => "MISSING",
            Self::Broken(_) => "BROKEN",
        }
    }

    fn text(&self) -> String {
        match self {
            Self::NotHere { why, .. } => format!("{} because {why}", self.name()),
            Self::Unsound(violations) => format!("UNSOUND ({} violations)", violations.len()),
            Self::Sound | Self::NotRun | Self::Broken(_) => self.name().to_owned(),
        }
    }
}

impl ControlVerdict {
    /// Judges what the checks found in a control.
    pub fn of(control: &Control, violations: &[Violation]) -> Self {
        match control.expects {
            expects if expects.is_met_by(violations) => {
                let examples: Vec<String> = expects.examples(violations).iter().map(ToString::to_string).collect();
                Self::Met((!examples.is_empty()).then(|| examples.join("; ")))
            }
            Expects::Nothing => {
                let first = violations.first().map(ToString::to_string).unwrap_or_default();
                Self::Missed(format!("the checks find something in what is sound: {first}"))
            }
            Expects::A(_) | Expects::Each(_) => {
                let first = violations.first().map_or("nothing".to_owned(), ToString::to_string);
                Self::Missed(format!("its flaw was not found as {:?}; found was: {first}", control.expects))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{faults, violation::Kind};

    fn control(expects: Expects) -> Control {
        Control { name: "c", expects, run: faults::ALL[0].run }
    }

    #[test]
    fn a_control_must_fail_for_the_reason_it_was_built_to_fail_for() {
        let lost = [Violation::of(Kind::Lost, "x")];

        assert!(matches!(ControlVerdict::of(&control(Expects::A(Kind::Lost)), &lost), ControlVerdict::Met(Some(_))));
        assert!(matches!(ControlVerdict::of(&control(Expects::A(Kind::Fold)), &lost), ControlVerdict::Missed(_)));
        assert!(matches!(ControlVerdict::of(&control(Expects::A(Kind::Lost)), &[]), ControlVerdict::Missed(_)));
        assert!(matches!(ControlVerdict::of(&control(Expects::Nothing), &lost), ControlVerdict::Missed(_)));
        assert_eq!(ControlVerdict::of(&control(Expects::Nothing), &[]), ControlVerdict::Met(None));
        let both = || control(Expects::Each(&[Kind::Lost, Kind::Fold]));
        assert!(matches!(ControlVerdict::of(&both(), &lost), ControlVerdict::Missed(_)));
        let found = [Violation::of(Kind::Lost, "x"), Violation::of(Kind::Fold, "y")];
        assert!(matches!(ControlVerdict::of(&both(), &found), ControlVerdict::Met(Some(_))));
    }

    #[test]
    fn nothing_passes_that_is_unsound_missing_or_unproven() {
        let row = |verdict, control| {
            let mut row = Row::new(faults::ALL[0], Backend::Sqlite, 1, 7);
            row.verdict = verdict;
            row.controls = vec![ControlRow { name: "c", verdict: control }];
            row.passes()
        };
        let met = || ControlVerdict::Met(None);
        let not_here = |is_demanded| Verdict::NotHere { why: "x".to_owned(), is_demanded };

        assert!(row(Verdict::Sound, met()));
        assert!(row(not_here(false), met()));
        assert!(!row(not_here(true), met()));
        assert!(!row(Verdict::Unsound(vec![Violation::of(Kind::Lost, "x")]), met()));
        assert!(!row(Verdict::Broken("x".to_owned()), met()));
        assert!(!row(Verdict::Sound, ControlVerdict::Missed("x".to_owned())));
        assert!(!row(Verdict::Sound, ControlVerdict::Broken("x".to_owned())));
    }
}
