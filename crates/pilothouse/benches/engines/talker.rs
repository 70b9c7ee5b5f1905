//! An engine that tells the time: each line is its number and when it was written, in microseconds since 1970.

use std::{io::Write, process::ExitCode, time::Duration};

pub(crate) const FLAG: &str = "--talk";
/// Long enough for everybody who wants to follow to be there.
const BEFORE: Duration = Duration::from_secs(4);

pub(crate) fn talk(count: &str, pause_ms: &str) -> ExitCode {
    let (Ok(count), Ok(pause)) = (count.parse::<u32>(), pause_ms.parse()) else { return ExitCode::from(2) };
    let mut out = std::io::stdout().lock();
    std::thread::sleep(BEFORE);
    for n in 0..count {
        if writeln!(out, "{n} {}", host::clock::now_micros()).and_then(|()| out.flush()).is_err() {
            return ExitCode::FAILURE;
        }
        std::thread::sleep(Duration::from_millis(pause));
    }
    ExitCode::SUCCESS
}
