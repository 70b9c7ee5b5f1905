//! The command line is sound, and its reference in `docs/cli.md` says what it is.

use std::path::Path;

use clap::{Arg, Command, CommandFactory};

use super::Cli;
use crate::failure::exit_codes;

#[test]
fn the_command_line_is_sound() {
    Cli::command().debug_assert();
}

#[test]
fn the_reference_says_what_the_command_line_is() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/cli.md");
    let reference = reference();
    if host::env::var("UPDATE_DOCS").is_some() {
        host::fs::write_atomic_with_mode(&path, reference.as_bytes(), 0o644).unwrap();
    }

    let kept = host::fs::read_text(&path, 1 << 20).unwrap_or_default();

    assert!(kept == reference, "docs/cli.md is not what the code says: run this test again with UPDATE_DOCS=1");
}

/// The whole command line in Markdown, one line for each command and each of its arguments.
fn reference() -> String {
    let mut cli = Cli::command();
    cli.build();
    let mut text = "# The command line\n\nGenerated from the code; `pilothouse help COMMAND` says the same.\n\n\
                    Every command also takes:\n\n"
        .to_owned();
    for arg in cli.get_arguments().filter(|arg| arg.is_global_set()) {
        text.push_str(&argument(arg));
    }
    for command in cli.get_subcommands() {
        write(&mut text, command, "pilothouse", 2);
    }
    text.push_str(&format!("\n## Exit codes\n\n```text\n{}```\n", exit_codes()));
    text
}

fn write(text: &mut String, command: &Command, parent: &str, level: usize) {
    let name = format!("{parent} {}", command.get_name());
    let own = || command.get_arguments().filter(|arg| !arg.is_global_set() && !is_built_in(arg));
    let mut usage = name.clone();
    for place in own().filter(|arg| arg.is_positional()) {
        usage.push_str(&format!(" {}", shown(place)));
    }
    if own().any(|arg| !arg.is_positional()) {
        usage.push_str(" [OPTIONS]");
    }
    let about = command.get_about().map(ToString::to_string).unwrap_or_default();
    text.push_str(&format!("\n{} `{usage}`\n\n{about}\n", "#".repeat(level)));
    let explained: String = own().filter(|arg| arg.get_help().is_some()).map(argument).collect();
    if !explained.is_empty() {
        text.push_str(&format!("\n{explained}"));
    }
    for inner in command.get_subcommands().filter(|inner| inner.get_name() != "help") {
        write(text, inner, &name, level + 1);
    }
}

fn argument(arg: &Arg) -> String {
    let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
    let required = if arg.is_required_set() && !arg.is_positional() { " (required)" } else { "" };
    format!("- `{}`{required}: {help}\n", shown(arg))
}

/// An argument as it is typed.
fn shown(arg: &Arg) -> String {
    if arg.is_positional() {
        return arg.to_string();
    }
    let short = arg.get_short().map(|short| format!("-{short}, ")).unwrap_or_default();
    format!("{short}{arg}")
}

fn is_built_in(arg: &Arg) -> bool {
    matches!(arg.get_id().as_str(), "help" | "version")
}
