//! Customers: they ask for runs, answer, cancel and retry over HTTP, and repeat each command with the same key until it is
//! acknowledged, across the deaths of the node.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use serde_json::{Value, json};
use tokio::{sync::watch, task::JoinHandle};

use crate::{
    http::{Answer, Connection, Request},
    journal::{Acknowledged, Channel, Claim, Journal},
    node::Target,
    place::{JOBS, Job},
};
use testkit::random::Random;

/// Runs that somebody may still say something about.
const REMEMBERED: usize = 30;

/// What the customers share.
#[derive(Clone, Debug)]
pub struct Load {
    target: watch::Sender<Option<Target>>,
    closing: watch::Sender<bool>,
    cycle: Arc<AtomicU64>,
    journal: Arc<Mutex<Journal>>,
    known: Arc<Mutex<VecDeque<String>>>,
    /// Only jobs that need nobody: the drill has no people.
    simple: bool,
}

/// Customers at work.
#[derive(Debug)]
pub struct Customers {
    pub load: Load,
    tasks: Vec<JoinHandle<()>>,
}

/// A command and how its answer is read.
struct Ask {
    request: Request,
    key: String,
    channel: Channel,
    /// Set when it asks for a run.
    gated: Option<bool>,
}

impl Load {
    fn new(simple: bool) -> Self {
        Self {
            target: watch::Sender::new(None),
            closing: watch::Sender::new(false),
            cycle: Arc::default(),
            journal: Arc::default(),
            known: Arc::default(),
            simple,
        }
    }

    /// Says where the node is now; `None` while there is none.
    pub fn aim(&self, cycle: u64, target: Option<Target>) {
        self.cycle.store(cycle, Ordering::Relaxed);
        self.target.send_replace(target);
    }

    /// Where the node is, for others who talk to it.
    pub fn targets(&self) -> watch::Receiver<Option<Target>> {
        self.target.subscribe()
    }

    pub fn journal(&self) -> MutexGuard<'_, Journal> {
        self.journal.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn known(&self) -> MutexGuard<'_, VecDeque<String>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn remember(&self, run: &str) {
        let mut known = self.known();
        if known.len() == REMEMBERED {
            known.pop_front();
        }
        known.push_back(run.to_owned());
    }

    /// Sends until it is acknowledged.
    async fn insist(&self, ask: &Ask, connection: &mut Option<Connection>) {
        let mut targets = self.target.subscribe();
        let mut tries = 0;
        loop {
            let Ok(target) = targets.wait_for(Option::is_some).await.map(|target| target.clone()) else { return };
            let Some(target) = target else { continue };
            tries += 1;
            if tries > 1 {
                self.journal().repeated += 1;
            }
            match exchange(&ask.request, &target, connection).await {
                Ok((200, body)) => return self.acknowledge(ask, &body),
                // Not now, or the first request with this key is still under way.
                Ok((409 | 429 | 503 | 504, _)) => {}
                Ok((status, body)) => {
                    let body = String::from_utf8_lossy(&body).chars().take(300).collect::<String>();
                    self.journal().wrong.push(format!(
                        "{} {} was answered {status}: {body} (asked: {})",
                        ask.request.method, ask.request.path, ask.request.body
                    ));
                    return;
                }
                Err(_) => {}
            }
            tokio::time::sleep(Duration::from_millis(3)).await;
        }
    }

    fn acknowledge(&self, ask: &Ask, body: &[u8]) {
        let answer: Value = serde_json::from_slice(body).unwrap_or_default();
        let claim = match (ask.channel, ask.gated) {
            (Channel::Dev, gated) => Claim::of_message(gated, &answer),
            (Channel::Api, gated) => {
                Claim::Run { run: answer["id"].as_str().map(str::to_owned), gated: gated.unwrap_or_default() }
            }
        };
        if let Claim::Run { run: Some(run), .. } = &claim {
            self.remember(run);
        }
        let cycle = self.cycle.load(Ordering::Relaxed);
        let acknowledged = Acknowledged { key: ask.key.clone(), cycle, channel: ask.channel, claim };
        self.journal().acknowledged.push(acknowledged);
    }

    fn draw(&self, random: &mut Random, key: String, name: &str) -> Ask {
        let known = random.pick(self.known().make_contiguous()).cloned();
        let (text, job) = match (random.below(100), known) {
            (0..48, _) | (_, None) => return self.draw_run(random, key, name),
            _ if self.simple => return self.draw_run(random, key, name),
            (48..78, Some(run)) => (format!("yes {run}"), None),
            (78..86, Some(run)) => (format!("no {run} not today"), None),
            (86..94, Some(run)) => (format!("cancel {run}"), None),
            (_, Some(run)) => (format!("retry {run}"), None),
        };
        message(key, name, &text, job)
    }

    fn draw_run(&self, random: &mut Random, key: String, name: &str) -> Ask {
        let job = if self.simple {
            Job::find("again")
        } else {
            // Questions are the larger half.
            let place = random.below(7);
            JOBS.get(usize::try_from(place.min(3)).unwrap_or(0))
        };
        let job = job.unwrap_or(&JOBS[0]);
        let job = if job.key == "pair" && random.chance(60) { &JOBS[2] } else { job };
        // Some live through several deaths of their worker.
        let pause = match random.below(100) {
            0..40 if !self.simple => 0,
            0..92 => random.below(300),
            _ => 500 + random.below(500),
        };
        let pause = format!("0.{pause:03}");
        let code = if random.chance(10) { 3 } else { 0 };
        if !self.simple && random.chance(20) {
            let params = json!({"tag": key, "pause": pause, "code": code});
            return Ask {
                request: Request {
                    method: "POST",
                    path: "/runs".to_owned(),
                    body: json!({"job": job.key, "params": params}).to_string(),
                    idempotency_key: Some(key.clone()),
                },
                key,
                channel: Channel::Api,
                gated: Some(job.gated),
            };
        }
        let text = format!("run {} tag={key} pause={pause} code={code}", job.key);
        message(key, name, &text, Some(job.gated))
    }
}

