//! Authors: they have protocols planned, carried out, checked and pushed on a small repository over HTTP, approve their
//! gates, and repeat each command with the same key until it is answered, across the deaths of the node.
//!
//! Each protocol has a project of its own, so that every part of the way is gone again and again: the first fetch, the
//! plan, a step that writes, its check, the branch that moves.

use std::{
    path::Path,
    process::Stdio,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use domain::commit::Table;
use serde_json::{Value, json};
use store::Store;
use tokio::{process::Command, sync::watch, task::JoinHandle};

use crate::{
    http::{Connection, Request},
    load::exchange,
    node::Target,
    place::Place,
    violation::{Kind, Violation},
};

const SCENARIO: &str = r#"{"version": 1, "title": "faults", "scenes": [
    {"step": "00-setup.md", "actions": [{"do": "message", "text": "ready"}]},
    {"step": "01-fix.md", "actions": [{"do": "write", "path": "answer.txt", "text": "42\n"}]}]}"#;
/// How often a blocked protocol is tried again before it is given up.
const TRIES: u32 = 20;
const LOOK: Duration = Duration::from_millis(30);

/// What authors know.
#[derive(Debug, Default)]
struct Book {
    /// Protocols whose creation was acknowledged, with their names.
    made: Vec<(i64, String)>,
    /// Gates whose approval was acknowledged.
    approved: Vec<String>,
    completed: Vec<Completed>,
    given_up: u64,
    wrong: Vec<String>,
}

/// A protocol at its end, as its author saw it.
#[derive(Clone, Debug)]
struct Completed {
    id: i64,
    branch: String,
    tip: String,
    /// Whether its author had something done again, after workers had died over it.
    was_retried: bool,
}

#[derive(Clone, Debug)]
struct Desk {
    target: watch::Receiver<Option<Target>>,
    closing: watch::Sender<bool>,
    book: Arc<Mutex<Book>>,
    repository: String,
    scenario: String,
}

/// Authors at work.
#[derive(Debug)]
pub struct Authors {
    desk: Desk,
    tasks: Vec<JoinHandle<()>>,
}

impl Authors {
    /// Lays the repository and begins.
    pub async fn start(n: u32, place: &Place, target: watch::Receiver<Option<Target>>) -> Result<Self> {
        let repository = place.dir.join("repository");
        lay_repository(&repository).await?;
        let scenario = place.dir.join("scenario.json");
        std::fs::write(&scenario, SCENARIO)?;
        let desk = Desk {
            target,
            closing: watch::Sender::new(false),
            book: Arc::default(),
            repository: repository.display().to_string(),
            scenario: scenario.display().to_string(),
        };
        let tasks = (0..n)
            .map(|author| {
                let desk = desk.clone();
                host::task::spawn("author", async move { desk.be_author(author).await })
            })
            .collect();
        Ok(Self { desk, tasks })
    }

    /// No new protocols; waits until those under way are at their end. Whether all were.
    pub async fn finish(&mut self, within: Duration) -> bool {
        self.desk.closing.send_replace(true);
        let all = async {
            for task in &mut self.tasks {
                // An author that panicked has said so, and its protocols are missed.
                let _ = task.await;
            }
        };
        tokio::time::timeout(within, all).await.is_ok()
    }

    /// How many protocols were completed, and how many given up.
    pub fn counts(&self) -> (usize, u64) {
        let book = self.desk.book();
        (book.completed.len(), book.given_up)
    }

    /// Holds what was acknowledged against the ledger.
    pub async fn check(&self, store: &Store) -> Result<Vec<Violation>> {
        let (made, approved) = {
            let book = self.desk.book();
            (book.made.clone(), book.approved.clone())
        };
        let mut found = Vec::new();
        for (id, name) in made {
            let row = store.find_row(Table::Protocols, &id.to_string()).await?;
            if row.is_none_or(|row| row.name.is_some_and(|stored| stored != name)) {
                found.push(Violation::of(
                    Kind::Lost,
                    format!("protocol {id} ({name}) was acknowledged and is not there"),
                ));
            }
        }
        for gate in approved {
            let status = store.find_row(Table::Gates, &gate).await?.map(|row| row.status);
            if status.as_deref() != Some("approved") {
                found.push(Violation::of(Kind::Lost, format!("gate {gate} was approved and is {status:?}")));
            }
        }
        found.extend(self.desk.book().wrong.iter().map(|wrong| Violation::of(Kind::Answer, wrong.clone())));
        Ok(found)
    }

    /// Looks at the branches of completed protocols as their owner sees them: at the ledger's tip, with the result in it,
    /// and each piece of work in it once.
    pub async fn check_branches(&self) -> Result<Vec<Violation>> {
        let completed = self.desk.book().completed.clone();
        let repository = Path::new(&self.desk.repository);
        let mut found = Vec::new();
        for Completed { id, branch, tip, was_retried } in completed {
            let at = git(repository, &["rev-parse", &format!("refs/heads/{branch}")]).await.unwrap_or_default();
            if at.trim() != tip {
                let what = format!("branch {branch} of protocol {id} is at {}, the ledger says {tip}", at.trim());
                found.push(Violation::of(Kind::Lost, what));
                continue;
            }
            let answer = git(repository, &["show", &format!("{branch}:answer.txt")]).await?;
            if answer != "42\n" {
                found.push(Violation::of(Kind::Lost, format!("branch {branch} holds {answer:?}")));
            }
            let log = git(repository, &["log", "--format=%s", &format!("main..{branch}")]).await?;
            let mut subjects: Vec<&str> = log.lines().collect();
            let n = subjects.len();
            subjects.sort_unstable();
            subjects.dedup();
            // What its author asked for twice may be there twice.
            if subjects.len() != n && !was_retried {
                found
                    .push(Violation::of(Kind::Repeated, format!("branch {branch} holds a piece of work twice: {log}")));
            }
        }
        Ok(found)
    }
}

