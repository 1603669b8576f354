-- not blocking: creates a table and a view, adds an index
-- What the sampler decided of every finished target, chosen or not; read through the view `coverage`.
CREATE TABLE IF NOT EXISTS scoring_decisions (
    scorer_name LowCardinality(String),
    scorer_version UInt32,
    experiment_id UInt32,
    target_type LowCardinality(String),
    trace_id String CODEC(ZSTD(1)),
    span_id String CODEC(ZSTD(1)),
    session_id String CODEC(ZSTD(1)),
    user_id String CODEC(ZSTD(1)),
    seen_at DateTime64(9, 'UTC') CODEC(Delta, ZSTD(1)),
    decision LowCardinality(String),
    stratum LowCardinality(String),
    probability Float64 CODEC(ZSTD(1)),
    decided_at DateTime64(9, 'UTC') CODEC(Delta, ZSTD(1))
) ENGINE = ReplacingMergeTree(decided_at)
PARTITION BY toYYYYMM(seen_at)
ORDER BY (scorer_name, scorer_version, experiment_id, target_type, trace_id, span_id, session_id)
SETTINGS
    min_parts_to_merge_at_once = 10, fsync_after_insert = 1, fsync_part_directory = 1, min_rows_to_fsync_after_merge = 1;

-- Finished targets by what became of them. Every one is counted once: finished is the sum of the five numbers after it.
CREATE VIEW IF NOT EXISTS coverage AS
SELECT
    decided.scorer_name AS scorer_name,
    decided.scorer_version AS scorer_version,
    decided.experiment_id AS experiment_id,
    decided.target_type AS target_type,
    toStartOfHour(decided.seen_at) AS hour,
    decided.stratum AS stratum,
    count() AS finished,
    countIf(judged.outcome = 2) AS scored,
    countIf(judged.outcome = 1) AS failed,
    countIf(judged.outcome = 0 AND decided.decision = 'chosen') AS waiting,
    countIf(judged.outcome = 0 AND decided.decision = 'not_chosen') AS not_chosen,
    countIf(judged.outcome = 0 AND decided.decision = 'filtered') AS filtered
FROM (SELECT * FROM scoring_decisions FINAL) AS decided
LEFT JOIN (
    SELECT
        toString(scorer_name) AS scorer, assumeNotNull(scorer_version) AS version, experiment_id,
        trace_id, span_id, session_id, if(max(error) = '', 2, 1) AS outcome
    FROM assessments
    WHERE scorer_name != '' AND scorer_version IS NOT NULL
    GROUP BY scorer, version, experiment_id, trace_id, span_id, session_id
) AS judged
    ON decided.scorer_name = judged.scorer AND decided.scorer_version = judged.version
    AND decided.experiment_id = judged.experiment_id AND decided.trace_id = judged.trace_id
    AND decided.span_id = judged.span_id AND decided.session_id = judged.session_id
GROUP BY scorer_name, scorer_version, experiment_id, target_type, hour, stratum;

-- Traces of a session are found without reading all.
ALTER TABLE trace_rows ADD INDEX IF NOT EXISTS by_session session_id TYPE bloom_filter(0.01) GRANULARITY 1;
