-- not blocking: creates a table and a view that fills it
-- When verdicts of scorers became visible here, in order of time; read by the looks of what comes after a scorer. The mirror
-- may deliver one again, which is another row.
CREATE TABLE IF NOT EXISTS verdict_arrivals (
    scorer_name LowCardinality(String),
    scorer_version UInt32,
    experiment_id UInt32,
    target_type LowCardinality(String),
    trace_id String CODEC(ZSTD(1)),
    span_id String CODEC(ZSTD(1)),
    session_id String CODEC(ZSTD(1)),
    arrived_at DateTime64(9, 'UTC') CODEC(Delta, ZSTD(1))
) ENGINE = MergeTree
PARTITION BY toYYYYMM(arrived_at)
ORDER BY (scorer_name, arrived_at)
SETTINGS
    min_parts_to_merge_at_once = 10, fsync_after_insert = 1, fsync_part_directory = 1, min_rows_to_fsync_after_merge = 1;

CREATE MATERIALIZED VIEW IF NOT EXISTS verdict_arrivals_mv TO verdict_arrivals AS
SELECT
    scorer_name, assumeNotNull(scorer_version) AS scorer_version, experiment_id, target_type, trace_id, span_id, session_id,
    now64(9) AS arrived_at
FROM assessment_rows
WHERE scorer_name != '' AND scorer_version IS NOT NULL AND NOT deleted;
