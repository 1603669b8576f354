-- not blocking: creates tables only

-- What the loader writes to: OTLP requests as they arrived, one row a request (protos/ingest/v1/traces.proto).
-- Nothing is stored here; materialised views turn a request into spans.
CREATE TABLE IF NOT EXISTS otlp_traces_in (
    resource_spans Array(Tuple(
        resource Tuple(
            attributes Array(Tuple(key String, value Tuple(
                value Enum8('no' = 0, 'string_value' = 1, 'bool_value' = 2, 'int_value' = 3, 'double_value' = 4, 'array_value' = 5, 'bytes_value' = 7, 'json_value' = 100),
                string_value String, bool_value Bool, int_value Int64, double_value Float64,
                array_value Tuple(values Array(Tuple(
                    value Enum8('no' = 0, 'string_value' = 1, 'bool_value' = 2, 'int_value' = 3, 'double_value' = 4, 'bytes_value' = 7),
                    string_value String, bool_value Bool, int_value Int64, double_value Float64, bytes_value String))),
                bytes_value String, json_value String))),
            dropped_attributes_count UInt32),
        scope_spans Array(Tuple(
            scope Tuple(
                name String,
                version String,
                attributes Array(Tuple(key String, value Tuple(
                    value Enum8('no' = 0, 'string_value' = 1, 'bool_value' = 2, 'int_value' = 3, 'double_value' = 4, 'bytes_value' = 7, 'json_value' = 100),
                    string_value String, bool_value Bool, int_value Int64, double_value Float64, bytes_value String, json_value String))),
                dropped_attributes_count UInt32),
            spans Array(Tuple(
                trace_id String,
                span_id String,
                trace_state String,
                parent_span_id String,
                name String,
                kind Int32,
                start_time_unix_nano UInt64,
                end_time_unix_nano UInt64,
                attributes Array(Tuple(key String, value Tuple(
                    value Enum8('no' = 0, 'string_value' = 1, 'bool_value' = 2, 'int_value' = 3, 'double_value' = 4, 'array_value' = 5, 'bytes_value' = 7, 'json_value' = 100),
                    string_value String, bool_value Bool, int_value Int64, double_value Float64,
                    array_value Tuple(values Array(Tuple(
                        value Enum8('no' = 0, 'string_value' = 1, 'bool_value' = 2, 'int_value' = 3, 'double_value' = 4, 'bytes_value' = 7),
                        string_value String, bool_value Bool, int_value Int64, double_value Float64, bytes_value String))),
                    bytes_value String, json_value String))),
                dropped_attributes_count UInt32,
                events Array(Tuple(
                    time_unix_nano UInt64,
                    name String,
                    attributes Array(Tuple(key String, value Tuple(
                        value Enum8('no' = 0, 'string_value' = 1, 'bool_value' = 2, 'int_value' = 3, 'double_value' = 4, 'bytes_value' = 7, 'json_value' = 100),
                        string_value String, bool_value Bool, int_value Int64, double_value Float64, bytes_value String, json_value String))),
                    dropped_attributes_count UInt32)),
                dropped_events_count UInt32,
                links Array(Tuple(
                    trace_id String,
                    span_id String,
                    trace_state String,
                    attributes Array(Tuple(key String, value Tuple(
                        value Enum8('no' = 0, 'string_value' = 1, 'bool_value' = 2, 'int_value' = 3, 'double_value' = 4, 'bytes_value' = 7, 'json_value' = 100),
                        string_value String, bool_value Bool, int_value Int64, double_value Float64, bytes_value String, json_value String))),
                    dropped_attributes_count UInt32,
                    flags UInt32)),
                dropped_links_count UInt32,
                status Tuple(message String, code Int32),
                flags UInt32)),
            schema_url String)),
        schema_url String)),
    experiment_ids Array(UInt32),
    received_at UInt64
) ENGINE = Null;

