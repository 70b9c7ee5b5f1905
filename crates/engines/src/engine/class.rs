//! Why an engine failed, in kinds that decide what happens next.

use serde::{Deserialize, Serialize};
use std::time::Duration;

/// The kind of a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum ErrorClass {
    /// The program is missing or cannot be started.
    Unavailable,
    NotLoggedIn,
    /// Too much at once; it passes by itself.
    RateLimit {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reset: Option<Reset>,
    },
    /// What was bought is used up until a certain time.
    UsageLimit {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reset: Option<Reset>,
    },
    /// Nothing is left to be spent.
    Billing,
    /// What we asked for is not understood: another try says the same.
    BadRequest,
    Network,
    Server,
    /// The model will not do it.
    Refused,
    /// A limit of ours was reached: time, turns, output, budget.
    LimitsReached,
    /// Somebody or something ended it.
    Killed,
    /// What it printed, or did not print, cannot be its last word.
    ProtocolError,
}

/// When a limit no longer holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reset {
    /// In seconds since 1970.
    At(i64),
    /// In milliseconds from when it was said.
    After(u64),
}

/// What is to be done about a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    RetryAfter(Duration),
    /// Nothing is tried before then; `None`: nobody said when, so a person looks.
    ParkUntil(Option<Reset>),
    /// A person has to put something right first.
    Ask,
    GiveUp,
}

/// A wait up to this is a retry; beyond it work is parked.
const PATIENCE: Duration = Duration::from_secs(10 * 60);

impl ErrorClass {
    /// A stable code, for the wire and for timelines.
    pub fn code(self) -> &'static str {
        match self {
            Self::Unavailable => "engine_unavailable",
            Self::NotLoggedIn => "engine_not_logged_in",
            Self::RateLimit { .. } => "engine_rate_limit",
            Self::UsageLimit { .. } => "engine_usage_limit",
            Self::Billing => "engine_billing",
            Self::BadRequest => "engine_bad_request",
            Self::Network => "engine_network",
            Self::Server => "engine_server",
            Self::Refused => "engine_refused",
            Self::LimitsReached => "engine_limits_reached",
            Self::Killed => "engine_killed",
            Self::ProtocolError => "engine_protocol_error",
        }
    }

    /// What is to be done now. `now_s`: seconds since 1970; `soon`: how long to wait where nobody said.
    pub fn next(self, now_s: i64, soon: Duration) -> Next {
        match self {
            Self::RateLimit { reset } => match reset.map(|reset| reset.wait(now_s)) {
                None => Next::RetryAfter(soon),
                Some(wait) if wait <= PATIENCE => Next::RetryAfter(wait),
                Some(_) => Next::ParkUntil(reset),
            },
            Self::UsageLimit { reset } => Next::ParkUntil(reset),
            Self::Network | Self::Server => Next::RetryAfter(soon),
            Self::Unavailable | Self::NotLoggedIn | Self::Billing => Next::Ask,
            Self::BadRequest | Self::Refused | Self::LimitsReached | Self::Killed | Self::ProtocolError => Next::GiveUp,
        }
    }

    /// Whether another engine may do what this one could not be had for. What the work itself brought about, or people,
    /// or a limit of ours, would only happen again or is not to be got around.
    pub fn falls_back(self) -> bool {
        match self {
            Self::Unavailable
            | Self::NotLoggedIn
            | Self::Billing
            | Self::UsageLimit { .. }
            | Self::RateLimit { .. }
            | Self::Network
            | Self::Server => true,
            Self::BadRequest | Self::Refused | Self::LimitsReached | Self::Killed | Self::ProtocolError => false,
        }
    }

    /// The class that an HTTP status of the model's host means.
    pub(crate) fn of_status(status: u64, message: &str) -> Self {
        match status {
            401 | 403 => Self::NotLoggedIn,
            402 => Self::Billing,
            429 if is_quota(message) => Self::UsageLimit { reset: None },
            429 => Self::RateLimit { reset: None },
            408 => Self::Network,
            400..=499 => Self::of_message(message).unwrap_or(Self::BadRequest),
            _ => Self::Server,
        }
    }

    /// The class that a message for people means, as far as its words are unmistakable.
    pub(crate) fn of_message(message: &str) -> Option<Self> {
        let text = message.to_ascii_lowercase();
        let has = |words: &[&str]| words.iter().any(|word| text.contains(word));
        if has(&["credit balance", "billing", "payment required", "insufficient_quota", "insufficient credit"]) {
            Some(Self::Billing)
        } else if has(&["usage limit", "usage_limit", "quota exceeded", "exceeded your current quota"]) {
            Some(Self::UsageLimit { reset: None })
        } else if has(&[
            "status: 429",
            "status 429",
            "error: 429",
            "(429)",
            "too many requests",
            "rate limit",
            "rate_limit",
        ]) {
            Some(Self::RateLimit { reset: None })
        } else if has(&[
            "status 401",
            "status: 401",
            "error: 401",
            "unauthorized",
            "authentication",
            "invalid api key",
            "not logged in",
            "please run /login",
            "missing environment variable",
        ]) {
            Some(Self::NotLoggedIn)
        } else if has(&[
            "invalid_request_error",
            "model metadata",
            "no such model",
            "400 bad request",
            "invalid_argument",
        ]) {
            Some(Self::BadRequest)
        } else if has(&[
            "econnrefused",
            "connection refused",
            "connection failed",
            "error sending request",
            "network error",
            "stream disconnected",
            "fetch failed",
            "enotfound",
            "etimedout",
            "econnreset",
            "socket hang up",
            "unable to connect",
            "cannot connect",
        ]) || is_cut(&text)
        {
            Some(Self::Network)
        } else if has(&[
            "high demand",
            "overloaded",
            "internal server error",
            "server_error",
            "status 5",
            "status: 5",
            "api error: 5",
            "bad gateway",
            "service unavailable",
        ]) {
            Some(Self::Server)
        } else {
            None
        }
    }

    /// The same class with the time that was learnt elsewhere.
    pub(crate) fn with_reset(self, known: Option<Reset>) -> Self {
        match self {
            Self::RateLimit { reset } => Self::RateLimit { reset: reset.or(known) },
            Self::UsageLimit { reset } => Self::UsageLimit { reset: reset.or(known) },
            other => other,
        }
    }
}

