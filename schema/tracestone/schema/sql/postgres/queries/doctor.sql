-- name: server
-- Its version, its time as nanoseconds, and whether it takes no writes.
SELECT current_setting('server_version') AS version, current_setting('server_version_num')::integer AS version_number,
       (extract(epoch FROM clock_timestamp()) * 1000000000)::bigint AS now_ns,
       pg_is_in_recovery() OR current_setting('default_transaction_read_only')::boolean AS read_only

-- name: history_exists
-- Whether any migration was applied.
SELECT to_regclass('tracestone.schema_migrations') IS NOT NULL

-- name: newest
-- The newest migration that was applied.
SELECT max(version) FROM tracestone.schema_migrations
