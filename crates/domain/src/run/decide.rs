//! What a command does to a run, without doing it.

use std::time::Duration;

use super::{Begin, BlockedOn, Finished, Run, RunCommand, RunError, RunEvent, RunState};
use crate::{
    aggregate::Aggregate,
    attempt::{Attempt, AttemptState, Ending},
    catalog::{Approval, BoundJob},
    commit::Withdraw,
    decision::{Context, Decision},
    digest::Digest,
    gate::{self, Answer, Answered, Approvers, Asks, Gate, GateEvent, GateKind, GatePolicy, GateState},
    ids::{AttemptId, Fence, GateId, PersonId, RunId},
    message::NewMessage,
    task::{Effect, TaskKind},
    text,
};

/// The channel of runs that were asked for through the API: whoever asked follows them there, and no message is sent.
pub const API_CHANNEL: &str = "api";

/// The command to make a run, as it is kept with the run's first event: what `RunCreated` beside it does not say.
#[derive(Clone, PartialEq, Eq, Debug, serde::Serialize)]
#[serde(tag = "type", rename = "request")]
pub struct Requested {
    pub gate: GateId,
}

/// Everything a new run is made of.
#[derive(Clone, PartialEq, Debug)]
pub struct RunRequest {
    pub id: RunId,
    /// The id for the gate, when the policy wants one.
    pub gate: GateId,
    pub job: BoundJob,
    pub requested_by: PersonId,
    pub requester: String,
    pub reason: Option<String>,
    pub channel: String,
    pub conversation: String,
}

impl RunRequest {
    pub fn requested(&self) -> Requested {
        Requested { gate: self.gate.clone() }
    }

    /// Decides how the run begins: at a gate, or at once when its policy wants no approval.
    pub fn decide(self, context: &Context) -> Decision<RunEvent> {
        let digest = self.job.digest();
        let created = RunEvent::RunCreated {
            id: self.id,
            digest: digest.to_string(),
            job: Box::new(self.job),
            requested_by: self.requested_by,
            requester: self.requester,
            reason: self.reason,
            channel: self.channel,
            conversation: self.conversation,
            at: context.now,
        };
        let Some(run) = Run::created(&created) else { return Decision::nothing() };
        let mut decision = match run.job.policy.approve {
            Approval::None => run.dispatch(Vec::new(), None, Some(text::starting(&run.job.job, run.id.as_str()))),
            Approval::Approvers { .. } => run.ask(self.gate, digest, None, context),
        };
        decision.events.insert(0, created);
        decision
    }
}

impl Run {
    /// Decides what a command does to this run, without doing it. Time and ids come from outside.
    pub fn decide(&self, command: &RunCommand, context: &Context) -> Result<Decision<RunEvent>, RunError> {
        match command {
            RunCommand::Answer { gate, answer } => self.decide_answer(gate.as_ref(), answer, context),
            RunCommand::ExpireGate { gate } => Ok(self.decide_expiry(gate, context)),
            RunCommand::Rebind { job, gate } => Ok(self.decide_rebind(job.as_deref(), gate, context)),
            RunCommand::Start { begin, now_digest } => self.decide_start(begin, now_digest.as_deref(), context),
            RunCommand::Adopt { old, fence, worker } => self.decide_adoption(*old, *fence, worker),
            RunCommand::Tell { fence, fact } => {
                let known = self.check_fence(*fence)?.knows(fact);
                Ok(Decision::of((!known).then(|| RunEvent::ExecutionTold { fact: fact.clone() })))
            }
            RunCommand::Finish { fence, worker, result, gate } => {
                self.decide_finish(*fence, worker, result, gate, context)
            }
            RunCommand::Interrupt { worker, began, gate } => self.decide_interruption(worker, *began, gate, context),
            RunCommand::GiveUp { worker, why } => Ok(self.decide_giving_up(worker, why, context)),
            RunCommand::Cancel { account } => self.decide_cancel(account, context),
            RunCommand::Retry { account: _, gate } => self.decide_retry(gate, context),
        }
    }

