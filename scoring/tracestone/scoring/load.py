"""Reads the traces of jobs. Those wanted at the same time are read in one query.

Most of what a read costs is the analysis of the view `spans`, whatever the number of traces: one trace takes about
as long as a hundred. So while one query runs, the requests that come meanwhile wait and make the next one.
"""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Protocol

from tracestone.schema.engines.columnar import StatementFailed
from tracestone.schema.errors import Rejected, StorageDown
from tracestone.schema.traces import Trace

# Traces can be large, so how many are read at once follows how large they are: characters of text in one query.
FIRST_AT_ONCE = 16
MOST_AT_ONCE = 512
_FEW_CHARACTERS = 2_000_000
_MANY_CHARACTERS = 8_000_000

# An experiment and a trace of it.
Key = tuple[int, str]


class TraceReader(Protocol):
    """Where traces are read; `stores.spans.SpanStore` is one."""

    async def traces(self, experiment_id: int, trace_ids: Sequence[str]) -> dict[str, Trace]:
        """Some stored traces with their spans, by id; unknown ids are absent.

        Raises StorageDown, StatementFailed, Rejected.
        """
        ...


class BatchedTraces:
    """One query at a time; its owner is the request that finds none running, which then serves those that wait."""

    def __init__(self, reader: TraceReader) -> None:
        self._reader = reader
        # How many are read in one query now.
        self.at_once = FIRST_AT_ONCE
        self._waiting: dict[Key, list[asyncio.Future[Trace | None]]] = {}
        self._reading = asyncio.Lock()

    async def trace(self, experiment_id: int, trace_id: str) -> Trace | None:
        """A stored trace with its spans; None when there is none. Raises StorageDown, StatementFailed, Rejected."""
        wanted: asyncio.Future[Trace | None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault((experiment_id, trace_id), []).append(wanted)
        # Let the others that were started together ask as well.
        await asyncio.sleep(0)
        try:
            while not wanted.done():
                async with self._reading:
                    if not wanted.done():
                        await self._read(experiment_id)
        finally:
            self._forget(experiment_id, trace_id, wanted)
        return wanted.result()

    async def _read(self, experiment_id: int) -> None:
        """Answers waiting requests of an experiment, the longest waiting first, as many as are read at once."""
        keys = [key for key in self._waiting if key[0] == experiment_id][: self.at_once]
        try:
            found = await self._reader.traces(experiment_id, [trace_id for _, trace_id in keys])
        except StorageDown as error:
            self._answer(keys, error)
        except (StatementFailed, Rejected) as error:
            self.at_once = max(1, self.at_once // 2)
            if len(keys) == 1:
                self._answer(keys, error)
            else:
                await self._read_singly(keys)
        else:
            self._fit(len(keys), sum(map(_characters, found.values())))
            self._answer(keys, found)

    def _fit(self, read: int, characters: int) -> None:
        if characters > _MANY_CHARACTERS:
            self.at_once = max(1, read // 2)
        elif characters < _FEW_CHARACTERS and read == self.at_once:
            self.at_once = min(MOST_AT_ONCE, 2 * self.at_once)

    async def _read_singly(self, keys: Sequence[Key]) -> None:
        """A trace that cannot be read (its size, mostly) must not fail those it was asked for with."""
        for key in keys:
            try:
                self._answer([key], await self._reader.traces(key[0], [key[1]]))
            except (StorageDown, StatementFailed, Rejected) as error:
                self._answer([key], error)

    def _answer(self, keys: Sequence[Key], found: Mapping[str, Trace] | Exception) -> None:
        for key in keys:
            for future in self._waiting.pop(key, []):
                if future.done():
                    continue
                if isinstance(found, Exception):
                    future.set_exception(found)
                    future.exception()  # a request that is cancelled now never looks at it
                else:
                    future.set_result(found.get(key[1]))

    def _forget(self, experiment_id: int, trace_id: str, wanted: asyncio.Future[Trace | None]) -> None:
        """A request that was cancelled or failed waits no longer."""
        waiting = self._waiting.get((experiment_id, trace_id), [])
        if wanted in waiting:
            waiting.remove(wanted)
            if not waiting:
                del self._waiting[(experiment_id, trace_id)]


def _characters(trace: Trace) -> int:
    return sum(
        len(span.input) + len(span.output) + len(span.input_messages) + len(span.output_messages)
        for span in trace.spans
    )
