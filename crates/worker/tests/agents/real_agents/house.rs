//! A ledger, a repository, a model and a worker of a test's own.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use control::{Cause, Clock, Control, ledger::Rendered, projects::CreateProject, protocols::CreateProtocol};
use domain::{
    actor::Actor,
    commit::{Subject, SubjectKind},
    gate::{Answer, Gate, Verdict},
    ids::{PersonId, ProjectId, ProtocolId},
    person::{Person, PersonKind},
    project::{EngineChoice, Engines},
    protocol::{Advance, Protocol, ProtocolState},
    step::{BlockedOn, Failure, StepState},
    task::{Task, TaskKind},
};
use engines::engine::{Configured, McpOffer, Permissions};
use forge::git::LocalPolicy;
use host::process::{self, Command};
use serde_json::{Value, json};
use store::{EventQuery, Order, Store, StoreConfig, TaskQuery};
use testkit::database::Database;
use testkit::models::{ModelServer, Reply, Rule, Scenario};
use worker::{Handle, WorkerConfig};

use super::agent::Agent;

/// Long enough for the slowest agent on a machine with much else to do.
const PATIENCE: Duration = Duration::from_secs(240);

tokio::task_local! {
    /// The database of the test that is being carried out; without a word, SQLite.
    pub(crate) static LEDGER: Ledger;
}

tokio::task_local! {
    /// Set for tests that do without bubblewrap.
    pub(crate) static LANDLOCK: ();
}

/// Where a test keeps its ledger.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Ledger {
    Sqlite,
    Postgres,
}

impl Ledger {
    async fn open(dir: &Path) -> Store {
        let config = match LEDGER.try_with(|ledger| *ledger).unwrap_or(Self::Sqlite) {
            Self::Sqlite => StoreConfig::Sqlite { path: dir.join("ledger.db") },
            Self::Postgres => {
                let server = host::env::var(testkit::database::URL)
                    .expect("PILOTHOUSE_TEST_POSTGRES_URL must name a server; `cargo xtask test` starts one");
                StoreConfig::Postgres { url: Database::create(&server).await.unwrap().url() }
            }
        };
        Store::open(&config).await.unwrap()
    }
}

pub(crate) struct House {
    dir: tempfile::TempDir,
    control: Control,
    pub(crate) model: ModelServer,
    configured: Configured,
    project: ProjectId,
}

/// What the steps of these tests ask an agent for; the scripts listen for it.
pub(crate) const TASK: &str = "put the answer into made.txt";

/// Asks for a file behind other rules and, once the tool has been called, is content.
pub(crate) fn writing_after(before: Scenario) -> Scenario {
    before
        .rule(Rule::at(TASK, 0).reply([Reply::text("Writing it."), Reply::write("made.txt", "42\n")]))
        .rule(Rule::on(TASK).reply([Reply::text("The answer is there.")]))
}

fn cause() -> Cause {
    Cause::of(Actor::Person { id: PersonId::from("p-owner"), account: "owner".into() })
}

fn nothing<T>(_: &T) -> Rendered {
    Rendered::default()
}

impl House {
    pub(crate) async fn new(agent: Agent, scenario: Scenario) -> Self {
        let model = ModelServer::start(scenario).unwrap();
        let url = model.url();
        Self::with_model_at(agent, model, &url).await
    }

    /// With another address for the agent than the model's.
    pub(crate) async fn with_model_at(agent: Agent, model: ModelServer, url: &str) -> Self {
        // Beneath the system's temporary directory Codex refuses to work in its sandbox.
        let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let laid = dir.path().join("laid");
        std::fs::create_dir(&laid).unwrap();
        let mut configured = agent.configured(&laid, url);
        configured.readable.push(laid);
        let store = Ledger::open(dir.path()).await;
        let control = Control::new(store, Clock::default()).with_attempts_dir(dir.path().join("attempts"));
        let repository = dir.path().join("repository");
        std::fs::create_dir(&repository).unwrap();
        std::fs::write(repository.join("readme.txt"), "Somebody's.\n").unwrap();
        let choice = EngineChoice::new(agent.id());
        let request = CreateProject {
            name: "demo".into(),
            git_url: repository.to_string_lossy().into_owned(),
            engines: Engines { planning: Some(choice.clone()), execution: Some(choice), qa: None },
            ..CreateProject::default()
        };
        let house = Self { dir, control, model, configured, project: ProjectId(0) };
        house.git(&["init", "--quiet", "--initial-branch=main"]).await;
        house.git(&["add", "--all"]).await;
        house.git(&["commit", "--quiet", "-m", "Begin"]).await;
        let project = house.control.create_project(request, &cause(), nothing).await.unwrap().subject.id;
        Self { project, ..house }
    }

