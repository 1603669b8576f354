-- name: refresh_traces
-- Computes, whole, the rows of all traces that some batches touched.
-- Usage is counted once: a span whose descendant also reports usage repeats it and is left out. Climbing from every
-- span with usage is quadratic in a trace's spans, so in a trace of more than 2,000 an agent's or chain's own usage
-- is left out when any model call reports usage.
INSERT INTO trace_rows
WITH
    touched AS (
        SELECT experiment_id, trace_id FROM trace_touches WHERE batch IN {batches:Array(String)} GROUP BY experiment_id, trace_id
    )
    SELECT
    experiment_id,
    trace_id,
    root_name,
    service_name,
    start_time,
    end_time,
    toUnixTimestamp64Nano(end_time) - toUnixTimestamp64Nano(start_time) AS duration_ns,
    multiIf(NOT complete, 'IN_PROGRESS', root_status = 'ERROR', 'ERROR', 'OK') AS state,
    span_count,
    error_count,
    if(empty(inputs), NULL, arraySum(x -> coalesce(x, 0), inputs)) AS input_tokens,
    if(empty(outputs), NULL, arraySum(x -> coalesce(x, 0), outputs)) AS output_tokens,
    if(empty(totals), NULL, arraySum(x -> coalesce(x, 0), totals)) AS total_tokens,
    if(empty(costs), NULL, arraySum(x -> coalesce(x, 0), costs)) AS cost_total,
    models,
    session_id,
    user_id,
    tags,
    input_preview,
    output_preview,
    complete,
    last_seen,
    now64(9) AS version
FROM (
    SELECT
        *,
        arrayMap(usage -> usage.1, usages) AS usage_ids,
        multiIf(
            NOT hasAny(usage_ids, parent_ids), [],
            span_count > 2000, if(arrayExists(usage -> usage.3, usages), arrayMap(usage -> usage.1, arrayFilter(usage -> NOT usage.3, usages)), []),
            arrayFold(
                (above, level) -> arrayDistinct(arrayConcat(above, arrayMap(id -> parent_ids[indexOf(span_ids, id)], above))),
                range(least(span_count, 64)),
                arrayDistinct(arrayMap(usage -> usage.2, usages)))) AS repeated,
        arrayFilter(usage -> NOT has(repeated, usage.1), usages) AS counted,
        arrayFilter(x -> isNotNull(x), arrayMap(usage -> usage.4, counted)) AS inputs,
        arrayFilter(x -> isNotNull(x), arrayMap(usage -> usage.5, counted)) AS outputs,
        arrayFilter(x -> isNotNull(x), arrayMap(usage -> usage.6, counted)) AS totals,
        arrayFilter(x -> isNotNull(x), arrayMap(usage -> usage.7, counted)) AS costs
    FROM (
        WITH
            isNotNull(s.input_tokens) OR isNotNull(s.output_tokens) OR isNotNull(s.cost_total) AS has_usage,
            (s.parent_span_id != '', s.start_time) AS root_first
        SELECT
            experiment_id,
            trace_id,
            argMin(name, root_first) AS root_name,
            argMin(service_name, root_first) AS service_name,
            argMin(status_code, root_first) AS root_status,
            min(s.start_time) AS start_time,
            max(s.end_time) AS end_time,
            count() AS span_count,
            countIf(status_code = 'ERROR') AS error_count,
            groupArray(span_id) AS span_ids,
            groupArray(parent_span_id) AS parent_ids,
            groupArrayIf(
                (span_id, parent_span_id, span_type IN ('llm', 'embedding', 'reranker'), input_tokens, output_tokens, total_tokens, cost_total),
                has_usage) AS usages,
            groupUniqArrayIf(
                if(response_model != '', response_model, request_model),
                span_type IN ('llm', 'embedding', 'reranker') AND (response_model != '' OR request_model != '')) AS models,
            argMinIf(s.session_id, root_first, s.session_id != '') AS session_id,
            argMinIf(s.user_id, root_first, s.user_id != '') AS user_id,
            argMinIf(s.tags, root_first, notEmpty(s.tags)) AS tags,
            argMinIf(s.input_preview, root_first, s.input_preview != '') AS input_preview,
            argMinIf(s.output_preview, (parent_span_id != '', -toUnixTimestamp64Nano(s.end_time)), s.output_preview != '') AS output_preview,
            countIf(parent_span_id = '') > 0 AS complete,
            max(received_at) AS last_seen
        FROM span_rows AS s FINAL
        WHERE (experiment_id, toStartOfMinute(s.start_time), trace_id) IN (
            SELECT experiment_id, minute, trace_id FROM trace_minutes WHERE (trace_id, experiment_id) IN (SELECT trace_id, experiment_id FROM touched)
        )
        AND (experiment_id, trace_id) IN (SELECT experiment_id, trace_id FROM touched)
        GROUP BY experiment_id, trace_id
    )
)
