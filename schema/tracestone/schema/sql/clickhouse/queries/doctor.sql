-- name: server
-- Its version, and its time as nanoseconds.
SELECT version() AS version, toUnixTimestamp64Nano(now64(9)) AS now_ns

-- name: missing
-- What our statements need and this ClickHouse does not have.
SELECT arrayJoin(arrayConcat(
    arrayFilter(
        name -> name NOT IN (SELECT name FROM system.functions),
        ['firstNonDefault', 'arrayFold', 'tupleToNameValuePairs', 'fromUnixTimestamp64Nano', 'arrayReduceInRanges']),
    arrayFilter(name -> name NOT IN (SELECT name FROM system.settings), ['format_schema_source', 'format_schema_message_name']),
    arrayFilter(name -> name NOT IN (SELECT name FROM system.formats), ['Protobuf', 'Parquet']))) AS name

-- name: tables
-- Our tables, with their active parts.
SELECT t.name AS name, countIf(p.active) AS parts
FROM system.tables AS t LEFT JOIN system.parts AS p ON p.database = t.database AND p.table = t.name
WHERE t.database = {database:String}
GROUP BY t.name
ORDER BY t.name

-- name: newest
-- The newest migration that was applied.
SELECT max(version) AS version FROM {database:Identifier}.schema_migrations
