//! Engines that could not be had, and those that come after them.

use super::*;

/// What a worker reports of an engine that could not be had, and who is next.
pub(super) fn to(engine: &str) -> FallBack {
    FallBack { to: engine.to_owned(), failure: Failure::new("engine_billing", "nothing is left") }
}

fn failed(next: Option<&str>) -> Box<Executed> {
    let failure = Some(to("").failure);
    Box::new(Executed { end: ended(Ending::Failed), failure, candidate: None, fall_back: next.map(to) })
}

impl Told {
    fn fails(&mut self, engine: &str, next: Option<&str>) {
        let begin = self.begin();
        let (fence, gate) = (begin.fence, self.gate_id());
        let start =
            ProtocolCommand::StartStep { step: StepId(1), begin, engine: engine.to_owned(), gate: gate.clone() };
        self.tell(&start).unwrap();
        self.tell(&ProtocolCommand::StepExecuted { step: StepId(1), fence, result: failed(next), gate }).unwrap();
    }

    fn tried(&self) -> &[String] {
        &self.protocol.steps[0].tried
    }
}

fn with_fallback(ids: &[&str]) -> StepSpec {
    let fallback = ids.iter().map(|&id| id.to_owned()).collect();
    StepSpec { engine_id: Some("codex".to_owned()), fallback, ..StepSpec::new("01-fix") }
}

#[test]
fn the_next_engine_begins_a_new_attempt_in_the_same_commit() {
    let mut told = Told::planned(Advance::Auto, vec![with_fallback(&["claude"])]);

    told.fails("codex", Some("claude"));

    assert_eq!((told.status(), told.step_status(1), told.tried()), ("running", "running", &["codex".to_owned()][..]));
    assert_eq!(told.names()[told.names().len() - 2..], ["step_fell_back", "step_enqueued"]);
    let effect = told.effects.last().unwrap();
    assert_eq!((effect.kind, effect.engine.as_deref()), (TaskKind::ExecuteStep, Some("claude")));
    told.execute(1);
    let step = &told.protocol.steps[0];
    assert_eq!((step.attempt.as_ref().unwrap().number, step.retries, step.tried.len()), (2, 0, 0));
    assert_eq!(fold::<Protocol>(&told.events).unwrap(), told.protocol);
}

#[test]
fn the_last_engines_failure_is_the_result_and_a_retry_begins_with_the_first() {
    let mut told = Told::planned(Advance::Auto, vec![with_fallback(&["claude"])]);
    told.fails("codex", Some("claude"));

    told.fails("claude", None);

    assert_eq!((told.status(), told.step_status(1), told.tried().len()), ("blocked", "failed", 0));
    let gate = told.gate_id();
    told.tell(&ProtocolCommand::RetryLatest { gate }).unwrap();
    assert_eq!(told.effects.last().unwrap().engine.as_deref(), Some("codex"));
}

#[test]
fn nobody_is_tried_twice_and_it_ends() {
    let mut told = Told::planned(Advance::Auto, vec![StepSpec::new("01-fix")]);
    told.fails("a", Some("a"));
    assert_eq!(told.step_status(1), "failed");

    let gate = told.gate_id();
    told.tell(&ProtocolCommand::RetryLatest { gate }).unwrap();
    told.fails("a", Some("b"));
    told.fails("b", Some("a"));
    assert_eq!((told.step_status(1), told.tried().len()), ("failed", 0));

    let gate = told.gate_id();
    told.tell(&ProtocolCommand::RetryLatest { gate }).unwrap();
    let many = ["a", "b", "c", "d", "e", "f"];
    for (engine, next) in many.iter().zip(&many[1..]) {
        if told.step_status(1) == "running" {
            told.fails(engine, Some(next));
        }
    }
    assert_eq!(
        (told.step_status(1), told.protocol.steps[0].attempt.as_ref().unwrap().engine.as_str()),
        ("failed", "e")
    );
}

