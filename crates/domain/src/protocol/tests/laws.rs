//! Laws that hold whatever is said in whatever order.

use super::*;

/// What brings the protocol on from where it is.
fn helpful_command(told: &mut Told, detail: u8) -> ProtocolCommand {
    let gate = told.gate_id();
    if matches!(told.protocol.state, ProtocolState::Paused { .. }) {
        return ProtocolCommand::Resume { gate };
    }
    if told.protocol.open_gate().is_some() {
        let answer = Answer { by: alice(), account: "alice".to_owned(), verdict: Verdict::Approve { note: None } };
        return ProtocolCommand::AnswerGate { gate: None, answer, next: gate };
    }
    let Some(active) = told.protocol.steps.iter().find(|step| step.is_active()).cloned() else {
        return ProtocolCommand::RunNextStep { gate };
    };
    let step = active.id;
    let fence = active.running().map_or(Fence(0), |attempt| attempt.fence);
    let base = told.protocol.branch.tip.clone().unwrap_or_else(|| oid(99));
    match active.state {
        StepState::Running { work: Work::Queued } => {
            ProtocolCommand::StartStep { step, begin: told.begin(), engine: "scripted".to_owned(), gate }
        }
        StepState::Running { work: Work::Integrating { integration } } => {
            let diff = DiffStat { files: u32::from(detail), ..DiffStat::default() };
            ProtocolCommand::BranchAdvanced { step: Some(step), new: integration.new, diff, gate }
        }
        StepState::NeedsQa { review: Review::Queued, .. } => {
            ProtocolCommand::QaStarted { step, begin: told.begin(), engine: "checks".to_owned() }
        }
        StepState::NeedsQa { .. } => {
            ProtocolCommand::QaFinished { step, fence, report: Box::new(report(QaVerdict::Pass)) }
        }
        _ => {
            let result = Box::new(made(candidate(&base, &oid(told.fence * 7919), 1)));
            ProtocolCommand::StepExecuted { step, fence, result, gate: some_gate() }
        }
    }
}

