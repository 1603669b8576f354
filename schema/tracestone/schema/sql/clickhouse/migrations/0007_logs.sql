-- not blocking: creates tables, materialised views and a view

-- What the loader of logs writes to: OTLP requests as they arrived, one row a request (protos/ingest/v1/logs.proto).
CREATE TABLE IF NOT EXISTS otlp_logs_in (
    resource_logs Array(Tuple(
        resource Tuple(
            attributes Array(Tuple(key String, value Tuple(
                value Enum8('no' = 0, 'string_value' = 1, 'bool_value' = 2, 'int_value' = 3, 'double_value' = 4, 'array_value' = 5, 'bytes_value' = 7, 'json_value' = 100),
                string_value String, bool_value Bool, int_value Int64, double_value Float64,
                array_value Tuple(values Array(Tuple(
                    value Enum8('no' = 0, 'string_value' = 1, 'bool_value' = 2, 'int_value' = 3, 'double_value' = 4, 'bytes_value' = 7),
                    string_value String, bool_value Bool, int_value Int64, double_value Float64, bytes_value String))),
                bytes_value String, json_value String)))),
        scope_logs Array(Tuple(
            scope Tuple(
                name String,
                version String,
                attributes Array(Tuple(key String, value Tuple(
                    value Enum8('no' = 0, 'string_value' = 1, 'bool_value' = 2, 'int_value' = 3, 'double_value' = 4, 'bytes_value' = 7, 'json_value' = 100),
                    string_value String, bool_value Bool, int_value Int64, double_value Float64, bytes_value String, json_value String)))),
            log_records Array(Tuple(
                time_unix_nano UInt64,
                observed_time_unix_nano UInt64,
                severity_number Int32,
                severity_text String,
                body Tuple(
                    value Enum8('no' = 0, 'string_value' = 1, 'bool_value' = 2, 'int_value' = 3, 'double_value' = 4, 'bytes_value' = 7, 'json_value' = 100),
                    string_value String, bool_value Bool, int_value Int64, double_value Float64, bytes_value String, json_value String),
                attributes Array(Tuple(key String, value Tuple(
                    value Enum8('no' = 0, 'string_value' = 1, 'bool_value' = 2, 'int_value' = 3, 'double_value' = 4, 'array_value' = 5, 'bytes_value' = 7, 'json_value' = 100),
                    string_value String, bool_value Bool, int_value Int64, double_value Float64,
                    array_value Tuple(values Array(Tuple(
                        value Enum8('no' = 0, 'string_value' = 1, 'bool_value' = 2, 'int_value' = 3, 'double_value' = 4, 'bytes_value' = 7),
                        string_value String, bool_value Bool, int_value Int64, double_value Float64, bytes_value String))),
                    bytes_value String, json_value String))),
                dropped_attributes_count UInt32,
                flags UInt32,
                trace_id String,
                span_id String,
                event_name String)),
            schema_url String)),
        schema_url String)),
    experiment_ids Array(UInt32),
    received_at UInt64,
    sender_bound Bool
) ENGINE = Null;

-- Log records as stored; read through the view `logs`.
-- OTLP gives a log record no identity, so it is its content: `log_id` is a hash of everything that was sent of it, its
-- resource and its scope. What is sent again replaces itself; two records that are alike to the last byte, their
-- nanoseconds included, are one.
-- `minute` is of the time that the sender stated, 1970 without one, and so the same in every repeat; `time` then is the
-- time of receipt.
CREATE TABLE IF NOT EXISTS log_rows (
    experiment_id UInt32,
    minute DateTime('UTC') CODEC(Delta, ZSTD(1)),
    time DateTime64(9, 'UTC') CODEC(Delta, ZSTD(1)),
    observed_time DateTime64(9, 'UTC') CODEC(Delta, ZSTD(1)),
    trace_id String CODEC(ZSTD(1)),
    span_id String CODEC(ZSTD(1)),
    log_id FixedString(16) CODEC(NONE),
    event_name LowCardinality(String),
    severity_number Int32 CODEC(ZSTD(1)),
    severity_text LowCardinality(String),
    body String CODEC(ZSTD(1)),
    body_type LowCardinality(String),
    flags UInt32 CODEC(ZSTD(1)),
    service_name LowCardinality(String),
    resource_attributes LowCardinality(String),
    scope_name LowCardinality(String),
    scope_version LowCardinality(String),
    scope_attributes LowCardinality(String),
    schema_url LowCardinality(String),
    attributes_string Map(LowCardinality(String), String) CODEC(ZSTD(1)),
    attributes_int Map(LowCardinality(String), Int64) CODEC(ZSTD(1)),
    attributes_float Map(LowCardinality(String), Float64) CODEC(ZSTD(1)),
    attributes_bool Map(LowCardinality(String), Bool) CODEC(ZSTD(1)),
    attributes_json Map(LowCardinality(String), String) CODEC(ZSTD(1)),
    attributes_bytes Map(LowCardinality(String), String) CODEC(ZSTD(1)),
    dropped_attributes_count UInt32 CODEC(ZSTD(1)),
    -- the sender's key is bound to experiments, so what the record says is about no other
    sender_bound Bool,
    received_at DateTime64(9, 'UTC') CODEC(Delta, ZSTD(1)),
    INDEX times time TYPE minmax GRANULARITY 1,
    INDEX traces trace_id TYPE bloom_filter(0.01) GRANULARITY 1
) ENGINE = ReplacingMergeTree(received_at)
PARTITION BY if(minute BETWEEN received_at - INTERVAL 400 DAY AND received_at + INTERVAL 2 DAY, toMonday(minute), toDate(0))
ORDER BY (experiment_id, minute, trace_id, span_id, log_id)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1, min_rows_to_fsync_after_merge = 1, min_parts_to_merge_at_once = 10;

