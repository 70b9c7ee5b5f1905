//! The one binary of Pilothouse: command line, configuration, wiring.
//!
//! A few subcommands branch off before anything else starts: `supervise` must have one thread, and `scripted-engine` and
//! the drivers `engine-acp`, `engine-claude` and `engine-codex` are children like any other engine. Everything else is
//! parsed by [`cli`] and done in [`commands`]; [`node`] wires the server and the worker together.

mod cli;
mod config;
mod causes;
mod failure;
mod output;
mod node;
mod session;
mod log;
mod commands;
mod doctor;
mod telemetry;
mod demo;

use std::{ffi::OsString, process::ExitCode};

/// That of the system differs from libc to libc, and the one in static binaries makes threads wait for each other.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let mut args: Vec<OsString> = std::env::args_os().skip(1).collect();
    match args.first().and_then(|first| first.to_str()) {
        Some("supervise") => return ended(engines::supervise::main(args.drain(1..))),
        Some(engines::scripted::SUBCOMMAND) => return ended(engines::scripted::main(args.drain(1..))),
        Some(engines::acp::SUBCOMMAND) => return ended(engines::acp::main(args.drain(1..))),
        Some(engines::claude::SUBCOMMAND) => return ended(engines::claude::main(args.drain(1..))),
        Some(engines::codex::SUBCOMMAND) => return ended(engines::codex::main(args.drain(1..))),
        _ => {}
    }
    commands::main(args)
}

fn ended(code: i32) -> ExitCode {
    ExitCode::from(u8::try_from(code).unwrap_or(1))
}
