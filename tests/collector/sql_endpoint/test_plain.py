"""Which statements over `spans` read `spans_plain`: those that get the same answer from it.

The two are tables here that say which of them was read.
"""

import uuid
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from support.asgi_server import serving
from support.sql_endpoint import Endpoint
from tracestone.collector.sql_endpoint.http import sql_app
from tracestone.collector.sql_endpoint.statements import Statement
from tracestone.schema.engines.columnar import Columnar, StatementFailed
from tracestone.schema.settings import Settings


@pytest_asyncio.fixture(scope="module")
async def endpoint(chdb_url: str) -> AsyncIterator[Endpoint]:
    """An endpoint over the two tables, with a row each."""
    columnar = Columnar(chdb_url, database=f"test_plain_{uuid.uuid4().hex[:8]}")
    await columnar.open()
    engine = "ENGINE = MergeTree ORDER BY span_id AS SELECT 'a' AS span_id"
    await columnar.command(f"CREATE TABLE spans {engine}, 'whole' AS name, '[]' AS input_messages")
    await columnar.command(f"CREATE TABLE spans_plain {engine}, 'plain' AS name, false AS messages_elsewhere")
    app = sql_app(Settings(), columnar)
    async with serving(app) as url:
        yield Endpoint(url, app.state.statements, columnar.database)
    await app.state.statements.close()
    await columnar.command(f"DROP DATABASE `{columnar.database}` SYNC")
    await columnar.close()


async def _answer(endpoint: Endpoint, text: str, **parameters: str) -> str:
    statement = Statement(text.replace("HOME", f"`{endpoint.database}`"), parameters=parameters)
    return (await endpoint.statements.run(statement)).body.decode()


@pytest.mark.parametrize(
    "text",
    [
        "SELECT name FROM spans",
        "select name from spans where span_id = 'a' order by name format JSONEachRow",
        "SELECT spans.name FROM spans",
        "SELECT s.name FROM spans AS s",
        "SELECT name, count(*) FROM `spans` GROUP BY name",
        "SELECT name FROM HOME.spans",
        "SELECT spans.name FROM HOME.`spans` LIMIT 1",
        "SELECT a.name, b.name FROM spans AS a INNER JOIN spans AS b ON a.span_id = b.span_id",
        "SELECT spans.name FROM numbers(1) AS n CROSS JOIN spans",
        "WITH x AS (SELECT name FROM spans) SELECT name FROM x",
        "SELECT (SELECT any(name) FROM spans)",
        "SELECT name FROM spans UNION ALL SELECT name FROM spans",
        "SELECT name FROM spans WHERE name != 'spans' AND name != 'FROM spans'",
    ],
)
async def test_what_names_its_columns_reads_the_plain_ones(endpoint: Endpoint, text: str) -> None:
    answer = await _answer(endpoint, text)
    assert "plain" in answer and "whole" not in answer


@pytest.mark.parametrize(
    "text",
    [
        "SELECT * FROM spans",
        "SELECT s.* FROM spans AS s",
        "SELECT * EXCEPT (input_messages) FROM spans",
        "SELECT COLUMNS('na') FROM spans",
        "SELECT name, input_messages FROM spans",
        "SELECT name, `input_messages` FROM spans",
        "SELECT name FROM spans WHERE spans.input_messages = '[]'",
        "SELECT name AS input_messages FROM spans",
        "SELECT spans.name FROM numbers(1) AS n, spans",
        "SELECT name FROM (SELECT * FROM spans)",
    ],
)
async def test_what_may_want_more_reads_the_whole_ones(endpoint: Endpoint, text: str) -> None:
    answer = await _answer(endpoint, text)
    assert "whole" in answer and "plain" not in answer


async def test_a_name_given_as_a_parameter_may_want_more(endpoint: Endpoint) -> None:
    asked = "SELECT name, {column:Identifier} FROM spans"
    assert await _answer(endpoint, asked, column="input_messages") == "whole\t[]\n"
    assert await _answer(endpoint, asked, column="span_id") == "plain\ta\n"
    assert await _answer(endpoint, "SELECT name FROM {table:Identifier}", table="spans") == "whole\n"


async def test_spans_of_the_statement_s_own_are_left_alone(endpoint: Endpoint) -> None:
    assert await _answer(endpoint, "WITH spans AS (SELECT 'mine' AS name) SELECT name FROM spans") == "mine\n"
    inside = "SELECT name FROM (WITH spans AS (SELECT 'mine' AS name) SELECT name FROM spans)"
    assert await _answer(endpoint, inside) == "mine\n"


async def test_a_mistake_is_told_of_the_statement_as_it_was_written(endpoint: Endpoint) -> None:
    for asked in (
        "SELECT nam FROM spans",
        "SELECT HOME.spans.nam FROM HOME.spans",
        "SELECT messages_elsewhere FROM spans",
    ):
        with pytest.raises(StatementFailed) as failed:
            await _answer(endpoint, asked)
        assert failed.value.code == 47
        assert "spans_plain" not in str(failed.value)


async def test_a_long_name_is_found_where_only_the_whole_one_has_it(endpoint: Endpoint) -> None:
    assert await _answer(endpoint, "SELECT HOME.spans.name FROM HOME.spans") == "whole\n"
