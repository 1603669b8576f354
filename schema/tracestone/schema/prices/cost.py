"""The SQL that prices one span, for whoever computes span rows: the view that inserts, and what corrects.

How prices are found is in migrations/0020_model_prices.sql. It takes five steps, each of which names what it finds for
the ones after it: the space of names of a provider and the names of a model, shorter names, the series of prices that
they stand for, the prices of a day, and the price chosen from the request's model and the response's with the cost by
it. A name is worked out once; in one expression it would be planned again wherever it stands. Names of models are small
dictionaries (LowCardinality) while they are worked on, which is then done once for each, not for each span.

Nothing here runs SQL.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from string import Template


@dataclass(frozen=True)
class Usage:
    """SQL expressions of one span's usage. Counts are nullable, or plain where said.

    Counts that include others do so here as they do in the columns: `input_tokens` holds what was read from the cache
    and written to it, audio and images; `output_tokens` holds reasoning, audio and images. `day` is the Date in UTC
    whose prices count.
    """

    experiment_id: str = "experiment_id"
    provider: str = "provider"
    request_model: str = "request_model"
    response_model: str = "response_model"
    day: str = "toDate(start_time, 'UTC')"
    input_tokens: str = "input_tokens"
    output_tokens: str = "output_tokens"
    cache_read_tokens: str = "cache_read_tokens"
    cache_write_tokens: str = "cache_write_tokens"
    reasoning_tokens: str = "reasoning_tokens"
    # plain numbers
    input_audio_tokens: str = "0"
    input_image_tokens: str = "0"
    output_audio_tokens: str = "0"
    output_image_tokens: str = "0"
    images: str = "0"


STORED = Usage(
    input_audio_tokens="usage_details['input_audio']",
    input_image_tokens="usage_details['input_image']",
    output_audio_tokens="usage_details['output_audio']",
    output_image_tokens="usage_details['output_image']",
)
"""The usage of a stored span: the columns of span_rows."""


def steps(usage: Usage) -> list[dict[str, str]]:
    """The parts by name, step by step: each is an expression of the usage and of names of the steps before.

    The last are `chosen_price`, 0 where none is known, and `priced_input` and `priced_output` in USD, which name it.
    Their sum is NaN where nothing can be said.
    """
    values = dict(vars(usage))
    names: dict[str, str] = {"price_space": part("space", values)}
    shorter: dict[str, str] = {}
    series: dict[str, str] = {}
    prices: dict[str, str] = {}
    for model in ("request", "response"):
        given = {name: f"{model}_{name}" for name in ("name_1", "name_2")}
        names[given["name_1"]] = part("name_1", {"model": values[f"{model}_model"]})
        shorter[given["name_2"]] = part("name_2", given)
        tried = {**given, "name_3": part("name_3", given), "space": "price_space"}
        series[f"{model}_series"] = part("series", tried)
        prices[f"{model}_price"] = part("price", {**values, "series": f"{model}_series"})
    values["price_id"] = "chosen_price"
    last = {
        "chosen_price": part("chosen", {name: name for name in prices}),
        "priced_input": f"if(chosen_price = 0, nan, {part('input_cost', values)})",
        "priced_output": part("output_cost", values),
    }
    return [names, shorter, series, prices, last]


def around(usage: Usage) -> dict[str, str]:
    """What stands `before` and `after` a SELECT of usages for each to get the column `priced`.

    It is a Tuple(cost_input, cost_output, cost_total Nullable(Float64), cost_source String, price_id UInt64).
    cost_source is 'computed'; 'unknown' where no price is known, and the costs NULL; '' without usage.
    """
    parts = steps(usage)
    named = ", ".join(name for step in parts for name in step)
    columns = [", ".join(f"{text} AS {name}" for name, text in step.items()) for step in reversed(parts)]
    outermost = part("priced", {"named": named, "cost": part("cost", vars(usage))})
    return {
        "before": " ".join([outermost, *(part("step", {"columns": each}) for each in columns)]),
        "after": ")" * (len(parts) + 1),
    }


def part(name: str, values: Mapping[str, str]) -> str:
    """One part, of the SQL expressions that it is made of."""
    text = (files(__package__) / f"{name}.sql.tmpl").read_text(encoding="utf-8")
    lines = (line for line in text.splitlines() if not line.lstrip().startswith("--"))
    return Template("\n".join(lines)).substitute(values).strip()
