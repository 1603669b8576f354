"""What the main process and a receiver process say to each other, and what is handed over at a start."""

import asyncio
import json
import socket
from dataclasses import replace
from pathlib import Path

import pytest

from tracestone.collector.processes.channel import Channel
from tracestone.collector.processes.order import Order
from tracestone.collector.wal.remote import Beginning
from tracestone.schema.settings import Settings, load

SECRET = "postgresql://me:hunter2@db/tracestone"


async def pair() -> tuple[Channel, Channel]:
    one, other = socket.socketpair()
    return await Channel.over(one), await Channel.over(other)


async def test_messages_arrive_in_order_until_the_other_side_hangs_up() -> None:
    one, other = await pair()
    for number in range(100):
        one.say(f"key {number}", [number, "é\n"])
    await one.close()
    assert [message async for message in other.messages()] == [(f"key {n}", [n, "é\n"]) for n in range(100)]
    other.say("nobody", "hears")
    await other.close()


async def test_a_side_that_does_not_listen_holds_nobody_up_and_hears_the_latest() -> None:
    one, other = await pair()
    for number in range(50_000):
        one.say("state", [number, "x" * 200])
        if number % 100 == 0:
            one.say(f"report {number // 25_000}", number)
            await asyncio.sleep(0)
    assert len(one._waiting) <= 3
    heard = asyncio.create_task(_last(other))
    await one.close()
    last = await heard
    assert last["state"][0] == 49_999
    assert (last["report 0"], last["report 1"]) == (24_900, 49_900)
    await other.close()


async def _last(channel: Channel) -> dict[str, object]:
    return {key: content async for key, content in channel.messages()}


def test_an_order_hands_over_every_setting_and_its_secrets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRACESTONE_WAL_MAX_BYTES", "5000000")
    settings = load({"data_dir": tmp_path, "postgres_url": SECRET, "allowed_hosts": ["a", "b"]})
    beginning = Beginning(bytes(range(16)), 10, 9, 8, 7)
    order = Order(
        2, settings, 5, 6, {"traces": (tmp_path / "t", beginning), "logs": (tmp_path / "l", replace(beginning))}
    )
    monkeypatch.setenv("TRACESTONE_WAL_MAX_BYTES", "9000000")
    found = Order.of(json.loads(json.dumps(order.content())))
    assert found == order
    assert found.settings.postgres_url is not None
    assert found.settings.postgres_url.get_secret_value() == SECRET
    assert found.settings.wal_max_bytes == 5_000_000
    assert Settings().wal_max_bytes == 9_000_000
    assert "hunter2" not in repr(order)
