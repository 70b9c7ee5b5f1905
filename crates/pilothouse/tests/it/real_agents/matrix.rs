//! Who is killed when, and what is promised then.
//!
//! The agent calls its model three times: for a tool, once that has ended, and for its last word. Each moment is one at
//! which everybody waits for the test, by an answer that is held back, a tool that waits for a file, or a process that
//! stands still. What is promised is in [`promised`]; `docs/engines.md` says it in words.

use std::collections::BTreeSet;

use testkit::agents::have_written_usage;

use super::{
    processes::Process,
    site::{Agent, Gates, On, Site, USAGE, Waits, script},
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Victim {
    /// On SQLite the server is the same process.
    Worker,
    Server,
    /// With it goes all that it holds.
    Supervisor,
    Engine,
    Tool,
}

/// Where the victim stands in what it does. A tool has a start, a middle and an end of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Moment {
    /// The engine's program runs and has not said a word.
    Launch,
    /// The engine has started and waits for its first answer.
    Start,
    /// Its tool runs.
    Middle,
    /// The engine has ended and nobody has taken its result; an engine itself waits for its last answer.
    End,
}

/// In which way an attempt goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// As if nothing had happened.
    Undisturbed,
    Adopted,
    /// In other processes and the same session.
    Resumed,
    /// In another attempt, from the branch tip.
    Again,
    /// It fails with this code.
    Failed(&'static str),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Promise {
    way: Way,
    /// The lines that the tool and the agent have written, once each; nothing where no result is taken.
    trace: Option<&'static str>,
    /// How many of the model's answers are counted; what a killed engine has not been told of is unknown.
    calls: Option<u64>,
}

/// `at_once`: a call is in the books while its tool still runs, because a broker counts, or because the agent writes it
/// down as soon as it was answered. Codex does only once the tool has ended.
fn promised(victim: Victim, moment: Moment, at_once: bool) -> Promise {
    let promise = |way, trace, calls| Promise { way, trace, calls };
    let untold = u64::from(at_once);
    match (victim, moment) {
        (Victim::Supervisor, Moment::Launch) => promise(Way::Again, Some("begun ended after"), Some(3)),
        (Victim::Supervisor, Moment::Start) => promise(Way::Resumed, Some("mended"), Some(2)),
        (Victim::Supervisor, Moment::Middle) => promise(Way::Resumed, Some("begun mended"), Some(2 + untold)),
        (Victim::Supervisor, Moment::End) => promise(Way::Resumed, Some("begun ended after mended"), Some(5)),
        (Victim::Worker, _) => promise(Way::Adopted, Some("begun ended after"), Some(3)),
        (Victim::Server, _) => promise(Way::Undisturbed, Some("begun ended after"), Some(3)),
        (Victim::Engine, Moment::Launch | Moment::Start) => promise(Way::Failed("engine_killed"), None, None),
        (Victim::Engine, Moment::Middle) => promise(Way::Failed("engine_killed"), None, at_once.then_some(1)),
        (Victim::Engine, Moment::End) => promise(Way::Failed("engine_killed"), None, Some(2)),
        (Victim::Tool, Moment::Launch | Moment::Start) => promise(Way::Undisturbed, Some("after"), Some(3)),
        (Victim::Tool, Moment::Middle) => promise(Way::Undisturbed, Some("begun after"), Some(3)),
        (Victim::Tool, Moment::End) => promise(Way::Undisturbed, Some("begun ended after"), Some(3)),
    }
}

struct Cell {
    on: On,
    agent: Agent,
    victim: Victim,
    moment: Moment,
    gates: Gates,
    site: Site,
}

impl Cell {
    fn new(on: On, agent: Agent, victim: Victim, moment: Moment) -> Self {
        let gates = Gates::closed();
        let waits = match (victim, moment) {
            (_, Moment::Launch) => Waits::Launch,
            (_, Moment::Middle) => Waits::Middle,
            (Victim::Tool, Moment::Start) => Waits::Start,
            (Victim::Tool, Moment::End) => Waits::End,
            (_, Moment::Start | Moment::End) => Waits::Nowhere,
        };
        let site = Site::new(on, agent, counts_on_the_wire(on), script(&gates), waits);
        Self { on, agent, victim, moment, gates, site }
    }

