//! Replies to one message: where they go and under which key.

use domain::{
    commit::SubjectKind,
    grammar::IntentKind,
    ids::RunId,
    message::NewMessage,
    run::{Run, RunEvent},
    text,
};

use super::{Inbound, InboundReply, Read};
use crate::{Changed, ledger::Draft};

/// The correlation of a message that is about no run.
const NO_RUN: &str = "none";
/// The event of a run that is handed to a worker.
const DISPATCHED: &str = "ExecutionDispatched";

#[derive(Clone)]
pub(super) struct Replies {
    channel: String,
    conversation: String,
    key: String,
}

impl Replies {
    pub(super) fn to(inbound: &Inbound, message_id: &str) -> Self {
        Self {
            channel: inbound.channel.clone(),
            conversation: inbound.conversation.clone(),
            key: text::reply_key(&inbound.channel, message_id),
        }
    }

    /// There is at most one direct reply to a message, so its key is the message's.
    pub(super) fn reply(&self, run: Option<&RunId>, body: String) -> NewMessage {
        NewMessage {
            channel: self.channel.clone(),
            conversation: self.conversation.clone(),
            body,
            correlation_id: run.map_or_else(|| NO_RUN.to_owned(), ToString::to_string),
            idempotency_key: self.key.clone(),
        }
    }

    /// What a message comes to with the commit that is about to be made for it.
    pub(super) fn of_draft(&self, draft: &Draft<'_>, read: &Read) -> InboundReply {
        let kind = draft.subject.as_ref().map(|subject| subject.kind);
        let outbound: Vec<_> = match kind {
            // What a run says is said to whoever changes it.
            Some(SubjectKind::Run) | None => draft.messages.to_vec(),
            Some(_) => draft.messages.iter().filter(|message| message.idempotency_key == self.key).cloned().collect(),
        };
        let run_id = match &draft.subject {
            Some(subject) => (subject.kind == SubjectKind::Run).then(|| RunId(subject.id.clone())),
            // An answer that changes nothing names its run itself.
            None => {
                outbound.first().map(|reply| RunId(reply.correlation_id.clone())).filter(|run| run.as_str() != NO_RUN)
            }
        };
        let dispatched_execution = read.kind() == IntentKind::ApproveRun && draft.events.contains(&DISPATCHED);
        InboundReply { intent: read.kind(), job_key: read.job_key(), run_id, dispatched_execution, outbound }
    }
}

/// What a command to a run comes to; the intent is filled in by whoever read the message.
pub(super) fn of_run(changed: Changed<Run, RunEvent>) -> InboundReply {
    InboundReply {
        intent: IntentKind::Unknown,
        job_key: None,
        run_id: Some(changed.subject.id),
        dispatched_execution: changed.events.iter().any(|e| matches!(e, RunEvent::ExecutionDispatched { .. })),
        outbound: changed.messages,
    }
}
