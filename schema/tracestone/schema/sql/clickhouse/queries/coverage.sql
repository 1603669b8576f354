-- name: old_months
-- Months, as yyyymm, that were over so many days ago, and in which nothing was decided since.
SELECT toYYYYMM(seen_at) AS month
FROM scoring_decisions
WHERE toYYYYMM(seen_at) < toYYYYMM(now('UTC') - toIntervalDay({days:UInt32}))
GROUP BY month
HAVING max(decided_at) < now('UTC') - toIntervalDay({days:UInt32})
ORDER BY month

-- name: forget_month
-- Removes the decisions of a month; a partition is one.
ALTER TABLE scoring_decisions DROP PARTITION ID {month:String}
