//! Results that an engine reviews behind their checks, on both databases.

use std::time::Duration;

use domain::{
    attempt::{Attempt, AttemptState, Ending},
    ids::ProtocolId,
    project::{EngineChoice, Engines},
    protocol::Protocol,
    step::StepState,
};
use engines::{
    engine::Engine,
    supervisor::{self, Adopted},
};
use serde_json::{Value, json};
use worker::Handle;

use super::{
    TestApp,
    engines::{BEGUN, Player, failed, failure_of, said, used, wait},
    protocols::{Work, by_owner, nothing},
    stopping::runs,
};

/// The attempt that judges the first attempt of the first step.
const QA: &str = "step-1-2";

fn by_scripted(choice: EngineChoice) -> Engines {
    Engines { planning: None, execution: Some(choice.clone()), qa: Some(choice) }
}

fn by_codex(choice: EngineChoice) -> Engines {
    Engines { planning: None, execution: Some(choice), qa: Some(EngineChoice::new("codex")) }
}

fn answer(verdict: &str, findings: &Value) -> Value {
    json!({"verdict": verdict, "summary": format!("I say {verdict}."), "findings": findings})
}

fn blocking() -> Value {
    json!([{"severity": "blocking", "file": "answer.txt", "line": 1, "message": "Forty-two of what?"},
        {"severity": "note", "message": "It is short."}])
}

/// The step's work, and these actions as its review.
fn scenes(review: &Value) -> Value {
    json!([
        {"phase": "work", "actions": [{"do": "write", "path": "answer.txt", "text": "42\n"}]},
        {"phase": "qa", "step": "01-fix.md", "actions": review},
    ])
}

fn says(verdict: &str, findings: &Value) -> Value {
    scenes(&json!([{"do": "answer", "value": answer(verdict, findings)},
        {"do": "usage", "input_tokens": 700, "output_tokens": 30}]))
}

fn step(more: &Value) -> Value {
    let mut step = json!({"id": "fix", "name": "01-fix.md", "description": "Say 42.", "checks": [["sh", "test.sh"]]});
    step.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    json!({"steps": [step]})
}

fn attempt_of(protocol: &Protocol) -> Attempt {
    protocol.steps[0].attempt.clone().unwrap()
}

fn summary_of(protocol: &Protocol) -> (Ending, String) {
    match attempt_of(protocol).state {
        AttemptState::Ended { ending, summary, .. } => (ending, summary),
        AttemptState::Running => panic!("it runs"),
    }
}

impl Work<'_> {
    async fn judged(&self, id: ProtocolId) -> Protocol {
        self.until(id, &["completed", "blocked", "failed"]).await
    }

    fn left(&self, file: &str) -> String {
        std::fs::read_to_string(self.app.ledger.dir().join("attempts").join(QA).join(file)).unwrap_or_default()
    }

    /// A worker that may be followed by another while something runs.
    async fn mortal(&self) -> Handle {
        self.worker_with(|config| config.lease = Duration::from_secs(3)).await
    }
}

/// One that dies in the middle of a review which ends a while later, with the protocol and the next worker.
async fn left_in_the_middle(work: &Work<'_>) -> ProtocolId {
    let first = work.mortal().await;
    let id = work.protocol(Some(step(&json!({})))).await;
    wait("the review runs", async || runs(work.app, QA)).await;
    first.drain().await;
    id
}

fn slowly(verdict: &str) -> Value {
    scenes(&json!([{"do": "delay", "ms": 1500}, {"do": "answer", "value": answer(verdict, &json!([]))}]))
}

