//! The end of a campaign: every question is answered with no, and everything must come to rest.

use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::{
    http::{Connection, Request},
    load::exchange,
    node::Target,
};

/// How long everything may go on without that less is left.
pub const WITHIN: Duration = Duration::from_secs(30);

/// Answers and waits; what was left when nothing went on.
pub async fn drain(target: &Target, campaign: &str) -> Result<Vec<String>> {
    let (mut fewest, mut since) = (usize::MAX, host::clock::monotonic());
    let mut steward = Steward { target, connection: None, campaign, said: 0 };
    loop {
        let mut left = Vec::new();
        for run in steward.unfinished().await? {
            let (id, status) = (run["id"].as_str().unwrap_or_default(), run["status"].as_str().unwrap_or_default());
            match (status, run["gate_id"].is_string()) {
                (_, true) => steward.say(&format!("no {id} closing time")).await?,
                ("Blocked", false) => steward.say(&format!("cancel {id}")).await?,
                _ => {}
            }
            left.push(format!("run {id} is {status}"));
        }
        if left.is_empty() {
            let queue = steward.ask("GET", "/queues", String::new()).await?;
            let waiting = |state: &str| queue["states"][state].as_i64().unwrap_or(0);
            for state in ["scheduled", "ready", "leased"].into_iter().filter(|state| waiting(state) > 0) {
                left.push(format!("{} tasks are {state}", waiting(state)));
            }
        }
        if left.len() < fewest {
            (fewest, since) = (left.len(), host::clock::monotonic());
        }
        if left.is_empty() || since.elapsed() > WITHIN {
            return Ok(left);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

struct Steward<'a> {
    target: &'a Target,
    connection: Option<Connection>,
    campaign: &'a str,
    said: u32,
}

impl Steward<'_> {
    async fn unfinished(&mut self) -> Result<Vec<Value>> {
        let path = "/runs?status=AwaitingApproval,Dispatching,Running,Blocked&limit=500";
        let page = self.ask("GET", path, String::new()).await?;
        Ok(page["items"].as_array().cloned().unwrap_or_default())
    }

    async fn say(&mut self, text: &str) -> Result<()> {
        self.said += 1;
        let key = format!("{}-steward-{}", self.campaign, self.said);
        let body = json!({"from": "steward", "conversation": "steward", "body": text, "providerMessageId": key});
        self.ask("POST", "/dev/inbound", body.to_string()).await.map(drop)
    }

    async fn ask(&mut self, method: &'static str, path: &str, body: String) -> Result<Value> {
        let request = Request { method, path: path.to_owned(), body, idempotency_key: None };
        let (status, body) = exchange(&request, self.target, &mut self.connection)
            .await
            .with_context(|| format!("{method} {path} was not answered"))?;
        let shown = || String::from_utf8_lossy(&body).chars().take(300).collect::<String>();
        anyhow::ensure!(status == 200, "{method} {path} was answered {status}: {}", shown());
        serde_json::from_slice(&body).with_context(|| format!("{method} {path} was answered {}", shown()))
    }
}
