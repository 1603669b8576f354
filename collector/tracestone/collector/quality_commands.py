"""`tracestone quality`: what scorers would say of all targets, with the interval for it."""

import sys
from pathlib import Path
from typing import Any

import click

from tracestone.collector.command_line import settings_from, settings_options
from tracestone.schema import sqlfiles

_SQL = sqlfiles.queries("clickhouse", "quality")


@click.command()
@settings_options
@click.option("--period", type=click.Choice(["all", "day", "hour"]), default="all", help="What a row is about.")
@click.option("--scorer", default="", help="Only this scorer.")
@click.option("--experiment", type=click.IntRange(0), help="Only this experiment, by its id.")
@click.option("--segments", is_flag=True, help="Also a row for each stratum of the online configurations.")
@click.option("--format", "fmt", type=click.Choice(["table", "json", "csv"]), default="table")
def quality(
    config_file: Path | None, period: str, scorer: str, experiment: int | None, segments: bool, fmt: str, **flags: Any
) -> None:
    """Show each scorer's mean over ALL finished targets, estimated from those that were chosen.

    With its interval at 95 % and the number of verdicts behind it; see docs/quality.md.
    """
    parameters = {
        "period": period,
        "scorer": scorer.replace("\\", "\\\\").replace("\t", "\\t").replace("\n", "\\n"),
        "experiment": "-1" if experiment is None else str(experiment),
        "segments": str(int(segments)),
    }
    from tracestone.collector.sql_cli import run_sql

    sys.exit(run_sql(_SQL["shown"], settings_from(flags, config_file), fmt, parameters=parameters))
