-- not blocking: creates tables, a materialised view and a view

-- What the loader of metrics writes to: OTLP requests as they arrived, one row a request
-- (protos/ingest/v1/metrics.proto).
CREATE TABLE IF NOT EXISTS otlp_metrics_in (
    resource_metrics Array(Tuple(
        resource Tuple(
            attributes Array(Tuple(key String, value Tuple(
                value Enum8('no' = 0, 'string_value' = 1, 'bool_value' = 2, 'int_value' = 3, 'double_value' = 4, 'array_value' = 5, 'bytes_value' = 7, 'json_value' = 100),
                string_value String, bool_value Bool, int_value Int64, double_value Float64,
                array_value Tuple(values Array(Tuple(
                    value Enum8('no' = 0, 'string_value' = 1, 'bool_value' = 2, 'int_value' = 3, 'double_value' = 4, 'bytes_value' = 7),
                    string_value String, bool_value Bool, int_value Int64, double_value Float64, bytes_value String))),
                bytes_value String, json_value String)))),
        scope_metrics Array(Tuple(
            scope Tuple(
                name String,
                version String,
                attributes Array(Tuple(key String, value Tuple(
                    value Enum8('no' = 0, 'string_value' = 1, 'bool_value' = 2, 'int_value' = 3, 'double_value' = 4, 'bytes_value' = 7, 'json_value' = 100),
                    string_value String, bool_value Bool, int_value Int64, double_value Float64, bytes_value String, json_value String)))),
            metrics Array(Tuple(
                name String,
                description String,
                unit String,
                data Enum8('no' = 0, 'gauge' = 5, 'sum' = 7, 'histogram' = 9, 'exponential_histogram' = 10, 'summary' = 11),
                gauge Tuple(data_points Array(Tuple(
                    start_time_unix_nano UInt64, time_unix_nano UInt64,
                    value Enum8('no' = 0, 'as_double' = 4, 'as_int' = 6), as_double Float64, as_int Int64, flags UInt32,
                    attributes Array(Tuple(key String, value Tuple(
                        value Enum8('no' = 0, 'string_value' = 1, 'bool_value' = 2, 'int_value' = 3, 'double_value' = 4, 'bytes_value' = 7, 'json_value' = 100),
                        string_value String, bool_value Bool, int_value Int64, double_value Float64, bytes_value String, json_value String))),
                    exemplars Array(Tuple(
                        time_unix_nano UInt64, value Enum8('no' = 0, 'as_double' = 3, 'as_int' = 6), as_double Float64, as_int Int64,
                        trace_id String, span_id String,
                        filtered_attributes Array(Tuple(key String, value Tuple(
                            value Enum8('no' = 0, 'string_value' = 1, 'bool_value' = 2, 'int_value' = 3, 'double_value' = 4, 'bytes_value' = 7, 'json_value' = 100),
                            string_value String, bool_value Bool, int_value Int64, double_value Float64, bytes_value String, json_value String)))))))),
                sum Tuple(
                    data_points Array(Tuple(
                        start_time_unix_nano UInt64, time_unix_nano UInt64,
                        value Enum8('no' = 0, 'as_double' = 4, 'as_int' = 6), as_double Float64, as_int Int64, flags UInt32,
                        attributes Array(Tuple(key String, value Tuple(
                            value Enum8('no' = 0, 'string_value' = 1, 'bool_value' = 2, 'int_value' = 3, 'double_value' = 4, 'bytes_value' = 7, 'json_value' = 100),
                            string_value String, bool_value Bool, int_value Int64, double_value Float64, bytes_value String, json_value String))),
                        exemplars Array(Tuple(
                            time_unix_nano UInt64, value Enum8('no' = 0, 'as_double' = 3, 'as_int' = 6), as_double Float64, as_int Int64,
                            trace_id String, span_id String,
                            filtered_attributes Array(Tuple(key String, value Tuple(
                                value Enum8('no' = 0, 'string_value' = 1, 'bool_value' = 2, 'int_value' = 3, 'double_value' = 4, 'bytes_value' = 7, 'json_value' = 100),
                                string_value String, bool_value Bool, int_value Int64, double_value Float64, bytes_value String, json_value String))))))),
                    aggregation_temporality Int32,
                    is_monotonic Bool),
                histogram Tuple(
                    data_points Array(Tuple(
                        start_time_unix_nano UInt64, time_unix_nano UInt64, count UInt64,
                        sum Nullable(Float64), min Nullable(Float64), max Nullable(Float64),
                        bucket_counts Array(UInt64), explicit_bounds Array(Float64), flags UInt32,
                        attributes Array(Tuple(key String, value Tuple(
                            value Enum8('no' = 0, 'string_value' = 1, 'bool_value' = 2, 'int_value' = 3, 'double_value' = 4, 'bytes_value' = 7, 'json_value' = 100),
                            string_value String, bool_value Bool, int_value Int64, double_value Float64, bytes_value String, json_value String))),
                        exemplars Array(Tuple(
                            time_unix_nano UInt64, value Enum8('no' = 0, 'as_double' = 3, 'as_int' = 6), as_double Float64, as_int Int64,
                            trace_id String, span_id String,
                            filtered_attributes Array(Tuple(key String, value Tuple(
                                value Enum8('no' = 0, 'string_value' = 1, 'bool_value' = 2, 'int_value' = 3, 'double_value' = 4, 'bytes_value' = 7, 'json_value' = 100),
                                string_value String, bool_value Bool, int_value Int64, double_value Float64, bytes_value String, json_value String))))))),
                    aggregation_temporality Int32),
                exponential_histogram Tuple(
                    data_points Array(Tuple(
                        start_time_unix_nano UInt64, time_unix_nano UInt64, count UInt64,
                        sum Nullable(Float64), min Nullable(Float64), max Nullable(Float64),
                        scale Int32, zero_count UInt64, zero_threshold Float64,
                        positive Tuple(offset Int32, bucket_counts Array(UInt64)),
                        negative Tuple(offset Int32, bucket_counts Array(UInt64)), flags UInt32,
                        attributes Array(Tuple(key String, value Tuple(
                            value Enum8('no' = 0, 'string_value' = 1, 'bool_value' = 2, 'int_value' = 3, 'double_value' = 4, 'bytes_value' = 7, 'json_value' = 100),
                            string_value String, bool_value Bool, int_value Int64, double_value Float64, bytes_value String, json_value String))),
                        exemplars Array(Tuple(
                            time_unix_nano UInt64, value Enum8('no' = 0, 'as_double' = 3, 'as_int' = 6), as_double Float64, as_int Int64,
                            trace_id String, span_id String,
                            filtered_attributes Array(Tuple(key String, value Tuple(
                                value Enum8('no' = 0, 'string_value' = 1, 'bool_value' = 2, 'int_value' = 3, 'double_value' = 4, 'bytes_value' = 7, 'json_value' = 100),
                                string_value String, bool_value Bool, int_value Int64, double_value Float64, bytes_value String, json_value String))))))),
                    aggregation_temporality Int32),
                summary Tuple(data_points Array(Tuple(
                    start_time_unix_nano UInt64, time_unix_nano UInt64, count UInt64, sum Float64,
                    quantile_values Array(Tuple(quantile Float64, value Float64)), flags UInt32,
                    attributes Array(Tuple(key String, value Tuple(
                        value Enum8('no' = 0, 'string_value' = 1, 'bool_value' = 2, 'int_value' = 3, 'double_value' = 4, 'bytes_value' = 7, 'json_value' = 100),
                        string_value String, bool_value Bool, int_value Int64, double_value Float64, bytes_value String, json_value String)))))),
                metadata Array(Tuple(key String, value Tuple(
                    value Enum8('no' = 0, 'string_value' = 1, 'bool_value' = 2, 'int_value' = 3, 'double_value' = 4, 'bytes_value' = 7, 'json_value' = 100),
                    string_value String, bool_value Bool, int_value Int64, double_value Float64, bytes_value String, json_value String))))),
            schema_url String)),
        schema_url String)),
    experiment_ids Array(UInt32),
    received_at UInt64
) ENGINE = Null;

