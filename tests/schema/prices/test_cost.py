"""What a span's usage costs: which price is found for a model, and what is made of it."""

from collections.abc import AsyncIterator
from datetime import date
from typing import Any

import pytest
import pytest_asyncio

from support.engines import Stores
from support.pricing import priced
from tracestone.schema.engines.columnar import Columnar
from tracestone.schema.prices import shipped
from tracestone.schema.prices.price import ALWAYS, Price, Tier
from tracestone.schema.stores.outbox import Outbox
from tracestone.schema.stores.prices import PriceStore


@pytest_asyncio.fixture
async def stores(kept_stores: Stores) -> AsyncIterator[Stores]:
    """Stores in which nobody has set a price."""
    yield kept_stores
    pool, _ = kept_stores
    for price in await PriceStore(pool).all():
        await PriceStore(pool).remove(
            price.scope, price.experiment_id, price.provider, price.model, price.effective_from
        )
    await _set(kept_stores)


@pytest.fixture
def shipped_only(stores: Stores) -> Columnar:
    """Prices of the package and no others."""
    return stores[1]


async def _set(stores: Stores, *prices: Price) -> None:
    pool, columnar = stores
    await PriceStore(pool).set(prices)
    while await Outbox(pool, columnar).deliver(1000):
        pass


def _shipped(provider: str, model: str) -> Price:
    (price,) = (each for each in shipped.prices() if (each.provider, each.model) == (provider, model))
    return price


async def _of(columnar: Columnar, **call: Any) -> dict[str, Any]:
    (cost,) = await priced(columnar, [call])
    return cost


async def test_every_shipped_price_is_found_by_its_provider_and_model(shipped_only: Columnar) -> None:
    prices = [price for price in shipped.prices() if "input" in price.prices]
    costs = await priced(
        shipped_only,
        [{"provider": price.provider, "response_model": price.model, "input_tokens": 1000} for price in prices],
    )
    missed = [
        (price.provider, price.model, cost["cost_input"])
        for price, cost in zip(prices, costs, strict=True)
        if cost["cost_source"] != "computed" or cost["cost_input"] != pytest.approx(price.prices["input"] / 1000)
    ]
    assert missed == []
    assert len(prices) > 3000