impl Reset {
    /// How long to wait from now on.
    pub fn wait(self, now_s: i64) -> Duration {
        match self {
            Self::At(at) => Duration::from_secs(u64::try_from(at.saturating_sub(now_s)).unwrap_or(0)),
            Self::After(ms) => Duration::from_millis(ms),
        }
    }
}

/// All that Node says of a stream that was cut is one word.
fn is_cut(text: &str) -> bool {
    text.rsplit(": ").next().is_some_and(|end| end.trim_matches([' ', '[', ']']) == "terminated")
}

fn is_quota(message: &str) -> bool {
    matches!(ErrorClass::of_message(message), Some(ErrorClass::UsageLimit { .. }))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_795_239_477;
    const SOON: Duration = Duration::from_secs(20);

    #[test]
    fn each_class_says_what_happens_next() {
        let next = |class: ErrorClass| class.next(NOW, SOON);
        let at = |seconds: i64| Some(Reset::At(NOW + seconds));
        assert_eq!(next(ErrorClass::Network), Next::RetryAfter(SOON));
        assert_eq!(next(ErrorClass::Server), Next::RetryAfter(SOON));
        assert_eq!(next(ErrorClass::RateLimit { reset: None }), Next::RetryAfter(SOON));
        assert_eq!(next(ErrorClass::RateLimit { reset: at(60) }), Next::RetryAfter(Duration::from_secs(60)));
        assert_eq!(next(ErrorClass::RateLimit { reset: at(-60) }), Next::RetryAfter(Duration::ZERO));
        assert_eq!(next(ErrorClass::RateLimit { reset: at(3600) }), Next::ParkUntil(at(3600)));
        assert_eq!(next(ErrorClass::UsageLimit { reset: at(60) }), Next::ParkUntil(at(60)));
        assert_eq!(next(ErrorClass::UsageLimit { reset: None }), Next::ParkUntil(None));
        for class in [ErrorClass::Unavailable, ErrorClass::NotLoggedIn, ErrorClass::Billing] {
            assert_eq!(next(class), Next::Ask);
            assert!(class.falls_back());
        }
        for class in [
            ErrorClass::BadRequest,
            ErrorClass::Refused,
            ErrorClass::LimitsReached,
            ErrorClass::Killed,
            ErrorClass::ProtocolError,
        ] {
            assert_eq!(next(class), Next::GiveUp);
            assert!(!class.falls_back());
        }
    }

    #[test]
    fn a_status_and_words_mean_a_class() {
        let status = |status, text| ErrorClass::of_status(status, text);
        assert_eq!(status(401, ""), ErrorClass::NotLoggedIn);
        assert_eq!(status(402, ""), ErrorClass::Billing);
        assert_eq!(status(400, "Credit balance is too low"), ErrorClass::Billing);
        assert_eq!(status(404, "no such thing"), ErrorClass::BadRequest);
        assert_eq!(status(429, "slow down"), ErrorClass::RateLimit { reset: None });
        assert_eq!(status(429, "You exceeded your current quota"), ErrorClass::UsageLimit { reset: None });
        assert_eq!(status(529, "overloaded"), ErrorClass::Server);
        for cut in ["terminated", "exception TypeError: terminated", "[API Error: terminated]"] {
            assert_eq!(ErrorClass::of_message(cut), Some(ErrorClass::Network), "{cut}");
        }
        // Numbers alone are not statuses: they stand in the work itself.
        for harmless in
            ["wrote 500 lines", "issue 401 is fixed", "line 429", "the lease was terminated early", "all good", ""]
        {
            assert_eq!(ErrorClass::of_message(harmless), None, "{harmless}");
        }
    }
}