    /// Lets the agent use only these tools unasked.
    pub(crate) fn allowing(mut self, tools: &[&str]) -> Self {
        self.configured.allowed_tools = tools.iter().map(|&tool| tool.to_owned()).collect();
        self
    }

    /// Gives the agent a server of tools.
    pub(crate) fn served(mut self, offer: McpOffer) -> Self {
        self.configured.servers.push(offer);
        self
    }

    /// Everything that is kept of what attempts printed.
    pub(crate) fn kept(&self) -> String {
        let attempts = std::fs::read_dir(self.dir.path().join("attempts")).unwrap().flatten();
        let files = attempts.flat_map(|attempt| ["stdout", "stderr", "output"].map(|name| attempt.path().join(name)));
        files.map(|path| String::from_utf8_lossy(&std::fs::read(path).unwrap_or_default()).into_owned()).collect()
    }

    /// Puts a broker between the agent and its model, which lets it use so many tokens.
    pub(crate) fn brokered(mut self, tokens: Option<u64>) -> Self {
        self.configured.broker = true;
        self.configured.token_budget = tokens;
        self
    }

    /// Where everything of Pilothouse's lies.
    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Lets the agent ask people for what it may not do unasked.
    pub(crate) fn asking(mut self) -> Self {
        self.configured.permissions = Permissions::Ask;
        self
    }

    /// Waits for a question of the agent's.
    pub(crate) async fn question(&self, id: ProtocolId) -> Gate {
        self.wait("a question", async || self.get(id).await.open_gate().is_some()).await;
        self.get(id).await.open_gate().unwrap().clone()
    }

    pub(crate) async fn answer(&self, gate: &Gate, verdict: Verdict) {
        let by = Person {
            id: PersonId::from("p-owner"),
            name: "owner".into(),
            kind: PersonKind::Human,
            active: true,
            accounts: Vec::new(),
        };
        let answer = Answer { by, account: "owner".into(), verdict };
        self.control.answer_gate(&gate.id, answer, &cause(), nothing).await.unwrap();
    }

    /// Kills the process that talks with the agent.
    pub(crate) async fn kill_driver(&self) {
        let found = self.processes().into_iter().find(|(_, line)| {
            line.contains("worker_supervise engine-") && !line.contains("worker_supervise supervise ")
        });
        let pid = found.unwrap_or_else(|| panic!("no driver among {:#?}", self.processes())).0;
        let killed = process::run(Command::new("/bin/kill").args(["-9".to_owned(), pid.to_string()])).await.unwrap();
        assert!(killed.status.success(), "{killed:?}");
    }

    pub(crate) async fn worker(&self) -> Handle {
        self.worker_with(|_| {}).await
    }

    pub(crate) async fn worker_with(&self, change: impl FnOnce(&mut WorkerConfig)) -> Handle {
        let test = process::current_exe().unwrap();
        let exe = test.parent().and_then(Path::parent).unwrap().join("examples/worker_supervise");
        let mut config = WorkerConfig::new(self.dir.path(), exe);
        config.drain = Duration::from_millis(200);
        config.local_repositories = LocalPolicy::OwnedBy(process::effective_uid());
        config.engines.insert(self.configured.clone());
        config.sandbox.bubblewrap = LANDLOCK.try_with(|()| ()).is_err();
        change(&mut config);
        worker::start(config, self.control.clone()).await.unwrap()
    }

    /// Starts a protocol of one step that is judged by whether the file came to be.
    pub(crate) async fn execute(&self) -> ProtocolId {
        let step = json!({"id": "make", "name": "01-make.md", "description": TASK,
            "checks": [["grep", "42", "made.txt"]]});
        self.protocol(Some(json!({"steps": [step]}))).await
    }

