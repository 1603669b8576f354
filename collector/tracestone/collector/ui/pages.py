"""One documented context for each page, and how it is filled. A template sees it as `page`."""

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from urllib.parse import urlencode

from tracestone.collector.auth.caller import caller, visible
from tracestone.collector.ui import format as fmt
from tracestone.collector.ui.layouts import Layouts
from tracestone.schema import clock
from tracestone.schema.assessments import Assessment, value_text
from tracestone.schema.engines.columnar import Columnar
from tracestone.schema.errors import Invalid, NotFound
from tracestone.schema.prices import shipped
from tracestone.schema.prices.price import Price
from tracestone.schema.stores.assessments import AssessmentStore
from tracestone.schema.stores.pages import (
    ExperimentSummary,
    PageStore,
    Place,
    SessionSummary,
    TraceFilter,
)
from tracestone.schema.stores.prices import PriceTable, UnknownModel
from tracestone.schema.stores.spans import SpanStore
from tracestone.schema.traces import TraceInfo

PAGE_ROWS = 50
SESSION_TURNS = 200
MAX_CHIPS = 6
MAX_PRICES = 200
STATES = ("OK", "ERROR", "IN_PROGRESS")


@dataclass(frozen=True)
class Deps:
    """What the pages need. `barrier` waits until all that this process acknowledged can be read."""

    spans: SpanStore
    assessments: AssessmentStore
    columnar: Columnar
    barrier: Callable[[], Awaitable[None]]
    otlp_grpc: str = "127.0.0.1:4317"  # shown where there is nothing to show yet
    layouts: Layouts = field(default_factory=Layouts)


@dataclass(frozen=True)
class Crumb:
    """A step of the way to this page."""

    label: str
    href: str


@dataclass(frozen=True)
class Score:
    """An assessment as a small chip. `tone` is yes, no, plain or error; `title` says more."""

    name: str
    text: str
    tone: str
    title: str


@dataclass(frozen=True)
class ExperimentsPage:
    """`/`: every experiment. `otlp_grpc` is where to send a first trace."""

    title: str
    crumbs: tuple[Crumb, ...]
    experiments: tuple[ExperimentSummary, ...]
    now_ns: int
    otlp_grpc: str


@dataclass(frozen=True)
class TraceRow:
    """A trace in a list with its scores, of which `more_scores` are left out."""

    info: TraceInfo
    scores: tuple[Score, ...]
    more_scores: int


@dataclass(frozen=True)
class TracesPage:
    """`/experiments/{id}`: traces, newest first. An empty link means that there is no such page."""

    title: str
    crumbs: tuple[Crumb, ...]
    experiment_id: int
    rows: tuple[TraceRow, ...]
    wanted: TraceFilter
    states: tuple[str, ...]
    first_href: str
    newer_href: str
    older_href: str
    now_ns: int
    otlp_grpc: str

    @property
    def filtered(self) -> bool:
        """Whether anything narrows the list."""
        return self.wanted != TraceFilter()


@dataclass(frozen=True)
class SessionsPage:
    """`/experiments/{id}/sessions`: sessions, the one last heard from first."""

    title: str
    crumbs: tuple[Crumb, ...]
    experiment_id: int
    sessions: tuple[SessionSummary, ...]
    first_href: str
    older_href: str
    now_ns: int


@dataclass(frozen=True)
class SessionPage:
    """`/experiments/{id}/session?id=`: the turns of one session in order.

    They are its last ones unless the address says otherwise. An empty link means that there is no such page.
    `assessments` are those of the session itself.
    """

    title: str
    crumbs: tuple[Crumb, ...]
    experiment_id: int
    session_id: str
    summary: SessionSummary
    assessments: tuple[Assessment, ...]
    turns: tuple[TraceRow, ...]
    earlier_href: str
    later_href: str
    latest_href: str
    now_ns: int


@dataclass(frozen=True)
class PricesPage:
    """`/prices`: models that have no price, and the prices that were set here, the newest day last.

    `names` are those of experiments, by id; `shipped` is how many prices came with the package.
    """

    title: str
    crumbs: tuple[Crumb, ...]
    unknown: tuple[UnknownModel, ...]
    own: tuple[Price, ...]
    own_left_out: int
    names: dict[int, str]
    shipped: int
    now_ns: int