-- Data points as stored; read through the view `metrics`.
-- A data point is known by its metric, its attributes, resource and scope (all of which make `series_id`) and its time;
-- the one received last counts.
-- `time` is 1970 when the sender stated none, neither of the point nor of its start.
CREATE TABLE IF NOT EXISTS metric_rows (
    experiment_id UInt32,
    name LowCardinality(String),
    series_id FixedString(16) CODEC(ZSTD(1)),
    time DateTime64(9, 'UTC') CODEC(DoubleDelta, ZSTD(1)),
    start_time DateTime64(9, 'UTC') CODEC(Delta, ZSTD(1)),
    type Enum8('gauge' = 5, 'sum' = 7, 'histogram' = 9, 'exponential_histogram' = 10, 'summary' = 11),
    description LowCardinality(String),
    unit LowCardinality(String),
    temporality Enum8('UNSPECIFIED' = 0, 'DELTA' = 1, 'CUMULATIVE' = 2),
    is_monotonic Bool,
    value Nullable(Float64) CODEC(ZSTD(1)),
    value_int Nullable(Int64) CODEC(ZSTD(1)),
    count Nullable(UInt64) CODEC(ZSTD(1)),
    sum Nullable(Float64) CODEC(ZSTD(1)),
    min Nullable(Float64) CODEC(ZSTD(1)),
    max Nullable(Float64) CODEC(ZSTD(1)),
    bucket_counts Array(UInt64) CODEC(ZSTD(1)),
    bucket_bounds Array(Float64) CODEC(ZSTD(1)),
    scale Int32 CODEC(ZSTD(1)),
    zero_count UInt64 CODEC(ZSTD(1)),
    zero_threshold Float64 CODEC(ZSTD(1)),
    positive_offset Int32 CODEC(ZSTD(1)),
    positive_counts Array(UInt64) CODEC(ZSTD(1)),
    negative_offset Int32 CODEC(ZSTD(1)),
    negative_counts Array(UInt64) CODEC(ZSTD(1)),
    quantiles Array(Tuple(quantile Float64, value Float64)) CODEC(ZSTD(1)),
    exemplars Array(Tuple(time DateTime64(9, 'UTC'), value Float64, trace_id String, span_id String, attributes String)) CODEC(ZSTD(1)),
    flags UInt32 CODEC(ZSTD(1)),
    service_name LowCardinality(String),
    resource_attributes LowCardinality(String),
    scope_name LowCardinality(String),
    scope_version LowCardinality(String),
    scope_attributes LowCardinality(String),
    schema_url LowCardinality(String),
    metadata LowCardinality(String),
    attributes_string Map(LowCardinality(String), String) CODEC(ZSTD(1)),
    attributes_int Map(LowCardinality(String), Int64) CODEC(ZSTD(1)),
    attributes_float Map(LowCardinality(String), Float64) CODEC(ZSTD(1)),
    attributes_bool Map(LowCardinality(String), Bool) CODEC(ZSTD(1)),
    attributes_json Map(LowCardinality(String), String) CODEC(ZSTD(1)),
    attributes_bytes Map(LowCardinality(String), String) CODEC(ZSTD(1)),
    received_at DateTime64(9, 'UTC') CODEC(Delta, ZSTD(1))
) ENGINE = ReplacingMergeTree(received_at)
PARTITION BY if(time BETWEEN received_at - INTERVAL 400 DAY AND received_at + INTERVAL 2 DAY, toMonday(time), toDate(0))
ORDER BY (experiment_id, name, toStartOfHour(time), series_id, time)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1, min_rows_to_fsync_after_merge = 1, min_parts_to_merge_at_once = 10;

