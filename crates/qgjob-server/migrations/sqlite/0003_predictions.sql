-- How long a job is expected to hold a device, an install not counted; of jobs from before there were predictions: a minute.
ALTER TABLE jobs ADD COLUMN predicted_ms INTEGER NOT NULL DEFAULT 60000;
