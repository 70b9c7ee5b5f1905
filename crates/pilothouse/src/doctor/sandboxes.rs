//! How surely trees are ended here, and how far they can be kept from the machine.

use engines::{Containment, Profile, survey::Survey};
use worker::SandboxPolicy;

use super::{Finding, machine};
use crate::{config::Settings, failure::chain};

pub(super) async fn look(settings: &Settings) -> Vec<Finding> {
    let exe = match machine::exe() {
        Ok(exe) => exe,
        Err(finding) => return vec![finding],
    };
    let config = settings.sandbox();
    let taken = match host::fs::create_temporary_dir(&host::fs::temporary_root(), "pilothouse-doctor-") {
        Ok(dir) => Survey::take(&exe, &dir, config.bubblewrap).await,
        Err(error) => Err(error),
    };
    let survey = match taken {
        Ok(survey) => survey,
        Err(error) => {
            return vec![Finding::failed("containment", chain(&error), "make the temporary directory writable")];
        }
    };
    let mut findings = vec![containment(&survey), limits(&survey), bubblewrap(&survey)];
    findings.extend(Profile::ALL.into_iter().map(|profile| one(&survey, profile)));
    findings.push(policy_of(&survey, "sandbox of engines", "workspace (coding agents: their own)", config.engines));
    findings.push(policy_of(&survey, "sandbox of checks", "workspace", config.checks));
    findings
}

fn containment(survey: &Survey) -> Finding {
    const CHECK: &str = "containment";
    match &survey.containment {
        Ok(level @ (Containment::PidNamespace | Containment::CgroupV2)) => {
            Finding::ok(CHECK, format!("{}: the kernel ends all of a tree at once", level.as_str()))
        }
        Ok(level) => Finding::warning(
            CHECK,
            format!("{}: a tree is ended process by process", level.as_str()),
            "allow user namespaces (kernel.unprivileged_userns_clone, or the container's settings)",
        ),
        Err(why) => Finding::failed(CHECK, why.as_str(), "nothing can be started here; see the message"),
    }
}

fn limits(survey: &Survey) -> Finding {
    const CHECK: &str = "limits";
    use engines::exit::Limited;
    match survey.limited {
        Some(limited @ (Limited::CgroupV2 | Limited::CgroupV1)) => {
            Finding::ok(CHECK, format!("{}: memory and processes are limited for a tree as a whole", limited.as_str()))
        }
        Some(Limited::Rlimits) | None => Finding::warning(
            CHECK,
            "rlimits: memory is limited for each process by itself",
            "delegate a control group (systemd: Delegate=yes), or run where /sys/fs/cgroup can be written",
        ),
    }
}

fn bubblewrap(survey: &Survey) -> Finding {
    const CHECK: &str = "bubblewrap";
    match &survey.bubblewrap {
        Ok(found) => Finding::ok(CHECK, format!("version {} at {}", found.version, found.program.display())),
        Err(error) => {
            Finding::warning(CHECK, error.to_string(), "install bubblewrap (Debian: apt-get install bubblewrap)")
        }
    }
}

fn one(survey: &Survey, profile: Profile) -> Finding {
    let check = match profile {
        Profile::ReadOnly => "profile read-only",
        Profile::Workspace => "profile workspace",
        Profile::Full => "profile full",
    };
    match survey.means(profile) {
        Ok(means) => Finding::ok(check, format!("by {}", means.as_str())),
        Err(why) => Finding::warning(check, why, "install bubblewrap and allow user namespaces"),
    }
}

/// `auto` is what `auto` means for this check where the machine can make it.
fn policy_of(survey: &Survey, check: &'static str, auto: &str, policy: SandboxPolicy) -> Finding {
    let workspace = survey.means(Profile::Workspace);
    match policy {
        SandboxPolicy::Auto if workspace.is_ok() => Finding::ok(check, format!("auto: {auto}")),
        SandboxPolicy::Auto => Finding::warning(
            check,
            "auto: none, because this machine cannot make workspace",
            "put right what profile workspace names, or demand a profile so that nothing runs without it",
        ),
        SandboxPolicy::Off => Finding::warning(check, "off: they see what this user sees", "say auto or workspace"),
        SandboxPolicy::Always(profile) => match survey.means(profile) {
            Ok(means) => Finding::ok(check, format!("{profile} by {}", means.as_str())),
            Err(why) => Finding::failed(
                check,
                format!("{profile} cannot be had, so nothing runs: {why}"),
                "put right what the profile needs, or choose another",
            ),
        },
    }
}
