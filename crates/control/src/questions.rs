//! Questions that engines at work put to people.

use domain::{
    ids::{Fence, ProtocolId, StepId},
    protocol::{PermissionQuestion, Protocol, ProtocolCommand},
};

use crate::{Cause, Control, error::CommandError, refs::new_gate_id};

impl Control {
    /// Puts a question of an attempt's engine to people; one that was put before is left as it is. Without a step the
    /// attempt is the planning.
    pub async fn ask_permission(
        &self,
        id: ProtocolId,
        step: Option<StepId>,
        fence: Fence,
        question: PermissionQuestion,
        cause: &Cause,
    ) -> Result<Protocol, CommandError> {
        let (question, gate) = (Box::new(question), new_gate_id());
        self.report(id, ProtocolCommand::AskPermission { step, fence, question, gate }, cause).await
    }

    /// Takes back what an attempt's engine asked: it is no longer waited for.
    pub async fn drop_questions(
        &self,
        id: ProtocolId,
        step: Option<StepId>,
        fence: Fence,
        cause: &Cause,
    ) -> Result<Protocol, CommandError> {
        self.report(id, ProtocolCommand::DropQuestions { step, fence }, cause).await
    }
}
