-- name: touched
-- Which traces some batches touched, one share of several; as refresh_traces sees it.
SELECT experiment_id, trace_id
FROM trace_touches
WHERE batch IN {batches:Array(String)} AND sipHash64(trace_id) % {shares:UInt32} = {share:UInt32}
GROUP BY experiment_id, trace_id
ORDER BY experiment_id, trace_id
LIMIT {most:UInt32}

-- name: touch
-- Notes traces as touched by a batch that is no insert, for refresh_traces.
INSERT INTO trace_touches
SELECT {batch:String}, touched.1, touched.2, now('UTC')
FROM (SELECT arrayJoin(arrayZip({experiments:Array(UInt32)}, {traces:Array(String)})) AS touched)
