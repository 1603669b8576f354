"""The pages in a real browser."""

import json
import shutil
from collections.abc import AsyncIterator

import pytest_asyncio
from playwright.async_api import Browser, Page, async_playwright

from support.site import EXPERIMENT, Site, pages_site
from support.telemetry import MS, otlp_span
from tracestone.collector.ui.trace_pages import PAGE_SPANS
from tracestone.schema.engines.columnar import Columnar
from tracestone.schema.engines.postgres import Pool

ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
HOSTILE = "<img src=x onerror=\"document.title='owned'\"><script>document.title='owned'</script>"
TRACE = f"/experiments/{EXPERIMENT}/traces/{1:032x}"


class Window:
    """A browser's page that remembers what went wrong in it and where it reached out to."""

    def __init__(self, page: Page, url: str) -> None:
        self.page = page
        self.url = url
        self.problems: list[str] = []
        self.hosts: set[str] = set()
        page.on("console", lambda message: self.problems.append(message.text))
        page.on("pageerror", lambda error: self.problems.append(str(error)))
        page.on("request", lambda request: self.hosts.add(request.url.split("/")[2]))

    async def open(self, path: str) -> None:
        await self.page.goto(self.url + path)

    async def overflow(self) -> int:
        """By how many pixels the page is wider than its window."""
        return await self.page.evaluate("document.documentElement.scrollWidth - window.innerWidth")

    async def selected(self) -> str:
        """The name of the span in the pane."""
        return await self.page.locator("#span .pane-head .label").inner_text()


@pytest_asyncio.fixture
async def site(columnar: Columnar, pool: Pool) -> AsyncIterator[Site]:
    async with pages_site(columnar, pool) as found:
        messages = json.dumps([{"role": "user", "parts": [{"type": "text", "content": "Where is my order?"}]}])
        chat = {"gen_ai.operation.name": "chat", "gen_ai.input.messages": messages, "session.id": "chat-1"}
        start = found.start_ns
        await found.send(
            otlp_span(1, 1, start_ns=start, length_ms=900, name="support agent", attributes=chat),
            otlp_span(1, 2, 1, start_ns=start + 10 * MS, length_ms=300, name="first call", attributes=chat),
            otlp_span(1, 3, 1, start_ns=start + 400 * MS, length_ms=400, name=HOSTILE, error=HOSTILE),
            *[otlp_span(n, 1, start_ns=start - n * MS, name=f"trace {n}") for n in range(2, 70)],
        )
        await found.judge(1, "grounded", value=False, rationale="It made the date up.")
        yield found


def _chromium() -> str | None:
    """The Chromium that is installed; None means Playwright's own (scripts/browser sees to one of the two)."""
    found = (shutil.which(name) for name in ("chromium", "chromium-browser", "google-chrome"))
    return next((path for path in found if path), None)


@pytest_asyncio.fixture
async def browser() -> AsyncIterator[Browser]:
    async with async_playwright() as playwright:
        found = await playwright.chromium.launch(executable_path=_chromium(), args=ARGUMENTS)
        yield found
        await found.close()


async def window(browser: Browser, site: Site, **options) -> Window:
    context = await browser.new_context(viewport={"width": 1280, "height": 800}, **options)
    return Window(await context.new_page(), site.url)


async def test_from_the_experiments_to_a_span(browser: Browser, site: Site) -> None:
    at = await window(browser, site)
    await at.open("/")
    await at.page.get_by_role("link", name=f"Experiment {EXPERIMENT}").click()
    await at.page.get_by_role("link", name="Older").click()
    await at.page.get_by_text("trace 69").wait_for()
    await at.page.get_by_role("link", name="Newest").click()
    await at.page.get_by_text("grounded").wait_for()
    await at.page.get_by_role("link", name="support agent").click()
    assert await at.selected() == "support agent"
    assert await at.page.get_by_text("It made the date up.").is_visible()
    await at.page.get_by_role("link", name="first call").click()
    await at.page.locator("#span .label", has_text="first call").wait_for()
    assert await at.page.locator("#span .role-user pre").inner_text() == "Where is my order?"
    assert at.page.url.endswith(f"?span={2:016x}")
    await at.page.reload()
    assert await at.selected() == "first call"
    assert at.problems == [] and at.hosts == {site.url.removeprefix("http://")}


async def test_the_timeline_by_keyboard(browser: Browser, site: Site) -> None:
    at = await window(browser, site)
    await at.open(TRACE)
    await at.page.get_by_role("link", name="support agent", exact=False).last.focus()
    await at.page.keyboard.press("ArrowDown")
    await at.page.locator("#span .label", has_text="first call").wait_for()
    await at.page.keyboard.press("ArrowUp")
    await at.page.locator("#span .label", has_text="support agent").wait_for()
    assert await at.page.locator(".timeline a[aria-current]").count() == 1
    assert at.problems == []


