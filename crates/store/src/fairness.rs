//! Which tasks of the engine lane a claim takes: caps, then fair shares. The same on both databases.
//!
//! Lower priority numbers go first. Among equals, a project that holds fewer engines goes first, then the one that was
//! given an engine longest ago, then age. A project with ten thousand waiting tasks therefore delays nobody else.

use std::collections::{BTreeMap, VecDeque};

use domain::time::Timestamp;

use crate::queue::Caps;

/// A ready task that may be chosen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Candidate {
    pub(crate) id: String,
    pub(crate) project: Option<i64>,
    pub(crate) engine: Option<String>,
    pub(crate) priority: i16,
    pub(crate) due_at: Timestamp,
}

/// What is leased in the engine lane, counted in the claim's own transaction, and when each project last had a turn.
#[derive(Clone, Debug, Default)]
pub(crate) struct Leased {
    /// How many leased tasks each project and engine has.
    pub(crate) counts: Vec<(Option<i64>, Option<String>, u32)>,
    /// The fence of each project's last claim (table `turns`; 0 is no project).
    pub(crate) turns: BTreeMap<i64, i64>,
}

/// Chooses at most `limit` tasks, in the order in which they get their fences.
///
/// `candidates` need to hold only the first `limit` ready tasks of each (project, engine), by (priority, due_at, id):
/// what lies behind them cannot be chosen.
pub(crate) fn choose(candidates: Vec<Candidate>, leased: &Leased, caps: &Caps, limit: u32) -> Vec<Candidate> {
    let mut queues: BTreeMap<(Option<i64>, Option<String>), Vec<Candidate>> = BTreeMap::new();
    for candidate in candidates {
        queues.entry((candidate.project, candidate.engine.clone())).or_default().push(candidate);
    }
    let mut queues: Vec<_> = queues
        .into_iter()
        .map(|(key, mut queue)| {
            queue.sort_by(|a, b| (a.priority, a.due_at, &a.id).cmp(&(b.priority, b.due_at, &b.id)));
            (key, VecDeque::from(queue))
        })
        .collect();

    let mut total: u32 = 0;
    let mut by_project: BTreeMap<Option<i64>, u32> = BTreeMap::new();
    let mut by_engine: BTreeMap<String, u32> = BTreeMap::new();
    for (project, engine, count) in &leased.counts {
        total += count;
        *by_project.entry(*project).or_default() += count;
        if let Some(engine) = engine {
            *by_engine.entry(engine.clone()).or_default() += count;
        }
    }

    let mut chosen = Vec::new();
    while chosen.len() < usize::try_from(limit).unwrap_or(usize::MAX) && caps.total.is_none_or(|cap| total < cap) {
        let held = |project: &Option<i64>| by_project.get(project).copied().unwrap_or(0);
        let best = queues
            .iter_mut()
            .filter(|((project, engine), queue)| {
                let engine_is_free = engine.as_ref().is_none_or(|engine| {
                    let used = by_engine.get(engine).copied().unwrap_or(0);
                    caps.per_engine.get(engine).is_none_or(|cap| used < *cap)
                });
                // A task of no project counts against nobody's share.
                let project_is_free = project.is_none() || caps.per_project.is_none_or(|cap| held(project) < cap);
                !queue.is_empty() && engine_is_free && project_is_free
            })
            .min_by_key(|((project, _), queue)| {
                let turn = leased.turns.get(&project.unwrap_or(0)).copied().unwrap_or(0);
                let first = queue.front().map(|next| (next.priority, next.due_at, next.id.clone()));
                let (priority, due_at, id) = first.unwrap_or_default();
                (priority, held(project), turn, due_at, id)
            });
        let Some(((project, engine), queue)) = best else { break };
        *by_project.entry(*project).or_default() += 1;
        if let Some(engine) = engine {
            *by_engine.entry(engine.clone()).or_default() += 1;
        }
        total += 1;
        chosen.extend(queue.pop_front());
    }
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ready(id: &str, project: Option<i64>, engine: &str, due: i64) -> Candidate {
        Candidate {
            id: id.to_owned(),
            project,
            engine: Some(engine.to_owned()),
            priority: 0,
            due_at: Timestamp::from_micros(due),
        }
    }

    fn ids(chosen: &[Candidate]) -> Vec<&str> {
        chosen.iter().map(|task| task.id.as_str()).collect()
    }

    #[test]
    fn projects_take_turns_however_old_the_tasks_of_one_are() {
        let mut waiting: Vec<_> = (0..50).map(|n| ready(&format!("a{n:02}"), Some(1), "codex", n)).collect();
        waiting.extend((0..3).map(|n| ready(&format!("b{n}"), Some(2), "codex", 1000 + n)));

        let chosen = choose(waiting, &Leased::default(), &Caps::default(), 6);

        assert_eq!(ids(&chosen), ["a00", "b0", "a01", "b1", "a02", "b2"]);
    }

    #[test]
    fn with_one_place_the_project_that_waited_longest_goes_first() {
        let waiting = vec![ready("a", Some(1), "codex", 1), ready("b", Some(2), "codex", 9)];
        let leased = Leased { counts: vec![], turns: BTreeMap::from([(1, 40), (2, 30)]) };

        assert_eq!(ids(&choose(waiting, &leased, &Caps::default(), 1)), ["b"]);
    }

    #[test]
    fn caps_count_what_is_leased_and_what_is_being_chosen() {
        let waiting: Vec<_> = (0..4)
            .flat_map(|n| [ready(&format!("a{n}"), Some(1), "codex", n), ready(&format!("b{n}"), Some(2), "claude", n)])
            .collect();
        let leased = Leased { counts: vec![(Some(1), Some("codex".to_owned()), 1)], turns: BTreeMap::new() };
        let caps = |total, project, engine: Option<u32>| Caps {
            total,
            per_project: project,
            per_engine: engine.map(|cap| ("claude".to_owned(), cap)).into_iter().collect(),
        };

        assert_eq!(choose(waiting.clone(), &leased, &caps(Some(4), None, None), 9).len(), 3);
        assert_eq!(ids(&choose(waiting.clone(), &leased, &caps(None, Some(2), None), 9)), ["b0", "a0", "b1"]);
        assert_eq!(ids(&choose(waiting.clone(), &leased, &caps(None, None, Some(1)), 3)), ["b0", "a0", "a1"]);
        assert_eq!(choose(waiting, &leased, &caps(Some(1), None, None), 9).len(), 0);
    }

    #[test]
    fn priority_goes_before_fairness() {
        let mut urgent = ready("a1", Some(1), "codex", 9);
        urgent.priority = -1;
        let waiting = vec![ready("b", Some(2), "codex", 1), urgent, ready("a0", Some(1), "codex", 0)];

        assert_eq!(ids(&choose(waiting, &Leased::default(), &Caps::default(), 3)), ["a1", "b", "a0"]);
    }
}
