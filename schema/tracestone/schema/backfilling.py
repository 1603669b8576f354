"""Making a backfill from what a client says, checks and estimate included."""

from dataclasses import dataclass

from tracestone.schema import clock
from tracestone.schema.backfills import Backfill, BackfillRequest, Estimate
from tracestone.schema.engines.columnar import StatementFailed
from tracestone.schema.errors import Invalid
from tracestone.schema.filter_sql import check_filter
from tracestone.schema.online import OnlineSetup
from tracestone.schema.sampling import past
from tracestone.schema.scorers.online import OnlineConfig
from tracestone.schema.scorers.parameters import checked
from tracestone.schema.stores.backfills import BackfillStore


@dataclass(frozen=True)
class _Planned:
    config: OnlineConfig
    version: int
    from_ns: int
    to_ns: int
    per_minute: int | None


class BackfillSetup:
    """One way in for the API."""

    def __init__(self, setup: OnlineSetup, store: BackfillStore) -> None:
        self.store = store
        self._setup = setup

    async def estimate(self, document: object) -> Estimate:
        """What it would come to; nothing is stored. Raises Invalid, NotFound, StorageDown."""
        return await self._estimate(await self._planned(document))

    async def start(self, document: object) -> tuple[Backfill, Estimate]:
        """Stores it, and it begins. Raises Invalid, NotFound, StorageDown."""
        planned = await self._planned(document)
        estimate = await self._estimate(planned)
        backfill = await self.store.create(
            planned.config, planned.version, planned.from_ns, planned.to_ns, planned.per_minute, estimate.chosen
        )
        return backfill, estimate

    async def _estimate(self, planned: _Planned) -> Estimate:
        try:
            found, chosen = await past.count(self._setup.columnar, planned.config, planned.from_ns, planned.to_ns)
        except StatementFailed as error:
            raise Invalid("filter", "ClickHouse cannot use it on a value that is stored") from error
        verdicts, usd, tokens = await self.store.usual_cost(planned.config.scorer_name)
        return Estimate(found, chosen, verdicts, usd, tokens)

    async def _planned(self, document: object) -> _Planned:
        request = checked(BackfillRequest, document, "")
        scorer = await self._setup.scorers.get(request.scorer, request.version)
        target = await self._setup.target_of(scorer, request.target, "target")
        config = OnlineConfig(
            0,
            scorer.name,
            scorer.version,
            await self._setup.known_experiment(request.experiment),
            request.sample_rate,
            await check_filter(self._setup.columnar, request.filter, target),
            request.salt,
            target_type=target,
        )
        from_ns = int(request.since.timestamp() * 1e9)
        to_ns = clock.now_ns() if request.until is None else int(request.until.timestamp() * 1e9)
        if to_ns <= from_ns:
            raise Invalid("since", "must be in the past")
        return _Planned(config, scorer.version, from_ns, to_ns, request.per_minute)
