-- Which database this is, made once, and which configuration it holds, made with every change of it: so that a replica
-- notices that the database was replaced by another, or by a copy of former times that has changed since. Versions mean
-- something only within one history.
ALTER TABLE config_version ADD COLUMN database_id TEXT NOT NULL DEFAULT gen_random_uuid()::TEXT;
ALTER TABLE config_version ADD COLUMN stamp TEXT NOT NULL DEFAULT gen_random_uuid()::TEXT;
