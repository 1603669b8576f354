"""Setting, importing and finding prices, for the command line, the API and the start."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import date
from typing import Any

from tracestone.schema.errors import Invalid
from tracestone.schema.prices import given, litellm_map, shipped, table_file
from tracestone.schema.prices.changes import changes
from tracestone.schema.prices.price import Price, Scope
from tracestone.schema.stores.experiments import ExperimentStore
from tracestone.schema.stores.prices import PriceStore

PRICES_FILE = "prices_file"
"""The source of what the setting of that name brought."""


class Pricing:
    """What there is to do with prices."""

    def __init__(self, store: PriceStore, experiments: ExperimentStore) -> None:
        self._store = store
        self._experiments = experiments

    async def read(self, entries: Sequence[Any], source: str) -> list[Price]:
        """Prices as people give them; see prices/given.py. Raises Invalid that names the entry, StorageDown."""
        found = []
        for number, entry in enumerate(entries):
            try:
                price, experiment = given.read(entry)
                scope, experiment_id = await self.scope(experiment)
            except Invalid as error:
                raise Invalid(f"prices[{number}]" + (f".{error.field}" if error.field else ""), error.reason) from None
            found.append(replace(price, scope=scope, experiment_id=experiment_id, source=source))
        return found

    async def set(self, entries: Sequence[Any], source: str) -> list[Price]:
        """Sets prices, each for the deployment or an experiment; returns them. Raises Invalid, StorageDown."""
        prices = await self.read(entries, source)
        await self._store.set(prices)
        return prices

    async def follow_file(self, entries: Sequence[Any]) -> int:
        """Makes these the prices that came from the prices file; returns how many changed. Raises as `set` does."""
        return await self._store.replace(PRICES_FILE, await self.read(entries, PRICES_FILE))

    async def remove(self, entry: Mapping[str, Any], scope: Scope | None = None) -> None:
        """Takes back the price that these tell by model, provider, from and experiment. Raises NotFound, Invalid."""
        price, experiment = given.read({**entry, "input": 0})
        found, experiment_id = await self.scope(experiment)
        await self._store.remove(scope or found, experiment_id, price.provider, price.model, price.effective_from)

    async def import_file(
        self, text: str, source: str, *, day: date, scope: Scope = "shipped", experiment_id: int = 0, fix: bool = False
    ) -> list[Price]:
        """Brings the prices of a scope up to a file: litellm's map, or CSV as prices/table_file.py has it.

        Returns what changed; see prices/changes.py for what becomes of it. Raises Invalid, StorageDown.
        """
        newer = litellm_map.read(text) if text.lstrip().startswith("{") else table_file.read(text)
        place = {"scope": scope, "experiment_id": experiment_id, "source": source}
        known = [price for price in await self.known() if (price.scope, price.experiment_id) == (scope, experiment_id)]
        changed = changes(known, [replace(price, **place) for price in newer], day, fix=fix)  # type: ignore[arg-type]
        await self._store.set(changed)
        return changed

    async def known(self) -> list[Price]:
        """All prices: those of the package, then those that people set or imported, which go before a shipped one of
        the same day. Raises StorageDown.
        """
        known = {price.key: price for price in shipped.prices()}
        known.update({price.key: price for price in await self._store.all()})
        return list(known.values())

    async def scope(self, experiment: str) -> tuple[Scope, int]:
        """The scope that an experiment's id or name tells, "" for the deployment. Raises Invalid, StorageDown."""
        if not experiment:
            return "deployment", 0
        if experiment.isascii() and experiment.isdigit() and len(experiment) <= 10:
            if await self._experiments.exists(int(experiment)):
                return "experiment", int(experiment)
        elif (found := await self._experiments.by_name(experiment)) is not None:
            return "experiment", found.experiment_id
        raise Invalid("experiment", f"there is no experiment {experiment[:100]}")


def matching(prices: Iterable[Price], model: str = "", provider: str = "", scope: str = "") -> list[Price]:
    """Prices of a model that has this in its name, of one provider, of one scope; in order of their keys."""
    return sorted(
        (
            price
            for price in prices
            if model.lower() in price.model.lower() and provider in ("", price.provider) and scope in ("", price.scope)
        ),
        key=lambda price: (price.provider, price.model, price.key),
    )


def in_force(prices: Iterable[Price], day: date) -> list[Price]:
    """Of each scope, provider and model the price of a day."""
    found: dict[tuple[object, ...], Price] = {}
    for price in sorted(prices, key=lambda price: price.effective_from):
        if price.effective_from <= day:
            found[price.key[:-1]] = price
    return list(found.values())