#[test]
fn who_was_tried_outlives_interruptions_and_pauses() {
    let mut told = Told::planned(Advance::Auto, vec![with_fallback(&["claude", "gemini"])]);
    told.fails("codex", Some("claude"));
    let fence = told.start(1);
    let (gate, why) = (told.gate_id(), "the worker died".to_owned());
    told.tell(&ProtocolCommand::StepInterrupted { step: StepId(1), fence, why, gate }).unwrap();
    assert_eq!(told.tried(), ["codex"]);
    let begin = told.begin();
    let (fence, gate) = (begin.fence, told.gate_id());
    let engine = "claude".to_owned();
    told.tell(&ProtocolCommand::StartStep { step: StepId(1), begin, engine, gate: gate.clone() }).unwrap();

    told.tell(&ProtocolCommand::Pause { by: "alice".to_owned() }).unwrap();
    let result = failed(Some("gemini"));
    told.tell(&ProtocolCommand::StepExecuted { step: StepId(1), fence, result, gate: gate.clone() }).unwrap();

    assert_eq!((told.status(), told.step_status(1)), ("paused", "pending"));
    assert_eq!(told.tried(), ["codex", "claude"]);
    told.tell(&ProtocolCommand::Resume { gate }).unwrap();
    assert_eq!(told.step_status(1), "running");
    assert_eq!(told.effects.last().unwrap().engine.as_deref(), Some("gemini"));
}

#[test]
fn only_a_failure_falls_back() {
    for (ending, status) in [(Ending::Canceled, "failed"), (Ending::TimedOut, "timed_out")] {
        let mut told = Told::planned(Advance::Auto, vec![StepSpec::new("01-fix")]);
        let fence = told.start(1);
        let result = Box::new(Executed { end: ended(ending), ..*failed(Some("claude")) });

        told.tell(&ProtocolCommand::StepExecuted { step: StepId(1), fence, result, gate: some_gate() }).unwrap();

        assert_eq!(told.step_status(1), status);
    }
}

#[test]
fn a_reviewer_gives_way_to_the_next() {
    let qa = Qa { engine_id: Some("codex".to_owned()), fallback: vec!["claude".to_owned()], ..Qa::default() };
    let mut told = Told::planned(Advance::Auto, vec![StepSpec { qa: Some(qa), ..StepSpec::new("01-fix") }]);
    told.execute(1);
    assert_eq!(told.effects.last().unwrap().engine.as_deref(), Some("codex"));
    let begin = told.begin();
    let fence = begin.fence;
    told.tell(&ProtocolCommand::QaStarted { step: StepId(1), begin, engine: "codex".to_owned() }).unwrap();

    let away = QaReport { fall_back: Some(to("claude")), ..report(QaVerdict::Inconclusive) };
    told.tell(&ProtocolCommand::QaFinished { step: StepId(1), fence, report: Box::new(away) }).unwrap();

    assert_eq!((told.step_status(1), told.tried()), ("needs_qa", &["codex".to_owned()][..]));
    assert_eq!(told.effects.last().unwrap().engine.as_deref(), Some("claude"));
    told.check(1, QaVerdict::Pass);
    assert_eq!((told.step_status(1), told.tried().len()), ("running", 0));
}

#[test]
fn another_engine_plans() {
    let mut told = Told::new(Advance::Auto);
    let gate = told.gate_id();
    told.tell(&ProtocolCommand::Start { gate: gate.clone() }).unwrap();
    let begin = told.begin();
    let fence = begin.fence;
    told.tell(&ProtocolCommand::BeginPlan { begin, engine: "codex".to_owned() }).unwrap();
    let fails = |fence, next: Option<&str>| {
        let (failure, end) = (to("").failure, ended(Ending::Failed));
        ProtocolCommand::PlanFailed { fence, failure, end, fall_back: next.map(to) }
    };

    told.tell(&fails(fence, Some("claude"))).unwrap();

    assert_eq!((told.status(), told.protocol.tried.as_slice()), ("planning", &["codex".to_owned()][..]));
    assert_eq!(told.effects.last().unwrap().kind, TaskKind::PlanProtocol);
    let begin = told.begin();
    let fence = begin.fence;
    told.tell(&ProtocolCommand::BeginPlan { begin, engine: "claude".to_owned() }).unwrap();
    told.tell(&fails(fence, None)).unwrap();
    assert_eq!((told.status(), told.protocol.tried.len()), ("blocked", 0));
    told.tell(&ProtocolCommand::Start { gate }).unwrap();
    assert_eq!((told.status(), told.protocol.attempt.as_ref().unwrap().number), ("planning", 2));
}
