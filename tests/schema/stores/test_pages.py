"""What the pages read has limits."""

import pytest

from tracestone.schema.engines.columnar import Columnar
from tracestone.schema.errors import Unavailable
from tracestone.schema.stores import pages
from tracestone.schema.stores.pages import PageStore, Place, TraceFilter


async def test_a_list_over_its_limit_is_said_to_be(columnar: Columnar, monkeypatch: pytest.MonkeyPatch) -> None:
    store = PageStore(columnar)
    assert await store.traces_older(1, 10, Place(), TraceFilter()) == ()
    monkeypatch.setitem(pages._LIMITS, "max_memory_usage", 1)
    with pytest.raises(Unavailable, match="too much memory"):
        await store.traces_older(1, 10, Place(), TraceFilter())
