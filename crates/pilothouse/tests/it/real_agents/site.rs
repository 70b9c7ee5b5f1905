//! A repository, a scripted model, a real agent, and the product over either database as processes that can be killed.

use std::{
    collections::BTreeSet,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    time::Duration,
};

use api::events::EventView;
use serde_json::{Value, json};
use testkit::{
    agents::Agents,
    models::{Gate, ModelServer, Reply, Rule, Scenario, Usage},
};

use super::processes::{self, Process};
use crate::{
    house::{House, block_on, signal},
    node::{Ledger, Node},
    protocols::{git, lay_repository},
};

/// The directory of what the agent is shown besides its worktree, and the file in it that lets everybody go on.
const LAID: &str = "laid";
const GO_ON: &str = "go-on";
/// Long enough for agents that start beside many others.
const PATIENCE: Duration = Duration::from_secs(60);
/// What the step asks the agent for; the script listens for it.
pub(super) const TASK: &str = "carry out the tool and tell what came of it";
/// What a session is told with that goes on; see `docs/engines.md`.
const CUT_OFF: &str = "Your work was cut off";
/// What each answer of the model claims to have cost.
pub(super) const USAGE: Usage = Usage { input: 1200, cached: 1000, cache_write: 0, output: 34, reasoning: 5 };

/// How the product is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum On {
    /// One process with everything.
    Sqlite,
    /// A server and a worker, on one machine.
    Postgres,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Agent {
    Codex,
    /// The same program as a server, that asks.
    AskingCodex,
    Claude,
    /// In its two-way mode, that asks.
    AskingClaude,
}

impl Agent {
    fn program(self) -> String {
        match self {
            Self::Codex | Self::AskingCodex => Agents::installed().codex(),
            Self::Claude | Self::AskingClaude => Agents::installed().claude(),
        }
    }

    fn id(self) -> &'static str {
        match self {
            Self::Codex | Self::AskingCodex => "codex",
            Self::Claude | Self::AskingClaude => "claude",
        }
    }

    /// `launcher` starts the program that follows it.
    fn configuration(self, model: &str, launcher: &Path, broker: bool) -> String {
        let (address, model) = match self {
            Self::Codex | Self::AskingCodex => (format!("{model}/v1"), "gpt-5.5"),
            Self::Claude | Self::AskingClaude => (model.to_owned(), "claude-opus-5-5"),
        };
        let permissions = match self {
            Self::Codex | Self::Claude => "deny",
            Self::AskingCodex | Self::AskingClaude => "ask",
        };
        let (id, program) = (self.id(), self.program());
        format!(
            "[engines.{id}]\ncommand = [{launcher:?}, {program:?}]\nbase_url = {address:?}\nmodel = {model:?}\n\
             key_env = \"MODEL_KEY\"\npermissions = {permissions:?}\nbroker = {broker}\n"
        )
    }
}

/// Where the model's answers can be held back.
pub(super) struct Gates {
    pub(super) first: Gate,
    pub(super) last: Gate,
}

impl Gates {
    pub(super) fn closed() -> Self {
        Self { first: Gate::closed(), last: Gate::closed() }
    }

    pub(super) fn open(&self) {
        self.first.open();
        self.last.open();
    }
}

/// The agent is to run the tool, to write down that it knows of its end, and to say so; one that goes on after it was cut
/// off is to mend what is there. Each in calls of its own.
pub(super) fn script(gates: &Gates) -> Scenario {
    let tell = |name: &str| Reply::shell(&format!("echo {name} >> trace.txt"));
    Scenario::new()
        .usage(USAGE)
        .rule(Rule::at(CUT_OFF, 0).reply([tell("mended")]))
        .rule(Rule::on(CUT_OFF).reply([Reply::text("It is mended.")]))
        .rule(Rule::at(TASK, 0).behind(&gates.first).reply([Reply::shell("sh tool.sh")]))
        .rule(Rule::at(TASK, 1).reply([tell("after")]))
        .rule(Rule::on(TASK).behind(&gates.last).reply([Reply::text("It is done.")]))
}

pub(super) struct Site {
    house: House,
    pub(super) model: ModelServer,
    agent: Agent,
    ledger: Option<Ledger>,
    /// On SQLite the one process there is.
    server: Option<Node>,
    worker: Option<Node>,
}

/// Where the agent's program and its tool wait to be let go: they leave a file `at-PLACE` in the worktree when they
/// come by. Each of them waits at one place at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Waits {
    Nowhere,
    /// The program, before it says a word.
    Launch,
    /// The tool, before it has done anything, in its middle, and when it has done everything.
    Start,
    Middle,
    End,
}

impl Waits {
    pub(super) fn place(self) -> &'static str {
        match self {
            Self::Nowhere => "nowhere",
            Self::Launch => "launch",
            Self::Start => "start",
            Self::Middle => "middle",
            Self::End => "end",
        }
    }

    /// The beginning of a script for `sh`.
    fn script(self, laid: &Path) -> String {
        let (place, go_on) = (self.place(), laid.join(GO_ON));
        let wait = format!("until [ -e {} ]; do sleep 0.05; done", go_on.display());
        format!("#!/bin/sh\nat() {{ : > at-$1; [ $1 != {place} ] || {wait}; }}\n")
    }
}

