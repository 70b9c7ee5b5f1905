use serde_json::json;

use super::*;

#[test]
fn a_spec_is_read_and_written() {
    let value = json!({"steps": [
        {"id": "setup", "name": "00-setup.md", "engine_id": "scripted"},
        {"id": "fix", "name": "01-fix.md", "checks": [["sh", "test.sh"]], "retry": "ask", "qa": {"policy": "light"}},
        {"id": "finalize", "name": "02-finalize.md", "depends_on": ["fix"],
         "gate": {"when": "before", "approvers": ["person:owner"], "self_approval": true, "timeout": "1h"}},
        {"id": "after", "gate": "before"},
    ]});

    let spec = ProtocolSpec::parse(&value).unwrap();

    assert_eq!(spec.to_value(), value);
    assert_eq!(spec.steps[0].step_type(), StepType::Setup);
    assert_eq!(spec.steps[0].qa_policy(), QaPolicy::Skip);
    assert_eq!(spec.steps[1].qa_policy(), QaPolicy::Light);
    assert_eq!(spec.steps[2].qa_policy(), QaPolicy::Full);
    assert!(!spec.steps[2].gate.as_ref().unwrap().policy().distinct_from_requester);
}

#[test]
fn every_problem_of_a_spec_is_named() {
    for (step, part) in [
        (json!({"id": "a", "unknown": 1}), "unknown field `unknown`"),
        (json!({"id": ""}), "steps[0].id"),
        (json!({"id": "--upload-pack=x"}), "steps[0].id"),
        (json!({"id": "a", "name": "../../x"}), "steps[0].name"),
        (json!({"id": "a\u{202e}b"}), "cannot be seen"),
        (json!({"id": "a", "prompt_ref": "../x"}), "not a path inside"),
        (json!({"id": "a", "prompt_ref": "/etc/passwd"}), "not a path inside"),
        (json!({"id": "a", "prompt_ref": ".GIT/hooks/x"}), "not a path inside"),
        (json!({"id": "a", "outputs": {"aux": {"x": ".git./config"}}}), "not a path inside"),
        (json!({"id": "a", "policies": [{"behavior": "loop"}]}), "loop policies are not available yet"),
        (json!({"id": "a", "policies": [{"behavior": "trigger"}]}), "trigger policies are not available yet"),
        (json!({"id": "a", "qa": {"prompt": "../p.md"}}), "not a path inside"),
        (json!({"id": "a", "qa": {"engine_id": "-codex"}}), "begins with `-`"),
        (json!({"id": "a", "qa": {"inputs": {"a": 1}}}), "not available yet"),
        (json!({"id": "a", "fallback": ["b", "b"]}), "fallback: \"b\" is named before"),
        (json!({"id": "a", "engine_id": "b", "fallback": ["b"]}), "is named before"),
        (json!({"id": "a", "fallback": ["-b"]}), "begins with `-`"),
        (json!({"id": "a", "qa": {"fallback": ["a", "b", "c", "d", "e"]}}), "qa.fallback: at most 4"),
        (json!({"id": "a", "qa": {"policy": "banana"}}), "banana"),
        (json!({"id": "a", "gate": "after"}), "expected \"before\""),
        (json!({"id": "a", "gate": {"when": "before", "timeout": "soon"}}), "not a duration"),
        (json!({"id": "a", "gate": {"when": "before", "quorum": 0}}), "gate.quorum"),
        (json!({"id": "a", "checks": [[]]}), "at least one element"),
        (json!({"id": "a", "depends_on": ["b"]}), "no step has the id"),
        (json!({"id": "a", "depends_on": ["a"]}), "must be listed before"),
    ] {
        let problems = ProtocolSpec::parse(&json!({"steps": [step]})).unwrap_err();

        let told = problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
        assert!(told.contains(part), "{part}: {told}");
    }
    assert!(ProtocolSpec::parse(&json!({"steps": []})).is_err());
    let twice = json!({"steps": [{"id": "a"}, {"id": "a"}]});
    assert_eq!(ProtocolSpec::parse(&twice).unwrap_err().len(), 2);
}

#[test]
fn the_short_hash_is_the_inherited_one() {
    // sha256 of {"a":"\u00e9","b":[1,true,null]}, as json.dumps(sort_keys, compact separators, ensure_ascii) writes it.
    let value = json!({"b": [1, true, null], "a": "é"});

    let hash = spec_hash(&value);

    assert_eq!(hash, "fd794d605169");
    assert_eq!(hash, spec_hash(&json!({"a": "é", "b": [1, true, null]})));
    assert_ne!(spec_digest(&value).unwrap(), spec_digest(&json!({})).unwrap());
}
