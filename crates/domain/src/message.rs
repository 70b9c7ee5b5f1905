//! Messages to people: what is to be sent, and how far it got.
//!
//! `queued → sending → sent | unknown | failed`. A message is marked `sending` before its channel is called, so that a
//! worker's death in between shows: the next worker knows that it may have arrived, and labels the repeat.

use serde::{Deserialize, Serialize};

use crate::ids::MessageId;

/// A message asked for by a decision.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NewMessage {
    pub channel: String,
    pub conversation: String,
    pub body: String,
    /// The run or gate it is about, or `none`.
    pub correlation_id: String,
    /// Unique for ever; a repeat of the same cause finds it taken.
    pub idempotency_key: String,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Message {
    pub id: MessageId,
    pub channel: String,
    pub conversation: String,
    pub body: String,
    pub correlation_id: String,
    pub idempotency_key: String,
    pub state: MessageState,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "status", rename_all = "snake_case")]
pub enum MessageState {
    Queued,
    /// Handed to the channel under this fence; the outcome is not known yet.
    Sending {
        fence: i64,
        tries: u16,
    },
    Sent {
        vendor_ref: Option<String>,
        repeated: bool,
    },
    /// May have arrived, and the channel cannot tell; not sent again.
    Unknown {
        reason: String,
    },
    Failed {
        reason: String,
    },
}

impl MessageState {
    pub fn name(&self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Sending { .. } => "sending",
            Self::Sent { .. } => "sent",
            Self::Unknown { .. } => "unknown",
            Self::Failed { .. } => "failed",
        }
    }

    pub fn is_terminal(&self) -> bool {
        match self {
            Self::Queued | Self::Sending { .. } => false,
            Self::Sent { .. } | Self::Unknown { .. } | Self::Failed { .. } => true,
        }
    }
}

/// `(from, event, to)` for every transition there is.
pub const TRANSITIONS: &[(&str, &str, &str)] = &[
    ("", "message_queued", "queued"),
    ("queued", "message_sending", "sending"),
    ("sending", "message_sending", "sending"),
    ("sending", "message_sent", "sent"),
    ("sending", "message_unknown", "unknown"),
    ("sending", "message_failed", "failed"),
];

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum MessageEvent {
    Queued { message: Message },
    Sending { fence: i64 },
    Sent { vendor_ref: Option<String>, repeated: bool },
    Unknown { reason: String },
    Failed { reason: String },
}

impl MessageEvent {
    pub fn name(&self) -> &'static str {
        match self {
            Self::Queued { .. } => "message_queued",
            Self::Sending { .. } => "message_sending",
            Self::Sent { .. } => "message_sent",
            Self::Unknown { .. } => "message_unknown",
            Self::Failed { .. } => "message_failed",
        }
    }
}

impl Message {
    pub fn of(id: MessageId, new: NewMessage) -> Self {
        Self {
            id,
            channel: new.channel,
            conversation: new.conversation,
            body: new.body,
            correlation_id: new.correlation_id,
            idempotency_key: new.idempotency_key,
            state: MessageState::Queued,
        }
    }

    /// The only code that changes a message.
    pub fn apply(&mut self, event: &MessageEvent) {
        self.state = match event {
            MessageEvent::Queued { message } => return *self = message.clone(),
            MessageEvent::Sending { fence } => {
                let tries = match &self.state {
                    MessageState::Sending { tries, .. } => tries.saturating_add(1),
                    _ => 1,
                };
                MessageState::Sending { fence: *fence, tries }
            }
            MessageEvent::Sent { vendor_ref, repeated } => {
                MessageState::Sent { vendor_ref: vendor_ref.clone(), repeated: *repeated }
            }
            MessageEvent::Unknown { reason } => MessageState::Unknown { reason: reason.clone() },
            MessageEvent::Failed { reason } => MessageState::Failed { reason: reason.clone() },
        };
    }

    /// Whether an earlier try may already have arrived.
    pub fn may_have_arrived(&self) -> bool {
        matches!(self.state, MessageState::Sending { .. })
    }
}
