-- name: lock_changes
-- Held until the transaction ends, so that changes become visible in the order of their numbers.
SELECT pg_advisory_xact_lock(7216304112)

-- name: count_live
-- How many keys there are that are not revoked.
SELECT count(*) FROM api_keys WHERE revoked_at_ms IS NULL

-- name: add
-- A new key.
INSERT INTO api_keys (key_id, secret_sha256, name, scopes, experiment_ids, created_at_ms, expires_at_ms, change)
VALUES ($1, $2, $3, $4, $5, $6, $7, nextval('api_key_changes'))
RETURNING *

-- name: revoke
-- Ends a key; the time of the first time stays.
UPDATE api_keys SET revoked_at_ms = coalesce(revoked_at_ms, $2), change = nextval('api_key_changes')
WHERE key_id = $1 RETURNING *

-- name: latest_change
-- The number of the latest change; 0 when there never was a key.
SELECT coalesce(max(change), 0) FROM api_keys

-- name: live
-- Every key that is not revoked.
SELECT * FROM api_keys WHERE revoked_at_ms IS NULL LIMIT $1

-- name: page
-- Keys in order of their making, the revoked ones too, after a key or from the first.
SELECT * FROM api_keys
WHERE $1 = '' OR (created_at_ms, key_id) > (SELECT created_at_ms, key_id FROM api_keys WHERE key_id = $1)
ORDER BY created_at_ms, key_id LIMIT $2

-- name: used
-- When keys were last used: a list of ids and one of times.
UPDATE api_keys AS k SET last_used_at_ms = greatest(k.last_used_at_ms, u.at_ms)
FROM unnest($1::text[], $2::bigint[]) AS u (key_id, at_ms) WHERE k.key_id = u.key_id
