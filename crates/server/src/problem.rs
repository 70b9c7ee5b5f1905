//! Failures as answers: one exhaustive translation from what `control` refuses to a status and a stable code.
//!
//! A problem is carried in its response until [`crate::edge`] knows the request id and writes it out. Causes that are
//! ours are logged here, once, and never shown.

use api::{
    inbound::InheritedProblem,
    problem::{self as codes, Code, ProblemBody},
};
use axum::{
    body::Body,
    http::{HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use control::CommandError;
use domain::{
    commit::{Guard, SubjectKind},
    gate::GateError,
    project::ProjectError,
    protocol::ProtocolError,
    run::RunError,
    text::{is_hidden, printable},
};
use store::StoreError;

const MAX_DETAIL: usize = 2000;

/// A failure on its way out. Boxed, because results are mostly fine.
#[derive(Clone, Debug)]
pub struct Problem(Box<Parts>);

#[derive(Clone, Debug)]
struct Parts {
    code: Code,
    detail: String,
    problems: Vec<String>,
    headers: Vec<(HeaderName, HeaderValue)>,
    /// Written in the inherited shape, under this title.
    inherited: Option<&'static str>,
}

impl Problem {
    /// A problem of that code; the detail says what is wrong this time.
    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        let detail = shown(&detail.into());
        Self(Box::new(Parts { code, detail, problems: Vec::new(), headers: Vec::new(), inherited: None }))
    }

    /// Several things are wrong.
    #[must_use]
    pub(crate) fn listing(mut self, problems: impl IntoIterator<Item = String>) -> Self {
        self.0.problems = problems.into_iter().take(50).map(|problem| shown(&problem)).collect();
        self
    }

    #[must_use]
    pub(crate) fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.0.headers.push((name, value));
        self
    }

    #[must_use]
    pub(crate) fn retry_after(self, seconds: u32) -> Self {
        self.header(header::RETRY_AFTER, HeaderValue::from(seconds))
    }

    /// In the shape of the inherited routes.
    #[must_use]
    pub(crate) fn inherited(mut self, title: &'static str) -> Self {
        self.0.inherited = Some(title);
        self
    }

    /// A defect of ours, or of the machine: logged with its cause, shown without.
    pub(crate) fn internal(cause: &dyn std::fmt::Display) -> Self {
        tracing::error!(error = %cause, "Answered a request with an internal error: {cause}");
        Self::new(codes::INTERNAL, "the server failed to answer")
    }

    pub(crate) fn status(&self) -> StatusCode {
        StatusCode::from_u16(self.0.code.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    pub(crate) fn code(&self) -> &'static str {
        self.0.code.code
    }

    /// The whole answer, once the request id is known.
    pub(crate) fn write(self, request_id: &str) -> Response {
        let mut response = Response::new(Body::from(self.render(request_id)));
        *response.status_mut() = self.status();
        let json = HeaderValue::from_static("application/problem+json");
        response.headers_mut().insert(header::CONTENT_TYPE, json);
        response.headers_mut().extend(self.0.headers);
        response
    }

    /// The body of the answer.
    pub(crate) fn render(&self, request_id: &str) -> Vec<u8> {
        let Parts { code, detail, problems, headers: _, inherited } = &*self.0;
        let body = match inherited {
            Some(title) => serde_json::to_vec(&InheritedProblem {
                title: (*title).to_owned(),
                status: code.status,
                detail: detail.clone(),
                code: code.code.to_owned(),
                hint: code.hint.to_owned(),
            }),
            None => serde_json::to_vec(&ProblemBody {
                kind: code.urn(),
                title: code.title.to_owned(),
                status: code.status,
                code: code.code.to_owned(),
                detail: detail.clone(),
                hint: code.hint.to_owned(),
                request_id: request_id.to_owned(),
                problems: problems.clone(),
            }),
        };
        body.unwrap_or_default()
    }
}

/// Details repeat what callers sent: on one line, without hidden characters, not too long.
fn shown(text: &str) -> String {
    let text: String = text.chars().take(MAX_DETAIL).collect();
    if text.chars().any(is_hidden) { printable(&text) } else { text }
}

/// What a caller typed, short enough to repeat.
pub(crate) fn typed(text: &str) -> String {
    printable(&text.chars().take(80).collect::<String>())
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = self.status();
        response.extensions_mut().insert(self);
        response
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        let (code, detail, retry_after) = match &error {
            StoreError::Unavailable { .. } => (codes::UNAVAILABLE, "the database is not available", 5),
            StoreError::Overloaded => (codes::OVERLOADED, "more is waiting than may wait", 1),
            StoreError::DiskFull => (codes::DISK_FULL, "the disk of the database is full", 30),
            StoreError::UnknownOutcome { .. } => {
                (codes::UNKNOWN_OUTCOME, "the database did not say whether it was done", 2)
            }
            StoreError::BadCursor => {
                return Self::new(codes::INVALID_CURSOR, "the cursor was not given by this database");
            }
            StoreError::Corrupt { .. }
            | StoreError::Damaged { .. }
            | StoreError::InUse { .. }
            | StoreError::Unfit { .. }
            | StoreError::NewerSchema { .. }
            | StoreError::Rejected { .. } => return Self::internal(&error),
        };
        tracing::warn!(error = %error, "Could not answer a request: {error}");
        Self::new(code, detail).retry_after(retry_after)
    }
}

