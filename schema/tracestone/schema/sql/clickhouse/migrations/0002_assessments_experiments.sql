-- not blocking: what Postgres keeps of experiments and assessments, mirrored for SQL.
-- The mirror delivers at least once and in any order; `version` is the row's revision in Postgres, the newest wins.
CREATE TABLE IF NOT EXISTS assessment_rows (
    assessment_id String CODEC(ZSTD(1)),
    experiment_id UInt32,
    target_type LowCardinality(String),
    trace_id String CODEC(ZSTD(1)),
    span_id String CODEC(ZSTD(1)),
    session_id String CODEC(ZSTD(1)),
    name LowCardinality(String),
    kind LowCardinality(String),
    value String CODEC(ZSTD(1)),
    value_number Nullable(Float64),
    error_code LowCardinality(String),
    error String CODEC(ZSTD(1)),
    rationale String CODEC(ZSTD(1)),
    source_type LowCardinality(String),
    source_id LowCardinality(String),
    scorer_name LowCardinality(String),
    scorer_version Nullable(UInt32),
    probability Nullable(Float64),
    cost_usd Nullable(Float64),
    input_tokens Nullable(UInt64),
    output_tokens Nullable(UInt64),
    metadata Map(String, String) CODEC(ZSTD(1)),
    overrides String CODEC(ZSTD(1)),
    valid Bool,
    created_at DateTime64(3, 'UTC'),
    updated_at DateTime64(3, 'UTC'),
    version UInt64,
    deleted Bool
) ENGINE = ReplacingMergeTree(version) ORDER BY (experiment_id, trace_id, session_id, assessment_id);

CREATE TABLE IF NOT EXISTS experiment_rows (
    experiment_id UInt32,
    name String,
    lifecycle_stage LowCardinality(String),
    artifact_location String,
    tags Map(String, String),
    created_at DateTime64(3, 'UTC'),
    updated_at DateTime64(3, 'UTC'),
    version UInt64,
    deleted Bool
) ENGINE = ReplacingMergeTree(version) ORDER BY experiment_id;

-- One row a live assessment. `error` is '' unless the scorer failed.
CREATE VIEW IF NOT EXISTS assessments AS
SELECT
    assessment_id, experiment_id, target_type, trace_id, span_id, session_id, name, kind, value, value_number,
    error_code, error, rationale, source_type, source_id, scorer_name, scorer_version, probability, cost_usd,
    input_tokens, output_tokens, metadata, overrides, valid, created_at, updated_at
FROM assessment_rows FINAL
WHERE NOT deleted;

-- One row an experiment. An experiment in the bin keeps its row (lifecycle_stage 'deleted'), as its traces do.
CREATE VIEW IF NOT EXISTS experiments AS
SELECT experiment_id, name, lifecycle_stage, artifact_location, tags, created_at, updated_at
FROM experiment_rows FINAL
WHERE NOT deleted;
