//! All campaigns of a run, what they found, and the verdict.

use std::{
    fmt,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context, Result, bail};

use super::{
    campaign::{self, Plan, Report},
    drill::Fault,
    node::Program,
    options::{Backend, Options},
    place::Place,
};
use crate::{database::URL, random::Random};

/// Cycles on one ledger; then another begins, so that the first start of a ledger is killed as well.
const CAMPAIGN: u32 = 50;
const SOUND_CYCLES: u32 = 12;
/// A fault shows at once as a rule; a control ends there.
const FAULT_CYCLES: u32 = 40;
const CUSTOMERS: u64 = 6;
/// Violations that are printed.
const SHOWN: usize = 8;

/// What kind of promise was broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Something acknowledged is not there.
    Lost,
    /// What follows from an event was not stored with it.
    Effect,
    /// A write by whom the lease was taken from.
    StaleWriter,
    /// Events and rows disagree.
    Fold,
    Transition,
    Attempts,
    /// Done more often than it may be.
    Repeated,
    /// Executed without being in the ledger, or in the ledger without having been executed.
    Unrecorded,
    Integrity,
    Orphan,
    /// Does not come to rest.
    Stuck,
    /// An answer that no node may give.
    Answer,
    /// A process that does not start, ends by itself or does not stop.
    Process,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    pub kind: Kind,
    pub run: Option<String>,
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.run {
            Some(run) => write!(f, "{:?}: run {run}: {}", self.kind, self.what),
            None => write!(f, "{:?}: {}", self.kind, self.what),
        }
    }
}

struct Run<'a> {
    options: &'a Options,
    root: PathBuf,
    postgres: Option<String>,
    exe: PathBuf,
    tell: &'a dyn Fn(&str),
}

