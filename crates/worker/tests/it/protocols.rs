//! Protocols carried out on a real repository by the scripted engine, on both databases.

use std::path::PathBuf;

use control::{Cause, ledger::Rendered, projects::CreateProject, protocols::CreateProtocol};
use domain::{
    actor::Actor,
    gate::{Answer, Verdict},
    ids::{PersonId, ProjectId, ProtocolId},
    person::{Person, PersonKind},
    project::{EngineChoice, Engines, Project},
    protocol::{Advance, Protocol, ProtocolState},
    step::{BlockedOn, StepState},
};
use forge::git::{
    Git, GitConfig, GitError, LocalPolicy, LocalRepo, Mirror, ObjectFormat, Remote,
    types::{BranchName, ObjectId},
};
use host::process::{self, Command};
use serde_json::{Value, json};
use store::{EventQuery, Order};
use worker::{Handle, WorkerConfig};

use super::{PATIENCE, TestApp, exe};

/// The test of the repository, which fails until `answer.txt` says 42.
const TEST: &str = "#!/bin/sh\ntest \"$(cat answer.txt)\" = 42 && echo fine\n";

pub(crate) fn owner() -> Person {
    Person {
        id: PersonId::from("p-owner"),
        name: "owner".into(),
        kind: PersonKind::Human,
        active: true,
        accounts: vec![],
    }
}

pub(crate) fn by_owner() -> Cause {
    Cause::of(Actor::Person { id: owner().id, account: "owner".into() })
}

pub(crate) fn nothing<T>(_: &T) -> Rendered {
    Rendered::default()
}

/// A repository of somebody's, with a failing test on `main`.
pub(crate) struct Repository {
    dir: PathBuf,
}

impl Repository {
    async fn new(app: &TestApp) -> Self {
        let repository = Self { dir: app.ledger.dir().join("repository") };
        std::fs::create_dir(&repository.dir).unwrap();
        std::fs::write(repository.dir.join("answer.txt"), "41\n").unwrap();
        std::fs::write(repository.dir.join("test.sh"), TEST).unwrap();
        repository.git(&["init", "--quiet", "--initial-branch=main"]).await;
        repository.git(&["add", "--all"]).await;
        repository.git(&["commit", "--quiet", "-m", "Begin"]).await;
        repository
    }

    pub(crate) async fn git(&self, args: &[&str]) -> String {
        let program =
            process::find_program("git".as_ref(), Some("/usr/local/bin:/usr/bin:/bin".as_ref()), None).unwrap();
        let command = Command::new(program)
            .args(["-c", "user.name=Ada", "-c", "user.email=ada@example.org"])
            .args(args.iter().copied())
            .cwd(&self.dir)
            .env("HOME", self.dir.parent().unwrap())
            .env("GIT_CONFIG_NOSYSTEM", "1");
        let output = process::run(command).await.unwrap();
        assert!(output.status.success(), "git {args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    /// Puts one more file on `main`.
    pub(crate) async fn commit(&self, file: &str, text: &str) {
        std::fs::write(self.dir.join(file), text).unwrap();
        self.git(&["add", "--all"]).await;
        self.git(&["commit", "--quiet", "-m", file]).await;
    }

    async fn subjects(&self) -> Vec<String> {
        let log = self.git(&["log", "--format=%s", "main..0001-fix-the-answer"]).await;
        log.lines().rev().map(str::to_owned).collect()
    }
}

/// One project on one repository, worked on by the scripted engine.
pub(crate) struct Work<'a> {
    pub(crate) app: &'a TestApp,
    pub(crate) repository: Repository,
    pub(crate) project: ProjectId,
}

impl<'a> Work<'a> {
    pub(crate) async fn new(app: &'a TestApp, scenes: Value, engines: impl FnOnce(EngineChoice) -> Engines) -> Self {
        let repository = Repository::new(app).await;
        let scenario = app.ledger.dir().join("scenario.json");
        std::fs::write(&scenario, json!({"version": 1, "title": "test", "scenes": scenes}).to_string()).unwrap();
        let scenario = Some(scenario.to_string_lossy().into_owned());
        let choice = EngineChoice { scenario, ..EngineChoice::new("scripted") };
        let request = CreateProject {
            name: "demo".into(),
            git_url: repository.dir.to_string_lossy().into_owned(),
            engines: engines(choice),
            ..CreateProject::default()
        };
        let project = app.control.create_project(request, &by_owner(), nothing).await.unwrap().subject.id;
        Self { app, repository, project }
    }

