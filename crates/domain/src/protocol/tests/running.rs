//! Protocols on their way from start to completed, and the gates and checks they meet.

use super::*;

#[test]
fn a_protocol_runs_from_start_to_completed_by_itself() {
    let mut told = Told::planned(Advance::Auto, vec![skip("00-setup"), StepSpec::new("01-fix")]);
    assert_eq!((told.status(), told.step_status(1)), ("running", "running"));

    told.execute(1);
    told.advance(1);
    told.execute(2);
    assert_eq!(told.step_status(2), "needs_qa");
    told.check(2, QaVerdict::Pass);
    told.advance(2);

    assert_eq!(told.status(), "completed");
    assert_eq!(
        told.names(),
        [
            "protocol_created",
            "planning_enqueued",
            "planning_started",
            "plan_accepted",
            "branch_advanced",
            "planned",
            "running",
            "step_enqueued",
            "step_started",
            "step_executed",
            "qa_skipped_policy",
            "integration_enqueued",
            "branch_advanced",
            "step_completed",
            "step_enqueued",
            "step_started",
            "step_executed",
            "qa_enqueued",
            "qa_started",
            "qa_passed",
            "integration_enqueued",
            "branch_advanced",
            "step_completed",
            "protocol_completed",
        ]
    );
    check_invariants(&told);
}

#[test]
fn the_next_step_waits_until_the_branch_has_moved() {
    let mut told = Told::planned(Advance::Auto, vec![skip("00-setup"), skip("01-fix")]);

    told.execute(1);

    assert_eq!((told.step_status(1), told.step_status(2)), ("running", "pending"));
    let last = told.effects.last().unwrap();
    assert_eq!(last.kind, TaskKind::AdvanceBranch);
    let wanted = serde_json::json!({ "step": 1, "branch": "0001-fix", "old": oid(0), "new": oid(1) });
    assert_eq!(last.payload, wanted);
}

#[test]
fn a_manual_protocol_waits_to_be_told() {
    let mut told = Told::planned(Advance::Manual, vec![skip("00-setup"), skip("01-fix")]);
    assert_eq!((told.status(), told.step_status(1)), ("planned", "pending"));

    let gate = told.gate_id();
    told.tell(&ProtocolCommand::RunNextStep { gate: gate.clone() }).unwrap();
    let busy = told.tell(&ProtocolCommand::RunNextStep { gate }).unwrap_err();
    told.execute(1);
    told.advance(1);

    assert_eq!(busy, ProtocolError::Busy { protocol: ProtocolId(7), busy: StepId(1), state: "running" });
    assert_eq!((told.status(), told.step_status(1), told.step_status(2)), ("running", "completed", "pending"));
}

#[test]
fn steps_added_by_hand_run_without_a_plan() {
    let mut told = Told::new(Advance::Manual);
    for (id, name) in [(1, "00-setup"), (2, "01-fix")] {
        let step = NewStep { id: StepId(id), index: u32::try_from(id).unwrap(), summary: None, spec: skip(name) };
        told.tell(&ProtocolCommand::AddStep { step: Box::new(step) }).unwrap();
    }
    let taken = NewStep { id: StepId(3), index: 2, summary: None, spec: skip("x") };

    let again = told.tell(&ProtocolCommand::AddStep { step: Box::new(taken) }).unwrap_err();
    let gate = told.gate_id();
    let early = told.tell(&ProtocolCommand::RunStep { step: StepId(2), gate: gate.clone() }).unwrap_err();
    told.tell(&ProtocolCommand::RunNextStep { gate }).unwrap();

    assert_eq!(again, ProtocolError::IndexTaken { protocol: ProtocolId(7), index: 2 });
    assert_eq!(early, ProtocolError::Unmet { step: StepId(2), unmet: 1 });
    assert_eq!((told.status(), told.step_status(1)), ("running", "running"));
}

#[test]
fn an_empty_diff_where_work_was_asked_for_cannot_pass() {
    for spec in [skip("01-fix"), StepSpec::new("01-fix")] {
        let mut told = Told::planned(Advance::Auto, vec![spec]);
        let fence = told.start(1);

        let result = Box::new(made(candidate(&oid(0), &oid(1), 0)));
        told.tell(&ProtocolCommand::StepExecuted { step: StepId(1), fence, result, gate: some_gate() }).unwrap();

        assert_eq!((told.status(), told.step_status(1)), ("blocked", "failed"));
        assert!(matches!(&told.protocol.state, ProtocolState::Blocked { on: BlockedOn::Failure { failure } }
            if failure.code == "empty_diff"));
    }
}

#[test]
fn a_missing_engine_fails_the_step_and_blocks_the_protocol() {
    let mut told = Told::planned(Advance::Auto, vec![StepSpec::new("01-fix")]);
    let fence = told.start(1);
    let failure = Failure::new("engine_unavailable", "no engine `codex` here");

    let result =
        Executed { end: ended(Ending::Failed), failure: Some(failure.clone()), candidate: None, fall_back: None };
    told.tell(&ProtocolCommand::StepExecuted { step: StepId(1), fence, result: Box::new(result), gate: some_gate() })
        .unwrap();

    assert_eq!(told.protocol.state, ProtocolState::Blocked { on: BlockedOn::Failure { failure } });
    assert_eq!(told.step_status(1), "failed");
    let gate = told.gate_id();
    told.tell(&ProtocolCommand::RetryLatest { gate }).unwrap();
    assert_eq!((told.status(), told.step_status(1)), ("running", "running"));
    assert_eq!(told.protocol.steps[0].retries, 1);
}

