"""Judges' own calls as traces: what is in them, one for each attempt, and that they are never judged themselves."""

import asyncio
import json
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from support.judged import ONE_CALL, Judged, good, judge
from support.openai_server import Answer, Failure, OpenAIServer
from support.running import running
from support.stored_traces import Row, numbered, store
from support.telemetry import export_request, otlp_span
from tracestone.schema import clock
from tracestone.schema.engines.columnar import Columnar
from tracestone.schema.engines.postgres import Pool
from tracestone.schema.errors import Invalid, Unavailable
from tracestone.schema.experiments import JUDGES_EXPERIMENT, JUDGES_EXPERIMENT_ID
from tracestone.schema.online import OnlineSetup
from tracestone.schema.scorers.definition import define
from tracestone.schema.scorers.online import OnlineConfig
from tracestone.schema.stores.experiments import ExperimentStore
from tracestone.schema.stores.jobs import Cursor, Job, Usage
from tracestone.schema.stores.judge_traces import JudgeTraceStore
from tracestone.schema.stores.scorers import ScorerStore
from tracestone.scoring.judge_delivery import JudgeTraces
from tracestone.scoring.kept import KeptVerdicts
from tracestone.scoring.llm import LiteLLM
from tracestone.scoring.run import Scored
from tracestone.scoring.sample import Sampler, Window


class Received:
    """A receiver that keeps what it takes, and refuses so often before."""

    def __init__(self, refusals: int = 0) -> None:
        self.refusals = refusals
        self.requests: list[bytes] = []
        self.experiments: set[int] = set()

    async def __call__(self, request: bytes, experiment_id: int) -> None:
        if self.refusals:
            self.refusals -= 1
            raise Unavailable("The log is full.")
        self.requests.append(request)
        self.experiments.add(experiment_id)

    def spans(self) -> list[Span]:
        """Every span that was taken."""
        return [
            span
            for request in self.requests
            for resource in ExportTraceServiceRequest.FromString(request).resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]

    def traces(self) -> dict[str, list[Span]]:
        """The spans by the trace id, the root first."""
        found: dict[str, list[Span]] = {}
        for span in sorted(self.spans(), key=lambda span: bool(span.parent_span_id)):
            found.setdefault(span.trace_id.hex(), []).append(span)
        return found


def attributes(span: Span) -> dict[str, Any]:
    return {pair.key: getattr(pair.value, pair.value.WhichOneof("value") or "") for pair in span.attributes}


@pytest.fixture
def judged(pool: Pool, columnar: Columnar, litellm_provider: LiteLLM, tmp_path: Path) -> Judged:
    return Judged(pool, columnar, litellm_provider, tmp_path)


def delivery(pool: Pool, receive: Received) -> JudgeTraces:
    return JudgeTraces(JudgeTraceStore(pool), ExperimentStore(pool, 100), receive, seconds=0.02)


async def delivered(traces: JudgeTraces) -> None:
    """Hands over what waits, as a stop does."""
    stopping = asyncio.Event()
    running = asyncio.create_task(traces.run(stopping))
    await asyncio.sleep(0.05)
    stopping.set()
    await running


async def test_an_attempt_is_a_trace_that_its_verdict_names(
    judged: Judged, pool: Pool, provider_server: OpenAIServer
) -> None:
    provider_server.answer = lambda body: good()
    receive = Received()
    traces = delivery(pool, receive)
    day = await judged.budget(usd=1)
    await judged.enqueue(judge(provider_server), [1])
    async with judged.working(content=False, traces=traces):
        await judged.until()
    await delivered(traces)
    (verdict,) = await judged.verdicts([1])
    ((trace_id, (root, call)),) = receive.traces().items()
    assert verdict.metadata["mlflow.assessment.scorerTraceId"] == f"tr-{trace_id}"
    assert receive.experiments == {JUDGES_EXPERIMENT_ID}
    assert (await ExperimentStore(pool, 1).get(JUDGES_EXPERIMENT_ID)).name == JUDGES_EXPERIMENT
    assert (root.name, call.name, call.parent_span_id) == ("evaluate tone", "chat gpt-4o-mini", root.span_id)
    assert [(link.trace_id.hex(), link.span_id.hex()) for link in root.links] == [(numbered(1), numbered(1)[16:])]
    told = attributes(root)
    assert told["tracestone.scorer.name"] == "tone"
    assert (told["tracestone.scorer.version"], told["tracestone.judged.trace_id"]) == (1, numbered(1))
    assert (told["gen_ai.evaluation.name"], told["gen_ai.evaluation.score.value"]) == ("tone", 1.0)
    asked = attributes(call)
    assert asked == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "gpt-4o-mini",
        "gen_ai.response.model": verdict.metadata["model"],
        "gen_ai.usage.input_tokens": 100,
        "gen_ai.usage.output_tokens": 10,
        "gen_ai.usage.cost": pytest.approx(ONE_CALL),
    }
    assert root.start_time_unix_nano <= call.start_time_unix_nano < call.end_time_unix_nano <= root.end_time_unix_nano
    assert (await judged.state(day)).spent == pytest.approx(ONE_CALL)
    assert "Parcel" not in receive.requests[0].decode("latin-1")


