//! Several processes over one PostgreSQL: a server and workers, on one machine or on two.
//!
//! A machine is a data directory: what lies in another one cannot be seen.

use std::{path::PathBuf, time::Duration};

use crate::{
    house::{CATALOG, House, block_on},
    node::{Ledger, Node, processes_in},
};

/// A server, its ledger, and a catalog whose jobs tell how often they ran.
struct Port {
    house: House,
    ledger: Ledger,
    lease: &'static str,
}

impl Port {
    fn new(lease: &'static str) -> (Self, Node) {
        let house = House::new();
        let marks = house.path().join("marks");
        let job = |key: &str, script: &str, idempotent: bool| {
            format!(
                "\n[job.{key}]\ntitle = \"{key}\"\nowner = \"tests\"\n[job.{key}.exec]\n\
                 argv = [\"/bin/sh\", \"-c\", \"{script}\", \"sh\", \"{}\"]\ntimeout = \"1h\"\nidempotent = {idempotent}\n\
                 [job.{key}.policy]\napprove = {{ of = [\"dev:*\"], quorum = 1, distinct_from_requester = false }}\n",
                marks.display()
            )
        };
        let catalog = [
            CATALOG,
            &job("brief", "echo begin >> $1; sleep 2; echo end >> $1", false),
            // The first time it never ends.
            &job("stuck", "echo begin >> $1; [ $(wc -l < $1) -gt 1 ] || sleep 1000; echo end >> $1", false),
            &job("safe", "echo begin >> $1; [ $(wc -l < $1) -gt 1 ] || sleep 1000; echo end >> $1", true),
        ]
        .concat();
        std::fs::write(house.path().join("jobs.toml"), catalog).unwrap();
        let port = Self { house, ledger: Ledger::new(), lease };
        let server = port.server();
        (port, server)
    }

    fn server(&self) -> Node {
        let args = ["serve", "--listen", "127.0.0.1:0", "--dev-channel", "--jobs", "jobs.toml"];
        let server = self.start("server", &args, &self.house.data());
        self.house.wait_for("the server", |house| house.endpoint().is_some());
        server
    }

    /// A worker on this machine.
    fn worker(&self, name: &str, machine: &str) -> Node {
        let worker = self.start(name, &["work"], &self.machine(machine));
        self.house.wait_for("the worker", |_| worker.log().contains("Started worker"));
        worker
    }

    fn machine(&self, name: &str) -> PathBuf {
        self.house.path().join(name)
    }

    fn start(&self, name: &str, args: &[&str], data: &std::path::Path) -> Node {
        let environment = [("PILOTHOUSE_DATA_DIR", data.to_str().unwrap()), ("PILOTHOUSE_WORKER__LEASE", self.lease)];
        Node::start(&self.house, name, &[args, &["--database-url", &self.ledger.url]].concat(), &environment)
    }

    /// Asks for a run and approves it, by text.
    fn ask(&self, job: &str, key: &str) -> String {
        let run = self.house.say("alice", &format!("run {job}"), Some(key)).run_id.unwrap();
        let approved = self.house.say("bob", &format!("yes {run}"), Some(&format!("{key}-yes")));
        assert!(approved.dispatched_execution, "{approved:?}");
        run
    }

    fn marks(&self) -> Vec<String> {
        let marks = std::fs::read_to_string(self.house.path().join("marks")).unwrap_or_default();
        marks.lines().map(str::to_owned).collect()
    }

    fn wait_for_mark(&self, n: usize) {
        self.house.wait_for("the job to begin", |_| self.marks().len() >= n);
    }

    /// The attempts of a run: their numbers and how they stand.
    fn attempts(&self, run: &str) -> Vec<(u32, String)> {
        let attempts = block_on(self.house.client().list_attempts(run)).unwrap();
        let mut found: Vec<_> = attempts.items.into_iter().map(|attempt| (attempt.number, attempt.status)).collect();
        found.sort();
        found
    }

    /// Everybody is told to stop, and does; then the ledger is looked at.
    fn close(self, nodes: impl IntoIterator<Item = Node>) {
        for node in nodes {
            node.tell_to_stop();
            assert_eq!(node.ended(), Some(0));
        }
        assert!(!self.house.data().join("endpoint.json").exists());
        self.ledger.check(&self.house);
    }
}

