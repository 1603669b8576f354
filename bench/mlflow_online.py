"""MLflow's online scoring with the judge and the provider of bench/scoring.py, on PostgreSQL.

    scripts/clients mlflow && python bench/mlflow_online.py                  1,000 traces, provider's latency 200 ms
    python bench/mlflow_online.py --threads 100                              its judge's threads, 10 by default

An `mlflow server` as it comes, with its own scheduler and job runner, is sent the traces that bench/scoring.py sends;
one judge with the same instructions is registered and started at a sample rate of 1, through MLflow's gateway, which
its online scoring demands. A trace counts as finished after five minutes there; here after a second, so that the run
need not wait. Its scheduler starts a job each minute, which takes 500 traces at most.

Told are the seconds from the last trace sent to the first and to the last verdict, the rate over that whole time, the
rate while the provider was called (from first to last answer of a job), and the CPU of MLflow with its jobs, and of
PostgreSQL, for each judged trace, receiving and storing included.
"""

import argparse
import asyncio
import os
import subprocess
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import asyncpg
import psutil
from peers import Database, database, free_ports, over_http, serving

from scoring import INSTRUCTIONS, provider, stats, traces

SET_UP = """
import sys
import mlflow
from mlflow.entities import GatewayEndpointModelConfig, GatewayModelLinkageType
from mlflow.genai.judges import make_judge
from mlflow.genai.scorers import ScorerSamplingConfig
from mlflow.tracking._tracking_service.utils import _get_store

server, provider, instructions = sys.argv[1:]
mlflow.set_tracking_uri(server)
store = _get_store()
secret = store.create_gateway_secret("bench", {"api_key": "sk-bench"}, "openai", {"api_base": provider})
model = store.create_gateway_model_definition("bench", secret.secret_id, "openai", "gpt-4o-mini")
config = GatewayEndpointModelConfig(model.model_definition_id, GatewayModelLinkageType.PRIMARY)
store.create_gateway_endpoint("bench", [config], usage_tracking=False)
judge = make_judge(name="polite", instructions=instructions, model="gateway:/bench", feedback_value_type=bool)
judge.register(experiment_id="0").start(sampling_config=ScorerSamplingConfig(sample_rate=1.0), experiment_id="0")
print(mlflow.__version__)
"""
WITHIN_SECONDS = 900


def cpu(process: psutil.Process) -> float:
    """CPU seconds of a process and of all that came from it: jobs are processes that end."""
    spent = 0.0
    for each in [process, *process.children(recursive=True)]:
        with suppress(psutil.NoSuchProcess):
            times = each.cpu_times()
            spent += times.user + times.system + times.children_user + times.children_system
    return spent


async def judged(store: Database) -> int:
    """How many verdicts MLflow has written."""
    connection = await asyncpg.connect(store.url.replace("+psycopg", ""))
    try:
        found: int = await connection.fetchval(
            "SELECT count(*) FROM assessments WHERE name = 'polite' AND error IS NULL"
        )
        return found
    finally:
        await connection.close()


async def run(arguments: argparse.Namespace, folder: Path) -> None:
    """Sets up, sends, waits, and prints."""
    cache = Path(subprocess.run([Path(__file__).parents[1] / "scripts/clients", "mlflow"], capture_output=True,
                                text=True, check=True).stdout.strip())  # fmt: skip
    (port,) = free_ports(1)
    server = f"http://127.0.0.1:{port}"
    command = [cache / "mlflow/bin/mlflow", "server", "--host", "127.0.0.1", "--port", port, "--workers", "4"]
    environment = {
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "DO_NOT_TRACK": "true",
        "MLFLOW_GATEWAY_API_BASE_ALLOWED_SCHEMES": "http,https",
        "MLFLOW_GATEWAY_API_BASE_ALLOW_PRIVATE_IPS": "true",
        "MLFLOW_ONLINE_SCORING_DEFAULT_TRACE_COMPLETION_BUFFER_SECONDS": "1",
        "MLFLOW_ONLINE_SCORING_MAX_WORKER_THREADS": str(arguments.threads),
    }
    with provider(arguments.latency_ms) as model:
        async with database("postgres", folder) as store:
            command += ["--backend-store-uri", store.url, "--default-artifact-root", folder / "files"]
            async with serving(command, f"{server}/health", folder / "log", **environment) as process:
                ready = subprocess.run(
                    [cache / "mlflow/bin/python", "-c", SET_UP, server, f"{model}/v1", INSTRUCTIONS],
                    capture_output=True, text=True, check=False, env={**os.environ, **environment},
                )  # fmt: skip
                if ready.returncode:
                    raise RuntimeError(ready.stderr[-3000:])
                before, database_before = cpu(process), store.cpu()
                async with over_http(f"{server}/v1/traces", {"x-mlflow-experiment-id": "0"}) as call:
                    for first in range(0, arguments.traces, 50):
                        if not await call(traces(first, min(50, arguments.traces - first))):
                            raise RuntimeError("MLflow refused a request")
                sent = time.perf_counter()
                stats(model)
                first_at = 0.0
                while (found := await judged(store)) < arguments.traces:
                    first_at = first_at or (time.perf_counter() if found else 0.0)
                    if time.perf_counter() > sent + WITHIN_SECONDS:
                        break
                    await asyncio.sleep(1)
                seconds = time.perf_counter() - sent
                spent, database_spent = cpu(process) - before, store.cpu() - database_before
                told = stats(model)
    print(f"MLflow {ready.stdout.split()[-1]}, {arguments.threads} threads: {found} of {arguments.traces} judged,")
    print(f"  first verdict {first_at - sent:.0f} s after the last trace, all after {seconds:.0f} s")
    print(f"  {found / seconds:.1f} judged traces/s from the last trace sent to the last verdict")
    print(f"  {told['count']} calls, at most {told['most']} at once, {told['seconds']:.0f} s from first to last answer")
    each = 1e3 / max(found, 1)
    print(f"  CPU ms a trace: {spent * each:.1f} MLflow and its jobs, {database_spent * each:.1f} PostgreSQL")


def main() -> None:
    """Runs it in a folder of its own."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--traces", type=int, default=1000)
    parser.add_argument("--threads", type=int, default=10)
    parser.add_argument("--latency-ms", type=float, default=200)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="tracestone-bench-") as name:
        Path(name).chmod(0o755)
        asyncio.run(run(arguments, Path(name)))


if __name__ == "__main__":
    main()
