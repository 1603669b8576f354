-- name: shown
-- What `tracestone quality` shows.
SELECT
    scorer_name AS scorer, scorer_version AS version, name, experiment_id AS experiment, target_type AS target,
    if(period = 'all', '', toString(since)) AS since, segment, category, verdicts, failed,
    round(estimate, 4) AS estimate, round(low, 4) AS low, round(high, 4) AS high,
    round(estimated_targets) AS targets, unknown_weight
FROM quality
WHERE period = {period:String}
  AND ({scorer:String} = '' OR scorer_name = {scorer:String})
  AND ({experiment:Int64} < 0 OR experiment_id = {experiment:Int64})
  AND ({segments:UInt8} = 1 OR segment = '')
ORDER BY scorer, version, name, experiment, quality.since, segment, category
