"""A key that is bound to experiments: which of them a request means, and what of it is for others and left out."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from tracestone.collector.receiver.admission import Admitted
from tracestone.collector.signals.signal import Signal
from tracestone.schema.errors import Forbidden
from tracestone.schema.experiments import DEFAULT_EXPERIMENT_ID
from tracestone.schema.stores.experiments import ExperimentStore


async def chosen(
    experiments: ExperimentStore, resources: Sequence[Mapping[str, str]], bound: Collection[int]
) -> list[int | None]:
    """The experiment of each resource, None where it is none of `bound`. A name makes no experiment here.

    A resource that names none belongs to the key's experiment if that is the only one, else to Default.
    Raises StorageDown.
    """
    unnamed = next(iter(bound)) if len(bound) == 1 else DEFAULT_EXPERIMENT_ID
    found: list[int | None] = []
    for resource in resources:
        name = resource.get("tracestone.experiment") or resource.get("service.name")
        number = unnamed if name is None else await experiments.find(name)
        found.append(number if number in bound else None)
    return found


def without_foreign(signal: Signal, admitted: Admitted, ids: Sequence[int | None], key_id: str) -> Admitted:
    """What is left of a request without the resources that have no id here; as it was when all have one.

    Raises Forbidden when nothing is left.
    """
    foreign = [number for number, experiment in enumerate(ids) if experiment is None]
    if not foreign:
        return admitted
    naming = admitted.resources[foreign[0]]
    name = naming.get("tracestone.experiment") or naming.get("service.name")
    what = "Default" if name is None else repr(name[:100])
    reason = f"the API key {key_id} is not for the experiment {what}"
    if len(foreign) == len(ids):
        raise Forbidden(f"{reason[0].upper()}{reason[1:]}.")
    message = signal.message.FromString(admitted.data)
    resources = signal.resources(message)
    lost = 0
    for number in reversed(foreign):
        for scope in signal.scopes(resources[number]):
            lost += sum(map(signal.weight, signal.items(scope)))
        del resources[number]
    return replace(
        admitted,
        data=message.SerializeToString(),
        items=admitted.items - lost,
        rejected=admitted.rejected + lost,
        resources=tuple(each for number, each in enumerate(admitted.resources) if number not in foreign),
        reason=admitted.reason or reason,
    )
