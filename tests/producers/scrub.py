"""Takes out of a recording what says on whose machine it was made."""

import re
import sys
import sysconfig
from pathlib import Path
from typing import Any

# Resource attributes that name the machine, its user, or a command line with paths.
RESOURCE_KEYS = (
    "host.id", "host.name", "host.ip", "host.mac", "process.command", "process.command_args", "process.command_line",
    "process.executable.name", "process.executable.path", "process.owner", "process.pid", "process.parent_pid",
    "process.working_directory", "process.runtime.description", "os.description", "os.build_id", "os.version",
)  # fmt: skip
_HOME = re.compile(r"/(?:root|home/[^/\s\"']+)(?=/|\b)")


class Scrubber:
    """Replaces the paths of an installation, of the repository and of Python; drops `RESOURCE_KEYS`."""

    def __init__(self, installed: Path, repository: Path) -> None:
        self.dropped: set[str] = set()
        self.replaced = 0
        self._paths = {
            str(installed): "/app",
            str(repository): "/repository",
            str(Path(sys.executable).parent.parent): "/python",
            str(Path(sysconfig.get_paths()["stdlib"]).parent.parent): "/python",
        }

    def request(self, request: dict[str, Any]) -> dict[str, Any]:
        """A request without what must not be kept."""
        for group in ("resourceSpans", "resourceLogs"):
            for one in request["body"].get(group, []):
                resource = one.get("resource", {})
                kept = [pair for pair in resource.get("attributes", []) if pair["key"] not in RESOURCE_KEYS]
                self.dropped |= {pair["key"] for pair in resource.get("attributes", [])} & set(RESOURCE_KEYS)
                if "attributes" in resource:
                    resource["attributes"] = kept
        cleaned: dict[str, Any] = self._clean(request)
        return cleaned

    def _clean(self, value: Any) -> Any:
        if isinstance(value, dict):
            return {key: self._clean(item) for key, item in value.items()}
        if isinstance(value, list):
            return [self._clean(item) for item in value]
        if isinstance(value, str):
            return self._text(value)
        return value

    def _text(self, value: str) -> str:
        clean = value
        for path, other in self._paths.items():
            clean = clean.replace(path, other)
        clean = _HOME.sub("/user", clean)
        self.replaced += clean != value
        return clean
