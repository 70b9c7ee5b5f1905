//! What this process and all it starts may do from now on, by Landlock and by giving up capabilities.
//!
//! Both only ever take away, and neither can be undone. For a process with one thread.

use std::io;
use std::path::PathBuf;

/// What is left within the walls.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Walls {
    /// Files and directories that may be read and run, with all beneath them; what does not exist is left out.
    pub readable: Vec<PathBuf>,
    /// The same, and written.
    pub writable: Vec<PathBuf>,
}

/// Whether the kernel has Landlock in a version that keeps files from being cut short and moved.
pub fn have_walls() -> bool {
    #[cfg(target_os = "linux")]
    {
        use landlock::{ABI, Access, AccessFs, CompatLevel, Compatible, Ruleset, RulesetAttr};
        let ruleset = Ruleset::default().set_compatibility(CompatLevel::HardRequirement);
        ruleset.handle_access(AccessFs::from_all(ABI::V3)).and_then(Ruleset::create).is_ok()
    }
    #[cfg(not(target_os = "linux"))]
    false
}

/// Puts the walls up around this process.
#[cfg(target_os = "linux")]
pub fn put_up_walls(walls: &Walls) -> io::Result<()> {
    use landlock::{
        ABI, Access, AccessFs, CompatLevel, Compatible, PathBeneath, PathFd, Ruleset, RulesetAttr, RulesetCreatedAttr,
        Scope,
    };
    const ABI_NEEDED: ABI = ABI::V3;
    let all = AccessFs::from_all(ABI_NEEDED);
    let read = AccessFs::from_read(ABI_NEEDED);
    // Device files are made by nobody, wherever writing is allowed.
    let write = all & !(AccessFs::MakeChar | AccessFs::MakeBlock);
    let file = AccessFs::from_file(ABI_NEEDED);
    let wrong = |error: landlock::RulesetError| io::Error::other(error.to_string());
    let mut ruleset = Ruleset::default()
        .set_compatibility(CompatLevel::HardRequirement)
        .handle_access(all)
        .map_err(wrong)?
        // Newer kernels also keep signals and nameless sockets inside; a namespace does the same for older ones.
        .set_compatibility(CompatLevel::BestEffort)
        .scope(Scope::AbstractUnixSocket | Scope::Signal)
        .map_err(wrong)?
        .create()
        .map_err(wrong)?;
    for (paths, access) in [(&walls.readable, read), (&walls.writable, write)] {
        for path in paths {
            let Ok(metadata) = std::fs::metadata(path) else { continue };
            let access = if metadata.is_dir() { access } else { access & file };
            let fd = PathFd::new(path).map_err(|error| io::Error::other(error.to_string()))?;
            ruleset = ruleset.add_rule(PathBeneath::new(fd, access)).map_err(wrong)?;
        }
    }
    let status = ruleset.restrict_self().map_err(wrong)?;
    match status.ruleset {
        landlock::RulesetStatus::NotEnforced => Err(io::Error::other("the kernel does not enforce Landlock")),
        _ => Ok(()),
    }
}

#[cfg(not(target_os = "linux"))]
pub fn put_up_walls(_: &Walls) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Gives up every capability, for this process and whatever it runs, also as root.
#[cfg(target_os = "linux")]
pub fn give_up_capabilities() -> io::Result<()> {
    use rustix::thread::{CapabilitySet, CapabilitySets, clear_ambient_capability_set, set_capabilities};
    // Without a bound, root would be given all of them again by the next program it runs. A process that may not
    // lower its bound has no capability either, and gets none: it runs nothing set-uid.
    for capability in CapabilitySet::all().iter() {
        let _ = rustix::thread::remove_capability_from_bounding_set(capability);
    }
    // An old kernel without ambient capabilities has none to clear.
    let _ = clear_ambient_capability_set();
    let none = CapabilitySet::empty();
    set_capabilities(None, CapabilitySets { effective: none, permitted: none, inheritable: none })?;
    Ok(())
}

#[cfg(not(target_os = "linux"))]
pub fn give_up_capabilities() -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}
