"""What a reader may and may not run, on the real engine."""

import os
import random
import re

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from support.sql_endpoint import Endpoint
from support.sql_statements import REFUSED, SERVED, TOO_MUCH, Hole
from tracestone.collector.sql_endpoint.allowed import TABLE_FUNCTIONS
from tracestone.collector.sql_endpoint.statements import Statement
from tracestone.schema.engines.columnar import Columnar, StatementFailed


def nothing_written() -> bool:
    """Whether the file that the holes would write is not there."""
    return not os.path.exists("/tmp/hole")


@pytest.mark.parametrize("text", SERVED)
async def test_a_reading_statement_runs(endpoint: Endpoint, text: str) -> None:
    answer = await endpoint.ask(text)
    assert answer.body


@pytest.mark.parametrize("hole", REFUSED, ids=lambda hole: hole.text[:70])
async def test_a_hole_is_closed(endpoint: Endpoint, small: Columnar, hole: Hole) -> None:
    with pytest.raises(StatementFailed) as failed:
        await endpoint.ask(hole.text, **dict(hole.parameters))
    assert str(failed.value).startswith(f"Code: {failed.value.code}. DB::Exception: ")
    assert f"({hole.error})" in str(failed.value)
    assert "root:" not in str(failed.value)
    assert nothing_written()
    assert await small.query("SELECT count() AS n FROM spans") == [{"n": 30}]
    assert [row["name"] for row in await small.query("SHOW TABLES")] == ["spans"]


@pytest.mark.parametrize("name", TOO_MUCH)
async def test_a_huge_statement_is_refused_and_harms_nothing(endpoint: Endpoint, name: str) -> None:
    with pytest.raises(StatementFailed):
        await endpoint.ask(TOO_MUCH[name])
    assert (await endpoint.ask("SELECT 1")).body == b"1\n"


async def test_every_table_function_but_the_listed_ones_is_refused(endpoint: Endpoint) -> None:
    """Also those a later engine brings."""
    names = (await endpoint.ask("SELECT name FROM system.table_functions FORMAT TSVRaw")).body.decode().split()
    assert len(names) > 80
    for name in set(names) - TABLE_FUNCTIONS:
        with pytest.raises(StatementFailed, match=r"ACCESS_DENIED|SYNTAX_ERROR"):
            await endpoint.ask(f"SELECT * FROM {name}('x')")


async def test_every_function_of_a_refused_category_is_refused(endpoint: Endpoint) -> None:
    rows = await endpoint.ask(
        "SELECT name FROM system.functions WHERE categories IN ('AI', 'Introspection', 'Internal', 'Machine Learning',"
        " 'Embedded Dictionary') AND name NOT IN ('caseWithExpression', '_CAST') FORMAT TSVRaw"
    )
    names = rows.body.decode().split()
    assert "aiGenerate" in names and "addressToLine" in names
    for name in names:
        with pytest.raises(StatementFailed, match="ACCESS_DENIED"):
            await endpoint.ask(f"SELECT {name}('x')")


async def test_a_failed_statement_leaves_nothing_in_the_next_answer(endpoint: Endpoint) -> None:
    """chDB hands a failed statement's unfinished rows to the next statement of the same connection."""
    failing = "SELECT throwIf(number = 900, 'secret'), number FROM numbers(1000) SETTINGS max_block_size = 100"
    for _ in range(5):
        with pytest.raises(StatementFailed):
            await endpoint.ask(failing)
        assert (await endpoint.ask("SELECT 5")).body == b"5\n"


async def test_one_readers_settings_end_with_the_statement(endpoint: Endpoint) -> None:
    await endpoint.ask("SELECT 1 SETTINGS max_result_rows = 1")
    assert (await endpoint.ask("SELECT getSetting('max_result_rows')")).body == b"1000\n"
    assert (await endpoint.ask("SELECT getSetting('readonly')")).body == b"1\n"


