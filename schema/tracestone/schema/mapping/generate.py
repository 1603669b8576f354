"""Generates, from the attribute map, the SQL that turns an OTLP request into span rows and span rows into `spans`.

`dialects.csv` says which attribute of which convention fills which canonical column, lowest rank first; the first
value that is not empty wins. `span_types.csv` says what an attribute's value says of a span's type. Adding a
convention is adding rows there, then a migration:

    python -m tracestone.schema.mapping.generate > schema/tracestone/schema/sql/clickhouse/migrations/NNNN_words.sql

Small columns are filled when a span is stored: each key is turned into a small number (one hash look-up per
attribute), what the map knows is sorted by it, and a column takes the first of its own. Content columns are read from
the kept attributes when they are asked for, so that no prompt is stored twice.
"""

import csv
import sys
from collections import defaultdict
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from string import Template

# Longer strings are kept in attributes_text, away from what lists and charts read.
TEXT_FROM_BYTES = 256
PREVIEW_CHARACTERS = 240

_WIDTH = 8
_FIRST_NUMBER = 64
_FIRST_CONTENT = 96
# In nanoseconds still an Int64.
_MOST_SECONDS = "9e9"

STORED_FORMS = ("text", "texts", "integer", "number", "seconds")
READ_FORMS = (
    "content",
    "tool_content",
    "openinference_messages",
    "openinference_tools",
    "openinference_documents",
)


@dataclass(frozen=True)
class Source:
    """One attribute that may fill a column."""

    column: str
    rank: int
    convention: str
    key: str
    form: str


@cache
def sources() -> tuple[Source, ...]:
    """The attribute map, by column and rank."""
    rows = csv.DictReader(_data("dialects.csv").splitlines())
    found = [Source(row["column"], int(row["rank"]), row["convention"], row["key"], row["form"]) for row in rows]
    unknown = {source.form for source in found} - {*STORED_FORMS, *READ_FORMS}
    if unknown:
        raise ValueError(f"dialects.csv: unknown form {sorted(unknown)}")
    return tuple(sorted(found, key=lambda source: (source.column, source.rank)))


def migration() -> str:
    """The text of a migration that (re)creates the view into span_rows and the view `spans`."""
    slots = _slots()
    values = {
        "keys": ", ".join(_quoted(key) for key in slots),
        "slots": ", ".join(str(slot) for slot in slots.values()),
        "width": str(_WIDTH),
        "first_number": str(_FIRST_NUMBER),
        "first_content": str(_FIRST_CONTENT),
        "text_from": str(TEXT_FROM_BYTES),
        "preview": str(PREVIEW_CHARACTERS),
        "finish_reasons_key": _quoted("gen_ai.response.finish_reasons"),
        "span_type": _span_type(),
        "input_number": str(_numbers()["input"]),
        "output_number": str(_numbers()["output"]),
        "environment_resource": _of_resource("environment"),
        "release_resource": _of_resource("release"),
        "array_json": _json("item"),
        "typed_json": _json("item.value"),
        "content": ",\n    ".join(f"{expression} AS {column}" for column, expression in _read_columns().items()),
    }
    values |= {column: _column(column) for column in _by_column(STORED_FORMS)}
    return Template(_data("spans.sql.tmpl")).substitute(values)


@cache
def _slots() -> dict[str, int]:
    """A number for each attribute key: its column's number times `_WIDTH`, plus its rank.

    Sorting what a span has by slot puts the best source of each column first. Texts come first, then numbers, then
    content. A key that fills several columns must be the last resort of each; it has a column of its own.
    """
    slots: dict[str, int] = {}
    for column, number in _numbers().items():
        for rank, source in enumerate(_own(column)):
            if rank >= _WIDTH:
                raise ValueError(f"dialects.csv: more than {_WIDTH} attributes for {column}")
            slots[source.key] = number * _WIDTH + rank
    for key, number in _shared().items():
        slots[key] = number * _WIDTH
    return slots


@cache
def _numbers() -> dict[str, int]:
    """The number of each stored column and of each previewed content column."""
    forms = _by_column(STORED_FORMS)
    texts = [column for column, found in forms.items() if found[0].form in ("text", "texts")]
    numbers = [column for column, found in forms.items() if found[0].form not in ("text", "texts")]
    return {
        **{column: number for number, column in enumerate(texts, start=1)},
        **{column: number for number, column in enumerate(numbers, start=_FIRST_NUMBER)},
        **{column: number for number, column in enumerate(("input", "output"), start=_FIRST_CONTENT)},
    }


@cache
def _shared() -> dict[str, int]:
    """Text attributes that fill more than one column, with a number of their own."""
    columns = defaultdict(list)
    for column, found in _by_column(STORED_FORMS).items():
        for source in found:
            columns[source.key].append(column)
    shared = [key for key, names in columns.items() if len(names) > 1]
    return {key: number for number, key in enumerate(shared, start=_FIRST_NUMBER - len(shared))}


