-- Why placement gave the attempt its device, as JSON.
ALTER TABLE attempts ADD COLUMN choice TEXT;

-- What the retention looks for among the events that are of no run.
CREATE INDEX events_of_no_run ON events (at) WHERE run_id IS NULL;
