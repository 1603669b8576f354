"""The private Postgres: in folders of any name, and taken over or started again."""

import asyncio
import os
import signal
from pathlib import Path

import asyncpg
import pytest

from support.running import data_folder
from tracestone.schema.engines.embedded_postgres import EmbeddedPostgres


@pytest.mark.parametrize(
    "name", ["my data", "Daten für 日本 ✓", "a, b", 'it\'s "$HOME" `x` & \\', "long" * 30], ids=ascii
)
async def test_the_folder_may_have_any_name(name: str) -> None:
    with data_folder() as around:
        folder = around / name / "postgres"
        server = EmbeddedPostgres(folder)
        url = await server.start()
        try:
            assert await _answer(url, "CREATE TABLE kept (n int)") == "CREATE TABLE"
            assert EmbeddedPostgres(folder).running_url() == url
        finally:
            await server.stop()
        assert EmbeddedPostgres(folder).running_url() is None
        try:
            assert await _answer(await server.start(), "INSERT INTO kept VALUES (1)") == "INSERT 0 1"
        finally:
            await server.stop()


async def test_one_that_was_killed_is_started_again_under_the_same_address() -> None:
    with data_folder() as around:
        server = EmbeddedPostgres(around / "postgres")
        url = await server.start()
        keeping = asyncio.create_task(server.keep())
        try:
            await _answer(url, "CREATE TABLE kept (n int)")
            os.kill(_pid(around), signal.SIGKILL)
            async with asyncio.timeout(30):
                while True:
                    try:
                        assert await _answer(url, "INSERT INTO kept VALUES (1)") == "INSERT 0 1"
                        break
                    except (OSError, asyncpg.PostgresError):
                        await asyncio.sleep(0.1)
            assert EmbeddedPostgres(around / "postgres").running_url() == url
        finally:
            keeping.cancel()
            await asyncio.wait([keeping])
            await server.stop()


def _pid(around: Path) -> int:
    return int((around / "postgres" / "postmaster.pid").read_text().split()[0])


async def _answer(url: str, statement: str) -> str:
    connection = await asyncpg.connect(url)
    try:
        return str(await connection.execute(statement))
    finally:
        await connection.close()
