-- The ledger, PostgreSQL. The same tables and columns as ../sqlite/0001_ledger.sql, in the same order; where a sequence
-- does what a table of counters does there, it says so.
--
-- Instants are microseconds since 1970, UTC; money is micro-USD; documents are JSON text. Rows of subjects share one
-- envelope. Text compares by bytes (COLLATE "C"), so that orders are the same everywhere and indexes outlive the
-- system's libraries. Tables whose rows change in place keep room for it, so that a change touches no index.

-- What a column may hold, checked as columns' own constraints would be; a session reads the rule of a domain once, that
-- of a column with every statement, which small commits would feel.
CREATE DOMAIN word AS TEXT COLLATE "C" CHECK (VALUE <> '');
CREATE DOMAIN positive AS BIGINT CHECK (VALUE > 0);
CREATE DOMAIN small_count AS INTEGER CHECK (VALUE BETWEEN 0 AND 65535);
CREATE DOMAIN document AS TEXT CHECK (VALUE <> '');
CREATE DOMAIN subject_kind AS TEXT COLLATE "C"
    CHECK (VALUE IN ('project', 'protocol', 'run', 'person', 'token', 'message', 'catalog'));
CREATE DOMAIN task_lane AS TEXT COLLATE "C" CHECK (VALUE IN ('fast', 'engine'));
CREATE DOMAIN task_state AS TEXT COLLATE "C" CHECK (VALUE IN ('open', 'done', 'dead', 'withdrawn'));
CREATE DOMAIN protocol_status AS TEXT COLLATE "C"
    CHECK (VALUE IN ('pending', 'planning', 'planned', 'running', 'paused', 'blocked', 'failed', 'cancelled', 'completed'));
CREATE DOMAIN step_status AS TEXT COLLATE "C"
    CHECK (VALUE IN ('pending', 'running', 'needs_qa', 'completed', 'failed', 'blocked', 'skipped', 'timed_out', 'cancelled'));
CREATE DOMAIN run_status AS TEXT COLLATE "C"
    CHECK (VALUE IN ('AwaitingApproval', 'Dispatching', 'Running', 'Succeeded', 'Failed', 'Denied', 'Expired', 'Blocked', 'TimedOut', 'Canceled'));
CREATE DOMAIN gate_status AS TEXT COLLATE "C"
    CHECK (VALUE IN ('open', 'approved', 'denied', 'expired', 'superseded', 'withdrawn'));
CREATE DOMAIN attempt_status AS TEXT COLLATE "C"
    CHECK (VALUE IN ('running', 'succeeded', 'failed', 'timed_out', 'canceled', 'interrupted', 'lost'));
CREATE DOMAIN message_status AS TEXT COLLATE "C"
    CHECK (VALUE IN ('queued', 'sending', 'sent', 'unknown', 'failed'));

CREATE TABLE meta (
    key   TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    value TEXT COLLATE "C" NOT NULL
);

-- Numbers drawn for integer ids, and those of claims, which make their fences. One sequence each: drawn numbers may be lost, never
-- repeated, and nobody waits for another's commit.
CREATE SEQUENCE fences AS BIGINT;
CREATE SEQUENCE projects_numbers AS BIGINT;
CREATE SEQUENCE protocols_numbers AS BIGINT;
CREATE SEQUENCE steps_numbers AS BIGINT;

CREATE TABLE projects (
    id         positive NOT NULL PRIMARY KEY,
    version    positive NOT NULL,
    status     word NOT NULL,
    parent     TEXT COLLATE "C",
    ordinal    BIGINT NOT NULL,
    name       TEXT COLLATE "C",
    body       document NOT NULL,
    commit_id  TEXT COLLATE "C" NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
);
CREATE INDEX projects_by_ordinal ON projects (ordinal, id);
CREATE INDEX projects_by_name ON projects (name, ordinal, id) WHERE name IS NOT NULL;

CREATE TABLE protocols (
    id         positive NOT NULL PRIMARY KEY,
    version    positive NOT NULL,
    status     protocol_status NOT NULL,
    parent     TEXT COLLATE "C",
    ordinal    BIGINT NOT NULL,
    name       TEXT COLLATE "C",
    body       document NOT NULL,
    commit_id  TEXT COLLATE "C" NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
) WITH (fillfactor = 70);
CREATE INDEX protocols_by_parent ON protocols (parent, ordinal, id) WHERE parent IS NOT NULL;
CREATE INDEX protocols_by_ordinal ON protocols (ordinal, id);
CREATE INDEX protocols_by_name ON protocols (name, ordinal, id) WHERE name IS NOT NULL;

