//! What a tree is given, and what is said when it cannot be started.

use crate::machine::{Place, binary, run, start, strongest_here, until};
use engines::exit::{LaunchFailureKind, Outcome};
use engines::spec::{Isolation, Stream};
use engines::supervisor::{self, Adopted, LaunchError};
use engines::{Containment, Launch};
use host::process::Status;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

#[tokio::test]
async fn a_tree_ends_with_its_programs_exit_code() {
    let place = Place::new();
    let exit = run(place.sh("echo out; echo err >&2; exit 7")).await;
    assert_eq!(exit.outcome, Outcome::Exited { code: 7 });
    assert_eq!(exit.status, Some(Status::Exited(7)));
    assert_eq!(place.output(), "out\nerr\n");
    assert!(exit.all_gone && !exit.killed && exit.started_at <= exit.ended_at);
    assert_eq!((exit.outputs[0].bytes, exit.outputs[0].truncated), (8, false));
    assert_eq!(exit.outputs[0].sha256, host::hash::sha256_hex(b"out\nerr\n"));
}

#[tokio::test]
async fn a_tree_ends_with_its_programs_signal() {
    let place = Place::new();
    assert_eq!(run(place.sh("kill -SEGV $$")).await.outcome, Outcome::Signaled { signal: 11 });
}

#[tokio::test]
async fn the_streams_are_kept_apart_when_asked() {
    let place = Place::new();
    let mut launch = place.sh("echo out; echo err >&2");
    launch.merge_stderr = false;
    let exit = run(launch).await;
    assert_eq!(
        exit.outputs.iter().map(|end| (end.stream, end.bytes)).collect::<Vec<_>>(),
        [(Stream::Stdout, 4), (Stream::Stderr, 4)]
    );
    assert_eq!((place.stream(Stream::Stdout), place.stream(Stream::Stderr)), ("out\n".into(), "err\n".into()));
}

#[tokio::test]
async fn the_environment_is_exactly_what_was_given() {
    let place = Place::new();
    let mut launch = place.argv(&["/usr/bin/env"]);
    launch.env = vec![("ONE".into(), "1".into()), ("TWO".into(), "a b\nc".into())];
    run(launch).await;
    assert_eq!(place.output(), "ONE=1\nTWO=a b\nc\n");
}

#[tokio::test]
async fn stdin_is_empty_and_there_is_no_terminal() {
    let place = Place::new();
    run(place.sh("cat; readlink /proc/self/fd/0; (: < /dev/tty) 2>/dev/null || echo no tty")).await;
    assert_eq!(place.output(), "/dev/null\nno tty\n");
}

