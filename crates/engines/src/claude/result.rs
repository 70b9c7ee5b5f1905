//! The results of Claude Code, of which the last one counts.

use super::messages::class_of;
use crate::engine::{EngineEvent, ErrorClass, Fields, Finished, ParseState, Usage};
use serde_json::Value;

pub(super) fn parse(state: &mut ParseState, event: &Value) -> Vec<EngineEvent> {
    state.finished = Some(finished(state, event));
    usage(state, event).into_iter().collect()
}

fn finished(state: &ParseState, event: &Value) -> Finished {
    let said = event.text("result").map(str::to_owned).or_else(|| {
        let errors: Vec<&str> = event.items("errors").iter().filter_map(Value::as_str).collect();
        (!errors.is_empty()).then(|| errors.join("; "))
    });
    let subtype = event.text("subtype").unwrap_or_default();
    if event.text("stop_reason") == Some("refusal") {
        return Finished::of_class(ErrorClass::Refused, said.unwrap_or_else(|| "the model refused".to_owned()));
    }
    // Something that is not said to be no error is one.
    if event.truth("is_error") == Some(false) && subtype == "success" {
        let structured = event.get("structured_output").filter(|answer| answer.is_object()).cloned();
        let structured = structured.filter(|_| state.wants_answer);
        return Finished { structured, ..Finished::completed(said.unwrap_or_default()) };
    }
    let reason = event.text("terminal_reason").unwrap_or_default();
    let message = said.unwrap_or_else(|| format!("{subtype} {reason}").trim().to_owned());
    let class = match (subtype, reason) {
        ("error_max_turns" | "error_max_budget_usd" | "error_max_structured_output_retries", _) => {
            Some(ErrorClass::LimitsReached)
        }
        (_, "aborted_tools" | "aborted_streaming" | "aborted") => Some(ErrorClass::Killed),
        (_, "api_error") => match (&state.trouble, event.count("api_error_status")) {
            (Some((Some(class), _)), _) => Some(*class),
            (_, status) => class_of(event.text("api_error"), status, &message),
        },
        _ if message.contains("No conversation found") || message.contains("already in use") => {
            Some(ErrorClass::BadRequest)
        }
        _ => ErrorClass::of_message(&message),
    };
    Finished { class, ..Finished::failed(message) }
}

/// The sums of the session by model. A run that used no model has none; what it says of itself then is all there is.
fn usage(state: &mut ParseState, event: &Value) -> Option<EngineEvent> {
    let models = event.get("modelUsage").and_then(Value::as_object).filter(|models| !models.is_empty());
    let Some(models) = models else {
        let own = usage_of(event.get("usage")?);
        return if own.is_nothing() { None } else { state.counted(own) };
    };
    let add = |name: &str| sum(models.values().map(|model| model.count(name)));
    let (cached, written) = (add("cacheReadInputTokens"), add("cacheCreationInputTokens"));
    let total = Usage {
        input_tokens: sum([add("inputTokens"), cached, written]),
        cached_tokens: cached,
        cache_write_tokens: written,
        output_tokens: add("outputTokens"),
        reasoning_tokens: add("thinkingTokens"),
        cost_micro_usd: event.micro_usd("total_cost_usd"),
    };
    state.metered(total)
}

/// What one answer of the API says that it used; its input leaves out what came from a cache or went into one.
pub(super) fn usage_of(usage: &Value) -> Usage {
    let cached = usage.count("cache_read_input_tokens");
    let written = usage.count("cache_creation_input_tokens");
    Usage {
        input_tokens: sum([usage.count("input_tokens"), cached, written]),
        cached_tokens: cached,
        cache_write_tokens: written,
        output_tokens: usage.count("output_tokens"),
        reasoning_tokens: None,
        cost_micro_usd: None,
    }
}

/// The sum of what is known; `None` when nothing is.
fn sum(counts: impl IntoIterator<Item = Option<u64>>) -> Option<u64> {
    counts.into_iter().flatten().reduce(u64::saturating_add)
}
