-- not blocking: creates tables, views and dictionaries

-- What models cost, in USD per token (per image for `image`); read through the view `model_prices`.
-- An empty bucket has no price of its own. A shipped row is the list price, one of a deployment or an experiment goes
-- before it; of the rows of one scope, provider and model the one with the latest `effective_from` that has come is in
-- force. A provider of '' means any. `own` rows are people's, in Postgres too; the others come with the package.
CREATE TABLE IF NOT EXISTS model_price_rows (
    scope Enum8('shipped' = 0, 'deployment' = 1, 'experiment' = 2),
    experiment_id UInt32,
    provider LowCardinality(String),
    model String,
    effective_from Date,
    own Bool,
    input Nullable(Float64),
    output Nullable(Float64),
    cache_read Nullable(Float64),
    cache_write Nullable(Float64),
    reasoning Nullable(Float64),
    input_audio Nullable(Float64),
    output_audio Nullable(Float64),
    input_image Nullable(Float64),
    output_image Nullable(Float64),
    image Nullable(Float64),
    -- prices of a whole request whose input has more tokens than this; a bucket that is empty keeps its price
    tiers Array(Tuple(
        above_tokens UInt32, input Nullable(Float64), output Nullable(Float64), cache_read Nullable(Float64),
        cache_write Nullable(Float64), reasoning Nullable(Float64), input_audio Nullable(Float64), output_audio Nullable(Float64))),
    -- the three names that the model goes by, best first: as it is written, without what is put around it, and without
    -- its date; prices/cost.py makes the same three of a span's model
    name_1 String MATERIALIZED lower(model),
    name_2 String MATERIALIZED replaceRegexpOne(replaceRegexpOne(replaceOne(replaceOne(replaceRegexpOne(
        name_1, '^.*/', ''), '@', '-'), 'gpt-35-', 'gpt-3.5-'),
        '^(?:(?:us|eu|apac|jp|au|ca|sa|me|af|us-gov|global)\\.)?(?:ai21|amazon|anthropic|cohere|deepseek|google|meta|minimax|mistral|moonshot|moonshotai|nvidia|openai|qwen|stability|twelvelabs|writer|zai)\\.', ''),
        '^(ft:[^:]+):.*$|(?:-v\\d+)?:\\d+$', '\\1'),
    name_3 String MATERIALIZED replaceRegexpOne(name_2, '(?:-preview|-exp)?-(?:20\\d\\d-?[01]\\d-?[0-3]\\d|2\\d[01]\\d[0-3]\\d|[01]\\d-20\\d\\d|[01]\\d-[0-3]\\d|[01]\\d[0-3]\\d|2\\d[01]\\d|00\\d)$|-(?:latest|default|preview|exp)$', ''),
    source String,
    version UInt64 DEFAULT toUnixTimestamp64Milli(now64(3)),
    deleted UInt8
) ENGINE = ReplacingMergeTree(version, deleted)
ORDER BY (scope, experiment_id, provider, model, effective_from, own)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1, min_rows_to_fsync_after_merge = 1;

-- The names that providers are called by. A maker's prices are taken where no provider is told, the lowest number first
-- (0: makes none). `sells_for` is a provider whose models it sells too, '*' anybody's: as with OpenAI's client, which is
-- used for whatever speaks its protocol. Only the newest version counts: it comes whole, and last of what is loaded.
CREATE TABLE IF NOT EXISTS price_providers (
    alias String,
    provider LowCardinality(String),
    maker UInt8,
    sells_for LowCardinality(String),
    source String,
    version UInt64 DEFAULT toUnixTimestamp64Milli(now64(3))
) ENGINE = ReplacingMergeTree(version)
ORDER BY alias
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1, min_rows_to_fsync_after_merge = 1;

CREATE OR REPLACE VIEW price_rows AS
SELECT
    *, name_1, name_2, name_3,
    -- a model of a provider, whose price changes with time
    sipHash64(provider, name_1) AS series,
    -- the scope is in the two highest bits, so that of two prices one sees which goes first
    bitOr(bitShiftLeft(toUInt64(scope), 62), bitShiftRight(sipHash64(toUInt8(scope), experiment_id, provider, model, effective_from, own), 2)) AS price_id
FROM model_price_rows FINAL;

