"""Judges traces through a local provider of set latency and reports how fast, how late, and at what cost.

    python bench/scoring.py judge                     judged traces/s of one worker, beside litellm alone, same calls
    python bench/scoring.py judge --latency-ms 5000 --in-flight 1000 --traces 2000
                                                      a thousand calls at once
    python bench/scoring.py judge --failing 0.05 --refused 0.01 --silent 0.005 --garbled 0.05 --broken 0.01
                                                      a provider of which so much goes wrong, and what came of it
    python bench/scoring.py judge --limit 100         one that refuses more calls than that in a second
    python bench/scoring.py lag --rate 50             from the last span of a trace to its verdict, at 1 s latency
    python bench/scoring.py unsampled                 what a finished trace costs that no scorer chose

Everything is real but the provider (`bench/provider.py`, a process of its own on the same cores): `tracestone up` with
chDB and its Postgres, traces over OTLP, budgets on and not reached, no two traces alike so that nothing is cached. The
rate of `judge` is between the provider's first and last answer, for both; CPU is that of the process that calls, with
everything that `tracestone up` does for a trace besides (receiving, storing, finding, writing the verdict).
"""

import argparse
import asyncio
import contextlib
import json
import os
import random
import resource
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from ingest import Ports, Sql, cpu_total, free_ports, start, wait_ready
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from payloads import attribute, text

INSTRUCTIONS = "Is {{ outputs }} a polite and complete answer to {{ inputs }}? Consider tone and facts."
MODEL = "openai/gpt-4o-mini"
WRONG = ("failing", "refused", "silent", "garbled", "broken", "limit")


@contextlib.contextmanager
def provider(latency_ms: float, **wrong: float) -> Iterator[str]:
    """Its address, without /v1; `wrong` is what goes wrong, as bench/provider.py has it."""
    port = free_ports().main
    command = [sys.executable, str(Path(__file__).with_name("provider.py")), str(port), str(latency_ms)]
    command += [f"{name}={value}" for name, value in wrong.items()]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        process.stdout.readline()
        yield f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


def stats(url: str) -> dict[str, Any]:
    """What the provider saw since the last question."""
    with urllib.request.urlopen(f"{url}/stats", timeout=30) as answer:
        told: dict[str, Any] = json.load(answer)
        return told


def traces(first: int, count: int) -> bytes:
    """A request with traces of one span of about 1.5 KB of text, each its own."""
    request = ExportTraceServiceRequest()
    scope = request.resource_spans.add()
    scope.resource.attributes.append(attribute("service.name", "bench"))
    spans = scope.scope_spans.add().spans
    now = time.time_ns()
    for number in range(first, first + count):
        rng = random.Random(number)
        span = Span(trace_id=os.urandom(16), span_id=os.urandom(8), name="answer", kind=Span.SPAN_KIND_SERVER)
        span.start_time_unix_nano, span.end_time_unix_nano = now - 10**8, now
        span.attributes.append(attribute("input.value", text(rng, 500)))
        span.attributes.append(attribute("output.value", text(rng, 1000)))
        spans.append(span)
    return request.SerializeToString()


def send(ports: Ports, body: bytes) -> None:
    """Over OTLP/HTTP."""
    url = f"http://127.0.0.1:{ports.http}/v1/traces"
    request = urllib.request.Request(url, body, {"content-type": "application/x-protobuf"})
    urllib.request.urlopen(request, timeout=60).read()


@contextlib.contextmanager
def tracestone(url: str, *, timeout: float = 60, **settings: Any) -> Iterator[tuple[Ports, int]]:
    """One that judges every trace, under a budget that is not reached; its ports and process."""
    judge = {
        "name": "polite",
        "kind": "judge",
        "parameters": {
            "instructions": INSTRUCTIONS,
            "model": MODEL,
            "api_base": f"{url}/v1",
            "params": {"max_tokens": 200},
            "timeout": timeout,
        },
        "online": {"sample_rate": 1.0},
    }
    folder = Path(tempfile.mkdtemp(prefix="tracestone-bench-"))
    folder.chmod(0o755)
    budgets = [{"usd": 10_000, "per": "month"}, {"usd": 5_000, "per": "day", "scorer": "polite"}]
    config = folder / "tracestone.yaml"
    config.write_text(yaml.safe_dump({"scorers": [judge], "budgets": budgets, **settings}))
    ports = free_ports()
    process = start(ports, folder / "data", "--config", str(config))
    try:
        wait_ready(process)
        yield ports, process.pid
    finally:
        process.terminate()
        process.wait(30)
        shutil.rmtree(folder, ignore_errors=True)


def judged(ports: Ports) -> int:
    """How many verdicts SQL knows, errors in their place included."""
    return int(Sql(ports.sql).ask("SELECT count() FROM assessments")[0][0])


def wait_judged(ports: Ports, count: int, within: float) -> None:
    """Returns when so many traces are judged, or given up."""
    until = time.monotonic() + within
    while (found := judged(ports)) < count:
        if time.monotonic() > until:
            raise RuntimeError(f"{found} of {count} judged in time")
        time.sleep(1)


