//! The files that Pilothouse alone writes on a protocol's branch: `log.md`, `context.md`, `quality-report.md`.
//!
//! They are rendered from the ledger whenever a result is integrated, so that they cannot disagree with it. What comes
//! from outside is put on one line and kept from meaning anything to a Markdown reader.

use domain::{
    protocol::{Finding, Protocol, QaVerdict},
    step::{Step, StepState},
    time::Timestamp,
};

/// What happens to one step in the commit that these files become part of.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Integrating<'a> {
    pub(crate) step: &'a Step,
    pub(crate) summary: &'a str,
    pub(crate) at: Timestamp,
}

pub(crate) fn log(protocol: &Protocol, now: Option<Integrating<'_>>) -> String {
    let mut text = format!(
        "# Log of {}\n\n- {} created by {}\n",
        protocol.name,
        at(protocol.created_at),
        plain(&protocol.requester)
    );
    for step in &protocol.steps {
        let name = plain(step.name());
        match &step.state {
            StepState::Completed { by, reason, at: when, .. } => {
                let reason = reason.as_deref().map(|reason| format!(": {}", plain(reason))).unwrap_or_default();
                text.push_str(&format!("- {} step {name} completed (accepted by {}{reason})\n", at(*when), plain(by)));
            }
            _ => {
                if let Some(now) = now.filter(|now| now.step.id == step.id) {
                    text.push_str(&format!("- {} step {name}: {}\n", at(now.at), plain(now.summary)));
                }
            }
        }
    }
    text
}

pub(crate) fn context(protocol: &Protocol, now: Option<Integrating<'_>>) -> String {
    let done = |step: &&Step| step.state.is_terminal() || now.is_some_and(|now| now.step.id == step.id);
    let next = protocol.steps.iter().find(|step| !done(step)).map_or("none".to_owned(), |step| plain(step.name()));
    let n_done = protocol.steps.iter().filter(done).count();
    let (last, summary) =
        now.map_or(("none".to_owned(), "planned".to_owned()), |now| (plain(now.step.name()), plain(now.summary)));
    format!(
        "# Context of {}\n\n- Last step: {last}\n- Last action: {summary}\n- Next step: {next}\n- Steps done: {n_done} of {}\n\
         - Branch: {} from {}\n",
        protocol.name,
        protocol.steps.len(),
        protocol.name,
        protocol.base_branch,
    )
}

pub(crate) fn quality_report(
    protocol: &Protocol,
    step: &Step,
    commit: &str,
    verdict: QaVerdict,
    findings: &[Finding],
) -> String {
    let mut text = format!(
        "# Quality report of {}\n\nStep {} at {commit}\n\nVerdict: {}\n\n| check | verdict | exit code | ms |\n|---|---|---|---|\n",
        protocol.name,
        plain(step.name()),
        word(verdict),
    );
    for finding in findings {
        let code = finding.exit_code.map_or("-".to_owned(), |code| code.to_string());
        let check = plain(&finding.check).replace('|', "\\|");
        text.push_str(&format!("| {check} | {} | {code} | {} |\n", word(finding.verdict), finding.duration_ms));
    }
    for finding in findings.iter().filter(|finding| !finding.detail.is_empty()) {
        text.push_str(&format!("\n## {}\n\n", plain(&finding.check)));
        for line in host::text::clean(&finding.detail).lines() {
            text.push_str(&format!("    {line}\n"));
        }
    }
    text
}

pub(crate) fn word(verdict: QaVerdict) -> &'static str {
    match verdict {
        QaVerdict::Pass => "pass",
        QaVerdict::Fail => "fail",
        QaVerdict::Inconclusive => "inconclusive",
    }
}

fn at(when: Timestamp) -> String {
    when.to_string()
}

fn plain(text: &str) -> String {
    host::text::one_line(text, 300).replace(['<', '>', '`'], "'")
}
