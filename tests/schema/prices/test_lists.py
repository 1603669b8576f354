"""Lists of prices: litellm's map, the file form, what a newer list changes, the list that is shipped."""

import importlib.util
import json
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from tracestone.schema.errors import Invalid
from tracestone.schema.prices import given, litellm_map, make, providers, shipped, table_file
from tracestone.schema.prices.changes import changes
from tracestone.schema.prices.price import ALWAYS, BUCKETS, Price, Tier
from tracestone.schema.prices.rows import clickhouse_row, postgres_row, price_of, price_of_columns

# found without importing it, which would reach for the network
_SPEC = importlib.util.find_spec("litellm")
assert _SPEC is not None and _SPEC.origin is not None
MAP = Path(_SPEC.origin).with_name("model_prices_and_context_window_backup.json")
DAY = date(2026, 12, 1)


def _read(**models: dict[str, Any]) -> dict[tuple[str, str], Price]:
    return {(price.provider, price.model): price for price in litellm_map.read(json.dumps(models))}


def _entry(provider: str = "acme", **prices: Any) -> dict[str, Any]:
    return {"litellm_provider": provider, **prices}


def test_litellm_s_prices_are_per_token() -> None:
    found = _read(
        m=_entry(
            input_cost_per_token=2.5e-06,
            output_cost_per_token=1e-05,
            cache_read_input_token_cost=1.25e-06,
            cache_creation_input_token_cost=3.125e-06,
            output_cost_per_reasoning_token=2e-05,
            input_cost_per_audio_token=4e-05,
            output_cost_per_image=0.04,
            input_cost_per_token_batches=1e-9,
            input_cost_per_token_above_200k_tokens=5e-06,
            output_cost_per_token_above_200k_tokens=1.5e-05,
            output_cost_per_token_above_200k_tokens_priority=1.0,
            cache_read_input_token_cost_above_1hr=1.0,
        )
    )
    assert found["acme", "m"] == Price(
        "acme",
        "m",
        {
            "input": 2.5,
            "output": 10,
            "cache_read": 1.25,
            "cache_write": 3.125,
            "reasoning": 20,
            "input_audio": 40,
            "image": 0.04,
        },
        (Tier(200_000, {"input": 5.0, "output": 15.0}),),
    )


def test_litellm_s_ranges_are_tiers() -> None:
    ranges = [
        {"input_cost_per_token": 1e-6, "output_cost_per_token": 2e-6, "range": [0, 32000.0]},
        {"input_cost_per_token": 3e-6, "output_cost_per_token": 6e-6, "range": [32000.0, 128000.0]},
    ]
    found = _read(m=_entry(tiered_pricing=ranges))
    assert found["acme", "m"].prices == {"input": 1.0, "output": 2.0}
    assert found["acme", "m"].tiers == (Tier(32000, {"input": 3.0, "output": 6.0}),)


def test_xai_bills_the_higher_tier_from_the_threshold_on() -> None:
    prices = {"input_cost_per_token": 1e-6, "input_cost_per_token_above_128k_tokens": 2e-6}
    assert _read(**{"xai/grok": _entry("xai", **prices)})["x_ai", "grok"].tiers == (Tier(127_999, {"input": 2.0}),)


@pytest.mark.parametrize(
    ("name", "provider", "expected"),
    [
        ("gpt-x", "openai", ("openai", "gpt-x")),
        ("azure/eu/gpt-x", "azure", ("azure.ai.openai", "eu/gpt-x")),
        ("vertex_ai/claude@1", "vertex_ai-anthropic_models", ("gcp.vertex_ai", "claude@1")),
        ("gemini-x", "vertex_ai-language-models", ("gcp.vertex_ai", "gemini-x")),
        ("gemini/gemini-x", "gemini", ("gcp.gemini", "gemini-x")),
        ("us.anthropic.claude", "bedrock_converse", ("aws.bedrock", "us.anthropic.claude")),
        ("bedrock/us-west-2/anthropic.claude", "bedrock", ("aws.bedrock", "us-west-2/anthropic.claude")),
        ("fireworks_ai/accounts/fireworks/models/x", "fireworks_ai", ("fireworks_ai", "accounts/fireworks/models/x")),
        ("groq/llama", None, ("groq", "llama")),
    ],
)
def test_litellm_s_names(name: str, provider: str | None, expected: tuple[str, str]) -> None:
    assert set(_read(**{name: {"litellm_provider": provider, "input_cost_per_token": 1e-6}})) == {expected}


