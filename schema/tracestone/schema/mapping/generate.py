"""Generates, from the map of attributes, the SQL that turns OTLP requests into span rows and span rows into `spans`.

    python -m tracestone.schema.mapping.generate            prints it

Small columns are filled when a span is stored: each key is turned into a small number, its slot (one hash look-up per
attribute), what the map knows is sorted by it, and a column takes the first of its own. A slot says which column, which
rank in it and which convention: `(number of the column * RANKS + rank) * CONVENTIONS + convention`. Content columns are
read from the kept attributes when they are asked for, so that no prompt is stored twice.
"""

import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import cached_property
from importlib.resources import files
from itertools import groupby
from string import Template

from tracestone.schema.mapping import fields
from tracestone.schema.mapping import tables as maps
from tracestone.schema.prices import cost

# Longer strings are kept in attributes_text, away from what lists and charts read.
TEXT_FROM_BYTES = 256
PREVIEW_CHARACTERS = 240

_RANKS = 64
_CONVENTIONS = 64
_WIDTH = _RANKS * _CONVENTIONS
# More than any slot has.
_SLOT_BITS = 20
_FIRST_NUMBER = 64
_FIRST_CONTENT = 128
_FIRST_EVIDENCE = 160
# In nanoseconds still an Int64.
_MOST_SECONDS = "9e9"
# Forms of messages flattened into keys, and what stands before a message's own.
_FLAT_MESSAGES = {"openinference_messages": "message\\\\.", "openllmetry_messages": ""}
# What answers under a name of its own, with an id and tokens.
_CALLS = ("llm", "embedding", "reranker")
_NUMBER_FORMS = ("integer", "number", "seconds", "milliseconds")


def views(tables: maps.Tables, map_version: int) -> tuple[str, ...]:
    """The statements that make the views follow a map; each is safe to repeat, none loses a row inserted meanwhile."""
    values = {
        **_Stored(tables).values(),
        **_Read(tables).values(),
        **priced(),
        "map_version": str(map_version),
    }
    return tuple(
        Template(_data(f"{name}.sql.tmpl")).substitute(values).strip().rstrip(";")
        for name in ("spans_in", "span_rows", "spans_read", "spans_plain", "spans_again")
    )


def told(events: str) -> dict[str, str]:
    """What a span's log events say for columns that are stored, as expressions by name, from a column of `events`."""
    pairs = [line.partition(" = ") for line in _data("told.sql.tmpl").splitlines() if not line.startswith("--")]
    values = {"events": events, "preview": str(PREVIEW_CHARACTERS)}
    return {name: Template(expression).substitute(values) for name, _, expression in pairs}


def priced() -> dict[str, str]:
    """The parts of a price by the names that the view gives them."""
    return {name: text for step in cost.steps(replace(cost.STORED, day="start_day")) for name, text in step.items()}