impl From<CommandError> for Problem {
    fn from(error: CommandError) -> Self {
        let detail = error.to_string();
        match error {
            CommandError::NotFound { kind, .. } => Self::new(unknown(kind), detail),
            CommandError::NoSuchStep { .. } => Self::new(codes::UNKNOWN_STEP, detail),
            CommandError::Run(error) => error.into(),
            CommandError::Protocol(error) => error.into(),
            CommandError::Project(error) => error.into(),
            CommandError::NameTaken { .. } => Self::new(codes::NAME_TAKEN, detail),
            CommandError::Repeated(_) => Self::new(codes::ALREADY_DONE, detail),
            CommandError::Refused { guard, current } => refused(&guard, &current),
            CommandError::Fenced => Self::new(codes::FENCED, detail),
            CommandError::Contended => Self::new(codes::CONTENDED, detail).retry_after(1),
            CommandError::Invalid { code, problems } => Self::new(listed(code), detail).listing(problems),
            CommandError::Forbidden { code, message } => Self::new(listed(code), message),
            CommandError::Store(failure) => failure.0.into(),
        }
    }
}

impl From<RunError> for Problem {
    fn from(error: RunError) -> Self {
        let detail = error.to_string();
        match error {
            RunError::WrongState { .. } => Self::new(codes::WRONG_STATE, detail),
            RunError::Gate(error) => error.into(),
            RunError::NoSuchGate { .. } => Self::new(codes::UNKNOWN_GATE, detail),
            RunError::Fenced { .. } => Self::new(codes::FENCED, detail),
        }
    }
}

impl From<GateError> for Problem {
    fn from(error: GateError) -> Self {
        let code = match &error {
            GateError::Closed { .. } => codes::GATE_CLOSED,
            GateError::SelfApproval { .. } => codes::SELF_APPROVAL,
            GateError::NotApprover { .. } => codes::NOT_APPROVER,
            GateError::NotAPerson { .. } => codes::NOT_A_PERSON,
        };
        Self::new(code, error.to_string())
    }
}

impl From<ProtocolError> for Problem {
    fn from(error: ProtocolError) -> Self {
        let detail = error.to_string();
        let code = match error {
            ProtocolError::WrongState { .. }
            | ProtocolError::StepWrongState { .. }
            | ProtocolError::Busy { .. }
            | ProtocolError::Unmet { .. }
            | ProtocolError::WaitsForGate { .. }
            | ProtocolError::TooManyQuestions { .. }
            | ProtocolError::NothingToCheck { .. } => codes::WRONG_STATE,
            ProtocolError::NoSuchStep { .. } => codes::UNKNOWN_STEP,
            ProtocolError::NoSuchGate { .. } => codes::UNKNOWN_GATE,
            ProtocolError::NoStepToRun { .. } | ProtocolError::NoStepToRetry { .. } => codes::NOTHING_TO_DO,
            ProtocolError::NotAPerson { .. } => codes::NOT_A_PERSON,
            ProtocolError::Fenced { .. } => codes::FENCED,
            ProtocolError::IndexTaken { .. } => codes::NAME_TAKEN,
            ProtocolError::Invalid { problems } => {
                return Self::new(codes::INVALID_PROTOCOL, detail).listing(listed_problems(&problems));
            }
            ProtocolError::Gate(error) => return error.into(),
        };
        Self::new(code, detail)
    }
}