def run_judge(args: argparse.Namespace) -> None:
    """One worker's rate, and litellm's for the same calls."""
    wrong = {name: getattr(args, name) for name in WRONG if getattr(args, name)}
    with provider(args.latency_ms, **wrong) as url:
        settings = {
            "settle_ms": 0,
            "watch_interval_ms": 200,
            "worker_concurrency": args.in_flight,
            "calls_in_flight": args.in_flight,
        }
        with tracestone(url, timeout=args.timeout, **settings) as (ports, pid):
            send(ports, traces(10**6, 20))
            wait_judged(ports, 20, 120)  # litellm is imported by now
            warm = stats(url)
            before = cpu_total(pid)
            for first in range(0, args.traces, 500):
                send(ports, traces(first, min(500, args.traces - first)))
            wait_judged(ports, 20 + args.traces, 900 if wrong else 170)
            cpu = cpu_total(pid) - before
            ours = stats(url) | {"cpu": cpu}
            if wrong:
                told_of(ports, ours, warm)
        if wrong:
            return
        alone = subprocess.run(
            [sys.executable, __file__, "litellm", "--url", url, "--traces", str(args.traces)]
            + ["--in-flight", str(args.in_flight)],
            capture_output=True,
            text=True,
            check=True,
        )
        theirs = stats(url) | json.loads(alone.stdout.splitlines()[-1])
    rates = [told["count"] / told["seconds"] for told in (ours, theirs)]
    for name, told, rate in (("tracestone", ours, rates[0]), ("litellm", theirs, rates[1])):
        each = told["cpu"] / args.traces * 1e3
        print(f"{name:12} {rate:8.1f} calls/s   at most {told['most']:5} at once   {each:6.2f} CPU ms/trace")
    print(f"ratio        {rates[0] / rates[1]:8.2f}")


def told_of(ports: Ports, seen: dict[str, Any], warm: dict[str, Any]) -> None:
    """What came of a provider of which some goes wrong; `seen` is what it saw, after the `warm` calls."""
    kinds = ", ".join(f"{seen[kind]} {kind}" for kind in ("good", *WRONG) if seen.get(kind))
    print(f"{seen['count']} calls in {seen['seconds']:.0f} s, at most {seen['most']} at once: {kinds}")
    for code, count in Sql(ports.sql).ask("SELECT error_code, count() FROM assessments GROUP BY 1 ORDER BY 2 DESC"):
        print(f"  {count:>6} {code or 'verdicts'}")
    tried, calls, tokens, twice = Sql(ports.sql).ask(
        "SELECT countIf(metadata['failed_attempts'] != ''), sum(toUInt64OrZero(metadata['calls'])),"
        " sum(input_tokens), count() - uniqExact(trace_id) FROM assessments"
    )[0]
    print(f"  {tried} tried more than once, {twice} traces judged twice")
    taken = sum(told["count"] - told["refused"] for told in (seen, warm))
    print(f"  {calls} calls accounted for, {taken} that were not refused")
    # Whatever had a usage was paid for: verdicts, and texts that are none.
    paid = sum(told[kind] for told in (seen, warm) for kind in ("good", "garbled")) * 400
    print(f"  {tokens} input tokens accounted for, {paid} answered")


def run_litellm(args: argparse.Namespace) -> None:
    """The same calls through litellm alone, as it comes, without its retries."""
    os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
    import litellm

    from tracestone.schema.scorers.judges import Judge
    from tracestone.scoring.judges.judge import brief_of

    form = brief_of(Judge(instructions=INSTRUCTIONS, model=MODEL)).form.response_format()

    async def go() -> float:
        turn = asyncio.Semaphore(args.in_flight)

        async def one(number: int) -> None:
            rng = random.Random(number)
            content = INSTRUCTIONS.replace("{{ outputs }}", text(rng, 1000)).replace("{{ inputs }}", text(rng, 500))
            messages = [{"role": "system", "content": text(rng, 700)}, {"role": "user", "content": content}]
            async with turn:
                with contextlib.suppress(Exception):
                    await litellm.acompletion(
                        model=MODEL,
                        messages=messages,
                        response_format=form,
                        max_tokens=200,
                        timeout=60,
                        api_base=f"{args.url}/v1",
                        num_retries=0,
                        max_retries=0,
                    )

        for number in range(5):
            await one(number)
        stats(args.url)
        before = time.process_time()
        await asyncio.gather(*(one(number) for number in range(args.traces)))
        return time.process_time() - before

    import uvloop

    print(json.dumps({"cpu": uvloop.run(go())}))


