"""Embeddings in OpenAI's and Gemini's forms: https://platform.openai.com/docs/api-reference/embeddings

A vector counts the words that a text shares with each document of the story, so that a search finds the right one.
"""

import base64
import math
import re
import struct
from dataclasses import dataclass
from typing import Any

from support.provider.script import STORY, response_model

_DOCUMENTS = STORY["scenarios"]["retrieval"]["documents"]


@dataclass(frozen=True)
class Embedded:
    """An answer and its facts."""

    body: dict[str, Any]
    model: str
    texts: list[str]
    tokens: int | None


def openai(body: dict[str, Any]) -> Embedded:
    """POST /v1/embeddings"""
    texts = [body["input"]] if isinstance(body["input"], str) else [str(one) for one in body["input"]]
    coded = body.get("encoding_format") == "base64"
    data = [
        {"object": "embedding", "index": index, "embedding": _base64(_vector(text)) if coded else _vector(text)}
        for index, text in enumerate(texts)
    ]
    tokens = _tokens(texts)
    counts = {"prompt_tokens": tokens, "total_tokens": tokens}
    answer = {"object": "list", "data": data, "model": response_model(body["model"]), "usage": counts}
    return Embedded(answer, body["model"], texts, tokens)


def gemini(path: str, body: dict[str, Any]) -> Embedded:
    """POST /{version}/models/{model}:batchEmbedContents; it tells no tokens."""
    requests = body.get("requests") or [body]
    texts = [" ".join(part["text"] for part in one["content"]["parts"]) for one in requests]
    answer = {"embeddings": [{"values": _vector(text)} for text in texts]}
    return Embedded(answer, path.rpartition("/")[2].partition(":")[0], texts, None)


def _tokens(texts: list[str]) -> int:
    return int(STORY["embeddings"]["tokens_each"]) * len(texts)


def _vector(text: str) -> list[float]:
    words = set(re.findall(r"\w+", text.lower()))
    shared = [float(len(words & set(re.findall(r"\w+", one.lower())))) for one in _DOCUMENTS]
    vector = [*shared, 1.0]
    length = math.sqrt(sum(value * value for value in vector))
    return [value / length for value in vector]


def _base64(vector: list[float]) -> str:
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()
