//! From `start` to `planned`, with an engine that answers at once, beside what cannot be left out: the same git commands
//! by hand, and as many commits as it takes.

use std::{path::Path, time::Instant};

use forge::git::{
    CommitInfo, Git, GitConfig, LocalPolicy, LocalRepo, Mirror, ObjectFormat, Person, Remote,
    types::{BranchName, RepoPath},
};
use serde_json::json;
use testkit::bench::{
    fixture::Fixture,
    http::{self, Connection},
    load,
    node::{Endpoint, Node},
    repository,
    series::{Sample, median, milliseconds},
};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};

use crate::{
    Measured, Plan,
    place::{Database, Place},
};

/// The command, the claim, the beginning of the attempt, its end.
const COMMITS: f64 = 4.0;
/// For everything else, in milliseconds.
const ALLOWED: f64 = 5.0;

pub(crate) async fn measure(plan: Plan) -> Measured {
    let place = Place::new(Database::Sqlite).await?;
    let measured = plan_often(&place, plan).await;
    place.end().await;
    let (mut planned, mut by_hand) = measured?;
    let ledger = Fixture::sqlite().await?;
    let commit = load::decide(&ledger.store, 1, plan.span / 2).await;
    ledger.end().await;
    let commit = commit.map_err(|error| error.to_string())?.p50_ms;
    let (planned, git) = (median(&mut planned).ok_or("none")?, median(&mut by_hand).ok_or("none")?);
    let note = format!("git {git:.1} ms, a commit {commit:.2} ms");
    Ok(Sample::beside(planned, git + COMMITS * commit + ALLOWED).noting(note))
}

/// Milliseconds of each, taking turns.
async fn plan_often(place: &Place, plan: Plan) -> Result<(Vec<f64>, Vec<f64>), String> {
    let repository = repository::create(place.root())?;
    let scenario = place.root().join("scenario.json");
    let answer = json!({"plan_md": "# Plan\n", "context_md": "", "log_md": "",
        "step_files": [{"filename": "00-setup.md", "content": "# Look\n"}]});
    let scenes = json!({"version": 1, "title": "plan", "scenes": [
        {"phase": "plan", "actions": [{"do": "plan", "value": answer}]}]});
    std::fs::write(&scenario, scenes.to_string()).map_err(|error| error.to_string())?;
    let mut node = Node::start(&place.launch("up"))?;
    let endpoint = node.ready().await?;
    let mut api = Api { connection: open(&endpoint).await?, endpoint };
    let engine = json!({"id": "scripted", "scenario": scenario});
    let project = json!({"name": "bench", "git_url": repository, "engines": {"planning": engine, "execution": engine}});
    api.post("/projects", &project).await?;
    let by_hand = ByHand::prepare(place.root(), &repository).await?;
    let (mut planned, mut git) = (Vec::new(), Vec::new());
    for n in 1..=plan.starts {
        let name = format!("{n:04}-plan");
        let protocol = api.post("/projects/1/protocols", &json!({"protocol_name": name, "advance": "manual"})).await?;
        let id = protocol["id"].as_i64().ok_or("a protocol has no id")?;
        planned.push(milliseconds(api.plan(id).await.map_err(|error| format!("{error}: {}", node.log()))?));
        git.push(milliseconds(by_hand.plan(n).await.map_err(|error| error.to_string())?));
    }
    Ok((planned, git))
}

async fn open(endpoint: &Endpoint) -> Result<Connection, String> {
    Connection::open(endpoint.address).await.map_err(|error| error.to_string())
}

struct Api {
    connection: Connection,
    endpoint: Endpoint,
}

impl Api {
    async fn post(&mut self, path: &str, body: &serde_json::Value) -> Result<serde_json::Value, String> {
        let request = http::request(&self.endpoint, "POST", path, &body.to_string());
        match self.connection.exchange(&request).await.map_err(|error| error.to_string())? {
            (200, body) => serde_json::from_slice(body).map_err(|error| error.to_string()),
            (status, body) => Err(format!("{path} answered with {status}: {}", String::from_utf8_lossy(body))),
        }
    }

