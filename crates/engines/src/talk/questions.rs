//! The questions of one conversation that wait for people: told and answered one after another.

use super::Out;
use crate::engine::{Asked, EngineEvent, Permission, Wanted};
use serde_json::Value;
use std::collections::VecDeque;

/// More than this at once is asked by nobody in earnest.
const MAX_WAITING: usize = 32;

/// Questions in their order, each with what its answer needs.
#[derive(Debug)]
pub(crate) struct Questions<T> {
    waiting: VecDeque<(Wanted, T)>,
}

/// A question as it is told: what is shown of it, and a digest over all of it.
pub(crate) fn wanted(call: &str, tool: &str, input: String, paths: Vec<String>, whole: &Value) -> Wanted {
    Wanted {
        question: host::random::base62(22),
        id: call.to_owned(),
        tool: tool.to_owned(),
        input,
        paths,
        asked: host::hash::sha256_hex(whole.to_string().as_bytes()),
    }
}

impl<T> Default for Questions<T> {
    fn default() -> Self {
        Self { waiting: VecDeque::new() }
    }
}

impl<T> Questions<T> {
    /// Takes a question; whether it is to be told now. `Err`: there are too many already.
    pub(crate) fn ask(&mut self, wanted: Wanted, with: T) -> Result<Option<&Wanted>, T> {
        if self.waiting.len() >= MAX_WAITING {
            return Err(with);
        }
        self.waiting.push_back((wanted, with));
        let first = self.waiting.len() == 1;
        Ok(self.waiting.front().filter(|_| first).map(|(wanted, _)| wanted))
    }

    /// The question that is being waited for.
    pub(crate) fn first(&self) -> Option<&Wanted> {
        self.waiting.front().map(|(wanted, _)| wanted)
    }

    /// How the question that is waited for is told, once those before it are settled.
    pub(crate) fn told(&self) -> Option<Out> {
        self.first().map(|first| Out::Tell(EngineEvent::PermissionWanted(first.clone())))
    }

    /// It was answered: what it was about, and with what.
    pub(crate) fn settle(&mut self) -> Option<(Wanted, T)> {
        self.waiting.pop_front()
    }

    /// Takes the questions back that the engine no longer waits for. Of the one that was told this is told as well, and
    /// the next one after it.
    pub(crate) fn take_back(&mut self, given_up: impl Fn(&T) -> bool) -> Vec<Out> {
        let first = self.first().map(|wanted| wanted.question.clone());
        let (gone, kept): (VecDeque<_>, _) =
            std::mem::take(&mut self.waiting).into_iter().partition(|(_, with)| given_up(with));
        self.waiting = kept;
        let told = gone.iter().map(|(wanted, _)| wanted).find(|gone| Some(&gone.question) == first.as_ref());
        let Some(gone) = told else { return Vec::new() };
        let asked = Asked {
            question: Some(gone.question.clone()),
            by: Some("the engine took the question back".to_owned()),
            ..Asked::by_policy(&gone.id, &gone.tool, gone.input.clone(), Permission::Denied)
        };
        std::iter::once(Out::Tell(EngineEvent::PermissionAsked(asked))).chain(self.told()).collect()
    }
}
