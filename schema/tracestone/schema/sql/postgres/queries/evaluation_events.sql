-- name: deployment
-- Which deployment this is.
SELECT deployment_id FROM deployment

-- name: seen
-- A process that emits is there.
INSERT INTO evaluation_emitter (seen_at) VALUES (now()) ON CONFLICT (single) DO UPDATE SET seen_at = now()

-- name: claim
-- The oldest $1 events, or as many as start within $2 bytes, with the names of their experiments, locked until the
-- transaction ends; those another process emits are passed over.
WITH oldest AS (
    SELECT event_id, assessment FROM evaluation_events ORDER BY event_id LIMIT $1 FOR UPDATE SKIP LOCKED
), sized AS (
    SELECT *, sum(octet_length(assessment::text)) OVER (ORDER BY event_id) - octet_length(assessment::text) AS bytes_before
    FROM oldest
)
SELECT sized.event_id, sized.assessment, coalesce(e.name, '') AS experiment
FROM sized LEFT JOIN experiments AS e ON e.experiment_id = (sized.assessment ->> 'experiment_id')::integer
WHERE sized.bytes_before < $2 ORDER BY sized.event_id

-- name: emitted
-- Events that the endpoint has taken, or that are given up.
DELETE FROM evaluation_events WHERE event_id = ANY ($1::bigint[])

-- name: forget
-- Gives up events older than $1 seconds, and the oldest of more than $2; how many.
WITH gone AS (
    DELETE FROM evaluation_events
    WHERE created_at < now() - make_interval(secs => $1)
       OR event_id <= (SELECT event_id FROM evaluation_events ORDER BY event_id DESC OFFSET $2 LIMIT 1)
    RETURNING event_id
)
SELECT count(*) FROM gone
