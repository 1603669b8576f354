"""The stores of a command that runs beside a Tracestone, or without one.

Whoever may use the data folder, or knows the address of Postgres, may do what commands do; no key is asked for. The
embedded server is used where a Tracestone runs it, and started for the moment where none does.
"""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from tracestone.collector import data_folder
from tracestone.schema.engines.postgres import Pool, open_pool
from tracestone.schema.errors import StorageDown
from tracestone.schema.migrate import migrate_postgres
from tracestone.schema.settings import Settings


def in_use(settings: Settings) -> bool:
    """Whether a Tracestone runs on the data folder. Raises StorageDown."""
    folder = settings.data_dir.resolve()
    try:
        return data_folder.is_held(folder)
    except OSError as error:
        raise StorageDown(f"The data folder {folder} cannot be used: {error.strerror}") from error


@asynccontextmanager
async def postgres(settings: Settings) -> AsyncIterator[Pool]:
    """Postgres, migrated. Raises StorageDown, StartRefused."""
    async with AsyncExitStack() as stack:
        pool = await open_pool(await _url(settings, stack), max_size=2)
        stack.push_async_callback(pool.close)
        await migrate_postgres(pool)
        yield pool


async def _url(settings: Settings, stack: AsyncExitStack) -> str:
    if settings.postgres_url is not None:
        return settings.postgres_url.get_secret_value()
    from tracestone.schema.engines.embedded_postgres import EmbeddedPostgres

    folder = settings.data_dir.resolve()
    server = EmbeddedPostgres(folder / "postgres")
    if not _hold(folder, stack):
        url = server.running_url()
        if url is None:
            raise StorageDown(f"A Tracestone is using {folder}, but its Postgres does not run (yet)")
        return url
    stack.push_async_callback(server.stop)
    return await server.start()


def _hold(folder: Path, stack: AsyncExitStack) -> bool:
    """Whether the data folder is ours alone until the end; False when a Tracestone runs on it."""
    try:
        return stack.enter_context(data_folder.held(folder))
    except OSError as error:
        raise StorageDown(f"The data folder {folder} cannot be used: {error.strerror}") from error
