"""Jobs run by workers: one verdict each, retries, errors, costs, and workers that vanish."""

import asyncio
import json
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from support.openai_server import Answer, Failure, Held, OpenAIServer, Slow
from support.stored_traces import Row, numbered, store
from tracestone.schema.assessments import Assessment, AssessmentError
from tracestone.schema.engines.columnar import Columnar, StatementFailed
from tracestone.schema.engines.postgres import Connection, Pool
from tracestone.schema.errors import StorageDown
from tracestone.schema.scorers.definition import define
from tracestone.schema.stores.assessments import AssessmentStore
from tracestone.schema.stores.jobs import Cursor, Job, JobStore, Target
from tracestone.schema.stores.scorers import ScorerStore
from tracestone.schema.stores.spans import SpanStore
from tracestone.schema.traces import Trace
from tracestone.scoring.code.sandbox import Sandbox
from tracestone.scoring.kept import KeptVerdicts
from tracestone.scoring.llm import LiteLLM
from tracestone.scoring.run import Runner, Scored
from tracestone.scoring.scorers.protocol import Named, Outcome
from tracestone.scoring.subjects import Subjects
from tracestone.scoring.worker import Worker

REGEX: dict[str, Any] = {"pattern": "on its way"}
ONE_CALL = 100 * 0.15e-6 + 10 * 0.6e-6


def judge(server: OpenAIServer, **fields: Any) -> dict[str, Any]:
    plain = {"instructions": "Is {{ outputs }} polite?", "model": "openai/gpt-4o-mini", "api_base": server.url}
    return plain | fields


def good(value: bool = True) -> Answer:
    return Answer(json.dumps({"rationale": "It is.", "value": value}), 100, 10)


class Bench:
    """The stores, a runner over them, and short ways to enqueue and to look."""

    def __init__(self, pool: Pool, columnar: Columnar, provider: LiteLLM, folder: Path) -> None:
        self.pool = pool
        self.folder = folder
        self.kept = KeptVerdicts(folder)
        self.columnar = columnar
        self.jobs = JobStore(pool)
        self.provider = provider
        self.scorers = ScorerStore(pool)
        self.assessments = AssessmentStore(pool)
        self.runner = Runner(
            pool,
            self.jobs,
            self.scorers,
            Subjects(SpanStore(columnar)),
            self.assessments,
            provider,
            backoff_seconds=0.01,
        )

    async def enqueue(self, kind: str, parameters: dict[str, Any], rows: Sequence[Row], name: str = "tone") -> None:
        await store(self.columnar, rows)
        await self.enqueue_ids(kind, parameters, [row.trace_id for row in rows], name)

    async def enqueue_ids(
        self, kind: str, parameters: dict[str, Any], ids: Sequence[str], name: str = "tone", seen_ns: int = 0
    ) -> None:
        scorer = await self.scorers.define(define(name, kind, parameters))
        config = await self.scorers.put_config(
            name, version=None, experiment_id=None, sample_rate=0.5, filter="", salt=""
        )
        async with self.jobs.look(config.config_id, "prompt") as held:
            assert held is not None
            targets = [Target(0, trace_id, probability=0.5, seen_ns=seen_ns) for trace_id in ids]
            await held.advance(Cursor(2**62), name, scorer.version, targets)

    def worker(self, **fields: Any) -> Worker:
        plain: dict[str, Any] = {"concurrency": 4, "lease_seconds": 60.0, "drain_seconds": 5.0}
        return Worker(self.runner, self.jobs, asyncio.Event(), self.kept, **(plain | fields))

    async def claim(self, seconds: float = 60) -> Job:
        [job] = await self.jobs.claim(1, uuid4(), seconds)
        return job

    async def work(self, *workers: Worker) -> None:
        """Lets the workers run until no job is left."""
        stopping = asyncio.Event()
        tasks = [asyncio.create_task(worker.run(stopping)) for worker in workers or [self.worker()]]
        async with asyncio.timeout(60):
            while await self.jobs.waiting(1):
                await asyncio.sleep(0.02)
            stopping.set()
            await asyncio.gather(*tasks)

    async def deliver(self) -> None:
        """Runs a worker until no verdict is kept any more."""
        stopping = asyncio.Event()
        worker = asyncio.create_task(self.worker().run(stopping))
        async with asyncio.timeout(30):
            while self.kept.all():
                await asyncio.sleep(0.02)
            stopping.set()
            await worker

    async def verdict(self, number: int = 1) -> Assessment:
        [found] = await self.assessments.by_trace(0, numbered(number))
        return found


