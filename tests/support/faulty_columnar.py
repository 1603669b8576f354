"""A ClickHouse client that can be told to lose its connection."""

from tracestone.schema.engines.columnar import Columnar, Settings
from tracestone.schema.errors import StorageDown


class FaultyColumnar(Columnar):
    """The real engine, except that inserts fail as they do without a server while `away` is set."""

    away = False

    async def insert_bytes(self, table: str, payload: bytes, fmt: str, settings: Settings) -> None:
        """Inserts, or raises StorageDown."""
        if self.away:
            raise StorageDown("ClickHouse does not answer")
        await super().insert_bytes(table, payload, fmt, settings)
