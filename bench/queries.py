"""What it costs to ask: p50 and p99 of the usual questions over 10 million spans, and what a span takes on the disk.

    python bench/queries.py                                10 M spans, a week; 15 minutes on 2 cores
    python bench/queries.py --spans 1000000
    python bench/queries.py --keep /tmp/ten-million        keeps the data; with data there, asks at once

Starts a `tracestone up` of its own, sends the workload of bench/workload.py over gRPC, waits until all of it can be
queried and the merges have come to rest, and asks each question with fresh values: `--repeats` times those of a page, a
tenth of it those that go over a day or more. Questions go through the door a user takes: SQL through the SQL endpoint,
MLflow's client's requests and the pages over HTTP. `--load` keeps sending so many spans a second while it asks.
"""

import argparse
import asyncio
import contextlib
import json
import random
import shutil
import tempfile
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import workload
from ingest import EXPORT, Ports, Sql, free_ports, start, wait_ready

WINDOW_DAYS = 7
SHAPES = 96


class Sender:
    """Sends the workload in the order of time, from several tasks at once; remembers a trace of each."""

    def __init__(self, port: int, seed: int) -> None:
        self._port = port
        self._rng = np.random.default_rng(seed)
        self._shapes = workload.shapes(SHAPES)
        self.sent = 0
        self.traces: list[str] = []

    async def run(self, spans: int, begin_ns: int, end_ns: int, rate: float = 0, tasks: int = 6) -> None:
        """Sends so many spans whose times go from one to the other."""
        options = [("grpc.max_send_message_length", 64 << 20)]
        began, first = time.perf_counter(), self.sent

        async with grpc.aio.insecure_channel(f"127.0.0.1:{self._port}", options=options) as channel:
            export = channel.unary_unary(EXPORT)

            async def loop() -> None:
                while self.sent - first < spans:
                    shape = self._shapes[self._rng.integers(len(self._shapes))]
                    at = begin_ns + int((end_ns - begin_ns) * (self.sent - first) / spans)
                    self.sent += shape.spans
                    request, ids, _ = shape.stamp(self._rng, at)
                    self.traces.append(bytes(ids[0]).hex())
                    while True:
                        try:
                            await export(request)
                            break
                        except grpc.aio.AioRpcError as error:
                            if error.code() is not grpc.StatusCode.UNAVAILABLE:
                                raise
                            await asyncio.sleep(0.2)
                    if rate:
                        await asyncio.sleep(max(0.0, (self.sent - first) / rate - (time.perf_counter() - began)))

            await asyncio.gather(*(loop() for _ in range(1 if rate else tasks)))