-- What the dictionary of names is made of: the id of each provider's space of names, and in each space the series that a
-- name stands for. Who is unknown, or sells anybody's models, has the space 0.
CREATE OR REPLACE VIEW price_names_in AS
WITH providers AS (
    SELECT alias, toString(provider) AS provider, maker, if(sells_for = '*', toUInt64(0), sipHash64(provider)) AS space, toString(sells_for) AS sells_for
    FROM price_providers FINAL
    WHERE source IN (SELECT argMax(source, version) FROM price_providers)
    UNION ALL
    SELECT DISTINCT toString(provider) AS alias, alias AS provider, toUInt8(0) AS maker, sipHash64(alias) AS space, '' AS sells_for
    FROM model_price_rows FINAL
    WHERE provider != '' AND provider NOT IN (SELECT alias FROM price_providers)
)
SELECT sipHash64(concat('provider/', alias)) AS key, any(space) AS id
FROM providers
GROUP BY key
UNION ALL
-- a name that several go by is that of the one who is written so; then of the provider itself, of the newest, of the shortest
SELECT name.1 AS key, argMax(series, (-name.2, -name.3, name_2, -length(name_1))) AS id
FROM price_rows
INNER JOIN (
    -- in which spaces a provider's models are known, and how well; with its name in front, as gateways write it
    SELECT one.1 AS provider, groupUniqArray((one.2, one.3)) AS places, groupUniqArrayIf(one.4, one.4 != '') AS aliases
    FROM (
        SELECT arrayJoin(arrayConcat(
            [(provider, space, 0, alias), ('', space, 200, ''), ('', toUInt64(0), 200, '')],
            if(maker > 0, [(provider, toUInt64(0), toInt32(maker), '')], []),
            if(sells_for NOT IN ('', '*'), [(sells_for, space, 100, '')], []))) AS one
        FROM providers
    )
    GROUP BY provider
) AS known ON price_rows.provider = known.provider
ARRAY JOIN arrayConcat(
    arrayMap(place -> (bitXor(place.1, sipHash64(name_1)), 1, place.2), places),
    arrayMap(place -> (bitXor(place.1, sipHash64(name_2)), 2, place.2), places),
    arrayMap(place -> (bitXor(place.1, sipHash64(name_3)), 3, place.2), places),
    arrayMap(alias -> (sipHash64(concat(alias, '/', name_1)), 0, 0), aliases)) AS name
GROUP BY key;

-- What the dictionary of dates is made of: which price of a series was in force from when to when. An experiment's own
-- prices are under a key of their own, which is looked up first.
-- A price of a deployment or an experiment also is that of a model's dated versions that have none themselves.
CREATE OR REPLACE VIEW price_dates_in AS
WITH
    candidates AS (
        SELECT toUInt32(0) AS experiment, 0 AS overlay, series, (toInt8(scope), 8, effective_from, own, price_id) AS candidate
        FROM price_rows WHERE scope = 'shipped'
        UNION ALL
        SELECT
            if(o.scope = 'experiment', o.experiment_id, 0) AS experiment, o.scope = 'experiment' AS overlay, named.series AS series,
            (toInt8(o.scope), 8 - 2 * named.form + (o.its_provider != ''), o.effective_from, o.own, o.price_id) AS candidate
        FROM (
            SELECT series, any(toString(provider)) AS provider, name, min(form) AS form
            FROM price_rows ARRAY JOIN [name_1, name_2, name_3] AS name, [1, 2, 3] AS form
            GROUP BY series, name
        ) AS named
        INNER JOIN (SELECT *, toString(provider) AS its_provider FROM price_rows WHERE scope != 'shipped') AS o ON named.name = o.name_1
        WHERE o.its_provider IN ('', named.provider)
    )
SELECT
    if(overlay, bitXor(series, intHash64(experiment)), series) AS key,
    starts,
    if(place = length(all_starts), toDate('2149-06-06'), all_starts[place + 1] - 1) AS ends,
    arrayMax(arrayFilter(candidate -> candidate.3 <= starts, all_candidates)).5 AS price_id
FROM (
    SELECT
        experiment, overlay, series,
        groupArray(candidate) AS all_candidates,
        arraySort(arrayDistinct(arrayMap(candidate -> candidate.3, all_candidates))) AS all_starts
    FROM candidates
    GROUP BY experiment, overlay, series
)
ARRAY JOIN all_starts AS starts, arrayEnumerate(all_starts) AS place;

