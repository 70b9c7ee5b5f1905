//! Messages from people: read by the grammar, carried out as commands, answered in words.
//!
//! Each message is carried out once, by its provider's id: what it changes, what it answers and the mark that it was
//! seen are one commit. Nothing here decides anything; a refusal of the rules becomes a sentence.

mod answers;
mod replies;

use domain::{
    actor::Actor,
    gate::{Answer, Verdict},
    grammar::{self, Intent, IntentKind, TypedRef},
    ids::RunId,
    message::NewMessage,
    person::Person,
    run::{Run, RunCommand, RunEvent},
    text,
};

use self::replies::Replies;
use crate::{
    Cause, Changed, Control, DedupKey,
    error::CommandError,
    ledger::{Complete, Rendered},
    runs::RequestRun,
};

/// A message as a channel received it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inbound {
    pub channel: String,
    /// The sender's account, `dev:alice`.
    pub from: String,
    pub conversation: String,
    pub body: String,
    /// The vendor's id of the message; without one the message cannot be recognised as a repeat.
    pub provider_message_id: Option<String>,
}

/// What a message came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InboundReply {
    pub intent: IntentKind,
    pub job_key: Option<String>,
    /// Only when the run exists.
    pub run_id: Option<RunId>,
    /// This very message was the approval that dispatched the run.
    pub dispatched_execution: bool,
    pub outbound: Vec<NewMessage>,
}

/// A message on its way through: who sent it, what it means, and how it is answered.
struct Letter {
    person: Person,
    inbound: Inbound,
    cause: Cause,
    replies: Replies,
}

/// A message as the grammar and the catalog understand it.
#[derive(Clone, Debug)]
struct Read {
    intent: Intent,
}

impl Read {
    fn kind(&self) -> IntentKind {
        self.intent.kind()
    }

    fn job_key(&self) -> Option<String> {
        self.intent.job().map(str::to_owned)
    }

    /// What a repeat is answered with.
    fn repeated(&self) -> InboundReply {
        InboundReply {
            intent: self.kind(),
            job_key: self.job_key(),
            run_id: None,
            dispatched_execution: false,
            outbound: Vec::new(),
        }
    }
}

impl Control {
    /// Carries out one message. A repeat of the same message id changes nothing and is answered with nothing.
    pub async fn inbound(&self, inbound: Inbound) -> Result<InboundReply, CommandError> {
        let read = Read { intent: self.read_intent(&inbound.body).await? };
        let is_known = inbound.provider_message_id.is_some();
        let message_id = inbound.provider_message_id.clone().unwrap_or_else(new_message_id);
        let dedup = DedupKey {
            scope: format!("inbox:{}", inbound.channel),
            key: message_id.clone(),
            request_hash: host::hash::sha256_hex(inbound.body.as_bytes()),
        };
        // Asking for a run ends in a commit whatever comes of it, and that tells a repeat by itself.
        let is_to_look = is_known && !matches!(read.intent, Intent::RunJob { .. });
        if is_to_look && self.store().find_answer(&dedup.scope, &dedup.key).await?.is_some() {
            return Ok(read.repeated());
        }
        match self.receive(inbound, &read, &message_id, dedup, None).await {
            Err(CommandError::Repeated(_)) => Ok(read.repeated()),
            outcome => outcome,
        }
    }

    /// Carries out one message for a caller with a key of its own, which stands for the id of the message. A repeat of
    /// the key changes nothing and fails with the answer of the first time, as `render` wrote it.
    pub async fn inbound_once(
        &self,
        inbound: Inbound,
        key: DedupKey,
        render: fn(&InboundReply) -> String,
    ) -> Result<InboundReply, CommandError> {
        let read = Read { intent: self.read_intent(&inbound.body).await? };
        self.receive(inbound, &read, &new_message_id(), key, Some(render)).await
    }

    async fn receive(
        &self,
        inbound: Inbound,
        read: &Read,
        message_id: &str,
        dedup: DedupKey,
        render: Option<fn(&InboundReply) -> String>,
    ) -> Result<InboundReply, CommandError> {
        let person = self.ensure_account(&inbound.from).await?;
        let actor = Actor::Person { id: person.id.clone(), account: inbound.from.clone() };
        let replies = Replies::to(&inbound, message_id);
        let mut cause = Cause::of(actor).once(Some(dedup));
        cause.complete = render.map(|render| {
            let (replies, read) = (replies.clone(), read.clone());
            Complete::new(move |draft| render(&replies.of_draft(draft, &read)))
        });
        let letter = Letter { person, inbound, cause, replies };
        let reply = self.carry_out(&letter, read.intent.clone()).await?;
        Ok(InboundReply { intent: read.kind(), job_key: read.job_key(), ..reply })
    }

    /// Reads the grammar first, then the catalog's aliases.
    async fn read_intent(&self, body: &str) -> Result<Intent, CommandError> {
        let intent = grammar::parse(body);
        if intent != Intent::Unknown {
            return Ok(intent);
        }
        Ok(match self.catalog().await?.match_alias(body) {
            Some(alias) => Intent::RunJob { job: alias.job.key.clone(), args: alias.args, reason: alias.reason },
            None => Intent::Unknown,
        })
    }

