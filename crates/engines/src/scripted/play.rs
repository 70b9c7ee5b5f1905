//! Playing a scene: each action done for real in the worktree and told as an event.

use super::scenario::{Action, Scenario};
use crate::engine::{EngineEvent, EngineOutcome, FileChange, Finished, Subject};
use host::contain::{self, Spawn};
use host::fs::Beneath;
use host::path::RelPath;
use std::io::Write;
use std::path::Path;
use std::time::Duration;

const MAX_EDITED: u64 = 16 << 20;

/// Plays the scene for a piece of work; the answer is the process's exit code.
pub(super) fn play(scenario: &Scenario, subject: &Subject, worktree: &Path) -> i32 {
    let Some(scene) = scenario.scene_for(subject) else {
        let Subject { phase, step, attempt } = subject;
        let phase = phase.as_str();
        return fail(format!("the scenario has no scene for phase {phase}, step {step}, attempt {attempt}"));
    };
    let worktree = match Beneath::open(worktree) {
        Ok(worktree) => worktree,
        Err(error) => return fail(error.to_string()),
    };
    let mut player = Player { worktree, answer: None, n_tools: 0 };
    for action in &scene.actions {
        match player.act(action) {
            Ok(None) => {}
            Ok(Some(code)) => return code,
            Err(message) => return fail(message),
        }
    }
    emit(&EngineEvent::Finished(Finished {
        outcome: EngineOutcome::Completed,
        message: "the scene was played to its end".to_owned(),
        structured: player.answer,
        class: None,
    }));
    0
}

/// Prints one event as a line.
pub(crate) fn emit(event: &EngineEvent) {
    let line = serde_json::to_string(event).expect("an event has only plain fields");
    print_line(&line);
}

pub(crate) fn print_line(line: &str) {
    let mut stdout = std::io::stdout().lock();
    // Nobody reads any more: the supervisor is about to end this process.
    let _ = writeln!(stdout, "{line}").and_then(|()| stdout.flush());
}

fn fail(message: String) -> i32 {
    emit(&EngineEvent::Finished(Finished::failed(message)));
    1
}

struct Player {
    worktree: Beneath,
    answer: Option<serde_json::Value>,
    n_tools: u32,
}

impl Player {
    /// Does one action; an exit code ends the play, an error fails it.
    fn act(&mut self, action: &Action) -> Result<Option<i32>, String> {
        match action {
            Action::Message { text } => emit(&EngineEvent::Text { text: text.clone() }),
            Action::Reasoning { text } => emit(&EngineEvent::Reasoning { text: text.clone() }),
            Action::Session { id } => emit(&EngineEvent::Session { id: id.clone() }),
            Action::Answer { value } => self.answer = Some(value.clone()),
            Action::Write { path, text, executable } => self.write(path, text, *executable)?,
            Action::Append { path, text } => {
                self.worktree.append(&parse(path)?, text.as_bytes()).map_err(|error| full(&error))?;
                changed(path, FileChange::Written);
            }
            Action::Replace { path, find, with } => self.replace(path, find, with)?,
            Action::Delete { path } => {
                self.worktree.remove(&parse(path)?).map_err(|error| full(&error))?;
                changed(path, FileChange::Deleted);
            }
            Action::Tool { name, input, output } => {
                self.n_tools += 1;
                let id = format!("tool-{}", self.n_tools);
                emit(&EngineEvent::ToolStarted { id: id.clone(), name: name.clone(), input: input.clone() });
                emit(&EngineEvent::ToolFinished { id, ok: true, output: output.clone() });
            }
            Action::Usage(usage) => emit(&EngineEvent::Usage(*usage)),
            Action::Delay { ms } => std::thread::sleep(Duration::from_millis(*ms)),
            Action::Question { text } => emit(&EngineEvent::Question { text: text.clone() }),
            Action::Fail { message } => return Ok(Some(fail(message.clone()))),
            Action::Exit { code } => return Ok(Some(*code)),
            Action::Hang => loop {
                std::thread::sleep(Duration::from_secs(3600));
            },
            Action::IgnoreTerm => contain::ignore_termination().map_err(|error| error.to_string())?,
            Action::SpawnChild { ms } => spawn_child(*ms)?,
            Action::Noise { text } => print_line(text),
        }
        Ok(None)
    }

    fn write(&self, path: &str, text: &str, executable: bool) -> Result<(), String> {
        let mode = executable.then_some(0o755);
        self.worktree.write_with_mode(&parse(path)?, text.as_bytes(), mode).map_err(|error| full(&error))?;
        changed(path, FileChange::Written);
        Ok(())
    }

    fn replace(&self, path: &str, find: &str, with: &str) -> Result<(), String> {
        let parsed = parse(path)?;
        let bytes = self.worktree.read(&parsed, MAX_EDITED).map_err(|error| full(&error))?;
        let text = String::from_utf8(bytes).map_err(|_| format!("{path} is not UTF-8"))?;
        if find.is_empty() || !text.contains(find) {
            return Err(format!("{path} does not contain the text to replace"));
        }
        self.worktree.write(&parsed, text.replace(find, with).as_bytes()).map_err(|error| full(&error))?;
        changed(path, FileChange::Written);
        Ok(())
    }
}

fn parse(path: &str) -> Result<RelPath, String> {
    RelPath::parse(path).map_err(|error| format!("{path}: {error}"))
}

fn changed(path: &str, change: FileChange) {
    emit(&EngineEvent::FileChanged { path: path.to_owned(), change });
}

fn spawn_child(ms: u64) -> Result<(), String> {
    let argv = vec!["sleep".into(), format!("{}.{:03}", ms / 1000, ms % 1000).into()];
    let program = host::process::find_program("sleep".as_ref(), None, None).ok_or("there is no program sleep")?;
    let spawn = Spawn::new(program, argv);
    let pid = contain::spawn(spawn).map_err(|error| error.to_string())?;
    emit(&EngineEvent::Notice { text: format!("scripted engine: started process {}", pid.as_raw_nonzero()) });
    Ok(())
}

/// An error with what caused it, for a process whose only log is its last word.
fn full(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}
