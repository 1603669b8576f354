-- not blocking: adds columns that are empty in what is stored already
-- What a span of every convention is turned into. `tracestone renormalise` fills these for what was stored before.

ALTER TABLE span_rows
    -- sent before it ended; such a version gives way to an ended one (see mapping/spans.sql.tmpl)
    ADD COLUMN IF NOT EXISTS in_progress Bool DEFAULT false,
    -- the vocabulary that the span's attributes are in
    ADD COLUMN IF NOT EXISTS convention LowCardinality(String),
    -- whether the sender counted cached tokens as input: inclusive, exclusive or guessed; '' where there were none
    ADD COLUMN IF NOT EXISTS token_semantics LowCardinality(String),
    -- tokens of other kinds, a part of input or output: input_audio, output_audio, input_image, output_image
    ADD COLUMN IF NOT EXISTS usage_details Map(LowCardinality(String), Int64) CODEC(ZSTD(1)),
    -- reported by the sender, computed from prices, or unknown because the model has none; '' without usage
    ADD COLUMN IF NOT EXISTS cost_source LowCardinality(String),
    -- log records of the span that hold its content, as events (queries/log_contents.sql)
    ADD COLUMN IF NOT EXISTS log_events Array(Tuple(time DateTime64(9, 'UTC'), name LowCardinality(String), attributes String)) CODEC(ZSTD(1)),
    -- which map of attributes filled the columns (attribute_maps)
    ADD COLUMN IF NOT EXISTS map_version UInt32 CODEC(ZSTD(1));

ALTER TABLE spans_in
    ADD COLUMN IF NOT EXISTS log_events Array(Tuple(time DateTime64(9, 'UTC'), name LowCardinality(String), attributes String));

-- The maps of attributes that were in force. The views that fill and read spans are generated from the newest.
CREATE TABLE IF NOT EXISTS attribute_maps (
    version UInt32,
    checksum String,
    applied_at DateTime64(3, 'UTC') DEFAULT now64(3, 'UTC')
) ENGINE = MergeTree ORDER BY version
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1, min_rows_to_fsync_after_merge = 1;
