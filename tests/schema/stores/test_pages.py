"""What the pages read has limits."""

import pytest

from tracestone.schema.engines.columnar import Columnar
from tracestone.schema.errors import Unavailable
from tracestone.schema.stores import pages
from tracestone.schema.stores.pages import PageStore


@pytest.mark.parametrize(
    ("limit", "value", "endless"),
    [
        ("max_execution_time", 1, "SELECT sum(number) FROM system.numbers"),
        ("max_memory_usage", 50_000_000, "SELECT groupArray(number) FROM system.numbers"),
    ],
)
async def test_a_read_over_a_limit_ends_and_says_so(
    empty_columnar: Columnar, monkeypatch: pytest.MonkeyPatch, limit: str, value: int, endless: str
) -> None:
    store = PageStore(empty_columnar)
    assert pages._LIMITS[limit] > value
    monkeypatch.setitem(pages._LIMITS, limit, value)
    store._queries = {"experiment_name": endless}
    with pytest.raises(Unavailable, match="too long or too much memory"):
        await store.experiment_name(1)
