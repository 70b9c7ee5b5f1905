//! Answers to gates, whoever owns them.

use domain::{
    commit::SubjectKind,
    gate::{Answer, Gate},
    ids::{GateId, ProtocolId, RunId},
    protocol::{Protocol, ProtocolCommand},
    run::RunCommand,
};

use crate::{Cause, Control, error::CommandError, ledger::Rendered};

impl Control {
    /// Answers a gate by its id; the owner decides what follows. Exactly one deciding answer wins.
    pub async fn answer_gate(
        &self,
        id: &GateId,
        answer: Answer,
        cause: &Cause,
        render: impl Fn(&Gate) -> Rendered,
    ) -> Result<Gate, CommandError> {
        let gate = self.store().find_gate(id.as_str()).await?.ok_or_else(|| no_gate(id))?;
        let gates = match gate.owner.kind {
            SubjectKind::Run => {
                let command = RunCommand::Answer { gate: Some(id.clone()), answer };
                let render = |run: &domain::run::Run| run.gate(id).map(&render).unwrap_or_default();
                self.command_run(&RunId(gate.owner.id), command, cause, render).await?.subject.gates
            }
            SubjectKind::Protocol => {
                let protocol = protocol_id(&gate.owner.id, id)?;
                let render = |protocol: &Protocol| protocol.gate(id).map(&render).unwrap_or_default();
                self.answer_protocol_gate(protocol, Some(id.clone()), answer, cause, render).await?.subject.gates
            }
            SubjectKind::Project
            | SubjectKind::Person
            | SubjectKind::Token
            | SubjectKind::Message
            | SubjectKind::Catalog => return Err(no_gate(id)),
        };
        gates.into_iter().find(|gate| gate.id == *id).ok_or_else(|| no_gate(id))
    }

    /// A gate's deadline passed: its owner treats that as a denial.
    pub async fn expire_gate(
        &self,
        owner: &domain::commit::Subject,
        id: &GateId,
        cause: &Cause,
    ) -> Result<(), CommandError> {
        match owner.kind {
            SubjectKind::Run => {
                let command = RunCommand::ExpireGate { gate: id.clone() };
                self.command_run(&RunId(owner.id.clone()), command, cause, |_| Rendered::default()).await?;
            }
            SubjectKind::Protocol => {
                let command = ProtocolCommand::ExpireGate { gate: id.clone() };
                self.command_protocol(protocol_id(&owner.id, id)?, command, cause, |_| Rendered::default()).await?;
            }
            SubjectKind::Project
            | SubjectKind::Person
            | SubjectKind::Token
            | SubjectKind::Message
            | SubjectKind::Catalog => return Err(no_gate(id)),
        }
        Ok(())
    }
}

fn protocol_id(owner: &str, gate: &GateId) -> Result<ProtocolId, CommandError> {
    owner.parse().map(ProtocolId).map_err(|_| no_gate(gate))
}

fn no_gate(id: &GateId) -> CommandError {
    CommandError::Invalid { code: "unknown_gate", problems: vec![format!("there is no gate {id}")] }
}