    /// Starts a protocol; without a spec the agent plans it.
    pub(crate) async fn protocol(&self, spec: Option<Value>) -> ProtocolId {
        let request = CreateProtocol {
            project: self.project,
            name: "0001-make".into(),
            status: None,
            base_branch: None,
            description: Some("Make what is missing.".into()),
            advance: Advance::Auto,
            template_config: None,
            template_source: None,
            spec,
            created_by: Some(PersonId::from("p-owner")),
            requester: "owner".into(),
        };
        let id = self.control.create_protocol(request, &cause(), nothing).await.unwrap().subject.id;
        self.control.start_protocol(id, &cause(), nothing).await.unwrap();
        id
    }

    pub(crate) async fn cancel(&self, id: ProtocolId) {
        self.control.cancel_protocol(id, &cause(), nothing).await.unwrap();
    }

    pub(crate) async fn get(&self, id: ProtocolId) -> Protocol {
        self.control.get::<Protocol>(&id.to_string()).await.unwrap().subject
    }

    /// Waits until a protocol is in one of these states.
    pub(crate) async fn until(&self, id: ProtocolId, states: &[&str]) -> Protocol {
        self.wait(&format!("the protocol to be {states:?}"), async || {
            states.contains(&self.get(id).await.state.name())
        })
        .await;
        self.get(id).await
    }

