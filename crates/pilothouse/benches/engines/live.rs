//! How soon what an engine says is with those who follow it, through the whole product: engine, supervisor, spool,
//! parser, server, stream, client.

use std::time::Duration;

use client::Client;
use serde_json::{Value, json};
use testkit::bench::series::quantile;

use crate::{node::Node, talker};

const PATIENCE: Duration = Duration::from_secs(120);
/// People who follow one engine.
const FOLLOWERS: usize = 4;
const ENGINES: usize = 16;
const PAUSE_MS: u32 = 10;

/// One engine with a few followers: milliseconds from the line to its event, for all but one in a hundred.
pub(crate) async fn latency(told: u32) -> Result<f64, String> {
    let node = Node::start().await?;
    let attempt = begin(&node, 1, told).await?;
    let followed = follow(&node, &vec![attempt; FOLLOWERS], told).await?;
    let lost: u32 = followed.iter().map(|followed| followed.lost).sum();
    if lost > 0 {
        return Err(format!("{lost} events did not come"));
    }
    let mut late: Vec<f64> = followed.into_iter().flat_map(|followed| followed.late_ms).collect();
    quantile(&mut late, 0.99).ok_or_else(|| format!("no event was seen: {}", node.log()))
}

/// Sixteen engines at once, each followed: how many of their events did not come, or not in their order.
pub(crate) async fn sixteen(told: u32) -> Result<f64, String> {
    let node = Node::start().await?;
    let mut attempts = Vec::new();
    for n in 1..=ENGINES {
        attempts.push(begin(&node, n, told).await?);
    }
    let followed = follow(&node, &attempts, told).await?;
    if followed.len() < ENGINES {
        return Err(format!("only {} of {ENGINES} engines were followed", followed.len()));
    }
    Ok(followed.iter().map(|followed| f64::from(followed.lost)).sum())
}

/// Starts a protocol whose step is a talker; the name of its attempt.
async fn begin(node: &Node, n: usize, told: u32) -> Result<String, String> {
    let client = node.client()?;
    let wrong = |error: client::ClientError| error.to_string();
    if n == 1 {
        let project = json!({"name": "bench", "git_url": node.repository(), "engines": {"execution": {"id": "shell"}}});
        client.create_project(&body(project)?).await.map_err(wrong)?;
    }
    let exe = std::env::current_exe().map_err(|error| error.to_string())?;
    let argv = [exe.display().to_string(), talker::FLAG.into(), told.to_string(), PAUSE_MS.to_string()];
    let step = json!({"id": "talk", "name": "00-talk.md", "step_type": "setup", "inputs": {"argv": argv}, "qa": {"policy": "skip"}});
    let protocol = json!({"protocol_name": format!("{n:04}-talk"), "advance": "auto", "spec": {"steps": [step]}});
    let protocol = client.create_protocol(1, &body(protocol)?).await.map_err(wrong)?;
    client.start_protocol(protocol.id).await.map_err(wrong)?;
    let begun = host::clock::monotonic();
    loop {
        let steps = client.list_steps(protocol.id).await.map_err(wrong)?;
        match steps.first().and_then(|step| step.attempt.as_ref()) {
            Some(attempt) if attempt.status == "running" => return Ok(attempt.id.clone()),
            Some(attempt) => return Err(format!("the attempt is {} at once: {}", attempt.status, node.log())),
            None if begun.elapsed() > PATIENCE => return Err(format!("no attempt began: {}", node.log())),
            None => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    }
}

fn body<T: serde::de::DeserializeOwned>(value: Value) -> Result<T, String> {
    serde_json::from_value(value).map_err(|error| error.to_string())
}

/// What one follower saw.
struct Followed {
    late_ms: Vec<f64>,
    lost: u32,
}

async fn follow(node: &Node, attempts: &[String], told: u32) -> Result<Vec<Followed>, String> {
    let mut following = tokio::task::JoinSet::new();
    for attempt in attempts {
        let (client, attempt) = (node.client()?, attempt.clone());
        following.spawn(async move { tokio::time::timeout(PATIENCE, follow_one(&client, &attempt, told)).await });
    }
    let mut followed = Vec::new();
    while let Some(ended) = following.join_next().await {
        let in_time = ended.map_err(|error| error.to_string())?.map_err(|_| "an engine was followed for too long")?;
        followed.push(in_time?);
    }
    Ok(followed)
}

async fn follow_one(client: &Client, attempt: &str, told: u32) -> Result<Followed, String> {
    let mut events = client.follow_attempt(attempt).await.map_err(|error| error.to_string())?;
    let (mut late_ms, mut next, mut lost) = (Vec::new(), 0, 0);
    while let Some(event) = events.next().await.map_err(|error| error.to_string())? {
        let now = host::clock::now_micros();
        let line = event.data["text"].as_str().unwrap_or_default();
        let mut words = line.split_whitespace();
        let number = |word: Option<&str>| word.and_then(|word| word.parse::<i64>().ok());
        let (Some(n), Some(written)) = (number(words.next()), number(words.next())) else { continue };
        if n != i64::from(next) {
            lost += 1;
        }
        next = u32::try_from(n).unwrap_or(next) + 1;
        late_ms.push(Duration::from_micros(u64::try_from(now - written).unwrap_or(0)).as_secs_f64() * 1000.0);
    }
    Ok(Followed { late_ms, lost: lost + told.saturating_sub(next) })
}
