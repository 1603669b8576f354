-- not blocking: changes codecs and settings; parts written before keep theirs until they are merged
-- An agent sends its whole history with every model call. ZSTD finds the repetition if the calls of one agent lie in one
-- compressed block, so blocks of long texts are large and its window reaches over a whole one (docs/benchmarks.md,
-- "What agents repeat"). A block ends at the first mark (8,192 rows or 10 MB) after its least size: that of texts takes in
-- two marks of long histories. What is seldom long gets a smaller least size, for each read decompresses a whole block.

ALTER TABLE span_rows MODIFY COLUMN attributes_text Map(LowCardinality(String), String) CODEC(ZSTD(1, 25))
    SETTINGS (max_compress_block_size = 33554432, min_compress_block_size = 11534336);

ALTER TABLE span_rows MODIFY COLUMN attributes_json Map(LowCardinality(String), String) CODEC(ZSTD(1, 25))
    SETTINGS (max_compress_block_size = 33554432, min_compress_block_size = 1048576);

ALTER TABLE span_rows MODIFY COLUMN events
    Array(Tuple(time DateTime64(9, 'UTC'), name LowCardinality(String), attributes String)) CODEC(ZSTD(1, 25))
    SETTINGS (max_compress_block_size = 33554432, min_compress_block_size = 1048576);

-- Only parts with a file for each column (Wide) have such blocks. What one insert makes stays one file.
ALTER TABLE span_rows MODIFY SETTING min_level_for_wide_part = 1, min_bytes_for_wide_part = 67108864;