    fn decide_answer(
        &self,
        gate: Option<&GateId>,
        answer: &Answer,
        context: &Context,
    ) -> Result<Decision<RunEvent>, RunError> {
        let gate = match gate {
            Some(id) => self.gate(id).ok_or_else(|| RunError::NoSuchGate { run: self.id.clone(), gate: id.clone() })?,
            None => match self.open_gate() {
                Some(open) => open,
                // Whoever comes second is told who decided.
                None => match self.gates.last() {
                    Some(last) => return Err(last.closed().into()),
                    None => return Err(self.wrong_state("decided")),
                },
            },
        };
        let changes = |events: Vec<GateEvent>| events.into_iter().map(|change| RunEvent::GateChanged { change });
        Ok(match gate.decide(answer, context.now)? {
            Answered::Repeat => Decision::nothing(),
            Answered::Counted(events) => Decision::of(changes(events)),
            Answered::Approved(events) => {
                let mut events: Vec<_> = changes(events).collect();
                // The first approval of the run itself has an inherited name; a yes to "run it again" has not.
                if gate.asks.kind == GateKind::Job
                    && let Some(RunEvent::GateChanged { change }) = events.pop()
                {
                    events.push(RunEvent::RunApproved { change });
                }
                self.dispatch(
                    events,
                    Some(text::approved_starting_key(self.id.as_str())),
                    Some(text::approved_starting(&self.job.job, self.id.as_str())),
                )
                .withdrawing(self.withdraw([TaskKind::ExpireGate]))
            }
            Answered::Denied(events) => Decision::of(events.into_iter().map(|change| RunEvent::RunDenied { change }))
                .withdrawing(self.withdraw([TaskKind::ExpireGate])),
            Answered::Expired(events) => self.expire(events),
        })
    }

    fn decide_expiry(&self, gate: &GateId, context: &Context) -> Decision<RunEvent> {
        match self.gate(gate) {
            Some(gate) if gate.is_overdue(context.now) => {
                self.expire(vec![GateEvent::Expired { gate: gate.id.clone(), at: context.now }])
            }
            _ => Decision::nothing(),
        }
    }

    /// A gate that expired counts as denied.
    fn expire(&self, events: Vec<GateEvent>) -> Decision<RunEvent> {
        let body = text::run_expired(&self.job.job, self.id.as_str());
        self.told(
            Decision::of(events.into_iter().map(|change| RunEvent::RunExpired { change }))
                .withdrawing(self.withdraw([TaskKind::ExpireGate])),
            format!("run-expired:{}", self.id),
            body,
        )
    }

    /// A job that changed under review voids its pending gate: people are asked again, for the new digest.
    fn decide_rebind(&self, job: Option<&BoundJob>, gate: &GateId, context: &Context) -> Decision<RunEvent> {
        let RunState::AwaitingApproval { gate: open } = &self.state else { return Decision::nothing() };
        let superseded =
            RunEvent::GateChanged { change: GateEvent::Superseded { gate: open.clone(), at: context.now } };
        let withdraw = self.withdraw([TaskKind::ExpireGate]);
        match job.map(|job| (job, job.digest())) {
            Some((_, digest)) if digest.to_string() == self.digest => Decision::nothing(),
            Some((job, digest)) => {
                let mut rebound = self.clone();
                rebound.job = job.clone();
                let mut decision = match job.policy.approve {
                    // Nobody may shorten the way of a run that is already waiting for people.
                    Approval::None => self.block("the job no longer asks for approval; ask for it again"),
                    Approval::Approvers { .. } => rebound.ask(gate.clone(), digest, Some(job), context),
                };
                decision.events.insert(0, superseded);
                decision.withdrawing(withdraw)
            }
            None => {
                let mut decision = self.block("the job is no longer in the catalog, or its parameters no longer fit");
                decision.events.insert(0, superseded);
                decision.withdrawing(withdraw)
            }
        }
    }

    fn decide_start(
        &self,
        begin: &Begin,
        now_digest: Option<&str>,
        context: &Context,
    ) -> Result<Decision<RunEvent>, RunError> {
        let RunState::Dispatching { attempt: number } = self.state else {
            return Err(self.wrong_state("started"));
        };
        // What was approved is what runs: the digest over what is stored, and over what the catalog says now.
        let stored = self.job.digest().to_string();
        if stored != self.digest {
            return Ok(self.block("what is stored is not what was approved"));
        }
        if now_digest != Some(stored.as_str()) {
            return Ok(self.block("the catalog changed after the approval; ask for the job again"));
        }
        let attempt = Attempt {
            id: AttemptId::of_run(&self.id, number),
            subject: self.subject().to_string(),
            number,
            phase: "run".to_owned(),
            engine: "shell".to_owned(),
            task: begin.task.clone(),
            fence: begin.fence,
            worker: begin.worker.clone(),
            nonce: begin.nonce.clone(),
            started_at: context.now,
            containment: None,
            metered: None,
            state: AttemptState::Running,
        };
        Ok(Decision::of([RunEvent::ExecutionStarted { attempt: Box::new(attempt) }]))
    }