async def test_content_is_kept_when_it_is_asked_for_and_bounded(
    judged: Judged, pool: Pool, provider_server: OpenAIServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    provider_server.answer = lambda body: good()
    receive = Received()
    traces = delivery(pool, receive)
    await judged.enqueue(judge(provider_server), [1])
    async with judged.working(content=True, traces=traces):
        await judged.until()
        monkeypatch.setattr("tracestone.scoring.judge_traces.MOST_CONTENT", 100)
        await judged.enqueue(judge(provider_server), [2])
        await judged.until()
    await delivered(traces)
    told = [attributes(call) for _, call in receive.traces().values()]
    (whole,) = [each for each in told if "gen_ai.input.messages" in each]
    (cut,) = [each for each in told if "gen_ai.input.messages" not in each]
    messages = json.loads(whole["gen_ai.input.messages"])
    assert "Parcel 1 is on its way." in messages[-1]["parts"][0]["content"]
    assert json.loads(whole["gen_ai.output.messages"]) == [
        {"role": "assistant", "parts": [{"type": "text", "content": good().text}]}
    ]
    assert cut["tracestone.judge.content_left_out"] > 100
    assert "gen_ai.output.messages" not in cut


async def test_an_answer_from_before_is_a_call_that_cost_nothing(
    judged: Judged, pool: Pool, provider_server: OpenAIServer
) -> None:
    provider_server.answer = lambda body: good()
    receive = Received()
    traces = delivery(pool, receive)
    await judged.enqueue(judge(provider_server), [1, 2], differing=False)
    async with judged.working(content=False, traces=traces, cache=True):
        await judged.until()
    await delivered(traces)
    asked = [attributes(call) for _, call in receive.traces().values()]
    assert len(provider_server.received) == 1
    assert sorted((each.get("tracestone.judge.cached", False), each["gen_ai.usage.cost"]) for each in asked) == [
        (False, pytest.approx(ONE_CALL)),
        (True, 0.0),
    ]
    assert [("gen_ai.usage.input_tokens" in each) for each in asked if "tracestone.judge.cached" in each] == [False]


async def test_each_attempt_has_its_trace_and_the_verdict_names_the_last(
    judged: Judged, pool: Pool, provider_server: OpenAIServer
) -> None:
    provider_server.script = [Failure(500, "overloaded"), Answer("Hm.", 100, 10), Answer("Hm.", 100, 10)]
    provider_server.answer = lambda body: good()
    receive = Received()
    traces = delivery(pool, receive)
    await judged.enqueue(judge(provider_server), [1])
    async with judged.working(content=False, traces=traces):
        await judged.until()
    await delivered(traces)
    (verdict,) = await judged.verdicts([1])
    found = {attributes(root)["tracestone.attempt"]: (root, calls) for root, *calls in receive.traces().values()}
    assert {number: len(calls) for number, (_, calls) in found.items()} == {1: 1, 2: 2, 3: 1}
    assert [attributes(found[number][0]).get("error.type") for number in (1, 2, 3)] == [
        "PROVIDER_ERROR",
        "INVALID_VERDICT",
        None,
    ]
    assert attributes(found[1][1][0])["error.type"] == "PROVIDER_ERROR"
    assert verdict.metadata["mlflow.assessment.scorerTraceId"] == f"tr-{found[3][0].trace_id.hex()}"


async def test_what_is_not_taken_waits_and_what_is_kept_twice_is_one(pool: Pool) -> None:
    receive = Received(refusals=2)
    traces = delivery(pool, receive)
    request = ExportTraceServiceRequest()
    request.resource_spans.add().scope_spans.add().spans.add(trace_id=bytes(15) + b"\x01", span_id=bytes(7) + b"\x01")
    for trace_id in ("1", "1", "2"):
        await traces.keep(trace_id, request.SerializeToString())
    await delivered(traces)
    await delivered(traces)
    assert len(receive.spans()) == 2
    assert await pool.fetchval("SELECT count(*) FROM tracestone.judge_traces") == 0


async def test_a_verdict_that_waits_on_disk_keeps_its_trace(tmp_path: Path) -> None:
    job = Job(1, uuid4(), "tone", 1, 0, numbered(1), 1.0, 1, 0, Usage())
    scored = Scored(job, again=1.0, trace_id="ab", trace=bytes(range(256)))
    kept = KeptVerdicts(tmp_path)
    kept.keep(scored)
    assert kept.all() == [scored]


@pytest.mark.parametrize("target_type", ["trace", "span", "session"])
async def test_no_configuration_reaches_them(columnar: Columnar, target_type: Any) -> None:
    ours = Row(numbered(2), experiment_id=JUDGES_EXPERIMENT_ID, session_id="theirs", seen_ago=400, written_ago=400)
    await store(columnar, [replace(ours, trace_id=numbered(1), experiment_id=7, session_id="a"), ours])
    sampler = Sampler(columnar, settle_ms=0, max_trace_age_ms=3_600_000)
    window = Window(Cursor(clock.now_ns() - 3600 * 10**9), clock.now_ns(), "prompt")
    for experiment_id, found in ((None, [7]), (JUDGES_EXPERIMENT_ID, [])):
        config = OnlineConfig(1, "tone", None, experiment_id, 1.0, "", "", target_type=target_type)
        live = await sampler.choose(config, window)
        past = await sampler.choose_past(config, window)
        assert [target.experiment_id for target in live.targets] == found
        assert [target.experiment_id for target in past.targets] == found


async def test_a_configuration_that_names_them_is_refused(pool: Pool, columnar: Columnar) -> None:
    experiments = ExperimentStore(pool, 100)
    setup = OnlineSetup(ScorerStore(pool), experiments, columnar)
    await setup.scorers.define(define("tone", "error", {}))
    await experiments.make_judges()
    for named in (JUDGES_EXPERIMENT, JUDGES_EXPERIMENT_ID):
        with pytest.raises(Invalid, match="never scored"):
            await setup.put("tone", {"experiment": named})
        with pytest.raises(Invalid, match="never scored"):
            await setup.known_experiment(named)


async def test_the_name_is_kept_for_them(pool: Pool) -> None:
    experiments = ExperimentStore(pool, 100)
    with pytest.raises(Invalid, match="kept for the calls of judges"):
        await experiments.create(JUDGES_EXPERIMENT)
    assert await experiments.resolve(JUDGES_EXPERIMENT) == JUDGES_EXPERIMENT_ID


async def test_from_a_span_to_its_verdict_and_the_judges_trace(
    pool: Pool, columnar: Columnar, tmp_path: Path, provider_server: OpenAIServer
) -> None:
    provider_server.answer = lambda body: good()
    scorer = {"name": "tone", "kind": "judge", "parameters": judge(provider_server), "online": {}}
    settings = {"scorers": [scorer], "settle_ms": 0, "watch_interval_ms": 50}
    sent = otlp_span(1, 1, start_ns=clock.now_ns(), attributes={"output.value": "Gladly."})
    async with running(pool, columnar, tmp_path, scoring=True, **settings) as site, httpx.AsyncClient() as client:
        answer = await client.post(
            site.traces_url,
            content=export_request(sent).SerializeToString(),
            headers={"content-type": "application/x-protobuf"},
        )
        assert answer.status_code == 200
        spans: list[dict[str, Any]] = []
        async with asyncio.timeout(60):
            while len(spans) < 2:
                await asyncio.sleep(0.1)
                spans = await site.rows(
                    "SELECT trace_id, name, span_type, input_tokens, cost_total, request_model FROM spans "
                    f"WHERE experiment_id = {JUDGES_EXPERIMENT_ID} ORDER BY parent_span_id"
                )
        page = await client.get(f"{site.url}/traces/{sent.trace_id.hex()}", follow_redirects=True)
        href = f"/traces/tr-{spans[0]['trace_id']}"
        assert f'<a href="{href}">judge\'s trace</a>' in page.text
        theirs = await client.get(site.url + href, follow_redirects=True)
        assert (theirs.status_code, "evaluate tone" in theirs.text) == (200, True)
        assert [row["name"] for row in spans] == ["evaluate tone", "chat gpt-4o-mini"]
        assert (spans[1]["input_tokens"], spans[1]["request_model"]) == (100, "gpt-4o-mini")
        assert spans[1]["cost_total"] == pytest.approx(ONE_CALL)
        # Nothing of it is in the figures of what was judged, and it is judged by nobody.
        own = await site.rows("SELECT sum(total_tokens) AS tokens FROM traces WHERE experiment_id != 2147483647")
        assert own == [{"tokens": 0}] or own == [{"tokens": None}]
        assert await pool.fetchval("SELECT count(*) FROM tracestone.assessments") == 1
        assert await pool.fetchval("SELECT count(*) FROM tracestone.scoring_jobs") == 0
        assert len(provider_server.received) == 1
