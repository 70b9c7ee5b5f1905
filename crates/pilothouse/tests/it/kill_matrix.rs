//! Who dies when: worker, server, supervisor, engine and tool, each at the start, in the middle and at the end of an
//! engine's work, on both databases. What ran is adopted, gone on with or failed as promised; what it used is counted
//! once; nothing that an attempt started is left.
//!
//! The engine is a script that prints what Codex prints, keeps the file that Codex keeps, and holds still where a test
//! wants it to, so that no moment is a matter of luck.

use std::{path::PathBuf, time::Duration};

use serde_json::Value;

use crate::{
    house::{House, block_on, signal},
    node::{Ledger, Node},
    protocols::{git, lay_repository},
};

/// Long enough for a machine with much else to do.
const PATIENCE: Duration = Duration::from_secs(60);

/// Holds still when it is its turn, and only the first time.
const HOLD: &str = r#"
hold() {
  [ "$(cat "$here/victim") $(cat "$here/moment")" = "$1" ] || return 0
  mkdir "$here/held" 2> /dev/null || return 0
  until [ -e "$here/go" ]; do sleep 0.05; done
}
"#;

const AGENT: &str = r#"
echo start >> "$here/starts"
cat > /dev/null
hold "other start"
case " $* " in *" resume "*) thread=T1 ;; *) thread=T$(wc -l < "$here/starts" | tr -d ' ') ;; esac
echo "{\"type\":\"thread.started\",\"thread_id\":\"$thread\"}"
echo '{"type":"turn.started"}'
mkdir -p "$CODEX_HOME/sessions/2026/11/21"
echo '{"type":"event_msg","payload":{"type":"token_count","info":{"total_token_usage":{"input_tokens":100,"output_tokens":10}}}}' \
  > "$CODEX_HOME/sessions/2026/11/21/rollout-1-$thread.jsonl"
echo '{"type":"item.started","item":{"id":"i","type":"command_execution","command":"tool","status":"in_progress"}}'
setsid "$here/tool" & wait $!
echo '{"type":"item.completed","item":{"id":"i","type":"command_execution","command":"tool","exit_code":0,"status":"completed"}}'
echo 42 > answer.txt
echo '{"type":"item.completed","item":{"id":"m","type":"agent_message","text":"done"}}'
echo '{"type":"turn.completed","usage":{"input_tokens":150,"output_tokens":15}}'
hold "other end"
exit 0
"#;

const TOOL: &str = r#"
hold "tool start"
echo half > half.txt
hold "other middle"
hold "tool middle"
rm half.txt
hold "tool end"
"#;

const SPEC: &str = r#"{"steps": [
    {"id": "fix", "name": "00-fix.md", "step_type": "work", "checks": [["grep", "42", "answer.txt"]]}]}"#;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Victim {
    Worker,
    Server,
    Supervisor,
    Engine,
    Tool,
}

const MOMENTS: [&str; 3] = ["start", "middle", "end"];

/// The product's processes: one on SQLite, two over PostgreSQL.
enum Port {
    Sqlite,
    Postgres { ledger: Ledger, server: Option<Node>, worker: Option<Node> },
}

/// A house with a protocol whose engine holds still.
struct Scene {
    house: House,
    port: Port,
}

impl Scene {
    fn begin(port: Port, victim: Victim, moment: &str) -> Self {
        let house = House::new();
        let here = house.path().canonicalize().unwrap();
        let script = |name: &str, body: &str| {
            let text = format!("#!/bin/sh\nhere='{}'\n{HOLD}\n{body}", here.display());
            let path = here.join(name);
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
            path
        };
        let agent = script("agent", AGENT);
        script("tool", TOOL);
        let config = house.path().join(".config/pilothouse");
        std::fs::create_dir_all(&config).unwrap();
        let text = format!(
            "[sandbox]\nengines = \"off\"\n[repos]\nallow_local = [\"{}\"]\n\
             [engines.codex]\ncommand = [\"{}\"]\n",
            here.display(),
            agent.display()
        );
        std::fs::write(config.join("config.toml"), text).unwrap();
        std::fs::write(here.join("victim"), if victim == Victim::Tool { "tool" } else { "other" }).unwrap();
        std::fs::write(here.join("moment"), moment).unwrap();
        lay_repository(&house, "{}", SPEC);
        let mut scene = Self { house, port };
        scene.start_server();
        scene.start_worker();
        scene.house.json(&["project", "add", "repository", "--engine", "codex"]);
        scene.house.json(&["protocol", "new", "1", "0001-fix", "--spec", "spec.json", "--start"]);
        scene.wait_for("the engine to hold still", |scene| scene.house.path().join("held").exists());
        scene
    }

    fn start(&self, name: &str, args: &[&str], url: &str) -> Node {
        let environment = [("PILOTHOUSE_WORKER__LEASE", "9s")];
        Node::start(&self.house, name, &[args, &["--database-url", url]].concat(), &environment)
    }

