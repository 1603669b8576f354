"""The commands `tracestone review`: their arguments."""

from pathlib import Path
from typing import Any

import click

from tracestone.collector.command_line import run, settings_from, settings_options

_WHO = click.option("--as", "reviewer", required=True, help="Who you are; the answer says so.")
_SCORER = click.option("--scorer", help="Only what this scorer asks.")


@click.group()
def review() -> None:
    """What waits for a person's answer: list, take, answer and drop it. See docs/scoring.md."""


@review.command("list")
@settings_options
@_SCORER
def list_reviews(config_file: Path | None, scorer: str | None, **flags: Any) -> None:
    """Tell what waits, oldest first, a JSON object a line."""
    from tracestone.collector import review_cli

    run(review_cli.show(settings_from(flags, config_file), scorer))


@review.command()
@settings_options
@_WHO
@_SCORER
@click.argument("number", type=click.IntRange(1), required=False)
def take(config_file: Path | None, reviewer: str, scorer: str | None, number: int | None, **flags: Any) -> None:
    """Take the review with this NUMBER, or the most urgent one, for half an hour."""
    from tracestone.collector import review_cli

    run(review_cli.take(settings_from(flags, config_file), reviewer, scorer, number))


@review.command()
@settings_options
@_WHO
@click.option("--rationale", default="", help="Why.")
@click.argument("number", type=click.IntRange(1))
@click.argument("value")
def done(config_file: Path | None, reviewer: str, rationale: str, number: int, value: str, **flags: Any) -> None:
    """Answer the review with this NUMBER: true or false, a number, one of the categories, or text."""
    from tracestone.collector import review_cli

    run(review_cli.done(settings_from(flags, config_file), reviewer, number, value, rationale))


@review.command()
@settings_options
@_WHO
@click.argument("number", type=click.IntRange(1))
@click.argument("reason")
def drop(config_file: Path | None, reviewer: str, number: int, reason: str, **flags: Any) -> None:
    """Put the review with this NUMBER aside for good, with the REASON; it counts as failed."""
    from tracestone.collector import review_cli

    run(review_cli.drop(settings_from(flags, config_file), reviewer, number, reason))
