"""OpenAI's chat completions: https://platform.openai.com/docs/api-reference/chat"""

import json
from typing import Any

from support.provider.script import Fault, Message, Reply, response_model, text, tool_name
from support.provider.wire import Asked, Said, event, pieces, usage

CREATED = 1_780_000_000
_ERRORS = {400: "invalid_request_error", 401: "authentication_error", 429: "rate_limit_error"}


class OpenAIChat:
    """POST /v1/chat/completions"""

    api = "openai.chat_completions"
    provider = "openai"

    def read(self, path: str, body: dict[str, Any]) -> Asked:
        """The request; content may be a string or a list of parts."""
        tools = [tool["function"]["name"] for tool in body.get("tools") or []]
        messages = [_message(message) for message in body["messages"]]
        return Asked(body, body["model"], messages, bool(body.get("stream")), tools)

    def say(self, asked: Asked, reply: Reply, number: int) -> Said:
        """A completion, or its chunks; a stream tells its usage only when asked to."""
        told = not asked.stream or bool((asked.body.get("stream_options") or {}).get("include_usage"))
        counts = {
            "prompt_tokens": reply.input,
            "completion_tokens": reply.output,
            "total_tokens": reply.input + reply.output,
            "prompt_tokens_details": {
                "cached_tokens": reply.cache_read,
                "cache_write_tokens": reply.cache_write,
                "audio_tokens": 0,
            },
            "completion_tokens_details": {
                "reasoning_tokens": reply.reasoning_tokens,
                "audio_tokens": 0,
                "accepted_prediction_tokens": 0,
                "rejected_prediction_tokens": 0,
            },
        }
        message: dict[str, Any] = {"role": "assistant", "content": reply.text, "refusal": None}
        parts = [text(reply.text)] if reply.text is not None else []
        if reply.call is not None:
            call_id, name = f"call_{reply.scenario}_{number}", tool_name(asked.tools)
            function = {"name": name, "arguments": json.dumps(reply.call)}
            message["tool_calls"] = [{"id": call_id, "type": "function", "function": function}]
            parts.append({"type": "tool_call", "id": call_id, "name": name, "arguments": reply.call})
        finish = "tool_calls" if reply.call is not None else "stop"
        head = {
            "id": f"chatcmpl-{reply.scenario}-{number}",
            "object": "chat.completion.chunk" if asked.stream else "chat.completion",
            "created": CREATED,
            "model": response_model(asked.model),
            "service_tier": "default",
            "system_fingerprint": "fp_local",
        }
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": finish}
        return Said(
            {**head, "choices": [choice], "usage": counts},
            parts,
            finish,
            usage(reply) if told else dict.fromkeys(usage(reply)),
            head["id"],
            head["model"],
            _chunks(head, message, finish, counts if told else None) if asked.stream else [],
        )

    def fail(self, fault: Fault) -> tuple[dict[str, Any], str]:
        """OpenAI's error object."""
        kind = _ERRORS.get(fault.status, "server_error")
        return {"error": {"message": fault.message, "type": kind, "param": None, "code": None}}, kind


def _message(message: dict[str, Any]) -> Message:
    parts: list[dict[str, Any]] = []
    content = message.get("content")
    if message["role"] == "tool":
        result = content if isinstance(content, str) else " ".join(part["text"] for part in content)
        return {"role": "tool", "parts": [{"type": "tool_result", "id": message["tool_call_id"], "result": result}]}
    if isinstance(content, str) and content:
        parts.append(text(content))
    elif isinstance(content, list):
        parts += [text(part["text"]) for part in content if part["type"] == "text"]
    for call in message.get("tool_calls") or []:
        function = call["function"]
        arguments = json.loads(function["arguments"])
        parts.append({"type": "tool_call", "id": call["id"], "name": function["name"], "arguments": arguments})
    return {"role": message["role"], "parts": parts}


def _chunks(head: dict[str, Any], message: dict[str, Any], finish: str, counts: dict[str, Any] | None) -> list[bytes]:
    deltas: list[dict[str, Any]] = [{"role": "assistant", "content": "" if message["content"] else None}]
    deltas += [{"content": piece} for piece in pieces(message["content"] or "") if piece]
    for index, call in enumerate(message.get("tool_calls", [])):
        arguments = call["function"]["arguments"]
        deltas.append({"tool_calls": [{**call, "index": index, "function": {**call["function"], "arguments": ""}}]})
        for piece in pieces(arguments):
            deltas.append({"tool_calls": [{"index": index, "function": {"arguments": piece}}]})
    out = [event({**head, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]}) for delta in deltas]
    out.append(event({**head, "choices": [{"index": 0, "delta": {}, "finish_reason": finish}]}))
    if counts is not None:
        out.append(event({**head, "choices": [], "usage": counts}))
    return [*out, b"data: [DONE]\n\n"]