# Provider and model as instrumentations report them, and the shipped row that tells the price.
_NAMES = [
    ("openai", "gpt-4o", "openai", "gpt-4o"),
    ("openai", "gpt-4o-2024-08-06", "openai", "gpt-4o-2024-08-06"),
    ("openai", "GPT-4o", "openai", "gpt-4o"),
    ("openai", "gpt-4o-2031-01-31", "openai", "gpt-4o"),
    ("openai", "gpt-4o-latest", "openai", "gpt-4o"),
    ("openai", "openai/gpt-4o-mini", "openai", "gpt-4o-mini"),
    ("", "gpt-4o", "openai", "gpt-4o"),
    ("some-framework", "gpt-4o-mini", "openai", "gpt-4o-mini"),
    ("openai", "ft:gpt-4o-mini-2024-07-18:acme::B1c2d3", "openai", "ft:gpt-4o-mini-2024-07-18"),
    ("openai", "text-embedding-3-small", "openai", "text-embedding-3-small"),
    ("azure.ai.openai", "gpt-4o", "azure.ai.openai", "gpt-4o"),
    ("azure", "gpt-4o-2024-11-20", "azure.ai.openai", "gpt-4o-2024-11-20"),
    ("azure.ai.openai", "gpt-35-turbo", "azure.ai.openai", "gpt-35-turbo"),
    ("openai", "azure/gpt-4o", "azure.ai.openai", "gpt-4o"),
    ("anthropic", "claude-sonnet-4-5-20250929", "anthropic", "claude-sonnet-4-5-20250929"),
    ("anthropic", "claude-sonnet-4-5-20311231", "anthropic", "claude-sonnet-4-5"),
    ("openai", "anthropic/claude-sonnet-4-5", "anthropic", "claude-sonnet-4-5"),
    ("gcp.vertex_ai", "claude-sonnet-4-5@20250929", "gcp.vertex_ai", "claude-sonnet-4-5@20250929"),
    ("gcp.vertex_ai", "claude-sonnet-4-5@default", "gcp.vertex_ai", "claude-sonnet-4-5"),
    (
        "aws.bedrock",
        "anthropic.claude-3-5-sonnet-20241022-v2:0",
        "aws.bedrock",
        "anthropic.claude-3-5-sonnet-20241022-v2:0",
    ),
    (
        "aws.bedrock",
        "us.anthropic.claude-3-5-sonnet-20241022-v2:0",
        "aws.bedrock",
        "us.anthropic.claude-3-5-sonnet-20241022-v2:0",
    ),
    (
        "aws.bedrock",
        "arn:aws:bedrock:us-east-1:123456789012:inference-profile/us.anthropic.claude-3-5-sonnet-20241022-v2:0",
        "aws.bedrock",
        "anthropic.claude-3-5-sonnet-20241022-v2:0",
    ),
    ("gcp.gemini", "models/gemini-2.5-pro", "gcp.gemini", "gemini-2.5-pro"),
    ("gcp.gemini", "gemini-2.5-pro-preview-05-06", "gcp.gemini", "gemini-2.5-pro"),
    ("gcp.vertex_ai", "publishers/google/models/gemini-2.5-pro", "gcp.vertex_ai", "gemini-2.5-pro"),
    ("gcp.gen_ai", "gemini-2.5-flash", "gcp.gemini", "gemini-2.5-flash"),
    ("mistral_ai", "mistral-large-latest", "mistral_ai", "mistral-large-latest"),
    ("deepseek", "deepseek-chat", "deepseek", "deepseek-chat"),
    ("x_ai", "grok-4.3", "x_ai", "grok-4.3"),
    ("ollama", "llama3:8b", "ollama", "llama3:8b"),
]


async def test_names_as_instrumentations_report_them(shipped_only: Columnar) -> None:
    costs = await priced(
        shipped_only, [{"provider": row[0], "response_model": row[1], "input_tokens": 1000} for row in _NAMES]
    )
    for (provider, model, of_provider, of_model), cost in zip(_NAMES, costs, strict=True):
        expected = _shipped(of_provider, of_model).prices["input"] / 1000
        assert cost["cost_input"] == pytest.approx(expected), (provider, model, cost["cost_source"])


@pytest.mark.parametrize(
    ("provider", "model"),
    [
        ("openai", "my-own-model"),
        ("openai", ""),
        # whoever sells a model that others make has prices of his own
        ("groq", "gpt-4o"),
        ("openai", "llama-3.3-70b-instruct"),
        # a variant that costs something else is not its model
        ("openai", "deepseek/deepseek-r1:free"),
    ],
)
async def test_a_model_without_a_price_is_unknown_and_not_free(
    shipped_only: Columnar, provider: str, model: str
) -> None:
    cost = await _of(shipped_only, provider=provider, request_model=model, input_tokens=10, output_tokens=5)
    assert cost == {
        "cost_input": None,
        "cost_output": None,
        "cost_total": None,
        "cost_source": "unknown",
        "price_id": 0,
    }


async def test_a_free_model_costs_nothing(shipped_only: Columnar) -> None:
    cost = await _of(shipped_only, provider="ollama", request_model="llama3", input_tokens=10, output_tokens=5)
    assert (cost["cost_total"], cost["cost_source"]) == (0.0, "computed")
    assert cost["price_id"] != 0


async def test_without_usage_there_is_no_cost(shipped_only: Columnar) -> None:
    cost = await _of(shipped_only, provider="openai", request_model="gpt-4o", input_tokens=None, output_tokens=None)
    assert (cost["cost_total"], cost["cost_source"]) == (None, "")


