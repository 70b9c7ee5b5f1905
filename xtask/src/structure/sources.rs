//! What may stand in a source file, and where.

use super::tree::{Source, assert_none, sources};
use crate::process::workspace;

/// Words that mean unfinished work. They are put together here so that this file does not contain them.
const UNFINISHED: &[&str] = &[concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X")];
const PLACEHOLDERS: &[&str] = &[concat!("to", "do!("), concat!("unimpl", "emented!("), concat!("db", "g!(")];

/// Calls that belong to `host` and that clippy cannot forbid without forbidding them to tests as well.
const DOORS: &[(&str, &str)] = &[
    ("std::fs::", "host opens paths, beneath a root"),
    ("std::fs;", "host opens paths, beneath a root"),
    ("tokio::fs::", "host opens paths, beneath a root"),
    ("tokio::fs;", "host opens paths, beneath a root"),
    ("File::open", "host opens paths, beneath a root"),
    ("File::create", "host opens paths, beneath a root"),
    ("File::options", "host opens paths, beneath a root"),
    ("getrandom::", "host draws random bytes"),
    ("rand::", "host draws random bytes"),
    ("Uuid::now_v7", "ids come with the context, from host"),
    ("Uuid::new_v4", "ids come with the context, from host"),
];

/// Calls that stand elsewhere all the same: path prefix, call, reason. Each is a debt or a proof, never a habit.
const EXCEPTIONS: &[(&str, &str, &str)] = &[];

/// Crates to which `DOORS` does not apply: the door itself, and what serves tests and people.
const FREE: &[&str] = &["host", "testkit", "chaos", "xtask"];

/// Files that are generated, and the crate whose test compares them with what generates them.
const GENERATED: &[(&str, &str)] =
    &[("docs/state-machines.md", "domain"), ("docs/cli.md", "pilothouse"), ("openapi.json", "server")];

#[test]
fn nothing_unfinished_is_left_without_an_issue() {
    let mut findings = Vec::new();
    for source in sources() {
        for (index, line) in source.text.lines().enumerate() {
            let unfinished = UNFINISHED.iter().any(|word| has_word(line, word)) && !names_an_issue(line);
            if unfinished || PLACEHOLDERS.iter().any(|placeholder| has_word(line, placeholder)) {
                findings.push(finding(&source, index + 1, line));
            }
        }
    }
    assert_none("unfinished work without an issue number (write `#123`)", &findings);
}

#[test]
fn lints_are_silenced_with_a_reason_that_expires() {
    let silenced = [concat!("#[al", "low("), concat!("#![al", "low(")];
    let mut findings = Vec::new();
    for source in sources() {
        for (index, line) in source.text.lines().enumerate() {
            if silenced.iter().any(|attribute| line.contains(attribute)) {
                findings.push(finding(&source, index + 1, line));
            }
        }
    }
    assert_none("write #[expect(lint, reason = \"…\")]", &findings);
}

#[test]
fn the_machine_is_touched_through_host_alone() {
    let mut findings = Vec::new();
    for source in sources().iter().filter(|source| !FREE.contains(&source.package())) {
        for (number, line) in source.product_lines() {
            for (call, why) in DOORS.iter().filter(|(call, _)| calls(line, call)) {
                if !EXCEPTIONS.iter().any(|(path, exempt, _)| source.path.starts_with(path) && exempt == call) {
                    findings.push(format!("{} ({why})", finding(source, number, line)));
                }
            }
        }
    }
    assert_none("calls that belong to host", &findings);
}

#[test]
fn every_exception_is_still_needed() {
    let sources = sources();
    let mut findings = Vec::new();
    for (path, call, _) in EXCEPTIONS {
        let mut lines = sources.iter().filter(|source| source.path.starts_with(path)).flat_map(Source::product_lines);
        if !lines.any(|(_, line)| calls(line, call)) {
            findings.push(format!("{path}: {call}"));
        }
    }
    assert_none("exceptions that nothing needs any more", &findings);
}

#[test]
fn sql_is_written_in_the_store_alone() {
    let statements = ["\"SELECT ", "\"INSERT INTO ", "\"UPDATE ", "\"DELETE FROM ", "\"CREATE TABLE "];
    let mut findings = Vec::new();
    for source in sources().iter().filter(|source| !["store", "testkit", "chaos", "xtask"].contains(&source.package()))
    {
        for (number, line) in source.product_lines() {
            if statements.iter().any(|statement| line.contains(statement)) {
                findings.push(finding(source, number, line));
            }
        }
    }
    assert_none("SQL outside the store", &findings);
}

#[test]
fn a_module_is_named_by_its_file() {
    let named = sources().into_iter().map(|source| source.path).filter(|path| path.ends_with("/mod.rs"));
    assert_none("write name.rs beside name/", &named.collect::<Vec<_>>());
}

/// Generated files are compared with what generates them by a test beside the generator; here only that such a test
/// exists, so that deleting it is noticed.
#[test]
fn every_generated_file_is_checked_by_a_test() {
    let sources = sources();
    let mut findings = Vec::new();
    for (path, package) in GENERATED {
        if !workspace().join(path).is_file() {
            findings.push(format!("{path} does not exist"));
        }
        let name = path.rsplit('/').next().expect("a file name");
        let mut tests = sources.iter().filter(|source| source.package() == *package);
        if !tests.any(|source| source.is_test() && source.text.contains(name)) {
            findings.push(format!("no test of `{package}` mentions {name}"));
        }
    }
    assert_none("generated files", &findings);
}

fn finding(source: &Source, number: usize, line: &str) -> String {
    format!("{}:{number}: {}", source.path, line.trim())
}

/// Whether a line contains a word that is not the end of a longer one.
fn has_word(line: &str, word: &str) -> bool {
    let part_of_a_name = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(word).any(|(at, _)| {
        let ends_name = word.ends_with(part_of_a_name);
        let after = line[at + word.len()..].chars().next();
        let goes_on = ends_name && after.is_some_and(part_of_a_name);
        !goes_on && !line[..at].ends_with(part_of_a_name)
    })
}

/// Whether a line makes a call. An open file is only a handle and may be named anywhere: it is opening that has a door.
fn calls(line: &str, call: &str) -> bool {
    has_word(&line.replace("fs::File", ""), call) || call.starts_with("File::") && has_word(line, call)
}

fn names_an_issue(line: &str) -> bool {
    line.split('#').skip(1).any(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
}

#[test]
fn a_word_is_found_whole() {
    assert!(has_word("let x = rand::random();", "rand::"));
    assert!(!has_word("operand::random()", "rand::"));
    assert!(has_word("use std::fs;", "std::fs"));
    assert!(!has_word("use std::fsync;", "std::fs"));
}

#[test]
fn a_file_may_be_held_but_not_opened() {
    assert!(!calls("use std::fs::File;", "File::open"));
    assert!(!calls("let log: std::fs::File = given;", "std::fs::"));
    assert!(calls("std::fs::File::open(path)", "File::open"));
    assert!(calls("std::fs::read(path)", "std::fs::"));
}

#[test]
fn an_issue_is_a_number_sign_with_a_number() {
    assert!(names_an_issue("see #12"));
    assert!(!names_an_issue("#[test]"));
}