@pytest.fixture
def bench(pool: Pool, columnar: Columnar, litellm_provider: LiteLLM, tmp_path: Path) -> Bench:
    return Bench(pool, columnar, litellm_provider, tmp_path / "verdicts")


async def test_a_heuristic_is_recorded_with_its_probability(bench: Bench) -> None:
    await bench.enqueue("regex_match", REGEX, [Row(numbered(1)), Row(numbered(2), output="No idea.")])
    await bench.work()
    found = await bench.verdict(1)
    assert (found.name, found.value, found.error) == ("tone", True, None)
    assert (found.source_type, found.source_id) == ("CODE", "regex_match/tone")
    assert (found.scorer_name, found.scorer_version, found.probability) == ("tone", 1, 0.5)
    assert (found.target_type, found.experiment_id, found.cost_usd) == ("trace", 0, None)
    assert (await bench.verdict(2)).value is False


async def test_a_judge_is_recorded_with_rationale_and_cost(bench: Bench, provider_server: OpenAIServer) -> None:
    provider_server.script = [good()]
    await bench.enqueue("judge", judge(provider_server), [Row(numbered(1))])
    await bench.work()
    found = await bench.verdict()
    assert (found.value, found.rationale, found.error) == (True, "It is.", None)
    assert (found.source_type, found.source_id) == ("LLM_JUDGE", "openai/gpt-4o-mini")
    assert (found.cost_usd, found.input_tokens, found.output_tokens) == (pytest.approx(ONE_CALL), 100, 10)
    assert found.metadata == {"model": "gpt-4o-mini", "calls": "1"}


async def test_an_ensemble_is_recorded_with_the_verdicts_and_the_cost_of_its_members(
    bench: Bench, provider_server: OpenAIServer
) -> None:
    provider_server.answer = lambda body: good(False)
    await bench.scorers.define(define("on-its-way", "regex_match", REGEX))
    for model in ("openai/gpt-4o-mini", "openai/our-own"):
        await bench.scorers.define(define("polite", "judge", judge(provider_server, model=model)))
    members = [{"name": "on-its-way", "version": 1}, *({"name": "polite", "version": n} for n in (1, 2))]
    await bench.enqueue("ensemble", {"combine": "majority", "members": members}, [Row(numbered(1))], name="all-of-them")
    await bench.work()
    verdict = await bench.verdict()
    assert (verdict.value, verdict.scorer_name, verdict.error) == (False, "all-of-them", None)
    assert verdict.cost_usd == pytest.approx(ONE_CALL)
    assert (verdict.input_tokens, verdict.metadata["calls"]) == (200, "2")
    assert verdict.metadata["member on-its-way v1"] == "true"
    assert verdict.metadata["member polite v2"] == "false"


async def test_an_uploaded_function_scores_a_stored_trace(bench: Bench) -> None:
    source = "def f(trace, outputs): return {'spans': len(trace.data.spans), 'words': len(outputs.split())}"
    sandbox = Sandbox()
    bench.runner = Runner(
        bench.pool,
        bench.jobs,
        bench.scorers,
        Subjects(SpanStore(bench.columnar)),
        bench.assessments,
        bench.provider,
        sandbox=sandbox,
    )
    try:
        await bench.enqueue("code", {"source": source, "function": "f"}, [Row(numbered(1))])
        await bench.work()
    finally:
        await sandbox.close()
    verdict = await bench.verdict()
    assert (verdict.error, verdict.source_type, verdict.source_id) == (None, "CODE", "code/f")
    assert verdict.value["spans"] >= 1
    assert verdict.value["words"] > 1


