"""Where what is made of a target is computed: at once if the target is small, else on a thread.

Handing work to a thread and its result back costs more than reading a small target; a large one would hold up the
event loop, and with it every other call.
"""

import asyncio
from collections.abc import Callable, Iterable
from typing import TypeVar

from tracestone.schema.spans import Span

T = TypeVar("T")

_SMALL_CHARACTERS = 20_000
# What a span counts for besides its texts.
_SPAN_CHARACTERS = 200


async def computed(spans: Iterable[Span], work: Callable[[], T]) -> T:
    """What `work` makes of these spans."""
    return work() if _small(spans) else await asyncio.to_thread(work)


def _small(spans: Iterable[Span]) -> bool:
    left = _SMALL_CHARACTERS
    for span in spans:
        left -= _SPAN_CHARACTERS + len(span.input) + len(span.output) + len(span.input_messages)
        left -= len(span.output_messages) + len(span.system_instructions) + len(span.retrieval_documents)
        left -= len(span.tool_arguments) + len(span.tool_result)
        if left < 0:
            return False
    return True
