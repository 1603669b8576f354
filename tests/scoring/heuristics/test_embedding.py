"""Similarity by embeddings, through the real litellm to a local server."""

from typing import Any

import pytest

from support.heuristics import said
from support.openai_server import Failure, OpenAIServer
from tracestone.schema.scorers.comparisons import EmbeddingSimilarity
from tracestone.schema.scorers.definition import define
from tracestone.scoring.llm import LiteLLM
from tracestone.scoring.scorers.embedding import EmbeddingScorer
from tracestone.scoring.scorers.protocol import AttemptFailed, Outcome, Subject

MODEL = "openai/text-embedding-3-small"


async def score(server: OpenAIServer, provider: LiteLLM, subject: Subject, **parameters: Any) -> Outcome:
    given = {"model": MODEL, "api_base": server.url, **parameters}
    definition = define("alike", "embedding_similarity", given)
    assert isinstance(definition.parameters, EmbeddingSimilarity)
    return await EmbeddingScorer(definition.parameters, provider).score(subject)


async def test_similarity_by_embeddings(provider_server: OpenAIServer, litellm_provider: LiteLLM) -> None:
    async def of(subject: Subject, **parameters: Any) -> Any:
        return (await score(provider_server, litellm_provider, subject, **parameters)).value

    # The local server counts letters, so the same letters are the same vector.
    assert await of(said("abc", expected_response="cab")) == pytest.approx(1.0)
    assert await of(said("abc", expected_response="xyz")) == pytest.approx(0.0)
    assert await of(said("abc", expected_response=["xyz", "bca"])) == pytest.approx(1.0)
    assert await of(said("abc"), expected="ab", minimum=0.9) is False
    assert await of(said("abc"), expected="ab", minimum=0.8) is True
    assert await of(said("abc", question="cba"), beside="input") == pytest.approx(1.0)
    (last,) = provider_server.received[-1:]
    assert last.body["input"] == ["abc", "cba"]


async def test_the_cost_of_an_embedding_is_told(provider_server: OpenAIServer, litellm_provider: LiteLLM) -> None:
    outcome = await score(provider_server, litellm_provider, said("a" * 4000, expected_response="a" * 4000))
    assert (outcome.source_type, outcome.source_id) == ("CODE", MODEL)
    assert (outcome.usage.calls, outcome.usage.input_tokens) == (1, 2000)
    assert outcome.usage.cost_usd == pytest.approx(2000 * 0.02e-6)


async def test_what_cannot_be_compared_is_not_paid_for(
    provider_server: OpenAIServer, litellm_provider: LiteLLM
) -> None:
    cases = [
        (said("abc"), {}, "NO_EXPECTATION"),
        (said("", expected_response="a"), {}, "NO_OUTPUT"),
        (said("abc", question=""), {"beside": "input"}, "NO_INPUT"),
        (said("a" * 200_000, expected_response="a"), {}, "TEXT_TOO_LONG"),
    ]
    for subject, parameters, code in cases:
        with pytest.raises(AttemptFailed) as failed:
            await score(provider_server, litellm_provider, subject, **parameters)
        assert (failed.value.code, failed.value.retryable) == (code, False)
    assert provider_server.received == []


async def test_a_failed_call_is_an_attempt_that_may_be_tried_again(
    provider_server: OpenAIServer, litellm_provider: LiteLLM
) -> None:
    provider_server.script = [Failure(429, "slow down", {"retry-after": "7"})]
    with pytest.raises(AttemptFailed) as failed:
        await score(provider_server, litellm_provider, said("abc", expected_response="a"))
    assert (failed.value.code, failed.value.retryable, failed.value.retry_after) == ("RATE_LIMITED", True, 7.0)
    assert failed.value.usage.calls == 1