DROP VIEW IF EXISTS metric_rows_mv;

-- The points of all types get one shape first, so that they are unfolded together.
CREATE MATERIALIZED VIEW IF NOT EXISTS metric_rows_mv TO metric_rows AS
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
    experiment_id, name,
    sipHash128(type, unit, temporality, is_monotonic, resource_attributes, scope_name, scope_version, scope_attributes, arraySort(point.attributes)) AS series_id,
    moment(if(point.time != 0, point.time, point.start)) AS time,
    moment(point.start) AS start_time,
    type, description, unit, temporality, is_monotonic,
    multiIf(point.value_type = 1, point.double, point.value_type = 2, toFloat64(point.int), NULL) AS value,
    if(point.value_type = 2, point.int, NULL) AS value_int,
    point.count AS count, point.sum AS sum, point.min AS min, point.max AS max,
    point.counts AS bucket_counts, point.bounds AS bucket_bounds,
    point.scale AS scale, point.zero_count AS zero_count, point.zero_threshold AS zero_threshold,
    point.positive.offset AS positive_offset, point.positive.bucket_counts AS positive_counts,
    point.negative.offset AS negative_offset, point.negative.bucket_counts AS negative_counts,
    point.quantiles AS quantiles,
    arrayMap(exemplar -> (
        moment(exemplar.time_unix_nano),
        if(exemplar.value = 'as_int', toFloat64(exemplar.as_int), exemplar.as_double),
        lower(hex(exemplar.trace_id)), lower(hex(exemplar.span_id)),
        flat_json(exemplar.filtered_attributes)), point.exemplars) AS exemplars,
    point.flags AS flags,
    service_name, resource_attributes, scope_name, scope_version, scope_attributes, schema_url, metadata,
    CAST(arrayMap(pair -> (pair.key, pair.value.string_value), arrayFilter(pair -> pair.value.value = 'string_value', point.attributes)), 'Map(LowCardinality(String), String)') AS attributes_string,
    CAST(arrayMap(pair -> (pair.key, pair.value.int_value), arrayFilter(pair -> pair.value.value = 'int_value', point.attributes)), 'Map(LowCardinality(String), Int64)') AS attributes_int,
    CAST(arrayMap(pair -> (pair.key, pair.value.double_value), arrayFilter(pair -> pair.value.value = 'double_value', point.attributes)), 'Map(LowCardinality(String), Float64)') AS attributes_float,
    CAST(arrayMap(pair -> (pair.key, pair.value.bool_value), arrayFilter(pair -> pair.value.value = 'bool_value', point.attributes)), 'Map(LowCardinality(String), Bool)') AS attributes_bool,
    CAST(arrayMap(pair -> (pair.key, if(pair.value.value = 'json_value', pair.value.json_value, 'null')), arrayFilter(pair -> pair.value.value IN ('json_value', 'no'), point.attributes)), 'Map(LowCardinality(String), String)') AS attributes_json,
    CAST(arrayMap(pair -> (pair.key, pair.value.bytes_value), arrayFilter(pair -> pair.value.value = 'bytes_value', point.attributes)), 'Map(LowCardinality(String), String)') AS attributes_bytes,
    fromUnixTimestamp64Nano(toInt64(received_ns), 'UTC') AS received_at
