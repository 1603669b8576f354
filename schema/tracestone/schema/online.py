"""Defining scorers and online configurations from what a client or a file says, checks included."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from tracestone.schema.assessments import TargetType
from tracestone.schema.engines.columnar import Columnar
from tracestone.schema.errors import Invalid, NotFound
from tracestone.schema.experiments import JUDGES_EXPERIMENT, JUDGES_EXPERIMENT_ID
from tracestone.schema.filter_sql import check_filter, check_member
from tracestone.schema.scorers.code import Code
from tracestone.schema.scorers.definition import Scorer, define
from tracestone.schema.scorers.ensembles import Ensemble
from tracestone.schema.scorers.online import OnlineConfig, OnlineRequest
from tracestone.schema.scorers.parameters import checked
from tracestone.schema.scorers.review import Review
from tracestone.schema.stores.experiments import ExperimentStore
from tracestone.schema.stores.scorers import ScorerStore

MAX_CONFIGS_PER_SCORER = 1000
_USUAL_TARGETS: tuple[TargetType, ...] = ("trace", "session", "span")
_KEYS = ("name", "kind", "parameters", "online")


class OnlineSetup:
    """One way in for the API and for the configuration file."""

    def __init__(
        self,
        scorers: ScorerStore,
        experiments: ExperimentStore,
        columnar: Columnar,
        judge_api_bases: Collection[str] = (),
        *,
        code_scorers: bool = False,
    ) -> None:
        """`judge_api_bases` are the addresses of providers that a client may name; the file may name any.

        `code_scorers` says whether scorers may be Python source.
        """
        self.scorers = scorers
        self._experiments = experiments
        self.columnar = columnar
        self._code_scorers = code_scorers
        self._api_bases = {base.rstrip("/") for base in judge_api_bases}

    async def define(self, document: object) -> Scorer:
        """Stores what a client defines, `{name, kind, parameters}`; unchanged, it keeps its version.

        Raises Invalid, TooLarge.
        """
        return await self._define(document, trusted=False)

    async def _define(self, document: object, *, trusted: bool) -> Scorer:
        if not isinstance(document, Mapping):
            raise Invalid("body", "must be an object with name, kind and parameters")
        _only(document, _KEYS[:3])
        definition = define(document.get("name", ""), document.get("kind", ""), document.get("parameters"))
        base = definition.parameters.provider_address
        # Keys of providers go where api_base says, so whoever may only call the API does not choose it freely.
        if base is not None and not trusted and base.rstrip("/") not in self._api_bases:
            raise Invalid(
                "parameters.api_base",
                "is accepted from the configuration file, or when the setting judge_api_bases lists it",
            )
        if isinstance(definition.parameters, Code) and definition.parameters.source and not self._code_scorers:
            raise Invalid("parameters.source", "is refused: the setting code_scorers is off")
        if isinstance(definition.parameters, Ensemble):
            await self._members_targets(definition.parameters)
        return await self.scorers.define(definition)

    async def _members_targets(self, ensemble: Ensemble) -> frozenset[TargetType]:
        """What every member can score. Raises Invalid when one is not there, is an ensemble, or nothing is left."""
        able = ensemble.targets
        for number, member in enumerate(ensemble.members):
            field = f"parameters.members.{number}"
            try:
                parameters = (await self.scorers.get(member.name, member.version)).parameters
            except NotFound as error:
                raise Invalid(field, f"there is no scorer {member.name} of version {member.version}") from error
            if isinstance(parameters, Ensemble | Review):
                what = "an ensemble itself" if isinstance(parameters, Ensemble) else "a question to a person"
                raise Invalid(field, f"is {what}")
            able &= parameters.targets
        if not able:
            raise Invalid("parameters.members", "have no kind of target that all of them can score")
        return able

    async def _targets(self, scorer: Scorer) -> frozenset[TargetType]:
        if isinstance(scorer.parameters, Ensemble):
            return await self._members_targets(scorer.parameters)
        return scorer.parameters.targets

    async def target_of(self, scorer: Scorer, wanted: TargetType | None, field: str) -> TargetType:
        """What a scorer is applied to: what is wanted, or its usual target. Raises Invalid when it cannot be."""
        able = await self._targets(scorer)
        if wanted is None:
            return next(target for target in _USUAL_TARGETS if target in able)
        if wanted not in able:
            raise Invalid(field, f"the scorer {scorer.name} is for {' and '.join(sorted(able))} targets")
        return wanted

    async def put(self, scorer_name: str, document: object) -> OnlineConfig:
        """Creates or replaces one online configuration of a scorer. Raises Invalid, NotFound."""
        request = checked(OnlineRequest, document, "online")
        scorer = await self.scorers.get(scorer_name, request.version)
        target = await self.target_of(scorer, request.target, "online.target")
        if request.concurrency is not None and isinstance(scorer.parameters, Review):
            raise Invalid("online.concurrency", "bounds what workers run; reviews wait for people")
        if request.after:
            await self._check_order(scorer, target, request)
        judged = bool(request.after)
        filter = await check_filter(self.columnar, request.filter, target, judged=judged)
        strata = [
            stratum.model_copy(
                update={
                    "filter": await check_filter(
                        self.columnar, stratum.filter, target, f"strata.{number}.filter", judged=judged
                    )
                }
            )
            for number, stratum in enumerate(request.strata)
        ]
        experiment_id = await self.experiment_id(request.experiment)
        present = await self.scorers.configs(scorer_name)
        known = any(config.experiment_id == experiment_id for config in present)
        if not known and len(present) >= MAX_CONFIGS_PER_SCORER:
            raise Invalid("online", f"the scorer has {MAX_CONFIGS_PER_SCORER} configurations already")
        return await self.scorers.put_config(
            scorer_name,
            version=request.version,
            experiment_id=experiment_id,
            sample_rate=request.sample_rate,
            filter=filter,
            salt=request.salt,
            target_type=target,
            strata=strata,
            idle_seconds=request.idle_seconds,
            priority=request.priority,
            after=request.after,
            after_version=request.after_version,
            concurrency=request.concurrency,
            fair_by=await check_member(self.columnar, request.fair_by, target),
            fair_per_hour=request.fair_per_hour,
        )

    async def _check_order(self, scorer: Scorer, target: TargetType, request: OnlineRequest) -> None:
        """Raises Invalid unless the earlier scorer is there, judges such targets and does not come after this one."""
        try:
            earlier = await self.scorers.get(request.after, request.after_version)
        except NotFound as error:
            raise Invalid("after", str(error).rstrip(".")) from error
        if target not in await self._targets(earlier):
            raise Invalid("after", f"the scorer {earlier.name} cannot judge a {target}")
        follows: dict[str, set[str]] = {}
        for config in await self.scorers.configs():
            follows.setdefault(config.scorer_name, set()).add(config.after)
        before, seen = {earlier.name}, {""}
        while before:
            if scorer.name in before:
                raise Invalid("after", f"the scorer {earlier.name} comes after {scorer.name} itself")
            seen |= before
            before = {name for each in before for name in follows.get(each, ())} - seen

    async def known_experiment(self, experiment: int | str | None) -> int | None:
        """The id an experiment's id or name stands for, which must exist. None means all. Raises Invalid."""
        if isinstance(experiment, str):
            found = await self._experiments.by_name(experiment)
            if found is None:
                raise Invalid("experiment", f"there is no experiment {experiment[:100]}")
            return _scorable(found.experiment_id)
        return await self.experiment_id(experiment)

    async def experiment_id(self, experiment: int | str | None) -> int | None:
        """The id an experiment's id or name stands for.

        A new name is created, as telemetry would. None means all.
        """
        if isinstance(experiment, str):
            return _scorable(await self._experiments.resolve(experiment))
        if experiment is not None and not await self._experiments.exists(experiment):
            raise Invalid("experiment", f"there is no experiment {experiment}")
        return _scorable(experiment)

    async def apply(self, documents: Sequence[Any]) -> None:
        """Applies the setting `scorers`: a list of `{name, kind, parameters, online}`; safe to repeat.

        Nothing is removed: a configuration that left the file ends through the API. Raises Invalid, naming
        the item.
        """
        for number, document in enumerate(documents):
            try:
                await self._apply(document)
            except Invalid as error:
                raise Invalid(f"scorers.{number}.{error.field}", error.reason) from error

    async def _apply(self, document: object) -> None:
        if not isinstance(document, Mapping):
            raise Invalid("", "must be an object with name, kind, parameters and online")
        _only(document, _KEYS)
        scorer = await self._define({key: document[key] for key in _KEYS[:3] if key in document}, trusted=True)
        online = [] if document.get("online") is None else document["online"]
        for request in online if isinstance(online, list) else [online]:
            await self.put(scorer.name, request)


def _scorable(experiment_id: int | None) -> int | None:
    if experiment_id == JUDGES_EXPERIMENT_ID:
        raise Invalid("experiment", f"{JUDGES_EXPERIMENT} holds the calls of judges, which are never scored")
    return experiment_id


def _only(document: Mapping[Any, Any], keys: Sequence[str]) -> None:
    unknown = sorted(str(key) for key in document if key not in keys)
    if unknown:
        raise Invalid(unknown[0], f"is not known; known: {', '.join(keys)}")
