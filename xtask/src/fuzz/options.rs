//! What was asked for.

use std::hash::{BuildHasher as _, RandomState};

use anyhow::{Context as _, Result, bail};

use super::targets::Target;

const USAGE: &str = "usage: cargo xtask fuzz [TARGETS] [--seconds N] [--long] [--list]";
const SECONDS: u64 = 60;

pub(super) struct Options {
    pub(super) targets: Vec<Target>,
    /// For each target; `None`: until it has seen what is wanted.
    pub(super) seconds: Option<u64>,
    pub(super) seed: u32,
    pub(super) list: bool,
}

impl Options {
    pub(super) fn parse(arguments: &[String], all: &[Target]) -> Result<Self> {
        let mut options = Self { targets: Vec::new(), seconds: Some(SECONDS), seed: seed()?, list: false };
        let mut arguments = arguments.iter();
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                "--seconds" => {
                    let seconds = arguments.next().and_then(|text| text.parse().ok()).filter(|&seconds| seconds > 0);
                    options.seconds = Some(seconds.with_context(|| format!("--seconds takes a number\n{USAGE}"))?);
                }
                "--long" => options.seconds = None,
                "--list" => options.list = true,
                flag if flag.starts_with('-') => bail!("there is no {flag}\n{USAGE}"),
                name => {
                    let target = all.iter().find(|target| target.name == name);
                    let target = target.with_context(|| format!("there is no target `{name}`; --list shows them"))?;
                    options.targets.push(target.clone());
                }
            }
        }
        if options.targets.is_empty() {
            options.targets = all.to_vec();
        }
        Ok(options)
    }
}

/// The seed that `SEED` names, else one that nobody chose. libFuzzer takes 0 for "any".
fn seed() -> Result<u32> {
    match std::env::var("SEED") {
        Ok(text) if !text.is_empty() && text != "random" => text.parse().context("SEED is a number below 2^32"),
        _ => Ok(u32::try_from(RandomState::new().hash_one(0) >> 33)?.max(1)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(arguments: &[&str]) -> Result<Options> {
        let arguments: Vec<String> = arguments.iter().map(|&argument| argument.to_owned()).collect();
        Options::parse(&arguments, &["message", "plan"].map(Target::named))
    }

    #[test]
    fn everything_for_a_minute_each_unless_something_is_named() {
        let options = parse(&[]).unwrap();
        assert_eq!((options.targets.len(), options.seconds), (2, Some(60)));
        let options = parse(&["plan", "--seconds", "5"]).unwrap();
        assert_eq!((options.targets[0].name.as_str(), options.targets.len(), options.seconds), ("plan", 1, Some(5)));
        assert_eq!(parse(&["--long"]).unwrap().seconds, None);
    }

    #[test]
    fn what_nobody_knows_is_refused() {
        for arguments in [&["plans"][..], &["--second", "3"], &["--seconds"], &["--seconds", "0"]] {
            assert!(parse(arguments).is_err(), "{arguments:?}");
        }
    }
}