    fn start_server(&mut self) {
        let node = match &self.port {
            Port::Sqlite => None,
            Port::Postgres { ledger, .. } => {
                let _ = std::fs::remove_file(self.house.data().join("endpoint.json"));
                let args = ["serve", "--listen", "127.0.0.1:0", "--dev-channel", "--jobs", "jobs.toml"];
                Some(self.start("server", &args, &ledger.url))
            }
        };
        match &mut self.port {
            Port::Sqlite => self.house.start(),
            Port::Postgres { server, .. } => {
                *server = node;
                self.house.wait_for("the server", |house| house.endpoint().is_some());
            }
        }
    }

    fn start_worker(&mut self) {
        let node = match &self.port {
            Port::Sqlite => return,
            Port::Postgres { ledger, .. } => self.start("worker", &["work"], &ledger.url),
        };
        self.house.wait_for("the worker", |_| node.log().contains("Started worker"));
        if let Port::Postgres { worker, .. } = &mut self.port {
            *worker = Some(node);
        }
    }

    /// `kill -9`, and another in its place where it has one.
    fn kill(&mut self, victim: Victim) {
        match (victim, &mut self.port) {
            (Victim::Worker | Victim::Server, Port::Sqlite) => {
                self.house.kill();
                self.start_server();
            }
            (Victim::Worker, Port::Postgres { worker, .. }) => {
                worker.take().expect("a worker").kill();
                self.start_worker();
            }
            (Victim::Server, Port::Postgres { server, .. }) => {
                server.take().expect("a server").kill();
                self.start_server();
            }
            (Victim::Supervisor, _) => self.kill_process("supervise"),
            (Victim::Engine, _) => self.kill_process("/agent"),
            (Victim::Tool, _) => self.kill_process("/tool"),
        }
    }

    fn kill_process(&self, what: &str) {
        let found = self.processes().into_iter().find(|(_, line)| line.contains(what));
        let (pid, _) = found.unwrap_or_else(|| panic!("no {what} among {:#?}", self.processes()));
        signal(pid, "KILL");
    }

    /// What attempts started and what holds it, by the command line or the place it works in; parents come first.
    fn processes(&self) -> Vec<(u32, String)> {
        let here = self.house.path().canonicalize().unwrap();
        let places: [PathBuf; 2] = [here.join("data/attempts"), here.join("data/worktrees")];
        let mut found = Vec::new();
        for entry in std::fs::read_dir("/proc").unwrap().flatten() {
            let Ok(pid) = entry.file_name().to_string_lossy().parse::<u32>() else { continue };
            let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
            let line = String::from_utf8_lossy(&line).replace('\0', " ");
            let cwd = std::fs::read_link(entry.path().join("cwd")).unwrap_or_default();
            let started =
                [here.join("agent"), here.join("tool")].iter().any(|path| line.contains(path.to_str().unwrap()));
            if started || places.iter().any(|place| cwd.starts_with(place)) {
                found.push((pid, line));
            }
        }
        found.sort();
        found
    }

    fn go_on(&self) {
        std::fs::write(self.house.path().join("go"), "").unwrap();
    }