    fn decide_adoption(&self, old: Fence, fence: Fence, worker: &str) -> Result<Decision<RunEvent>, RunError> {
        self.check_fence(old)?;
        Ok(Decision::of([RunEvent::ExecutionAdopted { fence, worker: worker.to_owned() }]))
    }

    fn decide_finish(
        &self,
        fence: Fence,
        worker: &str,
        result: &Finished,
        gate: &GateId,
        context: &Context,
    ) -> Result<Decision<RunEvent>, RunError> {
        let attempt = self.check_fence(fence)?;
        let Finished { ending, summary, exit_code, usage } = result.clone();
        let (at, worker) = (context.now, worker.to_owned());
        let run = self.id.as_str();
        let (event, body) = match ending {
            Ending::Succeeded => {
                let body = text::run_succeeded(run, &summary);
                (RunEvent::ExecutionSucceeded { worker, summary, exit_code, usage, at }, body)
            }
            Ending::Failed => {
                let body = text::run_failed(run, &summary);
                (RunEvent::ExecutionFailed { worker, summary, exit_code, usage, at }, body)
            }
            Ending::TimedOut => {
                let body = text::run_timed_out(run, &summary);
                (RunEvent::ExecutionTimedOut { worker, summary, at }, body)
            }
            Ending::Canceled => (self.canceled(worker, context), text::run_canceled(run)),
            Ending::Interrupted => {
                return self.decide_interruption(&worker, true, gate, context);
            }
        };
        // Whoever asked to cancel it did not ask for another try.
        if matches!(event, RunEvent::ExecutionFailed { .. })
            && self.cancel_requested_by.is_none()
            && let Some(delay) = retry_delay(&self.job, attempt.number, exit_code)
        {
            return Ok(self.dispatch_after(vec![event], context, delay));
        }
        let decision = Decision::of([event]);
        Ok(self.told(decision, self.numbered(text::execution_completed_key(run), attempt.number), body))
    }

    fn decide_interruption(
        &self,
        worker: &str,
        began: bool,
        gate: &GateId,
        context: &Context,
    ) -> Result<Decision<RunEvent>, RunError> {
        if self.running().is_none() {
            return Err(self.wrong_state("interrupted"));
        }
        if self.cancel_requested_by.is_some() {
            return Ok(Decision::of([self.canceled(worker.to_owned(), context)]));
        }
        let summary = "the execution was cut off before its result was known".to_owned();
        let interrupted = RunEvent::ExecutionInterrupted { worker: worker.to_owned(), summary, at: context.now };
        if self.job.idempotent || !began {
            return Ok(self.dispatch(vec![interrupted], None, None));
        }
        // What is not declared safe to repeat is never repeated without a person saying so.
        let mut gate = self.new_gate(gate.clone(), &self.job, self.job.digest(), GateKind::RunAgain, context);
        gate.asks.lines.push("An earlier execution was cut off; what it did is not known.".to_owned());
        let blocked = RunEvent::ExecutionBlocked {
            on: BlockedOn::Gate { gate: gate.id.clone() },
            why: "the execution was cut off, and the job is not declared safe to repeat".to_owned(),
            gate: Some(Box::new(gate.clone())),
        };
        let body = format!(
            "Run {run} was cut off and may have had effects. Reply YES {run} to run it again or NO {run} to leave it.",
            run = self.id
        );
        let decision = Decision::of([interrupted, blocked]).then(self.expiry_of(&gate));
        Ok(self.told(decision, format!("run-again:{}:{}", self.id, gate.id), body))
    }

    fn decide_giving_up(&self, worker: &str, why: &str, context: &Context) -> Decision<RunEvent> {
        match &self.state {
            RunState::Dispatching { .. } => self.block(why),
            RunState::Running if self.cancel_requested_by.is_some() => {
                Decision::of([self.canceled(worker.to_owned(), context)])
            }
            RunState::Running => {
                let mut decision = self.block(why);
                decision.events.insert(
                    0,
                    RunEvent::ExecutionInterrupted {
                        worker: worker.to_owned(),
                        summary: why.to_owned(),
                        at: context.now,
                    },
                );
                decision
            }
            RunState::Requested
            | RunState::AwaitingApproval { .. }
            | RunState::Succeeded { .. }
            | RunState::Failed { .. }
            | RunState::TimedOut { .. }
            | RunState::Denied { .. }
            | RunState::Expired { .. }
            | RunState::Blocked { .. }
            | RunState::Canceled { .. } => Decision::nothing(),
        }
    }

