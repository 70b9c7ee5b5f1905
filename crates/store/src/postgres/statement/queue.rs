//! What commits do to the queue: tasks that are asked for, taken back and ended.

use super::{Numbered, Parts};
use crate::{
    postgres::{
        lease::{ACKED, ACKED_TELLS, COUNTED, Outcome, READY, is_open, waiting_again},
        parameters::Parameter,
        records::Records,
    },
    rules,
};

impl<'a> Parts<'a> {
    /// The acknowledged tasks that are still leased under the fence.
    pub(super) fn held(&mut self, commits: &[Numbered<'a>]) {
        let tasks: Vec<&str> =
            commits.iter().filter_map(|(_, c)| c.ack.as_ref()).map(|ack| ack.task.as_str()).collect();
        if tasks.is_empty() {
            return;
        }
        let tasks = self.parameters.bind(Parameter::Texts(tasks));
        self.with.push(format!(
            "held AS MATERIALIZED (SELECT t.id, op.fence
                                   FROM op JOIN claims c ON c.number = claim_of(op.fence)
                                   JOIN task_rows t ON t.id = op.task AND {}
                                   WHERE t.id = ANY({tasks}) AND c.number = ANY(ARRAY(SELECT claim_of(fence) FROM op))
                                     AND c.tasks[place_of(op.fence)] = op.task
                                   ORDER BY t.id FOR NO KEY UPDATE OF t)",
            is_open("op.fence")
        ));
        self.conditions.push("(op.task IS NULL OR (op.task, op.fence) IN (SELECT id, fence FROM held))".to_owned());
    }

    pub(super) fn tasks(&mut self, commits: &[Numbered<'a>]) {
        let count = commits.iter().map(|(_, commit)| commit.tasks.len()).sum();
        if count == 0 {
            return;
        }
        let mut records = Records::of(count);
        let (mut is_some_ready, mut is_some_scheduled) = (false, false);
        for (ord, commit) in commits {
            let now = commit.cause.now;
            for task in &commit.tasks {
                let due_at = task.due_at.unwrap_or(now);
                let is_ready = due_at <= now;
                is_some_ready |= is_ready;
                is_some_scheduled |= !is_ready;
                records
                    .record()
                    .int(*ord)
                    .text(task.id.as_str())
                    .text(task.kind.as_str())
                    .text(task.kind.lane().as_str())
                    .text(task.subject.kind.as_str())
                    .text(&task.subject.id)
                    .maybe_big(task.project)
                    .maybe_text(task.engine.as_deref())
                    .text(&task.payload)
                    .small(task.priority)
                    .text(if is_ready { "ready" } else { "scheduled" })
                    .big(due_at.as_micros())
                    .int(i32::from(task.max_failures));
            }
        }
        let source = self.parameters.rows("task_in", records);
        self.with.push(format!(
            "asked AS MATERIALIZED (SELECT x.*, a.now FROM {source} JOIN applied a ON a.ord = x.ord),
             stored AS (INSERT INTO task_rows (id, kind, lane, subject_kind, subject, project, engine, payload, priority,
                                               due_at, max_failures, created_at)
               SELECT id, kind, lane, subject_kind, subject, project, engine, payload, priority, due_at, max_failures, now
               FROM asked)"
        ));
        if is_some_ready {
            let ready = format!("INSERT INTO tasks_ready ({READY}) SELECT {READY} FROM asked WHERE state = 'ready'");
            self.with.push(format!("made_ready AS ({ready})"));
        }
        if is_some_scheduled {
            self.with.push(
                "scheduled AS (INSERT INTO tasks_scheduled (due_at, id)
                               SELECT due_at, id FROM asked WHERE state = 'scheduled')"
                    .to_owned(),
            );
        }
    }

