//! What workers start, as a program of its own for this crate's tests; the product's binary has both as subcommands.

fn main() {
    let mut args = std::env::args_os().skip(1);
    let code = match args.next().as_deref().and_then(std::ffi::OsStr::to_str) {
        Some("supervise") => engines::supervise::main(args),
        Some(engines::scripted::SUBCOMMAND) => engines::scripted::main(args),
        Some(engines::acp::SUBCOMMAND) => engines::acp::main(args),
        Some(engines::claude::SUBCOMMAND) => engines::claude::main(args),
        Some(engines::codex::SUBCOMMAND) => engines::codex::main(args),
        _ => 2,
    };
    std::process::exit(code);
}
