//! What the command line asks for.

use anyhow::{Context, Result, bail};

pub const USAGE: &str = "usage: kill [--backend sqlite|postgres|both] [--cycles N] [--no-controls] [--only-controls] \
[--control sound|early-answer|second-commit|no-fence] [--keep] [--verbose]\nSEED=<number> repeats the decisions of a run.";

/// The little node without and with each fault.
const CONTROLS: [&str; 4] = ["sound", "early-answer", "second-commit", "no-fence"];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    Sqlite,
    Postgres,
}

impl Backend {
    pub fn name(self) -> &'static str {
        match self {
            Self::Sqlite => "sqlite",
            Self::Postgres => "postgres",
        }
    }

    /// Cycles in CI.
    pub fn cycles(self) -> u32 {
        match self {
            Self::Sqlite => 200,
            Self::Postgres => 60,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    pub backends: Vec<Backend>,
    /// For each backend, instead of what CI runs.
    pub cycles: Option<u32>,
    pub product: bool,
    pub controls: bool,
    /// Only this one of them.
    pub control: Option<String>,
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
            backends: vec![Backend::Sqlite, Backend::Postgres],
            cycles: None,
            product: true,
            controls: true,
            control: None,
            keep: false,
            verbose: false,
            seed,
        };
        let mut arguments = arguments.into_iter();
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                "--backend" => {
                    options.backends = match arguments.next().as_deref() {
                        Some("sqlite") => vec![Backend::Sqlite],
                        Some("postgres") => vec![Backend::Postgres],
                        Some("both") => vec![Backend::Sqlite, Backend::Postgres],
                        _ => bail!("--backend takes sqlite, postgres or both\n{USAGE}"),
                    }
                }
                "--cycles" => {
                    let cycles = arguments.next().and_then(|number| number.parse().ok()).filter(|cycles| *cycles > 0);
                    options.cycles = Some(cycles.with_context(|| format!("--cycles takes a number\n{USAGE}"))?);
                }
                "--no-controls" => options.controls = false,
                "--only-controls" => options.product = false,
                "--control" => {
                    let name = arguments.next().filter(|name| CONTROLS.contains(&name.as_str()));
                    options.control =
                        Some(name.with_context(|| format!("--control takes one of {CONTROLS:?}\n{USAGE}"))?);
                }
                "--keep" => options.keep = true,
                "--verbose" => options.verbose = true,
                other => bail!("unknown argument {other}\n{USAGE}"),
            }
        }
        if !options.product && !options.controls {
            bail!("nothing is left to do\n{USAGE}");
        }
        Ok(options)
    }
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

        assert_eq!((options.backends.len(), options.product, options.controls, options.seed), (2, true, true, 7));
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        for arguments in [
            &["--backend", "oracle"][..],
            &["--cycles", "0"],
            &["--fast"],
            &["--control", "none"],
            &["--only-controls", "--no-controls"],
        ] {
            assert!(parse(arguments).is_err(), "{arguments:?}");
        }
        assert!(Options::parse([], Some("seven".to_owned())).is_err());
    }
}
