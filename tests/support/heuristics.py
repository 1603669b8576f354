"""Heuristics on traces built in memory."""

import json
from collections.abc import Mapping
from typing import Any

import pytest

from support.traces import span, trace
from tracestone.schema.scorers.definition import define
from tracestone.schema.traces import Trace
from tracestone.scoring.scorers.protocol import AttemptFailed, Finding, Subject
from tracestone.scoring.scorers.registry import HEURISTICS
from tracestone.scoring.scorers.subject import subject_of, subject_of_session

QUESTION = "How do I return shoes?"


def find(kind: str, parameters: dict[str, Any], of: Trace | Subject) -> Finding:
    """What a heuristic says."""
    subject = of if isinstance(of, Subject) else subject_of(of)
    return HEURISTICS[kind](define("x", kind, parameters).parameters, subject)


def failure(kind: str, parameters: dict[str, Any], of: Trace | Subject) -> str:
    """The code of the error that a heuristic ends in; it is one that another try does not change."""
    with pytest.raises(AttemptFailed) as failed:
        find(kind, parameters, of)
    assert failed.value.retryable is False
    assert failed.value.message
    return failed.value.code


def said(output: str, *, question: str = QUESTION, **expectations: Any) -> Subject:
    """A trace in which an answer was given, and what people expected of it."""
    return subject_of(trace(span(1, input=question, output=output)), expectations)


def talk(*outputs: str, expectations: Mapping[str, Any] | None = None) -> Subject:
    """A session in which these answers were given."""
    traces = [trace(span(1, input=QUESTION, output=output)) for output in outputs]
    return subject_of_session("s-1", traces, expectations=expectations)


def as_json(value: Any) -> str:
    """A JSON document."""
    return json.dumps(value, ensure_ascii=False)
