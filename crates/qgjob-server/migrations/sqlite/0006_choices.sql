-- Why placement gave the attempt its device, as JSON.
ALTER TABLE attempts ADD COLUMN choice TEXT;
