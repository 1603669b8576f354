"""Fixtures of the scoring tests."""

from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio

from support.openai_server import OpenAIServer, openai_server
from tracestone.scoring.llm import LiteLLM

KEY = "sk-local-test-0123456789"


@pytest.fixture
def provider_server(monkeypatch: pytest.MonkeyPatch) -> Iterator[OpenAIServer]:
    """The local model provider; it wants the key that the environment holds."""
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with openai_server(require_key=KEY) as server:
        yield server


@pytest_asyncio.fixture
async def litellm_provider() -> AsyncIterator[LiteLLM]:
    """The real client of providers, closed after the test."""
    provider = LiteLLM()
    yield provider
    await provider.close()
