-- Costs as the prices of now tell them, by what stands around a SELECT (schema/prices/cost.py); the view prices what is
-- inserted by the same steps. What a sender reported is never touched; before there was a cost_source, every cost was reported.

-- name: changed
-- How many spans of these slices would cost something else.
SELECT count() AS changed FROM (
    ${before}
    SELECT * FROM span_rows FINAL
    PREWHERE experiment_id = {experiment_id:UInt32}
        AND intDiv(toInt64(start_time), 5) > {after:Int64} AND intDiv(toInt64(start_time), 5) <= {upto:Int64}
    ${after}
)
WHERE (cost_source IN ('computed', 'unknown') OR cost_source = '' AND cost_total IS NULL)
  AND (cost_source != priced.4 OR isDistinctFrom(cost_total, priced.3))
  AND start_time >= fromUnixTimestamp64Nano({from_ns:Int64}, 'UTC') AND start_time < fromUnixTimestamp64Nano({to_ns:Int64}, 'UTC')
  AND {model:String} IN ('', request_model, response_model)

-- name: rewrite
-- Writes these spans anew, with their costs. The new row has the version of the old one, so it replaces that, being
-- inserted later, and gives way to whatever has arrived meanwhile. The keys are found first: long texts are read only
-- of spans that change.
INSERT INTO span_rows
SELECT * EXCEPT (priced) REPLACE (
    priced.1 AS cost_input, priced.2 AS cost_output, priced.3 AS cost_total, priced.4 AS cost_source, priced.5 AS price_id)
FROM (
    ${before}
    SELECT * FROM span_rows FINAL
    PREWHERE experiment_id = {experiment_id:UInt32}
        AND intDiv(toInt64(start_time), 5) > {after:Int64} AND intDiv(toInt64(start_time), 5) <= {upto:Int64}
        AND (trace_id, span_id) IN (
            SELECT trace_id, span_id FROM (
                ${before}
                SELECT * FROM span_rows FINAL
                PREWHERE experiment_id = {experiment_id:UInt32}
                    AND intDiv(toInt64(start_time), 5) > {after:Int64} AND intDiv(toInt64(start_time), 5) <= {upto:Int64}
                ${after}
            )
            WHERE (cost_source IN ('computed', 'unknown') OR cost_source = '' AND cost_total IS NULL)
              AND (cost_source != priced.4 OR isDistinctFrom(cost_total, priced.3))
              AND start_time >= fromUnixTimestamp64Nano({from_ns:Int64}, 'UTC') AND start_time < fromUnixTimestamp64Nano({to_ns:Int64}, 'UTC')
              AND {model:String} IN ('', request_model, response_model)
        )
    ${after}
)
