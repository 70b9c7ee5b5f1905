//! CodeMachine, an orchestrator of other agents, as "command, exit code, diff".
//!
//! It prints text for people and exits with 0 when the agents that it drove have failed, so its own word is worth
//! nothing: a run of it counts only when the worktree changed ([`crate::Engine::is_judged_by_its_diff`]). It starts its
//! agents without their sandboxes; what holds it is around it.

use crate::engine::{EngineError, EngineRequest, Phase, Prepared, Session};

/// The agent of its own that carries out a step, unless the configuration names another.
const AGENT: &str = "builder";

pub(crate) fn prepare(request: &EngineRequest) -> Result<Prepared, EngineError> {
    let unable = |wanted| Err(EngineError::Unable { engine: "codemachine", wanted });
    if request.subject.phase == Phase::Plan || request.output_schema.is_some() {
        return unable("give a structured answer");
    }
    if matches!(request.session, Session::Resume(_)) {
        return unable("go on with a session");
    }
    if !request.mcp_servers.is_empty() {
        return unable("be given servers of tools");
    }
    let mut argv = request.command("codemachine");
    argv.push("step".to_owned());
    if request.settings.extra_args.is_empty() {
        argv.push(AGENT.to_owned());
    } else {
        argv.extend(request.settings.extra_args.iter().cloned());
    }
    // A prompt that begins with a dash would be read as an option.
    argv.push("--".to_owned());
    argv.push(request.prompt.clone());
    Ok(Prepared::command(argv))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{Engine, Subject};
    use std::path::Path;

    fn request(phase: Phase) -> EngineRequest {
        let subject = Subject { phase, step: "01-fix".into(), attempt: 1 };
        EngineRequest::new(subject, "fix it", Path::new("/work"), Path::new("/attempt"))
    }

    #[test]
    fn it_is_started_with_the_agent_that_the_configuration_names() {
        let argv = |request: &EngineRequest| Engine::CodeMachine.prepare(request).unwrap().argv;
        let mut asked = request(Phase::Work);
        assert_eq!(argv(&asked), ["codemachine", "step", "builder", "--", "fix it"]);
        asked.settings.extra_args = vec!["tester".into(), "--engine".into(), "codex".into()];
        assert_eq!(argv(&asked), ["codemachine", "step", "tester", "--engine", "codex", "--", "fix it"]);
    }

    #[test]
    fn it_plans_nothing_and_resumes_nothing() {
        let error = |request: &EngineRequest| Engine::CodeMachine.prepare(request).unwrap_err().to_string();
        assert_eq!(error(&request(Phase::Plan)), "engine codemachine cannot give a structured answer");
        let resumed = EngineRequest { session: Session::Resume("s".into()), ..request(Phase::Work) };
        assert_eq!(error(&resumed), "engine codemachine cannot go on with a session");
    }

    #[test]
    fn its_exit_code_alone_is_not_believed() {
        assert!(Engine::CodeMachine.is_judged_by_its_diff());
        assert!(Engine::ALL.into_iter().filter(|engine| engine.is_judged_by_its_diff()).eq([Engine::CodeMachine]));
    }
}
