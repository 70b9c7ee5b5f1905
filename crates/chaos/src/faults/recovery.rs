//! A worker dies in the middle of a job: how long until its work goes on, with another worker, and when its own process
//! starts again.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use crate::{
    fault::{Backend, Control, Expects, Fault, On, Outcome, Setting, Weight},
    http::{Connection, Request},
    load::exchange,
    node::{Node, Program, Role, Seat, Target},
    place::Place,
    span,
    violation::{Kind, Violation},
};

pub const FAULT: Fault = Fault {
    name: "recovery",
    injects: "SIGKILL of a worker in the middle of a job; timed until the job goes on elsewhere, or adopted at home",
    on: &[
        On { backend: Backend::Sqlite, quick: 10, long: 1_000, budget: 20 },
        On { backend: Backend::Postgres, quick: 20, long: 2_000, budget: 40 },
    ],
    weight: Weight::Light,
    needs: &[],
    run: |setting| Box::pin(product(setting)),
    controls: &[Control {
        name: "late-start",
        expects: Expects::A(Kind::Late),
        run: |setting| Box::pin(late_start(setting)),
    }],
};

/// Of the database's, so that "elsewhere" has something to wait for.
const LEASE: Duration = Duration::from_millis(500);
/// Beyond the lease.
const ELSEWHERE: Duration = Duration::from_secs(1);
const AT_HOME: Duration = Duration::from_secs(2);
/// A row of the gate runs beside others on a busy machine: there the middle of all deaths may take so many times as long
/// as is promised of ninety-nine in a hundred.
const GATE: u32 = 3;
/// The default: what is adopted does not wait for it.
const LONG_LEASE: Duration = Duration::from_secs(30);
const PATIENCE: Duration = Duration::from_secs(15);
const LOOK: Duration = Duration::from_millis(4);
/// How long a run may take to begin, and how many are asked for.
const BEGINS_WITHIN: Duration = Duration::from_secs(5);
const TRIES: u32 = 5;

async fn product(setting: Setting) -> Result<Outcome> {
    let started = host::clock::monotonic();
    let mut outcome = Outcome::default();
    let mut figures = Vec::new();
    let at_home = if setting.backend == Backend::Postgres { setting.wanted / 2 } else { setting.wanted };
    let mut spans = Vec::new();
    let lease = LONG_LEASE;
    let mut bench = Bench::start(&setting, "home", &[Work { data: "data", lease }]).await?;
    while (spans.len() as u64) < at_home && !setting.is_spent(started) {
        spans.push(bench.kill_and_restart().await?);
    }
    outcome.done += spans.len() as u64;
    figures.push(judge(&setting, "at home", &mut spans, AT_HOME, &mut outcome)?);
    bench.end(&setting).await?;
    if setting.backend == Backend::Postgres {
        let mut spans = Vec::new();
        let workers = [Work { data: "data-a", lease: LEASE }, Work { data: "data-b", lease: LEASE }];
        let mut bench = Bench::start(&setting, "elsewhere", &workers).await?;
        while outcome.done < setting.wanted && !setting.is_spent(started) {
            spans.push(bench.kill_one().await?);
            outcome.done += 1;
            bench.replace().await?;
        }
        figures.push(judge(&setting, "elsewhere", &mut spans, LEASE + ELSEWHERE, &mut outcome)?);
        bench.end(&setting).await?;
    }
    outcome.figures = figures.join("; ");
    Ok(outcome)
}

/// The only worker starts again too late: the same clock must find that the work did not go on in time.
async fn late_start(setting: Setting) -> Result<Outcome> {
    let mut bench = Bench::start(&setting, "late", &[Work { data: "data", lease: LEASE }]).await?;
    let running = bench.begin().await?;
    let killed = host::clock::monotonic();
    bench.kill_worker_of(&running).await?;
    tokio::time::sleep(GATE * AT_HOME + Duration::from_millis(300)).await;
    bench.replace().await?;
    let mut outcome = Outcome { done: 1, ..Outcome::default() };
    let mut spans = vec![bench.wait_for_more(&running, killed, PATIENCE).await];
    judge(&setting, "late", &mut spans, AT_HOME, &mut outcome)?;
    bench.end(&setting).await?;
    Ok(outcome)
}

