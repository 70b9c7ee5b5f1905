//! The control: a little node over the same store and the same rules, sound or with exactly one [`Flaw`].
//!
//! It takes requests for one job over HTTP as the product does, leaves the same marks, and has two workers in one process
//! that take over what the other holds for longer than its lease, so that there is always somebody whose lease was taken
//! over. Whoever took over keeps what it has, so that everything comes to rest. Its commits are the product's own values;
//! a flaw is what is done around them. Start at [`main`], then at `Drill::request` and `Drill::finish` for the flaws.

use std::{
    collections::BTreeSet,
    io::Write,
    path::PathBuf,
    process::ExitCode,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use domain::{
    aggregate::{Aggregate, fold},
    attempt::{Attempt, Ending},
    catalog::Catalog,
    commit::{Ack, At, Cause, Commit, Committed, Dedup, NewEvent, Subject, Then},
    decision::{Context, Decision},
    grammar::{self, Intent},
    ids::{CommitId, Fence, GateId, PersonId, RunId, TaskId},
    reference::Ref,
    run::{API_CHANNEL, Begin, Finished, Run, RunCommand, RunEvent, RunRequest, RunState},
    task::{Lane, NewTask, Task, TaskState},
    time::Timestamp,
};
use serde_json::{Value, json};
use store::{Claim, Store, StoreConfig, Versioned, queue::Caps, stored::Stored};
use tokio::{
    io::{AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
};

use crate::{http, violation::Kind};

/// How long a flaw keeps the door open: as long as a slow disk would.
const GAP: Duration = Duration::from_millis(25);
/// Shorter than most executions: whoever starts one loses it on the way.
const LEASE: Duration = Duration::from_millis(150);
/// Longer than every execution: whoever took one over ends it, however slow the machine is.
const TAKEN_OVER: Duration = Duration::from_secs(3);
const LOOK_EVERY: Duration = Duration::from_millis(100);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flaw {
    /// The answer is sent before the commit is awaited.
    EarlyAnswer,
    /// The task is stored in a second commit behind the events that ask for it.
    SecondCommit,
    /// A write takes whatever fence is the current one instead of its own.
    NoFence,
}

impl Flaw {
    pub fn name(self) -> &'static str {
        match self {
            Self::EarlyAnswer => "early-answer",
            Self::SecondCommit => "second-commit",
            Self::NoFence => "no-fence",
        }
    }

    /// What the checks must find.
    pub const fn shows_as(self) -> Kind {
        match self {
            Self::EarlyAnswer => Kind::Lost,
            Self::SecondCommit => Kind::Effect,
            Self::NoFence => Kind::StaleWriter,
        }
    }

    fn parse(name: &str) -> Result<Option<Self>> {
        let flaws = [Self::EarlyAnswer, Self::SecondCommit, Self::NoFence];
        match flaws.into_iter().find(|flaw| flaw.name() == name) {
            None if name != "none" => bail!("there is no flaw {name}"),
            flaw => Ok(flaw),
        }
    }
}

#[derive(Clone, Debug)]
struct Drill {
    store: Store,
    catalog: Arc<Catalog>,
    flaw: Option<Flaw>,
    data: PathBuf,
    /// The incarnations of this process.
    workers: [String; 2],
    /// Attempts whose execution has ended in this process.
    ended: Arc<Mutex<BTreeSet<String>>>,
}

/// `drill FLAW --data-dir DIR [--database-url URL]`: serves until it is killed.
pub async fn main(arguments: &[String]) -> Result<ExitCode> {
    let flaw = Flaw::parse(arguments.first().map_or("", String::as_str))?;
    let value = |flag: &str| {
        let at = arguments.iter().position(|argument| argument == flag)?;
        arguments.get(at + 1)
    };
    let data = PathBuf::from(value("--data-dir").context("--data-dir is missing")?);
    std::fs::create_dir_all(&data)?;
    let config = match value("--database-url") {
        Some(url) => StoreConfig::Postgres { url: url.clone() },
        None => StoreConfig::Sqlite { path: data.join("pilothouse.db") },
    };
    let catalog = std::fs::read_to_string(data.with_file_name("jobs.toml"))?;
    let drill = Drill {
        store: Store::open(&config).await?,
        catalog: Arc::new(Catalog::parse(&catalog, "jobs.toml")?),
        flaw,
        data,
        workers: ["a", "b"].map(|name| format!("w-{name}-{}", host::random::base62(8))),
        ended: Arc::default(),
    };
    // What the last process held; on PostgreSQL only what its time has ended, the rest is taken over later.
    while !drill.store.reap("w-start", 500).await?.tasks.is_empty() {}
    for incarnation in drill.workers.clone() {
        let worker = drill.clone();
        drop(host::task::spawn("drill worker", async move { worker.work(incarnation).await }));
    }
    drill.serve().await?;
    Ok(ExitCode::SUCCESS)
}

impl Drill {
    async fn serve(&self) -> Result<()> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let token = self.data.join("admin.token");
        host::fs::write_atomic(&token, b"drill\n")?;
        let url = format!("http://{}", listener.local_addr()?);
        let endpoint = json!({"url": url, "pid": host::process::id(), "token_file": token});
        host::fs::write_atomic(&self.data.join("endpoint.json"), endpoint.to_string().as_bytes())?;
        loop {
            let (stream, _) = listener.accept().await?;
            let drill = self.clone();
            drop(host::task::spawn("drill connection", async move {
                // A client that is gone has nobody to hear of it.
                let _ = drill.converse(stream).await;
            }));
        }
    }

    async fn converse(&self, stream: TcpStream) -> Result<()> {
        let mut stream = BufReader::new(stream);
        while let Some(request) = http::read(&mut stream).await? {
            let (status, body) = match self.answer(&request).await {
                Ok(body) => ("200 OK", body),
                Err(error) => ("503 Busy", json!({"detail": format!("{error:#}")})),
            };
            let body = body.to_string();
            let answer = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n{body}", body.len());
            stream.get_mut().write_all(answer.as_bytes()).await?;
        }
        Ok(())
    }

    async fn answer(&self, request: &http::Message) -> Result<Value> {
        let path = request.first.split(' ').nth(1).unwrap_or_default();
        match path.split('?').next().unwrap_or_default() {
            "/dev/inbound" => {
                let body: Value = serde_json::from_slice(&request.body)?;
                let text = |name: &str| body[name].as_str().map(str::to_owned).context("a member is missing");
                self.request(&text("body")?, text("providerMessageId")?).await
            }
            "/runs" => {
                let unfinished: Vec<String> = ["Dispatching", "Running", "Blocked"].map(str::to_owned).to_vec();
                let runs = self.store.list_runs(&unfinished, None, 500).await?;
                let items: Vec<Value> =
                    runs.iter().map(|run| json!({"id": run.id, "status": run.state.name(), "gate_id": null})).collect();
                Ok(json!({ "items": items }))
            }
            "/queues" => Ok(json!({"states": self.store.count_tasks().await?.by_state})),
            other => bail!("there is nothing at {other}"),
        }
    }

    async fn request(&self, text: &str, key: String) -> Result<Value> {
        let Intent::RunJob { job, args, .. } = grammar::parse(text) else { bail!("the drill only runs jobs") };
        let bound = self.catalog.find(&job).context("there is no such job")?.bind(&args)?;
        let context = now();
        let request = RunRequest {
            id: RunId(new_ref()),
            gate: GateId(new_ref()),
            job: bound,
            requested_by: PersonId("drill".to_owned()),
            requester: "dev:drill".to_owned(),
            reason: None,
            channel: API_CHANNEL.to_owned(),
            conversation: "drill".to_owned(),
        };
        let decision = request.decide(&context);
        let run = fold::<Run>(&decision.events).context("nothing was decided")?;
        let dedup = Dedup { scope: "inbox:dev".to_owned(), key, request_hash: String::new(), answer: String::new() };
        let mut commit = commit(&run, None, &decision, &context, None);
        commit.cause.dedup = Some(dedup);
        let answer = json!({"intentType": "RunJob", "jobKey": job, "runId": run.id, "outbound": []});
        let outcome = match self.flaw {
            Some(Flaw::EarlyAnswer) => {
                let drill = self.clone();
                drop(host::task::spawn("drill commit", async move {
                    tokio::time::sleep(GAP).await;
                    drill.store.commit(commit).await
                }));
                return Ok(answer);
            }
            Some(Flaw::SecondCommit) => {
                let tasks = std::mem::take(&mut commit.tasks);
                let cause = Cause { dedup: None, ..commit.cause.clone() };
                let outcome = self.store.commit(commit).await?;
                if matches!(outcome, Committed::Applied { .. }) {
                    tokio::time::sleep(GAP).await;
                    self.store.commit(only_tasks(cause, tasks)).await?;
                }
                outcome
            }
            Some(Flaw::NoFence) | None => self.store.commit(commit).await?,
        };
        match outcome {
            Committed::Applied { .. } => Ok(answer),
            Committed::Duplicate(_) => Ok(json!({"intentType": "RunJob", "jobKey": job, "outbound": []})),
            other => bail!("not now: {other:?}"),
        }
    }

    /// Claims, and looks every now and then what can be taken over.
    async fn work(&self, incarnation: String) {
        let mut looked_at = host::clock::monotonic();
        loop {
            if looked_at.elapsed() > LOOK_EVERY {
                looked_at = host::clock::monotonic();
                complain(self.take_over(&incarnation).await);
            }
            let claim = Claim {
                lane: Lane::Engine,
                incarnation: incarnation.clone(),
                limit: 8,
                lease: LEASE,
                caps: Caps::default(),
                now: now().now,
            };
            match self.store.work(Vec::new(), claim).await {
                Ok(worked) => worked.tasks.into_iter().for_each(|task| self.begin(task, &incarnation)),
                Err(error) => complain::<store::StoreError>(Err(error)),
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Takes what others hold for longer than their lease, as the product adopts: under a new fence and without a way
    /// through the queue. The reaper will not do here: on SQLite it takes every lease of every other incarnation, however
    /// young, because none but this process can be alive.
    async fn take_over(&self, incarnation: &str) -> Result<()> {
        for task in self.store.list_leases(incarnation).await? {
            let TaskState::Leased { fence, until, .. } = &task.state else { continue };
            if *until > now().now {
                continue;
            }
            if let Some(task) = self.store.adopt(&task.id, *fence, incarnation, TAKEN_OVER).await? {
                self.begin(task, incarnation);
            }
        }
        Ok(())
    }

    fn begin(&self, task: Task, incarnation: &str) {
        let (drill, incarnation) = (self.clone(), incarnation.to_owned());
        drop(host::task::spawn("drill task", async move {
            complain(drill.carry_out(&task, &incarnation).await);
        }));
    }

    async fn carry_out(&self, task: &Task, worker: &str) -> Result<()> {
        let TaskState::Leased { fence, .. } = task.state else { bail!("a claimed task is leased") };
        let ack = |then| Ack { task: task.id.clone(), fence, then };
        let run = self.get(task).await?;
        let subject = &run.subject;
        match &subject.state {
            RunState::Dispatching { .. } => {
                let nonce = host::random::base62(8);
                let begin = Begin { task: task.id.clone(), fence, worker: worker.to_owned(), nonce };
                let command = RunCommand::Start { begin, now_digest: Some(subject.digest.clone()) };
                let Some(run) = self.command(&run, &command, ack(Then::Keep)).await? else { return Ok(()) };
                let attempt = run.running().context("it was started")?.clone();
                self.execute(&run, &attempt).await?;
                self.finish(task, &attempt, worker, fence).await
            }
            RunState::Running => {
                let attempt = subject.running().context("it is running")?.clone();
                // Its execution died with the process that began it.
                if !self.workers.contains(&attempt.worker) {
                    let gate = GateId(new_ref());
                    let command = RunCommand::Interrupt { worker: worker.to_owned(), began: true, gate };
                    return self.command(&run, &command, ack(Then::Done)).await.map(drop);
                }
                let command = RunCommand::Adopt { old: attempt.fence, fence, worker: worker.to_owned() };
                let Some(run) = self.command(&run, &command, ack(Then::Keep)).await? else { return Ok(()) };
                let attempt = run.running().context("it was adopted")?.clone();
                while !self.ended().contains(attempt.id.as_str()) {
                    tokio::time::sleep(Duration::from_millis(3)).await;
                }
                // Whoever lost the lease is the first to know of the end.
                tokio::time::sleep(GAP).await;
                self.finish(task, &attempt, worker, fence).await
            }
            _ => Ok(()),
        }
    }

    /// The job itself, which goes on whoever holds the lease.
    async fn execute(&self, run: &Run, attempt: &Attempt) -> Result<()> {
        self.mark("begin", attempt)?;
        let pause: f64 = run.job.params.get("pause").and_then(|pause| pause.parse().ok()).unwrap_or(0.0);
        tokio::time::sleep(Duration::from_secs_f64(pause)).await;
        self.mark("end", attempt)?;
        self.ended().insert(attempt.id.to_string());
        Ok(())
    }

    fn mark(&self, what: &str, attempt: &Attempt) -> Result<()> {
        let home = self.data.join("attempts").join(attempt.id.as_str()).join("home");
        let mut file = std::fs::OpenOptions::new().append(true).create(true).open(self.data.with_file_name("marks"))?;
        Ok(file.write_all(format!("{what} {} {}\n", home.display(), host::process::id()).as_bytes())?)
    }

    /// Records the end under the fence of the claim; without a fence, under whatever is current.
    async fn finish(&self, task: &Task, attempt: &Attempt, worker: &str, fence: Fence) -> Result<()> {
        let code = |run: &Run| run.job.params.get("code").and_then(|code| code.parse().ok()).unwrap_or(0);
        for _ in 0..100 {
            let run = self.get(task).await?;
            let (mut fences, code) = ((fence, attempt.fence), code(&run.subject));
            if self.flaw == Some(Flaw::NoFence)
                && let Some(Task { state: TaskState::Leased { fence, .. }, .. }) =
                    self.store.find_task(&task.id).await?
            {
                fences = (fence, run.subject.attempt.as_ref().map_or(attempt.fence, |attempt| attempt.fence));
            }
            let result = Finished {
                ending: if code == 0 { Ending::Succeeded } else { Ending::Failed },
                summary: "the drill is over".to_owned(),
                exit_code: Some(code),
                usage: None,
            };
            let worker = worker.to_owned();
            let command = RunCommand::Finish { fence: fences.1, worker, result, gate: GateId(new_ref()) };
            let ack = Ack { task: task.id.clone(), fence: fences.0, then: Then::Done };
            let context = now();
            // The rules' own refusal of a fence that was taken over.
            let Ok(decision) = run.subject.decide(&command, &context) else { return Ok(()) };
            let after = apply(&run.subject, &decision);
            match self.store.commit(commit(&after, Some(&run), &decision, &context, Some(ack))).await? {
                Committed::Stale => {}
                Committed::Fenced if self.flaw == Some(Flaw::NoFence) => {}
                _ => return Ok(()),
            }
        }
        Ok(())
    }

    /// Gives one command; `None` when somebody else was first.
    async fn command(&self, run: &Versioned<Run>, command: &RunCommand, ack: Ack) -> Result<Option<Run>> {
        let context = now();
        let Ok(decision) = run.subject.decide(command, &context) else { return Ok(None) };
        let after = apply(&run.subject, &decision);
        let outcome = self.store.commit(commit(&after, Some(run), &decision, &context, Some(ack))).await?;
        Ok(matches!(outcome, Committed::Applied { .. }).then_some(after))
    }

    async fn get(&self, task: &Task) -> Result<Versioned<Run>> {
        self.store.find::<Run>(&task.subject.id).await?.context("a task's run exists")
    }

    fn ended(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.ended.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub(crate) fn apply(run: &Run, decision: &Decision<RunEvent>) -> Run {
    decision.events.iter().fold(run.clone(), |mut run, event| {
        run.apply(event);
        run
    })
}

pub(crate) fn commit(
    after: &Run,
    before: Option<&Versioned<Run>>,
    decision: &Decision<RunEvent>,
    context: &Context,
    ack: Option<Ack>,
) -> Commit {
    let event = |event: &RunEvent| NewEvent {
        kind: Run::event_name(event).to_owned(),
        schema: 1,
        data: serde_json::to_string(event).unwrap_or_default(),
        project: None,
        step: None,
    };
    Commit {
        id: CommitId(host::random::uuid_v7().to_string()),
        subject: Some((after.subject(), before.map_or(At::New, |before| At::Version(before.version)))),
        cause: cause(context.now),
        ack,
        expects: decision.expects.clone(),
        guards: decision.guards.clone(),
        entries: decision.entries.clone(),
        rows: after.rows(before.map(|before| &before.subject)),
        events: decision.events.iter().map(event).collect(),
        tasks: decision.effects.iter().cloned().map(|effect| effect.into_task(new_task_id())).collect(),
        withdraw: decision.withdraw.clone(),
    }
}

fn only_tasks(cause: Cause, tasks: Vec<NewTask>) -> Commit {
    Commit {
        id: CommitId(host::random::uuid_v7().to_string()),
        subject: None::<(Subject, At)>,
        cause,
        ack: None,
        expects: Vec::new(),
        guards: Vec::new(),
        entries: Vec::new(),
        rows: Vec::new(),
        events: Vec::new(),
        tasks,
        withdraw: Vec::new(),
    }
}

fn cause(now: Timestamp) -> Cause {
    Cause { actor: "system".to_owned(), command: "\"drill\"".to_owned(), now, ids: "{}".to_owned(), dedup: None }
}

fn now() -> Context {
    Context { now: Timestamp::from_micros(host::clock::now_micros()) }
}

pub(crate) fn new_ref() -> String {
    Ref::drawn(now().now, host::random::bytes()).to_string()
}

fn new_task_id() -> TaskId {
    TaskId(host::random::uuid_v7().to_string())
}

fn complain<E: Into<anyhow::Error>>(outcome: std::result::Result<(), E>) {
    if let Err(error) = outcome {
        // Into the node's log; whoever closed it does not want it.
        let _ = writeln!(std::io::stderr(), "drill: {:#}", error.into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flaw_is_found_by_its_name() {
        for flaw in [Flaw::EarlyAnswer, Flaw::SecondCommit, Flaw::NoFence] {
            assert_eq!(Flaw::parse(flaw.name()).unwrap(), Some(flaw));
        }
        assert_eq!(Flaw::parse("none").unwrap(), None);
        assert!(Flaw::parse("bad-luck").is_err());
    }
}
