"""`tracestone keys`: making, listing and revoking API keys, in Postgres itself.

No key is asked for (see command_stores.py), so it also makes the first one. A running Tracestone notices what changed
here by itself.
"""

from collections.abc import Sequence
from datetime import UTC, datetime

import click

from tracestone.collector.auth.gate import REVOKED_WITHIN_SECONDS
from tracestone.collector.auth.making import make_key
from tracestone.collector.command_stores import postgres
from tracestone.schema.keys import Key
from tracestone.schema.settings import Settings
from tracestone.schema.stores.experiments import ExperimentStore
from tracestone.schema.stores.keys import KeyStore

_COLUMNS = "{:16}  {:20}  {:24}  {:16}  {:16}  {:18}  {}"


async def create(
    settings: Settings,
    name: str,
    scopes: Sequence[str],
    experiments: Sequence[str],
    expires_in_days: float | None,
) -> None:
    """Makes a key; its text alone goes to standard output."""
    async with postgres(settings) as pool:
        first = await KeyStore(pool).latest_change() == 0
        key, token = await make_key(
            KeyStore(pool),
            ExperimentStore(pool, settings.max_experiments),
            name=name,
            scopes=scopes,
            experiments=experiments or None,
            expires_in_days=expires_in_days,
        )
    click.echo(f"API key {key.key_id} for {_bound(key)}, scopes {_scopes(key)}. It is shown this once:", err=True)
    click.echo(token)
    if first and settings.auth == "auto":
        click.echo("This is the first key: from now on every port of this Tracestone demands one.", err=True)


async def show(settings: Settings) -> None:
    """Prints all keys."""
    async with postgres(settings) as pool:
        store = KeyStore(pool)
        click.echo(_COLUMNS.format("ID", "NAME", "SCOPES", "MADE", "LAST USED", "ENDS", "EXPERIMENTS"))
        page = await store.page()
        while page:
            for key in page:
                click.echo(_line(key))
            page = await store.page(page[-1].key_id)


async def revoke(settings: Settings, key_id: str) -> None:
    """Revokes a key, given by its id or its whole text."""
    async with postgres(settings) as pool:
        key = await KeyStore(pool).revoke(key_id[3:19] if key_id.startswith("ts_") else key_id)
    seconds = f"{REVOKED_WITHIN_SECONDS:g} s"
    click.echo(f"API key {key.key_id} ({key.name}) is revoked; a running Tracestone refuses it within {seconds}.")


def _line(key: Key) -> str:
    if key.revoked_at_ms is not None:
        ends = f"revoked {_day(key.revoked_at_ms)}"
    else:
        ends = "never" if key.expires_at_ms is None else _time(key.expires_at_ms)
    used = "never" if key.last_used_at_ms is None else _time(key.last_used_at_ms)
    bound = "all" if key.experiments is None else ", ".join(map(str, sorted(key.experiments)))
    name = "".join(each if each.isprintable() else "?" for each in key.name)
    return _COLUMNS.format(key.key_id, name, _scopes(key), _time(key.created_at_ms), used, ends, bound)


def _scopes(key: Key) -> str:
    return ",".join(sorted(key.scopes))


def _bound(key: Key) -> str:
    if key.experiments is None:
        return "all experiments"
    return f"the experiments {', '.join(map(str, sorted(key.experiments)))}"


def _day(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%Y-%m-%d")


def _time(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M")
