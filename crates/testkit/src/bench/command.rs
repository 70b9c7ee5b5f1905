//! The command line that programs share which measure: `[ROWS] [--quick] [--json]`.

use std::{
    io::{self, Write},
    process::ExitCode,
};

use crate::bench::report::Report;

/// What was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked<R> {
    /// Those that were named; none means that the program chooses.
    pub rows: Vec<R>,
    pub is_quick: bool,
    pub as_json: bool,
}

impl<R: Copy> Asked<R> {
    /// Reads the arguments; the error is a sentence that names what there is.
    pub fn parse(arguments: &[String], all: &[R], name: impl Fn(R) -> &'static str) -> Result<Self, String> {
        let mut asked = Self { rows: Vec::new(), is_quick: false, as_json: false };
        for argument in arguments {
            match (argument.as_str(), all.iter().find(|row| name(**row) == argument)) {
                // What cargo itself says to a benchmark.
                ("--bench", _) => {}
                ("--json", _) => asked.as_json = true,
                ("--quick", _) => asked.is_quick = true,
                (_, Some(row)) => asked.rows.push(*row),
                (unknown, None) => {
                    let names: Vec<&str> = all.iter().map(|row| name(*row)).collect();
                    let names = names.join(" ");
                    return Err(format!("unknown argument {unknown}; rows: {names}; flags: --json --quick"));
                }
            }
        }
        Ok(asked)
    }
}

/// Prints the rows; the exit code is 1 unless every goal is met.
pub fn print(reports: &[Report], as_json: bool) -> ExitCode {
    let mut out = io::stdout().lock();
    for report in reports {
        let line = if as_json { report.json() } else { report.line() };
        if writeln!(out, "{line}").is_err() {
            return ExitCode::FAILURE;
        }
    }
    if reports.iter().all(Report::is_met) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Progress is talk: whoever closed stderr does not want it.
pub fn say(line: &str) {
    let _ = writeln!(io::stderr(), "{line}");
}

/// Says what was wrong with the arguments.
pub fn usage(what: &str) -> ExitCode {
    say(what);
    ExitCode::from(2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_and_flags_come_in_any_order_and_others_are_refused() {
        let parse = |text: &str| {
            let arguments: Vec<String> = text.split_whitespace().map(str::to_owned).collect();
            Asked::parse(&arguments, &["a", "b"], |row| row)
        };

        assert_eq!(parse("--quick b --bench"), Ok(Asked { rows: vec!["b"], is_quick: true, as_json: false }));
        assert_eq!(parse("c"), Err("unknown argument c; rows: a b; flags: --json --quick".to_owned()));
    }
}
