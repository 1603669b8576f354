"""Experiments on a real Postgres."""

import asyncio
import logging

import pytest

from tracestone.schema import clock
from tracestone.schema.engines.postgres import Pool, open_pool
from tracestone.schema.errors import Conflict, Invalid, NotFound, StorageDown
from tracestone.schema.experiments import MAX_TAGS, ExperimentOrder
from tracestone.schema.filter_string import parse
from tracestone.schema.filters import Comparison
from tracestone.schema.stores.experiments import ExperimentStore


@pytest.fixture
def store(pool: Pool) -> ExperimentStore:
    return ExperimentStore(pool, max_experiments=100)


async def test_default_is_there_with_id_zero(store: ExperimentStore) -> None:
    default = await store.get(0)
    assert (default.name, default.lifecycle_stage) == ("Default", "active")
    assert default.artifact_location == "mlflow-artifacts:/0"
    assert await store.by_name("Default") == default


async def test_created_experiment_reads_back(store: ExperimentStore) -> None:
    created = await store.create("checkout", artifact_location="s3://bucket/x", tags={"team": "a"})
    assert created.experiment_id > 0
    assert created.creation_time_ms == created.last_update_time_ms > 0
    assert await store.get(created.experiment_id) == created
    assert (created.artifact_location, created.tags) == ("s3://bucket/x", {"team": "a"})


async def test_name_is_unique_over_deleted_ones_too(store: ExperimentStore) -> None:
    first = await store.create("checkout")
    await store.delete(first.experiment_id)
    with pytest.raises(Conflict):
        await store.create("checkout")
    second = await store.create("returns")
    with pytest.raises(Conflict):
        await store.rename(second.experiment_id, "checkout")


@pytest.mark.parametrize("name", ["", "   ", "x" * 501])
async def test_bad_name_is_refused(store: ExperimentStore, name: str) -> None:
    with pytest.raises(Invalid) as refusal:
        await store.create(name)
    assert refusal.value.field == "name"


async def test_delete_and_restore(store: ExperimentStore) -> None:
    experiment_id = (await store.create("checkout")).experiment_id
    with pytest.raises(NotFound):
        await store.restore(experiment_id)
    await store.delete(experiment_id)
    assert (await store.get(experiment_id)).lifecycle_stage == "deleted"
    with pytest.raises(NotFound):
        await store.delete(experiment_id)
    with pytest.raises(Invalid):
        await store.rename(experiment_id, "other")
    await store.restore(experiment_id)
    assert (await store.get(experiment_id)).lifecycle_stage == "active"


async def test_default_cannot_be_deleted(store: ExperimentStore) -> None:
    with pytest.raises(Invalid):
        await store.delete(0)


@pytest.mark.parametrize("experiment_id", [999, -1, 2**31, 2**70])
async def test_unknown_experiment(store: ExperimentStore, experiment_id: int) -> None:
    assert not await store.exists(experiment_id)
    with pytest.raises(NotFound):
        await store.get(experiment_id)
    with pytest.raises(NotFound):
        await store.set_tag(experiment_id, "k", "v")


async def test_tags(store: ExperimentStore) -> None:
    await store.set_tag(0, "owner", "ada")
    await store.set_tag(0, "owner", "grace")
    await store.set_tag(0, "note", "")
    assert (await store.get(0)).tags == {"owner": "grace", "note": ""}
    await store.delete_tag(0, "note")
    assert (await store.get(0)).tags == {"owner": "grace"}
    with pytest.raises(NotFound):
        await store.delete_tag(0, "note")


async def test_tags_set_at_once_are_all_kept(store: ExperimentStore) -> None:
    await asyncio.gather(*(store.set_tag(0, f"k{number}", "v") for number in range(20)))
    assert len((await store.get(0)).tags) == 20


async def test_tags_are_bounded(store: ExperimentStore) -> None:
    full = await store.create("full", tags={f"k{number}": "" for number in range(MAX_TAGS)})
    with pytest.raises(Invalid):
        await store.set_tag(full.experiment_id, "one more", "")
    with pytest.raises(Invalid):
        await store.set_tag(0, "k" * 251, "")
    with pytest.raises(Invalid):
        await store.set_tag(0, "k", "v" * 20_001)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("name = 'b%d'", {"b%d"}),
        ("name != 'Default'", {"Alpha", "alphabet", "b%d"}),
        ("name LIKE 'alpha%'", {"alphabet"}),
        ("name ILIKE 'alpha%'", {"Alpha", "alphabet"}),
        ("name LIKE 'b\\%d'", set()),
        ("tag.team = 'red'", {"Alpha"}),
        ("tag.team != 'red'", {"alphabet"}),
        ("tag.team IS NULL", {"Default", "b%d"}),
        ("tag.team IS NOT NULL AND name ILIKE 'ALPHA'", {"Alpha"}),
        ("attribute.experiment_id IN ('0', '77')", {"Default"}),
        ("attribute.experiment_id NOT IN ('0')", {"Alpha", "alphabet", "b%d"}),
        ("attribute.name = '''; DROP TABLE tracestone.experiments; --'", set()),
    ],
)
async def test_search(store: ExperimentStore, text: str, found: set[str]) -> None:
    await store.create("Alpha", tags={"team": "red"})
    await store.create("alphabet", tags={"team": "blue"})
    await store.create("b%d")
    assert {experiment.name for experiment in await store.search(parse(text))} == found


