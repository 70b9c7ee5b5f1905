//! How far a message got. Every step is fenced, and is on disk before and after the channel is called.

use domain::{
    commit::{At, Cause as CommitCause, Commit, Committed, Subject, SubjectKind},
    ids::CommitId,
    message::{Message, MessageEvent},
};
use store::Versioned;

use crate::{Cause, Control, error::CommandError, ledger::new_id};

impl Control {
    /// Moves a message on. Messages are effects: their rows are the record, no timeline repeats them.
    pub async fn advance_message(
        &self,
        id: &str,
        event: &MessageEvent,
        cause: &Cause,
    ) -> Result<Message, CommandError> {
        loop {
            let not_found = || CommandError::NotFound { kind: SubjectKind::Message, id: id.to_owned() };
            let (Versioned { version, subject: mut message }, queued_at) =
                self.store().find_message(id).await?.ok_or_else(not_found)?;
            message.apply(event);
            let commit = Commit {
                id: CommitId(new_id()),
                subject: Some((Subject::new(SubjectKind::Message, id), At::Version(version))),
                cause: CommitCause {
                    actor: cause.actor.to_string(),
                    command: "\"advance_message\"".to_owned(),
                    now: self.clock().now(),
                    ids: "{}".to_owned(),
                    dedup: None,
                },
                ack: cause.ack.clone(),
                expects: Vec::new(),
                guards: Vec::new(),
                entries: Vec::new(),
                rows: vec![store::messages::message_row(&message, queued_at)],
                events: Vec::new(),
                tasks: Vec::new(),
                withdraw: Vec::new(),
            };
            match self.store().commit(commit).await? {
                Committed::Applied { .. } => return Ok(message),
                Committed::Stale => {}
                Committed::Fenced => return Err(CommandError::Fenced),
                Committed::Duplicate(answer) => return Err(CommandError::Repeated(answer)),
                Committed::Refused { guard, current } => return Err(CommandError::Refused { guard, current }),
            }
        }
    }
}
