"""The commands `tracestone webhooks`: their arguments."""

from pathlib import Path
from typing import Any, get_args

import click

from tracestone.collector.command_line import run, settings_from, settings_options
from tracestone.schema.webhooks import Errors, Event

_FILTERS = ("name", "url", "events", "scorer", "experiment", "errors", "value_is", "below", "above")


@click.group()
def webhooks() -> None:
    """Who is told of assessments and alerts: list, set, test and remove webhooks. See docs/outbound.md."""


@webhooks.command("list")
@settings_options
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
def list_webhooks(config_file: Path | None, as_json: bool, **flags: Any) -> None:
    """List webhooks with what waits for them and what is dead; never their secrets."""
    from tracestone.collector import webhooks_cli

    run(webhooks_cli.show(settings_from(flags, config_file), as_json=as_json))


@webhooks.command("set")
@settings_options
@click.option(
    "--event",
    "events",
    multiple=True,
    type=click.Choice(get_args(Event)),
    help="May be repeated.  [default: assessment]",
)
@click.option("--scorer", help="Only what is about this scorer.")
@click.option("--experiment", help="Only what is about this experiment, by id or name.")
@click.option("--errors", type=click.Choice(get_args(Errors)), help="Assessments with an error: any, only or none.")
@click.option("--value-is", help="Only assessments whose value is this text.")
@click.option("--below", type=float, help="Only assessments whose value is a number below this; true is 1, false 0.")
@click.option("--above", type=float, help="The same, above this.")
@click.argument("name")
@click.argument("url")
def set_webhook(config_file: Path | None, events: tuple[str, ...], **flags: Any) -> None:
    """Make or change the webhook NAME at URL. The secret of a new one is printed this once."""
    from tracestone.collector import webhooks_cli

    document = {name: flags.pop(name) for name in _FILTERS if name != "events"} | {"events": list(events) or None}
    run(webhooks_cli.set_webhook(settings_from(flags, config_file), document))


@webhooks.command("remove")
@settings_options
@click.argument("name")
def remove_webhook(config_file: Path | None, name: str, **flags: Any) -> None:
    """Remove the webhook NAME, with what waits for it."""
    from tracestone.collector import webhooks_cli

    run(webhooks_cli.remove(settings_from(flags, config_file), name))


@webhooks.command("test")
@settings_options
@click.argument("name")
def test_webhook(config_file: Path | None, name: str, **flags: Any) -> None:
    """Send the webhook NAME something, through a running Tracestone, and tell what became of it."""
    from tracestone.collector import webhooks_cli

    run(webhooks_cli.test(settings_from(flags, config_file), name))


@webhooks.command("replay")
@settings_options
@click.argument("name")
def replay_webhook(config_file: Path | None, name: str, **flags: Any) -> None:
    """Deliver again what is dead of the webhook NAME."""
    from tracestone.collector import webhooks_cli

    run(webhooks_cli.replay(settings_from(flags, config_file), name))


@webhooks.command("secret")
@settings_options
@click.argument("name")
def renew_secret(config_file: Path | None, name: str, **flags: Any) -> None:
    """Give the webhook NAME another secret and print it, this once."""
    from tracestone.collector import webhooks_cli

    run(webhooks_cli.renew(settings_from(flags, config_file), name))
