-- The ledger, SQLite. The same tables and columns as ../postgres/0001_ledger.sql, in the same order.
--
-- Instants are microseconds since 1970, UTC; money is micro-USD; documents are JSON text. Rows of subjects share one
-- envelope. Tables that are only ever found by a short text key have no rowid: one b-tree less to write.
--
-- Which words a column may hold is said with OR: for an IN of more than two, SQLite makes a table of them for each row
-- that it checks, which cost more than to store the row. That documents are JSON is checked before they come here, and
-- by the check of the whole ledger.

CREATE TABLE meta (
    key   TEXT NOT NULL PRIMARY KEY,
    value TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- Numbers drawn for integer ids, by table name, and the fences given to claims, by the name `fences`.
CREATE TABLE counters (
    name  TEXT    NOT NULL PRIMARY KEY,
    value INTEGER NOT NULL CHECK (value >= 0)
) STRICT, WITHOUT ROWID;

INSERT INTO counters (name, value) VALUES ('fences', 0), ('projects', 0), ('protocols', 0), ('steps', 0);

CREATE TABLE projects (
    id         INTEGER NOT NULL PRIMARY KEY CHECK (id > 0),
    version    INTEGER NOT NULL CHECK (version > 0),
    status     TEXT    NOT NULL CHECK (status <> ''),
    parent     TEXT,
    ordinal    INTEGER NOT NULL,
    name       TEXT,
    body       TEXT    NOT NULL,
    commit_id  TEXT    NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL
) STRICT;
CREATE INDEX projects_by_ordinal ON projects (ordinal, id);
CREATE INDEX projects_by_name ON projects (name, ordinal, id) WHERE name IS NOT NULL;

CREATE TABLE protocols (
    id         INTEGER NOT NULL PRIMARY KEY CHECK (id > 0),
    version    INTEGER NOT NULL CHECK (version > 0),
    status     TEXT    NOT NULL CHECK (
        status = 'pending' OR status = 'planning' OR status = 'planned' OR status = 'running' OR status = 'paused'
        OR status = 'blocked' OR status = 'failed' OR status = 'cancelled' OR status = 'completed'),
    parent     TEXT,
    ordinal    INTEGER NOT NULL,
    name       TEXT,
    body       TEXT    NOT NULL,
    commit_id  TEXT    NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL
) STRICT;
CREATE INDEX protocols_by_parent ON protocols (parent, ordinal, id) WHERE parent IS NOT NULL;
CREATE INDEX protocols_by_ordinal ON protocols (ordinal, id);
CREATE INDEX protocols_by_name ON protocols (name, ordinal, id) WHERE name IS NOT NULL;

CREATE TABLE steps (
    id         INTEGER NOT NULL PRIMARY KEY CHECK (id > 0),
    version    INTEGER NOT NULL CHECK (version > 0),
    status     TEXT    NOT NULL CHECK (
        status = 'pending' OR status = 'running' OR status = 'needs_qa' OR status = 'completed' OR status = 'failed'
        OR status = 'blocked' OR status = 'skipped' OR status = 'timed_out' OR status = 'cancelled'),
    parent     TEXT,
    ordinal    INTEGER NOT NULL,
    name       TEXT,
    body       TEXT    NOT NULL,
    commit_id  TEXT    NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL
) STRICT;
CREATE INDEX steps_by_parent ON steps (parent, ordinal, id) WHERE parent IS NOT NULL;

CREATE TABLE runs (
    id         TEXT    NOT NULL PRIMARY KEY CHECK (id <> ''),
    version    INTEGER NOT NULL CHECK (version > 0),
    status     TEXT    NOT NULL CHECK (
        status = 'AwaitingApproval' OR status = 'Dispatching' OR status = 'Running' OR status = 'Succeeded'
        OR status = 'Failed' OR status = 'Denied' OR status = 'Expired' OR status = 'Blocked' OR status = 'TimedOut'
        OR status = 'Canceled'),
    parent     TEXT,
    ordinal    INTEGER NOT NULL,
    name       TEXT,
    body       TEXT    NOT NULL,
    commit_id  TEXT    NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL
) STRICT;
CREATE INDEX runs_by_parent ON runs (parent, ordinal, id) WHERE parent IS NOT NULL;
CREATE INDEX runs_by_ordinal ON runs (ordinal, id);

CREATE TABLE gates (
    id         TEXT    NOT NULL PRIMARY KEY CHECK (id <> ''),
    version    INTEGER NOT NULL CHECK (version > 0),
    status     TEXT    NOT NULL CHECK (
        status = 'open' OR status = 'approved' OR status = 'denied' OR status = 'expired' OR status = 'superseded'
        OR status = 'withdrawn'),
    parent     TEXT,
    ordinal    INTEGER NOT NULL,
    name       TEXT,
    body       TEXT    NOT NULL,
    commit_id  TEXT    NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL
) STRICT;
CREATE INDEX gates_by_parent ON gates (parent, ordinal, id) WHERE parent IS NOT NULL;
CREATE INDEX gates_by_ordinal ON gates (ordinal, id);

CREATE TABLE attempts (
    id         TEXT    NOT NULL PRIMARY KEY CHECK (id <> ''),
    version    INTEGER NOT NULL CHECK (version > 0),
    status     TEXT    NOT NULL CHECK (
        status = 'running' OR status = 'succeeded' OR status = 'failed' OR status = 'timed_out'
        OR status = 'canceled' OR status = 'interrupted' OR status = 'lost'),
    parent     TEXT,
    ordinal    INTEGER NOT NULL,
    name       TEXT,
    body       TEXT    NOT NULL,
    commit_id  TEXT    NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL
) STRICT;
CREATE INDEX attempts_by_parent ON attempts (parent, ordinal, id) WHERE parent IS NOT NULL;

CREATE TABLE people (
    id         TEXT    NOT NULL PRIMARY KEY CHECK (id <> ''),
    version    INTEGER NOT NULL CHECK (version > 0),
    status     TEXT    NOT NULL CHECK (status <> ''),
    parent     TEXT,
    ordinal    INTEGER NOT NULL,
    name       TEXT,
    body       TEXT    NOT NULL,
    commit_id  TEXT    NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL
) STRICT;
CREATE INDEX people_by_ordinal ON people (ordinal, id);
CREATE INDEX people_by_name ON people (name, ordinal, id) WHERE name IS NOT NULL;

CREATE TABLE identities (
    id         TEXT    NOT NULL PRIMARY KEY CHECK (id <> ''),
    version    INTEGER NOT NULL CHECK (version > 0),
    status     TEXT    NOT NULL CHECK (status <> ''),
    parent     TEXT,
    ordinal    INTEGER NOT NULL,
    name       TEXT,
    body       TEXT    NOT NULL,
    commit_id  TEXT    NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL
) STRICT;
CREATE INDEX identities_by_parent ON identities (parent, ordinal, id) WHERE parent IS NOT NULL;
CREATE INDEX identities_by_name ON identities (name, ordinal, id) WHERE name IS NOT NULL;

CREATE TABLE tokens (
    id         TEXT    NOT NULL PRIMARY KEY CHECK (id <> ''),
    version    INTEGER NOT NULL CHECK (version > 0),
    status     TEXT    NOT NULL CHECK (status <> ''),
    parent     TEXT,
    ordinal    INTEGER NOT NULL,
    name       TEXT,
    body       TEXT    NOT NULL,
    commit_id  TEXT    NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL
) STRICT;
CREATE INDEX tokens_by_ordinal ON tokens (ordinal, id);
CREATE UNIQUE INDEX tokens_by_name ON tokens (name) WHERE name IS NOT NULL;

CREATE TABLE messages (
    id         TEXT    NOT NULL PRIMARY KEY CHECK (id <> ''),
    version    INTEGER NOT NULL CHECK (version > 0),
    status     TEXT    NOT NULL CHECK (
        status = 'queued' OR status = 'sending' OR status = 'sent' OR status = 'unknown' OR status = 'failed'),
    parent     TEXT,
    ordinal    INTEGER NOT NULL,
    name       TEXT,
    body       TEXT    NOT NULL,
    commit_id  TEXT    NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL
) STRICT;
CREATE INDEX messages_by_parent ON messages (parent, ordinal, id) WHERE parent IS NOT NULL;

CREATE TABLE catalogs (
    id         TEXT    NOT NULL PRIMARY KEY CHECK (id <> ''),
    version    INTEGER NOT NULL CHECK (version > 0),
    status     TEXT    NOT NULL CHECK (status <> ''),
    parent     TEXT,
    ordinal    INTEGER NOT NULL,
    name       TEXT,
    body       TEXT    NOT NULL,
    commit_id  TEXT    NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL
) STRICT;
CREATE INDEX catalogs_by_ordinal ON catalogs (ordinal, id);
CREATE INDEX catalogs_by_name ON catalogs (name, ordinal, id) WHERE name IS NOT NULL;

-- The first event of each commit (place 0) keeps the commit, the command and the ids that were drawn for it.
CREATE TABLE events (
    id           INTEGER NOT NULL PRIMARY KEY,
    subject_kind TEXT    NOT NULL CHECK (
        subject_kind = 'run' OR subject_kind = 'message' OR subject_kind = 'protocol' OR subject_kind = 'project'
        OR subject_kind = 'person' OR subject_kind = 'token' OR subject_kind = 'catalog'),
    subject      TEXT    NOT NULL,
    version      INTEGER NOT NULL CHECK (version > 0),
    place        INTEGER NOT NULL CHECK (place >= 0),
    kind         TEXT    NOT NULL,
    schema       INTEGER NOT NULL,
    at           INTEGER NOT NULL,
    actor        TEXT    NOT NULL,
    project      INTEGER,
    step         INTEGER,
    data         TEXT    NOT NULL,
    cause        TEXT,
    CHECK ((place = 0) = (cause IS NOT NULL))
) STRICT;
CREATE UNIQUE INDEX events_by_subject ON events (subject_kind, subject, version, place);
CREATE INDEX events_by_project ON events (project, id) WHERE project IS NOT NULL;
CREATE INDEX events_by_step ON events (step, id) WHERE step IS NOT NULL;

CREATE TABLE tasks (
    id           TEXT    NOT NULL PRIMARY KEY CHECK (id <> ''),
    kind         TEXT    NOT NULL,
    lane         TEXT    NOT NULL CHECK (lane IN ('fast', 'engine')),
    subject_kind TEXT    NOT NULL CHECK (
        subject_kind = 'run' OR subject_kind = 'message' OR subject_kind = 'protocol' OR subject_kind = 'project'
        OR subject_kind = 'person' OR subject_kind = 'token' OR subject_kind = 'catalog'),
    subject      TEXT    NOT NULL,
    project      INTEGER,
    engine       TEXT,
    payload      TEXT    NOT NULL,
    priority     INTEGER NOT NULL,
    state        TEXT    NOT NULL CHECK (
        state = 'ready' OR state = 'leased' OR state = 'done' OR state = 'scheduled' OR state = 'withdrawn'
        OR state = 'dead'),
    due_at       INTEGER NOT NULL,
    fence        INTEGER,
    incarnation  TEXT,
    lease_until  INTEGER,
    stop         INTEGER NOT NULL DEFAULT 0 CHECK (stop IN (0, 1)),
    failures     INTEGER NOT NULL DEFAULT 0 CHECK (failures BETWEEN 0 AND 65535),
    max_failures INTEGER NOT NULL CHECK (max_failures BETWEEN 0 AND 65535),
    crashes      INTEGER NOT NULL DEFAULT 0 CHECK (crashes BETWEEN 0 AND 65535),
    error        TEXT,
    created_at   INTEGER NOT NULL,
    finished_at  INTEGER,
    CHECK ((state = 'leased') = (fence IS NOT NULL)),
    CHECK ((state = 'leased') = (incarnation IS NOT NULL)),
    CHECK ((state = 'leased') = (lease_until IS NOT NULL)),
    CHECK (stop = 0 OR finished_at IS NULL),
    CHECK ((state = 'done' OR state = 'dead' OR state = 'withdrawn') = (finished_at IS NOT NULL)),
    CHECK (state <> 'dead' OR error IS NOT NULL)
) STRICT, WITHOUT ROWID;
CREATE INDEX tasks_ready_fast ON tasks (priority, due_at, id) WHERE state = 'ready' AND lane = 'fast';
CREATE INDEX tasks_ready_engine ON tasks (project, engine, priority, due_at, id) WHERE state = 'ready' AND lane = 'engine';
CREATE INDEX tasks_scheduled ON tasks (due_at, id) WHERE state = 'scheduled';
CREATE INDEX tasks_leased ON tasks (lane, project, engine) WHERE state = 'leased';
-- By these are tasks taken back; those of messages never are.
CREATE INDEX tasks_waiting ON tasks (subject_kind, subject)
    WHERE finished_at IS NULL AND subject_kind <> 'message';
CREATE INDEX tasks_finished ON tasks (finished_at) WHERE finished_at IS NOT NULL;

-- When each project was last given an engine, as the fence of that claim; 0 stands for tasks of no project. Claims of
-- the engine lane choose by src/fairness.rs on both databases.
CREATE TABLE turns (
    project INTEGER NOT NULL PRIMARY KEY,
    fence   INTEGER NOT NULL
) STRICT;

-- With a rowid, so that rows lie in the order of their age and the oldest are found without an index of their own.
CREATE TABLE dedup (
    scope        TEXT    NOT NULL CHECK (octet_length(scope) <= 200),
    key          TEXT    NOT NULL CHECK (octet_length(key) <= 500),
    request_hash TEXT    NOT NULL,
    answer       TEXT    NOT NULL,
    commit_id    TEXT    NOT NULL,
    at           INTEGER NOT NULL,
    PRIMARY KEY (scope, key)
) STRICT;
CREATE INDEX dedup_http ON dedup (at) WHERE scope >= 'http:' AND scope < 'http;';

CREATE TABLE unique_keys (
    key    TEXT NOT NULL PRIMARY KEY,
    holder TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE holds (
    lock_name TEXT NOT NULL,
    holder    TEXT NOT NULL,
    PRIMARY KEY (lock_name, holder)
) STRICT, WITHOUT ROWID;

CREATE TABLE budgets (
    id           TEXT    NOT NULL PRIMARY KEY,
    limit_amount INTEGER,
    spent        INTEGER NOT NULL DEFAULT 0,
    reserved     INTEGER NOT NULL DEFAULT 0 CHECK (reserved >= 0)
) STRICT, WITHOUT ROWID;

CREATE TABLE reservations (
    budget TEXT    NOT NULL,
    holder TEXT    NOT NULL,
    amount INTEGER NOT NULL CHECK (amount >= 0),
    PRIMARY KEY (budget, holder)
) STRICT, WITHOUT ROWID;

-- Insert-only: what was spent, once for each session, ordinal and budget (one use is charged to several budgets).
CREATE TABLE charges (
    session TEXT    NOT NULL,
    ordinal INTEGER NOT NULL,
    budget  TEXT    NOT NULL,
    amount  INTEGER NOT NULL,
    at      INTEGER NOT NULL,
    PRIMARY KEY (session, ordinal, budget)
) STRICT, WITHOUT ROWID;
