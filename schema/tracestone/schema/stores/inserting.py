"""How ClickHouse is told to insert spans, logs and metrics."""

INSERTING = {
    # A repeat replaces itself by its keys. By its name or its bytes it must not be taken for one: ClickHouse notes
    # these before the part is in its place, and killed in between it would ignore what it does not have.
    "insert_deduplicate": 0,
    # Collapsing versions is the merge's and FINAL's work; doing it at insert costs a sort more.
    "optimize_on_insert": 0,
    # Looking for conditions that follow from others took a third of all planning: it hashes whole subqueries.
    "optimize_and_compare_chain": 0,
    # Nothing in the views is worth skipping for a part of the rows; deciding it costs more.
    "short_circuit_function_evaluation": "disable",
    # Old telemetry sent at once may span many weeks; how many partitions that can be is bounded by their key.
    "max_partitions_per_insert_block": 0,
}
"""Settings of every insert into what the views read."""

REWRITING = {
    **INSERTING,
    # one thread, so that what arrives meanwhile has the others
    "max_threads": 1,
    # The views unfold what a block holds several times over. Spans of 1 MB take 2 GB that way, however many there are.
    "max_block_size": 4096,
    "min_insert_block_size_bytes": 64 * 1024 * 1024,
    "allow_reorder_prewhere_conditions": 0,
}
"""Settings with which stored rows are inserted once more."""
