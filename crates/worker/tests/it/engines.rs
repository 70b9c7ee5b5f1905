//! Real engines' ways, played by programs that print what those engines print: limits that pass, answers that have to be
//! corrected, sessions that go on. The programs are scripts; everything around them is the product.

use std::{os::unix::fs::PermissionsExt, path::PathBuf, time::Duration};

use domain::{
    attempt::AttemptState,
    project::{EngineChoice, Engines},
    protocol::{Protocol, ProtocolState},
    step::BlockedOn,
};
use engines::engine::{Configured, Engine, Key};
use serde_json::{Value, json};
use testkit::models::{ModelServer, Reply, Rule, Scenario};
use worker::{Handle, WorkerConfig};

use super::{
    TestApp,
    protocols::{Work, only_execution},
};

/// Each call plays the next act; what it was called with, and what it read, is kept.
const PLAYER: &str = r#"#!/bin/sh
here=$(dirname "$0")
echo "$@" | tr '\n' ' ' >> "$here/calls"
echo >> "$here/calls"
act=$(wc -l < "$here/calls")
cat > "$here/prompt-$act"
. "$here/act-$act"
"#;

pub(crate) const BEGUN: &str = r#"echo '{"type":"thread.started","thread_id":"T1"}'; echo '{"type":"turn.started"}'"#;

pub(crate) fn said(text: &str) -> String {
    let item = json!({"type": "item.completed", "item": {"id": "i", "type": "agent_message", "text": text}});
    format!("cat <<'END'\n{item}\nEND")
}

