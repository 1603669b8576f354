"""Traces of thousands of spans and sessions of thousands of turns: skeleton first, rows and payloads when asked for."""

import html as escapes
import re
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from support.site import EXPERIMENT, Site, pages_site
from support.telemetry import MS, otlp_span
from tracestone.collector.ui.pages import SESSION_TURNS
from tracestone.collector.ui.trace_pages import PAGE_SPANS
from tracestone.schema.engines.columnar import Columnar
from tracestone.schema.engines.postgres import Pool

TRACE = f"/experiments/{EXPERIMENT}/traces/{1:032x}"
FAILED = (700, 4_321)


@pytest_asyncio.fixture
async def site(columnar: Columnar, pool: Pool) -> AsyncIterator[Site]:
    async with pages_site(columnar, pool) as found:
        yield found


async def send_tree(site: Site, count: int) -> None:
    """A trace whose span N has the parent N // 2: every depth, and the order of the timeline is not that of start."""
    for first in range(1, count + 1, 5_000):
        await site.send(
            *[
                otlp_span(
                    1,
                    number,
                    number // 2,
                    start_ns=site.start_ns + number * MS,
                    name=f"span {number}",
                    error="it broke" if number in FAILED else "",
                    attributes={"input.value": f"payload of {number}: " + "x" * 1_000},
                )
                for number in range(first, min(first + 5_000, count + 1))
            ]
        )


def depth_first(count: int) -> list[int]:
    """The order in which the tree of `send_tree` is shown."""
    found, stack = [], [1]
    while stack:
        number = stack.pop()
        found.append(number)
        stack.extend(below for below in (2 * number + 1, 2 * number) if below <= count)
    return found


def shown(html: str) -> list[int]:
    """The spans of the rows."""
    return [int(found, 16) for found in re.findall(r'<li><a class="row[^>]*\?span=(\w{16})#span"', html)]


def link(html: str, pattern: str) -> str:
    """The address of the link that has this in its tag or text; "" without one."""
    for tag in re.findall(r"<a [^>]*>[^<]*</a>", html):
        if pattern in tag:
            return escapes.unescape(re.search(r'href="([^"]*)"', tag)[1])  # type: ignore[index]
    return ""


async def all_rows(site: Site) -> list[int]:
    """What one has seen who goes on and on, as the page's script does."""
    html = await site.page(TRACE)
    found = shown(html)
    while address := link(html, 'rel="next"'):
        html = await site.page(f"{address}&part=rows")
        assert len(html) < 1_000_000 and "<main" not in html
        found += shown(html)
    return found


async def test_a_trace_of_5000_spans_page_by_page(site: Site) -> None:
    await send_tree(site, 5_000)
    order = depth_first(5_000)
    first = await site.page(TRACE)
    assert shown(first) == order[:PAGE_SPANS] and "Rows 1 to 500 of 5,000" in first
    # the skeleton first: no payload but that of the open span
    assert "payload of 1:" in first and "payload of 2:" not in first and len(first) < 1_000_000
    assert await all_rows(site) == order

    # a span is opened where it is
    middle = order[2_345]
    page = await site.page(f"{TRACE}?span={middle:016x}")
    assert shown(page) == order[2_000:2_500] and f"payload of {middle}:" in page
    assert re.search(rf'span={middle:016x}#span"[^>]*aria-current="true"', page)
    last = await site.page(link(page, ">Last<"))
    assert shown(last) == order[4_500:] and f"payload of {middle}:" in last
    assert shown(await site.page(link(last, 'rel="prev"'))) == order[4_000:4_500]
    assert shown(await site.page(link(last, ">First<"))) == order[:500]

    # failed spans, one after another and round again
    seen, page = [], first
    for _ in range(3):
        page = await site.page(link(page, ">Next failed span<"))
        seen.append(re.search(r"payload of (\d+):", page)[1])  # type: ignore[index]
    assert sorted(seen[:2]) == sorted(map(str, FAILED)) and seen[2] == seen[0]

    # beyond the end is the last page; what is no number is said to be none
    assert shown(await site.page(f"{TRACE}?from=999999999")) == order[4_500:]
    assert "is the number of a row" in await site.page(f"{TRACE}?from=-1", 400)
    pane = await site.page(f"{TRACE}/spans/{middle:016x}?part=detail")
    assert f"payload of {middle}:" in pane


async def test_what_arrives_later_is_on_the_page(site: Site) -> None:
    await send_tree(site, 600)
    assert len(await all_rows(site)) == 600
    await site.send(otlp_span(1, 9_999, 1, start_ns=site.start_ns, name="late"))
    found = await all_rows(site)
    assert len(found) == 601 and found[1] == 9_999


async def test_a_session_of_thousands_of_turns_page_by_page(site: Site) -> None:
    turns = 2 * SESSION_TURNS + 50
    await site.send(
        *[
            otlp_span(
                n, 1, start_ns=site.start_ns + n // 2 * MS, name=f"turn {n}", attributes={"session.id": "long & <b>"}
            )
            for n in range(1, turns + 1)
        ]
    )

    def traces(html: str) -> list[int]:
        return [int(found, 16) for found in re.findall(r'turn-head"><a href="[^"]*/traces/(\w{32})"', html)]

    address = f"/experiments/{EXPERIMENT}/session?id=long%20%26%20%3Cb%3E"
    page = await site.page(address)
    assert f"{turns} traces" in page and link(page, "Later") == ""
    found = traces(page)
    assert len(found) == SESSION_TURNS
    while earlier := link(page, 'rel="prev"'):
        page = await site.page(earlier)
        found = traces(page) + found
    # each once, oldest first; those that began together by id
    assert found == list(range(1, turns + 1))
    assert traces(await site.page(link(page, 'rel="next"'))) == found[50 : 50 + SESSION_TURNS]
    assert traces(await site.page(link(page, ">Latest<"))) == found[-SESSION_TURNS:]


@pytest.mark.slow
async def test_a_trace_of_50000_spans_page_by_page(site: Site) -> None:
    await send_tree(site, 50_000)
    assert await all_rows(site) == depth_first(50_000)
