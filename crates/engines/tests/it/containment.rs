//! Nothing of a tree lives on, whatever it did to escape.

use crate::machine::{Place, elapsed, run, start, strongest_here, until};
use engines::exit::Outcome;
use engines::spec::Isolation;
use engines::{Containment, Launch};
use host::process::Status;
use std::time::Duration;

/// Ten processes that leave their parent, their group, their session, or will not listen.
const ESCAPE: &str = "
    sleep 1000 &
    setsid sleep 1000 &
    (sleep 1000 &)
    setsid sh -c '(setsid sleep 1000 &) ; exec sleep 1000' &
    sh -c 'trap \"\" TERM HUP INT; sleep 1000 & while :; do wait; done' &
    setsid sh -c 'kill -STOP $$' &
    nohup setsid sh -c '(sh -c \"sleep 1000 & sleep 1000\" &)' > /dev/null 2>&1 &
";

const N_ESCAPED: usize = 9;

async fn escaped(place: &Place, launch: Launch, isolation: Isolation) -> engines::Supervised {
    let supervised = start(Launch { isolation, ..launch }).await;
    until("everybody escaped", || place.alive().len() >= N_ESCAPED).await;
    supervised
}

async fn thirty_stops_leave_nothing(isolation: Isolation, containment: Containment) {
    for _ in 0..30 {
        let place = Place::new();
        let mut launch = place.sh(&format!("{ESCAPE} wait"));
        launch.limits.kill_grace_ms = 50;
        let supervised = escaped(&place, launch, isolation).await;
        assert_eq!(supervised.containment(), containment);

        supervised.stop("the test is over", None).await.unwrap();
        let exit = supervised.wait().await.unwrap();

        assert_eq!(place.alive(), Vec::<String>::new());
        assert_eq!(exit.outcome, Outcome::Stopped { reason: "the test is over".into() });
        assert!(exit.all_gone);
    }
}

#[tokio::test]
async fn a_stop_leaves_nothing_of_the_strongest_containment() {
    thirty_stops_leave_nothing(Isolation::Strongest, strongest_here().await).await;
}

/// A control group where one can be made, and the weakest there is otherwise.
async fn without_namespace() -> Containment {
    let place = Place::new();
    let containment = run(Launch { isolation: Isolation::SharedProcesses, ..place.sh("true") }).await.containment;
    assert_ne!(containment, Containment::PidNamespace);
    containment
}

#[tokio::test]
async fn a_stop_leaves_nothing_of_a_tree_without_a_namespace() {
    thirty_stops_leave_nothing(Isolation::SharedProcesses, without_namespace().await).await;
}

#[tokio::test]
async fn a_program_that_ends_takes_its_tree_with_it() {
    for isolation in [Isolation::Strongest, Isolation::SharedProcesses] {
        let place = Place::new();
        let launch = place.sh(&format!("{ESCAPE} while [ ! -e go ]; do sleep 0.02; done; exit 3"));
        let supervised = escaped(&place, launch, isolation).await;
        std::fs::write(place.work().join("go"), "").unwrap();

        let exit = supervised.wait().await.unwrap();

        assert_eq!(place.alive(), Vec::<String>::new());
        assert_eq!((exit.outcome, exit.killed, exit.all_gone), (Outcome::Exited { code: 3 }, false, true));
    }
}

#[tokio::test]
async fn a_fork_bomb_ends() {
    for isolation in [Isolation::Strongest, Isolation::SharedProcesses] {
        let place = Place::new();
        // Bounded, so that a failing test does not take the machine down: each generation starts two more, four deep.
        let script = "bomb() { [ $1 -gt 0 ] && { bomb $(($1 - 1)) & bomb $(($1 - 1)) & }; sleep 1000; }; bomb 5";
        let supervised = start(Launch { isolation, ..place.sh(script) }).await;
        until("it spread", || place.alive().len() > 30).await;

        supervised.stop("enough", Some(Duration::ZERO)).await.unwrap();

        assert!(supervised.wait().await.unwrap().all_gone);
        assert_eq!(place.alive(), Vec::<String>::new());
    }
}

