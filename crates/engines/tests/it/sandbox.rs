//! What a sandbox lets through, what it keeps within limits, and when it refuses.

use crate::machine::{PATH, Place, binary, run, start};
use engines::exit::{Limited, Outcome};
use engines::sandbox::{self, Means};
use engines::supervisor::{self, LaunchError};
use engines::{Containment, Exit, Launch, Network, Profile, Sandbox};
use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::PathBuf;
use std::time::Duration;

fn home(place: &Place) -> PathBuf {
    let home = place.attempt().with_file_name("home");
    std::fs::create_dir_all(&home).unwrap();
    home
}

async fn means() -> [Option<PathBuf>; 2] {
    [Some(sandbox::find_bubblewrap().await.unwrap().program), None]
}

fn boxed(place: &Place, script: &str, profile: Profile, means: &Option<PathBuf>) -> Launch {
    let mut launch = place.sh(script);
    let mut sandbox = Sandbox::new(profile, home(place));
    sandbox.bubblewrap.clone_from(means);
    launch.sandbox = Some(sandbox);
    launch
}

async fn ran(place: &Place, launch: Launch) -> (Exit, String) {
    let exit = run(launch).await;
    (exit, place.output())
}

#[tokio::test]
async fn a_workspace_is_worked_in_and_what_it_is_recorded() {
    for means in means().await {
        let place = Place::new();
        let script = "echo made > made && mkdir -p src && echo x > src/x && echo kept > $HOME/kept && echo t > /tmp/t \
                      && cat /tmp/t && echo > /dev/null && cat < /dev/null && test -d /proc/1 && exit 7";
        let mut launch = boxed(&place, script, Profile::Workspace, &means);
        launch.env.push(("HOME".into(), home(&place).to_string_lossy().into_owned()));

        let (exit, output) = ran(&place, launch).await;

        assert_eq!(exit.outcome, Outcome::Exited { code: 7 }, "{output}");
        let confined = exit.sandbox.unwrap();
        assert_eq!(confined.profile, Profile::Workspace);
        assert_eq!(confined.means, if means.is_some() { Means::Bubblewrap } else { Means::Landlock });
        assert_eq!(exit.containment, Containment::PidNamespace);
        let read = |path: PathBuf| std::fs::read_to_string(path).unwrap();
        assert_eq!(read(place.work().join("made")), "made\n");
        assert_eq!(read(home(&place).join("kept")), "kept\n");
        assert!(!std::path::Path::new("/tmp/t").exists());
    }
}

#[tokio::test]
async fn what_is_writable_in_a_readable_directory_is_writable_and_nothing_beside_it() {
    for means in means().await {
        let place = Place::new();
        let shown = home(&place).with_file_name("shown");
        std::fs::create_dir_all(shown.join("written")).unwrap();
        let script = "cd ../shown && echo x > written/x && ! echo y 2>/dev/null > y && ls";
        let mut launch = boxed(&place, script, Profile::Workspace, &means);
        let sandbox = launch.sandbox.as_mut().unwrap();
        sandbox.readable.push(shown.clone());
        sandbox.writable.push(shown.join("written"));
        launch.cwd = home(&place);

        let (exit, output) = ran(&place, launch).await;

        assert_eq!((exit.outcome, output.trim()), (Outcome::Exited { code: 0 }, "written"));
        assert_eq!(std::fs::read_to_string(shown.join("written/x")).unwrap(), "x\n");
    }
}

/// Some agents run each command of theirs in a terminal.
#[tokio::test]
async fn a_terminal_can_be_opened_and_none_of_the_machines_is_there() {
    for means in means().await {
        let place = Place::new();
        let script = "ls /dev/pts && script -qec 'test -t 0 && echo in a terminal' /dev/null < /dev/null";
        let (exit, output) = ran(&place, boxed(&place, script, Profile::Workspace, &means)).await;

        assert_eq!(exit.outcome, Outcome::Exited { code: 0 }, "{output}");
        assert_eq!(output.split_whitespace().collect::<Vec<_>>(), ["ptmx", "in", "a", "terminal"], "{output:?}");
    }
}

