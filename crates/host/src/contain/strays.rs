//! Sandboxes in the making whose supervisor died.
//!
//! Bubblewrap's first process waits for bubblewrap itself, without end and before it would die with it, and as the first
//! of a namespace nothing but a SIGKILL from outside ends it. Killed in that moment, a supervisor leaves it behind with a
//! copy of every mount. Nothing names it but the files it was handed, so these carry the name of who made them.

use std::ffi::CString;
use std::path::Path;

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

/// What the names of files that are handed on begin with.
const PREFIX: &str = "pilothouse";

/// Who makes a sandbox. The start tells it from a later process of the same id, the namespace from one that is counted
/// elsewhere.
#[derive(Debug, PartialEq, Eq)]
struct Maker {
    namespace: String,
    pid: i32,
    started_at: u64,
}

impl Maker {
    fn this() -> Option<Self> {
        let pid = rustix::process::getpid().as_raw_nonzero().get();
        Some(Self { namespace: namespace()?, pid, started_at: living_since(pid)? })
    }

    fn name(&self) -> String {
        format!("{PREFIX} {} {} {}", self.namespace, self.pid, self.started_at)
    }

    /// Of a descriptor's link, `/memfd:pilothouse 4026531836 1234 567 (deleted)`.
    fn read(link: &Path) -> Option<Self> {
        let mut words = link.to_str()?.strip_prefix("/memfd:")?.strip_prefix(PREFIX)?.split_ascii_whitespace();
        let namespace = words.next()?.to_owned();
        Some(Self { namespace, pid: words.next()?.parse().ok()?, started_at: words.next()?.parse().ok()? })
    }

    fn is_dead(&self) -> bool {
        living_since(self.pid) != Some(self.started_at)
    }
}

/// What files are called that this process hands on.
pub(super) fn name_of_files() -> CString {
    let name = Maker::this().map_or_else(|| PREFIX.to_owned(), |maker| maker.name());
    CString::new(name).unwrap_or_else(|_| c"pilothouse".to_owned())
}

/// Kills every process that still waits for a supervisor that is dead, as far as this one may; how many. Reads all of
/// `/proc`, so it is nothing for a thread that others wait for.
pub fn kill_strays() -> usize {
    let Some(own) = namespace() else { return 0 };
    let Ok(entries) = std::fs::read_dir("/proc") else { return 0 };
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok().and_then(Pid::from_raw));
    let killed = pids.filter(|pid| {
        // Opened before it is looked at, so that what is killed is what was seen.
        let Ok(process) = pidfd_open(*pid, PidfdFlags::empty()) else { return false };
        let is_stray = handed_by(*pid).is_some_and(|maker| maker.namespace == own && maker.is_dead());
        is_stray && pidfd_send_signal(&process, Signal::KILL).is_ok()
    });
    killed.count()
}

/// Who handed this process files that it still has open.
fn handed_by(pid: Pid) -> Option<Maker> {
    let links = std::fs::read_dir(format!("/proc/{}/fd", pid.as_raw_nonzero())).ok()?;
    links.flatten().find_map(|entry| Maker::read(&std::fs::read_link(entry.path()).ok()?))
}

fn namespace() -> Option<String> {
    let link = std::fs::read_link("/proc/self/ns/pid").ok()?;
    Some(link.to_str()?.strip_prefix("pid:[")?.strip_suffix(']')?.to_owned())
}

/// When a living process started, in ticks since boot.
fn living_since(pid: i32) -> Option<u64> {
    let stat = std::fs::read(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may hold anything, so fields are counted from its end.
    let end = stat.iter().rposition(|&byte| byte == b')')?;
    let text = String::from_utf8_lossy(&stat[end + 1..]).into_owned();
    let mut fields = text.split_ascii_whitespace();
    let is_living = !matches!(fields.next()?, "Z" | "X");
    // The state is the third field of all, the start the 22nd.
    fields.nth(18)?.parse().ok().filter(|_| is_living)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::os::unix::process::ExitStatusExt;
    use std::process::{Child, Command};

    /// A process that was handed a file by `maker`, and waits. Other tests' children do not get that file.
    fn handed(maker: &Maker) -> Child {
        let name = CString::new(maker.name()).unwrap();
        let file = File::from(rustix::fs::memfd_create(name, rustix::fs::MemfdFlags::CLOEXEC).unwrap());
        Command::new("/bin/sleep").arg("600").stdin(file).spawn().unwrap()
    }

    #[test]
    fn what_waits_for_a_dead_supervisor_is_killed_and_nothing_else() {
        let own = Maker::this().unwrap();
        let dead = Maker { started_at: own.started_at - 1, ..Maker::this().unwrap() };
        let elsewhere = Maker { namespace: "1".to_owned(), started_at: dead.started_at, pid: dead.pid };
        let [mut held, mut stray, mut foreign] = [own, dead, elsewhere].map(|maker| handed(&maker));

        let killed = kill_strays();

        assert!(killed >= 1);
        assert_eq!(stray.wait().unwrap().signal(), Some(9));
        for child in [&mut held, &mut foreign] {
            assert_eq!(child.try_wait().unwrap(), None);
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    #[test]
    fn a_name_is_read_back_from_a_link() {
        let maker = Maker { namespace: "4026531836".to_owned(), pid: 7, started_at: 9 };

        let link = format!("/memfd:{} (deleted)", maker.name());
        assert_eq!(Maker::read(Path::new(&link)), Some(maker));
        assert_eq!(Maker::read(Path::new("/memfd:pilothouse (deleted)")), None);
        assert_eq!(Maker::read(Path::new("/tmp/pilothouse 1 2 3")), None);
    }
}
