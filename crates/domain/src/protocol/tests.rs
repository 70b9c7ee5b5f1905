//! The rules of protocols, told as stories: what they share is here.

mod falling_back;
mod interrupted;
mod laws;
mod questions;
mod running;
mod stopping;

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::{
    aggregate::{Aggregate, fold},
    attempt::{Containment, Metered, SandboxUsed},
    commit::Withdraw,
    decision::{Context, Decision},
    gate::Verdict,
    person::PersonKind,
    spec::{Qa, QaPolicy, Retry, StepGate},
    step::{Candidate, Integration, Review, StepState, Work},
    task::Effect,
};

const NOON: Timestamp = Timestamp::from_micros(1_766_836_800_000_000);
const DAY: std::time::Duration = std::time::Duration::from_secs(24 * 3600);

fn contained(n: usize) -> Fact {
    let level = ["namespace", "cgroup_v2"][n].to_owned();
    let (profile, means, network) = ("workspace".to_owned(), "bubblewrap".to_owned(), "endpoints".to_owned());
    Fact::Contained(Containment { level, sandbox: Some(SandboxUsed { profile, means, network }) })
}

fn fact_of(detail: u8) -> Fact {
    if detail.is_multiple_of(2) {
        return contained(usize::from(detail / 2 % 2));
    }
    let (wire, calls) = (Usage { input_tokens: Some(1200), ..Usage::default() }, u32::from(detail));
    Fact::Metered(Metered { wire, told: None, calls, unmetered: 0, refused: 0 })
}

fn alice() -> Person {
    person("alice", PersonKind::Human)
}

fn person(name: &str, kind: PersonKind) -> Person {
    Person { id: PersonId::from(name), name: name.to_owned(), kind, active: true, accounts: Vec::new() }
}

/// A protocol as it grows, with everything that was ever decided about it.
struct Told {
    protocol: Protocol,
    events: Vec<ProtocolEvent>,
    effects: Vec<Effect>,
    now: Timestamp,
    fence: i64,
    gates: u32,
}

impl Told {
    fn new(advance: Advance) -> Self {
        let new = NewProtocol {
            id: ProtocolId(7),
            project: ProjectId(1),
            name: "0001-fix".to_owned(),
            status: None,
            base_branch: "main".to_owned(),
            description: None,
            advance,
            template_config: None,
            template_source: None,
            spec: None,
            created_by: Some(PersonId::from("owner")),
            requester: "owner".to_owned(),
        };
        let decision = Protocol::create(new, &Context { now: NOON }).unwrap();
        let protocol = fold(&decision.events).unwrap();
        Self { protocol, events: decision.events, effects: Vec::new(), now: NOON, fence: 0, gates: 0 }
    }

    fn tell(&mut self, command: &ProtocolCommand) -> Result<Decision<ProtocolEvent>, ProtocolError> {
        let decision = self.protocol.decide(command, &Context { now: self.now })?;
        for event in &decision.events {
            let before = self.protocol.clone();
            self.protocol.apply(event);
            check_transition(&before, event, &self.protocol);
        }
        self.events.extend(decision.events.iter().cloned());
        self.effects.extend(decision.effects.iter().cloned());
        Ok(decision)
    }

    fn gate_id(&mut self) -> GateId {
        self.gates += 1;
        GateId(format!("G{:06}", self.gates))
    }

    fn begin(&mut self) -> Begin {
        self.fence += 1;
        let task = TaskId(format!("T{}", self.fence));
        Begin { task, fence: Fence(self.fence), worker: "w".to_owned(), nonce: "n".to_owned() }
    }

    /// Planned, on its branch, and begun when it advances by itself.
    fn planned(advance: Advance, specs: Vec<StepSpec>) -> Self {
        let mut told = Self::new(advance);
        let gate = told.gate_id();
        told.tell(&ProtocolCommand::Start { gate: gate.clone() }).unwrap();
        let begin = told.begin();
        let fence = begin.fence;
        told.tell(&ProtocolCommand::BeginPlan { begin, engine: "scripted".to_owned() }).unwrap();
        told.tell(&ProtocolCommand::PlanReady { fence, plan: Box::new(plan(specs)) }).unwrap();
        told.tell(&ProtocolCommand::BranchAdvanced { step: None, new: oid(0), diff: DiffStat::default(), gate })
            .unwrap();
        told
    }

