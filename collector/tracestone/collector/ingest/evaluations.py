"""What follows the insert of a batch of logs: its evaluation events become assessments, each once.

The target is the span that the record names, else its trace; a record without a trace id names its span by
`gen_ai.response.id`. One whose target is not known then, or that lacks a name, stays a log record.
"""

import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence

from tracestone.schema.assessments import Assessment
from tracestone.schema.errors import Invalid
from tracestone.schema.evaluations import DEPLOYMENT, RESPONSE_ID, assessment
from tracestone.schema.logs import EvaluationEvent, SpanPlace
from tracestone.schema.stores.assessments import MAX_PER_TRACE, AssessmentStore
from tracestone.schema.stores.logs import LogStore

logger = logging.getLogger(__name__)

SpansLoaded = Callable[[], Awaitable[object]]

OUTCOMES = ("stored", "known", "over_bound", "without_target", "invalid")
_AT_ONCE = 500
_IN_A_STATEMENT = 50


class Evaluations:
    """Makes assessments of the evaluation events of batches. Safe to repeat."""

    def __init__(
        self, logs: LogStore, assessments: AssessmentStore, spans_loaded: SpansLoaded, deployment: Callable[[], str]
    ) -> None:
        """`spans_loaded` waits, bounded, until the spans that were acknowledged can be queried.

        `deployment` tells which deployment this is, whose own events are known already.
        """
        self._logs = logs
        self._assessments = assessments
        self._spans_loaded = spans_loaded
        self._deployment = deployment
        # Since the start, by outcome; an event that is seen again after a crash counts again.
        self.counts: Counter[str] = Counter(dict.fromkeys(OUTCOMES, 0))

    async def follow(self, batches: Sequence[str], share: int, shares: int) -> None:
        """Does it for some batches, for one share of their events. Raises StatementFailed, StorageDown."""
        waited = False

        async def spans_loaded() -> None:
            # Once for all: what was acknowledged before these events is waited for then, however many there are.
            nonlocal waited
            if not waited:
                waited = True
                await self._spans_loaded()

        for batch in batches:
            events = await self._logs.evaluations(batch, share, shares)
            for first in range(0, len(events), _AT_ONCE):
                await self._take(events[first : first + _AT_ONCE], spans_loaded)

    async def _take(self, given: Sequence[EvaluationEvent], spans_loaded: SpansLoaded) -> None:
        events = [event for event in given if event.attributes.get(DEPLOYMENT) != self._deployment()]
        self.counts["known"] += len(given) - len(events)
        places = await self._of_traces([event for event in events if event.trace_id], spans_loaded)
        places |= await self._of_responses([event for event in events if not event.trace_id], spans_loaded)
        found = [made for event in events if (made := self._made(event, places.get(event.log_id)))]
        # As JSON one statement takes a quarter of a gigabyte at most, and each may have a long explanation.
        for first in range(0, len(found), _IN_A_STATEMENT):
            await self._store(found[first : first + _IN_A_STATEMENT])

    async def _store(self, found: Sequence[Assessment]) -> None:
        try:
            observed = await self._assessments.observe(found)
        except Invalid as error:
            middle = len(found) // 2
            if middle:
                await self._store(found[:middle])
                await self._store(found[middle:])
            else:
                self._stays_a_log(found[0].assessment_id, error)
            return
        self.counts["stored"] += observed.new
        self.counts["known"] += len(found) - observed.new - observed.left_out
        if observed.left_out:
            self.counts["over_bound"] += observed.left_out
            extra = {"action": "evaluation", "events": observed.left_out, "bound": MAX_PER_TRACE}
            logger.warning("evaluation events stay log records: their traces have too many assessments", extra=extra)

    def _made(self, event: EvaluationEvent, place: SpanPlace | None) -> Assessment | None:
        if place is None:
            self.counts["without_target"] += 1
            return None
        try:
            return assessment(event, place)
        except Invalid as error:
            self._stays_a_log(event.log_id, error)
            return None

    def _stays_a_log(self, identifier: str, error: Invalid) -> None:
        self.counts["invalid"] += 1
        extra = {"action": "evaluation", "id": identifier, "reason": str(error)}
        logger.warning("an evaluation event stays a log record", extra=extra)

    async def _of_traces(self, events: Sequence[EvaluationEvent], spans_loaded: SpansLoaded) -> dict[str, SpanPlace]:
        if not events:
            return {}
        known = await self._logs.experiments_of([event.trace_id for event in events])
        if unknown := [event.trace_id for event in events if event.trace_id not in known]:
            await spans_loaded()  # they may have been acknowledged and not be stored yet
            known |= await self._logs.experiments_of(unknown)
        places = {}
        for event in events:
            experiments = known.get(event.trace_id, [])
            own = event.experiment_id in experiments or not experiments
            # Who evaluates often has another service name, and so another experiment, than what is evaluated.
            if own or not event.sender_bound:
                experiment = event.experiment_id if own else experiments[0]
                places[event.log_id] = SpanPlace(experiment, event.trace_id, event.span_id)
        return places

    async def _of_responses(self, events: Sequence[EvaluationEvent], spans_loaded: SpansLoaded) -> dict[str, SpanPlace]:
        wanted = {event.log_id: str(event.attributes.get(RESPONSE_ID, "")) for event in events}
        ids = sorted(set(wanted.values()) - {""})
        if not ids:
            return {}
        await spans_loaded()
        times = [event.time_ns for event in events]
        spans = await self._logs.by_response(ids, min(times), max(times))
        places = {}
        for event in events:
            found = spans.get(wanted[event.log_id], {})
            place = found.get(event.experiment_id)
            if place is None and found and not event.sender_bound:
                place = found[min(found)]
            if place is not None:
                places[event.log_id] = place
        return places
