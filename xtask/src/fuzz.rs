//! `cargo xtask fuzz`: coverage-guided inputs for every parser, one target after the other.
//!
//! The targets are a workspace of their own (`fuzz/`), built by cargo-fuzz without sanitizers, which any stable compiler
//! allows. What a target falls over is kept; what came of each is a line of `evidence/fuzz.jsonl`. A target that falls on
//! purpose has to fall, else nothing is proven.

mod evidence;
mod options;
mod report;
mod targets;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use crate::process::{self, capture, cargo, on_path, say};
use evidence::Sources;
use options::Options;
use report::{Report, Verdict};
use targets::Target;

/// The target that has to fall, and for how long it may be steered to what it falls over.
const CONTROL: &str = "control";
const CONTROL_SECONDS: u64 = 60;
/// The goal for each target.
const WANTED: u64 = 100_000_000;
/// Longer inputs say little that these do not, and take longer.
const MAX_LEN: usize = 16 * 1024;

/// What came of one target.
struct Row {
    target: String,
    seed: u32,
    report: Report,
    cut: Option<String>,
    took: Duration,
}

/// Where things are.
struct Places {
    programs: PathBuf,
    /// What has been found to lead further, and the logs.
    kept: PathBuf,
    artifacts: PathBuf,
}

pub(crate) fn run(arguments: &[String]) -> Result<ExitCode> {
    let options = Options::parse(arguments, &targets::all()?)?;
    if options.list {
        options.targets.iter().for_each(|target| println!("{}", target.name));
        return Ok(ExitCode::SUCCESS);
    }
    let sources = Sources::read();
    let places = build()?;
    let control = carry_out(&places, &Target::named(CONTROL), options.seed, Some(CONTROL_SECONDS))?;
    let fell = matches!(control.report.verdict, Verdict::Unsound(_));
    say(&format!("fuzz: the control {}", if fell { "fell, as it has to" } else { "did NOT fall: nothing is proven" }));
    let mut failed = 0;
    for target in &options.targets {
        let row = carry_out(&places, target, options.seed, options.seconds)?;
        say(&row.line());
        row.report.details().iter().for_each(|detail| say(&format!("fuzz:   {detail}")));
        evidence::append(&sources, &row, fell, control.took)?;
        failed += usize::from(row.report.verdict != Verdict::Sound);
    }
    let verdict = if failed == 0 && fell { "passed".to_owned() } else { format!("FAILED ({failed} targets)") };
    say(&format!("fuzz: {verdict}, {} targets (SEED={})", options.targets.len(), options.seed));
    Ok(if failed == 0 && fell { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Builds every target, or says what is missing and how to get it.
fn build() -> Result<Places> {
    if on_path("cargo-fuzz").is_none() {
        bail!("cargo-fuzz is not on PATH; `cargo install cargo-fuzz --locked` builds it (0.13.2 is known to do)");
    }
    if on_path("c++").is_none() && std::env::var_os("CXX").is_none() {
        bail!("libFuzzer needs a C++ compiler (Debian: apt-get install g++, or name one in CXX)");
    }
    let all = process::target_directory()?.join("fuzz");
    fs::create_dir_all(&all)?;
    try_compiler(&all)?;
    say("xtask: building the targets of fuzz/, which takes a few minutes the first time");
    let mut fuzz = cargo();
    fuzz.args(["fuzz", "build", "--sanitizer", "none"]).env("CARGO_TARGET_DIR", &all);
    if !process::status(&mut fuzz)?.success() {
        bail!("the targets of fuzz/ cannot be built");
    }
    let programs = all.join(host()?).join("release");
    Ok(Places { programs, kept: all, artifacts: process::workspace().join("fuzz/artifacts") })
}

/// Whether the compiler lets LLVM count what is reached: one without these passes would build targets that are blind.
fn try_compiler(dir: &Path) -> Result<()> {
    let probe = dir.join("probe.rs");
    fs::write(&probe, "pub fn probe(n: u8) -> bool { n > 3 }\n")?;
    let flags = ["-Cpasses=sancov-module", "-Cllvm-args=-sanitizer-coverage-level=4", "--crate-type=lib", "--emit=obj"];
    let mut rustc = Command::new("rustc");
    capture(rustc.args(flags).arg("-o").arg(dir.join("probe.o")).arg(&probe))
        .context("this compiler has none of LLVM's coverage passes; rustup's stable has (`rustup default stable`)")?;
    Ok(())
}

fn host() -> Result<String> {
    let version = capture(Command::new("rustc").arg("-vV"))?;
    let host = version.lines().find_map(|line| line.strip_prefix("host: "));
    host.map(str::to_owned).context("rustc names no host")
}

/// Runs one target until it falls, has seen what is wanted, or its time is over.
fn carry_out(places: &Places, target: &Target, seed: u32, seconds: Option<u64>) -> Result<Row> {
    let (corpus, artifacts) = (places.kept.join("corpus").join(&target.name), places.artifacts.join(&target.name));
    if target.name == CONTROL && corpus.exists() {
        // What led it to the word before would make nothing of its steering.
        fs::remove_dir_all(&corpus)?;
    }
    fs::create_dir_all(&corpus)?;
    fs::create_dir_all(&artifacts)?;
    let log = places.kept.join(format!("{}.log", target.name));
    let mut program = Command::new(places.programs.join(&target.name));
    program.current_dir(process::workspace()).arg(&corpus);
    program.arg(format!("-artifact_prefix={}/", artifacts.display())).arg(format!("-seed={seed}"));
    program.arg(format!("-max_len={MAX_LEN}")).arg(format!("-runs={WANTED}"));
    program.args(["-timeout=10", "-rss_limit_mb=2048", "-reload=0", "-print_final_stats=1"]);
    if let Some(seconds) = seconds {
        program.arg(format!("-max_total_time={seconds}"));
    }
    let seeds: Vec<String> = target.seeds.iter().map(|seed| seed.display().to_string()).collect();
    if !seeds.is_empty() {
        program.arg(format!("-seed_inputs={}", seeds.join(",")));
    }
    let started = Instant::now();
    let ended = process::status(program.stdout(File::create(&log)?).stderr(File::options().append(true).open(&log)?))?;
    let took = started.elapsed();
    let report = Report::of(&String::from_utf8_lossy(&fs::read(&log)?), ended.success(), &log);
    let cut = match (&report.verdict, seconds) {
        (Verdict::Sound, Some(seconds)) if report.n_inputs < WANTED => Some(format!("{seconds} s were given")),
        (Verdict::Sound, _) => None,
        (Verdict::Unsound(_) | Verdict::Broken(_), _) => Some("it ended there".to_owned()),
    };
    Ok(Row { target: target.name.clone(), seed, report, cut, took })
}

impl Row {
    fn line(&self) -> String {
        let cut = self.cut.as_ref().map(|cut| format!("; cut: {cut}")).unwrap_or_default();
        let Report { n_inputs, verdict, .. } = &self.report;
        let (verdict, figures, took) = (verdict.name(), self.report.figures(), self.took.as_secs_f64());
        format!("fuzz {}: wanted {WANTED}, done {n_inputs}{cut}; {verdict}; {figures}; {took:.1} s", self.target)
    }
}
