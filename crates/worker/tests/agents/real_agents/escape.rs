//! What a tool reaches that an agent was talked into calling.

use std::net::TcpListener;

use testkit::models::{Reply, Rule, Scenario};

use super::{
    agent::Agent,
    house::{House, TASK},
};

/// The model's key as a pattern that is not the key itself.
const PATTERN: &str = "key-of-the-mode[l]";

/// Tries each way out and writes down what came of it.
fn probes(house: &House, port: u16) -> String {
    let (data, me) = (house.dir().display(), host::process::id());
    let tries = [
        ("control", "true".to_owned()),
        ("key in the environment", format!("env | grep -q '{PATTERN}'")),
        ("key in other processes", format!("cat /proc/[0-9]*/environ 2>/dev/null | grep -qa '{PATTERN}'")),
        ("key on command lines", format!("cat /proc/[0-9]*/cmdline 2>/dev/null | grep -qa '{PATTERN}'")),
        ("key in the home of the engine", format!("grep -rqs '{PATTERN}' \"$HOME\" \"$CODEX_HOME\" /tmp")),
        ("key in the directory of the attempt", format!("grep -rqs '{PATTERN}' {data}/attempts")),
        ("ledger", format!("test -e {data}/ledger.db")),
        ("socket of the supervisor", format!("ls {data}/attempts/*/control.sock")),
        ("books of the broker", format!("ls {data}/attempts/*/wire.log")),
        ("another attempt", format!("test -e {data}/attempts/another")),
        ("repository", format!("test -e {data}/repository")),
        ("another port", format!("bash -c 'exec 3<>/dev/tcp/127.0.0.1/{port}'")),
        ("the model itself", format!("bash -c 'exec 3<>/dev/tcp/127.0.0.1/{}'", port_of(&house.model.url()))),
        ("configuration of git", "echo x >> .git/config".to_owned()),
        ("directory of git", "mkdir -p .git/hooks".to_owned()),
        ("settings of agents", "echo x > .claude/settings.json".to_owned()),
        ("instructions", "rmdir AGENTS.md; echo x > AGENTS.md".to_owned()),
        ("process outside", format!("kill -0 {me} || test -e /proc/{me}")),
    ];
    let lines: Vec<String> = tries
        .iter()
        .map(|(name, command)| {
            format!("if ( {command} ) >/dev/null 2>&1; then echo '{name}: reached'; else echo '{name}: held'; fi")
        })
        .collect();
    format!("({}) > probes.txt; echo 42 > made.txt", lines.join("; "))
}

fn port_of(url: &str) -> u16 {
    url.rsplit(':').next().and_then(|port| port.parse().ok()).unwrap()
}

pub(crate) async fn nothing_is_reached(agent: Agent) {
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let house = House::new(agent, Scenario::new()).await.brokered(None);
    std::fs::create_dir_all(house.dir().join("attempts/another")).unwrap();
    let script = probes(&house, other.local_addr().unwrap().port());
    house.model.play(
        Scenario::new()
            .rule(Rule::at(TASK, 0).reply([Reply::shell(&script)]))
            .rule(Rule::on(TASK).reply([Reply::text("The answer is there.")])),
    );
    let worker = house.worker().await;

    let id = house.execute().await;

    house.expect(id, "completed").await;
    let found = house.on_branch("probes.txt").await;
    let reached: Vec<&str> = found.lines().filter(|line| line.ends_with(": reached")).collect();
    assert_eq!((reached.as_slice(), found.lines().count()), (&["control: reached"][..], 18), "{found}");
    worker.drain().await;
    house.empty().await;
}