#[test]
fn a_failed_check_keeps_the_branch_where_it_is_until_a_person_accepts() {
    let mut told = Told::planned(Advance::Auto, vec![StepSpec::new("01-fix")]);
    told.execute(1);
    told.check(1, QaVerdict::Fail);
    assert_eq!((told.status(), told.step_status(1)), ("blocked", "failed"));
    assert_eq!(told.protocol.branch.tip, Some(oid(0)));
    let approve = |by| ProtocolCommand::ApproveStep {
        step: StepId(1),
        by,
        account: "alice".to_owned(),
        reason: Some("known to be flaky".to_owned()),
        gate: GateId::from("G"),
    };

    let agent = told.tell(&approve(person("bot", PersonKind::Agent))).unwrap_err();
    told.tell(&approve(alice())).unwrap();
    told.advance(1);

    assert_eq!(agent, ProtocolError::NotAPerson { person: "bot".to_owned() });
    assert_eq!(told.status(), "completed");
    assert!(matches!(&told.protocol.steps[0].state, StepState::Completed { by, reason: Some(reason), .. }
        if by == "user:alice" && reason == "known to be flaky"));
    let twice = told.tell(&approve(alice())).unwrap_err();
    assert!(matches!(twice, ProtocolError::WrongState { state: "completed", .. }));
}

#[test]
fn approving_is_refused_where_a_person_may_not() {
    let mut told = Told::planned(Advance::Auto, vec![StepSpec::new("01-fix"), StepSpec::new("02-more")]);
    for step in [1, 2] {
        let command = ProtocolCommand::ApproveStep {
            step: StepId(step),
            by: alice(),
            account: "alice".to_owned(),
            reason: None,
            gate: GateId::from("G"),
        };

        assert!(matches!(told.tell(&command), Err(ProtocolError::StepWrongState { .. })));
    }
}

#[test]
fn a_pass_without_a_single_check_is_no_pass() {
    let mut told = Told::planned(Advance::Auto, vec![StepSpec::new("01-fix")]);
    told.execute(1);
    let begin = told.begin();
    let fence = begin.fence;
    told.tell(&ProtocolCommand::QaStarted { step: StepId(1), begin, engine: "checks".to_owned() }).unwrap();

    let report = Box::new(QaReport { findings: Vec::new(), ..report(QaVerdict::Pass) });
    told.tell(&ProtocolCommand::QaFinished { step: StepId(1), fence, report }).unwrap();

    assert_eq!((told.status(), told.step_status(1)), ("blocked", "blocked"));
}

#[test]
fn a_gate_stands_before_its_step_and_a_yes_lets_it_start() {
    let mut told = Told::planned(Advance::Auto, vec![skip("01-fix"), gated("02-finalize")]);
    told.execute(1);
    told.advance(1);
    let gate = told.protocol.open_gate().unwrap().clone();
    assert_eq!((told.status(), told.step_status(2)), ("blocked", "blocked"));
    assert_eq!(Some(gate.digest.clone()), told.protocol.step_digest(&told.protocol.steps[1]));
    let around = told.tell(&ProtocolCommand::RunNextStep { gate: GateId::from("G") }).unwrap_err();
    assert_eq!(around, ProtocolError::WaitsForGate { step: StepId(2), gate: gate.id });

    told.answer(Verdict::Approve { note: None }).unwrap();

    assert_eq!((told.status(), told.step_status(2)), ("running", "running"));
    told.execute(2);
    told.advance(2);
    assert_eq!(told.status(), "completed");
    check_invariants(&told);
}

#[test]
fn whoever_asked_for_the_protocol_cannot_open_its_gate() {
    let mut told = Told::planned(Advance::Auto, vec![gated("01-fix")]);
    let owner = person("owner", PersonKind::Human);
    let answer = Answer { by: owner, account: "owner".to_owned(), verdict: Verdict::Approve { note: None } };

    let refused = told.tell(&ProtocolCommand::AnswerGate { gate: None, answer, next: GateId::from("N") }).unwrap_err();

    assert!(
        matches!(refused, ProtocolError::Gate(GateError::SelfApproval { policy, .. }) if policy == "gate.self_approval")
    );
}

#[test]
fn a_no_and_silence_both_block_with_the_reason() {
    for deny in [true, false] {
        let mut told = Told::planned(Advance::Auto, vec![gated("01-fix")]);
        let gate = told.protocol.open_gate().unwrap().id.clone();

        if deny {
            told.answer(Verdict::Deny { reason: Some("not today".to_owned()) }).unwrap();
        } else {
            told.now = told.now.after(DAY);
            told.tell(&ProtocolCommand::ExpireGate { gate: gate.clone() }).unwrap();
        }

        let why = if deny { "denied by alice: not today" } else { "nobody answered in time" };
        let on = BlockedOn::Refused { gate, why: why.to_owned() };
        assert_eq!(told.protocol.state, ProtocolState::Blocked { on: on.clone() });
        assert_eq!(told.protocol.steps[0].state, StepState::Blocked { on, candidate: None });
        let again = told.answer(Verdict::Approve { note: None }).unwrap_err();
        assert!(matches!(again, ProtocolError::NoSuchGate { .. }), "{again}");
        let gate = told.gate_id();
        told.tell(&ProtocolCommand::RunNextStep { gate: gate.clone() }).unwrap();
        assert_eq!(told.protocol.open_gate().unwrap().id, gate);
    }
}

#[test]
fn what_changed_after_the_yes_is_asked_again() {
    let mut told = Told::planned(Advance::Auto, vec![gated("01-fix")]);
    told.answer(Verdict::Approve { note: None }).unwrap();
    told.protocol.branch.tip = Some(oid(77));
    told.protocol.steps[0].state = StepState::Running { work: Work::Queued };

    told.start(1);

    assert_eq!((told.status(), told.step_status(1)), ("blocked", "blocked"));
    assert!(told.protocol.open_gate().is_some());
}
