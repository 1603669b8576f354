"""The limit of open files, in a process of its own, since it is one of the whole process."""

import subprocess
import sys

_SHOWN = """
import resource, logging
logging.basicConfig()
resource.setrlimit(resource.RLIMIT_NOFILE, (256, {hard}))
from tracestone.collector.open_files import connections_for, raise_limit
from tracestone.collector.connections import HttpLimits
from tracestone.collector.receiver.grpc_limits import GrpcLimits
from tracestone.schema.settings import Settings
raise_limit(2000)
settings = Settings()
print(resource.getrlimit(resource.RLIMIT_NOFILE)[0], connections_for(2000))
print(HttpLimits.of(settings).max_connections, dict(GrpcLimits.of(settings).options())[
    "grpc.max_allowed_incoming_connections"])
"""


def _shown(hard: int) -> tuple[list[str], str]:
    done = subprocess.run(
        [sys.executable, "-c", _SHOWN.format(hard=hard)], capture_output=True, text=True, check=True, timeout=60
    )
    return done.stdout.split(), done.stderr


def test_what_the_system_allows_is_taken() -> None:
    numbers, said = _shown(9000)
    assert numbers == ["9000", "2000", "2000", "2000"]
    assert "fewer" not in said


def test_ports_leave_files_for_the_rest() -> None:
    numbers, said = _shown(2048)
    assert numbers == ["2048", "320", "320", "320"]
    assert "ports hold fewer connections than configured" in said
