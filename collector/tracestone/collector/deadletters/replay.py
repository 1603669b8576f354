"""Sends again what was given up, when somebody asks for it.

Items go through the write-ahead log, as if they had just been received: durable there before the letter is removed,
stored by the one loader there is. They carry the time of their first receipt and their experiment, so sending twice,
or a crash in between, changes no count; and when the store refuses them again, they become a dead letter again.
What could not be computed is computed by the loader, between its own batches.
"""

import asyncio
import logging
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Protocol

from tracestone.collector.deadletters.box import NOT_COMPUTED, Box, Letter
from tracestone.collector.ingest.backoff import Backoff
from tracestone.collector.ingest.deadletter import Follow
from tracestone.schema.errors import Rejected, Unavailable

logger = logging.getLogger(__name__)

_LOOK_SECONDS = 1.0
# Of one group commit; what they hold is in memory at once.
_RECORDS_AT_ONCE = 64
_MAX_GROUP_BYTES = 16 * 1024 * 1024


class Way(Protocol):
    """The way of a signal into the store."""

    async def append(self, record: bytes) -> int:
        """Returns once the record is durable in the log; raises TooLarge, Unavailable."""

    async def follow_again(self, follow: Follow) -> None:
        """Does what could not be done after an insert; raises Rejected when it fails again, Unavailable."""


class Replay:
    """The task that looks for what was asked for."""

    def __init__(self, box: Box, ways: Mapping[str, Way]) -> None:
        self._box = box
        self._ways = ways
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begins to look."""
        self._task = asyncio.create_task(self._run(), name="dead letters")

    async def stop(self) -> None:
        """Ends; what was not sent to its end is sent again after the next start."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def _run(self) -> None:
        backoff = Backoff()
        while True:
            try:
                for letter in await asyncio.to_thread(self._box.asked):
                    await self._send(letter)
                backoff = Backoff()
                await asyncio.sleep(_LOOK_SECONDS)
            except (Unavailable, OSError) as error:
                logger.warning("dead letters wait", extra={"action": "replay", "reason": str(error)})
                await backoff.wait()
            except Exception:
                logger.exception("dead letters cannot be sent again", extra={"action": "replay"})
                await backoff.wait()

    async def _send(self, letter: Letter) -> None:
        extra = {"action": "replay", "letter": letter.name, "signal": letter.signal}
        try:
            count = await self._sent(letter)
        except Rejected as error:
            logger.warning("a dead letter cannot be sent again", extra={**extra, "reason": str(error)})
            await asyncio.to_thread(self._box.failed, letter, str(error))
            return
        await asyncio.to_thread(self._box.done, letter)
        logger.info("a dead letter was sent again", extra={**extra, "records": count})

    async def _sent(self, letter: Letter) -> int:
        """Sends all of it again; how many records that were."""
        way = self._ways.get(letter.signal)
        if way is None:
            raise Rejected(f"Nothing here takes {letter.signal or 'a letter without a signal'}.")
        if letter.kind == NOT_COMPUTED:
            assert letter.follow is not None
            await way.follow_again(letter.follow)
            return 0
        records = self._box.records(letter)
        count = 0
        while group := await asyncio.to_thread(_readable_group, records):
            results = await asyncio.gather(*(way.append(record) for record in group), return_exceptions=True)
            for result in results:
                if isinstance(result, BaseException):
                    raise result
            count += len(group)
        return count


def _readable_group(records: Iterator[bytes]) -> list[bytes]:
    try:
        return _group(records)
    except OSError as error:
        raise Rejected(f"What it holds cannot be read: {error.strerror}.") from error
    except (ValueError, IndexError) as error:
        raise Rejected(f"What it holds is damaged: {error}.") from error


def _group(records: Iterator[bytes]) -> list[bytes]:
    group: list[bytes] = []
    size = 0
    for record in islice(records, _RECORDS_AT_ONCE):
        group.append(record)
        size += len(record)
        if size >= _MAX_GROUP_BYTES:
            break
    return group
