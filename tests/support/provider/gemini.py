"""Gemini's generateContent and streamGenerateContent: https://ai.google.dev/api/generate-content

Its prompt tokens hold the cached ones; its candidates' tokens do not hold those of the thoughts.
"""

from typing import Any

from support.provider.script import Fault, Message, Reply, response_model, text, tool_name
from support.provider.wire import Asked, Said, event, pieces, usage

_ERRORS = {400: "INVALID_ARGUMENT", 429: "RESOURCE_EXHAUSTED", 500: "INTERNAL"}
_ROLES = {"model": "assistant", "function": "tool"}


class Gemini:
    """POST /{version}/models/{model}:generateContent"""

    api = "gemini.generate_content"
    provider = "gcp.gemini"

    def read(self, path: str, body: dict[str, Any]) -> Asked:
        """The request; its model and whether to stream are in the path."""
        model, _, method = path.rpartition("/")[2].partition(":")
        messages: list[Message] = []
        instruction = body.get("systemInstruction")
        if instruction:
            messages.append({"role": "system", "parts": [_part(part) for part in instruction["parts"]]})
        for content in body["contents"]:
            parts = [_part(part) for part in content["parts"]]
            results = all(part["type"] == "tool_result" for part in parts)
            role = content.get("role") or "user"
            messages.append({"role": "tool" if results else _ROLES.get(role, role), "parts": parts})
        declared = [one for tool in body.get("tools") or [] for one in tool.get("functionDeclarations", [])]
        return Asked(body, model, messages, method == "streamGenerateContent", [one["name"] for one in declared])

    def say(self, asked: Asked, reply: Reply, number: int) -> Said:
        """A response, or its chunks; thoughts come only when they were asked for."""
        content: list[dict[str, Any]] = []
        config = asked.body.get("generationConfig") or {}
        if reply.reasoning is not None and (config.get("thinkingConfig") or {}).get("includeThoughts"):
            content.append({"text": reply.reasoning, "thought": True})
        if reply.text is not None:
            content.append({"text": reply.text})
        if reply.call is not None:
            content.append({"functionCall": {"name": tool_name(asked.tools), "args": reply.call}})
        counts = {
            "promptTokenCount": reply.input,
            "candidatesTokenCount": reply.output - reply.reasoning_tokens,
            "totalTokenCount": reply.input + reply.output,
            "promptTokensDetails": [{"modality": "TEXT", "tokenCount": reply.input}],
        }
        if reply.cache_read:
            counts["cachedContentTokenCount"] = reply.cache_read
        if reply.reasoning_tokens:
            counts["thoughtsTokenCount"] = reply.reasoning_tokens
        head = {
            "modelVersion": response_model(asked.model),
            "responseId": f"gemini-{reply.scenario}-{number}",
        }
        return Said(
            {**head, "candidates": [_candidate(content, "STOP")], "usageMetadata": counts},
            [_part(part) for part in content],
            "STOP",
            {**usage(reply), "cache_write_tokens": None},
            str(head["responseId"]),
            str(head["modelVersion"]),
            _chunks(head, content, counts) if asked.stream else [],
        )

    def fail(self, fault: Fault) -> tuple[dict[str, Any], str]:
        """Google's error object."""
        kind = _ERRORS[fault.status]
        return {"error": {"code": fault.status, "message": fault.message, "status": kind}}, kind


def _part(part: dict[str, Any]) -> dict[str, Any]:
    if "functionCall" in part:
        call = part["functionCall"]
        return {"type": "tool_call", "id": call.get("id"), "name": call["name"], "arguments": call.get("args") or {}}
    if "functionResponse" in part:
        answer = part["functionResponse"]
        # SDKs wrap a text into an object, under a key of their own.
        told = list(answer["response"].values())
        result = told[0] if len(told) == 1 else answer["response"]
        return {"type": "tool_result", "id": answer.get("id"), "result": result}
    if part.get("thought"):
        return {"type": "reasoning", "text": part["text"]}
    return text(part["text"])


def _candidate(parts: list[dict[str, Any]], finish: str | None) -> dict[str, Any]:
    candidate: dict[str, Any] = {"content": {"parts": parts, "role": "model"}, "index": 0}
    return {**candidate, "finishReason": finish} if finish else candidate


def _chunks(head: dict[str, Any], content: list[dict[str, Any]], counts: dict[str, Any]) -> list[bytes]:
    split = [{**part, "text": piece} for part in content if "text" in part for piece in pieces(part["text"])] + [
        part for part in content if "text" not in part
    ]
    out = [event({**head, "candidates": [_candidate([part], None)]}) for part in split[:-1]]
    out.append(event({**head, "candidates": [_candidate(split[-1:], "STOP")], "usageMetadata": counts}))
    return out
