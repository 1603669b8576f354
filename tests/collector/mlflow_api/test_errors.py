"""Our errors in MLflow's terms."""

import json
import logging

import pytest
from starlette.requests import Request
from starlette.responses import Response

from tracestone.collector.mlflow_api import errors


async def test_unforeseen_error_is_logged_and_not_shown(caplog: pytest.LogCaptureFixture) -> None:
    async def failing(request: Request) -> Response:
        raise ZeroDivisionError("secret detail")

    with caplog.at_level(logging.ERROR):
        answer = await errors.answering(failing)(Request({"type": "http", "method": "GET"}))
    assert answer.status_code == 500
    assert json.loads(bytes(answer.body))["error_code"] == "INTERNAL_ERROR"
    assert b"secret" not in bytes(answer.body)
    assert "secret detail" in caplog.text
