-- name: now
-- The clock that also stamps rows.
SELECT toUnixTimestamp64Nano(now64(9)) AS now_ns

-- name: choose
-- A page of finished, filtered and sampled traces in order of due time; see watch.py and sample.py.
SELECT experiment_id, trace_id, due_ns
FROM (
    SELECT
        *,
        greatest(
            toUnixTimestamp64Nano(last_seen) + if(complete, {settle_ns:Int64}, {age_ns:Int64}),
            toUnixTimestamp64Nano(updated_at)
        ) AS due_ns
    FROM traces
    WHERE ({every:UInt8} AND NOT has({left_out:Array(UInt32)}, experiment_id) OR experiment_id = {experiment_id:UInt32} AND NOT {every:UInt8})
      AND (complete OR NOT {prompt:UInt8})
)
WHERE due_ns < {until_ns:Int64}
  AND (due_ns, trace_id) > ({after_ns:Int64}, {after_id:String})
  AND bitShiftRight(sipHash64(concat({salt:String}, char(0), trace_id)), 11) < {threshold:UInt64}
  AND /* filter */
ORDER BY due_ns, trace_id
LIMIT {page:UInt64} WITH TIES
