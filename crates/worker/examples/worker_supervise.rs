//! The supervisor as a program of its own, for this crate's tests; the product's binary has it as a subcommand.

fn main() {
    let mut args = std::env::args_os().skip(1);
    let supervise = args.next().is_some_and(|word| word == "supervise");
    let code = if supervise { engines::supervise::main(args) } else { 2 };
    std::process::exit(code);
}
