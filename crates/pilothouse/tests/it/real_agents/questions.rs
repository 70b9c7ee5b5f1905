//! A question that is open while everybody who could answer it is killed.

use api::gates::{ApproveBody, DenyBody, GateView};
use serde_json::Value;
use testkit::models::{Reply, Rule, Scenario};

use super::site::{Agent, On, Site, TASK, USAGE, Waits};
use crate::house::block_on;

/// The agent asks whether it may run a command, and is content with whatever comes of it.
fn one_command() -> Scenario {
    Scenario::new()
        .usage(USAGE)
        .rule(Rule::at(TASK, 0).reply([Reply::shell("echo allowed >> trace.txt")]))
        .rule(Rule::on(TASK).reply([Reply::text("That is all.")]))
}

fn questions(site: &Site) -> Vec<GateView> {
    block_on(site.client().list_gates(None, None, None)).unwrap().items
}

/// Kills every process of the product while the question is open, and gives back the site with a server again.
fn survive(on: On, agent: Agent) -> (Site, GateView) {
    let mut site = Site::new(on, agent, false, one_command(), Waits::Nowhere);
    site.begin();
    site.wait_for("the question", || !questions(&site).is_empty());
    let asked = questions(&site);
    let engine = site.engine();

    if on == On::Postgres {
        site.kill_worker();
    }
    site.kill_server();
    site.start_server();

    let found = questions(&site);
    assert_eq!((found.len(), &found[0]), (1, &asked[0]), "it is the same question");
    assert_eq!((found[0].kind.as_str(), found[0].status.as_str()), ("permission", "open"));
    assert!(engine.is_alive(), "it waits: {}", site.told());
    (site, found.into_iter().next().unwrap())
}

/// What was asked, told and used, each once; what is told of the end.
fn hold_to_once(site: &Site, ended: &str) -> Value {
    let timeline = site.timeline();
    let count = |kind: &str| timeline.iter().filter(|event| event.kind == kind).count();
    let told = || format!("{timeline:#?}\n{}", site.told());
    assert_eq!((count("step_started"), count("gate_opened"), count(ended)), (1, 1, 1), "{}", told());
    let adopted: Vec<_> = timeline.iter().filter(|event| event.kind == "attempt_adopted").collect();
    assert!(adopted.len() == 1 && adopted[0].data["session"].is_null(), "{}", told());
    assert_eq!(questions(site).len(), 1, "{}", told());
    let asked = site.model.asked().iter().filter(|asked| asked.prompt().contains(TASK)).count();
    assert_eq!(asked, 2, "{}", told());
    let end = timeline.iter().find(|event| event.kind == ended).unwrap();
    assert_eq!(end.data["end"]["usage"]["output_tokens"], 2 * USAGE.output, "{}", told());
    end.data.clone()
}

fn allowed(on: On, agent: Agent) {
    let (mut site, question) = survive(on, agent);

    // On PostgreSQL the answer is given while nobody is there to carry it back.
    block_on(site.client().approve_gate(&question.id, &ApproveBody::default())).unwrap();
    site.start_worker();

    assert_eq!(site.outcome(), "completed", "{}", site.told());
    assert_eq!(site.git(&["show", "0001-make:trace.txt"]), "allowed\n");
    hold_to_once(&site, "step_executed");
    site.close();
}

fn denied(on: On, agent: Agent) {
    let (mut site, question) = survive(on, agent);

    site.start_worker();
    block_on(site.client().deny_gate(&question.id, &DenyBody::default())).unwrap();

    assert_eq!(site.outcome(), "blocked", "{}", site.told());
    let failed = hold_to_once(&site, "step_execution_failed");
    assert_eq!(failed["failure"]["code"], "empty_diff", "it went on without");
    site.close();
}

macro_rules! put {
    ($($module:ident: $agent:ident on $on:ident),* $(,)?) => {
        $( mod $module {
            #[test]
            fn what_is_allowed_afterwards_is_done() {
                super::allowed(super::On::$on, super::Agent::$agent);
            }

            #[test]
            fn what_is_denied_afterwards_is_not_done() {
                super::denied(super::On::$on, super::Agent::$agent);
            }
        } )*
    };
}

put! {
    codex_on_sqlite: AskingCodex on Sqlite,
    codex_on_postgres: AskingCodex on Postgres,
    claude_on_sqlite: AskingClaude on Sqlite,
    claude_on_postgres: AskingClaude on Postgres,
}
