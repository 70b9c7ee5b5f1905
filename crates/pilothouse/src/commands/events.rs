//! The timeline.

use std::time::Duration;

use api::events::EventView;

use super::Context;
use crate::{
    cli::EventsArgs,
    failure::Result,
    output::{Output, print_clean, print_line, with_schema},
};

pub(super) async fn run(context: &Context, args: EventsArgs) -> Result {
    if args.follow {
        return follow(context, args).await;
    }
    let after = args.after.as_deref();
    let client = context.client()?;
    let subject = args.subject.as_deref();
    // Without either, the server answers in the inherited shape; an empty cursor asks for the beginning.
    let after = if subject.is_none() { Some(after.unwrap_or_default()) } else { after };
    let page = client.list_events(subject, after, args.limit).await?;
    context.output.list("events", &page.items, Some(&page.next_cursor.unwrap_or_default()), &HEAD, row)
}

const HEAD: [&str; 4] = ["at", "subject", "actor", "what"];

fn row(event: &EventView) -> Vec<String> {
    vec![event.at.clone(), subject_of(event), event.actor.clone(), event.message.clone()]
}

/// What an event is about, with the step where one is meant.
pub(crate) fn subject_of(event: &EventView) -> String {
    match event.step_id {
        Some(step) => format!("{} step:{step}", event.subject),
        None => event.subject.clone(),
    }
}

/// One line for each event, until interrupted. A stream that ends is taken up again where it ended.
async fn follow(context: &Context, args: EventsArgs) -> Result {
    let client = context.client()?;
    let mut after = args.after;
    loop {
        let mut stream = client.follow_events(args.subject.as_deref(), after.as_deref()).await?;
        // When the server stops or the line breaks, the next call tells which.
        while let Ok(Some(event)) = stream.next().await {
            show(context.output, &event)?;
            after = Some(event.cursor);
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

pub(crate) fn show(output: Output, event: &EventView) -> Result {
    if output.json {
        return print_line(&with_schema("event", serde_json::to_value(event).unwrap_or_default()).to_string());
    }
    let line = host::text::one_line(row(event).join("  "), 400);
    print_clean(&format!("{line}\n"))
}
