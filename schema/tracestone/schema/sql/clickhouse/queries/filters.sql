-- name: parse_filter
-- The engine's own parse of a filter, for the check in filter_sql.py.
EXPLAIN AST SELECT trace_id FROM traces WHERE /* filter */

-- name: run_filter
-- Columns and types of a filter, checked by the engine on no row.
SELECT trace_id FROM traces WHERE /* filter */ LIMIT 0

-- name: type_of_filter
-- The type a filter has.
DESCRIBE (SELECT /* filter */ AS kept FROM traces)
