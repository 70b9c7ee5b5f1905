//! An agent that asks whether it may, and people who answer. The agent is a script that speaks just enough of its
//! protocol; everything around it is the product.

use std::{os::unix::fs::PermissionsExt, time::Duration};

use domain::{
    gate::{Gate, GateKind, Verdict},
    ids::ProtocolId,
    project::EngineChoice,
    protocol::{Protocol, ProtocolState},
    step::{BlockedOn, StepState, Work as Stage},
};
use engines::engine::{Configured, Engine, Permissions};
use serde_json::json;
use worker::{Handle, WorkerConfig};

use super::{
    PATIENCE, TestApp,
    protocols::{Work, by_owner, nothing, only_execution},
};

const ID: &str = "asker";

/// Asks once whether it may write the answer, and does as it is told.
const AGENT: &str = r#"#!/bin/sh
say() { printf '%s\n' "$1"; }
while read -r line; do
    case "$line" in
    *'"method":"initialize"'*) say '{"id":1,"result":{"protocolVersion":1,"agentCapabilities":{}}}' ;;
    *'"method":"session/new"'*) say '{"id":2,"result":{"sessionId":"s1"}}' ;;
    *'"method":"session/prompt"'*) say '{"id":"q1","method":"session/request_permission","params":{"sessionId":"s1",
"toolCall":{"toolCallId":"t1","kind":"execute","title":"write it","rawInput":{"command":"echo 42 > answer.txt"}},
"options":[{"optionId":"yes","kind":"allow_once"},{"optionId":"no","kind":"reject_once"}]}}' | tr -d '\n'; say '' ;;
    *'"optionId":"yes"'*) echo 42 > answer.txt; say '{"id":3,"result":{"stopReason":"end_turn"}}' ;;
    *'"optionId":"no"'*) say '{"id":3,"result":{"stopReason":"end_turn"}}' ;;
    *'"method":"session/cancel"'*) say '{"id":3,"result":{"stopReason":"cancelled"}}' ;;
    esac
done
"#;

struct Asking<'a> {
    work: Work<'a>,
    app: &'a TestApp,
}

impl<'a> Asking<'a> {
    async fn new(app: &'a TestApp) -> Self {
        let choice = EngineChoice::new(ID);
        let work = Work::new(app, json!([]), |_| only_execution(choice)).await;
        let program = app.ledger.dir().join("agent");
        std::fs::write(&program, AGENT).unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        Self { work, app }
    }

    async fn worker_with(&self, change: impl FnOnce(&mut Configured, &mut WorkerConfig)) -> Handle {
        let mut configured = Configured::new(ID, Engine::Acp);
        configured.command = vec![self.app.ledger.dir().join("agent").to_string_lossy().into_owned()];
        configured.permissions = Permissions::Ask;
        self.work
            .worker_with(|config| {
                change(&mut configured, config);
                config.engines.insert(configured);
            })
            .await
    }

    async fn worker(&self) -> Handle {
        self.worker_with(|_, _| {}).await
    }

    async fn begin(&self) -> ProtocolId {
        let step = json!({"id": "fix", "name": "01-fix.md", "description": "Say 42.", "checks": [["sh", "test.sh"]]});
        self.work.protocol(Some(json!({"steps": [step]}))).await
    }

    async fn get(&self, id: ProtocolId) -> Protocol {
        self.app.control.get::<Protocol>(&id.to_string()).await.unwrap().subject
    }

