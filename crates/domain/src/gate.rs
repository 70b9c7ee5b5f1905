//! Gates: durable questions to people, bound to a digest of exactly what will happen.
//!
//! `open → approved | denied | expired | superseded | withdrawn`. A gate belongs to a run or a protocol and lives and
//! dies with it: these functions decide what an answer does to the gate; the owner decides what follows from that.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{
    catalog::Principal,
    commit::Subject,
    ids::{AttemptId, GateId, PersonId},
    person::Person,
    time::Timestamp,
};

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Gate {
    pub id: GateId,
    /// The run or protocol that waits.
    pub owner: Subject,
    /// The step that waits, when the owner is a protocol and one step is meant.
    pub step: Option<i64>,
    pub asks: Asks,
    /// The question of an engine that this gate puts to people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub question: Option<Question>,
    /// SHA-256 over exactly what will run, hex.
    pub digest: String,
    pub policy: GatePolicy,
    /// Who asked for it; excluded from deciding unless the policy says otherwise.
    pub requested_by: Option<PersonId>,
    /// How the requester is shown: an account or a name.
    pub requester: String,
    pub reason: Option<String>,
    pub opened_at: Timestamp,
    /// When the answer is no. `None` waits for ever.
    pub deadline: Option<Timestamp>,
    pub state: GateState,
}

/// What a yes makes happen, in words and lines fit for a small screen.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Asks {
    pub kind: GateKind,
    /// Verb, object, place.
    pub title: String,
    /// The command that will run, element by element; empty for a gate that starts no command.
    pub argv: Vec<String>,
    /// Further lines: a diff stat, what happened so far.
    pub lines: Vec<String>,
}

/// Which question of which attempt; the engine waits for its answer while it runs.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Question {
    pub attempt: AttemptId,
    /// The number that the engine's driver drew for it.
    pub id: String,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GateKind {
    /// May this job run?
    Job,
    /// An execution was cut off and may have had effects: run it again?
    RunAgain,
    /// May the protocol go on with this step?
    Step,
    /// May the engine that is at work use this tool?
    Permission,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GatePolicy {
    pub approvers: Approvers,
    /// How many different people must approve.
    pub quorum: u32,
    pub distinct_from_requester: bool,
    /// The configuration key a refusal names.
    pub key: String,
}

/// Who may decide.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Approvers {
    /// Whoever holds the right to decide gates.
    Anyone,
    /// Only these. An empty list is nobody.
    Listed(Vec<Principal>),
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "status", rename_all = "snake_case")]
pub enum GateState {
    Open {
        approvals: Vec<Approval>,
    },
    Approved {
        approvals: Vec<Approval>,
        at: Timestamp,
    },
    Denied {
        approvals: Vec<Approval>,
        by: PersonId,
        account: String,
        reason: Option<String>,
        at: Timestamp,
    },
    Expired {
        at: Timestamp,
    },
    /// What was asked changed; another gate asks for the new digest.
    Superseded {
        at: Timestamp,
    },
    /// The owner no longer needs an answer.
    Withdrawn {
        at: Timestamp,
    },
}

/// One person's yes.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Approval {
    pub by: PersonId,
    /// The account it came from.
    pub account: String,
    pub note: Option<String>,
    pub at: Timestamp,
}

/// What a person answers.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    Approve { note: Option<String> },
    Deny { reason: Option<String> },
}

/// An answer and who gave it, as known when it arrived.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Answer {
    pub by: Person,
    /// The account it came from.
    pub account: String,
    pub verdict: Verdict,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum GateEvent {
    Opened { gate: Box<Gate> },
    ApprovalGiven { gate: GateId, approval: Approval },
    Approved { gate: GateId, at: Timestamp },
    Denied { gate: GateId, by: PersonId, account: String, reason: Option<String>, at: Timestamp },
    Expired { gate: GateId, at: Timestamp },
    Superseded { gate: GateId, at: Timestamp },
    Withdrawn { gate: GateId, at: Timestamp },
}

