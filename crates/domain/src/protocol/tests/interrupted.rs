//! What is cut off, paused, cancelled, refused or lost.

use super::*;

#[test]
fn an_interrupted_step_starts_again_from_the_branch_tip() {
    let mut told = Told::planned(Advance::Auto, vec![skip("01-fix")]);
    let fence = told.start(1);
    let gate = told.gate_id();
    let why = "the worker died".to_owned();

    told.tell(&ProtocolCommand::StepInterrupted { step: StepId(1), fence, why, gate }).unwrap();
    let late = Box::new(made(candidate(&oid(0), &oid(1), 1)));
    let fenced = told
        .tell(&ProtocolCommand::StepExecuted { step: StepId(1), fence, result: late, gate: some_gate() })
        .unwrap_err();

    assert_eq!(fenced, ProtocolError::Fenced { protocol: ProtocolId(7) });
    assert_eq!(told.effects.last().unwrap().kind, TaskKind::ExecuteStep);
    told.execute(1);
    assert_eq!(told.protocol.steps[0].attempt.as_ref().unwrap().number, 2);
}

#[test]
fn a_step_that_keeps_being_cut_off_waits_for_somebody_to_look() {
    let mut told = Told::planned(Advance::Auto, vec![skip("01-fix")]);

    for _ in 0..3 {
        let fence = told.start(1);
        let (gate, why) = (told.gate_id(), "out of memory".to_owned());
        told.tell(&ProtocolCommand::StepInterrupted { step: StepId(1), fence, why, gate }).unwrap();
    }

    let why = "cut off 3 times in a row, last: out of memory".to_owned();
    assert_eq!(told.protocol.state, ProtocolState::Blocked { on: BlockedOn::Interrupted { why } });
}

#[test]
fn an_interrupted_step_that_reaches_outside_asks_first() {
    let spec = StepSpec { retry: Some(Retry::Ask), ..skip("01-fix") };
    let mut told = Told::planned(Advance::Auto, vec![spec]);
    let fence = told.start(1);
    let (gate, why) = (told.gate_id(), "power loss".to_owned());

    told.tell(&ProtocolCommand::StepInterrupted { step: StepId(1), fence, why, gate }).unwrap();
    assert_eq!((told.status(), told.step_status(1)), ("blocked", "blocked"));
    told.answer(Verdict::Approve { note: None }).unwrap();

    assert_eq!((told.status(), told.step_status(1)), ("running", "running"));
}

#[test]
fn an_adopted_attempt_ends_under_its_new_fence_only() {
    let mut told = Told::planned(Advance::Auto, vec![skip("01-fix")]);
    let old = told.start(1);
    let adopt =
        ProtocolCommand::AdoptStep { step: StepId(1), old, fence: Fence(90), worker: "v".to_owned(), session: None };

    told.tell(&adopt).unwrap();
    let result = Box::new(made(candidate(&oid(0), &oid(1), 1)));
    let stale = told.tell(&ProtocolCommand::StepExecuted {
        step: StepId(1),
        fence: old,
        result: result.clone(),
        gate: some_gate(),
    });
    told.tell(&ProtocolCommand::StepExecuted { step: StepId(1), fence: Fence(90), result, gate: some_gate() }).unwrap();

    assert_eq!(stale, Err(ProtocolError::Fenced { protocol: ProtocolId(7) }));
    assert_eq!(told.protocol.steps[0].attempt.as_ref().unwrap().number, 1);
    assert!(integration(&told.protocol, 1).is_some());
}

#[test]
fn how_an_attempt_is_held_is_told_once_and_only_by_who_carries_it() {
    let mut told = Told::planned(Advance::Auto, vec![skip("01-fix")]);
    let fence = told.start(1);
    let tell = |fence| ProtocolCommand::TellAttempt { step: Some(StepId(1)), fence, fact: contained(1) };

    let first = told.tell(&tell(fence)).unwrap();
    let again = told.tell(&tell(fence)).unwrap();
    let stale = told.tell(&tell(Fence(1)));

    assert_eq!(first.events, [ProtocolEvent::AttemptTold { step: Some(StepId(1)), fact: contained(1) }]);
    assert_eq!(first.events[0].name(), "attempt_contained");
    assert!(again.is_nothing());
    assert_eq!(stale, Err(ProtocolError::Fenced { protocol: ProtocolId(7) }));
    let Fact::Contained(containment) = contained(1) else { panic!("it is one") };
    assert_eq!(told.protocol.steps[0].attempt.as_ref().unwrap().containment, Some(containment));
    assert_eq!(told.step_status(1), "running");
}

