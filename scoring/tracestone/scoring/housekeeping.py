"""Removes what scoring keeps and nobody asks for any more, once an hour. Every worker process may do it."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress

from tracestone.schema.engines.columnar import StatementFailed
from tracestone.schema.errors import StorageDown

logger = logging.getLogger(__name__)

_SECONDS = 3600.0


async def run(stopping: asyncio.Event, forget: Sequence[Callable[[], Awaitable[None]]]) -> None:
    """Calls each until `stopping` is set; what fails is done the next time."""
    while not stopping.is_set():
        for each in forget:
            try:
                await each()
            except (StorageDown, StatementFailed) as error:
                logger.warning("what is old stays", extra={"action": "housekeeping", "reason": str(error)})
        with suppress(TimeoutError):
            await asyncio.wait_for(stopping.wait(), _SECONDS)
