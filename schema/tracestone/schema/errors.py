"""The tree of errors that cross a module's border. Whether an error is permanent is decided where it is raised.

    TracestoneError
    ├── Rejected            permanent: the sender must change something
    │   ├── Invalid         a field has a wrong value; says which and why
    │   ├── TooLarge        over a configured limit
    │   ├── Unauthenticated no valid credentials
    │   ├── Forbidden       the caller may not do this
    │   ├── NotFound        no such thing
    │   └── Conflict        it exists already
    ├── Unavailable         temporary: the same request may be sent again
    │   ├── StorageDown     a store does not answer
    │   ├── LogFull         the write-ahead log reached its bound
    │   └── Stopping        the process is shutting down
    ├── MissingExtra        an optional dependency is not installed
    └── StartRefused        the process cannot start as configured

Transports translate these once (`collector/answers.py`, `receiver/status.py`); no code of a transport is known here.
"""


class TracestoneError(Exception):
    """Base of every error raised on purpose. The message is safe to show to a client."""


class Rejected(TracestoneError):
    """Permanent: sending the same thing again will fail again."""


class Invalid(Rejected):
    """A field has a value that cannot be accepted."""

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(f"{field}: {reason}" if field else reason)
        self.field = field
        self.reason = reason


class TooLarge(Rejected):
    """Something is over its configured limit."""


class Unauthenticated(Rejected):
    """No valid credentials."""


class Forbidden(Rejected):
    """The caller may not do this."""


class NotFound(Rejected):
    """There is no such thing."""


class Conflict(Rejected):
    """It exists already."""


class Unavailable(TracestoneError):
    """Temporary: the same request may be sent again after `retry_after` seconds."""

    def __init__(self, message: str, *, retry_after: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class StorageDown(Unavailable):
    """A store does not answer."""


class LogFull(Unavailable):
    """The write-ahead log reached its bound, or its disk is full."""


class Stopping(Unavailable):
    """The process is shutting down."""


class MissingExtra(TracestoneError):
    """An optional dependency is not installed."""

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(f"{package} is not installed; install it with: pip install 'tracestone[{extra}]'")
        self.package = package
        self.extra = extra


class StartRefused(TracestoneError):
    """The process cannot start as configured; the message is one sentence for the operator."""
