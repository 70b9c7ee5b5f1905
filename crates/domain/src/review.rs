//! What a reviewing engine answers about a result, and what of it counts.
//!
//! The answer comes from a program that reads hostile repositories. It can only make a verdict stricter: what a command
//! failed stays failed, and a pass beside something that keeps the result from being accepted is no answer at all.

use serde::{Deserialize, Serialize};

use crate::{protocol::QaVerdict, spec::SpecProblem};

const MAX_FINDINGS: usize = 100;
const MAX_SUMMARY: usize = 4000;
const MAX_MESSAGE: usize = 4000;
const MAX_FILE: usize = 1024;

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReviewAnswer {
    pub verdict: QaVerdict,
    /// Why, for people.
    pub summary: String,
    pub findings: Vec<ReviewFinding>,
}

/// One thing that a reviewer has to say about a result.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReviewFinding {
    pub severity: Severity,
    /// A path in the repository; `None`: about the result as a whole.
    #[serde(default)]
    pub file: Option<String>,
    /// From 1.
    #[serde(default)]
    pub line: Option<u32>,
    pub message: String,
}

/// How much a finding weighs.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// With it the result cannot be accepted.
    Blocking,
    Warning,
    Note,
}

impl ReviewAnswer {
    /// The answer that a document is, or what is wrong with it.
    pub fn parse(document: &serde_json::Value) -> Result<Self, Vec<SpecProblem>> {
        let answer = Self::deserialize(document).map_err(|error| vec![SpecProblem::new("", error.to_string())])?;
        let problems = answer.check();
        if problems.is_empty() { Ok(answer) } else { Err(problems) }
    }

    /// What it says, one finding a line.
    pub fn detail(&self) -> String {
        let mut text = self.summary.trim_end().to_owned();
        for finding in &self.findings {
            text.push_str(&format!("\n{finding}"));
        }
        text
    }

    fn check(&self) -> Vec<SpecProblem> {
        let mut problems = Vec::new();
        let mut refuse = |path: String, message: String| problems.push(SpecProblem::new(path, message));
        if self.summary.trim().is_empty() || self.summary.len() > MAX_SUMMARY {
            refuse("summary".to_owned(), format!("empty, or longer than {MAX_SUMMARY} bytes"));
        }
        if self.findings.len() > MAX_FINDINGS {
            refuse("findings".to_owned(), format!("more than {MAX_FINDINGS} findings"));
        }
        for (index, finding) in self.findings.iter().enumerate() {
            let path = |key: &str| format!("findings[{index}].{key}");
            if finding.message.trim().is_empty() || finding.message.len() > MAX_MESSAGE {
                refuse(path("message"), format!("empty, or longer than {MAX_MESSAGE} bytes"));
            }
            if finding.file.as_ref().is_some_and(|file| file.is_empty() || file.len() > MAX_FILE) {
                refuse(path("file"), format!("empty, or longer than {MAX_FILE} bytes"));
            }
            if finding.line == Some(0) {
                refuse(path("line"), "lines are counted from 1".to_owned());
            }
        }
        let blocks = self.findings.iter().any(|finding| finding.severity == Severity::Blocking);
        if blocks && self.verdict != QaVerdict::Fail {
            refuse("verdict".to_owned(), "a blocking finding means that the verdict is fail".to_owned());
        }
        problems
    }
}

impl Severity {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Blocking => "blocking",
            Self::Warning => "warning",
            Self::Note => "note",
        }
    }
}

impl std::fmt::Display for ReviewFinding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.severity.as_str())?;
        match (&self.file, self.line) {
            (Some(file), Some(line)) => write!(f, " {file}:{line}")?,
            (Some(file), None) => write!(f, " {file}")?,
            (None, _) => {}
        }
        write!(f, ": {}", self.message.trim())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn answer(verdict: &str, findings: &Value) -> Value {
        json!({"verdict": verdict, "summary": "Looked at it.", "findings": findings})
    }

    #[test]
    fn what_it_says_is_told_one_finding_a_line() {
        let findings = json!([
            {"severity": "blocking", "file": "src/a.rs", "line": 12, "message": "Divides by zero."},
            {"severity": "note", "file": null, "line": null, "message": "Short."},
            {"severity": "warning", "message": "No test."},
        ]);

        let read = ReviewAnswer::parse(&answer("fail", &findings)).unwrap();

        assert_eq!(read.verdict, QaVerdict::Fail);
        let told = "Looked at it.\nblocking src/a.rs:12: Divides by zero.\nnote: Short.\nwarning: No test.";
        assert_eq!(read.detail(), told);
    }

    #[test]
    fn a_blocking_finding_is_no_pass_and_nothing_unknown_is_taken_for_a_verdict() {
        let blocking = json!([{"severity": "blocking", "message": "Wrong."}]);
        let finding = |finding: Value| answer("fail", &json!([finding]));
        for bad in [
            answer("pass", &blocking),
            answer("inconclusive", &blocking),
            answer("PASS", &json!([])),
            answer("approved", &json!([])),
            json!({"verdict": "pass", "findings": []}),
            json!({"verdict": "pass", "summary": " ", "findings": []}),
            json!({"verdict": "pass", "summary": "Fine.", "findings": [], "more": 1}),
            json!({"verdict": "pass", "summary": "x".repeat(MAX_SUMMARY + 1), "findings": []}),
            json!("pass"),
            finding(json!({"severity": "fatal", "message": "x"})),
            finding(json!({"severity": "note", "message": ""})),
            finding(json!({"severity": "note", "message": "x", "line": 0})),
            finding(json!({"severity": "note", "message": "x", "line": -1})),
            finding(json!({"severity": "note", "message": "x", "file": ""})),
            answer("fail", &json!(vec![json!({"severity": "note", "message": "x"}); MAX_FINDINGS + 1])),
        ] {
            assert!(ReviewAnswer::parse(&bad).is_err(), "{bad}");
        }
        for good in ["pass", "fail", "inconclusive"] {
            assert!(ReviewAnswer::parse(&answer(good, &json!([]))).is_ok(), "{good}");
        }
    }
}