async def test_search_by_time(store: ExperimentStore) -> None:
    created = await store.create("now")
    moment = str(created.creation_time_ms)

    async def names(operator: str) -> set[str]:
        comparison = Comparison("attribute", "creation_time", operator, (moment,), numeric=True)
        return {found.name for found in await store.search([comparison])}

    assert "now" in await names("=")
    assert "now" in await names(">=")
    assert "now" not in await names(">")
    assert "now" not in await names("!=")


async def test_search_order_and_pages(store: ExperimentStore) -> None:
    for name in ("c", "a", "b"):
        await store.create(name)
    by_name = [ExperimentOrder("name", ascending=True)]
    by_id = [ExperimentOrder("experiment_id", ascending=False)]
    comparisons = parse("attribute.name != 'Default'")
    assert [e.name for e in await store.search(comparisons, order=by_name)] == ["a", "b", "c"]
    assert [e.name for e in await store.search(comparisons, order=by_id)] == ["b", "a", "c"]
    assert [e.name for e in await store.search(comparisons, order=by_name, limit=1, offset=1)] == ["b"]
    with pytest.raises(Invalid):
        await store.search(order=by_name * 4)


async def test_search_by_stage(store: ExperimentStore) -> None:
    gone = await store.create("gone")
    await store.delete(gone.experiment_id)
    assert [e.name for e in await store.search()] == ["Default"]
    assert [e.name for e in await store.search(stages=["deleted"])] == ["gone"]
    assert len(await store.search(stages=["active", "deleted"])) == 2


async def test_resolve_creates_once_across_processes(postgres_url: str, pool: Pool) -> None:
    other_pool = await open_pool(postgres_url)
    try:
        stores = [ExperimentStore(pool, 100), ExperimentStore(other_pool, 100)]
        ids = await asyncio.gather(*(store.resolve("svc") for _ in range(10) for store in stores))
    finally:
        await other_pool.close()
    assert len(set(ids)) == 1
    assert ids[0] > 0


async def test_resolved_name_is_cached(store: ExperimentStore) -> None:
    assert store.cached("svc") is None
    experiment_id = await store.resolve("svc")
    assert store.cached("svc") == experiment_id
    assert await store.resolve("Default") == 0


@pytest.mark.parametrize("name", ["", "  "])
async def test_unusable_name_means_default(store: ExperimentStore, name: str) -> None:
    assert await store.resolve(name) == 0


async def test_odd_name_is_made_usable(store: ExperimentStore) -> None:
    assert await store.resolve("a\x00b") == await store.resolve("a\ufffdb")
    long = await store.resolve("x" * 600)
    assert (await store.get(long)).name == "x" * 500


async def test_names_beyond_the_bound_mean_default(pool: Pool, caplog: pytest.LogCaptureFixture) -> None:
    store = ExperimentStore(pool, max_experiments=3)
    with caplog.at_level(logging.WARNING):
        ids = [await store.resolve(f"svc{number}") for number in range(50)]
    assert len(set(ids[:2])) == 2
    assert 0 not in ids[:2]
    assert set(ids[2:]) == {0}
    assert await store.resolve("svc0") == ids[0]
    assert [record.max_experiments for record in caplog.records] == [3]  # type: ignore[attr-defined]


async def test_renamed_experiment_leaves_its_name_free(store: ExperimentStore) -> None:
    first = await store.resolve("svc")
    await store.rename(first, "old svc")
    assert await store.resolve("svc") != first
    assert await store.resolve("old svc") == first


async def test_postgres_away(postgres_url: str, pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    lost = await open_pool(postgres_url)
    store = ExperimentStore(lost, 100)
    known = await store.resolve("known")
    await lost.close()
    assert store.cached("known") == known
    real = clock.monotonic
    monkeypatch.setattr(clock, "monotonic", lambda: real() + 120)
    assert store.cached("known") is None, "the cache forgets, so that a rename elsewhere is noticed"
    assert await store.resolve("known") == known
    assert store.cached("known") == known, "while Postgres is away, asking it once a minute is enough"
    with pytest.raises(StorageDown):
        await store.resolve("unknown")
    with pytest.raises(StorageDown):
        await store.get(0)


async def test_rename_by_another_process_is_noticed(
    postgres_url: str, pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, elsewhere = ExperimentStore(pool, 100), ExperimentStore(pool, 100)
    first = await here.resolve("svc")
    await elsewhere.rename(first, "old svc")
    real = clock.monotonic
    monkeypatch.setattr(clock, "monotonic", lambda: real() + 120)
    assert await here.resolve("svc") not in (first, 0)
