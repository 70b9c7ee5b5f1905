//! The outbox as seen from outside: what was to be said, and how far it got.

use domain::message::{Message, MessageState};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct MessageView {
    pub id: String,
    pub channel: String,
    pub conversation: String,
    pub body: String,
    /// The run or gate it is about, or `none`.
    pub correlation_id: String,
    pub idempotency_key: String,
    /// `queued`, `sending`, `sent`, `unknown` or `failed`
    pub status: String,
    /// An earlier try may have arrived too.
    pub repeated: bool,
    /// Why it is unknown or failed.
    pub reason: Option<String>,
}

impl From<&Message> for MessageView {
    fn from(message: &Message) -> Self {
        let (repeated, reason) = match &message.state {
            MessageState::Queued => (false, None),
            MessageState::Sending { tries, .. } => (*tries > 1, None),
            MessageState::Sent { repeated, .. } => (*repeated, None),
            MessageState::Unknown { reason } | MessageState::Failed { reason } => (false, Some(reason.clone())),
        };
        Self {
            id: message.id.to_string(),
            channel: message.channel.clone(),
            conversation: message.conversation.clone(),
            body: message.body.clone(),
            correlation_id: message.correlation_id.clone(),
            idempotency_key: message.idempotency_key.clone(),
            status: message.state.name().to_owned(),
            repeated,
            reason,
        }
    }
}
