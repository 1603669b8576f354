-- name: by_name
-- A registered scorer of an experiment, locked while a version is added.
SELECT scorer_id, scorer_name FROM mlflow_scorers WHERE experiment_id = $1 AND name = $2 FOR UPDATE

-- name: own_name_taken
-- Whether a name is that of a scorer already.
SELECT EXISTS (SELECT FROM scorers WHERE name = $1)

-- name: add_scorer
-- A new registered scorer; no row comes back when another request was faster.
INSERT INTO mlflow_scorers (scorer_id, experiment_id, name, scorer_name) VALUES ($1, $2, $3, $4)
ON CONFLICT DO NOTHING RETURNING scorer_id

-- name: add_version
-- Its next version.
INSERT INTO mlflow_scorer_versions (scorer_id, version, serialized, scorer_version, created_at_ms)
SELECT $1, coalesce(max(version), 0) + 1, $2, $3, $4 FROM mlflow_scorer_versions WHERE scorer_id = $1
RETURNING version

-- name: versions
-- Versions of the scorers of experiments ($1), of one name or all ($2), one version or all ($3), newest first.
SELECT s.scorer_id, s.experiment_id, s.name, s.scorer_name, v.version, v.serialized, v.scorer_version, v.created_at_ms
FROM mlflow_scorers s JOIN mlflow_scorer_versions v USING (scorer_id)
WHERE s.experiment_id = ANY ($1::integer[]) AND ($2::text IS NULL OR s.name = $2)
  AND ($3::integer IS NULL OR v.version = $3)
ORDER BY s.experiment_id, s.name, v.version DESC LIMIT $4

-- name: latest
-- The newest version of each scorer of experiments.
SELECT DISTINCT ON (s.experiment_id, s.name)
    s.scorer_id, s.experiment_id, s.name, s.scorer_name, v.version, v.serialized, v.scorer_version, v.created_at_ms
FROM mlflow_scorers s JOIN mlflow_scorer_versions v USING (scorer_id)
WHERE s.experiment_id = ANY ($1::integer[])
ORDER BY s.experiment_id, s.name, v.version DESC LIMIT $2

-- name: delete_version
-- One version, or all of a scorer's.
DELETE FROM mlflow_scorer_versions WHERE scorer_id = $1 AND ($2::integer IS NULL OR version = $2) RETURNING version

-- name: delete_scorer
-- A scorer that has no version any more.
DELETE FROM mlflow_scorers s
WHERE scorer_id = $1 AND NOT EXISTS (SELECT FROM mlflow_scorer_versions v WHERE v.scorer_id = s.scorer_id)
RETURNING scorer_name

-- name: set_filter
-- The filter as the client wrote it.
UPDATE mlflow_scorers SET filter_string = $2 WHERE scorer_id = $1

-- name: online
-- The online configurations of scorers by id.
SELECT s.scorer_id, s.experiment_id, s.filter_string, c.config_id, c.sample_rate
FROM mlflow_scorers s
JOIN online_configs c ON c.scorer_name = s.scorer_name AND c.experiment_id = s.experiment_id
WHERE s.scorer_id = ANY ($1::text[])
