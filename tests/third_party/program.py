"""Scores with metrics of another library, in an environment that has it: run by test_third_party.py.

Reads a list of [parameters, expectations] from standard input, writes {outcomes, called}: what was said, and the hosts
that were looked up or called.
"""

import asyncio
import json
import sys
from typing import Any

from support.traces import span, trace
from tracestone.schema.scorers.definition import Scorer, define
from tracestone.scoring.llm import LiteLLM
from tracestone.scoring.scorers.protocol import AttemptFailed, Subject
from tracestone.scoring.scorers.registry import Tools, ready
from tracestone.scoring.scorers.subject import subject_of, subject_of_session

DOCUMENTS = json.dumps([{"content": "Shoes can be returned within thirty days."}, {"content": "Returns are free."}])


def subject(parameters: dict[str, Any], expectations: dict[str, Any]) -> Subject:
    """A trace with a retrieval and a call of a tool, or a session of two turns."""
    one = trace(
        span(1, input="How do I return shoes?", output="Within thirty days, for free."),
        span(2, 1, span_type="retriever", retrieval_documents=DOCUMENTS),
        span(3, 1, span_type="tool", tool_name="find_order", tool_arguments='{"order": 7}'),
    )
    two = trace(span(1, input="And boots?", output="The same."))
    definition = define("x", "third_party", parameters)
    if "session" in definition.parameters.targets:
        return subject_of_session("s", [one, two], expectations=expectations)
    return subject_of(one, expectations)


def listen(called: set[str]) -> None:
    """Notes every host that any code of this process looks up or calls."""

    def heard(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "socket.getaddrinfo":
            called.add(str(arguments[0]))
        elif event == "socket.connect" and isinstance(arguments[1], tuple):
            called.add(str(arguments[1][0]))

    sys.addaudithook(heard)


async def main() -> None:
    """Scores what was asked for, one after the other."""
    called: set[str] = set()
    listen(called)
    provider = LiteLLM()

    async def nobody(name: str, version: int) -> Any:
        raise AssertionError(name)

    outcomes = []
    for parameters, expectations in json.load(sys.stdin):
        definition = define("x", "third_party", parameters)
        scorer = ready(Scorer("x", 1, definition.kind, definition.parameters, 0), Tools(provider, nobody))
        try:
            found = await scorer.score(subject(parameters, expectations))
        except AttemptFailed as failed:
            outcomes.append({"code": failed.code, "message": failed.message, "calls": failed.usage.calls})
        else:
            usage = {"calls": found.usage.calls, "input_tokens": found.usage.input_tokens}
            told = {"value": found.value, "rationale": found.rationale, "metadata": found.metadata}
            outcomes.append(told | usage | {"source": [found.source_type, found.source_id]})
    await provider.close()
    json.dump({"outcomes": outcomes, "called": sorted(called)}, sys.stdout)


asyncio.run(main())
