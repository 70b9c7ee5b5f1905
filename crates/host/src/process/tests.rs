use super::*;
use std::time::Instant;

fn sh(script: &str) -> Command {
    Command::new("sh").arg("-c").arg(script).env("PATH", DEFAULT_PATH)
}

#[tokio::test]
async fn a_process_gives_its_status_and_both_outputs() {
    let output = run(sh("echo out; echo err >&2; exit 3")).await.unwrap();
    let expected =
        Output { status: Status::Exited(3), stdout: b"out\n".to_vec(), stderr: b"err\n".to_vec(), truncated: false };
    assert_eq!(output, expected);
}

#[tokio::test]
async fn the_environment_is_exactly_what_was_given() {
    let output = run(Command::new("/usr/bin/env").env("ONE", "1").env("TWO", "2")).await.unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "ONE=1\nTWO=2\n");
}

#[tokio::test]
async fn stdin_is_what_was_given_or_nothing() {
    let large = vec![b'x'; 300_000];
    assert_eq!(run(sh("cat").stdin(large.clone())).await.unwrap().stdout, large);
    assert_eq!(run(sh("cat")).await.unwrap().stdout, b"");
    assert_eq!(run(sh("true").stdin(large)).await.unwrap().status, Status::Exited(0));
}

#[tokio::test]
async fn a_missing_program_is_an_error_of_its_own() {
    let missing = run(Command::new("no-such-program-here")).await.unwrap_err();
    assert!(matches!(missing, ProcessError::NotFound { .. }), "{missing}");
    let missing = run(Command::new("/no/such/program")).await.unwrap_err();
    assert!(matches!(missing, ProcessError::NotFound { .. }), "{missing}");
}

#[tokio::test]
async fn output_beyond_the_limit_is_dropped_and_said_so() {
    let output = run(sh("head -c 5000000 /dev/zero").output_limit(1000)).await.unwrap();
    assert_eq!((output.stdout.len(), output.truncated, output.status), (1000, true, Status::Exited(0)));
}

#[tokio::test]
async fn a_process_out_of_time_is_killed_with_its_group() {
    let dir = tempfile::tempdir().unwrap();
    let started = Instant::now();
    let script = "sleep 60 & echo $! > pid; wait";

    let error = run(sh(script).cwd(dir.path()).timeout(Duration::from_millis(300))).await.unwrap_err();

    assert!(matches!(error, ProcessError::TimedOut { .. }), "{error}");
    assert!(started.elapsed() < Duration::from_secs(10));
    assert_gone(dir.path()).await;
}

#[tokio::test]
async fn a_dropped_run_leaves_nothing_behind() {
    let dir = tempfile::tempdir().unwrap();
    let running = tokio::spawn(run(sh("sleep 60 & echo $! > pid; wait").cwd(dir.path())));
    while !dir.path().join("pid").exists() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }

    running.abort();
    let _ = running.await;

    assert_gone(dir.path()).await;
}

#[tokio::test]
async fn what_a_process_leaves_in_its_group_does_not_hold_up_its_end() {
    let started = Instant::now();
    let output = run(sh("sleep 60 & echo done")).await.unwrap();
    assert_eq!(output.stdout, b"done\n");
    assert!(started.elapsed() < Duration::from_secs(10));
}

#[tokio::test]
async fn a_process_that_closed_its_outputs_is_still_waited_for() {
    let output = run(sh("exec >&- 2>&-; sleep 0.1; exit 7")).await.unwrap();
    assert_eq!(output.status, Status::Exited(7));
}

async fn assert_gone(dir: &Path) {
    let pid = std::fs::read_to_string(dir.join("pid")).unwrap();
    let alive = || {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
        !stat.is_empty() && !stat.contains(") Z ")
    };
    let started = Instant::now();
    while alive() {
        assert!(started.elapsed() < Duration::from_secs(5), "process {pid} is still alive");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
