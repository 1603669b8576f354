-- name: of_span
-- The first log records of a span, in order of time, of all experiments or of some.
SELECT
    log_id, toUnixTimestamp64Nano(time) AS time_ns, event_name, severity_text,
    leftUTF8(body, {characters:UInt32}) AS body, body_type,
    attributes_string, attributes_int, attributes_float, attributes_bool, attributes_json,
    mapApply((key, value) -> (key, base64Encode(value)), attributes_bytes) AS attributes_bytes
FROM logs
WHERE trace_id = {trace_id:String} AND span_id = {span_id:String}
  AND (NOT {bound:Bool} OR experiment_id IN {experiments:Array(UInt32)})
ORDER BY time, log_id
LIMIT {limit:UInt32}

-- name: evaluations
-- The evaluation events that a batch brought, each once, for one share of several.
SELECT
    lower(hex(log_id)) AS log_id, experiment_id, sender_bound, toUnixTimestamp64Nano(time) AS time_ns, trace_id, span_id,
    service_name, scope_name, attributes_string, attributes_int, attributes_float, attributes_bool
FROM evaluation_notes
WHERE batch = {batch:String} AND sipHash64(evaluation_notes.log_id) % {shares:UInt32} = {share:UInt32}
LIMIT 1 BY experiment_id, evaluation_notes.log_id

-- name: experiments_of_traces
-- In which experiments some traces have spans.
SELECT trace_id, groupUniqArray(experiment_id) AS experiments
FROM trace_slices
WHERE trace_id IN {trace_ids:Array(String)}
GROUP BY trace_id

-- name: spans_by_response
-- The latest spans of a time with these response ids, in each experiment.
SELECT response_id, experiment_id, argMax(trace_id, start_time) AS trace_id, argMax(span_id, start_time) AS span_id
FROM span_rows
WHERE intDiv(toInt64(start_time), 5) BETWEEN intDiv({from_ns:Int64}, 5000000000) AND intDiv({to_ns:Int64}, 5000000000)
  AND response_id IN {response_ids:Array(String)} AND NOT is_deleted
GROUP BY response_id, experiment_id

-- name: responses_of_spans
-- The response ids of some spans, given by the ids of their traces and their own.
SELECT trace_id, span_id, response_id
FROM span_rows
WHERE (experiment_id, intDiv(toInt64(start_time), 5)) IN (
    SELECT experiment_id, slice FROM trace_slices WHERE trace_id IN {trace_ids:Array(String)})
  AND trace_id IN {trace_ids:Array(String)} AND span_id IN {span_ids:Array(String)}
  AND response_id != '' AND NOT is_deleted
