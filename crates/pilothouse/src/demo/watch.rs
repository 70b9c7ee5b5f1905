//! Every event as it happens, with the time since the demo began.

use std::time::{Duration, Instant};

use api::events::EventView;
use tokio::task::JoinHandle;

use super::Stage;
use crate::{
    commands::{event_subject, show_event},
    failure::Result,
    output::{Output, print_clean},
};

/// How long the last events may take to arrive.
const LAST: Duration = Duration::from_millis(300);

/// Prints events until it is finished.
#[derive(Debug)]
pub(super) struct Watch {
    printing: JoinHandle<()>,
}

pub(super) async fn start(stage: &Stage) -> Result<Watch> {
    let started = host::clock::monotonic();
    let mut stream = stage.client.follow_events(None, None).await?;
    let output = stage.output;
    let printing = host::task::spawn("demo events", async move {
        while let Ok(Some(event)) = stream.next().await {
            if show(output, started, &event).is_err() {
                return;
            }
        }
    });
    Ok(Watch { printing })
}

impl Watch {
    /// Gives the last events a moment.
    pub(super) async fn finish(self) {
        tokio::time::sleep(LAST).await;
        self.printing.abort();
    }
}

fn show(output: Output, started: Instant, event: &EventView) -> Result {
    if output.json {
        return show_event(output, event);
    }
    let time = event.at.get(11..23).unwrap_or(&event.at);
    let line = format!(
        "{time}  +{:.3}s  {:<18} {}",
        started.elapsed().as_secs_f64(),
        event_subject(event),
        host::text::one_line(&event.message, 160)
    );
    print_clean(&format!("{line}\n"))
}
