//! Programs of others that tests drive: fetched for them, or missing for a reason, or left out by a flag.

use std::path::PathBuf;
use std::process::Command;

use anyhow::Result;

use crate::process::say;

/// One kind of such programs, and how its tests are told of it.
pub(crate) struct Kind {
    /// For people: "real agents".
    pub(crate) what: &'static str,
    /// The variable in which tests look for the directory.
    pub(crate) directory: &'static str,
    /// The variable in which they look for the reason why there is none.
    pub(crate) missing: &'static str,
    /// Leaves these tests out.
    pub(crate) flag: &'static str,
    /// What the names of all of them begin with, in whatever test program.
    pub(crate) tests: &'static str,
    /// Fetches the programs; else the sentence that says what is missing.
    pub(crate) fetch: fn() -> Result<Result<PathBuf, String>>,
}

/// What a task lends to the tests it runs.
pub(crate) struct Lent {
    kind: &'static Kind,
    state: State,
}

enum State {
    At(PathBuf),
    /// Why the programs are not here; tests that need them fail with these words.
    Missing(String),
    LeftOut,
}

impl Kind {
    /// Takes the flag out of a task's arguments and prepares the programs unless it was there.
    pub(crate) fn prepare(&'static self, arguments: &mut Vec<String>) -> Result<Lent> {
        let own = arguments.iter().take_while(|argument| *argument != "--").position(|a| a == self.flag);
        let state = if let Some(position) = own {
            arguments.remove(position);
            say(&format!("xtask: {}: the tests with {} are LEFT OUT", self.flag, self.what));
            State::LeftOut
        } else if let Some(directory) = std::env::var_os(self.directory).filter(|directory| !directory.is_empty()) {
            say(&format!("xtask: {} from {}, used as they are", self.what, self.directory));
            State::At(directory.into())
        } else {
            match (self.fetch)()? {
                Ok(directory) => State::At(directory),
                Err(missing) => {
                    say(&format!("xtask: {missing}"));
                    State::Missing(missing)
                }
            }
        };
        Ok(Lent { kind: self, state })
    }
}

impl Lent {
    /// Tells a test run where the programs are, or which tests not to run.
    pub(crate) fn lend(&self, tests: &mut Command, arguments: &mut Vec<String>) {
        match &self.state {
            State::At(directory) => {
                tests.env(self.kind.directory, directory);
            }
            State::Missing(why) => {
                tests.env_remove(self.kind.directory).env(self.kind.missing, why);
            }
            State::LeftOut => skip(arguments, self.kind.tests),
        }
    }

    /// Whether they are of this kind, and their tests are to run.
    pub(crate) fn are_of(&self, kind: &Kind) -> bool {
        self.kind.flag == kind.flag && !matches!(self.state, State::LeftOut)
    }

    /// Arguments for every test but theirs.
    pub(crate) fn others(&self) -> Vec<String> {
        let mut arguments = Vec::new();
        skip(&mut arguments, self.kind.tests);
        arguments
    }

    /// Arguments for their tests alone, so many side by side.
    pub(crate) fn alone(&self, threads: usize) -> Vec<String> {
        let threads = format!("--test-threads={threads}");
        ["--tests", self.kind.tests, "--", &threads].map(str::to_owned).to_vec()
    }
}

/// One more argument for the test programs, which then count what was filtered out.
fn skip(arguments: &mut Vec<String>, tests: &str) {
    if !arguments.iter().any(|argument| argument == "--") {
        arguments.push("--".to_owned());
    }
    arguments.extend(["--skip".to_owned(), tests.to_owned()]);
}

#[cfg(test)]
mod tests;
