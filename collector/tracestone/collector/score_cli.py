"""`tracestone score`: what the commands do. They speak to the running Tracestone, whose settings they share."""

import json
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import Any

import click

from tracestone.schema.errors import Rejected, StorageDown
from tracestone.schema.settings import Settings

_TIMEOUT_SECONDS = 120.0
_POLL_SECONDS = 0.5
_OVER = ("done", "cancelled")


def estimate(settings: Settings, document: Mapping[str, Any]) -> None:
    """Prints what a backfill would come to. Raises Rejected, StorageDown."""
    click.echo(_told(_ask(settings, "POST", "/api/v1/backfills/estimate", document)))


def backfill(settings: Settings, document: Mapping[str, Any], *, wait: bool, sure: bool) -> None:
    """Starts a backfill, after saying what it comes to, and shows its progress. Raises Rejected, StorageDown."""
    expected = _ask(settings, "POST", "/api/v1/backfills/estimate", document)
    click.echo(_told(expected))
    if not sure:
        click.confirm("Start?", abort=True)
    started = _ask(settings, "POST", "/api/v1/backfills", document)
    number = started["id"]
    click.echo(f"Backfill {number} has begun.")
    if not wait:
        return
    with click.progressbar(length=max(1, started["targets"]), label=started["scorer"], show_eta=True) as bar:
        shown = 0
        while True:
            now = _ask(settings, "GET", f"/api/v1/backfills/{number}")
            scored = min(bar.length or 1, max(0, now["taken_up"] - now["unfinished_jobs"]))
            bar.update(max(0, scored - shown))
            shown = max(shown, scored)
            if now["state"] == "paused" or (now["state"] in _OVER and not now["unfinished_jobs"]):
                break
            time.sleep(_POLL_SECONDS)
    click.echo(f"{now['state']}: {now['taken_up']} taken up, {now['enqueued']} of them had no verdict yet.")


def show(settings: Settings) -> None:
    """Prints the newest backfills, a JSON object a line. Raises Rejected, StorageDown."""
    for one in _ask(settings, "GET", "/api/v1/backfills")["backfills"]:
        click.echo(json.dumps(one))


def change(settings: Settings, number: int, verb: str) -> None:
    """Pauses, resumes or cancels a backfill. Raises Rejected, StorageDown."""
    click.echo(json.dumps(_ask(settings, "POST", f"/api/v1/backfills/{number}/{verb}", {})))


def _told(estimate: Mapping[str, Any]) -> str:
    targets = f"{estimate['chosen']} of {estimate['found']} targets are chosen"
    if estimate["usd"] is not None:
        return (
            f"{targets}; about {estimate['usd']:.4g} USD and {estimate['tokens_each'] * estimate['chosen']:.0f} tokens,"
            f" by the scorer's last {estimate['from_verdicts']} verdicts."
        )
    if estimate["from_verdicts"]:
        return f"{targets}; the scorer's last {estimate['from_verdicts']} verdicts have no cost."
    return f"{targets}; the scorer has no verdict yet that would tell what one costs."


def _ask(settings: Settings, method: str, path: str, document: Mapping[str, Any] | None = None) -> Any:
    host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(settings.host, settings.host)
    scheme = "http" if settings.tls_cert_file is None else "https"
    headers = {"Content-Type": "application/json"}
    if settings.api_key is not None:
        headers["X-API-Key"] = settings.api_key.get_secret_value()
    body = None if document is None else json.dumps(document).encode()
    asked = urllib.request.Request(f"{scheme}://{host}:{settings.port}{path}", body, headers, method=method)
    try:
        with urllib.request.urlopen(asked, timeout=_TIMEOUT_SECONDS, context=_context(settings)) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as error:
        raise Rejected(_reason(error)) from error
    except (OSError, ValueError) as error:
        raise StorageDown(f"No Tracestone answers on {host}:{settings.port}; start `tracestone up` first") from error


def _context(settings: Settings) -> ssl.SSLContext | None:
    if settings.tls_cert_file is None:
        return None
    # Its certificate itself is what is trusted, whoever signed it and for whatever name.
    context = ssl.create_default_context(cafile=str(settings.tls_cert_file))
    context.check_hostname = False
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    return context


def _reason(error: urllib.error.HTTPError) -> str:
    try:
        problem = json.load(error)
    except ValueError:
        return f"The answer was HTTP status {error.code}"
    field, detail = problem.get("field", ""), str(problem.get("detail", problem.get("title", error.code)))
    return detail if not field or field in detail else f"{field}: {detail}"
