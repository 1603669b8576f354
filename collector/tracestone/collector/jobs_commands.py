"""The commands `tracestone jobs`: their arguments."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from tracestone.collector.command_line import run, settings_from, settings_options

Command = Callable[..., Any]
_JSON = click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")


def _chosen(command: Command) -> Command:
    for decorate in (
        click.argument("numbers", nargs=-1, type=int),
        click.option("--code", help="Only those that died of this, such as TIMEOUT."),
        click.option("--scorer", help="Only those of this scorer."),
        click.option("--all", "everything", is_flag=True, help="All dead jobs, or all of --scorer and --code."),
    ):
        command = decorate(command)
    return command


@click.group()
def jobs() -> None:
    """Scoring jobs: what they wait for, and those that were given up. See docs/scoring.md."""


@jobs.command("list")
@settings_options
@_JSON
def list_jobs(config_file: Path | None, as_json: bool, **flags: Any) -> None:
    """Tell how many jobs there are in each state, and what those that wait wait for."""
    from tracestone.collector import jobs_cli

    run(jobs_cli.show(settings_from(flags, config_file), as_json=as_json))


@jobs.group()
def dead() -> None:
    """Jobs that were given up after their last try: list, show, replay and drop them."""


@dead.command("list")
@settings_options
@_JSON
@click.option("--scorer", help="Only those of this scorer.")
@click.option("--code", help="Only those that died of this, such as TIMEOUT.")
def list_dead(config_file: Path | None, as_json: bool, scorer: str | None, code: str | None, **flags: Any) -> None:
    """Tell what there is, oldest first."""
    from tracestone.collector import jobs_cli

    run(jobs_cli.list_dead(settings_from(flags, config_file), scorer, code, as_json=as_json))


@dead.command("show")
@settings_options
@click.argument("number", type=int)
def show_dead(config_file: Path | None, number: int, **flags: Any) -> None:
    """Print the dead job with this NUMBER as JSON."""
    from tracestone.collector import jobs_cli

    run(jobs_cli.show_dead(settings_from(flags, config_file), number))


@dead.command("replay")
@settings_options
@_chosen
def replay_dead(
    config_file: Path | None,
    numbers: tuple[int, ...],
    everything: bool,
    scorer: str | None,
    code: str | None,
    **flags: Any,
) -> None:
    """Try jobs again, by their NUMBERS or --all; their errors are removed from the assessments."""
    from tracestone.collector import jobs_cli

    chosen = jobs_cli.Chosen(numbers, everything, scorer, code)
    run(jobs_cli.replay_dead(settings_from(flags, config_file), chosen))


@dead.command("drop")
@settings_options
@_chosen
@click.option("--yes", is_flag=True, help="Really.")
def drop_dead(
    config_file: Path | None,
    numbers: tuple[int, ...],
    everything: bool,
    scorer: str | None,
    code: str | None,
    yes: bool,
    **flags: Any,
) -> None:
    """Remove dead jobs for good; their errors stay among the assessments."""
    from tracestone.collector import jobs_cli

    chosen = jobs_cli.Chosen(numbers, everything, scorer, code)
    run(jobs_cli.drop_dead(settings_from(flags, config_file), chosen, sure=yes))
