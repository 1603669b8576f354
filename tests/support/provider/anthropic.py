"""Anthropic's messages: https://docs.anthropic.com/en/api/messages

Its `input_tokens` do not hold what was read from or written to the cache; its `output_tokens` hold the thinking.
"""

import json
from typing import Any

from support.provider.script import Fault, Message, Reply, response_model, text, tool_name
from support.provider.wire import Asked, Said, event, pieces, usage

_ERRORS = {400: "invalid_request_error", 401: "authentication_error", 429: "rate_limit_error", 500: "api_error"}


class Anthropic:
    """POST /v1/messages"""

    api = "anthropic.messages"
    provider = "anthropic"

    def read(self, path: str, body: dict[str, Any]) -> Asked:
        """The request; `system` is a text or a list of them."""
        messages: list[Message] = []
        if body.get("system"):
            messages.append({"role": "system", "parts": _parts(body["system"])})
        for message in body["messages"]:
            parts = _parts(message["content"])
            results = all(part["type"] == "tool_result" for part in parts)
            messages.append({"role": "tool" if results else message["role"], "parts": parts})
        tools = [tool["name"] for tool in body.get("tools") or []]
        return Asked(body, body["model"], messages, bool(body.get("stream")), tools)

    def say(self, asked: Asked, reply: Reply, number: int) -> Said:
        """A message, or its events; thinking comes only when it was asked for."""
        content: list[dict[str, Any]] = []
        if reply.reasoning is not None and (asked.body.get("thinking") or {}).get("type") == "enabled":
            content.append({"type": "thinking", "thinking": reply.reasoning, "signature": "c2lnbmF0dXJl"})
        if reply.text is not None:
            content.append({"type": "text", "text": reply.text, "citations": None})
        if reply.call is not None:
            name = tool_name(asked.tools)
            call_id = f"toolu_{reply.scenario}_{number}"
            content.append({"type": "tool_use", "id": call_id, "name": name, "input": reply.call})
        stop = "tool_use" if reply.call is not None else "end_turn"
        body = {
            "id": f"msg_{reply.scenario}_{number}",
            "type": "message",
            "role": "assistant",
            "model": response_model(asked.model),
            "content": content,
            "stop_reason": stop,
            "stop_sequence": None,
            "usage": {
                "input_tokens": reply.input - reply.cache_read - reply.cache_write,
                "cache_creation_input_tokens": reply.cache_write,
                "cache_read_input_tokens": reply.cache_read,
                "cache_creation": {
                    "ephemeral_5m_input_tokens": reply.cache_write,
                    "ephemeral_1h_input_tokens": 0,
                },
                "output_tokens": reply.output,
                "output_tokens_details": {"thinking_tokens": reply.reasoning_tokens},
                "service_tier": "standard",
            },
        }
        return Said(
            body,
            [_part(block) for block in content],
            stop,
            usage(reply),
            body["id"],
            body["model"],
            _events(body) if asked.stream else [],
        )

    def fail(self, fault: Fault) -> tuple[dict[str, Any], str]:
        """Anthropic's error object."""
        kind = _ERRORS[fault.status]
        return {"type": "error", "error": {"type": kind, "message": fault.message}, "request_id": "req_local"}, kind


def _parts(content: Any) -> list[dict[str, Any]]:
    if isinstance(content, str):
        return [text(content)]
    return [_part(block) for block in content]


def _part(block: dict[str, Any]) -> dict[str, Any]:
    match block["type"]:
        case "text":
            return text(block["text"])
        case "thinking":
            return {"type": "reasoning", "text": block["thinking"]}
        case "tool_use":
            return {"type": "tool_call", "id": block["id"], "name": block["name"], "arguments": block["input"]}
        case "tool_result":
            content = block["content"]
            result = content if isinstance(content, str) else " ".join(one["text"] for one in content)
            return {"type": "tool_result", "id": block["tool_use_id"], "result": result}
    raise ValueError(f"a content block of type {block['type']} is not part of the story")


def _events(body: dict[str, Any]) -> list[bytes]:
    began = {**body, "content": [], "stop_reason": None, "usage": {**body["usage"], "output_tokens": 1}}
    out = [{"type": "message_start", "message": began}, {"type": "ping"}]
    for index, block in enumerate(body["content"]):
        match block["type"]:
            case "text":
                empty = {**block, "text": ""}
                deltas = [{"type": "text_delta", "text": piece} for piece in pieces(block["text"])]
            case "thinking":
                empty = {**block, "thinking": "", "signature": ""}
                deltas = [{"type": "thinking_delta", "thinking": piece} for piece in pieces(block["thinking"])]
                deltas.append({"type": "signature_delta", "signature": block["signature"]})
            case _:
                empty = {**block, "input": {}}
                said = json.dumps(block["input"])
                deltas = [{"type": "input_json_delta", "partial_json": piece} for piece in pieces(said)]
        out.append({"type": "content_block_start", "index": index, "content_block": empty})
        out += [{"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas]
        out.append({"type": "content_block_stop", "index": index})
    stop = {"stop_reason": body["stop_reason"], "stop_sequence": None}
    out.append({"type": "message_delta", "delta": stop, "usage": body["usage"]})
    out.append({"type": "message_stop"})
    return [event(one, str(one["type"])) for one in out]
