"""The commands `tracestone reprice` and `tracestone renormalise`: their arguments."""

from pathlib import Path
from typing import Any

import click

from tracestone.collector.command_line import run, settings_from, settings_options

_SINCE = click.option("--from", "since", help="Only spans that began at this day or time (ISO 8601, UTC) or later.")
_UNTIL = click.option("--to", "until", help="Only spans that began before.")
_EXPERIMENT = click.option("--experiment", default="", help="Only those of this experiment, by id or name.")
_DETACH = click.option("--detach", is_flag=True, help="Leave it to the Tracestone that runs, and do not wait.")
_CANCEL = click.option("--cancel", is_flag=True, help="Stop the one that is at work; what it did stays.")


@click.command()
@settings_options
@_SINCE
@_UNTIL
@_EXPERIMENT
@click.option("--model", default="", help="Only those of this model, as spans name it.")
@_DETACH
@_CANCEL
def reprice(config_file: Path | None, detach: bool, cancel: bool, **flags: Any) -> None:
    """Compute the costs of stored spans anew, by the prices of now.

    Costs that senders reported stay as they are. It may be interrupted: the same command goes on where it was.
    """
    _rewrite("reprice", config_file, detach=detach, cancel=cancel, **flags)


@click.command()
@settings_options
@_SINCE
@_UNTIL
@_EXPERIMENT
@_DETACH
@_CANCEL
def renormalise(config_file: Path | None, detach: bool, cancel: bool, **flags: Any) -> None:
    """Fill the columns of stored spans anew, by the map of attributes of now. See docs/mapping.md.

    Attributes stay as they came. It may be interrupted: the same command goes on where it was.
    """
    _rewrite("renormalise", config_file, detach=detach, cancel=cancel, **flags)


def _rewrite(
    kind: str,
    config_file: Path | None,
    *,
    since: str | None,
    until: str | None,
    experiment: str,
    model: str = "",
    detach: bool,
    cancel: bool,
    **flags: Any,
) -> None:
    from tracestone.collector.rewrite import commands

    settings = settings_from(flags, config_file)
    if cancel:
        run(commands.cancel(settings, kind))
    else:
        run(commands.rewrite(settings, kind, experiment, since, until, model, detach=detach))
