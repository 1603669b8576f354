"""`tracestone up`: everything in one process, with a private Postgres and chDB where no server is named.

The same collector and scoring run apart in production; here they are only put together.
"""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from pydantic import SecretStr

from tracestone.collector import data_folder
from tracestone.collector.app import Collector
from tracestone.schema.engines.columnar import Columnar, chdb_url
from tracestone.schema.engines.postgres import Pool, open_pool
from tracestone.schema.errors import StartRefused
from tracestone.schema.migrate import migrate
from tracestone.schema.settings import Settings
from tracestone.scoring.app import Scoring

logger = logging.getLogger(__name__)

_SCORING_STOP_SECONDS = 4.0
_COLUMNAR_CLOSE_SECONDS = 2.0


@asynccontextmanager
async def stores(settings: Settings) -> AsyncIterator[tuple[Pool, Columnar]]:
    """Both stores, open; embedded ones are started, and stopped at the end. Raises StartRefused, StorageDown."""
    async with _stores(settings) as (pool, columnar, _):
        yield pool, columnar


@asynccontextmanager
async def _stores(settings: Settings) -> AsyncIterator[tuple[Pool, Columnar, Settings]]:
    """Also gives the settings with the address of the private Postgres, for other processes."""
    async with AsyncExitStack() as stack:
        _hold_data_folder(settings, stack)
        columnar = Columnar(clickhouse_url(settings), database=settings.clickhouse_database)
        # Each of the two takes most of a second, so they start side by side.
        opening = asyncio.create_task(columnar.open(), name="open clickhouse")
        try:
            postgres_url = await _postgres_url(settings, stack)
        finally:
            await asyncio.wait([opening])
        stack.push_async_callback(_close_columnar, columnar)
        opening.result()
        pool = await open_pool(postgres_url)
        stack.push_async_callback(_close_pool, pool)
        yield pool, columnar, settings.model_copy(update={"postgres_url": SecretStr(postgres_url)})


@asynccontextmanager
async def running(settings: Settings) -> AsyncIterator[Collector]:
    """The whole of Tracestone, serving. Raises StartRefused, StorageDown."""
    if settings.demo and settings.tls_client_ca_file is not None:
        raise StartRefused("The demo has no certificate to show; leave out the setting demo or tls_client_ca_file.")
    async with AsyncExitStack() as stack:
        pool, columnar, settings = await stack.enter_async_context(_stores(settings))
        await migrate(pool, columnar, settings.mapping_dir)
        collector = Collector(settings, pool, columnar)
        scoring = Scoring(pool, columnar, collector.assessments, collector.spans, settings, collector.take_spans)
        await scoring.start()
        stack.push_async_callback(_stop_scoring, scoring)
        collector.watch_scoring(lambda: scoring.health()["error"], scoring.spent)
        await collector.start()
        stack.push_async_callback(_stop_both, collector, scoring)
        if settings.demo:
            if settings.receivers > 1 and collector.doors.gate.demanded:
                raise StartRefused(
                    "Where API keys are demanded the demo runs with one receiver; leave out one of both."
                )
            await _start_demo(collector, settings.tls_cert_file, stack)
        yield collector


def clickhouse_url(settings: Settings) -> str:
    """The connection string of ClickHouse: the server that is named, else a folder of ours. Raises StartRefused."""
    if settings.clickhouse_url is not None:
        return settings.clickhouse_url.get_secret_value()
    folder = settings.data_dir.resolve()
    if "?" in str(folder):
        raise StartRefused(f"The embedded ClickHouse cannot open {folder}: in a name, a ? begins options for it.")
    return chdb_url(folder / "clickhouse")


def _hold_data_folder(settings: Settings, stack: AsyncExitStack) -> None:
    folder = settings.data_dir.resolve()
    try:
        ours = stack.enter_context(data_folder.held(folder))
    except OSError as error:
        raise StartRefused(f"The data folder {folder} cannot be used: {error.strerror}.") from error
    if not ours:
        raise StartRefused(f"The data folder {folder} is in use by another Tracestone.")


async def _postgres_url(settings: Settings, stack: AsyncExitStack) -> str:
    if settings.postgres_url is not None:
        return settings.postgres_url.get_secret_value()
    from tracestone.schema.engines.embedded_postgres import EmbeddedPostgres

    server = EmbeddedPostgres(settings.data_dir.resolve() / "postgres")
    stack.push_async_callback(server.stop)
    url = await server.start()
    keeping = asyncio.create_task(server.keep(), name="keep postgres")

    async def stop_keeping() -> None:
        keeping.cancel()
        await asyncio.wait([keeping])

    stack.push_async_callback(stop_keeping)
    return url


async def _start_demo(collector: Collector, certificate: Path | None, stack: AsyncExitStack) -> None:
    from tracestone.collector.demo import run_demo

    stopping = asyncio.Event()
    endpoint, api_key = collector.addresses["OTLP gRPC"], collector.doors.gate.own_token("ingest")
    sending = run_demo(endpoint, stopping, api_key=api_key, certificate=certificate)
    demo = asyncio.create_task(sending, name="demo")

    async def stop() -> None:
        stopping.set()
        await asyncio.wait([demo], timeout=3)

    stack.push_async_callback(stop)


async def _stop_both(collector: Collector, scoring: Scoring) -> None:
    """Side by side, since each may use up its time."""
    await asyncio.gather(collector.stop(), _stop_scoring(scoring))


async def _stop_scoring(scoring: Scoring) -> None:
    try:
        async with asyncio.timeout(_SCORING_STOP_SECONDS):
            await scoring.stop()
    except TimeoutError:
        # Leases run out, so what it worked on is taken up again.
        logger.warning("scoring does not stop and is cut off", extra={"action": "stop"})


async def _close_columnar(columnar: Columnar) -> None:
    try:
        async with asyncio.timeout(_COLUMNAR_CLOSE_SECONDS):
            await columnar.close()
    except TimeoutError:
        # A statement cannot be called back from its thread; the process ends with it.
        logger.warning("ClickHouse still runs a statement", extra={"action": "stop"})


async def _close_pool(pool: Pool) -> None:
    try:
        async with asyncio.timeout(2):
            await pool.close()
    except TimeoutError:
        pool.terminate()
