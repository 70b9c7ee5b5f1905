//! The development channel: a message comes in, replies go out. The inherited shapes, to the letter.

use domain::{grammar::IntentKind, message::NewMessage};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A message somebody sends. Missing and null members count as empty, so that they are named in the answer.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct InboundBody {
    /// The sender; `dev:` is put in front unless it is there.
    #[serde(default)]
    #[schema(required, value_type = String, min_length = 1)]
    pub from: Option<String>,
    #[serde(default)]
    #[schema(required, value_type = String, min_length = 1)]
    pub conversation: Option<String>,
    #[serde(default)]
    #[schema(required, value_type = String, min_length = 1)]
    pub body: Option<String>,
    /// Makes a repeat of the message harmless.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider_message_id: Option<String>,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct InboundView {
    pub intent_type: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub job_key: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run_id: Option<String>,
    /// Only for the approval that won.
    pub dispatched_execution: bool,
    pub outbound: Vec<OutboundView>,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct OutboundView {
    pub body: String,
    pub correlation_id: String,
    pub idempotency_key: String,
    pub channel_id: String,
    pub conversation: String,
}

/// The name of an intent as the inherited API writes it.
pub fn intent_name(kind: IntentKind) -> &'static str {
    match kind {
        IntentKind::Unknown => "Unknown",
        IntentKind::RunJob => "RunJob",
        IntentKind::ApproveRun => "ApproveRun",
        IntentKind::DenyRun => "DenyRun",
        IntentKind::Status => "Status",
        IntentKind::Help => "Help",
        IntentKind::Jobs => "Jobs",
        IntentKind::Log => "Log",
        IntentKind::Cancel => "Cancel",
        IntentKind::Retry => "Retry",
        IntentKind::NotAvailable => "NotAvailable",
    }
}

impl From<&NewMessage> for OutboundView {
    fn from(message: &NewMessage) -> Self {
        Self {
            body: message.body.clone(),
            correlation_id: message.correlation_id.clone(),
            idempotency_key: message.idempotency_key.clone(),
            channel_id: message.channel.clone(),
            conversation: message.conversation.clone(),
        }
    }
}

/// The error shape of the inherited routes, in their words, with a code and a hint added.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct InheritedProblem {
    pub title: String,
    pub status: u16,
    pub detail: String,
    pub code: String,
    pub hint: String,
}