@pytest.mark.parametrize(
    "entry",
    [
        _entry(input_cost_per_second=0.01),
        _entry(input_cost_per_token=0.0, output_cost_per_token=0.0),
        _entry(input_cost_per_token=0.0, output_cost_per_token=0.0, input_cost_per_query=0.002),
        _entry("gemini", input_cost_per_token=0, output_cost_per_token=0, output_cost_per_second=0.5),
        _entry(output_cost_per_token=1e-6),
        {"input_cost_per_token": 1e-6},
    ],
)
def test_what_cannot_be_told_from_tokens_is_left_out(entry: dict[str, Any]) -> None:
    assert _read(m=entry) == {}


def test_what_is_free_is_kept_where_that_is_known() -> None:
    found = _read(**{"ollama/llama3": _entry("ollama", input_cost_per_token=0.0, output_cost_per_token=0.0)})
    assert found["ollama", "llama3"].prices == {"input": 0.0, "output": 0.0}


@pytest.mark.parametrize("text", ["", "[]", '{"m": 1}', "{"])
def test_what_is_no_map_is_refused(text: str) -> None:
    with pytest.raises(Invalid, match="file"):
        litellm_map.read(text)


def test_a_file_is_read_as_it_was_written() -> None:
    prices = [
        Price("acme", "a, b", {"input": 0.1, "output": 1e-3, "image": 0.04}),
        Price(
            "acme", "m", {"input": 1.0}, (Tier(1000, {"input": 2.5, "cache_read": 0.25}), Tier(2000, {"output": 3.0}))
        ),
        Price("acme", "m", {"input": 3.0}, effective_from=DAY),
        Price("", "any", {"input": 1234567.0 / 3}),
    ]
    assert sorted(table_file.read(table_file.write(prices, ["about"])), key=lambda price: price.key) == sorted(
        prices, key=lambda price: price.key
    )


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a,b\n1,2\n", "must be CSV with the columns provider, model"),
        ("provider,model,input\nacme,m\n", "line 2: row: has more or fewer cells"),
        ("provider,model,input\nacme,m,1,2\n", "line 2: row: has more or fewer cells"),
        ("provider,model,input\nacme,,1\n", "line 2: model: must be a text of 1 to 300 characters"),
        ("provider,model,input\nacme,m,-1\n", "line 2: prices.input: must be between 0"),
        ("provider,model,input\nacme,m,nan\n", "line 2: prices.input: must be a number"),
        ("provider,model,output\nacme,m,1\n", "line 2: prices: must hold one for input, or for each image"),
        ("provider,model,input,effective_from\nacme,m,1,soon\n", "line 2: effective_from: must be a day such as"),
        ("provider,model,input,tiers\nacme,m,1,9 input\n", "line 2: tiers: must be of the form"),
        ("provider,model,input,tiers\nacme,m,1,9 input=1; 9 input=2\n", "line 2: tiers: must each begin above another"),
        ('provider,model,input\nacme,"m,1\n', "line"),
    ],
)
def test_a_file_that_is_wrong_is_refused_with_its_line(text: str, reason: str) -> None:
    with pytest.raises(Invalid) as error:
        table_file.read(text)
    assert reason in str(error.value)


def test_only_what_changed_gets_a_new_day() -> None:
    known = [
        Price("acme", "same", {"input": 1.0}),
        Price("acme", "dearer", {"input": 1.0}),
        Price("acme", "gone", {"input": 1.0}),
    ]
    newer = [
        Price("acme", "same", {"input": 1.0}),
        Price("acme", "dearer", {"input": 2.0}),
        Price("acme", "new", {"input": 3.0}),
    ]
    found = changes(known, newer, DAY)
    assert {(price.model, price.prices["input"], price.effective_from) for price in found} == {
        ("dearer", 2.0, DAY),
        ("new", 3.0, ALWAYS),
    }
    assert changes([*known, *found], newer, DAY) == []


def test_a_wrong_price_is_replaced() -> None:
    known = [Price("acme", "m", {"input": 1.0}), Price("acme", "m", {"input": 2.0}, effective_from=date(2026, 6, 1))]
    (fixed,) = changes(known, [Price("acme", "m", {"input": 5.0})], DAY, fix=True)
    assert (fixed.effective_from, fixed.prices) == (date(2026, 6, 1), {"input": 5.0})


