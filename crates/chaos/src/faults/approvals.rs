//! Races of people at one gate: approvals, denials, cancels, expiries and changes of the job arrive at once, from several
//! nodes, and each gate ends exactly once.
//!
//! Every contender gives a real command through `control`. What each was told that it did, taken together, must be the
//! timeline of the run, no more and no less; see [`verdict`] for the rest. The control decides by the same rules and
//! commits at whatever version is current, as if nobody else could have decided meanwhile.

mod contender;
mod verdict;

use std::{sync::Arc, time::Duration};

use anyhow::{Context as _, Result};
use control::{Cause, Clock, Control, ledger::Rendered, runs::RequestRun};
use domain::{
    actor::Actor,
    catalog::{BoundJob, Catalog},
    person::{Person, PersonKind},
    run::{API_CHANNEL, Run},
};
use futures_util::{FutureExt, StreamExt, future::BoxFuture, stream};
use testkit::random::Random;

use self::{
    contender::{Contender, Told},
    verdict::Verdict,
};
use crate::{
    fault::{self, Backend, Expects, Fault, On, Outcome, Setting, Weight},
    ledgers::Ledgers,
    violation::Kind,
};

pub const FAULT: Fault = Fault {
    name: "approvals",
    injects: "approvals, denials, cancels, expiries and changes of the job at one gate at once, from several nodes",
    on: &[
        On { backend: Backend::Sqlite, quick: 6_000, long: 100_000, budget: 20 },
        On { backend: Backend::Postgres, quick: 4_000, long: 100_000, budget: 25 },
    ],
    weight: Weight::Heavy,
    needs: &[],
    run: sound,
    controls: &[fault::Control { name: "no-version", expects: Expects::A(Kind::Repeated), run: without_version }],
};

/// Gates that people race for at the same time.
const AT_ONCE: usize = 24;
/// Races between two looks at the ledger.
const ROUND: u64 = 500;
/// Races within which the control has to be caught.
const CONTROL: u64 = 200;
/// Nodes over one PostgreSQL; SQLite has one.
const NODES: usize = 3;
const PEOPLE: [&str; 5] = ["ada", "bob", "carol", "dan", "eve"];

const CATALOG: &str = r#"
[job.one]
title = "Needs one"
owner = "ops"
exec = { argv = ["true", "WORD"] }
policy = { approve = { of = ["dev:*"], quorum = 1 } }

[job.two]
title = "Needs two"
owner = "ops"
exec = { argv = ["true", "WORD"] }
policy = { approve = { of = ["dev:*"], quorum = 2 } }

[job.three]
title = "Needs three"
owner = "ops"
exec = { argv = ["true", "WORD"] }
policy = { approve = { of = ["dev:*"], quorum = 3 } }
"#;

fn sound(setting: Setting) -> BoxFuture<'static, Result<Outcome>> {
    races(setting, false).boxed()
}

fn without_version(mut setting: Setting) -> BoxFuture<'static, Result<Outcome>> {
    setting.wanted = setting.wanted.min(CONTROL);
    races(setting, true).boxed()
}

/// Everything that a race happens on.
#[derive(Debug)]
struct Court {
    nodes: Vec<Control>,
    /// A node whose clock has passed every deadline.
    late: Control,
    people: Vec<Person>,
    requester: Person,
    /// What each job means after somebody changed it, by key.
    changed: Catalog,
    is_reckless: bool,
}

async fn races(setting: Setting, is_reckless: bool) -> Result<Outcome> {
    let ledgers = Ledgers::open(&setting, NODES).await?;
    let court = Arc::new(Court::open(&ledgers, is_reckless).await?);
    let mut verdict = Verdict::new(ledgers.first().clone());
    let mut outcome = Outcome::default();
    let mut random = setting.random.clone();
    let started = host::clock::monotonic();
    while outcome.done < setting.wanted && !setting.is_spent(started) && verdict.violations.is_empty() {
        let round = ROUND.min(setting.wanted - outcome.done);
        let races: Vec<_> = (0..round).map(|n| (Arc::clone(&court), random.fork(n))).collect();
        random.draw();
        let raced: Vec<Result<Race>> = stream::iter(races)
            .map(|(court, random)| async move { court.race(random).await })
            .buffer_unordered(AT_ONCE)
            .collect()
            .await;
        let raced = raced.into_iter().collect::<Result<Vec<_>>>()?;
        outcome.done += round;
        verdict.judge(&raced).await?;
        setting.tell(&format!("{} races", outcome.done));
    }
    if verdict.violations.is_empty() {
        verdict.judge_queue().await?;
    }
    outcome.figures = verdict.figures(started.elapsed());
    outcome.violations = verdict.violations;
    ledgers.remove().await?;
    Ok(outcome)
}

/// One gate, and what everybody was told.
#[derive(Debug)]
struct Race {
    run: Run,
    told: Vec<(Contender, Told)>,
}

impl Court {
    async fn open(ledgers: &Ledgers, is_reckless: bool) -> Result<Self> {
        let nodes: Vec<Control> =
            ledgers.all().iter().map(|store| Control::new(store.clone(), Clock::default())).collect();
        let first = nodes.first().context("there is at least one node")?;
        first.load_catalog(CATALOG, "jobs.toml").await?;
        let mut people = Vec::new();
        for name in PEOPLE {
            people.push(first.ensure_account(&format!("dev:{name}")).await?);
        }
        let requester = first.ensure_person("requester", PersonKind::Human, &[]).await?;
        let clock = Clock::manual(first.clock().now().after(Duration::from_secs(48 * 3600)));
        let late = Control::new(ledgers.first().clone(), clock);
        let changed = Catalog::parse(&CATALOG.replace("WORD", "another word"), "jobs.toml")?;
        Ok(Self { nodes, late, people, requester, changed, is_reckless })
    }

    /// Asks for a run and lets everybody answer at once.
    async fn race(self: Arc<Self>, mut random: Random) -> Result<Race> {
        let job = ["one", "one", "two", "two", "three"];
        let request = RequestRun {
            job: (*random.pick(&job).context("there are jobs")?).to_owned(),
            args: std::collections::BTreeMap::new(),
            reason: None,
            by: self.requester.clone(),
            account: "requester".to_owned(),
            channel: API_CHANNEL.to_owned(),
            conversation: String::new(),
        };
        let cause = Cause::of(Actor::System);
        let run = self.node(&mut random).request_run(request, &cause, |_| Rendered::default()).await?.subject;
        let contenders = Contender::draw(&mut random, self.people.len());
        let answers: Vec<_> = contenders
            .into_iter()
            .map(|contender| {
                let (court, run, mut random) = (Arc::clone(&self), run.clone(), random.fork(contender.salt()));
                host::task::spawn("contender", async move {
                    let told = court.contend(&contender, &run, &mut random).await;
                    (contender, told)
                })
            })
            .collect();
        let mut told = Vec::with_capacity(answers.len());
        for answer in answers {
            told.push(answer.await?);
        }
        Ok(Race { run, told })
    }

    fn node(&self, random: &mut Random) -> &Control {
        random.pick(&self.nodes).unwrap_or(&self.late)
    }

    /// What the request means in the changed catalog.
    fn rebound(&self, run: &Run) -> Option<BoundJob> {
        self.changed.find(&run.job.job)?.bind(&run.job.params).ok()
    }
}
