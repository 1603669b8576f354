-- name: experiments
-- Every experiment that is not in the bin, with what it holds; the one heard from last comes first.
SELECT
    experiment_id,
    names.name AS name,
    held.trace_count AS trace_count,
    held.error_count AS error_count,
    held.total_tokens AS total_tokens,
    held.cost_total AS cost_total,
    toUnixTimestamp64Nano(held.last_start) AS last_start_ns
FROM
(
    SELECT experiment_id, name FROM experiments WHERE lifecycle_stage != 'deleted'
) AS names
FULL JOIN
(
    SELECT
        experiment_id,
        count() AS trace_count,
        countIf(state = 'ERROR') AS error_count,
        sum(total_tokens) AS total_tokens,
        sum(cost_total) AS cost_total,
        max(start_time) AS last_start
    FROM traces
    WHERE experiment_id NOT IN (SELECT experiment_id FROM experiments WHERE lifecycle_stage = 'deleted')
    GROUP BY experiment_id
) AS held USING (experiment_id)
ORDER BY last_start DESC, experiment_id
LIMIT {limit:UInt32}

-- name: experiment_name
-- The name of one experiment; no row when its name has not been mirrored.
SELECT name FROM experiments WHERE experiment_id = {experiment_id:UInt32}

-- name: traces_older
-- Traces of an experiment that started before a place in the list, newest first.
SELECT
    experiment_id, trace_id, root_name, service_name,
    toUnixTimestamp64Nano(start_time) AS start_time_ns,
    toUnixTimestamp64Nano(end_time) AS end_time_ns,
    duration_ns, state, span_count, error_count, input_tokens, output_tokens, total_tokens, cost_total, models,
    session_id, user_id, tags, input_preview, output_preview, complete,
    toUnixTimestamp64Nano(last_seen) AS last_seen_ns
FROM traces
WHERE experiment_id = {experiment_id:UInt32}
  AND start_time <= fromUnixTimestamp64Nano({start_ns:Int64}, 'UTC')
  AND (start_time, trace_id) < (fromUnixTimestamp64Nano({start_ns:Int64}, 'UTC'), {trace_id:String})
  AND ({state:String} = '' OR state = {state:String})
  AND ({name:String} = '' OR positionCaseInsensitiveUTF8(root_name, {name:String}) > 0)
  AND ({session_id:String} = '' OR session_id = {session_id:String})
ORDER BY start_time DESC, trace_id DESC
LIMIT {limit:UInt32}

-- name: traces_newer
-- Traces of an experiment that started after a place in the list, oldest first.
SELECT
    experiment_id, trace_id, root_name, service_name,
    toUnixTimestamp64Nano(start_time) AS start_time_ns,
    toUnixTimestamp64Nano(end_time) AS end_time_ns,
    duration_ns, state, span_count, error_count, input_tokens, output_tokens, total_tokens, cost_total, models,
    session_id, user_id, tags, input_preview, output_preview, complete,
    toUnixTimestamp64Nano(last_seen) AS last_seen_ns
FROM traces
WHERE experiment_id = {experiment_id:UInt32}
  AND start_time >= fromUnixTimestamp64Nano({start_ns:Int64}, 'UTC')
  AND (start_time, trace_id) > (fromUnixTimestamp64Nano({start_ns:Int64}, 'UTC'), {trace_id:String})
  AND ({state:String} = '' OR state = {state:String})
  AND ({name:String} = '' OR positionCaseInsensitiveUTF8(root_name, {name:String}) > 0)
  AND ({session_id:String} = '' OR session_id = {session_id:String})
ORDER BY start_time, trace_id
LIMIT {limit:UInt32}

-- name: sessions
-- Sessions of an experiment that were last heard from before a place in the list, newest first.
SELECT
    session_id, user_ids, trace_count, error_count, total_tokens, cost_total,
    toUnixTimestamp64Nano(first_seen) AS first_seen_ns,
    toUnixTimestamp64Nano(last_seen) AS last_seen_ns
FROM sessions
WHERE experiment_id = {experiment_id:UInt32}
  AND (last_seen, session_id) < (fromUnixTimestamp64Nano({last_seen_ns:Int64}, 'UTC'), {session_id:String})
ORDER BY last_seen DESC, session_id DESC
LIMIT {limit:UInt32}

-- name: session
-- One session of an experiment; no row when there is none.
SELECT
    session_id, user_ids, trace_count, error_count, total_tokens, cost_total,
    toUnixTimestamp64Nano(first_seen) AS first_seen_ns,
    toUnixTimestamp64Nano(last_seen) AS last_seen_ns
FROM sessions
WHERE experiment_id = {experiment_id:UInt32} AND session_id = {session_id:String}

-- name: skeleton
-- How the spans of a trace hang together, the first of them by start: a span's place in the arrays is its place in that
-- order. Ids are numbers, 0 is no parent.
SELECT groupArray(id) AS span_ids, groupArray(parent_id) AS parent_ids, groupArray(failed) AS failed
FROM (
    SELECT
        reinterpretAsUInt64(reverse(unhex(span_id))) AS id,
        reinterpretAsUInt64(reverse(unhex(parent_span_id))) AS parent_id,
        toUInt8(status_code = 'ERROR') AS failed
    -- not the view `spans`: planning it costs more than reading the skeleton
    FROM span_rows FINAL
    -- all conditions are on the key, which the versions of a span share
    PREWHERE experiment_id = {experiment_id:UInt32}
      AND trace_id = {trace_id:String}
      AND intDiv(toInt64(start_time), 5) IN (
          SELECT slice FROM trace_slices
          WHERE trace_id = {trace_id:String} AND experiment_id = {experiment_id:UInt32})
    ORDER BY start_time, span_id
    LIMIT {limit:UInt32}
)

-- name: outline
-- Some spans of a trace without their long texts.
SELECT
    span_id, parent_span_id, name, span_type, service_name,
    toUnixTimestamp64Nano(start_time) AS start_time_ns,
    toUnixTimestamp64Nano(end_time) AS end_time_ns,
    duration_ns, in_progress, toString(status_code) AS status_code, error_type, total_tokens, cost_total
FROM span_rows FINAL
PREWHERE experiment_id = {experiment_id:UInt32}
  AND trace_id = {trace_id:String}
  AND intDiv(toInt64(start_time), 5) IN (
      SELECT slice FROM trace_slices
      WHERE trace_id = {trace_id:String} AND experiment_id = {experiment_id:UInt32})
  AND span_id IN {span_ids:Array(String)}