def run_lag(args: argparse.Namespace) -> None:
    """From the arrival of a trace's last span to its verdict."""
    with provider(1000) as url, tracestone(url, worker_concurrency=500, calls_in_flight=500) as (ports, _):
        send(ports, traces(10**6, 20))
        wait_judged(ports, 20, 60)
        begun, count = time.monotonic(), 0
        while (elapsed := time.monotonic() - begun) < args.seconds:
            due = int(elapsed * args.rate)
            if due > count:
                send(ports, traces(count, due - count))
                count = due
            time.sleep(0.05)
        wait_judged(ports, 20 + count, 60)
        rows = Sql(ports.sql).ask(
            "SELECT dateDiff('millisecond', t.last_seen, a.created_at) FROM assessments AS a"
            " JOIN traces AS t ON t.trace_id = a.trace_id ORDER BY a.created_at DESC LIMIT " + str(count)
        )
    lags = np.array([float(row[0]) for row in rows]) / 1000
    p50, p99 = np.percentile(lags, [50, 99])
    print(f"{count} traces at {args.rate}/s, settle 5 s, latency 1 s: lag p50 {p50:.2f} s, p99 {p99:.2f} s")


def run_unsampled(args: argparse.Namespace) -> None:
    """CPU of looking at finished traces at a rate of 0.1 %, all processors of the process, Postgres left out.

    As in `tracestone up`: its settings, a look each second, and the traces of the hour before, a tenth of them without
    their roots.
    """
    from tracestone.collector import allinone
    from tracestone.schema.engines.columnar import Columnar
    from tracestone.schema.migrate import migrate
    from tracestone.schema.scorers.definition import define
    from tracestone.schema.settings import Settings
    from tracestone.schema.stores.jobs import JobStore
    from tracestone.schema.stores.scorers import ScorerStore
    from tracestone.scoring.sample import Sampler
    from tracestone.scoring.watch import Watcher

    def cpu() -> float:
        used = resource.getrusage(resource.RUSAGE_SELF)
        return used.ru_utime + used.ru_stime

    async def arrive(columnar: Columnar, first: int, count: int, over: float, roots: str) -> None:
        """Traces that arrived within so many seconds before now."""
        at = f"now64(9) - toIntervalMicrosecond(toUInt64(1e6 * {over} * (number - {first}) / {count}))"
        await columnar.command(
            "INSERT INTO trace_rows (experiment_id, trace_id, root_name, state, span_count, complete,"
            " start_time, end_time, last_seen, version)"
            f" SELECT 0, lower(hex(MD5(toString(number)))), 'answer', 'OK', 8, {roots}, at, at, at, {at} AS at"
            f" FROM numbers({first}, {count})"
        )

    async def go(settings: Settings) -> None:
        async with allinone.stores(settings) as (pool, columnar):
            await migrate(pool, columnar)
            scorers, jobs = ScorerStore(pool), JobStore(pool)
            await scorers.define(define("failed", "error", {}))
            hour = int(args.rate * 3600)
            for part in range(10):
                await arrive(columnar, 10**9 + part * (hour // 10), hour // 10, 3600, "number % 10 > 0")
            await scorers.put_config(
                "failed", version=None, experiment_id=None, sample_rate=0.001, filter="state = 'OK'", salt=""
            )
            sampler = Sampler(columnar, settle_ms=settings.settle_ms, max_trace_age_ms=settings.max_trace_age_ms)
            watcher = Watcher(scorers, jobs, sampler, asyncio.Event(), interval_ms=settings.watch_interval_ms)
            await watcher.tick()
            added, spent, begun = 0, 0.0, time.monotonic()
            for second in range(int(args.traces / args.rate)):
                await arrive(columnar, second * int(args.rate), int(args.rate), 1.0, "true")
                await asyncio.sleep(max(0.0, begun + second + 1 - time.monotonic()))
                before = cpu()
                added += await watcher.tick()
                spent += cpu() - before
            seconds = time.monotonic() - begun
        print(f"{args.traces} traces at {args.rate}/s for {seconds:.0f} s, {added} chosen:", end=" ")
        print(f"{spent / args.traces * 1e6:.2f} CPU µs/trace, {spent / seconds * 1e3:.1f} CPU ms/s")

    folder = Path(tempfile.mkdtemp(prefix="tracestone-bench-"))
    folder.chmod(0o755)
    try:
        asyncio.run(go(Settings(data_dir=folder)))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def main() -> None:
    """Runs one part."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parts = {"judge": run_judge, "litellm": run_litellm, "lag": run_lag, "unsampled": run_unsampled}
    parser.add_argument("part", choices=parts)
    parser.add_argument("--traces", type=int, default=3000)
    parser.add_argument("--in-flight", type=int, default=256)
    parser.add_argument("--latency-ms", type=float, default=200)
    for name in WRONG:
        parser.add_argument(f"--{name}", type=float, default=0.0, help="see bench/provider.py")
    parser.add_argument("--timeout", type=float, default=60, help="seconds after which a call without answer ends")
    parser.add_argument("--rate", type=float, default=50, help="traces per second (lag, unsampled)")
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--url", help=argparse.SUPPRESS)
    args = parser.parse_args()
    os.environ.setdefault("OPENAI_API_KEY", "sk-bench-0123456789")
    parts[args.part](args)


if __name__ == "__main__":
    main()
