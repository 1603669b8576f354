"""Handlers of `/mlflow/experiments/…`."""

import base64
import json
from typing import Any, Literal, cast

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from tracestone.collector.auth.caller import caller, check_unbound, check_visible, visible
from tracestone.collector.mlflow_api import wire
from tracestone.schema import filter_string
from tracestone.schema.errors import Invalid, NotFound
from tracestone.schema.experiments import ExperimentOrder, LifecycleStage
from tracestone.schema.filters import Comparison
from tracestone.schema.stores.experiments import ExperimentStore

MAX_RESULTS = 50_000
_DEFAULT_RESULTS = 1000

_STAGES: dict[str, tuple[LifecycleStage, ...]] = {
    "ACTIVE_ONLY": ("active",),
    "DELETED_ONLY": ("deleted",),
    "ALL": ("active", "deleted"),
    "1": ("active",),
    "2": ("deleted",),
    "3": ("active", "deleted"),
}
_TEXT_OPERATORS = {"=", "!=", "LIKE", "ILIKE"}
_NUMBER_OPERATORS = {"=", "!=", ">", ">=", "<", "<="}
_FIELDS = {
    "name": _TEXT_OPERATORS,
    "experiment_id": {"=", "!=", "IN", "NOT IN"},
    "creation_time": _NUMBER_OPERATORS,
    "last_update_time": _NUMBER_OPERATORS,
}
_ATTRIBUTE_ENTITIES = {"", "attribute", "attributes", "attr"}
_TAG_ENTITIES = {"tag", "tags"}


class Experiments:
    """Experiments over HTTP."""

    def __init__(self, experiments: ExperimentStore) -> None:
        self._experiments = experiments

    async def get(self, request: Request) -> Response:
        """GET experiments/get."""
        experiment = await self._experiments.get(_own(wire.read_query(request)))
        return JSONResponse({"experiment": wire.experiment_json(experiment)})

    async def get_by_name(self, request: Request) -> Response:
        """GET experiments/get-by-name; deleted ones are found too."""
        name = wire.read_query(request).text("experiment_name", required=True)
        experiment = await self._experiments.by_name(name)
        if experiment is None or not visible(experiment.experiment_id):
            raise NotFound(f"Could not find experiment with name '{name[:500]}'")
        return JSONResponse({"experiment": wire.experiment_json(experiment)})

    async def create(self, request: Request) -> Response:
        """POST experiments/create."""
        check_unbound("Creating an experiment")
        fields = await wire.read_body(request)
        experiment = await self._experiments.create(
            fields.text("name", required=True),
            artifact_location=fields.text("artifact_location"),
            tags={tag.text("key", required=True): tag.text("value") for tag in fields.objects("tags")},
        )
        return JSONResponse({"experiment_id": str(experiment.experiment_id)})

    async def search(self, request: Request) -> Response:
        """POST or GET experiments/search."""
        if request.method == "GET":
            fields = wire.read_query(request, lists=frozenset({"order_by"}))
        else:
            fields = await wire.read_body(request)
        limit = fields.integer("max_results", _DEFAULT_RESULTS)
        if not 1 <= limit <= MAX_RESULTS:
            raise Invalid("max_results", f"must be between 1 and {MAX_RESULTS}")
        offset = _read_token(fields.text("page_token"))
        found = await self._experiments.search(
            [*read_filter(fields.text("filter")), *_visible()],
            stages=_read_stages(fields.anything("view_type")),
            order=[_read_order(text) for text in fields.texts("order_by")],
            limit=limit + 1,
            offset=offset,
        )
        answer: dict[str, Any] = {"experiments": [wire.experiment_json(item) for item in found[:limit]]}
        if len(found) > limit:
            answer["next_page_token"] = _token(offset + limit)
        return JSONResponse(answer)

    async def update(self, request: Request) -> Response:
        """POST experiments/update: a new name."""
        fields = await wire.read_body(request)
        await self._experiments.rename(_own(fields), fields.text("new_name", required=True))
        return JSONResponse({})

    async def delete(self, request: Request) -> Response:
        """POST experiments/delete: into the bin."""
        await self._experiments.delete(_own(await wire.read_body(request)))
        return JSONResponse({})

    async def restore(self, request: Request) -> Response:
        """POST experiments/restore."""
        await self._experiments.restore(_own(await wire.read_body(request)))
        return JSONResponse({})

    async def set_tag(self, request: Request) -> Response:
        """POST experiments/set-experiment-tag."""
        fields = await wire.read_body(request)
        key, value = fields.text("key", required=True), fields.text("value")
        await self._experiments.set_tag(_own(fields), key, value)
        return JSONResponse({})

    async def delete_tag(self, request: Request) -> Response:
        """POST experiments/delete-experiment-tag."""
        fields = await wire.read_body(request)
        await self._experiments.delete_tag(_own(fields), fields.text("key", required=True))
        return JSONResponse({})