CREATE TABLE steps (
    id         positive NOT NULL PRIMARY KEY,
    version    positive NOT NULL,
    status     step_status NOT NULL,
    parent     TEXT COLLATE "C",
    ordinal    BIGINT NOT NULL,
    name       TEXT COLLATE "C",
    body       document NOT NULL,
    commit_id  TEXT COLLATE "C" NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
) WITH (fillfactor = 70);
CREATE INDEX steps_by_parent ON steps (parent, ordinal, id) WHERE parent IS NOT NULL;

CREATE TABLE runs (
    id         word NOT NULL PRIMARY KEY,
    version    positive NOT NULL,
    status     run_status NOT NULL,
    parent     TEXT COLLATE "C",
    ordinal    BIGINT NOT NULL,
    name       TEXT COLLATE "C",
    body       document NOT NULL,
    commit_id  TEXT COLLATE "C" NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
) WITH (fillfactor = 70);
CREATE INDEX runs_by_parent ON runs (parent, ordinal, id) WHERE parent IS NOT NULL;
CREATE INDEX runs_by_ordinal ON runs (ordinal, id);

CREATE TABLE gates (
    id         word NOT NULL PRIMARY KEY,
    version    positive NOT NULL,
    status     gate_status NOT NULL,
    parent     TEXT COLLATE "C",
    ordinal    BIGINT NOT NULL,
    name       TEXT COLLATE "C",
    body       document NOT NULL,
    commit_id  TEXT COLLATE "C" NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
) WITH (fillfactor = 70);
CREATE INDEX gates_by_parent ON gates (parent, ordinal, id) WHERE parent IS NOT NULL;
CREATE INDEX gates_by_ordinal ON gates (ordinal, id);

CREATE TABLE attempts (
    id         word NOT NULL PRIMARY KEY,
    version    positive NOT NULL,
    status     attempt_status NOT NULL,
    parent     TEXT COLLATE "C",
    ordinal    BIGINT NOT NULL,
    name       TEXT COLLATE "C",
    body       document NOT NULL,
    commit_id  TEXT COLLATE "C" NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
) WITH (fillfactor = 70);
CREATE INDEX attempts_by_parent ON attempts (parent, ordinal, id) WHERE parent IS NOT NULL;

CREATE TABLE people (
    id         word NOT NULL PRIMARY KEY,
    version    positive NOT NULL,
    status     word NOT NULL,
    parent     TEXT COLLATE "C",
    ordinal    BIGINT NOT NULL,
    name       TEXT COLLATE "C",
    body       document NOT NULL,
    commit_id  TEXT COLLATE "C" NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
);
CREATE INDEX people_by_ordinal ON people (ordinal, id);
CREATE INDEX people_by_name ON people (name, ordinal, id) WHERE name IS NOT NULL;

CREATE TABLE identities (
    id         word NOT NULL PRIMARY KEY,
    version    positive NOT NULL,
    status     word NOT NULL,
    parent     TEXT COLLATE "C",
    ordinal    BIGINT NOT NULL,
    name       TEXT COLLATE "C",
    body       document NOT NULL,
    commit_id  TEXT COLLATE "C" NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
);
CREATE INDEX identities_by_parent ON identities (parent, ordinal, id) WHERE parent IS NOT NULL;
CREATE INDEX identities_by_name ON identities (name, ordinal, id) WHERE name IS NOT NULL;

CREATE TABLE tokens (
    id         word NOT NULL PRIMARY KEY,
    version    positive NOT NULL,
    status     word NOT NULL,
    parent     TEXT COLLATE "C",
    ordinal    BIGINT NOT NULL,
    name       TEXT COLLATE "C",
    body       document NOT NULL,
    commit_id  TEXT COLLATE "C" NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
);
CREATE INDEX tokens_by_ordinal ON tokens (ordinal, id);
CREATE UNIQUE INDEX tokens_by_name ON tokens (name) WHERE name IS NOT NULL;

CREATE TABLE messages (
    id         word NOT NULL PRIMARY KEY,
    version    positive NOT NULL,
    status     message_status NOT NULL,
    parent     TEXT COLLATE "C",
    ordinal    BIGINT NOT NULL,
    name       TEXT COLLATE "C",
    body       document NOT NULL,
    commit_id  TEXT COLLATE "C" NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
) WITH (fillfactor = 90);
CREATE INDEX messages_by_parent ON messages (parent, ordinal) WHERE parent IS NOT NULL;

