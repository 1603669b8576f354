"""Builds one collector from settings and two open stores: receiver, log, loader, mirror, APIs, pages. No logic."""

import asyncio
import logging
from collections.abc import Callable, Container, Coroutine, Iterable
from contextlib import AsyncExitStack
from dataclasses import asdict
from typing import Any, TypeVar

from starlette.types import ASGIApp

from tracestone.collector import (
    backfills_api,
    budgets_api,
    freshness,
    jobs_api,
    keys_api,
    prices_api,
    reviews_api,
    scoring_api,
    web,
    webhooks_api,
)
from tracestone.collector.auth.visible import VisibleAssessments, VisibleSpans
from tracestone.collector.connections import HttpLimits
from tracestone.collector.deadletters.box import Box
from tracestone.collector.deadletters.replay import Replay
from tracestone.collector.doors import Doors
from tracestone.collector.evaluation_export.emitter import Emitter
from tracestone.collector.evaluation_export.endpoints import endpoint
from tracestone.collector.http_server import HttpServer
from tracestone.collector.ingest.deadletter import DeadLetters
from tracestone.collector.ingest.destination import Destination
from tracestone.collector.ingest.evaluations import Evaluations
from tracestone.collector.ingest.log_follow import LogFollow
from tracestone.collector.ingest.pipeline import Pipeline
from tracestone.collector.ingest.refresh import TraceRefresh
from tracestone.collector.ingest.turns import Turns
from tracestone.collector.metrics.counts import added_up
from tracestone.collector.metrics.page import Facts, exposition
from tracestone.collector.mirror import Mirror
from tracestone.collector.mlflow_api import routes as mlflow_routes
from tracestone.collector.otlp_ports import OtlpPorts
from tracestone.collector.processes.fleet import ReceiverProcesses, shares
from tracestone.collector.processes.logs import ReceiverLogs, open_receiver_logs, receivers_with_logs
from tracestone.collector.receiver.receivers import Receivers, receivers
from tracestone.collector.rewrite.kinds import KINDS
from tracestone.collector.rewrite.runner import Runner
from tracestone.collector.signals.known import SIGNALS
from tracestone.collector.signals.signal import Signal
from tracestone.collector.sql_endpoint.http import sql_app
from tracestone.collector.ui.pages import Deps as PageDeps
from tracestone.collector.wal.log import Log, open_log
from tracestone.collector.wal.receipt import ReceiptClock
from tracestone.collector.wal.remote import SharedPage
from tracestone.collector.webhook_dispatch import Dispatcher
from tracestone.schema.backfilling import BackfillSetup
from tracestone.schema.budgeting import BudgetSetup
from tracestone.schema.engines.columnar import Columnar, StatementFailed
from tracestone.schema.engines.postgres import Pool, ping
from tracestone.schema.errors import Invalid, StartRefused, StorageDown, TracestoneError, Unavailable
from tracestone.schema.online import OnlineSetup
from tracestone.schema.pricing import Pricing
from tracestone.schema.settings import Settings, prices_of
from tracestone.schema.stores.assessments import AssessmentStore
from tracestone.schema.stores.backfills import BackfillStore
from tracestone.schema.stores.budgets import BudgetStore
from tracestone.schema.stores.dead_jobs import DeadJobStore
from tracestone.schema.stores.evaluation_events import EvaluationEventStore
from tracestone.schema.stores.experiments import ExperimentStore
from tracestone.schema.stores.jobs import JobStore
from tracestone.schema.stores.keys import KeyStore
from tracestone.schema.stores.logs import LogStore
from tracestone.schema.stores.mlflow_scorers import MlflowScorerStore
from tracestone.schema.stores.otlp import OtlpTable
from tracestone.schema.stores.outbox import Outbox
from tracestone.schema.stores.prices import PriceStore, PriceTable
from tracestone.schema.stores.reviews import ReviewStore
from tracestone.schema.stores.rewrites import RewriteStore
from tracestone.schema.stores.scorers import ScorerStore
from tracestone.schema.stores.spans import SpanStore
from tracestone.schema.stores.touches import TouchStore
from tracestone.schema.stores.webhooks import WebhookStore
from tracestone.schema.webhook_setup import WebhookSetup

