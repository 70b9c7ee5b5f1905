//! A worker that is stopped by a signal, overtaken while it stands still, and goes on as if nothing had happened.
//!
//! Its git is a script that holds one call until the test lets go, so that it stands still at exactly one place. Both
//! workers share a PostgreSQL and a data directory, as two processes of one machine do.
#![expect(clippy::disallowed_methods, reason = "these tests drive the product from outside, as its users do")]

use std::{
    cell::Cell,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;

use crate::{
    house::House,
    node::{Ledger, Node},
    protocols::{git, lay_repository},
};

const LEASE: &str = "3s";

const SCENARIO: &str = r#"{"version": 1, "title": "test", "scenes": [
    {"step": "01-fix.md", "actions": [{"do": "write", "path": "answer.txt", "text": "42\n"}]},
    {"step": "02-tell.md", "actions": [{"do": "write", "path": "CHANGES", "text": "fixed\n"}]}]}"#;

const SPEC: &str = r#"{"steps": [
    {"id": "fix", "name": "01-fix.md", "checks": [["grep", "42", "answer.txt"]]},
    {"id": "tell", "name": "02-tell.md", "checks": [["test", "-s", "CHANGES"]]}]}"#;

/// The branch once both steps are done, from its beginning.
const SUBJECTS: [&str; 5] = [
    "feat(protocol): add plan for 0001-fix [protocol-0001/00]",
    "feat(step): 01-fix [protocol-0001/00]",
    "docs(protocol): record 01-fix [protocol-0001/00]",
    "feat(step): 02-tell [protocol-0001/01]",
    "docs(protocol): record 02-tell [protocol-0001/01]",
];

/// A server over PostgreSQL, and a repository with an answer that is wrong.
struct Place {
    house: House,
    ledger: Ledger,
    /// The number of the next protocol that is only made to be seen.
    n_later: Cell<u32>,
}

impl Place {
    fn new() -> Self {
        let ledger = Ledger::new();
        let house = House::new();
        lay_repository(&house, SCENARIO, SPEC);
        Self { house, ledger, n_later: Cell::new(2) }
    }

    fn serve(&self) -> Node {
        let server = self.start("server", &["serve", "--listen", "127.0.0.1:0"], &usual_path());
        self.house.wait_for("the server", |house| house.endpoint().is_some());
        server
    }

    fn worker(&self, name: &str, path: &str) -> Node {
        self.start(name, &["work"], path)
    }

    fn start(&self, name: &str, args: &[&str], path: &str) -> Node {
        let allowed = self.house.path().to_str().unwrap();
        let environment =
            [("PATH", path), ("PILOTHOUSE_WORKER__LEASE", LEASE), ("PILOTHOUSE_REPOS__ALLOW_LOCAL", allowed)];
        Node::start(&self.house, name, &[args, &["--database-url", &self.ledger.url]].concat(), &environment)
    }

    /// Starts the protocol; its id is 1.
    fn begin(&self) {
        self.house.json(&["project", "add", "repository", "--engine", "scripted", "--scenario", "scenario.json"]);
        self.house.json(&["protocol", "new", "1", "0001-fix", "--spec", "spec.json", "--start"]);
    }

    fn protocol(&self) -> Value {
        self.house.json(&["protocol", "get", "1"])
    }

    /// The names of what happened to the protocol, in order. Readers see an event once every older transaction of the
    /// server has ended, so one that comes later is waited for first.
    fn timeline(&self) -> Vec<String> {
        let later = self.house.json(&["protocol", "new", "1", &format!("{:04}-later", self.n_later.get())]);
        self.n_later.set(self.n_later.get() + 1);
        let subject = format!("protocol:{}", later["id"]);
        self.house
            .wait_for("the events", |house| house.json(&["events", "--subject", &subject])["items"][0].is_object());
        let events = self.house.json(&["events", "--subject", "protocol:1", "--limit", "500"]);
        let events = events["items"].as_array().unwrap();
        events.iter().map(|event| event["type"].as_str().unwrap().to_owned()).collect()
    }
}

fn usual_path() -> String {
    std::env::var("PATH").unwrap()
}

/// A git that holds one call: the `nth` that has a word of this pattern.
struct HeldGit {
    dir: PathBuf,
}