@dataclass(frozen=True)
class MessagePage:
    """What to say when there is no page: not found, a bad address, a store that is away."""

    title: str
    crumbs: tuple[Crumb, ...]
    text: str


async def experiments(deps: Deps) -> ExperimentsPage:
    """Raises StorageDown."""
    found = await PageStore(deps.columnar).experiments()
    shown = tuple(each for each in found if visible(each.experiment_id))
    return ExperimentsPage("Experiments", (), shown, clock.now_ns(), deps.otlp_grpc)


async def prices(deps: Deps) -> PricesPage:
    """Raises StorageDown."""
    table, bound = PriceTable(deps.columnar), caller().experiments
    unknown, own, found = await asyncio.gather(
        table.unknown_models(bound), table.own(bound), PageStore(deps.columnar).experiments()
    )
    return PricesPage(
        title="Prices",
        crumbs=(Crumb("Prices", "/prices"),),
        unknown=tuple(unknown),
        own=tuple(own[:MAX_PRICES]),
        own_left_out=max(len(own) - MAX_PRICES, 0),
        names={each.experiment_id: each.name for each in found},
        shipped=len(shipped.prices()),
        now_ns=clock.now_ns(),
    )


async def traces(
    deps: Deps, experiment_id: int, wanted: TraceFilter, older: Place | None, newer: Place | None
) -> TracesPage:
    """The page after `older`, or before `newer`, or the first. Raises StorageDown."""
    store = PageStore(deps.columnar)
    if newer is not None:
        found = await store.traces_newer(experiment_id, PAGE_ROWS + 1, newer, wanted)
        shown, has_newer, has_older = found[-PAGE_ROWS:], len(found) > PAGE_ROWS, True
    else:
        found = await store.traces_older(experiment_id, PAGE_ROWS + 1, older or Place(), wanted)
        shown, has_newer, has_older = found[:PAGE_ROWS], older is not None, len(found) > PAGE_ROWS
    rows, name = await asyncio.gather(_with_scores(deps, shown), store.experiment_name(experiment_id))
    label = name or f"Experiment {experiment_id}"
    base = f"/experiments/{experiment_id}"
    return TracesPage(
        title=label,
        crumbs=(Crumb(label, base),),
        experiment_id=experiment_id,
        rows=rows,
        wanted=wanted,
        states=STATES,
        first_href=_href(base, wanted) if older or newer else "",
        newer_href=_href(base, wanted, after=_place(shown[0])) if shown and has_newer else "",
        older_href=_href(base, wanted, before=_place(shown[-1])) if shown and has_older else "",
        now_ns=clock.now_ns(),
        otlp_grpc=deps.otlp_grpc,
    )


async def sessions(deps: Deps, experiment_id: int, older: Place | None) -> SessionsPage:
    """Raises StorageDown."""
    store = PageStore(deps.columnar)
    found = await store.sessions(experiment_id, PAGE_ROWS + 1, older or Place())
    shown = found[:PAGE_ROWS]
    base = f"/experiments/{experiment_id}/sessions"
    last = shown[-1] if len(found) > PAGE_ROWS else None
    return SessionsPage(
        title="Sessions",
        crumbs=await crumbs(store, experiment_id, Crumb("Sessions", base)),
        experiment_id=experiment_id,
        sessions=shown,
        first_href=base if older else "",
        older_href=f"{base}?{urlencode({'before': f'{last.last_seen_ns}-{last.session_id}'})}" if last else "",
        now_ns=clock.now_ns(),
    )