fn message(key: String, name: &str, text: &str, gated: Option<bool>) -> Ask {
    let body = json!({"from": name, "conversation": name, "body": text, "providerMessageId": key}).to_string();
    let request = Request { method: "POST", path: "/dev/inbound".to_owned(), body, idempotency_key: None };
    Ask { request, key, channel: Channel::Dev, gated }
}

/// One exchange, on the connection that is open or on a new one. A node may close, at any moment, a connection that nothing
/// came over for a while; one that is found closed before a byte of the answer came is replaced, once: whatever is asked
/// here may be asked again, by its method or by its key.
pub async fn exchange(
    request: &Request,
    target: &Target,
    connection: &mut Option<Connection>,
) -> std::io::Result<Answer> {
    if let Some(mut open) = connection.take()
        && let Some(answer) = open.ask(request, &target.token).await?
    {
        *connection = Some(open);
        return Ok(answer);
    }
    let mut new = Connection::open(target).await?;
    let answer = new.send(request, &target.token).await?;
    *connection = Some(new);
    Ok(answer)
}

impl Customers {
    pub fn start(n: u64, random: &Random, campaign: &str, simple: bool) -> Self {
        let load = Load::new(simple);
        let tasks = (0..n)
            .map(|i| {
                let (load, random) = (load.clone(), random.fork(1000 + i));
                let campaign = campaign.to_owned();
                host::task::spawn("customer", async move { be_customer(load, random, &campaign, i).await })
            })
            .collect();
        Self { load, tasks }
    }

    /// No new commands; waits until those under way are acknowledged. Whether all were.
    pub async fn finish(&mut self, within: Duration) -> bool {
        self.load.closing.send_replace(true);
        let all = async {
            for task in &mut self.tasks {
                // A customer that panicked has said so, and its missing acknowledgements are missed.
                let _ = task.await;
            }
        };
        tokio::time::timeout(within, all).await.is_ok()
    }
}

impl Drop for Customers {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

async fn be_customer(load: Load, mut random: Random, campaign: &str, i: u64) {
    let name = format!("c{i}");
    let mut connection = None;
    let mut targets = load.target.subscribe();
    let mut closing = load.closing.subscribe();
    for n in 0_u64.. {
        tokio::select! {
            _ = closing.wait_for(|closing| *closing) => return,
            _ = targets.wait_for(Option::is_some) => {}
        }
        let ask = load.draw(&mut random, format!("{campaign}-{i}-{n}"), &name);
        load.insist(&ask, &mut connection).await;
        tokio::time::sleep(random.millis(0, 40)).await;
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt, BufReader},
        net::TcpListener,
        sync::mpsc::{UnboundedReceiver, unbounded_channel},
    };

    use super::*;
    use crate::http;

    const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
    const HALF: &str = "HTTP/1.1 200 OK\r\ncontent-length: 20\r\n\r\nok";

    /// A node that has a list of answers for each connection and closes it behind the last; where none is given, it does so
    /// in the middle of a request, which resets the connection. It says when it has closed one.
    async fn node(connections: &'static [&'static [Option<&'static str>]]) -> (Target, UnboundedReceiver<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (closed, are_closed) = unbounded_channel();
        drop(host::task::spawn("node", async move {
            for answers in connections {
                let (stream, _) = listener.accept().await.unwrap();
                let mut stream = BufReader::new(stream);
                for answer in *answers {
                    let Some(answer) = answer else {
                        stream.get_mut().read_u8().await.unwrap();
                        break;
                    };
                    http::read(&mut stream).await.unwrap();
                    stream.get_mut().write_all(answer.as_bytes()).await.unwrap();
                }
                drop(stream);
                closed.send(()).unwrap();
            }
        }));
        (Target { address, door: None, token: "t".to_owned() }, are_closed)
    }

    fn look() -> Request {
        Request { method: "GET", path: "/runs".to_owned(), body: String::new(), idempotency_key: None }
    }

    #[tokio::test]
    async fn a_connection_that_was_closed_while_nothing_came_over_it_is_replaced() {
        let (target, mut closed) = node(&[&[Some(OK)], &[Some(OK), None], &[Some(OK)]]).await;
        let mut connection = None;

        let first = exchange(&look(), &target, &mut connection).await.unwrap();
        closed.recv().await.unwrap();
        let on_another = exchange(&look(), &target, &mut connection).await.unwrap();
        let on_a_third = exchange(&look(), &target, &mut connection).await.unwrap();

        assert_eq!([first, on_another, on_a_third], [(); 3].map(|()| (200, b"ok".to_vec())));
    }

    #[tokio::test]
    async fn what_a_new_connection_was_closed_over_is_an_error() {
        let (target, _closed) = node(&[&[None], &[Some(OK)]]).await;

        assert!(exchange(&look(), &target, &mut None).await.is_err());
    }

    #[tokio::test]
    async fn half_an_answer_is_not_asked_for_again() {
        let (target, _closed) = node(&[&[Some(OK), Some(HALF)], &[Some(OK)]]).await;
        let mut connection = None;
        exchange(&look(), &target, &mut connection).await.unwrap();

        let error = exchange(&look(), &target, &mut connection).await.unwrap_err();

        assert_eq!(error.kind(), std::io::ErrorKind::UnexpectedEof);
        assert!(connection.is_none());
    }
}