    fn wait_for(&self, what: &str, done: impl Fn(&Self) -> bool) {
        let started = host::clock::monotonic();
        while !done(self) {
            assert!(started.elapsed() < PATIENCE, "waited too long for {what}: {}", self.told());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits until the protocol is in this state; what its step came to.
    fn ends(&self, state: &str) -> Value {
        self.wait_for("the end of the protocol", |scene| {
            let protocol = scene.house.json(&["protocol", "get", "1"]);
            ["completed", "blocked", "failed", "cancelled"].iter().any(|end| protocol["status"] == *end)
        });
        let protocol = self.house.json(&["protocol", "get", "1"]);
        let step = self.house.json(&["step", "get", "1"]);
        assert_eq!(protocol["status"], state, "{protocol}\n{step}\n{}", self.told());
        self.wait_for("every process to be gone", |scene| scene.processes().is_empty());
        step
    }

    fn n_starts(&self) -> usize {
        std::fs::read_to_string(self.house.path().join("starts")).unwrap_or_default().lines().count()
    }

    /// The kinds of what the timeline says.
    fn timeline(&self) -> Vec<String> {
        let watched = self.house.run(&["protocol", "watch", "1"]);
        watched.stdout.lines().map(str::to_owned).collect()
    }

    fn says(&self, words: &str) -> bool {
        self.timeline().iter().any(|line| line.to_lowercase().contains(words))
    }

    /// Everything that would explain a failure.
    fn told(&self) -> String {
        let logs = ["log", "server.log", "worker.log"].map(|name| {
            let text = std::fs::read_to_string(self.house.path().join(name)).unwrap_or_default();
            text.lines().rev().take(12).collect::<Vec<_>>().join("\n")
        });
        let protocol = self.house.run(&["protocol", "get", "1"]).stdout;
        format!("{protocol}\n{}\n{:#?}", logs.join("\n--\n"), self.processes())
    }

    /// What all attempts of the step used together.
    fn used(&self) -> (u64, u64) {
        let mut sum = (0, 0);
        // The checks are an attempt, too.
        for number in 1..=4 {
            let Ok(attempt) = block_on(self.house.client().get_attempt(&format!("step-1-{number}"))) else { break };
            let usage = attempt.usage.as_ref();
            sum.0 += usage.and_then(|usage| usage.input_tokens).unwrap_or(0);
            sum.1 += usage.and_then(|usage| usage.output_tokens).unwrap_or(0);
        }
        sum
    }

    fn close(mut self) {
        self.house.kill();
        match self.port {
            Port::Sqlite => {
                let checked = self.house.json(&["db", "check", "--fold"]);
                assert_eq!(checked["sound"], true, "{checked}");
            }
            Port::Postgres { ledger, server, worker } => {
                for node in [worker, server].into_iter().flatten() {
                    node.tell_to_stop();
                    assert_eq!(node.ended(), Some(0));
                }
                ledger.check(&self.house);
            }
        }
    }
}

/// Every test on both databases.
macro_rules! on_both {
    ($($name:ident)*) => {
        mod on_sqlite { $( #[test] fn $name() { super::$name(&|| super::Port::Sqlite); } )* }
        mod on_postgres { $( #[test] fn $name() {
            super::$name(&|| super::Port::Postgres { ledger: super::Ledger::new(), server: None, worker: None });
        } )* }
    };
}

on_both! {
    a_killed_worker_is_followed_by_one_that_adopts_what_runs
    a_killed_server_changes_nothing_of_what_runs
    a_killed_supervisor_takes_its_tree_along_and_the_work_goes_on
    a_killed_engine_fails_its_step_and_takes_its_tools_along
    a_killed_tool_is_the_business_of_its_engine
}

/// It came to what it should, by one engine that was started once.
fn assert_done_once(scene: &Scene, moment: &str) {
    let step = scene.ends("completed");
    assert_eq!(scene.n_starts(), 1, "{moment}: {}", scene.told());
    assert_eq!(scene.used(), (150, 15), "{moment}: {step}");
    assert_eq!(git(&scene.house, &["show", "0001-fix:answer.txt"]), "42\n");
}

fn a_killed_worker_is_followed_by_one_that_adopts_what_runs(port: &dyn Fn() -> Port) {
    for moment in MOMENTS {
        let mut scene = Scene::begin(port(), Victim::Worker, moment);

        scene.kill(Victim::Worker);
        scene.go_on();

        assert_done_once(&scene, moment);
        assert!(scene.says("adopted"), "{moment}: {}", scene.told());
        scene.close();
    }
}

/// On SQLite server and worker are one process, so that both are gone.
fn a_killed_server_changes_nothing_of_what_runs(port: &dyn Fn() -> Port) {
    for moment in MOMENTS {
        let mut scene = Scene::begin(port(), Victim::Server, moment);

        scene.kill(Victim::Server);
        scene.go_on();

        assert_done_once(&scene, moment);
        assert_eq!(scene.says("adopted"), matches!(scene.port, Port::Sqlite), "{moment}: {}", scene.told());
        scene.close();
    }
}

fn a_killed_supervisor_takes_its_tree_along_and_the_work_goes_on(port: &dyn Fn() -> Port) {
    for moment in MOMENTS {
        let mut scene = Scene::begin(port(), Victim::Supervisor, moment);

        scene.kill(Victim::Supervisor);

        let step = scene.ends("completed");
        assert_eq!(scene.n_starts(), 2, "{moment}: {}", scene.told());
        // Before it had said which session it is there was nothing to go on with. What a thread used is the sum of it.
        let words = if moment == "start" { "interrupted" } else { "adopted" };
        assert!(scene.says(words), "{moment}: {}", scene.told());
        assert_eq!(scene.used(), (150, 15), "{moment}: {step}");
        scene.close();
    }
}

fn a_killed_engine_fails_its_step_and_takes_its_tools_along(port: &dyn Fn() -> Port) {
    for moment in MOMENTS {
        let mut scene = Scene::begin(port(), Victim::Engine, moment);

        scene.kill(Victim::Engine);

        let step = scene.ends("blocked");
        assert_eq!(step["failure_code"], "engine_killed", "{moment}: {step}");
        assert_eq!(scene.n_starts(), 1, "{moment}");
        // What it did not live to tell is in the file of its thread.
        let used = match moment {
            "start" => (0, 0),
            "middle" => (100, 10),
            _ => (150, 15),
        };
        assert_eq!(scene.used(), used, "{moment}: {step}");
        scene.close();
    }
}

fn a_killed_tool_is_the_business_of_its_engine(port: &dyn Fn() -> Port) {
    for moment in MOMENTS {
        let mut scene = Scene::begin(port(), Victim::Tool, moment);

        scene.kill(Victim::Tool);

        assert_done_once(&scene, moment);
        scene.close();
    }
}
