//! The `policy` table: who may ask, who must agree, and how long that may take.

use std::time::Duration;

use toml::de::DeValue;

use super::{
    exec::{DurationRange, duration},
    job::{Approval, Policy, Requesters},
    load::{home_of_job_key, missing},
    nearest::nearest,
    principal::Principal,
    problem::{Report, WarningKind},
    section::{Keys, Section, expected},
};

pub(super) const POLICY_KEYS: Keys = Keys {
    known: &["request", "approve", "timeout", "on_timeout"],
    later: &[
        "remind",
        "escalate",
        "invalidate_on",
        "windows",
        "freeze_override",
        "lock",
        "overlap",
        "max_queue",
        "limits",
        "budget",
        "visibility",
        "break_glass",
    ],
};
const APPROVE_KEYS: Keys =
    Keys { known: &["of", "quorum", "distinct_from_requester"], later: &["channels", "sms", "reverify", "when"] };

const MAX_PRINCIPALS: usize = 200;
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

pub(super) fn load_policy(section: &Section<'_>, report: &mut Report<'_>) -> Option<Policy> {
    section.check_keys(&POLICY_KEYS, home_of_job_key, report);
    let request = load_requesters(section, report);
    let approve = load_approval(section, report);
    let range = DurationRange { min: Duration::from_secs(1), max: 30 * DAY };
    let timeout = duration(section, "timeout", DAY, range, report);
    if let Some(item) = section.text("on_timeout", report)
        && item.value != "deny"
    {
        report.problem(&item.place, &item.path, "expected \"deny\": a gate that nobody answers never opens");
    }
    let (request, approve) = (request?, approve?);
    warn_if_unapprovable(section, &request, &approve, report);
    Some(Policy { request, approve, timeout })
}

fn load_requesters(section: &Section<'_>, report: &mut Report<'_>) -> Option<Requesters> {
    if !section.has("request") {
        return Some(Requesters::Anyone);
    }
    let principals = load_principals(section, "request", report)?;
    if principals.is_empty() {
        let message = "an empty list means nobody could ask: name somebody, or remove the key to let anyone ask";
        report.problem(&section.place, &section.path_of("request"), message);
        return None;
    }
    Some(Requesters::Only(principals))
}

fn load_approval(section: &Section<'_>, report: &mut Report<'_>) -> Option<Approval> {
    let Some(item) = section.value("approve") else { return missing(section, "approve", report) };
    match item.value {
        DeValue::String(text) if text.as_ref() == "none" => Some(Approval::None),
        DeValue::String(text) => {
            let message = "expected \"none\" or a table such as { of = [\"person:ada\"] }";
            report.nearest_problem(&item.place, &item.path, message, nearest(text, ["none"]));
            None
        }
        DeValue::Table(_) => load_approvers(&section.section("approve", report)?, report),
        other => {
            report.problem(&item.place, &item.path, expected("\"none\" or a table such as { of = [...] }", other));
            None
        }
    }
}

fn load_approvers(section: &Section<'_>, report: &mut Report<'_>) -> Option<Approval> {
    section.check_keys(&APPROVE_KEYS, home_of_job_key, report);
    let distinct_from_requester = section.boolean("distinct_from_requester", report).unwrap_or(true);
    let quorum = section.integer("quorum", report);
    if !section.has("of") {
        return missing(section, "of", report);
    }
    let of = load_principals(section, "of", report)?;
    if of.is_empty() {
        let message = "an empty list means nobody could ever approve: name somebody, or write `approve = \"none\"`";
        report.problem(&section.place, &section.path_of("of"), message);
        return None;
    }
    let Some(quorum) = quorum else { return Some(Approval::Approvers { of, quorum: 1, distinct_from_requester }) };
    let Some(wanted) = u32::try_from(quorum.value).ok().filter(|wanted| (1..=100).contains(wanted)) else {
        report.problem(&quorum.place, &quorum.path, "expected 1 to 100");
        return None;
    };
    if !of.iter().any(Principal::is_wildcard) && quorum.value > i64::try_from(of.len()).unwrap_or(i64::MAX) {
        let message = format!("needs {wanted} approvals but names only {}: it could never be reached", of.len());
        report.problem(&quorum.place, &quorum.path, message);
        return None;
    }
    Some(Approval::Approvers { of, quorum: wanted, distinct_from_requester })
}

fn load_principals(section: &Section<'_>, key: &str, report: &mut Report<'_>) -> Option<Vec<Principal>> {
    let items = section.texts(key, report)?;
    if items.len() > MAX_PRINCIPALS {
        report.problem(&section.place, &section.path_of(key), format!("more than {MAX_PRINCIPALS} entries"));
        return None;
    }
    let mut principals: Vec<Principal> = Vec::new();
    let mut all_read = true;
    for item in items {
        match item.value.parse::<Principal>() {
            Ok(principal) if principals.contains(&principal) => {
                report.problem(&item.place, &item.path, format!("`{principal}` stands there twice"));
                all_read = false;
            }
            Ok(principal) => {
                if principal.needs_dev_channel() {
                    let message = format!("`{principal}` means nobody while the dev channel is off");
                    report.warning(WarningKind::DevChannel, &item.place, &item.path, message);
                }
                principals.push(principal);
            }
            Err(error) => {
                report.problem(&item.place, &item.path, error.to_string());
                all_read = false;
            }
        }
    }
    all_read.then_some(principals)
}

/// With few named people, whoever asks may be one of those needed.
fn warn_if_unapprovable(section: &Section<'_>, request: &Requesters, approve: &Approval, report: &mut Report<'_>) {
    let (Requesters::Only(request), Approval::Approvers { of, quorum, distinct_from_requester: true }) =
        (request, approve)
    else {
        return;
    };
    let spare = of.len().saturating_sub(usize::try_from(*quorum).unwrap_or(usize::MAX));
    if !of.iter().any(Principal::is_wildcard) && spare == 0 && request.iter().any(|one| of.contains(one)) {
        let message = "when one of the approvers asks, too few are left: whoever asked does not count";
        let place = section.value("approve").map_or(section.place.clone(), |item| item.place);
        report.warning(WarningKind::Unapprovable, &place, &section.path_of("approve"), message);
    }
}
