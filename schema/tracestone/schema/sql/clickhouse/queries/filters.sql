-- name: parse_filter
-- The engine's own parse of a filter, for the check in filter_sql.py.
EXPLAIN AST SELECT trace_id FROM traces WHERE /* filter */

-- name: run_filter
-- A filter run by the engine on one row of zeros and empty texts, so that it converts the filter's constants too.
SELECT trace_id
FROM (
    SELECT none.* REPLACE (
        toNullable(ifNull(input_tokens, 0)) AS input_tokens,
        toNullable(ifNull(output_tokens, 0)) AS output_tokens,
        toNullable(ifNull(total_tokens, 0)) AS total_tokens,
        toNullable(ifNull(cost_total, 0)) AS cost_total
    )
    FROM (SELECT 1 AS row_number) AS one
    LEFT JOIN (SELECT *, 1 AS row_number FROM traces LIMIT 0) AS none USING row_number
)
WHERE /* filter */

-- name: type_of_filter
-- The type a filter has.
DESCRIBE (SELECT /* filter */ AS kept FROM traces)
