"""The pictures among a subject's messages, for models that take them. Pure.

Only pictures that were recorded whole are shown. An address is not: whoever opens it, the provider or a client library
in this process, would go where the judged content says.
"""

import binascii
import json
from base64 import b64decode
from collections.abc import Iterator
from typing import Any

from tracestone.scoring.scorers.protocol import Subject

MAX_BYTES = 5 * 1024 * 1024
_KINDS = frozenset({"image/png", "image/jpeg", "image/webp", "image/gif"})


def images(subject: Subject, most: int) -> list[str]:
    """Up to `most` different pictures as data URLs, in the order of the spans; each of at most 5 MiB."""
    found: dict[str, None] = {}
    if most:
        for span in subject.spans:
            for text in (span.input_messages, span.output_messages):
                for url in _in_messages(text):
                    found[url] = None
                    if len(found) == most:
                        return list(found)
    return list(found)


def _in_messages(text: str) -> Iterator[str]:
    if '"blob"' not in text and "data:image/" not in text:
        return
    try:
        messages = json.loads(text)
    except (ValueError, RecursionError):
        return
    for message in messages if isinstance(messages, list) else []:
        parts = message.get("parts") if isinstance(message, dict) else None
        for part in parts if isinstance(parts, list) else []:
            url = _url(part)
            if url:
                yield url


def _url(part: Any) -> str:
    if not isinstance(part, dict):
        return ""
    if part.get("type") == "blob":
        kind, content = str(part.get("mime_type", "")), str(part.get("content", part.get("data", "")))
    elif part.get("type") == "uri" and str(part.get("uri", "")).startswith("data:"):
        head, _, content = str(part["uri"])[5:].partition(",")
        kind, _, encoding = head.partition(";")
        if encoding != "base64":
            return ""
    else:
        return ""
    if kind not in _KINDS or len(content) > MAX_BYTES * 4 // 3 + 4:
        return ""
    try:
        b64decode(content, validate=True)
    except binascii.Error:
        return ""
    return f"data:{kind};base64,{content}"
