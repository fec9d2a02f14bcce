-- An org that has no row may hold what it can get. `paused_at`: its waiting jobs rest since then.
CREATE TABLE org_limits (
    org_id      TEXT PRIMARY KEY,
    weight      INTEGER NOT NULL,
    max_running INTEGER,
    paused_at   INTEGER
) STRICT, WITHOUT ROWID;

CREATE TABLE paused_app_versions (
    org_id         TEXT NOT NULL,
    app_version_id TEXT NOT NULL,
    paused_at      INTEGER NOT NULL,
    PRIMARY KEY (org_id, app_version_id)
) STRICT, WITHOUT ROWID;

-- A concurrency group that has no row runs one job at a time.
CREATE TABLE concurrency_limits (
    org_id            TEXT NOT NULL,
    concurrency_group TEXT NOT NULL,
    most              INTEGER NOT NULL,
    PRIMARY KEY (org_id, concurrency_group)
) STRICT, WITHOUT ROWID;

ALTER TABLE jobs ADD COLUMN promoted_at INTEGER;

-- A resume moves the deadlines of the jobs that rested.
CREATE INDEX groups_by_app_version ON groups (org_id, app_version_id);
