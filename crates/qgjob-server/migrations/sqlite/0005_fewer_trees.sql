-- Each row of each table and index is a place in a tree that a transaction writes. These go, because what they answered
-- can be told from what stays.

-- Events that follow each other about one run share a row: `seq` is the first one's, `job_ids` has 16 bytes for each
-- (zeros: it is about no job), `facts` is a JSON array.
CREATE TABLE events_5 (
    seq     INTEGER PRIMARY KEY,
    at      INTEGER NOT NULL,
    org_id  TEXT,
    run_id  BLOB,
    job_ids BLOB NOT NULL,
    facts   TEXT NOT NULL
) STRICT;
INSERT INTO events_5 SELECT seq, at, org_id, run_id, coalesce(job_id, zeroblob(16)), '[' || fact || ']'
    FROM events ORDER BY seq;
DROP TABLE events;
ALTER TABLE events_5 RENAME TO events;
CREATE INDEX events_by_run ON events (run_id, seq) WHERE run_id IS NOT NULL;

-- The jobs of a run were made together: their ordinals are `first_job` and those that follow it.
ALTER TABLE runs ADD COLUMN first_job INTEGER NOT NULL DEFAULT 0;
UPDATE runs SET first_job = coalesce((SELECT min(ordinal) FROM jobs WHERE run_id = runs.id), 0);
DROP INDEX jobs_by_run;
-- An org's jobs are those of its runs.
DROP INDEX jobs_by_org;

-- A claim names its job.
DROP INDEX jobs_queue;

-- What is not over, for the deadline and for all that looks through it.
CREATE INDEX jobs_live ON jobs (queue_deadline) WHERE finished_at IS NULL;
DROP INDEX jobs_deadline;
DROP INDEX jobs_running;

-- No more attempts live than there are devices.
DROP INDEX attempts_lease;
DROP INDEX attempts_timeout;
