//! Whether a document is a spec, or an engine's answer: by the published schemas first, then by the rules.
//!
//! The schemas in `schemas/` are what other tools validate against, so they are what is used here. The rules know more:
//! names that are paths, dependencies that do not exist, behaviour that is not built yet.

use std::sync::LazyLock;

use domain::{
    planning::{Plan, PlanningAnswer},
    protocol::SpecRef,
    review::ReviewAnswer,
    spec::{ProtocolSpec, SpecProblem, spec_digest, spec_hash},
    time::Timestamp,
};
use jsonschema::Validator;
use serde_json::Value;

use crate::error::CommandError;

const SPEC_SCHEMA: &str = include_str!("../../../schemas/protocol-spec.schema.json");
const PLANNING_SCHEMA: &str = include_str!("../../../schemas/protocol-planning.schema.json");
const REVIEW_SCHEMA: &str = include_str!("../../../schemas/protocol-review.schema.json");

/// More than this and a person reads none of it.
const MAX_PROBLEMS: usize = 50;
const MAX_MESSAGE: usize = 300;

static SPEC: LazyLock<Validator> = LazyLock::new(|| validator(SPEC_SCHEMA));
static PLANNING: LazyLock<Validator> = LazyLock::new(|| validator(PLANNING_SCHEMA));

/// The schema that a planning engine's answer has to meet, for engines that take one.
pub fn planning_schema() -> Value {
    parsed(PLANNING_SCHEMA)
}

/// The schema that a reviewing engine's answer has to meet, for engines that take one.
pub fn review_schema() -> Value {
    parsed(REVIEW_SCHEMA)
}

/// The schema of specs.
pub fn spec_schema() -> Value {
    parsed(SPEC_SCHEMA)
}

/// Reads a spec, or says everything that is wrong with it.
pub fn check_spec(document: &Value) -> Result<ProtocolSpec, Vec<SpecProblem>> {
    let problems = violations(&SPEC, document);
    // The rules say the same in plainer words where both object, and more.
    match ProtocolSpec::parse(document) {
        Ok(spec) if problems.is_empty() => Ok(spec),
        Ok(_) => Err(problems),
        Err(by_rules) => Err(merged(problems, by_rules)),
    }
}

/// Reads a planning answer, or says everything that is wrong with it.
pub fn check_planning(document: &Value) -> Result<Plan, Vec<SpecProblem>> {
    let problems = violations(&PLANNING, document);
    if !problems.is_empty() {
        return Err(problems);
    }
    let answer: PlanningAnswer =
        serde_json::from_value(document.clone()).map_err(|error| vec![SpecProblem::new("", error.to_string())])?;
    answer.into_plan()
}

/// Reads a reviewer's answer, or says what is wrong with it. By the rules alone: they let a finding leave out what it has
/// no word for, which hosts that hold their models to a schema do not allow.
pub fn check_review(document: &Value) -> Result<ReviewAnswer, Vec<SpecProblem>> {
    ReviewAnswer::parse(document)
}

/// A checked spec as a protocol keeps it.
pub fn spec_ref(document: Value, now: Timestamp) -> Result<SpecRef, CommandError> {
    let digest = spec_digest(&document)
        .map_err(|error| CommandError::Invalid { code: "invalid_spec", problems: vec![error.to_string()] })?;
    Ok(SpecRef { hash: spec_hash(&document), digest: digest.to_string(), document, validated_at: now })
}

fn violations(validator: &Validator, document: &Value) -> Vec<SpecProblem> {
    let problems = validator.iter_errors(document).take(MAX_PROBLEMS);
    problems
        .map(|error| {
            let path = error.instance_path().to_string().trim_start_matches('/').replace('/', ".");
            SpecProblem::new(path, host::text::one_line(error.to_string(), MAX_MESSAGE))
        })
        .collect()
}

fn merged(mut problems: Vec<SpecProblem>, by_rules: Vec<SpecProblem>) -> Vec<SpecProblem> {
    problems.extend(by_rules);
    problems.truncate(MAX_PROBLEMS);
    problems
}

fn parsed(text: &str) -> Value {
    serde_json::from_str(text).expect("the schemas of this repository are JSON, and a test reads them")
}