-- Evaluations that a batch of the loader brought; read once, to make assessments of them, then of no use.
CREATE TABLE IF NOT EXISTS evaluation_notes (
    batch String CODEC(ZSTD(1)),
    experiment_id UInt32,
    sender_bound Bool,
    log_id FixedString(16),
    time DateTime64(9, 'UTC'),
    trace_id String,
    span_id String,
    service_name String,
    scope_name String,
    attributes_string Map(String, String),
    attributes_int Map(String, Int64),
    attributes_float Map(String, Float64),
    attributes_bool Map(String, Bool),
    inserted_at DateTime('UTC')
) ENGINE = MergeTree
PARTITION BY toStartOfHour(inserted_at)
ORDER BY batch
TTL inserted_at + INTERVAL 3 HOUR
SETTINGS ttl_only_drop_parts = 1, fsync_after_insert = 1, fsync_part_directory = 1, min_rows_to_fsync_after_merge = 1;

DROP VIEW IF EXISTS log_rows_mv;

CREATE MATERIALIZED VIEW IF NOT EXISTS log_rows_mv TO log_rows AS
WITH
    (number -> multiIf(
        isNaN(number), '"NaN"', isInfinite(number), if(number > 0, '"Infinity"', '"-Infinity"'),
        -- without a point it would be read as an integer
        match(toString(number), '[.e]'), toString(number), concat(toString(number), '.0'))) AS double_json,
    (item -> multiIf(
        item.value = 'string_value', toJSONString(item.string_value),
        item.value = 'int_value', toString(item.int_value),
        item.value = 'bool_value', if(item.bool_value, 'true', 'false'),
        item.value = 'double_value', double_json(item.double_value),
        item.value = 'bytes_value', concat('"', base64Encode(item.bytes_value), '"'),
        'null')) AS scalar_json,
    (items -> concat('[', arrayStringConcat(arrayMap(item -> scalar_json(item), items), ','), ']')) AS array_json,
    (pairs -> concat('{', arrayStringConcat(arrayMap(
        pair -> concat(toJSONString(pair.key), ':', multiIf(
            pair.value.value = 'json_value', pair.value.json_value,
            pair.value.value = 'array_value', array_json(pair.value.array_value.values),
            scalar_json(pair.value))), pairs), ','), '}')) AS resource_json,
    (pairs -> concat('{', arrayStringConcat(arrayMap(
        pair -> concat(toJSONString(pair.key), ':', if(pair.value.value = 'json_value', pair.value.json_value, scalar_json(pair.value))),
        pairs), ','), '}')) AS flat_json,
    (ns -> fromUnixTimestamp64Nano(toInt64(least(ns, 9223286400000000000)), 'UTC')) AS moment
