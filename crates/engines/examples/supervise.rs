//! The part of the product's binary that the tests of this crate start: `supervise` and `scripted-engine`.

fn main() -> std::process::ExitCode {
    let mut args = std::env::args_os().skip(1);
    let code = match args.next().as_deref().and_then(std::ffi::OsStr::to_str) {
        Some("supervise") => engines::supervise::main(args),
        Some(engines::scripted::SUBCOMMAND) => engines::scripted::main(args),
        _ => {
            eprintln!("usage: supervise SPEC | scripted-engine …");
            2
        }
    };
    std::process::ExitCode::from(u8::try_from(code).unwrap_or(1))
}