impl From<ProjectError> for Problem {
    fn from(error: ProjectError) -> Self {
        let detail = error.to_string();
        match error {
            ProjectError::Invalid { problems } => {
                Self::new(codes::INVALID_PROJECT, detail).listing(listed_problems(&problems))
            }
            ProjectError::AlreadyPending { .. } => Self::new(codes::WRONG_STATE, detail),
        }
    }
}

fn listed_problems(problems: &[domain::spec::SpecProblem]) -> Vec<String> {
    problems.iter().map(ToString::to_string).collect()
}

fn unknown(kind: SubjectKind) -> Code {
    match kind {
        SubjectKind::Project => codes::UNKNOWN_PROJECT,
        SubjectKind::Protocol => codes::UNKNOWN_PROTOCOL,
        SubjectKind::Run => codes::UNKNOWN_RUN,
        SubjectKind::Person => codes::UNKNOWN_PERSON,
        SubjectKind::Token => codes::UNKNOWN_TOKEN,
        SubjectKind::Message | SubjectKind::Catalog => codes::UNKNOWN_SUBJECT,
    }
}

fn refused(guard: &Guard, current: &str) -> Problem {
    match guard {
        Guard::Unique { key, .. } => Problem::new(codes::NAME_TAKEN, format!("{key} is taken by {current}")),
        Guard::Hold { lock, .. } => Problem::new(codes::TAKEN, format!("{lock} is held by {current}")),
        Guard::Reserve { budget, .. } => Problem::new(codes::TAKEN, format!("budget {budget} is spent: {current}")),
    }
}

/// A code that a command gave; one that is not on the list is shown as what most of them are.
fn listed(code: &'static str) -> Code {
    Code::find(code).copied().unwrap_or_else(|| {
        tracing::error!(code, "The code {code} is not on the list of codes");
        Code { code, ..codes::INVALID_BODY }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_we_could_not_tell_is_503_with_a_time_and_without_a_cause() {
        for (error, code) in [
            (StoreError::Unavailable { reason: "host db7 is down".to_owned() }, "unavailable"),
            (StoreError::Overloaded, "overloaded"),
            (StoreError::DiskFull, "disk_full"),
            (StoreError::UnknownOutcome { commit: "c".to_owned(), reason: "db7".to_owned() }, "unknown_outcome"),
        ] {
            let problem = Problem::from(CommandError::from(error));

            assert_eq!((problem.status().as_u16(), problem.code()), (503, code));
            let response = problem.clone().write("r");
            assert!(response.headers().contains_key(header::RETRY_AFTER), "{code}");
            assert!(!String::from_utf8(problem.render("r")).unwrap().contains("db7"), "{code}");
        }
    }

    #[test]
    fn a_defect_is_500_and_tells_nothing() {
        let corrupt = StoreError::Corrupt { table: "runs", id: "7Q4K2MA".to_owned(), reason: "column body".to_owned() };

        let problem = Problem::from(corrupt);

        assert_eq!(problem.status().as_u16(), 500);
        assert!(!String::from_utf8(problem.render("r")).unwrap().contains("column"));
    }

    #[test]
    fn what_callers_sent_is_repeated_on_one_line() {
        let problem = Problem::new(codes::UNKNOWN_JOB, format!("there is no job {}", typed("a\n\u{202e}b")));

        assert_eq!(problem.0.detail, "there is no job a\\u{a}\\u{202e}b");
    }
}
