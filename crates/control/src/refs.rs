//! Drawing of short references.

use std::{
    collections::HashSet,
    sync::{LazyLock, Mutex, PoisonError},
};

use domain::{ids::GateId, reference::Ref, time::Timestamp};
use store::StoreError;

use crate::{CommandError, error::StoreFailure};

/// What was drawn in the window of the last reference: a process that makes thousands a second would otherwise meet its
/// own, because a window has 23 random bits.
static DRAWN: LazyLock<Mutex<Drawn>> = LazyLock::new(Mutex::default);

#[derive(Debug, Default)]
struct Drawn {
    window: u64,
    references: HashSet<Ref>,
}

/// A reference that this process did not draw in the same moment.
pub(crate) fn new_ref() -> String {
    loop {
        let now = Timestamp::from_micros(host::clock::now_micros());
        let reference = Ref::drawn(now, host::random::id_bytes());
        let mut drawn = DRAWN.lock().unwrap_or_else(PoisonError::into_inner);
        if drawn.window != Ref::window(now) {
            *drawn = Drawn { window: Ref::window(now), references: HashSet::new() };
        }
        if drawn.references.insert(reference) {
            return reference.to_string();
        }
    }
}

pub(crate) fn new_gate_id() -> GateId {
    GateId(new_ref())
}

/// Whether a command was refused because a reference that was drawn for it is taken, or something else it brings.
pub(crate) fn is_taken<T>(outcome: &Result<T, CommandError>) -> bool {
    matches!(outcome, Err(CommandError::Store(StoreFailure(StoreError::Rejected { .. }))))
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use domain::{
        actor::Actor,
        ids::RunId,
        run::{Run, RunCommand, RunRequest},
    };
    use store::{Store, StoreConfig};

    use super::*;
    use crate::{Cause, Clock, Control, inbound::Inbound, ledger::Rendered};

    const JOBS: &str = r#"
[job.deploy]
title = "Deploy"
owner = "team:ops"
[job.deploy.exec]
argv = ["/bin/true"]
[job.deploy.policy]
approve = { of = ["dev:*"] }
"#;

    #[test]
    fn many_of_one_moment_differ() {
        let drawn: HashSet<String> = (0..20_000).map(|_| new_ref()).collect();
        assert_eq!(drawn.len(), 20_000);
    }

    /// A run that waits at its gate.
    async fn asked(control: &Control) -> Run {
        let inbound = Inbound {
            channel: "dev".to_owned(),
            from: "dev:alice".to_owned(),
            conversation: "dev:ops".to_owned(),
            body: "run deploy".to_owned(),
            provider_message_id: None,
        };
        let reply = control.inbound(inbound).await.unwrap();
        control.get::<Run>(reply.run_id.unwrap().as_str()).await.unwrap().subject
    }

    #[tokio::test]
    async fn a_gate_whose_reference_is_taken_gets_another() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&StoreConfig::Sqlite { path: dir.path().join("ledger.db") }).await.unwrap();
        let control = Control::new(store, Clock::manual(Timestamp::from_micros(1_766_836_800_000_000)));
        control.load_catalog(JOBS, "jobs.toml").await.unwrap();
        let (first, second) = (asked(&control).await, asked(&control).await);
        let taken = first.open_gate().unwrap().id.clone();
        let (cause, nothing) = (Cause::of(Actor::System), |_: &Run| Rendered::default());

        let draws = RefCell::new(vec![new_gate_id(), taken.clone()]);
        let request = |context: &domain::decision::Context| {
            let new = RunRequest {
                id: RunId(new_ref()),
                gate: draws.borrow_mut().pop().unwrap(),
                job: first.job.clone(),
                requested_by: first.requested_by.clone(),
                requester: first.requester.clone(),
                reason: None,
                channel: first.channel.clone(),
                conversation: first.conversation.clone(),
            };
            (new.requested(), new.decide(context))
        };
        let made = control.create(&cause, request, nothing).await.unwrap();
        assert_ne!(made.subject.open_gate().unwrap().id, taken);
        assert!(draws.borrow().is_empty(), "the taken one was tried");

        let mut changed = second.job.clone();
        changed.title.push('!');
        let draws = RefCell::new(vec![taken.clone()]);
        let rebind = |gate| RunCommand::Rebind {
            job: Some(Box::new(changed.clone())),
            gate: draws.borrow_mut().pop().unwrap_or(gate),
        };
        let rebound = control.command_run_at_gate(&second.id, rebind, &cause, nothing).await.unwrap();
        let asks = rebound.subject.open_gate().unwrap();
        assert!(asks.id != taken && asks.id != second.open_gate().unwrap().id, "{}", asks.id);
        assert!(draws.borrow().is_empty(), "the taken one was tried");
        assert_eq!(control.get::<Run>(first.id.as_str()).await.unwrap().subject.open_gate().unwrap().id, taken);
    }
}