async def test_the_response_s_model_goes_before_the_request_s(shipped_only: Columnar) -> None:
    asked = {"provider": "openai", "request_model": "gpt-4o", "input_tokens": 1_000_000}
    both = await _of(shipped_only, **asked, response_model="gpt-4o-2024-05-13")
    assert both["cost_total"] == pytest.approx(_shipped("openai", "gpt-4o-2024-05-13").prices["input"])
    unknown = await _of(shipped_only, **asked, response_model="served-by-our-gateway")
    assert unknown["cost_total"] == pytest.approx(_shipped("openai", "gpt-4o").prices["input"])


async def test_every_kind_of_token_has_its_price(stores: Stores) -> None:
    prices = {
        "input": 1.0, "output": 2.0, "cache_read": 0.1, "cache_write": 1.25, "reasoning": 3.0,
        "input_audio": 10.0, "output_audio": 20.0, "input_image": 5.0, "output_image": 40.0, "image": 0.5,
    }  # fmt: skip
    await _set(stores, Price("acme", "everything", prices, scope="deployment"))
    cost = await _of(
        stores[1], provider="acme", request_model="everything",
        input_tokens=100_000, cache_read_tokens=20_000, cache_write_tokens=10_000,
        input_audio_tokens=3_000, input_image_tokens=2_000,
        output_tokens=50_000, reasoning_tokens=30_000, output_audio_tokens=4_000, output_image_tokens=1_000, images=2,
    )  # fmt: skip
    expected_input = 65_000 * 1.0 + 20_000 * 0.1 + 10_000 * 1.25 + 3_000 * 10 + 2_000 * 5
    expected_output = 15_000 * 2.0 + 30_000 * 3 + 4_000 * 20 + 1_000 * 40 + 2 * 0.5 * 1e6
    assert cost["cost_input"] == pytest.approx(expected_input / 1e6)
    assert cost["cost_output"] == pytest.approx(expected_output / 1e6)
    assert cost["cost_total"] == pytest.approx((expected_input + expected_output) / 1e6)


async def test_what_has_no_price_of_its_own_costs_what_text_does(stores: Stores) -> None:
    await _set(stores, Price("acme", "plain", {"input": 1.0, "output": 4.0}, scope="deployment"))
    cost = await _of(
        stores[1], provider="acme", request_model="plain",
        input_tokens=1000, cache_read_tokens=300, cache_write_tokens=200, input_audio_tokens=100,
        output_tokens=1000, reasoning_tokens=900, output_audio_tokens=50,
    )  # fmt: skip
    assert (cost["cost_input"], cost["cost_output"]) == (pytest.approx(1000 * 1e-6), pytest.approx(1000 * 4e-6))


async def test_a_price_of_nothing_is_a_price(stores: Stores) -> None:
    await _set(stores, Price("acme", "m", {"input": 1.0, "output": 4.0, "cache_write": 0.0}, scope="deployment"))
    cost = await _of(stores[1], provider="acme", request_model="m", input_tokens=1000, cache_write_tokens=1000)
    assert (cost["cost_total"], cost["cost_source"]) == (0.0, "computed")


async def test_parts_that_are_larger_than_the_whole_count_as_they_are(stores: Stores) -> None:
    await _set(stores, Price("acme", "m", {"input": 1.0, "output": 4.0, "cache_read": 0.5}, scope="deployment"))
    cost = await _of(stores[1], provider="acme", request_model="m", input_tokens=10, cache_read_tokens=100)
    assert cost["cost_input"] == pytest.approx(100 * 0.5e-6)


async def test_without_a_price_of_output_only_input_can_be_priced(stores: Stores) -> None:
    await _set(stores, Price("acme", "embeddings", {"input": 1.0}, scope="deployment"))
    embedded = await _of(stores[1], provider="acme", request_model="embeddings", input_tokens=1000, output_tokens=0)
    assert (embedded["cost_total"], embedded["cost_source"]) == (pytest.approx(1e-3), "computed")
    spoke = await _of(stores[1], provider="acme", request_model="embeddings", input_tokens=1000, output_tokens=1)
    assert (spoke["cost_total"], spoke["cost_source"]) == (None, "unknown")


