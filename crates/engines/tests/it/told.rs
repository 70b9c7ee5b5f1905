//! Recorded streams, and what they were read as, in a form that people can review.

use engines::engine::{Engine, EngineEvent, EngineOutcome, Finished, Transcript};
use engines::exit::{Exit, Outcome};
use engines::{Containment, engine::Permission};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// Most agents print JSON lines; some print text for people.
const ENDINGS: [&str; 2] = [".jsonl", ".txt"];

pub(crate) fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/transcripts")
}

/// A recorded stream. Where both directions were recorded, what the agent said.
pub(crate) fn recorded(name: &str) -> String {
    let ending = ENDINGS.iter().find(|ending| folder().join(format!("{name}{ending}")).exists()).unwrap();
    let text = std::fs::read_to_string(folder().join(format!("{name}{ending}"))).unwrap();
    if !text.starts_with("> ") && !text.starts_with("< ") {
        return text;
    }
    text.lines().filter_map(|line| line.strip_prefix("< ")).map(|line| format!("{line}\n")).collect()
}

/// The names of all recorded streams; those in `recorded` are of the very agents that the tests install.
pub(crate) fn all() -> Vec<String> {
    let streams = |prefix: &'static str| {
        let entries = std::fs::read_dir(folder().join(prefix)).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter_map(move |name| {
            let name = ENDINGS.iter().find_map(|ending| name.strip_suffix(ending))?;
            Some(format!("{prefix}{name}"))
        })
    };
    let mut names: Vec<String> = streams("").chain(streams("recorded/")).collect();
    names.sort();
    names
}

pub(crate) fn exit(outcome: Outcome) -> Exit {
    Exit {
        outcome,
        status: None,
        containment: Containment::PidNamespace,
        limited: Default::default(),
        out_of_memory: Default::default(),
        sandbox: Default::default(),
        started_at: 0,
        ended_at: 1,
        killed: false,
        all_gone: true,
        outputs: Vec::new(),
    }
}

/// Everything that a stream was read as, one line each, and at the end the last word.
pub(crate) fn told(engine: Engine, wants_answer: bool, stream: &str, outcome: Outcome, stderr: &str) -> String {
    let mut transcript = Transcript::new(engine).wanting_answer(wants_answer);
    let mut events = transcript.feed(stream.as_bytes());
    events.extend(transcript.flush());
    let mut text: String = events.iter().map(|event| format!("{}\n", line(event))).collect();
    let _ = writeln!(text, "=> {}", last_word(&transcript.conclude(&exit(outcome), stderr)));
    text
}

pub(crate) fn line(event: &EngineEvent) -> String {
    let one = |text: &str| text.replace('\n', "\\n");
    match event {
        EngineEvent::Session { id } => format!("session {id}"),
        EngineEvent::Text { text } => format!("text {}", one(text)),
        EngineEvent::Reasoning { text } => format!("reasoning {}", one(text)),
        EngineEvent::ToolStarted { id, name, input } => format!("tool started {id} {name} {}", one(input)),
        EngineEvent::ToolFinished { id, ok, output } => {
            format!("tool {} {id} {}", if *ok { "done" } else { "failed" }, one(output))
        }
        EngineEvent::FileChanged { path, change } => format!("file {path} {change:?}"),
        EngineEvent::PermissionWanted(wanted) => {
            format!("permission wanted {} {} {}", wanted.id, wanted.tool, one(&wanted.input))
        }
        EngineEvent::PermissionAsked(asked) => {
            let answer = if asked.answer == Permission::Allowed { "allowed" } else { "denied" };
            format!("permission {answer} {} {} {}", asked.id, asked.tool, one(&asked.input))
        }
        EngineEvent::RateLimit(limit) => {
            format!(
                "rate limit reached={} reset={:?} used={:?} {}",
                limit.reached, limit.reset, limit.used_percent, limit.text
            )
        }
        EngineEvent::Usage(usage) => {
            let count =
                |name: &str, count: Option<u64>| count.map(|count| format!(" {name}={count}")).unwrap_or_default();
            format!(
                "usage{}{}{}{}{}{}",
                count("input", usage.input_tokens),
                count("cached", usage.cached_tokens),
                count("cache_write", usage.cache_write_tokens),
                count("output", usage.output_tokens),
                count("reasoning", usage.reasoning_tokens),
                count("cost", usage.cost_micro_usd),
            )
        }
        EngineEvent::Notice { text } => format!("notice {}", one(text)),
        EngineEvent::Question { text } => format!("question {}", one(text)),
        EngineEvent::Finished(finished) => format!("finished {}", last_word(finished)),
    }
}

pub(crate) fn last_word(finished: &Finished) -> String {
    let outcome = if finished.outcome == EngineOutcome::Completed { "completed" } else { "failed" };
    let class = finished.class.map(|class| format!(" [{class:?}]")).unwrap_or_default();
    let answer = finished.structured.as_ref().map(|answer| format!(" answer {answer}")).unwrap_or_default();
    format!("{outcome}{class} {}{answer}", finished.message.replace('\n', "\\n"))
}
