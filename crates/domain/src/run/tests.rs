//! The rules of runs: each transition by example, then laws over random command orders.

use std::{collections::BTreeMap, time::Duration};

use proptest::prelude::*;

use super::*;
use crate::{
    aggregate::{Aggregate, fold},
    attempt::{Containment, Usage},
    catalog::Catalog,
    commit::Withdraw,
    decision::{Context, Decision},
    gate::{GateState, Verdict},
    person::{Person, PersonKind},
    task::TaskKind,
};

const NOON: Timestamp = Timestamp::from_micros(1_766_836_800_000_000);

fn person(name: &str) -> Person {
    Person {
        id: PersonId(format!("id-{name}")),
        name: name.to_owned(),
        kind: PersonKind::Human,
        active: true,
        accounts: vec![format!("dev:{name}")],
    }
}

fn answer(name: &str, verdict: Verdict) -> RunCommand {
    RunCommand::Answer { gate: None, answer: Answer { by: person(name), account: format!("dev:{name}"), verdict } }
}

fn approve(name: &str) -> RunCommand {
    answer(name, Verdict::Approve { note: None })
}

fn deny(name: &str) -> RunCommand {
    answer(name, Verdict::Deny { reason: None })
}

fn job(policy: &str, exec: &str) -> BoundJob {
    let text = format!(
        "[job.demo]\ntitle = \"Demo\"\nowner = \"team:ops\"\n[job.demo.exec]\nargv = [\"/bin/true\"]\n{exec}\n[job.demo.policy]\n{policy}\n"
    );
    let catalog = Catalog::parse(&text, "jobs.toml").unwrap();
    catalog.find("demo").unwrap().bind(&BTreeMap::new()).unwrap()
}

const TWO: &str = "approve = { of = [\"dev:bob\", \"dev:carol\", \"dev:dave\"], quorum = 2 }";
const ONE: &str = "approve = { of = [\"dev:*\"] }";

fn at(now: Timestamp) -> Context {
    Context { now }
}

fn request(job: BoundJob) -> RunRequest {
    RunRequest {
        id: RunId::from("7Q4K2MA"),
        gate: GateId::from("GATE234"),
        job,
        requested_by: person("alice").id,
        requester: "dev:alice".into(),
        reason: None,
        channel: "dev".into(),
        conversation: "dev:alice".into(),
    }
}

fn requested(job: BoundJob) -> Decision<RunEvent> {
    request(job).decide(&at(NOON))
}

fn run_of(job: BoundJob) -> Run {
    fold(&requested(job).events).unwrap()
}

fn after(mut run: Run, command: &RunCommand) -> Run {
    for event in run.decide(command, &at(NOON)).unwrap().events {
        run.apply(&event);
    }
    run
}

fn begin(fence: i64) -> Begin {
    Begin { task: TaskId::from("T"), fence: Fence(fence), worker: "w".into(), nonce: "n".into() }
}

fn start(run: &Run, fence: i64) -> RunCommand {
    RunCommand::Start { begin: begin(fence), now_digest: Some(run.digest.clone()) }
}

fn finish(fence: i64, ending: Ending) -> RunCommand {
    let result = Finished { ending, summary: "s".into(), exit_code: Some(1), usage: Some(Usage::default()) };
    RunCommand::Finish { fence: Fence(fence), worker: "w".into(), result, gate: GateId::from("GATE999") }
}

fn names(decision: &Decision<RunEvent>) -> Vec<&'static str> {
    decision.events.iter().map(Run::event_name).collect()
}

fn kinds(decision: &Decision<RunEvent>) -> Vec<TaskKind> {
    decision.effects.iter().map(|effect| effect.kind).collect()
}

#[test]
fn a_request_is_kept_as_its_first_event_and_what_that_does_not_say() {
    let request = request(job(ONE, ""));
    let kept = serde_json::to_value(request.requested()).unwrap();
    let decision = request.clone().decide(&at(NOON));

    assert_eq!(kept, serde_json::json!({"type": "request", "gate": "GATE234"}));
    let RunEvent::RunCreated { id, job, requested_by, requester, reason, channel, conversation, .. } =
        decision.events[0].clone()
    else {
        panic!("{:?}", decision.events)
    };
    let gate = GateId(kept["gate"].as_str().unwrap().to_owned());
    let replayed = RunRequest { id, gate, job: *job, requested_by, requester, reason, channel, conversation };
    assert_eq!(replayed, request);
    assert_eq!(replayed.decide(&at(NOON)), decision);
}

