-- name: ping
-- Answers when Postgres does.
SELECT 1
