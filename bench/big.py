"""Big things: a trace of 50,000 spans, a session of 10,000 turns, an attribute of 10 MB; sent, listed and opened.

    python bench/big.py
    python bench/big.py --keep /tmp/big --port 5000        leaves it running on these data, to look at the pages

Sends them over OTLP/HTTP to a `tracestone up` of its own, waits until all can be queried, and prints the time and
the size of each page, API answer and SQL statement that shows them: the first time and the median of five more.
"""

import argparse
import json
import random
import shutil
import statistics
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from ingest import Ports, Sql, free_ports, start, wait_ready
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from payloads import attribute, text

MS = 1_000_000
TRACE, HUGE = bytes.fromhex("b1" * 16), bytes.fromhex("10" * 16)
SESSION = "a session of many turns"


def _span(trace: bytes, number: int, parent: int, name: str, start: int, length: int, **attributes: object) -> Span:
    return Span(
        trace_id=trace, span_id=number.to_bytes(8, "big"), parent_span_id=parent.to_bytes(8, "big") if parent else b"",
        name=name, start_time_unix_nano=start, end_time_unix_nano=start + length,
        attributes=[attribute(key.replace("__", "."), value) for key, value in attributes.items()],
    )  # fmt: skip


def _messages(role: str, content: str) -> str:
    return json.dumps([{"role": role, "parts": [{"type": "text", "content": content}]}])


def big_trace(spans: int, start: int) -> Iterator[Span]:
    """One agent that hands out tasks; each task is a chain of steps of a model call and two tools: depth 4."""
    rng = random.Random(2)
    yield _span(TRACE, 1, 0, "invoke_agent planner", start, spans * MS, gen_ai__operation__name="invoke_agent",
                gen_ai__input__messages=_messages("user", text(rng, 400)))  # fmt: skip
    number, task, step = 2, 1, 1
    while number <= spans:
        at = start + number * MS
        place = (number - 2) % 401
        if place == 0:
            task = number
            yield _span(TRACE, number, 1, f"task {number // 401 + 1}", at, 401 * MS)
        elif place % 4 == 1:
            step = number
            yield _span(TRACE, number, task, "step", at, 4 * MS, openinference__span__kind="CHAIN")
        elif place % 4 == 2:
            yield _span(TRACE, number, step, "chat gpt-4.1-mini", at, MS, gen_ai__operation__name="chat",
                        gen_ai__request__model="gpt-4.1-mini", gen_ai__usage__input_tokens=rng.randrange(4000),
                        gen_ai__usage__output_tokens=rng.randrange(400),
                        gen_ai__input__messages=_messages("user", text(rng, 1500)),
                        gen_ai__output__messages=_messages("assistant", text(rng, 300)))  # fmt: skip
        else:
            yield _span(TRACE, number, step, "execute_tool lookup", at, MS, gen_ai__operation__name="execute_tool",
                        gen_ai__tool__call__result=text(rng, 700))  # fmt: skip
        number += 1


def long_session(turns: int, start: int) -> Iterator[Span]:
    """A trace of two spans for each turn, one a second."""
    rng = random.Random(3)
    for turn in range(turns):
        trace, at = (turn + 1).to_bytes(16, "big"), start + turn * 1000 * MS
        yield _span(trace, 1, 0, "answer", at, 800 * MS, session__id=SESSION, user__id="ada",
                    gen_ai__input__messages=_messages("user", f"question {turn + 1}: {text(rng, 80)}"),
                    gen_ai__output__messages=_messages("assistant", f"answer {turn + 1}"))  # fmt: skip
        yield _span(trace, 2, 1, "chat gpt-4.1-mini", at + 10 * MS, 700 * MS, session__id=SESSION,
                    gen_ai__operation__name="chat", gen_ai__usage__input_tokens=120, gen_ai__usage__output_tokens=40,
                    gen_ai__output__messages=_messages("assistant", text(rng, 200)))  # fmt: skip


