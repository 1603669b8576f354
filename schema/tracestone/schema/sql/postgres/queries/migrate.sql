-- name: lock
-- One migration run at a time, across processes; the number is arbitrary and ours.
SELECT pg_advisory_lock(7407316274813)

-- name: unlock
-- Ends the run.
SELECT pg_advisory_unlock(7407316274813)

-- name: create_history
-- The schema itself and the table of what was applied.
CREATE SCHEMA IF NOT EXISTS tracestone;
CREATE TABLE IF NOT EXISTS tracestone.schema_migrations (
    version integer PRIMARY KEY,
    name text NOT NULL,
    checksum text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now()
);

-- name: history
-- What was applied, with the checksum of the file that was.
SELECT version, checksum FROM tracestone.schema_migrations ORDER BY version

-- name: record
-- A migration is in.
INSERT INTO tracestone.schema_migrations (version, name, checksum) VALUES ($1, $2, $3)