impl HeldGit {
    fn new(house: &House, pattern: &str, nth: u32) -> Self {
        let dir = house.path().join("held");
        std::fs::create_dir(&dir).unwrap();
        let here = dir.display();
        let real = real_git();
        // A directory is made by exactly one of those who try, so that the calls are counted without a race.
        let script = format!(
            r#"#!/bin/sh
for word in "$@"; do
    case "$word" in
        {pattern}) meant=1 ;;
    esac
done
if [ -n "$meant" ]; then
    number=1
    while ! mkdir "{here}/call-$number" 2>/dev/null; do number=$((number + 1)); done
    if [ "$number" -eq {nth} ]; then
        : > "{here}/reached"
        # Without its directory the test is over, and nobody will ever let go.
        while [ ! -e "{here}/go-on" ]; do [ -d "{here}" ] || exit 1; sleep 0.05; done
        "{real}" "$@" > "{here}/said"
        code=$?
        cat "{here}/said"
        : > "{here}/done"
        exit $code
    fi
fi
exec "{real}" "$@"
"#
        );
        let program = dir.join("git");
        std::fs::write(&program, script).unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        Self { dir }
    }

    fn path(&self) -> String {
        format!("{}:{}", self.dir.display(), usual_path())
    }

    fn has(&self, name: &str) -> bool {
        self.dir.join(name).exists()
    }

    fn go_on(&self) {
        std::fs::write(self.dir.join("go-on"), "").unwrap();
    }

    fn said(&self) -> String {
        std::fs::read_to_string(self.dir.join("said")).unwrap()
    }
}

fn real_git() -> String {
    let found = Command::new("sh").args(["-c", "command -v git"]).output().unwrap();
    let found = String::from_utf8(found.stdout).unwrap().trim().to_owned();
    assert!(Path::new(&found).is_absolute(), "{found}");
    found
}

/// Freezes the first worker at the held call, lets a second one finish the protocol, thaws the first and waits until it
/// has learned that it was overtaken. What both left behind has to be what one worker would have left.
fn overtake(place: &Place, held: &HeldGit) -> (Node, Node) {
    let house = &place.house;
    let first = place.worker("first", &held.path());
    house.wait_for("the held call", |_| held.has("reached"));
    first.freeze(house);
    assert_ne!(place.protocol()["status"], "completed");

    let second = place.worker("second", &usual_path());
    house.wait_for("the second worker", |_| {
        let protocol = place.protocol();
        assert!(!["failed", "blocked"].contains(&protocol["status"].as_str().unwrap()), "{protocol}\n{}", second.log());
        protocol["status"] == "completed"
    });
    assert!(second.log().contains("ended without an answer"), "it was the lease that ended:\n{}", second.log());
    assert!(!held.has("done"), "the first worker's call has not been carried out yet");
    let (tip, before) = (git(house, &["rev-parse", "0001-fix"]), place.timeline());

    held.go_on();
    first.thaw();
    house.wait_for("the held call to be carried out", |_| held.has("done"));
    house.wait_for("the first worker to be told", |_| first.log().contains("Fenced: task"));

    assert_eq!(git(house, &["rev-parse", "0001-fix"]), tip, "the branch did not move");
    assert_eq!(place.timeline(), before, "nothing more was recorded");
    (first, second)
}

/// The branch is what the ledger accepted, everything happened once, and the ledger's rows follow from its events.
fn check(place: Place, nodes: Vec<Node>, at_most_once: &[&str]) {
    let house = &place.house;
    let protocol = place.protocol();
    let tip = git(house, &["rev-parse", "0001-fix"]);
    assert_eq!(protocol["branch"]["tip"], tip.trim(), "{protocol}");
    let log = git(house, &["log", "--reverse", "--format=%s", "main..0001-fix"]);
    assert_eq!(log.lines().collect::<Vec<_>>(), SUBJECTS);
    assert_eq!(git(house, &["show", "0001-fix:answer.txt"]), "42\n");
    assert_eq!(git(house, &["show", "main:answer.txt"]), "41\n");
    let timeline = place.timeline();
    let count = |kind: &str| timeline.iter().filter(|happened| *happened == kind).count();
    for kind in at_most_once {
        assert_eq!(count(kind), 1, "{kind} in {timeline:?}");
    }
    for (kind, times) in [("step_started", 2), ("step_executed", 2), ("branch_advanced", 3), ("branch_conflict", 0)] {
        assert_eq!(count(kind), times, "{kind} in {timeline:?}");
    }
    drop(nodes);
    place.ledger.check(house);
}

#[test]
fn a_worker_that_freezes_before_its_push_moves_nothing_once_it_was_overtaken() {
    let place = Place::new();
    let server = place.serve();
    // The first push carries the plan, the second one the first step's result.
    let held = HeldGit::new(&place.house, "push", 2);
    place.begin();

    let (first, second) = overtake(&place, &held);

    assert!(held.said().contains("[rejected] (stale info)"), "the remote compared: {}", held.said());
    check(place, vec![server, first, second], &["protocol_completed"]);
}

#[test]
fn a_worker_that_freezes_before_it_hands_its_result_in_is_not_heard_once_it_was_overtaken() {
    let place = Place::new();
    let server = place.serve();
    // The plan's commit is kept first, then the one of the first step's attempt.
    let held = HeldGit::new(&place.house, "refs/pilothouse/attempts/*", 2);
    place.begin();

    let (first, second) = overtake(&place, &held);

    check(place, vec![server, first, second], &["protocol_completed", "attempt_adopted"]);
}
