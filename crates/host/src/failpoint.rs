//! Places where a crash hurts, by name, so that tests can crash exactly there.
//!
//! `host::failpoint!("name")` is nothing at all unless the feature `failpoints` is on, which only the test tool `chaos`
//! does. Then `FAILPOINTS="name=5*off->return"` kills the process the sixth time it gets there, and what is reached is
//! written into the file named by `FAILPOINTS_SEEN`, so that a point that nobody reaches is known. Every name stands
//! once in [`POINTS`] and once in the sources; a test compares them.

mod points;

pub use points::{On, POINTS, Point, Reach};

/// The variables that a child must be given for its points to count.
pub const VARIABLES: [&str; 2] = ["FAILPOINTS", "FAILPOINTS_SEEN"];

#[cfg(feature = "failpoints")]
#[macro_export]
macro_rules! failpoint {
    ($name:literal) => {
        $crate::failpoint::reach($name)
    };
}

#[cfg(not(feature = "failpoints"))]
#[macro_export]
macro_rules! failpoint {
    ($name:literal) => {};
}

/// What a child with an environment of its own is given, so that points are reached there, too.
pub fn environment() -> Vec<(String, String)> {
    if cfg!(feature = "failpoints") { crate::env::vars_named(&VARIABLES) } else { Vec::new() }
}

#[cfg(feature = "failpoints")]
mod armed {
    use std::{
        collections::HashSet,
        io::Write,
        path::PathBuf,
        sync::{Mutex, OnceLock, PoisonError},
    };

    /// What the environment asks for.
    struct Armed {
        seen: Option<PathBuf>,
        reached: Mutex<HashSet<&'static str>>,
    }

    static ARMED: OnceLock<Option<Armed>> = OnceLock::new();

    /// Notes that the point was reached, and dies there when it was asked to.
    pub fn reach(name: &'static str) {
        let Some(armed) = ARMED.get_or_init(arm) else { return };
        if armed.reached.lock().unwrap_or_else(PoisonError::into_inner).insert(name) {
            armed.note("reached", name);
        }
        // `return` is ours to carry out; pauses and delays the library carries out by itself.
        if fail::eval(name, |_| ()).is_some() {
            armed.note("killed", name);
            die();
        }
    }

    fn arm() -> Option<Armed> {
        crate::env::var("FAILPOINTS")?;
        // Reads the variable; dropped, it would forget it again.
        std::mem::forget(fail::FailScenario::setup());
        Some(Armed { seen: crate::env::var("FAILPOINTS_SEEN").map(PathBuf::from), reached: Mutex::default() })
    }

    impl Armed {
        /// One line, in one write: others append to the same file.
        fn note(&self, what: &str, name: &str) {
            let Some(path) = &self.seen else { return };
            let line = format!("{what} {name} {}\n", std::process::id());
            let file = std::fs::OpenOptions::new().append(true).create(true).open(path);
            // A note that cannot be written is missed by whoever looks for it.
            let _ = file.and_then(|mut file| file.write_all(line.as_bytes()));
        }
    }

    fn die() -> ! {
        let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
        // The signal comes before anything else happens here.
        loop {
            std::thread::park();
        }
    }
}

#[cfg(feature = "failpoints")]
pub use armed::reach;

/// Shuts the filesystem that `dir` lies on down, as if its power were gone: what its kernel has not made durable is lost,
/// and nothing can be read or written until it is mounted again. Only ext4 and only for root.
///
/// # Errors
/// When the filesystem cannot be opened, or refuses.
#[cfg(all(feature = "failpoints", target_os = "linux"))]
#[expect(unsafe_code, reason = "the system has no other way to lose a filesystem's power")]
pub fn cut_power(dir: &std::path::Path) -> std::io::Result<()> {
    use std::os::fd::AsRawFd;

    /// `EXT4_IOC_SHUTDOWN`, and the flag by which it does not even write its own log.
    const SHUTDOWN: libc::Ioctl = 0x8004_587d;
    const NO_LOG_FLUSH: u32 = 2;

    let opened = std::fs::File::open(dir)?;
    let flag = NO_LOG_FLUSH;
    // SAFETY: the descriptor is open, and the argument is a number that lives longer than the call.
    let done = unsafe { libc::ioctl(opened.as_raw_fd(), SHUTDOWN, &raw const flag) };
    if done == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_point_has_a_name_of_its_own_and_there_are_enough() {
        let names: std::collections::BTreeSet<&str> = POINTS.iter().map(|point| point.name).collect();

        assert_eq!(names.len(), POINTS.len());
        for on in [On::Sqlite, On::Postgres] {
            assert!(POINTS.iter().filter(|point| point.is_on(on)).count() >= 60);
        }
    }
}