-- The way in between: one row a span, its attributes as arrays side by side. Nothing is stored here either. Cutting the
-- way in two keeps the plan of each half small; ClickHouse plans both anew for every insert.
CREATE TABLE IF NOT EXISTS spans_in (
    experiment_id UInt32,
    received_ns UInt64,
    service_name LowCardinality(String),
    environment LowCardinality(String),
    release LowCardinality(String),
    resource_attributes LowCardinality(String),
    scope_name LowCardinality(String),
    scope_version LowCardinality(String),
    scope_attributes LowCardinality(String),
    schema_url LowCardinality(String),
    trace_id String,
    span_id String,
    parent_span_id String,
    trace_state String,
    name String,
    kind Int32,
    start_ns UInt64,
    end_ns UInt64,
    status_code Int32,
    status_message String,
    flags UInt32,
    dropped_attributes_count UInt32,
    dropped_events_count UInt32,
    dropped_links_count UInt32,
    keys Array(String),
    types Array(Enum8('no' = 0, 'string_value' = 1, 'bool_value' = 2, 'int_value' = 3, 'double_value' = 4, 'array_value' = 5, 'bytes_value' = 7, 'json_value' = 100)),
    strings Array(String),
    ints Array(Int64),
    doubles Array(Float64),
    bools Array(Bool),
    byte_strings Array(String),
    jsons Array(String),
    arrays Array(Array(Tuple(
        value Enum8('no' = 0, 'string_value' = 1, 'bool_value' = 2, 'int_value' = 3, 'double_value' = 4, 'bytes_value' = 7),
        string_value String, bool_value Bool, int_value Int64, double_value Float64, bytes_value String))),
    exception_type String,
    events Array(Tuple(time DateTime64(9, 'UTC'), name String, attributes String)),
    links Array(Tuple(trace_id String, span_id String, trace_state String, attributes String))
) ENGINE = Null;

-- Spans as stored; read through the view `spans`, which shows one row for each (trace_id, span_id).
-- LowCardinality only where people filter and group: merging it costs ten times what text does, which compresses as well.
-- A partition is a week; clocks that are far off share one, so that no client can make partitions without end.
-- The five-second slice in the key keeps the spans of a trace close and lets a trace be found by its slices (trace_slices).
CREATE TABLE IF NOT EXISTS span_rows (
    experiment_id UInt32,
    trace_id String CODEC(ZSTD(1)),
    span_id String CODEC(ZSTD(1)),
    parent_span_id String CODEC(ZSTD(1)),
    name LowCardinality(String),
    kind Enum8('UNSPECIFIED' = 0, 'INTERNAL' = 1, 'SERVER' = 2, 'CLIENT' = 3, 'PRODUCER' = 4, 'CONSUMER' = 5),
    start_time DateTime64(9, 'UTC') CODEC(Delta, ZSTD(1)),
    end_time DateTime64(9, 'UTC') CODEC(Delta, ZSTD(1)),
    duration_ns Int64 CODEC(ZSTD(1)),
    status_code Enum8('UNSET' = 0, 'OK' = 1, 'ERROR' = 2),
    status_message String CODEC(ZSTD(1)),
    trace_state String CODEC(ZSTD(1)),
    flags UInt32 CODEC(ZSTD(1)),
    service_name LowCardinality(String),
    resource_attributes String CODEC(ZSTD(1)),
    scope_name String CODEC(ZSTD(1)),
    scope_version String CODEC(ZSTD(1)),
    scope_attributes String CODEC(ZSTD(1)),
    schema_url String CODEC(ZSTD(1)),
    attributes_string Map(LowCardinality(String), String) CODEC(ZSTD(1)),
    attributes_int Map(LowCardinality(String), Int64) CODEC(ZSTD(1)),
    attributes_float Map(LowCardinality(String), Float64) CODEC(ZSTD(1)),
    attributes_bool Map(LowCardinality(String), Bool) CODEC(ZSTD(1)),
    attributes_json Map(LowCardinality(String), String) CODEC(ZSTD(1)),
    attributes_bytes Map(LowCardinality(String), String) CODEC(ZSTD(1)),
    attributes_text Map(LowCardinality(String), String) CODEC(ZSTD(1)),
    events Array(Tuple(time DateTime64(9, 'UTC'), name LowCardinality(String), attributes String)) CODEC(ZSTD(1)),
    links Array(Tuple(trace_id String, span_id String, trace_state String, attributes String)) CODEC(ZSTD(1)),
    dropped_attributes_count UInt32 CODEC(ZSTD(1)),
    dropped_events_count UInt32 CODEC(ZSTD(1)),
    dropped_links_count UInt32 CODEC(ZSTD(1)),
    span_type LowCardinality(String),
    operation LowCardinality(String),
    provider LowCardinality(String),
    request_model LowCardinality(String),
    response_model LowCardinality(String),
    input_tokens Nullable(Int64) CODEC(ZSTD(1)),
    output_tokens Nullable(Int64) CODEC(ZSTD(1)),
    total_tokens Nullable(Int64) CODEC(ZSTD(1)),
    cache_read_tokens Nullable(Int64) CODEC(ZSTD(1)),
    cache_write_tokens Nullable(Int64) CODEC(ZSTD(1)),
    reasoning_tokens Nullable(Int64) CODEC(ZSTD(1)),
    cost_input Nullable(Float64) CODEC(ZSTD(1)),
    cost_output Nullable(Float64) CODEC(ZSTD(1)),
    cost_total Nullable(Float64) CODEC(ZSTD(1)),
    finish_reasons Array(LowCardinality(String)) CODEC(ZSTD(1)),
    response_id String CODEC(ZSTD(1)),
    session_id String CODEC(ZSTD(1)),
    user_id String CODEC(ZSTD(1)),
    agent_name String CODEC(ZSTD(1)),
    tool_name String CODEC(ZSTD(1)),
    tool_call_id String CODEC(ZSTD(1)),
    prompt_name String CODEC(ZSTD(1)),
    prompt_version String CODEC(ZSTD(1)),
    environment String CODEC(ZSTD(1)),
    release String CODEC(ZSTD(1)),
    time_to_first_token_ns Nullable(Int64) CODEC(ZSTD(1)),
    error_type String CODEC(ZSTD(1)),
    tags Map(LowCardinality(String), String) CODEC(ZSTD(1)),
    input_preview String CODEC(ZSTD(1)),
    output_preview String CODEC(ZSTD(1)),
    received_at DateTime64(9, 'UTC') CODEC(Delta, ZSTD(1)),
    -- 1 hides an earlier version whose start was in another slice (queries/moved_spans.sql)
    is_deleted UInt8 CODEC(ZSTD(1))
) ENGINE = ReplacingMergeTree(received_at, is_deleted)
PARTITION BY if(start_time BETWEEN received_at - INTERVAL 400 DAY AND received_at + INTERVAL 2 DAY, toMonday(start_time), toDate(0))
ORDER BY (experiment_id, intDiv(toInt64(start_time), 5), trace_id, span_id)
-- What one insert makes is one file (Compact), which is one fsync instead of a hundred and fifty.
SETTINGS min_parts_to_merge_at_once = 60, min_bytes_for_wide_part = 536870912;