class _Stored:
    """What the two materialised views need."""

    def __init__(self, tables: maps.Tables) -> None:
        self.tables = tables
        self.conventions = {convention.name: number for number, convention in enumerate(tables.conventions)}
        if len(self.conventions) >= _CONVENTIONS:
            raise ValueError(f"conventions.csv: at most {_CONVENTIONS - 1} conventions")

    def values(self) -> dict[str, str]:
        """Values of the templates."""
        aliases = self.tables.aliases
        counting = [convention for convention in self.tables.conventions if convention.tokens]
        models = aliases["model_provider"]
        return {
            **self._fields(),
            "column_width": str(_WIDTH),
            "conventions": str(_CONVENTIONS),
            "first_number": str(_FIRST_NUMBER * _WIDTH),
            "first_content": str(_FIRST_CONTENT * _WIDTH),
            "first_evidence": str(_FIRST_EVIDENCE * _WIDTH),
            "text_from": str(TEXT_FROM_BYTES),
            "preview": str(PREVIEW_CHARACTERS),
            "finish_reasons_number": str(self.numbers[("finish_reasons", "texts")]),
            "finish_reasons_key": _quoted(self.tables.of("finish_reasons", "texts")[0].key),
            "span_type": self._span_type(),
            "input_number": str(self.numbers[("input", "content")]),
            "output_number": str(self.numbers[("output", "content")]),
            "counted_by_input": self._counting("input_tokens", counting),
            "counted_by_cache": self._counting("cache_read_tokens", counting),
            "convention_numbers": _numbers(self.conventions.values()),
            "convention_names": _texts(self.conventions),
            "scope_convention": self._scope_convention(),
            "counting_names": _texts(convention.name for convention in counting),
            "counting": _texts(convention.tokens for convention in counting),
            "model_pattern": _quoted("(?:^|/|\\\\.)(" + "|".join(models) + ")"),
            "usage_details": self._usage_details(),
            "environment_resource": self._of_resource("environment"),
            "release_resource": self._of_resource("release"),
            "environment_stored": self._of_stored_resource("environment"),
            "release_stored": self._of_stored_resource("release"),
            "logfire_type_keys": _texts(source.key for source in self.tables.of("logfire_type", "text")),
            "array_json": _json("item"),
            "typed_json": _json("item.value"),
            **{column: self._column(column) for column in self.columns if not column.startswith("usage.")},
            **_alias_values(aliases),
        }

    @cached_property
    def columns(self) -> list[str]:
        """The stored columns."""
        return list(
            dict.fromkeys(
                source.column
                for source in self.tables.sources
                if source.form in maps.STORED_FORMS and source.form != "evidence"
            )
        )

    @cached_property
    def numbers(self) -> dict[tuple[str, str], int]:
        """The number of each stored column, for each form of its sources."""
        found = dict.fromkeys((source.column, source.form) for source in self.tables.sources)
        texts = [pair for pair in found if pair[1] in ("text", "texts")]
        counted = [pair for pair in found if pair[1] in _NUMBER_FORMS]
        if len(texts) + len(self.shared) >= _FIRST_NUMBER or len(counted) >= _FIRST_CONTENT - _FIRST_NUMBER:
            raise ValueError("dialects.csv: too many columns")
        return {
            **{pair: number for number, pair in enumerate(texts, start=1)},
            **{pair: number for number, pair in enumerate(counted, start=_FIRST_NUMBER)},
            ("input", "content"): _FIRST_CONTENT,
            ("output", "content"): _FIRST_CONTENT + 1,
        }

    @cached_property
    def shared(self) -> dict[str, int]:
        """Texts that fill more than one column, each with a number of its own; they must be the last of each column."""
        columns = defaultdict(set)
        for source in self.tables.sources:
            if source.form in ("text", "texts"):
                columns[source.key].add(source.column)
        keys = [key for key, names in columns.items() if len(names) > 1]
        return {key: number for number, key in enumerate(keys, start=_FIRST_NUMBER - len(keys))}

    @cached_property
    def slots(self) -> dict[str, int]:
        """The slot of each key: attributes, and fields of those that hold JSON."""
        slots: dict[str, int] = {}
        ranks: dict[int, int] = defaultdict(int)
        for source in self.tables.sources:
            pair = (source.column, source.form)
            if pair in self.numbers:
                number = self.shared.get(source.key, self.numbers[pair])
                if source.key not in slots:
                    slots[source.key] = self._slot(number, ranks[number], source.convention)
                    ranks[number] += source.key not in self.shared
        # What fills nothing when it is stored tells the convention at least, and what it is.
        for source in self.tables.sources:
            key = fields.read(source.key)
            for name in (source.key,) if key.event else (key.attribute, source.key):
                number, rank = divmod(len(slots), _RANKS)
                slots.setdefault(name, self._slot(_FIRST_EVIDENCE + number, rank, source.convention))
        for convention in self.tables.conventions:
            if convention.needs:
                slots.setdefault(convention.needs, self._slot(_FIRST_EVIDENCE, 0, convention.name))
        return slots

    def _slot(self, number: int, rank: int, convention: str) -> int:
        if rank >= _RANKS:
            raise ValueError(f"dialects.csv: more than {_RANKS} attributes for a column")
        return (number * _RANKS + rank) * _CONVENTIONS + self.conventions.get(convention, _CONVENTIONS - 1)

    @cached_property
    def own(self) -> dict[str, int]:
        """The slots of attributes."""
        return {key: slot for key, slot in self.slots.items() if fields.read(key).own}

    def _fields(self) -> dict[str, str]:
        """What is taken out of the JSON of attributes and events: which of them is looked into when, and for what.

        Each way to look is a bit. Those that want an attribute stand above its slot; which a span allows depends on
        whether it says that it is a call of a model, and whether it lacks what lists may tell.
        """
        inner = {text: key for text in self.slots if not (key := fields.read(text)).own}
        ways: dict[str, int] = defaultdict(int)
        allowed = [0, 0, 0, 0]
        given = []
        quoted = 0
        for number, (shape, of_a_call, listed) in enumerate(self._ways(inner)):
            for attribute in shape.attributes:
                ways[attribute] |= 1 << number
            for case in range(4):
                allowed[case] |= (not of_a_call or case & 1) and (not listed or case >> 1) and 1 << number
            form = "whole" if not shape.paths else "listed" if listed else "one"
            # under a name that any other may have given, a text alone is not enough
            quoted |= (form == "whole" and of_a_call) and 1 << number
            given.append(_filled(f"inside/{form}", {"way": str(1 << number), "type": _typed(shape)}))
        kind_bit = _SLOT_BITS + len(given)
        keys = {key: slot | ways[key] << _SLOT_BITS for key, slot in self.own.items()}
        for text, bit in (
            *((text, kind_bit) for text in self._kinds),
            *((text, kind_bit + 1) for text in self._listed),
        ):
            keys[text] |= 1 << bit
        events = [key.event for key in inner.values() if key.event]
        told = fields.Shape()
        told.takes(fields.Key(fields.EVENT, (attribute,)) for _, attribute in events)
        event_ways = {name: each for name, each in ways.items() if name.startswith(fields.EVENT)}
        return {
            "keys": _texts(keys),
            "key_slots": _numbers(keys.values()),
            "slot_bits": str(_SLOT_BITS),
            "slots_end": str(1 << _SLOT_BITS),
            "lacking": self._lacking(keys),
            "kind_bit": str(kind_bit),
            "listed_bit": str(kind_bit + 1),
            "kinds_of_a_call": _texts(sorted(set().union(*self._kinds.values()))),
            "allowed": _numbers(allowed),
            "ways_without_quotes": str((1 << len(given)) - 1 & ~quoted),
            "fields_given": ", ".join(given),
            "field_names": _texts({key.name: None for key in inner.values()}),
            "field_slots": _numbers({key.name: self.slots[text] for text, key in inner.items()}.values()),
            "events": _texts(dict.fromkeys(name for name, _ in events)),
            "event_type": _typed(told),
            "event_holders": _texts(event_ways),
            "event_ways": _numbers(event_ways.values()),
        }

    def _ways(self, inner: dict[str, fields.Key]) -> Iterator[tuple[fields.Shape, bool, bool]]:
        """The shapes of what is looked for, whether in calls of models only, and whether in lists."""
        calls = {source.key for source in self.tables.sources if source.of_a_call}
        for of_a_call in (False, True):
            mine = [key for text, key in inner.items() if (text in calls) == of_a_call]
            yield fields.Shape(list(dict.fromkeys(key.attribute for key in mine if key.whole))), of_a_call, False
            for listed in (False, True):
                for shape in fields.shapes(key for key in mine if not key.whole and key.listed == listed):
                    yield shape, of_a_call, listed

    @cached_property
    def _kinds(self) -> dict[str, set[str]]:
        """What attributes say, in lower case, of a span that is a call of a model."""
        said: dict[str, set[str]] = defaultdict(set)
        for kind in self.tables.span_types:
            if kind.span_type in _CALLS and not kind.key.startswith("(") and not kind.value.startswith("*"):
                said[fields.read(kind.key).attribute].add(kind.value)
        return said

    @cached_property
    def _listed(self) -> set[str]:
        """Attributes that tell what is looked for in lists too."""
        columns = {source.column for source in self.tables.sources if fields.read(source.key).listed}
        return {source.key for source in self.tables.sources if source.column in columns} & self.own.keys()

    def _lacking(self, keys: dict[str, int]) -> str:
        """A bit for each convention whose telling attribute a span lacks."""
        bits = [
            f"if(has(key_slots, {keys[convention.needs]}), 0, {1 << self.conventions[convention.name]})"
            for convention in self.tables.conventions
            if convention.needs
        ]
        return f"toUInt64({' + '.join(bits) or '0'})"

    def _scope_convention(self) -> str:
        exact: dict[str, int] = {}
        starts = []
        for convention in self.tables.conventions:
            for scope in convention.scopes:
                number = self.conventions[convention.name]
                if scope.endswith("*"):
                    starts.append(f"startsWith(scope_name, {_quoted(scope[:-1])}), {number}")
                else:
                    exact[scope] = number
        other = f"multiIf({', '.join(starts)}, {_CONVENTIONS - 1})" if starts else str(_CONVENTIONS - 1)
        return f"transform(toString(scope_name), [{_texts(exact)}], [{_numbers(exact.values())}], toUInt8({other}))"

    def _column(self, column: str) -> str:
        """The value of one stored column, from the sorted texts or numbers of a span."""
        forms = dict.fromkeys(source.form for source in self.tables.of(column, *maps.STORED_FORMS))
        if forms.keys() <= {"text", "texts"}:
            shared = [self.shared[source.key] for source in self.tables.of(column, *forms) if source.key in self.shared]
            own = [self.numbers[(column, form)] for form in forms]
            return _first_text([f"texts[indexOf(text_columns, {number})]" for number in (*own, *shared)])
        values = []
        for form in forms:
            value = f"numbers[indexOf(number_columns, {self.numbers[(column, form)]})]"
            if form == "seconds":
                value = f"toInt64(if({value} <= {_MOST_SECONDS}, {value}, NULL) * 1000000000)"
            elif form == "milliseconds":
                value = f"toInt64(if({value} <= {_MOST_SECONDS} * 1000, {value}, NULL) * 1000000)"
            elif form == "integer":
                value = f"toInt64({value})"
            values.append(value)
        return values[0] if len(values) == 1 else f"coalesce({', '.join(values)})"

    def _counting(self, column: str, counting: list[maps.Convention]) -> str:
        """How the convention counts whose attribute filled a column of tokens."""
        slot = f"number_slots[indexOf(number_columns, {self.numbers[(column, 'integer')]})]"
        numbers = _numbers(self.conventions[convention.name] for convention in counting)
        tokens = _texts(convention.tokens for convention in counting)
        return f"if({slot} = 0, '', transform({slot} % {_CONVENTIONS}, [{numbers}], [{tokens}], ''))"

    def _usage_details(self) -> str:
        pairs = [
            (number, column.removeprefix("usage."))
            for (column, _), number in self.numbers.items()
            if column.startswith("usage.")
        ]
        entries = ", ".join(f"({number}, {_quoted(name)})" for number, name in pairs)
        return (
            f"CAST(arrayMap(kind -> (kind.2, toInt64(ifNull(numbers[indexOf(number_columns, kind.1)], 0))),"
            f" arrayFilter(kind -> has(number_columns, kind.1), [{entries}])), 'Map(LowCardinality(String), Int64)')"
        )

    def _span_type(self) -> str:
        """The type that the first attribute with a say says, else what the span's name or what it carries does."""
        order = dict.fromkeys(kind.key for kind in self.tables.span_types if not kind.key.startswith("("))
        types = list(dict.fromkeys(kind.span_type for kind in self.tables.span_types))
        said: dict[str, int] = {}
        for kind in self.tables.span_types:
            if not kind.key.startswith("(") and not kind.value.startswith("*"):
                code = (list(order).index(kind.key) + 1) * 256 + types.index(kind.span_type) + 1
                said[f"{self.slots[kind.key]}:{kind.value}"] = code
        slots = _numbers(self.slots[key] for key in order)
        names = {kind.value: kind.span_type for kind in self.tables.span_types if kind.key == "(name)"}
        # One code for attribute and type: the least is the first attribute's. An empty array has the least 0, a missing
        # one.
        said_code = (
            f"transform(concat(toString(slot), ':', lower(text)), [{_texts(said)}], [{_numbers(said.values())}], 0)"
        )
        least = (
            f"arrayMin(arrayFilter(code -> code != 0, arrayMap((slot, text) -> if(slot IN ({slots}), {said_code}, 0),"
            " text_slots, texts)))"
        )
        steps = [f"arrayElement([{_texts(types)}], {least} % 256)"]
        endings: dict[str, dict[str, str]] = defaultdict(dict)
        for kind in self.tables.span_types:
            if kind.value.startswith("*"):
                endings[kind.key][kind.value[1:]] = kind.span_type
        for key, kinds in endings.items():
            (column,) = {source.column for source in self.tables.sources if source.key == key}
            steps.append(
                f"transform(extract(lower({self._column(column)}), {_quoted('(' + '|'.join(kinds) + ')$')}),"
                f" [{_texts(kinds)}], [{_texts(kinds.values())}], '')"
            )
        steps.append(f"transform(name, [{_texts(names)}], [{_texts(names.values())}], '')")
        # What a span carries tells its type when nothing says it; a model alone is the last hint (agents name one too).
        tool = self._any_text("tool_name", "tool_call_id")
        model = self._any_text("request_model", "response_model")
        tokens = self._any_number("input_tokens", "output_tokens")
        steps.append(
            f"multiIf({tool}, 'tool', has(keys, 'gen_ai.retrieval.documents'), 'retriever',"
            f" {model} OR {tokens}, 'llm', 'other')"
        )
        return _first_text(steps)

    def _any_text(self, *columns: str) -> str:
        numbers = {self.numbers[(column, "text")] for column in columns}
        for column in columns:
            numbers |= {
                self.shared[source.key] for source in self.tables.of(column, "text") if source.key in self.shared
            }
        return f"hasAny(text_columns, [{_numbers(sorted(numbers))}])"

    def _any_number(self, *columns: str) -> str:
        return f"hasAny(number_columns, [{_numbers(self.numbers[(column, 'integer')] for column in columns)}])"

    def _of_resource(self, column: str) -> str:
        keys = [source.key for source in self.tables.of(column, "text")]
        return _first_text([f"pairs.value.string_value[indexOf(pairs.key, {_quoted(key)})]" for key in keys])

    def _of_stored_resource(self, column: str) -> str:
        keys = [source.key for source in self.tables.of(column, "text")]
        return _first_text([f"JSONExtractString(s.resource_attributes, {_quoted(key)})" for key in keys])


