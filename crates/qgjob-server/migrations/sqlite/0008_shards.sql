-- Which of its file's tests the job runs, as JSON; none for all of them.
ALTER TABLE jobs ADD COLUMN shard TEXT;