#[test]
fn a_request_asks_people_and_sets_the_hour() {
    let decision = requested(job(ONE, ""));

    assert_eq!(names(&decision), ["RunCreated", "ApprovalRequested"]);
    assert_eq!(kinds(&decision), [TaskKind::ExpireGate]);
    assert_eq!(decision.effects[0].due_at, Some(NOON.after(Duration::from_secs(24 * 3600))));
    let first_line = decision.messages[0].body.lines().next().unwrap();
    assert_eq!(first_line, "Job \"demo\" is ready. Reply YES 7Q4K2MA to approve or NO 7Q4K2MA to deny.");
    assert_eq!(decision.messages[0].idempotency_key, "approval-request:7Q4K2MA");
}

#[test]
fn a_job_that_needs_no_approval_starts_at_once() {
    let decision = requested(job("approve = \"none\"", ""));

    assert_eq!(names(&decision), ["RunCreated", "ExecutionDispatched"]);
    assert_eq!(kinds(&decision), [TaskKind::RunJob]);
}

#[test]
fn the_last_missing_approval_dispatches_the_run() {
    let run = after(run_of(job(TWO, "")), &approve("bob"));

    let decision = run.decide(&approve("carol"), &at(NOON)).unwrap();

    assert_eq!(names(&decision), ["ApprovalGiven", "RunApproved", "ExecutionDispatched"]);
    assert_eq!(kinds(&decision), [TaskKind::RunJob]);
    assert_eq!(decision.messages[0].body, "Approved. Starting run 7Q4K2MA for job \"demo\"\u{2026}");
    assert_eq!(decision.withdraw[0].kinds, [TaskKind::ExpireGate]);
}

#[test]
fn the_same_person_counts_once() {
    let run = after(run_of(job(TWO, "")), &approve("bob"));

    assert!(run.decide(&approve("bob"), &at(NOON)).unwrap().is_nothing());
}

#[test]
fn whoever_asked_cannot_approve_and_is_told_the_policy() {
    let error = run_of(job(ONE, "")).decide(&approve("alice"), &at(NOON)).unwrap_err();

    let policy = "policy.approve.distinct_from_requester".to_owned();
    assert_eq!(error, RunError::Gate(GateError::SelfApproval { gate: GateId::from("GATE234"), policy }));
}

#[test]
fn whoever_asked_may_approve_when_the_policy_says_so() {
    let policy = "approve = { of = [\"dev:*\"], distinct_from_requester = false }";
    let run = after(run_of(job(policy, "")), &approve("alice"));

    assert_eq!(run.state, RunState::Dispatching { attempt: 1 });
}

#[test]
fn agents_and_disabled_people_decide_nothing() {
    let mut agent = person("bob");
    agent.kind = PersonKind::Agent;
    let mut disabled = person("bob");
    disabled.active = false;
    for by in [agent, disabled] {
        let verdict = Verdict::Approve { note: None };
        let command = RunCommand::Answer { gate: None, answer: Answer { by, account: "dev:bob".into(), verdict } };

        let refused = run_of(job(ONE, "")).decide(&command, &at(NOON)).unwrap_err();

        assert!(matches!(refused, RunError::Gate(GateError::NotAPerson { .. })), "{refused}");
    }
}

#[test]
fn a_stranger_is_not_among_the_approvers() {
    let refused = run_of(job(TWO, "")).decide(&approve("mallory"), &at(NOON)).unwrap_err();

    assert!(matches!(refused, RunError::Gate(GateError::NotApprover { .. })), "{refused}");
}

#[test]
fn a_denial_ends_the_run_and_a_later_approval_is_told_who_decided() {
    let run = after(run_of(job(ONE, "")), &deny("bob"));

    assert_eq!(run.state.name(), "Denied");
    assert_eq!(
        run.decide(&approve("carol"), &at(NOON)).unwrap_err().to_string(),
        "gate GATE234 is already denied by dev:bob"
    );
}

