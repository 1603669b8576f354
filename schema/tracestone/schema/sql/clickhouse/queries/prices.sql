-- name: loaded
-- Whether the prices of this version of the package are the last that were loaded.
SELECT argMax(source, version) = {source:String} AS loaded FROM price_providers

-- name: gone
-- Marks the packaged prices that this version of the package has no more as deleted.
INSERT INTO model_price_rows (scope, experiment_id, provider, model, effective_from, own, source, deleted)
SELECT scope, experiment_id, provider, model, effective_from, own, {source:String}, 1
FROM model_price_rows FINAL
WHERE NOT own AND source != {source:String}

-- name: used_dictionaries
-- Which dictionaries of this database have been read since the start.
SELECT name FROM system.dictionaries WHERE database = currentDatabase() AND status != 'NOT_LOADED'

-- name: reload
-- Reads a dictionary anew.
SYSTEM RELOAD DICTIONARY {dictionary:Identifier}
