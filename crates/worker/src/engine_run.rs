//! An engine at work for an attempt: started under supervision and watched. How its end is read is in
//! [`crate::engine_ending`], how one is taken over from another worker in [`crate::engine_takeover`].
//!
//! An attempt may need more than one run of its engine. What came before is set aside in the attempt's directory, so
//! that every run is supervised, adopted and read in the same way; see [`crate::engine_note`].

use std::{path::Path, time::Duration};

use control::Cause;
use domain::{
    attempt::{Attempt, Ending, Usage},
    project::NamedEngine,
    protocol::Ended,
    step::Failure as Why,
};
use engines::{
    EngineRequest,
    engine::{
        Asking, Configured, Engine, ErrorClass, Finished, McpServer, Permissions, Phase, Session, Settings, Subject,
        Transcript,
    },
    exit::{Exit, LaunchFailureKind},
    runs,
    sandbox::Profile,
    spec::Limits,
    spool,
    supervisor::{self, LaunchError},
};

use crate::{
    Worker,
    brokers::told_of,
    engine_note::Note,
    failure::Failure,
    lease::Lease,
    permission::Asker,
    project_setup::full,
    run_job::traced,
    sandboxes::{Boxed, Needs},
    tool_servers::servers_of,
};

/// How much of what an engine printed is read at once.
pub(crate) const PIECE: usize = 256 * 1024;
/// How often a running engine is looked at.
const LOOK: Duration = Duration::from_millis(500);
/// Why an engine is stopped that only waits.
pub(crate) const STALLED: &str = "it waited for its model for too long";
/// How much of what an engine prints is kept.
const SPOOL: u64 = 64 << 20;

/// What an engine is asked to do.
pub(crate) struct Task {
    /// The name of the project that it is work for.
    pub(crate) project: String,
    pub(crate) engine: Configured,
    pub(crate) choice: NamedEngine,
    pub(crate) phase: Phase,
    pub(crate) step: String,
    pub(crate) prompt: String,
    pub(crate) model: Option<String>,
    pub(crate) output_schema: Option<serde_json::Value>,
    /// The command of the shell engine.
    pub(crate) argv: Vec<String>,
}

/// What became of it.
#[derive(Debug)]
pub(crate) enum Ran {
    /// It ended by itself, or by a limit.
    Ended(Box<EngineEnd>),
    /// Somebody no longer wanted it; nothing of it is left.
    Stopped,
    /// It was cut off; how far it got is not known.
    CutOff { why: String },
}

/// The end of an engine, with its last word.
#[derive(Debug)]
pub(crate) struct EngineEnd {
    pub(crate) end: Ended,
    pub(crate) finished: Finished,
    pub(crate) failure: Option<Why>,
    /// By which it can be gone on with.
    pub(crate) session: Option<String>,
}

/// What an engine is started by.
struct Program {
    env: Vec<(String, String)>,
    /// The program found, with what stands before our own arguments.
    command: Vec<String>,
}

impl Worker {
    /// Starts an engine for the first time in an attempt and waits for its end.
    pub(crate) async fn run_engine(&self, lease: &Lease, attempt: &Attempt, task: &Task) -> Result<Ran, Failure> {
        let dir = self.attempt_dir(attempt);
        let mut note = Note::read(&dir)?;
        let session = new_session(task.engine.engine);
        note.session = session.id().map(str::to_owned);
        note.write(&dir)?;
        self.start_engine(lease, attempt, task, session, &task.prompt).await
    }

    /// Runs the engine again in the same attempt: in a session of before, or from the beginning.
    pub(crate) async fn run_engine_again(
        &self,
        lease: &Lease,
        attempt: &Attempt,
        task: &Task,
        session: Option<String>,
        prompt: &str,
    ) -> Result<Ran, Failure> {
        let dir = self.attempt_dir(attempt);
        let mut note = Note::read(&dir)?;
        let resumed = session.is_some();
        let session = session.map_or_else(|| new_session(task.engine.engine), Session::Resume);
        note.resumed.push(resumed);
        note.session = session.id().map(str::to_owned);
        note.waits = false;
        // Remembered before anything moves: cut off in between, what was not moved is read as part of the next run.
        note.write(&dir)?;
        let before = note.before(&dir).pop().ok_or_else(|| Failure::give_up("there is no run to set aside"))?;
        runs::set_aside(&dir, &before, task.engine.engine.stream()).map_err(Failure::retry)?;
        self.drop_questions(lease, attempt).await?;
        let ran = self.start_engine(lease, attempt, task, session, prompt).await?;
        Ok(match ran {
            Ran::Ended(ended) if resumed && is_unknown_session(&ended) => {
                Ran::CutOff { why: format!("its session could not be gone on with: {}", ended.finished.message) }
            }
            ran => ran,
        })
    }