#[test]
fn a_late_answer_expires_the_gate() {
    let run = run_of(job(ONE, ""));
    let late = NOON.after(Duration::from_secs(24 * 3600));

    let decision = run.decide(&approve("bob"), &at(late)).unwrap();

    assert_eq!(names(&decision), ["RunExpired"]);
}

#[test]
fn what_was_approved_is_what_runs() {
    let run = after(run_of(job(ONE, "")), &approve("bob"));

    let command = RunCommand::Start { begin: begin(7), now_digest: Some("0".repeat(64)) };
    let changed_catalog = run.decide(&command, &at(NOON)).unwrap();
    let mut tampered = run.clone();
    tampered.job.argv = vec!["/bin/false".into()];
    let changed_row = tampered.decide(&start(&run, 7), &at(NOON)).unwrap();

    assert_eq!(names(&changed_catalog), ["ExecutionBlocked"]);
    assert_eq!(names(&changed_row), ["ExecutionBlocked"]);
    assert_eq!(names(&run.decide(&start(&run, 7), &at(NOON)).unwrap()), ["ExecutionStarted"]);
}

#[test]
fn a_job_that_changes_under_review_is_asked_again() {
    let run = run_of(job(TWO, ""));
    let changed = job(TWO, "timeout = \"1m\"");
    let command = RunCommand::Rebind { job: Some(Box::new(changed.clone())), gate: GateId::from("GATE777") };

    let decision = run.decide(&command, &at(NOON)).unwrap();
    let run = after(run, &command);

    assert_eq!(names(&decision), ["GateSuperseded", "ApprovalRequested"]);
    assert_eq!(run.gates[0].state, GateState::Superseded { at: NOON });
    assert_eq!((&run.job, run.digest.as_str()), (&changed, run.open_gate().unwrap().digest.as_str()));
    assert!(run.decide(&command, &at(NOON)).unwrap().is_nothing());
}

#[test]
fn gates_keep_their_order_although_the_clock_is_set_back() {
    let run = run_of(job(TWO, ""));
    let command =
        RunCommand::Rebind { job: Some(Box::new(job(TWO, "timeout = \"1m\""))), gate: GateId::from("GATE777") };

    let decision = run.decide(&command, &at(NOON.before(Duration::from_secs(3600)))).unwrap();
    let run = decision.events.iter().fold(run, |mut run, event| {
        run.apply(event);
        run
    });

    assert_eq!(run.gates[0].opened_at, NOON);
    assert_eq!(run.gates[1].opened_at, NOON.after(Duration::from_micros(1)));
}

#[test]
fn a_fenced_worker_cannot_finish_a_run() {
    let run = after(run_of(job(ONE, "")), &approve("bob"));
    let run = after(run.clone(), &start(&run, 7));
    let run = after(run, &RunCommand::Adopt { old: Fence(7), fence: Fence(9), worker: "v".into() });

    assert_eq!(run.decide(&finish(7, Ending::Succeeded), &at(NOON)), Err(RunError::Fenced { run: run.id.clone() }));
    assert_eq!(after(run, &finish(9, Ending::Succeeded)).state.name(), "Succeeded");
}

#[test]
fn how_an_attempt_is_held_is_told_once() {
    let run = after(run_of(job(ONE, "")), &approve("bob"));
    let run = after(run.clone(), &start(&run, 7));
    let containment = Containment { level: "cgroup_v2".into(), sandbox: None };
    let tell = |fence| RunCommand::Tell { fence: Fence(fence), fact: Fact::Contained(containment.clone()) };

    let told = run.decide(&tell(7), &at(NOON)).unwrap();
    let stale = run.decide(&tell(6), &at(NOON));

    assert_eq!(names(&told), ["ExecutionContained"]);
    assert_eq!(stale, Err(RunError::Fenced { run: run.id.clone() }));
    let knows = after(run, &tell(7));
    assert_eq!(knows.attempt.as_ref().unwrap().containment, Some(containment.clone()));
    assert!(knows.decide(&tell(7), &at(NOON)).unwrap().is_nothing());
}