async def test_a_failure_is_tried_again_and_everything_paid_is_counted(
    bench: Bench, provider_server: OpenAIServer
) -> None:
    unusable = Answer("Hm.", 100, 10)
    provider_server.script = [Failure(500), unusable, unusable, Failure(429, headers={"retry-after": "0.05"}), good()]
    await bench.enqueue("judge", judge(provider_server, retries=3), [Row(numbered(1))])
    await bench.work()
    found = await bench.verdict()
    assert (found.value, found.error) == (True, None)
    assert (found.cost_usd, found.input_tokens, found.output_tokens) == (pytest.approx(3 * ONE_CALL), 300, 30)
    assert found.metadata == {"model": "gpt-4o-mini", "calls": "5", "failed_attempts": "3"}


async def test_a_lasting_failure_becomes_an_error_after_the_last_try(
    bench: Bench, provider_server: OpenAIServer
) -> None:
    provider_server.answer = lambda body: Failure(503, "the model is resting, token=abc123secret")
    await bench.enqueue("judge", judge(provider_server, retries=2), [Row(numbered(1))])
    await bench.work()
    found = await bench.verdict()
    assert found.value is None
    assert found.error is not None
    assert found.error.code == "PROVIDER_ERROR"
    assert "the model is resting" in found.error.message
    assert "abc123secret" not in found.error.message
    assert len(provider_server.received) == 3
    assert (found.source_type, found.probability) == ("LLM_JUDGE", 0.5)
    assert found.metadata == {"calls": "3", "failed_attempts": "2"}


async def test_a_refusal_is_not_tried_again(bench: Bench, provider_server: OpenAIServer) -> None:
    provider_server.script = [Failure(404, "no such model")]
    await bench.enqueue("judge", judge(provider_server, retries=5), [Row(numbered(1))])
    await bench.work()
    found = await bench.verdict()
    assert found.error is not None
    assert found.error.code == "MODEL_NOT_FOUND"
    assert len(provider_server.received) == 1


async def test_retry_after_is_obeyed(bench: Bench, provider_server: OpenAIServer) -> None:
    provider_server.script = [Failure(429, headers={"retry-after": "120"})]
    await bench.enqueue("judge", judge(provider_server), [Row(numbered(1))])
    await bench.runner.run(await bench.claim())
    wait = await bench.pool.fetchval("SELECT extract(epoch FROM available_at - now()) FROM scoring_jobs")
    assert 100 < wait <= 120


async def test_a_trace_that_is_gone_ends_in_an_error(bench: Bench) -> None:
    await bench.enqueue_ids("error", {}, [numbered(9)])
    await bench.work()
    found = await bench.verdict(9)
    assert found.error is not None
    assert found.error.code == "TRACE_NOT_FOUND"
    assert found.metadata == {"failed_attempts": "3"}


async def test_two_workers_give_one_verdict_for_each_trace(bench: Bench, provider_server: OpenAIServer) -> None:
    rows = [Row(numbered(number)) for number in range(1, 41)]
    await bench.enqueue("judge", judge(provider_server), rows)
    await bench.work(bench.worker(), bench.worker())
    found = await bench.assessments.by_traces([(0, row.trace_id) for row in rows])
    assert {len(verdicts) for verdicts in found.values()} == {1}
    assert len(found) == len(provider_server.received) == 40


async def test_concurrency_is_bounded(bench: Bench, provider_server: OpenAIServer) -> None:
    provider_server.answer = lambda body: Slow(0.3, good())
    await bench.enqueue("judge", judge(provider_server), [Row(numbered(number)) for number in range(1, 13)])
    await bench.work(bench.worker(concurrency=3))
    assert 1 < provider_server.most_at_once <= 3


