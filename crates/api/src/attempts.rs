//! Attempts and what they wrote.

use domain::attempt::{Attempt, AttemptState, Containment, Metered, Usage};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// One numbered try at a run or a step.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct AttemptView {
    pub id: String,
    /// `run:7Q4K2MA` or `step:12`
    pub subject: String,
    /// From 1.
    pub number: u32,
    /// `run`, `plan`, `execute` or `qa`
    pub phase: String,
    pub engine: String,
    /// `running`, `succeeded`, `failed`, `timed_out`, `canceled` or `interrupted`
    pub status: String,
    /// The number of the claim that carries it.
    pub fence: i64,
    pub worker: String,
    pub started_at: String,
    pub ended_at: Option<String>,
    pub summary: Option<String>,
    pub exit_code: Option<i32>,
    pub usage: Option<UsageView>,
    /// How its processes are held; null until they run, and when none ever did.
    pub containment: Option<ContainmentView>,
    /// What passed between its engine and the model; null where no broker stood in between.
    pub metered: Option<MeteredView>,
}

/// What an attempt's engine used by the wire, and by its own word.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct MeteredView {
    pub wire: UsageView,
    /// What the engine said; null when it said nothing.
    pub told: Option<UsageView>,
    /// Calls that a model answered.
    pub calls: u32,
    /// Calls of which it is not known what they used.
    pub unmetered: u32,
    /// Calls that were not let out, because the budget was used up.
    pub refused: u32,
}

/// How surely an attempt's processes are ended, and how far they are kept from the machine.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct ContainmentView {
    /// `namespace`, `cgroup_v2`, `cgroup_v1`, `subreaper` or `process_group`
    pub level: String,
    /// `read-only`, `workspace`, `full` or `none`
    pub sandbox: String,
    /// `bubblewrap` or `landlock`; null without a sandbox
    pub means: Option<String>,
    /// `off`, `endpoints` or `open`
    pub network: String,
}

/// What an engine said it used; null is unknown, never zero.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct UsageView {
    /// All that was read, what came from a cache or went into one included.
    pub input_tokens: Option<u64>,
    pub cached_tokens: Option<u64>,
    pub cache_write_tokens: Option<u64>,
    /// All that was written, what was thought included.
    pub output_tokens: Option<u64>,
    pub reasoning_tokens: Option<u64>,
    /// Dollars, with six decimals.
    pub cost_usd: Option<String>,
}

/// A piece of an attempt's output.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct LogView {
    /// Without control sequences; what is not UTF-8 is replaced.
    pub text: String,
    pub offset: u64,
    /// Where the next piece begins.
    pub next_offset: u64,
    /// How long the output was at that moment.
    pub total: u64,
    /// The attempt is over and everything was read.
    pub ended: bool,
}

/// Something that happened in an attempt.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, ToSchema)]
pub struct AttemptEventView {
    /// Where it stands in what the attempt's engine printed, over all of its runs; for `Last-Event-ID`.
    pub id: String,
    /// `session`, `text`, `reasoning`, `tool_started`, `tool_finished`, `file_changed`, `usage`, `notice`, `question`,
    /// `finished` and what engines may add.
    pub kind: String,
    /// What the engine said of it, without control sequences and secrets.
    pub data: serde_json::Value,
}

/// What became of an attempt that somebody stopped.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct AttemptStopView {
    /// As it was when it was stopped.
    pub attempt: AttemptView,
    /// `canceled` or `killed`
    pub stop: String,
    /// Whether nothing of it was left when this was answered; else its worker sees to it.
    pub ended: bool,
    /// What became of what it worked in.
    pub worktree: String,
    /// Where that is kept on the machine it ran on; null where there is none.
    pub worktree_path: Option<String>,
}

impl From<&Attempt> for AttemptView {
    fn from(attempt: &Attempt) -> Self {
        let (ended_at, summary, exit_code, usage) = match &attempt.state {
            AttemptState::Running => (None, None, None, None),
            AttemptState::Ended { ending: _, at, summary, exit_code, usage } => {
                (Some(at.to_string()), Some(summary.clone()), *exit_code, usage.as_ref().map(UsageView::from))
            }
        };
        Self {
            id: attempt.id.to_string(),
            subject: attempt.subject.clone(),
            number: attempt.number,
            phase: attempt.phase.clone(),
            engine: attempt.engine.clone(),
            status: attempt.status().to_owned(),
            fence: attempt.fence.0,
            worker: attempt.worker.clone(),
            started_at: attempt.started_at.to_string(),
            ended_at,
            summary,
            exit_code,
            usage,
            containment: attempt.containment.as_ref().map(ContainmentView::from),
            metered: attempt.metered.as_ref().map(MeteredView::from),
        }
    }
}

impl From<&Containment> for ContainmentView {
    fn from(containment: &Containment) -> Self {
        let level = containment.level.clone();
        match &containment.sandbox {
            Some(used) => Self {
                level,
                sandbox: used.profile.clone(),
                means: Some(used.means.clone()),
                network: used.network.clone(),
            },
            None => Self { level, sandbox: "none".to_owned(), means: None, network: "open".to_owned() },
        }
    }
}

impl From<&Metered> for MeteredView {
    fn from(metered: &Metered) -> Self {
        Self {
            wire: UsageView::from(&metered.wire),
            told: metered.told.as_ref().map(UsageView::from),
            calls: metered.calls,
            unmetered: metered.unmetered,
            refused: metered.refused,
        }
    }
}

impl From<&Usage> for UsageView {
    fn from(usage: &Usage) -> Self {
        Self {
            input_tokens: usage.input_tokens,
            cached_tokens: usage.cached_tokens,
            cache_write_tokens: usage.cache_write_tokens,
            output_tokens: usage.output_tokens,
            reasoning_tokens: usage.reasoning_tokens,
            cost_usd: usage.cost_micro_usd.map(dollars),
        }
    }
}

/// Micro-USD as a decimal string.
pub fn dollars(micros: i64) -> String {
    let sign = if micros < 0 { "-" } else { "" };
    let micros = micros.unsigned_abs();
    format!("{sign}{}.{:06}", micros / 1_000_000, micros % 1_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn money_is_a_decimal_string() {
        assert_eq!(dollars(0), "0.000000");
        assert_eq!(dollars(1_500_001), "1.500001");
        assert_eq!(dollars(-7), "-0.000007");
        assert_eq!(dollars(i64::MIN), "-9223372036854.775808");
    }
}
