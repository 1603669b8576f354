"""The tree of a search filter: comparisons that must all hold. Nothing here knows a grammar or SQL."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Comparison:
    """`entity` is attribute or tag, `operator` is upper case.

    `values` holds one text, several for IN, none for IS NULL; with `numeric` it is the text of a number.
    """

    entity: str
    key: str
    operator: str
    values: tuple[str, ...]
    numeric: bool = False