impl Site {
    /// `broker`: whether one stands between the agent and its model.
    pub(super) fn new(on: On, agent: Agent, broker: bool, scenario: Scenario, waits: Waits) -> Self {
        let model = ModelServer::start(scenario).unwrap();
        let house = House::new();
        let laid = house.path().join(LAID);
        std::fs::create_dir(&laid).unwrap();
        let launcher = laid.join("launch");
        std::fs::write(&launcher, waits.script(&laid) + "at launch; exec \"$@\"\n").unwrap();
        std::fs::set_permissions(&launcher, std::fs::Permissions::from_mode(0o755)).unwrap();
        let tool =
            waits.script(&laid) + "at start; echo begun >> trace.txt; at middle; echo ended >> trace.txt; at end\n";
        let spec = json!({"steps": [{"id": "make", "name": "01-make.md", "description": TASK,
            "checks": [["test", "-s", "trace.txt"]]}]});
        lay_repository(&house, "{}", &spec.to_string());
        let repository = house.path().join("repository");
        std::fs::write(repository.join("tool.sh"), tool).unwrap();
        std::fs::write(repository.join(".gitignore"), "at-*\n").unwrap();
        git(&house, &["add", "--all"]);
        git(&house, &["commit", "--quiet", "-m", "Lay the tool"]);
        let configuration = house.path().join(".config/pilothouse");
        std::fs::create_dir_all(&configuration).unwrap();
        std::fs::write(configuration.join("config.toml"), agent.configuration(&model.url(), &launcher, broker))
            .unwrap();
        let ledger = (on == On::Postgres).then(Ledger::new);
        let mut site = Self { house, model, agent, ledger, server: None, worker: None };
        site.start_server();
        site.start_worker();
        site
    }

    fn node(&self, name: &str, args: &[&str]) -> Node {
        let allowed = self.house.path().to_str().unwrap();
        let environment = [("MODEL_KEY", "key-of-the-model"), ("PILOTHOUSE_REPOS__ALLOW_LOCAL", allowed)];
        let database = self.ledger.iter().flat_map(|ledger| ["--database-url", &ledger.url]);
        let args: Vec<&str> = args.iter().copied().chain(database).collect();
        Node::start(&self.house, name, &args, &environment)
    }

    /// On SQLite this starts the worker, too.
    pub(super) fn start_server(&mut self) {
        let what = if self.ledger.is_some() { "serve" } else { "up" };
        let server = self.node(what, &[what, "--listen", "127.0.0.1:0"]);
        self.wait_for("the server", || {
            self.house.endpoint().is_some_and(|endpoint| endpoint["pid"] == u64::from(server.pid()))
        });
        self.server = Some(server);
    }

    /// On SQLite there is none of its own.
    pub(super) fn start_worker(&mut self) {
        self.worker = self.ledger.is_some().then(|| self.node("work", &["work"]));
    }

    pub(super) fn kill_server(&mut self) {
        self.server.take().unwrap().kill();
    }

    /// On SQLite this kills the server, too.
    pub(super) fn kill_worker(&mut self) {
        self.worker.take().or_else(|| self.server.take()).unwrap().kill();
    }

    pub(super) fn freeze_worker(&self) {
        self.worker.as_ref().or(self.server.as_ref()).unwrap().freeze(&self.house);
    }

    pub(super) fn thaw_worker(&self) {
        self.worker.as_ref().or(self.server.as_ref()).unwrap().thaw();
    }

    /// Starts a protocol of one step; its id is 1.
    pub(super) fn begin(&self) {
        self.house.json(&["project", "add", "repository", "--engine", self.agent.id()]);
        self.house.json(&["protocol", "new", "1", "0001-make", "--spec", "spec.json", "--start"]);
    }

