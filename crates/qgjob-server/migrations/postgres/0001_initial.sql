-- Ids are uuids by their 128 bits and sort by the time they were made. Times are milliseconds since 1970, UTC. Words
-- (status, reason, …) are stored as the API spells them, JSON as text, so that it reads back as it was written.
-- No table names another as its parent: looking that up for each row would find bugs of this program only.

-- `event`: the newest event's number. Whoever appends events takes their numbers here as the last thing before the
-- commit and holds the row until then, so that events become visible in the order of their numbers. `before` is the
-- number before the newest transaction's first. Much room on the page, because the row is rewritten all the time.
CREATE TABLE counters (
    name   text PRIMARY KEY,
    value  bigint NOT NULL,
    before bigint NOT NULL DEFAULT 0
) WITH (fillfactor = 10);
INSERT INTO counters (name, value) VALUES ('event', 0), ('probe', 0);

-- `ci`: what a token of kind `ci` allows and to whom it was given, as JSON; `policy_id`: what let that one in.
CREATE TABLE tokens (
    id         uuid PRIMARY KEY,
    hash       bytea NOT NULL UNIQUE,
    kind       text NOT NULL,
    name       text NOT NULL,
    org_id     text,
    agent_id   uuid,
    created_at bigint NOT NULL,
    expires_at bigint,
    policy_id  uuid,
    ci         text
);
CREATE INDEX tokens_of_agent ON tokens (agent_id) WHERE agent_id IS NOT NULL;
CREATE INDEX tokens_of_ci ON tokens (expires_at) WHERE ci IS NOT NULL;

-- Which pipelines an org lets in with an id-token. `policy` is the whole as JSON.
CREATE TABLE oidc_policies (
    id     uuid PRIMARY KEY,
    org_id text NOT NULL,
    policy text NOT NULL
);

-- Kept until the id-token is over, so that nobody uses it a second time.
CREATE TABLE used_id_tokens (
    issuer     text NOT NULL,
    jti        text NOT NULL,
    keep_until bigint NOT NULL,
    PRIMARY KEY (issuer, jti)
);
CREATE INDEX used_id_tokens_by_age ON used_id_tokens (keep_until);

CREATE TABLE agents (
    id         uuid PRIMARY KEY,
    name       text NOT NULL UNIQUE,
    serves     text,
    version    text NOT NULL,
    online     boolean NOT NULL,
    draining   boolean NOT NULL,
    seen_at    bigint NOT NULL,
    created_at bigint NOT NULL
) WITH (fillfactor = 50);

-- `quarantine`: the latest one, as JSON.
CREATE TABLE devices (
    id         uuid PRIMARY KEY,
    agent_id   uuid NOT NULL,
    serves     text,
    serial     text NOT NULL,
    name       text NOT NULL,
    platform   text NOT NULL,
    kind       text NOT NULL,
    model      text NOT NULL,
    os_version text NOT NULL,
    tags       text NOT NULL,
    note       text,
    ledger     text NOT NULL,
    online     boolean NOT NULL,
    drained    boolean NOT NULL,
    quarantine text,
    seen_at    bigint NOT NULL,
    UNIQUE (agent_id, serial)
) WITH (fillfactor = 50);

CREATE TABLE blobs (
    org_id     text NOT NULL,
    sha256     bytea NOT NULL,
    size_bytes bigint NOT NULL,
    created_at bigint NOT NULL,
    PRIMARY KEY (org_id, sha256)
);

-- `app_id` is the build's, too.
CREATE TABLE app_versions (
    org_id         text NOT NULL,
    app_version_id text NOT NULL,
    build          text NOT NULL,
    app_id         text NOT NULL,
    created_at     bigint NOT NULL,
    PRIMARY KEY (org_id, app_version_id)
);

-- `key` is the group's key as JSON with its fields in a fixed order. Groups stay.
CREATE TABLE groups (
    id             bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    key            text NOT NULL UNIQUE,
    org_id         text NOT NULL,
    app_version_id text NOT NULL
);
CREATE INDEX groups_by_app_version ON groups (org_id, app_version_id);

