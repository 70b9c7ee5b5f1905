//! Every failpoint there is, with where it exists and how often it is reached.

/// A place where a process can be made to die.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Point {
    pub name: &'static str,
    pub on: On,
    pub reach: Reach,
}

/// The database on which a point exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum On {
    Sqlite,
    Postgres,
    Both,
}

/// How often a point is reached by a node under load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// Once a ledger, once a process, once a start, or once a protocol.
    Rare,
    /// Many times a second, so that a later time says more than the first.
    Often,
}

impl Point {
    pub fn is_on(&self, database: On) -> bool {
        self.on == On::Both || self.on == database
    }
}

const fn point(name: &'static str, on: On, reach: Reach) -> Point {
    Point { name, on, reach }
}

pub const POINTS: &[Point] = &[
    point("sqlite.open.owned", On::Sqlite, Reach::Rare),
    point("sqlite.open.log-grown", On::Sqlite, Reach::Rare),
    point("sqlite.migrate.statement", On::Sqlite, Reach::Rare),
    point("sqlite.migrate.before-commit", On::Sqlite, Reach::Rare),
    point("sqlite.migrate.after-commit", On::Sqlite, Reach::Rare),
    point("sqlite.claim.leased", On::Sqlite, Reach::Often),
    point("sqlite.dedup.taken", On::Sqlite, Reach::Often),
    point("sqlite.rows.written", On::Sqlite, Reach::Often),
    point("sqlite.events.written", On::Sqlite, Reach::Often),
    point("sqlite.tasks.stored", On::Sqlite, Reach::Often),
    point("sqlite.checkpoint.before", On::Sqlite, Reach::Rare),
    point("sqlite.checkpoint.after", On::Sqlite, Reach::Rare),
    point("sqlite.group.answered", On::Sqlite, Reach::Often),
    point("sqlite.group.begun", On::Sqlite, Reach::Often),
    point("sqlite.commit.before", On::Sqlite, Reach::Often),
    point("sqlite.commit.after", On::Sqlite, Reach::Often),
    point("sqlite.job.done", On::Sqlite, Reach::Often),
    point("postgres.batch.answered", On::Postgres, Reach::Often),
    point("postgres.batch.told", On::Postgres, Reach::Often),
    point("postgres.batch.built", On::Postgres, Reach::Often),
    point("postgres.batch.committed", On::Postgres, Reach::Often),
    point("postgres.migrate.before-commit", On::Postgres, Reach::Rare),
    point("postgres.migrate.after-commit", On::Postgres, Reach::Rare),
    point("postgres.fast-claim.committed", On::Postgres, Reach::Often),
    point("postgres.engine-claim.before-commit", On::Postgres, Reach::Rare),
    point("postgres.engine-claim.after-commit", On::Postgres, Reach::Rare),
    point("postgres.heartbeat.sent", On::Postgres, Reach::Rare),
    point("postgres.open.connected", On::Postgres, Reach::Rare),
    point("postgres.commit.unannounced", On::Postgres, Reach::Often),
    point("store.commit.before", On::Both, Reach::Often),
    point("store.commit.after", On::Both, Reach::Often),
    point("store.dedup.after", On::Both, Reach::Often),
    point("store.events.after", On::Both, Reach::Rare),
    point("store.claim.before", On::Both, Reach::Often),
    point("store.claim.after", On::Both, Reach::Often),
    point("store.heartbeat.before", On::Both, Reach::Rare),
    point("store.heartbeat.after", On::Both, Reach::Rare),
    point("store.reap.before", On::Both, Reach::Rare),
    point("store.reap.after", On::Both, Reach::Rare),
    point("store.adopt.before", On::Both, Reach::Rare),
    point("store.adopt.after", On::Both, Reach::Rare),
    point("store.promote.before", On::Both, Reach::Rare),
    point("store.promote.after", On::Both, Reach::Rare),
    point("store.prune.before", On::Both, Reach::Rare),
    point("store.prune.after", On::Both, Reach::Rare),
    point("control.create.decided", On::Both, Reach::Often),
    point("control.create.committed", On::Both, Reach::Often),
    point("control.command.decided", On::Both, Reach::Often),
    point("control.command.committed", On::Both, Reach::Often),
    point("control.record.committed", On::Both, Reach::Rare),
    point("control.catalog.loaded", On::Both, Reach::Rare),
    point("server.command.done", On::Both, Reach::Often),
    point("server.keyed.begun", On::Both, Reach::Rare),
    point("server.keyed.stored", On::Both, Reach::Rare),
    point("node.token.written", On::Both, Reach::Rare),
    point("node.ledger.opened", On::Both, Reach::Rare),
    point("node.token.counted", On::Both, Reach::Rare),
    point("node.server.listening", On::Both, Reach::Rare),
    point("node.endpoint.written", On::Both, Reach::Rare),
    point("worker.message.sending", On::Both, Reach::Often),
    point("worker.message.sent", On::Both, Reach::Often),
    point("worker.quality.begun", On::Both, Reach::Rare),
    point("worker.quality.judged", On::Both, Reach::Rare),
    point("worker.quality.reported", On::Both, Reach::Rare),
    point("worker.step.begun", On::Both, Reach::Rare),
    point("worker.step.ended", On::Both, Reach::Rare),
    point("worker.step.taken", On::Both, Reach::Rare),
    point("worker.step.reported", On::Both, Reach::Rare),
    point("worker.housekeeping.reaped", On::Both, Reach::Rare),
    point("worker.setup.begun", On::Both, Reach::Rare),
    point("worker.setup.fetched", On::Both, Reach::Rare),
    point("worker.start.alive", On::Both, Reach::Rare),
    point("worker.start.recovered", On::Both, Reach::Rare),
    point("worker.task.claimed", On::Both, Reach::Often),
    point("worker.run.begun", On::Both, Reach::Often),
    point("worker.run.started", On::Both, Reach::Often),
    point("worker.run.ended", On::Both, Reach::Often),
    point("worker.run.found", On::Both, Reach::Rare),
    point("worker.run.taken-over", On::Both, Reach::Rare),
    point("worker.run.reported", On::Both, Reach::Often),
    point("worker.plan.begun", On::Both, Reach::Rare),
    point("worker.plan.written", On::Both, Reach::Rare),
    point("worker.plan.reported", On::Both, Reach::Rare),
    point("worker.check.ended", On::Both, Reach::Rare),
    point("worker.gate.expired", On::Both, Reach::Rare),
    point("worker.advance.moved", On::Both, Reach::Rare),
    point("worker.advance.reported", On::Both, Reach::Rare),
    point("worker.advance.begun", On::Both, Reach::Rare),
    point("worker.advance.pushed", On::Both, Reach::Rare),
    point("launch.spec.written", On::Both, Reach::Often),
    point("launch.supervisor.answered", On::Both, Reach::Often),
    point("supervisor.spec.read", On::Both, Reach::Rare),
    point("supervisor.spec.removed", On::Both, Reach::Rare),
    point("supervisor.socket.up", On::Both, Reach::Rare),
    point("supervisor.tree.started", On::Both, Reach::Rare),
    point("supervisor.ready.said", On::Both, Reach::Rare),
    point("supervisor.result.before", On::Both, Reach::Rare),
    point("supervisor.result.written", On::Both, Reach::Rare),
    point("supervisor.output.spooled", On::Both, Reach::Rare),
    point("supervisor.output.drained", On::Both, Reach::Rare),
    point("forge.checkout.emptied", On::Both, Reach::Rare),
    point("forge.checkout.filled", On::Both, Reach::Rare),
    point("forge.snapshot.tree-written", On::Both, Reach::Rare),
    point("forge.snapshot.committed", On::Both, Reach::Rare),
    point("forge.fetch.done", On::Both, Reach::Rare),
    point("forge.mirror.made", On::Both, Reach::Rare),
    point("forge.mirror.moved", On::Both, Reach::Rare),
    point("forge.attempt.kept", On::Both, Reach::Rare),
    point("forge.branch.moved", On::Both, Reach::Rare),
    point("forge.push.done", On::Both, Reach::Rare),
];