/// What an answer comes to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Answered {
    /// Said before by the same person; nothing changes.
    Repeat,
    /// Counted, more people are needed.
    Counted(Vec<GateEvent>),
    Approved(Vec<GateEvent>),
    Denied(Vec<GateEvent>),
    /// Too late: the gate expired before the answer.
    Expired(Vec<GateEvent>),
}

/// Why an answer was refused. Every variant is the caller's to fix.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GateError {
    #[error("gate {gate} is already {state}{}", decided_by.as_ref().map(|by| format!(" by {by}")).unwrap_or_default())]
    Closed { gate: GateId, state: &'static str, decided_by: Option<String> },
    #[error("whoever asked for gate {gate} cannot decide it (policy {policy})")]
    SelfApproval { gate: GateId, policy: String },
    #[error("{person} is not among the approvers of gate {gate}")]
    NotApprover { gate: GateId, person: String },
    #[error("only people decide gates, and {person} is not an active person")]
    NotAPerson { gate: GateId, person: String },
}

/// `(from, event, to)` for every transition there is.
pub const TRANSITIONS: &[(&str, &str, &str)] = &[
    ("", "gate_opened", "open"),
    ("open", "approval_given", "open"),
    ("open", "gate_approved", "approved"),
    ("open", "gate_denied", "denied"),
    ("open", "gate_expired", "expired"),
    ("open", "gate_superseded", "superseded"),
    ("open", "gate_withdrawn", "withdrawn"),
];

impl Gate {
    pub fn is_open(&self) -> bool {
        matches!(self.state, GateState::Open { .. })
    }

    /// Whether it puts this question of an engine to people.
    pub fn is_about(&self, question: &str) -> bool {
        self.question.as_ref().is_some_and(|asked| asked.id == question)
    }

    pub fn is_overdue(&self, now: Timestamp) -> bool {
        self.is_open() && self.deadline.is_some_and(|deadline| deadline <= now)
    }

    /// Who approved so far.
    pub fn approvals(&self) -> &[Approval] {
        match &self.state {
            GateState::Open { approvals }
            | GateState::Approved { approvals, .. }
            | GateState::Denied { approvals, .. } => approvals,
            GateState::Expired { .. } | GateState::Superseded { .. } | GateState::Withdrawn { .. } => &[],
        }
    }

    /// Decides what an answer does to this gate, without doing it.
    pub fn decide(&self, answer: &Answer, now: Timestamp) -> Result<Answered, GateError> {
        let GateState::Open { approvals } = &self.state else {
            return Err(self.closed());
        };
        // A late answer expires the gate: nobody can approve what has already timed out.
        if self.is_overdue(now) {
            return Ok(Answered::Expired(vec![GateEvent::Expired { gate: self.id.clone(), at: now }]));
        }
        self.check_right(answer)?;
        let by = answer.by.id.clone();
        let account = answer.account.clone();
        match &answer.verdict {
            Verdict::Deny { reason } => Ok(Answered::Denied(vec![GateEvent::Denied {
                gate: self.id.clone(),
                by,
                account,
                reason: reason.clone(),
                at: now,
            }])),
            Verdict::Approve { .. } if approvals.iter().any(|approval| approval.by == by) => Ok(Answered::Repeat),
            Verdict::Approve { note } => {
                let approval = Approval { by, account, note: note.clone(), at: now };
                let given = GateEvent::ApprovalGiven { gate: self.id.clone(), approval };
                if approvals.len() + 1 < self.policy.quorum.max(1) as usize {
                    return Ok(Answered::Counted(vec![given]));
                }
                Ok(Answered::Approved(vec![given, GateEvent::Approved { gate: self.id.clone(), at: now }]))
            }
        }
    }

    fn check_right(&self, answer: &Answer) -> Result<(), GateError> {
        let person = &answer.by;
        if !person.may_decide() {
            return Err(GateError::NotAPerson { gate: self.id.clone(), person: person.name.clone() });
        }
        let listed = match &self.policy.approvers {
            Approvers::Anyone => true,
            Approvers::Listed(principals) => {
                principals.iter().any(|principal| principal.matches(&person.name, &person.accounts))
            }
        };
        if !listed {
            return Err(GateError::NotApprover { gate: self.id.clone(), person: person.name.clone() });
        }
        // Saying no to one's own request is always allowed.
        let approving = matches!(answer.verdict, Verdict::Approve { .. });
        if approving && self.policy.distinct_from_requester && self.requested_by.as_ref() == Some(&person.id) {
            return Err(GateError::SelfApproval { gate: self.id.clone(), policy: self.policy.key.clone() });
        }
        Ok(())
    }

