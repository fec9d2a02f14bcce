-- The run whose failures a rerun repeats, and the tests that it does not repeat, as JSON.
ALTER TABLE runs ADD COLUMN rerun_of BLOB;
ALTER TABLE runs ADD COLUMN carried TEXT;
-- The tests of the full set, by outcome.
ALTER TABLE runs ADD COLUMN tests_passed INTEGER NOT NULL DEFAULT 0;
ALTER TABLE runs ADD COLUMN tests_failed INTEGER NOT NULL DEFAULT 0;
ALTER TABLE runs ADD COLUMN tests_flaky INTEGER NOT NULL DEFAULT 0;
ALTER TABLE runs ADD COLUMN tests_skipped INTEGER NOT NULL DEFAULT 0;
UPDATE runs SET (tests_passed, tests_failed, tests_flaky, tests_skipped) =
    (SELECT coalesce(sum(passed), 0), coalesce(sum(failed), 0), coalesce(sum(flaky), 0), coalesce(sum(skipped), 0)
    FROM jobs WHERE ordinal >= runs.first_job AND ordinal < runs.first_job + runs.total);

-- What a job of a rerun repeats, and what the tests of the job before have come to, as JSON.
ALTER TABLE jobs ADD COLUMN rerun TEXT;