    /// From the command to the event, as whoever follows sees it.
    async fn plan(&mut self, id: i64) -> Result<std::time::Duration, String> {
        let wrong = |error: std::io::Error| error.to_string();
        let mut lines = BufReader::new(open(&self.endpoint).await?.into_stream());
        let path = format!("/events/stream?subject=protocol:{id}");
        lines.get_mut().write_all(&http::request(&self.endpoint, "GET", &path, "")).await.map_err(wrong)?;
        let mut line = String::new();
        while !line.starts_with("data:") {
            line.clear();
            lines.read_line(&mut line).await.map_err(wrong)?;
        }
        let begun: Instant = host::clock::monotonic();
        self.post(&format!("/protocols/{id}/actions/start"), &json!({})).await?;
        loop {
            line.clear();
            if lines.read_line(&mut line).await.map_err(wrong)? == 0 {
                return Err("the stream ended".to_owned());
            }
            if line.contains(r#""type":"planned""#) {
                return Ok(begun.elapsed());
            }
            if line.contains(r#""type":"planning_failed""#) || line.contains(r#""type":"failed""#) {
                return Err(format!("it was not planned: {line}"));
            }
        }
    }
}

/// The same commands as planning gives.
struct ByHand {
    mirror: Mirror,
    remote: Remote,
    base: BranchName,
    worktrees: std::path::PathBuf,
}

impl ByHand {
    async fn prepare(root: &Path, repository: &Path) -> Result<Self, String> {
        let dir = root.join("by-hand");
        std::fs::create_dir(&dir).map_err(|error| error.to_string())?;
        let wrong = |error: forge::git::GitError| error.to_string();
        let git = Git::find(GitConfig::beneath(&dir)).await.map_err(wrong)?;
        let owner = LocalPolicy::OwnedBy(host::process::effective_uid());
        let remote = Remote::Local(LocalRepo::open(repository, &owner).map_err(wrong)?);
        let mirror = Mirror::open_or_create(&git, &dir.join("mirror.git"), ObjectFormat::Sha1).await.map_err(wrong)?;
        let base = BranchName::parse("main").map_err(|error| error.to_string())?;
        Ok(Self { mirror, remote, base, worktrees: dir.join("worktrees") })
    }

    async fn plan(&self, n: usize) -> Result<std::time::Duration, Box<dyn std::error::Error + Send + Sync>> {
        let file =
            |name: &str, text: &str| Ok::<_, forge::git::types::PathError>((RepoPath::parse(name)?, text.into()));
        let folder = format!(".protocols/{n:04}-plan");
        let mut files = Vec::new();
        for (name, text) in [("plan.md", "# Plan\n"), ("context.md", ""), ("log.md", ""), ("00-setup.md", "# Look\n")] {
            files.push(file(&format!("{folder}/{name}"), text)?);
        }
        let info =
            CommitInfo::new("feat(protocol): add plan", Person::new("Bench", "bench@localhost")?, 1_700_000_000)?;
        let begun = host::clock::monotonic();
        let tip = self.mirror.fetch(&self.remote, &self.base).await?;
        let dir = self.worktrees.join(n.to_string());
        self.mirror.checkout(&tip, &dir).await?;
        let commit = self.mirror.write_files(&tip, &files, &info).await?;
        self.mirror.keep_attempt(u64::try_from(n)?, &commit).await?;
        // What follows once the ledger has accepted the commit.
        let branch = BranchName::parse(&format!("{n:04}-by-hand"))?;
        self.mirror.push(&self.remote, &branch, None, &commit).await?;
        self.mirror.advance_branch(&branch, None, &commit).await?;
        self.mirror.changes(&tip, &commit).await?;
        Ok(begun.elapsed())
    }
}