    async fn start_engine(
        &self,
        lease: &Lease,
        attempt: &Attempt,
        task: &Task,
        session: Session,
        prompt: &str,
    ) -> Result<Ran, Failure> {
        let dir = self.attempt_dir(attempt);
        let home = dir.join("home");
        host::fs::create_private_dir(&dir).map_err(Failure::retry)?;
        host::fs::create_private_dir(&home).map_err(Failure::retry)?;
        let subject = Subject { phase: task.phase, step: task.step.clone(), attempt: attempt.number };
        let spent = self.read_runs(attempt, task.engine.engine)?.session_usage();
        let Program { env, command } = match self.program_of(&task.engine, &home) {
            Ok(found) => found,
            Err(why) => return Ok(unavailable(why)),
        };
        let access = match task.phase {
            Phase::Plan | Phase::Qa => Profile::ReadOnly,
            Phase::Setup | Phase::Work => Profile::Workspace,
        };
        let boxed = Boxed::of(task.engine.engine, access);
        let sandboxed = self.is_confined(boxed).await?;
        let servers = match servers_of(task, &self.config.engine_path) {
            Ok(servers) => servers,
            Err(why) => return Ok(unavailable(why)),
        };
        let broker = match self.broker_of(&task.engine, sandboxed && !task.engine.open_network) {
            Ok(broker) => broker,
            Err(why) => return Ok(unavailable(why)),
        };
        let limits = self.config.engine_limits;
        let request = EngineRequest {
            model: task.model.clone().or_else(|| task.engine.model.clone()),
            effort: task.engine.effort.clone(),
            max_turns: task.engine.max_turns,
            session,
            spent,
            output_schema: task.output_schema.clone(),
            mcp_servers: servers,
            endpoint: broker.as_ref().map_or_else(|| task.engine.endpoint(), |broker| told_of(&task.engine, broker)),
            access,
            limits: Limits::default().wall(limits.wall).idle(limits.idle).spool(SPOOL),
            env,
            settings: Settings {
                argv: task.argv.clone(),
                scenario: task.choice.scenario.as_ref().map(Into::into),
                exe: self.config.exe.clone(),
                command,
                extra_args: task.engine.extra_args.clone(),
                allowed_tools: task.engine.allowed_tools.clone(),
                permissions: task.engine.permissions,
                app_server: task.engine.app_server,
                asking: (task.engine.permissions == Permissions::Ask)
                    .then(|| Asking::new(&attempt.nonce, task.engine.ask.timeout)),
                sandboxed,
            },
            ..EngineRequest::new(subject, prompt, &self.worktree_dir(attempt), &dir)
        };
        let mut launch = match task.engine.engine.launch(&request) {
            Ok(launch) => launch,
            Err(error) => return Ok(unavailable(full(&error))),
        };
        launch.nonce.clone_from(&attempt.nonce);
        self.bound(lease, &mut launch);
        let keys = request.endpoint.key.iter().chain(&task.engine.key);
        launch.secrets.extend(keys.map(|key| key.reveal().to_owned()));
        launch.secrets.extend(request.mcp_servers.iter().flat_map(McpServer::secrets).map(str::to_owned));
        let mut needs = Needs::of(&task.engine, &request.settings.command, &request.mcp_servers);
        needs.readable.extend([Some(self.config.exe.clone()), request.settings.scenario.clone()].into_iter().flatten());
        if !task.engine.open_network {
            let model = broker.as_ref().map(|broker| broker.listen).or_else(|| task.engine.model_here());
            let servers = request.mcp_servers.iter().filter_map(McpServer::here);
            needs.only = model.map(|model| std::iter::once(model).chain(servers).collect());
        }
        launch.broker = broker;
        self.confine(&mut launch, boxed, &home, needs).await?;
        match supervisor::start(&self.config.exe, launch).await {
            Ok(supervised) => {
                let asker = Asker::new(self, lease, attempt, &task.engine, &supervised);
                let exit = Box::pin(self.watch_engine(lease, attempt, asker)).await?;
                self.tell_metered(lease, attempt, &task.engine).await?;
                self.read_ending(lease, attempt, &task.engine, &exit).await
            }
            Err(LaunchError::Program(failure)) if failure.kind == LaunchFailureKind::SandboxUnavailable => {
                Ok(failed("sandbox_unavailable", failure.to_string()))
            }
            Err(LaunchError::Program(failure)) => Ok(unavailable(failure.to_string())),
            // Whether anything runs is not known; the next try finds the attempt begun and takes it over.
            Err(error @ (LaunchError::NotReady(_) | LaunchError::Unreachable(_))) => Err(Failure::retry(full(&error))),
            // Killed, perhaps, and whatever it had begun with it.
            Err(error @ LaunchError::Died { .. }) => Ok(Ran::CutOff { why: full(&error) }),
            Err(error) => Ok(failed("supervisor_failed", full(&error))),
        }
    }