class _Read:
    """What the views `spans` and `spans_plain` need."""

    def __init__(self, tables: maps.Tables) -> None:
        self.tables = tables

    def values(self) -> dict[str, str]:
        """Values of the templates."""
        columns = dict.fromkeys(source.column for source in self.tables.sources if source.form in maps.READ_FORMS)
        content = {column: self._column(column) for column in columns}
        messages = {column: content.pop(column) for column in ("input_messages", "output_messages")}
        values = _alias_values(self.tables.aliases)
        for name in ("list", "given", "tool_call", "tool_result", "media", "part_type", "part", "message"):
            values[name] = _filled(f"messages/{name}", values)
        values["flat_pattern"] = self._flat_pattern()
        for name in ("text_keys", "text_values", "texts", "flat_starts", "flat_message", "event_message"):
            values[name] = _filled(f"pieces/{name}", values)
        return {
            **values,
            **messages,
            **self._plain(values),
            "attributes": _filled("pieces/attributes", {"texts": "texts"}),
            "content": ",\n        ".join(f"{text} AS {name}" for name, text in content.items()),
        }

    def _plain(self, values: dict[str, str]) -> dict[str, str]:
        """What `spans_plain` says in one step."""
        keys, texts = values["text_keys"], values["text_values"]
        told = f"arrayPushFront(arrayMap((key, value) -> if(value = '', '', key), {keys}, {texts}), '')"
        found, elsewhere = {}, []
        for column in ("input", "output"):
            plain = [source.key for source in self.tables.of(column, *maps.READ_FORMS)]
            found[f"plain_{column}"] = _best(plain, f"arrayPushFront({texts}, '')", told)
            messages = self.tables.of(f"{column}_messages", *maps.READ_FORMS)
            elsewhere += [source.key for source in messages if source.key not in plain]
        return {
            **found,
            "plain_attributes": _filled("pieces/attributes", values),
            "messages_elsewhere": _texts(dict.fromkeys(elsewhere)),
        }

    def _flat_pattern(self) -> str:
        """How the keys of flattened messages begin."""
        keys = {form: {source.key for source in self.tables.sources if source.form == form} for form in _FLAT_MESSAGES}
        starts = [
            f"{_escaped(key)}\\\\.\\\\d{{1,4}}\\\\.{after}"
            for form, after in _FLAT_MESSAGES.items()
            for key in sorted(keys[form])
        ]
        return _quoted(f"^(?:{'|'.join(starts)})")

    def _column(self, column: str) -> str:
        sources = self.tables.of(column, *maps.READ_FORMS)
        return _first_text(
            [self._step(form, list(group)) for form, group in groupby(sources, key=lambda source: source.form)]
        )

    def _step(self, form: str, sources: list[maps.Source]) -> str:
        if form in maps.PLAIN_FORMS:
            best = _best(source.key for source in sources)
            only = {"tool_content": "tool", "retriever_content": "retriever", "model_messages": "llm"}.get(form)
            return f"if(span_type = '{only}', {best}, '')" if only else best
        return _first_text([self._other(form, source.key) for source in sources])

    def _other(self, form: str, key: str) -> str:
        if form in _FLAT_MESSAGES:
            return _filled("pieces/flat_messages", {"prefix": _quoted(key + ".")})
        pattern = _quoted(f"^{_escaped(key)}\\\\.(\\\\d{{1,4}})\\\\.")
        values = {"key": _quoted(key), "prefix": _quoted(key + "."), "pattern": pattern}
        values["numbers"] = _filled("pieces/numbers", values)
        return _filled(f"forms/{form}", values)


