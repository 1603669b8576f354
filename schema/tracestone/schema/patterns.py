"""Regular expressions a client may give, in RE2: linear in the text, so no pattern can hang a worker.

RE2 is also what ClickHouse's `match` uses, so a pattern means the same in a filter and in a scorer. It has no
back-references and no look-around; such a pattern is refused when it is defined.
"""

from collections.abc import Iterator
from functools import lru_cache
from typing import Protocol

import re2  # type: ignore[import-untyped]

from tracestone.schema.errors import Invalid

MAX_PATTERN_CHARS = 2000
_MAX_PROGRAM_BYTES = 8 * 1024 * 1024


class Match(Protocol):
    """The part of a match that is used."""

    def group(self, number: int) -> str: ...

    def span(self) -> tuple[int, int]: ...


class Pattern(Protocol):
    """The part of a compiled pattern that is used; the first two return None when nothing matches."""

    def search(self, text: str) -> Match | None: ...

    def fullmatch(self, text: str) -> Match | None: ...

    def finditer(self, text: str) -> Iterator[Match]: ...


@lru_cache(maxsize=256)
def compile_pattern(pattern: str, *, ignore_case: bool = False, dot_matches_newline: bool = False) -> Pattern:
    """The compiled pattern. Raises Invalid, naming the field `pattern`, when RE2 refuses it."""
    if len(pattern) > MAX_PATTERN_CHARS:
        raise Invalid("pattern", f"is longer than {MAX_PATTERN_CHARS} characters")
    options = re2.Options()
    options.case_sensitive = not ignore_case
    options.dot_nl = dot_matches_newline
    options.log_errors = False
    options.max_mem = _MAX_PROGRAM_BYTES
    try:
        compiled: Pattern = re2.compile(pattern, options=options)
    except re2.error as error:
        reason = error.args[0] if error.args else "unknown"
        shown = reason.decode("utf-8", "replace") if isinstance(reason, bytes) else str(reason)
        raise Invalid("pattern", f"is not a regular expression RE2 accepts: {shown}") from error
    return compiled
