//! The development channel: word for word what the inherited system answered.

use api::{
    Page, ProblemBody,
    inbound::{InboundBody, InboundView, InheritedProblem, OutboundView, intent_name},
    messages::MessageView,
    problem::{INVALID_IDEMPOTENCY_KEY, VALIDATION_ERROR},
};
use axum::{Json, extract::State, response::Response};
use control::inbound::{Inbound, InboundReply};
use serde::Deserialize;

use crate::{
    app::App,
    asked::{Asked, Queried, check_text, page_limit},
    auth::DevSender,
    perform::kept,
    problem::Problem,
};

const CHANNEL: &str = "dev";
const PREFIX: &str = "dev:";

/// Say something on the development channel
///
/// Exists only while the channel is on. A message with a `providerMessageId` that was seen before has no effect. A
/// message without one may carry an `Idempotency-Key` instead, and is then answered as the first time.
#[utoipa::path(post, path = "/dev/inbound", tag = "dev", security(("bearer" = ["dev:inbound"])),
    request_body = InboundBody,
    params(("Idempotency-Key" = Option<String>, Header, description = "Only without a providerMessageId")),
    responses((status = 200, body = InboundView), (status = 400, body = InheritedProblem),
        (status = "4XX", body = ProblemBody)))]
pub(crate) async fn receive(
    State(app): State<App>,
    DevSender(session): DevSender,
    Asked { body, once }: Asked<InboundBody>,
) -> Result<Response, Problem> {
    let inbound = message_of(body)?;
    if once.key.is_some() && inbound.provider_message_id.is_some() {
        let detail = "a message with a providerMessageId is recognised by it: leave the Idempotency-Key out";
        return Err(Problem::new(INVALID_IDEMPOTENCY_KEY, detail));
    }
    app.perform(&session, once, move |control, cause| async move {
        let reply = match cause.dedup {
            Some(key) => control.inbound_once(inbound, key, |reply| kept(&view_of(reply)).answer).await?,
            None => control.inbound(inbound).await?,
        };
        Ok(view_of(&reply))
    })
    .await
}

fn message_of(body: InboundBody) -> Result<Inbound, Problem> {
    let fields = [("from", &body.from), ("conversation", &body.conversation), ("body", &body.body)];
    let blank: Vec<String> = fields
        .iter()
        .filter(|(_, value)| value.as_deref().is_none_or(|value| value.trim().is_empty()))
        .map(|(name, _)| format!("Field '{name}' is required and cannot be empty."))
        .collect();
    let (Some(from), Some(conversation), Some(text), true) =
        (body.from, body.conversation, body.body, blank.is_empty())
    else {
        return Err(Problem::new(VALIDATION_ERROR, blank.join(" ")).inherited("Validation Error"));
    };
    Ok(Inbound {
        channel: CHANNEL.to_owned(),
        from: prefixed(&from),
        conversation: prefixed(&conversation),
        body: text,
        provider_message_id: body.provider_message_id.filter(|id| !id.trim().is_empty()),
    })
}

fn view_of(reply: &InboundReply) -> InboundView {
    InboundView {
        intent_type: intent_name(reply.intent).to_owned(),
        job_key: reply.job_key.clone(),
        run_id: reply.run_id.as_ref().map(ToString::to_string),
        dispatched_execution: reply.dispatched_execution,
        outbound: reply.outbound.iter().map(OutboundView::from).collect(),
    }
}

/// `dev:` in front unless it is there, in whatever case.
fn prefixed(text: &str) -> String {
    let text = text.trim();
    match text.get(..PREFIX.len()) {
        Some(start) if start.eq_ignore_ascii_case(PREFIX) => format!("{PREFIX}{}", &text[PREFIX.len()..]),
        _ => format!("{PREFIX}{text}"),
    }
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct MessagesQuery {
    conversation: Option<String>,
    limit: Option<i64>,
}

/// List the messages of the development channel
///
/// Newest first, with how far each got.
#[utoipa::path(get, path = "/dev/messages", tag = "dev", security(("bearer" = ["dev:inbound"])),
    params(("conversation" = Option<String>, Query), ("limit" = Option<i64>, Query, description = "1 to 500, 50 when missing")),
    responses((status = 200, body = Page<MessageView>), (status = "4XX", body = ProblemBody)))]
pub(crate) async fn list_messages(
    State(app): State<App>,
    _: DevSender,
    Queried(query): Queried<MessagesQuery>,
) -> Result<Json<Page<MessageView>>, Problem> {
    let conversation = query.conversation.as_deref().map(prefixed);
    if let Some(conversation) = &conversation {
        check_text("conversation", conversation)?;
    }
    let messages = app.control.store().list_messages(conversation.as_deref(), page_limit(query.limit)).await?;
    let items = messages.iter().filter(|message| message.channel == CHANNEL).map(MessageView::from).collect();
    Ok(Json(Page { items, next_cursor: None }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_gets_its_prefix_once() {
        assert_eq!(prefixed("ada"), "dev:ada");
        assert_eq!(prefixed("dev:ada"), "dev:ada");
        assert_eq!(prefixed("DEV:ada"), "dev:ada");
        assert_eq!(prefixed("é:a"), "dev:é:a");
    }
}
