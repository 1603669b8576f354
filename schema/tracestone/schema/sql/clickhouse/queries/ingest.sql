-- name: refresh_traces
-- Computes, whole, the rows of all traces that some batches touched.
-- Each call's usage is counted once. A span above another that reports usage repeats it and is left out: `above` holds
-- the places of all spans that are above one with usage, found in as many rounds as the trace's size has bits, since each
-- round looks twice as far up. Spans of one response id are one call: of each number the greatest counts, a model call's
-- before others', a cost that was reported before one that was computed. All of it works on whole arrays, because what a
-- lambda takes from outside is copied for each element. Ids and sort keys are numbers here because ClickHouse aggregates
-- numbers several times faster than texts and tuples.
-- Of a trace's rows the one written last counts. `at_least_ns` is 0, or where the clock was put back a later time.
-- Fails with code 395 rather than count a span twice; then moved_spans.sql is due, and this again.
INSERT INTO trace_rows
WITH touched AS (
    SELECT experiment_id, trace_id FROM trace_touches
    WHERE batch IN {batches:Array(String)} AND sipHash64(trace_id) % {shares:UInt32} = {share:UInt32}
    GROUP BY experiment_id, trace_id
),
-- what counts of some numbers, each call once; -1 stands for a missing one
((ranks, numbers) -> arrayReverseSort(arrayFilter((one, times) -> times = 1 AND one.2 >= 0, arrayZip(ranks, numbers, usage_calls), usage_times))) AS best_first,
((ranks, numbers) -> arrayFilter((one, times) -> times = 1, best_first(ranks, numbers), arrayEnumerateUniq(best_first(ranks, numbers).3)).2) AS of_calls,
((ranks, numbers) -> if(empty(of_calls(ranks, numbers)), NULL, arraySum(of_calls(ranks, numbers)))) AS once
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
    if(is_plain, sum_input, once(usage_is_model, usage_inputs)) AS input_tokens,
    if(is_plain, sum_output, once(usage_is_model, usage_outputs)) AS output_tokens,
    if(is_plain, sum_total, once(usage_is_model, usage_totals)) AS total_tokens,
    if(is_plain, sum_cost, once(usage_cost_ranks, usage_costs)) AS cost_total,
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
        empty(above) AND arrayUniq(usage_calls) = length(usage_calls) AS is_plain,
        -- 1 for usage that counts, more for what repeats another's
        arraySlice(arrayEnumerateUniq(arrayConcat(above, usage_places)), length(above) + 1) AS usage_times
    FROM (
        SELECT
            *,
            arrayFilter((place, has_usage) -> has_usage, arrayEnumerate(span_ids), with_usage) AS usage_places,
            -- the place of each span's parent, 0 for none and for itself; the first is that of no span
            arrayConcat([toUInt32(0)], arrayMap(
                (place, own) -> if(place > span_count OR place = own, 0, place),
                arraySlice(arrayEnumerateDense(arrayConcat(span_ids, parent_ids)), span_count + 1),
                arrayEnumerate(span_ids))) AS parents,
            if(empty(usage_ids) OR span_count < 500 AND NOT hasAny(usage_ids, parent_ids), emptyArrayUInt32(), arrayFold(
                (found, round) -> (
                    arrayDistinct(arrayConcat(found.1, arrayReduceInRanges('any', arrayMap(place -> (toUInt64(place) + 1, toUInt64(1)), found.1), found.2))),
                    arrayReduceInRanges('any', arrayMap(place -> (toUInt64(place) + 1, toUInt64(1)), found.2), found.2)),
                range(toUInt8(log2(span_count)) + 1),
                (arrayDistinct(arrayReduceInRanges('any', arrayMap(place -> (toUInt64(place) + 1, toUInt64(1)), usage_places), parents)), parents)).1) AS above
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
                groupArray(has_usage) AS with_usage,
                groupArrayIf(id, has_usage) AS usage_ids,
                groupArrayIf(if(response_id = '', id, cityHash64(response_id)), has_usage) AS usage_calls,
                groupArrayIf(is_model, has_usage) AS usage_is_model,
                groupArrayIf(ifNull(s.input_tokens, -1), has_usage) AS usage_inputs,
                groupArrayIf(ifNull(s.output_tokens, -1), has_usage) AS usage_outputs,
                groupArrayIf(ifNull(s.total_tokens, -1), has_usage) AS usage_totals,
                groupArrayIf(ifNull(s.cost_total, -1), has_usage) AS usage_costs,
                groupArrayIf(2 * (cost_source = 'reported') + is_model, has_usage) AS usage_cost_ranks,
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
)

-- name: refreshed_beyond
-- When the last row of a trace was written that was written after some time, 1970 when none was.
SELECT toUnixTimestamp64Nano(max(version)) AS at_ns FROM trace_rows
WHERE version > fromUnixTimestamp64Nano({after_ns:Int64})
