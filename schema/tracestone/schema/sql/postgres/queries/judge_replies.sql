-- name: find
-- Answers to calls, not older than $2 seconds.
SELECT digest, reply, model FROM judge_replies
WHERE digest = ANY ($1::bytea[]) AND created_at > now() - make_interval(secs => $2)

-- name: keep
-- Keeps answers; a newer one takes the place of an old one.
INSERT INTO judge_replies (digest, reply, model)
SELECT DISTINCT ON (given.digest) given.digest, given.reply, given.model
FROM unnest($1::bytea[], $2::text[], $3::text[]) AS given (digest, reply, model) ORDER BY given.digest
ON CONFLICT (digest) DO UPDATE SET reply = excluded.reply, model = excluded.model, created_at = now()

-- name: forget
-- Removes answers that are older than $1 seconds, and the oldest of more than $2.
DELETE FROM judge_replies
WHERE created_at <= now() - make_interval(secs => $1)
   OR created_at <= (SELECT created_at FROM judge_replies ORDER BY created_at DESC OFFSET $2 LIMIT 1)
