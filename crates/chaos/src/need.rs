//! What a fault needs of the machine, and whether it is here.

use std::path::Path;

#[derive(Clone, Copy, Debug)]
pub struct Need {
    pub what: What,
    /// Whether the gate fails without it; else the fault is left out and the line says why.
    pub is_demanded: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// The power to mount a filesystem, which root has, and not even root in most containers.
    Mounts,
    /// `/proc` and signals as Linux has them.
    Linux,
    /// A program on PATH.
    Program(&'static str),
    /// A variable of the environment that `cargo xtask` sets.
    Variable(&'static str),
}

impl Need {
    /// Why it is not met; `None` when it is.
    pub fn missing(&self) -> Option<String> {
        let is_here = match self.what {
            What::Mounts => crate::mount::can(),
            What::Linux => cfg!(target_os = "linux"),
            What::Program(name) => program(name),
            What::Variable(name) => host::env::var(name).is_some(),
        };
        (!is_here).then(|| match self.what {
            What::Mounts => "filesystems cannot be mounted here, which needs root".to_owned(),
            What::Linux => "it needs Linux".to_owned(),
            What::Program(name) => format!("there is no {name} on PATH"),
            What::Variable(name) => format!("{name} is not set; `cargo xtask chaos` sets it"),
        })
    }
}

fn program(name: &str) -> bool {
    let path = host::env::var("PATH").unwrap_or_default();
    let mut directories = path.split(':').chain(["/usr/sbin", "/sbin"]);
    directories.any(|directory| Path::new(directory).join(name).is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_named() {
        let need = |what| Need { what, is_demanded: false };

        assert_eq!(need(What::Program("sh")).missing(), None);
        assert!(need(What::Program("no-such-program")).missing().unwrap().contains("no-such-program"));
        assert!(need(What::Variable("PILOTHOUSE_NO_SUCH")).missing().unwrap().contains("PILOTHOUSE_NO_SUCH"));
    }
}
