-- name: hide
-- A later version of a span replaces the earlier under the same key. When its start is in another slice of time, so is its
-- key: this hides the earlier versions in the traces that some batches touched, under their own keys.
INSERT INTO span_rows (experiment_id, trace_id, span_id, start_time, received_at, is_deleted)
WITH
    touched AS (
        SELECT experiment_id, trace_id FROM trace_touches WHERE batch IN {batches:Array(String)} GROUP BY experiment_id, trace_id
    )
SELECT experiment_id, trace_id, span_id, start_time, received_at, 1
FROM (
    SELECT
        experiment_id, trace_id, span_id, s.start_time AS start_time, received_at,
        row_number() OVER (
            PARTITION BY experiment_id, trace_id, span_id ORDER BY received_at DESC, s.start_time DESC) AS place
    FROM span_rows AS s FINAL
    -- see refresh_traces in ingest.sql
    PREWHERE trace_id IN (SELECT trace_id FROM touched)
        AND (experiment_id, intDiv(toInt64(s.start_time), 5)) IN (
            SELECT experiment_id, slice FROM trace_slices WHERE trace_id IN (SELECT trace_id FROM touched))
)
WHERE place > 1
