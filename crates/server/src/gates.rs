//! Gates: looked at and answered.

use api::{
    Page, ProblemBody, RowCursor,
    gates::{ApproveBody, DenyBody, GateView},
    problem::{DIGEST_MISMATCH, UNKNOWN_GATE},
};
use axum::{Json, extract::State, response::Response};
use control::{CommandError, Control, tokens::Session};
use domain::{
    gate::{Answer, Gate, GateState, Verdict},
    ids::{GateId, RunId},
    run::Run,
};
use serde::Deserialize;

use crate::{
    app::App,
    asked::{Act, Id, Once, Queried, page_limit, parse_statuses, row_cursor},
    auth::{Approver, Reader},
    perform::kept,
    problem::Problem,
    sight::{ProjectKey, Sight},
};

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct GatesQuery {
    status: Option<String>,
    limit: Option<i64>,
    after: Option<String>,
}

/// List gates
///
/// Newest first.
#[utoipa::path(get, path = "/gates", tag = "gates", security(("bearer" = ["read"])),
    params(("status" = Option<String>, Query, description = "open, approved, denied, expired, superseded or withdrawn; several are separated by commas"),
        ("limit" = Option<i64>, Query, description = "1 to 500, 50 when missing"),
        ("after" = Option<String>, Query, description = "The last page's next_cursor")),
    responses((status = 200, body = Page<GateView>), (status = "4XX", body = ProblemBody)))]
pub(crate) async fn list_gates(
    State(app): State<App>,
    reader: Reader,
    key: ProjectKey,
    Queried(query): Queried<GatesQuery>,
) -> Result<Json<Page<GateView>>, Problem> {
    let statuses = parse_statuses(query.status.as_deref(), "gate", &GateState::NAMES)?;
    let limit = page_limit(query.limit).min(499);
    let after = row_cursor(query.after.as_deref())?;
    let gates = app.control.store().list_gates(&statuses, after, limit + 1).await?;
    let place = |gate: &Gate| RowCursor { ordinal: gate.opened_at.as_micros(), id: gate.id.to_string() };
    let mut page = Page::of_rows(gates, limit as usize, place, Gate::clone);
    let mut sight = Sight::of(&reader.0, key, app.control.store());
    let mut items = Vec::with_capacity(page.items.len());
    for gate in std::mem::take(&mut page.items) {
        if sight.sees_owner(&gate.owner).await? {
            items.push(GateView::from(&gate));
        }
    }
    Ok(Json(Page { items, next_cursor: page.next_cursor }))
}

/// Get a gate
///
/// By its own reference, or by its run's when that has one open.
#[utoipa::path(get, path = "/gates/{id}", tag = "gates", security(("bearer" = ["read"])),
    params(("id" = String, Path)),
    responses((status = 200, body = GateView), (status = "4XX", body = ProblemBody)))]
pub(crate) async fn get_gate(
    State(app): State<App>,
    reader: Reader,
    key: ProjectKey,
    id: Id,
) -> Result<Json<GateView>, Problem> {
    Ok(Json(GateView::from(&find_seen_gate(&app, &reader.0, key, &id).await?)))
}

async fn find_gate(control: &Control, id: &Id) -> Result<Gate, Problem> {
    let GateId(reference) = id.gate()?;
    if let Some(gate) = control.store().find_gate(&reference).await? {
        return Ok(gate);
    }
    let run = control.store().find::<Run>(RunId(reference).as_str()).await?;
    let gate = run.and_then(|run| run.subject.open_gate().or(run.subject.gates.last()).cloned());
    gate.ok_or_else(|| id.unknown(UNKNOWN_GATE, "gate"))
}

/// A gate that the caller may see.
async fn find_seen_gate(app: &App, session: &Session, key: ProjectKey, id: &Id) -> Result<Gate, Problem> {
    let gate = find_gate(&app.control, id).await?;
    Sight::of(session, key, app.control.store()).check_subject(&gate.owner.to_string()).await?;
    Ok(gate)
}

/// Approve a gate
///
/// The gate opens once its quorum is reached. Approving twice is not an error.
#[utoipa::path(post, path = "/gates/{id}/actions/approve", tag = "gates", security(("bearer" = ["gates:decide"])),
    params(("id" = String, Path), ("Idempotency-Key" = Option<String>, Header)), request_body = Option<ApproveBody>,
    responses((status = 200, body = GateView), (status = "4XX", body = ProblemBody)))]
pub(crate) async fn approve_gate(
    State(app): State<App>,
    approver: Approver,
    key: ProjectKey,
    id: Id,
    Act { body, once }: Act<ApproveBody>,
) -> Result<Response, Problem> {
    let gate = find_seen_gate(&app, &approver.0, key, &id).await?;
    let verdict = Verdict::Approve { note: spoken(body.note) };
    answer(&app, &approver.0, gate, body.digest, verdict, once).await
}

/// Deny a gate
#[utoipa::path(post, path = "/gates/{id}/actions/deny", tag = "gates", security(("bearer" = ["gates:decide"])),
    params(("id" = String, Path), ("Idempotency-Key" = Option<String>, Header)), request_body = Option<DenyBody>,
    responses((status = 200, body = GateView), (status = "4XX", body = ProblemBody)))]
pub(crate) async fn deny_gate(
    State(app): State<App>,
    approver: Approver,
    key: ProjectKey,
    id: Id,
    Act { body, once }: Act<DenyBody>,
) -> Result<Response, Problem> {
    let gate = find_seen_gate(&app, &approver.0, key, &id).await?;
    let verdict = Verdict::Deny { reason: spoken(body.reason) };
    answer(&app, &approver.0, gate, body.digest, verdict, once).await
}

async fn answer(
    app: &App,
    session: &Session,
    gate: Gate,
    digest: Option<String>,
    verdict: Verdict,
    once: Once,
) -> Result<Response, Problem> {
    // A gate's digest never changes: what would run differently gets another gate.
    if digest.is_some_and(|digest| !digest.eq_ignore_ascii_case(&gate.digest)) {
        let detail = format!("gate {} asks about another digest than the one that was looked at", gate.id);
        return Err(Problem::new(DIGEST_MISMATCH, detail));
    }
    let answer = Answer { by: session.person.clone(), account: session.person.name.clone(), verdict };
    app.perform(session, once, move |control, cause| async move {
        let render = |gate: &Gate| kept(&GateView::from(gate));
        let gate = control.answer_gate(&gate.id, answer, &cause, render).await?;
        Ok::<_, CommandError>(GateView::from(&gate))
    })
    .await
}

/// One line, as every note and reason is kept; none when nothing is left.
fn spoken(text: Option<String>) -> Option<String> {
    text.map(|text| domain::text::note(&text)).filter(|text| !text.is_empty())
}