#[tokio::test]
async fn nothing_else_is_open_and_new_files_are_private() {
    let place = Place::new();
    // `ls` opens the directory that it lists as 3.
    run(place.sh("ls /proc/self/fd | tr '\\n' ' '; umask; ulimit -c; touch file")).await;
    assert_eq!(place.output(), "0 1 2 3 0077\n0\n");
    let mode = std::fs::metadata(place.work().join("file")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[tokio::test]
async fn a_tree_gains_no_new_privileges() {
    let place = Place::new();
    run(place.sh("grep NoNewPrivs /proc/self/status")).await;
    assert_eq!(place.output(), "NoNewPrivs:\t1\n");
}

#[tokio::test]
async fn a_tree_leads_a_session_in_its_directory() {
    let place = Place::new();
    run(place.sh("pwd; set -- $(cat /proc/self/stat); [ \"$4\" = \"$6\" ] && echo leads")).await;
    let work = place.work().canonicalize().unwrap();
    assert_eq!(place.output(), format!("{}\nleads\n", work.display()));
}

#[tokio::test]
async fn inside_a_namespace_other_processes_are_out_of_sight() {
    let place = Place::new();
    let supervised = start(place.sh("ls -d /proc/[0-9]* | wc -l; head -c 9 /proc/1/cmdline; echo $$")).await;
    assert_eq!(supervised.containment(), strongest_here().await);
    supervised.wait().await.unwrap();
    if supervised.containment() != Containment::PidNamespace {
        return;
    }
    let output = place.output();
    let (seen, rest) = output.split_once('\n').unwrap();
    assert_eq!(rest, "pilothous2\n");
    assert!(seen.trim().parse::<u32>().unwrap() < 8, "saw {seen} processes");
}

#[tokio::test]
async fn when_memory_runs_out_the_tree_goes_before_its_supervisor() {
    for isolation in [Isolation::Strongest, Isolation::SharedProcesses] {
        let place = Place::new();
        let supervised = start(Launch { isolation, ..place.sh("cat /proc/self/oom_score_adj; sleep 1000") }).await;
        until("it told", || place.output().ends_with('\n')).await;
        let pid = supervised.report().await.unwrap().supervisor_pid;
        let holder: i32 =
            std::fs::read_to_string(format!("/proc/{pid}/oom_score_adj")).unwrap().trim().parse().unwrap();
        let tree: i32 = place.output().trim().parse().unwrap();
        assert!(tree > holder, "tree {tree}, supervisor {holder}");
        supervised.stop("done", Some(Duration::ZERO)).await.unwrap();
        supervised.wait().await.unwrap();
    }
}

#[tokio::test]
async fn the_nonce_and_the_environment_do_not_stay_on_disk() {
    let place = Place::new();
    let mut launch = place.sh("ls -A ../attempt; grep -rl 'very secret' .. || echo nothing found");
    launch.env.push(("TOKEN".into(), "very secret".into()));
    let nonce = launch.nonce.clone();
    run(launch).await;
    let output = place.output();
    assert!(output.ends_with("nothing found\n"), "{output}");
    assert!(!output.contains("supervise.json"), "{output}");
    until("the supervisor is gone", || !place.attempt().join("control.sock").exists()).await;
    for name in host::fs::list_names(&place.attempt()).unwrap() {
        let bytes = std::fs::read(place.attempt().join(&name)).unwrap();
        assert!(!String::from_utf8_lossy(&bytes).contains(&nonce), "{name} holds the nonce");
    }
}

#[tokio::test]
async fn a_missing_program_is_said_before_anything_runs() {
    for argv in [["no-such-program"], ["/no/such/program"], ["./none"]] {
        let place = Place::new();
        let launch = place.argv(&argv);
        let nonce = launch.nonce.clone();
        let error = supervisor::start(&binary(), launch).await.unwrap_err();
        assert!(
            matches!(&error, LaunchError::Program(failure) if failure.kind == LaunchFailureKind::ProgramNotFound),
            "{error}"
        );
        assert!(error.to_string().starts_with("there is no program"), "{error}");
        let found = supervisor::adopt(&place.attempt(), &nonce).await.unwrap();
        assert!(
            matches!(&found, Adopted::Finished(exit) if matches!(exit.outcome, Outcome::LaunchFailed(_))),
            "{found:?}"
        );
    }
}

#[tokio::test]
async fn a_name_without_a_slash_is_looked_up_in_the_path_given() {
    let place = Place::new();
    let tool = place.work().join("greet");
    std::fs::write(&tool, "#!/bin/sh\necho hello from $0\n").unwrap();
    std::fs::set_permissions(&tool, std::fs::Permissions::from_mode(0o755)).unwrap();
    let mut launch = place.argv(&["greet"]);
    launch.env = vec![("PATH".into(), place.work().to_str().unwrap().into())];
    assert_eq!(run(launch).await.outcome, Outcome::Exited { code: 0 });
    assert_eq!(place.output(), format!("hello from {}\n", tool.display()));
}

#[tokio::test]
async fn a_file_that_is_no_program_and_a_missing_directory_are_said() {
    let place = Place::new();
    let tool = place.work().join("broken");
    std::fs::write(&tool, "#!/no/such/interpreter\n").unwrap();
    std::fs::set_permissions(&tool, std::fs::Permissions::from_mode(0o755)).unwrap();
    let refused = supervisor::start(&binary(), place.argv(&["./broken"])).await.unwrap_err();
    assert!(
        matches!(&refused, LaunchError::Program(failure) if failure.kind == LaunchFailureKind::ProgramRefused),
        "{refused}"
    );

    let place = Place::new();
    let mut launch = place.sh("true");
    launch.cwd = place.work().join("none");
    let missing = supervisor::start(&binary(), launch).await.unwrap_err();
    assert!(
        matches!(&missing, LaunchError::Program(failure) if failure.kind == LaunchFailureKind::DirectoryNotFound),
        "{missing}"
    );
}

#[tokio::test]
async fn a_directory_holds_one_attempt() {
    let place = Place::new();
    run(place.sh("true")).await;
    let error = supervisor::start(&binary(), place.sh("true")).await.unwrap_err();
    assert!(matches!(error, LaunchError::Taken { .. }), "{error}");
}

#[tokio::test]
async fn a_binary_that_does_not_supervise_is_said_with_what_it_said() {
    let place = Place::new();
    let error = supervisor::start("/bin/ls".as_ref(), place.sh("true")).await.unwrap_err();
    assert!(matches!(&error, LaunchError::Died { log } if log.contains("supervise")), "{error}");
    assert!(!place.attempt().join("supervise.json").exists());
}

#[tokio::test]
async fn a_spec_that_others_can_read_or_of_another_version_is_refused() {
    let place = Place::new();
    std::fs::create_dir(place.attempt()).unwrap();
    let spec = place.attempt().join("supervise.json");
    for (mode, text, said) in [
        (0o644, "{}", "can be read by others"),
        (0o600, r#"{"version": 99}"#, "version 99"),
        (0o600, "[", "understood"),
    ] {
        std::fs::write(&spec, text).unwrap();
        std::fs::set_permissions(&spec, std::fs::Permissions::from_mode(mode)).unwrap();
        let command = host::process::Command::new(binary()).arg("supervise").arg(&spec);
        let output = host::process::run(command).await.unwrap();
        assert_eq!(output.status, Status::Exited(1));
        assert!(String::from_utf8_lossy(&output.stderr).contains(said), "{output:?}");
    }
}

#[tokio::test]
async fn only_the_first_process_of_a_namespace_can_be_one() {
    let command = host::process::Command::new(binary()).args(["supervise", "--init", "/bin/true", "true"]);
    assert_eq!(host::process::run(command).await.unwrap().status, Status::Exited(2));
}
