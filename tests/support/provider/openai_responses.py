"""OpenAI's responses: https://platform.openai.com/docs/api-reference/responses"""

import json
from typing import Any

from support.provider.openai_chat import CREATED, OpenAIChat
from support.provider.script import Fault, Message, Reply, response_model, text, tool_name
from support.provider.wire import Asked, Said, event, pieces, usage


class OpenAIResponses:
    """POST /v1/responses"""

    api = "openai.responses"
    provider = "openai"

    def read(self, path: str, body: dict[str, Any]) -> Asked:
        """The request; `instructions` is a message of the system."""
        tools = [tool["name"] for tool in body.get("tools") or [] if tool["type"] == "function"]
        messages = [{"role": "system", "parts": [text(body["instructions"])]}] if body.get("instructions") else []
        given = body["input"]
        items = [{"role": "user", "content": given}] if isinstance(given, str) else given
        for item in items:
            _add(messages, item)
        return Asked(body, body["model"], messages, bool(body.get("stream")), tools)

    def say(self, asked: Asked, reply: Reply, number: int) -> Said:
        """A response, or the events that make it; its reasoning is told as a summary."""
        parts: list[dict[str, Any]] = []
        output: list[dict[str, Any]] = []
        if reply.reasoning is not None:
            parts.append({"type": "reasoning", "text": reply.reasoning})
            summary = [{"type": "summary_text", "text": reply.reasoning}]
            output.append({"id": f"rs_{number}", "type": "reasoning", "summary": summary, "status": "completed"})
        if reply.text is not None:
            parts.append(text(reply.text))
            content = [{"type": "output_text", "text": reply.text, "annotations": [], "logprobs": []}]
            output.append(
                {
                    "id": f"msg_{number}",
                    "type": "message",
                    "status": "completed",
                    "role": "assistant",
                    "content": content,
                }
            )
        if reply.call is not None:
            call_id, name = f"call_{reply.scenario}_{number}", tool_name(asked.tools)
            parts.append({"type": "tool_call", "id": call_id, "name": name, "arguments": reply.call})
            called = {"type": "function_call", "call_id": call_id, "name": name, "arguments": json.dumps(reply.call)}
            output.append({"id": f"fc_{number}", "status": "completed", **called})
        body = _response(asked, reply, number, output)
        return Said(
            body,
            parts,
            "completed",
            usage(reply),
            body["id"],
            body["model"],
            _events(body) if asked.stream else [],
        )

    def fail(self, fault: Fault) -> tuple[dict[str, Any], str]:
        """OpenAI's error object."""
        return OpenAIChat().fail(fault)


def _add(messages: list[Message], item: dict[str, Any]) -> None:
    match item.get("type", "message"):
        case "function_call":
            arguments = json.loads(item["arguments"])
            part = {"type": "tool_call", "id": item["call_id"], "name": item["name"], "arguments": arguments}
            messages.append({"role": "assistant", "parts": [part]})
        case "function_call_output":
            result = {"type": "tool_result", "id": item["call_id"], "result": item["output"]}
            messages.append({"role": "tool", "parts": [result]})
        case "message":
            content = item["content"]
            parts = [text(content)] if isinstance(content, str) else [text(part["text"]) for part in content]
            messages.append({"role": item["role"], "parts": parts})


def _response(asked: Asked, reply: Reply, number: int, output: list[dict[str, Any]]) -> dict[str, Any]:
    body = asked.body
    return {
        "id": f"resp_{reply.scenario}_{number}",
        "object": "response",
        "created_at": CREATED,
        "status": "completed",
        "error": None,
        "incomplete_details": None,
        "instructions": body.get("instructions"),
        "metadata": {},
        "model": response_model(asked.model),
        "output": output,
        "parallel_tool_calls": True,
        "previous_response_id": body.get("previous_response_id"),
        "reasoning": {"effort": None, "summary": None},
        "service_tier": "default",
        "store": False,
        "temperature": 1.0,
        "text": {"format": {"type": "text"}},
        "tool_choice": "auto",
        "tools": body.get("tools") or [],
        "top_p": 1.0,
        "truncation": "disabled",
        "usage": {
            "input_tokens": reply.input,
            "input_tokens_details": {
                "cached_tokens": reply.cache_read,
                "cache_write_tokens": reply.cache_write,
            },
            "output_tokens": reply.output,
            "output_tokens_details": {"reasoning_tokens": reply.reasoning_tokens},
            "total_tokens": reply.input + reply.output,
        },
    }


def _events(body: dict[str, Any]) -> list[bytes]:
    began = {**body, "status": "in_progress", "output": [], "usage": None}
    told: list[dict[str, Any]] = [
        {"type": "response.created", "response": began},
        {"type": "response.in_progress", "response": began},
    ]
    for index, item in enumerate(body["output"]):
        told += _item(index, item)
    told.append({"type": "response.completed", "response": body})
    return [event({**one, "sequence_number": number}, one["type"]) for number, one in enumerate(told)]


def _item(index: int, item: dict[str, Any]) -> list[dict[str, Any]]:
    at = {"output_index": index, "item_id": item["id"]}
    match item["type"]:
        case "message":
            empty, full = {**item, "status": "in_progress", "content": []}, item["content"][0]
            here = {**at, "content_index": 0}
            middle = [
                {"type": "response.content_part.added", **here, "part": {**full, "text": ""}},
                *(
                    {"type": "response.output_text.delta", **here, "delta": piece, "logprobs": []}
                    for piece in pieces(full["text"])
                ),
                {"type": "response.output_text.done", **here, "text": full["text"], "logprobs": []},
                {"type": "response.content_part.done", **here, "part": full},
            ]
        case "function_call":
            empty = {**item, "status": "in_progress", "arguments": ""}
            said = item["arguments"]
            middle = [
                *({"type": "response.function_call_arguments.delta", **at, "delta": piece} for piece in pieces(said)),
                {"type": "response.function_call_arguments.done", **at, "arguments": said, "name": item["name"]},
            ]
        case _:
            empty, full = {**item, "summary": []}, item["summary"][0]
            here = {**at, "summary_index": 0}
            middle = [
                {"type": "response.reasoning_summary_part.added", **here, "part": {**full, "text": ""}},
                {"type": "response.reasoning_summary_text.delta", **here, "delta": full["text"]},
                {"type": "response.reasoning_summary_text.done", **here, "text": full["text"]},
                {"type": "response.reasoning_summary_part.done", **here, "part": full},
            ]
    return [
        {"type": "response.output_item.added", "output_index": index, "item": empty},
        *middle,
        {"type": "response.output_item.done", "output_index": index, "item": item},
    ]
