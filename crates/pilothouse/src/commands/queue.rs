//! The work queue.

use super::Context;
use crate::{
    cli::{QueueArgs, QueueCommand},
    failure::Result,
    output::fields,
};

pub(super) async fn run(context: &Context, args: QueueArgs) -> Result {
    let client = context.client()?;
    let Some(QueueCommand::Jobs { status, limit }) = args.command else {
        let queue = client.get_queue().await?;
        return context.output.one("queue", &queue, || {
            let counts = queue.states.iter().map(|(state, count)| (state.as_str(), Some(count.to_string())));
            fields(counts.chain([("oldest ready", queue.oldest_ready_at.clone())]))
        });
    };
    let tasks = client.list_queue_jobs(status.as_deref(), limit).await?;
    let head = ["task", "kind", "status", "for", "attempts", "error"];
    context.output.list("queue_jobs", &tasks, None, &head, |task| {
        vec![
            task.job_id.clone(),
            task.job_type.clone(),
            task.status.clone(),
            task.payload["subject"].as_str().unwrap_or_default().to_owned(),
            format!("{}/{}", task.attempts, task.max_attempts),
            task.error.clone().unwrap_or_default(),
        ]
    })
}