async def test_a_worker_that_dies_before_the_end_loses_and_doubles_nothing(bench: Bench) -> None:
    """The verdict is written and the process is gone before the transaction commits."""
    await bench.enqueue("regex_match", REGEX, [Row(numbered(1))])
    dying = await bench.claim(seconds=0)
    runner, record = bench.runner, bench.assessments.record_all
    recorded: list[str] = []

    async def record_and_die(assessments: Sequence[Assessment], connection: Connection) -> None:
        await record(assessments, connection)
        recorded.extend(each.name for each in assessments)
        raise ConnectionResetError("killed here")

    bench.assessments.record_all = record_and_die  # type: ignore[method-assign]
    with pytest.raises(StorageDown):
        await runner.run(dying)
    bench.assessments.record_all = record  # type: ignore[method-assign]
    assert len(recorded) == 1
    assert await bench.assessments.by_trace(0, numbered(1)) == []
    await bench.work()
    assert (await bench.verdict()).value is True


async def test_an_overtaken_worker_writes_nothing(bench: Bench) -> None:
    await bench.enqueue("regex_match", REGEX, [Row(numbered(1))])
    slow = await bench.claim(seconds=0)
    await bench.runner.run(await bench.claim())
    first = await bench.verdict()
    await bench.runner.run(slow)
    assert await bench.verdict() == first


async def test_a_verdict_that_exists_already_stays(bench: Bench) -> None:
    await bench.enqueue("regex_match", REGEX, [Row(numbered(1))])
    job = await bench.claim()
    earlier = await bench.assessments.record(
        Assessment(
            experiment_id=0,
            target_type="trace",
            trace_id=numbered(1),
            name="tone",
            kind="feedback",
            source_type="CODE",
            value="earlier",
            scorer_name="tone",
            scorer_version=1,
        )
    )
    await bench.runner.run(job)
    assert await bench.verdict() == earlier
    assert await bench.jobs.waiting(1) == 0


async def test_several_answers_and_an_error_take_each_others_place(bench: Bench) -> None:
    """A judge with two questions fails, answers the later state of the trace, answers another question, and fails."""
    named = (Named("polite", True), Named("stars", 3))
    said: list[Outcome] = [
        Outcome("LLM_JUDGE", "m", error=AssessmentError("TIMEOUT")),
        Outcome("LLM_JUDGE", "m", named=named),
        Outcome("LLM_JUDGE", "m", named=named[:1]),
        Outcome("LLM_JUDGE", "m", error=AssessmentError("INVALID_VERDICT")),
    ]
    found = []
    for state, outcome in enumerate(said, 1):
        await bench.enqueue_ids("error", {}, [numbered(1)], seen_ns=state)
        await bench.runner.settle(Scored(await bench.claim(), outcome, seen_ns=state))
        verdicts = await bench.assessments.by_trace(0, numbered(1))
        found.append({each.name: each.error.code if each.error else each.value for each in verdicts})
    assert found == [
        {"tone": "TIMEOUT"},
        {"tone.polite": True, "tone.stars": 3},
        {"tone.polite": True},
        {"tone": "INVALID_VERDICT"},
    ]
    assert await bench.pool.fetchval("SELECT count(*) FROM assessment_history") == 4


async def test_a_trace_that_kills_its_workers_ends_in_an_error(bench: Bench) -> None:
    await bench.enqueue("error", {}, [Row(numbered(1))])
    for _ in range(5):
        await bench.claim(seconds=0)
    await bench.runner.run(await bench.claim())
    found = await bench.verdict()
    assert found.error is not None
    assert found.error.code == "WORKER_LOST"


async def test_a_lease_outlives_a_long_job(bench: Bench, provider_server: OpenAIServer) -> None:
    provider_server.answer = lambda body: Slow(1.5, good())
    await bench.enqueue("judge", judge(provider_server), [Row(numbered(1))])
    await bench.work(bench.worker(lease_seconds=0.6), bench.worker(lease_seconds=0.6))
    assert len(provider_server.received) == 1
    assert (await bench.verdict()).value is True


