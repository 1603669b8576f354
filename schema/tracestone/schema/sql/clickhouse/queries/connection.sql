-- name: ping
-- Answers when ClickHouse does.
SELECT 1

-- name: create_database
-- The database of a connection, which must be there before a client can be bound to it.
CREATE DATABASE IF NOT EXISTS {database:Identifier}
