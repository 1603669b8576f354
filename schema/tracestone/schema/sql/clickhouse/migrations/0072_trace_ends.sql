-- not blocking: creates a table and a view that fills it
-- Traces with a span that says that the trace, or its session, is over; read by the looks for finished targets.
CREATE TABLE IF NOT EXISTS trace_ends (
    target LowCardinality(String),
    experiment_id UInt32,
    trace_id String CODEC(ZSTD(1)),
    inserted_at DateTime64(9, 'UTC') CODEC(Delta, ZSTD(1))
) ENGINE = MergeTree
PARTITION BY toYYYYMM(inserted_at)
ORDER BY (target, inserted_at)
TTL toDateTime(inserted_at) + INTERVAL 90 DAY
SETTINGS
    min_parts_to_merge_at_once = 10, fsync_after_insert = 1, fsync_part_directory = 1, min_rows_to_fsync_after_merge = 1;

-- Which attributes say so is in the map of attributes (ends.csv), which the view follows.
CREATE MATERIALIZED VIEW IF NOT EXISTS trace_ends_mv TO trace_ends AS
SELECT 'trace' AS target, experiment_id, trace_id, now64(9) AS inserted_at
FROM span_rows
WHERE attributes_bool['tracestone.trace.end'];
