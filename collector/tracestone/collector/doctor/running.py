"""The Tracestone that runs on the data folder, asked as anybody would ask it."""

import json
from collections.abc import Iterator
from typing import Any

from tracestone.collector.doctor.finding import Finding, ok, problem, warning
from tracestone.collector.running_one import ask
from tracestone.schema.errors import TracestoneError
from tracestone.schema.settings import Settings


def tracestone(settings: Settings) -> Iterator[Finding]:
    """What it says of its own health."""
    subject = "tracestone"
    where = f"{settings.host}:{settings.port}"
    try:
        said = _health(settings)
    except (ValueError, TracestoneError) as error:
        advice = "See its log; it may be starting, or runs with another host, port or TLS than this command was given."
        yield problem(subject, f"One holds the data folder. {error}.", advice)
        return
    if "parts" not in said:
        advice = "Give this command an API key that may read (setting api_key)."
        yield warning(subject, f"It is {said.get('status', 'there')}, and tells no more without a key.", advice)
        return
    for part, state in said["parts"].items():
        if not state["ok"]:
            yield problem(part, f"{state['problem']}.", "docs/operations.md says what each part means.")
    for name, text in said.get("warnings", {}).items():
        yield warning(name, f"{text}.", "See docs/security.md.")
    for signal, backlog in said.get("backlog", {}).items():
        if backlog["waiting_bytes"] > backlog["bound_bytes"] / 2:
            says = f"More than half of what the log of {signal} may hold waits to be stored."
            yield warning("backlog", says, "Senders will have to wait soon: see what the stores say.")
    if said["status"] == "ok":
        yield ok(subject, f"It runs, answers at {where}, and all its parts work.")


def _health(settings: Settings) -> dict[str, Any]:
    _, body = ask(settings, "/health")
    said = json.loads(body)
    if not isinstance(said, dict):
        raise ValueError("what answers is no Tracestone")
    return said
