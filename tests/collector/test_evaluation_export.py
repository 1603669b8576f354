"""Assessments as events of OpenTelemetry: to another Tracestone and back, and to endpoints that refuse and fail."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.message import Message
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest, ExportLogsServiceResponse
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord, SeverityNumber
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from support.asgi_server import serving
from support.engines import fresh_stores
from support.ports import free_ports
from support.running import Running, running
from support.signals import post
from support.stored_assessments import assessments_of
from support.telemetry import export_request, otlp_span
from tracestone.collector.evaluation_export.emitter import Emitter
from tracestone.collector.evaluation_export.endpoints import endpoint
from tracestone.schema import clock
from tracestone.schema.assessments import Assessment, AssessmentChange, AssessmentError, Verdict
from tracestone.schema.engines.columnar import Columnar
from tracestone.schema.engines.postgres import Pool
from tracestone.schema.evaluations import assessment, attributes
from tracestone.schema.logs import EvaluationEvent, SpanPlace
from tracestone.schema.stores.assessments import AssessmentStore
from tracestone.schema.stores.evaluation_events import EvaluationEventStore
from tracestone.schema.stores.logs import LogStore

TRACE = f"{7:032x}"


def said(**fields: Any) -> Assessment:
    plain = {
        "experiment_id": 0,
        "target_type": "trace",
        "trace_id": TRACE,
        "name": "tone",
        "kind": "feedback",
        "source_type": "LLM_JUDGE",
        "source_id": "openai/gpt-4o-mini",
        "value": True,
        "rationale": "It is kind.",
    }
    return Assessment(**(plain | fields))


@asynccontextmanager
async def deployment(
    server: str, chdb_url: str, folder: Path, ports: tuple[int, int], address: str
) -> AsyncIterator[Running]:
    """A Tracestone of its own that emits to an address; the tests' databases are copies, and copies share an id."""
    async with fresh_stores(server, chdb_url) as (pool, columnar):
        await pool.execute("UPDATE tracestone.deployment SET deployment_id = gen_random_uuid()")
        grpc_port, http_port = ports
        named = {"otlp_grpc_port": grpc_port, "otlp_http_port": http_port, "evaluations_endpoint": address}
        async with running(pool, columnar, folder, **named) as started:
            yield started


async def until(store: AssessmentStore, trace_id: str, wanted: Callable[[list[Assessment]], bool]) -> list[Assessment]:
    """The assessments of a trace, once they are as they should be."""
    async with asyncio.timeout(60):
        while not wanted(found := await assessments_of(store, trace_id)):
            await asyncio.sleep(0.05)
    return found


async def test_two_deployments_that_emit_to_each_other_have_each_assessment_once(
    postgres_server: str, chdb_url: str, tmp_path: Path
) -> None:
    ports = free_ports(4)
    number = secrets.randbits(100) + 1
    trace_id = f"{number:032x}"
    one = deployment(
        postgres_server, chdb_url, tmp_path / "1", (ports[0], ports[1]), f"http://127.0.0.1:{ports[3]}/v1/logs"
    )
    other = deployment(postgres_server, chdb_url, tmp_path / "2", (ports[2], ports[3]), f"grpc://127.0.0.1:{ports[0]}")
    async with one as here, other as there:
        sent = export_request(otlp_span(number, 1, start_ns=clock.now_ns()), service="shop")
        await post(here, "traces", sent.SerializeToString())
        experiment = await here.collector.experiments.by_name("shop")
        assert experiment is not None
        store = here.collector.assessments
        where = {"experiment_id": experiment.experiment_id, "trace_id": trace_id}
        made = await store.create(said(**where))
        (copy,) = await until(there.collector.assessments, trace_id, lambda found: len(found) == 1)
        assert (copy.value, copy.rationale, copy.name, copy.target_type) == (True, "It is kind.", "tone", "trace")
        assert (copy.source_type, copy.source_id, copy.origin) == ("LLM_JUDGE", "openai/gpt-4o-mini", "event")
        filed = await there.collector.experiments.get(copy.experiment_id)
        assert filed.name == "shop"
        await store.update(trace_id, made.assessment_id, AssessmentChange(verdict=Verdict("feedback", False)))
        await store.create(said(**where, span_id=f"{1:016x}", target_type="span", value="warm"))
        found = await until(
            there.collector.assessments, trace_id, lambda found: {e.value for e in found} == {False, "warm"}
        )
        assert len(found) == 2
        # What came as an event is emitted no further, so there is nothing that could come back.
        assert await there.collector._pool.fetchval("SELECT count(*) FROM tracestone.evaluation_events") == 0
        await there.collector.assessments.create(said(**where | {"experiment_id": copy.experiment_id}, name="theirs"))
        back = await until(store, trace_id, lambda found: len(found) == 3)
        assert sorted(each.name for each in back) == ["theirs", "tone", "tone"]
        assert [each.origin for each in back if each.name == "tone"] == [None, None]


