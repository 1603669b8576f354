"""Assessments as they are stored, in whatever experiment."""

from tracestone.schema.assessments import Assessment
from tracestone.schema.stores.assessments import AssessmentStore


async def assessments_of(store: AssessmentStore, trace_id: str) -> list[Assessment]:
    """All that are filed under a trace id, oldest first."""
    rows = await store._pool.fetch(
        "SELECT experiment_id FROM tracestone.assessments WHERE trace_id = $1 GROUP BY experiment_id", trace_id
    )
    found = await store.by_traces([(row["experiment_id"], trace_id) for row in rows])
    return sorted(
        (each for filed in found.values() for each in filed), key=lambda each: (each.created_at_ms, each.assessment_id)
    )
