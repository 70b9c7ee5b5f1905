//! Limits and deadlines, each of which ends the tree by itself.

use crate::machine::{Place, elapsed, run, start, until};
use engines::exit::{Outcome, TimeLimit};
use engines::spec::{Limits, Stream};
use engines::supervisor::{self, Adopted};
use std::time::Duration;

const SHORT: Duration = Duration::from_millis(300);

#[tokio::test]
async fn a_tree_ends_at_its_wall_limit() {
    let place = Place::new();
    let mut launch = place.sh("while :; do echo busy; sleep 0.05; done");
    launch.limits = launch.limits.wall(SHORT);
    let exit = run(launch).await;
    assert_eq!(exit.outcome, Outcome::TimedOut { limit: TimeLimit::Wall });
    assert_eq!(place.alive(), Vec::<String>::new());
}

#[tokio::test]
async fn a_silent_tree_ends_at_its_idle_limit() {
    let place = Place::new();
    let mut launch = place.sh("for i in 1 2 3 4 5 6; do echo busy; sleep 0.1; done; sleep 1000");
    launch.limits = launch.limits.idle(Duration::from_millis(400));
    let started = host::clock::monotonic();
    let exit = run(launch).await;
    assert_eq!(exit.outcome, Outcome::TimedOut { limit: TimeLimit::Idle });
    assert!(elapsed(started) > Duration::from_millis(900), "ended while it was writing");
    assert_eq!(place.output(), "busy\n".repeat(6));
}

#[tokio::test]
async fn a_flood_is_cut_off_and_what_is_kept_is_bounded() {
    let place = Place::new();
    let mut launch = place.argv(&["yes", "flood"]);
    launch.limits = Limits::default().output(200 << 20).spool(1 << 20);
    let supervised = start(launch).await;
    let pid = supervised.report().await.unwrap().supervisor_pid;
    let mut peak = 0;
    while let Ok(status) = std::fs::read_to_string(format!("/proc/{pid}/status")) {
        let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap_or_default();
        peak = peak.max(line.split_whitespace().nth(1).and_then(|kb| kb.parse::<u64>().ok()).unwrap_or(0));
        tokio::time::sleep(Duration::from_millis(5)).await;
    }

    let exit = supervised.wait().await.unwrap();

    let end = &exit.outputs[0];
    assert_eq!(exit.outcome, Outcome::OutputLimit);
    assert!(end.truncated && end.bytes > 200 << 20 && end.kept == (1 << 20) + (64 << 10), "{end:?}");
    let output = place.output();
    assert!(output.len() < (1 << 20) + (64 << 10) + 100);
    let marker = format!("\n[pilothouse: {} bytes left out here]\n", end.bytes - end.kept);
    assert_eq!(output.find(&marker), Some(1 << 20));
    assert!(peak > 0 && peak < 40_000, "the supervisor used {peak} kB");
}

#[tokio::test]
async fn output_a_little_over_the_spool_is_kept_whole() {
    let place = Place::new();
    let mut launch = place.sh("seq 1 2000");
    launch.limits = launch.limits.spool(5000);
    let exit = run(launch).await;
    let expected: String = (1..=2000).map(|n| format!("{n}\n")).collect();
    assert_eq!(place.output(), expected);
    assert!(!exit.outputs[0].truncated);
}

#[tokio::test]
async fn binary_output_and_endless_lines_are_only_bytes() {
    let place = Place::new();
    let mut launch = place.sh("head -c 3000000 /dev/urandom");
    launch.limits = launch.limits.spool(1000);
    let exit = run(launch).await;
    assert_eq!((exit.outcome, exit.outputs[0].bytes), (Outcome::Exited { code: 0 }, 3_000_000));
}

#[tokio::test]
async fn the_deadline_ends_a_tree_without_any_worker() {
    let place = Place::new();
    let mut launch = place.sh("trap '' TERM; sleep 1000 & setsid sleep 1000 & wait");
    launch.deadline = Some(SHORT);
    let nonce = launch.nonce.clone();
    drop(start(launch).await);

    until("the deadline", || place.attempt().join("result.json").exists()).await;

    assert_eq!(place.alive(), Vec::<String>::new());
    let found = supervisor::adopt(&place.attempt(), &nonce).await.unwrap();
    assert!(matches!(&found, Adopted::Finished(exit) if exit.outcome == Outcome::DeadlinePassed && exit.killed));
}