#[tokio::test]
async fn sigterm_gives_a_program_time_to_end_by_itself() {
    for isolation in [Isolation::Strongest, Isolation::SharedProcesses] {
        let place = Place::new();
        let script = "trap 'echo cleaned up; exit 5' TERM; echo ready; while :; do sleep 0.02; done";
        let supervised = start(Launch { isolation, ..place.sh(script) }).await;
        until("it is ready", || place.output() == "ready\n").await;

        supervised.stop("be nice", None).await.unwrap();
        let exit = supervised.wait().await.unwrap();

        // The shell may say besides that its own child was terminated.
        assert!(place.output().ends_with("cleaned up\n"), "{}", place.output());
        assert_eq!((exit.status, exit.killed), (Some(Status::Exited(5)), false));
        assert_eq!(exit.outcome, Outcome::Stopped { reason: "be nice".into() });
    }
}

#[tokio::test]
async fn a_program_that_ignores_sigterm_is_killed_after_its_grace() {
    for isolation in [Isolation::Strongest, Isolation::SharedProcesses] {
        let place = Place::new();
        let supervised =
            start(Launch { isolation, ..place.sh("trap '' TERM; echo ready; while :; do sleep 0.02; done") }).await;
        until("it is ready", || place.output() == "ready\n").await;
        let begun = host::clock::monotonic();

        supervised.stop("now", Some(Duration::from_millis(400))).await.unwrap();
        let exit = supervised.wait().await.unwrap();

        assert!(elapsed(begun) >= Duration::from_millis(400), "no grace was given");
        assert!(exit.killed);
        assert_eq!(place.alive(), Vec::<String>::new());
    }
}

#[tokio::test]
async fn a_second_stop_may_shorten_the_grace_but_not_change_the_reason() {
    let place = Place::new();
    let mut launch = place.sh("trap '' TERM; echo ready; while :; do sleep 0.02; done");
    launch.limits.kill_grace_ms = 600_000;
    let supervised = start(launch).await;
    until("it is ready", || place.output() == "ready\n").await;
    supervised.stop("first", None).await.unwrap();
    assert!(supervised.report().await.unwrap().stopping);
    supervised.stop("second", Some(Duration::ZERO)).await.unwrap();
    assert_eq!(supervised.wait().await.unwrap().outcome, Outcome::Stopped { reason: "first".into() });
    supervised.stop("third", None).await.unwrap();
}

#[tokio::test]
async fn a_program_that_stops_itself_is_ended_all_the_same() {
    for isolation in [Isolation::Strongest, Isolation::SharedProcesses] {
        let place = Place::new();
        let mut launch = place.sh("kill -STOP $$; echo never");
        launch.limits = launch.limits.wall(Duration::from_millis(200)).kill_grace(Duration::from_millis(100));
        let exit = run(Launch { isolation, ..launch }).await;
        assert!(matches!(exit.outcome, Outcome::TimedOut { .. }), "{exit:?}");
        assert_eq!(place.alive(), Vec::<String>::new());
    }
}

#[tokio::test]
async fn a_killed_supervisor_takes_its_namespace_with_it() {
    if strongest_here().await != Containment::PidNamespace {
        return;
    }
    let place = Place::new();
    let supervised = escaped(&place, place.sh(&format!("{ESCAPE} wait")), Isolation::Strongest).await;
    let pid = supervised.report().await.unwrap().supervisor_pid;

    kill(pid).await;

    until("nothing is left", || place.alive().is_empty()).await;
    let error = supervised.wait().await.unwrap_err();
    assert!(matches!(error, engines::supervisor::SupervisorError::Lost), "{error}");
}

pub(crate) async fn kill(pid: u32) {
    let command = host::process::Command::new("/bin/kill").args(["-KILL".to_owned(), pid.to_string()]);
    assert!(host::process::run(command).await.unwrap().status.success());
}
