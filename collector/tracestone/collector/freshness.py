"""Whether a read may have missed something that was acknowledged: it waited for that, and the time was over.

Of one request. What such a read finds is answered, with the header `Tracestone-Behind: 1`. That something does *not*
exist it cannot know: instead of "not found" the caller is told to ask again.
"""

from contextvars import ContextVar

from tracestone.schema.errors import NotFound, StorageDown, TracestoneError

HEADER = "Tracestone-Behind"
_RETRY_SECONDS = 2.0

_behind: ContextVar[bool] = ContextVar("behind", default=False)


def begin() -> None:
    """A request begins."""
    _behind.set(False)


def note_behind() -> None:
    """The request waited in vain for all that was acknowledged."""
    _behind.set(True)


def is_behind() -> bool:
    """Whether it did."""
    return _behind.get()


def honest(error: TracestoneError) -> TracestoneError:
    """The error that may be answered: "not found" only where that is certain."""
    if isinstance(error, NotFound) and is_behind():
        message = "This is not found yet: what was received last is still on its way into the store"
        return StorageDown(message, retry_after=_RETRY_SECONDS)
    return error
