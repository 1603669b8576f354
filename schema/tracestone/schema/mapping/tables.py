"""The map of attributes as data: which attribute of which convention fills which canonical column.

Five tables a person can read and extend; the order of rows is the order of preference.

- `dialects.csv`: `column`, `convention`, `key` and `form` of each attribute. A key with `>` names a field of JSON that
  an attribute holds, or an attribute of an event (`fields.py`). A form with `call_` before it counts only in spans that
  an attribute tells to be a call of a model.
- `conventions.csv`: the conventions, the most telling first; the names of instrumentation scopes that give one away
  (`*` stands for any ending); whether it counts cached tokens as input (`inclusive`) or apart (`exclusive`); and a key
  without which its attributes mean nothing.
- `span_types.csv`: what a value of an attribute, or the span's name (`(name)`), says of the span's type. A value that
  begins with `*` is an ending.
- `ends.csv`: boolean attributes by which a span says that its trace, or the session of its trace, is over.
- `aliases.csv`: other names of providers, roles, parts of messages and reasons for finishing, in lower case.

A deployment extends them with a folder of files of the same names and columns (setting `mapping_dir`); its rows come
first.
"""

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path

from tracestone.schema.errors import StartRefused
from tracestone.schema.mapping import fields

STORED_FORMS = ("text", "texts", "integer", "number", "seconds", "milliseconds", "evidence")
# A list of labels: an array, its JSON, or a text with commas. Each is a tag of the span, with the value `true`.
LABELS = "labels"
# Only of a span that says that it is a call of a model: what is called `id` or `model` elsewhere may be anything.
OF_A_CALL = "call_"
FLAT_FORMS = ("openinference_messages", "openllmetry_messages", "openinference_tools", "openinference_documents")
OTHER_FORMS = ("events_in", "events_out", "events_system", "messages_in", "messages_out", "vercel_answer")
PLAIN_FORMS = ("content", "tool_content", "retriever_content", "messages", "model_messages")
READ_FORMS = (*PLAIN_FORMS, *FLAT_FORMS, *OTHER_FORMS)

ENDING = ("trace", "session")

_COLUMNS = {
    "dialects": ("column", "convention", "key", "form"),
    "conventions": ("convention", "scopes", "tokens", "needs"),
    "span_types": ("key", "value", "span_type"),
    "aliases": ("column", "given", "canonical"),
    "ends": ("target", "key"),
}


@dataclass(frozen=True)
class Source:
    """One attribute that may fill a column; `of_a_call`: if the span says that it is a call of a model."""

    column: str
    convention: str
    key: str
    form: str
    of_a_call: bool = False


@dataclass(frozen=True)
class Convention:
    """A vocabulary. `tokens` is inclusive, exclusive or '' where it depends on the sender."""

    name: str
    scopes: tuple[str, ...]
    tokens: str
    needs: str


@dataclass(frozen=True)
class SpanType:
    """What a value of an attribute says of a span."""

    key: str
    value: str
    span_type: str


@dataclass(frozen=True)
class Tables:
    """The map, each table in order of preference."""

    sources: tuple[Source, ...]
    conventions: tuple[Convention, ...]
    span_types: tuple[SpanType, ...]
    aliases: dict[str, dict[str, str]]
    ends: dict[str, tuple[str, ...]]

    def of(self, column: str, *forms: str) -> list[Source]:
        """The sources of a column, of some forms."""
        return [source for source in self.sources if source.column == column and source.form in forms]