SELECT
    experiment_id,
    toStartOfMinute(moment(stated)) AS minute,
    moment(if(stated != 0, stated, received_ns)) AS time,
    moment(record.observed_time_unix_nano) AS observed_time,
    if(length(record.trace_id) = 16 AND record.trace_id != unhex('00000000000000000000000000000000'), lower(hex(record.trace_id)), '') AS trace_id,
    if(trace_id != '' AND length(record.span_id) = 8 AND record.span_id != unhex('0000000000000000'), lower(hex(record.span_id)), '') AS span_id,
    sipHash128(resource_attributes, scope_name, scope_version, scope_attributes, schema_url, record) AS log_id,
    if(record.event_name != '', record.event_name, pairs.value.string_value[indexOf(pairs.key, 'event.name')]) AS event_name,
    record.severity_number AS severity_number,
    record.severity_text AS severity_text,
    multiIf(
        record.body.value = 'no', '',
        record.body.value = 'string_value', record.body.string_value,
        record.body.value = 'json_value', record.body.json_value,
        record.body.value = 'bytes_value', base64Encode(record.body.bytes_value),
        scalar_json(record.body)) AS body,
    transform(toString(record.body.value), ['no', 'string_value', 'bool_value', 'int_value', 'double_value', 'bytes_value', 'json_value'], ['', 'string', 'bool', 'int', 'float', 'bytes', 'json'], '') AS body_type,
    record.flags AS flags,
    service_name, resource_attributes, scope_name, scope_version, scope_attributes, schema_url,
    CAST(arrayMap(pair -> (pair.key, pair.value.string_value), arrayFilter(pair -> pair.value.value = 'string_value', pairs)), 'Map(LowCardinality(String), String)') AS attributes_string,
    CAST(arrayMap(pair -> (pair.key, pair.value.int_value), arrayFilter(pair -> pair.value.value = 'int_value', pairs)), 'Map(LowCardinality(String), Int64)') AS attributes_int,
    CAST(arrayMap(pair -> (pair.key, pair.value.double_value), arrayFilter(pair -> pair.value.value = 'double_value', pairs)), 'Map(LowCardinality(String), Float64)') AS attributes_float,
    CAST(arrayMap(pair -> (pair.key, pair.value.bool_value), arrayFilter(pair -> pair.value.value = 'bool_value', pairs)), 'Map(LowCardinality(String), Bool)') AS attributes_bool,
    CAST(arrayMap(
        pair -> (pair.key, multiIf(
            pair.value.value = 'json_value', pair.value.json_value,
            pair.value.value = 'array_value', array_json(pair.value.array_value.values),
            'null')),
        arrayFilter(pair -> pair.value.value IN ('array_value', 'json_value', 'no'), pairs)), 'Map(LowCardinality(String), String)') AS attributes_json,
    CAST(arrayMap(pair -> (pair.key, pair.value.bytes_value), arrayFilter(pair -> pair.value.value = 'bytes_value', pairs)), 'Map(LowCardinality(String), String)') AS attributes_bytes,
    record.dropped_attributes_count AS dropped_attributes_count,
    sender_bound,
    fromUnixTimestamp64Nano(toInt64(received_ns), 'UTC') AS received_at
FROM (
    SELECT
        received_ns, sender_bound, experiment_id, service_name, resource_attributes,
        toLowCardinality(scope.scope.name) AS scope_name,
        toLowCardinality(scope.scope.version) AS scope_version,
        toLowCardinality(flat_json(scope.scope.attributes)) AS scope_attributes,
        toLowCardinality(if(scope.schema_url != '', scope.schema_url, resource_url)) AS schema_url,
        record,
        record.attributes AS pairs,
        if(record.time_unix_nano != 0, record.time_unix_nano, record.observed_time_unix_nano) AS stated
    FROM (
        SELECT
            received_at AS received_ns,
            sender_bound,
            experiment_id,
            toLowCardinality(resource.resource.attributes.value.string_value[indexOf(resource.resource.attributes.key, 'service.name')]) AS service_name,
            toLowCardinality(resource_json(resource.resource.attributes)) AS resource_attributes,
            resource.schema_url AS resource_url,
            resource.scope_logs AS scopes
        FROM otlp_logs_in
        ARRAY JOIN resource_logs AS resource, experiment_ids AS experiment_id
    )
    ARRAY JOIN scopes AS scope
    ARRAY JOIN scope.log_records AS record
);

DROP VIEW IF EXISTS evaluation_notes_mv;

-- The batch is named as in trace_touches_mv.
CREATE MATERIALIZED VIEW IF NOT EXISTS evaluation_notes_mv TO evaluation_notes AS
SELECT
    getSetting('log_comment') AS batch, experiment_id, sender_bound, log_id, time, trace_id, span_id, service_name, scope_name,
    attributes_string, attributes_int, attributes_float, attributes_bool, now('UTC') AS inserted_at
FROM log_rows
WHERE event_name = 'gen_ai.evaluation.result';

CREATE OR REPLACE VIEW logs AS
SELECT
    experiment_id, time, observed_time, severity_number, severity_text, event_name, body, body_type, trace_id, span_id,
    service_name, resource_attributes, scope_name, scope_version, scope_attributes, schema_url,
    attributes_string, attributes_int, attributes_float, attributes_bool, attributes_json, attributes_bytes,
    mapConcat(
        CAST(attributes_string, 'Map(String, String)'),
        mapApply((key, value) -> (toString(key), toString(value)), attributes_int),
        mapApply((key, value) -> (toString(key), toString(value)), attributes_float),
        mapApply((key, value) -> (toString(key), if(value, 'true', 'false')), attributes_bool),
        CAST(attributes_json, 'Map(String, String)'),
        mapApply((key, value) -> (toString(key), base64Encode(value)), attributes_bytes)) AS attributes,
    flags, dropped_attributes_count, lower(hex(log_id)) AS log_id, received_at
FROM log_rows FINAL
-- as in the view `spans`
SETTINGS optimize_move_to_prewhere_if_final = 1;