#[tokio::test]
async fn nothing_of_the_masks_stays_in_the_worktree() {
    for profile in Profile::ALL {
        for means in means().await {
            let place = Place::new();
            std::fs::create_dir(place.work().join(".claude")).unwrap();
            std::fs::write(place.work().join(".claude/settings.json"), "{}").unwrap();

            let (exit, output) = ran(&place, boxed(&place, "ls -A . .claude", profile, &means)).await;

            assert_eq!(exit.outcome, Outcome::Exited { code: 0 }, "{output}");
            assert!(!output.contains("settings.json") && output.contains(".codex"), "{output}");
            let left: Vec<_> =
                std::fs::read_dir(place.work()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
            assert_eq!(left, [".claude"]);
            assert_eq!(std::fs::read_to_string(place.work().join(".claude/settings.json")).unwrap(), "{}");
        }
    }
}

#[tokio::test]
async fn an_endpoint_is_reached_and_nothing_beside_it() {
    for means in means().await {
        let place = Place::new();
        let open = TcpListener::bind("127.0.0.1:0").unwrap();
        let closed = TcpListener::bind("127.0.0.1:0").unwrap();
        let (address, other) = (open.local_addr().unwrap(), closed.local_addr().unwrap());
        let server = std::thread::spawn(move || {
            for _ in 0..3 {
                let (mut stream, _) = open.accept().unwrap();
                let mut asked = [0; 6];
                stream.read_exact(&mut asked).unwrap();
                stream.write_all(b"answered\n").unwrap();
            }
        });
        let reach = binary().display().to_string();
        let script = format!(
            "for i in 1 2 3; do {reach} reach tcp {address} hello || exit 1; done; {reach} reach tcp {other} hello && exit 2; \
             exit 0"
        );
        let mut launch = boxed(&place, &script, Profile::Workspace, &means);
        let sandbox = launch.sandbox.as_mut().unwrap();
        sandbox.network = Network::Endpoints(vec![address]);
        sandbox.readable = vec![binary()];

        let (exit, output) = ran(&place, launch).await;

        assert_eq!(exit.outcome, Outcome::Exited { code: 0 }, "{output}");
        assert_eq!(output, "answered\n".repeat(3));
        assert!(exit.all_gone);
        server.join().unwrap();
    }
}

#[tokio::test]
async fn an_open_network_is_the_machines() {
    for means in means().await {
        let place = Place::new();
        let server = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = server.local_addr().unwrap();
        let answered = std::thread::spawn(move || {
            let mut stream = server.accept().unwrap().0;
            stream.read_exact(&mut [0; 6]).unwrap();
            stream.write_all(b"answered\n").unwrap();
        });
        let script = format!("{} reach tcp {address}", binary().display());
        let mut launch = boxed(&place, &script, Profile::ReadOnly, &means);
        let sandbox = launch.sandbox.as_mut().unwrap();
        sandbox.network = Network::Open;
        sandbox.readable = vec![binary()];
        let (_, output) = ran(&place, launch).await;
        assert_eq!(output, "answered\n");
        answered.join().unwrap();
    }
}

#[tokio::test]
async fn an_endpoint_of_another_machine_is_refused() {
    let place = Place::new();
    let mut launch = boxed(&place, "true", Profile::Workspace, &None);
    launch.sandbox.as_mut().unwrap().network = Network::Endpoints(vec!["192.0.2.1:443".parse().unwrap()]);
    assert!(refused(launch).await.contains("192.0.2.1:443"));
}

#[tokio::test]
async fn a_bubblewrap_that_does_not_work_is_a_refusal_and_nothing_runs() {
    let place = Place::new();
    let broken = place.work().join("bwrap");
    std::fs::write(&broken, "#!/bin/sh\necho no permission >&2\nexit 1\n").unwrap();
    std::fs::set_permissions(&broken, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let launch = boxed(&place, "echo ran > ran", Profile::Workspace, &Some(broken));

    let message = refused(launch).await;

    assert!(message.contains("no permission"), "{message}");
    assert!(!place.work().join("ran").exists());
    let result = engines::exit::FILE;
    assert!(place.attempt().join(result).exists(), "a refusal is a result");
}

async fn refused(launch: Launch) -> String {
    match supervisor::start(&binary(), launch).await {
        Err(LaunchError::Program(failure)) => {
            assert_eq!(failure.kind, engines::exit::LaunchFailureKind::SandboxUnavailable, "{failure}");
            failure.message
        }
        other => panic!("it was not refused: {other:?}"),
    }
}

#[tokio::test]
async fn a_program_that_is_missing_inside_is_said_to_be_missing() {
    let place = Place::new();
    let launch = boxed(&place, "", Profile::Workspace, &means().await[0]);
    let launch = Launch { argv: vec!["no-such-program".into()], ..launch };
    let Err(LaunchError::Program(failure)) = supervisor::start(&binary(), launch).await else { panic!("it started") };
    assert_eq!(failure.kind, engines::exit::LaunchFailureKind::ProgramNotFound);
}

#[tokio::test]
async fn a_tree_cannot_have_more_processes_than_allowed() {
    for sandboxed in [true, false] {
        let place = Place::new();
        // Each child says so once it runs; the shell itself says when it may not make one.
        let script = "i=0; while [ $i -lt 60 ]; do (echo child; exec sleep 1000) & i=$((i+1)); done; sleep 1; echo end";
        let mut launch =
            if sandboxed { boxed(&place, script, Profile::Workspace, &means().await[0]) } else { place.sh(script) };
        launch.limits = launch.limits.processes(20).wall(Duration::from_secs(20)).kill_grace(Duration::ZERO);

        let (exit, output) = ran(&place, launch).await;

        let children = output.lines().filter(|line| *line == "child").count();
        assert!((1..20).contains(&children), "{children} children: {output} {exit:?}");
        assert!(exit.limited.is_some() && exit.all_gone);
        assert_eq!(place.alive(), Vec::<String>::new());
    }
}

#[tokio::test]
async fn a_tree_cannot_hold_more_memory_than_allowed() {
    // A string is doubled until it would take two gigabytes.
    let script =
        "awk 'BEGIN { s = \"0123456789abcdef\"; while (length(s) < 2000000000) s = s s; print \"held\" }'; echo end";
    for limited in [true, false] {
        let place = Place::new();
        let mut launch = boxed(&place, script, Profile::Workspace, &means().await[0]);
        launch.limits = launch.limits.wall(Duration::from_secs(60));
        if limited {
            launch.limits = launch.limits.memory(100 << 20);
        } else if free_memory() < 5 << 30 {
            eprintln!("there is not enough memory here to show that without a limit it would be held");
            continue;
        }

        let (exit, output) = ran(&place, launch).await;

        assert_eq!(output.contains("held"), !limited, "{output} {exit:?}");
        if matches!(exit.limited, Some(Limited::CgroupV1 | Limited::CgroupV2)) {
            assert!(exit.out_of_memory, "{exit:?}");
        }
    }
}

fn free_memory() -> u64 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

const ESCAPE: &str = "
    setsid sleep 1000 &
    (setsid sh -c 'sleep 1000 & sleep 1000' &)
    sh -c 'trap \"\" TERM HUP INT; while :; do sleep 1; done' &
    setsid sh -c 'kill -STOP $$' &
    nohup setsid sh -c '(sh -c \"exec sleep 1000\" &)' > /dev/null 2>&1 &
";

#[tokio::test]
async fn nothing_escapes_from_a_sandbox_by_outliving_it() {
    for means in means().await {
        for _ in 0..10 {
            let place = Place::new();
            let mut launch = boxed(&place, &format!("{ESCAPE} echo ready; wait"), Profile::Workspace, &means);
            launch.limits = launch.limits.kill_grace(Duration::from_millis(20));
            let supervised = start(launch).await;
            crate::machine::until("everybody escaped", || place.alive().len() >= 6).await;

            let asked = host::clock::monotonic();
            supervised.stop("the test is over", Some(Duration::ZERO)).await.unwrap();
            let exit = supervised.wait().await.unwrap();

            assert!(exit.all_gone);
            assert_eq!(place.alive(), Vec::<String>::new());
            assert!(crate::machine::elapsed(asked) < Duration::from_secs(5));
        }
    }
}

#[tokio::test]
async fn a_killed_supervisor_takes_its_sandbox_with_it() {
    for means in means().await {
        let place = Place::new();
        let supervised = start(boxed(&place, &format!("{ESCAPE} wait"), Profile::Workspace, &means)).await;
        crate::machine::until("everybody escaped", || place.alive().len() >= 6).await;
        let pid = supervised.report().await.unwrap().supervisor_pid;

        crate::containment::kill(pid).await;

        crate::machine::until("nothing is left", || place.alive().is_empty()).await;
    }
}

#[tokio::test]
async fn a_program_in_a_sandbox_may_end_by_itself() {
    for means in means().await {
        let place = Place::new();
        let script = "trap 'echo cleaned up; exit 5' TERM; echo ready; while :; do sleep 0.02; done";
        let supervised = start(boxed(&place, script, Profile::ReadOnly, &means)).await;
        crate::machine::until("it is ready", || place.output() == "ready\n").await;
        supervised.stop("be nice", None).await.unwrap();
        let exit = supervised.wait().await.unwrap();
        assert!(place.output().ends_with("cleaned up\n"), "{}", place.output());
        assert_eq!((exit.status, exit.killed), (Some(host::process::Status::Exited(5)), false));
    }
}

#[tokio::test]
async fn nothing_of_the_launcher_is_open_inside() {
    for means in means().await {
        let place = Place::new();
        let (_, output) = ran(&place, boxed(&place, "ls /proc/self/fd | tr '\\n' ' '", Profile::Full, &means)).await;
        // The last of them is the directory that is being listed.
        assert_eq!(output, "0 1 2 3 ");
    }
}

#[tokio::test]
async fn who_is_not_root_has_a_sandbox_too() {
    if host::process::effective_uid() != 0 {
        // Then every other test here is this one.
        return;
    }
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let script = dir.path().join("as-nobody");
    let program = dir.path().join("supervise");
    std::fs::copy(binary(), &program).unwrap();
    for path in [dir.path(), &program] {
        std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
    }
    for means in means().await {
        for (name, text) in [("data/admin.token", "canary"), ("data/work/README.md", "read me")] {
            std::fs::create_dir_all(dir.path().join(name).parent().unwrap()).unwrap();
            std::fs::write(dir.path().join(name), text).unwrap();
        }
        let attempt = dir.path().join("data/attempt");
        std::fs::create_dir_all(attempt.join("home")).unwrap();
        let mut sandbox = Sandbox::new(Profile::Workspace, attempt.join("home"));
        sandbox.hidden = vec![dir.path().join("data")];
        sandbox.bubblewrap.clone_from(&means);
        let spec = serde_json::json!({
            "version": engines::spec::VERSION, "nonce": "nonce",
            "argv": ["sh", "-c", "cat ../admin.token; id -u; echo made > made; mkdir .codex; kill -0 1; echo end"],
            "cwd": dir.path().join("data/work"), "env": [["PATH", PATH]],
            "limits": engines::spec::Limits::default().processes(30),
            "deadline_boot_ms": null, "after_disconnect_ms": null, "merge_stderr": true, "isolation": "strongest",
            "sandbox": sandbox,
        });
        std::fs::write(attempt.join("supervise.json"), spec.to_string()).unwrap();
        std::fs::write(
            &script,
            format!(
                "set -e\nchown -R nobody {0}/data\nchmod 600 {0}/data/attempt/supervise.json\n\
                 exec setpriv --reuid=65534 --regid=65534 --clear-groups {0}/supervise supervise {0}/data/attempt/supervise.json\n",
                dir.path().display()
            ),
        )
        .unwrap();
        let command = host::process::Command::new("sh").arg(&script).env("PATH", PATH);
        let output = host::process::run(command).await.unwrap();
        let said = std::fs::read_to_string(attempt.join("output")).unwrap_or_default();
        let started = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(started.contains("ready"), "{means:?}: {started} {}", String::from_utf8_lossy(&output.stderr));
        assert!(said.contains("65534\n") && said.contains("end\n") && !said.contains("canary"), "{means:?}: {said}");
        assert_eq!(std::fs::read_to_string(dir.path().join("data/work/made")).unwrap(), "made\n");
        std::fs::remove_dir_all(dir.path().join("data")).unwrap();
    }
}
