"""The SQL that prices one span, for whoever computes span rows: the view that inserts, and what corrects.

How prices are found is in migrations/0020_model_prices.sql. It takes six parts, each of which uses the one before: the
space of names of a provider, the three names of a model, the series of prices that they stand for, the price of a day,
the price chosen from the request's model and the response's, and the cost of input and of output by it. Whoever has
steps of its own takes the parts and names what stands between them, which ClickHouse plans much faster; others take the
whole in one expression. Names of models are small dictionaries (LowCardinality) while they are worked on, which is then
done once for each, not for each span.

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


def expression(usage: Usage) -> str:
    """A Tuple(cost_input, cost_output, cost_total Nullable(Float64), cost_source String, price_id UInt64).

    cost_source is 'computed'; 'unknown' where no price is known, and the costs NULL; '' without usage.
    """
    values = dict(vars(usage))
    space = part("space", values)
    for price, model in (("response_price", usage.response_model), ("request_price", usage.request_model)):
        names = {"name_1": part("name_1", {"model": model})}
        names["name_2"] = part("name_2", names)
        names["name_3"] = part("name_3", names)
        # what a lambda over one value names is planned once
        found = part("price", {**values, "series": "series"})
        values[price] = f"arrayMap(series -> {found}, [{part('series', {**names, 'space': space})}])[1]"
    costs = {name: part(name, {**values, "price_id": "price_id"}) for name in ("input_cost", "output_cost")}
    chosen = part("chosen", {"response_price": "response", "request_price": "request"})
    return part("cost", {**values, **costs, "chosen": chosen})


def part(name: str, values: Mapping[str, str]) -> str:
    """One part, of the SQL expressions that it is made of."""
    text = (files(__package__) / f"{name}.sql.tmpl").read_text(encoding="utf-8")
    lines = (line for line in text.splitlines() if not line.lstrip().startswith("--"))
    return Template("\n".join(lines)).substitute(values).strip()
