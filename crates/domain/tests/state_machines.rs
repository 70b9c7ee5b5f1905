//! Draws `docs/state-machines.md` from the transition tables, and drives the small machines to see that their tables
//! are true. Protocols, steps and runs are driven by their own tests.

#![expect(clippy::unwrap_used, reason = "a helper of a test fails as the test does")]

use std::{collections::BTreeSet, fmt::Write as _, path::Path, time::Duration};

use domain::{
    commit::{Subject, SubjectKind, Then},
    gate::{self, Approval, Approvers, Asks, Gate, GateEvent, GateKind, GatePolicy, GateState},
    ids::{Fence, GateId, MessageId, PersonId, TaskId},
    message::{self, Message, MessageEvent, NewMessage},
    project, protocol, run, step,
    task::{self, Effect, Task, TaskKind},
    time::Timestamp,
};

type Table = &'static [(&'static str, &'static str, &'static str)];

const MACHINES: [(&str, &str, Table); 7] = [
    ("Project", "A repository and its settings.", project::TRANSITIONS),
    ("Protocol", "A stream of coding work on a branch of its own.", protocol::TRANSITIONS),
    ("Step", "One part of a protocol. Accepted results are integrated while the step is `running`.", step::TRANSITIONS),
    ("Run", "One execution of a catalogued job.", run::TRANSITIONS),
    ("Gate", "A question to people.", gate::TRANSITIONS),
    ("Task", "An entry of the work queue.", task::TRANSITIONS),
    ("Message", "Something to be sent.", message::TRANSITIONS),
];

fn document() -> String {
    let mut text = String::from(
        "# State machines\n\nGenerated from the transition tables in `crates/domain` by `cargo test -p domain --test \
         state_machines`.\nWhen it differs, the test says where the new text lies.\n",
    );
    for (name, about, table) in MACHINES {
        write!(text, "\n## {name}\n\n{about}\n\n```mermaid\nstateDiagram-v2\n").unwrap();
        let mut seen: Vec<(&str, &str)> = Vec::new();
        for (from, _, to) in table {
            if seen.contains(&(from, to)) {
                continue;
            }
            seen.push((from, to));
            let events: Vec<&str> =
                table.iter().filter(|row| row.0 == *from && row.2 == *to).map(|row| row.1).collect();
            let from = if from.is_empty() { "[*]" } else { from };
            writeln!(text, "    {from} --> {to}: {}", events.join(", ")).unwrap();
        }
        let leaves: BTreeSet<&str> =
            table.iter().map(|row| row.2).filter(|to| table.iter().all(|row| row.0 != *to)).collect();
        for state in leaves {
            writeln!(text, "    {state} --> [*]").unwrap();
        }
        text.push_str("```\n\n| from | event | to |\n|---|---|---|\n");
        for (from, event, to) in table {
            writeln!(text, "| {from} | {event} | {to} |").unwrap();
        }
    }
    text
}

#[test]
fn the_drawn_state_machines_are_the_coded_ones() {
    let committed = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/state-machines.md");
    let wanted = document();

    let found = std::fs::read_to_string(&committed).unwrap_or_default();
    if found != wanted {
        let new = Path::new(env!("CARGO_TARGET_TMPDIR")).join("state-machines.md");
        std::fs::write(&new, &wanted).unwrap();
        panic!("docs/state-machines.md is out of date; copy {} over it", new.display());
    }
}

#[test]
fn no_table_lists_a_transition_twice() {
    for (name, _, table) in MACHINES {
        let distinct: BTreeSet<_> = table.iter().collect();
        assert_eq!(distinct.len(), table.len(), "{name}");
    }
}

