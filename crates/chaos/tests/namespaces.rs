//! Network namespaces of one's own, where they may be made: what is laid between them passes, and nothing lives on in one
//! that is closed.

use std::{io::Write, path::Path, time::Duration};

use chaos::space::{Power, Space};

const PROGRAM: &str = env!("CARGO_BIN_EXE_chaos");

/// The first power by which one can be made here, with one; else it is said why there is none.
async fn open(doors: &Path) -> Option<Space> {
    for (n, power) in Power::all().into_iter().enumerate() {
        match Space::open(power, Path::new(PROGRAM), doors.join(n.to_string()), Duration::ZERO).await {
            Ok(space) => return Some(space),
            Err(error) => {
                let _ = writeln!(std::io::stderr(), "{}: {error:#}", power.name());
            }
        }
    }
    None
}

#[tokio::test]
async fn a_space_says_when_it_is_closed_whether_something_lived_on_in_it_and_ends_that() {
    let doors = tempfile::tempdir().unwrap();
    let Some(first) = open(doors.path()).await else { return };
    let second = first.beside(Path::new(PROGRAM), doors.path().join("beside"), Duration::ZERO).await.unwrap();
    let started = ["sh", "-c", "sleep 600 </dev/null >/dev/null 2>&1 &"];
    first.entrance.call(&started, "").await.unwrap();

    let (first_was_empty, second_was_empty) = (first.close().await.unwrap(), second.close().await.unwrap());

    assert!(!first_was_empty && second_was_empty);
}

#[tokio::test]
async fn what_listens_in_a_space_is_reached_by_its_door_alone() {
    let doors = tempfile::tempdir().unwrap();
    let Some(space) = open(doors.path()).await else { return };
    let ours = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let there = ours.local_addr().unwrap();

    let outside = tokio::net::TcpStream::connect(there).await;
    let inside = space.entrance.knock().connect(there).await;

    assert!(outside.is_ok());
    assert!(inside.is_err(), "the network outside is seen from inside");
}