FROM (
    SELECT
        received_ns, experiment_id, service_name, resource_attributes, scope_name, scope_version, scope_attributes, schema_url,
        toLowCardinality(metric.name) AS name,
        toLowCardinality(metric.description) AS description,
        toLowCardinality(metric.unit) AS unit,
        toLowCardinality(flat_json(metric.metadata)) AS metadata,
        CAST(toString(metric.data), 'Enum8(\'gauge\' = 5, \'sum\' = 7, \'histogram\' = 9, \'exponential_histogram\' = 10, \'summary\' = 11)') AS type,
        CAST(toInt8(if(metric.data = 'sum', metric.sum.aggregation_temporality, if(metric.data = 'histogram', metric.histogram.aggregation_temporality, metric.exponential_histogram.aggregation_temporality)) AS stated_temporality) * (stated_temporality BETWEEN 0 AND 2), 'Enum8(\'UNSPECIFIED\' = 0, \'DELTA\' = 1, \'CUMULATIVE\' = 2)') AS temporality,
        metric.sum.is_monotonic AS is_monotonic,
        CAST(multiIf(
            metric.data IN ('gauge', 'sum'), arrayMap(point -> (
                point.start_time_unix_nano, point.time_unix_nano, multiIf(point.value = 'as_double', 1, point.value = 'as_int', 2, 0),
                point.as_double, point.as_int, NULL, NULL, NULL, NULL, [], [], 0, 0, 0, (0, []), (0, []), [],
                point.flags, point.attributes, point.exemplars), if(metric.data = 'sum', metric.sum.data_points, metric.gauge.data_points)),
            metric.data = 'histogram', arrayMap(point -> (
                point.start_time_unix_nano, point.time_unix_nano, 0,
                0, 0, point.count, point.sum, point.min, point.max, point.bucket_counts, point.explicit_bounds, 0, 0, 0, (0, []), (0, []), [],
                point.flags, point.attributes, point.exemplars), metric.histogram.data_points),
            metric.data = 'exponential_histogram', arrayMap(point -> (
                point.start_time_unix_nano, point.time_unix_nano, 0,
                0, 0, point.count, point.sum, point.min, point.max, [], [], point.scale, point.zero_count, point.zero_threshold, point.positive, point.negative, [],
                point.flags, point.attributes, point.exemplars), metric.exponential_histogram.data_points),
            arrayMap(point -> (
                point.start_time_unix_nano, point.time_unix_nano, 0,
                0, 0, point.count, point.sum, NULL, NULL, [], [], 0, 0, 0, (0, []), (0, []), point.quantile_values,
                point.flags, point.attributes, []), metric.summary.data_points)),
            'Array(Tuple(
                start UInt64, time UInt64, value_type UInt8, double Float64, int Int64,
                count Nullable(UInt64), sum Nullable(Float64), min Nullable(Float64), max Nullable(Float64),
                counts Array(UInt64), bounds Array(Float64), scale Int32, zero_count UInt64, zero_threshold Float64,
                positive Tuple(offset Int32, bucket_counts Array(UInt64)), negative Tuple(offset Int32, bucket_counts Array(UInt64)),
                quantiles Array(Tuple(quantile Float64, value Float64)), flags UInt32,
                attributes Array(Tuple(key String, value Tuple(
                    value Enum8(\'no\' = 0, \'string_value\' = 1, \'bool_value\' = 2, \'int_value\' = 3, \'double_value\' = 4, \'bytes_value\' = 7, \'json_value\' = 100),
                    string_value String, bool_value Bool, int_value Int64, double_value Float64, bytes_value String, json_value String))),
                exemplars Array(Tuple(
                    time_unix_nano UInt64, value Enum8(\'no\' = 0, \'as_double\' = 3, \'as_int\' = 6), as_double Float64, as_int Int64,
                    trace_id String, span_id String,
                    filtered_attributes Array(Tuple(key String, value Tuple(
                        value Enum8(\'no\' = 0, \'string_value\' = 1, \'bool_value\' = 2, \'int_value\' = 3, \'double_value\' = 4, \'bytes_value\' = 7, \'json_value\' = 100),
                        string_value String, bool_value Bool, int_value Int64, double_value Float64, bytes_value String, json_value String)))))
            ))') AS points
    FROM (
        SELECT
            received_ns, experiment_id, service_name, resource_attributes,
            toLowCardinality(scope.scope.name) AS scope_name,
            toLowCardinality(scope.scope.version) AS scope_version,
            toLowCardinality(flat_json(scope.scope.attributes)) AS scope_attributes,
            toLowCardinality(if(scope.schema_url != '', scope.schema_url, resource_url)) AS schema_url,
            metric
        FROM (
            SELECT
                received_at AS received_ns,
                experiment_id,
                toLowCardinality(resource.resource.attributes.value.string_value[indexOf(resource.resource.attributes.key, 'service.name')]) AS service_name,
                toLowCardinality(resource_json(resource.resource.attributes)) AS resource_attributes,
                resource.schema_url AS resource_url,
                resource.scope_metrics AS scopes
            FROM otlp_metrics_in
            ARRAY JOIN resource_metrics AS resource, experiment_ids AS experiment_id
        )
        ARRAY JOIN scopes AS scope
        ARRAY JOIN scope.metrics AS metric
    )
    WHERE metric.data != 'no'
)
ARRAY JOIN points AS point;

CREATE OR REPLACE VIEW metrics AS
SELECT
    experiment_id, name, toString(type) AS type, description, unit, toString(temporality) AS temporality, is_monotonic,
    start_time, time, value, value_int, count, sum, min, max, bucket_counts, bucket_bounds,
    scale, zero_count, zero_threshold, positive_offset, positive_counts, negative_offset, negative_counts, quantiles,
    exemplars, flags, bitTest(flags, 0) = 1 AS no_recorded_value,
    service_name, resource_attributes, scope_name, scope_version, scope_attributes, schema_url, metadata,
    attributes_string, attributes_int, attributes_float, attributes_bool, attributes_json, attributes_bytes,
    mapConcat(
        CAST(attributes_string, 'Map(String, String)'),
        mapApply((key, value) -> (toString(key), toString(value)), attributes_int),
        mapApply((key, value) -> (toString(key), toString(value)), attributes_float),
        mapApply((key, value) -> (toString(key), if(value, 'true', 'false')), attributes_bool),
        CAST(attributes_json, 'Map(String, String)'),
        mapApply((key, value) -> (toString(key), base64Encode(value)), attributes_bytes)) AS attributes,
    lower(hex(series_id)) AS series_id, received_at
FROM metric_rows FINAL
-- as in the view `spans`
SETTINGS optimize_move_to_prewhere_if_final = 1;
