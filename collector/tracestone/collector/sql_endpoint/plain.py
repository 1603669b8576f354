"""Lets statements that ask for nothing of `spans` that must be put together read `spans_plain` in its place.

The engine resolves all expressions of a view for every statement, also those of columns that nobody asks for. For
`spans` that takes 35 ms, nearly all of it for messages in their many forms; for `spans_plain`, which lacks them and is
the same otherwise, 5. A statement that might ask for more (`*`, a name that is also a column's) is left as it is.
"""

from collections.abc import Iterator, Sequence

from tracestone.collector.sql_endpoint.guard import Checked
from tracestone.collector.sql_endpoint.syntax_tree import every_column
from tracestone.collector.sql_endpoint.tokens import Token

WHOLE, PLAIN = "spans", "spans_plain"
_NOTHING = Token("sign", "", 0)


class Plain:
    """Which columns one of the two views has alone, and what is read in the place of `spans`."""

    def __init__(self, database: str, whole: Sequence[str], plain: Sequence[str]) -> None:
        """`whole` and `plain` are the columns of the two views."""
        self._database = database
        self._there = bool(plain)
        self._others = frozenset(whole) ^ frozenset(plain)

    def reads(self, checked: Checked, database: str) -> str | None:
        """The statement, to be run with `database` as the current one, over `spans_plain`; None when it must not be."""
        if not self._there or not checked.nodes[0].kind.startswith("Select"):
            return None
        bare = database == self._database
        names = {f"{self._database}.{WHOLE}", *([WHOLE] if bare else [])}
        wanted = sum(node.kind == "TableIdentifier" and node.name in names for node in checked.nodes)
        if not wanted or self._may_ask_for_more(checked):
            return None
        places = list(_tables(checked.tokens, self._database, bare=bare))
        if len(places) != wanted:
            return None
        text = checked.text
        for name, named in reversed(places):
            end = name.start + len(WHOLE) + 2 * (name.kind == "quoted")
            text = f"{text[: name.start]}{PLAIN}{'' if named else f' AS {WHOLE}'}{text[end:]}"
        return text

    def _may_ask_for_more(self, checked: Checked) -> bool:
        nodes = checked.nodes
        names = {token.value for token in checked.tokens if token.names}
        names |= {node.name for node in nodes if node.kind == "Identifier"}
        parts = {part for name in names for part in name.split(".")}
        return not parts.isdisjoint(self._others) or any(every_column(nodes, place) for place in range(len(nodes)))


def _tables(tokens: Sequence[Token], database: str, *, bare: bool) -> Iterator[tuple[Token, bool]]:
    """Where `spans` follows FROM or JOIN, and whether it gets another name there."""
    for place, token in enumerate(tokens):
        if not (token.names and token.value == WHOLE):
            continue
        after = [*tokens[place + 1 : place + 3], _NOTHING, _NOTHING]
        if after[0].is_word("AS") and after[1].is_sign("("):
            return
        before = [_NOTHING, *tokens[max(place - 3, 0) : place]]
        if before[-1].is_sign("."):
            if before[-2].value != database:
                continue
            before = before[:-2]
        elif not bare:
            continue
        if before[-1].is_word("FROM", "JOIN") and not after[0].is_sign("."):
            yield token, after[0].is_word("AS")
