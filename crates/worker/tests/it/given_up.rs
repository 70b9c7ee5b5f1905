//! Tasks whose workers died over them again and again.

use std::time::Duration;

use domain::{
    commit::{Subject, SubjectKind},
    gate::Verdict,
    ids::ProtocolId,
    protocol::{ProtocolEvent, ProtocolState},
    step::BlockedOn,
    task::{Lane, MAX_CRASHES, TaskKind},
};
use forge::git::{
    Git, GitConfig, Mirror, ObjectFormat,
    types::{BranchName, ObjectId},
};
use serde_json::{Value, json};
use store::{Claim, EventQuery, Order, queue::Caps};

use crate::{
    TestApp,
    protocols::{Work, by_owner, nothing, only_execution, owner},
};

on_both! {
    async fn a_gate_expires_although_every_worker_died_over_it(app: &TestApp) {
        let run = app.request("asks").await;
        every_worker_dies_over(app, TaskKind::ExpireGate).await;

        let _worker = app.worker().await;

        app.until(&run, &["Expired"]).await;
    }

    async fn a_push_that_happened_before_it_was_given_up_makes_way_for_the_next_result(app: &TestApp) {
        let scenes = json!([
            {"step": "01-fix.md", "attempt": 1, "actions": [{"do": "write", "path": "answer.txt", "text": "43\n"}]},
            {"step": "01-fix.md", "actions": [{"do": "write", "path": "answer.txt", "text": "42\n"}]},
        ]);
        let work = Work::new(app, scenes, only_execution).await;
        let first = work.worker().await;
        let id = work.protocol(Some(fix())).await;
        let failed = work.until(id, &["blocked"]).await;
        first.drain().await;
        // The first result is accepted, pushed, and nobody lives to say so.
        let (step, pushed) = (failed.steps[0].id, failed.steps[0].candidate().unwrap().commit.clone());
        app.control.approve_step(step, owner(), "owner", None, &by_owner(), nothing).await.unwrap();
        work.push(&pushed).await;
        every_worker_dies_over(app, TaskKind::AdvanceBranch).await;
        let second = work.worker().await;
        let given_up = work.until(id, &["blocked"]).await;
        assert!(matches!(given_up.state, ProtocolState::Blocked { on: BlockedOn::Operator { .. } }), "{:?}", given_up.state);

        app.control.retry_latest_step(id, &by_owner(), nothing).await.unwrap();

        let done = work.until(id, &["completed", "blocked"]).await;
        assert_eq!(done.state.name(), "completed", "{:?}", work.events(id).await);
        let branch = work.repository.git(&["rev-parse", BRANCH]).await;
        assert_eq!(done.branch.tip, Some(branch));
        assert_eq!(work.repository.git(&["show", "0001-fix-the-answer:answer.txt"]).await, "42");
        let mirror = work.mirror().await.branch_tip(&BranchName::parse(BRANCH).unwrap()).await.unwrap();
        assert_eq!(mirror.map(|tip| tip.to_string()), done.branch.tip);
        second.drain().await;
    }

    async fn what_the_ledger_once_had_on_the_branch_is_not_taken_off_it_again(app: &TestApp) {
        let scenes = json!([
            {"step": "01-fix.md", "actions": [{"do": "write", "path": "answer.txt", "text": "42\n"}]},
            {"step": "02-more.md", "actions": [{"do": "write", "path": "more.txt", "text": "more\n"}]},
        ]);
        let work = Work::new(app, scenes, only_execution).await;
        let worker = work.worker().await;
        let steps = json!({"steps": [
            {"id": "fix", "name": "01-fix.md", "checks": [["sh", "test.sh"]]},
            {"id": "more", "name": "02-more.md", "checks": [["sh", "test.sh"]],
             "gate": {"when": "before", "approvers": ["person:owner"], "self_approval": true}},
        ]});
        let id = work.protocol(Some(steps)).await;
        let waiting = work.until(id, &["blocked"]).await;
        // Somebody takes the branch back to its plan, whose commit the ledger once asked for.
        let plan = work.repository.git(&["rev-list", "--max-parents=1", "--reverse", "main..0001-fix-the-answer"]).await;
        let plan = plan.lines().next().unwrap();
        work.repository.git(&["update-ref", "refs/heads/0001-fix-the-answer", plan]).await;

        work.answer(&waiting, Verdict::Approve { note: None }).await;

        let blocked = work.until(id, &["blocked", "completed"]).await;
        assert!(matches!(&blocked.state, ProtocolState::Blocked { on: BlockedOn::Conflict { .. } }), "{:?}", blocked.state);
        assert_eq!(work.repository.git(&["rev-parse", BRANCH]).await, plan);
        worker.drain().await;
    }

    async fn a_plan_whose_push_was_given_up_makes_way_for_the_next_plan(app: &TestApp) {
        let scenes = json!([{"step": "01-fix.md", "actions": [{"do": "write", "path": "answer.txt", "text": "42\n"}]}]);
        let work = Work::new(app, scenes, only_execution).await;
        // A branch that is checked out takes no push.
        work.repository.git(&["checkout", "--quiet", "--orphan", BRANCH]).await;
        let worker = work.worker().await;
        let id = work.protocol(Some(fix())).await;
        work.until(id, &["blocked"]).await;
        work.repository.git(&["checkout", "--quiet", "--force", "main"]).await;
        work.push(&work.planned(id).await).await;

        app.control.start_protocol(id, &by_owner(), nothing).await.unwrap();

        let done = work.until(id, &["completed", "blocked"]).await;
        assert_eq!(done.state.name(), "completed", "{:?}", work.events(id).await);
        assert_eq!(work.repository.git(&["show", "0001-fix-the-answer:answer.txt"]).await, "42");
        worker.drain().await;
    }
}

