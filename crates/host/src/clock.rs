//! The clocks. Rules take the time as a value; only shells ask for it, here.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// The wall clock in microseconds since 1970, UTC.
pub fn now_micros() -> i64 {
    let now = SystemTime::now();
    match now.duration_since(UNIX_EPOCH) {
        Ok(span) => i64::try_from(span.as_micros()).unwrap_or(i64::MAX),
        // A machine whose clock stands before 1970 still needs an ordered time.
        Err(before) => i64::try_from(before.duration().as_micros()).map_or(i64::MIN, |span| -span),
    }
}

/// A clock that never goes back, for measuring spans inside one process.
pub fn monotonic() -> Instant {
    Instant::now()
}

/// The time since this machine started, counting sleep, the same in every process: what deadlines are held in.
pub fn since_boot() -> Duration {
    // Elsewhere than on Linux the monotonic clock is the nearest thing that processes share.
    #[cfg(target_os = "linux")]
    let clock = rustix::time::ClockId::Boottime;
    #[cfg(not(target_os = "linux"))]
    let clock = rustix::time::ClockId::Monotonic;
    let now = rustix::time::clock_gettime(clock);
    Duration::new(u64::try_from(now.tv_sec).unwrap_or(0), u32::try_from(now.tv_nsec).unwrap_or(0))
}

/// Names the current boot of this machine, where the system tells.
pub fn boot_id() -> Option<String> {
    let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    Some(id.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wall_clock_is_in_microseconds_of_this_century() {
        let year_2020 = 1_577_836_800_000_000;
        assert!(now_micros() > year_2020);
        assert!(now_micros() < year_2020 * 3);
    }

    #[test]
    fn time_since_boot_moves_forward() {
        let before = since_boot();
        std::thread::sleep(Duration::from_millis(2));
        assert!(since_boot() > before);
    }
}
