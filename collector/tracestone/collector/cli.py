"""The command line: arguments, signals, exit codes. Every setting is a flag; see schema/settings.py."""

import asyncio
import logging
import signal
import sys
import types
from importlib.metadata import version
from pathlib import Path
from typing import Any

import click
import yaml

from tracestone.collector.budget_commands import budget
from tracestone.collector.command_line import is_list, reported, run, settings_from, settings_options
from tracestone.collector.jobs_commands import jobs
from tracestone.collector.leaving import leave_within
from tracestone.collector.memory import keep_for_requests
from tracestone.collector.open_files import raise_limit
from tracestone.collector.prices_commands import prices
from tracestone.collector.quality_commands import quality
from tracestone.collector.review_commands import review
from tracestone.collector.rewrite_commands import renormalise, reprice
from tracestone.collector.score_commands import score
from tracestone.collector.webhooks_commands import webhooks
from tracestone.schema.settings import Settings, shown

logger = logging.getLogger(__name__)

# A stop takes at most 10 s: parts that hang are cut off from the first of these on, the process after the last.
_CUT_SECONDS = (6.5, 1.0, 1.0)
_STOP_SECONDS = 9.5
# All is closed by then; only a thread that nobody can end may be left.
_LEAVE_SECONDS = 0.5


def _told_below() -> str:
    """What --help says of the settings that are no flags."""
    lists = [f"{name}: {field.description}" for name, field in Settings.model_fields.items() if is_list(field)]
    return "\n\n".join(["Keys of the YAML file that are no flags (in the environment, as JSON):", *lists])


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(version("tracestone"), prog_name="tracestone")
def main() -> None:
    """OpenTelemetry-native trace collector and evaluation pipeline for LLM and agent applications.

    Every setting is an option, an environment variable TRACESTONE_<SETTING> and a key of the YAML file (--config).
    `tracestone config` prints them all.
    """


@main.command(epilog=_told_below())
@settings_options
def up(config_file: Path | None, **flags: Any) -> None:
    """Run everything in one process, until Ctrl-C or SIGTERM."""
    settings = settings_from(flags, config_file)
    raise_limit(settings.max_connections)
    keep_for_requests()
    run(_up(settings))


@main.command()
@settings_options
def migrate(config_file: Path | None, **flags: Any) -> None:
    """Bring both stores to the newest schema. Safe to run twice, and by several processes at once."""
    settings = settings_from(flags, config_file)
    run(_migrate(settings))


@main.command()
@settings_options
def config(config_file: Path | None, **flags: Any) -> None:
    """Print the effective settings, secrets hidden."""
    click.echo(yaml.safe_dump(shown(settings_from(flags, config_file)), sort_keys=False), nl=False)


@main.command()
@settings_options
@click.option("--seconds", type=click.FloatRange(min=0.1, max=3600), default=2.0, show_default=True, help="For rates.")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def status(config_file: Path | None, seconds: float, as_json: bool, **flags: Any) -> None:
    """Tell how the running Tracestone is: parts, rates, what waits, scoring, budgets.

    Ends with 1 when a part does not work, or none runs.
    """
    from tracestone.collector.status import show

    settings = settings_from(flags, config_file)
    with reported():
        show(settings, seconds=seconds, as_json=as_json)


@main.command()
@settings_options
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
def doctor(config_file: Path | None, as_json: bool, **flags: Any) -> None:
    """Check settings, disk, ports, stores, clocks and providers' keys, and say what to do. Changes and spends nothing.

    Ends with 1 when something does not work.
    """
    from tracestone.collector.doctor import commands

    run(commands.show(settings_from(flags, config_file), as_json=as_json))


@main.command()
@settings_options
@click.option("--format", "fmt", type=click.Choice(["table", "json", "csv", "parquet"]), default="table")
@click.option("-o", "--output", type=click.Path(path_type=Path, dir_okay=False), help="File for the answer.")
@click.argument("statement")
def sql(config_file: Path | None, statement: str, fmt: str, output: Path | None, **flags: Any) -> None:
    """Run one SQL STATEMENT, read-only; `-` reads it from standard input. See docs/sql.md."""
    from tracestone.collector.sql_cli import run_sql

    sys.exit(run_sql(statement, settings_from(flags, config_file), fmt, output))


main.add_command(budget)
main.add_command(jobs)
main.add_command(prices)
main.add_command(quality)
main.add_command(review)
main.add_command(score)
main.add_command(webhooks)
main.add_command(reprice)
main.add_command(renormalise)


@main.group()
def deadletter() -> None:
    """What was given up: spans that ClickHouse refused, parts of the log that were damaged. See docs/operations.md."""


@deadletter.command("list")
@settings_options
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
def list_dead_letters(config_file: Path | None, as_json: bool, **flags: Any) -> None:
    """Tell what there is, oldest first."""
    from tracestone.collector.deadletters import commands

    sys.exit(commands.list_letters(settings_from(flags, config_file), as_json=as_json))


