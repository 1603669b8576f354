"""The pages over HTTP, on the real stores."""

import itertools
import json
import re
from collections.abc import AsyncIterator

import httpx
import pytest_asyncio
from starlette.applications import Starlette

from support.asgi_server import serving
from support.signals import log, logs_request, store_logs
from support.site import EXPERIMENT, SECOND, Site, pages_site
from support.telemetry import MS, otlp_span
from tracestone.collector.ui.detail import PANE
from tracestone.collector.ui.pages import PAGE_ROWS, Deps
from tracestone.collector.ui.routes import routes
from tracestone.schema.assessments import Assessment, AssessmentError
from tracestone.schema.engines.columnar import Columnar
from tracestone.schema.engines.postgres import Pool
from tracestone.schema.errors import StorageDown
from tracestone.schema.stores.assessments import AssessmentStore
from tracestone.schema.stores.spans import SpanStore


@pytest_asyncio.fixture
async def site(columnar: Columnar, pool: Pool) -> AsyncIterator[Site]:
    async with pages_site(columnar, pool) as found:
        yield found


def links(html: str, text: str) -> list[str]:
    """The addresses of links with this text."""
    found = re.findall(r'<a href="([^"]*)"[^>]*>([^<]*)</a>', html)
    return [href.replace("&amp;", "&") for href, label in found if label.strip() == text]


def trace_ids(html: str) -> list[int]:
    return [int(found, 16) for found in re.findall(r'class="cover" href="/experiments/\d+/traces/(\w{32})"', html)]


async def test_nothing_yet_says_how_to_send_a_first_trace(site: Site) -> None:
    for path in ("/", f"/experiments/{EXPERIMENT}"):
        html = await site.page(path)
        assert "No traces yet" in html and "OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:4317" in html


async def test_experiments_with_their_counts(site: Site) -> None:
    for number in (1, 2, 3):
        error = "boom" if number == 3 else ""
        usage = {"gen_ai.operation.name": "chat", "gen_ai.usage.input_tokens": 1000, "llm.cost.total": 0.25}
        await site.send(otlp_span(number, 1, start_ns=site.start_ns, error=error, attributes=usage))
    await site.name(EXPERIMENT, "support")
    await site.name(8, "quiet")
    await site.name(9, "in the bin", stage="deleted")
    await site.send(otlp_span(9, 1, start_ns=site.start_ns), experiment=9)
    html = await site.page("/")
    assert re.findall(r'class="cover" href="/experiments/(\d+)">([^<]*)<', html) == [("7", "support"), ("8", "quiet")]
    row = re.search(rf'href="/experiments/{EXPERIMENT}">.*?</tr>', html, re.DOTALL)
    assert row is not None
    cells = re.findall(r'data-label="(\w+)">(.*?)</td>', row[0])
    texts = {label: re.sub(r"<[^>]*>", "", cell) for label, cell in cells}
    assert texts == {"Traces": "3", "Errors": "1 33.3 %", "Tokens": "3,000", "Cost": "$0.750"}
    assert "No traces yet" not in html