    fn decide_cancel(&self, account: &str, context: &Context) -> Result<Decision<RunEvent>, RunError> {
        let canceled = RunEvent::RunCanceled { by: account.to_owned(), at: context.now };
        match &self.state {
            RunState::AwaitingApproval { .. } | RunState::Dispatching { .. } | RunState::Blocked { .. } => {
                let withdrawn = self.open_gate().map(|gate| RunEvent::GateChanged {
                    change: GateEvent::Withdrawn { gate: gate.id.clone(), at: context.now },
                });
                Ok(Decision::of(withdrawn.into_iter().chain([canceled])).withdrawing(self.withdraw([])))
            }
            RunState::Running if self.cancel_requested_by.is_some() => Ok(Decision::nothing()),
            // Whoever holds the task, or leases it next, ends the run once its processes are gone.
            RunState::Running => Ok(Decision::of([RunEvent::CancelRequested { by: account.to_owned() }])
                .withdrawing(self.withdraw([TaskKind::RunJob]))),
            RunState::Canceled { .. } => Ok(Decision::nothing()),
            RunState::Requested
            | RunState::Succeeded { .. }
            | RunState::Failed { .. }
            | RunState::TimedOut { .. }
            | RunState::Denied { .. }
            | RunState::Expired { .. } => Err(self.wrong_state("canceled")),
        }
    }

    fn decide_retry(&self, gate: &GateId, context: &Context) -> Result<Decision<RunEvent>, RunError> {
        match &self.state {
            RunState::Failed { .. } | RunState::TimedOut { .. } | RunState::Blocked { on: BlockedOn::Operator, .. } => {
                Ok(match self.job.policy.approve {
                    Approval::None => self.dispatch(Vec::new(), None, None),
                    // An approval is for one execution.
                    Approval::Approvers { .. } => self.ask(gate.clone(), self.job.digest(), None, context),
                })
            }
            RunState::Requested
            | RunState::AwaitingApproval { .. }
            | RunState::Dispatching { .. }
            | RunState::Running
            | RunState::Succeeded { .. }
            | RunState::Denied { .. }
            | RunState::Expired { .. }
            | RunState::Blocked { on: BlockedOn::Gate { .. }, .. }
            | RunState::Canceled { .. } => Err(self.wrong_state("retried")),
        }
    }

    /// Opens a gate for the run's job, of which it is given the digest, and asks the conversation.
    fn ask(&self, id: GateId, digest: Digest, rebound: Option<&BoundJob>, context: &Context) -> Decision<RunEvent> {
        let gate = self.new_gate(id, &self.job, digest, GateKind::Job, context);
        let deadline = gate.deadline.unwrap_or(context.now);
        let body = text::approval_request(&text::ApprovalRequest {
            run: self.id.as_str(),
            work: &self.job,
            digest,
            requested_by: &self.requester,
            reason: self.reason.as_deref(),
            approved_by: &[],
            deadline,
        });
        let key = match self.gates.len() {
            0 => text::approval_request_key(self.id.as_str()),
            _ => format!("{}:{}", text::approval_request_key(self.id.as_str()), gate.id),
        };
        let expiry = self.expiry_of(&gate);
        let event = RunEvent::ApprovalRequested { gate: Box::new(gate), job: rebound.map(|job| Box::new(job.clone())) };
        self.told(Decision::of([event]).then(expiry), key, body)
    }

    fn new_gate(&self, id: GateId, job: &BoundJob, digest: Digest, kind: GateKind, context: &Context) -> Gate {
        let key = "policy.approve.distinct_from_requester".to_owned();
        let policy = match &job.policy.approve {
            Approval::Approvers { of, quorum, distinct_from_requester } => GatePolicy {
                approvers: Approvers::Listed(of.clone()),
                quorum: *quorum,
                distinct_from_requester: *distinct_from_requester,
                key,
            },
            // Only the question whether to run again can come up for a job that needs no approval.
            Approval::None => {
                GatePolicy { approvers: Approvers::Anyone, quorum: 1, distinct_from_requester: false, key }
            }
        };
        Gate {
            id,
            owner: self.subject(),
            step: None,
            asks: Asks { kind, title: job.title.clone(), argv: job.argv.clone(), lines: Vec::new() },
            question: None,
            digest: digest.to_string(),
            policy,
            requested_by: Some(self.requested_by.clone()),
            requester: self.requester.clone(),
            reason: self.reason.clone(),
            opened_at: gate::opened_after(&self.gates, context.now),
            deadline: Some(context.now.after(Duration::from_millis(job.policy.timeout_ms))),
            state: GateState::Open { approvals: Vec::new() },
        }
    }

