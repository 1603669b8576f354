"""What the views `spans` and `spans_plain` need: content is read from the kept attributes when it is asked for.

So no prompt is stored twice.
"""

from itertools import groupby

from tracestone.schema.mapping import sql_text
from tracestone.schema.mapping import tables as maps

# Forms of messages flattened into keys, and what stands before a message's own.
_FLAT_MESSAGES = {"openinference_messages": "message\\\\.", "openllmetry_messages": ""}


class Read:
    """The values of the templates `spans_read` and `spans_plain`."""

    def __init__(self, tables: maps.Tables) -> None:
        self.tables = tables

    def values(self) -> dict[str, str]:
        """Values of the templates."""
        columns = dict.fromkeys(source.column for source in self.tables.sources if source.form in maps.READ_FORMS)
        content = {column: self._column(column) for column in columns}
        messages = {column: content.pop(column) for column in ("input_messages", "output_messages")}
        values = sql_text.alias_values(self.tables.aliases)
        for name in ("list", "given", "tool_call", "tool_result", "media", "part_type", "part", "message"):
            values[name] = sql_text.filled(f"messages/{name}", values)
        values["flat_pattern"] = self._flat_pattern()
        for name in ("text_keys", "text_values", "texts", "flat_starts", "flat_message", "event_message"):
            values[name] = sql_text.filled(f"pieces/{name}", values)
        return {
            **values,
            **messages,
            **self._plain(values),
            "attributes": sql_text.filled("pieces/attributes", {"texts": "texts"}),
            "content": ",\n        ".join(f"{text} AS {name}" for name, text in content.items()),
        }

    def _plain(self, values: dict[str, str]) -> dict[str, str]:
        """What `spans_plain` says in one step."""
        keys, texts = values["text_keys"], values["text_values"]
        told = f"arrayPushFront(arrayMap((key, value) -> if(value = '', '', key), {keys}, {texts}), '')"
        found, elsewhere = {}, []
        for column in ("input", "output"):
            plain = [source.key for source in self.tables.of(column, *maps.READ_FORMS)]
            found[f"plain_{column}"] = sql_text.best(plain, f"arrayPushFront({texts}, '')", told)
            messages = self.tables.of(f"{column}_messages", *maps.READ_FORMS)
            elsewhere += [source.key for source in messages if source.key not in plain]
        return {
            **found,
            "plain_attributes": sql_text.filled("pieces/attributes", values),
            "messages_elsewhere": sql_text.texts(dict.fromkeys(elsewhere)),
        }

    def _flat_pattern(self) -> str:
        """How the keys of flattened messages begin."""
        keys = {form: {source.key for source in self.tables.sources if source.form == form} for form in _FLAT_MESSAGES}
        starts = [
            f"{sql_text.escaped(key)}\\\\.\\\\d{{1,4}}\\\\.{after}"
            for form, after in _FLAT_MESSAGES.items()
            for key in sorted(keys[form])
        ]
        return sql_text.quoted(f"^(?:{'|'.join(starts)})")

    def _column(self, column: str) -> str:
        sources = self.tables.of(column, *maps.READ_FORMS)
        return sql_text.first_text(
            [self._step(form, list(group)) for form, group in groupby(sources, key=lambda source: source.form)]
        )

    def _step(self, form: str, sources: list[maps.Source]) -> str:
        if form in maps.PLAIN_FORMS:
            best = sql_text.best(source.key for source in sources)
            only = {"tool_content": "tool", "retriever_content": "retriever", "model_messages": "llm"}.get(form)
            return f"if(span_type = '{only}', {best}, '')" if only else best
        return sql_text.first_text([self._other(form, source.key) for source in sources])

    def _other(self, form: str, key: str) -> str:
        if form in _FLAT_MESSAGES:
            return sql_text.filled("pieces/flat_messages", {"prefix": sql_text.quoted(key + ".")})
        pattern = sql_text.quoted(f"^{sql_text.escaped(key)}\\\\.(\\\\d{{1,4}})\\\\.")
        values = {"key": sql_text.quoted(key), "prefix": sql_text.quoted(key + "."), "pattern": pattern}
        values["numbers"] = sql_text.filled("pieces/numbers", values)
        return sql_text.filled(f"forms/{form}", values)
