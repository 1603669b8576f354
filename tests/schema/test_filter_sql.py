"""The filter of an online configuration: what is a condition over `traces`, and how it is composed."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tracestone.schema import sqlfiles
from tracestone.schema.assessments import TargetType
from tracestone.schema.engines.columnar import Columnar
from tracestone.schema.errors import Invalid
from tracestone.schema.filter_sql import FUNCTIONS, check_filter, compose, compose_strata

ALLOWED = [
    "state = 'ERROR'",
    "state IN ('OK', 'ERROR') AND NOT complete",
    "cost_total > 0.1 OR total_tokens BETWEEN 10 AND 1000",
    "has(models, 'gpt-4o-mini') AND start_time > '2026-01-01 00:00:00'",
    "tags['release'] = 'v1.2' AND service_name NOT LIKE 'test%'",
    "duration_ns / 1e9 > 2.5 ? span_count > 3 : error_count = 0",
    "CASE WHEN user_id = '' THEN false ELSE true END",
    "match(input_preview, '(?i)refund') -- only refunds",
    "input_preview = 'a (alias b)' AND root_name = 'Subquery'",
    "length(output_preview) = 0 AND isNotNull(cost_total)",
    "toInt64OrNull(tags['tier']) >= 2",
    "true",
]
REFUSED = {
    "trace_id IN (SELECT trace_id FROM spans)": "a subquery",
    "exists(SELECT 1)": "exists",
    "(SELECT count() FROM system.users) > 0": "a subquery",
    "state IN spans": "spans is not a column",
    "file('/etc/passwd') = ''": "the function file",
    "sleep(3) = 0": "the function sleep",
    "sleepEachRow(1) = 0": "the function sleepEachRow",
    "rand() % 2 = 0": "the function",
    "now() > start_time": "the function now",
    "dictGet('d', 'x', 1) = 1": "the function dictGet",
    "hostName() = 'x'": "the function hostName",
    "getSetting('max_threads') = 1": "the function getSetting",
    "count() > 1": "the function count",
    "row_number() OVER () > 1": "the function row_number",
    "arrayExists(m -> m = 'x', models)": "the function",
    "(state = 'OK') AS trace_id": "alias",
    "state = 'OK' AND (1 AS trace_id)": "alias",
    "password = 'x'": "password is not a column",
    "traces.state = 'OK'": "traces.state is not a column",
    "system.users = 1": "system.users is not a column",
    "*": "*",
    "COLUMNS('.*') = 1": "ColumnsRegexpMatcher",
    "{x:UInt64} = 1": "Substitution",
    "state": "of type",
    "duration_ns": "of type",
    "NULL": "of type",
    "state = 'OK": "ClickHouse refuses it",
    "match(root_name, '(')": "ClickHouse refuses it",
    "cost_total > 'a lot'": "ClickHouse refuses it",
    "state = 'OK'; DROP TABLE traces": "ClickHouse refuses it",
    "true)), false) OR ifNull(toBool((true": "one condition",
    "true)), false) LIMIT (1": "ClickHouse refuses it",
    "true)), false) ORDER BY ifNull(toBool((true": "one condition",
    "true)), false) UNION ALL SELECT trace_id FROM traces WHERE ifNull(toBool((true": "one condition",
    "true)), false) INTO OUTFILE '/tmp/x' --": "ClickHouse refuses it",
    "true)), false) SETTINGS max_threads = 1 --": "ClickHouse refuses it",
    "true /*": "ClickHouse refuses it",
    "`state\n          Literal 1` = 'x'": "ClickHouse refuses it",
    "(" * 3000: "ClickHouse refuses it",
    "state = '" + "x" * 4000 + "'": "longer than",
    "state = '\x00'": "NUL",
}


async def test_a_condition_over_traces_is_accepted(columnar: Columnar) -> None:
    for condition in ALLOWED:
        assert await check_filter(columnar, f"  {condition}\n") == condition


async def test_no_condition_is_accepted(columnar: Columnar) -> None:
    assert await check_filter(columnar, "  ") == ""


async def test_anything_else_is_refused_with_its_reason(columnar: Columnar) -> None:
    accepted = []
    for condition, reason in REFUSED.items():
        try:
            accepted.append(await check_filter(columnar, condition))
        except Invalid as refused:
            assert refused.field == "filter"
            assert reason in refused.reason, condition
    assert accepted == []


async def test_every_function_on_the_list_exists(columnar: Columnar) -> None:
    rows = await columnar.query("SELECT lower(name) AS name FROM system.functions")
    # What the parser makes of CASE, NOT IN and the like has no entry of its own in some versions.
    assert {row["name"] for row in rows} | {"isnotdistinctfrom"} >= FUNCTIONS


def test_a_condition_is_composed_in_one_place() -> None:
    statement = compose("SELECT trace_id FROM traces WHERE a AND /* filter */ LIMIT 1", " state = 'OK' -- why ")
    assert statement == (
        "SELECT trace_id FROM traces WHERE a AND ifNull(toBool((\nstate = 'OK' -- why\n)), false) LIMIT 1"
    )


def test_no_condition_keeps_every_row() -> None:
    assert compose("/* filter */", "") == "ifNull(toBool((\ntrue\n)), false)"


def test_a_statement_must_have_one_place_for_it() -> None:
    with pytest.raises(ValueError, match="once"):
        compose("SELECT 1", "true")


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    pieces=st.lists(
        st.sampled_from(
            [
                "true",
                "(",
                ")",
                ")), false)",
                "ifNull(toBool((",
                " OR ",
                " AND ",
                "--",
                "/*",
                "*/",
                "\n",
                "'",
                '"',
                "`",
            ]
            + [
                "$$",
                ",",
                ";",
                " UNION ALL SELECT 1",
                " SETTINGS a=1",
                " FORMAT Null",
                " LIMIT 1",
                "state = 'x'",
                "#",
            ]
        ),
        max_size=8,
    )
)
async def test_whatever_is_accepted_stays_inside_its_place(columnar: Columnar, pieces: list[str]) -> None:
    """An accepted text, composed beside a condition that is false, never brings a row back."""
    text = "".join(pieces)
    try:
        condition = await check_filter(columnar, text)
    except Invalid:
        return
    around = "SELECT count() AS n FROM (SELECT number FROM numbers(3)) WHERE number > 5 AND /* filter */"
    constant = condition.replace("state = 'x'", "true")
    rows = await columnar.query(compose(around, constant))
    assert rows == [{"n": 0}]


def test_the_statements_hold_the_place() -> None:
    for query in ("choose", "account"):
        statement = sqlfiles.queries("clickhouse", "sampling")[query]
        assert compose(statement, "state = 'OK'").count("state = 'OK'") == 1
        assert compose_strata(statement, ["state = 'OK'", "true"]).count("multiIf(ifNull(toBool((\nstate = 'OK'\n") == 1


@pytest.mark.parametrize(
    ("target", "condition", "foreign"),
    [
        ("span", "span_type = 'llm' AND input_tokens > 100 AND attributes_string['team'] = 'a'", "root_name = 'x'"),
        ("session", "turn_count > 3 AND has(user_ids, 'ada') AND cost_total > 0.1", "span_type = 'llm'"),
    ],
)
async def test_other_targets_have_their_own_columns(
    columnar: Columnar, target: TargetType, condition: str, foreign: str
) -> None:
    assert await check_filter(columnar, condition, target) == condition
    with pytest.raises(Invalid, match=r"strata\.0\.filter.*is not a column of " + target + "s"):
        await check_filter(columnar, foreign, target, "strata.0.filter")
