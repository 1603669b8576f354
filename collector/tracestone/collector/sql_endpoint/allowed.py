"""What a reader may use, as lists. What is on no list is refused, so a new engine's new functions are too.

A function is allowed by the engine's own category for it, or by name. Categories that are absent on purpose
reach out of the statement: AI (calls providers), Dictionary's embedded regions and Machine Learning (read
server files), Introspection (addresses, the log), Internal.
"""

FUNCTION_CATEGORIES = frozenset(
    {
        "Aggregate Functions",
        "Arithmetic",
        "Arrays",
        "Bit",
        "Bitmap",
        "Comparison",
        "Conditional",
        "Dates and Times",
        "Dictionary",
        "Distance",
        "Encoding",
        "Encryption",
        "Financial",
        "Geo",
        "Geo Polygon",
        "Hash",
        "IP Address",
        "JSON",
        "Logical",
        "Map",
        "Mathematical",
        "Null",
        "NumericIndexedVector",
        "QBit",
        "Random Number",
        "Rounding",
        "String",
        "String Replacement",
        "String Search",
        "String Splitting",
        "Time Window",
        "Tuple",
        "Type Conversion",
        "URL",
        "UUID",
    }
)

# Allowed although their category is not: what needs nothing but its arguments, or tells a client what it
# talks to.
FUNCTIONS = frozenset(
    """
    MACNumToString MACStringToNum MACStringToOUI bar blockNumber blockSerializedSize blockSize byteSize
    colorOKLABToSRGB colorOKLCHToSRGB colorSRGBToOKLAB colorSRGBToOKLCH connectionId countDigits
    currentDatabase currentQueryID currentSchemas currentUser defaultValueOfArgumentType
    defaultValueOfTypeName digits dumpColumnStructure errorCodeToName finalizeAggregation flipCoordinates
    formatReadableDecimalSize formatReadableQuantity formatReadableSize formatReadableTimeDelta getSetting
    getSettingOrDefault getSizeOfEnumType getSubcolumn getTypeSerializationStreams globalVariable identity
    ignore indexHint initialQueryID initialQueryStartTime initializeAggregation isConstant isDecimalOverflow
    lowCardinalityIndices lowCardinalityKeys materialize minSampleSizeContinuous minSampleSizeConversion
    neighbor normalizeQuery normalizeQueryKeepNames normalizedQueryHash normalizedQueryHashKeepNames
    parseISO8601Duration parseReadableSize parseReadableSizeOrNull parseReadableSizeOrZero parseTimeDelta
    queryID revision rowNumberInAllBlocks rowNumberInBlock runningAccumulate runningConcurrency
    runningDifference runningDifferenceStartingWithFirstValue seriesDecomposeSTL seriesOutliersDetectTukey
    throwIf timeSeriesFromGrid timeSeriesRange toColumnTypeName toTypeName transform uptime variantElement
    variantType version visibleWidth caseWithExpression caseWithoutExpression caseWithExpr caseWithoutExpr
    flatten unnest displayName authenticatedUser pgGetUserById pgTableIsVisible _CAST
    """.split()
)

# Refused although their category is allowed.
FUNCTIONS_REFUSED = frozenset({"chdb", "aggThrow", "flameGraph", "file", "sleep", "sleepEachRow", "executable"})

TABLE_FUNCTIONS = frozenset(
    {
        "numbers",
        "numbers_mt",
        "zeros",
        "zeros_mt",
        "primes",
        "generateSeries",
        "generate_series",
        "generateRandom",
        "values",
        "SQLStandardValues",
        "null",
        "view",
    }
)

SYSTEM_TABLES = frozenset(
    """
    aggregate_function_combinators asynchronous_metrics build_options codecs collations columns completions
    contributors data_skipping_index_types data_skipping_indices data_type_families database_engines databases
    documentation events formats functions keywords licenses merges metrics numbers numbers_mt one parts
    parts_columns primes projections settings table_engines table_functions tables time_zones unicode zeros
    zeros_mt
    """.split()
)

# Columns that tell where the server keeps its files, and the tables that have them.
PATH_COLUMNS = frozenset(
    "data_path data_paths license_path metadata_path path result_part_path source_part_paths".split()
)
PATH_TABLES = frozenset("databases licenses merges parts parts_columns tables".split())

# Settings a reader may give, in a SETTINGS clause or the URL. None may name a file or a host, hold an
# expression (additional_result_filter), let a statement spill to disk (max_bytes_before_external_…), or lift
# a limit.
SETTINGS = frozenset(
    """
    aggregate_functions_null_for_empty any_join_distinct_right_table_keys
    asterisk_include_alias_columns asterisk_include_materialized_columns bool_false_representation
    bool_true_representation cast_keep_nullable cast_string_to_dynamic_use_inference
    cast_string_to_variant_use_inference cast_ipv4_ipv6_default_on_conversion_error
    count_distinct_implementation data_type_default_nullable
    date_time_input_format date_time_output_format date_time_overflow_behavior decimal_check_overflow
    do_not_merge_across_partitions_select_final distinct_overflow_mode
    empty_result_for_aggregation_by_empty_set enable_named_columns_in_function_tuple
    enable_positional_arguments extremes final first_day_of_week format_csv_delimiter
    format_csv_null_representation format_tsv_null_representation format_binary_max_string_size
    formatdatetime_f_prints_single_zero formatdatetime_parsedatetime_m_is_month_name
    function_json_value_return_type_allow_complex function_json_value_return_type_allow_nullable
    group_by_overflow_mode group_by_use_nulls join_algorithm join_default_strictness join_overflow_mode
    join_use_nulls least_greatest_legacy_null_behavior limit offset optimize_aggregation_in_order
    optimize_move_to_prewhere optimize_read_in_order optimize_skip_unused_shards prefer_column_name_to_alias
    read_overflow_mode result_overflow_mode session_timezone short_circuit_function_evaluation
    sort_overflow_mode split_parts_buffer_length timeout_overflow_mode totals_mode transform_null_in
    union_default_mode use_query_condition_cache use_skip_indexes use_skip_indexes_if_final
    use_variant_as_common_type validate_polygons
    """.split()
)

# Settings that only shape the answer's text; of these names, all but those that name files.
SETTING_PREFIXES = ("output_format_",)
SETTINGS_REFUSED = frozenset({"output_format_schema"})

# Limits of the engine that may be lowered by a reader: more of these is a smaller limit, and 0 means none.
LOWERABLE = frozenset(
    {
        "max_ast_depth",
        "max_ast_elements",
        "max_block_size",
        "max_bytes_to_read",
        "max_columns_to_read",
        "max_execution_time",
        "max_memory_usage",
        "max_query_size",
        "max_result_bytes",
        "max_result_rows",
        "max_rows_in_join",
        "max_rows_in_set",
        "max_rows_to_group_by",
        "max_rows_to_read",
        "max_rows_to_sort",
        "max_threads",
    }
)

# What clients send with every request, for ClickHouse's own transport or sessions. None of it changes an
# answer here.
IGNORED_PARAMETERS = frozenset(
    """
    add_http_cors_header allow_experimental_analyzer buffer_size cancel_http_readonly_queries_on_client_close
    client_protocol_version close_session enable_http_compression http_headers_progress_interval_ms
    http_receive_timeout http_response_buffer_size http_send_timeout http_wait_end_of_query
    http_write_exception_in_output_format http_zlib_compression_level log_comment password quota_key readonly
    receive_timeout role send_logs_level send_progress_in_http_headers send_timeout session_check session_id
    session_timeout stacktrace user wait_end_of_query
    """.split()
)
