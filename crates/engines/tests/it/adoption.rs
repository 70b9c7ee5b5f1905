//! A worker that comes back finds its trees again, and nobody else does.

use crate::containment::kill;
use crate::machine::{Place, run, start, until};
use engines::exit::Outcome;
use engines::supervisor::{self, Adopted, SupervisorError};
use std::os::unix::net::UnixListener;
use std::time::Duration;

#[tokio::test]
async fn a_running_tree_is_adopted_and_goes_on() {
    let place = Place::new();
    let mut launch = place.sh("while [ ! -e go ]; do sleep 0.02; done; echo went on; exit 4");
    launch.deadline = Some(Duration::from_secs(60));
    let nonce = launch.nonce.clone();
    let first = start(launch).await;
    let started_at = first.started_at();
    drop(first);

    let Adopted::Running(adopted) = supervisor::adopt(&place.attempt(), &nonce).await.unwrap() else {
        panic!("it runs");
    };
    adopted.extend(Duration::from_secs(60)).await.unwrap();
    std::fs::write(place.work().join("go"), "").unwrap();

    assert_eq!(adopted.started_at(), started_at);
    assert_eq!(adopted.wait().await.unwrap().outcome, Outcome::Exited { code: 4 });
    assert_eq!(place.output(), "went on\n");
}

#[tokio::test]
async fn whoever_does_not_know_the_nonce_gets_nothing() {
    let place = Place::new();
    let supervised = start(place.sh("sleep 1000")).await;

    let refused = supervisor::adopt(&place.attempt(), "wrong").await.unwrap_err();

    assert!(matches!(refused, SupervisorError::NotOurs), "{refused}");
    assert!(!supervised.report().await.unwrap().stopping);
    supervised.stop("done", Some(Duration::ZERO)).await.unwrap();
    supervised.wait().await.unwrap();
    let refused = supervisor::adopt(&place.attempt(), "wrong").await.unwrap_err();
    assert!(matches!(refused, SupervisorError::NotOurs), "{refused}");
}

#[tokio::test]
async fn a_request_without_a_proof_is_refused() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let place = Place::new();
    let supervised = start(place.sh("sleep 1000")).await;
    for line in ["{\"stop\":{\"reason\":\"x\",\"grace_ms\":0}}\n", "\"status\"\n", "garbage\n", "\0\n"] {
        let mut stream = host::net::connect_in(&place.attempt(), "control.sock").await.unwrap();
        stream.write_all(line.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("{\"refused\""), "{line:?} was answered {answer:?}");
    }
    let mut endless = host::net::connect_in(&place.attempt(), "control.sock").await.unwrap();
    let _ = endless.write_all(&vec![b'x'; 1 << 20]).await;
    assert!(!supervised.report().await.unwrap().stopping);
    supervised.stop("done", Some(Duration::ZERO)).await.unwrap();
    supervised.wait().await.unwrap();
}

#[tokio::test]
async fn strangers_who_connect_do_not_keep_the_worker_out() {
    let place = Place::new();
    let launch = place.sh("sleep 1000");
    let nonce = launch.nonce.clone();
    drop(start(launch).await);
    let mut strangers = Vec::new();
    for _ in 0..40 {
        strangers.push(host::net::connect_in(&place.attempt(), "control.sock").await.unwrap());
    }

    let found = supervisor::adopt(&place.attempt(), &nonce).await.unwrap();

    let Adopted::Running(adopted) = found else { panic!("it runs") };
    adopted.stop("done", Some(Duration::ZERO)).await.unwrap();
    adopted.wait().await.unwrap();
}

#[tokio::test]
async fn a_result_outlives_its_supervisor() {
    let place = Place::new();
    let launch = place.sh("echo done; exit 9");
    let nonce = launch.nonce.clone();
    let supervised = start(launch).await;
    let exit = supervised.wait().await.unwrap();
    until("the supervisor is gone", || !place.attempt().join("control.sock").exists()).await;

    let found = supervisor::adopt(&place.attempt(), &nonce).await.unwrap();

    assert!(matches!(&found, Adopted::Finished(found) if *found == exit), "{found:?}");
    assert_eq!(supervised.wait().await.unwrap(), exit);
    assert!(matches!(supervised.extend(Duration::ZERO).await, Err(SupervisorError::Ended)));
}

