"""What it costs to keep what agents repeat: a hundred-turn trace sends its whole history with every model call.

    python bench/repeats.py --only now,before              the schema's way and that of before migration 0030
    python bench/repeats.py --at-once 64 --traces 96       more live traffic between two spans of one trace
    python bench/repeats.py                                every way of storing, a quarter of an hour

The requests of some minutes of live traffic (bench/agents.py) are inserted as the loader does, one insert for the spans
of some seconds, into a chDB of its own. Printed for each way: CPU of the inserts with their merges, the bytes of the
long texts on disk as background merges left them and after OPTIMIZE FINAL, over the bytes that were sent; then the time
and CPU of opening a trace (its outline), one late span's payload, and all payloads, medians of several traces.
"""

import argparse
import asyncio
import os
import resource
import shutil
import statistics
import tempfile
import time
import traceback
from collections.abc import Awaitable, Callable
from pathlib import Path

from agents import SECOND, Agents
from engine import cpu, create, merged
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from tracestone.collector.wal.frames import varint
from tracestone.protos.ingest.v1.traces_pb2 import Traces
from tracestone.schema.engines.columnar import Columnar
from tracestone.schema.stores.pages import PageStore
from tracestone.schema.stores.spans import SpanStore

START_NS = 1_790_000_000 * SECOND
_TEXT = "ALTER TABLE span_rows MODIFY COLUMN attributes_text Map(LowCardinality(String), String) CODEC"


def _blocks(mebibytes: int, codec: str) -> list[str]:
    """Pieces to compress at once."""
    sizes = f"max_compress_block_size = {mebibytes << 20}, min_compress_block_size = {mebibytes << 20}"
    return [f"{_TEXT}({codec}) SETTINGS ({sizes})"]


# Content addressing: a text is cut before each message, each piece is kept once, a span has the hashes of its pieces.
# Joined again with what it was cut at, the pieces are the text, byte for byte.
_CUT = """'{"role"'"""
_CONTENTS = [
    (
        "CREATE TABLE span_contents (experiment_id UInt32, hash FixedString(16), piece String CODEC(ZSTD(1)))"
        " ENGINE = ReplacingMergeTree ORDER BY (experiment_id, hash) SETTINGS index_granularity = 256"
    ),
    (
        "CREATE MATERIALIZED VIEW span_contents_mv TO span_contents AS"
        " SELECT DISTINCT experiment_id, sipHash128(piece) AS hash, piece FROM span_rows"
        f" ARRAY JOIN arrayFlatten(arrayMap(text -> splitByString({_CUT}, text), mapValues(attributes_text))) AS piece"
    ),
    (
        "CREATE TABLE span_hashes (experiment_id UInt32, trace_id String CODEC(ZSTD(1)), span_id String CODEC(ZSTD(1)),"
        " start_time DateTime64(9, 'UTC'), hashes Map(LowCardinality(String), Array(FixedString(16))) CODEC(ZSTD(1)))"
        " ENGINE = MergeTree ORDER BY (experiment_id, trace_id, span_id)"
    ),
    (
        "CREATE MATERIALIZED VIEW span_hashes_mv TO span_hashes AS SELECT experiment_id, trace_id, span_id, start_time,"
        f" mapApply((key, text) -> (key, arrayMap(piece -> sipHash128(piece), splitByString({_CUT}, text))),"
        " attributes_text)"
        " AS hashes FROM span_rows"
    ),
]

# The texts apart, the spans of a trace together, however many agents work at once.
_APART = [
    (
        "CREATE TABLE span_texts (experiment_id UInt32, trace_id String CODEC(ZSTD(1)), span_id String CODEC(ZSTD(1)),"
        " attributes_text Map(LowCardinality(String), String) CODEC(ZSTD(1, 22)), received_at DateTime64(9, 'UTC'))"
        " ENGINE = ReplacingMergeTree(received_at) ORDER BY (experiment_id, trace_id, span_id) SETTINGS"
        " min_bytes_for_wide_part = 67108864, max_compress_block_size = 4194304, min_compress_block_size = 4194304"
    ),
    (
        "CREATE MATERIALIZED VIEW span_texts_mv TO span_texts AS"
        " SELECT experiment_id, trace_id, span_id, attributes_text, received_at FROM span_rows"
    ),
]

_BEFORE = [
    f"{_TEXT}(ZSTD(1))",
    (
        "ALTER TABLE span_rows MODIFY COLUMN attributes_text RESET SETTING max_compress_block_size,"
        " min_compress_block_size"
    ),
]

