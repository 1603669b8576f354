-- name: page
-- Reviews that wait, oldest first, after one; of a scorer ($2) and of some experiments ($3), if they are given.
SELECT *, (taken_until > now()) IS TRUE AS held FROM reviews
WHERE review_id > $1 AND ($2::text IS NULL OR scorer_name = $2)
  AND ($3::integer[] IS NULL OR experiment_id = ANY ($3::integer[]))
ORDER BY review_id LIMIT $4

-- name: get
-- One review.
SELECT *, (taken_until > now()) IS TRUE AS held FROM reviews WHERE review_id = $1

-- name: take
-- Gives $1 for $2 seconds the review $3, or the most urgent and oldest of a scorer ($4) and of some experiments ($5). The
-- answer will be about the state of the target as it is known now.
UPDATE reviews SET
    taken_by = $1, taken_until = now() + make_interval(secs => $2), taken_seen_ns = seen_ns
WHERE review_id = (
    SELECT review_id FROM reviews
    WHERE (taken_until IS NULL OR taken_until <= now() OR (taken_by = $1 AND $3::bigint IS NOT NULL))
      AND ($3::bigint IS NULL OR review_id = $3) AND ($4::text IS NULL OR scorer_name = $4)
      AND ($5::integer[] IS NULL OR experiment_id = ANY ($5::integer[]))
    ORDER BY priority DESC, review_id LIMIT 1 FOR UPDATE SKIP LOCKED
)
RETURNING *, true AS held

-- name: release
-- Gives one back, unless another than $2 has it.
UPDATE reviews SET taken_by = '', taken_until = NULL, taken_seen_ns = NULL
WHERE review_id = $1 AND (taken_by = $2 OR taken_until IS NULL OR taken_until <= now())
RETURNING review_id

-- name: lock
-- One review, about to end, with the chance at the source that another verdict on its target tells.
SELECT *, (taken_until > now()) IS TRUE AS held, (
    SELECT max(a.metadata->>'head_probability') FROM assessments a
    WHERE a.trace_id = reviews.trace_id AND a.span_id = reviews.span_id
      AND md5(a.session_id) = md5(reviews.session_id) AND a.experiment_id = reviews.experiment_id
      AND a.scorer_name <> ''
) AS head_probability
FROM reviews WHERE review_id = $1 FOR UPDATE OF reviews

-- name: end
-- It is over, unless a later state than $2 waits for an answer: then it is free again.
WITH over AS (DELETE FROM reviews WHERE review_id = $1 AND seen_ns <= $2)
UPDATE reviews SET taken_by = '', taken_until = NULL, taken_seen_ns = NULL
WHERE review_id = $1 AND seen_ns > $2

-- name: counts
-- How many reviews of each scorer wait.
SELECT scorer_name, count(*) AS reviews FROM reviews GROUP BY scorer_name ORDER BY scorer_name

-- name: full
-- Scorers for which so many reviews wait.
SELECT scorer_name FROM reviews GROUP BY scorer_name HAVING count(*) >= $1
