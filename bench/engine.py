"""The engine's own limit: the bytes that the collector would hand over, inserted into chDB from files, nothing else.

    python bench/engine.py                      1 KB spans, 30 files of 32 MB
    python bench/engine.py --span-bytes 20000

One figure for each stage on top of the ones before, in spans/s and CPU µs a span, merges included: the requests only
parsed (into the Null table without its views), unfolded into a row a span (without the view that fills `span_rows`),
normalised and stored without prices, priced, and the traces computed anew.
"""

import argparse
import asyncio
import os
import resource
import shutil
import tempfile
import time
from pathlib import Path

import numpy as np
from payloads import SPANS_PER_TRACE, template

from tracestone.collector.wal.frames import varint
from tracestone.protos.ingest.v1.traces_pb2 import Traces
from tracestone.schema import sqlfiles
from tracestone.schema.engines.columnar import Columnar
from tracestone.schema.mapping import generate, tables
from tracestone.schema.stores.otlp import OtlpTable
from tracestone.schema.stores.prices import PriceTable
from tracestone.schema.stores.spans import SpanStore


def files(folder: Path, span_bytes: int, count: int, file_bytes: int) -> tuple[list[Path], int]:
    """Files of length-delimited requests, and how many spans are in each."""
    shape = template(span_bytes, max(1, min(64, 512_000 // (span_bytes * SPANS_PER_TRACE))))
    rng = np.random.default_rng(5)
    found, spans = [], 0
    for number in range(count):
        parts, size, spans = [], 0, 0
        while size < file_bytes:
            request = shape.stamp(rng, time.time_ns())
            request += Traces(experiment_ids=[1], received_at=time.time_ns()).SerializeToString()
            parts += [varint(len(request)), request]
            size += len(request)
            spans += shape.spans
        found.append(folder / f"{number}.pb")
        found[-1].write_bytes(b"".join(parts))
    return found, spans


def cpu() -> float:
    """CPU seconds of this process."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


async def merged(columnar: Columnar) -> None:
    """Returns when no merge has run for a second."""
    quiet = 0
    while quiet < 4:
        await asyncio.sleep(0.25)
        rows = await columnar.query("SELECT count() AS running FROM system.merges")
        quiet = 0 if rows[0]["running"] else quiet + 1


async def create(columnar: Columnar, stage: str) -> None:
    """An empty database with the newest schema, as far as a stage goes."""
    await columnar.command("DROP DATABASE tracestone SYNC")
    await columnar.command("CREATE DATABASE tracestone")
    for migration in sqlfiles.migrations("clickhouse"):
        for statement in migration.statements():
            await columnar.command(statement)
    await PriceTable(columnar).load_shipped()
    for statement in generate.views(tables.read(None), 1):
        if stage == "normalised":
            for name, costly in generate.priced().items():
                free = {"chosen_price": "toUInt64(0)", "priced_input": "nan", "priced_output": "nan"}.get(name, "0")
                statement = statement.replace(f"{costly} AS {name}", f"{free} AS {name}")
        await columnar.command(statement)
    if stage == "parsed":
        await columnar.command("DROP VIEW spans_in_mv")
    if stage == "unfolded":
        await columnar.command("DROP VIEW span_rows_mv")


async def run(arguments: argparse.Namespace, folder: Path) -> None:
    """Inserts and prints."""
    paths, spans = files(folder, arguments.span_bytes, arguments.files, arguments.file_bytes)
    columnar = Columnar(f"chdb://{folder}/clickhouse", database="tracestone", clients=2)
    await columnar.open()
    for name in ("parsed", "unfolded", "normalised", "priced", "recomputed"):
        await create(columnar, name)
        store = SpanStore(columnar)
        given = OtlpTable(columnar, "traces", "Traces").settings
        settings = ", ".join(f"{key} = '{value}'" for key, value in given.items())
        before, began = cpu(), time.perf_counter()
        for path in paths:
            await columnar.command(
                f"INSERT INTO otlp_traces_in FROM INFILE '{path}' SETTINGS {settings}, log_comment = '{path.name}'"
                " FORMAT Protobuf"
            )
            if name == "recomputed":
                await store.refresh_traces([path.name])
        wall = time.perf_counter() - began
        await merged(columnar)
        total = spans * len(paths)
        print(f"{name:12} {total / wall:12,.0f} spans/s {(cpu() - before) / total * 1e6:8.1f} CPU us/span")
    await columnar.close()


def main() -> None:
    """Parses the command line and runs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--span-bytes", type=int, default=1000)
    parser.add_argument("--files", type=int, default=30)
    parser.add_argument("--file-bytes", type=int, default=32 << 20)
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="tracestone-engine-"))
    try:
        asyncio.run(run(arguments, folder))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os._exit(0)


if __name__ == "__main__":
    main()
