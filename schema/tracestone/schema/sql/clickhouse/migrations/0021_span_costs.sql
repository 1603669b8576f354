-- not blocking: adds columns that are empty in what is stored already, and a view

ALTER TABLE span_rows
    -- reported by the sender, computed from prices, or unknown because no price is known; '' without usage
    ADD COLUMN IF NOT EXISTS cost_source LowCardinality(String),
    -- by which row of model_prices the cost was computed, 0 when it was not
    ADD COLUMN IF NOT EXISTS price_id UInt64 CODEC(ZSTD(1));

-- Models that spans used and no price is known for, by experiment; `tracestone reprice` prices them once one is.
CREATE OR REPLACE VIEW unknown_models AS
SELECT
    experiment_id,
    provider,
    if(response_model != '', response_model, request_model) AS model,
    count() AS spans,
    sum(input_tokens) AS input_tokens,
    sum(output_tokens) AS output_tokens,
    min(start_time) AS first_seen,
    max(start_time) AS last_seen
FROM (
    SELECT experiment_id, provider, response_model, request_model, span_type, start_time, cost_source,
        ifNull(span_rows.input_tokens, 0) AS input_tokens, ifNull(span_rows.output_tokens, 0) AS output_tokens
    FROM span_rows FINAL
)
WHERE cost_source = 'unknown' AND (span_type IN ('llm', 'embedding', 'reranker') OR response_model != '' OR request_model != '')
GROUP BY experiment_id, provider, model;
