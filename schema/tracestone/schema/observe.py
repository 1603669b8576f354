"""Logging of a process: one line an event, a fixed sentence followed by its fields as key=value."""

import logging
import sys
from datetime import UTC, datetime

_STANDARD = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName", "color_message"}
_MAX_FIELD = 1000


class _Lines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        """The record as one line; a traceback, if any, follows on lines of its own."""
        time = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        fields = "".join(f" {name}={_shown(value)}" for name, value in record.__dict__.items() if name not in _STANDARD)
        line = f"{time} {record.levelname.lower():7} {record.name}: {record.getMessage()}{fields}"
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


def set_up_logging(level: str) -> None:
    """Sends every log line of this process to standard error. Libraries speak from WARNING up."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Lines())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    # What clients do wrong is told to them; a line for each would let them fill a disk.
    logging.getLogger("uvicorn.error").setLevel(logging.ERROR)
    logging.getLogger("tracestone").setLevel(level.upper())


def _shown(value: object) -> str:
    text = str(value)[:_MAX_FIELD].replace("\n", "\\n")
    return f'"{text}"' if " " in text or not text else text