    pub(crate) async fn worker(&self) -> Handle {
        self.worker_with(|_| {}).await
    }

    pub(crate) async fn worker_with(&self, configure: impl FnOnce(&mut WorkerConfig)) -> Handle {
        let mut config = WorkerConfig::new(self.app.ledger.dir(), exe());
        config.drain = std::time::Duration::from_millis(200);
        config.local_repositories = LocalPolicy::OwnedBy(process::effective_uid());
        // Where a test leaves word for a check in its sandbox.
        let shown = self.app.ledger.dir().join("shown");
        host::fs::create_private_dir(&shown).unwrap();
        config.sandbox.readable = vec![shown];
        configure(&mut config);
        worker::start(config, self.app.control.clone()).await.unwrap()
    }

    pub(crate) async fn protocol(&self, spec: Option<Value>) -> ProtocolId {
        self.named("0001-fix-the-answer", spec).await
    }

    pub(crate) async fn named(&self, name: &str, spec: Option<Value>) -> ProtocolId {
        let request = CreateProtocol {
            project: self.project,
            name: name.into(),
            status: None,
            base_branch: None,
            description: Some("Make the test pass.".into()),
            advance: Advance::Auto,
            template_config: None,
            template_source: None,
            spec,
            created_by: Some(owner().id),
            requester: "owner".into(),
        };
        let id = self.app.control.create_protocol(request, &by_owner(), nothing).await.unwrap().subject.id;
        self.app.control.start_protocol(id, &by_owner(), nothing).await.unwrap();
        id
    }

