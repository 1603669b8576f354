"""Where an API key may stand in a request: Authorization (Bearer, Basic, or the key alone) and x-api-key.

In Basic the key is the password, or the user where there is none of the other: `curl -u :KEY`, a browser's prompt, and
Langfuse's public:secret all work. Some exporters send the header of OTEL_EXPORTER_OTLP_HEADERS as it was written there,
percent-encoded, so `Bearer%20KEY` is understood too.
"""

import base64
import binascii
from collections.abc import Iterable
from urllib.parse import unquote

from tracestone.schema.keys import key_id_of

_MAX_CHARACTERS = 4096


def in_headers(headers: Iterable[tuple[bytes, bytes]]) -> str:
    """The key in HTTP headers with lower-case names; "" when there is none, and what was given when it is no key."""
    return chosen(
        value.decode("latin-1") if name == b"x-api-key" else _authorization(value.decode("latin-1"))
        for name, value in headers
        if name in (b"authorization", b"x-api-key")
    )


def in_metadata(metadata: Iterable[tuple[str, str | bytes]]) -> str:
    """The same in gRPC metadata."""
    found = []
    for name, value in metadata:
        if name in ("authorization", "x-api-key"):
            text = value if isinstance(value, str) else value.decode("latin-1")
            found.append(text if name == "x-api-key" else _authorization(text))
    return chosen(found)


def user_and_password(user: str, password: str) -> str:
    """The key among the two."""
    return chosen((password, user))


def chosen(candidates: Iterable[str]) -> str:
    """The first that is a key; else the first that is anything, "" without."""
    first = ""
    for text in candidates:
        given = text.strip()
        if key_id_of(given):
            return given
        first = first or given
    return first


def _authorization(value: str) -> str:
    if len(value) > _MAX_CHARACTERS:
        return value
    scheme, _, rest = unquote(value).strip().partition(" ")
    if not rest:
        return scheme
    if scheme.lower() != "basic":
        return rest
    try:
        user, _, password = base64.b64decode(rest.strip(), validate=True).decode("utf-8").partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return rest
    return user_and_password(user, password)