    /// The environment of an engine and its command with the program found, or why there is none.
    fn program_of(&self, configured: &Configured, home: &Path) -> Result<Program, String> {
        let mut env = plain_environment(home);
        let Some(program) = configured.program() else {
            return Ok(Program { env, command: configured.command.clone() });
        };
        let path = self.config.engine_path.as_str();
        let found = host::process::find_program(program.as_ref(), Some(path.as_ref()), None)
            .ok_or_else(|| format!("engine {}: there is no program {program} in {path}", configured.id))?;
        // Some are scripts whose interpreter lies beside them.
        if let (Some(dir), Some((_, path))) = (found.parent(), env.iter_mut().find(|(name, _)| name == "PATH")) {
            *path = format!("{}:{path}", dir.display());
        }
        let mut command = configured.command.clone();
        let found = found.to_string_lossy().into_owned();
        match command.first_mut() {
            Some(first) => *first = found,
            None => command.push(found),
        }
        Ok(Program { env, command })
    }

    /// Watches an engine's tree: puts to people what it asks, and stops it when it has only waited for its model for too
    /// long, since some wait for ever.
    pub(crate) async fn watch_engine(
        &self,
        lease: &Lease,
        attempt: &Attempt,
        mut asker: Asker<'_>,
    ) -> Result<Exit, Failure> {
        let (configured, supervised) = (asker.configured, asker.supervised);
        let dir = self.attempt_dir(attempt);
        let stall = self.config.engine_limits.stall;
        let stalled = async {
            let mut live = Transcript::new(configured.engine);
            let (mut offset, mut since) = (0, None);
            loop {
                tokio::time::sleep(LOOK.min(stall / 2)).await;
                while let Ok(chunk) = spool::read(&dir, configured.engine.stream(), offset, PIECE) {
                    if chunk.bytes.is_empty() {
                        break;
                    }
                    offset = chunk.next_offset;
                    live.feed(&chunk.bytes);
                    tokio::task::yield_now().await;
                }
                asker.look(live.question()).await;
                since = live.trouble().and(since.or_else(|| Some(host::clock::monotonic())));
                if since.is_some_and(|since| since.elapsed() > stall) {
                    return;
                }
            }
        };
        let watched = async {
            let watch = self.watch(lease, supervised);
            tokio::pin!(watch);
            tokio::select! {
                exit = &mut watch => return exit,
                () = stalled => {}
            }
            supervised.stop(STALLED, None).await.map_err(Failure::retry)?;
            watch.await
        };
        let told = self.tell_held(lease, attempt, Some(supervised.held()));
        Box::pin(traced(attempt, async { tokio::join!(watched, told).0 })).await
    }

    /// Tells the ledger that an attempt goes on under this lease, in whichever way.
    pub(crate) fn keeping(&self, lease: &Lease) -> Cause {
        Cause::of(self.actor()).acknowledging(lease.keep())
    }
}

fn new_session(engine: Engine) -> Session {
    match engine.capabilities().preset_session {
        true => Session::Preset(host::random::uuid_v4().to_string()),
        false => Session::New,
    }
}

/// Whether a resumed run ended at once because there was nothing to resume.
fn is_unknown_session(ended: &EngineEnd) -> bool {
    let message = ended.finished.message.to_ascii_lowercase();
    let said = ["no conversation found", "no rollout found", "session not found", "cannot go on with a session"];
    matches!(ended.finished.class, Some(ErrorClass::BadRequest | ErrorClass::ProtocolError))
        && (said.iter().any(|words| message.contains(words)) || message.contains("session"))
}

/// What a session is told that goes on after it was cut off.
pub(crate) fn going_on(prompt: &str) -> String {
    format!(
        "Your work was cut off; the checkout is as you left it. Look at what is there, then finish what you were asked \
         to do:\n\n{prompt}"
    )
}

/// All that a program started for a protocol finds in its environment.
pub(crate) fn plain_environment(home: &Path) -> Vec<(String, String)> {
    [("PATH", host::process::DEFAULT_PATH), ("LANG", "C.UTF-8")]
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .chain([("HOME".to_owned(), home.to_string_lossy().into_owned())])
        .collect()
}

/// An attempt that ended before anything of it ran.
pub(crate) fn failed(code: &str, why: impl Into<String>) -> Ran {
    let why = why.into();
    let finished = Finished::failed(why.clone());
    let end = control::steps::ended(Ending::Failed, why.clone());
    Ran::Ended(Box::new(EngineEnd { end, finished, failure: Some(Why::new(code, why)), session: None }))
}

/// An attempt whose engine cannot be had here.
pub(crate) fn unavailable(why: impl Into<String>) -> Ran {
    let (class, why) = (ErrorClass::Unavailable, why.into());
    let finished = Finished::of_class(class, why.clone());
    let end = control::steps::ended(Ending::Failed, why.clone());
    Ran::Ended(Box::new(EngineEnd { end, finished, failure: Some(Why::new(class.code(), why)), session: None }))
}

/// What is not said stays unknown: only what was named was added up.
pub(crate) fn usage_of(told: engines::engine::Usage) -> Usage {
    Usage {
        input_tokens: told.input_tokens,
        cached_tokens: told.cached_tokens,
        cache_write_tokens: told.cache_write_tokens,
        output_tokens: told.output_tokens,
        reasoning_tokens: told.reasoning_tokens,
        cost_micro_usd: told.cost_micro_usd.map(|cost| i64::try_from(cost).unwrap_or(i64::MAX)),
    }
}
