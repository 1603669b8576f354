"""The most that a call may cost, before it is made. Pure.

Input: a token is at least one byte of text, whatever the tokenizer, so the bytes of the messages and of the answer's
schema bound it; for English text that is about four times what is used, and settled a moment later. Output: what the
definition allows (max_tokens, max_completion_tokens), else the most the model can say, else a limit that is sent along.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from tracestone.scoring.llm import Call, EmbeddingCall

# Sent along where neither the definition nor the price map bounds an answer.
UNKNOWN_OUTPUT_TOKENS = 4096
# More than the providers' marks around a message, and than they count for an image.
_MESSAGE_TOKENS = 16
_IMAGE_TOKENS = 6_000
_PLAIN_TIERS = (None, "default", "flex")
_LIMITS = ("max_tokens", "max_completion_tokens")


@dataclass(frozen=True)
class Bound:
    """The most tokens that a call of a model may use; `fast` says that a faster service at its own price may answer."""

    model: str
    input_tokens: int
    output_tokens: int
    fast: bool = False

    @property
    def tokens(self) -> int:
        """Both together."""
        return self.input_tokens + self.output_tokens


def is_fast(call: Call) -> bool:
    """Whether a faster service may answer a call."""
    return call.params.get("service_tier") not in _PLAIN_TIERS


def of_chat(call: Call, most_output_tokens: int | None) -> tuple[Call, Bound]:
    """The bound of a call, and the call, with a limit if it had none.

    `most_output_tokens` is the most that its model can say, if that is known.
    """
    told = sum(_MESSAGE_TOKENS + _tokens(message) for message in call.messages)
    told += _bytes(call.response_format) + _bytes(call.tools)
    limits: list[int] = [call.params[name] for name in _LIMITS if isinstance(call.params.get(name), int)]
    most = max(limits) if limits else most_output_tokens
    if most is None:
        most = UNKNOWN_OUTPUT_TOKENS
        call = replace(call, params={**call.params, "max_tokens": most})
    return call, Bound(call.model, told, most, is_fast(call))


def of_embedding(call: EmbeddingCall) -> Bound:
    """The bound of an embedding: its texts, and no output."""
    return Bound(call.model, sum(map(_bytes, call.texts)), 0)


def _tokens(message: Mapping[str, Any]) -> int:
    content = message.get("content")
    if not isinstance(content, list):
        return _bytes(message)
    rest = {name: value for name, value in message.items() if name != "content"}
    images = sum(1 for part in content if isinstance(part, Mapping) and part.get("type", "text") != "text")
    texts = [part for part in content if not isinstance(part, Mapping) or part.get("type", "text") == "text"]
    return _bytes(rest) + _bytes(texts) + images * _IMAGE_TOKENS


def _bytes(value: Any) -> int:
    return len(json.dumps(value, ensure_ascii=False).encode("utf-8", "replace"))
