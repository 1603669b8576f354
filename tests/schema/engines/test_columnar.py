"""Who waits for whom at ClickHouse: readers hold up neither writers nor the health check."""

import asyncio

from tracestone.schema.engines.columnar import Columnar

SLOW = "SELECT sleepEachRow(0.5) FROM numbers(4) SETTINGS max_block_size = 1"


async def test_busy_readers_hold_up_neither_writers_nor_the_check(empty_columnar: Columnar) -> None:
    reading = [asyncio.create_task(empty_columnar.query(SLOW)) for _ in range(12)]
    await asyncio.sleep(0.1)  # every read client is taken, and more wait
    await empty_columnar.ping()
    await empty_columnar.command("CREATE TABLE written (n UInt8) ENGINE = Memory")
    await empty_columnar.insert_rows("written", ["n"], [[1]])
    assert not any(read.done() for read in reading)
    await asyncio.gather(*reading)
    assert await empty_columnar.query("SELECT n FROM written") == [{"n": 1}]
