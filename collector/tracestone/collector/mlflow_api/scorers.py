"""Handlers of `/mlflow/scorers/…`: registering scorers and applying them to live traffic, as MLflow's client does.

What is registered is defined as a scorer of ours at once, so what cannot run is refused with the reason.
"""

from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from tracestone.collector.auth.caller import check_visible, visible
from tracestone.collector.mlflow_api import wire
from tracestone.schema.errors import Invalid
from tracestone.schema.experiments import MAX_EXPERIMENT_ID
from tracestone.schema.stores.mlflow_scorers import MlflowScorerStore, Online, Registered


class Scorers:
    """Registered scorers over HTTP."""

    def __init__(self, scorers: MlflowScorerStore) -> None:
        self._scorers = scorers

    async def register(self, request: Request) -> Response:
        """POST scorers/register."""
        fields = await wire.read_body(request)
        experiment_id = _experiment(fields)
        name, text = fields.text("name", required=True), fields.text("serialized_scorer", required=True)
        scorer = await self._scorers.register(experiment_id, name, text)
        return JSONResponse(
            {
                "version": scorer.version,
                "scorer_id": scorer.scorer_id,
                "experiment_id": str(scorer.experiment_id),
                "name": scorer.name,
                "serialized_scorer": scorer.serialized,
                "creation_time": scorer.created_at_ms,
            }
        )

    async def list(self, request: Request) -> Response:
        """GET scorers/list: the newest version of each scorer of an experiment, or of several."""
        fields = await _either(request, "experiment_ids")
        given = fields.texts("experiment_ids")
        ids = [_number("experiment_ids", text) for text in given] if given else [wire.read_experiment_id(fields)]
        found = await self._scorers.latest([number for number in ids if visible(number)])
        return JSONResponse({"scorers": [_scorer(scorer) for scorer in found]})

    async def versions(self, request: Request) -> Response:
        """GET scorers/versions."""
        fields = await _either(request)
        found = await self._scorers.versions(_experiment(fields), fields.text("name", required=True))
        return JSONResponse({"scorers": [_scorer(scorer) for scorer in found]})

    async def get(self, request: Request) -> Response:
        """GET scorers/get: one version, or the newest."""
        fields = await _either(request)
        version = fields.integer("version", 0) or None
        found = await self._scorers.versions(_experiment(fields), fields.text("name", required=True), version)
        return JSONResponse({"scorer": _scorer(found[0])})

    async def delete(self, request: Request) -> Response:
        """DELETE scorers/delete: one version, or all."""
        fields = await _either(request)
        version = fields.integer("version", 0) or None
        await self._scorers.delete(_experiment(fields), fields.text("name", required=True), version)
        return JSONResponse({})

    async def put_online(self, request: Request) -> Response:
        """PUT scorers/online-config; a rate of 0 stops it."""
        fields = await wire.read_body(request)
        experiment_id, name = _experiment(fields), fields.text("name", required=True)
        rate = fields.anything("sample_rate")
        if isinstance(rate, bool) or not isinstance(rate, int | float):
            raise Invalid("sample_rate", "must be a number from 0 to 1")
        online = await self._scorers.start(experiment_id, name, float(rate), fields.text("filter_string"))
        return JSONResponse({"config": _online(online)})

    async def online(self, request: Request) -> Response:
        """GET scorers/online-configs."""
        fields = wire.read_query(request, lists=frozenset({"scorer_ids"}))
        found = await self._scorers.online(fields.texts("scorer_ids"))
        return JSONResponse({"configs": [_online(online) for online in found if visible(online.experiment_id)]})


async def _either(request: Request, *lists: str) -> wire.Fields:
    """MLflow's client sends fields in the query of a GET, and in the body of a DELETE."""
    if request.method == "GET":
        return wire.read_query(request, lists=frozenset(lists))
    return await wire.read_body(request)


def _experiment(fields: wire.Fields) -> int:
    experiment_id = wire.read_experiment_id(fields)
    check_visible(experiment_id)
    return experiment_id


def _number(field: str, text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text) <= MAX_EXPERIMENT_ID):
        raise Invalid(field, "must be ids of experiments")
    return int(text)


def _scorer(scorer: Registered) -> dict[str, Any]:
    return {
        "experiment_id": scorer.experiment_id,
        "scorer_name": scorer.name,
        "scorer_version": scorer.version,
        "serialized_scorer": scorer.serialized,
        "creation_time": scorer.created_at_ms,
        "scorer_id": scorer.scorer_id,
    }


def _online(online: Online) -> dict[str, Any]:
    return {
        "online_scoring_config_id": str(online.config_id),
        "scorer_id": online.scorer_id,
        "sample_rate": online.sample_rate,
        "experiment_id": str(online.experiment_id),
        **({"filter_string": online.filter_string} if online.filter_string else {}),
    }