    /// Takes waiting tasks back, and tells those to stop that are leased, were told before, or have begun. Those that
    /// these commits add are not seen, those they acknowledge are left alone; an acknowledgement that did not count spares
    /// nothing.
    pub(super) fn withdrawals(&mut self, commits: &[Numbered<'a>]) {
        let mut records = Records::default();
        let mut subjects = Vec::new();
        for (ord, commit) in commits {
            for withdraw in &commit.withdraw {
                let (kind, subject) = (withdraw.subject.kind.as_str(), withdraw.subject.id.as_str());
                subjects.push(subject);
                if withdraw.kinds.is_empty() {
                    records.record().int(*ord).text(kind).text(subject).maybe_text(None);
                }
                for task in &withdraw.kinds {
                    records.record().int(*ord).text(kind).text(subject).text(task.as_str());
                }
            }
        }
        if records.is_empty() {
            return;
        }
        let begun = commits.iter().flat_map(|(_, c)| rules::begun(c)).collect();
        let begun = self.parameters.bind(Parameter::Texts(begun));
        let subjects = self.parameters.bind(Parameter::Texts(subjects));
        let source = self.parameters.rows("withdraw_in", records);
        // What waits is what can be taken out of the queue, and what cannot is leased; a task whose lease ends at this
        // very moment may be in neither, so the statement fails and sees it the next time. Rows of the queue are found
        // one by one, by their keys: a join would read all of it.
        self.with.push(format!(
            "meant AS MATERIALIZED (
               SELECT t.*, a.now, t.stop OR t.id = ANY({begun}) AS told
               FROM {source} JOIN applied a ON a.ord = x.ord
               JOIN task_rows t ON t.subject_kind = x.subject_kind AND t.subject = x.subject
                                AND (x.kind IS NULL OR t.kind = x.kind)
               WHERE t.subject = ANY({subjects}) AND t.state = 'open' AND t.subject_kind <> 'message'
                 AND NOT (t.id IN (SELECT task FROM applied WHERE task IS NOT NULL))),
             seized AS MATERIALIZED (
               SELECT t.id, t.past_fence FROM task_rows t
               WHERE t.id = ANY(ARRAY(SELECT id FROM meant)) AND t.state = 'open' ORDER BY t.id FOR NO KEY UPDATE),
             out AS (
               DELETE FROM tasks_ready WHERE ctid = ANY(ARRAY(
                 SELECT (SELECT r.ctid FROM tasks_ready r
                         WHERE r.lane = m.lane AND r.priority = m.priority AND r.due_at = m.due_at AND r.id = m.id)
                 FROM meant m JOIN seized s ON s.id = m.id))
               RETURNING id),
             unscheduled AS (
               DELETE FROM tasks_scheduled WHERE ctid = ANY(ARRAY(
                 SELECT (SELECT w.ctid FROM tasks_scheduled w WHERE w.due_at = m.due_at AND w.id = m.id)
                 FROM meant m JOIN seized s ON s.id = m.id))
               RETURNING id),
             withdrawn AS (
               UPDATE task_rows t
               SET state = CASE WHEN s.past_fence <> m.past_fence AND overtaken() THEN t.state
                                WHEN w.id IS NULL OR m.told THEN 'open' ELSE 'withdrawn' END,
                   stop = w.id IS NULL OR m.told,
                   finished_at = CASE WHEN w.id IS NULL OR m.told THEN NULL ELSE m.now END,
                   due_at = CASE WHEN w.id IS NOT NULL AND m.told THEN least(t.due_at, m.now) ELSE t.due_at END
               FROM meant m JOIN seized s ON s.id = m.id
               LEFT JOIN (SELECT id FROM out UNION ALL SELECT id FROM unscheduled) w ON w.id = m.id
               WHERE t.id = m.id AND t.id = ANY(ARRAY(SELECT id FROM seized)) RETURNING t.*, w.id IS NOT NULL AND m.told AS waits),
             told_now AS (INSERT INTO tasks_ready ({READY}) SELECT {READY} FROM withdrawn WHERE waits)"
        ));
    }

    /// What becomes of the tasks the commits were made for; they are locked since `held`.
    pub(super) fn acknowledgements(&mut self, commits: &[Numbered<'a>]) {
        let mut records = Records::default();
        let (mut ids, mut again) = (Vec::new(), false);
        for (ord, commit) in commits {
            let Some(ack) = &commit.ack else { continue };
            let Some(outcome) = Outcome::of(&ack.then, commit.cause.now.as_micros()) else { continue };
            ids.push(ack.task.as_str());
            again |= !outcome.is_final();
            outcome.write(&mut records, *ord, &ack.task, ack.fence);
        }
        if records.is_empty() {
            return;
        }
        let ids = self.parameters.bind(Parameter::Texts(ids));
        let source = self.parameters.rows("ack_in", records);
        self.with.push(format!(
            "acked AS (UPDATE task_rows t SET {ACKED} FROM {source} JOIN applied a ON a.ord = x.ord
                       WHERE t.id = x.id AND t.id = ANY({ids}) RETURNING {ACKED_TELLS})"
        ));
        if again {
            self.with.extend(waiting_again());
        }
        self.with.push(COUNTED.to_owned());
    }
}
