//! The agents under test, and how each of them is pointed at a scripted model.

use std::path::Path;

use engines::engine::{Configured, Engine, Key};
use serde_json::json;
use testkit::agents::Agents;

/// One agent as Pilothouse knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Agent {
    Codex,
    /// The same program as a server.
    CodexServer,
    Claude,
    Opencode,
    Gemini,
    AcpGemini,
    AcpClaude,
    AcpCodex,
    AcpOpencode,
}

/// What opens the scripted models, which do not look at it.
pub(crate) const KEY: &str = "key-of-the-model";

impl Agent {
    pub(crate) fn id(self) -> &'static str {
        match self {
            Self::Codex | Self::CodexServer => "codex",
            Self::Claude => "claude",
            Self::Opencode => "opencode",
            Self::Gemini => "gemini",
            Self::AcpGemini => "gemini-acp",
            Self::AcpClaude => "claude-acp",
            Self::AcpCodex => "codex-acp",
            Self::AcpOpencode => "opencode-acp",
        }
    }

    /// The engine of a configuration whose model is at this address. `dir` is a place for what agents behind ACP want
    /// to find in files, which an operator would have laid.
    pub(crate) fn configured(self, dir: &Path, model: &str) -> Configured {
        let agents = Agents::installed();
        let native = |engine, command: Vec<String>, url: String, name: &str| Configured {
            command,
            base_url: Some(url),
            model: Some(name.to_owned()),
            key: Some(Key::new("MODEL_KEY", KEY)),
            ..Configured::new(self.id(), engine)
        };
        match self {
            Self::Codex => native(Engine::Codex, vec![agents.codex()], format!("{model}/v1"), "gpt-5.5"),
            Self::CodexServer => Configured { app_server: true, ..Self::Codex.configured(dir, model) },
            Self::Claude => native(Engine::Claude, vec![agents.claude()], model.to_owned(), "claude-opus-5-5"),
            Self::Opencode => native(Engine::Opencode, vec![agents.opencode()], format!("{model}/v1"), "scripted"),
            Self::Gemini => native(Engine::Gemini, agents.gemini(), model.to_owned(), "gemini-2.5-flash"),
            Self::AcpGemini => {
                let lay = lay_gemini(dir);
                let variables = [format!("GOOGLE_GEMINI_BASE_URL={model}"), lay];
                let arguments = ["--acp", "-m", "gemini-2.5-flash", "--skip-trust"];
                self.acp(model, &variables, "GEMINI_API_KEY", agents.gemini(), &arguments)
            }
            Self::AcpClaude => {
                let quiet = [
                    "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC=1",
                    "DISABLE_AUTOUPDATER=1",
                    "CLAUDE_CODE_MAX_RETRIES=1",
                ];
                let quiet = quiet.map(str::to_owned);
                let variables = [&[format!("ANTHROPIC_BASE_URL={model}")][..], &quiet].concat();
                self.acp(model, &variables, "ANTHROPIC_API_KEY", agents.claude_acp(), &[])
            }
            Self::AcpCodex => {
                let home = lay_codex(dir, model);
                let variables = [format!("CODEX_HOME={home}")];
                let configured = self.acp(model, &variables, "SCRIPT_KEY", agents.codex_acp(), &[]);
                // It writes down there whom it trusts.
                Configured { writable: vec![home.into()], ..configured }
            }
            Self::AcpOpencode => {
                let quiet = ["OPENCODE_DISABLE_MODELS_FETCH=1", "OPENCODE_DISABLE_PROJECT_CONFIG=1"].map(str::to_owned);
                let variables = [&[format!("OPENCODE_CONFIG={}", lay_opencode(dir, model))][..], &quiet].concat();
                self.acp(model, &variables, "SCRIPT_KEY", vec![agents.opencode()], &["acp"])
            }
        }
    }

    /// An ACP agent as a table of the configuration would name it: a command line, the environment in front.
    /// Its base URL says whom its sandbox lets it reach.
    fn acp(self, model: &str, variables: &[String], key: &str, command: Vec<String>, arguments: &[&str]) -> Configured {
        let mut line = vec!["/usr/bin/env".to_owned()];
        line.extend(variables.iter().cloned());
        line.extend(command);
        line.extend(arguments.iter().map(|&argument| argument.to_owned()));
        let base_url = Some(model.to_owned());
        Configured { command: line, base_url, key: Some(Key::new(key, KEY)), ..Configured::new(self.id(), Engine::Acp) }
    }
}

fn lay(path: &Path, text: &str) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, text).unwrap();
}

/// Gemini CLI takes settings of the machine from a file that a variable names.
fn lay_gemini(dir: &Path) -> String {
    let path = dir.join("gemini.json");
    let settings = json!({"security": {"auth": {"selectedType": "gemini-api-key"}},
        "privacy": {"usageStatisticsEnabled": false}, "telemetry": {"enabled": false},
        "general": {"enableAutoUpdate": false, "maxAttempts": 3}});
    lay(&path, &settings.to_string());
    format!("GEMINI_CLI_SYSTEM_SETTINGS_PATH={}", path.display())
}

fn lay_codex(dir: &Path, model: &str) -> String {
    let config = format!(
        r#"
model = "gpt-5.5"
model_provider = "script"
check_for_update_on_startup = false
[model_providers.script]
name = "script"
base_url = "{model}/v1"
env_key = "SCRIPT_KEY"
wire_api = "responses"
[analytics]
enabled = false
[features]
apps = false
"#
    );
    lay(&dir.join("codex/config.toml"), &config);
    dir.join("codex").to_str().unwrap().to_owned()
}

fn lay_opencode(dir: &Path, model: &str) -> String {
    let provider = json!({"npm": "@ai-sdk/openai-compatible", "name": "script",
        "options": {"baseURL": format!("{model}/v1"), "apiKey": "key"},
        "models": {"scripted": {"name": "scripted", "tool_call": true, "limit": {"context": 200_000, "output": 8000}}}});
    let config = json!({"model": "script/scripted", "small_model": "script/scripted", "autoupdate": false,
        "share": "disabled", "permission": {"edit": "ask", "bash": "ask"}, "provider": {"script": provider}});
    let path = dir.join("opencode.json");
    lay(&path, &config.to_string());
    path.to_str().unwrap().to_owned()
}