async def session(
    deps: Deps, experiment_id: int, session_id: str, older: Place | None, newer: Place | None
) -> SessionPage:
    """The turns before `older`, or after `newer`, or the last ones. Raises NotFound and StorageDown."""
    store, wanted = PageStore(deps.columnar), TraceFilter(session_id=session_id)
    summary = await store.session(experiment_id, session_id)
    if summary is None:
        raise NotFound("This session has no traces.")
    if newer is not None:
        found = await store.traces_newer(experiment_id, SESSION_TURNS + 1, newer, wanted)
        shown, has_later, has_earlier = found[-SESSION_TURNS:], len(found) > SESSION_TURNS, True
    else:
        found = await store.traces_older(experiment_id, SESSION_TURNS + 1, older or Place(), wanted)
        shown, has_later, has_earlier = found[:SESSION_TURNS], older is not None, len(found) > SESSION_TURNS
    sessions_crumb = Crumb("Sessions", f"/experiments/{experiment_id}/sessions")
    here = Crumb(fmt.one_line(session_id, 40), "")
    base = f"/experiments/{experiment_id}/session?{urlencode({'id': session_id})}"
    return SessionPage(
        title=f"Session {session_id}",
        crumbs=(*await crumbs(store, experiment_id, sessions_crumb), here),
        experiment_id=experiment_id,
        session_id=session_id,
        summary=summary,
        assessments=tuple(await deps.assessments.by_session(experiment_id, session_id)),
        turns=(await _with_scores(deps, shown))[::-1],
        earlier_href=f"{base}&before={_place(shown[-1])}" if shown and has_earlier else "",
        later_href=f"{base}&after={_place(shown[0])}" if shown and has_later else "",
        latest_href=base if older or newer else "",
        now_ns=clock.now_ns(),
    )


async def trace_info(deps: Deps, trace_id: str, experiment_id: int | None) -> TraceInfo:
    """The trace, once everything acknowledged can be read. Raises NotFound and StorageDown."""
    await deps.barrier()
    info = await deps.spans.info(trace_id, experiment_id)
    if info is None:
        raise NotFound(f"There is no trace {trace_id} here. It may have been sent elsewhere, or deleted.")
    return info


def trace_href(info: TraceInfo, span_id: str = "") -> str:
    """The address of a trace, with a span open."""
    base = f"/experiments/{info.experiment_id}/traces/{info.trace_id}"
    return f"{base}?span={span_id}" if span_id else base


def parse_place(field: str, text: str) -> Place:
    """A place in a list as our links write it: `<nanoseconds>-<id>`. Raises Invalid."""
    time, dash, identifier = text.partition("-")
    if not dash or not time.isascii() or not time.isdigit() or len(time) > 19 or int(time) >= 2**63:
        raise Invalid(field, "is not a place in the list; follow the links of the page instead")
    return Place(int(time), identifier)


def score(assessment: Assessment) -> Score:
    """An assessment as a chip."""
    by = assessment.scorer_name or assessment.source_id or assessment.source_type.lower()
    if assessment.error is not None:
        reason = assessment.error.message or assessment.error.code
        return Score(assessment.name, "error", "error", fmt.one_line(f"{by}: {reason}", 300))
    value = assessment.value
    text = fmt.number(value) if isinstance(value, float) else value_text(value)
    tone = {"true": "yes", "yes": "yes", "false": "no", "no": "no"}.get(text.lower(), "plain")
    return Score(assessment.name, fmt.one_line(text, 24), tone, fmt.one_line(f"{by}: {assessment.rationale}", 300))


async def _with_scores(deps: Deps, infos: Sequence[TraceInfo]) -> tuple[TraceRow, ...]:
    assessments = await deps.assessments.by_traces([info.key for info in infos])
    rows = []
    for info in infos:
        found = sorted(assessments.get(info.key, ()), key=lambda assessment: assessment.name)
        scores = [score(assessment) for assessment in found if assessment.valid]
        rows.append(TraceRow(info, tuple(scores[:MAX_CHIPS]), max(len(scores) - MAX_CHIPS, 0)))
    return tuple(rows)


def by_span(assessments: Sequence[Assessment]) -> dict[str, list[Assessment]]:
    """Assessments by span id; those of the trace itself under ""."""
    found: dict[str, list[Assessment]] = defaultdict(list)
    for assessment in assessments:
        found[assessment.span_id].append(assessment)
    return found


async def crumbs(store: PageStore, experiment_id: int, here: Crumb) -> tuple[Crumb, ...]:
    name = await store.experiment_name(experiment_id)
    return Crumb(name or f"Experiment {experiment_id}", f"/experiments/{experiment_id}"), here


def _place(info: TraceInfo) -> str:
    return f"{info.start_time_ns}-{info.trace_id}"


def _href(base: str, wanted: TraceFilter, **more: str) -> str:
    values = {"state": wanted.state, "name": wanted.name, "session": wanted.session_id, **more}
    query = urlencode({key: value for key, value in values.items() if value})
    return f"{base}?{query}" if query else base