async def test_stopping_gives_unfinished_jobs_back(bench: Bench, provider_server: OpenAIServer) -> None:
    provider_server.answer = lambda body: Slow(30, good())
    await bench.enqueue("judge", judge(provider_server), [Row(numbered(number)) for number in (1, 2, 3)])
    stopping = asyncio.Event()
    task = asyncio.create_task(bench.worker(concurrency=2, drain_seconds=0.1).run(stopping))
    async with asyncio.timeout(30):
        while len(provider_server.received) < 2:
            await asyncio.sleep(0.02)
        stopping.set()
        await task
    assert (await bench.jobs.depth())[0] == 3
    provider_server.answer = lambda body: good()
    await bench.work()
    assert len(await bench.assessments.by_traces([(0, numbered(number)) for number in (1, 2, 3)])) == 3


async def _stopped_without_postgres(bench: Bench, provider_server: OpenAIServer) -> None:
    """A worker is stopped that has a verdict which Postgres did not take."""
    provider_server.answer = lambda body: good()
    await bench.enqueue("judge", judge(provider_server), [Row(numbered(1))])
    back = postgres_away_at_the_end(bench)
    stopping = asyncio.Event()
    worker = asyncio.create_task(bench.worker(drain_seconds=0.1).run(stopping))
    async with asyncio.timeout(30):
        while not bench.kept.all():  # before anybody is stopped, or killed
            await asyncio.sleep(0.02)
        stopping.set()
        await worker
    back()
    assert len(provider_server.received) == 1


async def test_a_paid_verdict_outlives_its_process(bench: Bench, provider_server: OpenAIServer) -> None:
    await _stopped_without_postgres(bench, provider_server)
    (kept,) = await asyncio.to_thread(lambda: list(bench.folder.iterdir()))
    content = kept.read_bytes()
    await bench.work()
    assert len(provider_server.received) == 1
    found = await bench.verdict()
    assert (found.value, found.rationale, found.cost_usd) == (True, "It is.", pytest.approx(ONE_CALL))
    assert bench.kept.all() == []
    kept.write_bytes(content)  # as a kill leaves it that comes before it is removed
    await bench.deliver()
    assert await bench.verdict() == found


async def test_a_kept_verdict_yields_to_the_worker_that_took_the_job(
    bench: Bench, provider_server: OpenAIServer, tmp_path: Path
) -> None:
    await _stopped_without_postgres(bench, provider_server)
    await bench.pool.execute("UPDATE scoring_jobs SET available_at = now()")
    provider_server.answer = lambda body: good(False)
    await bench.work(Worker(bench.runner, bench.jobs, asyncio.Event(), KeptVerdicts(tmp_path / "other"), concurrency=1))
    await bench.deliver()
    assert (await bench.verdict()).value is False
    assert len(provider_server.received) == 2


async def test_a_store_that_is_away_costs_no_attempt(bench: Bench, columnar: Columnar) -> None:
    await bench.enqueue("regex_match", REGEX, [Row(numbered(1))])
    job = await bench.claim()
    reading = SpanStore(columnar)

    async def away(experiment_id: int, trace_ids: Sequence[str]) -> dict[str, Trace]:
        raise StorageDown("ClickHouse does not answer")

    read, reading.traces = reading.traces, away  # type: ignore[method-assign]
    runner = Runner(bench.pool, bench.jobs, bench.scorers, Subjects(reading), bench.assessments, bench.provider)
    with pytest.raises(StorageDown):
        await runner.run(job)
    await bench.jobs.release([job])
    again = await bench.claim()
    assert replace(again, lease=job.lease) == job
    reading.traces = read  # type: ignore[method-assign]
    await runner.run(again)
    assert (await bench.verdict()).value is True


