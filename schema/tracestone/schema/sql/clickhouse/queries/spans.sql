-- name: experiments_of_trace
-- In which experiments a trace id has spans.
SELECT DISTINCT experiment_id FROM trace_slices WHERE trace_id = {trace_id:String} ORDER BY experiment_id

-- name: spans_of_traces
-- The first spans of some traces of one experiment, at most so many of each, payloads included, in order of start. Analysing the view costs far more
-- than reading a trace, so whoever needs several asks for them together.
SELECT
    experiment_id, trace_id, span_id, parent_span_id, name, kind, span_type, service_name,
    toUnixTimestamp64Nano(start_time) AS start_time_ns, toUnixTimestamp64Nano(end_time) AS end_time_ns, duration_ns, in_progress,
    status_code, status_message, scope_name, scope_version, trace_state, resource_attributes,
    attributes_string, attributes_text, attributes_int, attributes_float, attributes_bool, attributes_json,
    mapApply((key, value) -> (key, base64Encode(value)), attributes_bytes) AS attributes_bytes,
    arrayMap(event -> (toUnixTimestamp64Nano(event.time), event.name, event.attributes), events) AS span_events,
    arrayMap(link -> (link.trace_id, link.span_id, link.attributes), links) AS span_links,
    operation, provider, request_model, response_model, input, output, input_messages, output_messages,
    system_instructions, tool_name, tool_arguments, tool_result, retrieval_documents,
    input_tokens, output_tokens, total_tokens, cost_total, session_id, user_id, agent_name, error_type,
    toUnixTimestamp64Nano(received_at) AS received_at_ns
FROM spans
WHERE experiment_id = {experiment_id:UInt32}
  AND intDiv(toInt64(start_time), 5) IN (
      SELECT slice FROM trace_slices
      WHERE trace_id IN {trace_ids:Array(String)} AND experiment_id = {experiment_id:UInt32})
  AND trace_id IN {trace_ids:Array(String)}
ORDER BY start_time, span_id
LIMIT {limit:UInt64} BY trace_id

-- name: plain_spans
-- The first spans of a trace, or one, without what must be put together (`spans_plain`), in order of start.
SELECT
    experiment_id, trace_id, span_id, parent_span_id, name, kind, span_type, service_name,
    toUnixTimestamp64Nano(start_time) AS start_time_ns, toUnixTimestamp64Nano(end_time) AS end_time_ns, duration_ns, in_progress,
    status_code, status_message, scope_name, scope_version, trace_state, resource_attributes,
    attributes_string, attributes_text, attributes_int, attributes_float, attributes_bool, attributes_json,
    mapApply((key, value) -> (key, base64Encode(value)), attributes_bytes) AS attributes_bytes,
    arrayMap(event -> (toUnixTimestamp64Nano(event.time), event.name, event.attributes), events) AS span_events,
    arrayMap(link -> (link.trace_id, link.span_id, link.attributes), links) AS span_links,
    operation, provider, request_model, response_model, input, output, tool_name,
    input_tokens, output_tokens, total_tokens, cost_total, session_id, user_id, agent_name, error_type,
    toUnixTimestamp64Nano(received_at) AS received_at_ns,
    messages_elsewhere AND (input = '' OR output = '') AS contents_wanted
FROM spans_plain
WHERE experiment_id = {experiment_id:UInt32}
  AND intDiv(toInt64(start_time), 5) IN (
      SELECT slice FROM trace_slices
      WHERE trace_id = {trace_id:String} AND experiment_id = {experiment_id:UInt32})
  AND trace_id = {trace_id:String}
  AND ({span_id:String} = '' OR span_id = {span_id:String})
ORDER BY start_time, span_id
LIMIT {limit:UInt64}

-- name: contents_of_spans
-- What `plain_spans` lacks of some spans of a trace, of all when none is named.
SELECT
    span_id, input_messages, output_messages, system_instructions, tool_arguments, tool_result, retrieval_documents
FROM spans
WHERE experiment_id = {experiment_id:UInt32}
  AND intDiv(toInt64(start_time), 5) IN (
      SELECT slice FROM trace_slices
      WHERE trace_id = {trace_id:String} AND experiment_id = {experiment_id:UInt32})
  AND trace_id = {trace_id:String}
  AND (empty({span_ids:Array(String)}) OR span_id IN {span_ids:Array(String)})

-- name: trace_infos
-- The rows of some traces of one experiment.
SELECT * EXCEPT (start_time, end_time, last_seen),
    toUnixTimestamp64Nano(start_time) AS start_time_ns, toUnixTimestamp64Nano(end_time) AS end_time_ns,
    toUnixTimestamp64Nano(last_seen) AS last_seen_ns
FROM traces
WHERE experiment_id = {experiment_id:UInt32} AND trace_id IN {trace_ids:Array(String)}

-- name: latest_traces
-- A page of an experiment's traces, newest first, after the one named by (before_ns, before_id).
SELECT * EXCEPT (start_time, end_time, last_seen),
    toUnixTimestamp64Nano(start_time) AS start_time_ns, toUnixTimestamp64Nano(end_time) AS end_time_ns,
    toUnixTimestamp64Nano(last_seen) AS last_seen_ns
FROM traces
WHERE experiment_id = {experiment_id:UInt32}
  AND (start_time, trace_id) < (fromUnixTimestamp64Nano({before_ns:Int64}, 'UTC'), {before_id:String})
ORDER BY start_time DESC, trace_id DESC
LIMIT {limit:UInt64}

-- name: traces_of_session
-- The latest traces of a session, newest first, each with how many there are, and with the state of the whole session.
SELECT * EXCEPT (start_time, end_time, last_seen),
    toUnixTimestamp64Nano(start_time) AS start_time_ns, toUnixTimestamp64Nano(end_time) AS end_time_ns,
    toUnixTimestamp64Nano(last_seen) AS last_seen_ns, count() OVER () AS traces,
    max(toUnixTimestamp64Nano(last_seen)) OVER () + sum(span_count) OVER () AS seen_ns
FROM traces
WHERE experiment_id = {experiment_id:UInt32} AND session_id = {session_id:String}
ORDER BY start_time DESC, trace_id DESC
LIMIT {limit:UInt64}