pub(crate) fn used(input: u64, output: u64) -> String {
    format!(r#"echo '{{"type":"turn.completed","usage":{{"input_tokens":{input},"output_tokens":{output}}}}}'"#)
}

pub(crate) fn failed(message: &str) -> String {
    format!(r#"echo '{{"type":"turn.failed","error":{{"message":"{message}"}}}}'; exit 1"#)
}

/// A program that plays these acts, one a call.
pub(crate) struct Player {
    dir: PathBuf,
}

impl Player {
    pub(crate) fn new(app: &TestApp, acts: &[&[&str]]) -> Self {
        let dir = app.ledger.dir().join("player");
        std::fs::create_dir(&dir).unwrap();
        let program = dir.join("agent");
        std::fs::write(&program, PLAYER).unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        for (number, act) in (1..).zip(acts) {
            std::fs::write(dir.join(format!("act-{number}")), act.join("\n")).unwrap();
        }
        Self { dir }
    }

    pub(crate) fn calls(&self) -> Vec<String> {
        let calls = std::fs::read_to_string(self.dir.join("calls")).unwrap_or_default();
        calls.lines().map(|call| call.trim_end().to_owned()).collect()
    }

    pub(crate) fn prompt(&self, act: usize) -> String {
        std::fs::read_to_string(self.dir.join(format!("prompt-{act}"))).unwrap_or_default()
    }

    pub(crate) fn configure(&self, engine: Engine) -> impl FnOnce(&mut WorkerConfig) {
        let (dir, program) = (self.dir.clone(), self.dir.join("agent").to_string_lossy().into_owned());
        move |config| {
            let mut configured = Configured::new(engine.id(), engine);
            configured.command = vec![program];
            // In a sandbox it is shown beside its program what it plays, and keeps what it was called with.
            configured.writable = vec![dir];
            config.engines.insert(configured);
            config.engine_limits.soon = Duration::from_millis(50);
            config.engine_limits.stall = Duration::from_millis(600);
            config.outlive = Duration::from_millis(300);
            config.lease = Duration::from_secs(3);
        }
    }
}

fn chosen(id: &str) -> impl FnOnce(EngineChoice) -> Engines {
    let choice = EngineChoice::new(id);
    move |_| only_execution(choice)
}

fn one_step() -> Value {
    json!({"steps": [{"id": "fix", "name": "01-fix.md", "description": "Say 42.", "checks": [["sh", "test.sh"]]}]})
}

async fn start(work: &Work<'_>, player: &Player, engine: Engine) -> Handle {
    work.worker_with(player.configure(engine)).await
}

pub(crate) fn failure_of(protocol: &Protocol) -> String {
    match &protocol.state {
        ProtocolState::Blocked { on: BlockedOn::Failure { failure } } => failure.to_string(),
        other => panic!("{other:?}"),
    }
}

pub(crate) async fn wait(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let started = host::clock::monotonic();
    while !holds().await {
        assert!(started.elapsed() < super::PATIENCE, "{what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Calls the model as the program's own configuration says, and waits for the end of the answer.
const CALL: &str = r#"
export door=$(sed -n 's|^base_url = "http://\([^/]*\)/.*|\1|p' "$CODEX_HOME/config.toml")
bash -c '
body="{\"model\":\"m\",\"input\":\"Hello\",\"stream\":true}"
exec 3<>"/dev/tcp/${door%:*}/${door#*:}"
printf "POST /v1/responses HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nContent-Type: application/json\r\nContent-Length: ${#body}\r\n\r\n%s" "$PILOTHOUSE_MODEL_KEY" "$body" >&3
cat <&3 > /dev/null'
"#;

const FIXED: &str = "echo 42 > answer.txt";

on_both! {
    async fn what_an_agent_did_and_used_becomes_the_steps_result(app: &TestApp) {
        let player = Player::new(app, &[&[BEGUN, FIXED, &said("Done."), &used(1200, 34)]]);
        let work = Work::new(app, json!([]), chosen("codex")).await;
        let worker = start(&work, &player, Engine::Codex).await;

        let id = work.protocol(Some(one_step())).await;
        let done = work.until(id, &["completed", "blocked", "failed"]).await;

        assert_eq!(done.state.name(), "completed", "{:?}", done.state);
        assert_eq!(work.repository.git(&["show", "0001-fix-the-answer:answer.txt"]).await, "42");
        assert!(player.calls()[0].starts_with("exec --json --skip-git-repo-check -C "), "{:?}", player.calls());
        assert!(player.prompt(1).contains("Say 42."));
        // The supervisor's own word, as soon as it had given it.
        let events = work.events(id).await;
        let place = |kind: &str| events.iter().position(|known| known == kind).unwrap();
        assert!(place("step_started") < place("attempt_contained") && place("attempt_contained") < place("step_executed"));
        let attempts = app.control.store().list_attempts("step:1", 10).await.unwrap();
        assert!(attempts.iter().all(|attempt| attempt.containment.is_some()), "{attempts:?}");
        worker.drain().await;
    }

    async fn an_agent_that_lies_about_what_it_used_is_told_from_the_wire(app: &TestApp) {
        let player = Player::new(app, &[&[BEGUN, CALL, FIXED, &said("Done."), &used(1, 1)]]);
        let usage = testkit::models::Usage { input: 1200, cached: 1000, cache_write: 0, output: 34, reasoning: 5 };
        let scenario = Scenario::new().usage(usage).rule(Rule::always().reply([Reply::text("Hello.")]));
        let model = ModelServer::start(scenario).unwrap();
        let work = Work::new(app, json!([]), chosen("codex")).await;
        let worker = work.worker_with(|config| {
            player.configure(Engine::Codex)(config);
            let mut configured = config.engines.find("codex").unwrap().clone();
            configured.broker = true;
            configured.base_url = Some(format!("{}/v1", model.url()));
            configured.key = Some(Key::new("OPENAI_API_KEY", "key-of-the-model"));
            config.engines.insert(configured);
        }).await;

        let id = work.protocol(Some(one_step())).await;
        let done = work.until(id, &["completed", "blocked", "failed"]).await;

        assert_eq!(done.state.name(), "completed", "{:?}", done.state);
        let seen = model.seen();
        assert_eq!(seen.len(), 1, "{seen:?}");
        assert_eq!(seen[0].headers["authorization"], "Bearer key-of-the-model");
        let attempt = app.control.store().find_attempt("step-1-1").await.unwrap().unwrap();
        let metered = attempt.metered.clone().unwrap();
        assert_eq!((metered.calls, metered.unmetered, metered.refused), (1, 0, 0));
        let tokens = |usage: &domain::attempt::Usage| (usage.input_tokens, usage.output_tokens);
        assert_eq!(tokens(&metered.wire), (Some(1200), Some(34)));
        assert_eq!(metered.told.as_ref().map(tokens), Some((Some(1), Some(1))));
        let AttemptState::Ended { usage: Some(usage), .. } = &attempt.state else { panic!("{:?}", attempt.state) };
        assert_eq!(tokens(usage), (Some(1200), Some(34)), "the wire is believed");
        worker.drain().await;
    }

    async fn a_limit_that_passes_is_waited_for_in_the_same_attempt_and_session(app: &TestApp) {
        let limited = failed("exceeded retry limit, last status: 429 Too Many Requests");
        let player = Player::new(app, &[
            &[BEGUN, "echo half > half.txt", &limited],
            &[BEGUN, "test -e half.txt && rm half.txt", FIXED, &said("Done."), &used(3600, 102)],
        ]);
        let work = Work::new(app, json!([]), chosen("codex")).await;
        let worker = start(&work, &player, Engine::Codex).await;

        let id = work.protocol(Some(json!({"steps": [{"id": "fix", "name": "01-fix.md", "qa": {"policy": "skip"}}]}))).await;
        let done = work.until(id, &["completed", "blocked", "failed"]).await;

        assert_eq!(done.state.name(), "completed", "{:?}", done.state);
        let attempt = done.steps[0].attempt.clone().unwrap();
        assert_eq!(attempt.number, 1);
        let AttemptState::Ended { usage: Some(usage), .. } = attempt.state else { panic!("{:?}", attempt.state) };
        // The second run's counter is the sum of the session's, so that nothing is counted twice.
        assert_eq!((usage.input_tokens, usage.output_tokens), (Some(3600), Some(102)));
        assert!(player.calls()[1].ends_with(" resume T1 -"), "{:?}", player.calls());
        assert!(player.prompt(2).starts_with("Your work was cut off"));
        assert!(work.events(id).await.contains(&"attempt_adopted".to_owned()));
        worker.drain().await;
    }

    async fn what_lasts_is_told_with_its_class_after_the_last_try(app: &TestApp) {
        let refused = r#"echo '{"type":"error","message":"Reconnecting... waiting for network (Connection failed: x)"}'; sleep 60"#;
        let player = Player::new(app, &[&[BEGUN, refused], &[BEGUN, refused], &[BEGUN, refused]]);
        let work = Work::new(app, json!([]), chosen("codex")).await;
        let worker = start(&work, &player, Engine::Codex).await;

        let id = work.protocol(Some(one_step())).await;
        let blocked = work.until(id, &["completed", "blocked", "failed"]).await;

        let why = failure_of(&blocked);
        assert!(why.starts_with("engine_network: was stopped: it waited for its model for too long"), "{why}");
        assert_eq!(player.calls().len(), 3);
        worker.drain().await;
    }

    async fn what_a_person_has_to_put_right_is_not_tried_again(app: &TestApp) {
        let player = Player::new(app, &[&[BEGUN, &failed("unexpected status 401 Unauthorized: invalid api key")]]);
        let work = Work::new(app, json!([]), chosen("codex")).await;
        let worker = start(&work, &player, Engine::Codex).await;

        let id = work.protocol(Some(one_step())).await;
        let blocked = work.until(id, &["completed", "blocked", "failed"]).await;

        assert!(failure_of(&blocked).starts_with("engine_not_logged_in: "), "{}", failure_of(&blocked));
        assert_eq!(player.calls().len(), 1);
        worker.drain().await;
    }

    async fn a_session_goes_on_when_its_worker_and_its_processes_are_gone(app: &TestApp) {
        let player = Player::new(app, &[
            &[BEGUN, "echo half > half.txt", "sleep 300"],
            &[BEGUN, "test -e half.txt && rm half.txt", FIXED, &said("Done."), &used(50, 5)],
        ]);
        let work = Work::new(app, json!([]), chosen("codex")).await;
        let first = start(&work, &player, Engine::Codex).await;
        let id = work.protocol(Some(one_step())).await;
        let half = app.ledger.dir().join("worktrees/step-1-1/half.txt");
        wait("the engine works", async || half.exists()).await;

        first.drain().await;
        // Nobody renews anything: its supervisor ends it.
        let result = app.ledger.dir().join("attempts/step-1-1/result.json");
        wait("the engine is ended", async || result.exists()).await;
        let second = start(&work, &player, Engine::Codex).await;
        let done = work.until(id, &["completed", "blocked", "failed"]).await;

        assert_eq!(done.state.name(), "completed", "{:?}", done.state);
        assert!(player.calls()[1].ends_with(" resume T1 -"), "{:?}", player.calls());
        assert!(work.events(id).await.contains(&"attempt_adopted".to_owned()));
        assert!(!work.events(id).await.contains(&"step_interrupted".to_owned()));
        second.drain().await;
    }

    async fn a_step_begins_again_from_the_tip_when_its_session_cannot_go_on(app: &TestApp) {
        let player = Player::new(app, &[
            &[BEGUN, "echo half > half.txt", "sleep 300"],
            &["echo 'Error: no rollout found for thread id T1' >&2; exit 1"],
            &[BEGUN, "test ! -e half.txt || exit 9", FIXED, &said("Done."), &used(50, 5)],
        ]);
        let work = Work::new(app, json!([]), chosen("codex")).await;
        let first = start(&work, &player, Engine::Codex).await;
        let id = work.protocol(Some(one_step())).await;
        let half = app.ledger.dir().join("worktrees/step-1-1/half.txt");
        wait("the engine works", async || half.exists()).await;

        first.drain().await;
        let result = app.ledger.dir().join("attempts/step-1-1/result.json");
        wait("the engine is ended", async || result.exists()).await;
        let second = start(&work, &player, Engine::Codex).await;
        let done = work.until(id, &["completed", "blocked", "failed"]).await;

        assert_eq!(done.state.name(), "completed", "{:?}", done.state);
        assert!(work.events(id).await.contains(&"step_interrupted".to_owned()));
        assert_eq!(player.calls().len(), 3);
        second.drain().await;
    }

    async fn a_supervisor_that_is_killed_before_it_is_ready_is_followed_by_another(app: &TestApp) {
        let player = Player::new(app, &[&[BEGUN, FIXED, &said("Done."), &used(50, 5)]]);
        let dir = app.ledger.dir().join("player");
        let work = Work::new(app, json!([]), chosen("codex")).await;
        let killed = dir.join("supervise");
        let script = format!(
            "#!/bin/sh\ncase \"$2\" in\n*/attempts/*/check-1/*) mkdir {0}/check 2>/dev/null && kill -9 $$ ;;\n\
             */attempts/*) mkdir {0}/engine 2>/dev/null && kill -9 $$ ;;\nesac\nexec {1} \"$@\"\n",
            dir.display(),
            super::exe().display(),
        );
        std::fs::write(&killed, script).unwrap();
        std::fs::set_permissions(&killed, std::fs::Permissions::from_mode(0o755)).unwrap();
        let worker = work.worker_with(|config| {
            player.configure(Engine::Codex)(config);
            config.exe = killed;
        }).await;

        let id = work.protocol(Some(one_step())).await;
        let done = work.until(id, &["completed", "blocked", "failed"]).await;

        assert_eq!(done.state.name(), "completed", "{:?}", done.state);
        let events = work.events(id).await;
        let count = |kind: &str| events.iter().filter(|known| *known == kind).count();
        assert_eq!((count("step_interrupted"), count("qa_interrupted")), (1, 1), "{events:?}");
        assert_eq!(player.calls().len(), 1);
        worker.drain().await;
    }

    async fn a_plan_that_does_not_meet_its_schema_is_given_back_once(app: &TestApp) {
        let plan = json!({"plan_md": "# Plan", "context_md": "", "log_md": "", "step_files": [
            {"filename": "00-setup.md", "content": "Look."}]});
        let player = Player::new(app, &[
            &[BEGUN, &said("I would rather talk about it."), &used(100, 10)],
            &[BEGUN, &said(&plan.to_string()), &used(300, 30)],
            &[BEGUN, FIXED, &said("Done."), &used(5, 1)],
        ]);
        let choice = EngineChoice::new("codex");
        let work = Work::new(app, json!([]), |_| Engines { planning: Some(choice.clone()), execution: Some(choice), qa: None }).await;
        let worker = start(&work, &player, Engine::Codex).await;

        let id = work.protocol(None).await;
        wait("it is planned", async || !work.until(id, &["planning", "planned", "running", "completed", "blocked"]).await.steps.is_empty()).await;

        let protocol = work.until(id, &["running", "completed", "blocked"]).await;
        let attempt = protocol.attempt.clone().unwrap();
        let AttemptState::Ended { usage: Some(usage), .. } = attempt.state else { panic!("{:?}", attempt.state) };
        assert_eq!((attempt.number, usage.input_tokens, usage.output_tokens), (1, Some(300), Some(30)));
        // Its own sandbox where there is none of ours around it.
        let own = match attempt.containment.unwrap().sandbox {
            Some(around) if around.profile == "read-only" => "-s danger-full-access",
            Some(around) => panic!("{around:?}"),
            None => "-s read-only",
        };
        assert!(player.calls()[0].contains(own) && player.calls()[0].contains("--output-schema"));
        assert!(player.calls()[1].contains(own) && player.calls()[1].ends_with(" resume T1 -"));
        assert!(player.prompt(2).contains("the engine gave no structured answer"), "{}", player.prompt(2));
        worker.drain().await;
    }

    async fn a_plan_that_stays_wrong_is_told_and_not_given_back_again(app: &TestApp) {
        let wrong: &[&str] = &[BEGUN, &said("No."), &used(1, 1)];
        let player = Player::new(app, &[wrong, wrong, wrong]);
        let choice = EngineChoice::new("codex");
        let work = Work::new(app, json!([]), |_| Engines { planning: Some(choice), execution: None, qa: None }).await;
        let worker = start(&work, &player, Engine::Codex).await;

        let id = work.protocol(None).await;
        let blocked = work.until(id, &["blocked", "failed"]).await;

        assert!(failure_of(&blocked).starts_with("invalid_plan: "), "{}", failure_of(&blocked));
        assert_eq!(player.calls().len(), 2);
        worker.drain().await;
    }

    async fn an_exit_code_of_zero_without_a_change_is_not_believed_of_codemachine(app: &TestApp) {
        let player = Player::new(app, &[&["echo 'All agents are done!'"]]);
        let work = Work::new(app, json!([]), chosen("codemachine")).await;
        let worker = start(&work, &player, Engine::CodeMachine).await;

        let steps = json!({"steps": [{"id": "setup", "name": "00-setup.md"}]});
        let id = work.protocol(Some(steps)).await;
        let blocked = work.until(id, &["completed", "blocked", "failed"]).await;

        assert_eq!(failure_of(&blocked), "empty_diff: codemachine ended with exit code 0 and changed nothing");
        worker.drain().await;
    }

    async fn an_engine_that_is_not_there_fails_and_says_where_it_was_looked_for(app: &TestApp) {
        let work = Work::new(app, json!([]), chosen("gemini")).await;
        let worker = work.worker_with(|config| config.engine_path = "/nowhere".into()).await;

        let id = work.protocol(Some(one_step())).await;
        let blocked = work.until(id, &["completed", "blocked", "failed"]).await;

        assert_eq!(failure_of(&blocked), "engine_unavailable: engine gemini: there is no program gemini in /nowhere");
        worker.drain().await;
    }
}
