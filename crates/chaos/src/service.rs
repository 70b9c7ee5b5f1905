//! Whether a node takes commands, asked with one of nobody's in particular.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::{http::Request, load::exchange, node::Target};

/// The status that a command was answered with on a connection of its own, if it was answered.
pub async fn ask(target: &Target, key: &str) -> Option<u16> {
    let text = format!("run again tag={key} pause=0.001 code=0");
    let body = json!({"from": "probe", "conversation": "probe", "body": text, "providerMessageId": key}).to_string();
    let request = Request { method: "POST", path: "/dev/inbound".to_owned(), body, idempotency_key: None };
    exchange(&request, target, &mut None).await.ok().map(|(status, _)| status)
}

/// How long it took until the command was acknowledged; `None` when that took longer than anybody waits.
pub async fn until_taken(target: &Target, key: &str, since: Instant, patience: Duration) -> Option<Duration> {
    while since.elapsed() < patience {
        if ask(target, key).await == Some(200) {
            return Some(since.elapsed());
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    None
}
