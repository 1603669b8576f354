-- What the public tables and their columns are commented with (contract.py).

-- name: comments
-- What ClickHouse shows: a row for each column of some tables, and one with an empty column for each table.
SELECT name AS table, '' AS column, comment
FROM system.tables
WHERE database = currentDatabase() AND name IN {tables:Array(String)}
UNION ALL
SELECT table, name AS column, comment
FROM system.columns
WHERE database = currentDatabase() AND table IN {tables:Array(String)}

-- name: alter
-- Prefix of what is to be commented: a list of MODIFY COMMENT and COMMENT COLUMN.
ALTER TABLE {table:Identifier}
