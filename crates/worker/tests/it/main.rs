//! Jobs carried out by a real worker with real supervisors, on both databases.

#![expect(clippy::unwrap_used, reason = "a helper of a test fails as the test does")]

mod ledger;

use std::{path::PathBuf, time::Duration};

use control::{Clock, Control, inbound::Inbound};
use domain::{ids::RunId, run::Run};
use ledger::Ledger;
use worker::{Handle, WorkerConfig};

/// Several leases long: what was lost on the way is taken over once its lease has passed.
const PATIENCE: Duration = Duration::from_secs(90);

/// Every test on both databases.
macro_rules! on_both {
    ($($(#[$meta:meta])* async fn $name:ident($app:ident: &TestApp) $body:block)*) => {
        mod on_sqlite { $( #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() { super::$name(&crate::TestApp::start(crate::Ledger::sqlite().await).await).await; } )* }
        mod on_postgres { $( #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() { super::$name(&crate::TestApp::start(crate::Ledger::postgres().await).await).await; } )* }
        $( $(#[$meta])* async fn $name($app: &TestApp) $body )*
    };
}

mod engines;
mod fall_back;
mod given_up;
mod permission;
mod protocols;
mod quick;
mod retention;
mod review;
mod stopping;

struct TestApp {
    control: Control,
    ledger: Ledger,
}

fn exe() -> PathBuf {
    let test = host::process::current_exe().unwrap();
    test.parent().and_then(|deps| deps.parent()).unwrap().join("examples/worker_supervise")
}

fn catalog() -> String {
    let job = |key: &str, script: &str, more: &str| {
        format!(
            "[job.{key}]\ntitle = \"{key}\"\nowner = \"team:ops\"\n[job.{key}.exec]\nargv = [\"/bin/sh\", \"-c\", '''{script}''']\n{more}\n[job.{key}.policy]\napprove = \"none\"\n"
        )
    };
    [
        job("hello", "echo hello; echo oops >&2", ""),
        job("fails", "exit 3", ""),
        job("slow", "echo started; sleep 60", "timeout = \"1s\""),
        job("long", "echo started; sleep 60", "kill_grace = \"1s\""),
        job("flood", "yes", "output_limit = \"64KiB\""),
        job("environment", "env | sort", "env = { COLOR = \"blue\" }"),
        job("flaky", "exit 75", "retry = { max = 1, backoff = \"10ms..20ms\", on = [\"exit:75\"] }"),
    ]
    .concat()
        + "[job.missing]\ntitle = \"missing\"\nowner = \"team:ops\"\n[job.missing.exec]\nargv = [\"no-such-program\"]\n[job.missing.policy]\napprove = \"none\"\n"
        + "[job.asks]\ntitle = \"asks\"\nowner = \"team:ops\"\n[job.asks.exec]\nargv = [\"true\"]\n[job.asks.policy]\napprove = { of = [\"dev:bob\"], quorum = 1 }\ntimeout = \"1s\"\n"
}

impl TestApp {
    async fn start(ledger: Ledger) -> Self {
        let control =
            Control::new(ledger.store().await, Clock::default()).with_attempts_dir(ledger.dir().join("attempts"));
        control.load_catalog(&catalog(), "jobs.toml").await.unwrap();
        Self { control, ledger }
    }

    async fn worker(&self) -> Handle {
        self.worker_with(|config| config.drain = Duration::from_millis(200)).await
    }

    async fn worker_with(&self, change: impl FnOnce(&mut WorkerConfig)) -> Handle {
        let mut config = WorkerConfig::new(self.ledger.dir(), exe());
        change(&mut config);
        worker::start(config, self.control.clone()).await.unwrap()
    }

    async fn say(&self, body: &str) -> control::inbound::InboundReply {
        let inbound = Inbound {
            channel: "dev".into(),
            from: "dev:alice".into(),
            conversation: "dev:alice".into(),
            body: body.into(),
            provider_message_id: None,
        };
        self.control.inbound(inbound).await.unwrap()
    }

    async fn request(&self, job: &str) -> RunId {
        self.say(&format!("run {job}")).await.run_id.unwrap()
    }

    async fn run(&self, id: &RunId) -> Run {
        self.control.get::<Run>(id.as_str()).await.unwrap().subject
    }

    /// Waits until the run's state has one of these names.
    async fn until(&self, id: &RunId, states: &[&str]) -> Run {
        let started = host::clock::monotonic();
        loop {
            let run = self.run(id).await;
            if states.contains(&run.state.name()) {
                return run;
            }
            assert!(started.elapsed() < PATIENCE, "run {id} is still {}", run.state.name());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    async fn log(&self, id: &RunId) -> String {
        self.say(&format!("log {id} 50")).await.outbound[0].body.clone()
    }
}

const ENDED: &[&str] = &["Succeeded", "Failed", "TimedOut", "Canceled", "Blocked"];

on_both! {
    async fn a_job_runs_and_its_result_and_log_are_kept(app: &TestApp) {
        let worker = app.worker().await;
        let id = app.request("hello").await;

        let run = app.until(&id, ENDED).await;

        assert_eq!(run.state.name(), "Succeeded");
        assert_eq!(app.log(&id).await, "hello\noops");
        let told: Vec<String> = app.control.store().list_messages(Some("dev:alice"), 10).await.unwrap()
            .into_iter().map(|message| message.body).collect();
        assert!(told.contains(&format!("Run {id} succeeded: Job 'hello' completed successfully")), "{told:?}");
        worker.drain().await;
    }

    async fn a_job_that_fails_says_with_which_code(app: &TestApp) {
        let worker = app.worker().await;
        let id = app.request("fails").await;

        let run = app.until(&id, ENDED).await;

        let domain::run::RunState::Failed { summary, .. } = run.state else { panic!("{:?}", run.state) };
        assert_eq!(summary, "Job 'fails' failed (exit code 3)");
        worker.drain().await;
    }

    async fn a_program_that_does_not_exist_fails_and_never_passes(app: &TestApp) {
        let worker = app.worker().await;
        let id = app.request("missing").await;

        assert_eq!(app.until(&id, ENDED).await.state.name(), "Failed");
        worker.drain().await;
    }

    async fn a_job_is_stopped_at_its_limits(app: &TestApp) {
        let worker = app.worker().await;
        let (slow, flood) = (app.request("slow").await, app.request("flood").await);

        assert_eq!(app.until(&slow, ENDED).await.state.name(), "TimedOut");
        assert_eq!(app.until(&flood, ENDED).await.state.name(), "Failed");
        worker.drain().await;
    }

    async fn a_job_is_canceled_while_it_runs(app: &TestApp) {
        let worker = app.worker().await;
        let id = app.request("long").await;
        app.until(&id, &["Running"]).await;

        let told = app.say(&format!("cancel {id}")).await.outbound[0].body.clone();

        assert_eq!(told, format!("Stopping run {id}."));
        assert_eq!(app.until(&id, ENDED).await.state.name(), "Canceled");
        worker.drain().await;
    }

    async fn a_child_gets_exactly_the_environment_of_its_catalog_entry(app: &TestApp) {
        let worker = app.worker().await;
        let id = app.request("environment").await;
        app.until(&id, ENDED).await;

        let log = app.log(&id).await;

        let names: Vec<&str> = log.lines().filter_map(|line| line.split_once('=')).map(|(name, _)| name)
            .filter(|name| !["PWD", "SHLVL", "_", "OLDPWD"].contains(name)).collect();
        assert_eq!(names, ["COLOR", "HOME", "LANG", "PATH"]);
        worker.drain().await;
    }

    async fn a_failed_job_is_tried_again_as_declared(app: &TestApp) {
        let worker = app.worker().await;
        let id = app.request("flaky").await;

        let run = app.until(&id, &["Failed"]).await;
        let run = if run.attempt.as_ref().is_some_and(|attempt| attempt.number == 2) { run } else {
            app.until(&id, &["Running"]).await;
            app.until(&id, &["Failed"]).await
        };

        assert_eq!(run.attempt.unwrap().number, 2);
        worker.drain().await;
    }

    async fn the_next_worker_adopts_what_an_earlier_one_left_running(app: &TestApp) {
        let first = app.worker().await;
        let id = app.request("long").await;
        let before = app.until(&id, &["Running"]).await.attempt.unwrap();
        first.drain().await;

        let second = app.worker().await;
        let started = host::clock::monotonic();
        let after = loop {
            let attempt = app.run(&id).await.attempt.unwrap();
            if attempt.fence != before.fence {
                break attempt;
            }
            assert!(started.elapsed() < PATIENCE);
            tokio::time::sleep(Duration::from_millis(10)).await;
        };

        assert_eq!((after.number, after.worker.as_str()), (1, second.incarnation()));
        app.say(&format!("cancel {id}")).await;
        assert_eq!(app.until(&id, ENDED).await.state.name(), "Canceled");
        second.drain().await;
    }
}
