"""The check of keys: at once for known ones, soon after a change elsewhere, and while Postgres is away."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from support.api_keys import new_key
from tracestone.collector.auth.gate import REVOKED_WITHIN_SECONDS, Gate
from tracestone.schema import clock, keys
from tracestone.schema.engines.postgres import Pool, open_pool
from tracestone.schema.errors import Forbidden, StartRefused, Unauthenticated, Unavailable
from tracestone.schema.settings import Settings
from tracestone.schema.stores.keys import KeyStore


class CountingStore(KeyStore):
    """Counts what Postgres is asked."""

    looks = 0
    loads = 0

    async def latest_change(self) -> int:
        self.looks += 1
        return await super().latest_change()

    async def live(self) -> Any:
        self.loads += 1
        return await super().live()


@asynccontextmanager
async def gate_on(store: KeyStore, **settings: Any) -> AsyncIterator[Gate]:
    gate = Gate(Settings(**settings), store)
    await gate.start()
    try:
        yield gate
    finally:
        await gate.stop()


async def test_a_known_key_costs_postgres_nothing(pool: Pool) -> None:
    token = await new_key(pool, "ingest", "read", experiments=[0, 3])
    store = CountingStore(pool)
    async with gate_on(store) as gate:
        for _ in range(1000):
            caller = await gate.check(token)
        assert (caller.scopes, caller.experiments) == ({"ingest", "read"}, {0, 3})
        assert (store.looks, store.loads) == (1, 1)


async def test_a_key_works_as_soon_as_it_is_made_and_is_refused_soon_after_it_was_revoked(pool: Pool) -> None:
    """Both by another process: nothing here is told of it."""
    elsewhere = KeyStore(pool)
    await new_key(pool, "ingest")
    async with gate_on(KeyStore(pool)) as gate:
        token = await new_key(pool, "ingest")
        await gate.check(token)
        await elsewhere.revoke(keys.key_id_of(token))
        began = clock.monotonic()
        while gate.known(token) is not None:
            assert clock.monotonic() < began + REVOKED_WITHIN_SECONDS
            await asyncio.sleep(0.05)
        with pytest.raises(Unauthenticated, match=f"{keys.key_id_of(token)} is unknown, revoked or expired"):
            await gate.check(token)


async def test_another_secret_under_a_known_id_is_refused(pool: Pool) -> None:
    token = await new_key(pool, "ingest")
    async with gate_on(KeyStore(pool)) as gate:
        with pytest.raises(Unauthenticated):
            await gate.check(token[:-1] + ("0" if token[-1] != "0" else "1"))
        await gate.check(token)


@pytest.mark.parametrize("token", ["", "ts_", "password", "ts_" + "g" * 16 + "_" + "0" * 64])
async def test_what_is_no_key_is_refused_without_asking(pool: Pool, token: str) -> None:
    await new_key(pool, "ingest")
    store = CountingStore(pool)
    async with gate_on(store) as gate:
        with pytest.raises(Unauthenticated):
            await gate.check(token)
        assert store.looks == 1


async def test_strangers_cost_postgres_little(pool: Pool) -> None:
    await new_key(pool, "ingest")
    store = CountingStore(pool)
    async with gate_on(store) as gate:
        strange = [keys.new_token()[1] for _ in range(500)]
        answers = await asyncio.gather(*(gate.check(token) for token in strange), return_exceptions=True)
        assert all(isinstance(answer, Unauthenticated) for answer in answers)
        assert store.looks <= 3
        looks = store.looks
        for token in strange:  # once more: they are remembered
            with pytest.raises(Unauthenticated):
                await gate.check(token)
        assert (store.looks - looks <= 1, store.loads) == (True, 1)


async def test_an_expired_key(pool: Pool) -> None:
    token = await new_key(pool, "ingest", expires_at_ms=clock.now_ms() + 300)
    async with gate_on(KeyStore(pool)) as gate:
        await gate.check(token)
        await asyncio.sleep(0.35)
        assert gate.known(token) is None
        with pytest.raises(Unauthenticated):
            await gate.check(token)


async def test_scopes_and_bindings(pool: Pool) -> None:
    reader, bound = await new_key(pool, "read"), await new_key(pool, "read", experiments=[1])
    boss = await new_key(pool, "admin")
    async with gate_on(KeyStore(pool)) as gate:
        await gate.admit(reader, "read", bound=False)
        with pytest.raises(Forbidden, match="does not have the scope ingest"):
            await gate.admit(reader, "ingest")
        await gate.admit(bound, "read")
        with pytest.raises(Forbidden, match="bound to some"):
            await gate.admit(bound, "read", bound=False)
        for scope in keys.SCOPES:
            await gate.admit(boss, scope, bound=False)


@pytest.mark.parametrize("grace", [60, 0])
async def test_while_postgres_is_away(
    pool: Pool, postgres_url: str, grace: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Known keys go on, for a while; of others nothing is known, so nobody is told to go for good."""
    monkeypatch.setattr("tracestone.collector.auth.gate.REVOKED_WITHIN_SECONDS", 1.0)
    token = await new_key(pool, "ingest")
    own = await open_pool(postgres_url)
    async with gate_on(KeyStore(own), auth_grace_seconds=grace) as gate:
        await gate.check(token)
        await own.close()
        if grace == 0:
            await asyncio.sleep(1.1)
            with pytest.raises(Unavailable):
                await gate.check(token)
        with pytest.raises(Unavailable) as told:
            await gate.check(keys.new_token()[1])
        assert told.value.retry_after > 0
        if grace:
            await gate.check(token)


