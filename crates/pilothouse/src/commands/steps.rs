//! Steps of protocols.

use api::steps::{ApproveStepBody, StepView};

use super::{Context, attempts, diffs, protocols};
use crate::{
    cli::StepCommand,
    failure::{Exit, Failure, Result},
    output::fields,
};

pub(super) async fn run(context: &Context, command: StepCommand) -> Result {
    let client = context.client()?;
    let step = match command {
        StepCommand::List { protocol } => {
            let steps = client.list_steps(protocol).await?;
            let head = ["step", "index", "name", "type", "status", "summary"];
            return context.output.list("steps", &steps, None, &head, |step| {
                vec![
                    step.id.to_string(),
                    step.step_index.to_string(),
                    step.step_name.clone(),
                    step.step_type.clone(),
                    step.status.clone(),
                    step.reason.clone().or_else(|| step.summary.clone()).unwrap_or_default(),
                ]
            });
        }
        StepCommand::Get { step } => client.get_step(step).await?,
        StepCommand::Run { step } => return protocols::act(context, &client.run_step(step).await?),
        StepCommand::RunQa { step } => return protocols::act(context, &client.check_step(step).await?),
        StepCommand::Approve { step, reason } => client.approve_step(step, &ApproveStepBody { reason }).await?,
        StepCommand::Logs { step, follow } => {
            let found = client.get_step(step).await?;
            let Some(attempt) = found.attempt else {
                return Err(Failure::new(Exit::NotFound, format!("step {step} has not been attempted yet")));
            };
            return attempts::print_log(context, &client, &attempt.id, follow).await;
        }
        StepCommand::Diff { step, stat } => return diffs::show(context, &client, step, stat).await,
    };
    context.output.one("step", &step, || describe(&step))
}

/// One step in one line.
pub(super) fn line(step: &StepView) -> String {
    let told = step.reason.as_ref().or(step.summary.as_ref()).map(|told| format!("  {told}")).unwrap_or_default();
    format!("{:>4}  {:02}  {:<9}  {}{told}", step.id, step.step_index, step.status, step.step_name)
}

fn describe(step: &StepView) -> String {
    fields([
        ("step", Some(step.id.to_string())),
        ("protocol", Some(step.protocol_run_id.to_string())),
        ("name", Some(step.step_name.clone())),
        ("type", Some(step.step_type.clone())),
        ("status", Some(step.status.clone())),
        ("reason", step.reason.clone()),
        ("summary", step.summary.clone()),
        ("engine", step.engine_id.clone()),
        ("waits", step.gate_id.as_ref().map(|gate| format!("for an approval: pilothouse yes {gate}"))),
        ("attempt", step.attempt.as_ref().map(|attempt| format!("{} ({})", attempt.id, attempt.status))),
        ("commit", step.commit.clone()),
    ])
}