    /// The refusal that names who decided.
    pub fn closed(&self) -> GateError {
        let decided_by = match &self.state {
            GateState::Approved { approvals, .. } => approvals.last().map(|approval| approval.account.clone()),
            GateState::Denied { account, .. } => Some(account.clone()),
            GateState::Open { .. }
            | GateState::Expired { .. }
            | GateState::Superseded { .. }
            | GateState::Withdrawn { .. } => None,
        };
        GateError::Closed { gate: self.id.clone(), state: self.state.name(), decided_by }
    }

    /// The only code that changes a gate. Events of other gates change nothing.
    pub fn apply(&mut self, event: &GateEvent) {
        if event.gate() != &self.id {
            return;
        }
        let approvals = self.approvals().to_vec();
        self.state = match event {
            GateEvent::Opened { gate } => return *self = (**gate).clone(),
            GateEvent::ApprovalGiven { approval, .. } => {
                let mut approvals = approvals;
                approvals.push(approval.clone());
                GateState::Open { approvals }
            }
            GateEvent::Approved { at, .. } => GateState::Approved { approvals, at: *at },
            GateEvent::Denied { by, account, reason, at, .. } => GateState::Denied {
                approvals,
                by: by.clone(),
                account: account.clone(),
                reason: reason.clone(),
                at: *at,
            },
            GateEvent::Expired { at, .. } => GateState::Expired { at: *at },
            GateEvent::Superseded { at, .. } => GateState::Superseded { at: *at },
            GateEvent::Withdrawn { at, .. } => GateState::Withdrawn { at: *at },
        };
    }
}

impl GateEvent {
    pub fn gate(&self) -> &GateId {
        match self {
            Self::Opened { gate } => &gate.id,
            Self::ApprovalGiven { gate, .. }
            | Self::Approved { gate, .. }
            | Self::Denied { gate, .. }
            | Self::Expired { gate, .. }
            | Self::Superseded { gate, .. }
            | Self::Withdrawn { gate, .. } => gate,
        }
    }

    /// The event's name on the timeline of a protocol.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Opened { .. } => "gate_opened",
            Self::ApprovalGiven { .. } => "approval_given",
            Self::Approved { .. } => "gate_approved",
            Self::Denied { .. } => "gate_denied",
            Self::Expired { .. } => "gate_expired",
            Self::Superseded { .. } => "gate_superseded",
            Self::Withdrawn { .. } => "gate_withdrawn",
        }
    }
}

impl GateState {
    pub const NAMES: [&str; 6] = ["open", "approved", "denied", "expired", "superseded", "withdrawn"];

    pub fn name(&self) -> &'static str {
        match self {
            Self::Open { .. } => "open",
            Self::Approved { .. } => "approved",
            Self::Denied { .. } => "denied",
            Self::Expired { .. } => "expired",
            Self::Superseded { .. } => "superseded",
            Self::Withdrawn { .. } => "withdrawn",
        }
    }
}

/// When a gate that follows `gates` is opened: now, and never before the last of them. They are stored and read in the
/// order of these instants, which a clock that was set back must not change.
pub fn opened_after(gates: &[Gate], now: Timestamp) -> Timestamp {
    match gates.iter().map(|gate| gate.opened_at).max() {
        Some(last) if last >= now => last.after(Duration::from_micros(1)),
        Some(_) | None => now,
    }
}

/// Applies a gate's event to the gates of its owner, adding the gate when it is opened.
pub fn apply_to(gates: &mut Vec<Gate>, event: &GateEvent) {
    match event {
        GateEvent::Opened { gate } => gates.push((**gate).clone()),
        _ => gates.iter_mut().for_each(|gate| gate.apply(event)),
    }
}
