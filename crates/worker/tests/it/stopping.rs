//! Pausing and cancelling while what has begun only waits for another try, on both databases.

use std::time::Duration;

use control::{Cause, ledger::Rendered};
use domain::{
    actor::Actor,
    attempt::{AttemptState, Ending},
    commit::{Ack, Then},
    ids::ProtocolId,
    project::{EngineChoice, Engines},
    protocol::{PlanState, Protocol},
    step::{Review, StepState, Work as Stage},
    task::{Task, TaskKind, TaskState},
};
use engines::supervisor::{self, Adopted};
use serde_json::json;
use store::TaskQuery;

use super::{
    ENDED, PATIENCE, TestApp,
    protocols::{Work, by_owner, nothing, only_execution},
};

const HOUR: Duration = Duration::from_secs(3600);

async fn wait<F: Future<Output = bool>>(what: &str, condition: impl Fn() -> F) {
    let started = host::clock::monotonic();
    while !condition().await {
        assert!(started.elapsed() < PATIENCE, "did not happen: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn tasks(app: &TestApp, kind: TaskKind) -> Vec<Task> {
    let query = TaskQuery { kinds: vec![kind], limit: 100, ..TaskQuery::default() };
    app.control.store().list_tasks(&query).await.unwrap()
}

async fn only_task(app: &TestApp, kind: TaskKind) -> Task {
    let tasks = tasks(app, kind).await;
    assert_eq!(tasks.len(), 1, "{tasks:?}");
    tasks.into_iter().next().unwrap()
}

/// What a worker does that fails for a reason of the moment: the task it left waits for another try, an hour from now.
async fn put_back(app: &TestApp, kind: TaskKind) {
    // A drain gives up waiting at the moment at which the handler leaves its work.
    tokio::time::sleep(Duration::from_millis(300)).await;
    let task = only_task(app, kind).await;
    let TaskState::Leased { fence, .. } = task.state else { panic!("{task:?}") };
    let due_at = app.control.clock().now().after(HOUR);
    let then = Then::Again { due_at, failed: Some("away".to_owned()) };
    let cause = Cause::of(Actor::System).acknowledging(Ack { task: task.id, fence, then });
    app.control.record(&cause, &"put back", Rendered::default()).await.unwrap();
    assert_eq!(only_task(app, kind).await.state, TaskState::Scheduled);
}

async fn is_told_and_due(app: &TestApp, kind: TaskKind) {
    let task = only_task(app, kind).await;
    assert_eq!((&task.state, task.stop), (&TaskState::Ready, true), "{task:?}");
    assert!(task.due_at <= app.control.clock().now());
}

fn ending(attempt: &domain::attempt::Attempt) -> Option<Ending> {
    match &attempt.state {
        AttemptState::Running => None,
        AttemptState::Ended { ending, .. } => Some(*ending),
    }
}

impl Work<'_> {
    async fn now(&self, id: ProtocolId) -> Protocol {
        self.app.control.get::<Protocol>(&id.to_string()).await.unwrap().subject
    }

    pub(crate) async fn count(&self, id: ProtocolId, event: &str) -> usize {
        self.events(id).await.iter().filter(|kind| *kind == event).count()
    }

    async fn pause(&self, id: ProtocolId) {
        self.app.control.pause_protocol(id, &by_owner(), nothing).await.unwrap();
    }

    async fn resume(&self, id: ProtocolId) {
        self.app.control.resume_protocol(id, &by_owner(), nothing).await.unwrap();
    }

    /// A protocol whose only step hangs on its first attempt and does its work on the second: its engine runs, its worker
    /// is gone, and its task waits for another try.
    async fn with_a_try_that_waits(app: &TestApp) -> (Work<'_>, ProtocolId) {
        let scenes = json!([
            {"step": "01-fix.md", "attempt": 1, "actions": [{"do": "hang"}]},
            {"step": "01-fix.md", "actions": [{"do": "write", "path": "answer.txt", "text": "42\n"}]},
        ]);
        let work = Work::new(app, scenes, only_execution).await;
        let worker = work.worker().await;
        let id = work.protocol(Some(steps())).await;
        wait("its engine runs", async || runs(app, "step-1-1")).await;
        worker.drain().await;
        put_back(app, TaskKind::ExecuteStep).await;
        assert_eq!(work.now(id).await.steps[0].state, StepState::Running { work: Stage::Executing });
        (work, id)
    }
}

fn steps() -> serde_json::Value {
    json!({"steps": [{"id": "fix", "name": "01-fix.md", "checks": [["sh", "test.sh"]]}]})
}

/// Whether something of an attempt runs: its supervisor listens and has written no result.
pub(crate) fn runs(app: &TestApp, attempt: &str) -> bool {
    let dir = app.ledger.dir().join("attempts").join(attempt);
    host::fs::exists(&dir.join("control.sock")) && !host::fs::exists(&dir.join("result.json"))
}

on_both! {
    async fn a_step_that_waits_for_another_try_is_ended_by_pausing_and_runs_again_after_resuming(app: &TestApp) {
        let scenes = json!([{"step": "01-fix.md", "actions": [{"do": "write", "path": "answer.txt", "text": "42\n"}]}]);
        let work = Work::new(app, scenes, only_execution).await;
        let first = work.worker().await;
        // Where the attempt's directory belongs lies something else, for a while.
        let in_the_way = app.ledger.dir().join("attempts/step-1-1");
        std::fs::write(&in_the_way, "").unwrap();
        let id = work.protocol(Some(steps())).await;
        wait("the first try fails", async || {
            tasks(app, TaskKind::ExecuteStep).await.first().is_some_and(|task| task.failures == 1)
        })
        .await;
        first.drain().await;
        std::fs::remove_file(in_the_way).unwrap();
        let begun = work.now(id).await.steps[0].clone();
        assert!(begun.running().is_some(), "{begun:?}");

        work.pause(id).await;
        is_told_and_due(app, TaskKind::ExecuteStep).await;
        let second = work.worker().await;
        wait("the attempt is ended", async || work.now(id).await.steps[0].state == StepState::Pending).await;

        let paused = work.now(id).await;
        assert_eq!((paused.state.name(), ending(paused.steps[0].attempt.as_ref().unwrap())), ("paused", Some(Ending::Interrupted)));
        assert_eq!(only_task(app, TaskKind::ExecuteStep).await.state.name(), "done");
        work.resume(id).await;
        assert_eq!(work.until(id, &["completed", "blocked"]).await.state.name(), "completed");
        assert_eq!((work.count(id, "step_started").await, tasks(app, TaskKind::ExecuteStep).await.len()), (2, 2));
        second.drain().await;
    }

    async fn pausing_ends_an_engine_that_runs_while_its_task_waits(app: &TestApp) {
        let (work, id) = Work::with_a_try_that_waits(app).await;

        work.pause(id).await;
        is_told_and_due(app, TaskKind::ExecuteStep).await;
        assert!(runs(app, "step-1-1"));
        let worker = work.worker().await;
        wait("the attempt is ended", async || work.now(id).await.steps[0].state == StepState::Pending).await;

        let paused = work.now(id).await;
        assert_eq!((paused.state.name(), ending(paused.steps[0].attempt.as_ref().unwrap())), ("paused", Some(Ending::Canceled)));
        assert!(!runs(app, "step-1-1"));
        work.resume(id).await;
        assert_eq!(work.until(id, &["completed", "blocked"]).await.state.name(), "completed");
        assert_eq!((work.count(id, "step_started").await, work.count(id, "step_stopped").await), (2, 1));
        worker.drain().await;
    }

    async fn resuming_before_anybody_ended_the_attempt_neither_loses_nor_doubles_the_step(app: &TestApp) {
        let (work, id) = Work::with_a_try_that_waits(app).await;

        work.pause(id).await;
        work.resume(id).await;
        work.pause(id).await;
        work.resume(id).await;
        is_told_and_due(app, TaskKind::ExecuteStep).await;
        let worker = work.worker().await;

        assert_eq!(work.until(id, &["completed", "blocked"]).await.state.name(), "completed");
        assert_eq!((work.count(id, "step_started").await, work.count(id, "step_stopped").await), (2, 1));
        assert_eq!(tasks(app, TaskKind::ExecuteStep).await.len(), 2);
        worker.drain().await;
    }

    async fn cancelling_a_protocol_ends_an_engine_that_runs_while_its_task_waits(app: &TestApp) {
        let (work, id) = Work::with_a_try_that_waits(app).await;

        app.control.cancel_protocol(id, &by_owner(), nothing).await.unwrap();
        is_told_and_due(app, TaskKind::ExecuteStep).await;
        assert!(runs(app, "step-1-1"), "the ledger alone ends no process");
        let worker = work.worker().await;
        wait("the task is done", async || only_task(app, TaskKind::ExecuteStep).await.state.is_terminal()).await;

        assert!(!runs(app, "step-1-1"));
        assert!(host::fs::list_names(&app.ledger.dir().join("worktrees")).unwrap().is_empty());
        assert_eq!((work.now(id).await.state.name(), only_task(app, TaskKind::ExecuteStep).await.state.name()), ("cancelled", "done"));
        worker.drain().await;
    }

    async fn stopped_by_hand_a_step_fails_with_its_worktree_kept_until_it_is_tried_again(app: &TestApp) {
        let scenes = json!([
            {"step": "01-fix.md", "attempt": 1, "actions": [{"do": "write", "path": "half.txt", "text": "half\n"}, {"do": "hang"}]},
            {"step": "01-fix.md", "actions": [{"do": "write", "path": "answer.txt", "text": "42\n"}]},
        ]);
        let work = Work::new(app, scenes, only_execution).await;
        let worker = work.worker().await;
        let id = work.protocol(Some(steps())).await;
        let worktree = app.ledger.dir().join("worktrees/step-1-1");
        let half = worktree.join("half.txt");
        wait("it is half done", async || host::fs::exists(&half)).await;
        let attempt = work.now(id).await.steps[0].attempt.clone().unwrap();
        let dir = app.ledger.dir().join("attempts/step-1-1");
        let Adopted::Running(tree) = supervisor::adopt(&dir, &attempt.nonce).await.unwrap() else { panic!("it runs") };

        tree.stop(&supervisor::by_hand("killed", "owner"), Some(Duration::ZERO)).await.unwrap();

        // Whoever stopped it decides how to go on: nothing begins again by itself.
        let blocked = work.until(id, &["blocked", "completed"]).await;
        let ended = blocked.steps[0].attempt.clone().unwrap();
        let AttemptState::Ended { summary, .. } = &ended.state else { panic!("{ended:?}") };
        assert_eq!((blocked.state.name(), ending(&ended), ended.number), ("blocked", Some(Ending::Canceled), 1));
        let expected = format!("killed by owner; its worktree is kept as it was left, at {}", worktree.display());
        assert_eq!(summary, &expected);
        assert_eq!(std::fs::read_to_string(&half).unwrap(), "half\n");
        app.control.retry_latest_step(id, &by_owner(), nothing).await.unwrap();
        assert_eq!(work.until(id, &["blocked", "completed"]).await.state.name(), "completed");
        assert!(!host::fs::exists(&worktree), "the new attempt began anew");
        worker.drain().await;
    }

    async fn planning_that_waits_for_another_try_is_ended_by_pausing_too(app: &TestApp) {
        let answer = json!({"plan_md": "# Plan", "context_md": "", "log_md": "", "step_files": [
            {"filename": "00-setup.md", "content": "Look."}]});
        let scenes = json!([
            {"phase": "plan", "attempt": 1, "actions": [{"do": "hang"}]},
            {"phase": "plan", "actions": [{"do": "plan", "value": answer}]},
            {"phase": "setup", "actions": [{"do": "write", "path": "answer.txt", "text": "42\n"}]},
        ]);
        let engines = |choice: EngineChoice| Engines { planning: Some(choice.clone()), execution: Some(choice), qa: None };
        let work = Work::new(app, scenes, engines).await;
        let first = work.worker().await;
        let id = work.protocol(None).await;
        wait("the planner runs", async || runs(app, "protocol-1-1")).await;
        first.drain().await;
        put_back(app, TaskKind::PlanProtocol).await;

        work.pause(id).await;
        is_told_and_due(app, TaskKind::PlanProtocol).await;
        let second = work.worker().await;
        wait("the attempt is ended", async || work.now(id).await.plan == PlanState::Queued).await;
        assert!(!runs(app, "protocol-1-1"));
        assert_eq!((work.now(id).await.state.name(), only_task(app, TaskKind::PlanProtocol).await.state.name()), ("paused", "done"));
        work.resume(id).await;

        wait("it is planned", async || work.now(id).await.plan == PlanState::Ready).await;
        assert_eq!(tasks(app, TaskKind::PlanProtocol).await.len(), 2);
        second.drain().await;
    }

    async fn checks_that_wait_for_another_try_are_ended_by_pausing_too(app: &TestApp) {
        let scenes = json!([{"step": "01-fix.md", "actions": [{"do": "write", "path": "answer.txt", "text": "42\n"}]}]);
        let work = Work::new(app, scenes, only_execution).await;
        let flag = app.ledger.dir().join("shown/flag");
        let check = format!("test -e {} || sleep 60", flag.display());
        let steps = json!({"steps": [{"id": "fix", "name": "01-fix.md", "checks": [["sh", "-c", check]]}]});
        let first = work.worker().await;
        let id = work.protocol(Some(steps)).await;
        wait("the check runs", async || runs(app, "step-1-2/check-1")).await;
        first.drain().await;
        put_back(app, TaskKind::RunQuality).await;
        std::fs::write(flag, "").unwrap();

        work.pause(id).await;
        is_told_and_due(app, TaskKind::RunQuality).await;
        let second = work.worker().await;
        wait("the check is ended", async || {
            matches!(work.now(id).await.steps[0].state, StepState::NeedsQa { review: Review::Waiting, .. })
        })
        .await;
        assert!(!runs(app, "step-1-2/check-1"));
        assert_eq!(only_task(app, TaskKind::RunQuality).await.state.name(), "done");
        work.resume(id).await;

        assert_eq!(work.until(id, &["completed", "blocked"]).await.state.name(), "completed");
        assert_eq!(tasks(app, TaskKind::RunQuality).await.len(), 2);
        second.drain().await;
    }

    async fn a_run_that_waits_for_another_try_is_canceled_at_once(app: &TestApp) {
        let first = app.worker().await;
        let id = app.request("long").await;
        app.until(&id, &["Running"]).await;
        let attempt = format!("run-{id}-1");
        wait("the job runs", async || runs(app, &attempt)).await;
        first.drain().await;
        put_back(app, TaskKind::RunJob).await;

        app.say(&format!("cancel {id}")).await;
        is_told_and_due(app, TaskKind::RunJob).await;
        let second = app.worker().await;

        assert_eq!(app.until(&id, ENDED).await.state.name(), "Canceled");
        assert!(!runs(app, &attempt));
        second.drain().await;
    }
}
