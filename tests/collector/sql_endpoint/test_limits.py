"""Each limit is hit on the real engine, and everything works afterwards."""

import asyncio

import httpx
import pytest

from support.asgi_server import serving
from support.sql_endpoint import Endpoint
from tracestone.collector.sql_endpoint.http import sql_app
from tracestone.collector.sql_endpoint.statements import Statement, Statements
from tracestone.schema.clock import monotonic
from tracestone.schema.engines.columnar import Columnar, StatementFailed
from tracestone.schema.errors import Stopping
from tracestone.schema.settings import Settings

ENDLESS = "SELECT count() FROM numbers(10000000000000) WHERE NOT ignore(sipHash64(number))"


async def running(columnar: Columnar) -> int:
    """How many endless statements the engine is working on."""
    rows = await columnar.query(
        "SELECT count() AS n FROM system.processes WHERE query LIKE '%10000000000000%' AND query NOT LIKE '%processes%'"
    )
    return int(rows[0]["n"])


async def until(columnar: Columnar, wanted: int) -> None:
    """Waits until exactly `wanted` endless statements run; a test's own time limit ends it otherwise."""
    while await running(columnar) != wanted:
        await asyncio.sleep(0.02)


@pytest.mark.parametrize(
    ("statement", "error"),
    [
        (ENDLESS, "TIMEOUT_EXCEEDED"),
        ("SELECT groupArray(number) FROM numbers(1000000000)", "MEMORY_LIMIT_EXCEEDED"),
        ("SELECT number FROM numbers(1001)", "TOO_MANY_ROWS_OR_BYTES"),
        ("SELECT repeat('x', 2000) FROM numbers(900)", "TOO_MANY_ROWS_OR_BYTES"),
        ("SELECT number FROM numbers(100) SETTINGS max_result_rows = 10", "TOO_MANY_ROWS_OR_BYTES"),
        (
            "SELECT number FROM numbers(10000000) ORDER BY sipHash64(number) LIMIT 1 SETTINGS max_rows_to_read = 9",
            "TOO_MANY_ROWS",
        ),
        (ENDLESS.replace("count()", "count() + 1") + " SETTINGS max_execution_time = 1", "maximum: 1000"),
    ],
)
async def test_a_limit_is_hit(endpoint: Endpoint, statement: str, error: str) -> None:
    with pytest.raises(StatementFailed, match=error):
        await endpoint.ask(statement)
    assert (await endpoint.ask("SELECT 7")).body == b"7\n"


async def test_as_many_rows_as_the_limit_are_answered(endpoint: Endpoint) -> None:
    assert (await endpoint.ask("SELECT number FROM numbers(1000)")).body.count(b"\n") == 1000


async def test_a_client_that_hangs_up_ends_its_statement(small: Columnar) -> None:
    app = sql_app(Settings(sql_max_seconds=60), small)
    async with serving(app) as url:
        async with httpx.AsyncClient() as http:
            asking = asyncio.create_task(http.post(url, content=ENDLESS))
            await until(small, 1)
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)
        await until(small, 0)
    await app.state.statements.close()


async def test_no_more_than_so_many_run_and_wait(small: Columnar) -> None:
    app = sql_app(Settings(sql_max_seconds=60, sql_max_concurrent=2), small)
    statements: Statements = app.state.statements
    async with serving(app) as url, httpx.AsyncClient() as http:
        await http.post(url, content="SELECT 1")
        asked = [asyncio.create_task(statements.run(Statement(ENDLESS))) for _ in range(2 + 16)]
        await until(small, 2)
        refused = await http.post(url, content="SELECT 1")
        assert refused.status_code == 503
        assert refused.headers["retry-after"] == "1"
        assert "(TOO_MANY_SIMULTANEOUS_QUERIES)" in refused.text
        assert await running(small) == 2
        for task in asked:
            task.cancel()
        await asyncio.gather(*asked, return_exceptions=True)
        await until(small, 0)
        assert (await http.post(url, content="SELECT 1")).text == "1\n"
    await statements.close()


async def test_closing_ends_what_runs_and_refuses_what_comes(small: Columnar) -> None:
    statements = Statements(Settings(sql_max_seconds=600), small)
    asked = asyncio.create_task(statements.run(Statement(ENDLESS)))
    await until(small, 1)
    began = monotonic()
    await statements.close()
    # On a busy machine the engine may know of it before our thread has begun to read; then it is refused.
    with pytest.raises(StatementFailed, match=r"QUERY_WAS_CANCELLED|The process is shutting down"):
        await asked
    assert monotonic() > began
    with pytest.raises(Stopping):
        await statements.run(Statement("SELECT 1"))
    await statements.close()
