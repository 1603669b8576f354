-- not blocking: adds a column, creates a view
-- When something of the target of a verdict last arrived, in nanoseconds; 0 where that is not known.
ALTER TABLE assessment_rows ADD COLUMN IF NOT EXISTS target_seen_ns Int64 CODEC(ZSTD(1));

-- Estimates of what scorers would say of all targets, from those they were asked about (docs/quality.md has the formulas).
-- q is a target's chance of having been both sent and chosen, w = 1 / q its weight, v = w * w * (1 - q).
CREATE VIEW IF NOT EXISTS quality AS
WITH
    1.959963984540054 AS z,
    sum_wy / sum_w AS mean,
    greatest(0., sum_vyy - 2 * mean * sum_vy + mean * mean * sum_v) * numbers / greatest(1, numbers - 1) AS scatter,
    -- A few verdicts of great weight count as few, however many others there are.
    greatest(1., least(numbers - 1., sum_v * sum_v / sum_vv - 1)) AS df,
    -- Student's t for 95 %: exact for few verdicts, else its expansion about the normal (Abramowitz and Stegun 26.7.5).
    multiIf(
        df < 1.5, 12.706204736432095, df < 2.5, 4.302652729911275,
        z + (pow(z, 3) + z) / (4 * df) + (5 * pow(z, 5) + 16 * pow(z, 3) + 3 * z) / (96 * df * df)
            + (3 * pow(z, 7) + 19 * pow(z, 5) + 17 * pow(z, 3) - 15 * z) / (384 * pow(df, 3))) AS t,
    -- Wilson's interval for shares, with the number of verdicts that a plain sample of the same scatter would have, and no
    -- more than its weights allow: where no chosen target shows it, the scatter looks smaller than it is.
    least(
        sum_w * sum_w / sum_v,
        if(scatter > 0 AND mean > 0 AND mean < 1, mean * (1 - mean) * sum_w * sum_w / scatter, inf)
    ) * z * z / (t * t) AS n,
    (mean + z * z / (2 * n)) / (1 + z * z / n) AS centre,
    z / (1 + z * z / n) * sqrt(greatest(0., mean * (1 - mean)) / n + z * z / (4 * n * n)) AS half
SELECT
    scorer_name, scorer_version, name, experiment_id, target_type, period, since, segment,
    numbers AS verdicts, failed, unknown_weight,
    if(numbers = 0, NULL, mean) AS estimate,
    multiIf(
        numbers = 0, NULL,
        sum_v = 0, mean,
        is_share, greatest(0., centre - half),
        numbers < 2 OR scatter = 0, NULL,
        mean - t * sqrt(scatter) / sum_w) AS low,
    multiIf(
        numbers = 0, NULL,
        sum_v = 0, mean,
        is_share, least(1., centre + half),
        numbers < 2 OR scatter = 0, NULL,
        mean + t * sqrt(scatter) / sum_w) AS high,
    if(numbers = 0, NULL, sum_w) AS estimated_targets
FROM (
    SELECT
        scorer_name, scorer_version, name, experiment_id, target_type,
        part.1 AS period, part.2 AS since, part.3 AS segment,
        countIf(y IS NOT NULL) AS numbers,
        countIf(error != '') AS failed,
        countIf(y IS NOT NULL AND head IS NULL) AS unknown_weight,
        countIf(y IS NOT NULL AND y NOT IN (0, 1)) = 0 AS is_share,
        sumIf(w, y IS NOT NULL) AS sum_w,
        sumIf(v, y IS NOT NULL) AS sum_v,
        sumIf(v * v, y IS NOT NULL) AS sum_vv,
        sum(ifNull(w * y, 0)) AS sum_wy,
        sum(ifNull(v * y, 0)) AS sum_vy,
        sum(ifNull(v * y * y, 0)) AS sum_vyy
    FROM (
        SELECT
            scorer_name, assumeNotNull(scorer_version) AS scorer_version, name, experiment_id, target_type, error,
            if(error = '', value_number, NULL) AS y,
            toFloat64OrNull(metadata['head_probability']) AS head,
            probability * ifNull(head, 1.) AS q, 1 / q AS w, w * w * (1 - q) AS v,
            arrayDistinct([
                ('hour', toStartOfHour(target_seen_at), ''),
                ('day', toDateTime(toStartOfDay(target_seen_at), 'UTC'), ''),
                ('all', toDateTime(0, 'UTC'), ''),
                ('hour', toStartOfHour(target_seen_at), metadata['stratum']),
                ('day', toDateTime(toStartOfDay(target_seen_at), 'UTC'), metadata['stratum']),
                ('all', toDateTime(0, 'UTC'), metadata['stratum'])]) AS parts
        FROM (
            SELECT *, if(target_seen_ns > 0, fromUnixTimestamp64Nano(target_seen_ns, 'UTC'), toDateTime64(created_at, 9, 'UTC'))
                AS target_seen_at
            FROM assessment_rows FINAL
            WHERE NOT deleted AND valid AND scorer_name != '' AND scorer_version IS NOT NULL AND probability > 0
        )
    )
    ARRAY JOIN parts AS part
    GROUP BY scorer_name, scorer_version, name, experiment_id, target_type, period, since, segment
);