fn validator(text: &str) -> Validator {
    jsonschema::draft7::new(&parsed(text)).expect("the schemas of this repository are sound, and a test builds them")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn schema_and_rules_agree_on_a_sound_spec() {
        let document = json!({"steps": [
            {"id": "setup", "name": "00-setup.md"},
            {"id": "fix", "checks": [["sh", "test.sh"]], "qa": {"policy": "full"}, "depends_on": ["setup"]},
            {"id": "finalize", "gate": {"when": "before", "self_approval": true}, "retry": "ask"},
        ]});

        let spec = check_spec(&document).unwrap();

        assert_eq!(spec.to_value(), document);
        assert!(violations(&SPEC, &spec_schema()).len() > 1);
    }

    #[test]
    fn everything_wrong_with_a_spec_is_said() {
        for (document, part) in [
            (json!({}), "steps"),
            (json!([]), "object"),
            (json!({"steps": []}), "steps"),
            (json!({"steps": [{"id": "a", "banana": 1}]}), "banana"),
            (json!({"steps": [{"id": "a", "qa": {"policy": "maybe"}}]}), "steps.0.qa"),
            (json!({"steps": [{"id": "a", "prompt_ref": "../../etc/passwd"}]}), "not a path inside"),
            (json!({"steps": [{"id": "a", "policies": [{"behavior": "loop"}]}]}), "not available yet"),
        ] {
            let problems = check_spec(&document).unwrap_err();

            let told = problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
            assert!(told.contains(part), "{part}: {told}");
        }
    }

    #[test]
    fn a_planning_answer_is_held_to_its_schema() {
        let sound = json!({"plan_md": "# P", "context_md": "", "log_md": "",
            "step_files": [{"filename": "00-setup.md", "content": "x"}]});
        assert_eq!(check_planning(&sound).unwrap().spec.steps.len(), 1);
        for (key, value) in [
            ("extra", json!(1)),
            ("plan_md", json!(7)),
            ("step_files", json!([])),
            ("step_files", json!([{"filename": "../../x", "content": ""}])),
            ("step_files", json!([{"filename": "00-setup.md", "content": "", "mode": "0755"}])),
            ("step_files", json!([{"filename": "01-a.md", "content": ""}])),
        ] {
            let mut bad = sound.clone();
            bad[key] = value;
            assert!(check_planning(&bad).is_err(), "{key}");
        }
    }

    #[test]
    fn what_meets_the_schema_of_reviews_meets_the_rules_but_for_what_they_weigh() {
        let schema = validator(REVIEW_SCHEMA);
        let finding = json!({"severity": "blocking", "file": "a.rs", "line": 3, "message": "Wrong."});
        let sound = json!({"verdict": "fail", "summary": "No.", "findings": [finding]});
        assert_eq!((violations(&schema, &sound), check_review(&sound).is_ok()), (vec![], true));
        for (key, value) in [
            ("verdict", json!("PASS")),
            ("summary", json!("")),
            ("summary", json!("x".repeat(4001))),
            ("findings", json!(null)),
            ("findings", json!(vec![finding.clone(); 101])),
            ("findings", json!([{"severity": "fatal", "file": null, "line": null, "message": "x"}])),
            ("findings", json!([{"severity": "note", "file": null, "line": 0, "message": "x"}])),
            ("more", json!(1)),
        ] {
            let mut bad = sound.clone();
            bad[key] = value;
            assert!(!violations(&schema, &bad).is_empty() && check_review(&bad).is_err(), "{key}");
        }
        // No schema says that what blocks cannot pass.
        let contradiction = json!({"verdict": "pass", "summary": "Yes.", "findings": [finding]});
        assert_eq!((violations(&schema, &contradiction), check_review(&contradiction).is_ok()), (vec![], false));
    }

    #[test]
    fn an_empty_spec_hash_is_never_made() {
        let spec = spec_ref(json!({"steps": [{"id": "a"}]}), Timestamp::from_micros(0)).unwrap();

        assert_eq!(spec.hash.len(), 12);
        assert_eq!(spec.digest.len(), 64);
    }
}