-- Where a trace's spans are: in which experiment and which five-second slices of `span_rows`.
CREATE TABLE IF NOT EXISTS trace_slices (
    trace_id String CODEC(ZSTD(1)),
    experiment_id UInt32,
    slice Int64
) ENGINE = ReplacingMergeTree
ORDER BY (trace_id, experiment_id, slice)
SETTINGS index_granularity = 1024, min_parts_to_merge_at_once = 10;

-- Which traces a batch of the loader touched; read once by the refresh of `trace_rows`, then of no use.
CREATE TABLE IF NOT EXISTS trace_touches (
    batch String CODEC(ZSTD(1)),
    experiment_id UInt32,
    trace_id String CODEC(ZSTD(1)),
    inserted_at DateTime('UTC')
) ENGINE = MergeTree
PARTITION BY toStartOfHour(inserted_at)
ORDER BY batch
TTL inserted_at + INTERVAL 3 HOUR
SETTINGS ttl_only_drop_parts = 1;

-- Traces as computed from their spans, whole, each time one arrives; read through the view `traces`.
CREATE TABLE IF NOT EXISTS trace_rows (
    experiment_id UInt32,
    trace_id String CODEC(ZSTD(1)),
    root_name LowCardinality(String),
    service_name LowCardinality(String),
    start_time DateTime64(9, 'UTC') CODEC(Delta, ZSTD(1)),
    end_time DateTime64(9, 'UTC') CODEC(Delta, ZSTD(1)),
    duration_ns Int64 CODEC(ZSTD(1)),
    state Enum8('OK' = 1, 'ERROR' = 2, 'IN_PROGRESS' = 3),
    span_count UInt32 CODEC(ZSTD(1)),
    error_count UInt32 CODEC(ZSTD(1)),
    input_tokens Nullable(Int64) CODEC(ZSTD(1)),
    output_tokens Nullable(Int64) CODEC(ZSTD(1)),
    total_tokens Nullable(Int64) CODEC(ZSTD(1)),
    cost_total Nullable(Float64) CODEC(ZSTD(1)),
    models Array(LowCardinality(String)) CODEC(ZSTD(1)),
    session_id String CODEC(ZSTD(1)),
    user_id String CODEC(ZSTD(1)),
    tags Map(LowCardinality(String), String) CODEC(ZSTD(1)),
    input_preview String CODEC(ZSTD(1)),
    output_preview String CODEC(ZSTD(1)),
    complete Bool,
    last_seen DateTime64(9, 'UTC') CODEC(Delta, ZSTD(1)),
    version DateTime64(9, 'UTC') CODEC(Delta, ZSTD(1))
) ENGINE = ReplacingMergeTree(version)
ORDER BY (experiment_id, trace_id)
SETTINGS min_parts_to_merge_at_once = 10;
