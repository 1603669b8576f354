"""The asyncpg pool: one place that knows how a connection is set up. SQL comes from `sqlfiles`."""

import json
from typing import Any

import asyncpg

from tracestone.schema.errors import StorageDown

Pool = asyncpg.Pool[asyncpg.Record]


async def open_pool(url: str, *, max_size: int = 10) -> Pool:
    """A pool whose connections find our schema first and read and write json and jsonb as Python values.

    Raises StorageDown when the server does not answer.
    """
    try:
        return await asyncpg.create_pool(
            url,
            min_size=1,
            max_size=max_size,
            command_timeout=60,
            init=_set_up,
            server_settings={"search_path": "tracestone, public", "application_name": "tracestone"},
        )
    except (OSError, asyncpg.PostgresError) as error:
        raise StorageDown(f"Postgres cannot be reached: {error}") from error


async def _set_up(connection: Any) -> None:
    for kind in ("json", "jsonb"):
        await connection.set_type_codec(
            kind, encoder=json.dumps, decoder=json.loads, schema="pg_catalog", format="text"
        )
