-- name: set
-- Sets some prices, an array of JSON objects; those that are there already and cost the same stay as they are. Returns
-- the models of those that changed.
INSERT INTO tracestone.model_prices AS known (scope, experiment_id, provider, model, effective_from, prices, tiers, source)
SELECT scope, experiment_id, provider, model, effective_from, prices, tiers, source
FROM jsonb_to_recordset($1::jsonb) AS given (
    scope text, experiment_id integer, provider text, model text, effective_from date, prices jsonb, tiers jsonb, source text)
ON CONFLICT (scope, experiment_id, provider, model, effective_from) DO UPDATE
SET prices = excluded.prices, tiers = excluded.tiers, source = excluded.source
WHERE (known.prices, known.tiers) IS DISTINCT FROM (excluded.prices, excluded.tiers)
RETURNING model

-- name: remove
-- Removes one price; returns whether there was one.
DELETE FROM tracestone.model_prices
WHERE scope = $1 AND experiment_id = $2 AND provider = $3 AND model = $4 AND effective_from = $5
RETURNING model

-- name: remove_others
-- Removes what came from a source and is not among these keys any more.
DELETE FROM tracestone.model_prices AS known
WHERE source = $1 AND NOT EXISTS (
    SELECT FROM jsonb_to_recordset($2::jsonb) AS given (
        scope text, experiment_id integer, provider text, model text, effective_from date)
    WHERE (given.scope, given.experiment_id, given.provider, given.model, given.effective_from)
        = (known.scope, known.experiment_id, known.provider, known.model, known.effective_from))
RETURNING model

-- name: all
-- Every price that people set or imported.
SELECT scope, experiment_id, provider, model, effective_from, prices, tiers, source
FROM tracestone.model_prices
ORDER BY scope, experiment_id, provider, model, effective_from

-- name: all_and_changes
-- The same beside the state of budgets that goes with them; one row without a model when there are none.
SELECT scope, experiment_id, provider, model, effective_from, prices, tiers, source, changes
FROM tracestone.budget_changes LEFT JOIN tracestone.model_prices ON true
