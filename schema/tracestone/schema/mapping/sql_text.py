"""Pieces of generated SQL: texts, numbers, lists of them, and templates filled in."""

from collections.abc import Iterable
from importlib.resources import files
from string import Template

from tracestone.schema.mapping import fields


def best(keys: Iterable[str], values: str = "text_values", told: str = "told_keys") -> str:
    """The text of the first of some attributes that has one; else the empty text in front of `values`.

    `told` are the keys of `values`, empty where a value is.
    """
    ranks = {key: rank for rank, key in enumerate([*dict.fromkeys(keys), ""])}
    return (
        f"arrayReduce('argMin', {values}, arrayMap(key -> transform(key, [{texts(ranks)}],"
        f" [{numbers(ranks.values())}], {len(ranks)}), {told}))"
    )


def escaped(key: str) -> str:
    """A key in a pattern in a text of SQL."""
    return key.replace(".", "\\\\.")


def alias_values(aliases: dict[str, dict[str, str]]) -> dict[str, str]:
    values = {}
    for column, names in aliases.items():
        values[f"{column}_given"] = texts(names)
        values[f"{column}_canonical"] = texts(names.values())
    return values


def json_text(value: str) -> str:
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


def first_text(values: list[str]) -> str:
    """The first that is not empty. One function, because every node is planned for every insert and every read."""
    return values[0] if len(values) == 1 else f"firstNonDefault({', '.join(values)})"


def texts(values: Iterable[str]) -> str:
    return ", ".join(quoted(value) for value in values)


def numbers(values: Iterable[int]) -> str:
    return ", ".join(str(value) for value in values)


def quoted(text: str) -> str:
    return "'" + text.replace("'", "\\'") + "'"


def typed(shape: fields.Shape) -> str:
    return quoted(slashed(shape.type))


def slashed(text: str) -> str:
    return text.replace("\\", "\\\\")


def filled(name: str, values: dict[str, str]) -> str:
    lines = (line for line in template(f"{name}.sql.tmpl").strip().splitlines() if not line.lstrip().startswith("--"))
    return Template("\n".join(lines)).substitute(values)


def template(name: str) -> str:
    return (files(__package__) / name).read_text(encoding="utf-8")
