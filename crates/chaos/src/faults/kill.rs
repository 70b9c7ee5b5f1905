//! `kill -9` at random moments under load: of the one process, or of the server, the worker or both.

use std::{fmt, path::PathBuf};

use anyhow::{Context, Result};
use futures_util::future::BoxFuture;

use crate::{
    campaign::{self, Plan, Report},
    drill::Flaw,
    fault::{Backend, Control, Expects, Fault, On, Outcome, Setting, Weight},
    node::Program,
    place::Place,
};

pub const FAULT: Fault = Fault {
    name: "kill",
    injects: "SIGKILL of the node, or of its server, its worker or both, at random moments under load and while starting",
    on: &[
        On { backend: Backend::Sqlite, quick: 200, long: 10_000, budget: 300 },
        On { backend: Backend::Postgres, quick: 100, long: 10_000, budget: 110 },
    ],
    weight: Weight::Light,
    needs: &[],
    run: |setting| Box::pin(product(setting)),
    controls: &[
        Control { name: "sound", expects: Expects::Nothing, run: |setting| drill(setting, None) },
        Control {
            name: "early-answer",
            expects: Expects::A(Flaw::EarlyAnswer.shows_as()),
            run: |setting| drill(setting, Some(Flaw::EarlyAnswer)),
        },
        Control {
            name: "second-commit",
            expects: Expects::A(Flaw::SecondCommit.shows_as()),
            run: |setting| drill(setting, Some(Flaw::SecondCommit)),
        },
        Control {
            name: "no-fence",
            expects: Expects::A(Flaw::NoFence.shows_as()),
            run: |setting| drill(setting, Some(Flaw::NoFence)),
        },
    ],
};

/// Cycles on one ledger; then another begins, so that the first start of a ledger is killed as well.
const CAMPAIGN: u64 = 50;
const SOUND_CYCLES: u64 = 12;
/// A flaw shows at once as a rule; a control ends there.
const FLAW_CYCLES: u64 = 40;
const CUSTOMERS: u64 = 6;

async fn product(setting: Setting) -> Result<Outcome> {
    let started = host::clock::monotonic();
    let program = Program::Product(setting.programs.product.clone());
    let mut total = Report::default();
    let mut done = 0;
    for n in 1.. {
        let cycles = match setting.backend {
            Backend::Sqlite | Backend::Neither => CAMPAIGN,
            // Both ways to run it get their share.
            Backend::Postgres => CAMPAIGN.min(setting.wanted.div_ceil(2)),
        };
        let plan = Plan {
            name: format!("{}-{n}", setting.name),
            program: program.clone(),
            split: setting.backend == Backend::Postgres && n % 2 == 0,
            cycles: cycles.min(setting.wanted - done),
            customers: CUSTOMERS,
            until: setting.budget.map(|budget| started + budget),
        };
        let report = campaign(&setting, &plan).await?;
        done += report.cycle;
        total.add(&report);
        if !total.violations.is_empty() || done >= setting.wanted || setting.is_spent(started) {
            break;
        }
    }
    Ok(Outcome { done, figures: total.to_string(), cut: None, violations: total.violations })
}

/// The little node, sound or with one flaw, through the same cycles and checks.
fn drill(setting: Setting, flaw: Option<Flaw>) -> BoxFuture<'static, Result<Outcome>> {
    Box::pin(async move {
        let plan = Plan {
            name: setting.name.clone(),
            program: Program::Drill(setting.programs.chaos.clone(), flaw),
            split: false,
            cycles: if flaw.is_some() { FLAW_CYCLES } else { SOUND_CYCLES },
            customers: CUSTOMERS,
            until: None,
        };
        let report = campaign(&setting, &plan).await?;
        Ok(Outcome { done: report.cycle, figures: report.to_string(), cut: None, violations: report.violations })
    })
}

async fn campaign(setting: &Setting, plan: &Plan) -> Result<Report> {
    let dir: PathBuf = setting.dir.join(&plan.name);
    let place = Place::create(setting.backend, dir, setting.postgres.as_deref()).await?;
    let random = setting.random.fork(plan.name.bytes().fold(0, |salt, byte| salt * 31 % 1_000_003 + u64::from(byte)));
    let report = Box::pin(campaign::run(plan, &place, &random, &|line| setting.tell(line)))
        .await
        .with_context(|| format!("campaign {} could not be carried out ({})", plan.name, place.dir.display()))?;
    let caught = !plan.program.drains() && !report.violations.is_empty();
    if !setting.keep && (report.violations.is_empty() || caught) {
        place.remove().await?;
    } else if let Some(url) = place.database_url() {
        // The name is enough to look at it; it goes with the server.
        let name = url.rsplit('/').next().unwrap_or_default();
        crate::gate::tell(&format!("chaos: {} keeps its database {name}", plan.name));
    }
    Ok(report)
}

impl Report {
    fn add(&mut self, other: &Self) {
        self.kills += other.kills;
        self.kills_while_starting += other.kills_while_starting;
        self.acknowledged += other.acknowledged;
        self.repeated += other.repeated;
        self.runs += other.runs;
        self.executions += other.executions;
        self.adopted += other.adopted;
        self.interrupted += other.interrupted;
        self.checks += other.checks;
        self.longest_start = self.longest_start.max(other.longest_start);
        self.cycle += other.cycle;
        self.violations.extend(other.violations.iter().cloned());
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} kills ({} while starting), {} commands acknowledged ({} repeated), {} runs, {} executions \
             ({} adopted, {} interrupted), {} checks, longest start {} ms",
            self.kills,
            self.kills_while_starting,
            self.acknowledged,
            self.repeated,
            self.runs,
            self.executions,
            self.adopted,
            self.interrupted,
            self.checks,
            self.longest_start.as_millis(),
        )
    }
}
