-- not blocking: replaces a view
-- Estimates of what scorers would say of all targets, from those they were asked about (docs/quality.md has the formulas).
-- q is a target's chance of having been both sent and chosen, w = 1 / q its weight, v = w * w * (1 - q). A row with a
-- category is about its share: y is 1 for verdicts that are this word and 0 for all others that are no errors.
CREATE OR REPLACE VIEW quality AS
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
    if(numbers = 0, NULL, sum_w) AS estimated_targets,
    category
FROM (
    SELECT
        scorer_name, scorer_version, name, experiment_id, target_type, period, since, segment, failed,
        shown.1 AS category, shown.2 AS numbers, shown.3 AS unknown_weight, shown.4 AS is_share,
        shown.5 AS sum_w, shown.6 AS sum_v, shown.7 AS sum_vv, shown.8 AS sum_wy, shown.9 AS sum_vy, shown.10 AS sum_vyy
    FROM (
        SELECT
            scorer_name, scorer_version, name, experiment_id, target_type, period, since, segment,
            sum(errors) AS failed,
            sumIf(verdicts, of_words) AS words,
            sum(verdicts) AS all_verdicts, sum(unknown) AS all_unknown,
            sum(all_w) AS total_w, sum(all_v) AS total_v, sum(all_vv) AS total_vv,
            -- The fifty largest shares: what a judge says in its own words has as many as there are verdicts.
            arraySlice(arraySort(
                said -> (-said.2, said.1), groupArrayIf(10000)((category, all_w, all_v), category != '')), 1, 50) AS categories,
            arrayConcat(
                arrayFilter(row -> row.2 > 0 OR words = 0, [(
                    '', sum(numbers), sum(unknown_numbers), sum(others) = 0,
                    sum(number_w), sum(number_v), sum(number_vv), sum(number_wy), sum(number_vy), sum(number_vyy))]),
                arrayMap(
                    said -> (
                        said.1, all_verdicts, all_unknown, toBool(true),
                        total_w, total_v, total_vv, said.2, said.3, said.3),
                    if(words > 0, categories, []))) AS rows
        FROM (
            SELECT
                scorer_name, scorer_version, name, experiment_id, target_type,
                part.1 AS period, part.2 AS since, part.3 AS segment,
                category, any(is_word) AS of_words,
                countIf(error != '') AS errors,
                countIf(error = '') AS verdicts,
                countIf(error = '' AND head IS NULL) AS unknown,
                sumIf(w, error = '') AS all_w,
                sumIf(v, error = '') AS all_v,
                sumIf(v * v, error = '') AS all_vv,
                countIf(y IS NOT NULL) AS numbers,
                countIf(y IS NOT NULL AND head IS NULL) AS unknown_numbers,
                countIf(y IS NOT NULL AND y NOT IN (0, 1)) AS others,
                sumIf(w, y IS NOT NULL) AS number_w,
                sumIf(v, y IS NOT NULL) AS number_v,
                sumIf(v * v, y IS NOT NULL) AS number_vv,
                sum(ifNull(w * y, 0)) AS number_wy,
                sum(ifNull(v * y, 0)) AS number_vy,
                sum(ifNull(v * y * y, 0)) AS number_vyy
            FROM (
                SELECT
                    scorer_name, assumeNotNull(scorer_version) AS scorer_version, name, experiment_id, target_type, error,
                    if(error = '', value_number, NULL) AS y,
                    -- Lists and objects are JSON, and no words.
                    error = '' AND value_number IS NULL AND value != '' AND NOT match(value, '^[\\[{]') AS is_word,
                    multiIf(
                        error != '', '',
                        is_word, substringUTF8(value, 1, 100),
                        value_number IN (0, 1) AND NOT match(value, '^[0-9]'), value,
                        '') AS category,
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
                    SELECT *,
                        if(
                            target_seen_ns > 0, fromUnixTimestamp64Nano(target_seen_ns, 'UTC'),
                            toDateTime64(created_at, 9, 'UTC')) AS target_seen_at
                    FROM assessment_rows FINAL
                    WHERE NOT deleted AND valid AND scorer_name != '' AND scorer_version IS NOT NULL AND probability > 0
                )
            )
            ARRAY JOIN parts AS part
            GROUP BY scorer_name, scorer_version, name, experiment_id, target_type, period, since, segment, category
        )
        GROUP BY scorer_name, scorer_version, name, experiment_id, target_type, period, since, segment
    )
    ARRAY JOIN rows AS shown
);
