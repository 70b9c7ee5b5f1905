//! Engines that ask whether they may.

use super::*;
use crate::gate::{Approvers, GateKind, GateState};

pub(super) fn question(id: &str) -> PermissionQuestion {
    PermissionQuestion {
        id: id.to_owned(),
        engine: "claude".to_owned(),
        tool: "Bash".to_owned(),
        input: "rm -r build".to_owned(),
        paths: vec!["build".to_owned()],
        asked: "a".repeat(64),
        approvers: Approvers::Anyone,
        quorum: 1,
        timeout: DAY,
    }
}

impl Told {
    fn ask(&mut self, fence: Fence, question: PermissionQuestion) -> Result<Decision<ProtocolEvent>, ProtocolError> {
        let (question, gate) = (Box::new(question), self.gate_id());
        self.tell(&ProtocolCommand::AskPermission { step: Some(StepId(1)), fence, question, gate })
    }
}

fn asking() -> (Told, Fence) {
    let mut told = Told::planned(Advance::Auto, vec![skip("01-fix")]);
    let fence = told.start(1);
    told.ask(fence, question("q1")).unwrap();
    (told, fence)
}

#[test]
fn a_question_is_a_gate_that_nothing_but_its_engine_waits_for() {
    let (told, _) = asking();

    let gate = told.protocol.open_gate().unwrap();

    assert_eq!((told.status(), told.step_status(1)), ("running", "running"));
    assert_eq!((gate.asks.kind, gate.requester.as_str()), (GateKind::Permission, "engine:claude"));
    assert_eq!(gate.asks.lines, ["tool Bash", "rm -r build", "path build"]);
    assert_eq!(gate.deadline, Some(NOON.after(DAY)));
    assert_eq!(told.effects.last().unwrap().kind, TaskKind::ExpireGate);
}

#[test]
fn an_answer_changes_the_gate_and_leaves_the_step_at_work() {
    for (verdict, state) in [(Verdict::Approve { note: None }, "approved"), (Verdict::Deny { reason: None }, "denied")]
    {
        let (mut told, _) = asking();

        told.answer(verdict).unwrap();

        assert_eq!(told.protocol.gates[0].state.name(), state);
        assert_eq!((told.status(), told.step_status(1)), ("running", "running"));
    }
}

#[test]
fn nobody_answering_in_time_is_a_no_that_blocks_nothing() {
    let (mut told, _) = asking();
    let gate = told.protocol.gates[0].id.clone();
    told.now = told.now.after(DAY);

    told.tell(&ProtocolCommand::ExpireGate { gate }).unwrap();

    assert_eq!(told.protocol.gates[0].state.name(), "expired");
    assert_eq!((told.status(), told.step_status(1)), ("running", "running"));
}

#[test]
fn the_same_question_is_put_once_and_the_next_takes_its_place() {
    let (mut told, fence) = asking();

    let again = told.ask(fence, question("q1")).unwrap();
    told.ask(fence, question("q2")).unwrap();

    assert_eq!(again, Decision::nothing());
    let states: Vec<_> = told.protocol.gates.iter().map(|gate| gate.state.name()).collect();
    assert_eq!(states, ["withdrawn", "open"]);
}

#[test]
fn the_digest_is_over_everything_that_was_asked() {
    let attempt = AttemptId("step-1-1".to_owned());
    let plain = question("q1").digest(&attempt).unwrap();
    let others = [
        PermissionQuestion { tool: "Write".to_owned(), ..question("q1") },
        PermissionQuestion { input: "rm -r src".to_owned(), ..question("q1") },
        PermissionQuestion { paths: Vec::new(), ..question("q1") },
        PermissionQuestion { asked: "b".repeat(64), ..question("q1") },
        PermissionQuestion { engine: "codex".to_owned(), ..question("q1") },
        question("q2"),
    ];

    assert!(others.iter().all(|other| other.digest(&attempt).unwrap() != plain));
    assert_ne!(question("q1").digest(&AttemptId("step-1-2".to_owned())).unwrap(), plain);
}

#[test]
fn a_question_dies_with_the_processes_that_asked_it() {
    let gone: [fn(&mut Told, Fence) -> ProtocolCommand; 5] = [
        |_, fence| {
            let result = Box::new(made(candidate(&oid(0), &oid(1), 1)));
            ProtocolCommand::StepExecuted { step: StepId(1), fence, result, gate: some_gate() }
        },
        |told, fence| {
            let gate = told.gate_id();
            ProtocolCommand::StepInterrupted { step: StepId(1), fence, why: "gone".to_owned(), gate }
        },
        |_, fence| {
            let session = Some("s1".to_owned());
            let (step, worker) = (StepId(1), "v".to_owned());
            ProtocolCommand::AdoptStep { step, old: fence, fence: Fence(90), worker, session }
        },
        |_, fence| ProtocolCommand::DropQuestions { step: Some(StepId(1)), fence },
        |_, _| ProtocolCommand::Cancel { by: "alice".to_owned() },
    ];
    for gone in gone {
        let (mut told, fence) = asking();
        let command = gone(&mut told, fence);

        told.tell(&command).unwrap();

        assert_eq!(told.protocol.gates[0].state, GateState::Withdrawn { at: NOON }, "{command:?}");
    }
}

#[test]
fn a_question_outlives_the_worker_that_put_it() {
    let (mut told, fence) = asking();
    let (step, worker) = (StepId(1), "v".to_owned());

    told.tell(&ProtocolCommand::AdoptStep { step, old: fence, fence: Fence(90), worker, session: None }).unwrap();

    assert!(told.protocol.gates[0].is_open());
}

#[test]
fn nobody_else_asks_for_an_attempt_and_not_without_end() {
    let (mut told, fence) = asking();

    let fenced = told.ask(Fence(90), question("q2")).unwrap_err();
    for number in 2..=MAX_QUESTIONS {
        told.ask(fence, question(&format!("q{number}"))).unwrap();
    }
    let refused = told.ask(fence, question("one more")).unwrap_err();

    assert_eq!(fenced, ProtocolError::Fenced { protocol: ProtocolId(7) });
    assert!(matches!(refused, ProtocolError::TooManyQuestions { asked: MAX_QUESTIONS, .. }), "{refused:?}");
}