def _own(column: str) -> list[Source]:
    found = _of(column)
    own = [source for source in found if source.key not in _shared()]
    if found[: len(own)] != own:
        raise ValueError(f"dialects.csv: an attribute that several columns share must be the last of {column}")
    return own


def _column(column: str) -> str:
    """The value of one stored column, from the sorted texts or numbers of a span."""
    found = _of(column)
    if found[0].form in ("text", "texts"):
        return _first_text(
            [
                _text(_numbers()[column]),
                *(_text(_shared()[source.key]) for source in found[len(_own(column)) :]),
            ]
        )
    value = f"numbers[indexOf(number_columns, {_numbers()[column]})]"
    if found[0].form == "seconds":
        return f"toInt64(if({value} <= {_MOST_SECONDS}, {value}, NULL) * 1000000000)"
    return f"toInt64({value})" if found[0].form == "integer" else value


def _text(number: int) -> str:
    return f"texts[indexOf(text_columns, {number})]"


def _span_type() -> str:
    by_key: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for row in csv.DictReader(_data("span_types.csv").splitlines()):
        by_key[row["key"]].append((row["value"], row["span_type"]))
    column_of = {source.key: source.column for source in sources() if source.form == "text"}
    steps = []
    for key, pairs in by_key.items():
        given = ", ".join(_quoted(value) for value, _ in pairs)
        meant = ", ".join(_quoted(kind) for _, kind in pairs)
        steps.append(f"transform(lower({_column(column_of[key])}), [{given}], [{meant}], '')")
    # What a span carries tells its type when nothing says it; a model alone is the last hint (agents name one too).
    numbers = _numbers()
    tool = _any("text_columns", [numbers["tool_name"], numbers["tool_call_id"]])
    model = _any("text_columns", [numbers["request_model"], numbers["response_model"], *_shared().values()])
    tokens = _any("number_columns", [numbers["input_tokens"], numbers["output_tokens"]])
    steps.append(
        f"multiIf({tool}, 'tool', has(keys, 'gen_ai.retrieval.documents'), 'retriever',"
        f" {model} OR {tokens}, 'llm', 'other')"
    )
    return _first_text(steps)


def _any(array: str, numbers: list[int]) -> str:
    return "(" + " OR ".join(f"has({array}, {number})" for number in numbers) + ")"


def _read_columns() -> dict[str, str]:
    columns = {}
    for column, found in _by_column(READ_FORMS).items():
        columns[column] = _first_text([_read(source) for source in found])
    return columns


def _read(source: Source) -> str:
    key = _quoted(source.key)
    if source.form == "content":
        return _kept(key)
    if source.form == "tool_content":
        return f"if(span_type = 'tool', {_kept(key)}, '')"
    return (
        Template(_data(f"{source.form}.sql.tmpl"))
        .substitute(
            prefix=_quoted(source.key + "."),
            pattern=_quoted("^" + source.key.replace(".", "\\\\.") + "\\\\.(\\\\d{1,4})\\\\."),
        )
        .strip()
    )


def _kept(key: str) -> str:
    return _first_text([f"attributes_text[{key}]", f"attributes_string[{key}]", f"attributes_json[{key}]"])


def _of_resource(column: str) -> str:
    values = [f"pairs.value.string_value[indexOf(pairs.key, {_quoted(source.key)})]" for source in _of(column)]
    return _first_text(values)


def _json(value: str) -> str:
    """JSON text of one typed value: doubles keep a point, what JSON cannot say is quoted, bytes are base64."""
    double = f"{value}.double_value"
    nested = f", {value}.value = 'json_value', {value}.json_value" if "." in value else ""
    return (
        f"multiIf({value}.value = 'string_value', toJSONString({value}.string_value),"
        f" {value}.value = 'int_value', toString({value}.int_value),"
        f" {value}.value = 'bool_value', if({value}.bool_value, 'true', 'false'),"
        f" {value}.value = 'double_value', multiIf(isNaN({double}), '\"NaN\"', isInfinite({double}),"
        f" if({double} > 0, '\"Infinity\"', '\"-Infinity\"'),"
        f" {double} = trunc({double}) AND abs({double}) < 1e15, concat(toString({double}), '.0'), toString({double})),"
        f" {value}.value = 'bytes_value', concat('\"', base64Encode({value}.bytes_value), '\"'){nested}, 'null')"
    )


def _first_text(values: list[str]) -> str:
    """The first that is not empty. One function, because every node is planned for every insert and every read."""
    return values[0] if len(values) == 1 else f"firstNonDefault({', '.join(values)})"


def _of(column: str) -> list[Source]:
    return [
        source
        for source in sources()
        if source.column == column and not source.form.startswith(("openinference_", "tool_"))
    ]


def _by_column(forms: tuple[str, ...]) -> dict[str, list[Source]]:
    grouped: dict[str, list[Source]] = defaultdict(list)
    for source in sources():
        if source.form in forms:
            grouped[source.column].append(source)
    return grouped


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "\\'") + "'"


def _data(name: str) -> str:
    return (files(__package__) / name).read_text(encoding="utf-8")


if __name__ == "__main__":
    sys.stdout.write(migration())