/// Runs what the options ask for. `exe` is this program, beside which the product's binary lies.
pub async fn run(options: &Options, exe: &Path, tell: &dyn Fn(&str)) -> Result<ExitCode> {
    tell(&format!("kill: SEED={}", options.seed));
    let postgres = match host::env::var(URL) {
        Some(url) => Some(url),
        None if options.backends.contains(&Backend::Postgres) => {
            bail!("{URL} names no PostgreSQL server; `cargo xtask pg` lends one, `--backend sqlite` does without")
        }
        None => None,
    };
    let root = host::fs::create_temporary_dir(&host::fs::temporary_root(), "pilothouse-kill-")?;
    let run = Run { options, root, postgres, exe: exe.to_owned(), tell };
    let mut passed = true;
    if options.product {
        // Campaigns are long: what cargo replaces meanwhile must not change what is tested.
        let product = Program::Product(run.copy("pilothouse")?);
        for backend in &options.backends {
            passed &= run.product(*backend, &product).await?;
        }
    }
    if options.controls {
        for backend in &options.backends {
            passed &= run.controls(*backend).await?;
        }
    }
    if passed && !options.keep {
        std::fs::remove_dir_all(&run.root)?;
    } else {
        tell(&format!("kill: everything lies in {}", run.root.display()));
    }
    tell(if passed { "kill: passed" } else { "kill: FAILED" });
    Ok(if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

impl Run<'_> {
    fn copy(&self, name: &str) -> Result<PathBuf> {
        let from = self.exe.with_file_name(name);
        let to = self.root.join(name);
        std::fs::copy(&from, &to).with_context(|| format!("cannot copy {}", from.display()))?;
        Ok(to)
    }

    async fn product(&self, backend: Backend, product: &Program) -> Result<bool> {
        let wanted = self.options.cycles.unwrap_or_else(|| backend.cycles());
        let mut total = Report::default();
        let mut done = 0;
        for n in 1.. {
            let cycles = match backend {
                Backend::Sqlite => CAMPAIGN,
                // Both ways to run it get their share.
                Backend::Postgres => CAMPAIGN.min(wanted.div_ceil(2)),
            };
            let plan = Plan {
                name: format!("{}-{n}", backend.name()),
                program: product.clone(),
                split: backend == Backend::Postgres && n % 2 == 0,
                cycles: cycles.min(wanted - done),
                customers: CUSTOMERS,
            };
            let report = self.campaign(&plan, backend).await?;
            done += plan.cycles;
            total.add(&report);
            if !report.violations.is_empty() {
                self.show(&plan, &report);
                return Ok(false);
            }
            if done >= wanted {
                break;
            }
        }
        (self.tell)(&format!("kill: {}: {done} cycles, {total}", backend.name()));
        Ok(true)
    }

    /// The sound drill must pass; each fault must be found, and as what it is.
    async fn controls(&self, backend: Backend) -> Result<bool> {
        let exe = self.copy("kill")?;
        let mut passed = true;
        for fault in [None, Some(Fault::EarlyAnswer), Some(Fault::SecondCommit), Some(Fault::NoFence)] {
            let name = fault.map_or("sound", Fault::name);
            if self.options.control.as_deref().is_some_and(|wanted| wanted != name) {
                continue;
            }
            let plan = Plan {
                name: format!("{}-{name}", backend.name()),
                program: Program::Drill(exe.clone(), fault),
                split: false,
                cycles: if fault.is_some() { FAULT_CYCLES } else { SOUND_CYCLES },
                customers: CUSTOMERS,
            };
            let report = self.campaign(&plan, backend).await?;
            let kinds: Vec<Kind> = report.violations.iter().map(|violation| violation.kind).collect();
            match fault {
                None if kinds.is_empty() => {
                    (self.tell)(&format!("kill: {}: the sound control passed, {report}", backend.name()));
                }
                None => {
                    self.show(&plan, &report);
                    passed = false;
                }
                Some(fault) if kinds.contains(&fault.shows_as()) => {
                    let example = report.violations.iter().find(|violation| violation.kind == fault.shows_as());
                    let example = example.map(ToString::to_string).unwrap_or_default();
                    (self.tell)(&format!(
                        "kill: {}: control {name} was caught in cycle {} ({example})",
                        backend.name(),
                        report.cycle
                    ));
                }
                Some(fault) => {
                    self.show(&plan, &report);
                    (self.tell)(&format!(
                        "kill: {}: control {name} was NOT caught as {:?} within {} cycles: the checks prove nothing",
                        backend.name(),
                        fault.shows_as(),
                        plan.cycles
                    ));
                    passed = false;
                }
            }
        }
        Ok(passed)
    }

    async fn campaign(&self, plan: &Plan, backend: Backend) -> Result<Report> {
        let salt = plan.name.bytes().fold(7_u64, |salt, byte| salt.wrapping_mul(31) + u64::from(byte));
        let random = Random::new(self.options.seed).fork(salt);
        let place = Place::create(backend, self.root.join(&plan.name), self.postgres.as_deref()).await?;
        let verbose = self.options.verbose;
        let tell = |line: &str| {
            if verbose {
                (self.tell)(line);
            }
        };
        let report = Box::pin(campaign::run(plan, &place, &random, &tell)).await.with_context(|| {
            format!(
                "campaign {} could not be carried out (SEED={}, {})",
                plan.name,
                self.options.seed,
                place.dir.display()
            )
        })?;
        let caught = !plan.program.drains() && !report.violations.is_empty();
        if !self.options.keep && (report.violations.is_empty() || caught) {
            place.remove().await?;
        } else if let Some(url) = place.database_url() {
            // The name is enough to look at it; it goes with the server.
            (self.tell)(&format!(
                "kill: {} keeps its database {}",
                plan.name,
                url.rsplit('/').next().unwrap_or_default()
            ));
        }
        Ok(report)
    }

    fn show(&self, plan: &Plan, report: &Report) {
        let dir = self.root.join(&plan.name);
        (self.tell)(&format!(
            "kill: {} FAILED in cycle {} (SEED={}, {report}); it lies in {}",
            plan.name,
            report.cycle,
            self.options.seed,
            dir.display()
        ));
        for violation in report.violations.iter().take(SHOWN) {
            (self.tell)(&format!("kill:   {violation}"));
        }
        if report.violations.len() > SHOWN {
            (self.tell)(&format!("kill:   and {} more", report.violations.len() - SHOWN));
        }
    }
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
        self.took += other.took;
        self.cycle += other.cycle;
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} kills ({} while starting), {} commands acknowledged ({} repeated), {} runs, {} executions \
             ({} adopted, {} interrupted), {} checks, longest start {} ms, {:.1} s ({:.2} s a cycle)",
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
            self.took.as_secs_f64(),
            self.took.as_secs_f64() / f64::from(self.cycle.max(1)),
        )
    }
}
