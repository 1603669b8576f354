"""Verdicts on disk, until Postgres has them."""

from dataclasses import replace
from pathlib import Path
from uuid import uuid4

from support.stored_traces import numbered
from tracestone.schema.assessments import AssessmentError
from tracestone.schema.stores.jobs import Job, Usage
from tracestone.scoring.kept import KeptVerdicts
from tracestone.scoring.run import Scored
from tracestone.scoring.scorers.protocol import Outcome


def test_what_is_kept_reads_back_as_it_was_and_what_is_damaged_stays(tmp_path: Path) -> None:
    kept = KeptVerdicts(tmp_path / "verdicts")
    assert kept.all() == []
    usage = Usage(2, 0.25, 10, None)
    job = Job(7, uuid4(), "tone", 3, 5, numbered(1), 0.5, 2, 1, usage)
    error = AssessmentError("TIMEOUT", "too slow", "stack")
    given = [
        Scored(job, Outcome("LLM_JUDGE", "m", value=value, rationale="ünü", usage=usage, metadata={"a": "b"}))
        for value in (True, 1, 4.0, "yes", None, ["a", 1.5, None], {"k": [True]})
    ]
    for scored in [*given, Scored(job, Outcome("CODE", "x", error=error)), Scored(job, again=1.5)]:
        kept.keep(scored)
        (found,) = kept.all()
        assert found == scored
        assert found.outcome is None or type(found.outcome.value) is type(scored.outcome and scored.outcome.value)
    assert kept.has(job) and not kept.has(replace(job, lease=uuid4()))
    (tmp_path / "verdicts" / "9-x.json").write_text("[")
    assert len(kept.all()) == 1
    kept.forget(job)
    kept.forget(job)
    assert kept.all() == []
    assert [path.name for path in (tmp_path / "verdicts").iterdir()] == ["9-x.json"]
