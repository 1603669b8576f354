-- not blocking: adds columns, creates tables and materialised views; reads the names of stored log events once
-- Log records that hold the content of a model call become part of their span's row (queries/log_contents.sql), whichever
-- arrives first. These tables say where they are; the records themselves stay in log_rows alone.

-- What log records say for columns that are stored: the last message, the answer, why it ended. Filled when a row is
-- written anew, for a span comes without its log records.
ALTER TABLE spans_in
    ADD COLUMN IF NOT EXISTS input_told String,
    ADD COLUMN IF NOT EXISTS output_told String,
    ADD COLUMN IF NOT EXISTS finish_told String;

-- The log events of spans: their keys in log_rows, in what order they count, how large they are. `place` tells apart what
-- has the same time and came in one insert.
CREATE TABLE IF NOT EXISTS log_places (
    trace_id String CODEC(ZSTD(1)),
    span_id String CODEC(ZSTD(1)),
    experiment_id UInt32,
    minute DateTime('UTC'),
    log_id FixedString(16) CODEC(NONE),
    sender_bound Bool,
    time DateTime64(9, 'UTC'),
    place UInt32,
    size UInt64
) ENGINE = ReplacingMergeTree
ORDER BY (trace_id, span_id, experiment_id, minute, log_id)
SETTINGS index_granularity = 1024, min_parts_to_merge_at_once = 10,
    fsync_after_insert = 1, fsync_part_directory = 1, min_rows_to_fsync_after_merge = 1;

-- Which traces the log events of a batch belong to; read once, then of no use.
CREATE TABLE IF NOT EXISTS log_touches (
    batch String CODEC(ZSTD(1)),
    trace_id String CODEC(ZSTD(1)),
    inserted_at DateTime('UTC')
) ENGINE = MergeTree
PARTITION BY toStartOfHour(inserted_at)
ORDER BY batch
TTL inserted_at + INTERVAL 3 HOUR
SETTINGS ttl_only_drop_parts = 1, fsync_after_insert = 1, fsync_part_directory = 1, min_rows_to_fsync_after_merge = 1;

-- Spans whose rows are to be written anew with their log events, for the statement that does it.
CREATE TABLE IF NOT EXISTS log_joins (
    batch String CODEC(ZSTD(1)),
    experiment_id UInt32,
    trace_id String CODEC(ZSTD(1)),
    span_id String CODEC(ZSTD(1)),
    slice Int64,
    inserted_at DateTime('UTC')
) ENGINE = MergeTree
PARTITION BY toStartOfHour(inserted_at)
ORDER BY batch
TTL inserted_at + INTERVAL 3 HOUR
SETTINGS ttl_only_drop_parts = 1;

-- The batch is named as in trace_touches_mv.
CREATE MATERIALIZED VIEW IF NOT EXISTS log_touches_mv TO log_touches AS
SELECT DISTINCT getSetting('log_comment') AS batch, trace_id, now('UTC') AS inserted_at
FROM log_places;

CREATE MATERIALIZED VIEW IF NOT EXISTS log_places_mv TO log_places AS
SELECT
    trace_id, span_id, experiment_id, minute, log_id, sender_bound, time,
    toUInt32(rowNumberInAllBlocks()) AS place,
    length(body) + arraySum(text -> length(text), mapValues(attributes_string)) + arraySum(text -> length(text), mapValues(attributes_json)) AS size
FROM log_rows
WHERE span_id != '' AND startsWith(event_name, 'gen_ai.') AND event_name != 'gen_ai.evaluation.result';

-- What is stored already. Its spans follow with `tracestone renormalise`, or when something of their trace arrives.
INSERT INTO log_places
SELECT
    trace_id, span_id, experiment_id, minute, log_id, sender_bound, time,
    toUInt32(rowNumberInAllBlocks()) AS place,
    length(body) + arraySum(text -> length(text), mapValues(attributes_string)) + arraySum(text -> length(text), mapValues(attributes_json)) AS size
FROM log_rows
WHERE span_id != '' AND startsWith(event_name, 'gen_ai.') AND event_name != 'gen_ai.evaluation.result';
