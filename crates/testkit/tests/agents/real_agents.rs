//! What every agent has to manage against the server: text, a tool that writes a file, a pause when told to slow down,
//! a structured answer, a refusal.
//!
//! With `PILOTHOUSE_RECORD` set to a directory, what the agents print is written there as transcripts, for the tests of
//! whoever parses it.

mod claude;
mod codex;
mod gemini;
mod opencode;

use std::path::PathBuf;

use host::process::{self, Command, Status};
use serde_json::{Value, json};
use testkit::agents::Agents;
use testkit::models::{ModelServer, Reply, Rule, Scenario, Usage, When};

const RECORD: &str = "PILOTHOUSE_RECORD";
const USAGE: Usage = Usage { input: 1200, cached: 1000, cache_write: 0, output: 34, reasoning: 5 };

/// A home, a directory to work in, and a model.
struct Place {
    dir: tempfile::TempDir,
    server: ModelServer,
    agents: Agents,
}

/// How an agent ended.
#[derive(Debug)]
struct Ran {
    code: i32,
    /// What it printed, each line a document.
    events: Vec<Value>,
    stderr: String,
}

fn script() -> Scenario {
    Scenario::new()
        .usage(USAGE)
        .rule(Rule::on("say hello").reply([Reply::reasoning("A greeting."), Reply::text("Hello from the script.")]))
        .rule(Rule::at(r"write file (\S+)", 0).reply([Reply::text("Writing it."), Reply::write("{{1}}", "hello\n")]))
        .rule(Rule::on(r"write file (\S+)").reply([Reply::text("Done: wrote {{1}}.")]))
        .rule(Rule::at("run (.+)", 0).reply([Reply::shell("{{1}}")]))
        .rule(Rule::on("run (.+)").reply([Reply::text("It ran.")]))
        // Only the call that does the work: opencode asks for a title beside it.
        .rule(
            Rule::new(When::default().prompt("slow down").tools(true))
                .times(1)
                .fail(429, "slow down")
                .header("retry-after", "1"),
        )
        .rule(Rule::on("slow down").reply([Reply::text("Recovered.")]))
        .rule(Rule::on("judge it").reply([Reply::json(json!({"verdict": "approve", "issues": []}))]))
        .rule(Rule::on("something forbidden").reply([Reply::refusal("I will not do that.")]))
        // Claude Code asks once more, in words of its own.
        .rule(Rule::on("stopped by a safety classifier").reply([Reply::refusal("I still will not.")]))
        .rule(Rule::on("break off").reply([Reply::text("This text is cut off before the stream ends.")]).cut_after(4))
}

/// The schema of the structured answer.
fn schema() -> Value {
    json!({"type": "object", "additionalProperties": false, "required": ["verdict", "issues"], "properties": {
        "verdict": {"type": "string"}, "issues": {"type": "array", "items": {"type": "string"}}}})
}

impl Place {
    /// Not beneath the system's temporary directory, which Codex treats differently from every other.
    fn new() -> Self {
        let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        for name in ["home", "work"] {
            std::fs::create_dir(dir.path().join(name)).unwrap();
        }
        Self { dir, server: ModelServer::start(script()).unwrap(), agents: Agents::installed() }
    }

    fn home(&self) -> PathBuf {
        self.dir.path().join("home")
    }

    fn work(&self) -> PathBuf {
        self.dir.path().join("work")
    }

    /// Lays a file into the home.
    fn lay(&self, path: &str, text: &str) {
        let path = self.home().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    fn file(&self, name: &str) -> Option<String> {
        std::fs::read_to_string(self.work().join(name)).ok()
    }

    fn command(&self, program: &str) -> Command {
        Command::new(program)
            .cwd(self.work())
            .env("HOME", self.home())
            .env("PATH", "/usr/local/bin:/usr/bin:/bin")
            .output_limit(16 << 20)
    }

    /// Runs an agent to its end; `name` is that of its transcript.
    async fn run(&self, name: &str, command: Command) -> Ran {
        let output = process::run(command).await.unwrap();
        let code = match output.status {
            Status::Exited(code) => code,
            Status::Signaled(signal) => 128 + signal,
        };
        let text = String::from_utf8(output.stdout).unwrap();
        self.record(name, &text);
        let lines = text.lines().filter(|line| !line.trim().is_empty());
        let event = |line: &str| serde_json::from_str(line).unwrap_or_else(|_| panic!("not JSON: {line}"));
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        Ran { code, events: lines.map(event).collect(), stderr }
    }

    fn record(&self, name: &str, text: &str) {
        let Some(into) = host::env::var(RECORD) else { return };
        let here = self.dir.path().to_str().unwrap();
        let server = self.server.url();
        // Claude names directories of its own after the one that it works in.
        let dashed: String = here.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
        let text = text.replace(here, "/place").replace(&dashed, "-place").replace(&server, "http://127.0.0.1:18080");
        std::fs::write(PathBuf::from(into).join(format!("{name}.jsonl")), text).unwrap();
    }

    /// The statuses that the model answered the calls which offered tools with.
    fn statuses(&self) -> Vec<Option<u16>> {
        let seen = self.server.seen();
        let main = seen.iter().filter(|seen| seen.asked.as_ref().is_some_and(|asked| !asked.tools.is_empty()));
        main.map(|seen| seen.status).collect()
    }
}

impl Ran {
    /// The events that have this value at this place.
    fn having(&self, pointer: &str, value: &str) -> Vec<&Value> {
        let has = |event: &&Value| event.pointer(pointer).is_some_and(|found| found == value);
        self.events.iter().filter(has).collect()
    }

    #[track_caller]
    fn last(&self) -> &Value {
        self.events.last().unwrap_or_else(|| panic!("it printed nothing: {self:?}"))
    }
}
