//! What finished attempts left, and what is still alive, under a worker that keeps nothing for long.

use std::{fs::Permissions, os::unix::fs::PermissionsExt, path::Path, time::Duration};

use forge::git::{Git, GitConfig, Mirror, ObjectFormat};
use serde_json::json;
use worker::{Handle, WorkerConfig};

use super::{
    ENDED, PATIENCE, TestApp, exe,
    protocols::{Work, by_owner, nothing, only_execution, owner},
};

/// Long enough for what a test looks at before it is gone, short enough to wait for.
const KEPT: Duration = Duration::from_millis(1500);

async fn forgetful_worker(app: &TestApp) -> Handle {
    let mut config = WorkerConfig::new(app.ledger.dir(), exe());
    config.drain = Duration::from_millis(200);
    config.local_repositories = forge::git::LocalPolicy::OwnedBy(host::process::effective_uid());
    config.retention.artifacts = KEPT;
    config.sweep = Duration::from_millis(100);
    worker::start(config, app.control.clone()).await.unwrap()
}

async fn until(what: &str, mut done: impl AsyncFnMut() -> bool) {
    let started = host::clock::monotonic();
    while !done().await {
        assert!(started.elapsed() < PATIENCE, "waited too long for {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn names(dir: &Path) -> Vec<String> {
    host::fs::list_names(dir).unwrap_or_default()
}

async fn kept_fences(work: &Work<'_>) -> Vec<u64> {
    let git = Git::find(GitConfig::beneath(work.app.ledger.dir())).await.unwrap();
    let mirror = work.app.ledger.dir().join("mirrors").join(format!("{}.git", work.project));
    let mirror = Mirror::open_or_create(&git, &mirror, ObjectFormat::Sha1).await.unwrap();
    mirror.kept_attempts().await.unwrap().into_iter().map(|kept| kept.fence).collect()
}

on_both! {
    async fn the_output_of_a_finished_attempt_goes_and_that_of_a_live_one_stays(app: &TestApp) {
        let worker = forgetful_worker(app).await;
        let long = app.request("long").await;
        app.until(&long, &["Running"]).await;
        until("the log of the live one", async || app.log(&long).await == "started").await;
        let hello = app.request("hello").await;
        app.until(&hello, ENDED).await;
        let attempts = app.ledger.dir().join("attempts");
        let gone = attempts.join(format!("run-{hello}-1"));
        assert_eq!(app.log(&hello).await, "hello\noops", "it is kept for a while");

        until("the finished one to go", async || !host::fs::exists(&gone)).await;

        assert_eq!(names(&attempts), [format!("run-{long}-1")], "it is as old, and alive");
        assert_eq!(app.log(&long).await, "started");
        assert_eq!(app.log(&hello).await, format!("The log of run {hello} is not on this machine."));
        app.say(&format!("cancel {long}")).await;
        assert_eq!(app.until(&long, ENDED).await.state.name(), "Canceled");
        until("the canceled one to go", async || names(&attempts).is_empty()).await;
        worker.drain().await;
    }

    async fn what_a_sweep_or_a_worker_that_died_left_is_removed_by_the_next(app: &TestApp) {
        let worker = app.worker().await;
        let id = app.request("hello").await;
        app.until(&id, ENDED).await;
        worker.drain().await;
        let dir = app.ledger.dir();
        let attempt = format!("run-{id}-1");
        // Moved aside and not yet removed; half removed; a worktree that its worker did not live to remove; one that
        // its program closed; and what belongs to an attempt of a ledger that is no more.
        for left in [
            format!("trash/{attempt}.x/home"),
            format!("worktrees/{attempt}/src"),
            "worktrees/run-CLOSED-1/a".to_owned(),
            "attempts/run-GONE-1/home".to_owned(),
        ] {
            std::fs::create_dir_all(dir.join(&left)).unwrap();
            std::fs::write(dir.join(&left).join("file"), "left").unwrap();
        }
        std::fs::remove_file(dir.join("attempts").join(&attempt).join("output")).unwrap();
        std::fs::set_permissions(dir.join("worktrees/run-CLOSED-1/a"), Permissions::from_mode(0o000)).unwrap();

        let worker = forgetful_worker(app).await;

        for root in ["trash", "worktrees", "attempts"] {
            until(root, async || names(&dir.join(root)).is_empty()).await;
        }
        worker.drain().await;
    }

    async fn a_survey_that_was_cut_off_is_removed_by_the_next_worker_and_that_of_a_live_one_is_not(app: &TestApp) {
        let dir = app.ledger.dir();
        let surveys = || names(dir).into_iter().filter(|name| name.starts_with("survey-")).collect::<Vec<_>>();
        for who in ["w-killed", "w-forgotten", "w-alive"] {
            let work = dir.join(format!("survey-{who}/work"));
            std::fs::create_dir_all(&work).unwrap();
            std::fs::set_permissions(&work, Permissions::from_mode(0o000)).unwrap();
        }
        std::fs::create_dir_all(dir.join("workers")).unwrap();
        std::fs::write(dir.join("workers/w-killed"), "").unwrap();
        let alive = host::fs::LockFile::acquire(&dir.join("workers/w-alive")).unwrap();

        let worker = forgetful_worker(app).await;

        assert!(!surveys().iter().any(|name| ["survey-w-killed", "survey-w-forgotten"].contains(&name.as_str())));
        until("its own survey to go", async || surveys() == ["survey-w-alive"]).await;
        worker.drain().await;
        drop(alive);
        let next = forgetful_worker(app).await;
        until("nothing to be left", async || surveys().is_empty()).await;
        next.drain().await;
    }

    async fn a_result_that_may_still_be_accepted_is_kept_and_can_be(app: &TestApp) {
        let scenes = json!([
            {"step": "01-fix.md", "attempt": 1, "actions": [{"do": "write", "path": "answer.txt", "text": "40\n"}]},
            {"step": "01-fix.md", "actions": [{"do": "write", "path": "answer.txt", "text": "43\n"}]},
        ]);
        let work = Work::new(app, scenes, only_execution).await;
        let worker = forgetful_worker(app).await;
        let steps = json!({"steps": [{"id": "fix", "name": "01-fix.md", "checks": [["sh", "test.sh"]]}]});
        let id = work.protocol(Some(steps)).await;
        work.until(id, &["blocked"]).await;
        let first = kept_fences(&work).await;
        app.control.retry_latest_step(id, &by_owner(), nothing).await.unwrap();
        let failed = work.until(id, &["blocked"]).await;
        let step = &failed.steps[0];
        assert_eq!((first.len(), step.state.name()), (2, "failed"));

        // The plan is on the branch, the second result waits for somebody, the first one is past.
        until("the first result to go", async || !kept_fences(&work).await.contains(first.iter().max().unwrap())).await;
        until("the attempts to go", async || names(&app.ledger.dir().join("attempts")).is_empty()).await;
        assert_eq!(kept_fences(&work).await.len(), 2);
        assert!(names(&app.ledger.dir().join("worktrees")).is_empty());
        let reason = Some("43 will do".to_owned());
        app.control.approve_step(step.id, owner(), "owner", reason, &by_owner(), nothing).await.unwrap();

        assert_eq!(work.until(id, &["completed", "blocked"]).await.state.name(), "completed");
        assert_eq!(work.repository.git(&["show", "0001-fix-the-answer:answer.txt"]).await, "43");
        until("the other commits to go", async || kept_fences(&work).await.is_empty()).await;
        worker.drain().await;
    }
}
