"""From a job to what its scorer is given: the span, the trace or the session, with a digest of its content."""

import asyncio
import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from tracestone.schema.spans import Span
from tracestone.schema.stores.jobs import Job
from tracestone.schema.traces import SessionTraces, Trace
from tracestone.scoring import head
from tracestone.scoring.load import BatchedTraces, TraceReader
from tracestone.scoring.scorers.protocol import Subject
from tracestone.scoring.scorers.subject import subject_of, subject_of_session, subject_of_span
from tracestone.scoring.threads import computed

# Of a session, the latest ones; a conversation that is longer is scored by its end.
MAX_TURNS = 200


class TargetReader(TraceReader, Protocol):
    """Where traces, sessions and single spans are read; `stores.spans.SpanStore` is one."""

    async def of_session(self, experiment_id: int, session_id: str, limit: int) -> SessionTraces:
        """The latest traces of a session, none when it is unknown. Raises StorageDown."""
        ...

    async def span(self, experiment_id: int, trace_id: str, span_id: str) -> Span | None:
        """One span with its payload; None when unknown. Raises StorageDown."""
        ...


@dataclass(frozen=True)
class Loaded:
    """A subject as it was read.

    `seen_ns` is the state it was in (`TraceInfo.seen_ns`), `digest` the SHA-256 of all that a scorer could read, in
    hex, `head` the chance with which it was kept at its source, None when it is unknown.
    """

    subject: Subject
    seen_ns: int
    digest: str
    head: float | None


class Subjects:
    """Reads the targets of jobs. Traces wanted at the same time are read together."""

    def __init__(self, reader: TargetReader) -> None:
        self._reader = reader
        self._traces = BatchedTraces(reader)

    @property
    def read_at_once(self) -> int:
        """How many traces are read together now: the larger they are, the fewer."""
        return self._traces.at_once

    async def load(self, job: Job) -> Loaded | None:
        """The target of a job; None when it is not stored. Raises StorageDown, StatementFailed, TooLarge."""
        if job.target_type == "session":
            return await self._session(job)
        trace = await self._traces.trace(job.experiment_id, job.trace_id)
        if trace is None:
            return None
        if job.target_type == "span":
            return await self._span(job, trace)
        return await computed(trace.spans, lambda: _loaded(subject_of(trace, job.expectations), trace.info.seen_ns))

    async def _span(self, job: Job, trace: Trace) -> Loaded | None:
        span = next((span for span in trace.spans if span.span_id == job.span_id), None)
        if span is None and trace.cut:
            span = await self._reader.span(job.experiment_id, job.trace_id, job.span_id)
        if span is None:
            return None
        alone = Trace(trace.info, (span,), trace.cut)
        return await computed(
            [span], lambda: _loaded(subject_of_span(alone, span, job.expectations), trace.info.seen_ns)
        )

    async def _session(self, job: Job) -> Loaded | None:
        session = await self._reader.of_session(job.experiment_id, job.session_id, MAX_TURNS)
        found = await asyncio.gather(*(self._traces.trace(*info.key) for info in session.infos))
        traces = [trace for trace in found if trace is not None]
        if not traces:
            return None
        omitted = session.count - len(session.infos)
        return await computed(
            (span for trace in traces for span in trace.spans),
            lambda: _loaded(subject_of_session(job.session_id, traces, omitted, job.expectations), session.seen_ns),
        )


def _loaded(subject: Subject, seen_ns: int) -> Loaded:
    told = subject.span if subject.span is not None else subject.trace.root
    # Of a session nothing is known: which of its traces are here depends on the chances of all of them.
    known = None if told is None or subject.target_type == "session" else head.probability(told.trace_state)
    return Loaded(subject, seen_ns, digest(subject), known)


def digest(subject: Subject) -> str:
    """SHA-256 of what scorers read of a subject, in hex: equal content has an equal one, whenever it arrived."""
    sha = hashlib.sha256()
    for piece in _pieces(subject):
        text = piece.encode("utf-8", "surrogatepass")
        sha.update(len(text).to_bytes(8, "big") + text)
    return sha.hexdigest()


def _pieces(subject: Subject) -> Iterator[str]:
    yield subject.target_type
    yield subject.inputs
    yield subject.outputs
    yield json.dumps(subject.expectations, sort_keys=True, default=str)
    yield str(subject.omitted)
    for span in subject.spans:
        yield from (
            *(span.trace_id, span.span_id, span.parent_span_id, span.name, span.span_type, span.operation, span.kind),
            *(span.status_code, span.status_message, span.error_type, str(span.start_time_ns), str(span.duration_ns)),
            *(span.input, span.output, span.input_messages, span.output_messages, span.system_instructions),
            *(span.tool_name, span.tool_arguments, span.tool_result, span.retrieval_documents),
            *(str(span.input_tokens), str(span.output_tokens), str(span.total_tokens), str(span.cost_total)),
        )
