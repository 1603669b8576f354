"""Generates, from the map of attributes, the SQL that turns OTLP requests into span rows and span rows into `spans`.

python -m tracestone.schema.mapping.generate            prints it
"""

import sys
from dataclasses import replace
from string import Template

from tracestone.schema.mapping import sql_text
from tracestone.schema.mapping import tables as maps
from tracestone.schema.mapping.reading import Read
from tracestone.schema.mapping.stored import PREVIEW_CHARACTERS, Stored
from tracestone.schema.prices import cost


def views(tables: maps.Tables, map_version: int) -> tuple[str, ...]:
    """The statements that make the views follow a map; each is safe to repeat, none loses a row inserted meanwhile."""
    values = {
        **Stored(tables).values(),
        **Read(tables).values(),
        **priced(),
        "map_version": str(map_version),
    }
    return tuple(
        Template(sql_text.template(f"{name}.sql.tmpl")).substitute(values).strip().rstrip(";")
        for name in ("spans_in", "span_rows", "spans_read", "spans_plain", "spans_again")
    )


def ends(tables: maps.Tables) -> str:
    """The statement that makes the view of explicit ends follow a map; safe to repeat."""
    said = {
        target: "(" + " OR ".join(f"attributes_bool[{sql_text.quoted(sql_text.slashed(key))}]" for key in keys) + ")"
        for target, keys in tables.ends.items()
    }
    return Template(sql_text.template("trace_ends.sql.tmpl")).substitute(said).strip()


def told(events: str) -> dict[str, str]:
    """What a span's log events say for columns that are stored, as expressions by name, from a column of `events`."""
    pairs = [
        line.partition(" = ") for line in sql_text.template("told.sql.tmpl").splitlines() if not line.startswith("--")
    ]
    values = {"events": events, "preview": str(PREVIEW_CHARACTERS)}
    return {name: Template(expression).substitute(values) for name, _, expression in pairs}


def priced() -> dict[str, str]:
    """The parts of a price by the names that the view gives them."""
    return {name: text for step in cost.steps(replace(cost.STORED, day="start_day")) for name, text in step.items()}


if __name__ == "__main__":
    sys.stdout.write(";\n\n".join(views(maps.read(), 0)) + ";\n")
