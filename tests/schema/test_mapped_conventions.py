"""Whole spans of conventions, as instrumentations send them, through the map."""

import json

from support.mapped_spans import Stored


async def test_current_opentelemetry_genai_chat(stored: Stored) -> None:
    messages = [{"role": "user", "parts": [{"type": "text", "content": "Hi"}]}]
    answer = [{"role": "assistant", "parts": [{"type": "text", "content": "Hello"}], "finish_reason": "stop"}]
    tools = [{"type": "function", "name": "f"}]
    row = await stored(
        {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": "aws.bedrock",
            "gen_ai.request.model": "claude",
            "gen_ai.response.model": "claude-4",
            "gen_ai.response.id": "r-1",
            "gen_ai.conversation.id": "conv-1",
            "gen_ai.agent.name": "helper",
            "gen_ai.usage.input_tokens": 100,
            "gen_ai.usage.output_tokens": 20,
            "gen_ai.usage.cache_read.input_tokens": 60,
            "gen_ai.usage.cache_creation.input_tokens": 4,
            "gen_ai.usage.reasoning.output_tokens": 8,
            "gen_ai.response.finish_reasons": ["stop"],
            "gen_ai.response.time_to_first_chunk": 0.25,
            "gen_ai.input.messages": json.dumps(messages),
            "gen_ai.output.messages": json.dumps(answer),
            "gen_ai.system_instructions": "be kind",
            "gen_ai.tool.definitions": json.dumps(tools),
            "enduser.id": "u-1",
        }
    )
    expected = {
        "operation": "chat",
        "span_type": "llm",
        "provider": "aws.bedrock",
        "request_model": "claude",
        "response_model": "claude-4",
        "response_id": "r-1",
        "session_id": "conv-1",
        "agent_name": "helper",
        "input_tokens": 100,
        "output_tokens": 20,
        "total_tokens": 120,
        "cache_read_tokens": 60,
        "cache_write_tokens": 4,
        "reasoning_tokens": 8,
        "finish_reasons": ["stop"],
        "time_to_first_token_ns": 250_000_000,
        "input": json.dumps(messages),
        "output": json.dumps(answer),
        "system_instructions": "be kind",
        "tool_definitions": json.dumps(tools),
        "user_id": "u-1",
        "input_preview": "Hi",
        "output_preview": "Hello",
        "convention": "otel_genai",
        "token_semantics": "inclusive",
    }
    assert {name: row[name] for name in expected} == expected
    assert (json.loads(row["input_messages"]), json.loads(row["output_messages"])) == (messages, answer)


async def test_current_opentelemetry_genai_tool(stored: Stored) -> None:
    row = await stored(
        {
            "gen_ai.operation.name": "execute_tool",
            "gen_ai.tool.name": "weather",
            "gen_ai.tool.call.id": "call-1",
            "gen_ai.tool.call.arguments": '{"city": "Ghent"}',
            "gen_ai.tool.call.result": '{"sky": "grey"}',
        },
        parent=4,
    )
    expected = {
        "span_type": "tool",
        "tool_name": "weather",
        "tool_call_id": "call-1",
        "tool_arguments": '{"city": "Ghent"}',
        "tool_result": '{"sky": "grey"}',
        "input": '{"city": "Ghent"}',
        "output": '{"sky": "grey"}',
    }
    assert {name: row[name] for name in expected} == expected


async def test_openinference_messages_tools_and_documents(stored: Stored) -> None:
    row = await stored(
        {
            "openinference.span.kind": "LLM",
            "llm.input_messages.0.message.role": "system",
            "llm.input_messages.0.message.content": 'Be "kind"',
            "llm.input_messages.1.message.role": "user",
            "llm.input_messages.1.message.contents.0.message_content.type": "text",
            "llm.input_messages.1.message.contents.0.message_content.text": "Look",
            "llm.input_messages.2.message.role": "tool",
            "llm.input_messages.2.message.tool_call_id": "c1",
            "llm.input_messages.2.message.content": "42",
            "llm.input_messages.10.message.role": "user",
            "llm.input_messages.10.message.content": "last",
            "llm.output_messages.0.message.role": "assistant",
            "llm.output_messages.0.message.tool_calls.0.tool_call.id": "c2",
            "llm.output_messages.0.message.tool_calls.0.tool_call.function.name": "sum",
            "llm.output_messages.0.message.tool_calls.0.tool_call.function.arguments": '{"a": 1}',
            "llm.tools.0.tool.json_schema": '{"name": "sum"}',
            "llm.tools.1.tool.json_schema": '{"name": "product"}',
            "retrieval.documents.0.document.id": "d1",
            "retrieval.documents.0.document.content": "text",
            "retrieval.documents.0.document.score": 0.5,
        }
    )
    assert json.loads(row["input_messages"]) == [
        {"role": "system", "parts": [{"type": "text", "content": 'Be "kind"'}]},
        {"role": "user", "parts": [{"type": "text", "content": "Look"}]},
        {"role": "tool", "parts": [{"type": "tool_call_response", "id": "c1", "response": "42"}]},
        {"role": "user", "parts": [{"type": "text", "content": "last"}]},
    ]
    (message,) = json.loads(row["output_messages"])
    assert message == {
        "role": "assistant",
        "parts": [{"type": "tool_call", "id": "c2", "name": "sum", "arguments": {"a": 1}}],
    }
    assert json.loads(row["tool_definitions"]) == [{"name": "sum"}, {"name": "product"}]
    assert json.loads(row["retrieval_documents"]) == [{"id": "d1", "content": "text", "score": 0.5}]


async def test_a_message_number_out_of_this_world_costs_nothing(stored: Stored) -> None:
    row = await stored({"llm.input_messages.999999999.message.content": "x"})
    assert row["input_messages"] in ("", "[]")