    async fn until(&self, what: &str, id: ProtocolId, holds: impl Fn(&Protocol) -> bool) -> Protocol {
        let started = host::clock::monotonic();
        loop {
            let protocol = self.get(id).await;
            if holds(&protocol) {
                return protocol;
            }
            assert!(started.elapsed() < PATIENCE, "waited for {what}: {protocol:#?} {:?}", self.work.events(id).await);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn asked(&self, id: ProtocolId) -> Protocol {
        self.until("a question", id, |protocol| protocol.open_gate().is_some()).await
    }
}

fn is_over(protocol: &Protocol) -> bool {
    ["completed", "blocked", "failed", "cancelled"].contains(&protocol.state.name())
}

fn only_gate(protocol: &Protocol) -> &Gate {
    let [gate] = protocol.gates.as_slice() else { panic!("{:#?}", protocol.gates) };
    gate
}

fn failure_of(protocol: &Protocol) -> &str {
    match &protocol.state {
        ProtocolState::Blocked { on: BlockedOn::Failure { failure } } => &failure.code,
        other => panic!("{other:?}"),
    }
}

on_both! {
    async fn what_people_allow_is_done_and_told(app: &TestApp) {
        let asking = Asking::new(app).await;
        let worker = asking.worker().await;
        let id = asking.begin().await;

        let waiting = asking.asked(id).await;
        let gate = only_gate(&waiting);
        assert_eq!((gate.asks.kind, gate.step), (GateKind::Permission, Some(1)));
        assert!(gate.asks.lines.iter().any(|line| line.contains("echo 42 > answer.txt")), "{:?}", gate.asks.lines);
        assert_eq!(gate.requester, "engine:asker");
        assert_eq!(waiting.state, ProtocolState::Running);
        assert!(matches!(waiting.steps[0].state, StepState::Running { work: Stage::Executing }));
        asking.work.answer(&waiting, Verdict::Approve { note: None }).await;

        let done = asking.until("the end", id, is_over).await;
        assert_eq!(done.state.name(), "completed", "{:?}", done.state);
        assert_eq!(asking.work.repository.git(&["show", "0001-fix-the-answer:answer.txt"]).await, "42");
        let events = asking.work.events(id).await;
        let of_gates: Vec<&String> = events.iter().filter(|kind| kind.contains("gate") || kind.contains("approval")).collect();
        assert_eq!(of_gates, ["gate_opened", "approval_given", "gate_approved"]);
        let told = std::fs::read_to_string(app.ledger.dir().join("attempts/step-1-1/stdout")).unwrap();
        assert!(told.contains(r#""type":"permission_wanted""#) && told.contains(r#""by":"owner""#), "{told}");
        worker.drain().await;
    }

    async fn what_people_deny_is_not_done(app: &TestApp) {
        let asking = Asking::new(app).await;
        let worker = asking.worker().await;
        let id = asking.begin().await;
        let waiting = asking.asked(id).await;

        asking.work.answer(&waiting, Verdict::Deny { reason: None }).await;

        let done = asking.until("the end", id, is_over).await;
        assert_eq!(failure_of(&done), "empty_diff");
        assert_eq!(only_gate(&done).state.name(), "denied");
        worker.drain().await;
    }

    async fn nobody_answering_is_a_no(app: &TestApp) {
        let asking = Asking::new(app).await;
        let worker = asking.worker_with(|configured, _| configured.ask.timeout = Duration::from_millis(300)).await;
        let id = asking.begin().await;

        let done = asking.until("the end", id, is_over).await;

        assert_eq!(failure_of(&done), "empty_diff");
        assert_eq!(only_gate(&done).state.name(), "expired");
        worker.drain().await;
    }

    async fn a_question_outlives_its_worker_and_its_answer_reaches_the_engine_through_the_next(app: &TestApp) {
        let asking = Asking::new(app).await;
        let first = asking.worker().await;
        let id = asking.begin().await;
        let waiting = asking.asked(id).await;
        first.drain().await;

        // Nobody holds the attempt at this moment.
        asking.work.answer(&waiting, Verdict::Approve { note: None }).await;
        let second = asking.worker().await;

        let done = asking.until("the end", id, is_over).await;
        assert_eq!(done.state.name(), "completed", "{:?}", done.state);
        only_gate(&done);
        let events = asking.work.events(id).await;
        assert_eq!(events.iter().filter(|kind| *kind == "step_started").count(), 1, "{events:?}");
        assert!(events.contains(&"attempt_adopted".to_owned()), "{events:?}");
        second.drain().await;
    }

    async fn an_adopted_question_is_not_put_twice(app: &TestApp) {
        let asking = Asking::new(app).await;
        let first = asking.worker().await;
        let id = asking.begin().await;
        asking.asked(id).await;
        first.drain().await;

        let second = asking.worker().await;
        let adopted = asking.until("the adoption", id, |protocol| {
            protocol.steps[0].attempt.as_ref().is_some_and(|attempt| attempt.worker == second.incarnation())
        }).await;
        only_gate(&adopted);
        asking.work.answer(&adopted, Verdict::Approve { note: None }).await;

        let done = asking.until("the end", id, is_over).await;
        assert_eq!(done.state.name(), "completed", "{:?}", done.state);
        only_gate(&done);
        second.drain().await;
    }

    async fn a_question_does_not_outlive_its_protocol(app: &TestApp) {
        let asking = Asking::new(app).await;
        let worker = asking.worker().await;
        let id = asking.begin().await;
        asking.asked(id).await;

        app.control.cancel_protocol(id, &by_owner(), nothing).await.unwrap();

        let done = asking.until("the end", id, is_over).await;
        assert_eq!(only_gate(&done).state.name(), "withdrawn");
        worker.drain().await;
    }

    async fn the_limits_of_an_engine_do_not_count_while_it_waits_for_people(app: &TestApp) {
        let asking = Asking::new(app).await;
        let worker = asking.worker_with(|_, config| config.engine_limits.idle = Duration::from_secs(5)).await;
        let id = asking.begin().await;
        let waiting = asking.asked(id).await;

        tokio::time::sleep(Duration::from_secs(8)).await;
        asking.work.answer(&waiting, Verdict::Approve { note: None }).await;

        let done = asking.until("the end", id, is_over).await;
        assert_eq!(done.state.name(), "completed", "{:?}", done.state);
        worker.drain().await;
    }
}