async def test_hostile_names_do_nothing(browser: Browser, site: Site) -> None:
    at = await window(browser, site)
    await at.open(f"{TRACE}?span={3:016x}")
    assert await at.selected() == HOSTILE
    await at.page.locator(".timeline a").nth(1).click()
    await at.page.locator("#span .label", has_text="first call").wait_for()
    await at.page.locator(".timeline a").nth(2).click()
    await at.page.locator("#span .label", has_text="onerror").wait_for()
    assert "owned" not in await at.page.title() and at.problems == []


async def test_without_javascript_the_links_do_the_same(browser: Browser, site: Site) -> None:
    at = await window(browser, site, java_script_enabled=False)
    await at.open(TRACE)
    await at.page.get_by_role("link", name="first call").click()
    assert await at.selected() == "first call"


async def test_nothing_is_wider_than_a_phone_in_light_and_dark(browser: Browser, site: Site) -> None:
    grounds = []
    for scheme in ("light", "dark"):
        at = await window(browser, site, color_scheme=scheme)
        for width in (1280, 390):
            await at.page.set_viewport_size({"width": width, "height": 844})
            for path in ("/", f"/experiments/{EXPERIMENT}", f"/experiments/{EXPERIMENT}/sessions", TRACE, "/none"):
                await at.open(path)
                assert await at.overflow() <= 0, (path, width)
        grounds.append(await at.page.evaluate("getComputedStyle(document.body).backgroundColor"))
    assert grounds[0] != grounds[1]


async def test_bars_are_drawn_where_the_spans_are(browser: Browser, site: Site) -> None:
    at = await window(browser, site)
    await at.open(TRACE)
    boxes = [await at.page.locator(".timeline .r-bar rect:last-child").nth(n).bounding_box() for n in range(3)]
    whole, first, second = (box for box in boxes if box)
    assert whole["x"] < first["x"] + first["width"] < second["x"]
    assert abs(second["width"] / whole["width"] - 400 / 900) < 0.02


async def test_a_long_timeline_brings_its_rows_while_one_scrolls(browser: Browser, site: Site) -> None:
    count = 9 * PAGE_SPANS
    await site.send(
        *[
            otlp_span(
                500, n, 1 if n > 1 else 0, start_ns=site.start_ns + n * MS, name=f"row {n}", error="x" * (n == 4_000)
            )
            for n in range(1, count + 1)
        ]
    )
    long = f"/experiments/{EXPERIMENT}/traces/{500:032x}"
    at = await window(browser, site)
    await at.open(long)
    rows, box = at.page.locator(".timeline a"), at.page.locator(".spans")
    # down to the end by the mouse's wheel, far rows leaving the page
    seen: set[str] = set()
    for _ in range(400):
        seen.update(await rows.evaluate_all("rows => rows.map(row => row.querySelector('.label').textContent)"))
        assert await rows.count() <= 7 * PAGE_SPANS
        if len(seen) == count:
            break
        await box.evaluate("box => box.scrollBy(0, 4000)")
        await at.page.wait_for_timeout(50)
    assert len(seen) == count
    # and back up: what is in sight stays where it is while rows come in above it
    await box.evaluate("box => { box.scrollTop = 3000 }")
    for _ in range(100):
        if await rows.first.get_by_text("row 1", exact=True).count():
            break
        await box.evaluate("box => box.scrollBy(0, -4000)")
        await at.page.wait_for_timeout(50)
    await box.evaluate("box => { box.scrollTop = 0 }")
    assert await rows.first.locator(".label").text_content() == "row 1" and await rows.first.is_visible()

    # opened in the middle: the span is in sight, and the keyboard goes over the edge of what was loaded first
    await at.open(f"{long}?span={2 * PAGE_SPANS:016x}")
    chosen = at.page.locator(".timeline a[aria-current]")
    frame, place = await box.bounding_box(), await chosen.bounding_box()
    assert frame and place and frame["y"] <= place["y"] <= frame["y"] + frame["height"]
    await at.page.get_by_text(f"row {2 * PAGE_SPANS + 1}", exact=True).wait_for()
    await chosen.focus()
    await at.page.keyboard.press("ArrowDown")
    await at.page.locator("#span .label", has_text=f"row {2 * PAGE_SPANS + 1}").wait_for()
    assert await chosen.count() == 1
    await at.page.get_by_role("link", name="Next failed span").click()
    await at.page.locator("#span .label", has_text="row 4000").wait_for()
    assert await chosen.locator(".label").text_content() == "row 4000"
    assert at.problems == []