-- `tests_…`: the tests of the full set, by outcome. `rerun_of`: the run whose failures it repeats; `carried`: the tests that it
-- does not repeat, as JSON. `token_id`: the token of the pipeline that submitted it.
-- A run's row is rewritten with every change of its jobs, so what never changes and may be wide stands apart.
CREATE TABLE runs (
    id               uuid PRIMARY KEY,
    org_id           text NOT NULL,
    app_version_id   text NOT NULL,
    idempotency_key  text,
    retry_of         uuid,
    status           text NOT NULL,
    conclusion       text,
    total            bigint NOT NULL,
    scheduled        bigint NOT NULL,
    queued           bigint NOT NULL,
    running          bigint NOT NULL,
    passed           bigint NOT NULL,
    failed           bigint NOT NULL,
    errored          bigint NOT NULL,
    timed_out        bigint NOT NULL,
    cancelled        bigint NOT NULL,
    skipped          bigint NOT NULL,
    flaky            bigint NOT NULL,
    installs_made    bigint NOT NULL,
    installs_avoided bigint NOT NULL,
    tests_passed     bigint NOT NULL,
    tests_failed     bigint NOT NULL,
    tests_flaky      bigint NOT NULL,
    tests_skipped    bigint NOT NULL,
    rerun_of         uuid,
    carried          text,
    token_id         uuid,
    created_at       bigint NOT NULL,
    finished_at      bigint,
    version          bigint NOT NULL
) WITH (fillfactor = 50);
CREATE INDEX runs_by_org ON runs (org_id, id);
CREATE INDEX runs_of_token ON runs (token_id) WHERE token_id IS NOT NULL;

-- `spec` is what the run's jobs are asked to do; the test in it is the first job's, each job has its own. `ci`: which run of a
-- pipeline submitted the run, as JSON.
CREATE TABLE run_specs (
    run_id uuid PRIMARY KEY,
    name   text,
    labels text NOT NULL,
    spec   text NOT NULL,
    ci     text
);

-- Kept for 7 days. Without a run: cancelled before its submission came.
CREATE TABLE idempotency_keys (
    org_id      text NOT NULL,
    key         text NOT NULL,
    fingerprint bytea,
    run_id      uuid,
    created_at  bigint NOT NULL,
    PRIMARY KEY (org_id, key)
);
CREATE INDEX idempotency_keys_by_age ON idempotency_keys (created_at);

-- `ordinal` is the order of submission. `avoid` is device ids, one after the other. `attempt_id` is the latest attempt.
-- `shard`: which of its file's tests the job runs, as JSON; none for all of them. `rerun`: what a job of a rerun repeats, and what
-- the tests of the job before have come to, as JSON; `is_part`: it repeats some of the tests alone.
CREATE TABLE jobs (
    ordinal        bigint GENERATED ALWAYS AS IDENTITY,
    id             uuid PRIMARY KEY,
    run_id         uuid NOT NULL,
    org_id         text NOT NULL,
    group_id       bigint NOT NULL,
    test           text NOT NULL,
    shard          text,
    rerun          text,
    is_part        boolean NOT NULL,
    priority       bigint NOT NULL,
    infra_retries  bigint NOT NULL,
    predicted_ms   bigint NOT NULL,
    status         text NOT NULL,
    conclusion     text,
    reason         text,
    detail         text,
    phase          text,
    attempts       bigint NOT NULL,
    infra_faults   bigint NOT NULL,
    avoid          bytea,
    attempt_id     uuid,
    device_id      uuid,
    passed         bigint NOT NULL,
    failed         bigint NOT NULL,
    flaky          bigint NOT NULL,
    skipped        bigint NOT NULL,
    not_before     bigint,
    promoted_at    bigint,
    queued_at      bigint,
    queue_deadline bigint NOT NULL,
    created_at     bigint NOT NULL,
    started_at     bigint,
    finished_at    bigint,
    version        bigint NOT NULL,
    CHECK ((status = 'completed') = (conclusion IS NOT NULL))
) WITH (fillfactor = 80);
CREATE INDEX jobs_by_run ON jobs (run_id, ordinal);
CREATE INDEX jobs_due ON jobs (not_before) WHERE status = 'scheduled';
-- What is not over, for the deadline and for all that looks through it.
CREATE INDEX jobs_live ON jobs (queue_deadline) WHERE finished_at IS NULL;

