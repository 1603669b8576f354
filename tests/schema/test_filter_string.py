"""The grammar of MLflow's search filters."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracestone.schema.errors import Invalid
from tracestone.schema.filter_string import MAX_COMPARISONS, parse
from tracestone.schema.filters import Comparison


@pytest.mark.parametrize(
    ("text", "comparisons"),
    [
        ("", []),
        ("  ", []),
        ("name = 'a'", [Comparison("", "name", "=", ("a",))]),
        ('name="it""s"', [Comparison("", "name", "=", ('it"s',))]),
        ("name = 'it''s'", [Comparison("", "name", "=", ("it's",))]),
        ("creation_time >= 12", [Comparison("", "creation_time", ">=", ("12",), numeric=True)]),
        ("a <> -1.5e3", [Comparison("", "a", "!=", ("-1.5e3",), numeric=True)]),
        ("tags.mlflow.note like '%x'", [Comparison("tags", "mlflow.note", "LIKE", ("%x",))]),
        ("Tags.`a b` ILIKE 'x'", [Comparison("tags", "a b", "ILIKE", ("x",))]),
        ("tag.\"a.b\" = 'x'", [Comparison("tag", "a.b", "=", ("x",))]),
        ("`name` = 'x'", [Comparison("", "name", "=", ("x",))]),
        ("tag.k is not null", [Comparison("tag", "k", "IS NOT NULL", ())]),
        ("tag.k IS NULL", [Comparison("tag", "k", "IS NULL", ())]),
        ("id IN ('1', '2')", [Comparison("", "id", "IN", ("1", "2"))]),
        ("id NOT IN ('1')", [Comparison("", "id", "NOT IN", ("1",))]),
        (
            "name = 'a AND b' and tag.k != 'OR'",
            [Comparison("", "name", "=", ("a AND b",)), Comparison("tag", "k", "!=", ("OR",))],
        ),
    ],
)
def test_parsed(text: str, comparisons: list[Comparison]) -> None:
    assert parse(text) == comparisons


@pytest.mark.parametrize(
    "text",
    [
        "name",
        "name =",
        "name = x",
        "= 'a'",
        "'name' = 'a'",
        "(name = 'a')",
        "name = 'a' OR name = 'b'",
        "name = 'a' name = 'b'",
        "name = 'a' AND",
        "NOT name = 'a'",
        "name == 'a'",
        "name = 'unclosed",
        "name = `a`",
        "tags. = 'a'",
        "id IN ()",
        "id IN ('1'",
        "id IN ('1',)",
        "tag.k IS 'a'",
        "name = 'a'; DROP TABLE x",
        "name = 1x",
        "%",
        " AND ".join(["name = 'a'"] * (MAX_COMPARISONS + 1)),
        "name = '" + "a" * 20_000 + "'",
    ],
)
def test_refused(text: str) -> None:
    with pytest.raises(Invalid) as refusal:
        parse(text, "filter_string")
    assert refusal.value.field == "filter_string"


@given(st.text(max_size=60))
def test_any_text_is_parsed_or_refused(text: str) -> None:
    try:
        parse(text)
    except Invalid:
        pass


@given(st.text(max_size=40), st.text(st.characters(exclude_characters="`"), min_size=1, max_size=20))
def test_any_value_and_key_can_be_written(value: str, key: str) -> None:
    quoted = value.replace("'", "''")
    assert parse(f"tags.`{key}` = '{quoted}'") == [Comparison("tags", key, "=", (value,))]