    fn expiry_of(&self, gate: &Gate) -> Effect {
        let effect = Effect::new(TaskKind::ExpireGate, self.subject()).with(serde_json::json!({ "gate": gate.id }));
        match gate.deadline {
            Some(deadline) => effect.due(deadline),
            None => effect,
        }
    }

    /// Appends the dispatch of the next attempt to `events`.
    fn dispatch(&self, mut events: Vec<RunEvent>, key: Option<String>, body: Option<String>) -> Decision<RunEvent> {
        let attempt = self.next_attempt();
        events.push(RunEvent::ExecutionDispatched { attempt });
        let decision = Decision::of(events).then(self.run_job(attempt));
        let key = key.unwrap_or_else(|| format!("starting:{}", self.id));
        match body {
            Some(body) => self.told(decision, self.numbered(key, attempt), body),
            None => decision,
        }
    }

    fn dispatch_after(&self, mut events: Vec<RunEvent>, context: &Context, delay: Duration) -> Decision<RunEvent> {
        let attempt = self.next_attempt();
        events.push(RunEvent::ExecutionDispatched { attempt });
        Decision::of(events).then(self.run_job(attempt).due(context.now.after(delay)))
    }

    fn run_job(&self, attempt: u32) -> Effect {
        let mut effect = Effect::new(TaskKind::RunJob, self.subject()).with(serde_json::json!({ "attempt": attempt }));
        effect.engine = Some("shell".to_owned());
        effect
    }

    fn block(&self, why: &str) -> Decision<RunEvent> {
        let event = RunEvent::ExecutionBlocked { on: BlockedOn::Operator, why: why.to_owned(), gate: None };
        let key = format!("run-blocked:{}:{}", self.id, self.next_attempt());
        self.told(Decision::of([event]), key, text::run_blocked(self.id.as_str(), why))
    }

    fn canceled(&self, worker: String, context: &Context) -> RunEvent {
        let by = self.cancel_requested_by.clone().unwrap_or(worker);
        RunEvent::RunCanceled { by, at: context.now }
    }

    fn told(&self, decision: Decision<RunEvent>, key: String, body: String) -> Decision<RunEvent> {
        if self.channel == API_CHANNEL {
            return decision;
        }
        decision.say(NewMessage {
            channel: self.channel.clone(),
            conversation: self.conversation.clone(),
            body,
            correlation_id: self.id.to_string(),
            idempotency_key: key,
        })
    }

    /// The first attempt has the inherited key; later ones need one of their own.
    fn numbered(&self, key: String, attempt: u32) -> String {
        if attempt <= 1 { key } else { format!("{key}:{attempt}") }
    }

    fn withdraw(&self, kinds: impl IntoIterator<Item = TaskKind>) -> Withdraw {
        Withdraw {
            subject: self.subject(),
            kinds: kinds.into_iter().collect(),
            begun: self.running().map(|attempt| attempt.task.clone()).into_iter().collect(),
        }
    }

    /// The attempt under way, if this fence carries it.
    fn check_fence(&self, fence: Fence) -> Result<&Attempt, RunError> {
        match self.running() {
            Some(attempt) if attempt.fence == fence => Ok(attempt),
            Some(_) => Err(RunError::Fenced { run: self.id.clone() }),
            None => Err(self.wrong_state("finished")),
        }
    }

    fn wrong_state(&self, wanted: &'static str) -> RunError {
        RunError::WrongState { run: self.id.clone(), state: self.state.name(), wanted }
    }
}

/// How long to wait before the next attempt of a job that ran and failed; `None` when its catalog entry wants no other.
fn retry_delay(job: &BoundJob, attempt: u32, exit_code: Option<i32>) -> Option<Duration> {
    let retry = &job.retry;
    let worth = retry.on_exit.is_empty() || retry.on_exit.iter().any(|code| exit_code == Some(i32::from(*code)));
    if attempt > retry.max || !worth {
        return None;
    }
    let doubled = retry.backoff_min_ms.saturating_mul(1 << attempt.saturating_sub(1).min(20));
    Some(Duration::from_millis(doubled.min(retry.backoff_max_ms)))
}
