-- What every rewrite of stored spans shares: it goes through experiments in order, and in each through five-second
-- slices of time, some at once. Experiments and times may be bounded.

-- name: experiments
-- Experiments that have spans, in order, from one on.
SELECT DISTINCT experiment_id FROM span_rows
WHERE experiment_id >= {from_experiment:UInt32} AND ({experiment:Int64} < 0 OR experiment_id = {experiment:Int64})
ORDER BY experiment_id

-- name: spans
-- How many spans there are to be looked at.
SELECT count() AS spans FROM span_rows FINAL
PREWHERE ({experiment:Int64} < 0 OR experiment_id = {experiment:Int64})
  AND intDiv(toInt64(start_time), 5) BETWEEN {first_slice:Int64} AND {last_slice:Int64}

-- name: end_of_step
-- The last of the slices that together hold so many spans; no row when all that are left hold no more.
SELECT intDiv(toInt64(start_time), 5) AS slice FROM span_rows
WHERE experiment_id = {experiment_id:UInt32}
  AND intDiv(toInt64(start_time), 5) > {after:Int64} AND intDiv(toInt64(start_time), 5) <= {last_slice:Int64}
ORDER BY slice
LIMIT 1 OFFSET {spans:UInt64}

-- name: spans_in_step
-- How many spans these slices hold.
SELECT count() AS spans FROM span_rows FINAL
PREWHERE experiment_id = {experiment_id:UInt32}
  AND intDiv(toInt64(start_time), 5) > {after:Int64} AND intDiv(toInt64(start_time), 5) <= {upto:Int64}

-- name: touch_step
-- Notes all traces of these slices as touched, for a step that broke off after it had changed some.
INSERT INTO trace_touches
SELECT DISTINCT {batch:String}, experiment_id, trace_id, now('UTC') FROM span_rows
WHERE experiment_id = {experiment_id:UInt32}
  AND intDiv(toInt64(start_time), 5) > {after:Int64} AND intDiv(toInt64(start_time), 5) <= {upto:Int64}