def _best(keys: Iterable[str], values: str = "text_values", told: str = "told_keys") -> str:
    """The text of the first of some attributes that has one; else the empty text in front of `values`.

    `told` are the keys of `values`, empty where a value is.
    """
    ranks = {key: rank for rank, key in enumerate([*dict.fromkeys(keys), ""])}
    return (
        f"arrayReduce('argMin', {values}, arrayMap(key -> transform(key, [{_texts(ranks)}],"
        f" [{_numbers(ranks.values())}], {len(ranks)}), {told}))"
    )


def _escaped(key: str) -> str:
    """A key in a pattern in a text of SQL."""
    return key.replace(".", "\\\\.")


def _alias_values(aliases: dict[str, dict[str, str]]) -> dict[str, str]:
    values = {}
    for column, names in aliases.items():
        values[f"{column}_given"] = _texts(names)
        values[f"{column}_canonical"] = _texts(names.values())
    return values


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
        # without a point or an exponent it would be read as an integer
        f" match(toString({double}), '[.e]'), toString({double}), concat(toString({double}), '.0')),"
        f" {value}.value = 'bytes_value', concat('\"', base64Encode({value}.bytes_value), '\"'){nested}, 'null')"
    )


def _first_text(values: list[str]) -> str:
    """The first that is not empty. One function, because every node is planned for every insert and every read."""
    return values[0] if len(values) == 1 else f"firstNonDefault({', '.join(values)})"


def _texts(values: Iterable[str]) -> str:
    return ", ".join(_quoted(value) for value in values)


def _numbers(values: Iterable[int]) -> str:
    return ", ".join(str(value) for value in values)


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "\\'") + "'"


def _typed(shape: fields.Shape) -> str:
    return _quoted(shape.type.replace("\\", "\\\\"))


def _filled(name: str, values: dict[str, str]) -> str:
    lines = (line for line in _data(f"{name}.sql.tmpl").strip().splitlines() if not line.lstrip().startswith("--"))
    return Template("\n".join(lines)).substitute(values)


def _data(name: str) -> str:
    return (files(__package__) / name).read_text(encoding="utf-8")


if __name__ == "__main__":
    sys.stdout.write(";\n\n".join(views(maps.read(), 0)) + ";\n")
