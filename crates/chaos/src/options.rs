//! What the command line asks for.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};

use crate::{
    fault::{Backend, Fault},
    faults,
};

pub const USAGE: &str = "\
usage: chaos [FAULT…] [--long] [--count N] [--backend sqlite|postgres|both] [--no-controls|--only-controls]
             [--on-loopback] [--list] [--json] [--evidence DIR] [--keep] [--verbose]
No fault named: all of them. SEED=<number> repeats the decisions of a run.";

/// Where `--long` leaves its rows.
const EVIDENCE: &str = "evidence";

#[derive(Clone, Debug)]
pub struct Options {
    pub faults: Vec<&'static Fault>,
    /// The goal instead of what CI has time for, and no budgets.
    pub long: bool,
    /// Injections a row instead of what the gate wants, without a budget.
    pub count: Option<u64>,
    pub backends: Vec<Backend>,
    pub product: bool,
    pub controls: bool,
    /// Do without network namespaces even where they can be made.
    pub on_loopback: bool,
    pub list: bool,
    /// Each row as an object on stdout.
    pub json: bool,
    pub evidence: Option<PathBuf>,
    /// Keep every directory, not only those of failures.
    pub keep: bool,
    pub verbose: bool,
    pub seed: u64,
}

impl Options {
    /// Reads the arguments behind the program's name.
    pub fn parse(arguments: impl IntoIterator<Item = String>, seed: Option<String>) -> Result<Self> {
        let seed = match seed {
            Some(text) => text.trim().parse().with_context(|| format!("SEED={text} is not a number"))?,
            None => host::random::u64() >> 16,
        };
        let mut options = Self {
            faults: Vec::new(),
            long: false,
            count: None,
            backends: vec![Backend::Sqlite, Backend::Postgres, Backend::Neither],
            product: true,
            controls: true,
            on_loopback: false,
            list: false,
            json: false,
            evidence: None,
            keep: false,
            verbose: false,
            seed,
        };
        let mut arguments = arguments.into_iter();
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                "--backend" => {
                    options.backends = match arguments.next().as_deref() {
                        Some("sqlite") => vec![Backend::Sqlite, Backend::Neither],
                        Some("postgres") => vec![Backend::Postgres],
                        Some("both") => vec![Backend::Sqlite, Backend::Postgres, Backend::Neither],
                        _ => bail!("--backend takes sqlite, postgres or both\n{USAGE}"),
                    }
                }
                "--count" => {
                    let count = arguments.next().and_then(|number| number.parse().ok()).filter(|count| *count > 0);
                    options.count = Some(count.with_context(|| format!("--count takes a number\n{USAGE}"))?);
                }
                "--evidence" => {
                    let dir = arguments.next().with_context(|| format!("--evidence takes a directory\n{USAGE}"))?;
                    options.evidence = Some(PathBuf::from(dir));
                }
                "--long" => options.long = true,
                "--no-controls" => options.controls = false,
                "--only-controls" => options.product = false,
                "--on-loopback" => options.on_loopback = true,
                "--list" => options.list = true,
                "--json" => options.json = true,
                "--keep" => options.keep = true,
                "--verbose" => options.verbose = true,
                flag if flag.starts_with('-') => bail!("unknown argument {flag}\n{USAGE}"),
                name => options.faults.push(find(name)?),
            }
        }
        if !options.product && !options.controls {
            bail!("nothing is left to do\n{USAGE}");
        }
        if options.faults.is_empty() {
            options.faults = faults::ALL.to_vec();
        }
        if options.long {
            options.evidence.get_or_insert_with(|| PathBuf::from(EVIDENCE));
        }
        Ok(options)
    }
}

fn find(name: &str) -> Result<&'static Fault> {
    let names = || faults::ALL.iter().map(|fault| fault.name).collect::<Vec<_>>().join(", ");
    let found = faults::ALL.iter().find(|fault| fault.name == name);
    found.copied().with_context(|| format!("there is no fault {name}; there are: {}\n{USAGE}", names()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(arguments: &[&str]) -> Result<Options> {
        Options::parse(arguments.iter().map(|argument| (*argument).to_owned()), Some("7".to_owned()))
    }

    #[test]
    fn without_arguments_everything_runs() {
        let options = parse(&[]).unwrap();

        assert_eq!((options.faults.len(), options.backends.len(), options.seed), (faults::ALL.len(), 3, 7));
        assert!(options.product && options.controls && options.evidence.is_none());
    }

    #[test]
    fn faults_are_named_and_long_runs_leave_evidence() {
        let options = parse(&["kill", "--long"]).unwrap();

        assert_eq!(options.faults.iter().map(|fault| fault.name).collect::<Vec<_>>(), ["kill"]);
        assert_eq!(options.evidence, Some(PathBuf::from(EVIDENCE)));
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        for arguments in [
            &["--backend", "oracle"][..],
            &["--count", "0"],
            &["--fast"],
            &["no-such-fault"],
            &["--evidence"],
            &["--only-controls", "--no-controls"],
        ] {
            assert!(parse(arguments).is_err(), "{arguments:?}");
        }
        assert!(Options::parse([], Some("seven".to_owned())).is_err());
    }
}
