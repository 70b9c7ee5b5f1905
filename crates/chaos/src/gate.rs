//! Runs the faults that were asked for, prints a line for each row as it ends and a table at the end.

use std::{
    io::Write,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use testkit::{database::URL, random::Random};
use tokio::sync::Semaphore;

use crate::{
    evidence::{self, Sources},
    fault::{Backend, Fault, On, Outcome, Programs, Run, Setting, Weight},
    options::Options,
    place::remove_dir,
    row::{ControlRow, ControlVerdict, Row, Verdict},
};

/// Light rows that run side by side.
const SIDE_BY_SIDE: u32 = 3;

/// Talks to whoever watches; whoever closed stderr does not want it.
pub fn tell(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// What all rows of a run share.
#[derive(Clone, Debug)]
struct Gate {
    options: Arc<Options>,
    root: PathBuf,
    postgres: Option<String>,
    programs: Arc<Programs>,
}

/// Runs what the options ask for. `exe` is this program, beside which the product's binary lies.
pub async fn run(options: Options, exe: &Path) -> Result<ExitCode> {
    if options.list {
        list(&options);
        return Ok(ExitCode::SUCCESS);
    }
    tell(&format!("chaos: SEED={}", options.seed));
    let postgres = host::env::var(URL);
    if postgres.is_none() && options.backends.contains(&Backend::Postgres) {
        bail!("{URL} names no PostgreSQL server; `cargo xtask chaos` lends one, `--backend sqlite` does without");
    }
    let root = host::fs::create_temporary_dir(&host::fs::temporary_root(), "pilothouse-chaos-")?;
    let programs = Programs { product: copy(exe, "pilothouse", &root)?, chaos: copy(exe, "chaos", &root)? };
    let gate = Gate { options: Arc::new(options), root, postgres, programs: Arc::new(programs) };
    let started = host::clock::monotonic();
    let rows = gate.rows().await?;
    let passed = gate.conclude(&rows, started.elapsed())?;
    Ok(if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn list(options: &Options) {
    for fault in &options.faults {
        let on = |on: &On| format!("{} {} / {}", on.backend.name(), on.quick, on.long);
        let counts: Vec<String> = fault.on.iter().map(on).collect();
        print(&format!("{:<18} {} ({})", fault.name, fault.injects, counts.join(", ")));
    }
}

fn print(line: &str) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

/// Runs are long: what cargo replaces meanwhile must not change what is tested.
fn copy(exe: &Path, name: &str, root: &Path) -> Result<PathBuf> {
    let (from, to) = (exe.with_file_name(name), root.join(name));
    std::fs::copy(&from, &to)
        .with_context(|| format!("cannot copy {}; build it beside this program", from.display()))?;
    Ok(to)
}

impl Gate {
    async fn rows(&self) -> Result<Vec<Row>> {
        let sources = Sources::read().await;
        let places = Arc::new(Semaphore::new(SIDE_BY_SIDE as usize));
        let mut running = Vec::new();
        for (fault, on) in self.wanted() {
            let takes = match fault.weight {
                Weight::Light => 1,
                Weight::Heavy => SIDE_BY_SIDE,
            };
            // In the order of the list: who waits for the whole machine is not overtaken.
            let place = places.clone().acquire_many_owned(takes).await?;
            let (gate, sources) = (self.clone(), sources.clone());
            running.push(host::task::spawn("fault", async move {
                let row = gate.row(fault, on).await;
                drop(place);
                gate.show(&row, &sources)?;
                anyhow::Ok(row)
            }));
        }
        let mut rows = Vec::new();
        for row in running {
            rows.push(row.await.context("a fault's own code panicked")??);
        }
        Ok(rows)
    }

    fn wanted(&self) -> Vec<(&'static Fault, &'static On)> {
        let pairs = self.options.faults.iter().flat_map(|fault| fault.on.iter().map(move |on| (*fault, on)));
        pairs.filter(|(_, on)| self.options.backends.contains(&on.backend)).collect()
    }

    async fn row(&self, fault: &'static Fault, on: &'static On) -> Row {
        let wanted = self.options.count.unwrap_or(if self.options.long { on.long } else { on.quick });
        let mut row = Row::new(fault, on.backend, wanted, self.options.seed);
        if let Some((need, why)) = fault.needs.iter().find_map(|need| Some((need, need.missing()?))) {
            row.verdict = Verdict::NotHere { why, is_demanded: need.is_demanded };
            return row;
        }
        if wanted == 0 {
            let why = "it runs only when asked for, with --count or --long".to_owned();
            row.verdict = Verdict::NotHere { why, is_demanded: false };
            return row;
        }
        let has_budget = !self.options.long && self.options.count.is_none();
        let budget = has_budget.then(|| Duration::from_secs(on.budget));
        if self.options.product {
            let started = host::clock::monotonic();
            let setting = self.setting(fault, on, None, wanted, budget);
            match carry_out(fault.run, setting).await {
                Ok(outcome) => {
                    row.done = outcome.done;
                    row.figures = outcome.figures;
                    let spent = || format!("{} of {wanted}, budget of {} s", outcome.done, on.budget);
                    let is_sound = outcome.violations.is_empty();
                    row.cut = outcome.cut.or_else(|| (is_sound && outcome.done < wanted).then(spent));
                    row.verdict = match is_sound {
                        true => Verdict::Sound,
                        false => Verdict::Unsound(outcome.violations),
                    };
                }
                Err(error) => row.verdict = Verdict::Broken(format!("{error:#}")),
            }
            row.took = started.elapsed();
        }
        if self.options.controls {
            let started = host::clock::monotonic();
            for control in fault.controls {
                let setting = self.setting(fault, on, Some(control.name), wanted, budget);
                let verdict = match carry_out(control.run, setting).await {
                    Ok(outcome) => ControlVerdict::of(control, &outcome.violations),
                    Err(error) => ControlVerdict::Broken(format!("{error:#}")),
                };
                row.controls.push(ControlRow { name: control.name, verdict });
            }
            row.took_controls = started.elapsed();
        }
        row
    }

    fn setting(&self, fault: &Fault, on: &On, control: Option<&str>, wanted: u64, budget: Option<Duration>) -> Setting {
        let parts = [Some(fault.name), Some(on.backend.name()), control];
        let name = parts.into_iter().flatten().filter(|part| *part != "-").collect::<Vec<_>>().join("-");
        let salt = name.bytes().fold(7_u64, |salt, byte| salt.wrapping_mul(31).wrapping_add(u64::from(byte)));
        Setting {
            backend: on.backend,
            wanted,
            budget,
            random: Random::new(self.options.seed).fork(salt),
            seed: self.options.seed,
            dir: self.root.join(&name),
            programs: self.programs.clone(),
            postgres: self.postgres.clone(),
            on_loopback: self.options.on_loopback,
            keep: self.options.keep,
            verbose: self.options.verbose,
            name,
        }
    }

    fn show(&self, row: &Row, sources: &Sources) -> Result<()> {
        tell(&format!("chaos: {}", row.line()));
        let failed = !row.passes();
        for detail in row.details().iter().filter(|_| failed || self.options.verbose) {
            tell(&format!("chaos:   {detail}"));
        }
        if failed {
            tell(&format!("chaos:   SEED={}; it lies in {}", row.seed, self.root.display()));
        }
        if self.options.json {
            print(&row.json().to_string());
        }
        match &self.options.evidence {
            Some(dir) => evidence::append(dir, sources, row),
            None => Ok(()),
        }
    }

    fn conclude(&self, rows: &[Row], took: Duration) -> Result<bool> {
        tell("chaos:");
        for row in rows {
            tell(&format!("chaos: {}", row.table_line()));
        }
        let failed = rows.iter().filter(|row| !row.passes()).count();
        let passed = failed == 0 && !rows.is_empty();
        if passed && !self.options.keep {
            std::fs::remove_dir_all(&self.root)?;
        } else {
            tell(&format!("chaos: everything lies in {}", self.root.display()));
        }
        let verdict = if passed { "passed".to_owned() } else { format!("FAILED ({failed} of {} rows)", rows.len()) };
        tell(&format!("chaos: {verdict}, {:.0} s (SEED={})", took.as_secs_f64(), self.options.seed));
        Ok(passed)
    }
}

/// Gives a run its directory, and takes it away again unless there is something to be seen in it.
async fn carry_out(run: Run, setting: Setting) -> Result<Outcome> {
    let (dir, keep) = (setting.dir.clone(), setting.keep);
    std::fs::create_dir_all(&dir)?;
    let outcome = run(setting).await?;
    if !keep && outcome.violations.is_empty() {
        remove_dir(dir).await?;
    }
    Ok(outcome)
}