async def test_an_event_that_comes_home_is_known(postgres_server: str, chdb_url: str, tmp_path: Path) -> None:
    ports = free_ports(2)
    home = f"http://127.0.0.1:{ports[1]}/v1/logs"
    async with deployment(postgres_server, chdb_url, tmp_path, (ports[0], ports[1]), home) as here:
        await here.collector.assessments.create(said())
        async with asyncio.timeout(60):
            while not here.collector._evaluations.counts["known"]:
                await asyncio.sleep(0.05)
        assert len(await assessments_of(here.collector.assessments, TRACE)) == 1
        assert (await here.rows("SELECT event_name FROM logs")) == [{"event_name": "gen_ai.evaluation.result"}]


class Endpoint:
    """An OTLP endpoint that answers as it is told, once each, and takes everything afterwards."""

    def __init__(self, *answers: Response) -> None:
        self.answers = list(answers)
        self.poison = ""
        self.requests = 0
        self.records: list[LogRecord] = []
        self.headers: dict[str, str] = {}

    async def answer(self, request: Request) -> Response:
        self.requests += 1
        self.headers = dict(request.headers)
        if self.answers:
            return self.answers.pop(0)
        given = ExportLogsServiceRequest.FromString(await request.body())
        records = [
            record for resource in given.resource_logs for scope in resource.scope_logs for record in scope.log_records
        ]
        if self.poison and any(self.poison in str(told(record).values()) for record in records):
            return Response(status_code=400)
        self.records += records
        return message(ExportLogsServiceResponse())

    @property
    def app(self) -> Starlette:
        return Starlette(routes=[Route("/v1/logs", self.answer, methods=["POST"])])


def message(content: Message, status: int = 200, **headers: str) -> Response:
    return Response(content.SerializeToString(), status, headers=headers, media_type="application/x-protobuf")


def told(record: LogRecord) -> dict[str, Any]:
    return {pair.key: getattr(pair.value, pair.value.WhichOneof("value") or "") for pair in record.attributes}


@asynccontextmanager
async def emitting(pool: Pool, columnar: Columnar, url: str, headers: str = "") -> AsyncIterator[Emitter]:
    store = EvaluationEventStore(pool)
    emitter = Emitter(store, LogStore(columnar), endpoint(f"{url}/v1/logs", headers), "here", poll_seconds=0.02)
    await emitter.start()
    try:
        yield emitter
    finally:
        await emitter.stop()


async def counted(emitter: Emitter, **wanted: int) -> None:
    """Waits until so many have been taken, and refused."""
    with suppress(TimeoutError):
        async with asyncio.timeout(30):
            while any(emitter.counts[outcome] != count for outcome, count in wanted.items()):
                await asyncio.sleep(0.02)
    assert {outcome: emitter.counts[outcome] for outcome in wanted} == wanted


async def test_the_event_is_as_the_conventions_have_it(pool: Pool, columnar: Columnar) -> None:
    receiver, store = Endpoint(), AssessmentStore(pool)
    async with serving(receiver.app) as url, emitting(pool, columnar, url, "x-key=a%20b, x-other=c") as emitter:
        await store.create(said(value=None, rationale="", error=AssessmentError("TIMEOUT", "no answer")))
        await store.create(said(name="expected", kind="expectation"))
        await store.create(said(target_type="session", trace_id="", session_id="s-1", value=4))
        await store.create(said(value="yes", target_type="span", span_id=f"{9:016x}"))
        await counted(emitter, taken=3)
    failed, session, span = receiver.records
    assert (receiver.headers["x-key"], receiver.headers["x-other"]) == ("a b", "c")
    assert {record.event_name for record in receiver.records} == {"gen_ai.evaluation.result"}
    assert (failed.trace_id.hex(), failed.span_id) == (TRACE, b"")
    assert (failed.severity_number, told(failed)["error.type"]) == (SeverityNumber.SEVERITY_NUMBER_WARN, "TIMEOUT")
    assert "gen_ai.evaluation.score.value" not in told(failed)
    assert (session.trace_id, told(session)["gen_ai.conversation.id"]) == (b"", "s-1")
    assert told(session)["gen_ai.evaluation.score.value"] == 4.0
    assert (span.trace_id.hex(), span.span_id.hex()) == (TRACE, f"{9:016x}")
    assert (told(span)["gen_ai.evaluation.score.value"], told(span)["gen_ai.evaluation.score.label"]) == (1.0, "yes")
    assert (told(span)["gen_ai.evaluation.name"], told(span)["gen_ai.evaluation.explanation"]) == (
        "tone",
        "It is kind.",
    )