    /// Waits until everybody stands where the victim is to be killed.
    fn reach(&self) {
        match (self.victim, self.moment) {
            (_, Moment::Launch) => self.site.until_at(Waits::Launch),
            (Victim::Tool, moment) => {
                self.gates.open();
                self.site.until_at(match moment {
                    Moment::Launch | Moment::Start => Waits::Start,
                    Moment::Middle => Waits::Middle,
                    Moment::End => Waits::End,
                });
            }
            (_, Moment::Start) => self.site.until_asked(0),
            (_, Moment::Middle) => {
                self.gates.first.open();
                self.site.until_at(Waits::Middle);
                if self.agent == Agent::Claude {
                    let attempts = self.site.attempts_dir();
                    self.site.wait_for("the session's file", || have_written_usage(&attempts));
                }
            }
            (_, Moment::End) => {
                self.gates.first.open();
                self.site.until_asked(2);
            }
        }
    }

    /// Lets the engine end while whoever would take its result stands still.
    fn end_unobserved(&self) {
        let engine = self.site.engine();
        self.gates.open();
        self.site.wait_for("the end of the engine", || !engine.is_alive());
    }

    /// Kills the victim; what an attempt consisted of before.
    fn kill(&mut self) -> BTreeSet<Process> {
        let ended = self.moment == Moment::End;
        match self.victim {
            Victim::Worker | Victim::Server if ended => {
                self.site.freeze_worker();
                self.end_unobserved();
                self.site.until_ended();
            }
            Victim::Supervisor if ended => {
                self.site.freeze(&self.site.supervisor());
                self.end_unobserved();
            }
            Victim::Worker | Victim::Server | Victim::Supervisor | Victim::Engine | Victim::Tool => {}
        }
        let held = self.site.processes();
        match self.victim {
            Victim::Worker => self.site.kill_worker(),
            Victim::Server => self.site.kill_server(),
            Victim::Supervisor => self.site.kill(&self.site.supervisor()),
            Victim::Engine => self.site.kill(&self.site.engine()),
            Victim::Tool => self.site.kill(&self.site.tool()),
        }
        held
    }

    /// Starts what was killed of the product, and lets go of everything that is still to go on.
    fn go_on(&mut self) {
        match self.victim {
            Victim::Worker if self.on == On::Sqlite => self.site.start_server(),
            Victim::Worker => self.site.start_worker(),
            Victim::Server => {
                self.site.start_server();
                if self.moment == Moment::End {
                    self.site.thaw_worker();
                }
            }
            // Another run waits for nothing; what was killed with an answer on its way is not to get it.
            Victim::Supervisor if self.moment == Moment::Launch => {}
            Victim::Supervisor | Victim::Engine | Victim::Tool => return,
        }
        self.gates.open();
        self.site.let_go_on();
    }

