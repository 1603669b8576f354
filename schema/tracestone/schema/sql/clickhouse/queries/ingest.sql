-- name: refresh_traces
-- Computes, whole, the rows of all traces that some batches touched.
-- Usage is counted once: a span whose descendant also reports usage repeats it and is left out. Climbing from every
-- span with usage is quadratic in a trace's spans, so in a trace of more than 2,000 an agent's or chain's own usage
-- is left out when any model call reports usage. Ids and sort keys are numbers here because ClickHouse aggregates
-- numbers several times faster than texts and tuples.
-- Of a trace's rows the one written last counts. `at_least_ns` is 0, or where the clock was put back a later time.
-- Fails with code 395 rather than count a span twice; then moved_spans.sql is due, and this again.
INSERT INTO trace_rows
WITH touched AS (
    SELECT experiment_id, trace_id FROM trace_touches
    WHERE batch IN {batches:Array(String)} AND sipHash64(trace_id) % {shares:UInt32} = {share:UInt32}
    GROUP BY experiment_id, trace_id
)
SELECT
    experiment_id,
    trace_id,
    root_name,
    service_name,
    fromUnixTimestamp64Nano(start_ns, 'UTC') AS start_time,
    fromUnixTimestamp64Nano(end_ns, 'UTC') AS end_time,
    end_ns - start_ns AS duration_ns,
    multiIf(NOT complete, 'IN_PROGRESS', root_status = 'ERROR', 'ERROR', 'OK') AS state,
    span_count + throwIf(span_count != arrayUniq(span_ids), 'a span has two rows') AS span_count,
    error_count,
    if(empty(repeated), sum_input, if(arrayExists((id, value) -> NOT has(repeated, id) AND value >= 0, usage_ids, usage_inputs), arraySum((id, value) -> if(has(repeated, id) OR value < 0, 0, value), usage_ids, usage_inputs), NULL)) AS input_tokens,
    if(empty(repeated), sum_output, if(arrayExists((id, value) -> NOT has(repeated, id) AND value >= 0, usage_ids, usage_outputs), arraySum((id, value) -> if(has(repeated, id) OR value < 0, 0, value), usage_ids, usage_outputs), NULL)) AS output_tokens,
    if(empty(repeated), sum_total, if(arrayExists((id, value) -> NOT has(repeated, id) AND value >= 0, usage_ids, usage_totals), arraySum((id, value) -> if(has(repeated, id) OR value < 0, 0, value), usage_ids, usage_totals), NULL)) AS total_tokens,
    if(empty(repeated), sum_cost, if(arrayExists((id, value) -> NOT has(repeated, id) AND NOT isNaN(value), usage_ids, usage_costs), arraySum((id, value) -> if(has(repeated, id) OR isNaN(value), 0, value), usage_ids, usage_costs), NULL)) AS cost_total,
    models,
    session_id,
    user_id,
    tags,
    input_preview,
    output_preview,
    complete,
    last_seen,
    greatest(now64(9), fromUnixTimestamp64Nano({at_least_ns:Int64})) AS version
FROM (
    SELECT
        *,
        multiIf(
            NOT hasAny(usage_ids, parent_ids), emptyArrayUInt64(),
            span_count > 2000, if(has(usage_is_model, 1), arrayFilter((id, is_model) -> NOT is_model, usage_ids, usage_is_model), emptyArrayUInt64()),
            arrayFold(
                (above, level) -> arrayDistinct(arrayConcat(above, arrayMap(id -> parent_ids[indexOf(span_ids, id)], above))),
                range(least(span_count, 64)),
                arrayDistinct(usage_parents))) AS repeated
    FROM (
        WITH
            reinterpretAsUInt64(unhex(span_id)) AS id,
            reinterpretAsUInt64(unhex(parent_span_id)) AS parent_id,
            toUnixTimestamp64Nano(s.start_time) AS began,
            toUnixTimestamp64Nano(s.end_time) AS ended,
            parent_span_id = '' AS is_root,
            span_type IN ('llm', 'embedding', 'reranker') AS is_model,
            isNotNull(s.input_tokens) OR isNotNull(s.output_tokens) OR isNotNull(s.cost_total) AS has_usage,
            -- a root sorts before all others, among equals the one that began first
            toUInt64(began) + if(is_root, 0, 9223372036854775808) AS root_first,
            toUInt64(9223372036854775807 - ended) + if(is_root, 0, 9223372036854775808) AS root_then_last,
            if(response_model != '', response_model, request_model) AS model
        SELECT
            experiment_id,
            trace_id,
            argMin(name, root_first) AS root_name,
            argMin(s.service_name, root_first) AS service_name,
            argMin(status_code, root_first) AS root_status,
            min(began) AS start_ns,
            max(ended) AS end_ns,
            count() AS span_count,
            countIf(status_code = 'ERROR') AS error_count,
            sum(s.input_tokens) AS sum_input,
            sum(s.output_tokens) AS sum_output,
            sum(s.total_tokens) AS sum_total,
            sum(s.cost_total) AS sum_cost,
            groupArray(id) AS span_ids,
            groupArray(parent_id) AS parent_ids,
            groupArrayIf(id, has_usage) AS usage_ids,
            groupArrayIf(parent_id, has_usage) AS usage_parents,
            groupArrayIf(is_model, has_usage) AS usage_is_model,
            groupArrayIf(ifNull(s.input_tokens, -1), has_usage) AS usage_inputs,
            groupArrayIf(ifNull(s.output_tokens, -1), has_usage) AS usage_outputs,
            groupArrayIf(ifNull(s.total_tokens, -1), has_usage) AS usage_totals,
            groupArrayIf(ifNull(s.cost_total, nan), has_usage) AS usage_costs,
            groupUniqArrayIf(model, is_model AND model != '') AS models,
            argMinIf(s.session_id, root_first, s.session_id != '') AS session_id,
            argMinIf(s.user_id, root_first, s.user_id != '') AS user_id,
            argMinIf(s.tags, root_first, notEmpty(s.tags)) AS tags,
            argMinIf(s.input_preview, root_first, s.input_preview != '') AS input_preview,
            argMinIf(s.output_preview, root_then_last, s.output_preview != '') AS output_preview,
            max(is_root AND NOT in_progress) AS complete,
            max(received_at + toIntervalDay(in_progress)) AS last_seen
        FROM span_rows AS s FINAL
        -- All conditions are on the key, so they may come before versions are told apart. The first drops nearly all rows
        -- for the least: a set of single texts is looked up several times faster than one of tuples.
        PREWHERE trace_id IN (SELECT trace_id FROM touched)
            AND (experiment_id, intDiv(toInt64(s.start_time), 5)) IN (
                SELECT experiment_id, slice FROM trace_slices WHERE trace_id IN (SELECT trace_id FROM touched))
        GROUP BY experiment_id, trace_id
    )
)

-- name: refreshed_beyond
-- When the last row of a trace was written that was written after some time, 1970 when none was.
SELECT toUnixTimestamp64Nano(max(version)) AS at_ns FROM trace_rows
WHERE version > fromUnixTimestamp64Nano({after_ns:Int64})