    fn start(&mut self, step: i64) -> Fence {
        let begin = self.begin();
        let (fence, gate) = (begin.fence, self.gate_id());
        let engine = "scripted".to_owned();
        self.tell(&ProtocolCommand::StartStep { step: StepId(step), begin, engine, gate }).unwrap();
        fence
    }

    /// Executes a step up to its result.
    fn execute(&mut self, step: i64) {
        let fence = self.start(step);
        let base = self.protocol.branch.tip.clone().unwrap();
        let result = Box::new(made(candidate(&base, &oid(step), 1)));
        self.tell(&ProtocolCommand::StepExecuted { step: StepId(step), fence, result, gate: some_gate() }).unwrap();
    }

    fn check(&mut self, step: i64, verdict: QaVerdict) {
        let begin = self.begin();
        let fence = begin.fence;
        self.tell(&ProtocolCommand::QaStarted { step: StepId(step), begin, engine: "checks".to_owned() }).unwrap();
        let report = Box::new(report(verdict));
        self.tell(&ProtocolCommand::QaFinished { step: StepId(step), fence, report }).unwrap();
    }

    fn advance(&mut self, step: i64) {
        let new = integration(&self.protocol, step).unwrap().new;
        let (step, gate) = (Some(StepId(step)), self.gate_id());
        let diff = DiffStat { files: 1, insertions: 1, deletions: 0, lines: Vec::new() };
        self.tell(&ProtocolCommand::BranchAdvanced { step, new, diff, gate }).unwrap();
    }

    fn answer(&mut self, verdict: Verdict) -> Result<Decision<ProtocolEvent>, ProtocolError> {
        let answer = Answer { by: alice(), account: "alice".to_owned(), verdict };
        let next = self.gate_id();
        self.tell(&ProtocolCommand::AnswerGate { gate: None, answer, next })
    }

    fn step_status(&self, step: i64) -> &'static str {
        self.protocol.step(StepId(step)).unwrap().state.name()
    }

    fn status(&self) -> &'static str {
        self.protocol.state.name()
    }

    fn names(&self) -> Vec<&'static str> {
        self.events.iter().map(ProtocolEvent::name).collect()
    }
}

/// For reports that open no gate.
fn some_gate() -> GateId {
    GateId::from("G")
}

fn oid(number: i64) -> String {
    format!("{number:040x}")
}

fn ended(ending: Ending) -> Ended {
    Ended { ending, summary: "said so".to_owned(), exit_code: Some(0), usage: None }
}

fn candidate(base: &str, commit: &str, files: u32) -> Candidate {
    let diff = DiffStat { files, insertions: u64::from(files), deletions: 0, lines: Vec::new() };
    Candidate { base: base.to_owned(), commit: commit.to_owned(), diff }
}

fn made(candidate: Candidate) -> Executed {
    Executed { end: ended(Ending::Succeeded), failure: None, candidate: Some(candidate), fall_back: None }
}

fn report(verdict: QaVerdict) -> QaReport {
    let finding =
        Finding { check: "sh test.sh".to_owned(), verdict, exit_code: Some(0), detail: String::new(), duration_ms: 1 };
    QaReport { verdict, findings: vec![finding], commit: None, end: ended(Ending::Succeeded), fall_back: None }
}

fn integration(protocol: &Protocol, step: i64) -> Option<Integration> {
    match &protocol.step(StepId(step))?.state {
        StepState::Running { work: Work::Integrating { integration } } => Some(integration.clone()),
        _ => None,
    }
}

fn plan(specs: Vec<StepSpec>) -> PlanReady {
    plan_from(1, specs)
}

/// With ids that nobody has yet.
fn plan_from(first: i64, specs: Vec<StepSpec>) -> PlanReady {
    let steps = (first..).zip(specs).map(|(id, spec)| PlannedStep { id: StepId(id), spec }).collect();
    let document = serde_json::json!({});
    let (hash, digest) = ("0123456789ab".to_owned(), "d".to_owned());
    let spec = SpecRef { document, hash, digest, validated_at: NOON };
    PlanReady { spec, steps, base: oid(99), commit: oid(0), end: ended(Ending::Succeeded) }
}

fn skip(id: &str) -> StepSpec {
    let qa = Qa { policy: Some(QaPolicy::Skip), ..Qa::default() };
    StepSpec { qa: Some(qa), ..StepSpec::new(id) }
}

fn gated(id: &str) -> StepSpec {
    StepSpec { gate: Some(StepGate::default()), ..skip(id) }
}