    fn hold_to(&self, promise: Promise) {
        let status = self.site.outcome();
        let timeline = self.site.timeline();
        let kinds: Vec<&str> = timeline.iter().map(|event| event.kind.as_str()).collect();
        let told = || format!("{:?} killed at its {:?}: {kinds:#?}\n{}", self.victim, self.moment, self.site.told());
        let all = |kind: &str| timeline.iter().filter(|event| event.kind == kind).collect::<Vec<_>>();

        // How it went on is told: in the same attempt, or in another one from the branch tip.
        let again = usize::from(promise.way == Way::Again);
        assert_eq!((all("step_started").len(), all("step_interrupted").len()), (1 + again, again), "{}", told());
        let adopted: Vec<bool> = all("attempt_adopted").iter().map(|event| event.data["session"].is_string()).collect();
        let adopted_as: &[bool] = match promise.way {
            Way::Undisturbed | Way::Again | Way::Failed(_) => &[],
            Way::Adopted => &[false],
            Way::Resumed => &[true],
        };
        assert_eq!(adopted, adopted_as, "{}", told());

        // It ended once, as promised, and what is told of its usage is what was served, once.
        let ends = match promise.way {
            Way::Failed(code) => {
                assert_eq!(status, "blocked", "{}", told());
                let ends = all("step_execution_failed");
                assert_eq!(ends[0].data["failure"]["code"], code, "{}", told());
                ends
            }
            Way::Undisturbed | Way::Adopted | Way::Resumed | Way::Again => {
                assert_eq!(status, "completed", "{}", told());
                all("step_executed")
            }
        };
        assert_eq!(ends.len(), 1, "{}", told());
        let usage = &ends[0].data["end"]["usage"];
        let counted = promise.calls.map(|calls| (USAGE.input * calls, USAGE.output * calls));
        let said = usage["input_tokens"].as_u64().zip(usage["output_tokens"].as_u64());
        assert_eq!(said, counted, "{usage}; {}", told());

        match promise.trace {
            Some(trace) => {
                let lines = self.site.git(&["show", "0001-make:trace.txt"]);
                assert_eq!(lines.split_whitespace().collect::<Vec<_>>().join(" "), trace, "{}", told());
                let changed = self.site.git(&["diff", "--name-only", "main", "0001-make", "--", ".", ":!.protocols"]);
                assert_eq!(changed, "trace.txt\n", "{}", told());
            }
            None => assert!(all("branch_advanced").len() <= 1, "only the plan is on the branch: {}", told()),
        }
    }
}

fn carry_out(on: On, agent: Agent, victim: Victim, moment: Moment) {
    let mut cell = Cell::new(on, agent, victim, moment);
    cell.site.begin();
    cell.reach();
    let held = cell.kill();
    cell.go_on();
    cell.hold_to(promised(victim, moment, counts_on_the_wire(on) || agent == Agent::Claude));
    cell.site.wait_for("what there was to be gone", || !held.iter().any(Process::is_alive));
    cell.site.close();
}

/// Whether a broker counts what is used: on one of the databases, since that has nothing to do with them.
fn counts_on_the_wire(on: On) -> bool {
    on == On::Postgres
}

/// These moments beside each other, since each of them mostly waits.
fn at(moments: &[Moment], on: On, agent: Agent, victim: Victim) {
    std::thread::scope(|scope| {
        for &moment in moments {
            scope.spawn(move || carry_out(on, agent, victim, moment));
        }
    });
}

/// One test for each victim.
macro_rules! kill {
    ($module:ident: $agent:ident on $on:ident => $($name:ident: $victim:ident at $moments:ident),* $(,)?) => {
        mod $module {
            $( #[test]
            fn $name() {
                super::at(super::$moments, super::On::$on, super::Agent::$agent, super::Victim::$victim);
            } )*
        }
    };
}

/// Before a supervisor has something to go on with, only it can be killed with a promise of its own.
const ALL: &[Moment] = &[Moment::Start, Moment::Middle, Moment::End];
const ALL_AND_LAUNCH: &[Moment] = &[Moment::Launch, Moment::Start, Moment::Middle, Moment::End];
const MIDDLE: &[Moment] = &[Moment::Middle];

kill! { codex_on_sqlite: Codex on Sqlite =>
    server_and_worker: Worker at ALL,
    supervisor: Supervisor at ALL_AND_LAUNCH,
    engine: Engine at ALL,
    tool: Tool at ALL,
}

kill! { codex_on_postgres: Codex on Postgres =>
    worker: Worker at ALL,
    server: Server at ALL,
    supervisor: Supervisor at ALL_AND_LAUNCH,
    engine: Engine at ALL,
    tool: Tool at ALL,
}

kill! { claude_on_sqlite: Claude on Sqlite =>
    server_and_worker: Worker at MIDDLE,
    supervisor: Supervisor at MIDDLE,
    engine: Engine at MIDDLE,
}

kill! { claude_on_postgres: Claude on Postgres =>
    worker: Worker at MIDDLE,
    supervisor: Supervisor at MIDDLE,
    engine: Engine at MIDDLE,
}
