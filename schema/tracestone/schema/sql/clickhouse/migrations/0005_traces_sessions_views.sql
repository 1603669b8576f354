-- not blocking: creates views

CREATE OR REPLACE VIEW traces AS
SELECT
    experiment_id, trace_id, root_name, service_name, start_time, end_time, duration_ns, toString(state) AS state,
    span_count, error_count, input_tokens, output_tokens, total_tokens, cost_total, models, session_id, user_id, tags,
    input_preview, output_preview, complete, last_seen
FROM trace_rows FINAL
-- as in the view `spans`
SETTINGS optimize_move_to_prewhere_if_final = 1;

-- A session is what its traces say, computed when asked. It is complete when all its traces are and none came for
-- half an hour.
CREATE OR REPLACE VIEW sessions AS
SELECT
    t.experiment_id AS experiment_id,
    t.session_id AS session_id,
    groupUniqArrayIf(t.user_id, t.user_id != '') AS user_ids,
    countIf(t.complete) AS turn_count,
    count() AS trace_count,
    sum(t.error_count) AS error_count,
    sum(t.input_tokens) AS input_tokens,
    sum(t.output_tokens) AS output_tokens,
    sum(t.total_tokens) AS total_tokens,
    sum(t.cost_total) AS cost_total,
    min(t.start_time) AS first_seen,
    max(t.end_time) AS last_seen,
    countIf(NOT t.complete) = 0 AND max(t.last_seen) < now64(9) - INTERVAL 30 MINUTE AS complete
FROM trace_rows AS t FINAL
WHERE t.session_id != ''
GROUP BY t.experiment_id, t.session_id;