#[test]
fn a_cut_off_job_runs_again_only_when_that_is_declared_safe() {
    let cut = RunCommand::Interrupt { worker: "w".into(), began: true, gate: GateId::from("GATE777") };
    let running = |exec: &str| {
        let run = after(run_of(job(ONE, exec)), &approve("bob"));
        after(run.clone(), &start(&run, 7))
    };

    let safe = running("idempotent = true").decide(&cut, &at(NOON)).unwrap();
    let unsafe_run = running("");
    let asked = unsafe_run.decide(&cut, &at(NOON)).unwrap();
    let never = RunCommand::Interrupt { worker: "w".into(), began: false, gate: GateId::from("GATE777") };
    let never_began = unsafe_run.decide(&never, &at(NOON)).unwrap();

    assert_eq!(names(&safe), ["ExecutionInterrupted", "ExecutionDispatched"]);
    assert_eq!(names(&asked), ["ExecutionInterrupted", "ExecutionBlocked"]);
    assert_eq!(names(&never_began), ["ExecutionInterrupted", "ExecutionDispatched"]);
    let again = after(after(unsafe_run, &cut), &approve("bob"));
    assert_eq!(again.state, RunState::Dispatching { attempt: 2 });
}

#[test]
fn a_failed_job_is_tried_again_as_often_as_its_catalog_entry_says() {
    let run = after(run_of(job(ONE, "retry = { max = 1, backoff = \"10s..5m\" }")), &approve("bob"));
    let run = after(run.clone(), &start(&run, 7));

    let first = run.decide(&finish(7, Ending::Failed), &at(NOON)).unwrap();
    let run = after(run, &finish(7, Ending::Failed));
    let run = after(run.clone(), &start(&run, 8));

    assert_eq!(names(&first), ["ExecutionFailed", "ExecutionDispatched"]);
    assert_eq!(first.effects[0].due_at, Some(NOON.after(Duration::from_secs(10))));
    assert_eq!(names(&run.decide(&finish(8, Ending::Failed), &at(NOON)).unwrap()), ["ExecutionFailed"]);
}

#[test]
fn canceling_a_running_job_waits_for_its_processes() {
    let run = after(run_of(job(ONE, "")), &approve("bob"));
    let run = after(run.clone(), &start(&run, 7));
    let cancel = RunCommand::Cancel { account: "dev:alice".into() };

    let decision = run.decide(&cancel, &at(NOON)).unwrap();
    let run = after(run, &cancel);

    assert_eq!(names(&decision), ["CancelRequested"]);
    let (subject, task) = (run.subject(), TaskId::from("T"));
    let told = Withdraw { subject, kinds: vec![TaskKind::RunJob], begun: vec![task.clone()] };
    assert_eq!(decision.withdraw, [told], "a task that waits for another try must still end the run");
    assert_eq!(run.state, RunState::Running);
    assert!(matches!(run.duty(&task, true), Duty::TakeOver(_)));
    assert_eq!(run.duty(&TaskId::from("another"), false), Duty::Nothing);
    let canceled = after(run, &finish(7, Ending::Canceled));
    assert_eq!(canceled.state, RunState::Canceled { by: "dev:alice".into(), at: NOON });
}

#[test]
fn a_job_that_was_to_be_canceled_is_not_tried_again() {
    let run = after(run_of(job(ONE, "retry = { max = 1, backoff = \"10s..5m\" }")), &approve("bob"));
    let run = after(run.clone(), &start(&run, 7));
    let run = after(run, &RunCommand::Cancel { account: "dev:alice".into() });

    let failed = run.decide(&finish(7, Ending::Failed), &at(NOON)).unwrap();
    let given_up = run.decide(&RunCommand::GiveUp { worker: "w".into(), why: "no luck".into() }, &at(NOON)).unwrap();

    assert_eq!((names(&failed), kinds(&failed)), (vec!["ExecutionFailed"], vec![]));
    assert_eq!(given_up.events, [RunEvent::RunCanceled { by: "dev:alice".into(), at: NOON }]);
}

