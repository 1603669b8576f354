"""What a scorer costs, in CPU microseconds a verdict, on an answer of 1,000 characters.

    PYTHONPATH=tests .venv/bin/python bench/scorers.py

Heuristics as plain calls, without loading the trace and without the thread a worker runs them on; an uploaded function
with both sides of its pipe, without the process's start.
"""

import asyncio
import resource
import time
from typing import Any

from support.traces import span, trace
from tracestone.schema.scorers.code import Code
from tracestone.schema.scorers.definition import define
from tracestone.scoring.code.sandbox import Sandbox
from tracestone.scoring.code.scorer import UploadedScorer
from tracestone.scoring.scorers.protocol import Subject
from tracestone.scoring.scorers.registry import HEURISTICS
from tracestone.scoring.scorers.subject import subject_of

TEXT = "You can return the shoes within thirty days of the purchase, if they were not worn. " * 12
REQUIRED: dict[str, dict[str, Any]] = {
    "regex_match": {"pattern": "sorry"},
    "response_length": {"maximum": 10},
    "json_schema": {"json_schema": {"type": "object"}},
    "latency": {"max_ms": 5},
}
REPEATS = 500


def subject() -> Subject:
    """A trace of eight spans with everything that a heuristic reads."""
    tools = [span(n, 1, span_type="tool", tool_name="t", tool_arguments=f'{{"a": {n}}}') for n in range(2, 8)]
    retriever = span(9, 1, span_type="retriever", retrieval_documents='[{"content": "a"}]')
    root = span(1, input="How do I return shoes?", output=TEXT)
    expectations = {"expected_response": TEXT[:700], "expected_facts": ["thirty days"]}
    return subject_of(trace(root, *tools, retriever, total_tokens=5, cost_total=0.1), expectations)


def spent() -> float:
    """CPU seconds of this process and of those that ended."""
    return time.process_time() + sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2])


async def uploaded(of: Subject) -> float:
    """An uploaded function; its start is left out by starting another that does nothing else."""
    used = []
    for calls in (1, REPEATS + 1):
        sandbox = Sandbox()
        source = "def f(outputs): return len(outputs) > 3"
        scorer = UploadedScorer("bench", Code(source=source, function="f"), sandbox)
        before = spent()
        for _ in range(calls):
            await scorer.score(of)
        await sandbox.close()
        used.append(spent() - before)
    return (used[1] - used[0]) / REPEATS


def main() -> None:
    """Prints one line a kind."""
    of = subject()
    for kind, function in HEURISTICS.items():
        parameters = define("bench", kind, REQUIRED.get(kind, {})).parameters
        function(parameters, of)
        before = spent()
        for _ in range(REPEATS):
            function(parameters, of)
        print(f"{kind:20} {(spent() - before) / REPEATS * 1e6:8.1f}")
    print(f"{'code, uploaded':20} {asyncio.run(uploaded(of)) * 1e6:8.1f}")


if __name__ == "__main__":
    main()
