//! Every reader of what an engine, its supervisor or its files say, with inputs that nobody thought of.
//!
//! What holds of all of them: no panic, memory within a bound, and the same result wherever the input is cut. [`streams`]
//! has the engines' own streams, [`forged`] what tools print to be taken for something else, [`wire`] the conversation
//! with ACP agents, [`spools`] what is kept of a stream, [`papers`] session files, answers and our own documents.

mod forged;
mod papers;
mod spools;
mod streams;
mod wire;

use crate::engine::{Engine, EngineEvent, Finished, Usage};
use std::path::{Path, PathBuf};
use testkit::fuzz::json::Corpus;
use testkit::fuzz::text::Samples;

/// How often each reader of a stream is put to the test.
const N_RUNS: u64 = 1_000_000;

/// The recorded streams of JSON lines of an engine. Where both directions were recorded, what the agent said.
fn recorded(prefix: &str) -> Vec<String> {
    let said = |text: String| {
        let lines = text.lines().filter(|line| !line.starts_with("> "));
        lines.map(|line| format!("{}\n", line.strip_prefix("< ").unwrap_or(line))).collect()
    };
    files(prefix, "jsonl").into_iter().map(said).collect()
}

/// The files of recorded streams with this beginning and this ending.
fn files(prefix: &str, ending: &str) -> Vec<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/transcripts");
    let mut paths: Vec<PathBuf> = [folder.clone(), folder.join("recorded")]
        .iter()
        .flat_map(|folder| host::fs::list_names(folder).unwrap().into_iter().map(|name| folder.join(name)))
        .filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(prefix)))
        .filter(|path| path.extension().is_some_and(|found| found == ending))
        .collect();
    // The order of a directory is nobody's promise, and a seed has to mean the same everywhere.
    paths.sort();
    paths.iter().map(|path| host::fs::read_text(path, 1 << 20).unwrap()).collect()
}

/// Lines of our own events, one of each kind.
fn our_events() -> String {
    use crate::engine::{Asked, ErrorClass, FileChange, Permission, RateLimit, Reset, Wanted};
    let text = |text: &str| text.to_owned();
    let asked = |answer| Asked {
        question: Some(text("q1")),
        by: Some(text("alice")),
        ..Asked::by_policy("call-1", "execute", text("{\"command\":\"ls\"}"), answer)
    };
    let usage =
        Usage { input_tokens: Some(1200), output_tokens: Some(34), cost_micro_usd: Some(7), ..Usage::default() };
    let limit =
        RateLimit { reached: true, reset: Some(Reset::After(1000)), used_percent: Some(80), text: text("slow") };
    let answer = Finished { structured: Some(serde_json::json!({"plan_md": "x"})), ..Finished::completed("done") };
    let events = [
        EngineEvent::Session { id: text("session-1") },
        EngineEvent::Text { text: text("Writing it.") },
        EngineEvent::Reasoning { text: text("It wants a file.") },
        EngineEvent::ToolStarted { id: text("call-1"), name: text("shell"), input: text("ls") },
        EngineEvent::ToolFinished { id: text("call-1"), ok: true, output: text("a.txt") },
        EngineEvent::FileChanged { path: text("a.txt"), change: FileChange::Written },
        EngineEvent::PermissionWanted(Wanted {
            question: text("q1"),
            id: text("call-1"),
            tool: text("shell"),
            input: text("ls"),
            paths: vec![text("a.txt")],
            asked: "a".repeat(64),
        }),
        EngineEvent::PermissionAsked(asked(Permission::Allowed)),
        EngineEvent::PermissionAsked(asked(Permission::Denied)),
        EngineEvent::RateLimit(limit),
        EngineEvent::Usage(usage),
        EngineEvent::Notice { text: text("plays") },
        EngineEvent::Question { text: text("Which one?") },
        EngineEvent::Finished(answer),
        EngineEvent::Finished(Finished::of_class(ErrorClass::Server, "overloaded")),
    ];
    events.iter().map(|event| format!("{}\n", serde_json::to_string(event).unwrap())).collect()
}

fn corpus(engine: Engine) -> Corpus {
    match engine {
        Engine::Codex => Corpus::new(recorded("codex-")),
        Engine::Claude => Corpus::new(recorded("claude-")),
        Engine::Opencode => Corpus::new(recorded("opencode-")),
        Engine::Gemini => Corpus::new(recorded("gemini-")),
        Engine::Scripted | Engine::Acp => Corpus::new([our_events()]),
        // They print anything.
        Engine::Shell | Engine::CodeMachine => Corpus::new(recorded("")),
    }
}

/// What CodeMachine prints: text for people, a few lines of it at a time, and words of the engines that it drives.
fn codemachine() -> Samples {
    /// Where a line is cut: with an error it prints lines of its own packed source.
    const LONG: usize = 600;
    let streams = files("codemachine-", "txt");
    assert!(!streams.is_empty(), "without a recorded stream there is nothing to begin with");
    let piece = |lines: &[&str]| {
        let lines = lines.iter().map(|line| &line[..line.floor_char_boundary(LONG)]);
        lines.map(|line| format!("{line}\n")).collect::<String>()
    };
    let pieces = |stream: &String| -> Vec<String> {
        let lines: Vec<&str> = stream.lines().collect();
        lines.chunks(4).map(piece).collect()
    };
    let said = [
        "\u{1b}[2K\u{1b}[1G",
        "\r",
        "\r\n",
        "{\"type\":\"turn.completed\",\"usage\":{\"input_tokens\":1}}\n",
        "{\"kind\":\"finished\",\"outcome\":\"completed\"}\n",
        "[GREEN:BOLD]",
        "Tokens: 1in/1out",
    ];
    Samples::new(streams.iter().flat_map(pieces), &said)
}