fn check_transition(before: &Protocol, event: &ProtocolEvent, after: &Protocol) {
    let (from, to) = (before.state.name(), after.state.name());
    assert!(from == to || TRANSITIONS.contains(&(from, event.name(), to)), "{from} -{}-> {to}", event.name());
    for step in &after.steps {
        let from = before.step(step.id).map_or("", |step| step.state.name());
        let to = step.state.name();
        let known = crate::step::TRANSITIONS.contains(&(from, event.name(), to));
        assert!(from == to || known, "step: {from} -{}-> {to}", event.name());
    }
}

/// What is read back from the ledger is what was written to it.
fn check_written(told: &Told) {
    let written: Vec<String> = told.events.iter().map(|event| serde_json::to_string(event).unwrap()).collect();
    let read: Vec<ProtocolEvent> = written.iter().map(|text| serde_json::from_str(text).unwrap()).collect();
    assert_eq!(read, told.events);
    for step in &told.protocol.steps {
        let text = serde_json::to_string(step).unwrap();
        assert_eq!(serde_json::from_str::<Step>(&text).unwrap(), *step);
    }
}

/// Whoever takes work back names all that has begun, so that it is told to stop instead; and no attempt ends in the ledger
/// behind the back of the task that carries it.
fn check_withdrawn(before: &Protocol, after: &Protocol, decision: &Decision<ProtocolEvent>) {
    let open: Vec<&Attempt> =
        before.planning().into_iter().chain(before.steps.iter().filter_map(Step::running)).collect();
    // Timers of gates carry no attempt.
    for withdraw in decision.withdraw.iter().filter(|withdraw| withdraw.kinds != [TaskKind::ExpireGate]) {
        assert!(open.iter().all(|attempt| withdraw.begun.contains(&attempt.task)), "{withdraw:?} misses {open:?}");
    }
    let ended = |attempt: &&Attempt| {
        let steps = after.steps.iter().filter_map(Step::running);
        after.planning().into_iter().chain(steps).all(|still| still.id != attempt.id)
    };
    let over_their_heads = decision
        .events
        .iter()
        .any(|event| matches!(event, ProtocolEvent::Cancelled { .. } | ProtocolEvent::ManualApproval { .. }));
    if over_their_heads && open.iter().any(ended) {
        assert!(!decision.withdraw.is_empty(), "nobody tells {open:?}");
    }
}

fn check_invariants(told: &Told) {
    let protocol = &told.protocol;
    assert_eq!(fold::<Protocol>(&told.events).as_ref(), Some(protocol), "fold(events) = state");
    let count =
        |is: &dyn Fn(&Step) -> bool| u32::try_from(protocol.steps.iter().filter(|step| is(step)).count()).unwrap();
    assert_eq!(protocol.counts.total, count(&|_| true));
    assert_eq!(protocol.counts.active, count(&Step::is_active));
    assert_eq!(protocol.counts.done, count(&|step| step.state.is_terminal()));
    assert!(protocol.counts.active <= 1, "one step at a time");
    for step in &protocol.steps {
        let open =
            |id: &&StepId| protocol.step(**id).is_none_or(|step| !matches!(step.state, StepState::Completed { .. }));
        if !protocol.state.is_finished() {
            assert_eq!(step.unmet as usize, step.depends_on.iter().filter(open).count());
        }
        let running = step.running().is_some();
        let works = matches!(
            step.state,
            StepState::Running { work: Work::Executing } | StepState::NeedsQa { review: Review::Checking, .. }
        );
        assert_eq!(running, works, "an attempt runs exactly while its step says so");
        if let StepState::Completed { commit: Some(commit), .. } = &step.state {
            assert!(told.events.iter().any(|event| {
                matches!(event, ProtocolEvent::BranchAdvanced { step: Some(id), new, .. } if *id == step.id && new == commit)
            }));
        }
    }
    if protocol.state == ProtocolState::Running && protocol.advance == Advance::Auto {
        assert_eq!(protocol.counts.active, 1, "a running protocol that advances by itself is never idle");
    }
    assert!(protocol.gates.iter().filter(|gate| gate.is_open()).count() <= 1);
    for question in protocol.gates.iter().filter(|gate| gate.is_open()).filter_map(|gate| gate.question.as_ref()) {
        let mut running = protocol.planning().into_iter().chain(protocol.steps.iter().filter_map(Step::running));
        assert!(running.any(|attempt| attempt.id == question.attempt), "nobody waits for {question:?}");
    }
    if protocol.state.is_finished() {
        assert!(protocol.open_gate().is_none());
        assert_eq!(protocol.counts.active, 0);
    }
}
