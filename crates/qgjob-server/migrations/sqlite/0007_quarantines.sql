-- The device's latest quarantine, as JSON: it holds whichever server decided it and however often that is restarted.
ALTER TABLE devices ADD COLUMN quarantine TEXT;