async def test_where_images_are_paid_for_tokens_are_free(stores: Stores) -> None:
    await _set(stores, Price("acme", "painter", {"image": 0.04}, scope="deployment"))
    cost = await _of(stores[1], provider="acme", request_model="painter", input_tokens=50, output_tokens=0, images=3)
    assert (cost["cost_total"], cost["cost_source"]) == (pytest.approx(0.12), "computed")
    cost = await _of(
        stores[1], provider="acme", request_model="painter", input_tokens=None, output_tokens=None, images=1
    )
    assert cost["cost_total"] == pytest.approx(0.04)


@pytest.mark.parametrize(
    ("tokens", "expected"),
    [
        (100_000, 1.0 * 100_000),
        (100_001, 2.0 * 100_001),
        (200_000, 2.0 * 200_000),
        (200_001, 3.0 * 200_001),
        (5_000_000_000, 3.0 * 5_000_000_000),
    ],
)
async def test_above_so_many_tokens_the_whole_request_costs_more(stores: Stores, tokens: int, expected: float) -> None:
    tiers = (
        Tier(200_000, {"input": 3.0, "output": 30.0}),
        Tier(100_000, {"input": 2.0, "output": 20.0, "cache_read": 0.2}),
    )
    await _set(
        stores, Price("acme", "long", {"input": 1.0, "output": 10.0, "cache_read": 0.1}, tiers, scope="deployment")
    )
    cost = await _of(stores[1], provider="acme", request_model="long", input_tokens=tokens)
    assert cost["cost_input"] == pytest.approx(expected / 1e6)


async def test_a_tier_changes_output_and_cache_too(stores: Stores) -> None:
    tiers = (Tier(1000, {"input": 2.0, "output": 20.0}),)
    await _set(
        stores, Price("acme", "long", {"input": 1.0, "output": 10.0, "cache_read": 0.1}, tiers, scope="deployment")
    )
    cost = await _of(
        stores[1], provider="acme", request_model="long",
        input_tokens=2000, cache_read_tokens=500, cache_write_tokens=100, output_tokens=10, reasoning_tokens=4,
    )  # fmt: skip
    # what the tier does not name keeps its price; what has none costs what input does in the tier
    assert cost["cost_input"] == pytest.approx((1400 * 2.0 + 500 * 0.1 + 100 * 2.0) / 1e6)
    assert cost["cost_output"] == pytest.approx(10 * 20.0 / 1e6)


async def test_a_price_holds_from_its_day_on(stores: Stores) -> None:
    await _set(
        stores,
        *(
            Price("acme", "m", {"input": float(price), "output": 0.0}, effective_from=day, scope="deployment")
            for price, day in ((1, ALWAYS), (3, date(2026, 6, 1)), (2, date(2026, 3, 1)), (9, date(2030, 1, 1)))
        ),
    )
    days = {
        "2025-01-01": 1,
        "2026-02-28": 1,
        "2026-03-01": 2,
        "2026-05-31": 2,
        "2026-06-01": 3,
        "2026-12-31": 3,
        "2031-01-01": 9,
    }
    calls = [{"provider": "acme", "request_model": "m", "input_tokens": 1_000_000, "day": day} for day in days]
    assert [cost["cost_total"] for cost in await priced(stores[1], calls)] == list(map(pytest.approx, days.values()))


