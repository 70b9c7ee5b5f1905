//! What libFuzzer said of a run: how much it tried, how far it came, what it fell over.

use std::path::Path;

const EXECUTED: &str = "stat::number_of_executed_units:";
const PEAK: &str = "stat::peak_rss_mb:";
const KEPT: &str = "Test unit written to ";

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Sound,
    /// What happened, and where the input lies that did it.
    Unsound(Vec<String>),
    /// Nothing is known.
    Broken(String),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Report {
    pub(super) n_inputs: u64,
    /// Edges that were reached, and inputs that are kept because they led further.
    n_edges: u64,
    n_kept: u64,
    peak_mb: u64,
    pub(super) verdict: Verdict,
}

impl Report {
    /// Reads what a run printed; `succeeded`: how it ended.
    pub(super) fn of(log: &str, succeeded: bool, path: &Path) -> Self {
        let stat = |name: &str| log.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok());
        let status = log.lines().rfind(|line| line.starts_with('#') && line.contains(" cov: ")).unwrap_or_default();
        let n_inputs: u64 = stat(EXECUTED).unwrap_or_else(|| number(status.trim_start_matches('#')));
        let n_edges = status.split(" cov: ").nth(1).map_or(0, number);
        let n_kept = status.split(" corp: ").nth(1).map_or(0, number);
        let kept = log.lines().find_map(|line| line.split_once(KEPT)).map(|(_, path)| path.trim());
        let verdict = match kept {
            Some(input) => Verdict::Unsound(vec![what_happened(log), format!("the input lies in {input}")]),
            None if !succeeded => Verdict::Broken(format!("it ended without a word about why; {}", path.display())),
            // Without edges nothing steers: the program was built without the passes that count them.
            None if n_inputs == 0 || n_edges == 0 => {
                Verdict::Broken(format!("{n_inputs} inputs and {n_edges} edges; {}", path.display()))
            }
            None => Verdict::Sound,
        };
        Self { n_inputs, n_edges, n_kept, peak_mb: stat(PEAK).unwrap_or(0), verdict }
    }

    pub(super) fn details(&self) -> Vec<String> {
        match &self.verdict {
            Verdict::Sound => Vec::new(),
            Verdict::Unsound(details) => details.clone(),
            Verdict::Broken(why) => vec![why.clone()],
        }
    }

    pub(super) fn figures(&self) -> String {
        format!("{} edges, {} inputs kept, {} MB", self.n_edges, self.n_kept, self.peak_mb)
    }
}

impl Verdict {
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Sound => "sound",
            Self::Unsound(_) => "UNSOUND",
            Self::Broken(_) => "BROKEN",
        }
    }
}

/// The panic with its place, or what libFuzzer calls it.
fn what_happened(log: &str) -> String {
    let mut lines = log.lines().skip_while(|line| !line.contains(" panicked at "));
    let panic: Vec<&str> = lines.by_ref().take(3).filter(|line| !line.starts_with("note:")).collect();
    if !panic.is_empty() {
        return panic.join(" ").chars().take(600).collect();
    }
    let named = log.lines().find(|line| line.contains("ERROR: libFuzzer:"));
    named.unwrap_or("it fell without a word").to_owned()
}

/// The number that a text begins with, or none.
fn number(text: &str) -> u64 {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    text[..end].parse().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOUND: &str = "INFO: seed corpus: files: 9\n#2\tINITED cov: 40 ft: 41 corp: 1/1b exec/s: 0 rss: 30Mb\n\
        #4096\tpulse  cov: 812 ft: 2900 corp: 120/9Kb lim: 60 exec/s: 2048 rss: 44Mb\n\
        #36000000\tDONE   cov: 900 ft: 3105 corp: 133/10Kb lim: 4096 exec/s: 600000 rss: 61Mb\n\
        Done 36000000 runs in 60 second(s)\nstat::number_of_executed_units: 36000000\nstat::peak_rss_mb: 61\n";

    fn of(log: &str, succeeded: bool) -> Report {
        Report::of(log, succeeded, Path::new("/x.log"))
    }

    #[test]
    fn a_run_that_ended_well_is_counted() {
        let expected = Report { n_inputs: 36_000_000, n_edges: 900, n_kept: 133, peak_mb: 61, verdict: Verdict::Sound };
        assert_eq!(of(SOUND, true), expected);
    }

    #[test]
    fn what_fell_is_told_with_the_input_that_did_it() {
        let fell = format!(
            "{SOUND}\nthread '<unnamed>' (7) panicked at crates/x.rs:3:5:\nno such thing\nnote: run with\n\
             ==7== ERROR: libFuzzer: deadly signal\nartifact_prefix='/a/'; Test unit written to /a/crash-1\n"
        );
        let Verdict::Unsound(details) = of(&fell, false).verdict else { panic!("it fell") };
        assert_eq!(details[0], "thread '<unnamed>' (7) panicked at crates/x.rs:3:5: no such thing");
        assert_eq!(details[1], "the input lies in /a/crash-1");
    }

    #[test]
    fn what_tried_nothing_or_is_blind_proves_nothing() {
        for (log, succeeded) in [("", true), (SOUND, false), ("#9\tDONE   corp: 1/1b\nstat::x\n", true)] {
            assert!(matches!(of(log, succeeded).verdict, Verdict::Broken(_)), "{log}");
        }
        let blind = SOUND.replace("cov: 900", "cov: 0");
        assert!(matches!(of(&blind, true).verdict, Verdict::Broken(_)));
    }
}