logger = logging.getLogger(__name__)

T = TypeVar("T")

_CHECK_SECONDS = 3.0
_STOP_CHECKS_SECONDS = 1.0
_PRICES_AT_ONCE = 1000
_READ_BY_ID = ("traces", "logs")


class Collector:
    """Receives, keeps, loads and answers, between `start` and `stop`."""

    def __init__(self, settings: Settings, pool: Pool, columnar: Columnar) -> None:
        self._settings, self._receiver_settings = shares(settings)
        self._pool = pool
        self._columnar = columnar
        self.spans = SpanStore(columnar)
        self.logs = LogStore(columnar)
        self.assessments = AssessmentStore(pool)
        self.experiments = ExperimentStore(pool, settings.max_experiments)
        self.doors = Doors(settings, pool)
        self._mirror = Mirror(pool, columnar)
        self._pricing = Pricing(PriceStore(pool), self.experiments)
        self._jobs = JobStore(pool)
        self._budgets = BudgetStore(pool)
        self._dead_jobs = DeadJobStore(pool)
        self._reviews = ReviewStore(pool)
        self._dead_letters: DeadLetters | None = None
        self._deployment = ""
        self._told = EvaluationEventStore(pool)
        self._evaluations = Evaluations(
            self.logs, self.assessments, lambda: self.barrier(("traces",)), lambda: self._deployment
        )
        self._emitter: Emitter | None = None
        self._webhooks: Dispatcher | None = None
        self._scoring_problem: Callable[[], str] = lambda: ""
        self._judges: Callable[[], dict[str, float]] = dict
        self._stack = AsyncExitStack()
        self._checks: dict[str, asyncio.Task[None]] = {}
        self._pipelines: list[Pipeline] = []
        self._servers: list[HttpServer] = []
        self._receiver_logs: list[ReceiverLogs] = []
        self._times: SharedPage | None = None
        self._receipt = ReceiptClock.alone()
        self._receiving: Receivers | None = None
        self._otlp: OtlpPorts | ReceiverProcesses | None = None
        self.addresses: dict[str, str] = {}

    async def start(self) -> None:
        """Opens the log, starts every part, listens. Raises StartRefused; then nothing is left running."""
        try:
            await self._start()
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        """Refuses new requests, finishes running ones, closes the log. Safe to call twice."""
        await self._stack.aclose()

    async def barrier(self, signals: Container[str] = _READ_BY_ID) -> None:
        """Waits, bounded, until everything acknowledged so far of these signals can be queried; see `freshness`."""
        within = self._settings.read_wait_ms / 1000
        reached = await asyncio.gather(
            *(pipeline.visible(within) for pipeline in self._pipelines if pipeline.signal.name in signals)
        )
        if not all(reached):
            freshness.note_behind()

    async def take_spans(self, request: bytes, experiment_id: int) -> None:
        """Takes an OTLP request that this process itself makes as if it had been sent; returns when it is durable.

        Raises Unavailable, also before the start; Rejected.
        """
        if self._receiving is None:
            raise Unavailable("The receiver has not started.")
        traces = next(each for each in self._receiving.exporters if each.signal.name == "traces")
        await traces.export(request, str(experiment_id))

    def watch_scoring(self, problem: Callable[[], str], spent: Callable[[], dict[str, float]]) -> None:
        """Lets /health and /metrics tell about the scoring that runs in the same process."""
        self._scoring_problem = problem
        self._judges = spent

    def backlogs(self) -> dict[str, dict[str, Any]]:
        """For every signal what waits to be stored, for /health."""
        told = ("state", "waiting_bytes", "bound_bytes", "oldest_seconds")
        backlogs = [asdict(pipeline.backlog()) for pipeline in self._pipelines]
        return {backlog["signal"]: {name: backlog[name] for name in told} for backlog in backlogs}

    async def metrics(self) -> bytes:
        """Everything that is counted, as Prometheus reads it."""
        assert self._dead_letters is not None
        letters, problems, mirror, jobs, budgets, dead = await asyncio.gather(
            asyncio.to_thread(Box(self._settings.data_dir).counts),
            self.health(),
            answer_within(_CHECK_SECONDS, self._mirror.health()),
            answer_within(_CHECK_SECONDS, self._jobs.by_state()),
            answer_within(_CHECK_SECONDS, self._budgets.states()),
            answer_within(_CHECK_SECONDS, self._dead_jobs.counts()),
        )
        return exposition(
            Facts(
                receiver=added_up(self.receiver_counters()),
                backlogs=[pipeline.backlog() for pipeline in self._pipelines],
                loaders={pipeline.signal.name: pipeline.loader.state for pipeline in self._pipelines},
                letters=letters,
                letters_kept=self._dead_letters.kept,
                evaluations=self._evaluations.counts,
                problems=problems,
                mirror_waiting=None if mirror is None else mirror.waiting,
                jobs=jobs,
                judges=self._judges(),
                budgets=budgets or (),
                dead_jobs=dead or (),
                reviews=await answer_within(_CHECK_SECONDS, self._reviews.counts()) or {},
                emitted=self._emitter.counts if self._emitter else {},
                webhooks=self._webhooks.counts if self._webhooks else {},
            )
        )

    async def health(self) -> dict[str, str]:
        """For every part what is wrong with it, "" when it works."""
        clickhouse, postgres, mirror = await asyncio.gather(
            self._check("clickhouse", self._columnar.ping),
            self._check("postgres", lambda: ping(self._pool)),
            self._check("mirror", self._mirror_works),
        )
        return {
            "clickhouse": clickhouse,
            "postgres": postgres,
            "write_ahead_log": _joined(pipeline.log_problem() for pipeline in self._pipelines),
            "loader": _joined(pipeline.loader_problem() for pipeline in self._pipelines),
            "mirror": mirror,
            "scoring": self._scoring_problem(),
            **(self._otlp.problems() if self._otlp is not None else {}),
            **{f"http_{server.name}": "" if server.running else "does not serve" for server in self._servers},
        }

    def warnings(self) -> dict[str, str]:
        """What somebody should see to although every part works, by its subject."""
        problem = self.doors.tls_problem()
        return {"tls": problem} if problem else {}

    async def _start(self) -> None:
        settings = self._settings
        self._stack.push_async_callback(self._stop_checks)
        doors = self.doors
        self._stack.push_async_callback(doors.stop)
        await doors.start()
        await self._follow_prices_file()
        self._deployment = await self._told.deployment()
        self._times = SharedPage.new()
        self._stack.callback(self._times.close)
        self._receipt = self._times.receipt_clock(0, settings.receivers + 1)
        await self._open_logs()
        await self._mirror.start()
        self._stack.push_async_callback(self._mirror.stop, 2.0)
        if settings.evaluations_endpoint is not None:
            headers = settings.evaluations_headers
            receiver = endpoint(settings.evaluations_endpoint, headers.get_secret_value() if headers else "")
            self._emitter = Emitter(self._told, self.logs, receiver, self._deployment)
            await self._emitter.start()
            self._stack.push_async_callback(self._emitter.stop)
        rewrites = Runner(self._pool, self._columnar, KINDS)
        await rewrites.start()
        self._stack.push_async_callback(rewrites.stop)
        writers = {pipeline.signal.name: pipeline.log.writer for pipeline in self._pipelines}
        receiving = self._receiving = receivers(
            settings, writers, self.experiments, self._receipt, doors.gate, doors.grpc_credentials()
        )
        if self._columnar.embedded:
            # On a server, readers talk to ClickHouse itself.
            readers = sql_app(settings, self._columnar)
            sql = await self._serve(self._http(doors.sql(readers), settings.sql_port, "sql"))
            # Runs before the server's own stop, so that a long statement does not hold it up.
            self._stack.push_async_callback(readers.state.statements.close)
            self.addresses["SQL"] = f"{doors.scheme}://{_authority(settings.host, sql.port)}"
        otlp = self._otlp = self._otlp_ports(receiving)
        self._stack.push_async_callback(otlp.stop)
        await otlp.start()
        webhooks = await self._start_webhooks()
        spans, assessments = VisibleSpans(self._columnar), VisibleAssessments(self._pool)
        scoring = self._scoring_api()
        app = web.main_app(
            receiving.http,
            mlflow_routes.Deps(
                self.experiments,
                assessments,
                spans,
                MlflowScorerStore(self._pool, scoring.setup),
                self.barrier,
            ),
            scoring,
            backfills_api.Deps(BackfillSetup(scoring.setup, BackfillStore(self._pool))),
            budgets_api.Deps(BudgetSetup(self._budgets, ScorerStore(self._pool), self.experiments)),
            jobs_api.Deps(self._jobs, self._dead_jobs),
            keys_api.Deps(KeyStore(self._pool), self.experiments, doors.gate),
            prices_api.Deps(self._pricing, PriceTable(self._columnar), RewriteStore(self._pool)),
            reviews_api.Deps(self._reviews, spans, assessments),
            webhooks_api.Deps(webhooks),
            PageDeps(spans, assessments, self._columnar, self.barrier, _authority(settings.host, otlp.grpc_port)),
            web.Told(self.health, self.warnings, self.backlogs, self.metrics),
            settings,
        )
        main = await self._serve(self._http(doors.main(app), settings.port, "main"))
        self.addresses = {
            "OTLP gRPC": f"{doors.scheme}://{_authority(settings.host, otlp.grpc_port)}",
            "OTLP HTTP": f"{doors.scheme}://{_authority(settings.host, otlp.http_port)}/v1/traces",
            "Page and API": f"{doors.scheme}://{_authority(settings.host, main.port)}",
            **self.addresses,
        }
        # Before the servers of this process are stopped one after the other.
        self._stack.callback(otlp.end_soon)

    async def _start_webhooks(self) -> WebhookSetup:
        """Applies the setting `webhooks` and begins to deliver. Raises StartRefused."""
        private = self._settings.webhooks_private
        setup = WebhookSetup(WebhookStore(self._pool), self.experiments, private=private)
        try:
            new = await setup.apply(self._settings.webhooks)
        except Invalid as error:
            raise StartRefused(f"The setting {error.field} cannot be used: {error.reason}.") from error
        if new:
            told = "webhooks are new; `tracestone webhooks secret NAME` gives each its secret"
            logger.info(told, extra={"action": "webhooks", "webhooks": ", ".join(new)})
        self._webhooks = Dispatcher(setup.store, private=private)
        self._webhooks.start()
        self._stack.push_async_callback(self._webhooks.stop)
        return setup

    def receiver_counters(self) -> list[dict[str, float]]:
        """What each process that receives has counted since the start."""
        own = [] if self._receiving is None else [self._receiving.counters()]
        return [*own, *self._otlp.counters()] if isinstance(self._otlp, ReceiverProcesses) else own

    def _otlp_ports(self, receiving: Receivers) -> OtlpPorts | ReceiverProcesses:
        if self._settings.receivers == 1:
            return OtlpPorts(self._settings, receiving, self.doors)
        assert self._times is not None
        return ReceiverProcesses(self._receiver_settings, self._receiver_logs[: self._settings.receivers], self._times)

    def _http(self, app: ASGIApp, port: int, name: str) -> HttpServer:
        limits = HttpLimits.of(self._settings)
        return HttpServer(app, host=self._settings.host, port=port, name=name, limits=limits, tls=self.doors.context())

    def _scoring_api(self) -> scoring_api.Deps:
        scorers = ScorerStore(self._pool)
        setup = OnlineSetup(
            scorers,
            self.experiments,
            self._columnar,
            self._settings.judge_api_bases,
            code_scorers=self._settings.code_scorers,
        )
        return scoring_api.Deps(scorers, setup)

    async def _follow_prices_file(self) -> None:
        """Before any span is priced. Raises StartRefused."""
        try:
            await self._pricing.follow_file(prices_of(self._settings))
        except Invalid as error:
            raise StartRefused(f"The prices file {self._settings.prices_file} cannot be used: {error}.") from error
        outbox = Outbox(self._pool, self._columnar)
        while await outbox.prices_waiting() and await outbox.deliver(_PRICES_AT_ONCE):
            pass

    async def _serve(self, server: HttpServer) -> HttpServer:
        await server.start()
        self._stack.push_async_callback(server.stop)
        self._servers.append(server)
        return server

    async def _open_logs(self) -> None:
        settings = self._settings
        wal = settings.data_dir / "wal"
        for number in receivers_with_logs(wal, settings.receivers):
            logs = await open_receiver_logs(wal, number, [signal.name for signal in SIGNALS], self._receipt)
            self._stack.push_async_callback(logs.close)
            self._receiver_logs.append(logs)
        dead_letters = self._dead_letters = DeadLetters(settings.data_dir / "deadletter")
        turns, touches = Turns(), TouchStore(self._columnar)
        refresh = TraceRefresh(self.spans, self._receipt)
        destinations = {
            "traces": Destination(
                self.spans.insert,
                refresh,
                touches.touched,
                touches.touch,
                "traces",
                "sipHash64(trace_id)",
            ),
            "logs": Destination(
                self.logs.insert,
                LogFollow(refresh, self._evaluations),
                computed="evaluations and the content of spans",
                shared_by="sipHash64(log_id)",
            ),
            "metrics": Destination(OtlpTable(self._columnar, "metrics", "Metrics").insert),
        }
        # All of them, before anything is stamped: each tells the clock of times that must not come again.
        own = {signal.name: await self._open_log(signal) for signal in SIGNALS}
        for signal in SIGNALS:
            others = [logs.halves[signal.name] for logs in self._receiver_logs]
            turn = turns.of_spans if signal.name == "traces" else turns.of_others
            others_max_bytes = self._receiver_settings.wal_max_bytes
            pipeline = Pipeline(
                signal,
                own[signal.name],
                others,
                destinations[signal.name],
                dead_letters,
                turn,
                settings,
                others_max_bytes,
            )
            self._stack.push_async_callback(pipeline.stop)
            pipeline.start()
            self._pipelines.append(pipeline)
        replay = Replay(Box(settings.data_dir), {pipeline.signal.name: pipeline for pipeline in self._pipelines})
        await replay.start()
        self._stack.push_async_callback(replay.stop)

    async def _open_log(self, signal: Signal) -> Log:
        settings = self._settings
        log = await asyncio.to_thread(
            open_log,
            settings.data_dir / "wal" / signal.name,
            self._receipt,
            max_bytes=int(settings.wal_max_bytes * signal.log_share),
            segment_bytes=settings.wal_segment_bytes,
        )
        self._stack.push_async_callback(log.close)
        return log

    async def _mirror_works(self) -> None:
        state = await self._mirror.health()
        if not state.ok:
            raise StorageDown(state.problem)

    async def _check(self, part: str, ask: Callable[[], Coroutine[Any, Any, None]]) -> str:
        # A driver may take long to give up a question, so it is left to it; nobody asks again until then.
        if part not in self._checks or self._checks[part].done():
            self._checks[part] = asyncio.create_task(ask(), name=f"check {part}")
        check = self._checks[part]
        await asyncio.wait([check], timeout=_CHECK_SECONDS)
        if not check.done():
            return f"no answer within {_CHECK_SECONDS:g} s"
        try:
            check.result()
        except (TracestoneError, StatementFailed) as error:
            return str(error)
        return ""

    async def _stop_checks(self) -> None:
        for check in self._checks.values():
            check.cancel()
        if self._checks:
            await asyncio.wait(self._checks.values(), timeout=_STOP_CHECKS_SECONDS)


async def answer_within(seconds: float, asked: Coroutine[Any, Any, T]) -> T | None:
    """An answer of a store, None if it has none in time."""
    try:
        async with asyncio.timeout(seconds):
            return await asked
    except (TimeoutError, TracestoneError):
        return None


def _joined(problems: Iterable[str]) -> str:
    return "; ".join(problem for problem in problems if problem)


def _authority(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