def postgres_away_at_the_end(bench: Bench) -> Callable[[], None]:
    """From now on no verdict can be written, until the returned function is called."""
    record = bench.assessments.record_all

    async def away(assessments: Sequence[Assessment], connection: Connection) -> None:
        raise ConnectionResetError("Postgres went away here")

    bench.assessments.record_all = away  # type: ignore[method-assign]

    def back() -> None:
        bench.assessments.record_all = record  # type: ignore[method-assign]

    return back


async def test_a_verdict_that_was_paid_for_waits_for_postgres(bench: Bench, provider_server: OpenAIServer) -> None:
    await bench.enqueue("judge", judge(provider_server), [Row(numbered(1))])
    provider_server.answer = lambda body: good()
    back = postgres_away_at_the_end(bench)
    # The lease is shorter than the absence; a process does not take its own job over.
    working = asyncio.create_task(bench.work(bench.worker(lease_seconds=0.2)))
    while not provider_server.received:
        await asyncio.sleep(0.02)
    await bench.pool.execute("UPDATE scoring_jobs SET available_at = now() - interval '1 second'")
    await asyncio.sleep(1.5)
    back()
    await working
    assert len(provider_server.received) == 1
    found = await bench.verdict()
    assert (found.value, found.metadata["calls"], found.cost_usd) == (True, "1", pytest.approx(ONE_CALL))


async def test_an_unexpected_failure_keeps_what_was_paid_and_counts(
    bench: Bench, provider_server: OpenAIServer
) -> None:
    await bench.enqueue("judge", judge(provider_server), [Row(numbered(1))])
    provider_server.answer = lambda body: good()

    async def fails(assessments: Sequence[Assessment], connection: Connection) -> None:
        raise RuntimeError("a defect of ours")

    bench.assessments.record_all = fails  # type: ignore[method-assign]
    stopping = asyncio.Event()
    task = asyncio.create_task(bench.worker(lease_seconds=3600).run(stopping))
    async with asyncio.timeout(30):
        while not await bench.pool.fetchval("SELECT calls FROM scoring_jobs"):
            await asyncio.sleep(0.02)
    stopping.set()
    await task
    await bench.pool.execute("UPDATE scoring_jobs SET available_at = now()")
    job = await bench.claim()
    assert (job.deliveries, job.failures, job.spent.calls) == (2, 0, 1)


async def test_a_verdict_that_cannot_be_written_fails_alone(bench: Bench) -> None:
    await bench.enqueue("regex_match", REGEX, [Row(numbered(number)) for number in range(1, 6)])
    write = bench.assessments.record_all
    sizes: list[int] = []

    async def fails(assessments: Sequence[Assessment], connection: Connection) -> None:
        await write(assessments, connection)
        sizes.append(len(assessments))
        if numbered(3) in [each.trace_id for each in assessments]:
            raise RuntimeError("a defect of ours")

    bench.assessments.record_all = fails  # type: ignore[method-assign]
    jobs = await bench.jobs.claim(5, uuid4(), 60)
    scored = await asyncio.gather(*map(bench.runner.score, jobs))
    outcomes = await asyncio.gather(*map(bench.runner.settle, scored), return_exceptions=True)
    assert [str(outcome) for outcome in outcomes if outcome is not None] == ["a defect of ours"]
    assert sizes == [5, 1, 1, 1, 1, 1]
    found = await bench.assessments.by_traces([(0, numbered(number)) for number in range(1, 6)])
    assert sorted(trace_id for _, trace_id in found) == [numbered(number) for number in (1, 2, 4, 5)]
    assert await bench.pool.fetchval("SELECT trace_id FROM scoring_jobs") == numbered(3)


