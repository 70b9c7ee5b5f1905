//! The conversation with an agent that speaks ACP, whatever the agent says.

use super::{N_RUNS, assert_harmless, recorded};
use crate::acp::fuzzed::{Held, Talk};
use crate::engine::{EngineEvent, Permission};
use serde_json::Value;
use testkit::fuzz::Fuzz;
use testkit::fuzz::json::Corpus;

/// How an agent begins when all goes well: its answers to our first requests.
const BEGINNING: [&str; 3] = [
    r#"{"id":1,"result":{"protocolVersion":1,"agentCapabilities":{"loadSession":true}}}"#,
    r#"{"id":2,"result":{"sessionId":"s-1"}}"#,
    r#"{"jsonrpc":"2.0","id":9,"method":"session/request_permission","params":{"sessionId":"s-1","toolCall":{"toolCallId":"c-1","kind":"edit","title":"a.txt"},"options":[{"optionId":"a","kind":"allow_once"},{"optionId":"r","kind":"reject_once"}]}}"#,
];

#[test]
fn an_agent_is_talked_with_whatever_it_says() {
    // In the recordings the sessions have other names; here all of them are the one that is open.
    let own = |stream: String| {
        let name = stream.split("\"sessionId\": \"").nth(1).and_then(|rest| rest.split('"').next()).map(str::to_owned);
        match name {
            Some(name) => stream.replace(&name, "s-1").replace("\"id\": 4", "\"id\": 3"),
            None => stream,
        }
    };
    let beginning = BEGINNING.map(|line| format!("{line}\n"));
    let streams: Vec<String> = recorded("acp-").into_iter().map(own).chain(beginning).collect();
    let corpus = Corpus::new(streams);
    Fuzz::new("acp", N_RUNS).run(|random, input| {
        for line in &BEGINNING[..usize::try_from(random.below(4)).unwrap()] {
            input.extend_from_slice(line.as_bytes());
            input.push(b'\n');
        }
        corpus.draw(random, input);
        let text = String::from_utf8_lossy(input);

        let mut talk = Talk::begin(random.chance(30), random.chance(30));
        for line in text.lines() {
            talk.hear(line);
            if random.chance(20) {
                talk.pause();
            }
        }
        talk.lose();

        assert_makes_sense(&talk.held);
    });
}

fn assert_makes_sense(held: &Held) {
    held.told.iter().for_each(assert_harmless);
    // It ends once, with a word, and nothing is told or sent afterwards.
    assert_eq!(held.n_done, 1);
    assert_eq!(held.told.iter().filter(|event| matches!(event, EngineEvent::Finished(_))).count(), 1);
    assert!(matches!(held.told.last(), Some(EngineEvent::Finished(_))));
    // Every question about a permission is answered once, and an answer that allows is told as one.
    let is_answer = |sent: &&Value| sent.get("result").is_some_and(|result| result.get("outcome").is_some());
    let answers: Vec<&Value> = held.sent.iter().filter(is_answer).collect();
    let told: Vec<Permission> = held
        .told
        .iter()
        .filter_map(|event| match event {
            EngineEvent::PermissionAsked(asked) => Some(asked.answer),
            _ => None,
        })
        .collect();
    assert_eq!(answers.len(), told.len());
    for (answer, told) in answers.iter().zip(told) {
        let selected = answer["result"]["outcome"]["outcome"] == "selected";
        assert!(selected || told == Permission::Denied, "{answer}");
    }
}
