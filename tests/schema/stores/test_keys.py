"""API keys in Postgres: what is kept of them, their order, their bounds."""

import pytest

from tracestone.schema import clock, keys
from tracestone.schema.engines.postgres import Pool
from tracestone.schema.errors import Invalid, NotFound, TooLarge
from tracestone.schema.keys import Key
from tracestone.schema.stores.keys import KeyStore

INGEST = keys.read_scopes(["ingest"])


async def test_the_secret_is_nowhere_kept(pool: Pool) -> None:
    key, token = await KeyStore(pool).create("agent", INGEST)
    assert (key.name, key.scopes, key.experiments, key.revoked_at_ms) == ("agent", {"ingest"}, None, None)
    assert keys.key_id_of(token) == key.key_id
    secret = token.rpartition("_")[2]
    assert len(secret) == 64
    row = await pool.fetchrow("SELECT * FROM api_keys")
    assert row is not None and row["secret_sha256"] == keys.digest(token)
    assert secret not in repr(dict(row))


async def test_every_key_is_another() -> None:
    assert len({keys.new_token() for _ in range(1000)}) == 1000


async def test_live_keys_and_changes(pool: Pool) -> None:
    store = KeyStore(pool)
    assert (await store.latest_change(), await store.live()) == (0, {})
    first, token = await store.create("first", INGEST, frozenset({2, 1}))
    change = await store.latest_change()
    second, _ = await store.create("second", INGEST)
    assert await store.latest_change() > change > 0
    assert (await store.live()).keys() == {first.key_id, second.key_id}
    assert (await store.live())[first.key_id] == (first, keys.digest(token))
    change = await store.latest_change()
    revoked = await store.revoke(first.key_id)
    assert revoked.revoked_at_ms is not None
    assert await store.latest_change() > change
    assert (await store.live()).keys() == {second.key_id}
    assert (await store.revoke(first.key_id)).revoked_at_ms == revoked.revoked_at_ms
    with pytest.raises(NotFound):
        await store.revoke("0" * 16)


async def test_pages_in_order_of_making(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tracestone.schema.stores.keys.PAGE", 2)
    store = KeyStore(pool)
    made = [(await store.create(f"key {number}", INGEST))[0] for number in range(5)]
    await store.revoke(made[0].key_id)
    found: list[Key] = []
    while page := await store.page(found[-1].key_id if found else ""):
        assert len(page) <= 2
        found += page
    expected = sorted(made, key=lambda key: (key.created_at_ms, key.key_id))
    assert [key.key_id for key in found] == [key.key_id for key in expected]


async def test_what_cannot_be_a_key(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    store = KeyStore(pool)
    for name in ("", " ", "x" * 201, "a\x00b"):
        with pytest.raises(Invalid, match="name"):
            await store.create(name, INGEST)
    for experiments in (frozenset(), frozenset(range(101))):
        with pytest.raises(Invalid, match="experiments"):
            await store.create("x", INGEST, experiments)
    with pytest.raises(Invalid, match="admin"):
        await store.create("x", keys.read_scopes(["admin"]), frozenset({1}))
    with pytest.raises(Invalid, match="future"):
        await store.create("x", INGEST, None, clock.now_ms() - 1)
    for names in ([], ["owner"], ["ingest", "Read"]):
        with pytest.raises(Invalid, match="scopes"):
            keys.read_scopes(names)
    monkeypatch.setattr(keys, "MAX_KEYS", 1)
    first, _ = await store.create("x", INGEST)
    with pytest.raises(TooLarge):
        await store.create("y", INGEST)
    await store.revoke(first.key_id)
    await store.create("y", INGEST)


async def test_the_time_of_last_use_never_goes_back(pool: Pool) -> None:
    store = KeyStore(pool)
    key, _ = await store.create("x", INGEST)
    for at_ms in (1000, 3000, 2000):
        await store.used({key.key_id: at_ms, "0" * 16: 5})
    (found,) = await store.page()
    assert found.last_used_at_ms == 3000
