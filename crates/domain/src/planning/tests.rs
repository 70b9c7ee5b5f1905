use super::*;
use crate::spec::StepType;

fn answer(names: &[&str]) -> PlanningAnswer {
    PlanningAnswer {
        plan_md: "# Plan".to_owned(),
        context_md: String::new(),
        log_md: String::new(),
        step_files: names
            .iter()
            .map(|name| StepFile { filename: (*name).to_owned(), content: format!("do {name}") })
            .collect(),
    }
}

#[test]
fn an_answer_becomes_sorted_steps_with_types_from_their_names() {
    let plan = answer(&["02-qa.md", "00-setup.md", "01-fix-test.md"]).into_plan().unwrap();

    let steps: Vec<_> = plan.spec.steps.iter().map(|step| (step.id.as_str(), step.name(), step.step_type())).collect();
    assert_eq!(
        steps,
        [
            ("00-setup", "00-setup.md", StepType::Setup),
            ("01-fix-test", "01-fix-test.md", StepType::Work),
            ("02-qa", "02-qa.md", StepType::Qa),
        ]
    );
    assert_eq!(plan.files[1].content, "do 01-fix-test.md");
}

#[test]
fn file_names_that_are_not_plain_are_refused() {
    for name in [
        "../../x.md",
        "00-../x.md",
        "0-a.md",
        "aa-b.md",
        "01-A.md",
        "01-a",
        "01-.md",
        "01-a/b.md",
        "01-a\\b.md",
        "01-a..md",
        "01-a\0.md",
        "plan.md",
        "context.md",
        "/01-a.md",
        "01-a\u{202e}.md",
        "",
    ] {
        assert!(!is_step_file_name(name), "{name:?}");
        assert!(answer(&["00-setup.md", name]).into_plan().is_err(), "{name:?}");
    }
    assert!(is_step_file_name("99-a_b.c-1.md"));
}

#[test]
fn an_answer_needs_setup_and_distinct_numbers() {
    assert!(answer(&["01-a.md"]).into_plan().is_err());
    assert!(answer(&["00-setup.md", "01-a.md", "01-b.md"]).into_plan().is_err());
    assert!(PlanningAnswer { plan_md: " ".to_owned(), ..answer(&["00-setup.md"]) }.into_plan().is_err());
}

#[test]
fn a_spec_becomes_files_with_safe_names() {
    let mut step = StepSpec::new("Make the test pass!");
    step.description = Some("Fix it.".to_owned());
    step.checks = vec![vec!["sh".to_owned(), "test.sh".to_owned()]];
    let spec = ProtocolSpec {
        steps: vec![StepSpec { name: Some("00-setup.md".to_owned()), ..StepSpec::new("setup") }, step],
        version: None,
        plan: None,
        placeholders: None,
        template: None,
        metadata: None,
    };

    let plan = Plan::of_spec("0001-fix", spec);

    assert_eq!(plan.files[0].filename, "00-setup.md");
    assert_eq!(plan.files[1].filename, "01-make-the-test-pass.md");
    assert!(plan.files[1].content.contains("    sh test.sh"));
    assert!(plan.plan_md.contains("[Make the test pass!](01-make-the-test-pass.md)"));
}