-- `agent_finished`: the agent ended it, not the server. `concluded` is the job's conclusion after it. `choice`: why
-- placement gave it its device, as JSON. `org_id` and `concurrency_group` are the job's: limits count by them.
CREATE TABLE attempts (
    id                uuid PRIMARY KEY,
    job_id            uuid NOT NULL,
    run_id            uuid NOT NULL,
    org_id            text NOT NULL,
    concurrency_group text,
    number            bigint NOT NULL,
    agent_id          uuid NOT NULL,
    device_id         uuid NOT NULL,
    device_name       text NOT NULL,
    claim_id          text NOT NULL,
    epoch             bigint NOT NULL UNIQUE,
    choice            text,
    phase             text NOT NULL,
    outcome           text,
    reason            text,
    detail            text,
    concluded         text,
    agent_finished    boolean NOT NULL,
    passed            bigint NOT NULL,
    failed            bigint NOT NULL,
    flaky             bigint NOT NULL,
    skipped           bigint NOT NULL,
    install_action    text,
    install_ms        bigint,
    started_at        bigint NOT NULL,
    lease_until       bigint NOT NULL,
    timeout_at        bigint NOT NULL,
    ended_at          bigint,
    UNIQUE (job_id, number),
    CHECK ((ended_at IS NULL) = (outcome IS NULL))
) WITH (fillfactor = 80);
-- These two make a second holder impossible, whatever the code does.
CREATE UNIQUE INDEX attempts_live_job ON attempts (job_id) WHERE ended_at IS NULL;
CREATE UNIQUE INDEX attempts_live_device ON attempts (device_id) WHERE ended_at IS NULL;

CREATE TABLE tries (
    attempt_id uuid NOT NULL,
    seq        bigint NOT NULL,
    body       text NOT NULL,
    PRIMARY KEY (attempt_id, seq)
);

CREATE TABLE artifacts (
    id         uuid PRIMARY KEY,
    org_id     text NOT NULL,
    job_id     uuid NOT NULL,
    attempt_id uuid NOT NULL,
    name       text NOT NULL,
    media_type text NOT NULL,
    size_bytes bigint NOT NULL,
    sha256     bytea NOT NULL,
    created_at bigint NOT NULL,
    UNIQUE (attempt_id, name)
);
CREATE INDEX artifacts_by_job ON artifacts (job_id, id);

CREATE TABLE events (
    seq    bigint PRIMARY KEY,
    at     bigint NOT NULL,
    org_id text,
    run_id uuid,
    job_id uuid,
    fact   text NOT NULL
);
-- A job's events are found among its run's: an index of their own would cost each event a row more.
CREATE INDEX events_by_run ON events (run_id, seq) WHERE run_id IS NOT NULL;
-- What the retention looks for among the events that are of no run.
CREATE INDEX events_of_no_run ON events (at) WHERE run_id IS NULL;

-- An org that has no row may hold what it can get. `paused_at`: its waiting jobs rest since then.
CREATE TABLE org_limits (
    org_id      text PRIMARY KEY,
    weight      bigint NOT NULL,
    max_running bigint,
    paused_at   bigint
);

CREATE TABLE paused_app_versions (
    org_id         text NOT NULL,
    app_version_id text NOT NULL,
    paused_at      bigint NOT NULL,
    PRIMARY KEY (org_id, app_version_id)
);

-- A concurrency group that has no row runs one job at a time.
CREATE TABLE concurrency_limits (
    org_id            text NOT NULL,
    concurrency_group text NOT NULL,
    most              bigint NOT NULL,
    PRIMARY KEY (org_id, concurrency_group)
);
