"""Spans stored through the map of attributes, for the tests of the map."""

import secrets
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import pytest_asyncio
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from support.engines import fresh_stores
from support.mapped_spans import START, Stored, StoredMany
from support.telemetry import export_request, otlp_span, store
from tracestone.schema.engines.columnar import Columnar
from tracestone.schema.mapping import fields
from tracestone.schema.stores.spans import SpanStore


@pytest_asyncio.fixture(scope="module")
async def clickhouse(postgres_server: str, chdb_url: str) -> AsyncIterator[Columnar]:
    """One database for the module."""
    async with fresh_stores(postgres_server, chdb_url) as (_, columnar):
        yield columnar


@pytest.fixture
def stored(clickhouse: Columnar) -> Stored:
    """Stores a span with these attributes, and returns its row in `spans`."""

    async def run(
        attributes: dict[str, Any] | None = None,
        *,
        parent: int = 0,
        resource: dict[str, Any] | None = None,
        events: dict[str, dict[str, Any]] | None = None,
        change: Callable[[Span], None] = lambda _: None,
    ) -> dict[str, Any]:
        trace = secrets.randbits(120) + 1
        span = otlp_span(trace, 1, parent, start_ns=START, attributes=attributes, events=events)
        change(span)
        request = export_request(span)
        for pair in otlp_span(1, 1, start_ns=START, attributes=resource).attributes:
            request.resource_spans[0].resource.attributes.append(pair)
        await store(SpanStore(clickhouse), request, 1)
        rows = await clickhouse.query("SELECT * FROM spans WHERE trace_id = {id:String}", {"id": f"{trace:032x}"})
        assert len(rows) == 1
        return rows[0]

    return run


@pytest.fixture
def stored_many(clickhouse: Columnar) -> StoredMany:
    """Stores a span for each of these attributes, and returns their rows in order.

    An attribute `event:NAME>KEY` is one of an event.
    """

    async def run(all_attributes: list[dict[str, Any]]) -> list[dict[str, Any]]:
        trace = secrets.randbits(120) + 1
        spans = [
            otlp_span(trace, number, start_ns=START, attributes=_own(attributes), events=_of_events(attributes))
            for number, attributes in enumerate(all_attributes, start=1)
        ]
        await store(SpanStore(clickhouse), export_request(*spans), 1)
        return await clickhouse.query(
            "SELECT * FROM spans WHERE trace_id = {id:String} ORDER BY span_id", {"id": f"{trace:032x}"}
        )

    return run


def _own(attributes: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in attributes.items() if not key.startswith(fields.EVENT)}


def _of_events(attributes: dict[str, Any]) -> dict[str, dict[str, Any]]:
    events: dict[str, dict[str, Any]] = {}
    for key, value in attributes.items():
        if (event := fields.Key(key, ()).event) is not None:
            events.setdefault(event[0], {})[event[1]] = value
    return events
