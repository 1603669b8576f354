"""Setting webhooks from what a client, a command or a file says, checks included."""

import secrets
from collections.abc import Sequence
from typing import Any

from tracestone.schema.errors import Invalid
from tracestone.schema.scorers.parameters import checked
from tracestone.schema.stores.experiments import ExperimentStore
from tracestone.schema.stores.webhooks import WebhookStore
from tracestone.schema.webhooks import TEST, WebhookRequest, WebhookState, is_plain_and_far


class WebhookSetup:
    """One way in for the API, the command line and the configuration file."""

    def __init__(self, store: WebhookStore, experiments: ExperimentStore, *, private: bool) -> None:
        """`private` allows http, and addresses of private networks."""
        self.store = store
        self._experiments = experiments
        self._private = private

    async def set(self, document: object) -> tuple[WebhookState, str]:
        """Sets one webhook; its secret when it is new, else "". Raises Invalid, StorageDown."""
        request = checked(WebhookRequest, document, "")
        if is_plain_and_far(request.url) and not self._private:
            raise Invalid("url", "must be https, or on this machine; the setting webhooks_private allows others")
        secret = await self.store.set(request, await self._experiment_id(request.experiment))
        return await self.store.state(request.name), secret

    async def apply(self, documents: Sequence[Any]) -> list[str]:
        """Applies the setting `webhooks`; safe to repeat. Nothing is removed. The names of new ones.

        Raises Invalid, naming the item.
        """
        new = []
        for number, document in enumerate(documents):
            try:
                state, secret = await self.set(document)
            except Invalid as error:
                raise Invalid(f"webhooks.{number}.{error.field}".rstrip("."), error.reason) from error
            if secret:
                new.append(state.name)
        return new

    async def test(self, name: str) -> int:
        """Sends a webhook something; the number of the delivery. Raises NotFound, StorageDown."""
        data = {"webhook": name}
        return await self.store.tell(name, f"msg_{secrets.token_hex(16)}", TEST, data)

    async def _experiment_id(self, experiment: int | str | None) -> int | None:
        if isinstance(experiment, str):
            return await self._experiments.resolve(experiment)
        if experiment is not None and not await self._experiments.exists(experiment):
            raise Invalid("experiment", f"there is no experiment {experiment}")
        return experiment
