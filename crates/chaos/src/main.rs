//! `chaos [FAULT…] …`: injects faults into the real program and checks what it promised. Exit code 1 when a promise was
//! broken, a control was not met or something that the gate demands is missing; 2 when it was asked wrongly.

use std::process::ExitCode;

use chaos::{drill, gate, options::Options, space::holder};

#[tokio::main]
async fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let outcome = match arguments.split_first() {
        Some((first, rest)) if first == "drill" => Box::pin(drill::main(rest)).await,
        Some((first, rest)) if first == "space" => holder::main(rest).await,
        _ => match Options::parse(arguments, host::env::var("SEED")) {
            Ok(options) => match host::process::current_exe() {
                Ok(exe) => Box::pin(gate::run(options, &exe)).await,
                Err(error) => Err(error.into()),
            },
            Err(error) => {
                gate::tell(&format!("{error:#}"));
                return ExitCode::from(2);
            }
        },
    };
    outcome.unwrap_or_else(|error| {
        gate::tell(&format!("chaos: {error:#}"));
        ExitCode::FAILURE
    })
}