    pub(crate) async fn wait(&self, what: &str, holds: impl AsyncFn() -> bool) {
        let started = host::clock::monotonic();
        while !holds().await {
            assert!(started.elapsed() < PATIENCE, "waited too long for {what}:\n{}", self.told().await);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// The kinds of the events of a protocol, oldest first.
    pub(crate) async fn events(&self, id: ProtocolId) -> Vec<String> {
        self.all_events(id).await.into_iter().map(|(kind, _)| kind).collect()
    }

    /// The data of the first event of this kind.
    pub(crate) async fn event(&self, id: ProtocolId, kind: &str) -> Value {
        let events = self.all_events(id).await;
        let found = events.iter().find(|(found, _)| found == kind);
        serde_json::from_str(&found.unwrap_or_else(|| panic!("no {kind} among {events:#?}")).1).unwrap()
    }

    async fn all_events(&self, id: ProtocolId) -> Vec<(String, String)> {
        let query = EventQuery {
            subject: Some(Subject::new(SubjectKind::Protocol, &id)),
            project: None,
            step: None,
            kinds: Vec::new(),
            order: Order::Ascending,
            after: None,
            limit: 500,
        };
        let events = self.control.store().list_events(&query).await.unwrap().events;
        events.into_iter().map(|event| (event.kind, event.data)).collect()
    }

    /// The task of a kind, once it is there.
    pub(crate) async fn find_task(&self, kind: TaskKind) -> Option<Task> {
        let query = TaskQuery { kinds: vec![kind], limit: 10, ..TaskQuery::default() };
        self.control.store().list_tasks(&query).await.unwrap().into_iter().next()
    }

    /// The agent's own process: the one that is the program itself. Behind ACP it is our driver's child, to whose
    /// command line `env` has put its variables.
    pub(crate) fn engine(&self) -> i32 {
        let command = &self.configured.command;
        let is_env = |part: &&String| part.ends_with("/env") || part.contains('=');
        let program = command.iter().find(|part| !is_env(part)).expect("a command has a program");
        let found = self
            .processes()
            .into_iter()
            .find(|(pid, _)| std::fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|exe| exe == Path::new(program)));
        found.unwrap_or_else(|| panic!("no {program} among {:#?}", self.processes())).0
    }

    /// The process that holds the agent's tree.
    pub(crate) fn supervisor(&self) -> i32 {
        let found = self.processes().into_iter().find(|(_, line)| line.contains("worker_supervise supervise "));
        found.unwrap_or_else(|| panic!("no supervisor among {:#?}", self.processes())).0
    }

    /// A file of the protocol's branch.
    pub(crate) async fn on_branch(&self, path: &str) -> String {
        self.git(&["show", &format!("0001-make:{path}")]).await
    }

    pub(crate) async fn git(&self, args: &[&str]) -> String {
        let command = Command::new("/usr/bin/git")
            .args(["-c", "user.name=Ada", "-c", "user.email=ada@example.org"])
            .args(args.iter().copied())
            .cwd(self.dir.path().join("repository"))
            .env("HOME", self.dir.path())
            .env("GIT_CONFIG_NOSYSTEM", "1");
        let output = process::run(command).await.unwrap();
        assert!(output.status.success(), "git {args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    /// The processes that attempts started, by what is known of them: their directory lies in this house, or a file
    /// that they were started with.
    pub(crate) fn processes(&self) -> Vec<(i32, String)> {
        let here = self.dir.path().to_str().unwrap();
        let mut found = Vec::new();
        for entry in std::fs::read_dir("/proc").unwrap().flatten() {
            let Ok(pid) = entry.file_name().to_string_lossy().parse() else { continue };
            let cwd = std::fs::read_link(entry.path().join("cwd")).unwrap_or_default();
            let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
            let line = String::from_utf8_lossy(&line).replace('\0', " ");
            if cwd.starts_with(here) || line.contains(here) {
                found.push((pid, line));
            }
        }
        found
    }

    /// Waits until nothing that an attempt started is left.
    pub(crate) async fn empty(&self) {
        self.wait("every process to be gone", async || self.processes().is_empty()).await;
    }

    /// Whether this file is somewhere in an attempt's worktree.
    pub(crate) fn in_worktree(&self, name: &str) -> bool {
        let Ok(worktrees) = std::fs::read_dir(self.dir.path().join("worktrees")) else { return false };
        worktrees.flatten().any(|worktree| worktree.path().join(name).exists())
    }

    /// Everything that would explain a test that failed.
    async fn told(&self) -> String {
        let mut text = String::new();
        let asked = |seen: &testkit::models::Seen| {
            format!("  {} {:?} rule {:?} status {:?}\n", seen.path, seen.prompt(), seen.rule, seen.status)
        };
        text.extend(self.model.seen().iter().map(asked));
        for attempt in std::fs::read_dir(self.dir.path().join("attempts")).into_iter().flatten().flatten() {
            for name in ["stdout", "stderr", "output", "supervisor.log", "result.json"] {
                let path: PathBuf = attempt.path().join(name);
                let content = std::fs::read(&path).unwrap_or_default();
                let end = &content[content.len().saturating_sub(3000)..];
                text += &format!("--- {}\n{}\n", path.display(), String::from_utf8_lossy(end));
            }
        }
        let query = TaskQuery { limit: 20, ..TaskQuery::default() };
        for task in self.control.store().list_tasks(&query).await.unwrap() {
            text += &format!("task {:?} {:?} {:?}\n", task.kind, task.state, task.error);
        }
        let protocol = self.get(ProtocolId(1)).await;
        let steps: Vec<_> = protocol.steps.iter().map(|step| (step.name(), &step.state, &step.attempt)).collect();
        text + &format!("{:?}\n{steps:?}\nprocesses {:#?}", protocol.state, self.processes())
    }

    /// Fails a test with everything that explains it unless the protocol is in this state.
    pub(crate) async fn expect(&self, id: ProtocolId, state: &str) -> Protocol {
        let ends = ["completed", "blocked", "failed", "cancelled", "paused"];
        let protocol = self.until(id, &ends).await;
        assert_eq!(protocol.state.name(), state, "{}", self.told().await);
        protocol
    }
}

/// Why the first step, or else the protocol, came to nothing.
pub(crate) fn failure_of(protocol: &Protocol) -> Failure {
    let blocked = |on: &BlockedOn| match on {
        BlockedOn::Failure { failure } => failure.clone(),
        other => panic!("{other:?}"),
    };
    match (protocol.steps.first().map(|step| &step.state), &protocol.state) {
        (Some(StepState::Failed { failure, .. }), _) => failure.clone(),
        (Some(StepState::TimedOut { summary, .. }), _) => Failure::new("timed_out", summary.clone()),
        (Some(StepState::Blocked { on, .. }), _) | (_, ProtocolState::Blocked { on }) => blocked(on),
        other => panic!("{other:?}"),
    }
}
