//! Session files of engines, answers that have to meet a schema, and what we say to ourselves over sockets and files.

use super::N_RUNS;
use crate::codex::rollout;
use crate::engine::answer_in;
use crate::exit::Exit;
use crate::protocol::{Reply, Request, Started};
use crate::scripted::scenario::{self, Scenario};
use crate::spec::Spec;
use crate::{claude, gemini};
use serde::de::DeserializeOwned;
use testkit::fuzz::Fuzz;
use testkit::fuzz::json::Corpus;
use testkit::fuzz::text::Samples;

const ROLLOUT: &str = r#"{"timestamp":"2026-11-21T05:37:57.000Z","type":"session_meta","payload":{"id":"01a1fc9c","cwd":"/work","cli_version":"0.169.0"}}
{"timestamp":"2026-11-21T05:37:58.000Z","type":"response_item","payload":{"type":"message","role":"user","content":[{"type":"input_text","text":"token_count total_token_usage"}]}}
{"timestamp":"2026-11-21T05:37:59.000Z","type":"event_msg","payload":{"type":"token_count","info":{"total_token_usage":{"input_tokens":2400,"cached_input_tokens":1000,"cache_write_input_tokens":0,"output_tokens":34,"reasoning_output_tokens":5,"total_tokens":2434},"last_token_usage":{"input_tokens":1200,"output_tokens":34},"model_context_window":258400},"rate_limits":null}}
{"timestamp":"2026-11-21T05:38:00.000Z","type":"event_msg","payload":{"type":"token_count","info":null}}
"#;

#[test]
fn a_thread_file_of_codex_is_read_whatever_it_holds() {
    let corpus = Corpus::new([ROLLOUT.to_owned()]);
    Fuzz::new("codex session file", N_RUNS).run(|random, input| {
        corpus.draw(random, input);

        let whole = rollout::last_count(input);

        // Only the last line that counts is counted, so what stands before the last two lines changes nothing.
        assert!(whole.is_none_or(|usage| usage.is_known()));
        let mut doubled = input.clone();
        doubled.push(b'\n');
        doubled.extend_from_slice(input);
        assert_eq!(rollout::last_count(&doubled), whole);
    });
}

const CLAUDE: &str = r#"{"type":"assistant","message":{"id":"m1","usage":{"input_tokens":200,"cache_creation_input_tokens":0,"cache_read_input_tokens":1000,"output_tokens":34}}}"#;
const GEMINI: &str = r#"{"id":"a","type":"gemini","tokens":{"input":1200,"output":34,"cached":1000,"thoughts":0,"tool":0,"total":1234}}"#;

#[test]
fn messages_in_session_files_are_counted_or_not_whatever_they_hold() {
    let corpus = Corpus::new([CLAUDE.to_owned(), GEMINI.to_owned()]);
    Fuzz::new("messages in session files", N_RUNS).run(|random, input| {
        corpus.draw(random, input);
        let line = String::from_utf8_lossy(input);
        for counted in [claude::sessions::count_of(&line), gemini::sessions::count_of(&line)] {
            assert!(counted.is_none_or(|(_, usage)| usage.is_known()));
        }
    });
}

#[test]
fn an_answer_is_found_or_not_whatever_was_said() {
    let samples = Samples::new(
        [
            "{\"plan_md\": \"# Plan\", \"step_files\": [{\"filename\": \"00-setup.md\", \"content\": \"x\"}]}",
            "Here it is:\n```json\n{\"verdict\": \"pass\", \"n\": 1e3}\n```\nDone.",
            "```\n{\"a\": {\"b\": [1, 2, 3]}}\n```",
            "I cannot do that.",
        ],
        &["```", "```json", "{", "}", "[[[[", "\"a\":", "NaN", "1e999", "\\ud800", ","],
    );
    Fuzz::new("structured answers", N_RUNS).run(|random, input| {
        samples.draw(random, input);
        let text = String::from_utf8_lossy(input);
        if let Some(answer) = answer_in(&text) {
            assert!(answer.is_object(), "{answer}");
            // What is kept of it is read again as the same.
            assert_eq!(answer_in(&answer.to_string()), Some(answer));
        }
    });
}

/// What is understood is said again in the same words, and understood again.
fn round<T: DeserializeOwned + serde::Serialize>(input: &[u8]) {
    if let Ok(value) = serde_json::from_slice::<T>(input) {
        let said = serde_json::to_vec(&value).expect("what was read can be written");
        let again = serde_json::from_slice::<T>(&said).expect("what was written can be read");
        assert_eq!(serde_json::to_vec(&again).expect("as before"), said);
    }
}

#[test]
fn our_own_documents_are_read_or_refused_whatever_is_in_them() {
    let documents = [
        r#"{"hello":{"version":1,"challenge":"abc","proof":"def"}}"#,
        r#"{"extend":{"until_boot_ms":123456}}"#,
        r#"{"stop":{"reason":"cancelled","grace_ms":2000}}"#,
        r#""status""#,
        r#"{"report":{"containment":"namespace","supervisor_pid":1,"started_at":2,"deadline_boot_ms":3,"output_bytes":4,"stopping":false}}"#,
        r#"{"ready":{"containment":"subreaper","started_at":5}}"#,
        r#"{"outcome":{"exited":{"code":0}},"status":null,"containment":"namespace","started_at":0,"ended_at":1,"killed":false,"all_gone":true,"outputs":[]}"#,
        r#"{"version":1,"nonce":"n","argv":["true"],"cwd":"/","env":[["A","b"]],"secrets":[],"limits":{},"deadline_boot_ms":null,"after_disconnect_ms":null,"merge_stderr":false}"#,
        r#"{"version":1,"title":"demo","scenes":[{"phase":"work","step":"01-a","attempt":1,"actions":[{"do":"write","path":"a.txt","text":"x"},{"do":"usage","input_tokens":1},{"do":"exit","code":3}]}]}"#,
    ];
    let corpus = Corpus::new(documents.map(|document| format!("{document}\n")));
    Fuzz::new("documents of ours", N_RUNS / 5).run(|random, input| {
        corpus.draw(random, input);
        for line in input.split(|&byte| byte == b'\n') {
            round::<Request>(line);
            round::<Reply>(line);
            round::<Started>(line);
            round::<Exit>(line);
            round::<Spec>(line);
            let _ = serde_json::from_slice::<Scenario>(line);
        }
    });
}

#[test]
fn a_scenario_is_read_or_refused_whatever_is_in_it() {
    let sample = r#"
version = 1
title = "A demonstration"

[[scenes]]
phase = "work"
step = "01-a"
attempt = 1
actions = [
  { do = "message", text = "I write." },
  { do = "write", path = "src/a.txt", text = "x", executable = true },
  { do = "replace", path = "a.txt", find = "x", with = "y" },
  { do = "answer", value = { plan_md = "p", step_files = [] } },
  { do = "usage", input_tokens = 12, cost_micro_usd = 3 },
  { do = "delay", ms = 10 },
  { do = "exit", code = 3 },
]
"#;
    let words = ["do =", "\"hang\"", "[[scenes]]", "version = 2", "path = \"../x\"", "path = \"/etc\"", "1e9", "inf"];
    let samples = Samples::new([sample], &words);
    Fuzz::new("scenarios", N_RUNS / 50).run(|random, input| {
        samples.draw(random, input);
        let text = String::from_utf8_lossy(input);
        if let Ok(scenario) = scenario::parse(&text, "fuzz.toml".as_ref()) {
            assert_eq!(scenario.version, 1);
        }
    });
}
