"""The models that scorers of the configuration ask: whether their provider's key is there. Nothing is called."""

from collections.abc import Iterator, Mapping
from typing import Any

from tracestone.collector.doctor.finding import Finding, ok, problem
from tracestone.schema.errors import MissingExtra
from tracestone.schema.extras import optional
from tracestone.schema.settings import Settings, prepare_litellm

_SUBJECT = "judges"


def keys(settings: Settings) -> Iterator[Finding]:
    """For each model that a scorer names, and that has no address of its own."""
    models = sorted({model for scorer in settings.scorers for model in _models(scorer)})
    if not models:
        return
    # It takes seconds to import, and reads the environment meanwhile.
    prepare_litellm()
    try:
        litellm = optional("litellm", "litellm", "judge")
    except MissingExtra as error:
        yield problem(_SUBJECT, f"Scorers ask models, and they cannot: {error}.", "Install tracestone[judge].")
        return
    for model in models:
        missing = litellm.validate_environment(model)["missing_keys"]
        if missing:
            says = f"The provider of {model} wants {' and '.join(missing)} in the environment."
            yield problem(_SUBJECT, says, "Set it where Tracestone runs; it is never stored.")
        else:
            yield ok(_SUBJECT, f"What the provider of {model} wants in the environment is there.")


def _models(document: Mapping[Any, Any]) -> Iterator[str]:
    """Also those of an ensemble's members."""
    parameters = document.get("parameters")
    if not isinstance(parameters, Mapping):
        return
    model = parameters.get("model")
    if isinstance(model, str) and "api_base" not in parameters:
        yield model
    for member in parameters.get("members") or ():
        if isinstance(member, Mapping):
            yield from _models(member)
