-- name: add_name
-- A scorer's name, if it is new.
INSERT INTO scorers (name, created_at_ms) VALUES ($1, $2) ON CONFLICT DO NOTHING

-- name: lock_name
-- Versions of one name are numbered one at a time.
SELECT name FROM scorers WHERE name = $1 FOR UPDATE

-- name: count_names
-- How many scorers there are.
SELECT count(*) FROM scorers

-- name: latest
-- The newest version of a scorer.
SELECT scorer_name, version, kind, parameters, digest, created_at_ms
FROM scorer_versions WHERE scorer_name = $1 ORDER BY version DESC LIMIT 1

-- name: version
-- One version of a scorer.
SELECT scorer_name, version, kind, parameters, digest, created_at_ms
FROM scorer_versions WHERE scorer_name = $1 AND version = $2

-- name: add_version
-- The next version of a scorer.
INSERT INTO scorer_versions (scorer_name, version, kind, parameters, digest, created_at_ms)
VALUES ($1, $2, $3, $4, $5, $6)

-- name: versions
-- The versions of a scorer, newest first, below a version (or from the top).
SELECT scorer_name, version, kind, parameters, digest, created_at_ms
FROM scorer_versions WHERE scorer_name = $1 AND ($2::integer IS NULL OR version < $2)
ORDER BY version DESC LIMIT $3

-- name: all_latest
-- The newest version of every scorer after a name, in order of name.
SELECT DISTINCT ON (scorer_name) scorer_name, version, kind, parameters, digest, created_at_ms
FROM scorer_versions WHERE scorer_name > $1 ORDER BY scorer_name, version DESC LIMIT $2

-- name: put_config
-- A configuration, new or changed.
INSERT INTO online_configs
    (scorer_name, scorer_version, experiment_id, sample_rate, filter, salt, updated_at_ms,
     target_type, strata, idle_seconds, priority, after_scorer, after_version,
     concurrency, fair_by, fair_per_hour)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)
ON CONFLICT (scorer_name, experiment_id) DO UPDATE SET
    scorer_version = excluded.scorer_version,
    sample_rate = excluded.sample_rate,
    filter = excluded.filter,
    salt = excluded.salt,
    updated_at_ms = excluded.updated_at_ms,
    target_type = excluded.target_type,
    strata = excluded.strata,
    idle_seconds = excluded.idle_seconds,
    priority = excluded.priority,
    after_scorer = excluded.after_scorer,
    after_version = excluded.after_version,
    concurrency = excluded.concurrency,
    fair_by = excluded.fair_by,
    fair_per_hour = excluded.fair_per_hour
RETURNING *, '' AS error

-- name: begin_progress
-- A new configuration looks at what finishes from now on.
INSERT INTO scoring_progress (config_id, look, due_ns)
VALUES ($1, 'prompt', $2), ($1, 'sweep', $2) ON CONFLICT DO NOTHING

-- name: delete_config
-- Ends a configuration; jobs already chosen are still scored.
WITH gone AS (
    DELETE FROM online_configs WHERE scorer_name = $1 AND experiment_id IS NOT DISTINCT FROM $2 RETURNING config_id
), windows AS (
    DELETE FROM scoring_windows WHERE config_id IN (SELECT config_id FROM gone)
)
SELECT config_id FROM gone

-- name: configs
-- The configurations of one scorer, or of all, with the error of the last look.
SELECT c.*, coalesce((SELECT max(p.error) FROM scoring_progress p WHERE p.config_id = c.config_id), '') AS error
FROM online_configs c WHERE $1::text IS NULL OR c.scorer_name = $1 ORDER BY c.config_id
