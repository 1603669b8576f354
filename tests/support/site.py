"""The pages on a port, over the real stores."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from starlette.applications import Starlette

from support.asgi_server import serving
from support.telemetry import export_request, store
from tracestone.collector.ui.pages import Deps
from tracestone.collector.ui.routes import not_found, routes
from tracestone.schema import clock
from tracestone.schema.assessments import Assessment
from tracestone.schema.engines.columnar import Columnar
from tracestone.schema.engines.postgres import Pool
from tracestone.schema.stores.assessments import AssessmentStore
from tracestone.schema.stores.spans import SpanStore

SECOND = 1_000_000_000
EXPERIMENT = 7


@dataclass
class Site:
    """What a test needs of it. `waits` counts how often a read waited for the log; `start_ns` is a minute ago."""

    url: str
    http: httpx.AsyncClient
    columnar: Columnar
    spans: SpanStore
    assessments: AssessmentStore
    waits: list[str]
    start_ns: int

    async def send(self, *spans: Span, experiment: int = EXPERIMENT, service: str = "agent") -> None:
        """Stores spans as one request."""
        await store(self.spans, export_request(*spans, service=service), experiment)

    async def page(self, path: str, status: int = 200) -> str:
        """The HTML at a path, which must answer with this status."""
        response = await self.http.get(path)
        assert response.status_code == status, response.text
        return response.text

    async def judge(self, trace: int, name: str, **fields: Any) -> Assessment:
        """A person's feedback on the trace with this number."""
        plain = {"experiment_id": EXPERIMENT, "target_type": "trace", "kind": "feedback", "source_type": "HUMAN"}
        return await self.assessments.create(Assessment(name=name, trace_id=f"{trace:032x}", **{**plain, **fields}))

    async def name(self, experiment: int, name: str, stage: str = "active") -> None:
        """An experiment as the mirror writes it."""
        columns = ("experiment_id", "name", "lifecycle_stage", "version", "deleted")
        await self.columnar.insert_rows("experiment_rows", columns, [(experiment, name, stage, 1, False)])


@asynccontextmanager
async def pages_site(columnar: Columnar, pool: Pool) -> AsyncIterator[Site]:
    """Serves the pages and nothing else."""
    waits: list[str] = []

    async def barrier() -> None:
        waits.append("waited")

    spans, assessments = SpanStore(columnar), AssessmentStore(pool)
    deps = Deps(spans, assessments, columnar, barrier)
    app = Starlette(routes=routes(deps), exception_handlers={404: not_found})
    async with serving(app) as url, httpx.AsyncClient(base_url=url, timeout=60) as http:
        yield Site(url, http, columnar, spans, assessments, waits, clock.now_ns() - 60 * SECOND)
