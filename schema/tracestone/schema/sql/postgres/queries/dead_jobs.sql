-- name: bury
-- Takes a job out of the queue and keeps it as dead, unless a later state than $3 waits for it or another worker holds it.
WITH gone AS (DELETE FROM scoring_jobs WHERE job_id = $1 AND lease = $2 AND seen_ns <= $3 RETURNING *)
INSERT INTO scoring_dead_jobs (scorer_name, experiment_id, trace_id, code, message, job)
SELECT scorer_name, experiment_id, trace_id, '', '', to_jsonb(gone) || jsonb_build_object(
    'calls', $4::integer, 'cost_usd', $5::float8, 'input_tokens', $6::bigint, 'output_tokens', $7::bigint)
FROM gone
RETURNING dead_id

-- name: explain
-- The error that stands for the dead job's verdict is its reason.
UPDATE scoring_dead_jobs AS dead SET assessment_id = $2, code = error.error_code, message = error.error_message
FROM assessments AS error WHERE dead.dead_id = $1 AND error.assessment_id = $2

-- name: page
-- Dead jobs, oldest first, after one; of a scorer ($2) and with a code ($3), if they are given.
SELECT dead_id, scorer_name, experiment_id, trace_id, code, message, job, died_at
FROM scoring_dead_jobs
WHERE dead_id > $1 AND ($2::text IS NULL OR scorer_name = $2) AND ($3::text IS NULL OR code = $3)
ORDER BY dead_id LIMIT $4

-- name: get
-- One dead job.
SELECT dead_id, scorer_name, experiment_id, trace_id, code, message, job, died_at
FROM scoring_dead_jobs WHERE dead_id = $1

-- name: counts
-- How many dead jobs there are, by scorer and code.
SELECT scorer_name, code, count(*) AS jobs, min(died_at) AS oldest FROM scoring_dead_jobs
GROUP BY scorer_name, code ORDER BY scorer_name, code

-- name: take
-- Takes up to $4 dead jobs away, oldest first: those of $1, or if it is NULL all of a scorer ($2) and with a code ($3).
WITH chosen AS (
    SELECT dead_id FROM scoring_dead_jobs
    WHERE ($1::bigint[] IS NULL OR dead_id = ANY ($1::bigint[]))
      AND ($2::text IS NULL OR scorer_name = $2) AND ($3::text IS NULL OR code = $3)
    ORDER BY dead_id LIMIT $4 FOR UPDATE SKIP LOCKED
)
DELETE FROM scoring_dead_jobs AS dead USING chosen WHERE dead.dead_id = chosen.dead_id
RETURNING dead.job, dead.assessment_id

-- name: forget_errors
-- Removes the errors of jobs that are tried again; their last state stays in the history.
DELETE FROM assessments WHERE assessment_id = ANY ($1::text[]) AND error_code <> ''

-- name: requeue
-- Puts jobs back into the queue as if they were new, but with what they have cost.
INSERT INTO scoring_jobs OVERRIDING SYSTEM VALUE
SELECT (jsonb_populate_record(NULL::scoring_jobs, each.job || jsonb_build_object(
    'lease', NULL, 'failures', 0, 'deliveries', 0, 'available_at', now(), 'enqueued_at', now(), 'stalled_since', NULL,
    'waiting_for', '', 'waiting_reason', '', 'waiting_budget', NULL))).*
FROM unnest($1::jsonb[]) AS each (job)
ON CONFLICT DO NOTHING
RETURNING job_id

-- name: forget
-- Removes dead jobs of which nobody has taken care for 90 days; their errors stay.
DELETE FROM scoring_dead_jobs WHERE died_at < now() - interval '90 days'