impl Drop for Authors {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

impl Desk {
    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn be_author(self, author: u32) {
        let mut author = Author { desk: self, connection: None, author, number: 0 };
        while !*author.desk.closing.borrow() {
            author.number += 1;
            if let Err(error) = author.write_one().await {
                author.desk.book().wrong.push(format!("{error:#}"));
                return;
            }
        }
    }
}

struct Author {
    desk: Desk,
    connection: Option<Connection>,
    author: u32,
    number: u32,
}

impl Author {
    /// One protocol from its project to its end.
    async fn write_one(&mut self) -> Result<()> {
        let name = format!("{:04}-author-{}", self.author * 1000 + self.number, self.author);
        let engine = json!({"id": "scripted", "scenario": self.desk.scenario});
        let project = json!({"name": name, "git_url": self.desk.repository, "engines": {"execution": engine, "planning": engine}});
        let project = self.post("/projects", &project, &format!("{name}-project")).await?;
        let spec = json!({"steps": [
            {"id": "setup", "name": "00-setup.md"},
            {"id": "fix", "name": "01-fix.md", "checks": [["grep", "42", "answer.txt"]],
             "gate": {"when": "before", "self_approval": true}}]});
        let body = json!({"protocol_name": name, "advance": "auto", "spec": spec});
        let path = format!("/projects/{}/protocols", project["id"]);
        let made = self.post(&path, &body, &format!("{name}-protocol")).await?;
        let id = made["id"].as_i64().context("a protocol has no id")?;
        self.desk.book().made.push((id, name.clone()));
        self.post(&format!("/protocols/{id}/actions/start"), &json!({}), &format!("{name}-start")).await?;
        self.see_through(id, &name).await
    }

    async fn see_through(&mut self, id: i64, name: &str) -> Result<()> {
        let mut tries = 0;
        loop {
            let (_, protocol) = self.insist("GET", &format!("/protocols/{id}"), String::new(), None).await?;
            // A follower of the protocol sees its events meanwhile.
            let events = format!("/events?subject=protocol:{id}&after=&limit=50");
            self.insist("GET", &events, String::new(), None).await?;
            match protocol["status"].as_str().unwrap_or_default() {
                "completed" => {
                    let branch = &protocol["branch"];
                    let text = |name: &str| branch[name].as_str().unwrap_or_default().to_owned();
                    let was_retried = tries > 0;
                    let completed = Completed { id, branch: text("name"), tip: text("tip"), was_retried };
                    self.desk.book().completed.push(completed);
                    return Ok(());
                }
                "cancelled" => {
                    self.desk.book().given_up += 1;
                    return Ok(());
                }
                // Quarantined, or interrupted where nothing may be repeated unasked: people decide, and they say yes.
                "blocked" if protocol["gate_id"].is_null() => {
                    tries += 1;
                    let action = if tries > TRIES { "cancel" } else { "retry_latest" };
                    let key = format!("{name}-{action}-{tries}");
                    let path = format!("/protocols/{id}/actions/{action}");
                    // Somebody else may have been faster: what it is now is seen the next time.
                    self.insist("POST", &path, "{}".to_owned(), Some(key)).await?;
                }
                _ => {
                    if let Some(gate) = protocol["gate_id"].as_str() {
                        let path = format!("/gates/{gate}/actions/approve");
                        let key = format!("{name}-{gate}");
                        let (status, _) = self.insist("POST", &path, "{}".to_owned(), Some(key)).await?;
                        if status == 200 {
                            self.desk.book().approved.push(gate.to_owned());
                        }
                    }
                }
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    async fn post(&mut self, path: &str, body: &Value, key: &str) -> Result<Value> {
        let (status, answer) = self.insist("POST", path, body.to_string(), Some(key.to_owned())).await?;
        ensure!(status == 200, "POST {path} was answered {status}: {answer} (asked: {body})");
        Ok(answer)
    }

    /// Sends until it is answered by a node that lives.
    async fn insist(
        &mut self,
        method: &'static str,
        path: &str,
        body: String,
        idempotency_key: Option<String>,
    ) -> Result<(u16, Value)> {
        let request = Request { method, path: path.to_owned(), body, idempotency_key };
        loop {
            let target = self.desk.target.wait_for(Option::is_some).await?.clone();
            let Some(target) = target else { continue };
            match exchange(&request, &target, &mut self.connection).await {
                Ok((429 | 503 | 504, _)) | Err(_) => {}
                Ok((status, body)) => {
                    let answer: Value = serde_json::from_slice(&body).unwrap_or_default();
                    if answer["code"] != "idempotency_in_flight" {
                        return Ok((status, answer));
                    }
                }
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

async fn lay_repository(dir: &Path) -> Result<()> {
    std::fs::create_dir(dir)?;
    std::fs::write(dir.join("answer.txt"), "41\n")?;
    git(dir, &["init", "--quiet", "--initial-branch=main"]).await?;
    git(dir, &["add", "--all"]).await?;
    git(dir, &["commit", "--quiet", "-m", "Begin"]).await?;
    Ok(())
}

async fn git(dir: &Path, arguments: &[&str]) -> Result<String> {
    #[expect(clippy::disallowed_methods, reason = "acts as the repository's owner")]
    let mut command = Command::new("git");
    let output = command
        .args(["-c", "user.name=Ada", "-c", "user.email=ada@example.org"])
        .args(arguments)
        .current_dir(dir)
        .env_clear()
        .env("PATH", host::env::var("PATH").unwrap_or_default())
        .env("HOME", dir)
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .stdin(Stdio::null())
        .output()
        .await?;
    ensure!(output.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?)
}