#[tokio::test]
async fn what_never_started_or_was_lost_is_gone() {
    let place = Place::new();
    let found = supervisor::adopt(&place.attempt(), "nonce").await.unwrap();
    assert!(matches!(found, Adopted::Gone), "{found:?}");

    let launch = place.sh("sleep 1000");
    let nonce = launch.nonce.clone();
    let supervised = start(launch).await;
    kill(supervised.report().await.unwrap().supervisor_pid).await;
    until("nothing is left", || place.alive().is_empty()).await;
    let found = supervisor::adopt(&place.attempt(), &nonce).await.unwrap();
    assert!(matches!(found, Adopted::Gone), "{found:?}");
}

#[tokio::test]
async fn only_what_was_prepared_here_is_certain_not_to_have_begun() {
    let place = Place::new();
    let elsewhere = place.attempt().join("of-another-machine");
    assert!(!supervisor::revoke(&elsewhere).unwrap(), "nobody here knows what became of it");

    let prepared = place.attempt().join("prepared");
    std::fs::create_dir_all(&prepared).unwrap();
    assert!(supervisor::revoke(&prepared).unwrap(), "it was not launched");

    let supervised = start(place.sh("exit 0")).await;
    supervised.wait().await.unwrap();
    assert!(!supervisor::revoke(&place.attempt()).unwrap(), "it ran");
}

#[tokio::test]
async fn somebody_else_at_the_socket_is_not_taken_for_the_supervisor() {
    let place = Place::new();
    std::fs::create_dir(place.attempt()).unwrap();
    let listener = UnixListener::bind(place.attempt().join("control.sock")).unwrap();
    let impostor = std::thread::spawn(move || {
        use std::io::{BufRead, BufReader, Write};
        let (mut stream, _) = listener.accept().unwrap();
        BufReader::new(&stream).read_line(&mut String::new()).unwrap();
        let report = r#"{"containment":"subreaper","supervisor_pid":1,"started_at":0,"deadline_boot_ms":null,"output_bytes":0,"stopping":false}"#;
        writeln!(stream, r#"{{"welcome":{{"proof":"00","report":{report}}}}}"#).unwrap();
    });

    let refused = supervisor::adopt(&place.attempt(), "nonce").await.unwrap_err();

    assert!(matches!(refused, SupervisorError::NotOurs), "{refused}");
    impostor.join().unwrap();
}

#[tokio::test]
async fn a_result_that_the_tree_wrote_itself_does_not_count() {
    let place = Place::new();
    let launch =
        place.sh("echo '{\"version\":1,\"exit\":{},\"seal\":\"00\"}' > ../attempt/result.json; echo wrote; sleep 1000");
    let nonce = launch.nonce.clone();
    let supervised = start(launch).await;
    until("it wrote", || place.output() == "wrote\n").await;

    let found = supervisor::adopt(&place.attempt(), &nonce).await.unwrap();

    assert!(matches!(found, Adopted::Running(_)), "{found:?}");
    supervised.stop("done", Some(Duration::ZERO)).await.unwrap();
    assert_eq!(supervised.wait().await.unwrap().outcome, Outcome::Stopped { reason: "done".into() });
}

#[tokio::test]
async fn many_trees_run_side_by_side() {
    let places: Vec<Place> = (0..16).map(|_| Place::new()).collect();
    let runs = places.iter().enumerate().map(|(n, place)| {
        let launch = place.sh(&format!("sleep 0.1; echo {n}; exit {n}"));
        host::task::spawn("tree", run(launch))
    });
    for (n, exit) in runs.collect::<Vec<_>>().into_iter().enumerate() {
        let code = i32::try_from(n).unwrap();
        assert_eq!(exit.await.unwrap().outcome, Outcome::Exited { code });
        assert_eq!(places[n].output(), format!("{n}\n"));
    }
}
