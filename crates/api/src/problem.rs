//! What every failure looks like: an RFC 9457 problem with a stable code and a hint.
//!
//! Codes are part of the API: one is added, never renamed. [`CODES`] is the whole list.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Why a request did not do what it asked for.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct ProblemBody {
    /// `urn:pilothouse:problem:<code>`
    #[serde(rename = "type")]
    pub kind: String,
    pub title: String,
    pub status: u16,
    /// Stable; what programs decide by.
    pub code: String,
    /// What went wrong this time.
    pub detail: String,
    /// What to do about it.
    pub hint: String,
    /// Also in the header `X-Request-Id`, and in the server's log.
    pub request_id: String,
    /// One line for each thing that is wrong, where there may be several.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub problems: Vec<String>,
}

/// One entry of the list of codes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Code {
    pub code: &'static str,
    pub status: u16,
    pub title: &'static str,
    pub hint: &'static str,
}

impl Code {
    /// The entry of that name.
    pub fn find(code: &str) -> Option<&'static Self> {
        CODES.iter().find(|entry| entry.code == code)
    }

    pub fn urn(&self) -> String {
        format!("urn:pilothouse:problem:{}", self.code)
    }
}

macro_rules! codes {
    ($($name:ident $status:literal $code:literal $title:literal $hint:literal;)*) => {
        $(pub const $name: Code = Code { code: $code, status: $status, title: $title, hint: $hint };)*

        /// Every code there is.
        pub const CODES: &[Code] = &[$($name),*];
    };
}