def test_a_price_that_tells_its_day_keeps_it() -> None:
    known = [Price("acme", "m", {"input": 1.0})]
    later = Price("acme", "m", {"input": 5.0}, effective_from=date(2027, 1, 1))
    assert changes(known, [later], DAY) == [later]
    assert changes([*known, later], [later], DAY) == []


def test_making_the_shipped_list_again_changes_nothing(tmp_path: Path) -> None:
    made = tmp_path / "shipped.csv"
    make.main([str(MAP), "--origin", "litellm", "-o", str(made), "--from", "2026-12-24"])
    known = {price.key: price for price in shipped.prices()}
    again = {price.key: price for price in table_file.read(made.read_text())}
    changed = [key for key in again if known.get(key) != again[key]]
    # another litellm may be installed than the one that the list was made from
    assert known.keys() <= again.keys()
    assert all(key[-1] == date(2026, 12, 24) or key not in known for key in changed)


def test_the_shipped_list_has_no_price_twice_and_tells_its_origin() -> None:
    rows = [line for line in shipped.text().splitlines() if not line.startswith("#")]
    assert len(shipped.prices()) == len(rows) - 1
    assert "MIT License" in shipped.text().split("provider,")[0]
    notice = (Path(__file__).parents[3] / "NOTICE").read_text(encoding="utf-8")
    assert "Copyright (c) 2023 Berri AI" in notice
    assert all("input" in price.prices or price.prices.get("image") for price in shipped.prices())


def test_every_provider_that_is_named_is_its_own_alias() -> None:
    names = {each.alias for each in providers.aliases()}
    assert len(names) == len(providers.aliases())
    assert {each.provider for each in providers.aliases()} <= names
    assert {each.sells_for for each in providers.aliases()} - {"", "*"} <= names


def test_a_price_is_read_back_from_both_stores_as_it_was() -> None:
    for price in shipped.prices():
        assert price_of(postgres_row(price)) == price
        columns = dict.fromkeys(BUCKETS)
        row = {**columns, **clickhouse_row(price, own=True)}
        row["tiers"] = [{**columns, **tier} for tier in row["tiers"]]
        read = price_of_columns(row)
        assert read.key == price.key
        assert read.prices == pytest.approx(price.prices)
        assert [tier.prices for tier in read.tiers] == [pytest.approx(tier.prices) for tier in price.tiers]


@pytest.mark.parametrize(
    ("entry", "field"),
    [
        ({"model": "m", "input": "1"}, "prices.input"),
        ({"model": "m", "input": True}, "prices.input"),
        ({"model": "m", "input": float("inf")}, "prices.input"),
        ({"model": "m", "inputs": 1}, "inputs"),
        ({"model": 1.5, "input": 1}, "model"),
        ({"model": " m", "input": 1}, "model"),
        ({"model": "a\nb", "input": 1}, "model"),
        ({"input": 1}, "model"),
        ({"model": "m", "input": 1, "from": "2026-13-01"}, "from"),
        ({"model": "m", "input": 1, "from": "2200-01-01"}, "from"),
        ({"model": "m", "input": 1, "tiers": 3}, "tiers"),
        ({"model": "m", "input": 1, "tiers": [{"above_tokens": 0, "input": 1}]}, "tiers[0].above_tokens"),
        ({"model": "m", "input": 1, "tiers": [{"above_tokens": 5}]}, "tiers[0]"),
        ({"model": "m", "input": 1, "tiers": [{"above_tokens": 5, "image": 1}]}, "tiers[0]"),
        ("m", ""),
    ],
)
def test_a_price_that_is_none_is_refused_with_its_field(entry: Any, field: str) -> None:
    with pytest.raises(Invalid) as error:
        given.read(entry)
    assert error.value.field == field


def test_a_price_as_people_give_it() -> None:
    price, experiment = given.read({"model": "azure/our-gpt", "input": 1, "from": date(2026, 8, 1), "experiment": 7})
    assert (price.provider, price.model, price.effective_from) == ("azure.ai.openai", "our-gpt", date(2026, 8, 1))
    assert (price.scope, experiment) == ("deployment", "7")
    assert given.read({"model": "meta-llama/llama", "input": 1})[0].model == "meta-llama/llama"
