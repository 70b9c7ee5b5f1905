//! Longer texts: messages of people, catalogs, specs, plans and reviews.

use domain::catalog::Catalog;
use domain::grammar;
use domain::planning::PlanningAnswer;
use domain::protocol::QaVerdict;
use domain::review::{ReviewAnswer, Severity};
use domain::spec::ProtocolSpec;

/// A message means what it says or nothing.
pub fn message(text: &str) {
    let intent = grammar::parse(text);
    // The case of the verb and the blanks around a message mean nothing.
    assert_eq!(grammar::parse(&format!("\n {text} \t")), intent);
    if let Some(job) = intent.job() {
        assert!(text.contains(job), "{job:?} was never said in {text:?}");
    }
}

/// A catalog is read or refused with its places.
pub fn catalog(text: &str) {
    match Catalog::parse(text, "jobs.toml") {
        // The same text is the same catalog.
        Ok(catalog) => {
            let again = Catalog::parse(text, "other.toml").expect("it was read before");
            assert_eq!(again.digest(), catalog.digest());
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

/// A spec is read back as it was, or refused.
pub fn spec(text: &[u8]) {
    let Ok(value) = serde_json::from_slice(text) else { return };
    if let Ok(spec) = ProtocolSpec::parse(&value) {
        assert_eq!(ProtocolSpec::parse(&spec.to_value()), Ok(spec.clone()));
        assert!(!spec.steps.is_empty());
    }
}

/// A plan becomes files that stay where they belong.
pub fn plan(text: &[u8]) {
    let Ok(answer) = serde_json::from_slice::<PlanningAnswer>(text) else { return };
    let Ok(plan) = answer.into_plan() else { return };
    assert_eq!(plan.files.len(), plan.spec.steps.len());
    for file in &plan.files {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        assert!(file.filename.bytes().all(plain) && !file.filename.contains(".."), "{:?}", file.filename);
    }
}

/// A review is read back as it was, or refused, and never passes what it says must not pass.
pub fn review(text: &[u8]) {
    let Ok(document) = serde_json::from_slice(text) else { return };
    let Ok(review) = ReviewAnswer::parse(&document) else { return };
    let again = serde_json::to_value(&review).expect("what was read can be written");
    assert_eq!(ReviewAnswer::parse(&again), Ok(review.clone()));
    let blocks = review.findings.iter().any(|finding| finding.severity == Severity::Blocking);
    assert!(!blocks || review.verdict == QaVerdict::Fail, "{review:?}");
}
