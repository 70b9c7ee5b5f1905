//! Replies to one message: where they go and under which key.

use domain::{
    grammar::IntentKind,
    ids::RunId,
    message::NewMessage,
    run::{Run, RunEvent},
    text,
};

use super::{Inbound, InboundReply};
use crate::Changed;

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
            correlation_id: run.map_or_else(|| "none".to_owned(), ToString::to_string),
            idempotency_key: self.key.clone(),
        }
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
