"""Scorers, their versions and online configurations in Postgres."""

import asyncio
from typing import Any

import asyncpg
import pytest

from tracestone.schema.engines.columnar import Columnar
from tracestone.schema.engines.postgres import Pool
from tracestone.schema.errors import Invalid, NotFound
from tracestone.schema.online import OnlineSetup
from tracestone.schema.scorers.definition import Definition, define
from tracestone.schema.stores.experiments import ExperimentStore
from tracestone.schema.stores.scorers import ScorerStore

POLITE = {"pattern": "(?i)please|thank"}


def polite(pattern: str = "please", name: str = "polite") -> Definition:
    return define(name, "regex_match", {"pattern": pattern})


@pytest.fixture
def scorers(pool: Pool) -> ScorerStore:
    return ScorerStore(pool)


@pytest.fixture
def setup(pool: Pool, columnar: Columnar) -> OnlineSetup:
    return OnlineSetup(ScorerStore(pool), ExperimentStore(pool, 100), columnar)


async def test_a_changed_definition_is_a_new_version_and_the_old_one_stays(scorers: ScorerStore) -> None:
    first = await scorers.define(polite("a"))
    second = await scorers.define(polite("b"))
    assert (first.version, second.version) == (1, 2)
    assert (await scorers.get("polite")).parameters == second.parameters
    assert (await scorers.get("polite", 1)).parameters == first.parameters
    assert [scorer.version for scorer in await scorers.versions("polite")] == [2, 1]


async def test_an_unchanged_definition_keeps_its_version(scorers: ScorerStore) -> None:
    assert (await scorers.define(polite())).version == 1
    assert (await scorers.define(polite())).version == 1
    assert len(await scorers.versions("polite")) == 1


async def test_going_back_is_a_version_too(scorers: ScorerStore) -> None:
    await scorers.define(polite("a"))
    await scorers.define(polite("b"))
    assert (await scorers.define(polite("a"))).version == 3


async def test_many_at_once_define_one_version(pool: Pool) -> None:
    found = await asyncio.gather(*(ScorerStore(pool).define(polite()) for _ in range(12)))
    assert {scorer.version for scorer in found} == {1}


async def test_versions_are_append_only(scorers: ScorerStore, pool: Pool) -> None:
    await scorers.define(polite())
    with pytest.raises(asyncpg.RaiseError, match="append-only"):
        await pool.execute("UPDATE scorer_versions SET kind = 'error'")
    with pytest.raises(asyncpg.RaiseError, match="append-only"):
        await pool.execute("DELETE FROM scorer_versions")


async def test_what_is_not_there_is_not_found(scorers: ScorerStore) -> None:
    await scorers.define(polite())
    for reading in (scorers.get("nobody"), scorers.get("polite", 9), scorers.versions("nobody")):
        with pytest.raises(NotFound):
            await reading
    with pytest.raises(NotFound):
        await scorers.delete_config("polite", None)


async def test_scorers_are_listed_by_name_in_their_latest_version(scorers: ScorerStore) -> None:
    for name in ("b", "a", "c"):
        await scorers.define(polite("x", name))
    await scorers.define(polite("y", "b"))
    assert [(s.name, s.version) for s in await scorers.latest()] == [("a", 1), ("b", 2), ("c", 1)]
    assert [s.name for s in await scorers.latest(after="a")] == ["b", "c"]


async def test_one_configuration_for_each_experiment_and_one_for_all(setup: OnlineSetup) -> None:
    await setup.define({"name": "polite", "kind": "regex_match", "parameters": POLITE})
    for experiment in (None, 0, None, 0):
        await setup.put("polite", {"experiment": experiment, "sample_rate": 0.5})
    changed = await setup.put("polite", {"experiment": 0, "sample_rate": 0.25, "filter": "state = 'OK'"})
    configs = await setup.scorers.configs("polite")
    assert [(c.experiment_id, c.sample_rate, c.filter) for c in configs] == [
        (None, 0.5, ""),
        (0, 0.25, "state = 'OK'"),
    ]
    assert changed == configs[1]
    await setup.scorers.delete_config("polite", 0)
    assert [c.experiment_id for c in await setup.scorers.configs()] == [None]


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        ({"sample_rate": 1.5}, "online.sample_rate"),
        ({"sample_rate": float("nan")}, "online.sample_rate"),
        ({"rate": 1}, "online.rate"),
        ({"filter": "state = "}, "filter"),
        ({"filter": "1 IN (SELECT 1)"}, "filter"),
        ({"experiment": 4711}, "experiment"),
        ({"version": 0}, "online.version"),
        ([], "online"),
    ],
)
async def test_a_wrong_configuration_names_its_field(setup: OnlineSetup, request_: Any, field: str) -> None:
    await setup.define({"name": "polite", "kind": "regex_match", "parameters": POLITE})
    with pytest.raises(Invalid) as refused:
        await setup.put("polite", request_)
    assert refused.value.field == field
    assert await setup.scorers.configs() == []


async def test_a_configuration_needs_its_scorer_and_version(setup: OnlineSetup) -> None:
    with pytest.raises(NotFound):
        await setup.put("polite", {})
    await setup.define({"name": "polite", "kind": "regex_match", "parameters": POLITE})
    with pytest.raises(NotFound):
        await setup.put("polite", {"version": 2})


async def test_the_setting_is_applied_again_without_a_trace(setup: OnlineSetup, pool: Pool) -> None:
    documents = [
        {"name": "polite", "kind": "regex_match", "parameters": POLITE, "online": {"experiment": "shop"}},
        {"name": "failed", "kind": "error", "online": [{"sample_rate": 0.1}, {"experiment": 0}]},
        {"name": "kept", "kind": "latency", "parameters": {"max_ms": 100}},
    ]
    await setup.apply(documents)
    before = await setup.scorers.configs()
    progress = await pool.fetch("SELECT * FROM scoring_progress ORDER BY config_id, look")
    await setup.apply(documents)
    assert await setup.scorers.configs() == before
    assert await pool.fetch("SELECT * FROM scoring_progress ORDER BY config_id, look") == progress
    assert [(s.name, s.version) for s in await setup.scorers.latest()] == [
        ("failed", 1),
        ("kept", 1),
        ("polite", 1),
    ]
    assert len(before) == 3


async def test_an_empty_configuration_means_everything(setup: OnlineSetup) -> None:
    await setup.apply([{"name": "all", "kind": "error", "online": {}}, {"name": "none", "kind": "error"}])
    [config] = await setup.scorers.configs()
    assert (config.scorer_name, config.experiment_id, config.sample_rate, config.filter) == ("all", None, 1.0, "")


@pytest.mark.parametrize(
    ("document", "field"),
    [
        ("polite", "scorers.1."),
        ({"name": "x", "kind": "mood"}, "scorers.1.kind"),
        ({"name": "x", "kind": "error", "online": {"filter": "nope = 1"}}, "scorers.1.filter"),
        ({"name": "x", "kind": "error", "oline": {}}, "scorers.1.oline"),
    ],
)
async def test_a_wrong_setting_names_its_item(setup: OnlineSetup, document: Any, field: str) -> None:
    with pytest.raises(Invalid) as refused:
        await setup.apply([{"name": "ok", "kind": "error"}, document])
    assert refused.value.field == field