/// Says how long it took and whether that is soon enough: for ninety-nine in a hundred, in the gate for the middle and
/// with allowance, and in any case for all of them at some time.
fn judge(
    setting: &Setting,
    place: &str,
    spans: &mut [Duration],
    within: Duration,
    outcome: &mut Outcome,
) -> Result<String> {
    let (percent, within) = if setting.budget.is_some() { (50, GATE * within) } else { (99, within) };
    let judged = span::percentile(spans, percent).context("nobody was killed")?;
    let [p50, p99, last] = [50, 99, 100].map(|percent| span::percentile(spans, percent).unwrap_or_default());
    if judged > within {
        let what =
            format!("work went on {place} {judged:?} after its worker's death (p{percent}), not within {within:?}");
        outcome.violations.push(Violation::of(Kind::Late, what));
    }
    if last >= PATIENCE {
        let what = format!("work did not go on {place} within {PATIENCE:?} after its worker's death");
        outcome.violations.push(Violation::of(Kind::Late, what));
    }
    Ok(format!("goes on {place} after {} (p50) and {} ms (p99) of {}", p50.as_millis(), p99.as_millis(), spans.len()))
}

#[derive(Clone, Copy, Debug)]
struct Work {
    data: &'static str,
    lease: Duration,
}

/// A job that an attempt of this run carries out.
struct Running {
    run: String,
    /// The data directory of who carries it out.
    data: &'static str,
    /// Its events so far.
    n_events: usize,
}

/// On SQLite one process; on PostgreSQL a server and workers.
struct Bench {
    program: Program,
    place: Place,
    server: Option<Node>,
    workers: Vec<(Work, Option<Node>)>,
    target: Option<Target>,
    connection: Option<Connection>,
    asked: u64,
}

impl Bench {
    async fn start(setting: &Setting, name: &str, workers: &[Work]) -> Result<Self> {
        let place = Place::create(setting.backend, setting.dir.join(name), setting.postgres.as_deref()).await?;
        let program = Program::Product(setting.programs.product.clone());
        let mut bench = Self {
            program,
            place,
            server: None,
            workers: workers.iter().map(|work| (*work, None)).collect(),
            target: None,
            connection: None,
            asked: 0,
        };
        if setting.backend == Backend::Postgres {
            let mut server =
                Node::start(&bench.program, &Seat { data: "server", ..Seat::of(Role::Serve) }, &bench.place)?;
            bench.target = Some(server.ready().await?);
            bench.server = Some(server);
        }
        bench.replace().await?;
        Ok(bench)
    }

    /// Starts every worker that is not there.
    async fn replace(&mut self) -> Result<()> {
        let role = if self.server.is_some() { Role::Work } else { Role::Up };
        for (work, node) in self.workers.iter_mut().filter(|(_, node)| node.is_none()) {
            let seat = Seat { data: work.data, lease: work.lease, ..Seat::of(role) };
            let mut started = Node::start(&self.program, &seat, &self.place)?;
            if role == Role::Up {
                self.target = Some(started.ready().await?);
                self.connection = None;
            }
            *node = Some(started);
        }
        Ok(())
    }

    /// Has a job begun that takes long and may be repeated, and waits until it runs. On a machine with much to do, a short
    /// lease may end before that, and its work is over before anybody can be killed: then another one is asked for.
    async fn begin(&mut self) -> Result<Running> {
        for _ in 0..TRIES {
            self.asked += 1;
            let key = format!("recovery-{}", self.asked);
            let params = json!({"tag": key, "pause": "0.999", "code": 0});
            let body = json!({"job": "again", "params": params}).to_string();
            let run = self.ask("POST", "/runs", body, Some(key)).await?;
            let run = run["id"].as_str().context("a run has no id")?.to_owned();
            if let Some(data) = self.wait_for_begin(&run).await {
                let n_events = self.events(&run).await?.len();
                return Ok(Running { run, data, n_events });
            }
        }
        bail!("none of {TRIES} runs began within {BEGINS_WITHIN:?}")
    }

