"""The commands `tracestone budget`: their arguments."""

from pathlib import Path
from typing import Any

import click

from tracestone.collector.command_line import run, settings_from, settings_options


@click.group()
def budget() -> None:
    """What judges may spend: list, set and remove budgets. See docs/scoring.md."""


@budget.command("list")
@settings_options
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
def list_budgets(config_file: Path | None, as_json: bool, **flags: Any) -> None:
    """List budgets with what they have spent, reserved and left, and when they will be spent at the present rate."""
    from tracestone.collector import budget_cli

    run(budget_cli.show(settings_from(flags, config_file), as_json=as_json))


@budget.command("set")
@settings_options
@click.option("--usd", type=float, help="The cap in USD.")
@click.option("--tokens", type=int, help="The cap in tokens, input and output together.")
@click.option("--per", required=True, type=click.Choice(["day", "week", "month"]), help="Calendar period, in UTC.")
@click.option("--scorer", help="Only what this scorer spends.")
@click.option("--experiment", help="Only what is spent in this experiment, by id or name.")
def set_budget(config_file: Path | None, **flags: Any) -> None:
    """Set a budget, or give it another cap. What its period has spent so far counts."""
    from tracestone.collector import budget_cli

    document = {name: flags.pop(name) for name in ("usd", "tokens", "per", "scorer", "experiment")}
    run(budget_cli.set_budget(settings_from(flags, config_file), document))


@budget.command("remove")
@settings_options
@click.argument("number", type=int)
def remove_budget(config_file: Path | None, number: int, **flags: Any) -> None:
    """Remove the budget with this NUMBER; jobs that wait for it go on."""
    from tracestone.collector import budget_cli

    run(budget_cli.remove(settings_from(flags, config_file), number))