async def test_a_quarter_as_many_jobs_are_claimed_ahead_while_none_has_ended(
    bench: Bench, provider_server: OpenAIServer
) -> None:
    go = threading.Event()
    provider_server.answer = lambda body: Held(go, good())
    await bench.enqueue("judge", judge(provider_server), [Row(numbered(number)) for number in range(1, 31)])
    stopping = asyncio.Event()
    worker = bench.worker(concurrency=8, drain_seconds=30.0)
    task = asyncio.create_task(worker.run(stopping))
    async with asyncio.timeout(60):
        while len(provider_server.received) < 8:
            await asyncio.sleep(0.01)
    leased = "SELECT count(*) FROM scoring_jobs WHERE lease IS NOT NULL"
    assert (worker.running, await bench.pool.fetchval(leased)) == (8, 10)
    stopping.set()
    async with asyncio.timeout(30):
        while await bench.pool.fetchval(leased) > 8:
            await asyncio.sleep(0.01)
    go.set()
    await task
    # Those that had their turn were finished, the others went back as if they had not been claimed.
    assert len(provider_server.received) == 8
    left = await bench.pool.fetch("SELECT deliveries, lease FROM scoring_jobs")
    assert [(row["deliveries"], row["lease"]) for row in left] == [(0, None)] * 22


async def test_a_trace_that_has_a_verdict_is_not_judged_again(bench: Bench, provider_server: OpenAIServer) -> None:
    """A look that read before a job's end, and enqueues after it, makes the job anew."""
    await bench.enqueue("judge", judge(provider_server), [Row(numbered(1)), Row(numbered(2))])
    provider_server.answer = lambda body: good()
    await bench.runner.run(await bench.claim())
    await bench.pool.execute(
        "INSERT INTO scoring_jobs (scorer_name, scorer_version, experiment_id, trace_id, probability) "
        "VALUES ('tone', 1, 0, $1, 0.5)",
        numbered(1),
    )
    await bench.work()
    assert len(provider_server.received) == 2
    assert (await bench.verdict(1)).metadata["calls"] == "1"
    assert (await bench.verdict(2)).metadata["calls"] == "1"


async def test_a_trace_that_cannot_be_read_fails_alone(bench: Bench, columnar: Columnar) -> None:
    rows = [Row(numbered(number), output=str(number)) for number in range(1, 6)]
    spans = SpanStore(columnar)
    read = spans.traces

    async def heavy(experiment_id: int, trace_ids: Sequence[str]) -> dict[str, Trace]:
        if numbered(3) in trace_ids:
            raise StatementFailed("Code: 241. DB::Exception: memory limit exceeded", 241)
        return await read(experiment_id, trace_ids)

    spans.traces = heavy  # type: ignore[method-assign]
    bench.runner = Runner(
        bench.pool,
        bench.jobs,
        bench.scorers,
        Subjects(spans),
        bench.assessments,
        bench.provider,
        backoff_seconds=0.01,
    )
    await bench.enqueue("response_length", {"maximum": 10}, rows)
    await bench.work(bench.worker(concurrency=5))
    for number in (1, 2, 4, 5):
        found = await bench.verdict(number)
        assert (found.value, found.metadata) == (True, {})
    failed = await bench.verdict(3)
    assert failed.error is not None
    assert failed.error.code == "TRACE_NOT_READABLE"
    assert failed.metadata == {"failed_attempts": "3"}


async def test_several_questions_become_assessments_of_which_one_carries_the_cost(
    bench: Bench, provider_server: OpenAIServer
) -> None:
    questions = [{"name": "polite", "ask": "Is it polite?"}, {"name": "brief", "ask": "Is it brief?"}]
    answers = {name: {"rationale": "Yes.", "value": True} for name in ("polite", "brief")}
    provider_server.script = [Answer(json.dumps(answers), 100, 10)]
    await bench.enqueue("judge", judge(provider_server, questions=questions), [Row(numbered(1))])
    await bench.work()
    found = await bench.assessments.by_trace(0, numbered(1))
    assert [(one.name, one.value, one.cost_usd) for one in sorted(found, key=lambda one: one.name)] == [
        ("tone.brief", True, None),
        ("tone.polite", True, pytest.approx(ONE_CALL)),
    ]