/// One of everything that anybody may say, chosen by two numbers; the higher half of them is helpful.
fn any_command(told: &mut Told, pick: u8, detail: u8) -> ProtocolCommand {
    if pick >= 150 {
        return helpful_command(told, detail);
    }
    let step = StepId(i64::from(detail % 4) + 1);
    let gate = told.gate_id();
    let latest = told.protocol.step(step).and_then(|step| step.attempt.clone()).or(told.protocol.attempt.clone());
    // Now and then an attempt that is long over reports once more.
    let fence = if detail.is_multiple_of(7) { Fence(1) } else { latest.map_or(Fence(0), |attempt| attempt.fence) };
    let base = told.protocol.branch.tip.clone().unwrap_or_else(|| oid(99));
    let fresh = oid(i64::from(pick) * 1000 + told.fence);
    let new = match integration(&told.protocol, step.0) {
        Some(integration) => integration.new,
        None => fresh.clone(),
    };
    let plan_commit = match &told.protocol.plan {
        PlanState::Integrating { new, .. } => new.clone(),
        _ => fresh.clone(),
    };
    let answer = |verdict| Answer { by: alice(), account: "alice".to_owned(), verdict };
    let worker = "w".to_owned();
    let why = "because".to_owned();
    match pick % 30 {
        0 => ProtocolCommand::Start { gate },
        1 | 2 => ProtocolCommand::BeginPlan { begin: told.begin(), engine: worker },
        3 => {
            let fence = told.protocol.attempt.as_ref().map_or(Fence(0), |attempt| attempt.fence);
            let mut retry = StepSpec { retry: Some(Retry::Ask), ..gated("03-d") };
            retry.depends_on = Some(vec!["00-a".to_owned()]);
            let first = i64::from(told.protocol.counts.total) + 1;
            let specs = vec![skip("00-a"), StepSpec::new("01-b"), gated("02-c"), retry];
            let plan = Box::new(plan_from(first, specs));
            ProtocolCommand::PlanReady { fence, plan }
        }
        4 if detail.is_multiple_of(3) => ProtocolCommand::PlanFailed {
            fence,
            failure: Failure::new("x", "y"),
            end: ended(Ending::Failed),
            fall_back: None,
        },
        4 if detail % 3 == 1 => ProtocolCommand::PlanFailed {
            fence,
            failure: Failure::new("x", "y"),
            end: ended(Ending::Failed),
            fall_back: Some(falling_back::to("b")),
        },
        4 => ProtocolCommand::PlanInterrupted { fence, why },
        5 | 6 => ProtocolCommand::RunNextStep { gate },
        7 => ProtocolCommand::RetryLatest { gate },
        8 => ProtocolCommand::RunStep { step, gate },
        9..=11 => ProtocolCommand::StartStep { step, begin: told.begin(), engine: worker, gate },
        14 if detail.is_multiple_of(6) => {
            let fall_back = Some(falling_back::to(["b", "c", "scripted"][usize::from(detail / 6 % 3)]));
            let result = Box::new(Executed { end: ended(Ending::Failed), failure: None, candidate: None, fall_back });
            ProtocolCommand::StepExecuted { step, fence, result, gate }
        }
        12..=14 => {
            let result = Box::new(made(candidate(&base, &fresh, u32::from(detail % 5))));
            ProtocolCommand::StepExecuted { step, fence, result, gate: some_gate() }
        }
        15 => {
            let ending = if detail.is_multiple_of(2) { Ending::Failed } else { Ending::TimedOut };
            let result = Box::new(Executed { end: ended(ending), failure: None, candidate: None, fall_back: None });
            ProtocolCommand::StepExecuted { step, fence, result, gate: some_gate() }
        }
        16 => ProtocolCommand::StepInterrupted { step, fence, why, gate },
        17 if detail.is_multiple_of(3) => {
            let question = Box::new(questions::question(&format!("q{}", detail / 16)));
            let step = (!detail.is_multiple_of(2)).then_some(step);
            ProtocolCommand::AskPermission { step, fence, question, gate }
        }
        17 if detail % 3 == 1 => ProtocolCommand::DropQuestions { step: Some(step), fence },
        17 => ProtocolCommand::StepStopped { step, fence, gate },
        18 => ProtocolCommand::RunQa { step },
        19 | 20 => ProtocolCommand::QaStarted { step, begin: told.begin(), engine: "checks".to_owned() },
        22 if detail.is_multiple_of(5) => {
            let fall_back = Some(falling_back::to("b"));
            let report = Box::new(QaReport { fall_back, ..report(QaVerdict::Inconclusive) });
            ProtocolCommand::QaFinished { step, fence, report }
        }
        21 | 22 => {
            let verdicts = [QaVerdict::Pass, QaVerdict::Pass, QaVerdict::Fail, QaVerdict::Inconclusive];
            ProtocolCommand::QaFinished { step, fence, report: Box::new(report(verdicts[usize::from(detail / 4 % 4)])) }
        }
        23 => ProtocolCommand::ApproveStep { step, by: alice(), account: "alice".to_owned(), reason: None, gate },
        24 => ProtocolCommand::AnswerGate { gate: None, answer: answer(Verdict::Approve { note: None }), next: gate },
        25 if detail.is_multiple_of(3) => {
            ProtocolCommand::AnswerGate { gate: None, answer: answer(Verdict::Deny { reason: None }), next: gate }
        }
        25 => {
            let open = told.protocol.open_gate().map_or(gate, |gate| gate.id.clone());
            told.now = if detail.is_multiple_of(2) { told.now.after(DAY) } else { told.now };
            ProtocolCommand::ExpireGate { gate: open }
        }
        26 if detail.is_multiple_of(12) => ProtocolCommand::Cancel { by: worker },
        26 => ProtocolCommand::Pause { by: worker },
        27 => ProtocolCommand::Resume { gate },
        28 if (detail / 4).is_multiple_of(4) => {
            ProtocolCommand::BranchMoved { step: Some(step), new, found: Some(fresh) }
        }
        28 if detail / 4 % 4 == 1 => {
            ProtocolCommand::BranchAdvanced { step: None, new: plan_commit, diff: DiffStat::default(), gate }
        }
        28 => ProtocolCommand::BranchAdvanced { step: Some(step), new, diff: DiffStat::default(), gate },
        _ if (detail / 4).is_multiple_of(3) => {
            let kinds = [TaskKind::PlanProtocol, TaskKind::ExecuteStep, TaskKind::RunQuality, TaskKind::AdvanceBranch];
            let kind = kinds[usize::from(detail / 32 % 4)];
            let step = (!(detail / 16).is_multiple_of(4)).then_some(step);
            let attempt = match step {
                Some(step) => told.protocol.step(step).and_then(|step| step.attempt.as_ref()),
                None => told.protocol.attempt.as_ref(),
            };
            let task = attempt.map_or(TaskId::from("T"), |attempt| attempt.task.clone());
            ProtocolCommand::TaskDead { kind, task, stop: detail.is_multiple_of(5), step, why }
        }
        _ if detail < 128 => ProtocolCommand::TellAttempt { step: Some(step), fence, fact: fact_of(detail / 4) },
        _ => ProtocolCommand::AdoptStep { step, old: fence, fence: told.begin().fence, worker, session: None },
    }
}

/// A short generator whose numbers are the same on every machine, so that what is covered does not vary.
fn numbers(seed: u64) -> impl FnMut() -> u8 {
    let mut state = seed;
    move || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed >> 56) as u8
    }
}