async def test_traces_are_paged_by_key_without_gap_or_overlap(site: Site) -> None:
    # Three share each start, so that the id has to decide.
    total = 2 * PAGE_ROWS + 10
    spans = [otlp_span(number, 1, start_ns=site.start_ns + number // 3 * MS) for number in range(1, total + 1)]
    await site.send(*spans)
    path, seen, pages = f"/experiments/{EXPERIMENT}", [], []
    while path:
        html = await site.page(path)
        seen += trace_ids(html)
        pages.append(trace_ids(html))
        path = next(iter(links(html, "Older →")), "")
    assert seen == sorted(range(1, total + 1), reverse=True)
    assert [len(page) for page in pages] == [PAGE_ROWS, PAGE_ROWS, 10]
    assert trace_ids(await site.page(links(html, "← Newer")[0])) == pages[1]
    assert trace_ids(await site.page(links(html, "Newest")[0])) == pages[0]


async def test_a_trace_that_arrives_meanwhile_does_not_shift_the_pages(site: Site) -> None:
    await site.send(*[otlp_span(n, 1, start_ns=site.start_ns + n * MS) for n in range(1, PAGE_ROWS + 6)])
    older = links(await site.page(f"/experiments/{EXPERIMENT}"), "Older →")[0]
    await site.send(otlp_span(900, 1, start_ns=site.start_ns + SECOND))
    assert trace_ids(await site.page(older)) == [5, 4, 3, 2, 1]


async def test_filters_are_bound_values(site: Site) -> None:
    session = {"session.id": "s-1' OR 1=1 --"}
    await site.send(
        otlp_span(1, 1, start_ns=site.start_ns, name="Checkout", attributes=session),
        otlp_span(2, 1, start_ns=site.start_ns, name="search 100%", error="boom"),
    )
    base = f"/experiments/{EXPERIMENT}"
    expected = {
        "state=ERROR": [2],
        "state=OK": [1],
        "name=checkout": [1],
        "name=100%25": [2],
        "name=%27%20OR%201=1%20--": [],
        "session=s-1%27%20OR%201=1%20--": [1],
        "session=other": [],
        "state=ERROR&name=check": [],
    }
    assert {query: trace_ids(await site.page(f"{base}?{query}")) for query in expected} == expected
    assert "No trace matches this filter" in await site.page(f"{base}?name=absent")


async def test_scores_are_chips_and_errors_are_marked(site: Site) -> None:
    await site.send(otlp_span(1, 1, start_ns=site.start_ns))
    await site.judge(1, "polite", value=True)
    await site.judge(1, "grounded", value=False)
    await site.judge(1, "style", value=0.123456)
    await site.judge(1, "judge", error=AssessmentError("TIMEOUT", "no answer in 30 s"))
    html = await site.page(f"/experiments/{EXPERIMENT}")
    chips = re.findall(r'chip-(\w+)" title="([^"]*)"><span class="chip-name">(\w+)</span> <b>([^<]*)</b>', html)
    assert [(tone, name, text) for tone, _, name, text in chips] == [
        ("no", "grounded", "false"),
        ("error", "judge", "error"),
        ("yes", "polite", "true"),
        ("plain", "style", "0.1235"),
    ]
    assert "no answer in 30 s" in chips[1][1]


async def test_one_trace_with_its_timeline_and_a_chosen_span(site: Site) -> None:
    messages = json.dumps([{"role": "user", "parts": [{"type": "text", "content": "Where is my order?"}]}])
    chat = {"gen_ai.operation.name": "chat", "gen_ai.input.messages": messages, "gen_ai.usage.input_tokens": 12}
    tool = {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.call.arguments": '{"order": 7}'}
    failure = {"exception": {"exception.type": "TimeoutError"}}
    await site.send(
        otlp_span(1, 1, start_ns=site.start_ns, length_ms=900, name="agent"),
        otlp_span(1, 2, 1, start_ns=site.start_ns + 10 * MS, name="chat", attributes=chat),
        otlp_span(
            1, 3, 2, start_ns=site.start_ns + 20 * MS, name="look", error="late", attributes=tool, events=failure
        ),
    )
    await site.judge(1, "grounded", value="no", rationale="It made the date up.", source_id="hannah")
    await site.judge(1, "tool_ok", value=False, target_type="span", span_id=f"{3:016x}")
    base = f"/experiments/{EXPERIMENT}/traces/{1:032x}"
    html = await site.page(base)
    assert re.findall(r'class="label" title="([^"]*)"', html) == ["agent", "chat", "look"]
    assert re.findall(r"r-name in-(\d+)", html) == ["0", "1", "2"]
    assert "It made the date up." in html and "Person hannah" in html
    assert "<b>false</b>" in html
    chat_html = await site.page(f"{base}?span={2:016x}")
    assert "<pre>Where is my order?</pre>" in chat_html
    tool_html = await site.page(f"{base}/spans/{3:016x}?part=detail")
    assert "late" in tool_html and "TimeoutError" in tool_html and "&#34;order&#34;: 7" in tool_html
    assert "<html" not in tool_html and "tool_ok" in tool_html


async def test_attributes_keep_their_types(site: Site) -> None:
    values = {"a.text": "x", "a.int": 5, "a.double": 5.5, "a.bool": False, "a.list": ["p", "q"]}
    await site.send(otlp_span(1, 1, start_ns=site.start_ns, attributes=values))
    html = await site.page(f"/experiments/{EXPERIMENT}/traces/{1:032x}/spans/{1:016x}")
    pattern = r'<th scope="row">(a\.\w+)</th><td class="type">(\w+)</td><td class="value"><pre>([^<]*)</pre>'
    assert re.findall(pattern, html) == [
        ("a.bool", "bool", "false"),
        ("a.double", "double", "5.5"),
        ("a.int", "int", "5"),
        ("a.list", "array", "[&#34;p&#34;, &#34;q&#34;]"),
        ("a.text", "string", "x"),
    ]


async def test_a_long_text_is_cut_and_can_be_had_whole(site: Site) -> None:
    text = "begin " + "word " * 4_000 + "finish"
    await site.send(otlp_span(1, 1, start_ns=site.start_ns, attributes={"input.value": text}))
    base = f"/experiments/{EXPERIMENT}/traces/{1:032x}"
    pane = await site.page(base)
    assert "begin word" in pane and "finish" not in pane and "16,012 more characters" in pane
    whole = links(pane, "Show this span whole")[0]
    assert "finish" in await site.page(whole)


async def test_a_trace_by_id_alone_leads_to_its_experiment(site: Site) -> None:
    await site.send(otlp_span(0xABC, 1, start_ns=site.start_ns))
    for written in (f"{0xABC:032x}", f"{0xABC:032X}", f"tr-{0xABC:032x}"):
        response = await site.http.get(f"/traces/{written}")
        assert response.status_code == 307
        assert response.headers["location"] == f"/experiments/{EXPERIMENT}/traces/{0xABC:032x}"
    with_span = await site.http.get(f"/traces/{0xABC:032x}?span={1:016X}")
    assert with_span.headers["location"].endswith(f"/traces/{0xABC:032x}?span={1:016x}")
    assert len(site.waits) == 4
    assert (await site.http.get(f"/traces/{0xABC:032x}?span=none")).status_code == 404


async def test_reading_one_trace_waits_for_what_was_acknowledged(site: Site) -> None:
    await site.send(otlp_span(1, 1, start_ns=site.start_ns))
    base = f"/experiments/{EXPERIMENT}/traces/{1:032x}"
    await site.page(base)
    await site.page(f"{base}/spans/{1:016x}")
    assert len(site.waits) == 2


async def test_sessions_and_one_session_in_order(site: Site) -> None:
    for turn in (1, 2, 3):
        attributes = {
            "session.id": "chat/1 <b>",
            "user.id": "u-9",
            "input.value": f"question {turn}",
            "output.value": f"answer {turn}",
        }
        await site.send(otlp_span(turn, 1, start_ns=site.start_ns + turn * SECOND, attributes=attributes))
    html = await site.page(f"/experiments/{EXPERIMENT}/sessions")
    assert "chat/1 &lt;b&gt;" in html and "u-9" in html
    href = re.search(r'class="cover" href="([^"]*)"', html)
    assert href is not None
    one = await site.page(href[1].replace("&amp;", "&"))
    assert re.findall(r"<pre>((?:question|answer) \d)</pre>", one) == [
        f"{side} {turn}" for turn in (1, 2, 3) for side in ("question", "answer")
    ]


async def test_what_is_said_of_a_session_itself_is_on_its_page(site: Site) -> None:
    await site.send(otlp_span(1, 1, start_ns=site.start_ns, attributes={"session.id": "s"}))
    for session_id, rationale in (("s", "Asked <b>twice</b>."), ("t", "Of another session.")):
        said = Assessment(
            experiment_id=EXPERIMENT,
            target_type="session",
            session_id=session_id,
            name="frustration",
            kind="feedback",
            source_type="LLM_JUDGE",
            value="unresolved",
            rationale=rationale,
        )
        await site.assessments.create(said)
    html = await site.page(f"/experiments/{EXPERIMENT}/session?id=s")
    assert "unresolved" in html and "Asked &lt;b&gt;twice&lt;/b&gt;." in html
    assert "Of another session." not in html


async def test_sessions_are_paged(site: Site) -> None:
    spans = [
        otlp_span(n, 1, start_ns=site.start_ns + n // 2 * MS, attributes={"session.id": f"s-{n:03}"})
        for n in range(1, PAGE_ROWS + 8)
    ]
    await site.send(*spans)
    first = await site.page(f"/experiments/{EXPERIMENT}/sessions")
    second = await site.page(links(first, "Older →")[0])
    found = [re.findall(r"session\?id=(s-\d+)", html) for html in (first, second)]
    assert list(itertools.chain(*found)) == [f"s-{n:03}" for n in range(PAGE_ROWS + 7, 0, -1)]


HOSTILE = "\"><script>alert(1)</script><img src=x onerror=alert(2)>'{{7*7}}"


async def test_hostile_text_stays_text(site: Site) -> None:
    attributes = {
        HOSTILE: HOSTILE,
        "session.id": HOSTILE,
        "user.id": HOSTILE,
        "input.value": HOSTILE,
        "gen_ai.operation.name": "chat",
        "gen_ai.request.model": HOSTILE,
        "gen_ai.output.messages": json.dumps([{"role": HOSTILE, "parts": [{"type": "text", "content": HOSTILE}]}]),
        "gen_ai.retrieval.documents": json.dumps([{"id": HOSTILE, "content": HOSTILE}]),
        "error.type": HOSTILE,
    }
    await site.send(
        otlp_span(
            1,
            1,
            start_ns=site.start_ns,
            name=HOSTILE,
            error=HOSTILE,
            attributes=attributes,
            events={HOSTILE: {HOSTILE: HOSTILE}},
        ),
        service=HOSTILE,
    )
    await site.name(EXPERIMENT, HOSTILE)
    await site.judge(1, HOSTILE, value=HOSTILE, rationale=HOSTILE, source_id=HOSTILE, metadata={HOSTILE: HOSTILE})
    base = f"/experiments/{EXPERIMENT}"
    pages = [
        await site.page("/"),
        await site.page(base),
        (await site.http.get(base, params={"name": HOSTILE, "session": HOSTILE})).text,
        await site.page(f"{base}/sessions"),
        (await site.http.get(f"{base}/session", params={"id": HOSTILE})).text,
        await site.page(f"{base}/traces/{1:032x}"),
        await site.page(f"{base}/traces/{1:032x}/spans/{1:016x}"),
        await site.page("/<script>alert(1)</script>", 404),
    ]
    for html in pages:
        scripts = re.findall(r"<script[^>]*>", html)
        assert all(script.startswith('<script src="/static/trace.js?v=') for script in scripts)
        assert "<img src=x" not in html
        assert "&lt;script&gt;alert(1)" in html or html == pages[-1]
    assert "&#39;{{7*7}}</pre>" in pages[-2]


async def test_no_inline_script_or_style_anywhere(site: Site) -> None:
    await site.send(otlp_span(1, 1, start_ns=site.start_ns, error="boom"))
    for path in ("/", f"/experiments/{EXPERIMENT}", f"/experiments/{EXPERIMENT}/traces/{1:032x}"):
        html = await site.page(path)
        assert not re.search(r"\sstyle=|\son\w+=|<style|javascript:", html)
        assert not re.findall(r"<script(?![^>]*\ssrc=)", html)
        assert not re.findall(r'(?:src|href)="(?:https?:)?//', html)


async def test_every_answer_has_strict_headers(site: Site) -> None:
    for path in ("/", "/static/pages.css", "/experiments/x", "/traces/nope"):
        headers = (await site.http.get(path)).headers
        policy = headers["content-security-policy"]
        assert "default-src 'self'" in policy and "frame-ancestors 'none'" in policy and "unsafe" not in policy
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "same-origin"


async def test_static_files_are_kept_by_their_content(site: Site) -> None:
    html = await site.page("/")
    (href,) = re.findall(r'href="(/static/pages\.css\?v=\w+)"', html)
    assert "immutable" in (await site.http.get(href)).headers["cache-control"]
    assert "immutable" not in (await site.http.get("/static/pages.css")).headers.get("cache-control", "")


UNANSWERABLE = [
    ("/experiments/abc", 404, "whole number"),
    ("/experiments/99999999999", 404, "whole number"),
    ("/experiments/1/traces/xyz", 404, "32 hexadecimal digits"),
    (f"/experiments/1/traces/{5:032x}", 404, f"no trace {5:032x}"),
    (f"/traces/{5:032x}", 404, "may have been sent elsewhere"),
    (f"/experiments/1/traces/{5:032x}/spans/1", 404, "16 hexadecimal digits"),
    ("/experiments/1/session?id=none", 404, "no traces"),
    ("/experiments/1?state=BROKEN", 400, "state: must be one of OK, ERROR, IN_PROGRESS"),
    ("/experiments/1?before=yesterday", 400, "before: is not a place in the list"),
    ("/experiments/1?after=99999999999999999999-1", 400, "after: is not a place in the list"),
    (f"/experiments/1?name={'x' * 2001}", 400, "name: must have at most 2000 characters"),
    ("/nowhere", 404, "no page at this address"),
]


async def test_an_address_that_cannot_be_answered_says_why(site: Site) -> None:
    for path, status, says in UNANSWERABLE:
        html = await site.page(path, status)
        assert says in html and "<h1>" in html, path


async def test_an_unknown_span_of_a_known_trace_is_not_found(site: Site) -> None:
    await site.send(otlp_span(1, 1, start_ns=site.start_ns))
    html = await site.page(f"/experiments/{EXPERIMENT}/traces/{1:032x}/spans/{9:016x}", 404)
    assert f"has no span {9:016x}" in html


async def test_a_store_that_is_away_is_a_clear_page(columnar: Columnar, pool: Pool) -> None:
    async def barrier() -> None:
        raise StorageDown("ClickHouse does not answer", retry_after=3)

    deps = Deps(SpanStore(columnar), AssessmentStore(pool), columnar, barrier)
    async with serving(Starlette(routes=routes(deps))) as url, httpx.AsyncClient(base_url=url) as http:
        response = await http.get(f"/traces/{1:032x}")
    assert response.status_code == 503 and response.headers["retry-after"] == "3"
    assert "ClickHouse does not answer" in response.text


async def test_a_span_shows_its_log_records(site: Site) -> None:
    await site.send(otlp_span(1, 1, start_ns=site.start_ns), otlp_span(1, 2, 1, start_ns=site.start_ns))
    own = f"/experiments/{EXPERIMENT}/traces/{1:032x}/spans/{1:016x}"
    assert "<summary>Logs" not in await site.page(own)
    records = [
        log('{"content": "<b>earlier</b>"}', 1, 1, at=site.start_ns - 2 * MS, event_name="gen_ai.user.message"),
        log("plain words", 1, 1, at=site.start_ns + MS, severity_text="WARN", attributes={"code.line.number": 7}),
        log("of another span", 1, 2, at=site.start_ns),
    ]
    await store_logs(site.columnar, logs_request(*records), 99)
    html = await site.page(own)
    assert re.findall(r'event-head"><b>([^<]*)</b> <span class="sub-inline">([^<]*)<', html) == [
        ("gen_ai.user.message", "\u22122 ms"),
        ("WARN", "+1 ms"),
    ]
    assert "&lt;b&gt;earlier&lt;/b&gt;" in html and "plain words" in html and "code.line.number" in html
    assert "of another span" not in html


async def test_too_many_log_records_of_a_span_are_said_to_be_in_sql(site: Site) -> None:
    await site.send(otlp_span(1, 1, start_ns=site.start_ns))
    records = [log(f"record {number}", 1, 1, at=site.start_ns + number) for number in range(PANE.rows + 1)]
    await store_logs(site.columnar, logs_request(*records), EXPERIMENT)
    own = f"/experiments/{EXPERIMENT}/traces/{1:032x}/spans/{1:016x}"
    html = await site.page(f"{own}?part=detail")
    assert html.count("event-head") == PANE.rows
    assert "SELECT * FROM logs WHERE trace_id = " in html
    assert (await site.page(own)).count("event-head") == PANE.rows + 1