def _own(fields: wire.Fields) -> int:
    """The experiment's id; raises NotFound for one that the caller may not know of."""
    experiment_id = wire.read_experiment_id(fields)
    check_visible(experiment_id)
    return experiment_id


def _visible() -> list[Comparison]:
    """What narrows a search to the caller's experiments."""
    bound = caller().experiments
    if bound is None:
        return []
    return [Comparison("attribute", "experiment_id", "IN", tuple(map(str, sorted(bound))))]


def read_filter(text: str) -> list[Comparison]:
    """The comparisons of a search for experiments. Raises Invalid for what experiments do not have."""
    return [_checked(comparison) for comparison in filter_string.parse(text)]


def _checked(comparison: Comparison) -> Comparison:
    if comparison.entity in _TAG_ENTITIES:
        entity, operators, wants_number = "tag", _TEXT_OPERATORS | {"IS NULL", "IS NOT NULL"}, False
    elif comparison.entity in _ATTRIBUTE_ENTITIES and comparison.key in _FIELDS:
        entity, operators = "attribute", _FIELDS[comparison.key]
        wants_number = comparison.key.endswith("_time")
    else:
        shown = f"{comparison.entity}.{comparison.key}".lstrip(".")
        raise Invalid("filter", f"knows no {shown[:100]!r}; it may use {', '.join(_FIELDS)} and tags.<key>")
    if comparison.operator not in operators:
        raise Invalid("filter", f"cannot use {comparison.operator} with {comparison.key[:100]!r}")
    is_id = comparison.key == "experiment_id" and entity == "attribute"
    if comparison.values and comparison.numeric != wants_number and not is_id:
        kind = "a number" if wants_number else "a quoted text"
        raise Invalid("filter", f"compares {comparison.key[:100]!r}, which needs {kind}")
    return Comparison(entity, comparison.key, comparison.operator, comparison.values, wants_number)


def _read_order(text: str) -> ExperimentOrder:
    parts = text.split()
    direction = parts[1].upper() if len(parts) == 2 else "ASC"
    if not 1 <= len(parts) <= 2 or direction not in ("ASC", "DESC"):
        raise Invalid("order_by", f"cannot be {text[:100]!r}; write a field, then ASC or DESC")
    field = parts[0].strip('`"').removeprefix("attribute.").strip('`"')
    if field not in _FIELDS:
        raise Invalid("order_by", f"knows no {field[:100]!r}; it may be {', '.join(_FIELDS)}")
    return ExperimentOrder(field, direction == "ASC")


def _read_stages(view_type: Any) -> tuple[LifecycleStage, ...]:
    stages = _STAGES.get(str(view_type or "ACTIVE_ONLY"))
    if stages is None:
        raise Invalid("view_type", "must be ACTIVE_ONLY, DELETED_ONLY or ALL")
    return stages


def _token(offset: int) -> str:
    return base64.b64encode(json.dumps({"offset": offset}).encode()).decode()


def _read_token(token: str) -> int:
    if not token:
        return 0
    try:
        offset = cast(dict[Literal["offset"], Any], json.loads(base64.b64decode(token, validate=True)))["offset"]
    except (ValueError, KeyError, TypeError):
        offset = None
    if not isinstance(offset, int) or isinstance(offset, bool) or not 0 <= offset < 2**31:
        raise Invalid("page_token", "is not one that this server gave")
    return offset
