"""The commands `tracestone prices`: their arguments."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from tracestone.collector.command_line import run, settings_from, settings_options
from tracestone.schema.prices.price import BUCKETS

Command = Callable[..., Any]
_EXPERIMENT = click.option("--experiment", default="", help="Id or name of the experiment. Without it, the deployment.")


@click.group()
def prices() -> None:
    """What models cost: list, set and import prices, and see which models have none. See docs/costs.md."""


@prices.command("list")
@settings_options
@click.option("--model", default="", help="Only models with this in their name.")
@click.option("--provider", default="", help="Only those of this provider.")
@click.option("--own", is_flag=True, help="Only what was set or imported here.")
@click.option("--all-dates", is_flag=True, help="Also what is in force no longer, or not yet.")
def list_prices(config_file: Path | None, model: str, provider: str, own: bool, all_dates: bool, **flags: Any) -> None:
    """List prices in force, in USD per million tokens."""
    from tracestone.collector import prices_cli

    run(prices_cli.show(settings_from(flags, config_file), model, provider, own=own, all_dates=all_dates))


@prices.command("show")
@settings_options
@click.argument("model")
def show_price(config_file: Path | None, model: str, **flags: Any) -> None:
    """Print every price of the MODEL as JSON, one a line, whatever its day and scope."""
    from tracestone.collector import prices_cli

    run(prices_cli.show_model(settings_from(flags, config_file), model))


def _buckets(command: Command) -> Command:
    for bucket in reversed(BUCKETS):
        unit = "USD for each" if bucket == "image" else "USD per million tokens"
        command = click.option(f"--{bucket.replace('_', '-')}", bucket, type=float, help=f"{unit}.")(command)
    return command


@prices.command("set")
@settings_options
@_buckets
@click.option("--tier", "tiers", multiple=True, help="Such as '200000 input=4 output=12': prices above so many tokens.")
@click.option("--provider", default="", help="Without it the price is for any provider.")
@_EXPERIMENT
@click.option("--from", "since", help="Day from which it is in force. Without it, always.")
@click.argument("model")
def set_price(
    config_file: Path | None,
    model: str,
    provider: str,
    experiment: str,
    since: str | None,
    tiers: tuple[str, ...],
    **flags: Any,
) -> None:
    """Set the price of the MODEL, whole: a bucket that is left out costs what input or output does."""
    from tracestone.collector import prices_cli

    buckets = {bucket: flags.pop(bucket) for bucket in BUCKETS}
    entry = {"model": model, "provider": provider, "experiment": experiment, "from": since, **buckets}
    run(prices_cli.set_price(settings_from(flags, config_file), entry, tiers))


@prices.command("remove")
@settings_options
@click.option("--provider", default="", help="As it was set.")
@_EXPERIMENT
@click.option("--from", "since", help="As it was set.")
@click.option("--imported", is_flag=True, help="One of the list of all, which was imported.")
@click.argument("model")
def remove_price(
    config_file: Path | None,
    model: str,
    provider: str,
    experiment: str,
    since: str | None,
    imported: bool,
    **flags: Any,
) -> None:
    """Take back a price of the MODEL that was set or imported."""
    from tracestone.collector import prices_cli

    entry = {"model": model, "provider": provider, "experiment": experiment, "from": since}
    run(prices_cli.remove(settings_from(flags, config_file), entry, imported=imported))


@prices.command("import")
@settings_options
@click.option("--from", "since", help="Day from which prices that changed are in force.  [default: today]")
@click.option("--fix", is_flag=True, help="Prices that differ were wrong: replace them.")
@click.option("--deployment", is_flag=True, help="They are this deployment's own prices, not the list of all.")
@click.option("--experiment", default="", help="They are those of this experiment.")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
def import_prices(
    config_file: Path | None,
    file: Path,
    since: str | None,
    fix: bool,
    deployment: bool,
    experiment: str,
    **flags: Any,
) -> None:
    """Bring the list of prices up to FILE: litellm's price map (JSON), or CSV. Reaches for no network."""
    from tracestone.collector import prices_cli

    settings = settings_from(flags, config_file)
    run(prices_cli.import_file(settings, file, since, experiment, deployment=deployment, fix=fix))


@prices.command("unknown")
@settings_options
@click.option("--format", "fmt", type=click.Choice(["table", "json", "csv"]), default="table")
def unknown_models(config_file: Path | None, fmt: str, **flags: Any) -> None:
    """List the models that spans used and no price is known for."""
    from tracestone.collector import prices_cli

    sys.exit(prices_cli.unknown(settings_from(flags, config_file), fmt))
