//! What is known of the engines of this machine without a network and without starting work: where each is, in which
//! version, whether it can log in, what it can do.

use crate::engine::{Capabilities, Configured, Engine, EngineTable};
use host::process::{Command, ProcessError, find_program};
use std::path::PathBuf;
use std::time::Duration;

/// How long an engine may take to say its version. The slowest needs several seconds.
const PATIENCE: Duration = Duration::from_secs(20);

/// One engine as it was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    pub id: String,
    pub engine: Engine,
    pub program: Program,
    pub version: Option<String>,
    /// The oldest version that the adapter is known to understand, and the one that it was tested with.
    pub versions: Option<Versions>,
    pub login: Login,
    pub capabilities: Capabilities,
    /// The servers of tools that it is given.
    pub servers: Vec<String>,
    /// What keeps it from working, and what to do about it.
    pub problems: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Program {
    /// Part of this binary, or the step's own command.
    BuiltIn,
    At(PathBuf),
    Missing {
        name: String,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Versions {
    pub minimum: &'static str,
    pub tested: &'static str,
}

/// What can be said of a login without asking anybody.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Login {
    NotNeeded,
    /// This variable holds a key; whether it opens anything is not known.
    Key {
        variable: String,
    },
    /// Nothing was found that it could log in with.
    Missing {
        variable: Option<String>,
    },
    /// It logs in by itself, in ways that are not looked at.
    Own,
}

/// The versions that an adapter knows.
pub fn versions(engine: Engine) -> Option<Versions> {
    let known = |minimum, tested| Some(Versions { minimum, tested });
    match engine {
        Engine::Codex => known("0.150.0", "0.169.0"),
        Engine::Claude => known("2.1.0", "2.1.329"),
        Engine::Opencode => known("1.0.0", "1.18.33"),
        Engine::Gemini => known("0.40.0", "0.61.0"),
        Engine::CodeMachine => known("0.8.0", "0.8.0"),
        Engine::Shell | Engine::Scripted | Engine::Acp => None,
    }
}

/// Looks at every engine of the table, all at once.
pub async fn look(table: &EngineTable, path: &str) -> Vec<Found> {
    let mut looks = tokio::task::JoinSet::new();
    for configured in table.iter() {
        let (configured, path) = (configured.clone(), path.to_owned());
        looks.spawn(async move { look_at(&configured, &path).await });
    }
    let mut found = looks.join_all().await;
    found.sort_by(|a, b| a.id.cmp(&b.id));
    found
}

/// Looks at one engine.
pub async fn look_at(configured: &Configured, path: &str) -> Found {
    let engine = configured.engine;
    let mut found = Found {
        id: configured.id.clone(),
        engine,
        program: program_of(configured, path),
        version: None,
        versions: versions(engine),
        login: login_of(configured),
        capabilities: engine.capabilities(),
        servers: configured.servers.iter().map(|offer| offer.server.name.clone()).collect(),
        problems: Vec::new(),
    };
    match &found.program {
        Program::BuiltIn => {}
        Program::Missing { name } => found.problems.push(format!(
            "there is no program {name} in PATH; install it, or name it in `engines.{}.command`",
            configured.id
        )),
        // An agent's command line is not ours to add `--version` to.
        Program::At(_) if engine == Engine::Acp => {}
        Program::At(program) => match version_of(program, configured, path).await {
            Ok(version) => {
                if let Some(known) = found.versions.filter(|known| is_older(&version, known.minimum)) {
                    found.problems.push(format!("version {version} is older than {}, which is needed", known.minimum));
                }
                found.version = Some(version);
            }
            Err(why) => found.problems.push(why),
        },
    }
    if let Login::Missing { variable: Some(variable) } = &found.login {
        found.problems.push(format!("{variable} is not set in the worker's environment"));
    }
    found.problems.extend(configured.servers.iter().filter_map(|server| server.find(path).err()));
    found
}

impl Found {
    /// Whether work can be given to it, as far as that can be known.
    pub fn is_usable(&self) -> bool {
        self.problems.is_empty()
    }
}

fn program_of(configured: &Configured, path: &str) -> Program {
    let Some(name) = configured.program() else { return Program::BuiltIn };
    match find_program(name.as_ref(), Some(path.as_ref()), None) {
        Some(program) => Program::At(program),
        None => Program::Missing { name: name.to_owned() },
    }
}

fn login_of(configured: &Configured) -> Login {
    match (configured.engine, &configured.key, configured.key_variable()) {
        (Engine::Shell | Engine::Scripted, _, _) => Login::NotNeeded,
        (_, Some(key), _) => Login::Key { variable: key.variable().to_owned() },
        // With a model of one's own no key may be needed; that one was named means that it is.
        (Engine::Acp | Engine::Opencode | Engine::CodeMachine, None, None) => Login::Own,
        (_, None, _) if configured.base_url.is_some() && configured.key_env.is_none() => Login::NotNeeded,
        (_, None, variable) => Login::Missing { variable: variable.map(str::to_owned) },
    }
}

async fn version_of(program: &std::path::Path, configured: &Configured, path: &str) -> Result<String, String> {
    let home = host::fs::create_temporary_dir(&host::fs::temporary_root(), "pilothouse-version")
        .map_err(|error| error.to_string())?;
    let search = match program.parent() {
        Some(dir) => format!("{}:{path}", dir.display()),
        None => path.to_owned(),
    };
    let command = Command::new(program)
        .args(configured.command.iter().skip(1))
        .arg("--version")
        .cwd(&home)
        .env("PATH", search)
        .env("HOME", &home)
        .env("DISABLE_AUTOUPDATER", "1")
        .env("OPENCODE_DISABLE_AUTOUPDATE", "1")
        .env("OPENCODE_DISABLE_MODELS_FETCH", "1")
        .timeout(PATIENCE)
        .output_limit(64 * 1024);
    let ran = host::process::run(command).await;
    let _ = host::fs::remove_foreign_dir(&home);
    match ran {
        Ok(output) => {
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            match (output.status.success(), number_in(&text)) {
                (true, Some(version)) => Ok(version),
                (true, None) => Err("it does not say its version".to_owned()),
                (false, _) => {
                    let said = host::text::one_line(&output.stderr, 200);
                    Err(format!("`--version` ended with {}: {said}", output.status))
                }
            }
        }
        Err(error @ ProcessError::TimedOut { .. }) => Err(format!("it did not say its version: {error}")),
        Err(error) => Err(error.to_string()),
    }
}

/// The first thing in a text that looks like a version.
fn number_in(text: &str) -> Option<String> {
    let is_version = |word: &&str| {
        let mut parts = word.split('.');
        let number =
            |part: Option<&str>| part.is_some_and(|part| part.chars().next().is_some_and(|c| c.is_ascii_digit()));
        number(parts.next()) && number(parts.next()) && number(parts.next())
    };
    let words = text
        .split(|c: char| c.is_whitespace() || matches!(c, '(' | ')' | ','))
        .map(|word| word.trim_start_matches('v'));
    words.clone().find(is_version).map(|word| host::text::one_line(word, 60))
}

fn is_older(version: &str, minimum: &str) -> bool {
    let numbers = |text: &str| -> Vec<u64> {
        let digits =
            |part: &str| part.chars().take_while(char::is_ascii_digit).collect::<String>().parse().unwrap_or(0);
        text.split('.').take(3).map(digits).collect()
    };
    numbers(version) < numbers(minimum)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;
    use std::path::Path;

    fn program(dir: &Path, name: &str, script: &str) -> String {
        let file = dir.join(name);
        std::fs::write(&file, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755)).unwrap();
        file.to_str().unwrap().to_owned()
    }

    #[tokio::test]
    async fn what_is_found_has_its_version_and_what_is_not_says_what_to_do() {
        let dir = tempfile::tempdir().unwrap();
        program(dir.path(), "codex", "echo codex-cli 0.169.0");
        program(dir.path(), "claude", "echo '2.0.9 (Claude Code)'");
        program(dir.path(), "gemini", "echo broken >&2; exit 3");
        program(dir.path(), "opencode", "echo no number");
        let mut table = EngineTable::default();
        table.find_keys(|name| (name == "OPENAI_API_KEY").then(|| "sk-1".to_owned()));
        let found = look(&table, &format!("{}:/usr/bin:/bin", dir.path().display())).await;
        let of = |id: &str| found.iter().find(|found| found.id == id).unwrap();

        assert_eq!(of("codex").version.as_deref(), Some("0.169.0"));
        assert_eq!(of("codex").login, Login::Key { variable: "OPENAI_API_KEY".into() });
        assert!(of("codex").is_usable());
        assert_eq!(
            of("claude").problems,
            [
                "version 2.0.9 is older than 2.1.0, which is needed",
                "ANTHROPIC_API_KEY is not set in the worker's environment"
            ]
        );
        assert_eq!(of("gemini").problems[0], "`--version` ended with exit code 3: broken");
        assert_eq!(of("opencode").problems, ["it does not say its version"]);
        assert_eq!(of("codemachine").program, Program::Missing { name: "codemachine".into() });
        assert!(of("codemachine").problems[0].contains("`engines.codemachine.command`"));
        assert!(of("shell").is_usable() && of("scripted").is_usable());
    }

    #[tokio::test]
    async fn a_model_of_ones_own_needs_no_key_unless_one_is_named() {
        let mut configured = Configured::new("claude", Engine::Claude);
        configured.base_url = Some("http://127.0.0.1:1".into());
        assert_eq!(login_of(&configured), Login::NotNeeded);
        configured.key_env = Some("MY_KEY".into());
        assert_eq!(login_of(&configured), Login::Missing { variable: Some("MY_KEY".into()) });
    }

    #[test]
    fn versions_are_numbers() {
        assert_eq!(number_in("codex-cli 0.169.0\n").as_deref(), Some("0.169.0"));
        assert_eq!(number_in("2.1.329 (Claude Code)").as_deref(), Some("2.1.329"));
        assert_eq!(number_in("v1.2.3-beta.4").as_deref(), Some("1.2.3-beta.4"));
        assert_eq!(number_in("version one"), None);
        assert!(is_older("0.99.0", "0.150.0") && is_older("2.1", "2.1.0") && !is_older("2.1.0", "2.1.0"));
        assert!(!is_older("10.0.0", "9.9.9"));
    }
}