async def test_an_experiment_s_price_goes_before_a_deployment_s_before_the_shipped(stores: Stores) -> None:
    listed = _shipped("openai", "gpt-4o").prices["input"]
    dated = _shipped("openai", "gpt-4o-2024-05-13").prices["input"]

    async def costs(model: str = "gpt-4o") -> list[float]:
        calls = [
            {"experiment_id": n, "provider": "openai", "request_model": model, "input_tokens": 1_000_000}
            for n in (0, 7, 8)
        ]
        return [cost["cost_total"] for cost in await priced(stores[1], calls)]

    assert await costs() == [listed] * 3
    await _set(stores, Price("openai", "gpt-4o", {"input": 2.0, "output": 1.0}, scope="deployment"))
    assert await costs() == [2.0] * 3
    # It is for the versions of the model too, but an override of a version is nearer.
    assert await costs("gpt-4o-2024-05-13") == [2.0] * 3
    assert dated not in (2.0, 1.0)
    await _set(stores, Price("openai", "gpt-4o", {"input": 1.0, "output": 1.0}, scope="experiment", experiment_id=7))
    assert await costs() == [2.0, 1.0, 2.0]
    assert await costs("gpt-4o-2024-05-13") == [2.0, 1.0, 2.0]
    await _set(stores, Price("openai", "gpt-4o-2024-05-13", {"input": 5.5, "output": 1.0}, scope="deployment"))
    assert await costs("gpt-4o-2024-05-13") == [5.5, 1.0, 5.5]
    assert await costs() == [2.0, 1.0, 2.0]


async def test_an_experiment_s_price_that_begins_later_leaves_the_days_before_alone(stores: Stores) -> None:
    await _set(
        stores,
        Price("openai", "gpt-4o", {"input": 1.0, "output": 1.0}, (), date(2026, 6, 1), "experiment", 7),
    )
    calls = [
        {"experiment_id": 7, "provider": "openai", "request_model": "gpt-4o", "input_tokens": 1_000_000, "day": day}
        for day in ("2026-05-31", "2026-06-01")
    ]
    listed = _shipped("openai", "gpt-4o").prices["input"]
    assert [cost["cost_total"] for cost in await priced(stores[1], calls)] == [pytest.approx(listed), 1.0]


async def test_a_price_of_any_provider(stores: Stores) -> None:
    await _set(
        stores,
        Price("", "our-model", {"input": 7.0, "output": 1.0}, scope="deployment"),
        Price("", "gpt-4o", {"input": 3.0, "output": 1.0}, scope="deployment"),
        Price("groq", "our-model", {"input": 8.0, "output": 1.0}, scope="deployment"),
    )
    for provider, model, expected in (
        ("", "our-model", 7.0), ("openai", "our-model", 7.0), ("aws.bedrock", "our-model-latest", 7.0),
        ("never-heard-of", "Our-Model", 7.0), ("groq", "our-model", 8.0),
        ("openai", "gpt-4o", 3.0), ("azure.ai.openai", "gpt-4o", 3.0),
    ):  # fmt: skip
        cost = await _of(stores[1], provider=provider, request_model=model, input_tokens=1_000_000)
        assert cost["cost_total"] == expected, (provider, model)


async def test_a_price_of_the_request_s_name_goes_before_the_list_price_of_the_response_s(stores: Stores) -> None:
    """Azure: the request names a deployment, the response its model."""
    await _set(stores, Price("azure.ai.openai", "our-gpt", {"input": 1.5, "output": 1.0}, scope="deployment"))
    cost = await _of(
        stores[1], provider="azure.ai.openai", request_model="our-gpt", response_model="gpt-4o-2024-08-06",
        input_tokens=1_000_000,
    )  # fmt: skip
    assert cost["cost_total"] == 1.5


async def test_what_is_taken_back_holds_no_longer(stores: Stores) -> None:
    pool, columnar = stores
    listed = _shipped("openai", "gpt-4o").prices["input"]
    asked = {"provider": "openai", "request_model": "gpt-4o", "input_tokens": 1_000_000}
    for _ in range(2):
        await _set(stores, Price("openai", "gpt-4o", {"input": 1.0, "output": 1.0}, scope="deployment"))
        assert (await _of(columnar, **asked))["cost_total"] == 1.0
        await PriceStore(pool).remove("deployment", 0, "openai", "gpt-4o", ALWAYS)
        await _set(stores)
        assert (await _of(columnar, **asked))["cost_total"] == pytest.approx(listed)
