//! The database server crashes and comes back, under load: `-m immediate`, so that it recovers from its log.

use std::time::Duration;

use anyhow::{Context, Result};
use futures_util::future::BoxFuture;

use crate::{
    cluster::{Cluster, GUARD},
    drill::Flaw,
    fault::{Backend, Control, Expects, Fault, On, Outcome, Setting, Weight},
    ledger::Ledger,
    load::Customers,
    need::{Need, What},
    node::{Node, Program, Role, Seat},
    place::Place,
    rest::{self, Closing},
    service, span,
    violation::{Kind, Violation},
};

pub const FAULT: Fault = Fault {
    name: "postgres-restart",
    injects: "an immediate shutdown and start of PostgreSQL under load; service must be back within 3 s of it",
    on: &[On { backend: Backend::Postgres, quick: 10, long: 1_000, budget: 60 }],
    weight: Weight::Light,
    needs: &[Need { what: What::Variable(GUARD), is_demanded: true }],
    run: |setting| Box::pin(product(setting)),
    controls: &[
        Control { name: "sound", expects: Expects::Nothing, run: |setting| drill(setting, None) },
        Control {
            name: "early-answer",
            expects: Expects::A(Flaw::EarlyAnswer.shows_as()),
            run: |setting| drill(setting, Some(Flaw::EarlyAnswer)),
        },
    ],
};

const CUSTOMERS: u64 = 6;
/// From when PostgreSQL accepts connections until a command is acknowledged, in the 99th of a hundred restarts.
const BACK_WITHIN: Duration = Duration::from_secs(3);
/// Nobody waits longer to find that out.
const PATIENCE: Duration = Duration::from_secs(20);
const DRILL_RESTARTS: u64 = 2;

async fn product(setting: Setting) -> Result<Outcome> {
    let wanted = setting.wanted;
    run(setting.clone(), Program::Product(setting.programs.product.clone()), wanted).await
}

fn drill(setting: Setting, flaw: Option<Flaw>) -> BoxFuture<'static, Result<Outcome>> {
    let program = Program::Drill(setting.programs.chaos.clone(), flaw);
    Box::pin(run(setting, program, DRILL_RESTARTS))
}

async fn run(setting: Setting, program: Program, wanted: u64) -> Result<Outcome> {
    let mut cluster = Cluster::start().await?;
    let outcome = under_load(&setting, &program, wanted, &mut cluster).await;
    cluster.stop().await?;
    outcome
}

async fn under_load(setting: &Setting, program: &Program, wanted: u64, cluster: &mut Cluster) -> Result<Outcome> {
    let started = host::clock::monotonic();
    let mut random = setting.random.clone();
    let place = Place::create(Backend::Postgres, setting.dir.join("ledger"), Some(&cluster.url)).await?;
    let mut node = Node::start(program, &Seat::of(Role::Up), &place)?;
    let target = node.ready().await?;
    let mut customers = Customers::start(CUSTOMERS, &setting.random, &setting.name, !program.drains());
    customers.load.aim(1, Some(target.clone()));
    let mut outcome = Outcome::default();
    let (mut away, mut back) = (Vec::new(), Vec::new());
    while outcome.done < wanted && !setting.is_spent(started) {
        tokio::time::sleep(random.millis(200, 900)).await;
        let crashed = host::clock::monotonic();
        cluster.restart().await?;
        outcome.done += 1;
        let restarted = host::clock::monotonic();
        away.push(restarted - crashed);
        let key = format!("{}-probe-{}", setting.name, outcome.done);
        match service::until_taken(&target, &key, restarted, PATIENCE).await {
            Some(took) => back.push(took),
            None => {
                let what = format!("no command was acknowledged within {PATIENCE:?} of restart {}", outcome.done);
                outcome.violations.push(Violation::of(Kind::Stuck, what));
                break;
            }
        }
        setting.tell(&format!("back {:?} after PostgreSQL", back.last()));
        if node.has_ended()? {
            outcome.violations.push(Violation::of(Kind::Process, node.obituary()));
            return Ok(outcome);
        }
    }
    let p99 = span::percentile(&mut back, 99).context("nothing was restarted")?;
    if p99 > BACK_WITHIN {
        let what = format!("service was back {p99:?} after PostgreSQL (p99), not within {BACK_WITHIN:?}");
        outcome.violations.push(Violation::of(Kind::Late, what));
    }
    let mut ledger = Ledger::default();
    let closing = Closing {
        name: &setting.name,
        program,
        place: &place,
        target: &target,
        customers: &mut customers,
        nodes: vec![node],
        ledger: &mut ledger,
    };
    outcome.violations.extend(Box::pin(rest::come_to_rest(closing)).await?);
    let millis = |spans: &mut [Duration], percent| span::percentile(spans, percent).unwrap_or_default().as_millis();
    outcome.figures = format!(
        "{} commands acknowledged, PostgreSQL away for {} ms (p50), service back {} (p50) and {} ms (p99) after it",
        customers.load.journal().acknowledged.len(),
        millis(&mut away, 50),
        millis(&mut back, 50),
        millis(&mut back, 99),
    );
    Ok(outcome)
}