#[test]
fn pausing_takes_waiting_work_back_and_resuming_asks_for_it_again() {
    let mut told = Told::planned(Advance::Auto, vec![skip("01-fix")]);
    let pause = ProtocolCommand::Pause { by: "user:alice".to_owned() };

    let paused = told.tell(&pause).unwrap();
    assert_eq!(paused.withdraw[0].kinds, [TaskKind::PlanProtocol, TaskKind::ExecuteStep, TaskKind::RunQuality]);
    assert_eq!((told.status(), told.step_status(1)), ("paused", "pending"));
    assert!(matches!(told.tell(&pause), Err(ProtocolError::WrongState { state: "paused", .. })));
    told.start(1);
    assert_eq!(told.step_status(1), "pending");
    let gate = told.gate_id();
    let resumed = told.tell(&ProtocolCommand::Resume { gate }).unwrap();

    assert_eq!(resumed.effects[0].kind, TaskKind::ExecuteStep);
    assert_eq!((told.status(), told.step_status(1)), ("running", "running"));
}

#[test]
fn work_that_has_begun_is_told_to_stop_and_starts_again_after_resuming() {
    let mut told = Told::planned(Advance::Auto, vec![skip("01-fix")]);
    let fence = told.start(1);
    let task = told.protocol.steps[0].running().unwrap().task.clone();

    let paused = told.tell(&ProtocolCommand::Pause { by: "user:alice".to_owned() }).unwrap();
    assert_eq!(paused.withdraw[0].begun, std::slice::from_ref(&task));
    assert_eq!((told.status(), told.step_status(1)), ("paused", "running"));

    // Resumed before anybody ended it: nothing is asked for until then, and what was not is not lost.
    let gate = told.gate_id();
    assert_eq!(told.tell(&ProtocolCommand::Resume { gate: gate.clone() }).unwrap().effects, []);
    let own = told.protocol.steps[0].duty(TaskKind::ExecuteStep, &task, true);
    assert!(matches!(own, Duty::TakeOver(attempt) if attempt.fence == fence));
    let stopped = told.tell(&ProtocolCommand::StepStopped { step: StepId(1), fence, gate }).unwrap();

    assert_eq!(stopped.effects[0].kind, TaskKind::ExecuteStep);
    assert_eq!((told.status(), told.step_status(1)), ("running", "running"));
}

#[test]
fn a_task_minds_its_own_attempt_and_begins_nothing_once_it_was_told_to_stop() {
    let mut told = Told::planned(Advance::Auto, vec![skip("01-fix")]);
    let (old, new) = (TaskId::from("old"), TaskId::from("new"));
    let duty = |told: &Told, task, stop| told.protocol.steps[0].duty(TaskKind::ExecuteStep, task, stop);

    // Asked for, taken back and asked for again, while a worker still held the first task.
    assert_eq!((duty(&told, &old, true), duty(&told, &new, false)), (Duty::Nothing, Duty::Begin));
    assert_eq!(told.protocol.steps[0].duty(TaskKind::RunQuality, &new, false), Duty::Nothing);
    let begin = Begin { task: new.clone(), ..told.begin() };
    let (engine, gate) = ("scripted".to_owned(), told.gate_id());
    told.tell(&ProtocolCommand::StartStep { step: StepId(1), begin, engine, gate }).unwrap();
    let running = told.protocol.steps[0].running().unwrap().clone();

    assert_eq!((duty(&told, &old, true), duty(&told, &old, false)), (Duty::Nothing, Duty::Nothing));
    assert_eq!(duty(&told, &new, false), Duty::TakeOver(running));
    let cancelled = told.tell(&ProtocolCommand::Cancel { by: "user:alice".to_owned() }).unwrap();
    assert_eq!(cancelled.withdraw[0].begun, std::slice::from_ref(&new));
    let over = told.protocol.steps[0].attempt.clone().unwrap();
    assert_eq!((duty(&told, &new, true), duty(&told, &old, true)), (Duty::CleanUp(over), Duty::Nothing));
}

#[test]
fn a_result_that_arrives_while_paused_counts_and_waits() {
    let mut told = Told::planned(Advance::Auto, vec![StepSpec::new("01-fix")]);
    let fence = told.start(1);
    told.tell(&ProtocolCommand::Pause { by: "user:alice".to_owned() }).unwrap();
    let result = Box::new(made(candidate(&oid(0), &oid(1), 1)));

    told.tell(&ProtocolCommand::StepExecuted { step: StepId(1), fence, result, gate: some_gate() }).unwrap();
    assert_eq!((told.status(), told.step_status(1)), ("paused", "needs_qa"));
    let gate = told.gate_id();
    let resumed = told.tell(&ProtocolCommand::Resume { gate }).unwrap();

    assert_eq!(resumed.effects[0].kind, TaskKind::RunQuality);
}