codes! {
    // The request as such.
    MALFORMED_JSON 400 "malformed_json" "Malformed JSON" "Send one JSON document; the detail says where it breaks off.";
    WRONG_CONTENT_TYPE 415 "wrong_content_type" "Unsupported Media Type" "Send the body as application/json.";
    VALIDATION_ERROR 400 "validation_error" "Validation Error" "Fill in every field that the detail names.";
    INVALID_BODY 422 "invalid_body" "Invalid Body" "Compare the body with the operation's schema in /openapi.json.";
    INVALID_QUERY 422 "invalid_query" "Invalid Query" "Compare the query with the operation's parameters in /openapi.json.";
    INVALID_CURSOR 422 "invalid_cursor" "Invalid Cursor" "Use a cursor exactly as it was given, or start again without one.";
    HOSTILE_TEXT 422 "hostile_text" "Unacceptable Text" "Leave out NUL, control and invisible or direction-changing characters.";
    BODY_TOO_LARGE 413 "body_too_large" "Body Too Large" "Send less; the limit is a configuration key of the server.";
    JSON_TOO_DEEP 422 "json_too_deep" "JSON Too Deep" "Send a document with fewer levels.";
    BODY_TIMEOUT 408 "body_timeout" "Body Timeout" "Send the whole body promptly.";
    HANDLER_TIMEOUT 503 "handler_timeout" "Timeout" "Try again with the same Idempotency-Key: what was begun may still complete.";
    URI_TOO_LONG 414 "uri_too_long" "URI Too Long" "Shorten the path or the query.";
    HEADERS_TOO_LARGE 431 "headers_too_large" "Headers Too Large" "Send fewer or shorter headers.";
    BAD_HOST 400 "bad_host" "Bad Host" "Send exactly one Host header.";
    MISDIRECTED 421 "misdirected" "Misdirected Request" "Use a name the server answers to, or add this one to server.allowed_hosts.";
    NO_SUCH_ROUTE 404 "no_such_route" "No Such Route" "See /openapi.json for the routes there are.";
    METHOD_NOT_ALLOWED 405 "method_not_allowed" "Method Not Allowed" "See the header Allow and /openapi.json.";
    RATE_LIMITED 429 "rate_limited" "Too Many Requests" "Wait as long as Retry-After says.";
    TOO_MANY_STREAMS 429 "too_many_streams" "Too Many Streams" "Close a stream first.";

    // Who asks.
    UNAUTHENTICATED 401 "unauthenticated" "Unauthorized" "Send a valid token as `Authorization: Bearer …`; the first one is in admin.token in the data directory.";
    TOKEN_IN_QUERY 400 "token_in_query" "Token In Query" "Tokens in addresses end up in logs: send it as `Authorization: Bearer …`, and revoke the one that was sent.";
    MISSING_SCOPE 403 "missing_scope" "Forbidden" "Use a token with the scope that the detail names.";
    NOT_A_PERSON 403 "not_a_person" "Forbidden" "Only people decide gates; agents and workers never can.";
    PROJECT_ACCESS_DENIED 401 "project_access_denied" "Project Access Denied" "Send the project's token as X-Project-Token, or use an admin token.";
    NOT_A_REQUESTER 403 "not_a_requester" "Forbidden" "The job's policy.request says who may ask for it.";
    NOT_CONCERNED 403 "not_concerned" "Forbidden" "A run is steered by its requester, by those who may ask for it and by its approvers.";
    NOT_APPROVER 403 "not_approver" "Forbidden" "The gate shows who may decide it.";
    SELF_APPROVAL 403 "self_approval" "Forbidden" "Somebody else has to approve, unless the policy that the detail names allows it.";
    SCOPE_NOT_ALLOWED 422 "scope_not_allowed" "Scope Not Allowed" "Leave out the scope, or make the token for a person.";
    DEV_CHANNEL_OFF 404 "dev_channel_off" "Dev Channel Off" "Start the server with --dev-channel, on loopback.";

    // What is asked for.
    UNKNOWN_RUN 404 "unknown_run" "Run Not Found" "List the runs with GET /runs.";
    UNKNOWN_GATE 404 "unknown_gate" "Gate Not Found" "List the gates with GET /gates.";
    UNKNOWN_JOB 404 "unknown_job" "Job Not Found" "List the jobs with GET /jobs.";
    UNKNOWN_ENGINE 404 "unknown_engine" "Engine Not Found" "List the engines with GET /engines; `[engines.NAME]` in the configuration makes one.";
    UNKNOWN_ATTEMPT 404 "unknown_attempt" "Attempt Not Found" "List a run's attempts with GET /runs/{id}/attempts.";
    UNKNOWN_PROJECT 404 "unknown_project" "Project Not Found" "List the projects with GET /projects.";
    UNKNOWN_PROTOCOL 404 "unknown_protocol" "Protocol Not Found" "List a project's protocols with GET /projects/{id}/protocols.";
    UNKNOWN_STEP 404 "unknown_step" "Step Not Found" "List a protocol's steps with GET /protocols/{id}/steps.";
    UNKNOWN_TOKEN 404 "unknown_token" "Token Not Found" "List the tokens with GET /tokens.";
    UNKNOWN_PERSON 404 "unknown_person" "Person Not Found" "Name a person that exists, by name or id.";
    UNKNOWN_SUBJECT 404 "unknown_subject" "Subject Not Found" "A subject is written kind:id, such as run:7Q4K2MA or protocol:3.";
    JOB_PARAMETERS 422 "job_parameters" "Invalid Parameters" "GET /jobs/{key} shows the parameters and what each may be.";
    CATALOG_INVALID 422 "catalog_invalid" "Invalid Catalog" "Check the file with `pilothouse job check`.";
    INVALID_PROJECT 422 "invalid_project" "Invalid Project" "Correct what the problems name.";
    INVALID_PROTOCOL 422 "invalid_protocol" "Invalid Protocol" "Correct what the problems name.";
    INVALID_SPEC 422 "invalid_spec" "Invalid Spec" "Correct what the problems name; the schema is in schemas/protocol-spec.schema.json.";
    WEAK_API_TOKEN 422 "weak_api_token" "Weak Token" "Choose a longer random token for secrets.api_token.";
    SECRETS_NOT_AVAILABLE 422 "secrets_not_available" "Secret Not Accepted" "A project keeps only api_token; there is no store for other secrets yet.";

    // What stands against it.
    WRONG_STATE 409 "wrong_state" "Wrong State" "Look at its state first; the detail names it.";
    GATE_CLOSED 409 "gate_closed" "Gate Closed" "It was decided before; the detail says how and by whom.";
    DIGEST_MISMATCH 409 "digest_mismatch" "Digest Mismatch" "What would run is no longer what you looked at: look at the gate again.";
    NAME_TAKEN 409 "name_taken" "Name Taken" "Choose another name.";
    TAKEN 409 "taken" "Taken" "Somebody holds it; the detail says who.";
    FENCED 409 "fenced" "Taken Over" "Another worker carries this on.";
    NOTHING_TO_DO 404 "nothing_to_do" "Nothing To Do" "Look at the steps first: none is in a state for this.";
    BACKUP_UNSUPPORTED 409 "backup_unsupported" "Backup Not Possible" "Back PostgreSQL up with its own tools.";
    IDEMPOTENCY_MISMATCH 422 "idempotency_mismatch" "Idempotency Key Reused" "Use a new key for a new request.";
    IDEMPOTENCY_IN_FLIGHT 409 "idempotency_in_flight" "In Flight" "The first request with this key is still being carried out: try again in a moment.";
    INVALID_IDEMPOTENCY_KEY 422 "invalid_idempotency_key" "Invalid Idempotency Key" "Send one key of 1 to 255 printable ASCII characters.";
    ALREADY_DONE 409 "already_done" "Already Done" "The same command was carried out before.";

    // What we could not tell.
    CONTENDED 503 "contended" "Contended" "Others keep changing it: try again.";
    UNAVAILABLE 503 "unavailable" "Database Unavailable" "Try again after the time in Retry-After.";
    OVERLOADED 503 "overloaded" "Overloaded" "Try again after the time in Retry-After.";
    DISK_FULL 503 "disk_full" "Disk Full" "Free space on the server's disk, then try again.";
    UNKNOWN_OUTCOME 503 "unknown_outcome" "Outcome Unknown" "Try again with the same Idempotency-Key: it happens at most once.";
    ATTEMPT_ELSEWHERE 409 "attempt_elsewhere" "Attempt Runs Elsewhere" "Ask the server on the machine where it runs, or pause the protocol.";
    LOG_UNAVAILABLE 404 "log_unavailable" "Log Not Here" "The log lies on the machine that ran the attempt.";
    INTERNAL 500 "internal" "Internal Error" "The server's log tells more under this request id.";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_is_there_once_and_says_what_to_do() {
        for (place, entry) in CODES.iter().enumerate() {
            assert!(CODES[..place].iter().all(|other| other.code != entry.code), "{} is there twice", entry.code);
            assert!(entry.code.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'), "{}", entry.code);
            assert!((400..600).contains(&entry.status), "{}", entry.code);
            assert!(entry.hint.ends_with('.') && !entry.title.is_empty(), "{}", entry.code);
            assert_eq!(Code::find(entry.code), Some(entry));
        }
        assert_eq!(Code::find("banana"), None);
    }
}