@pytest.mark.parametrize("auth", ["auto", "on"])
async def test_a_receiver_process_that_starts_while_postgres_is_away(
    pool: Pool, postgres_url: str, auth: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It does not know yet who is good, nor whether keys are demanded at all: everybody is told to come again."""
    token = await new_key(pool, "ingest")
    closed = await open_pool(postgres_url)
    await closed.close()
    store = KeyStore(closed)
    gate = Gate(Settings(auth=auth, host="0.0.0.0"), store)
    await gate.start(must_know=False)
    try:
        for given in (token, "", "nonsense", keys.new_token()[1]):
            with pytest.raises(Unavailable):
                await gate.check(given)
        monkeypatch.setattr(store, "_pool", pool)
        assert (await gate.check(token)).scopes == {"ingest"}
        with pytest.raises(Unauthenticated):
            await gate.check("")
    finally:
        await gate.stop()


async def test_a_receiver_process_without_keys_serves_when_it_knows_that_there_are_none(
    pool: Pool, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed = await open_pool(postgres_url)
    await closed.close()
    store = KeyStore(closed)
    gate = Gate(Settings(), store)
    await gate.start(must_know=False)
    try:
        with pytest.raises(Unavailable):
            await gate.check("")
        monkeypatch.setattr(store, "_pool", pool)
        assert await gate.check("") == keys.ANYBODY
    finally:
        await gate.stop()


async def test_last_use_is_noted(pool: Pool) -> None:
    token = await new_key(pool, "ingest")
    before = clock.now_ms()
    async with gate_on(KeyStore(pool)) as gate:
        await gate.check(token)
    (key,) = await KeyStore(pool).page()
    assert key.last_used_at_ms is not None and before <= key.last_used_at_ms <= clock.now_ms()


async def test_keys_are_demanded_from_the_first_one_on(pool: Pool) -> None:
    async with gate_on(KeyStore(pool)) as gate:
        assert not gate.demanded
        assert gate.known("") == keys.ANYBODY
        token = await new_key(pool, "read")
        async with asyncio.timeout(REVOKED_WITHIN_SECONDS):
            while not gate.demanded:
                await asyncio.sleep(0.05)
        assert gate.known("") is None
        assert gate.known(token) is not None


async def test_they_stay_demanded_when_the_last_one_is_gone(pool: Pool) -> None:
    await KeyStore(pool).revoke(keys.key_id_of(await new_key(pool, "admin")))
    async with gate_on(KeyStore(pool)) as gate:
        assert gate.demanded
    async with gate_on(KeyStore(pool), auth="off") as gate:
        assert not gate.demanded


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.1.2.3", "traces.example"])
async def test_an_open_start_beyond_loopback_is_refused(pool: Pool, host: str) -> None:
    for auth in ("auto", "off"):
        with pytest.raises(StartRefused, match=r"strangers could .* `tracestone keys create`, or say --insecure"):
            await Gate(Settings(host=host, auth=auth), KeyStore(pool)).start()
    async with gate_on(KeyStore(pool), host=host, insecure=True) as gate:
        assert not gate.demanded
    async with gate_on(KeyStore(pool), host=host, auth="on") as gate:
        assert gate.demanded
    await new_key(pool, "read")
    async with gate_on(KeyStore(pool), host=host) as gate:
        assert gate.demanded


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "[::1]", "localhost", "LOCALHOST."])
async def test_on_loopback_everybody_is_served(pool: Pool, host: str) -> None:
    async with gate_on(KeyStore(pool), host=host) as gate:
        assert not gate.demanded