CREATE TABLE catalogs (
    id         word NOT NULL PRIMARY KEY,
    version    positive NOT NULL,
    status     word NOT NULL,
    parent     TEXT COLLATE "C",
    ordinal    BIGINT NOT NULL,
    name       TEXT COLLATE "C",
    body       document NOT NULL,
    commit_id  TEXT COLLATE "C" NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
);
CREATE INDEX catalogs_by_ordinal ON catalogs (ordinal, id);
CREATE INDEX catalogs_by_name ON catalogs (name, ordinal, id) WHERE name IS NOT NULL;

-- Events, as few rows as they allow: neighbours of one commit with the same project and step lie in one row, as a JSON
-- array of kind, schema and data in `told`, `facts` of them (src/postgres/told.rs). The row with a commit's first event (place 0) keeps the
-- commit, the command and the ids that were drawn for it.
-- Ids are drawn before the commit, so a reader by id could miss one that commits late. Readers page by (txid, id) below
-- the oldest transaction still running: nothing can appear behind them. An event's id is its row's id plus its place in
-- the row, so ids are drawn as many apart as a row holds events.
CREATE TABLE event_batches (
    id           BIGINT NOT NULL GENERATED ALWAYS AS IDENTITY (INCREMENT BY 32 CACHE 64),
    subject_kind subject_kind NOT NULL,
    subject      TEXT COLLATE "C" NOT NULL,
    version      positive NOT NULL,
    place        SMALLINT NOT NULL,
    at           BIGINT NOT NULL,
    actor        TEXT COLLATE "C" NOT NULL,
    project      BIGINT,
    step         BIGINT,
    facts        SMALLINT NOT NULL,
    told         TEXT NOT NULL,
    cause        TEXT,
    txid         XID8 NOT NULL DEFAULT pg_current_xact_id(),
    PRIMARY KEY (txid, id),
    CHECK (place >= 0 AND (place = 0) = (cause IS NOT NULL))
);
CREATE UNIQUE INDEX event_batches_by_subject ON event_batches (subject, version, place, subject_kind);
CREATE INDEX event_batches_by_project ON event_batches (project, txid, id) WHERE project IS NOT NULL;
CREATE INDEX event_batches_by_step ON event_batches (step, txid, id) WHERE step IS NOT NULL;

-- One row an event, with the columns of the other database's table.
CREATE VIEW events AS
    SELECT b.id + x.n - 1 AS id, b.subject_kind, b.subject, b.version, (b.place + x.n - 1)::smallint AS place,
           x.fact->>'kind' AS kind, (x.fact->>'schema')::smallint AS schema, b.at, b.actor, b.project, b.step,
           (x.fact->'data')::text AS data, CASE WHEN x.n = 1 THEN b.cause END AS cause, b.txid
    FROM event_batches b CROSS JOIN LATERAL json_array_elements(b.told::json) WITH ORDINALITY AS x (fact, n);

-- What is asked for, one row a task, which is changed when a lease ends and hardly ever else: what waits lies in
-- `tasks_ready` or `tasks_scheduled`, and what is leased is named by a claim. No index has a column that changes, and
-- pages are half empty, so that a change stays in its page and touches none. Vacuum by count, not by share.
CREATE TABLE task_rows (
    id           word NOT NULL PRIMARY KEY,
    kind         TEXT COLLATE "C" NOT NULL,
    lane         task_lane NOT NULL,
    subject_kind subject_kind NOT NULL,
    subject      TEXT COLLATE "C" NOT NULL,
    project      BIGINT,
    engine       TEXT COLLATE "C",
    payload      TEXT NOT NULL,
    priority     SMALLINT NOT NULL,
    state        task_state NOT NULL DEFAULT 'open',
    due_at       BIGINT NOT NULL,
    -- The last fence under which a lease of this task has ended: only a lease under a higher one still counts.
    past_fence   BIGINT NOT NULL DEFAULT 0,
    stop         BOOLEAN NOT NULL DEFAULT false,
    failures     small_count NOT NULL DEFAULT 0,
    max_failures small_count NOT NULL,
    crashes      small_count NOT NULL DEFAULT 0,
    error        TEXT,
    created_at   BIGINT NOT NULL,
    finished_at  BIGINT,
    CHECK ((state = 'open') = (finished_at IS NULL) AND NOT (stop AND finished_at IS NOT NULL)
           AND (state <> 'dead' OR error IS NOT NULL))
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000,
        autovacuum_analyze_scale_factor = 0, autovacuum_analyze_threshold = 20000);
