-- name: set
-- A webhook by its name, $1: the address $2, the secret $3 unless it has one, the events $4, and the filters.
INSERT INTO webhooks AS known (name, url, secret, events, scorer_name, experiment_id, errors, value_is, below, above)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
ON CONFLICT (name) DO UPDATE SET
    url = excluded.url, events = excluded.events, scorer_name = excluded.scorer_name,
    experiment_id = excluded.experiment_id, errors = excluded.errors, value_is = excluded.value_is,
    below = excluded.below, above = excluded.above
RETURNING webhook_id, (xmax = 0) AS new

-- name: count
-- How many webhooks there are.
SELECT count(*) FROM webhooks

-- name: states
-- All webhooks, or one, with what waits for them and what is dead, and the last error; never the secret.
SELECT w.webhook_id, w.name, w.url, w.events, w.scorer_name, w.experiment_id, w.errors, w.value_is, w.below, w.above,
       coalesce(d.waiting, 0) AS waiting, coalesce(d.dead, 0) AS dead, coalesce(d.error, '') AS error
FROM webhooks AS w
LEFT JOIN LATERAL (
    SELECT count(*) FILTER (WHERE NOT each.dead) AS waiting, count(*) FILTER (WHERE each.dead) AS dead,
           (array_agg(each.error ORDER BY each.delivery_id DESC) FILTER (WHERE each.error <> ''))[1] AS error
    FROM webhook_deliveries AS each WHERE each.webhook_id = w.webhook_id
) AS d ON true
WHERE $1::text IS NULL OR w.name = $1
ORDER BY w.name

-- name: remove
-- Ends a webhook; what waits for it goes with it.
DELETE FROM webhooks WHERE name = $1 RETURNING webhook_id

-- name: renew
-- Another secret.
UPDATE webhooks SET secret = $2 WHERE name = $1 RETURNING webhook_id

-- name: tell
-- Something for one webhook, whatever it listens to.
INSERT INTO webhook_deliveries (webhook_id, message_id, payload)
SELECT webhook_id, $2, webhook_payload($3, $4) FROM webhooks WHERE name = $1 RETURNING delivery_id

-- name: delivery
-- What has become of a delivery; no row when it has been delivered.
SELECT attempts, error, dead FROM webhook_deliveries WHERE delivery_id = $1

-- name: claim
-- Deliveries that are due, up to $1 of each webhook that is not among $2, not to be claimed again for $3 seconds.
UPDATE webhook_deliveries AS mine
SET available_at = now() + make_interval(secs => $3), attempts = mine.attempts + 1
FROM webhooks AS w
WHERE w.webhook_id = mine.webhook_id AND mine.delivery_id IN (
    SELECT due.delivery_id
    FROM webhooks AS each
    CROSS JOIN LATERAL (
        SELECT d.delivery_id FROM webhook_deliveries AS d
        WHERE d.webhook_id = each.webhook_id AND NOT d.dead AND d.available_at <= now()
        ORDER BY d.available_at LIMIT $1 FOR UPDATE SKIP LOCKED
    ) AS due
    WHERE each.webhook_id <> ALL ($2::bigint[]))
RETURNING mine.delivery_id, mine.webhook_id, mine.message_id, mine.payload, mine.attempts, w.url, w.secret

-- name: delivered
-- A delivery that was taken; the claim that made it is attempt $2.
DELETE FROM webhook_deliveries WHERE delivery_id = $1 AND attempts = $2

-- name: failed
-- A try that failed, for the reason $3: another in $4 seconds, or none when it is older than $5 seconds or $6 says so.
UPDATE webhook_deliveries
SET error = $3, available_at = now() + make_interval(secs => $4),
    dead = $6 OR created_at < now() - make_interval(secs => $5)
WHERE delivery_id = $1 AND attempts = $2
RETURNING dead

-- name: replay
-- Dead deliveries of a webhook begin anew; how many.
WITH again AS (
    UPDATE webhook_deliveries AS d SET dead = false, attempts = 0, available_at = now(), created_at = now()
    FROM webhooks AS w WHERE w.webhook_id = d.webhook_id AND w.name = $1 AND d.dead RETURNING d.delivery_id
)
SELECT count(*) FROM again

-- name: forget
-- Removes dead deliveries after $1 seconds, the oldest of more than $2 of a webhook, and old alerts; how many deliveries.
WITH old AS (
    DELETE FROM alerts WHERE raised_at < now() - interval '90 days'
), gone AS (
    DELETE FROM webhook_deliveries WHERE delivery_id IN (
        SELECT ranked.delivery_id FROM (
            SELECT delivery_id, dead, available_at,
                   row_number() OVER (PARTITION BY webhook_id ORDER BY delivery_id DESC) AS place
            FROM webhook_deliveries) AS ranked
        WHERE ranked.place > $2 OR (ranked.dead AND ranked.available_at < now() - make_interval(secs => $1)))
    RETURNING delivery_id
)
SELECT count(*) FROM gone