#[test]
fn a_job_goes_by_text_through_approval_to_its_result_on_whichever_machine() {
    let (port, server) = Port::new("9s");
    let house = &port.house;
    let workers = [port.worker("one", "machine-1"), port.worker("two", "machine-2")];

    let asked = house.say("alice", "run hello name=Bob", Some("m1"));
    let run = asked.run_id.clone().unwrap();
    assert!(asked.outbound[0].body.contains(&format!("Reply YES {run}")), "{asked:?}");
    assert_eq!(house.say("alice", "run hello name=Bob", Some("m1")).run_id, None);
    assert!(house.say("bob", &format!("yes {run}"), Some("m2")).dispatched_execution);
    house.wait_for_status(&run, "Succeeded");
    let kinds = ["RunCreated", "ApprovalRequested", "RunApproved", "ExecutionDispatched", "ExecutionStarted"];
    house.wait_for("the timeline", |house| {
        let timeline = block_on(house.client().get_run(&run)).unwrap();
        let found: Vec<_> = timeline.events.iter().map(|event| event.kind.as_str()).collect();
        found == [&kinds[..], &["ExecutionSucceeded"]].concat()
    });

    let many: Vec<String> = (0..12).map(|n| port.ask("hello", &format!("many-{n}"))).collect();
    for run in &many {
        house.wait_for_status(run, "Succeeded");
        assert_eq!(port.attempts(run), [(1, "succeeded".to_owned())]);
    }

    port.close([server].into_iter().chain(workers));
}

#[test]
fn a_worker_that_is_told_to_stop_finishes_what_it_has_and_begins_nothing() {
    let (port, server) = Port::new("9s");
    let first = port.worker("first", "machine-1");
    let run = port.ask("brief", "brief");
    port.wait_for_mark(1);

    first.tell_to_stop();
    port.house.wait_for("the drain", |_| first.log().contains("Stopping"));
    let later = port.ask("hello", "later");
    assert_eq!(first.ended(), Some(0));

    assert_eq!(port.house.status(&run), "Succeeded");
    assert_eq!(port.marks(), ["begin", "end"]);
    assert_eq!(port.house.status(&later), "Dispatching", "nobody is there to begin it");
    let second = port.worker("second", "machine-2");
    port.house.wait_for_status(&later, "Succeeded");
    port.close([server, second]);
}

#[test]
fn a_restarted_worker_adopts_what_runs_on_its_machine() {
    let (port, server) = Port::new("9s");
    let first = port.worker("first", "machine-1");
    let run = port.ask("brief", "brief");
    port.wait_for_mark(1);
    let other = port.worker("other", "machine-2");

    first.kill();
    let again = port.worker("again", "machine-1");
    port.house.wait_for_status(&run, "Succeeded");

    assert_eq!(port.attempts(&run), [(1, "succeeded".to_owned())]);
    assert_eq!(port.marks(), ["begin", "end"]);
    port.close([server, other, again]);
}

/// Kills the only worker while it runs a job that never ends by itself, with another machine's worker beside it.
fn lose_a_machine(port: &Port, job: &str) -> (String, Node) {
    let first = port.worker("first", "machine-1");
    let run = port.ask(job, job);
    port.wait_for_mark(1);
    let second = port.worker("second", "machine-2");

    first.kill();
    let killed_at = host::clock::monotonic();
    port.house.wait_for("another to take it over", |_| second.log().contains("ended without an answer"));

    // The lease is three seconds; the supervisor kills its tree before it can end.
    assert!(killed_at.elapsed() < Duration::from_secs(15), "{:?}", killed_at.elapsed());
    port.house.wait_for("the end of what ran", |_| processes_in(&port.machine("machine-1")).is_empty());
    (run, second)
}

#[test]
fn what_another_machine_had_begun_is_not_repeated_before_somebody_says_so() {
    let (port, server) = Port::new("3s");
    let (run, second) = lose_a_machine(&port, "stuck");

    port.house.wait_for_status(&run, "Blocked");
    assert_eq!(port.marks(), ["begin"], "it was not repeated");
    assert_eq!(port.attempts(&run), [(1, "interrupted".to_owned())]);
    let answered = port.house.say("bob", &format!("yes {run}"), Some("again"));
    assert!(answered.dispatched_execution, "{answered:?}");

    port.house.wait_for_status(&run, "Succeeded");
    assert_eq!(port.marks(), ["begin", "begin", "end"]);
    assert_eq!(port.attempts(&run), [(1, "interrupted".to_owned()), (2, "succeeded".to_owned())]);
    port.close([server, second]);
}

#[test]
fn what_is_safe_to_repeat_is_run_again_by_another_machine() {
    let (port, server) = Port::new("3s");

    let (run, second) = lose_a_machine(&port, "safe");

    port.house.wait_for_status(&run, "Succeeded");
    assert_eq!(port.marks(), ["begin", "begin", "end"]);
    assert_eq!(port.attempts(&run), [(1, "interrupted".to_owned()), (2, "succeeded".to_owned())]);
    port.close([server, second]);
}
