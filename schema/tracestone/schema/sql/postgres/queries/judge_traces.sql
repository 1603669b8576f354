-- name: keep
-- Keeps traces until they are handed over.
INSERT INTO judge_traces (trace_id, spans) SELECT * FROM unnest($1::text[], $2::bytea[]) ON CONFLICT DO NOTHING

-- name: claim
-- The oldest $1 traces, or as many as start within $2 bytes, locked until the transaction ends; those that another process
-- hands over are passed over.
WITH oldest AS (
    SELECT trace_id, spans, created_at FROM judge_traces ORDER BY created_at LIMIT $1 FOR UPDATE SKIP LOCKED
), sized AS (
    SELECT *, sum(octet_length(spans)) OVER (ORDER BY created_at, trace_id) - octet_length(spans) AS bytes_before
    FROM oldest
)
SELECT trace_id, spans FROM sized WHERE bytes_before < $2 ORDER BY created_at, trace_id

-- name: handed_over
-- Traces that are in the log.
DELETE FROM judge_traces WHERE trace_id = ANY ($1::text[])

-- name: forget
-- Removes the oldest of more than $1 traces that wait; how many.
WITH gone AS (
    DELETE FROM judge_traces
    WHERE created_at <= (SELECT created_at FROM judge_traces ORDER BY created_at DESC OFFSET $1 LIMIT 1) RETURNING trace_id
)
SELECT count(*) FROM gone
