//! Commands to protocols.

use domain::{
    actor::Actor,
    commit::{Guard, Table},
    gate::Answer,
    ids::{GateId, PersonId, ProjectId, ProtocolId},
    project::Project,
    protocol::{Advance, NewProtocol, Protocol, ProtocolCommand, ProtocolError, ProtocolEvent},
};
use serde_json::Value;
use store::Versioned;

use crate::{
    Cause, Changed, Control,
    error::CommandError,
    ledger::Rendered,
    refs::new_gate_id,
    spec_check::{check_spec, spec_ref},
};

/// A request for a protocol, as it came in.
#[derive(Clone, Debug, PartialEq)]
pub struct CreateProtocol {
    pub project: ProjectId,
    pub name: String,
    /// Anything but `pending` is refused.
    pub status: Option<String>,
    /// The project's when missing.
    pub base_branch: Option<String>,
    pub description: Option<String>,
    pub advance: Advance,
    pub template_config: Option<Value>,
    pub template_source: Option<Value>,
    /// The spec to plan from; `template_config.protocol_spec` is the inherited place for it.
    pub spec: Option<Value>,
    pub created_by: Option<PersonId>,
    /// How whoever asks is shown.
    pub requester: String,
}

type Outcome = Result<Changed<Protocol, ProtocolEvent>, CommandError>;

impl Control {
    /// Creates a protocol. Its name is refused when the project has it already.
    pub async fn create_protocol(
        &self,
        request: CreateProtocol,
        cause: &Cause,
        render: impl Fn(&Protocol) -> Rendered,
    ) -> Outcome {
        let Versioned { subject: project, .. } = self.get::<Project>(&request.project.to_string()).await?;
        let document = request.spec.or_else(|| inherited_spec(request.template_config.as_ref()));
        let spec = match document {
            None => None,
            Some(document) => {
                check_spec(&document).map_err(|problems| CommandError::Invalid {
                    code: "invalid_spec",
                    problems: problems.iter().map(ToString::to_string).collect(),
                })?;
                Some(spec_ref(document, self.clock().now())?)
            }
        };
        let mut new = NewProtocol {
            // A number is drawn only for what passes the rules.
            id: ProtocolId(0),
            project: project.id,
            name: request.name,
            status: request.status,
            base_branch: request.base_branch.unwrap_or(project.base_branch),
            description: request.description,
            advance: request.advance,
            template_config: request.template_config,
            template_source: request.template_source,
            spec,
            created_by: request.created_by,
            requester: request.requester,
        };
        Protocol::create(new.clone(), &self.clock().context())?;
        new.id = ProtocolId(self.store().next_number(Table::Protocols).await?);
        let decide = |context: &_| {
            let decision = Protocol::create(new.clone(), context);
            (&new, decision.unwrap_or_else(|_| domain::decision::Decision::nothing()))
        };
        match self.create(cause, decide, render).await {
            Err(CommandError::Refused { guard: Guard::Unique { .. }, .. }) => {
                Err(CommandError::NameTaken { project: new.project, name: new.name })
            }
            outcome => outcome,
        }
    }

    /// Gives a protocol any command and makes everything that follows from it durable.
    pub async fn command_protocol(
        &self,
        id: ProtocolId,
        command: ProtocolCommand,
        cause: &Cause,
        render: impl Fn(&Protocol) -> Rendered,
    ) -> Outcome {
        let decide = |protocol: &Protocol, context: &_| protocol.decide(&command, context);
        self.command(&id.to_string(), &command, cause, decide, render).await
    }

    pub async fn start_protocol(
        &self,
        id: ProtocolId,
        cause: &Cause,
        render: impl Fn(&Protocol) -> Rendered,
    ) -> Outcome {
        self.command_protocol(id, ProtocolCommand::Start { gate: new_gate_id() }, cause, render).await
    }

    pub async fn pause_protocol(
        &self,
        id: ProtocolId,
        cause: &Cause,
        render: impl Fn(&Protocol) -> Rendered,
    ) -> Outcome {
        self.command_protocol(id, ProtocolCommand::Pause { by: cause.actor.to_string() }, cause, render).await
    }

    pub async fn resume_protocol(
        &self,
        id: ProtocolId,
        cause: &Cause,
        render: impl Fn(&Protocol) -> Rendered,
    ) -> Outcome {
        self.command_protocol(id, ProtocolCommand::Resume { gate: new_gate_id() }, cause, render).await
    }

    pub async fn cancel_protocol(
        &self,
        id: ProtocolId,
        cause: &Cause,
        render: impl Fn(&Protocol) -> Rendered,
    ) -> Outcome {
        self.command_protocol(id, ProtocolCommand::Cancel { by: cause.actor.to_string() }, cause, render).await
    }

    pub async fn run_next_step(
        &self,
        id: ProtocolId,
        cause: &Cause,
        render: impl Fn(&Protocol) -> Rendered,
    ) -> Outcome {
        self.command_protocol(id, ProtocolCommand::RunNextStep { gate: new_gate_id() }, cause, render).await
    }

    pub async fn retry_latest_step(
        &self,
        id: ProtocolId,
        cause: &Cause,
        render: impl Fn(&Protocol) -> Rendered,
    ) -> Outcome {
        self.command_protocol(id, ProtocolCommand::RetryLatest { gate: new_gate_id() }, cause, render).await
    }

    pub(crate) async fn answer_protocol_gate(
        &self,
        id: ProtocolId,
        gate: Option<GateId>,
        answer: Answer,
        cause: &Cause,
        render: impl Fn(&Protocol) -> Rendered,
    ) -> Outcome {
        let command = ProtocolCommand::AnswerGate { gate, answer, next: new_gate_id() };
        self.command_protocol(id, command, cause, render).await
    }
}

/// Whether a refusal means that a worker's task has nothing left to do.
pub fn is_settled(error: &CommandError) -> bool {
    matches!(
        error,
        CommandError::NotFound { .. }
            | CommandError::Protocol(
                ProtocolError::WrongState { .. }
                    | ProtocolError::StepWrongState { .. }
                    | ProtocolError::NoSuchStep { .. }
                    | ProtocolError::NoSuchGate { .. }
            )
    )
}

/// The worker's own name, as events keep it.
pub(crate) fn worker_name(actor: &Actor) -> String {
    match actor {
        Actor::Worker { id } => id.clone(),
        other @ (Actor::Person { .. } | Actor::System) => other.to_string(),
    }
}

fn inherited_spec(template_config: Option<&Value>) -> Option<Value> {
    template_config?.get("protocol_spec").filter(|spec| !spec.is_null()).cloned()
}
