//! Commands to protocols and their steps, given on behalf of a request.
//!
//! Each is one method of [`Control`] with the same shape, so that [`action`] writes its handler.

use api::protocols::{ActionView, ProtocolView};
use axum::response::Response;
use control::{
    Cause, Changed, CommandError, Control,
    ledger::{Complete, Draft, Rendered},
    tokens::Session,
};
use domain::{
    protocol::{Protocol, ProtocolEvent},
    task::NewTask,
    time::Timestamp,
};
use serde::Serialize;

use crate::{app::App, asked::Once, perform::kept, problem::Problem};

/// What a command is answered with.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Answer {
    /// The protocol as it is now.
    Protocol,
    /// The work that was put into the queue, with a word about it.
    Work(&'static str),
}

#[derive(Serialize)]
#[serde(untagged)]
enum View {
    Protocol(Box<ProtocolView>),
    Work(Box<ActionView>),
}

impl Answer {
    fn view(self, protocol: &Protocol, tasks: &[NewTask], now: Timestamp) -> View {
        match (self, protocol.open_gate()) {
            (Self::Protocol, _) => View::Protocol(Box::new(ProtocolView::of(protocol, now))),
            // People have to answer first.
            (Self::Work(_), Some(gate)) => {
                View::Work(Box::new(ActionView::of(format!("Gate {} waits for an answer", gate.id), tasks, now)))
            }
            (Self::Work(word), None) => View::Work(Box::new(ActionView::of(word.to_owned(), tasks, now))),
        }
    }
}

/// How an answer is kept before the commit.
pub(crate) type Render = Box<dyn Fn(&Protocol) -> Rendered + Send + Sync>;

/// Gives one command to a protocol.
pub(crate) async fn steer<F>(
    app: &App,
    session: &Session,
    once: Once,
    answer: Answer,
    command: impl FnOnce(Control, Cause, Render) -> F + Send + 'static,
) -> Result<Response, Problem>
where
    F: Future<Output = Result<Changed<Protocol, ProtocolEvent>, CommandError>> + Send,
{
    let now = app.control.clock().now();
    app.perform(session, once, move |control, mut cause| async move {
        cause.complete = match answer {
            Answer::Protocol => None,
            Answer::Work(_) => Some(Complete::new(with_tasks)),
        };
        let render: Render = Box::new(move |protocol| kept(&answer.view(protocol, &[], now)));
        let changed = command(control, cause, render).await?;
        Ok(answer.view(&changed.subject, &changed.tasks, now))
    })
    .await
}

/// Puts the task into the kept answer, once it has its id.
fn with_tasks(draft: &Draft<'_>) -> String {
    let completed = serde_json::from_str::<serde_json::Value>(draft.answer).ok().and_then(|mut kept| {
        let message = kept["body"]["message"].as_str()?.to_owned();
        kept["body"] = serde_json::to_value(ActionView::of(message, draft.tasks, draft.now)).ok()?;
        Some(kept.to_string())
    });
    completed.unwrap_or_else(|| draft.answer.to_owned())
}

/// The handler of an action on the protocol or step that its path names.
macro_rules! action {
    ($(#[$doc:meta])* $name:ident, $path:literal, $tag:literal, $view:ty, $answer:expr,
        $listed:ty, $noun:ident => $method:ident) => {
        $(#[$doc])*
        #[utoipa::path(post, path = $path, tag = $tag, security(("bearer" = ["protocols:write"])),
            request_body = Option<api::health::NoBody>,
            params(("id" = i64, Path), ("X-Project-Token" = Option<String>, Header),
                ("Idempotency-Key" = Option<String>, Header)),
            responses((status = 200, body = $view), (status = "4XX", body = api::ProblemBody)))]
        pub(crate) async fn $name(
            axum::extract::State(app): axum::extract::State<$crate::app::App>,
            seen: $crate::sight::Seen<$crate::auth::Steerer, $listed>,
            $crate::asked::Act { body: api::health::NoBody {}, once }: $crate::asked::Act<api::health::NoBody>,
        ) -> Result<axum::response::Response, $crate::problem::Problem> {
            let id = seen.it.$noun.id;
            $crate::steering::steer(&app, &seen.by.0, once, $answer, move |control, cause, render| async move {
                control.$method(id, &cause, render).await
            })
            .await
        }
    };
}

pub(crate) use action;