#[test]
fn cancelling_ends_everything_and_is_heard_twice() {
    let mut told = Told::planned(Advance::Auto, vec![gated("01-fix"), skip("02-more")]);
    let cancel = ProtocolCommand::Cancel { by: "user:alice".to_owned() };

    let cancelled = told.tell(&cancel).unwrap();
    let again = told.tell(&cancel).unwrap();

    let everything = Withdraw { subject: told.protocol.subject(), kinds: Vec::new(), begun: Vec::new() };
    assert_eq!(cancelled.withdraw, [everything]);
    assert!(again.is_nothing());
    assert_eq!((told.status(), told.step_status(1), told.step_status(2)), ("cancelled", "cancelled", "cancelled"));
    check_invariants(&told);
}

#[test]
fn a_branch_that_somebody_else_moved_blocks_and_is_learned() {
    let mut told = Told::planned(Advance::Auto, vec![skip("01-fix")]);
    told.execute(1);

    let moved = ProtocolCommand::BranchMoved { step: Some(StepId(1)), new: oid(1), found: Some(oid(50)) };
    told.tell(&moved).unwrap();

    assert_eq!((told.status(), told.step_status(1)), ("blocked", "blocked"));
    assert_eq!(told.protocol.branch.tip, Some(oid(50)));
    let gate = told.gate_id();
    told.tell(&ProtocolCommand::RunNextStep { gate }).unwrap();
    told.execute(1);
    told.advance(1);
    assert_eq!(told.status(), "completed");
}

#[test]
fn a_task_that_the_queue_gave_up_fails_its_step() {
    let mut told = Told::planned(Advance::Auto, vec![skip("01-fix")]);

    let why = "killed its worker three times".to_owned();
    let (kind, task, step) = (TaskKind::ExecuteStep, TaskId::from("T"), Some(StepId(1)));
    let stale = ProtocolCommand::TaskDead { kind, task: task.clone(), stop: true, step, why: why.clone() };
    assert!(told.tell(&stale).unwrap().is_nothing(), "what it was stored for was taken back and asked for again");
    told.tell(&ProtocolCommand::TaskDead { kind, task, stop: false, step, why }).unwrap();

    assert_eq!((told.status(), told.step_status(1)), ("blocked", "failed"));
    assert!(told.names().contains(&"job_failed"));
}

#[test]
fn planning_that_failed_blocks_and_can_be_tried_again() {
    let mut told = Told::new(Advance::Auto);
    let gate = told.gate_id();
    told.tell(&ProtocolCommand::Start { gate: gate.clone() }).unwrap();
    let again = told.tell(&ProtocolCommand::Start { gate: gate.clone() }).unwrap_err();
    assert_eq!(again, ProtocolError::WrongState { protocol: ProtocolId(7), state: "planning", wanted: "started" });
    let begin = told.begin();
    let fence = begin.fence;
    told.tell(&ProtocolCommand::BeginPlan { begin, engine: "scripted".to_owned() }).unwrap();
    let failure = Failure::new("engine_unavailable", "no planning engine");

    told.tell(&ProtocolCommand::PlanFailed { fence, failure, end: ended(Ending::Failed), fall_back: None }).unwrap();
    assert_eq!(told.status(), "blocked");
    told.tell(&ProtocolCommand::Start { gate }).unwrap();

    assert_eq!(told.status(), "planning");
}

#[test]
fn names_and_states_that_mean_nothing_are_refused() {
    for name in [
        "1-x",
        "0001",
        "0001-",
        "0001-X",
        "0001-a--b",
        "0001-a-",
        "00011-a",
        "--upload-pack=x",
        "0001-../x",
        "0001-a\0",
    ] {
        assert!(!is_protocol_name(name), "{name}");
    }
    assert!(is_protocol_name("0001-make-the-test-pass2"));
    let new = |status: Option<&str>, name: &str| NewProtocol {
        id: ProtocolId(1),
        project: ProjectId(1),
        name: name.to_owned(),
        status: status.map(str::to_owned),
        base_branch: "main".to_owned(),
        description: None,
        advance: Advance::Manual,
        template_config: None,
        template_source: None,
        spec: None,
        created_by: None,
        requester: "x".to_owned(),
    };
    assert!(Protocol::create(new(Some("pending"), "0001-a"), &Context { now: NOON }).is_ok());
    assert!(Protocol::create(new(Some("banana"), "0001-a"), &Context { now: NOON }).is_err());
    assert!(Protocol::create(new(None, "banana"), &Context { now: NOON }).is_err());
}
