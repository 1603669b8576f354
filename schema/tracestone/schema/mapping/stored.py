"""What the views need that turn requests into span rows: small columns are filled when a span is stored.

Each key is turned into its slot (one hash look-up per attribute), what the map knows is sorted by it, and a column
takes the first of its own.
"""

from collections import defaultdict

from tracestone.schema.mapping import holders, slots, sql_text
from tracestone.schema.mapping import tables as maps

# Longer strings are kept in attributes_text, away from what lists and charts read.
TEXT_FROM_BYTES = 256
PREVIEW_CHARACTERS = 240
# In nanoseconds still an Int64.
_MOST_SECONDS = "9e9"


class Stored:
    """The values of the templates `spans_in`, `span_rows` and `spans_again`."""

    def __init__(self, tables: maps.Tables) -> None:
        self.tables = tables
        self.places = slots.Slots(tables)

    def values(self) -> dict[str, str]:
        """Values of the templates."""
        aliases = self.tables.aliases
        counting = [convention for convention in self.tables.conventions if convention.tokens]
        models = aliases["model_provider"]
        return {
            **holders.Holders(self.places).values(),
            "column_width": str(slots.WIDTH),
            "conventions": str(slots.CONVENTIONS),
            "first_number": str(slots.FIRST_NUMBER * slots.WIDTH),
            "first_content": str(slots.FIRST_CONTENT * slots.WIDTH),
            "first_evidence": str(slots.FIRST_EVIDENCE * slots.WIDTH),
            "text_from": str(TEXT_FROM_BYTES),
            "preview": str(PREVIEW_CHARACTERS),
            "finish_reasons_number": str(self.places.numbers[("finish_reasons", "texts")]),
            "finish_reasons_key": sql_text.quoted(self.tables.of("finish_reasons", "texts")[0].key),
            "span_type": self._span_type(),
            "input_number": str(self.places.numbers[("input", "content")]),
            "output_number": str(self.places.numbers[("output", "content")]),
            "counted_by_input": self._counting("input_tokens", counting),
            "counted_by_cache": self._counting("cache_read_tokens", counting),
            "convention_numbers": sql_text.numbers(self.places.conventions.values()),
            "convention_names": sql_text.texts(self.places.conventions),
            "scope_convention": self._scope_convention(),
            "counting_names": sql_text.texts(convention.name for convention in counting),
            "counting": sql_text.texts(convention.tokens for convention in counting),
            "model_pattern": sql_text.quoted("(?:^|/|\\\\.)(" + "|".join(models) + ")"),
            "usage_details": self._usage_details(),
            "environment_resource": self._of_resource("environment"),
            "release_resource": self._of_resource("release"),
            "environment_stored": self._of_stored_resource("environment"),
            "release_stored": self._of_stored_resource("release"),
            "logfire_type_keys": sql_text.texts(source.key for source in self.tables.of("logfire_type", "text")),
            "array_json": sql_text.json_text("item"),
            "typed_json": sql_text.json_text("item.value"),
            **{column: self._column(column) for column in self.places.columns if not column.startswith("usage.")},
            **sql_text.alias_values(aliases),
        }

    def _scope_convention(self) -> str:
        exact: dict[str, int] = {}
        starts = []
        for convention in self.tables.conventions:
            for scope in convention.scopes:
                number = self.places.conventions[convention.name]
                if scope.endswith("*"):
                    starts.append(f"startsWith(scope_name, {sql_text.quoted(scope[:-1])}), {number}")
                else:
                    exact[scope] = number
        other = f"multiIf({', '.join(starts)}, {slots.CONVENTIONS - 1})" if starts else str(slots.CONVENTIONS - 1)
        names, numbers = sql_text.texts(exact), sql_text.numbers(exact.values())
        return f"transform(toString(scope_name), [{names}], [{numbers}], toUInt8({other}))"

    def _column(self, column: str) -> str:
        """The value of one stored column, from the sorted texts or numbers of a span."""
        forms = dict.fromkeys(source.form for source in self.tables.of(column, *maps.STORED_FORMS))
        if forms.keys() <= {"text", "texts"}:
            shared = [
                self.places.shared[source.key]
                for source in self.tables.of(column, *forms)
                if source.key in self.places.shared
            ]
            own = [self.places.numbers[(column, form)] for form in forms]
            return sql_text.first_text([f"texts[indexOf(text_columns, {number})]" for number in (*own, *shared)])
        values = []
        for form in forms:
            value = f"numbers[indexOf(number_columns, {self.places.numbers[(column, form)]})]"
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
        slot = f"number_slots[indexOf(number_columns, {self.places.numbers[(column, 'integer')]})]"
        numbers = sql_text.numbers(self.places.conventions[convention.name] for convention in counting)
        tokens = sql_text.texts(convention.tokens for convention in counting)
        return f"if({slot} = 0, '', transform({slot} % {slots.CONVENTIONS}, [{numbers}], [{tokens}], ''))"

    def _usage_details(self) -> str:
        pairs = [
            (number, column.removeprefix("usage."))
            for (column, _), number in self.places.numbers.items()
            if column.startswith("usage.")
        ]
        entries = ", ".join(f"({number}, {sql_text.quoted(name)})" for number, name in pairs)
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
                said[f"{self.places.slots[kind.key]}:{kind.value}"] = code
        telling = sql_text.numbers(self.places.slots[key] for key in order)
        names = {kind.value: kind.span_type for kind in self.tables.span_types if kind.key == "(name)"}
        # One code for attribute and type: the least is the first attribute's. An empty array has the least 0, a missing
        # one.
        codes = sql_text.numbers(said.values())
        said_code = f"transform(concat(toString(slot), ':', lower(text)), [{sql_text.texts(said)}], [{codes}], 0)"
        least = (
            f"arrayMin(arrayFilter(code -> code != 0, arrayMap((slot, text) -> if(slot IN ({telling}), {said_code}, 0),"
            " text_slots, texts)))"
        )
        steps = [f"arrayElement([{sql_text.texts(types)}], {least} % 256)"]
        endings: dict[str, dict[str, str]] = defaultdict(dict)
        for kind in self.tables.span_types:
            if kind.value.startswith("*"):
                endings[kind.key][kind.value[1:]] = kind.span_type
        for key, kinds in endings.items():
            (column,) = {source.column for source in self.tables.sources if source.key == key}
            steps.append(
                f"transform(extract(lower({self._column(column)}), {sql_text.quoted('(' + '|'.join(kinds) + ')$')}),"
                f" [{sql_text.texts(kinds)}], [{sql_text.texts(kinds.values())}], '')"
            )
        steps.append(f"transform(name, [{sql_text.texts(names)}], [{sql_text.texts(names.values())}], '')")
        # What a span carries tells its type when nothing says it; a model alone is the last hint (agents name one too).
        tool = self._any_text("tool_name", "tool_call_id")
        model = self._any_text("request_model", "response_model")
        tokens = self._any_number("input_tokens", "output_tokens")
        steps.append(
            f"multiIf({tool}, 'tool', has(keys, 'gen_ai.retrieval.documents'), 'retriever',"
            f" {model} OR {tokens}, 'llm', 'other')"
        )
        return sql_text.first_text(steps)

    def _any_text(self, *columns: str) -> str:
        numbers = {self.places.numbers[(column, "text")] for column in columns}
        for column in columns:
            numbers |= {
                self.places.shared[source.key]
                for source in self.tables.of(column, "text")
                if source.key in self.places.shared
            }
        return f"hasAny(text_columns, [{sql_text.numbers(sorted(numbers))}])"

    def _any_number(self, *columns: str) -> str:
        numbers = sql_text.numbers(self.places.numbers[(column, "integer")] for column in columns)
        return f"hasAny(number_columns, [{numbers}])"

    def _of_resource(self, column: str) -> str:
        keys = [source.key for source in self.tables.of(column, "text")]
        return sql_text.first_text(
            [f"pairs.value.string_value[indexOf(pairs.key, {sql_text.quoted(key)})]" for key in keys]
        )

    def _of_stored_resource(self, column: str) -> str:
        keys = [source.key for source in self.tables.of(column, "text")]
        return sql_text.first_text(
            [f"JSONExtractString(s.resource_attributes, {sql_text.quoted(key)})" for key in keys]
        )
