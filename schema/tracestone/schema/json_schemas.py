"""JSON Schema (draft 4 to 2020-12), compiled: no reference is fetched, and `pattern` takes time linear in the text.

Patterns are those of Rust's `regex`, which like RE2 has no look-around and no back-references. That they, and the
schema itself, are valid is checked when a scorer is defined, where the library is installed; else when it first scores.
"""

import json
from functools import lru_cache
from typing import Any, Protocol

from tracestone.schema.errors import Invalid
from tracestone.schema.extras import optional

MAX_SCHEMA_CHARACTERS = 100_000


class JsonValidator(Protocol):
    """The part of a compiled schema that is used."""

    def iter_errors(self, instance: Any) -> Any: ...


def compile_schema(schema: dict[str, Any] | bool) -> JsonValidator:
    """The compiled schema. Raises Invalid, naming `json_schema`; MissingExtra."""
    text = json.dumps(schema, sort_keys=True)
    if len(text) > MAX_SCHEMA_CHARACTERS:
        raise Invalid("json_schema", f"is longer than {MAX_SCHEMA_CHARACTERS} characters")
    return _compiled(text)


@lru_cache(maxsize=256)
def _compiled(text: str) -> JsonValidator:
    library = optional("jsonschema_rs", "jsonschema-rs", "heuristics")
    try:
        compiled: JsonValidator = library.validator_for(
            json.loads(text),
            offline=True,
            validate_formats=True,
            pattern_options=library.RegexOptions(),
            mask="a value",
        )
    except ValueError as error:
        reason = str(getattr(error, "message", error))[:300]
        raise Invalid("json_schema", f"is not a JSON schema: {reason}") from error
    return compiled
