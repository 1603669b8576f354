"""Setting budgets from what a client, a command or a file says, checks included."""

from collections.abc import Sequence
from typing import Any

from tracestone.schema.budgets import BudgetRequest, BudgetState
from tracestone.schema.errors import Invalid, NotFound
from tracestone.schema.scorers.parameters import checked
from tracestone.schema.stores.budgets import BudgetStore
from tracestone.schema.stores.experiments import ExperimentStore
from tracestone.schema.stores.scorers import ScorerStore


class BudgetSetup:
    """One way in for the API, the command line and the configuration file."""

    def __init__(self, store: BudgetStore, scorers: ScorerStore, experiments: ExperimentStore) -> None:
        self.store = store
        self._scorers = scorers
        self._experiments = experiments

    async def set(self, document: object) -> tuple[BudgetState, bool]:
        """Sets one budget, `{usd | tokens, per, scorer, experiment}`; whether it is new.

        Raises Invalid, StorageDown.
        """
        request = checked(BudgetRequest, document, "")
        if request.scorer is not None:
            try:
                await self._scorers.get(request.scorer)
            except NotFound as error:
                raise Invalid("scorer", f"there is no scorer {request.scorer[:100]}") from error
        budget, new = await self.store.set(request, await self._experiment_id(request.experiment))
        return await self.store.state(budget.budget_id), new

    async def apply(self, documents: Sequence[Any]) -> None:
        """Applies the setting `budgets`; safe to repeat. Nothing is removed. Raises Invalid, naming the item."""
        for number, document in enumerate(documents):
            try:
                await self.set(document)
            except Invalid as error:
                raise Invalid(f"budgets.{number}.{error.field}".rstrip("."), error.reason) from error

    async def _experiment_id(self, experiment: int | str | None) -> int | None:
        """A new name is created, as telemetry would; None means all."""
        if isinstance(experiment, str):
            return await self._experiments.resolve(experiment)
        if experiment is not None and not await self._experiments.exists(experiment):
            raise Invalid("experiment", f"there is no experiment {experiment}")
        return experiment