    pub(super) fn wait_for(&self, what: &str, done: impl Fn() -> bool) {
        let started = host::clock::monotonic();
        while !done() {
            assert!(started.elapsed() < PATIENCE, "waited too long for {what}; {}", self.told());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Everything that would explain a test that failed.
    pub(super) fn told(&self) -> String {
        let logs = ["up", "serve", "work"].map(|name| {
            let log = std::fs::read_to_string(self.house.path().join(format!("{name}.log"))).unwrap_or_default();
            format!("--- {name}\n{log}\n")
        });
        let asked = self.model.seen().into_iter().map(|seen| format!("{:?} rule {:?}\n", seen.prompt(), seen.rule));
        let mut said = String::new();
        for attempt in self.attempts() {
            for name in ["stdout", "stderr", "supervisor.log", "result.json"] {
                let content = std::fs::read(attempt.join(name)).unwrap_or_default();
                let end = &content[content.len().saturating_sub(3000)..];
                said += &format!("--- {}/{name}\n{}\n", attempt.display(), String::from_utf8_lossy(end));
            }
        }
        let asked: String = asked.collect();
        format!("the model was asked\n{asked}{}{said}processes {:#?}", logs.concat(), self.processes())
    }

    /// Where the directories of all attempts lie.
    pub(super) fn attempts_dir(&self) -> PathBuf {
        self.house.data().join("attempts")
    }

    fn attempts(&self) -> Vec<PathBuf> {
        let found = std::fs::read_dir(self.attempts_dir());
        found.into_iter().flatten().flatten().map(|entry| entry.path()).collect()
    }

    /// Waits until the model was asked for this step of the work.
    pub(super) fn until_asked(&self, step: usize) {
        let asked = || self.model.asked().iter().any(|asked| asked.prompt().contains(TASK) && asked.step() == step);
        self.wait_for(&format!("the model to be asked at step {step}"), asked);
    }

    /// Waits until the program or its tool has come by the place where it waits.
    pub(super) fn until_at(&self, waits: Waits) {
        let name = format!("at-{}", waits.place());
        self.wait_for(&name, || self.worktrees().iter().any(|dir| dir.join(&name).exists()));
    }

    /// Lets the program and its tool go on, and whatever is started later.
    pub(super) fn let_go_on(&self) {
        std::fs::write(self.house.path().join(LAID).join(GO_ON), "").unwrap();
    }

    fn worktrees(&self) -> Vec<PathBuf> {
        let found = std::fs::read_dir(self.house.data().join("worktrees"));
        found.into_iter().flatten().flatten().map(|entry| entry.path()).collect()
    }

    /// What attempts consist of now.
    pub(super) fn processes(&self) -> BTreeSet<Process> {
        let nodes: Vec<u32> = self.server.iter().chain(&self.worker).map(Node::pid).collect();
        processes::of_attempts(&self.house.data(), &nodes)
    }

    /// Waits for the process that is meant and gives it back.
    pub(super) fn find(&self, what: &str, find: impl Fn(&BTreeSet<Process>) -> Option<Process>) -> Process {
        self.wait_for(what, || find(&self.processes()).is_some());
        find(&self.processes()).unwrap_or_else(|| panic!("{what} is gone: {}", self.told()))
    }

    pub(super) fn supervisor(&self) -> Process {
        self.find("the supervisor", processes::supervisor)
    }

    pub(super) fn engine(&self) -> Process {
        self.find("the engine", |found| processes::engine(found, &self.agent.program()))
    }

    pub(super) fn tool(&self) -> Process {
        self.find("the tool", |found| processes::tool(found, "tool.sh"))
    }

    /// `kill -9`, and its end.
    pub(super) fn kill(&self, process: &Process) {
        signal(process.pid, "KILL");
        self.wait_for("the end of what was killed", || !process.is_alive());
    }

    pub(super) fn freeze(&self, process: &Process) {
        signal(process.pid, "STOP");
        self.wait_for("it to stand still", || process.stands_still());
    }

    /// Waits until the engine's end is on the record of its supervisor.
    pub(super) fn until_ended(&self) {
        self.wait_for("the result of the attempt", || {
            self.attempts().iter().any(|attempt| attempt.join("result.json").exists())
        });
    }

    pub(super) fn protocol(&self) -> Value {
        serde_json::to_value(block_on(self.house.client().get_protocol(1)).unwrap()).unwrap()
    }

    /// Waits until the protocol is through or stands still, and gives back its status.
    pub(super) fn outcome(&self) -> String {
        let status = || self.protocol()["status"].as_str().unwrap().to_owned();
        let ends = ["completed", "blocked", "failed", "cancelled", "paused"];
        self.wait_for("the protocol to end", || ends.contains(&status().as_str()));
        status()
    }

    pub(super) fn client(&self) -> client::Client {
        self.house.client()
    }

    /// Everything that happened to the protocol. Readers see an event once every older transaction of the database's
    /// server has ended, so one that comes later is waited for first.
    pub(super) fn timeline(&self) -> Vec<EventView> {
        let later = self.house.json(&["protocol", "new", "1", "0002-later"])["id"].to_string();
        let list = |id: &str| {
            let subject = format!("protocol:{id}");
            block_on(self.house.client().list_events(Some(&subject), Some(""), Some(500))).unwrap().items
        };
        self.wait_for("the events", || !list(&later).is_empty());
        list("1")
    }

    pub(super) fn git(&self, args: &[&str]) -> String {
        git(&self.house, args)
    }

    /// Nobody is at work any more: nothing of an attempt is left, and the ledger's rows follow from its events.
    pub(super) fn close(mut self) {
        self.wait_for("every process of the attempt to be gone", || self.processes().is_empty());
        for node in [self.worker.take(), self.server.take()].into_iter().flatten() {
            node.tell_to_stop();
            assert_eq!(node.ended(), Some(0));
        }
        match self.ledger.take() {
            Some(ledger) => ledger.check(&self.house),
            None => assert_eq!(self.house.json(&["db", "check", "--fold"])["sound"], true),
        }
    }
}
