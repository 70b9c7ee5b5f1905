//! A conversation for tests that say anything: what was sent, what was told, how often it ended.

use super::client::Client;
use super::script::Script;
use crate::engine::{EngineEvent, Permissions};
use crate::sandbox::Profile;
use crate::talk::{Conversation, Lost, Out, Policy};
use serde_json::Value;

#[derive(Debug, Default)]
pub(crate) struct Held {
    pub(crate) sent: Vec<Value>,
    pub(crate) told: Vec<EngineEvent>,
    pub(crate) n_done: usize,
}

#[derive(Debug)]
pub(crate) struct Talk {
    client: Client,
    pub(crate) held: Held,
}

impl Talk {
    pub(crate) fn begin(resumes: bool, reads_only: bool) -> Self {
        let access = if reads_only { Profile::ReadOnly } else { Profile::Workspace };
        let script = Script {
            cwd: "/work".into(),
            prompt: "write file a.txt".into(),
            resume: resumes.then(|| "s-1".into()),
            model: None,
            wants_answer: true,
            policy: Policy { access, allowed_tools: Vec::new(), otherwise: Permissions::Deny, servers: Vec::new() },
            mcp_servers: Vec::new(),
            spent_micro_usd: 0,
        };
        let mut talk = Self { client: Client::new(script), held: Held::default() };
        let out = talk.client.start();
        talk.take(out);
        talk
    }

    pub(crate) fn hear(&mut self, line: &str) {
        let out = self.client.receive(line);
        self.take(out);
    }

    pub(crate) fn pause(&mut self) {
        let out = self.client.pause();
        self.take(out);
    }

    /// The agent is gone.
    pub(crate) fn lose(&mut self) {
        let out = self.client.lost(Lost::Ended);
        self.take(out);
    }

    fn take(&mut self, out: Vec<Out>) {
        for step in out {
            assert!(self.held.n_done == 0, "it goes on after its end: {step:?}");
            match step {
                Out::Send(message) => self.held.sent.push(message),
                Out::Tell(event) => self.held.told.push(event.cleaned()),
                Out::Done { .. } => self.held.n_done += 1,
                Out::Pass(_) | Out::Close => panic!("no agent of this protocol is passed on: {step:?}"),
            }
        }
    }
}
