"""The stores as the current caller may see them: what is in others' experiments does not exist."""

from collections.abc import Collection, Sequence

from tracestone.collector.auth.caller import caller, visible
from tracestone.schema.assessments import Assessment, AssessmentChange
from tracestone.schema.errors import NotFound
from tracestone.schema.spans import Span
from tracestone.schema.stores.assessments import AssessmentStore
from tracestone.schema.stores.spans import SpanStore
from tracestone.schema.traces import Trace, TraceInfo


class VisibleSpans(SpanStore):
    """Reads of spans and traces, for the API and the pages."""

    async def trace(self, trace_id: str, experiment_id: int | None = None) -> Trace | None:
        """As in SpanStore, of the caller's experiments."""
        for experiment in _among(experiment_id):
            found = await super().trace(trace_id, experiment)
            if found is not None:
                return found
        return None

    async def traces(self, experiment_id: int, trace_ids: Sequence[str]) -> dict[str, Trace]:
        """As in SpanStore, of the caller's experiments."""
        return await super().traces(experiment_id, trace_ids) if visible(experiment_id) else {}

    async def info(self, trace_id: str, experiment_id: int | None = None) -> TraceInfo | None:
        """As in SpanStore, of the caller's experiments."""
        for experiment in _among(experiment_id):
            found = await super().info(trace_id, experiment)
            if found is not None:
                return found
        return None

    async def infos(self, experiment_id: int, trace_ids: Sequence[str]) -> dict[str, TraceInfo]:
        """As in SpanStore, of the caller's experiments."""
        return await super().infos(experiment_id, trace_ids) if visible(experiment_id) else {}

    async def latest(self, experiment_id: int, limit: int, before: tuple[int, str] | None = None) -> list[TraceInfo]:
        """As in SpanStore, of the caller's experiments."""
        return await super().latest(experiment_id, limit, before) if visible(experiment_id) else []

    async def span(self, experiment_id: int, trace_id: str, span_id: str) -> Span | None:
        """As in SpanStore, of the caller's experiments."""
        return await super().span(experiment_id, trace_id, span_id) if visible(experiment_id) else None


class VisibleAssessments(AssessmentStore):
    """Assessments, for the API and the pages."""

    async def create(self, assessment: Assessment) -> Assessment:
        """As in AssessmentStore, of the caller's experiments."""
        if not visible(assessment.experiment_id):
            raise NotFound(f"No Experiment with id={assessment.experiment_id} exists")
        return await super().create(assessment)

    async def get(self, trace_id: str, assessment_id: str) -> Assessment:
        """As in AssessmentStore, of the caller's experiments."""
        found = await super().get(trace_id, assessment_id)
        if not visible(found.experiment_id):
            raise NotFound(f"Assessment with ID '{assessment_id}' not found for trace 'tr-{trace_id}'")
        return found

    async def update(self, trace_id: str, assessment_id: str, change: AssessmentChange) -> Assessment:
        """As in AssessmentStore, of the caller's experiments."""
        if caller().experiments is not None:
            await self.get(trace_id, assessment_id)
        return await super().update(trace_id, assessment_id, change)

    async def delete(self, trace_id: str, assessment_id: str) -> bool:
        """As in AssessmentStore, of the caller's experiments."""
        if caller().experiments is not None:
            try:
                await self.get(trace_id, assessment_id)
            except NotFound:
                return False
        return await super().delete(trace_id, assessment_id)

    async def by_traces(self, traces: Sequence[tuple[int, str]]) -> dict[tuple[int, str], list[Assessment]]:
        """As in AssessmentStore, of the caller's experiments."""
        return await super().by_traces([trace for trace in traces if visible(trace[0])])

    async def by_session(self, experiment_id: int, session_id: str) -> list[Assessment]:
        """As in AssessmentStore, of the caller's experiments."""
        return await super().by_session(experiment_id, session_id) if visible(experiment_id) else []

    async def elsewhere(self, experiment_id: int, trace_id: str, among: Collection[int] | None = None) -> int:
        """As in AssessmentStore, of the caller's experiments."""
        bound = caller().experiments
        if bound is not None:
            among = bound if among is None else bound.intersection(among)
        return await super().elsewhere(experiment_id, trace_id, among)


def _among(experiment_id: int | None) -> Sequence[int | None]:
    """Where to look for a trace; None means wherever it is."""
    bound = caller().experiments
    if bound is None:
        return [experiment_id]
    if experiment_id is None:
        return sorted(bound)
    return [experiment_id] if experiment_id in bound else []