def read(extension: Path | None = None) -> Tables:
    """The shipped map, a deployment's own rows before it. Raises StartRefused, which names file, line and reason."""
    rows = {name: [*_rows(extension, name), *_rows(files(__package__), name)] for name in _COLUMNS}
    conventions = {row["convention"]: row for row in reversed(rows["conventions"])}
    order = dict.fromkeys(row["convention"] for row in rows["conventions"])
    tables = Tables(
        tuple(
            dict.fromkeys(
                Source(
                    row["column"],
                    row["convention"],
                    row["key"],
                    row["form"].removeprefix(OF_A_CALL),
                    of_a_call=row["form"].startswith(OF_A_CALL),
                )
                for row in rows["dialects"]
            )
        ),
        tuple(
            Convention(
                name,
                tuple(conventions[name]["scopes"].split()),
                conventions[name]["tokens"],
                conventions[name]["needs"],
            )
            for name in order
        ),
        tuple(
            _first_said(
                SpanType(
                    row["key"],
                    row["value"].lower() if not row["key"].startswith("(") else row["value"],
                    row["span_type"],
                )
                for row in rows["span_types"]
            )
        ),
        {
            column: {row["given"]: row["canonical"] for row in reversed(rows["aliases"]) if row["column"] == column}
            for column in ("provider", "model_provider", "role", "part_type", "finish_reason")
        },
        {
            target: tuple(dict.fromkeys(row["key"] for row in rows["ends"] if row["target"] == target))
            for target in ENDING
        },
    )
    _check(tables)
    return tables


def _first_said(types: Iterator[SpanType]) -> list[SpanType]:
    first: dict[tuple[str, str], SpanType] = {}
    for each in types:
        first.setdefault((each.key, each.value), each)
    return list(first.values())


def _rows(folder: Traversable | Path | None, name: str) -> list[dict[str, str]]:
    if folder is None or not (file := folder / f"{name}.csv").is_file():
        return []
    try:
        reader = csv.DictReader(file.read_text(encoding="utf-8").splitlines(), strict=True)
        rows = list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise StartRefused(f"The map of attributes {file} cannot be read: {error}") from error
    if tuple(reader.fieldnames or ()) != _COLUMNS[name]:
        raise StartRefused(f"The map of attributes {file} must have the columns {', '.join(_COLUMNS[name])}.")
    for number, row in enumerate(rows, start=2):
        if None in row or None in row.values():
            raise StartRefused(f"The map of attributes {file}, line {number}: {len(_COLUMNS[name])} values are needed.")
        if name == "dialects" and row["form"] not in (
            *STORED_FORMS,
            *(OF_A_CALL + form for form in STORED_FORMS),
            *READ_FORMS,
            LABELS,
        ):
            raise StartRefused(f"The map of attributes {file}, line {number}: unknown form {row['form']!r}.")
        if name == "ends" and row["target"] not in ENDING:
            raise StartRefused(f"The map of attributes {file}, line {number}: the target must be trace or session.")
        if name == "dialects" and row["column"] in ("input", "output") and row["form"] != "content":
            raise StartRefused(
                f"The map of attributes {file}, line {number}: {row['column']} takes the form content only."
            )
        if name == "dialects" and (row["column"] == "tags") != (row["form"] == LABELS):
            raise StartRefused(
                f"The map of attributes {file}, line {number}: tags take the form {LABELS}, and nothing else."
            )
    return rows


def _check(tables: Tables) -> None:
    names = {convention.name for convention in tables.conventions} | {"otel_general"}
    shipped = {row["column"] for row in _rows(files(__package__), "dialects")}
    keys = {source.key for source in tables.sources} | {"(name)"}
    for source in tables.sources:
        if source.form == LABELS and not fields.read(source.key).own:
            raise StartRefused(f"dialects.csv: {source.key!r} is not an attribute, which the form {LABELS} needs.")
        if fields.read(source.key).listed and source.form != "texts":
            raise StartRefused(f"dialects.csv: {source.key!r} is a list, which only the form texts can be.")
        if source.convention not in names:
            raise StartRefused(f"dialects.csv names a convention that conventions.csv lacks: {source.convention!r}.")
        if source.column not in shipped:
            raise StartRefused(f"dialects.csv names a column that spans do not have: {source.column!r}.")
    for convention in tables.conventions:
        if convention.tokens not in ("", "inclusive", "exclusive"):
            raise StartRefused(f"conventions.csv: tokens of {convention.name} must be inclusive, exclusive or empty.")
    for kind in tables.span_types:
        if kind.key not in keys:
            raise StartRefused(f"span_types.csv names an attribute that dialects.csv lacks: {kind.key!r}.")
