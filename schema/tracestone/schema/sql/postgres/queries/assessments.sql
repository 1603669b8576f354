-- name: insert
-- A new assessment from one JSON object with a key for every column.
INSERT INTO tracestone.assessments
SELECT (jsonb_populate_record(NULL::tracestone.assessments, $1)).*
RETURNING *

-- name: record
-- The same for verdicts of scorers, in a JSON array. Each takes the place of the version's verdict on an earlier state of
-- the target, which goes into the history; no row comes back where this state, or a later one, has its verdict already.
INSERT INTO tracestone.assessments AS present
SELECT given.* FROM jsonb_populate_recordset(NULL::tracestone.assessments, $1) AS given
ON CONFLICT (trace_id, span_id, md5(session_id), experiment_id, scorer_name, scorer_version, name)
    WHERE scorer_name <> ''
DO UPDATE SET
    value = excluded.value, error_code = excluded.error_code, error_message = excluded.error_message,
    error_stack = excluded.error_stack, rationale = excluded.rationale, metadata = excluded.metadata,
    source_type = excluded.source_type, source_id = excluded.source_id, probability = excluded.probability,
    cost_usd = excluded.cost_usd, input_tokens = excluded.input_tokens, output_tokens = excluded.output_tokens,
    target_seen_ns = excluded.target_seen_ns, input_digest = excluded.input_digest,
    updated_at_ms = excluded.updated_at_ms
WHERE present.target_seen_ns < excluded.target_seen_ns
RETURNING *

-- name: forget_others
-- Removes the version's verdicts on the state $8 of a target, and on earlier ones, under other names than $7: what a judge
-- with several questions, or its failure, said before. They stay in the history.
DELETE FROM tracestone.assessments
WHERE trace_id = $1 AND span_id = $2 AND md5(session_id) = md5($3) AND experiment_id = $4
  AND scorer_name = $5 AND scorer_version = $6 AND scorer_name <> '' AND name <> ALL ($7::text[])
  AND target_seen_ns <= $8

-- name: observe
-- Assessments from a JSON array with a key for every column and known ids ($2), each once. Those that would be more
-- than $3 of a trace in their experiment are left out; a later revision takes the place of an earlier. How many are new, and how many were left out.
WITH given AS MATERIALIZED (
    SELECT placed.row, placed.place + (
        SELECT count(*) FROM tracestone.assessments AS present
        WHERE present.trace_id = (placed.row).trace_id AND present.trace_id <> ''
          AND present.experiment_id = (placed.row).experiment_id
          AND present.assessment_id <> ALL ($2::text[])) <= $3 AS fits
    FROM (
        SELECT row,
            row_number() OVER (PARTITION BY row.trace_id, row.experiment_id ORDER BY row.assessment_id) AS place
        FROM jsonb_populate_recordset(NULL::tracestone.assessments, $1) AS row
    ) AS placed
), kept AS (
    INSERT INTO tracestone.assessments AS present
    SELECT (given.row).*
    FROM given
    WHERE given.fits AND NOT EXISTS (
        SELECT FROM tracestone.assessment_history AS known
        WHERE known.assessment_id = (given.row).assessment_id AND known.operation = 'DELETE')
    ON CONFLICT (assessment_id) DO UPDATE SET
        name = excluded.name, value = excluded.value, error_code = excluded.error_code,
        error_message = excluded.error_message, rationale = excluded.rationale, metadata = excluded.metadata,
        updated_at_ms = excluded.updated_at_ms
    WHERE (excluded.metadata ->> 'tracestone.assessment.revision')::integer
        > (present.metadata ->> 'tracestone.assessment.revision')::integer
    RETURNING assessment_id
)
SELECT (SELECT count(*) FROM kept) AS new, (SELECT count(*) FROM given WHERE NOT fits) AS left_out

-- name: recorded
-- The verdict of a scorer's version on a target: trace $1, span $2, session $3, experiment $4.
SELECT * FROM tracestone.assessments
WHERE trace_id = $1 AND span_id = $2 AND md5(session_id) = md5($3) AND experiment_id = $4
  AND scorer_name = $5 AND scorer_version = $6 AND name = $7 AND scorer_name <> ''

-- name: get
-- One assessment of a trace or of its spans.
SELECT * FROM tracestone.assessments WHERE assessment_id = $1 AND trace_id = $2

-- name: lock
-- The same, about to be changed; the row stays locked until the transaction ends.
SELECT * FROM tracestone.assessments WHERE assessment_id = $1 AND trace_id = $2 FOR UPDATE

-- name: update
-- The fields that may change, after `lock`.
UPDATE tracestone.assessments
SET name = $2, value = $3, error_code = $4, error_message = $5, error_stack = $6, rationale = $7, metadata = $8,
    updated_at_ms = $9
WHERE assessment_id = $1
RETURNING *

-- name: delete
-- One assessment of a trace; comes back with what it overrode.
DELETE FROM tracestone.assessments WHERE assessment_id = $1 AND trace_id = $2 RETURNING overrides

-- name: invalidate
-- An assessment of the trace $2 that another one overrides from now on.
UPDATE tracestone.assessments SET valid = false, updated_at_ms = $3
WHERE assessment_id = $1 AND trace_id = $2
RETURNING assessment_id

-- name: revalidate
-- An assessment of the trace $2 that nothing overrides any more.
UPDATE tracestone.assessments SET valid = true, updated_at_ms = $3
WHERE assessment_id = $1 AND trace_id = $2 AND NOT valid
  AND NOT EXISTS (SELECT FROM tracestone.assessments AS other WHERE other.overrides = $1)

-- name: by_traces
-- All assessments of some traces, each in its experiment ($1) by its id ($2), and of their spans, oldest first.
SELECT assessments.*
FROM unnest($1::integer[], $2::text[]) AS wanted (experiment_id, trace_id)
JOIN tracestone.assessments AS assessments USING (trace_id, experiment_id)
WHERE assessments.trace_id <> ''
ORDER BY created_at_ms, assessment_id

-- name: by_session
-- What is said of a session itself, oldest first, no more than $3.
SELECT * FROM tracestone.assessments
WHERE experiment_id = $1 AND md5(session_id) = md5($2) AND session_id = $2 AND session_id <> ''
ORDER BY created_at_ms, assessment_id LIMIT $3

-- name: count_of_trace
-- How many assessments a trace has in its experiment, counted no further than $3.
SELECT count(*)
FROM (SELECT FROM tracestone.assessments
    WHERE trace_id = $1 AND trace_id <> '' AND experiment_id = $2 LIMIT $3) AS counted

-- name: count_elsewhere
-- How many assessments a trace id has in other experiments than $2, all or those in $3, counted no further than $4.
SELECT count(*)
FROM (SELECT FROM tracestone.assessments
    WHERE trace_id = $1 AND trace_id <> '' AND experiment_id <> $2
      AND ($3::integer[] IS NULL OR experiment_id = ANY ($3::integer[])) LIMIT $4) AS counted