#[tokio::test]
async fn extending_moves_the_deadline_and_never_back() {
    let place = Place::new();
    let mut launch = place.sh("sleep 1; echo survived");
    launch.deadline = Some(SHORT);
    let supervised = start(launch).await;
    supervised.extend(Duration::from_secs(60)).await.unwrap();
    supervised.extend(Duration::ZERO).await.unwrap();
    assert_eq!(supervised.wait().await.unwrap().outcome, Outcome::Exited { code: 0 });
    assert_eq!(place.output(), "survived\n");
}

#[tokio::test]
async fn a_tree_without_a_worker_ends_when_it_was_told_so() {
    let place = Place::new();
    let mut launch = place.sh("sleep 1000");
    launch.after_disconnect = Some(SHORT);
    let nonce = launch.nonce.clone();
    let supervised = start(launch).await;
    tokio::time::sleep(SHORT * 3).await;
    assert!(!supervised.report().await.unwrap().stopping, "it ended although its worker is connected");

    drop(supervised);
    until("the end", || place.attempt().join("result.json").exists()).await;

    let found = supervisor::adopt(&place.attempt(), &nonce).await.unwrap();
    assert!(matches!(&found, Adopted::Finished(exit) if exit.outcome == Outcome::ControllerLost), "{found:?}");
}

#[tokio::test]
async fn output_is_followed_while_it_is_written() {
    let place = Place::new();
    let supervised = start(place.sh("echo one; sleep 0.3; echo two; sleep 0.3; printf three")).await;
    let mut follower = engines::spool::follow(place.attempt(), Stream::Output, 2);
    let mut pieces = Vec::new();
    while let Some(chunk) = follower.next().await.unwrap() {
        pieces.push(String::from_utf8(chunk.bytes).unwrap());
    }
    assert_eq!(pieces, ["e\n", "two\n", "three"]);
    assert_eq!(follower.offset(), 13);
    supervised.wait().await.unwrap();
    assert_eq!(engines::spool::tail(&place.attempt(), Stream::Output, 5).unwrap().bytes, b"three");
}

#[tokio::test]
async fn what_a_tree_prints_is_safe_to_show_before_it_is_kept() {
    let place = Place::new();
    let key = "sk-test-0123456789abcdefghij";
    // The colour in the middle of the key is gone before the key is looked for.
    let script = format!(
        "printf '\\033[31mred\\033[0m \\342\\200\\256bidi\\n'; printf 'key {key}\\n'; printf 'sk-test-0123\\033[1m456789abcdefghij\\n'; \
         printf '{key}' | base64; printf '{key}' | od -An -tx1 | tr -d ' \\n'; printf '\\nsk-te'; sleep 0.1; \
         printf 'st-0123456789abcdefghij end\\n'"
    );
    let mut launch = place.sh(&script);
    launch.secrets = vec![key.to_owned()];

    let exit = run(launch).await;

    let output = place.output();
    let shown = output.lines().collect::<Vec<_>>();
    assert_eq!(shown[..3], ["red bidi", "key [redacted]", "[redacted]"], "{output}");
    assert_eq!((output.matches("[redacted]").count(), output.ends_with("[redacted] end\n")), (5, true), "{output}");
    assert!(exit.outputs[0].bytes > exit.outputs[0].kept, "what was written is counted as it was written");
    assert!(!exit.outputs[0].truncated);
}

#[tokio::test]
async fn time_that_a_tree_waits_for_people_is_not_its_own() {
    let place = Place::new();
    let mut launch = place.sh("sleep 1000");
    launch.limits = launch.limits.idle(Duration::from_secs(2));
    let supervised = start(launch).await;
    supervised.hold(true).await.unwrap();
    // Well past the idle limit it still runs: nothing but the hold keeps it.
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert!(!supervised.report().await.unwrap().stopping);

    supervised.hold(false).await.unwrap();

    let exit = supervised.wait().await.unwrap();
    assert_eq!(exit.outcome, Outcome::TimedOut { limit: TimeLimit::Idle });
}
