-- name: reserve
-- Reserves what calls may cost at most; a row for each that has to wait. See migrations/0012_budgets.sql.
SELECT refused, refusing, why, needed::float8, resumes_at, seen
FROM tracestone.reserve_budgets($1, $2, $3::uuid[], $4::text[], $5::integer[], $6::float8[]::numeric[], $7::float8[]::numeric[])

-- name: settle
-- Counts what calls cost and lets their reservations go; a settlement that was sent before changes nothing.
SELECT tracestone.settle_budgets(
    $1, $2::uuid[], $3::text[], $4::integer[], $5::integer[], $6::float8[]::numeric[], $7::float8[]::numeric[])

-- name: extend
-- Puts off when the reservations of a living process expire.
UPDATE budget_reservations SET expires_at = now() + make_interval(secs => $2) WHERE holder = $1 AND expires_at > now()

-- name: expire
-- Lets expired reservations go.
SELECT tracestone.lock_budgets(
    ARRAY(SELECT DISTINCT scorer_name FROM budgets), ARRAY(SELECT DISTINCT experiment_id FROM budgets))
WHERE EXISTS (SELECT FROM budget_reservations WHERE expires_at <= now())

-- name: forget
-- Removes what nobody asks for any more: hours and periods after 400 days, settlements after one.
WITH hours AS (DELETE FROM spending WHERE hour < now() - interval '400 days'),
     periods AS (DELETE FROM budget_periods WHERE starts < now() - interval '400 days' AND reserved = 0)
DELETE FROM budget_settlements WHERE settled_at < now() - interval '1 day'

-- name: hold_still
-- Nobody reserves or settles until the end of the transaction.
LOCK TABLE budgets IN EXCLUSIVE MODE

-- name: count
-- How many budgets there are.
SELECT count(*) FROM budgets

-- name: set
-- Sets a cap; `new` tells whether the budget is.
INSERT INTO budgets AS known (scorer_name, experiment_id, unit, period, cap)
VALUES ($1, $2, $3, $4, $5::float8::numeric)
ON CONFLICT (scorer_name, experiment_id, unit, period) DO UPDATE
SET cap = excluded.cap, updated_at = CASE WHEN known.cap = excluded.cap THEN known.updated_at ELSE now() END
RETURNING budget_id, xmax = 0 AS new

-- name: begin
-- What was spent in the period before its budget was set.
INSERT INTO budget_periods (budget_id, starts, spent)
SELECT b.budget_id, tracestone.budget_starts(b.period, now()),
       coalesce(sum(CASE b.unit WHEN 'usd' THEN s.usd ELSE s.tokens END), 0)
FROM budgets AS b
LEFT JOIN spending AS s ON s.hour >= tracestone.budget_starts(b.period, now())::timestamp AT TIME ZONE 'UTC'
  AND b.scorer_name IN ('', s.scorer_name) AND (b.experiment_id IS NULL OR b.experiment_id = s.experiment_id)
WHERE b.budget_id = $1
GROUP BY b.budget_id, b.period
ON CONFLICT (budget_id, starts) DO NOTHING

-- name: remove
-- Ends a budget; what waits for it goes on.
DELETE FROM budgets WHERE budget_id = $1 RETURNING budget_id

-- name: states
-- All budgets, or the one of $1, with what they have spent and reserved in this period, what the last six hours spent, in
-- how many seconds, and how many jobs wait for them.
SELECT b.budget_id, b.scorer_name, b.experiment_id, b.unit, b.period, b.cap::float8, now.starts, now() AS at,
       tracestone.budget_ends(b.period, now.starts) AS ends, coalesce(p.spent, 0)::float8 AS spent,
       coalesce((
           SELECT sum(r.amount) FROM budget_reservations AS r
           WHERE r.budget_id = b.budget_id AND r.starts = now.starts AND r.expires_at > now()
       ), 0)::float8 AS reserved,
       coalesce(recent.spent, 0)::float8 AS recent,
       coalesce(extract(epoch FROM now() - recent.since), 0)::float8 AS recent_seconds,
       (
           SELECT count(*) FROM scoring_jobs AS j
           WHERE j.waiting_for = 'budget' AND j.waiting_budget = b.budget_id AND j.available_at > now()
       ) AS waiting
FROM budgets AS b
CROSS JOIN LATERAL (SELECT tracestone.budget_starts(b.period, now()) AS starts) AS now
LEFT JOIN budget_periods AS p ON p.budget_id = b.budget_id AND p.starts = now.starts
LEFT JOIN LATERAL (
    SELECT min(s.hour) AS since, sum(CASE b.unit WHEN 'usd' THEN s.usd ELSE s.tokens END) AS spent
    FROM spending AS s
    WHERE s.hour > now() - interval '6 hours'
      AND b.scorer_name IN ('', s.scorer_name) AND (b.experiment_id IS NULL OR b.experiment_id = s.experiment_id)
) AS recent ON true
WHERE $1::bigint IS NULL OR b.budget_id = $1
ORDER BY b.scorer_name <> '', b.experiment_id IS NOT NULL, b.budget_id
