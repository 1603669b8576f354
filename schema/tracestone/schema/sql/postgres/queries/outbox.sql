-- name: claim
-- The oldest $1 rows that are due, or as many as start within $2 bytes, locked until the transaction ends; rows
-- another mirror holds are passed over.
WITH due AS (
    SELECT id, relation, payload FROM tracestone.outbox
    WHERE not_before <= now() ORDER BY id LIMIT $1 FOR UPDATE SKIP LOCKED
), sized AS (
    SELECT *, sum(octet_length(payload::text)) OVER (ORDER BY id) - octet_length(payload::text) AS bytes_before FROM due
)
SELECT id, relation, payload FROM sized WHERE bytes_before < $2 ORDER BY id

-- name: delivered
-- Rows that are in ClickHouse.
DELETE FROM tracestone.outbox WHERE id = ANY ($1::bigint[])

-- name: refused
-- A row that ClickHouse would not take: tried again later, at the latest after five minutes.
UPDATE tracestone.outbox
SET attempts = attempts + 1, error = left($2, 1000),
    not_before = clock_timestamp() + least(300, 2 ^ least(attempts, 9)) * interval '1 second'
WHERE id = $1

-- name: prices_waiting
-- Whether prices have not been delivered yet; what was refused is not waited for.
SELECT EXISTS (SELECT FROM tracestone.outbox WHERE relation = 'model_prices' AND attempts = 0)

-- name: waiting
-- What has not been delivered yet, how much of it was refused, and the last refusal.
SELECT count(*) AS rows, count(*) FILTER (WHERE attempts > 0) AS refused,
       coalesce((SELECT error FROM tracestone.outbox WHERE attempts > 0 ORDER BY id DESC LIMIT 1), '') AS last_error
FROM (SELECT attempts FROM tracestone.outbox LIMIT 100000) AS counted
