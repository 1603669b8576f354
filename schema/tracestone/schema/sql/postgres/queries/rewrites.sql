-- name: add
-- Asks for a rewrite, or returns the one that was asked for like this and is not finished.
INSERT INTO tracestone.rewrites (kind, parameters) VALUES ($1, $2::jsonb)
ON CONFLICT (kind, parameters) WHERE state IN ('waiting', 'running') DO UPDATE SET kind = excluded.kind
RETURNING *

-- name: lock
-- Takes the lock of whoever rewrites; false when another has it. It goes with the connection.
SELECT pg_try_advisory_lock(7239401001)

-- name: unlock
-- Gives the lock back.
SELECT pg_advisory_unlock(7239401001)

-- name: unfinished
-- The oldest that is not finished, of these kinds.
SELECT * FROM tracestone.rewrites
WHERE state IN ('waiting', 'running') AND kind = ANY ($1::text[]) ORDER BY rewrite_id LIMIT 1

-- name: begun
-- It is worked on; $2 spans are to be looked at.
UPDATE tracestone.rewrites SET state = 'running', spans_total = $2, updated_at = now()
WHERE rewrite_id = $1 AND state = 'waiting'

-- name: progressed
-- A slice is done; returns whether it goes on, which it does not when it was cancelled.
UPDATE tracestone.rewrites
SET position = $2::jsonb, spans_done = spans_done + $3, spans_changed = spans_changed + $4, seconds = seconds + $5,
    updated_at = now()
WHERE rewrite_id = $1 AND state = 'running'
RETURNING rewrite_id

-- name: ended
-- It is done, or failed for a reason.
UPDATE tracestone.rewrites SET state = $2, error = left($3, 1000), updated_at = now()
WHERE rewrite_id = $1 AND state IN ('waiting', 'running')

-- name: cancel
-- It does not go on; what it did stays.
UPDATE tracestone.rewrites SET state = 'cancelled', updated_at = now()
WHERE rewrite_id = $1 AND state IN ('waiting', 'running')
RETURNING *

-- name: one
-- One rewrite.
SELECT * FROM tracestone.rewrites WHERE rewrite_id = $1

-- name: latest
-- The latest rewrites, newest first.
SELECT * FROM tracestone.rewrites ORDER BY rewrite_id DESC LIMIT $1
