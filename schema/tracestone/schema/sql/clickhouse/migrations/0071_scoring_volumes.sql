-- not blocking: creates a table
-- How many targets each user, or whatever a configuration is fair by, had in the hour before `hour`, taken once when the
-- hour is first looked at; only those with many. `basis` is a digest of what was counted. A row with the member '' says that
-- the hour was counted.
CREATE TABLE IF NOT EXISTS scoring_volumes (
    basis String CODEC(ZSTD(1)),
    hour DateTime('UTC'),
    experiment_id UInt32,
    member String CODEC(ZSTD(1)),
    volume UInt64 CODEC(ZSTD(1))
) ENGINE = MergeTree
PARTITION BY toYYYYMM(hour)
ORDER BY (basis, hour, experiment_id, member)
TTL hour + INTERVAL 90 DAY
SETTINGS
    min_parts_to_merge_at_once = 10, fsync_after_insert = 1, fsync_part_directory = 1, min_rows_to_fsync_after_merge = 1;
