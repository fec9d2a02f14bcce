-- Numbers of events are given by the writer, which keeps the newest in `counters`: a number is never given twice, even
-- when the newest events are deleted. AUTOINCREMENT did the same with one more row written for each event.
INSERT INTO counters (name, value)
    SELECT 'event', coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'events'), 0);
CREATE TABLE events_2 (
    seq    INTEGER PRIMARY KEY,
    at     INTEGER NOT NULL,
    org_id TEXT,
    run_id BLOB,
    job_id BLOB,
    fact   TEXT NOT NULL
) STRICT;
INSERT INTO events_2 SELECT seq, at, org_id, run_id, job_id, fact FROM events ORDER BY seq;
DROP TABLE events;
ALTER TABLE events_2 RENAME TO events;
CREATE INDEX events_by_run ON events (run_id, seq) WHERE run_id IS NOT NULL;
-- A job's events are found among its run's: an index of their own cost each event a row more.

-- Only an agent's first call asks for its live attempts, and all live ones are soon read.
DROP INDEX attempts_live_agent;