class Questions:
    """Each asks once, with values of its own, and returns how many rows or bytes came."""

    def __init__(self, ports: Ports, traces: list[str], begin_ns: int, end_ns: int) -> None:
        self._ports, self._traces = ports, traces
        self._begin, self._end = begin_ns // 10**9, end_ns // 10**9
        self._random = random.Random(11)
        rows = Sql(ports.sql).ask("SELECT name, experiment_id FROM experiments WHERE name LIKE 'app-%'")
        self._experiments = {name: int(number) for name, number in rows}

    def all(self) -> list[tuple[str, bool, Callable[[], Any]]]:
        """Name, whether it goes over a day or more, and the question."""
        return [
            ("SQL: trace by id, outline", False, self._trace),
            ("SQL: trace by id, every column", False, self._whole_trace),
            ("page: trace by id", False, self._trace_page),
            ("MLflow: trace by id, whole (traces/get)", False, self._get),
            ("SQL: latest 50 traces of an experiment", False, lambda: self._list("")),
            ("page: latest traces of an experiment", False, self._experiment_page),
            ("SQL: latest 50, by attribute (a day)", False, self._by_attribute),
            ("SQL: latest 50, by user", False, lambda: self._list(f"AND user_id = '{self._user()}'")),
            ("SQL: latest 50, by session", False, lambda: self._list(f"AND session_id = '{self._session()}'")),
            ("SQL: latest 50 with an error", False, lambda: self._list("AND state = 'ERROR'")),
            ("SQL: session, its row", False, self._session_row),
            ("page: session", False, self._session_page),
            ("SQL: tokens and cost by model, a day", True, lambda: self._usage(1)),
            ("SQL: tokens and cost by model and day, the week", True, lambda: self._usage(WINDOW_DAYS)),
            ("SQL: p99 latency of traces by hour, a day", True, lambda: self._latency(1)),
            ("SQL: p99 latency of traces by hour, the week", True, lambda: self._latency(WINDOW_DAYS)),
            ("SQL: errors by type, a day", True, self._errors),
        ]

    def _experiment(self) -> int:
        numbers = sorted(self._experiments)
        picked = min(int(self._random.paretovariate(0.7)) - 1, len(numbers) - 1)
        return self._experiments[numbers[picked]]

    def _user(self) -> str:
        return f"user-{min(int(self._random.paretovariate(0.6)), workload.USERS - 1):06d}"

    def _session(self) -> str:
        day = self._random.randrange(self._begin, self._end) // 86400 % 100
        return f"session-{self._user().removeprefix('user-')}-{day:02d}"

    def _day(self) -> tuple[int, int]:
        start = self._random.randrange(self._begin, self._end - 86400)
        return start, start + 86400

    def _sql(self, statement: str) -> int:
        body = f"{statement} FORMAT JSONCompact".encode()
        with urllib.request.urlopen(f"http://127.0.0.1:{self._ports.sql}/", body, timeout=60) as answer:
            return int(json.load(answer)["rows"])

    def _page(self, path: str) -> int:
        with urllib.request.urlopen(f"http://127.0.0.1:{self._ports.main}{path}", timeout=60) as answer:
            return len(answer.read())

    def _trace(self) -> int:
        return self._sql(
            "SELECT span_id, parent_span_id, name, span_type, start_time, duration_ns, status_code, total_tokens"
            f" FROM spans WHERE trace_id = '{self._random.choice(self._traces)}'"
        )

    def _whole_trace(self) -> int:
        return self._sql(f"SELECT * FROM spans WHERE trace_id = '{self._random.choice(self._traces)}'")

    def _trace_page(self) -> int:
        trace = self._random.choice(self._traces)
        rows = Sql(self._ports.sql).ask(f"SELECT experiment_id FROM traces WHERE trace_id = '{trace}'")
        began = time.perf_counter()
        self._page(f"/experiments/{rows[0][0]}/traces/{trace}")
        return Skip(began)

    def _get(self) -> int:
        return self._page(f"/api/3.0/mlflow/traces/get?trace_id=tr-{self._random.choice(self._traces)}")

    def _list(self, condition: str) -> int:
        return self._sql(
            "SELECT trace_id, root_name, start_time, duration_ns, state, total_tokens, cost_total, input_preview"
            f" FROM traces WHERE experiment_id = {self._experiment()} {condition} ORDER BY start_time DESC LIMIT 50"
        )

    def _experiment_page(self) -> int:
        return self._page(f"/experiments/{self._experiment()}")

    def _by_attribute(self) -> int:
        first, last = self._day()
        return self._sql(
            "SELECT trace_id, name, start_time FROM spans"
            f" WHERE experiment_id = {self._experiment()} AND start_time >= toDateTime({first}) AND start_time <"
            f" toDateTime({last}) AND attributes_string['app.tenant'] = 'tenant-{self._random.randrange(40):02d}'"
            " ORDER BY start_time DESC LIMIT 50"
        )

    def _session_row(self) -> int:
        return self._sql(
            f"SELECT * FROM sessions WHERE experiment_id = {self._experiment()} AND session_id = '{self._session()}'"
        )

    def _session_page(self) -> int:
        query = urllib.parse.urlencode({"id": self._session()})
        with contextlib.suppress(urllib.error.HTTPError):
            return self._page(f"/experiments/{self._experiment()}/session?{query}")
        return 0

    def _usage(self, days: int) -> int:
        first, last = self._day() if days == 1 else (self._begin, self._end)
        return self._sql(
            "SELECT toDate(start_time) AS day, provider, response_model, request_model, sum(input_tokens),"
            " sum(output_tokens), sum(cost_total) FROM spans WHERE span_type = 'llm' AND"
            f" start_time >= toDateTime({first}) AND start_time < toDateTime({last}) GROUP BY 1, 2, 3, 4"
        )

    def _latency(self, days: int) -> int:
        first, last = self._day() if days == 1 else (self._begin, self._end)
        return self._sql(
            "SELECT toStartOfHour(start_time) AS hour, count(), quantile(0.99)(duration_ns) FROM traces"
            f" WHERE start_time >= toDateTime({first}) AND start_time < toDateTime({last}) GROUP BY hour ORDER BY hour"
        )

    def _errors(self) -> int:
        first, last = self._day()
        return self._sql(
            "SELECT error_type, count() FROM spans WHERE status_code = 'ERROR' AND"
            f" start_time >= toDateTime({first}) AND start_time < toDateTime({last}) GROUP BY 1 ORDER BY 2 DESC"
        )


class Skip(int):
    """An answer whose question began later than it was asked: `perf_counter` of the beginning."""

    began: float

    def __new__(cls, began: float) -> "Skip":
        value = super().__new__(cls, 1)
        value.began = began
        return value