fn any_command() -> impl Strategy<Value = RunCommand> {
    let name = prop_oneof![Just("alice"), Just("bob"), Just("carol"), Just("mallory")];
    let ending = prop_oneof![
        Just(Ending::Succeeded),
        Just(Ending::Failed),
        Just(Ending::TimedOut),
        Just(Ending::Canceled),
        Just(Ending::Interrupted)
    ];
    let digest = run_of(job(TWO, "retry = { max = 2 }")).digest;
    prop_oneof![
        name.clone().prop_map(approve),
        name.prop_map(deny),
        Just(RunCommand::ExpireGate { gate: GateId::from("GATE234") }),
        (1i64..5).prop_map(move |fence| RunCommand::Start { begin: begin(fence), now_digest: Some(digest.clone()) }),
        (1i64..5, 1i64..5).prop_map(|(old, new)| RunCommand::Adopt {
            old: Fence(old),
            fence: Fence(new),
            worker: "w".into()
        }),
        (1i64..5).prop_map(|fence| RunCommand::Tell {
            fence: Fence(fence),
            fact: Fact::Contained(Containment { level: "namespace".into(), sandbox: None })
        }),
        (1i64..5, ending).prop_map(|(fence, ending)| finish(fence, ending)),
        any::<bool>().prop_map(|began| RunCommand::Interrupt {
            worker: "w".into(),
            began,
            gate: GateId::from("GATE777")
        }),
        Just(RunCommand::GiveUp { worker: "w".into(), why: "dead".into() }),
        Just(RunCommand::Cancel { account: "dev:alice".into() }),
        Just(RunCommand::Retry { account: "dev:alice".into(), gate: GateId::from("GATE888") }),
        Just(RunCommand::Rebind { job: None, gate: GateId::from("GATE555") }),
    ]
}

/// Gate ids are drawn anew for every command, as the application does.
fn with_fresh_gate(command: RunCommand, fresh: GateId) -> RunCommand {
    match command {
        RunCommand::Interrupt { worker, began, .. } => RunCommand::Interrupt { worker, began, gate: fresh },
        RunCommand::Retry { account, .. } => RunCommand::Retry { account, gate: fresh },
        RunCommand::Rebind { job, .. } => RunCommand::Rebind { job, gate: fresh },
        RunCommand::Finish { fence, worker, result, .. } => RunCommand::Finish { fence, worker, result, gate: fresh },
        other => other,
    }
}

proptest! {
    /// Rows are what folding the events gives; every step is one the table knows; effects match their events.
    #[test]
    fn random_commands_keep_the_laws(steps in proptest::collection::vec((any_command(), 0u64..40), 0..25)) {
        let first = requested(job(TWO, "retry = { max = 2 }"));
        let mut run: Run = fold(&first.events).unwrap();
        let mut history = first.events;
        let mut now = NOON;
        for (place, (command, hours)) in steps.into_iter().enumerate() {
            let command = with_fresh_gate(command, GateId(format!("GATE{place:03}")));
            now = now.after(Duration::from_secs(hours * 600));
            let Ok(decision) = run.decide(&command, &at(now)) else { continue };
            let dispatched = decision.events.iter().filter(|e| matches!(e, RunEvent::ExecutionDispatched { .. })).count();
            let tasks = decision.effects.iter().filter(|e| e.kind == TaskKind::RunJob).count();
            prop_assert_eq!(dispatched, tasks, "every dispatch has its task and no task comes without one");
            let finished = run.state.is_finished();
            let retry = matches!(command, RunCommand::Retry { .. });
            prop_assert!(!finished || retry || decision.is_nothing(), "a command changed a finished run: {:?}", command);
            for event in decision.events {
                let before = run.state.name();
                run.apply(&event);
                let (name, to) = (Run::event_name(&event), run.state.name());
                if before != to {
                    prop_assert!(TRANSITIONS.contains(&(before, name, to)), "{before} -{name}-> {to}");
                }
                history.push(event);
            }
            prop_assert!(run.gates.iter().filter(|gate| gate.is_open()).count() <= 1);
        }
        let stored: Vec<RunEvent> =
            history.iter().map(|e| serde_json::from_str(&serde_json::to_string(e).unwrap()).unwrap()).collect();
        prop_assert_eq!(fold::<Run>(&stored).unwrap(), run);
    }
}
