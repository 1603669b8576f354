-- name: create
-- A new backfill.
INSERT INTO backfills (
    scorer_name, scorer_version, experiment_id, target_type, from_ns, to_ns, filter, sample_rate, salt, per_minute,
    targets, due_ns, created_at_ms
) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $5, $12)
RETURNING *

-- name: list
-- The newest backfills.
SELECT * FROM backfills ORDER BY backfill_id DESC LIMIT $1

-- name: get
-- One backfill.
SELECT * FROM backfills WHERE backfill_id = $1

-- name: set_state
-- Pauses, resumes or cancels one that is not over.
UPDATE backfills SET state = $2, not_before = now(), error = ''
WHERE backfill_id = $1 AND state IN ('running', 'paused')
RETURNING *

-- name: ready
-- Backfills that may go on now.
SELECT backfill_id FROM backfills WHERE state = 'running' AND not_before <= now() ORDER BY backfill_id

-- name: lease
-- Takes one for this transaction, unless another process has it.
SELECT * FROM backfills WHERE backfill_id = $1 AND state = 'running' AND not_before <= now() FOR UPDATE SKIP LOCKED

-- name: advance
-- How far it has come; committed together with the jobs.
UPDATE backfills SET
    due_ns = $2, key = $3, chosen = chosen + $4, enqueued = enqueued + $5,
    state = CASE WHEN $6 THEN 'done' ELSE state END,
    not_before = now() + make_interval(secs => $7), error = ''
WHERE backfill_id = $1

-- name: fail
-- Why it cannot go on; it is tried again in a while.
UPDATE backfills SET error = $2, not_before = now() + make_interval(secs => $3) WHERE backfill_id = $1

-- name: unfinished
-- Jobs of a scorer's version that are not over, counted up to a bound.
SELECT count(*) FROM (
    SELECT FROM scoring_jobs WHERE scorer_name = $1 AND scorer_version = $2 LIMIT $3
) AS jobs

-- name: usual_cost
-- What the last verdicts of a scorer cost: how many, how many with a known cost, USD and tokens on average.
SELECT count(*) AS verdicts, count(cost_usd) AS priced, avg(cost_usd) AS usd,
    avg(coalesce(input_tokens, 0) + coalesce(output_tokens, 0))::float8 AS tokens
FROM (
    SELECT cost_usd, input_tokens, output_tokens FROM assessments
    WHERE scorer_name = $1 AND scorer_name <> '' AND error_code = '' ORDER BY created_at_ms DESC LIMIT 1000
) AS latest