def ask(questions: Questions, repeats: int, only: str) -> None:
    """Asks those whose name holds a text, and prints."""
    print(f"\n{'':52} {'asked':>6} {'p50':>8} {'p99':>8} {'most':>8}   answer", flush=True)
    for name, long, question in questions.all():
        if only not in name:
            continue
        times, answers = [], []
        question()
        for _ in range(max(5, repeats // 10) if long else repeats):
            began = time.perf_counter()
            answer = question()
            times.append((time.perf_counter() - getattr(answer, "began", began)) * 1e3)
            answers.append(int(answer))
        p50, p99 = np.percentile(times, [50, 99])
        print(
            f"{name:52} {len(times):6} {p50:6.0f}ms {p99:6.0f}ms {max(times):6.0f}ms   {np.median(answers):,.0f}",
            flush=True,
        )


def sizes(sql: Sql, spans: int) -> None:
    """What the rows take on the disk, from ClickHouse's own list of parts."""
    rows = sql.ask(
        "SELECT table, sum(bytes_on_disk), sum(rows), count() FROM system.parts"
        " WHERE active AND database = 'tracestone' GROUP BY table ORDER BY 2 DESC LIMIT 8"
    )
    print()
    for table, size, count, parts in rows:
        print(f"{table:24} {int(size) / 1e6:10,.1f} MB {int(count):12,} rows {int(parts):5} parts", end="")
        print(f" {int(size) / spans:8.1f} bytes a span sent")
    print(f"{'all':24} {sum(int(row[1]) for row in rows) / spans:50.1f} bytes a span sent")


def at_rest(sql: Sql) -> None:
    """Returns when no merge has run for some seconds."""
    quiet = 0
    while quiet < 6:
        time.sleep(1)
        quiet = 0 if int(sql.ask("SELECT count() FROM system.merges")[0][0]) else quiet + 1


def fill(ports: Ports, sender: Sender, spans: int, end_ns: int) -> None:
    """Sends all and waits until it is queryable; shows how far it is."""
    sql, began = Sql(ports.sql), time.perf_counter()
    begin_ns = end_ns - WINDOW_DAYS * workload.DAY_NS
    thread = threading.Thread(target=lambda: asyncio.run(sender.run(spans, begin_ns, end_ns)))
    thread.start()
    while True:
        there = int(sql.ask("SELECT sum(span_count) FROM traces")[0][0] or 0)
        seconds = time.perf_counter() - began
        print(f"\r{seconds:6.0f} s: sent {sender.sent:12,}, queryable {there:12,}", end="", flush=True)
        if not thread.is_alive() and there >= sender.sent:
            break
        time.sleep(2)
    print(f"\nqueryable {there:,} of {sender.sent:,} after {seconds:.0f} s: {there / seconds:,.0f} spans/s")


def run(arguments: argparse.Namespace, folder: Path) -> None:
    """Starts, fills unless it is full, asks."""
    ports = free_ports()
    note = folder / "filled.json"
    process = start(ports, folder / "data")
    try:
        wait_ready(process)
        sql, sender = Sql(ports.sql), Sender(ports.grpc, seed=3)
        if note.exists():
            filled = json.loads(note.read_text())
        else:
            end_ns = time.time_ns()
            fill(ports, sender, arguments.spans, end_ns)
            filled = {"spans": sender.sent, "end_ns": end_ns, "traces": sender.traces}
            note.write_text(json.dumps(filled))
        at_rest(sql)
        end_ns = filled["end_ns"]
        sizes(sql, filled["spans"])
        load = None
        if arguments.load:
            now = time.time_ns()
            work = sender.run(1 << 62, now, now + (1 << 62), arguments.load)
            load = threading.Thread(target=lambda: asyncio.run(work), daemon=True)
            load.start()
        questions = Questions(ports, filled["traces"], end_ns - WINDOW_DAYS * workload.DAY_NS, end_ns)
        ask(questions, arguments.repeats, arguments.only)
    finally:
        process.terminate()
        process.wait(60)


def main() -> None:
    """Parses the command line and runs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--spans", type=int, default=10_000_000)
    parser.add_argument("--repeats", type=int, default=200)
    parser.add_argument("--only", default="", help="the questions whose names hold this text")
    parser.add_argument("--load", type=float, default=0, help="spans a second that are sent meanwhile")
    parser.add_argument("--keep", type=Path, help="a folder for the data")
    arguments = parser.parse_args()
    folder = arguments.keep or Path(tempfile.mkdtemp(prefix="tracestone-queries-"))
    folder.mkdir(parents=True, exist_ok=True)
    try:
        run(arguments, folder)
    finally:
        if not arguments.keep:
            shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