def huge_attribute(size: int, start: int) -> Iterator[Span]:
    """A trace of three spans, one of which holds a text of `size` bytes that hardly compresses."""
    yield _span(HUGE, 1, 0, "read a file", start, 300 * MS)
    yield _span(HUGE, 2, 1, "execute_tool read_file", start + MS, 100 * MS, gen_ai__operation__name="execute_tool",
                gen_ai__tool__call__result=random.Random(4).randbytes(size // 2).hex())  # fmt: skip
    yield _span(HUGE, 3, 1, "chat gpt-4.1-mini", start + 200 * MS, 100 * MS, gen_ai__operation__name="chat")


def send(port: int, service: str, spans: Iterator[Span], at_once: int) -> tuple[int, float]:
    """Over OTLP/HTTP, one request after another; the number of spans and seconds."""
    began, total, pending = time.perf_counter(), 0, []

    def post() -> None:
        request = ExportTraceServiceRequest()
        sent = request.resource_spans.add()
        sent.resource.attributes.append(attribute("service.name", service))
        sent.scope_spans.add().spans.extend(pending)
        headers = {"content-type": "application/x-protobuf"}
        url = f"http://127.0.0.1:{port}/v1/traces"
        urllib.request.urlopen(urllib.request.Request(url, request.SerializeToString(), headers), timeout=60).read()
        pending.clear()

    for span in spans:
        pending.append(span)
        total += 1
        if len(pending) >= at_once:
            post()
    if pending:
        post()
    return total, time.perf_counter() - began


def timed(name: str, url: str, data: bytes | None = None) -> None:
    """Asks six times and prints."""
    times, status, size = [], 0, 0
    for _ in range(6):
        began = time.perf_counter()
        try:
            with urllib.request.urlopen(url, data, timeout=120) as answer:
                status, size = answer.status, len(answer.read())
        except urllib.error.HTTPError as error:
            status, size = error.code, len(error.read())
        times.append((time.perf_counter() - began) * 1e3)
    print(f"{name:58} {status} {times[0]:8.0f} ms, then {statistics.median(times[1:]):6.0f} ms {size / 1e3:10,.0f} KB")


def ask(ports: Ports, spans: int, turns: int) -> None:
    """Everything that lists or opens them."""
    sql = Sql(ports.sql)
    experiments = dict(sql.ask("SELECT name, experiment_id FROM experiments"))
    site, api = f"http://127.0.0.1:{ports.main}", f"http://127.0.0.1:{ports.main}/api/3.0/mlflow/traces"
    big, session, huge = (f"{site}/experiments/{experiments[name]}" for name in ("big", "session", "huge"))
    trace, middle = f"{big}/traces/{TRACE.hex()}", f"{spans // 2:016x}"
    quoted = urllib.parse.quote(SESSION)
    print()
    timed("page: experiments", site)
    timed("page: traces of the big trace's experiment", big)
    timed(f"page: trace of {spans} spans", trace)
    timed("page: the same with its middle span open", f"{trace}?span={middle}")
    timed("page: the next 500 rows of it", f"{trace}?from=500&part=rows")
    timed("page: payload of a span of it", f"{trace}/spans/{middle}?part=detail")
    timed("API: its row (GetTraceInfoV3)", f"{api}/{TRACE.hex()}")
    timed("API: it whole (traces/get)", f"{api}/get?trace_id=tr-{TRACE.hex()}")
    timed("page: traces of the session's experiment", session)
    timed("page: its sessions", f"{session}/sessions")
    timed(f"page: session of {turns} turns", f"{session}/session?id={quoted}")
    timed("page: traces beside a huge attribute", huge)
    timed("page: trace with the huge attribute", f"{huge}/traces/{HUGE.hex()}")
    timed("page: payload of the huge span, cut", f"{huge}/traces/{HUGE.hex()}/spans/{2:016x}?part=detail")
    timed("page: payload of the huge span, whole", f"{huge}/traces/{HUGE.hex()}/spans/{2:016x}")
    timed("API: the trace with the huge attribute (traces/get)", f"{api}/get?trace_id=tr-{HUGE.hex()}")
    for name, statement in (
        ("SQL: the big trace's spans by type", ("SELECT span_type, count(), sum(total_tokens) FROM spans"
         f" WHERE trace_id = '{TRACE.hex()}' GROUP BY 1")),
        ("SQL: its slowest ten", (f"SELECT name, duration_ns FROM spans WHERE trace_id = '{TRACE.hex()}'"
         " ORDER BY duration_ns DESC LIMIT 10")),
        ("SQL: the session's row", f"SELECT * FROM sessions WHERE session_id = '{SESSION}'"),
        ("SQL: the session's last ten turns", ("SELECT trace_id, input_preview FROM traces"
         f" WHERE session_id = '{SESSION}' ORDER BY start_time DESC LIMIT 10")),
        ("SQL: names of all spans, beside the huge attribute", "SELECT name, count() FROM spans GROUP BY 1"),
        ("SQL: length of the huge attribute", ("SELECT max(length(tool_result)) FROM spans"
         f" WHERE trace_id = '{HUGE.hex()}'")),
    ):  # fmt: skip
        timed(name, f"http://127.0.0.1:{ports.sql}/", statement.encode())


def run(arguments: argparse.Namespace, folder: Path) -> None:
    """Starts, sends, waits, asks."""
    ports = free_ports()
    if arguments.port:
        ports = Ports(ports.grpc, ports.http, arguments.port, ports.sql)
    process = start(ports, folder)
    try:
        wait_ready(process)
        now = time.time_ns() - arguments.turns * 1000 * MS
        sql = Sql(ports.sql)
        for service, spans, at_once in (
            ("big", big_trace(arguments.spans, now), 1000),
            ("session", long_session(arguments.turns, now), 1000),
            ("huge", huge_attribute(arguments.huge_bytes, now), 10),
        ):
            began = time.perf_counter()
            total, seconds = send(ports.http, service, spans, at_once)
            counted = f"SELECT sum(span_count) FROM traces WHERE service_name = '{service}'"
            while int(sql.ask(counted)[0][0] or 0) < total:
                time.sleep(0.1)
            queryable = time.perf_counter() - began
            print(f"{service:8} {total:7} spans sent in {seconds:6.1f} s, their traces exact after {queryable:6.1f} s")
        time.sleep(2)
        ask(ports, arguments.spans, arguments.turns)
        if arguments.keep:
            print(f"\nhttp://127.0.0.1:{ports.main} until Ctrl-C")
            process.wait()
    finally:
        process.terminate()
        process.wait(20)


def main() -> None:
    """Parses the command line and runs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--spans", type=int, default=50_000)
    parser.add_argument("--turns", type=int, default=10_000)
    parser.add_argument("--huge-bytes", type=int, default=10_000_000)
    parser.add_argument("--keep", type=Path, help="a folder for the data; the process then goes on")
    parser.add_argument("--port", type=int, default=0, help="of the pages")
    arguments = parser.parse_args()
    folder = arguments.keep or Path(tempfile.mkdtemp(prefix="tracestone-big-"))
    try:
        run(arguments, folder)
    finally:
        if not arguments.keep:
            shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
