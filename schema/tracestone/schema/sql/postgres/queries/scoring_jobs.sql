-- name: lease_look
-- Takes the progress of one look for this transaction, unless another watcher has it.
SELECT due_ns, trace_id, error FROM scoring_progress
WHERE config_id = $1 AND look = $2 FOR UPDATE SKIP LOCKED

-- name: advance_look
-- How far the look has come; committed together with the jobs it chose.
UPDATE scoring_progress SET due_ns = $3, trace_id = $4, error = '' WHERE config_id = $1 AND look = $2

-- name: fail_look
-- Why the last look did not come further.
UPDATE scoring_progress SET error = $3 WHERE config_id = $1 AND look = $2

-- name: latest_version
-- The version a configuration without a fixed one stands for now.
SELECT max(version) FROM scorer_versions WHERE scorer_name = $1

-- name: own_experiments
-- Experiments with a configuration of their own for a scorer; the one for all leaves them out.
SELECT experiment_id FROM online_configs WHERE scorer_name = $1 AND experiment_id IS NOT NULL

-- name: waiting
-- How many jobs wait, counted up to a bound.
SELECT count(*) FROM (SELECT 1 FROM scoring_jobs LIMIT $1) AS jobs

-- name: enqueue
-- Jobs for chosen traces, except those that have a job or a verdict of this version already.
INSERT INTO scoring_jobs (scorer_name, scorer_version, experiment_id, trace_id, probability)
SELECT $1, $2, chosen.experiment_id, chosen.trace_id, $5
FROM unnest($3::integer[], $4::text[]) AS chosen (experiment_id, trace_id)
WHERE NOT EXISTS (
    SELECT 1 FROM assessments a
    WHERE a.trace_id = chosen.trace_id AND a.experiment_id = chosen.experiment_id
      AND a.scorer_name = $1 AND a.scorer_version = $2 AND a.target_type = 'trace'
)
ON CONFLICT DO NOTHING
RETURNING job_id

-- name: claim
-- Ready jobs, oldest first, leased for $2 seconds under the token $3. A dead worker's jobs become ready by themselves.
UPDATE scoring_jobs SET
    lease = $3, available_at = now() + make_interval(secs => $2), deliveries = deliveries + 1
WHERE job_id IN (
    SELECT job_id FROM scoring_jobs WHERE available_at <= now()
    ORDER BY available_at, job_id LIMIT $1 FOR UPDATE SKIP LOCKED
)
RETURNING job_id, scorer_name, scorer_version, experiment_id, trace_id, probability, deliveries, failures,
          calls, cost_usd, input_tokens, output_tokens

-- name: extend
-- Keeps jobs leased for $3 seconds from now while they run.
UPDATE scoring_jobs AS job SET available_at = now() + make_interval(secs => $3)
FROM unnest($1::bigint[], $2::uuid[]) AS held (job_id, lease)
WHERE job.job_id = held.job_id AND job.lease = held.lease

-- name: retry
-- Gives a job back for later, with what it has cost so far.
UPDATE scoring_jobs SET
    lease = NULL, available_at = now() + make_interval(secs => $3), failures = failures + 1,
    calls = $4, cost_usd = $5, input_tokens = $6, output_tokens = $7
WHERE job_id = $1 AND lease = $2
RETURNING job_id

-- name: release
-- Gives jobs back untouched, ready in $3 seconds; the delivery does not count.
UPDATE scoring_jobs AS job SET
    lease = NULL, available_at = now() + make_interval(secs => $3), deliveries = deliveries - 1
FROM unnest($1::bigint[], $2::uuid[]) AS held (job_id, lease)
WHERE job.job_id = held.job_id AND job.lease = held.lease

-- name: finish
-- The job is done; nothing comes back when this worker does not hold it any more.
DELETE FROM scoring_jobs WHERE job_id = $1 AND lease = $2 RETURNING job_id

-- name: depth
-- How many jobs wait or run, and how long the oldest has been ready, in seconds.
SELECT count(*) AS jobs, coalesce(extract(epoch FROM now() - min(available_at)), 0)::float8 AS oldest_seconds
FROM scoring_jobs WHERE available_at <= now()
