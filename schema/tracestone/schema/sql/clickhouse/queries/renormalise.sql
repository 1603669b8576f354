-- Stored spans through the views of now, generated from the map of attributes in force; spans_again.sql.tmpl shows each as
-- it came in. What is filled by this map already is left alone.

-- name: changed
-- How many spans of these slices another map filled.
SELECT count() AS changed FROM span_rows FINAL
PREWHERE experiment_id = {experiment_id:UInt32}
    AND intDiv(toInt64(start_time), 5) > {after:Int64} AND intDiv(toInt64(start_time), 5) <= {upto:Int64}
WHERE map_version != (SELECT version FROM attribute_maps ORDER BY applied_at DESC, version DESC LIMIT 1)
  AND start_time >= fromUnixTimestamp64Nano({from_ns:Int64}, 'UTC') AND start_time < fromUnixTimestamp64Nano({to_ns:Int64}, 'UTC')

-- name: rewrite
-- Writes these spans anew. The new row has the version of the old one, so it replaces that, being inserted later, and gives
-- way to whatever has arrived meanwhile.
INSERT INTO spans_in (* EXCEPT (finish_told))
SELECT
    * EXCEPT (of_trace, of_span, began, map_version, tells_of_parent, moves)
    REPLACE (firstNonDefault(exception_type, ${exception_told}) AS exception_type),
    ${input_told} AS input_told,
    ${output_told} AS output_told
FROM spans_again
WHERE experiment_id = {experiment_id:UInt32}
    AND intDiv(toInt64(began), 5) > {after:Int64} AND intDiv(toInt64(began), 5) <= {upto:Int64}
    AND map_version != (SELECT version FROM attribute_maps ORDER BY applied_at DESC, version DESC LIMIT 1)
    AND began >= fromUnixTimestamp64Nano({from_ns:Int64}, 'UTC') AND began < fromUnixTimestamp64Nano({to_ns:Int64}, 'UTC')

-- name: hide_moved
-- Hides the rows of spans that are other spans' now: Logfire's markers, from before they were known as such.
INSERT INTO span_rows (experiment_id, trace_id, span_id, start_time, received_at, is_deleted)
SELECT experiment_id, of_trace, of_span, began, fromUnixTimestamp64Nano(toInt64(received_ns), 'UTC'), 1
FROM spans_again
WHERE experiment_id = {experiment_id:UInt32}
    AND intDiv(toInt64(began), 5) > {after:Int64} AND intDiv(toInt64(began), 5) <= {upto:Int64}
    AND map_version != (SELECT version FROM attribute_maps ORDER BY applied_at DESC, version DESC LIMIT 1)
    AND began >= fromUnixTimestamp64Nano({from_ns:Int64}, 'UTC') AND began < fromUnixTimestamp64Nano({to_ns:Int64}, 'UTC')
    AND moves