@deadletter.command("show")
@settings_options
@click.option("--most", type=click.IntRange(min=0), default=100, show_default=True, help="Items to print.")
@click.argument("name")
def show_dead_letter(config_file: Path | None, name: str, most: int, **flags: Any) -> None:
    """Print a letter and the items in it as JSON, one a line."""
    from tracestone.collector.deadletters import commands

    sys.exit(commands.show_letter(settings_from(flags, config_file), name, most=most))


@deadletter.command("replay")
@settings_options
@click.option("--all", "everything", is_flag=True, help="All letters.")
@click.argument("names", nargs=-1)
def replay_dead_letters(config_file: Path | None, names: tuple[str, ...], everything: bool, **flags: Any) -> None:
    """Send letters again; what is stored then is counted once, however often it is sent."""
    from tracestone.collector.deadletters import commands

    sys.exit(commands.replay_letters(settings_from(flags, config_file), names, everything=everything))


@deadletter.command("drop")
@settings_options
@click.option("--all", "everything", is_flag=True, help="All letters.")
@click.option("--yes", is_flag=True, help="Really.")
@click.argument("names", nargs=-1)
def drop_dead_letters(
    config_file: Path | None, names: tuple[str, ...], everything: bool, yes: bool, **flags: Any
) -> None:
    """Remove letters for good."""
    from tracestone.collector.deadletters import commands

    sys.exit(commands.drop_letters(settings_from(flags, config_file), names, everything=everything, sure=yes))


@main.group()
def keys() -> None:
    """Make, list and revoke API keys. See docs/security.md."""


@keys.command("create")
@settings_options
@click.option(
    "--scope", "scopes", multiple=True, help="ingest, read, write or admin; may be repeated.  [default: ingest]"
)
@click.option("--experiment", "experiments", multiple=True, help="Id or name; may be repeated. Without it, all.")
@click.option("--expires-in-days", type=float, help="After this many days it is good no longer.")
@click.argument("name")
def keys_create(
    config_file: Path | None,
    name: str,
    scopes: tuple[str, ...],
    experiments: tuple[str, ...],
    expires_in_days: float | None,
    **flags: Any,
) -> None:
    """Make an API key; NAME says who is to use it. The key is printed this once."""
    from tracestone.collector import keys_cli

    settings = settings_from(flags, config_file)
    run(keys_cli.create(settings, name, scopes or ("ingest",), experiments, expires_in_days))


@keys.command("list")
@settings_options
def keys_list(config_file: Path | None, **flags: Any) -> None:
    """List all API keys, the revoked ones too; never their secrets."""
    from tracestone.collector import keys_cli

    run(keys_cli.show(settings_from(flags, config_file)))


@keys.command("revoke")
@settings_options
@click.argument("key")
def keys_revoke(config_file: Path | None, key: str, **flags: Any) -> None:
    """Revoke the API KEY, given by its id."""
    from tracestone.collector import keys_cli

    run(keys_cli.revoke(settings_from(flags, config_file), key))


async def _up(settings: Settings) -> None:
    from tracestone.collector import allinone

    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopping.set)
    serving = asyncio.create_task(_serve(allinone, settings, stopping), name="serve")
    stopped = asyncio.create_task(stopping.wait(), name="wait for a signal")
    try:
        await asyncio.wait([serving, stopped], return_when=asyncio.FIRST_COMPLETED)
        if not serving.done():
            await _end(serving)
    finally:
        stopped.cancel()
    leave_within(_LEAVE_SECONDS, int(not serving.cancelled() and serving.exception() is not None))
    if not serving.cancelled():
        serving.result()


async def _end(serving: asyncio.Task[None]) -> None:
    """Waits until everything has stopped; what hangs is cut off, so that the parts after it stop all the same."""
    leave_within(_STOP_SECONDS, 1)
    for seconds in _CUT_SECONDS:
        await asyncio.wait([serving], timeout=seconds)
        if serving.done():
            return
        logger.warning("a part does not stop and is cut off", extra={"action": "stop"})
        serving.cancel()
    await asyncio.wait([serving])


async def _serve(allinone: types.ModuleType, settings: Settings, stopping: asyncio.Event) -> None:
    async with allinone.running(settings) as collector:
        click.echo(f"Tracestone {version('tracestone')}")
        for name, address in collector.addresses.items():
            click.echo(f"  {name:14} {address}")
        click.echo(f"  {'Data':14} {settings.data_dir.resolve()}")
        click.echo("tracestone ready")
        sys.stdout.flush()
        await stopping.wait()
        click.echo("tracestone stopping")
        sys.stdout.flush()


async def _migrate(settings: Settings) -> None:
    from tracestone.collector import allinone
    from tracestone.schema.migrate import migrate

    async with allinone.stores(settings) as (pool, columnar):
        applied = await migrate(pool, columnar, settings.mapping_dir)
    for each in applied:
        click.echo(f"{each.store} {each.version:04d} {each.name}")
    click.echo(f"{len(applied)} migration(s) applied" if applied else "the schema is up to date")


if __name__ == "__main__":
    main()
