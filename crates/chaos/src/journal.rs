//! What the clients know: which commands were acknowledged, and as what.

use serde_json::Value;

/// One command that was answered with success.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Acknowledged {
    /// The provider's message id, or the Idempotency-Key.
    pub key: String,
    pub cycle: u64,
    pub channel: Channel,
    pub claim: Claim,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Channel {
    /// `POST /dev/inbound`
    Dev,
    /// `POST /runs`
    Api,
}

/// What the answer promised.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Claim {
    /// A run exists for this key; a repeat does not say which.
    Run {
        run: Option<String>,
        gated: bool,
    },
    Dispatched {
        run: String,
    },
    Denied {
        run: String,
    },
    Canceled {
        run: String,
    },
    Stopping {
        run: String,
    },
    /// It was seen; it changed nothing, or a repeat does not say what it changed.
    Seen,
}

impl Claim {
    /// Reads what the answer to a text message promises. `gated` is set when the message asked for a run.
    pub fn of_message(asked_for_run: Option<bool>, answer: &Value) -> Self {
        let run = answer["runId"].as_str().map(str::to_owned);
        if let Some(gated) = asked_for_run {
            return Self::Run { run, gated };
        }
        let Some(run) = run else { return Self::Seen };
        if answer["dispatchedExecution"] == true {
            return Self::Dispatched { run };
        }
        let told = answer["outbound"][0]["body"].as_str().unwrap_or_default();
        if told.starts_with("Denied run ") {
            Self::Denied { run }
        } else if told == domain::text::run_canceled(&run) {
            Self::Canceled { run }
        } else if told.starts_with("Stopping run ") {
            Self::Stopping { run }
        } else {
            Self::Seen
        }
    }
}

/// Everything that was acknowledged in a campaign, and what was answered that never should be.
#[derive(Debug, Default)]
pub struct Journal {
    pub acknowledged: Vec<Acknowledged>,
    /// Answers that no node may give, whatever happens to it.
    pub wrong: Vec<String>,
    /// Requests that were sent again because their answer did not come.
    pub repeated: u64,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_answer_is_held_to_its_words() {
        let answer = |body: &str| json!({"runId": "R", "dispatchedExecution": false, "outbound": [{"body": body}]});
        let run = || "R".to_owned();

        for (answer, claim) in [
            (json!({"runId": "R", "dispatchedExecution": true, "outbound": []}), Claim::Dispatched { run: run() }),
            (answer(&domain::text::denied("quick", "R")), Claim::Denied { run: run() }),
            (answer(&domain::text::run_canceled("R")), Claim::Canceled { run: run() }),
            (answer("Stopping run R."), Claim::Stopping { run: run() }),
            (answer("Cannot approve run R in state Denied."), Claim::Seen),
            (json!({"dispatchedExecution": false, "outbound": []}), Claim::Seen),
        ] {
            assert_eq!(Claim::of_message(None, &answer), claim);
        }
    }
}
