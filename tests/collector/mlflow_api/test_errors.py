"""Our errors in MLflow's terms."""

import json
import logging

import pytest
from starlette.requests import Request
from starlette.responses import Response

from tracestone.collector.mlflow_api import errors
from tracestone.schema.errors import TracestoneError


def subclasses(kind: type[TracestoneError]) -> list[type[TracestoneError]]:
    return [kind] + [deeper for child in kind.__subclasses__() for deeper in subclasses(child)]


@pytest.mark.parametrize("kind", subclasses(TracestoneError))
def test_every_error_has_an_answer(kind: type[TracestoneError]) -> None:
    error = kind.__new__(kind)
    Exception.__init__(error, "the message")
    error.__dict__["retry_after"] = 0.2
    answer = errors.response(error)
    body = json.loads(bytes(answer.body))
    assert 400 <= answer.status_code < 600
    assert body["message"] == "the message"
    assert body["error_code"].isupper()


async def test_unforeseen_error_is_logged_and_not_shown(caplog: pytest.LogCaptureFixture) -> None:
    async def failing(request: Request) -> Response:
        raise ZeroDivisionError("secret detail")

    with caplog.at_level(logging.ERROR):
        answer = await errors.answering(failing)(Request({"type": "http", "method": "GET"}))
    assert answer.status_code == 500
    assert json.loads(bytes(answer.body))["error_code"] == "INTERNAL_ERROR"
    assert b"secret" not in bytes(answer.body)
    assert "secret detail" in caplog.text