WAYS: dict[str, list[str]] = {
    "now": [],
    "before": _BEFORE,
    "zstd-6": [*_BEFORE, f"{_TEXT}(ZSTD(6))"],
    "zstd-9": [*_BEFORE, f"{_TEXT}(ZSTD(9))"],
    "long": [*_BEFORE, f"{_TEXT}(ZSTD(1, 24))"],
    "blocks-4": _blocks(4, "ZSTD(1, 22)"),
    "blocks-16": _blocks(16, "ZSTD(1, 24)"),
    "blocks-16-short": _blocks(16, "ZSTD(1)"),
    "blocks-16-zstd-3": _blocks(16, "ZSTD(3, 24)"),
    "blocks-32": _blocks(32, "ZSTD(1, 25)"),
    "blocks-64": _blocks(64, "ZSTD(1, 26)"),
    "apart": _APART,
    "contents": _CONTENTS,
}
# Where a way keeps the texts, if not in `span_rows`.
TABLES = {"apart": ["span_texts"], "contents": ["span_contents", "span_hashes"]}


class Stopwatch:
    """Wall and CPU time of something, in milliseconds; the median of what was measured."""

    def __init__(self) -> None:
        self.walls: list[float] = []
        self.cpus: list[float] = []

    async def run(self, what: Callable[[], Awaitable[object]]) -> object:
        """Runs and notes."""
        before, began = cpu(), time.perf_counter()
        found = await what()
        self.walls.append((time.perf_counter() - began) * 1e3)
        self.cpus.append((cpu() - before) * 1e3)
        return found

    def __str__(self) -> str:
        return f"{statistics.median(self.walls):7.0f} ms ({statistics.median(self.cpus):.0f} CPU)"


def write(folder: Path, agents: Agents, seconds: float) -> tuple[list[Path], int]:
    """One file for the spans that ended within each few seconds; the number of spans."""
    paths: list[Path] = []
    pending: list[Span] = []
    total, until = 0, 0

    def close() -> None:
        request = ExportTraceServiceRequest()
        sent = request.resource_spans.add()
        pair = sent.resource.attributes.add(key="service.name")
        pair.value.string_value = "agents"
        sent.scope_spans.add().spans.extend(pending)
        body = request.SerializeToString()
        body += Traces(experiment_ids=[1], received_at=pending[-1].end_time_unix_nano).SerializeToString()
        paths.append(folder / f"{len(paths):06}.pb")
        paths[-1].write_bytes(varint(len(body)) + body)
        pending.clear()

    for span in agents.spans():
        if pending and span.end_time_unix_nano > until:
            close()
        if not pending:
            until = span.end_time_unix_nano + int(seconds * SECOND)
        pending.append(span)
        total += 1
    close()
    return paths, total


async def stored(columnar: Columnar, tables: list[str]) -> tuple[int, int]:
    """Bytes on disk, which are the long texts but for a few in a hundred, and parts."""
    found = await columnar.query(
        "SELECT sum(data_compressed_bytes) AS bytes, count() AS parts FROM system.parts"
        " WHERE active AND database = currentDatabase() AND table IN {tables:Array(String)}",
        {"tables": tables},
    )
    return found[0]["bytes"], found[0]["parts"]


async def apart(columnar: Columnar, trace_id: str, span_id: str = "") -> list[dict[str, str]]:
    """The long texts of a trace's spans, or of one span."""
    rows = await columnar.query(
        "SELECT attributes_text FROM span_texts FINAL WHERE experiment_id = 1 AND trace_id = {trace_id:String}"
        " AND ({span_id:String} = '' OR span_id = {span_id:String})",
        {"trace_id": trace_id, "span_id": span_id},
    )
    return [row["attributes_text"] for row in rows]


async def rebuilt(columnar: Columnar, trace_id: str, span_id: str = "") -> list[dict[str, str]]:
    """The long texts of a trace's spans, or of one span, from their pieces."""
    rows = await columnar.query(
        "SELECT mapApply((key, all) -> (key, arrayMap(hash -> hex(hash), all)), hashes) AS hashes FROM span_hashes"
        " WHERE experiment_id = 1 AND trace_id = {trace_id:String}"
        " AND ({span_id:String} = '' OR span_id = {span_id:String})",
        {"trace_id": trace_id, "span_id": span_id},
    )
    wanted = {one for row in rows for all_of_text in row["hashes"].values() for one in all_of_text}
    pieces = await columnar.query(
        "SELECT hex(hash) AS id, any(piece) AS text FROM span_contents"
        " WHERE experiment_id = 1 AND hash IN (SELECT toFixedString(unhex(arrayJoin({hashes:Array(String)})), 16))"
        " GROUP BY hash",
        {"hashes": list(wanted)},
    )
    known = {row["id"]: row["text"] for row in pieces}
    return [
        {key: '{"role"'.join(known[one] for one in all_of_text) for key, all_of_text in row["hashes"].items()}
        for row in rows
    ]


