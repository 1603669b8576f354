-- name: loaded
-- Whether the prices of this version of the package are the last that were loaded.
SELECT argMax(source, version) = {source:String} AS loaded FROM price_providers

-- name: gone
-- Marks the packaged prices that this version of the package has no more as deleted.
INSERT INTO model_price_rows (scope, experiment_id, provider, model, effective_from, own, source, deleted)
SELECT scope, experiment_id, provider, model, effective_from, own, {source:String}, 1
FROM model_price_rows FINAL
WHERE NOT own AND source != {source:String}

-- name: unknown_models
-- Models that spans used and no price is known for, those that count most first.
SELECT
    experiment_id, provider, model, spans, input_tokens, output_tokens,
    toDateTime(first_seen) AS first_seen, toDateTime(last_seen) AS last_seen
FROM unknown_models
ORDER BY input_tokens + output_tokens DESC, spans DESC, model
LIMIT 1000

-- name: unknown_models_of
-- The same for the page and the API: of some experiments, or of all.
SELECT
    experiment_id, toString(provider) AS provider, model, spans, input_tokens, output_tokens,
    toUnixTimestamp64Nano(first_seen) AS first_seen_ns, toUnixTimestamp64Nano(last_seen) AS last_seen_ns
FROM unknown_models
WHERE {every:Bool} OR experiment_id IN {experiments:Array(UInt32)}
ORDER BY input_tokens + output_tokens DESC, spans DESC, model
LIMIT {limit:UInt32}

-- name: own
-- Prices that people set or imported.
SELECT toString(scope) AS scope, experiment_id, toString(provider) AS provider, model, effective_from,
    input, output, cache_read, cache_write, reasoning, input_audio, output_audio, input_image, output_image, image,
    tiers, source
FROM model_price_rows FINAL
WHERE own
ORDER BY scope DESC, experiment_id, provider, model, effective_from

-- name: used_dictionaries
-- Which dictionaries of this database have been read since the start.
SELECT name FROM system.dictionaries WHERE database = currentDatabase() AND status != 'NOT_LOADED'

-- name: reload
-- Reads a dictionary anew.
SYSTEM RELOAD DICTIONARY {dictionary:Identifier}
