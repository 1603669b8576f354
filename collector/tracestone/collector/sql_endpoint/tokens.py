"""Cuts a canonical statement, as the engine writes it, into tokens, and takes its FORMAT and SETTINGS off its
end.

The engine's canonical text has no comments, quotes every unusual name with backticks and every text with
single quotes, escapes with a backslash, and never uses heredocs; so five kinds of token are enough. Whatever
is taken off here, it is the remaining text that is then parsed, checked and run, so a mistake here can only
refuse too much.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from tracestone.collector.sql_endpoint.refusals import Kind, Refused

_TOKEN = re.compile(
    r"""(?P<space>\s+)
      | (?P<text>'(?:[^'\\]|\\.)*')
      | (?P<quoted>`(?:[^`\\]|\\.)*`|"(?:[^"\\]|\\.)*")
      | (?P<number>\d[\w.]*(?:(?<=[eE])[+-]\d+)?)
      | (?P<word>[^\W\d]\w*)
      | (?P<sign>.)""",
    re.VERBOSE | re.DOTALL,
)
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
_ESCAPED = {"n": "\n", "t": "\t", "r": "\r", "0": "\0", "b": "\b", "f": "\f"}
_OPENING, _CLOSING = frozenset("([{"), frozenset(")]}")


@dataclass(frozen=True)
class Token:
    """`value` is the unquoted name or text, or the token as written; `start` its place in the statement."""

    kind: Literal["text", "quoted", "number", "word", "sign"]
    value: str
    start: int

    @property
    def names(self) -> bool:
        """Whether this may be a name or a keyword."""
        return self.kind in ("word", "quoted")

    def is_word(self, *words: str) -> bool:
        """Whether this is one of these keywords; the canonical text writes keywords in capitals, unquoted."""
        return self.kind == "word" and self.value in words

    def is_sign(self, sign: str) -> bool:
        """Whether this is this punctuation."""
        return self.kind == "sign" and self.value == sign


@dataclass(frozen=True)
class Parts:
    """A statement without its last clauses. A setting of value None is to be at its default."""

    body: str
    tokens: tuple[Token, ...]
    format: str | None
    settings: dict[str, str | None]


def tokens(statement: str) -> tuple[Token, ...]:
    """The tokens of a canonical statement, spaces left out."""
    return tuple(_tokens(statement))


def split(statement: str) -> Parts:
    """Takes `FORMAT x` and `SETTINGS a = 1, …` off the end, in any order and number. Raises Refused."""
    found = tokens(statement)
    depth, ends = 0, len(found)
    for index, token in enumerate(found):
        depth += token.kind == "sign" and token.value in _OPENING
        depth -= token.kind == "sign" and token.value in _CLOSING
        if depth == 0 and index and token.is_word("FORMAT", "SETTINGS"):
            clauses = _clauses(found[index:])
            if clauses is not None:
                ends = index
                break
    else:
        clauses = (None, {})
    assert clauses is not None
    body = statement[: found[ends].start].rstrip() if ends < len(found) else statement
    return Parts(body, found[:ends], clauses[0], clauses[1])


def _clauses(rest: Sequence[Token]) -> tuple[str | None, dict[str, str | None]] | None:
    fmt: str | None = None
    settings: dict[str, str | None] = {}
    index = 0
    while index < len(rest):
        if rest[index].is_word("FORMAT") and index + 1 < len(rest) and rest[index + 1].names:
            fmt = rest[index + 1].value
            index += 2
        elif rest[index].is_word("SETTINGS"):
            taken = _settings(rest[index + 1 :], settings)
            if not taken:
                return None
            index += 1 + taken
        else:
            return None
    return fmt, settings


def _settings(rest: Sequence[Token], into: dict[str, str | None]) -> int:
    """Reads `name = value, …`; how many tokens that took, 0 when this is no such list."""
    index = 0
    while index + 2 < len(rest) and rest[index].names and rest[index + 1].is_sign("="):
        name, value = rest[index], rest[index + 2]
        width = 3
        if value.is_sign("-") and index + 3 < len(rest) and rest[index + 3].kind == "number":
            into[name.value] = "-" + rest[index + 3].value
            width = 4
        elif value.is_word("DEFAULT"):
            into[name.value] = None
        elif value.kind in ("text", "number") or value.is_word("true", "false"):
            into[name.value] = value.value
        else:
            raise Refused(
                Kind.SETTING_CONSTRAINT_VIOLATION,
                f"The setting {name.value} must be a plain number or text",
            )
        index += width
        if index == len(rest) or not rest[index].is_sign(","):
            return index
        index += 1
    return 0


def _tokens(statement: str) -> Iterator[Token]:
    for match in _TOKEN.finditer(statement):
        kind, value = match.lastgroup, match.group()
        if kind in ("text", "quoted"):
            yield Token(kind, _ESCAPE.sub(_unescape, value[1:-1]), match.start())  # type: ignore[arg-type]
        elif kind != "space":
            if value in ("'", '"', "`"):
                raise Refused(Kind.SYNTAX_ERROR, "The statement has a quote that is not closed")
            yield Token(kind, value, match.start())  # type: ignore[arg-type]


def _unescape(match: re.Match[str]) -> str:
    return _ESCAPED.get(match.group(1), match.group(1))