-- What the dictionary of prices is made of: USD per token by the tokens of the whole input. What is read from or written to the cache and has no price costs what input does; reasoning costs
-- what output does, audio and images what text does. Where images are what is paid for, tokens without a price are free.
CREATE OR REPLACE VIEW price_tiers_in AS
SELECT
    row.price_id AS price_id,
    above AS more_than,
    if(place = length(all_above), toInt64(9223372036854775807), all_above[place + 1] - 1) AS at_most,
    assumeNotNull(coalesce(tier.input, row.input, if(row.image IS NULL, nan, 0))) AS of_input,
    assumeNotNull(coalesce(tier.output, row.output, if(row.image IS NULL, nan, 0))) AS of_output,
    of_input AS input,
    assumeNotNull(coalesce(tier.cache_read, row.cache_read, of_input)) AS cache_read,
    assumeNotNull(coalesce(tier.cache_write, row.cache_write, of_input)) AS cache_write,
    assumeNotNull(coalesce(tier.input_audio, row.input_audio, of_input)) AS input_audio,
    assumeNotNull(coalesce(row.input_image, of_input)) AS input_image,
    of_output AS output,
    assumeNotNull(coalesce(tier.reasoning, row.reasoning, of_output)) AS reasoning,
    assumeNotNull(coalesce(tier.output_audio, row.output_audio, of_output)) AS output_audio,
    assumeNotNull(coalesce(row.output_image, of_output)) AS output_image,
    assumeNotNull(coalesce(row.image, 0)) AS image
FROM (
    SELECT
        *,
        arrayConcat([toInt64(0)], arrayMap(tier -> toInt64(tier.above_tokens) + 1, arraySort(tiers))) AS all_above,
        arrayConcat([CAST((0, NULL, NULL, NULL, NULL, NULL, NULL, NULL), toTypeName(tiers[1]))], arraySort(tiers)) AS all_tiers
    FROM price_rows
) AS row
ARRAY JOIN all_above AS above, all_tiers AS tier, arrayEnumerate(all_above) AS place;

CREATE DICTIONARY IF NOT EXISTS price_names (key UInt64, id UInt64)
PRIMARY KEY key
SOURCE(CLICKHOUSE(TABLE 'price_names_in'))
LAYOUT(HASHED())
LIFETIME(0);

CREATE DICTIONARY IF NOT EXISTS price_dates (key UInt64, starts Date, ends Date, price_id UInt64)
PRIMARY KEY key
SOURCE(CLICKHOUSE(TABLE 'price_dates_in'))
LAYOUT(RANGE_HASHED())
RANGE(MIN starts MAX ends)
LIFETIME(0);

CREATE DICTIONARY IF NOT EXISTS price_tiers (
    price_id UInt64, more_than Int64, at_most Int64,
    -- while the dictionaries are read anew one may name a price that the other does not have yet: no number, and no cost
    input Float64 DEFAULT nan, cache_read Float64 DEFAULT nan, cache_write Float64 DEFAULT nan,
    input_audio Float64 DEFAULT nan, input_image Float64 DEFAULT nan,
    output Float64 DEFAULT nan, reasoning Float64 DEFAULT nan, output_audio Float64 DEFAULT nan,
    output_image Float64 DEFAULT nan, image Float64 DEFAULT nan)
PRIMARY KEY price_id
SOURCE(CLICKHOUSE(TABLE 'price_tiers_in'))
LAYOUT(RANGE_HASHED())
RANGE(MIN more_than MAX at_most)
LIFETIME(0);

-- What models cost in USD per token (`image`: per image), by scope (shipped, deployment or experiment) and date.
-- `effective_to` is the first day on which the row is in force no longer, NULL for the newest.
CREATE OR REPLACE VIEW model_prices AS
SELECT
    toString(scope) AS scope, experiment_id, provider, model, effective_from,
    nullIf(leadInFrame(effective_from) OVER (
        PARTITION BY scope, experiment_id, provider, model ORDER BY effective_from
        RANGE BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING), toDate(0)) AS effective_to,
    input, output, cache_read, cache_write, reasoning, input_audio, output_audio, input_image, output_image, image,
    tiers, source, price_id
FROM price_rows;
