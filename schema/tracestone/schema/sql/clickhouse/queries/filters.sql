-- name: parse_trace
-- The engine's own parse of a filter, for the check in filter_sql.py.
EXPLAIN AST SELECT experiment_id FROM traces WHERE /* filter */

-- name: run_trace
-- A filter run by the engine on one row of zeros and empty texts, so that it converts the filter's constants too.
SELECT experiment_id
FROM (
    SELECT none.* REPLACE (
        toNullable(ifNull(input_tokens, 0)) AS input_tokens,
        toNullable(ifNull(output_tokens, 0)) AS output_tokens,
        toNullable(ifNull(total_tokens, 0)) AS total_tokens,
        toNullable(ifNull(cost_total, 0)) AS cost_total
    ), '' AS verdict, toNullable(0.) AS verdict_number, '' AS verdict_error, map('', '') AS verdicts
    FROM (SELECT 1 AS row_number) AS one
    LEFT JOIN (SELECT *, 1 AS row_number FROM traces LIMIT 0) AS none USING row_number
)
WHERE /* filter */

-- name: type_trace
-- The type a filter has.
DESCRIBE (
    SELECT /* filter */ AS kept
    FROM (
        SELECT
            *, '' AS verdict, CAST(NULL, 'Nullable(Float64)') AS verdict_number, '' AS verdict_error,
            map('', '') AS verdicts
        FROM traces
    )
)

-- name: parse_span
-- The engine's own parse of a filter, for the check in filter_sql.py.
EXPLAIN AST SELECT experiment_id FROM spans WHERE /* filter */

-- name: run_span
-- A filter run by the engine on one row of zeros and empty texts, so that it converts the filter's constants too.
SELECT experiment_id
FROM (
    SELECT none.* REPLACE (
        toNullable(ifNull(input_tokens, 0)) AS input_tokens,
        toNullable(ifNull(output_tokens, 0)) AS output_tokens,
        toNullable(ifNull(total_tokens, 0)) AS total_tokens,
        toNullable(ifNull(cache_read_tokens, 0)) AS cache_read_tokens,
        toNullable(ifNull(cache_write_tokens, 0)) AS cache_write_tokens,
        toNullable(ifNull(reasoning_tokens, 0)) AS reasoning_tokens,
        toNullable(ifNull(cost_input, 0)) AS cost_input,
        toNullable(ifNull(cost_output, 0)) AS cost_output,
        toNullable(ifNull(cost_total, 0)) AS cost_total,
        toNullable(ifNull(time_to_first_token_ns, 0)) AS time_to_first_token_ns
    ), '' AS verdict, toNullable(0.) AS verdict_number, '' AS verdict_error, map('', '') AS verdicts
    FROM (SELECT 1 AS row_number) AS one
    LEFT JOIN (SELECT *, 1 AS row_number FROM spans LIMIT 0) AS none USING row_number
)
WHERE /* filter */

-- name: type_span
-- The type a filter has.
DESCRIBE (
    SELECT /* filter */ AS kept
    FROM (
        SELECT
            *, '' AS verdict, CAST(NULL, 'Nullable(Float64)') AS verdict_number, '' AS verdict_error,
            map('', '') AS verdicts
        FROM spans
    )
)

-- name: parse_session
-- The engine's own parse of a filter, for the check in filter_sql.py.
EXPLAIN AST SELECT experiment_id FROM sessions WHERE /* filter */

-- name: run_session
-- A filter run by the engine on one row of zeros and empty texts, so that it converts the filter's constants too.
SELECT experiment_id
FROM (
    SELECT none.* REPLACE (
        toNullable(ifNull(input_tokens, 0)) AS input_tokens,
        toNullable(ifNull(output_tokens, 0)) AS output_tokens,
        toNullable(ifNull(total_tokens, 0)) AS total_tokens,
        toNullable(ifNull(cost_total, 0)) AS cost_total
    ), '' AS verdict, toNullable(0.) AS verdict_number, '' AS verdict_error, map('', '') AS verdicts
    FROM (SELECT 1 AS row_number) AS one
    LEFT JOIN (SELECT *, 1 AS row_number FROM sessions LIMIT 0) AS none USING row_number
)
WHERE /* filter */

-- name: type_session
-- The type a filter has.
DESCRIBE (
    SELECT /* filter */ AS kept
    FROM (
        SELECT
            *, '' AS verdict, CAST(NULL, 'Nullable(Float64)') AS verdict_number, '' AS verdict_error,
            map('', '') AS verdicts
        FROM sessions
    )
)
