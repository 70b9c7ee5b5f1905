//! Gates, and the two words that answer them.

use api::gates::{ApproveBody, DenyBody, GateView};
use client::Client;

use super::Context;
use crate::{
    cli::{AnswerArgs, GateCommand},
    failure::Result,
    output::fields,
};

pub(super) async fn run(context: &Context, command: GateCommand) -> Result {
    match command {
        GateCommand::List(page) => {
            let status = page.status.as_deref().unwrap_or("open");
            let gates = context.client()?.list_gates(Some(status), page.after.as_deref(), page.limit).await?;
            let head = ["gate", "for", "status", "asks", "by", "until"];
            context.output.list("gates", &gates.items, gates.next_cursor.as_deref(), &head, |gate| {
                vec![
                    gate.id.clone(),
                    gate.subject.clone(),
                    gate.status.clone(),
                    gate.title.clone(),
                    gate.requester.clone(),
                    gate.deadline.clone().unwrap_or_else(|| "for ever".to_owned()),
                ]
            })
        }
        GateCommand::Get { gate } => {
            let gate = context.client()?.get_gate(&gate).await?;
            context.output.one("gate", &gate, || describe(&gate))
        }
        GateCommand::Approve(args) => answer(context, args, true).await,
        GateCommand::Deny(args) => answer(context, args, false).await,
    }
}

/// Answers what waits under a reference; the words are the note or the reason.
pub(super) async fn answer(context: &Context, args: AnswerArgs, yes: bool) -> Result {
    let words = Some(args.words.join(" ")).filter(|words| !words.trim().is_empty());
    let gate = give(&context.client()?, &args.reference, yes, words).await?;
    context.output.one("gate", &gate, || describe(&gate))
}

async fn give(client: &Client, reference: &str, yes: bool, words: Option<String>) -> Result<GateView> {
    Ok(if yes {
        client.approve_gate(reference, &ApproveBody { digest: None, note: words }).await?
    } else {
        client.deny_gate(reference, &DenyBody { digest: None, reason: words }).await?
    })
}

pub(crate) fn describe(gate: &GateView) -> String {
    let approvals: Vec<&str> = gate.approvals.iter().map(|approval| approval.account.as_str()).collect();
    let may = match &gate.approvers {
        None => "whoever may decide gates".to_owned(),
        Some(approvers) => approvers.join(", "),
    };
    let mut text = fields([
        ("gate", Some(gate.id.clone())),
        ("for", Some(gate.subject.clone())),
        ("status", Some(gate.status.clone())),
        ("asks", Some(gate.title.clone())),
        ("runs", Some(gate.command.clone()).filter(|command| !command.is_empty())),
        ("digest", Some(gate.digest.clone())),
        ("by", Some(gate.requester.clone())),
        ("reason", gate.reason.clone()),
        ("needs", Some(format!("{} of {may}", gate.quorum))),
        ("has", Some(approvals.join(", ")).filter(|approvals| !approvals.is_empty())),
        ("until", gate.deadline.clone()),
        ("decided", gate.decided_by.clone()),
        ("because", gate.decision_reason.clone()),
    ]);
    for line in &gate.lines {
        text.push_str(&format!("  {line}\n"));
    }
    text
}
