"""Messages in the shapes that instrumentations record."""

import json

import pytest

from tracestone.collector.ui.messages import Message, Part, parse


def test_opentelemetry_parts() -> None:
    recorded = [
        {"role": "user", "parts": [{"type": "text", "content": "Hi"}]},
        {
            "role": "assistant",
            "parts": [
                {"type": "reasoning", "content": "look it up"},
                {"type": "tool_call", "id": "c1", "name": "lookup", "arguments": {"id": 7}},
            ],
        },
        {"role": "tool", "parts": [{"type": "tool_call_response", "id": "c1", "response": {"found": True}}]},
    ]
    user, assistant, tool = parse(json.dumps(recorded))
    assert user == Message("user", (Part("text", "Hi"),))
    assert [part.kind for part in assistant.parts] == ["reasoning", "tool_call"]
    assert assistant.parts[1].label == "lookup" and json.loads(assistant.parts[1].text) == {"id": 7}
    assert tool.parts[0].kind == "tool_result" and json.loads(tool.parts[0].text) == {"found": True}


def test_provider_messages() -> None:
    recorded = {
        "messages": [
            {"role": "system", "content": "Be kind."},
            {
                "role": "user",
                "content": [{"type": "text", "text": "Hi"}, {"type": "image_url", "image_url": "x"}],
            },
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [{"function": {"name": "f", "arguments": "{}"}}],
            },
            {"role": "tool", "content": "42", "tool_call_id": "c"},
        ]
    }
    system, user, assistant, tool = parse(json.dumps(recorded))
    assert system.parts == (Part("text", "Be kind."),)
    assert [part.kind for part in user.parts] == ["text", "other"]
    assert assistant.parts == (Part("tool_call", "{}", "f"),)
    assert tool.parts == (Part("tool_result", "42"),)


def test_system_instructions_take_the_default_role() -> None:
    assert parse('[{"type": "text", "content": "Be brief."}]', default_role="system") == (
        Message("system", (Part("text", "Be brief."),)),
    )


@pytest.mark.parametrize("text", ["", "hello", "[]", "[1]", '{"a": 1}', '[{"a": 1}]', "[" * 100_000, '{"messages": 3}'])
def test_anything_else_is_no_chat(text: str) -> None:
    assert parse(text) == ()


@pytest.mark.parametrize(
    "text",
    [
        '[{"role": null}]',
        '[{"role": "user", "parts": "x", "content": 3}]',
        '[{"role": "user", "parts": [1, null, {}]}]',
        '[{"role": "assistant", "tool_calls": [1, {"function": null}]}]',
    ],
)
def test_odd_messages_are_shown_somehow(text: str) -> None:
    assert len(parse(text)) == 1
