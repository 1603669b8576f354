-- name: now
-- The clock that also stamps rows.
SELECT toUnixTimestamp64Nano(now64(9)) AS now_ns

-- name: choose
-- A page of finished, sampled and filtered traces in order of due time; see watch.py and sample.py.
-- Newest rows are found by when they were written, which prunes old parts; the filter sees the public view.
WITH due AS (
    SELECT experiment_id, trace_id, due_ns
    FROM (
        SELECT
            experiment_id, trace_id, complete,
            greatest(
                toUnixTimestamp64Nano(last_seen) + if(complete, {settle_ns:Int64}, {age_ns:Int64}),
                toUnixTimestamp64Nano(version) + {grace_ns:Int64}
            ) AS due_ns
        FROM trace_rows
        WHERE version > fromUnixTimestamp64Nano({written_after_ns:Int64})
        ORDER BY version DESC
        LIMIT 1 BY experiment_id, trace_id
    )
    WHERE due_ns < {until_ns:Int64}
      AND (due_ns, trace_id) > ({after_ns:Int64}, {after_id:String})
      AND (complete OR {prompt:UInt8} = 0)
      AND if({every:UInt8} = 1, NOT has({left_out:Array(UInt32)}, experiment_id), experiment_id = {experiment_id:UInt32})
      AND bitShiftRight(sipHash64(concat({salt:String}, char(0), lower(trace_id))), 11) < {threshold:UInt64}
)
SELECT experiment_id, trace_id, due_ns
FROM due
WHERE (experiment_id, trace_id) IN (
    SELECT experiment_id, trace_id
    FROM traces
    WHERE (experiment_id, trace_id) IN (SELECT experiment_id, trace_id FROM due)
      AND /* filter */
)
ORDER BY due_ns, trace_id
LIMIT {page:UInt64} WITH TIES