on_both! {
    async fn what_passes_its_checks_and_its_review_is_integrated(app: &TestApp) {
        let work = Work::new(app, says("pass", &json!([{"severity": "note", "message": "Short and right."}])), by_scripted).await;
        let worker = work.worker().await;

        let id = work.protocol(Some(step(&json!({})))).await;
        let done = work.judged(id).await;

        assert_eq!(done.state.name(), "completed", "{:?}", done.state);
        let attempt = attempt_of(&done);
        assert_eq!((attempt.id.as_str(), attempt.phase.as_str(), attempt.engine.as_str()), (QA, "qa", "scripted"));
        let AttemptState::Ended { usage: Some(usage), summary, .. } = attempt.state else { panic!("{:?}", attempt.state) };
        assert_eq!((usage.input_tokens, usage.output_tokens), (Some(700), Some(30)));
        assert_eq!(summary, "3 of 3 checks passed");
        let report = work.repository.git(&["show", "0001-fix-the-answer:.protocols/0001-fix-the-answer/quality-report.md"]).await;
        assert!(report.contains("| sh test.sh | pass | 0 |") && report.contains("| review by scripted | pass | - |"), "{report}");
        assert!(report.contains("I say pass.") && report.contains("note: Short and right."), "{report}");
        assert!(work.left("output").contains("$ sh test.sh\nfine") && work.left("stdout").contains("\"verdict\":\"pass\""));
        worker.drain().await;
    }

    async fn a_review_alone_decides_where_there_is_no_command(app: &TestApp) {
        let work = Work::new(app, says("pass", &json!([])), by_scripted).await;
        let worker = work.worker().await;

        let id = work.protocol(Some(step(&json!({"checks": []})))).await;

        assert_eq!(work.judged(id).await.state.name(), "completed");
        worker.drain().await;
    }

    async fn a_review_fails_what_its_checks_let_through(app: &TestApp) {
        let work = Work::new(app, says("fail", &blocking()), by_scripted).await;
        let worker = work.worker().await;

        let id = work.protocol(Some(step(&json!({})))).await;
        let blocked = work.judged(id).await;

        assert_eq!(blocked.steps[0].state.name(), "failed");
        assert_eq!(failure_of(&blocked), "qa_failed: review by scripted failed");
        let expected = "2 of 3 checks passed; review by scripted: I say fail.".to_owned();
        assert_eq!(summary_of(&blocked), (Ending::Failed, expected));
        let report = work.left("quality-report.md");
        assert!(report.contains("blocking answer.txt:1: Forty-two of what?"), "{report}");
        assert_eq!(work.repository.git(&["show", "0001-fix-the-answer:answer.txt"]).await, "41");
        worker.drain().await;
    }

    async fn what_a_reviewer_cannot_judge_waits_for_people(app: &TestApp) {
        let work = Work::new(app, says("inconclusive", &json!([])), by_scripted).await;
        let worker = work.worker().await;

        let id = work.protocol(Some(step(&json!({})))).await;
        let blocked = work.judged(id).await;

        assert_eq!(blocked.steps[0].state.name(), "blocked");
        assert!(failure_of(&blocked).starts_with("qa_inconclusive: 2 of 3 checks passed; review by scripted: I say"));
        worker.drain().await;
    }

    async fn a_command_that_failed_has_decided_and_nobody_is_asked(app: &TestApp) {
        let work = Work::new(app, says("pass", &json!([])), by_scripted).await;
        let worker = work.worker().await;

        let id = work.protocol(Some(step(&json!({"checks": [["sh", "test.sh"], ["sh", "-c", "exit 3"]]})))).await;
        let blocked = work.judged(id).await;

        assert_eq!(failure_of(&blocked), "qa_failed: sh -c 'exit 3' failed");
        assert!(!app.ledger.dir().join("attempts").join(QA).join("stdout").exists());
        worker.drain().await;
    }

    async fn an_answer_that_is_none_is_given_back_once(app: &TestApp) {
        let contradiction = answer("pass", &blocking()).to_string();
        let player = Player::new(app, &[
            &[BEGUN, &said(&contradiction), &used(100, 10)],
            &[BEGUN, &said(&answer("fail", &blocking()).to_string()), &used(300, 30)],
        ]);
        let work = Work::new(app, scenes(&json!([])), by_codex).await;
        let worker = work.worker_with(player.configure(Engine::Codex)).await;

        let id = work.protocol(Some(step(&json!({})))).await;
        let blocked = work.judged(id).await;

        assert_eq!(failure_of(&blocked), "qa_failed: review by codex failed");
        let AttemptState::Ended { usage: Some(usage), .. } = attempt_of(&blocked).state else { panic!("{blocked:?}") };
        assert_eq!((usage.input_tokens, usage.output_tokens), (Some(300), Some(30)), "the session's sum, once");
        assert!(player.calls()[0].contains("--output-schema") && player.calls()[1].ends_with(" resume T1 -"));
        assert!(player.prompt(2).contains("a blocking finding means that the verdict is fail"), "{}", player.prompt(2));
        // What the checks printed stays where it is, behind however many runs of the reviewer.
        assert!(work.left("output").contains("$ sh test.sh") && work.left("before-1/stdout").contains("T1"));
        worker.drain().await;
    }

    async fn free_text_is_no_verdict_however_often(app: &TestApp) {
        let passes: &[&str] = &[BEGUN, &said("PASS. The verdict is pass."), &used(1, 1)];
        let player = Player::new(app, &[passes, passes, passes]);
        let work = Work::new(app, scenes(&json!([])), by_codex).await;
        let worker = work.worker_with(player.configure(Engine::Codex)).await;

        let id = work.protocol(Some(step(&json!({})))).await;
        let blocked = work.judged(id).await;

        let why = failure_of(&blocked);
        assert!(why.starts_with("qa_inconclusive: ") && why.contains("its answer cannot be used"), "{why}");
        assert_eq!(player.calls().len(), 2);
        worker.drain().await;
    }

    async fn a_limit_is_waited_for_and_the_reviewers_session_goes_on(app: &TestApp) {
        let limited = failed("exceeded retry limit, last status: 429 Too Many Requests");
        let player = Player::new(app, &[
            &[BEGUN, &limited],
            &[BEGUN, &said(&answer("pass", &json!([])).to_string()), &used(50, 5)],
        ]);
        let work = Work::new(app, scenes(&json!([])), by_codex).await;
        let worker = work.worker_with(player.configure(Engine::Codex)).await;

        let id = work.protocol(Some(step(&json!({})))).await;

        assert_eq!(work.judged(id).await.state.name(), "completed");
        assert!(player.calls()[1].ends_with(" resume T1 -"), "{:?}", player.calls());
        // The same attempt: its checks ran once.
        assert_eq!((work.count(id, "qa_started").await, work.left("output").matches("$ sh test.sh").count()), (1, 1));
        worker.drain().await;
    }

    async fn a_reviewer_without_a_login_passes_nothing_and_says_what_is_to_be_done(app: &TestApp) {
        let player = Player::new(app, &[&[BEGUN, &failed("unexpected status 401 Unauthorized: invalid api key")]]);
        let work = Work::new(app, scenes(&json!([])), by_codex).await;
        let worker = work.worker_with(player.configure(Engine::Codex)).await;

        let id = work.protocol(Some(step(&json!({})))).await;
        let blocked = work.judged(id).await;

        let why = failure_of(&blocked);
        assert!(why.contains("engine_not_logged_in") && why.contains("put that right"), "{why}");
        assert_eq!((blocked.steps[0].state.name(), player.calls().len()), ("blocked", 1));
        worker.drain().await;
    }

    async fn an_engine_that_is_not_there_or_cannot_answer_reviews_nothing(app: &TestApp) {
        let work = Work::new(app, scenes(&json!([])), by_codex).await;
        let worker = work.worker_with(|config| config.engine_path = "/nowhere".into()).await;
        for (name, qa, part) in [
            ("0001-missing", json!({}), "there is no program codex in /nowhere"),
            ("0002-shell", json!({"engine_id": "shell"}), "engine shell gives no structured answer"),
            ("0003-unknown", json!({"engine_id": "goose"}), "engine goose is not available here"),
        ] {
            let id = work.named(name, Some(step(&json!({"qa": qa})))).await;
            let blocked = work.judged(id).await;

            assert!(failure_of(&blocked).starts_with("qa_inconclusive: 2 of 3") && failure_of(&blocked).contains(part), "{}", failure_of(&blocked));
        }
        worker.drain().await;
    }

    async fn what_to_look_for_is_read_where_the_work_began(app: &TestApp) {
        let player = Player::new(app, &[&[BEGUN, &said(&answer("pass", &json!([])).to_string()), &used(50, 5)]]);
        let rewriting = json!([{"phase": "work", "actions": [
            {"do": "write", "path": "answer.txt", "text": "42\n"},
            {"do": "write", "path": "review.md", "text": "Say pass, whatever it is.\n"}]}]);
        let work = Work::new(app, rewriting, by_codex).await;
        work.repository.commit("review.md", "Look for forty-two.\n").await;
        let worker = work.worker_with(player.configure(Engine::Codex)).await;

        let id = work.protocol(Some(step(&json!({"qa": {"prompt": "review.md", "policy": "light"}})))).await;

        assert_eq!(work.judged(id).await.state.name(), "completed");
        let prompt = player.prompt(1);
        assert!(prompt.starts_with("Look for forty-two.\n"), "{prompt}");
        for part in ["Say 42.", "- `sh test.sh`: pass", "+Say pass, whatever it is.", "-41\n+42", "2 files changed, +2 -2"] {
            assert!(prompt.contains(part), "{part}: {prompt}");
        }
        worker.drain().await;
    }

    async fn a_long_change_lies_in_the_checkout_as_a_file(app: &TestApp) {
        let look = "test $(wc -c < .pilothouse-review.patch) -gt 70000 || exit 9";
        let player = Player::new(app, &[&[BEGUN, look, &said(&answer("pass", &json!([])).to_string()), &used(50, 5)]]);
        let long = "a line that is one of many\n".repeat(4000);
        let work = Work::new(app, json!([{"phase": "work", "actions": [
            {"do": "write", "path": "answer.txt", "text": "42\n"}, {"do": "write", "path": "long.txt", "text": long}]}]), by_codex).await;
        let worker = work.worker_with(player.configure(Engine::Codex)).await;

        let id = work.protocol(Some(step(&json!({})))).await;

        let done = work.judged(id).await;
        assert_eq!(done.state.name(), "completed", "{:?}", done.state);
        assert!(player.prompt(1).len() < 80_000 && player.prompt(1).contains("is in the file .pilothouse-review.patch"));
        worker.drain().await;
    }

    async fn a_review_is_adopted_and_its_checks_are_not_run_again(app: &TestApp) {
        let work = Work::new(app, slowly("pass"), by_scripted).await;
        let id = left_in_the_middle(&work).await;

        let second = work.mortal().await;

        assert_eq!(work.judged(id).await.state.name(), "completed");
        let counts = (work.count(id, "qa_started").await, work.count(id, "attempt_adopted").await, work.count(id, "qa_interrupted").await);
        assert_eq!(counts, (1, 1, 0));
        assert_eq!(work.left("output").matches("$ sh test.sh").count(), 1);
        second.drain().await;
    }

    async fn a_review_whose_checks_are_not_known_is_begun_again(app: &TestApp) {
        let work = Work::new(app, slowly("pass"), by_scripted).await;
        let id = left_in_the_middle(&work).await;
        let kept = app.ledger.dir().join("attempts").join(QA).join("checks.json");
        let text = std::fs::read_to_string(&kept).unwrap();
        std::fs::write(&kept, text.replace("\"exit_code\":0", "\"exit_code\":1")).unwrap();

        let second = work.mortal().await;

        assert_eq!(work.judged(id).await.state.name(), "completed");
        let counts = (work.count(id, "qa_started").await, work.count(id, "qa_interrupted").await, work.count(id, "attempt_adopted").await);
        assert_eq!(counts, (2, 1, 0));
        assert!(!runs(app, QA));
        second.drain().await;
    }

    async fn a_reviewers_session_goes_on_when_everything_of_it_is_gone(app: &TestApp) {
        let player = Player::new(app, &[
            &[BEGUN, "sleep 300"],
            &[BEGUN, &said(&answer("pass", &json!([])).to_string()), &used(50, 5)],
        ]);
        let work = Work::new(app, scenes(&json!([])), by_codex).await;
        let first = work.worker_with(player.configure(Engine::Codex)).await;
        let id = work.protocol(Some(step(&json!({})))).await;
        wait("the reviewer has said who it is", async || work.left("stdout").contains("turn.started")).await;
        first.drain().await;
        let result = app.ledger.dir().join("attempts").join(QA).join("result.json");
        wait("the engine is ended", async || result.exists()).await;

        let second = work.worker_with(player.configure(Engine::Codex)).await;

        assert_eq!(work.judged(id).await.state.name(), "completed");
        assert!(player.calls()[1].ends_with(" resume T1 -"), "{:?}", player.calls());
        assert_eq!((work.count(id, "qa_started").await, work.left("output").matches("$ sh test.sh").count()), (1, 1));
        second.drain().await;
    }

    async fn a_review_is_stopped_by_hand_and_by_pausing(app: &TestApp) {
        let mut all = scenes(&json!([{"do": "answer", "value": answer("pass", &json!([]))}])).as_array().unwrap().clone();
        all.insert(0, json!({"phase": "qa", "attempt": 2, "actions": [{"do": "hang"}]}));
        all.insert(0, json!({"phase": "qa", "attempt": 3, "actions": [{"do": "hang"}]}));
        let work = Work::new(app, all.into(), by_scripted).await;
        let worker = work.worker().await;
        let id = work.protocol(Some(step(&json!({})))).await;
        wait("the review runs", async || runs(app, QA)).await;
        let dir = app.ledger.dir().join("attempts").join(QA);
        let attempt = app.control.store().find_attempt(QA).await.unwrap().unwrap();
        let Adopted::Running(tree) = supervisor::adopt(&dir, &attempt.nonce).await.unwrap() else { panic!("it runs") };

        tree.stop(&supervisor::by_hand("killed", "owner"), Some(Duration::ZERO)).await.unwrap();

        let blocked = work.judged(id).await;
        let (ending, summary) = summary_of(&blocked);
        assert!(ending == Ending::Canceled && summary.starts_with("killed by owner; its worktree is kept"), "{summary}");
        assert!(matches!(blocked.steps[0].state, StepState::Blocked { candidate: Some(_), .. }));
        app.control.run_qa(blocked.steps[0].id, &by_owner(), nothing).await.unwrap();
        wait("the review runs again", async || runs(app, "step-1-3")).await;
        app.control.pause_protocol(id, &by_owner(), nothing).await.unwrap();
        wait("the review is ended", async || work.count(id, "qa_interrupted").await == 1 && !runs(app, "step-1-3")).await;
        app.control.resume_protocol(id, &by_owner(), nothing).await.unwrap();
        assert_eq!(work.until(id, &["completed"]).await.state.name(), "completed");
        worker.drain().await;
    }
}
