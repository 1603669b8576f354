"""How many files and connections a process may have open; what the system allows is taken before it is needed.

A process that runs out of them can open no segment of its log either, so ports get what is left after all else.
"""

import logging
import resource

logger = logging.getLogger(__name__)

_PORTS = 4
# Segments, parts of ClickHouse's tables, connections to Postgres, libraries.
_OWN_FILES = 768


def raise_limit(wanted: int) -> None:
    """Raises the soft limit to the hard one, for this process and those it starts.

    `wanted` is how many connections each port should hold; it is said when they are too many.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        except (OSError, ValueError):
            # macOS calls its hard limit infinite and accepts less.
            logger.warning("the limit of open files stays as it is", extra={"action": "start", "open_files": soft})
    held = connections_for(wanted)
    if held < wanted:
        logger.warning(
            "ports hold fewer connections than configured, because of the limit of open files",
            extra={"action": "start", "open_files": hard, "max_connections": wanted, "held": held},
        )


def connections_for(wanted: int) -> int:
    """How many connections each port may hold: as many as are wanted, or as files allow."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return _within(soft, wanted)


def connections_at_most(wanted: int) -> int:
    """The same once the limit is raised."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return _within(hard, wanted)


def _within(files: int, wanted: int) -> int:
    return wanted if files == resource.RLIM_INFINITY else min(wanted, max(16, (files - _OWN_FILES) // _PORTS))