async def test_the_database_of_a_request_is_checked(endpoint: Endpoint) -> None:
    for database in ("", "default", endpoint.database):
        answer = await endpoint.statements.run(Statement("SELECT count() FROM spans", database=database))
        assert answer.body == b"30\n"
    with pytest.raises(StatementFailed, match="ACCESS_DENIED"):
        await endpoint.statements.run(Statement("SELECT 1", database="other"))
    for text in ("SELECT * FROM users", "SELECT 'default' IN users", "EXISTS users", "SHOW COLUMNS FROM users"):
        with pytest.raises(StatementFailed, match=r"system\.users"):
            await endpoint.statements.run(Statement(text, database="system"))


_QUOTED = re.compile(r"('(?:[^'\\]|\\.)*'|`(?:[^`\\]|\\.)*`|\"(?:[^\"\\]|\\.)*\")")
_FILLERS = [
    " ",
    "\n",
    "\t",
    "  ",
    " /* x */ ",
    "/**/ ",
    " -- y\n",
    " /* ' */ ",
    ' -- "\n',
    " # z\n",
    " /* SELECT 1; */ ",
]


def mutated(text: str, seed: int) -> str:
    """The same statement, keywords in other case, spaces and comments elsewhere."""
    chance = random.Random(seed)

    def vary(piece: str) -> str:
        spaced = re.sub(r" ", lambda _: chance.choice(_FILLERS), piece)
        return re.sub(
            r"(?<!\.)\b(select|from|where|into|outfile|insert|settings|format|with|union|all|apply|explain|describe|show)\b",
            lambda word: "".join(chance.choice((c.lower(), c.upper())) for c in word.group()),
            spaced,
            flags=re.IGNORECASE,
        )

    pieces = _QUOTED.split(text)
    return "".join(piece if place % 2 else vary(piece) for place, piece in enumerate(pieces))


_STABLE_HOLES = [
    hole for hole in REFUSED if hole.error in ("READONLY", "ACCESS_DENIED", "SETTING_CONSTRAINT_VIOLATION")
]


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(hole=st.sampled_from(_STABLE_HOLES), seed=st.integers(0, 2**32))
async def test_spelling_does_not_open_a_hole(endpoint: Endpoint, hole: Hole, seed: int) -> None:
    with pytest.raises(StatementFailed) as failed:
        await endpoint.ask(mutated(hole.text, seed), **dict(hole.parameters))
    assert f"({hole.error})" in str(failed.value)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.sampled_from(SERVED), seed=st.integers(0, 2**32))
async def test_spelling_does_not_close_a_way(endpoint: Endpoint, text: str, seed: int) -> None:
    assert (await endpoint.ask(mutated(text, seed))).body


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    text=st.lists(
        st.sampled_from(
            [
                "SELECT",
                "FROM",
                "file",
                "(",
                ")",
                "'/etc/passwd'",
                "spans",
                "SETTINGS",
                "readonly",
                "=",
                "0",
                ",",
                "*",
                "APPLY",
                "INTO",
                "OUTFILE",
                "'/tmp/hole'",
                "WITH",
                "AS",
                "x",
                "->",
                ";",
                "url",
                "INSERT",
                "EXPLAIN",
                "DESCRIBE",
                "SHOW",
                "`",
                "'",
                "\\",
                "/*",
                "*/",
                "--",
                "\n",
                "{x:Identifier}",
                "UNION ALL",
                "FORMAT",
                "CSV",
                "system.users",
                ".",
                "1",
                "[",
                "]",
            ]
        ),
        max_size=14,
    ).map(" ".join)
)
async def test_no_word_salad_reads_a_file(endpoint: Endpoint, text: str) -> None:
    try:
        answer = await endpoint.ask(text, x="system.users")
    except StatementFailed as error:
        assert "root:x" not in str(error)
    else:
        assert b"root:x" not in answer.body
    assert nothing_written()