    /// The data directory of who has begun a run.
    async fn wait_for_begin(&self, run: &str) -> Option<&'static str> {
        let since = host::clock::monotonic();
        let attempt = format!("/attempts/run-{run}-1/home ");
        while since.elapsed() < BEGINS_WITHIN {
            let marks = std::fs::read_to_string(self.place.marks()).unwrap_or_default();
            let begun = marks.lines().find(|line| line.starts_with("begin ") && line.contains(&attempt));
            let by = begun.and_then(|line| {
                let data = |work: &Work| format!("{}/attempts/", self.place.dir.join(work.data).display());
                self.workers.iter().find(|(work, _)| line.contains(&data(work)))
            });
            if let Some((work, _)) = by {
                return Some(work.data);
            }
            tokio::time::sleep(LOOK).await;
        }
        None
    }

    async fn kill_worker_of(&mut self, running: &Running) -> Result<()> {
        for (work, node) in &mut self.workers {
            if work.data == running.data
                && let Some(node) = node.take()
            {
                node.kill().await?;
            }
        }
        Ok(())
    }

    /// Kills the worker of a job; how long until the ledger tells of its work again.
    async fn kill_one(&mut self) -> Result<Duration> {
        let running = self.begin().await?;
        let killed = host::clock::monotonic();
        self.kill_worker_of(&running).await?;
        Ok(self.wait_for_more(&running, killed, PATIENCE).await)
    }

    /// The same, and its process starts again at once.
    async fn kill_and_restart(&mut self) -> Result<Duration> {
        let running = self.begin().await?;
        let killed = host::clock::monotonic();
        self.kill_worker_of(&running).await?;
        self.replace().await?;
        Ok(self.wait_for_more(&running, killed, PATIENCE).await)
    }

    /// Until somebody took the attempt over or began another: the first event that is new.
    async fn wait_for_more(&mut self, running: &Running, since: Instant, patience: Duration) -> Duration {
        while since.elapsed() < patience {
            // A node that is just starting is asked again.
            if let Ok(events) = self.events(&running.run).await
                && events.len() > running.n_events
            {
                return since.elapsed();
            }
            tokio::time::sleep(LOOK).await;
        }
        patience
    }

    async fn events(&mut self, run: &str) -> Result<Vec<Value>> {
        let path = format!("/events?subject=run:{run}&after=&limit=100");
        let page = self.ask("GET", &path, String::new(), None).await?;
        let events = page["items"].as_array().cloned().unwrap_or_default();
        // How an attempt is held is told some time after it began, and says nothing about who holds it.
        Ok(events.into_iter().filter(|event| event["type"] != "ExecutionContained").collect())
    }

    async fn ask(
        &mut self,
        method: &'static str,
        path: &str,
        body: String,
        idempotency_key: Option<String>,
    ) -> Result<Value> {
        let target = self.target.clone().context("nothing serves")?;
        let request = Request { method, path: path.to_owned(), body, idempotency_key };
        let (status, body) = exchange(&request, &target, &mut self.connection).await?;
        let said = String::from_utf8_lossy(&body).into_owned();
        anyhow::ensure!(status == 200, "{method} {path} was answered {status}: {said}");
        serde_json::from_slice(&body).with_context(|| format!("{method} {path} was answered {said}"))
    }

    async fn end(self, setting: &Setting) -> Result<()> {
        for node in self.workers.into_iter().filter_map(|(_, node)| node).chain(self.server) {
            node.kill().await?;
        }
        // Supervisors end what nobody adopts; until then it is theirs.
        let started = host::clock::monotonic();
        while !crate::processes::find(&self.place.dir).is_empty() && started.elapsed() < PATIENCE {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        if !setting.keep {
            self.place.remove().await?;
        }
        Ok(())
    }
}
