//! The conversation with an agent that speaks ACP, whatever the agent says.

use super::{N_RUNS, recorded};
use crate::fuzzed;
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

        fuzzed::conversation(&text, random.chance(30), random.chance(30), || random.chance(20));
    });
}