#[test]
fn the_table_of_gates_is_what_gates_do() {
    let id = GateId::from("7Q4K2MA");
    let at = Timestamp::from_micros(1);
    let opened = Gate {
        id: id.clone(),
        owner: Subject::new(SubjectKind::Run, "X"),
        step: None,
        asks: Asks { kind: GateKind::Job, title: String::new(), argv: Vec::new(), lines: Vec::new() },
        question: None,
        digest: String::new(),
        policy: GatePolicy {
            approvers: Approvers::Anyone,
            quorum: 1,
            distinct_from_requester: true,
            key: String::new(),
        },
        requested_by: None,
        requester: String::new(),
        reason: None,
        opened_at: at,
        deadline: None,
        state: GateState::Open { approvals: Vec::new() },
    };
    let by = PersonId::from("p");
    let approval = Approval { by: by.clone(), account: "a".to_owned(), note: None, at };
    let gate = id;
    let mut seen = vec![("", "gate_opened", opened.state.name())];
    for event in [
        GateEvent::ApprovalGiven { gate: gate.clone(), approval },
        GateEvent::Approved { gate: gate.clone(), at },
        GateEvent::Denied { gate: gate.clone(), by, account: "a".to_owned(), reason: None, at },
        GateEvent::Expired { gate: gate.clone(), at },
        GateEvent::Superseded { gate: gate.clone(), at },
        GateEvent::Withdrawn { gate, at },
    ] {
        let mut after = opened.clone();
        after.apply(&event);
        seen.push((opened.state.name(), event.name(), after.state.name()));
    }

    assert_eq!(seen, gate::TRANSITIONS);
}

#[test]
fn the_table_of_messages_is_what_messages_do() {
    let new = NewMessage {
        channel: "dev".to_owned(),
        conversation: "dev:a".to_owned(),
        body: "hello".to_owned(),
        correlation_id: "none".to_owned(),
        idempotency_key: "k".to_owned(),
    };
    let queued = Message::of(MessageId::from("m"), new);
    let mut sending = queued.clone();
    sending.apply(&MessageEvent::Sending { fence: 1 });
    let mut seen =
        vec![("", "message_queued", queued.state.name()), ("queued", "message_sending", sending.state.name())];
    for event in [
        MessageEvent::Sending { fence: 2 },
        MessageEvent::Sent { vendor_ref: None, repeated: false },
        MessageEvent::Unknown { reason: "r".to_owned() },
        MessageEvent::Failed { reason: "r".to_owned() },
    ] {
        let mut after = sending.clone();
        after.apply(&event);
        seen.push(("sending", event.name(), after.state.name()));
    }

    assert_eq!(seen, message::TRANSITIONS);
}

/// Something that happens to a task.
type Move<'a> = &'a dyn Fn(&mut Task);

#[test]
fn the_table_of_tasks_is_what_tasks_do() {
    let now = Timestamp::from_micros(1_000_000);
    let later = now.after(Duration::from_secs(60));
    let effect = || Effect::new(TaskKind::Noop, Subject::new(SubjectKind::Run, "X"));
    let stored = |effect: Effect| Task::from_new(effect.into_task(TaskId::from("t")), now);
    let (ready, scheduled) = (stored(effect()), stored(effect().due(later)));
    let mut leased = ready.clone();
    assert!(leased.claim(Fence(1), "w", later));
    let moves: [(&str, &Task, Move<'_>); 12] = [
        ("promoted", &scheduled, &|task| assert!(task.promote(later))),
        ("withdrawn", &scheduled, &|task| task.withdraw(false, now)),
        ("told to stop", &scheduled, &|task| task.withdraw(true, now)),
        ("claimed", &ready, &|task| assert!(task.claim(Fence(1), "w", later))),
        ("withdrawn", &ready, &|task| task.withdraw(false, now)),
        ("told to stop", &ready, &|task| task.withdraw(true, now)),
        ("told to stop", &leased, &|task| task.withdraw(false, now)),
        ("done", &leased, &|task| task.acknowledge(&Then::Done, now)),
        ("again", &leased, &|task| task.acknowledge(&Then::Again { due_at: now, failed: None }, now)),
        ("again", &leased, &|task| task.acknowledge(&Then::Again { due_at: later, failed: None }, now)),
        ("given up", &leased, &|task| task.acknowledge(&Then::Dead { error: "e".to_owned() }, now)),
        ("reaped", &leased, &|task| assert!(task.reap(later.after(Duration::from_secs(1))))),
    ];
    let mut seen = vec![("", "stored", ready.state.name()), ("", "stored", scheduled.state.name())];
    for (what, before, change) in moves {
        let mut after = before.clone();
        change(&mut after);
        seen.push((before.state.name(), what, after.state.name()));
    }

    assert_eq!(seen, task::TRANSITIONS);
}