const BRANCH: &str = "0001-fix-the-answer";

fn fix() -> Value {
    json!({"steps": [{"id": "fix", "name": "01-fix.md", "checks": [["sh", "test.sh"]]}]})
}

impl Work<'_> {
    async fn mirror(&self) -> Mirror {
        let git = Git::find(GitConfig::beneath(self.app.ledger.dir())).await.unwrap();
        let dir = self.app.ledger.dir().join("mirrors").join(format!("{}.git", self.project));
        Mirror::open_or_create(&git, &dir, ObjectFormat::Sha1).await.unwrap()
    }

    /// Pushes a commit to where the branch now is, as a worker does before it dies.
    async fn push(&self, commit: &str) {
        let mirror = self.mirror().await;
        let branch = BranchName::parse(BRANCH).unwrap();
        let old = mirror.remote_tip(&self.remote(), &branch).await.unwrap();
        mirror.push(&self.remote(), &branch, old.as_ref(), &ObjectId::parse(commit).unwrap()).await.unwrap();
    }

    /// The commit of the plan that was accepted last.
    async fn planned(&self, id: ProtocolId) -> String {
        let subject = Subject::new(SubjectKind::Protocol, &id);
        let query = EventQuery {
            subject: Some(subject),
            project: None,
            step: None,
            kinds: Vec::new(),
            order: Order::Descending,
            after: None,
            limit: 500,
        };
        let events = self.app.control.store().list_events(&query).await.unwrap().events;
        let accepted = events.iter().find_map(|event| match serde_json::from_str(&event.data).unwrap() {
            ProtocolEvent::PlanAccepted { commit, .. } => Some(commit),
            _ => None,
        });
        accepted.unwrap()
    }
}

async fn every_worker_dies_over(app: &TestApp, kind: TaskKind) {
    for death in 0..MAX_CRASHES {
        claim_and_die(app, &format!("w-dead-{death}"), kind).await;
    }
}

/// Claims a task of this kind when there is one, and is never heard of again.
async fn claim_and_die(app: &TestApp, incarnation: &str, kind: TaskKind) {
    let store = app.control.store();
    loop {
        let now = app.control.clock().now();
        store.promote(now, 500).await.unwrap();
        let claim = Claim {
            lane: Lane::Fast,
            incarnation: incarnation.to_owned(),
            limit: 256,
            lease: Duration::from_millis(1),
            caps: Caps::default(),
            now,
        };
        let claimed = store.work(Vec::new(), claim).await.unwrap().tasks;
        tokio::time::sleep(Duration::from_millis(10)).await;
        store.reap("w-alive", 500).await.unwrap();
        if claimed.iter().any(|task| task.kind == kind) {
            return;
        }
    }
}
