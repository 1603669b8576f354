"""The grammar of MLflow's search filters: comparisons joined by AND.

    filter     = comparison *( AND comparison )
    comparison = side operator value | side [NOT] IN "(" value *( "," value ) ")" | side IS [NOT] NULL
    side       = [ entity "." ] key            key may be in backticks or double quotes
    operator   = = | != | > | >= | < | <= | LIKE | ILIKE | RLIKE
    value      = 'text' | "text" | number      a quote inside is written twice

OR, NOT, parentheses around comparisons and functions do not exist. Which entities, keys and operators mean
something is for the caller to say.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NoReturn

from tracestone.schema.errors import Invalid
from tracestone.schema.filters import Comparison

MAX_CHARACTERS = 20_000
MAX_COMPARISONS = 50

_TOKEN = re.compile(
    r"""\s*(?:
        (?P<quoted>'(?:[^']|'')*'|"(?:[^"]|"")*"|`[^`]*`)
      | (?P<number>-?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?(?![\w.]))
      | (?P<word>[A-Za-z_][\w/-]*(?:\.[\w/-]+)*\.?)
      | (?P<symbol><=|>=|!=|<>|[=<>(),])
    )""",
    re.VERBOSE,
)
_SYMBOLS = {"=": "=", "!=": "!=", "<>": "!=", ">": ">", ">=": ">=", "<": "<", "<=": "<="}
_WORDS = {"LIKE", "ILIKE", "RLIKE"}


@dataclass(frozen=True)
class _Token:
    kind: str
    text: str

    @property
    def upper(self) -> str:
        return self.text.upper() if self.kind == "word" else self.text


def parse(text: str, field: str = "filter") -> list[Comparison]:
    """The comparisons of a filter; none for an empty one. Entities are lower case, "" where none was written.

    Raises Invalid, naming `field`.
    """
    if len(text) > MAX_CHARACTERS:
        raise Invalid(field, f"is over {MAX_CHARACTERS} characters")
    reader = _Reader(_tokens(text, field), field)
    if reader.at_end():
        return []
    found = [_comparison(reader)]
    while not reader.at_end():
        reader.expect_word("AND")
        found.append(_comparison(reader))
        if len(found) > MAX_COMPARISONS:
            raise Invalid(field, f"has more than {MAX_COMPARISONS} comparisons")
    return found


class _Reader:
    def __init__(self, tokens: Sequence[_Token], field: str) -> None:
        self._tokens = tokens
        self._next = 0
        self._field = field

    def at_end(self) -> bool:
        return self._next >= len(self._tokens)

    def take(self, expected: str) -> _Token:
        if self.at_end():
            raise Invalid(self._field, f"ends where {expected} should follow")
        self._next += 1
        return self._tokens[self._next - 1]

    def take_if(self, text: str) -> bool:
        if self.at_end() or self._tokens[self._next].upper != text:
            return False
        self._next += 1
        return True

    def expect_word(self, word: str) -> None:
        token = self.take(word)
        if token.upper != word:
            self.refuse(token, word)

    def refuse(self, token: _Token, expected: str) -> NoReturn:
        raise Invalid(self._field, f"has {token.text!r} where {expected} should be")


def _tokens(text: str, field: str) -> list[_Token]:
    found = []
    position = 0
    end = len(text.rstrip())
    while position < end:
        match = _TOKEN.match(text, position)
        if match is None or match.lastgroup is None:
            raise Invalid(field, f"cannot be read at {text[position : position + 30].strip()!r}")
        found.append(_Token(match.lastgroup, match[match.lastgroup]))
        position = match.end()
    return found


def _comparison(reader: _Reader) -> Comparison:
    entity, key = _side(reader)
    if reader.take_if("IS"):
        negated = reader.take_if("NOT")
        reader.expect_word("NULL")
        return Comparison(entity, key, "IS NOT NULL" if negated else "IS NULL", ())
    negated = reader.take_if("NOT")
    if negated or reader.take_if("IN"):
        if negated:
            reader.expect_word("IN")
        values = _list(reader)
        return Comparison(entity, key, "NOT IN" if negated else "IN", tuple(text for text, _ in values))
    token = reader.take("an operator")
    operator = _SYMBOLS.get(token.text) or (token.upper if token.upper in _WORDS else "")
    if not operator:
        reader.refuse(token, "an operator")
    text, numeric = _value(reader)
    return Comparison(entity, key, operator, (text,), numeric)


def _side(reader: _Reader) -> tuple[str, str]:
    token = reader.take("a field")
    if token.kind == "quoted" and not token.text.startswith("'"):
        return "", _unquoted(token)
    if token.kind != "word":
        reader.refuse(token, "a field")
    if token.text.endswith("."):
        key = reader.take("a key")
        if key.kind != "quoted" or key.text.startswith("'"):
            reader.refuse(key, "a key")
        return token.text[:-1].lower(), _unquoted(key)
    entity, dot, key_text = token.text.partition(".")
    return (entity.lower(), key_text) if dot else ("", token.text)


def _list(reader: _Reader) -> list[tuple[str, bool]]:
    opening = reader.take("(")
    if opening.text != "(":
        reader.refuse(opening, "(")
    values = [_value(reader)]
    while not reader.take_if(")"):
        comma = reader.take(", or )")
        if comma.text != ",":
            reader.refuse(comma, ", or )")
        values.append(_value(reader))
    return values


def _value(reader: _Reader) -> tuple[str, bool]:
    token = reader.take("a value")
    if token.kind == "number":
        return token.text, True
    if token.kind != "quoted" or token.text.startswith("`"):
        reader.refuse(token, "a quoted text or a number")
    return _unquoted(token), False


def _unquoted(token: _Token) -> str:
    quote = token.text[0]
    return token.text[1:-1].replace(quote * 2, quote)