    pub(crate) async fn until(&self, id: ProtocolId, states: &[&str]) -> Protocol {
        let started = host::clock::monotonic();
        loop {
            let protocol = self.app.control.get::<Protocol>(&id.to_string()).await.unwrap().subject;
            if states.contains(&protocol.state.name()) {
                return protocol;
            }
            assert!(started.elapsed() < PATIENCE, "{:#?}\n{:?}", protocol, self.events(id).await);
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    }

    /// All there are by now, oldest first. Read from the newest: read from the oldest, PostgreSQL would hold back what is
    /// newer than any transaction that runs on the server.
    pub(crate) async fn events(&self, id: ProtocolId) -> Vec<String> {
        let subject = domain::commit::Subject::new(domain::commit::SubjectKind::Protocol, &id);
        let query = EventQuery {
            subject: Some(subject),
            project: None,
            step: None,
            kinds: Vec::new(),
            order: Order::Descending,
            after: None,
            limit: 500,
        };
        let newest_first = self.app.control.store().list_events(&query).await.unwrap().events;
        newest_first.into_iter().rev().map(|event| event.kind).collect()
    }

    pub(crate) fn remote(&self) -> Remote {
        let policy = LocalPolicy::OwnedBy(process::effective_uid());
        Remote::Local(LocalRepo::open(&self.repository.dir, &policy).unwrap())
    }

    async fn approve(&self, protocol: &Protocol) {
        self.answer(protocol, Verdict::Approve { note: None }).await;
    }

    pub(crate) async fn answer(&self, protocol: &Protocol, verdict: Verdict) {
        let gate = protocol.open_gate().unwrap().id.clone();
        let answer = Answer { by: owner(), account: "owner".into(), verdict };
        self.app.control.answer_gate(&gate, answer, &by_owner(), nothing).await.unwrap();
    }
}

pub(crate) fn only_execution(choice: EngineChoice) -> Engines {
    Engines { planning: None, execution: Some(choice), qa: None }
}

fn spec() -> Value {
    json!({"steps": [
        {"id": "setup", "name": "00-setup.md"},
        {"id": "fix", "name": "01-fix.md", "description": "Say 42.", "checks": [["sh", "test.sh"]]},
        {"id": "finalize", "name": "02-finalize.md", "step_type": "setup",
         "gate": {"when": "before", "approvers": ["person:owner"], "self_approval": true}},
    ]})
}

fn scenes() -> Value {
    json!([
        {"phase": "setup", "step": "00-setup.md", "actions": [{"do": "message", "text": "ready"}]},
        {"phase": "work", "step": "01-fix.md", "actions": [
            {"do": "write", "path": "answer.txt", "text": "42\n"},
            {"do": "write", "path": ".protocols/0001-fix-the-answer/plan.md", "text": "mine now"},
            {"do": "write", "path": ".protocols/0001-fix-the-answer/extra.md", "text": "mine too"},
            {"do": "usage", "input_tokens": 10, "output_tokens": 5},
        ]},
        {"phase": "setup", "step": "02-finalize.md", "actions": [{"do": "append", "path": "CHANGES", "text": "fixed\n"}]},
    ])
}

on_both! {
    async fn a_protocol_runs_from_its_spec_through_its_gate_to_the_branch(app: &TestApp) {
        let work = Work::new(app, scenes(), only_execution).await;
        let worker = work.worker().await;
        let id = work.protocol(Some(spec())).await;

        let waiting = work.until(id, &["blocked", "failed"]).await;
        assert!(matches!(&waiting.state, ProtocolState::Blocked { on: BlockedOn::Gate { .. } }), "{:?}", waiting.state);
        let lines = &waiting.open_gate().unwrap().asks.lines;
        assert_eq!(lines[1..], ["1 file changed, +1 -1", "M answer.txt +1 -1"]);
        work.approve(&waiting).await;
        let done = work.until(id, &["completed", "blocked", "failed"]).await;

        assert_eq!(done.state.name(), "completed", "{:?}", work.events(id).await);
        let tip = work.repository.git(&["rev-parse", "0001-fix-the-answer"]).await;
        assert_eq!(done.branch.tip, Some(tip));
        assert_eq!(work.repository.subjects().await, [
            "feat(protocol): add plan for 0001-fix-the-answer [protocol-0001/00]",
            "docs(protocol): record 00-setup [protocol-0001/00]",
            "feat(step): 01-fix [protocol-0001/01]",
            "docs(protocol): record 01-fix [protocol-0001/01]",
            "chore(step): 02-finalize [protocol-0001/02]",
            "docs(protocol): record 02-finalize [protocol-0001/02]",
        ]);
        assert_eq!(work.repository.git(&["show", "0001-fix-the-answer:answer.txt"]).await, "42");
        assert_eq!(work.repository.git(&["show", "main:answer.txt"]).await, "41");
        let folder = work.repository.git(&["ls-tree", "--name-only", "0001-fix-the-answer:.protocols/0001-fix-the-answer"]).await;
        assert_eq!(folder, "00-setup.md\n01-fix.md\n02-finalize.md\ncontext.md\nlog.md\nplan.md\nquality-report.md");
        let plan = work.repository.git(&["show", "0001-fix-the-answer:.protocols/0001-fix-the-answer/plan.md"]).await;
        assert!(plan.starts_with("# 0001-fix-the-answer"), "{plan}");
        let report = work.repository.git(&["show", "0001-fix-the-answer:.protocols/0001-fix-the-answer/quality-report.md"]).await;
        assert!(report.contains("Verdict: pass") && report.contains("| sh test.sh | pass | 0 |"), "{report}");
        assert!(work.repository.git(&["status", "--porcelain"]).await.is_empty());
        worker.drain().await;
        assert!(host::fs::list_names(&app.ledger.dir().join("worktrees")).unwrap().is_empty());
    }

    async fn an_engine_plans_and_its_answer_is_held_to_the_schema(app: &TestApp) {
        let answer = json!({"plan_md": "# Plan", "context_md": "", "log_md": "", "step_files": [
            {"filename": "00-setup.md", "content": "Look."}, {"filename": "01-fix.md", "content": "Say 42."}]});
        let mut all = scenes().as_array().unwrap().clone();
        all.push(json!({"phase": "plan", "attempt": 1, "actions": [{"do": "plan", "value": {"steps": []}}]}));
        all.push(json!({"phase": "plan", "actions": [{"do": "plan", "value": answer}]}));
        let engines = |choice: EngineChoice| Engines { planning: Some(choice.clone()), execution: Some(choice), qa: None };
        let work = Work::new(app, all.into(), engines).await;
        let worker = work.worker().await;
        let id = work.protocol(None).await;

        let refused = work.until(id, &["blocked"]).await;
        assert!(matches!(&refused.state, ProtocolState::Blocked { on: BlockedOn::Failure { failure } }
            if failure.code == "invalid_plan"), "{:?}", refused.state);
        app.control.start_protocol(id, &by_owner(), nothing).await.unwrap();
        // Nobody named a check for the work, so that nothing can be judged.
        let unjudged = work.until(id, &["blocked"]).await;

        let names: Vec<_> = unjudged.steps.iter().map(|step| (step.name(), step.state.name())).collect();
        assert_eq!(names, [("00-setup.md", "completed"), ("01-fix.md", "blocked")]);
        assert!(matches!(&unjudged.state, ProtocolState::Blocked { on: BlockedOn::Failure { failure } }
            if failure.code == "qa_inconclusive" && failure.why.contains("no check is configured")), "{:?}", unjudged.state);
        let step = unjudged.steps[1].id;
        app.control.approve_step(step, owner(), "owner", Some("looked at it".into()), &by_owner(), nothing).await.unwrap();
        assert_eq!(work.until(id, &["completed", "blocked"]).await.state.name(), "completed");
        assert_eq!(work.repository.git(&["show", "0001-fix-the-answer:answer.txt"]).await, "42");
        worker.drain().await;
    }

    async fn a_failing_test_keeps_the_work_off_the_branch(app: &TestApp) {
        let scenes = json!([
            {"step": "01-fix.md", "attempt": 1, "actions": [{"do": "write", "path": "answer.txt", "text": "43\n"}]},
            {"step": "01-fix.md", "actions": [{"do": "write", "path": "answer.txt", "text": "42\n"}]},
        ]);
        let work = Work::new(app, scenes, only_execution).await;
        let worker = work.worker().await;
        let steps = json!({"steps": [{"id": "fix", "name": "01-fix.md", "checks": [["sh", "test.sh"], ["no-such-program"]]}]});
        let id = work.protocol(Some(steps)).await;

        let failed = work.until(id, &["blocked", "completed"]).await;
        assert_eq!(failed.steps[0].state.name(), "failed", "{:?}", failed.steps[0].state);
        assert_eq!(work.repository.git(&["show", "0001-fix-the-answer:answer.txt"]).await, "41");
        app.control.retry_latest_step(id, &by_owner(), nothing).await.unwrap();
        let unjudged = work.until(id, &["blocked", "completed"]).await;

        // The second try passes the test, but a command that is missing judges nothing.
        let StepState::Blocked { on: BlockedOn::Failure { failure }, .. } = &unjudged.steps[0].state else {
            panic!("{:?}", unjudged.steps[0].state)
        };
        assert!(failure.why.contains("no-such-program"), "{failure}");
        worker.drain().await;
    }

    async fn a_missing_engine_or_repository_is_a_reason_and_never_a_pass(app: &TestApp) {
        let work = Work::new(app, json!([]), |_| Engines::default()).await;
        let worker = work.worker().await;
        let id = work.protocol(Some(spec())).await;

        let blocked = work.until(id, &["blocked", "completed"]).await;

        assert!(matches!(&blocked.state, ProtocolState::Blocked { on: BlockedOn::Failure { failure } }
            if failure.code == "engine_unavailable"), "{:?}", blocked.state);
        let request = CreateProject { name: "gone".into(), git_url: "/no/such/place".into(), ..CreateProject::default() };
        let gone = app.control.create_project(request, &by_owner(), nothing).await.unwrap().subject.id;
        let started = host::clock::monotonic();
        loop {
            let project = app.control.get::<Project>(&gone.to_string()).await.unwrap().subject;
            if project.state.name() == "failed" {
                break;
            }
            assert!(started.elapsed() < PATIENCE, "{project:?}");
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        worker.drain().await;
    }

    async fn pausing_stops_the_engine_and_resuming_starts_the_step_again(app: &TestApp) {
        let scenes = json!([
            {"step": "01-fix.md", "attempt": 1, "actions": [{"do": "hang"}]},
            {"step": "01-fix.md", "actions": [{"do": "write", "path": "answer.txt", "text": "42\n"}]},
        ]);
        let work = Work::new(app, scenes, only_execution).await;
        let worker = work.worker().await;
        let steps = json!({"steps": [{"id": "fix", "name": "01-fix.md", "checks": [["sh", "test.sh"]]}]});
        let id = work.protocol(Some(steps)).await;
        let started = host::clock::monotonic();
        while work.until(id, &["planning", "planned", "running"]).await.steps.first().and_then(|step| step.running()).is_none() {
            assert!(started.elapsed() < PATIENCE);
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }

        app.control.pause_protocol(id, &by_owner(), nothing).await.unwrap();
        while work.until(id, &["paused"]).await.steps[0].state != StepState::Pending {
            assert!(started.elapsed() < PATIENCE);
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        app.control.resume_protocol(id, &by_owner(), nothing).await.unwrap();

        assert_eq!(work.until(id, &["completed", "blocked"]).await.state.name(), "completed");
        worker.drain().await;
    }

    async fn the_next_worker_adopts_the_engine_of_an_earlier_one(app: &TestApp) {
        let scenes = json!([{"step": "01-fix.md", "actions": [
            {"do": "delay", "ms": 1500}, {"do": "write", "path": "answer.txt", "text": "42\n"}]}]);
        let work = Work::new(app, scenes, only_execution).await;
        let first = work.worker().await;
        let steps = json!({"steps": [{"id": "fix", "name": "01-fix.md", "checks": [["sh", "test.sh"]]}]});
        let id = work.protocol(Some(steps)).await;
        let started = host::clock::monotonic();
        while work.until(id, &["planning", "planned", "running"]).await.steps.first().and_then(|step| step.running()).is_none() {
            assert!(started.elapsed() < PATIENCE);
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        while !crate::stopping::runs(app, "step-1-1") {
            assert!(started.elapsed() < PATIENCE);
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        first.drain().await;

        let second = work.worker().await;

        assert_eq!(work.until(id, &["completed", "blocked"]).await.state.name(), "completed");
        let events = work.events(id).await;
        assert!(events.iter().any(|kind| kind == "attempt_adopted"), "{events:?}");
        assert_eq!(events.iter().filter(|kind| *kind == "step_started").count(), 1);
        second.drain().await;
    }

    async fn a_worker_that_froze_before_its_push_moves_nothing_once_it_was_overtaken(app: &TestApp) {
        let scenes = json!([
            {"step": "01-fix.md", "attempt": 1, "actions": [{"do": "write", "path": "answer.txt", "text": "43\n"}]},
            {"step": "01-fix.md", "actions": [{"do": "write", "path": "answer.txt", "text": "42\n"}]},
        ]);
        let work = Work::new(app, scenes, only_execution).await;
        let worker = work.worker().await;
        let steps = json!({"steps": [{"id": "fix", "name": "01-fix.md", "checks": [["sh", "test.sh"]]}]});
        let id = work.protocol(Some(steps)).await;
        let failed = work.until(id, &["blocked"]).await;
        let stale = failed.steps[0].candidate().unwrap().clone();
        app.control.retry_latest_step(id, &by_owner(), nothing).await.unwrap();
        let done = work.until(id, &["completed", "blocked"]).await;
        assert_eq!(done.state.name(), "completed");

        // What the frozen worker would do next, with what it knew when it froze.
        let git = Git::find(GitConfig::beneath(app.ledger.dir())).await.unwrap();
        let mirror = app.ledger.dir().join("mirrors").join(format!("{}.git", work.project));
        let mirror = Mirror::open_or_create(&git, &mirror, ObjectFormat::Sha1).await.unwrap();
        let remote = work.remote();
        let branch = BranchName::parse("0001-fix-the-answer").unwrap();
        let (old, new) = (ObjectId::parse(&stale.base).unwrap(), ObjectId::parse(&stale.commit).unwrap());
        let thawed = mirror.push(&remote, &branch, Some(&old), &new).await;

        assert!(matches!(&thawed, Err(GitError::Moved { .. })), "{thawed:?}");
        assert!(matches!(mirror.advance_branch(&branch, Some(&old), &new).await, Err(GitError::Moved { .. })));
        assert_eq!(Some(work.repository.git(&["rev-parse", "0001-fix-the-answer"]).await), done.branch.tip);
        assert_eq!(work.repository.git(&["show", "0001-fix-the-answer:answer.txt"]).await, "42");
        worker.drain().await;
    }

    async fn a_branch_that_somebody_moved_is_left_alone(app: &TestApp) {
        let work = Work::new(app, scenes(), only_execution).await;
        let worker = work.worker().await;
        let id = work.protocol(Some(spec())).await;
        let waiting = work.until(id, &["blocked"]).await;
        let theirs = work.repository.git(&["commit-tree", "-p", "0001-fix-the-answer", "-m", "theirs", "main^{tree}"]).await;
        work.repository.git(&["update-ref", "refs/heads/0001-fix-the-answer", &theirs]).await;

        work.approve(&waiting).await;
        let blocked = work.until(id, &["blocked", "completed"]).await;

        assert!(matches!(&blocked.state, ProtocolState::Blocked { on: BlockedOn::Conflict { .. } }), "{:?}", blocked.state);
        assert_eq!(work.repository.git(&["rev-parse", "0001-fix-the-answer"]).await, theirs);
        worker.drain().await;
    }
}