async def test_the_response_id_of_a_span_is_told(pool: Pool, columnar: Columnar, tmp_path: Path) -> None:
    receiver = Endpoint()
    async with (
        running(pool, columnar, tmp_path) as site,
        serving(receiver.app) as url,
        emitting(pool, columnar, url) as emitter,
    ):
        span = otlp_span(7, 9, start_ns=clock.now_ns(), attributes={"gen_ai.response.id": "chatcmpl-1"})
        await post(site, "traces", export_request(span).SerializeToString())
        await site.collector.barrier()
        await site.collector.assessments.create(said(target_type="span", span_id=f"{9:016x}"))
        await counted(emitter, taken=1)
    (record,) = receiver.records
    assert told(record)["gen_ai.response.id"] == "chatcmpl-1"


async def test_an_endpoint_that_fails_gets_everything_later_and_what_it_refuses_is_counted(
    pool: Pool, columnar: Columnar
) -> None:
    partly = ExportLogsServiceResponse()
    partly.partial_success.rejected_log_records = 1
    receiver, store = (
        Endpoint(Response(status_code=503), Response(status_code=401), message(partly)),
        AssessmentStore(pool),
    )
    async with serving(receiver.app) as url, emitting(pool, columnar, url) as emitter:
        await store.create(said(name="first"))
        await counted(emitter, refused=1, taken=0)
        assert receiver.requests == 3
        receiver.poison = "poison"
        async with pool.acquire() as connection, connection.transaction():  # one batch
            for number in range(9):
                await AssessmentStore(pool).record(
                    said(
                        name=f"n{number}", value="poison" if number == 4 else "good", scorer_name="s", scorer_version=1
                    ),
                    connection,
                )
        await counted(emitter, refused=2, taken=8)
    assert sorted(told(record)["gen_ai.evaluation.name"] for record in receiver.records) == [
        f"n{number}" for number in range(9) if number != 4
    ]


async def test_nothing_is_kept_while_nobody_emits_and_old_events_are_given_up(pool: Pool) -> None:
    store, events = AssessmentStore(pool), EvaluationEventStore(pool)
    count = "SELECT count(*) FROM tracestone.evaluation_events"
    await store.create(said())
    assert await pool.fetchval(count) == 0
    await events.seen()
    await store.create(said())
    assert await pool.fetchval(count) == 1
    assert await events.forget() == 0
    await pool.execute("UPDATE tracestone.evaluation_events SET created_at = now() - interval '25 hours'")
    assert await events.forget() == 1
    await pool.execute("UPDATE tracestone.evaluation_emitter SET seen_at = now() - interval '25 hours'")
    await store.create(said())
    assert await pool.fetchval(count) == 0


@pytest.mark.parametrize(
    "value", [True, False, 0, 4, 0.25, 2**60 + 1, "yes", "warm", "", "0.5", {"a": [1, None]}, [True], None]
)
def test_a_value_is_the_same_on_the_other_side(value: Any) -> None:
    error = AssessmentError("TIMEOUT", "no answer") if value is None else None
    row = {
        **{"name": "tone", "value": value, "rationale": "r", "session_id": "", "assessment_id": "a-1", "revision": 2},
        **{"source_type": "HUMAN", "source_id": "me", "scorer_name": "", "scorer_version": None, "probability": None},
        **{"cost_usd": None, "input_tokens": None, "output_tokens": None},
        **{"error_code": error.code if error else "", "error_message": error.message if error else ""},
    }
    given = attributes(row, "there", "")
    event = EvaluationEvent("1", 0, False, 10**18, TRACE, "", "tracestone", "tracestone.evaluations", dict(given))
    found = assessment(event, SpanPlace(0, TRACE, ""))
    assert (found.value, type(found.value)) == (value, type(value))
    assert (found.error, found.source_type, found.source_id) == (error, "HUMAN", "me")