#[test]
fn the_tables_list_exactly_what_happens() {
    let (mut heads, mut steps) = (BTreeSet::new(), BTreeSet::new());
    heads.insert(("", "protocol_created", "pending"));
    for seed in 0..9000 {
        let mut draw = numbers(seed * 1_000_003);
        let advance = if seed % 2 == 0 { Advance::Auto } else { Advance::Manual };
        let mut told = if seed % 3 == 0 {
            Told::new(advance)
        } else {
            Told::planned(advance, vec![skip("00-a"), StepSpec::new("01-b"), gated("02-c")])
        };
        if seed % 6 == 3 {
            for (index, spec) in [(0, gated("00-a")), (1, StepSpec::new("01-b"))] {
                let step = NewStep { id: StepId(i64::from(index) + 1), index, summary: None, spec };
                told.tell(&ProtocolCommand::AddStep { step: Box::new(step) }).unwrap();
            }
        }
        for _ in 0..100 {
            let command = any_command(&mut told, draw(), draw());
            let _refused = told.tell(&command).is_err();
        }
        let mut protocol = Protocol::created(&told.events[0]).unwrap();
        for event in &told.events[1..] {
            let before = protocol.clone();
            protocol.apply(event);
            if before.state.name() != protocol.state.name() {
                heads.insert((before.state.name(), event.name(), protocol.state.name()));
            }
            for step in &protocol.steps {
                let from = before.step(step.id).map_or("", |step| step.state.name());
                let to = step.state.name();
                let gate = matches!(event, ProtocolEvent::GateChanged { .. });
                let said = !gate && event.step() == Some(step.id);
                let other = [
                    "branch_advanced",
                    "manual_approval",
                    "job_failed",
                    "qa_passed",
                    "qa_skipped_policy",
                    "qa_inconclusive",
                ];
                if from != to || said && !other.contains(&event.name()) {
                    steps.insert((from, event.name(), to));
                }
            }
        }
    }

    let blocked_again = ("blocked", "protocol_blocked", "blocked");
    let listed: BTreeSet<_> = TRANSITIONS.iter().copied().filter(|row| *row != blocked_again).collect();
    assert_eq!(heads, listed, "protocol");
    // A result that failed its checks and is approved, now and then after somebody else moved the branch.
    let rare = [
        ("failed", "qa_enqueued", "needs_qa"),
        ("failed", "integration_enqueued", "running"),
        ("blocked", "integration_enqueued", "running"),
        ("failed", "step_blocked", "blocked"),
    ];
    steps.extend(rare);
    let listed: BTreeSet<_> = crate::step::TRANSITIONS.iter().copied().collect();
    assert_eq!(steps, listed, "step");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_is_said_in_whatever_order_the_ledger_stays_sound(
        manual in any::<bool>(),
        said in proptest::collection::vec((any::<u8>(), any::<u8>()), 0..120),
    ) {
        let mut told = Told::planned(
            if manual { Advance::Manual } else { Advance::Auto },
            vec![skip("00-a"), StepSpec::new("01-b"), gated("02-c")],
        );
        let mut seen = BTreeSet::new();
        for (pick, detail) in said {
            let command = any_command(&mut told, pick, detail);
            let before = told.protocol.clone();
            let outcome = told.tell(&command);
            if before.state.is_finished() {
                prop_assert_eq!(&before, &told.protocol, "no command changes a finished protocol");
            }
            if let Ok(decision) = &outcome {
                check_withdrawn(&before, &told.protocol, decision);
                // A move whose task died, or that found the branch elsewhere, may be asked for again.
                if decision.events.iter().any(|event| {
                    matches!(event, ProtocolEvent::JobFailed { .. } | ProtocolEvent::BranchConflict { .. })
                }) {
                    seen.clear();
                }
                for effect in decision.effects.iter().filter(|effect| effect.kind == TaskKind::AdvanceBranch) {
                    prop_assert!(seen.insert(effect.payload.to_string()), "no branch move is asked for twice");
                }
                // Said twice, by a worker or a person: the second time nothing is decided anew.
                let again = told.protocol.decide(&command, &Context { now: told.now });
                let doubled = again.is_ok_and(|again| again.effects.iter().any(|effect| {
                    matches!(effect.kind, TaskKind::ExecuteStep | TaskKind::AdvanceBranch)
                        && decision.effects.contains(effect)
                }));
                prop_assert!(!doubled, "no effect is asked for twice: {:?}", command);
            }
            check_invariants(&told);
        }
        check_written(&told);
    }

    #[test]
    fn from_a_bare_protocol_too(said in proptest::collection::vec((any::<u8>(), any::<u8>()), 0..100)) {
        let mut told = Told::new(Advance::Auto);
        for (pick, detail) in said {
            let command = any_command(&mut told, pick, detail);
            if told.tell(&command).is_ok() {
                check_invariants(&told);
            }
        }
    }
}
