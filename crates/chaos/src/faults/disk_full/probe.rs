//! A client that looks whether commands are accepted, and others that fill what is left of a disk.

use std::time::{Duration, Instant};

use anyhow::Result;
use serde_json::{Value, json};
use testkit::random::Random;
use tokio::{sync::watch, task::JoinHandle};

use crate::{
    http::{Connection, Request},
    load::exchange,
    node::Target,
    violation::{Kind, Violation},
};

/// Clients whose long messages fill what is left.
const PRESSERS: u64 = 6;
/// How long it may take until a disk that is nearly full is full.
const FULL_WITHIN: Duration = Duration::from_secs(20);
/// When commands have to be accepted again. The promise is half of it; the rest is for a machine that carries out other
/// faults meanwhile.
const AGAIN_WITHIN: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub(super) struct Probe {
    target: Target,
    connection: Option<Connection>,
    name: String,
    n: u64,
    is_drill: bool,
    /// A server that ends over its disk says nothing of it.
    is_remote: bool,
}

impl Probe {
    pub(super) fn of(name: &str, target: Target, is_drill: bool, is_remote: bool) -> Self {
        Self { target, connection: None, name: name.to_owned(), n: 0, is_drill, is_remote }
    }

    pub(super) fn target(&self) -> &Target {
        &self.target
    }

    /// How many commands it has sent.
    pub(super) fn asked(&self) -> u64 {
        self.n
    }

    fn next(&mut self) -> Request {
        self.n += 1;
        let key = format!("{}-probe-{}", self.name, self.n);
        let body = match self.is_drill {
            true => format!("run again tag={key} pause=0.0 code=0"),
            // A word that the grammar does not know is answered, and both are kept.
            false => format!("hello {}", "x".repeat(12_000)),
        };
        let body = json!({"from": "probe", "conversation": "probe", "body": body, "providerMessageId": key});
        let path = "/dev/inbound".to_owned();
        Request { method: "POST", path, body: body.to_string(), idempotency_key: None }
    }

    /// One command; its status and the problem's code.
    async fn ask(&mut self) -> std::io::Result<(u16, String)> {
        let request = self.next();
        let (status, body) = exchange(&request, &self.target, &mut self.connection).await?;
        let answer: Value = serde_json::from_slice(&body).unwrap_or_default();
        Ok((status, answer["code"].as_str().unwrap_or_default().to_owned()))
    }

    /// Sends commands until one is told that the disk is full, and looks whether reads go on; what is wrong, if anything.
    pub(super) async fn until_full(&mut self, random: &mut Random) -> Result<Option<Violation>> {
        let until = host::clock::monotonic() + FULL_WITHIN;
        let stop = watch::Sender::new(false);
        let pressing = self.start_pressing(&stop);
        let found = loop {
            match self.ask().await? {
                (200, _) => {}
                (503, code) if code == "disk_full" => break None,
                (503 | 504, _) if self.is_remote => break None,
                (status, code) => {
                    break Some(Violation::of(Kind::Answer, format!("a full disk was answered {status} {code}")));
                }
            }
            if host::clock::monotonic() > until {
                break Some(Violation::of(
                    Kind::Missed,
                    format!("the disk did not become full within {FULL_WITHIN:?}"),
                ));
            }
            tokio::time::sleep(random.millis(0, 3)).await;
        };
        stop.send_replace(true);
        for presser in pressing {
            presser.await?;
        }
        if found.is_some() || self.is_remote {
            return Ok(found);
        }
        let path = "/runs?limit=5".to_owned();
        let read = Request { method: "GET", path, body: String::new(), idempotency_key: None };
        let (status, _) = exchange(&read, &self.target, &mut self.connection).await?;
        Ok((status != 200).then(|| Violation::of(Kind::Answer, format!("a read was answered {status} on a full disk"))))
    }

    /// The same for a node that tells nothing, or that goes down over it.
    pub(super) async fn press(&mut self, until: Instant) {
        while host::clock::monotonic() < until {
            if self.ask().await.is_err() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
    }

    /// Others that ask what this one asks; what they are told is not theirs to judge.
    pub(super) fn start_pressing(&self, stop: &watch::Sender<bool>) -> Vec<JoinHandle<()>> {
        (0..PRESSERS)
            .map(|n| {
                let name = format!("{}-{}-{n}", self.name, self.n);
                let mut presser = Self::of(&name, self.target.clone(), self.is_drill, self.is_remote);
                let stop = stop.subscribe();
                host::task::spawn("presser", async move {
                    while !*stop.borrow() {
                        if !matches!(presser.ask().await, Ok((200, _))) {
                            tokio::time::sleep(Duration::from_millis(2)).await;
                        }
                    }
                })
            })
            .collect()
    }

    /// How long it took until a command was accepted.
    pub(super) async fn until_accepted(&mut self) -> Result<Duration, Violation> {
        let started = host::clock::monotonic();
        loop {
            match self.ask().await {
                Ok((200, _)) => return Ok(started.elapsed()),
                Ok((503 | 504, _)) => {}
                Ok((other, code)) => {
                    let what = format!("a command was answered {other} {code} after the disk had space");
                    return Err(Violation::of(Kind::Answer, what));
                }
                Err(error) => return Err(Violation::of(Kind::Answer, format!("a command was not answered: {error}"))),
            }
            if started.elapsed() > AGAIN_WITHIN {
                let what = format!("no command was accepted within {AGAIN_WITHIN:?} after there was space");
                return Err(Violation::of(Kind::Late, what));
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}
