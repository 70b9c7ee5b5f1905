//! The bodies of requests: what is understood is said again in the same words; what is not is refused.

use testkit::fuzz::{Fuzz, json::Corpus};

const BODIES: &str = r#"{"from":"ada","conversation":"ada","body":"run deploy env=prod","provider_message_id":"m-1"}
{"name":"shop","git_url":"https://example.org/shop.git","base_branch":"main","ci_provider":"github","default_models":{"planning":"gpt-5"},"secrets":{"TOKEN":"x"},"engines":{"execution":{"id":"scripted","fallback":[{"id":"shell"}]}}}
{"planning":{"id":"codex"},"execution":{"id":"claude"},"qa":{"id":"scripted","scenario":"qa.toml"}}
{"protocol_name":"0001-make","status":"pending","base_branch":"main","worktree_path":"/w","protocol_root":".protocols","description":"make it","template_config":{"a":[1,2.5,null,true]}}
{"step_index":3,"step_name":"02-work","step_type":"work","status":"pending","model":"m","summary":"s","engine_id":"shell","policy":{"loop":{"max":3}}}
{"reason":"looked at it"}
{"job":"deploy","params":{"env":"prod","n":3,"dry":true,"x":1.5},"reason":"INC-812"}
{"digest":"9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08","note":"fine"}
{"name":"ci","scopes":["read","runs:write"],"person":"owner","expires_in_days":30}
"#;

#[test]
fn a_body_is_read_back_as_it_was_or_refused() {
    let corpus = Corpus::new([BODIES.to_owned()]);
    Fuzz::new("bodies", 40_000).run(|random, input| {
        corpus.draw(random, input);
        for line in input.split(|byte| *byte == b'\n') {
            promises::bodies::body(line);
        }
    });
}