-- By these are tasks taken back; those of messages never are.
CREATE INDEX task_rows_by_subject ON task_rows (subject) WHERE subject_kind <> 'message';

-- The queue: one row for each task that waits, added and deleted and never changed. A task is claimed by whoever deletes
-- its row here, in the order of the key.
CREATE TABLE tasks_ready (
    lane     task_lane NOT NULL,
    priority SMALLINT NOT NULL,
    due_at   BIGINT NOT NULL,
    id       word NOT NULL,
    project  BIGINT,
    engine   TEXT COLLATE "C",
    PRIMARY KEY (lane, priority, due_at, id)
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000,
        autovacuum_analyze_scale_factor = 0, autovacuum_analyze_threshold = 20000);
CREATE TABLE tasks_scheduled (
    due_at BIGINT NOT NULL,
    id     word NOT NULL,
    PRIMARY KEY (due_at, id)
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000,
        autovacuum_analyze_scale_factor = 0, autovacuum_analyze_threshold = 20000);

-- Who holds what, one row a claim, whose lease all of its tasks share. A task's fence is the claim's number and its place
-- in the claim. A row goes with the last of its tasks: how many leases have ended is added to `claim_ends`, so that those
-- who end them never wait for each other, and summed up by the reaper.
CREATE TABLE claims (
    number      positive NOT NULL PRIMARY KEY,
    lane        task_lane NOT NULL,
    incarnation TEXT COLLATE "C" NOT NULL,
    lease_until BIGINT NOT NULL,
    tasks       TEXT[] COLLATE "C" NOT NULL,
    size        INTEGER NOT NULL CHECK (size BETWEEN 1 AND 512)
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000,
        autovacuum_analyze_scale_factor = 0, autovacuum_analyze_threshold = 5000);
CREATE TABLE claim_ends (
    number positive NOT NULL,
    ended  INTEGER NOT NULL CHECK (ended > 0)
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000,
        autovacuum_analyze_scale_factor = 0, autovacuum_analyze_threshold = 5000);

CREATE FUNCTION fence_of(number BIGINT, place BIGINT) RETURNS BIGINT IMMUTABLE LANGUAGE sql
    AS 'SELECT (number << 9) + place - 1';
CREATE FUNCTION claim_of(fence BIGINT) RETURNS BIGINT IMMUTABLE LANGUAGE sql AS 'SELECT fence >> 9';
CREATE FUNCTION place_of(fence BIGINT) RETURNS INTEGER IMMUTABLE LANGUAGE sql AS 'SELECT (fence & 511)::integer + 1';

-- Fails a statement that saw a task as it was before somebody else changed it, so that it is tried again.
CREATE FUNCTION overtaken() RETURNS BOOLEAN VOLATILE LANGUAGE plpgsql
    AS $$ BEGIN RAISE 'somebody else has changed this task' USING ERRCODE = 'serialization_failure'; END $$;

-- Tasks with the columns of the other database's table. Claims are searched for a task that is leased, and for no other.
CREATE VIEW tasks AS
    SELECT t.id, t.kind, t.lane, t.subject_kind, t.subject, t.project, t.engine, t.payload, t.priority,
           CASE WHEN t.state <> 'open' THEN t.state ELSE coalesce(waits.state, 'leased') END AS state, t.due_at,
           held.fence, held.incarnation, held.lease_until, t.stop, t.failures, t.max_failures, t.crashes, t.error,
           t.created_at, t.finished_at
    FROM task_rows t
    LEFT JOIN LATERAL (
        SELECT 'ready' AS state FROM tasks_ready r
        WHERE t.state = 'open' AND r.lane = t.lane AND r.priority = t.priority AND r.due_at = t.due_at AND r.id = t.id
        UNION ALL
        SELECT 'scheduled' FROM tasks_scheduled s WHERE t.state = 'open' AND s.due_at = t.due_at AND s.id = t.id
        LIMIT 1
    ) waits ON true
    LEFT JOIN LATERAL (
        SELECT fence_of(c.number, array_position(c.tasks, t.id)) AS fence, c.incarnation, c.lease_until FROM claims c
        WHERE t.state = 'open' AND waits.state IS NULL AND t.id = ANY(c.tasks)
          AND fence_of(c.number, array_position(c.tasks, t.id)) > t.past_fence
        ORDER BY c.number DESC LIMIT 1
    ) held ON true;

-- When each project was last given an engine, as the fence of that claim; 0 stands for tasks of no project. Claims of
-- the engine lane choose by src/fairness.rs on both databases.
CREATE TABLE turns (
    project BIGINT NOT NULL PRIMARY KEY,
    fence   BIGINT NOT NULL
);

