"""What all commands share: a flag for every setting, running, and telling of errors."""

import asyncio
import sys
import typing
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
import uvloop
from pydantic.fields import FieldInfo

from tracestone.schema.errors import TracestoneError
from tracestone.schema.observe import set_up_logging
from tracestone.schema.settings import Settings, load, prepare_grpc

Command = Callable[..., Any]


def settings_options(command: Command) -> Command:
    """Adds --config and a flag for every setting that is not a list or a mapping."""
    for name, field in reversed(Settings.model_fields.items()):
        if not is_list(field):
            command = _option(name, field)(command)
    return click.option(
        "--config",
        "config_file",
        type=click.Path(path_type=Path),
        envvar="TRACESTONE_CONFIG",
        help="YAML file with settings.",
    )(command)


def is_list(field: FieldInfo) -> bool:
    """Whether a setting is a list or a mapping, which is no flag."""
    return typing.get_origin(field.annotation) in (list, dict)


def _option(name: str, field: FieldInfo) -> Callable[[Command], Command]:
    flag, default = f"--{name.replace('_', '-')}", field.get_default()
    if field.annotation is bool:
        both = f"{flag}/--no-{flag[2:]}"
        return click.option(
            both, name, default=None, help=f"{field.description}  [default: {'on' if default else 'off'}]"
        )
    hint = "" if default is None else f"  [default: {default}]"
    return click.option(flag, name, metavar=_metavar(field.annotation), help=f"{field.description}{hint}")


def _metavar(annotation: Any) -> str:
    text = str(annotation)
    return "PATH" if "Path" in text else "NUMBER" if "int" in text else "TEXT"


def settings_from(flags: dict[str, Any], config_file: Path | None) -> Settings:
    """The settings of a command, which ends when they cannot be used."""
    try:
        settings = load(flags, config_file)
    except TracestoneError as error:
        _fail(error)
    set_up_logging(settings.log_level)
    prepare_grpc()
    return settings


def run(work: Coroutine[Any, Any, None]) -> None:
    """Runs a command to its end; an error of ours is one sentence on standard error."""
    try:
        with reported(), asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(work)
    except KeyboardInterrupt:
        sys.exit(130)


@contextmanager
def reported() -> Iterator[None]:
    """An error of ours within the block is one sentence on standard error, and ends the process with 1."""
    try:
        yield
    except TracestoneError as error:
        _fail(error)


def _fail(error: TracestoneError) -> typing.NoReturn:
    click.echo(f"tracestone: {error}", err=True)
    sys.exit(1)
