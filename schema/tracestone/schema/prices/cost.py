"""The SQL expression that prices one span, for whoever computes span rows: the view that inserts, and what corrects.

Nothing here runs SQL.
"""

from dataclasses import dataclass
from importlib.resources import files
from string import Template


@dataclass(frozen=True)
class Usage:
    """SQL expressions of one span's usage. Counts are nullable, or plain where said.

    `input_tokens` holds what was read from the cache and written to it, audio and images; `output_tokens` holds
    reasoning, audio and images. `day` is the Date in UTC whose prices count.
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
    space = Template(_data("space.sql.tmpl")).substitute(provider=usage.provider).strip()
    for price, model in (("response_price", usage.response_model), ("request_price", usage.request_model)):
        names = dict(zip(("name_1", "name_2", "name_3"), model_names(model), strict=True))
        values[price] = Template(_data("found.sql.tmpl")).substitute(values, space=space, **names).strip()
    return Template(_data("cost.sql.tmpl")).substitute(values).strip()


def model_names(model: str) -> tuple[str, str, str]:
    """Expressions of the three names that a model is looked up by, best first."""
    first = f"lower(toLowCardinality({model}))"
    second = Template(_data("name_2.sql.tmpl")).substitute(name_1=first).strip()
    return first, second, Template(_data("name_3.sql.tmpl")).substitute(name_2=second).strip()


def _data(name: str) -> str:
    text = (files(__package__) / name).read_text(encoding="utf-8")
    return "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("--"))
