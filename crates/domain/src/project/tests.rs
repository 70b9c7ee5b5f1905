use super::*;

const NOON: Timestamp = Timestamp::from_micros(1_766_836_800_000_000);

fn new_project() -> NewProject {
    NewProject {
        id: ProjectId(1),
        name: "demo".to_owned(),
        git_url: "/srv/demo".to_owned(),
        base_branch: None,
        ci_provider: None,
        default_models: serde_json::Map::new(),
        api_token_hash: None,
        engines: Engines::default(),
        checks: Vec::new(),
        created_by: None,
    }
}

fn project() -> Project {
    let decision = Project::create(new_project(), &Context { now: NOON }).unwrap();
    crate::aggregate::fold(&decision.events).unwrap()
}

#[test]
fn a_new_project_asks_for_its_setup() {
    let decision = Project::create(new_project(), &Context { now: NOON }).unwrap();

    assert_eq!(decision.effects.len(), 1);
    assert_eq!(decision.effects[0].kind, TaskKind::ProjectSetup);
    assert_eq!(project().state, ProjectState::Pending);
    assert_eq!(project().base_branch, "main");
}

#[test]
fn a_setup_that_failed_can_be_asked_for_again() {
    let mut project = project();
    project.apply(&ProjectEvent::SetupFailed { reason: "no such repository".to_owned(), at: NOON });

    let decision = project.decide(&ProjectCommand::Setup, &Context { now: NOON }).unwrap();

    assert_eq!(decision.events, [ProjectEvent::SetupEnqueued]);
    assert_eq!(decision.effects.len(), 1);
}

#[test]
fn a_late_second_result_changes_nothing() {
    let mut project = project();
    project.apply(&ProjectEvent::SetupCompleted { head: None, at: NOON });
    let late = ProjectCommand::SetupFailed { reason: "late".to_owned() };

    assert!(project.decide(&late, &Context { now: NOON }).unwrap().is_nothing());
}

#[test]
fn hostile_settings_are_refused() {
    for (what, new) in [
        ("url", NewProject { git_url: "--upload-pack=x".to_owned(), ..new_project() }),
        ("url", NewProject { git_url: "ext::sh -c x".to_owned(), ..new_project() }),
        ("url", NewProject { git_url: "ssh://-oProxyCommand=x/y".to_owned(), ..new_project() }),
        ("url", NewProject { git_url: "file:///etc".to_owned(), ..new_project() }),
        ("url", NewProject { git_url: "/srv/a\0b".to_owned(), ..new_project() }),
        ("url", NewProject { git_url: "../x".to_owned(), ..new_project() }),
        ("name", NewProject { name: "a\u{202e}b".to_owned(), ..new_project() }),
        ("name", NewProject { name: "  ".to_owned(), ..new_project() }),
        ("branch", NewProject { base_branch: Some("--force".to_owned()), ..new_project() }),
        ("branch", NewProject { base_branch: Some("a..b".to_owned()), ..new_project() }),
        ("branch", NewProject { base_branch: Some("a b".to_owned()), ..new_project() }),
        ("ci", NewProject { ci_provider: Some("banana".to_owned()), ..new_project() }),
        ("checks", NewProject { checks: vec![vec![]], ..new_project() }),
    ] {
        assert!(Project::create(new, &Context { now: NOON }).is_err(), "{what}");
    }
}