-- Keys are many and scopes few, so the key comes first: commits look many keys up at once, by the key alone. Rows lie in
-- the order of their age, so a block-range index finds the oldest and costs writers nothing.
CREATE TABLE dedup (
    scope        TEXT COLLATE "C" NOT NULL CHECK (octet_length(scope) <= 200),
    key          TEXT COLLATE "C" NOT NULL CHECK (octet_length(key) <= 500),
    request_hash TEXT COLLATE "C" NOT NULL,
    answer       TEXT NOT NULL,
    commit_id    TEXT COLLATE "C" NOT NULL,
    at           BIGINT NOT NULL,
    PRIMARY KEY (key, scope)
);
CREATE INDEX dedup_by_age ON dedup USING brin (at);
CREATE INDEX dedup_http ON dedup (at) WHERE scope >= 'http:' AND scope < 'http;';

CREATE TABLE unique_keys (
    key    TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    holder TEXT COLLATE "C" NOT NULL
);

-- `lock` and `amount` are words of SQL; the columns are named so that no dialect needs quotes.
CREATE TABLE holds (
    lock_name TEXT COLLATE "C" NOT NULL,
    holder    TEXT COLLATE "C" NOT NULL,
    PRIMARY KEY (lock_name, holder)
);

CREATE TABLE budgets (
    id           TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    limit_amount BIGINT,
    spent        BIGINT NOT NULL DEFAULT 0,
    reserved     BIGINT NOT NULL DEFAULT 0 CHECK (reserved >= 0)
) WITH (fillfactor = 50);

CREATE TABLE reservations (
    budget TEXT COLLATE "C" NOT NULL,
    holder TEXT COLLATE "C" NOT NULL,
    amount BIGINT NOT NULL CHECK (amount >= 0),
    PRIMARY KEY (budget, holder)
);

-- Insert-only: what was spent, once for each session, ordinal and budget (one use is charged to several budgets).
CREATE TABLE charges (
    session TEXT COLLATE "C" NOT NULL,
    ordinal BIGINT NOT NULL,
    budget  TEXT COLLATE "C" NOT NULL,
    amount  BIGINT NOT NULL,
    at      BIGINT NOT NULL,
    PRIMARY KEY (session, ordinal, budget)
);

-- What commits are sent as: one array of records for each kind of row. `ord` is the commit's place in its batch. Fields
-- are written in this order by src/postgres/statement.rs; a type that is in use is never changed, only followed by
-- another.
CREATE TYPE commit_in AS (
    ord INTEGER, commit_id TEXT COLLATE "C", subject_kind TEXT COLLATE "C", subject TEXT COLLATE "C", believed BIGINT,
    actor TEXT COLLATE "C", now BIGINT, task TEXT COLLATE "C", fence BIGINT, scope TEXT COLLATE "C",
    key TEXT COLLATE "C", request_hash TEXT COLLATE "C", answer TEXT COLLATE "C"
);
CREATE TYPE row_in AS (
    ord INTEGER, id TEXT COLLATE "C", status TEXT COLLATE "C", parent TEXT COLLATE "C", ordinal BIGINT,
    name TEXT COLLATE "C", body TEXT COLLATE "C"
);
CREATE TYPE expect_in AS (ord INTEGER, id TEXT COLLATE "C", version BIGINT);
CREATE TYPE event_in AS (
    ord INTEGER, place SMALLINT, project BIGINT, step BIGINT, facts SMALLINT, told TEXT COLLATE "C",
    cause TEXT COLLATE "C"
);
CREATE TYPE task_in AS (
    ord INTEGER, id TEXT COLLATE "C", kind TEXT COLLATE "C", lane TEXT COLLATE "C", subject_kind TEXT COLLATE "C",
    subject TEXT COLLATE "C", project BIGINT, engine TEXT COLLATE "C", payload TEXT COLLATE "C", priority SMALLINT,
    state TEXT COLLATE "C", due_at BIGINT, max_failures INTEGER
);
CREATE TYPE withdraw_in AS (
    ord INTEGER, subject_kind TEXT COLLATE "C", subject TEXT COLLATE "C", kind TEXT COLLATE "C"
);
CREATE TYPE ack_in AS (
    ord INTEGER, id TEXT COLLATE "C", fence BIGINT, state TEXT COLLATE "C", due_at BIGINT, finished_at BIGINT,
    failed INTEGER, error TEXT COLLATE "C"
);
