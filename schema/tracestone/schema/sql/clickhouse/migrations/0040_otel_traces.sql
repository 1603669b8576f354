-- not blocking: creates views, and an index that parts written before do not have until they are merged

-- A trace's spans by its id alone, without experiment or time: which granules cannot hold it. All versions of a span
-- share its trace id, so the index may be asked before versions are told apart.
ALTER TABLE span_rows ADD INDEX IF NOT EXISTS traces trace_id TYPE bloom_filter(0.01) GRANULARITY 1;

-- Spans under the names, types and texts of the table `otel_traces` that the OpenTelemetry Collector's ClickHouse
-- exporter (opentelemetry-collector-contrib, exporter/clickhouseexporter) writes, for dashboards made for it. Over the
-- stored rows, since planning `spans` costs ten times more than what is asked of this view.
CREATE OR REPLACE VIEW otel_traces AS
SELECT
    start_time AS Timestamp,
    trace_id AS TraceId,
    span_id AS SpanId,
    parent_span_id AS ParentSpanId,
    trace_state AS TraceState,
    name AS SpanName,
    toLowCardinality(initcap(lower(toString(kind)))) AS SpanKind,
    service_name AS ServiceName,
    JSONExtract(resource_attributes, 'Map(LowCardinality(String), String)') AS ResourceAttributes,
    scope_name AS ScopeName,
    scope_version AS ScopeVersion,
    CAST(mapConcat(
        attributes_string,
        attributes_text,
        mapApply((key, value) -> (key, toString(value)), attributes_int),
        mapApply((key, value) -> (key, toString(value)), attributes_float),
        mapApply((key, value) -> (key, if(value, 'true', 'false')), attributes_bool),
        mapApply((key, value) -> (key, if(value = 'null', '', value)), attributes_json),
        mapApply((key, value) -> (key, base64Encode(value)), attributes_bytes)), 'Map(LowCardinality(String), String)') AS SpanAttributes,
    toUInt64(duration_ns) AS Duration,
    toLowCardinality(initcap(lower(toString(status_code)))) AS StatusCode,
    status_message AS StatusMessage,
    events.time AS `Events.Timestamp`,
    events.name AS `Events.Name`,
    arrayMap(attributes -> JSONExtract(attributes, 'Map(LowCardinality(String), String)'), events.attributes) AS `Events.Attributes`,
    links.trace_id AS `Links.TraceId`,
    links.span_id AS `Links.SpanId`,
    links.trace_state AS `Links.TraceState`,
    arrayMap(attributes -> JSONExtract(attributes, 'Map(LowCardinality(String), String)'), links.attributes) AS `Links.Attributes`,
    experiment_id AS ExperimentId
FROM span_rows FINAL
-- as in the view `spans`
SETTINGS optimize_move_to_prewhere_if_final = 1;

-- From when to when a trace has spans, as the exporter's table of that name says; in steps of five seconds.
CREATE OR REPLACE VIEW otel_traces_trace_id_ts AS
SELECT
    trace_id AS TraceId,
    toDateTime(greatest(0, least(min(slice) * 5, 4294967290)), 'UTC') AS Start,
    toDateTime(greatest(0, least(max(slice) * 5 + 4, 4294967290)), 'UTC') AS End
FROM trace_slices
GROUP BY trace_id;
