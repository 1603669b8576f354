"""Runs real instrumentation packages against a local provider and keeps what they send. In the folder `tests`:

python -m producers.record                     # all of them
python -m producers.record otel-openai litellm # these
"""

import argparse
import datetime
import os
import subprocess
import sys
import tempfile
import time
import tomllib
from pathlib import Path
from typing import Any

from producers.capture import Capture, outside
from producers.checking import problems
from producers.expected import expected
from producers.install import CACHE, Installed, install
from producers.scrub import Scrubber
from producers.writing import readable
from support.provider.server import Provider, serving

HERE = Path(__file__).parent
PROGRAMS, RECORDED = HERE / "programs", HERE / "recorded"
# None may speak to anyone but the provider and the endpoint.
_QUIET = {
    "ANONYMIZED_TELEMETRY": "False",
    "CREWAI_DISABLE_TELEMETRY": "true",
    "CREWAI_DISABLE_TRACKING": "true",
    "CREWAI_TRACING_ENABLED": "false",
    "DO_NOT_TRACK": "1",
    "HAYSTACK_TELEMETRY_ENABLED": "False",
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "NEXT_TELEMETRY_DISABLED": "1",
    "TRACELOOP_TELEMETRY": "false",
}


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    known = sorted(path.parent.name for path in PROGRAMS.glob("*/producer.toml"))
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"which producers: {', '.join(known)}")
    names = parser.parse_args().names or known
    unknown = set(names) - set(known)
    if unknown:
        parser.error(f"unknown: {', '.join(sorted(unknown))}")
    failed = [name for name in names if not _record(PROGRAMS / name)]
    if failed:
        sys.exit(f"look at: {', '.join(failed)}")


def _record(program: Path) -> bool:
    described = tomllib.loads((program / "producer.toml").read_text(encoding="utf-8"))
    installed = install(program)
    fine = True
    for variant, settings in described.get("variants", {"": {}}).items():
        name = f"{program.name}-{variant}" if variant else program.name
        fine &= _record_one(name, variant, installed, {**described, **settings})
    return fine


def _record_one(name: str, variant: str, installed: Installed, described: dict[str, Any]) -> bool:
    capture, provider = Capture(), Provider()
    with outside() as elsewhere, serving([*capture.routes(), *provider.routes()]) as url:
        out = _run(installed, _environment(url, elsewhere.url, described))
    scrubber = Scrubber(installed.folder, HERE.parents[1])
    requests = [scrubber.request(request) for request in capture.requests]
    facts = expected(requests, provider.calls, described, variant)
    meta = {
        "producer": described["title"],
        "program": installed.program,
        "dialect": described["dialect"],
        "recorded": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "packages": _packages(installed, described["packages"]),
        "environment": described.get("env", {}),
        "scenarios": sorted({call.facts["scenario"] for call in provider.calls}),
        "scrubbed_resource_attributes": sorted(scrubber.dropped),
        "texts_with_replaced_paths": scrubber.replaced,
        "hosts_asked_for": sorted(elsewhere.asked),
        "notes": described.get("notes", []),
    }
    folder = RECORDED / name
    folder.mkdir(parents=True, exist_ok=True)
    for file, content in (("requests", requests), ("meta", meta), ("expected", facts)):
        (folder / f"{file}.json").write_text(readable(content), encoding="utf-8")
    found = [*provider.unexpected, *problems(requests, facts)]
    if not capture.requests:
        found.append(f"nothing was sent\n{out[-3000:]}")
    print(f"{name}: {len(requests)} requests, {len(facts['spans'])} spans, {len(provider.calls)} calls of the provider")
    for problem in found:
        print(f"  {problem}")
    return not found


def _run(installed: Installed, environment: dict[str, str]) -> str:
    with tempfile.TemporaryDirectory() as folder:
        began = time.monotonic()
        answer = subprocess.run(
            installed.command,
            cwd=folder,
            env={**environment, "HOME": folder, "TMPDIR": folder},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
    said = answer.stdout + answer.stderr
    log = CACHE / f"{installed.folder.name}.log"
    log.write_text(said)
    print(f"ran {time.monotonic() - began:.0f} s, said {len(said)} characters, see {log}")
    if answer.returncode != 0:
        raise SystemExit(f"{' '.join(installed.command)} ended with {answer.returncode}:\n{said[-6000:]}")
    return said


def _environment(url: str, proxy: str, described: dict[str, Any]) -> dict[str, str]:
    asked = {name: value.replace("{url}", url) for name, value in described.get("env", {}).items()}
    return {
        "PATH": os.environ["PATH"],
        "LANG": "C.UTF-8",
        "PYTHONPATH": str(HERE / "kit"),
        "STORY": str(HERE / "kit/story.json"),
        "PROVIDER_URL": url,
        "OPENAI_BASE_URL": f"{url}/v1",
        "OPENAI_API_KEY": "sk-local",
        "ANTHROPIC_BASE_URL": url,
        "ANTHROPIC_API_KEY": "sk-ant-local",
        "GEMINI_API_KEY": "local",
        "GOOGLE_GEMINI_BASE_URL": url,
        "OTEL_EXPORTER_OTLP_ENDPOINT": url,
        "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
        "OTEL_SERVICE_NAME": "story",
        **dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"), proxy),
        **dict.fromkeys(("NO_PROXY", "no_proxy"), "127.0.0.1,localhost"),
        **_QUIET,
        **asked,
    }


def _packages(installed: Installed, wanted: list[str]) -> dict[str, str]:
    named = {name: version for name, version in installed.versions.items() if any(name.startswith(w) for w in wanted)}
    return dict(sorted(named.items()))


if __name__ == "__main__":
    main()