async def reads(columnar: Columnar, agents: Agents, way: str) -> str:
    """Opens some traces as the pages do."""
    spans, pages = SpanStore(columnar), PageStore(columnar)
    outline, one, everything = Stopwatch(), Stopwatch(), Stopwatch()
    traces = list(agents.by_trace)
    for trace_id in traces[1 :: max(1, len(traces) // 7)]:
        info = await spans.info(trace_id.hex(), 1)
        assert info is not None
        rows = await outline.run(lambda info=info: pages.outline(info, 2_000))  # type: ignore[misc]
        assert len(rows) == len(agents.by_trace[trace_id])  # type: ignore[arg-type]
        late = agents.by_trace[trace_id][-4].hex()
        found = await one.run(lambda late=late, info=info: spans.span(1, info.trace_id, late))  # type: ignore[misc]
        assert found is not None
        await everything.run(lambda info=info: spans.trace(info.trace_id, 1))  # type: ignore[misc]
    if way not in TABLES:
        return f"open {outline}  a span {one}  all payloads {everything}"
    read = rebuilt if way == "contents" else apart
    piece, pieces = Stopwatch(), Stopwatch()
    for trace_id in traces[1 :: max(1, len(traces) // 7)]:
        name, late = trace_id.hex(), agents.by_trace[trace_id][-4].hex()
        texts = await piece.run(lambda name=name, late=late: read(columnar, name, late))  # type: ignore[misc]
        found = await spans.span(1, name, late)
        assert found is not None
        assert texts == [{key: value for key, value in found.attributes.items() if key in texts[0]}]  # type: ignore[index]
        await pieces.run(lambda name=name: read(columnar, name))  # type: ignore[misc]
    return f"open {outline}  the texts alone: a span {piece}  all payloads {pieces}"


async def measure(columnar: Columnar, way: str, paths: list[Path], spans: int, agents: Agents) -> None:
    """One way of storing, from an empty database to its reads."""
    await create(columnar)
    for statement in WAYS[way]:
        await columnar.command(statement)
    store = SpanStore(columnar)
    before, began = cpu(), time.perf_counter()
    for path in paths:
        await store.insert(path.read_bytes(), path.name)
        await store.refresh_traces([path.name])
    await merged(columnar)
    spent, wall = cpu() - before, time.perf_counter() - began
    raw = agents.raw_bytes
    whole, parts = await stored(columnar, TABLES.get(way, ["span_rows"]))
    print(
        f"{way:24} insert and merges {spent / spans * 1e6:6.0f} CPU us/span ({wall:.0f} s)"
        f"  {whole / 1e6:8.1f} MB = 1/{raw / whole:.1f} in {parts} parts",
        flush=True,
    )
    print(f"{'':24} {await reads(columnar, agents, way)}", flush=True)
    before, began = cpu(), time.perf_counter()
    for table in TABLES.get(way, ["span_rows"]):
        await columnar.command(f"OPTIMIZE TABLE {table} FINAL")
    spent, wall = cpu() - before, time.perf_counter() - began
    whole, parts = await stored(columnar, TABLES.get(way, ["span_rows"]))
    print(
        f"{'  merged whole':24} {spent / spans * 1e6:24.0f} CPU us/span ({wall:.0f} s)"
        f"  {whole / 1e6:8.1f} MB = 1/{raw / whole:.1f} in {parts} parts",
        flush=True,
    )
    print(f"{'':24} {await reads(columnar, agents, way)}", flush=True)


async def run(arguments: argparse.Namespace, folder: Path) -> None:
    """Makes the data, then measures each way."""
    agents = Agents(arguments.traces, arguments.at_once, arguments.turns, START_NS)
    paths, spans = write(folder, agents, arguments.batch_seconds)
    sent = agents.raw_bytes / 1e6
    print(f"{spans} spans of {len(agents.by_trace)} traces in {len(paths)} inserts, {sent:.0f} MB of texts")
    columnar = Columnar(f"chdb://{folder}/clickhouse", database="tracestone", clients=2)
    await columnar.open()
    for way in arguments.only.split(",") if arguments.only else WAYS:
        await measure(columnar, way, paths, spans, agents)
    print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6:.1f} GB")
    await columnar.close()


def main() -> None:
    """Parses the command line and runs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--traces", type=int, default=32)
    parser.add_argument("--at-once", type=int, default=16)
    parser.add_argument("--turns", type=int, default=100)
    parser.add_argument("--batch-seconds", type=float, default=20)
    parser.add_argument("--only", default="", help=f"some of {', '.join(WAYS)}")
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="tracestone-repeats-"))
    status = 1
    try:
        asyncio.run(run(arguments, folder))
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os._exit(status)


if __name__ == "__main__":
    main()
