-- Ids are 16 bytes, big-endian, and sort by the time they were made. Times are milliseconds since 1970, UTC.
-- Words (status, reason, …) are stored as the API spells them.

CREATE TABLE counters (
    name  TEXT PRIMARY KEY,
    value INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO counters (name, value) VALUES ('epoch', 0), ('probe', 0);

CREATE TABLE tokens (
    id         BLOB PRIMARY KEY,
    hash       BLOB NOT NULL UNIQUE,
    kind       TEXT NOT NULL,
    name       TEXT NOT NULL,
    org_id     TEXT,
    agent_id   BLOB,
    created_at INTEGER NOT NULL,
    expires_at INTEGER
) STRICT, WITHOUT ROWID;

CREATE TABLE agents (
    id         BLOB PRIMARY KEY,
    name       TEXT NOT NULL UNIQUE,
    serves     TEXT,
    version    TEXT NOT NULL,
    online     INTEGER NOT NULL,
    draining   INTEGER NOT NULL,
    seen_at    INTEGER NOT NULL,
    created_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE devices (
    id         BLOB PRIMARY KEY,
    agent_id   BLOB NOT NULL REFERENCES agents (id),
    serves     TEXT,
    serial     TEXT NOT NULL,
    name       TEXT NOT NULL,
    platform   TEXT NOT NULL,
    kind       TEXT NOT NULL,
    model      TEXT NOT NULL,
    os_version TEXT NOT NULL,
    tags       TEXT NOT NULL,
    note       TEXT,
    ledger     TEXT NOT NULL,
    online     INTEGER NOT NULL,
    drained    INTEGER NOT NULL,
    seen_at    INTEGER NOT NULL,
    UNIQUE (agent_id, serial)
) STRICT, WITHOUT ROWID;

CREATE TABLE blobs (
    org_id     TEXT NOT NULL,
    sha256     BLOB NOT NULL,
    size_bytes INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    PRIMARY KEY (org_id, sha256)
) STRICT, WITHOUT ROWID;

CREATE TABLE app_versions (
    org_id         TEXT NOT NULL,
    app_version_id TEXT NOT NULL,
    build          TEXT NOT NULL,
    created_at     INTEGER NOT NULL,
    PRIMARY KEY (org_id, app_version_id)
) STRICT, WITHOUT ROWID;

-- `key` is the group's key as JSON with its fields in a fixed order.
CREATE TABLE groups (
    id             INTEGER PRIMARY KEY AUTOINCREMENT,
    key            TEXT NOT NULL UNIQUE,
    org_id         TEXT NOT NULL,
    app_version_id TEXT NOT NULL
) STRICT;

-- A run's row is rewritten with every change of its jobs, so what never changes and may be wide stands apart.
CREATE TABLE runs (
    id              BLOB PRIMARY KEY,
    org_id          TEXT NOT NULL,
    app_version_id  TEXT NOT NULL,
    idempotency_key TEXT,
    retry_of        BLOB,
    status          TEXT NOT NULL,
    conclusion      TEXT,
    total           INTEGER NOT NULL,
    scheduled       INTEGER NOT NULL DEFAULT 0,
    queued          INTEGER NOT NULL DEFAULT 0,
    running         INTEGER NOT NULL DEFAULT 0,
    passed          INTEGER NOT NULL DEFAULT 0,
    failed          INTEGER NOT NULL DEFAULT 0,
    errored         INTEGER NOT NULL DEFAULT 0,
    timed_out       INTEGER NOT NULL DEFAULT 0,
    cancelled       INTEGER NOT NULL DEFAULT 0,
    skipped         INTEGER NOT NULL DEFAULT 0,
    flaky           INTEGER NOT NULL DEFAULT 0,
    installs_made    INTEGER NOT NULL DEFAULT 0,
    installs_avoided INTEGER NOT NULL DEFAULT 0,
    created_at      INTEGER NOT NULL,
    finished_at     INTEGER,
    version         INTEGER NOT NULL DEFAULT 1
) STRICT, WITHOUT ROWID;
CREATE INDEX runs_by_org ON runs (org_id, id);

-- `spec` is what the run's jobs are asked to do; the test in it is the first job's, each job has its own.
CREATE TABLE run_specs (
    run_id BLOB PRIMARY KEY REFERENCES runs (id),
    name   TEXT,
    labels TEXT NOT NULL,
    spec   TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- Kept for 7 days. Without a run: cancelled before its submission came.
CREATE TABLE idempotency_keys (
    org_id      TEXT NOT NULL,
    key         TEXT NOT NULL,
    fingerprint BLOB,
    run_id      BLOB,
    created_at  INTEGER NOT NULL,
    PRIMARY KEY (org_id, key)
) STRICT, WITHOUT ROWID;
CREATE INDEX idempotency_keys_by_age ON idempotency_keys (created_at);

-- `ordinal` is the order of submission. `avoid` is device ids, one after the other. `attempt_id` is the latest attempt.
CREATE TABLE jobs (
    ordinal        INTEGER PRIMARY KEY,
    id             BLOB NOT NULL UNIQUE,
    run_id         BLOB NOT NULL REFERENCES runs (id),
    org_id         TEXT NOT NULL,
    group_id       INTEGER NOT NULL REFERENCES groups (id),
    test           TEXT NOT NULL,
    priority       INTEGER NOT NULL,
    infra_retries  INTEGER NOT NULL,
    status         TEXT NOT NULL,
    conclusion     TEXT,
    reason         TEXT,
    detail         TEXT,
    phase          TEXT,
    attempts       INTEGER NOT NULL DEFAULT 0,
    infra_faults   INTEGER NOT NULL DEFAULT 0,
    avoid          BLOB,
    attempt_id     BLOB,
    device_id      BLOB,
    passed         INTEGER NOT NULL DEFAULT 0,
    failed         INTEGER NOT NULL DEFAULT 0,
    flaky          INTEGER NOT NULL DEFAULT 0,
    skipped        INTEGER NOT NULL DEFAULT 0,
    not_before     INTEGER,
    queued_at      INTEGER,
    queue_deadline INTEGER NOT NULL,
    created_at     INTEGER NOT NULL,
    started_at     INTEGER,
    finished_at    INTEGER,
    version        INTEGER NOT NULL DEFAULT 1,
    CHECK ((status = 'completed') = (conclusion IS NOT NULL))
) STRICT;
CREATE INDEX jobs_by_run ON jobs (run_id, ordinal);
CREATE INDEX jobs_by_org ON jobs (org_id, id);
CREATE INDEX jobs_queue ON jobs (group_id, priority DESC, queued_at, ordinal) WHERE status = 'queued';
CREATE INDEX jobs_running ON jobs (group_id) WHERE status = 'running';
CREATE INDEX jobs_due ON jobs (not_before) WHERE status = 'scheduled';
-- The deadline limits the wait for the first device: a job that has started has had one.
CREATE INDEX jobs_deadline ON jobs (queue_deadline) WHERE started_at IS NULL AND finished_at IS NULL;

-- `agent_finished`: the agent ended it, not the server. `concluded` is the job's conclusion after it.
CREATE TABLE attempts (
    id             BLOB PRIMARY KEY,
    job_id         BLOB NOT NULL REFERENCES jobs (id),
    run_id         BLOB NOT NULL,
    number         INTEGER NOT NULL,
    agent_id       BLOB NOT NULL,
    device_id      BLOB NOT NULL,
    device_name    TEXT NOT NULL,
    claim_id       TEXT NOT NULL,
    epoch          INTEGER NOT NULL UNIQUE,
    phase          TEXT NOT NULL,
    outcome        TEXT,
    reason         TEXT,
    detail         TEXT,
    concluded      TEXT,
    agent_finished INTEGER NOT NULL DEFAULT 0,
    passed         INTEGER NOT NULL DEFAULT 0,
    failed         INTEGER NOT NULL DEFAULT 0,
    flaky          INTEGER NOT NULL DEFAULT 0,
    skipped        INTEGER NOT NULL DEFAULT 0,
    install_action TEXT,
    install_ms     INTEGER,
    started_at     INTEGER NOT NULL,
    lease_until    INTEGER NOT NULL,
    timeout_at     INTEGER NOT NULL,
    ended_at       INTEGER,
    UNIQUE (job_id, number),
    CHECK ((ended_at IS NULL) = (outcome IS NULL))
) STRICT, WITHOUT ROWID;
-- These two make a second holder impossible, whatever the code does.
CREATE UNIQUE INDEX attempts_live_job ON attempts (job_id) WHERE ended_at IS NULL;
CREATE UNIQUE INDEX attempts_live_device ON attempts (device_id) WHERE ended_at IS NULL;
CREATE INDEX attempts_live_agent ON attempts (agent_id) WHERE ended_at IS NULL;
CREATE INDEX attempts_lease ON attempts (lease_until) WHERE ended_at IS NULL;
CREATE INDEX attempts_timeout ON attempts (timeout_at) WHERE ended_at IS NULL;

CREATE TABLE tries (
    attempt_id BLOB NOT NULL REFERENCES attempts (id),
    seq        INTEGER NOT NULL,
    body       TEXT NOT NULL,
    PRIMARY KEY (attempt_id, seq)
) STRICT, WITHOUT ROWID;

CREATE TABLE artifacts (
    id         BLOB PRIMARY KEY,
    org_id     TEXT NOT NULL,
    job_id     BLOB NOT NULL REFERENCES jobs (id),
    attempt_id BLOB NOT NULL REFERENCES attempts (id),
    name       TEXT NOT NULL,
    media_type TEXT NOT NULL,
    size_bytes INTEGER NOT NULL,
    sha256     BLOB NOT NULL,
    created_at INTEGER NOT NULL,
    UNIQUE (attempt_id, name)
) STRICT, WITHOUT ROWID;
CREATE INDEX artifacts_by_job ON artifacts (job_id, id);

-- AUTOINCREMENT: a number is never given twice, even when the newest events are deleted.
CREATE TABLE events (
    seq    INTEGER PRIMARY KEY AUTOINCREMENT,
    at     INTEGER NOT NULL,
    org_id TEXT,
    run_id BLOB,
    job_id BLOB,
    fact   TEXT NOT NULL
) STRICT;
CREATE INDEX events_by_run ON events (run_id, seq) WHERE run_id IS NOT NULL;
CREATE INDEX events_by_job ON events (job_id, seq) WHERE job_id IS NOT NULL;
