"""Webhooks: who is told of what, signed as Standard Webhooks has it, and receivers that fail, hang and come back."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
import pytest_asyncio
from standardwebhooks.webhooks import Webhook
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from support.asgi_server import serving
from support.running import run_command, running
from support.stored_traces import numbered
from tracestone.collector import webhooks_api
from tracestone.collector.outbound import NotAllowed, NotReached, post
from tracestone.collector.webhook_dispatch import Dispatcher
from tracestone.schema.assessments import Assessment, AssessmentChange, AssessmentError, Verdict
from tracestone.schema.budgets import BudgetRequest
from tracestone.schema.engines.columnar import Columnar
from tracestone.schema.engines.postgres import Pool
from tracestone.schema.errors import Invalid
from tracestone.schema.scorers.definition import define
from tracestone.schema.stores.assessments import AssessmentStore
from tracestone.schema.stores.budgets import BudgetStore, Reserve, Settle
from tracestone.schema.stores.dead_jobs import DeadJobStore
from tracestone.schema.stores.experiments import ExperimentStore
from tracestone.schema.stores.jobs import Cursor, JobStore, Target, Usage, Wait
from tracestone.schema.stores.scorers import ScorerStore
from tracestone.schema.stores.webhooks import WebhookStore
from tracestone.schema.webhook_setup import WebhookSetup

ALERTS = ["budget.warning", "budget.exhausted", "provider.down", "scorer.stopped", "job.dead"]


@dataclass
class Receiver:
    """Somebody who is told: answers as it is told, once each, and 204 afterwards; `hangs` answers never."""

    answers: list[int | str] = field(default_factory=list)
    got: list[tuple[dict[str, str], bytes]] = field(default_factory=list)

    async def answer(self, request: Request) -> Response:
        self.got.append((dict(request.headers), await request.body()))
        said = self.answers.pop(0) if self.answers else 204
        if said == "hangs":
            while not await request.is_disconnected():
                await asyncio.sleep(0.05)
        if said == 302:
            return Response(status_code=302, headers={"location": "/elsewhere"})
        return Response(status_code=int(said), headers={"retry-after": "0"} if said == 503 else {})

    @property
    def app(self) -> Starlette:
        return Starlette(routes=[Route(path, self.answer, methods=["GET", "POST"]) for path in ("/hook", "/elsewhere")])

    def told(self) -> list[dict[str, Any]]:
        return [json.loads(body) for _, body in self.got]

    async def until(self, count: int) -> None:
        """Waits until it has been asked so often."""
        async with asyncio.timeout(30):
            while len(self.got) < count:
                await asyncio.sleep(0.02)


@pytest.fixture
def setup(pool: Pool) -> WebhookSetup:
    return WebhookSetup(WebhookStore(pool), ExperimentStore(pool, 100), private=False)


@asynccontextmanager
async def dispatching(pool: Pool, **timing: Any) -> AsyncIterator[Dispatcher]:
    timing = {"poll_seconds": 0.02, "first_wait_seconds": 0.01} | timing
    dispatcher = Dispatcher(WebhookStore(pool), private=False, **timing)
    dispatcher.start()
    try:
        yield dispatcher
    finally:
        await dispatcher.stop()


async def counted(dispatcher: Dispatcher, **wanted: int) -> None:
    async with asyncio.timeout(30):
        while any(dispatcher.counts[outcome] < count for outcome, count in wanted.items()):
            await asyncio.sleep(0.02)
    assert {outcome: dispatcher.counts[outcome] for outcome in wanted} == wanted


def said(number: int = 1, **fields: Any) -> Assessment:
    plain = {
        "experiment_id": 0,
        "target_type": "trace",
        "trace_id": numbered(number),
        "name": "tone",
        "kind": "feedback",
        "source_type": "LLM_JUDGE",
        "value": False,
    }
    return Assessment(**(plain | fields))


async def test_an_assessment_is_told_signed_and_once_for_each_state(pool: Pool, setup: WebhookSetup) -> None:
    receiver, store = Receiver(), AssessmentStore(pool)
    async with serving(receiver.app) as url, dispatching(pool) as dispatcher:
        _, secret = await setup.set({"name": "team", "url": f"{url}/hook?team=a"})
        made = await store.create(said(rationale="It is rude."))
        await receiver.until(1)
        await store.update(made.trace_id, made.assessment_id, AssessmentChange(verdict=Verdict("feedback", True)))
        await store.update(made.trace_id, made.assessment_id, AssessmentChange(metadata={"seen": "yes"}))
        await counted(dispatcher, delivered=2, failed=0)
    first, second = receiver.told()
    for headers, body in receiver.got:
        assert Webhook(secret).verify(body, headers)["type"] == "assessment"
    with pytest.raises(Exception, match="signature"):
        Webhook(secret).verify(receiver.got[0][1] + b" ", receiver.got[0][0])
    assert (first["data"]["assessment_id"], first["data"]["value"]) == (made.assessment_id, False)
    assert (first["data"]["rationale"], first["data"]["trace_id"]) == ("It is rude.", numbered(1))
    assert (second["data"]["value"], second["data"]["revision"]) == (True, 2)
    assert receiver.got[0][0]["webhook-id"] == f"msg_{made.assessment_id}_1"


async def test_filters_narrow_what_is_told(pool: Pool, setup: WebhookSetup) -> None:
    store = AssessmentStore(pool)
    for name, narrowed in {
        "all": {},
        "scorer": {"scorer": "polite"},
        "experiment": {"experiment": 0},
        "failed": {"errors": "only"},
        "worked": {"errors": "none"},
        "no": {"value_is": "false"},
        "low": {"below": 0.5},
        "high": {"above": 3},
        "between": {"above": 0.5, "below": 4.5},
    }.items():
        await setup.set({"name": name, "url": "https://hook.example/", **narrowed})
    await setup.set({"name": "alerts", "url": "https://hook.example/", "events": ["job.dead"]})
    await store.create(said(1))
    await store.create(said(2, value=4))
    await store.create(said(3, value="yes", experiment_id=7))
    await store.record(said(4, value=None, error=AssessmentError("TIMEOUT"), scorer_name="polite", scorer_version=1))
    await store.create(said(5, value=10**400))
    rows = await pool.fetch(
        "SELECT w.name, array_agg(right(d.payload #>> '{data,trace_id}', 1) ORDER BY d.delivery_id) AS told"
        " FROM tracestone.webhooks AS w JOIN tracestone.webhook_deliveries AS d USING (webhook_id) GROUP BY w.name"
    )
    assert {row["name"]: "".join(row["told"]) for row in rows} == {
        "all": "12345",
        "scorer": "4",
        "experiment": "1245",
        "failed": "4",
        "worked": "1235",
        "no": "1",
        "low": "1",
        "high": "2",
        "between": "23",
    }


async def test_what_fails_is_tried_again_under_the_same_id(pool: Pool, setup: WebhookSetup) -> None:
    receiver, store = Receiver([500, 503, 302, "hangs"]), AssessmentStore(pool)
    async with serving(receiver.app) as url, dispatching(pool, try_seconds=1.0) as dispatcher:
        _, secret = await setup.set({"name": "team", "url": f"{url}/hook"})
        await store.create(said())
        await counted(dispatcher, delivered=1, failed=4, dead=0)
    assert len(receiver.got) == 5
    assert len({headers["webhook-id"] for headers, _ in receiver.got}) == 1
    assert len({body for _, body in receiver.got}) == 1
    Webhook(secret).verify(receiver.got[-1][1], receiver.got[-1][0])
    assert await pool.fetchval("SELECT count(*) FROM tracestone.webhook_deliveries") == 0


async def test_one_that_hangs_holds_up_nobody_else(pool: Pool, setup: WebhookSetup) -> None:
    slow, quick, store = Receiver(["hangs"] * 100), Receiver(), AssessmentStore(pool)
    async with serving(slow.app) as bad, serving(quick.app) as good, dispatching(pool, try_seconds=20.0):
        await setup.set({"name": "slow", "url": f"{bad}/hook"})
        await setup.set({"name": "quick", "url": f"{good}/hook"})
        for number in range(1, 31):
            await store.create(said(number))
        await quick.until(30)
        assert len({headers["webhook-id"] for headers, _ in quick.got}) == 30
        assert 1 <= len(slow.got) <= 8
        assert (await setup.store.state("slow")).waiting == 30


async def test_what_is_too_old_or_gone_is_dead_until_it_is_replayed(pool: Pool, setup: WebhookSetup) -> None:
    receiver, store = Receiver([500, 410]), AssessmentStore(pool)
    async with serving(receiver.app) as url:
        await setup.set({"name": "team", "url": f"{url}/hook"})
        await store.create(said(1))
        await pool.execute("UPDATE tracestone.webhook_deliveries SET created_at = now() - interval '25 hours'")
        async with dispatching(pool) as dispatcher:
            await counted(dispatcher, dead=1)
            await store.create(said(2))
            await counted(dispatcher, dead=2, failed=0)
            state = await setup.store.state("team")
            assert (state.waiting, state.dead, state.error) == (0, 2, "it answers 410")
            assert await setup.store.replay("team") == 2
            await counted(dispatcher, delivered=2)
    assert len({headers["webhook-id"] for headers, _ in receiver.got}) == 2
    assert await setup.store.forget() == 0


async def test_the_queue_is_bounded(pool: Pool, setup: WebhookSetup, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tracestone.schema.stores.webhooks.MOST_WAITING", 3)
    await setup.set({"name": "team", "url": "https://hook.example/"})
    for number in range(1, 6):
        await AssessmentStore(pool).create(said(number))
    assert await setup.store.forget() == 2
    told = await pool.fetch("SELECT payload FROM tracestone.webhook_deliveries ORDER BY delivery_id")
    assert [row["payload"]["data"]["trace_id"] for row in told] == [numbered(number) for number in (3, 4, 5)]


async def test_alerts_are_told_once(pool: Pool, setup: WebhookSetup) -> None:
    await setup.set({"name": "ops", "url": "https://hook.example/", "events": ALERTS})
    scorers, jobs, budgets = ScorerStore(pool), JobStore(pool), BudgetStore(pool)
    scorer = await scorers.define(define("tone", "error", {}))
    config = await scorers.put_config("tone", version=None, experiment_id=None, sample_rate=1.0, filter="", salt="")
    async with jobs.look(config.config_id, "prompt") as held:
        assert held is not None
        await held.advance(Cursor(1), "tone", scorer.version, [Target(0, numbered(number)) for number in range(1, 7)])
    budget, _ = await budgets.set(BudgetRequest(usd=1, per="day"), None)
    for _ in range(3):  # 0.4, 0.8, 1.2 of 1 USD
        call = uuid4()
        await budgets.reserve(uuid4(), 60, [Reserve(call, "tone", 0, 0.1, 10)])
        await budgets.settle(uuid4(), [Settle(call, "tone", 0, 1, 0.4, 10)])
    spent = Wait("budget", f"budget {budget.budget_id}: the budget of this period is spent", budget_id=budget.budget_id)
    down = Wait("provider", "calls of openai are stopped: TIMEOUT: no answer within 60 seconds", seconds=60)
    busy = Wait("provider", "openai/gpt-4o-mini takes no more calls now", seconds=60)
    claimed = await jobs.claim(6, uuid4(), 60)
    for job, wait in zip(claimed[:4], (spent, down, down, busy), strict=True):
        assert await jobs.defer(job, Usage(), wait)
    for job in claimed[4:]:
        async with pool.acquire() as connection, connection.transaction():
            dead = await DeadJobStore(pool).bury(job, 0, connection)
            assert dead is not None
            error = said(job.job_id, value=None, error=AssessmentError("UNAUTHENTICATED", "no key"))
            recorded = await AssessmentStore(pool).create(error)
        async with pool.acquire() as connection:
            await DeadJobStore(pool).explain(dead, recorded.assessment_id, connection)
    for reason in ("code 6", "code 6", "code 7"):
        await jobs.fail_look(config.config_id, "prompt", reason)
    rows = await pool.fetch("SELECT payload FROM tracestone.webhook_deliveries ORDER BY delivery_id")
    told = [(row["payload"]["type"], row["payload"]["data"]) for row in rows]
    assert [kind for kind, _ in told] == ALERTS[:3] + ["job.dead", "scorer.stopped"]
    data = dict(told)
    assert (data["budget.warning"]["spent"], data["budget.exhausted"]["cap"]) == (pytest.approx(0.8), 1)
    assert (data["provider.down"]["provider"], data["job.dead"]["code"]) == ("openai", "UNAUTHENTICATED")
    assert (data["scorer.stopped"]["scorer"], data["scorer.stopped"]["reason"]) == ("tone", "code 6")


@pytest.mark.parametrize(
    ("address", "default"),
    [
        ("127.0.0.1", True),
        ("::1", True),
        ("8.8.8.8", True),
        ("10.0.0.1", False),
        ("192.168.1.1", False),
        ("169.254.169.254", False),
        ("fd00::1", False),
        ("::ffff:10.0.0.1", False),
        ("0.0.0.0", False),
        ("100.64.0.1", False),
    ],
)
def test_which_addresses_may_be_asked(pool: Pool, address: str, default: bool) -> None:
    assert Dispatcher(WebhookStore(pool), private=False).allowed(ip_address(address)) is default
    assert Dispatcher(WebhookStore(pool), private=True).allowed(ip_address(address))


async def test_a_connection_goes_to_an_address_that_was_looked_at() -> None:
    with pytest.raises(NotAllowed):
        await post("http://localhost:1/", b"", {}, seconds=5, allowed=lambda address: not address.is_loopback)
    with pytest.raises(NotReached):
        await post("http://localhost:1/", b"", {}, seconds=5)


@pytest.mark.parametrize(
    ("document", "field"),
    [
        ({"name": "a b", "url": "https://x.example/"}, "name"),
        ({"name": "a", "url": "ftp://x.example/"}, "url"),
        ({"name": "a", "url": "https://me:secret@x.example/"}, "url"),
        ({"name": "a", "url": "http://x.example/"}, "url"),
        ({"name": "a", "url": "https://x.example/", "events": ["everything"]}, "events.0"),
        ({"name": "a", "url": "https://x.example/", "experiment": 99}, "experiment"),
        ({"name": "a", "url": "https://x.example/", "secret": "whsec_x"}, "secret"),
    ],
)
async def test_what_cannot_be_a_webhook(setup: WebhookSetup, document: dict[str, Any], field: str) -> None:
    with pytest.raises(Invalid) as refused:
        await setup.set(document)
    assert refused.value.field == field


@pytest_asyncio.fixture
async def api(setup: WebhookSetup) -> AsyncIterator[httpx.AsyncClient]:
    app = Starlette(routes=webhooks_api.routes(webhooks_api.Deps(setup)))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://here/api/v1") as client:
        yield client


async def test_the_api_shows_a_secret_once(api: httpx.AsyncClient, pool: Pool) -> None:
    document = {"name": "team", "url": "https://hook.example/a", "scorer": "tone"}
    made = await api.post("/webhooks", json=document)
    again = await api.post("/webhooks", json=document | {"url": "https://hook.example/b"})
    secret = made.json()["secret"]
    assert (made.status_code, again.status_code, secret[:6]) == (201, 200, "whsec_")
    listed = await api.get("/webhooks")
    assert secret not in again.text + listed.text
    assert listed.json()["webhooks"] == [again.json()]
    assert again.json()["url"] == "https://hook.example/b"
    assert (await api.post("/webhooks/team/test")).status_code == 202
    assert (await api.get("/webhooks")).json()["webhooks"][0]["waiting"] == 1
    renewed = (await api.post("/webhooks/team/secret")).json()["secret"]
    assert renewed not in ("", secret)
    assert (await api.post("/webhooks/team/replay")).json() == {"replayed": 0}
    assert (await api.delete("/webhooks/team")).status_code == 204
    gone = [
        await api.delete("/webhooks/team"),
        await api.post("/webhooks/team/test"),
        await api.post("/webhooks/x/replay"),
    ]
    assert [answer.status_code for answer in gone] == [404, 404, 404]
    assert await pool.fetchval("SELECT count(*) FROM tracestone.webhook_deliveries") == 0


async def test_commands_beside_a_running_tracestone(
    pool: Pool, columnar: Columnar, tmp_path: Path, postgres_url: str
) -> None:
    receiver = Receiver()
    async with serving(receiver.app) as url:
        hooks = [{"name": "team", "url": f"{url}/hook", "events": ["job.dead"]}]
        async with running(pool, columnar, tmp_path / "site", webhooks=hooks):
            beside = {"TRACESTONE_POSTGRES_URL": postgres_url}
            code, out, err = await run_command("webhooks", "test", "team", **beside)
            assert (code, out) == (0, "Delivered.\n"), err
            assert receiver.told()[0]["type"] == "webhook.test"
            code, out, err = await run_command("webhooks", "secret", "team", **beside)
            Webhook(out.strip())
            code, out, err = await run_command("webhooks", "list", "--json", **beside)
            assert (code, json.loads(out)["events"]) == (0, ["job.dead"]), err
            code, out, err = await run_command("webhooks", "set", "b", "http://far.example/", **beside)
            assert code != 0
            assert "webhooks_private" in err
            code, out, err = await run_command("webhooks", "remove", "team", **beside)
            assert (code, out) == (0, "Removed.\n"), err
