//! Engines that cannot be had, and those that the policy names behind them, on both databases.

use domain::{
    attempt::{Attempt, AttemptState},
    project::{EngineChoice, Engines, NamedEngine},
    protocol::Protocol,
};
use engines::engine::Engine;
use serde_json::{Value, json};
use worker::Handle;

use super::{
    TestApp,
    engines::{BEGUN, Player, failed, failure_of},
    protocols::{Work, by_owner, nothing},
};

/// The scripted engine behind these, of which only `codex` may be there.
fn behind(first: &str, others: &[&str], scripted: &EngineChoice) -> EngineChoice {
    let named = NamedEngine { id: scripted.id.clone(), scenario: scripted.scenario.clone() };
    let fallback = others.iter().map(|&id| NamedEngine::new(id)).chain([named]).collect();
    EngineChoice { fallback, ..EngineChoice::new(first) }
}

fn executed(first: &'static str, others: &'static [&'static str]) -> impl FnOnce(EngineChoice) -> Engines {
    move |scripted| Engines { execution: Some(behind(first, others, &scripted)), ..Engines::default() }
}

/// What Claude Code prints whose limit ends in the year 2096.
const SPENT_FOR_LONG: &str = r#"cat <<'END'
{"type":"system","subtype":"init","session_id":"S1"}
{"type":"rate_limit_event","session_id":"S1","rate_limit_info":{"status":"rejected","resetsAt":4000000000}}
{"type":"result","subtype":"success","session_id":"S1","is_error":true,"result":"Claude AI usage limit reached"}
END
exit 1"#;

fn writes() -> Value {
    json!([{"phase": "work", "actions": [{"do": "write", "path": "answer.txt", "text": "42\n"}]}])
}

fn one_step() -> Value {
    json!({"steps": [{"id": "fix", "name": "01-fix.md", "description": "Say 42.", "checks": [["sh", "test.sh"]]}]})
}

async fn nowhere(work: &Work<'_>) -> Handle {
    work.worker_with(|config| config.engine_path = "/nowhere".into()).await
}

async fn over(work: &Work<'_>, spec: Option<Value>) -> Protocol {
    let id = work.protocol(spec).await;
    work.until(id, &["completed", "blocked", "failed"]).await
}

async fn attempt(app: &TestApp, id: &str) -> Attempt {
    app.control.store().find_attempt(id).await.unwrap().unwrap()
}

on_both! {
    async fn an_engine_that_is_missing_is_followed_by_the_next_from_the_branch_tip(app: &TestApp) {
        let work = Work::new(app, writes(), executed("codex", &["goose"])).await;
        let worker = nowhere(&work).await;

        let done = over(&work, Some(one_step())).await;

        assert_eq!(done.state.name(), "completed", "{:?}", done.state);
        assert_eq!(work.repository.git(&["show", "0001-fix-the-answer:answer.txt"]).await, "42");
        let mut told = Vec::new();
        for id in ["step-1-1", "step-1-2", "step-1-3"] {
            let attempt = attempt(app, id).await;
            told.push((attempt.engine.clone(), attempt.status()));
        }
        let expected = [("codex", "failed"), ("goose", "failed"), ("scripted", "succeeded")];
        assert_eq!(told, expected.map(|(engine, status)| (engine.to_owned(), status)));
        let AttemptState::Ended { summary, .. } = attempt(app, "step-1-1").await.state else { panic!("it runs") };
        assert_eq!(summary, "engine codex: there is no program codex in /nowhere");
        assert_eq!((work.count(done.id, "step_fell_back").await, work.count(done.id, "protocol_blocked").await), (2, 0));
        assert_eq!((done.steps[0].retries, done.steps[0].tried.len()), (0, 0));
        worker.drain().await;
    }

    async fn a_usage_limit_is_not_waited_for_where_another_engine_can_be_had(app: &TestApp) {
        let player = Player::new(app, &[&["echo half > half.txt", SPENT_FOR_LONG]]);
        let work = Work::new(app, writes(), executed("claude", &[])).await;
        let worker = work.worker_with(player.configure(Engine::Claude)).await;

        let done = over(&work, Some(one_step())).await;

        assert_eq!(done.state.name(), "completed", "{:?}", done.state);
        assert_eq!(player.calls().len(), 1);
        let AttemptState::Ended { summary, .. } = attempt(app, "step-1-1").await.state else { panic!("it runs") };
        assert_eq!(summary, "claude: Claude AI usage limit reached");
        let files = work.repository.git(&["ls-tree", "--name-only", "0001-fix-the-answer"]).await;
        assert!(!files.contains("half.txt"), "the next engine began anew: {files}");
        worker.drain().await;
    }

    async fn what_passes_by_itself_is_waited_for_before_another_engine_is_tried(app: &TestApp) {
        let limited = failed("exceeded retry limit, last status: 429 Too Many Requests");
        let act: &[&str] = &[BEGUN, &limited];
        let player = Player::new(app, &[act, act, act]);
        let work = Work::new(app, writes(), executed("codex", &[])).await;
        let worker = work.worker_with(player.configure(Engine::Codex)).await;

        let done = over(&work, Some(one_step())).await;

        assert_eq!(done.state.name(), "completed", "{:?}", done.state);
        assert_eq!((player.calls().len(), work.count(done.id, "step_fell_back").await), (3, 1));
        worker.drain().await;
    }

    async fn what_the_work_itself_brought_about_is_its_result(app: &TestApp) {
        let player = Player::new(app, &[&[BEGUN, &failed("invalid_request_error: no such model")]]);
        let work = Work::new(app, writes(), executed("codex", &[])).await;
        let worker = work.worker_with(player.configure(Engine::Codex)).await;

        let blocked = over(&work, Some(one_step())).await;

        assert!(failure_of(&blocked).starts_with("engine_bad_request: "), "{}", failure_of(&blocked));
        assert_eq!(work.count(blocked.id, "step_fell_back").await, 0);
        worker.drain().await;
    }

    async fn when_nobody_can_be_had_the_last_one_says_why_and_a_retry_begins_with_the_first(app: &TestApp) {
        let engines = |_| Engines::default();
        let work = Work::new(app, writes(), engines).await;
        let worker = nowhere(&work).await;
        let step = json!({"id": "fix", "name": "01-fix.md", "engine_id": "codex", "fallback": ["goose"], "checks": [["true"]]});

        let blocked = over(&work, Some(json!({"steps": [step]}))).await;

        assert!(failure_of(&blocked).starts_with("engine_unavailable: engine goose is not available here"), "{}", failure_of(&blocked));
        app.control.retry_latest_step(blocked.id, &by_owner(), nothing).await.unwrap();
        work.until(blocked.id, &["blocked"]).await;
        assert_eq!((attempt(app, "step-1-3").await.engine, attempt(app, "step-1-4").await.engine), ("codex".into(), "goose".into()));
        worker.drain().await;
    }

    async fn another_engine_plans(app: &TestApp) {
        let plan = json!({"plan_md": "# Plan", "context_md": "", "log_md": "", "step_files": [
            {"filename": "00-setup.md", "content": "Look."}]});
        let scenes = json!([{"phase": "plan", "actions": [{"do": "plan", "value": plan}]},
            {"phase": "setup", "actions": [{"do": "write", "path": "answer.txt", "text": "42\n"}]}]);
        let engines = |scripted: EngineChoice| Engines {
            planning: Some(behind("codex", &[], &scripted)), execution: Some(scripted), qa: None };
        let work = Work::new(app, scenes, engines).await;
        let worker = nowhere(&work).await;

        let done = over(&work, None).await;

        assert_eq!(done.state.name(), "completed", "{:?}", done.state);
        let attempt = done.attempt.unwrap();
        assert_eq!((attempt.number, attempt.engine.as_str(), done.tried.len()), (2, "scripted", 0));
        assert_eq!(work.count(done.id, "planning_fell_back").await, 1);
        worker.drain().await;
    }

    async fn another_engine_reviews(app: &TestApp) {
        let mut scenes = writes().as_array().unwrap().clone();
        let answer = json!({"verdict": "pass", "summary": "Fine.", "findings": []});
        scenes.push(json!({"phase": "qa", "actions": [{"do": "answer", "value": answer}]}));
        let engines = |scripted: EngineChoice| Engines {
            planning: None, qa: Some(behind("codex", &["shell"], &scripted)), execution: Some(scripted) };
        let work = Work::new(app, scenes.into(), engines).await;
        let worker = nowhere(&work).await;

        let done = over(&work, Some(one_step())).await;

        assert_eq!(done.state.name(), "completed", "{:?}", done.state);
        let counts = (work.count(done.id, "qa_fell_back").await, work.count(done.id, "qa_passed").await);
        assert_eq!((counts, done.steps[0].attempt.as_ref().unwrap().engine.as_str()), ((2, 1), "scripted"));
        worker.drain().await;
    }
}
