//! The marks that executions leave: one line at the beginning, one at the end, each with the attempt it belongs to.
//!
//! They are counted outside the ledger and written by the job itself, so that they tell what really ran.

use std::{collections::BTreeMap, io, path::Path};

/// How often an attempt began and ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mark {
    pub begun: u32,
    pub ended: u32,
}

/// By attempt id.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Marks(BTreeMap<String, Mark>);

impl Marks {
    pub fn read(path: &Path) -> io::Result<Self> {
        match std::fs::read_to_string(path) {
            Ok(text) => Ok(Self::parse(&text)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(error),
        }
    }

    /// Lines of `begin|end <home> <pid>`, and empty ones, where the home is the attempt's own: `…/attempts/<attempt>/home`.
    fn parse(text: &str) -> Self {
        let mut marks = Self::default();
        for line in text.lines() {
            let mut words = line.split(' ');
            let (Some(what), Some(home)) = (words.next(), words.next()) else { continue };
            // Whoever was killed while it wrote has left a part of a mark.
            let Some(attempt) = home.strip_suffix("/home").and_then(|home| home.rsplit('/').next()) else { continue };
            let mark = marks.0.entry(attempt.to_owned()).or_default();
            match what {
                "begin" => mark.begun += 1,
                "end" => mark.ended += 1,
                _ => {}
            }
        }
        marks
    }

    pub fn of(&self, attempt: &str) -> Mark {
        self.0.get(attempt).copied().unwrap_or_default()
    }

    pub fn attempts(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// How many executions began.
    pub fn executions(&self) -> u64 {
        self.0.values().map(|mark| u64::from(mark.begun)).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_counted_by_attempt() {
        let marks = Marks::parse(
            "begin /d/attempts/run-A-1/home 2\nend /d/attempts/run-A-1/home 2\nbegin /d/attempts/run-B-2/home 2\n",
        );

        assert_eq!(marks.of("run-A-1"), Mark { begun: 1, ended: 1 });
        assert_eq!(marks.of("run-B-2"), Mark { begun: 1, ended: 0 });
        assert_eq!(marks.of("run-C-1"), Mark::default());
        assert_eq!(marks.executions(), 2);
    }

    #[test]
    fn half_a_mark_is_none() {
        let marks = Marks::parse("\nbegin /d/attempts/run-A\nbegin /d/attempts/run-B-2/home 2\n");

        assert_eq!(marks.attempts().collect::<Vec<_>>(), ["run-B-2"]);
    }
}