    async fn carry_out(&self, letter: &Letter, intent: Intent) -> Result<InboundReply, CommandError> {
        match intent {
            Intent::RunJob { job, args, reason } => self.ask_for_run(letter, job, args, reason).await,
            Intent::ApproveRun { run, note } => self.decide(letter, &run, "approve", Verdict::Approve { note }).await,
            Intent::DenyRun { run, reason } => self.decide(letter, &run, "deny", Verdict::Deny { reason }).await,
            Intent::Status { run: Some(run) } => self.tell_status(letter, &run).await,
            Intent::Status { run: None } => self.tell_overview(letter).await,
            Intent::Log { run, lines } => self.tell_log(letter, &run, lines).await,
            Intent::Cancel { run } => self.cancel_by_text(letter, &run).await,
            Intent::Retry { run } => self.retry_by_text(letter, &run).await,
            Intent::Jobs { filter } => self.tell_jobs(letter, filter.as_deref()).await,
            Intent::Help => self.say(letter, None, text::help()).await,
            Intent::NotAvailable { verb } => self.say(letter, None, text::not_available(verb)).await,
            Intent::Incomplete(flaw) => self.say(letter, None, flaw.text()).await,
            Intent::Unknown => self.say(letter, None, text::unknown_command()).await,
        }
    }

    async fn ask_for_run(
        &self,
        letter: &Letter,
        job: String,
        args: std::collections::BTreeMap<String, String>,
        reason: Option<String>,
    ) -> Result<InboundReply, CommandError> {
        let request = RequestRun {
            job: job.clone(),
            args,
            reason: reason.as_deref().map(text::note),
            by: letter.person.clone(),
            account: letter.inbound.from.clone(),
            channel: letter.inbound.channel.clone(),
            conversation: letter.inbound.conversation.clone(),
        };
        match self.request_run(request, &letter.cause, |_| Rendered::default()).await {
            Ok(changed) => Ok(InboundReply { dispatched_execution: false, ..replies::of_run(changed) }),
            Err(CommandError::Invalid { code: "unknown_job", .. }) => {
                self.say(letter, None, text::unknown_job(&job)).await
            }
            Err(CommandError::Invalid { problems, .. }) => self.say(letter, None, problems.join("\n")).await,
            Err(CommandError::Forbidden { message, .. }) => self.say(letter, None, sentence(&message)).await,
            Err(error) => Err(error),
        }
    }

    async fn decide(
        &self,
        letter: &Letter,
        typed: &TypedRef,
        verb: &'static str,
        verdict: Verdict,
    ) -> Result<InboundReply, CommandError> {
        let answer = Answer { by: letter.person.clone(), account: letter.inbound.from.clone(), verdict };
        let Some((run, gate)) = self.find_asked(typed).await? else {
            return self.decide_elsewhere(letter, typed, answer).await;
        };
        let approvals_before = run.open_gate().map_or(0, |gate| gate.approvals().len());
        let command = RunCommand::Answer { gate, answer };
        let render = |after: &Run| Rendered {
            answer: String::new(),
            messages: answers::to_verdict(after, verb, approvals_before)
                .map(|body| letter.replies.reply(Some(&after.id), body))
                .into_iter()
                .collect(),
        };
        match self.command_run(&run.id, command, &letter.cause, render).await {
            Ok(changed) => Ok(replies::of_run(changed)),
            Err(CommandError::Run(error)) => {
                // What the others see now decides the words, not what was read before the answer.
                let now = self.get::<Run>(run.id.as_str()).await?.subject;
                self.say(letter, Some(&run.id), answers::to_refusal(&error, verb, &now)).await
            }
            Err(error) => Err(error),
        }
    }

    async fn cancel_by_text(&self, letter: &Letter, typed: &TypedRef) -> Result<InboundReply, CommandError> {
        let Some((run, _)) = self.find_asked(typed).await? else { return self.unknown_run(letter, typed).await };
        let render = |after: &Run| Rendered {
            answer: String::new(),
            messages: vec![letter.replies.reply(Some(&after.id), answers::to_cancel(after))],
        };
        let outcome = self.cancel_run(&run.id, &letter.person, &letter.inbound.from, &letter.cause, render).await;
        self.answer_steering(letter, &run, "cancel", outcome).await
    }

    async fn retry_by_text(&self, letter: &Letter, typed: &TypedRef) -> Result<InboundReply, CommandError> {
        let Some((run, _)) = self.find_asked(typed).await? else { return self.unknown_run(letter, typed).await };
        let render = |after: &Run| Rendered {
            answer: String::new(),
            messages: answers::to_retry(after)
                .map(|body| letter.replies.reply(Some(&after.id), body))
                .into_iter()
                .collect(),
        };
        let outcome = self.retry_run(&run.id, &letter.person, &letter.inbound.from, &letter.cause, render).await;
        self.answer_steering(letter, &run, "retry", outcome)
            .await
            .map(|reply| InboundReply { dispatched_execution: false, ..reply })
    }

    async fn answer_steering(
        &self,
        letter: &Letter,
        run: &Run,
        verb: &'static str,
        outcome: Result<Changed<Run, RunEvent>, CommandError>,
    ) -> Result<InboundReply, CommandError> {
        match outcome {
            Ok(changed) => Ok(replies::of_run(changed)),
            Err(CommandError::Forbidden { message, .. }) => self.say(letter, Some(&run.id), sentence(&message)).await,
            Err(CommandError::Run(error)) => {
                let now = self.get::<Run>(run.id.as_str()).await?.subject;
                self.say(letter, Some(&run.id), answers::to_refusal(&error, verb, &now)).await
            }
            Err(error) => Err(error),
        }
    }
}

/// For a message that came without one: it cannot be recognised as a repeat.
fn new_message_id() -> String {
    host::random::uuid_v4().simple().to_string()
}

/// A fragment of an error as a sentence for people.
fn sentence(fragment: &str) -> String {
    let mut characters = fragment.chars();
    match characters.next() {
        Some(first) => format!("{}{}.", first.to_uppercase(), characters.as_str()),
        None => String::new(),
    }
}
