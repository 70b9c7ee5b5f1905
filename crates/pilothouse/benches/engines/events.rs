//! How many events of engines one core of a worker reads: from the spool, in the pieces that a worker reads, through the
//! parser of each engine. The slowest of them is the figure.

use engines::{
    engine::{Engine, Transcript},
    spec::Stream,
    spool,
};
use serde_json::{Value, json};

use crate::place::Place;

const PIECE: usize = 256 * 1024;
const ROUNDS: usize = 40_000;

/// What an engine prints when it says something and runs a command, as lines; by the number of the round.
type Round = fn(usize) -> Vec<Value>;

pub(crate) async fn measure() -> Result<f64, String> {
    let dialects: [(Engine, Round); 5] = [
        (Engine::Codex, codex),
        (Engine::Claude, claude),
        (Engine::Opencode, opencode),
        (Engine::Gemini, gemini),
        (Engine::Acp, ours),
    ];
    let mut slowest = f64::INFINITY;
    for (engine, round) in dialects {
        let place = Place::new()?;
        let lines = (0..ROUNDS).flat_map(round).map(|line| format!("{line}\n"));
        let text: String = std::iter::once(format!("{}\n", hello(engine))).chain(lines).collect();
        std::fs::write(place.attempt().join(Stream::Stdout.file_name()), text).map_err(|error| error.to_string())?;
        let read = host::task::spawn_blocking("events", move || read(&place, engine)).await;
        slowest = slowest.min(read.map_err(|error| error.to_string())??);
    }
    Ok(slowest)
}

/// Events a second.
#[expect(clippy::cast_precision_loss, reason = "some hundred thousand")]
fn read(place: &Place, engine: Engine) -> Result<f64, String> {
    let begun = host::clock::monotonic();
    let mut transcript = Transcript::new(engine);
    let (mut offset, mut n_events) = (0, 0);
    loop {
        let piece = spool::read(&place.attempt(), Stream::Stdout, offset, PIECE).map_err(|error| error.to_string())?;
        if piece.bytes.is_empty() {
            break;
        }
        offset = piece.next_offset;
        n_events += transcript.feed(&piece.bytes).len();
    }
    let rate = n_events as f64 / begun.elapsed().as_secs_f64();
    // Three at least for each round: said, begun, ended.
    match n_events >= 3 * ROUNDS {
        true => Ok(rate),
        false => Err(format!("{engine} told {n_events} events of {ROUNDS} rounds")),
    }
}

fn hello(engine: Engine) -> Value {
    match engine {
        Engine::Codex => json!({"type": "thread.started", "thread_id": "s"}),
        Engine::Claude => json!({"type": "system", "subtype": "init", "session_id": "s"}),
        Engine::Gemini => json!({"type": "init", "session_id": "s", "model": "m"}),
        Engine::Opencode => json!({"type": "step_start", "sessionID": "s", "part": {"type": "step-start"}}),
        Engine::Shell | Engine::Scripted | Engine::Acp | Engine::CodeMachine => json!({"type": "session", "id": "s"}),
    }
}

const SAID: &str = "I look at the tests first, then at what they test.";
const PRINTED: &str =
    "running 12 tests\ntest adds ... ok\ntest takes away ... ok\ntest result: ok. 12 passed; 0 failed\n";

fn codex(n: usize) -> Vec<Value> {
    let command = |status: &str, output: &str, code: Value| {
        json!({"id": format!("item_{n}"), "type": "command_execution", "command": "bash -lc 'cargo test'",
            "aggregated_output": output, "exit_code": code, "status": status})
    };
    vec![
        json!({"type": "item.completed", "item": {"id": format!("say_{n}"), "type": "agent_message", "text": SAID}}),
        json!({"type": "item.started", "item": command("in_progress", "", Value::Null)}),
        json!({"type": "item.completed", "item": command("completed", PRINTED, json!(0))}),
    ]
}

fn claude(n: usize) -> Vec<Value> {
    let id = format!("toolu_{n}");
    let of = |role: &str, content: Value| json!({"type": role, "session_id": "s", "message": {"role": role, "content": content}});
    vec![
        of("assistant", json!([{"type": "text", "text": SAID}])),
        of("assistant", json!([{"type": "tool_use", "id": id, "name": "Bash", "input": {"command": "cargo test"}}])),
        of("user", json!([{"type": "tool_result", "tool_use_id": id, "content": PRINTED, "is_error": false}])),
    ]
}

fn opencode(n: usize) -> Vec<Value> {
    let state = json!({"status": "completed", "input": {"command": "cargo test"}, "output": PRINTED});
    let tool = json!({"type": "tool", "callID": format!("call_{n}"), "tool": "bash", "state": state});
    vec![
        json!({"type": "text", "sessionID": "s", "part": {"type": "text", "text": SAID}}),
        json!({"type": "tool_use", "sessionID": "s", "part": tool}),
    ]
}

fn gemini(n: usize) -> Vec<Value> {
    let id = format!("call_{n}");
    vec![
        json!({"type": "message", "role": "assistant", "content": SAID, "delta": true}),
        json!({"type": "tool_use", "tool_name": "run_shell_command", "tool_id": id,
            "parameters": {"command": "cargo test"}}),
        json!({"type": "tool_result", "tool_id": id, "status": "success", "output": PRINTED}),
    ]
}

/// As our own drivers print.
fn ours(n: usize) -> Vec<Value> {
    let id = format!("call_{n}");
    vec![
        json!({"type": "text", "text": SAID}),
        json!({"type": "tool_started", "id": id, "name": "execute", "input": "cargo test"}),
        json!({"type": "tool_finished", "id": id, "ok": true, "output": PRINTED}),
    ]
}
