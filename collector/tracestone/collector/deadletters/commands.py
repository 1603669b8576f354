"""`tracestone deadletter`: works on the data folder, whether Tracestone runs there or not. Returns exit codes."""

import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from itertools import islice

import click

from tracestone.collector.data_folder import is_held
from tracestone.collector.deadletters.box import Box, Letter
from tracestone.collector.deadletters.shown import items
from tracestone.collector.signals.known import SIGNALS
from tracestone.schema import clock
from tracestone.schema.errors import NotFound, Rejected, TracestoneError
from tracestone.schema.settings import Settings

_WAIT_SECONDS = 60.0
_LOOK_SECONDS = 0.2


def list_letters(settings: Settings, *, as_json: bool) -> int:
    """Prints one line a letter, oldest first."""
    letters = Box(settings.data_dir).letters()
    for letter in letters:
        click.echo(json.dumps(_about(letter)) if as_json else _line(letter))
    if not letters and not as_json:
        click.echo("there are no dead letters")
    return 0


def show_letter(settings: Settings, name: str, *, most: int) -> int:
    """Prints what is known of a letter, then its first `most` items, as JSON, each on a line."""

    def show(box: Box) -> None:
        letter = box.letter(name)
        click.echo(json.dumps(_about(letter)))
        signal = next((signal for signal in SIGNALS if signal.name == letter.signal), None)
        if letter.follow is not None:
            for experiment, key in letter.follow.touched[:most]:
                click.echo(json.dumps({"experiment_id": experiment, "id": key}))
        elif signal is not None:
            for item in islice(items(signal, box.records(letter)), most):
                click.echo(json.dumps(item))

    return _told(settings, show)


def replay_letters(settings: Settings, names: Sequence[str], *, everything: bool) -> int:
    """Asks for letters to be sent again, and waits for it if Tracestone runs."""

    def replay(box: Box) -> None:
        letters = _chosen(box, names, everything, lambda letter: letter.can_be_sent)
        for letter in letters:
            box.ask(letter)
        if not is_held(settings.data_dir):
            click.echo(f"{len(letters)} letter(s) will be sent again when Tracestone starts")
            return
        for letter in letters:
            click.echo(f"{letter.name}: {_outcome(box, letter)}")

    return _told(settings, replay)


def drop_letters(settings: Settings, names: Sequence[str], *, everything: bool, sure: bool) -> int:
    """Removes letters for good; without `sure` it only says which."""

    def drop(box: Box) -> None:
        letters = _chosen(box, names, everything, lambda letter: True)
        if not sure:
            size = sum(letter.size for letter in letters)
            raise Rejected(f"{len(letters)} letter(s) with {size} bytes would be lost for good; say --yes to drop them")
        for letter in letters:
            box.drop(letter)
            click.echo(f"{letter.name}: dropped")

    return _told(settings, drop)


def _told(settings: Settings, work: Callable[[Box], None]) -> int:
    try:
        work(Box(settings.data_dir))
    except TracestoneError as error:
        click.echo(f"tracestone: {error}", err=True)
        return 1
    except BrokenPipeError:  # `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:
        click.echo(f"tracestone: {error.filename}: {error.strerror}", err=True)
        return 1
    return 0


def _chosen(box: Box, names: Sequence[str], everything: bool, fits: Callable[[Letter], bool]) -> list[Letter]:
    if everything:
        return [letter for letter in box.letters() if fits(letter)]
    if not names:
        raise Rejected("Say which letters, or --all.")
    return [box.letter(name) for name in names]


def _outcome(box: Box, asked: Letter) -> str:
    end = clock.monotonic() + _WAIT_SECONDS
    while clock.monotonic() < end:
        try:
            letter = box.letter(asked.name)
        except NotFound:
            return "sent again"
        if letter.failed:
            return f"cannot be sent again: {letter.failed}"
        if not letter.asked:
            return "sent again"
        time.sleep(_LOOK_SECONDS)
    return "waits to be sent again"


def _about(letter: Letter) -> dict[str, object]:
    return {
        "name": letter.name,
        "kind": letter.kind,
        "signal": letter.signal,
        "items": letter.items,
        "bytes": letter.size,
        "kept_at": clock.at_ms(letter.kept_at_ms).isoformat(),
        "asked": letter.asked,
        "failed": letter.failed,
        "reasons": list(letter.reasons),
    }


def _line(letter: Letter) -> str:
    when = clock.at_ms(letter.kept_at_ms).isoformat(timespec="seconds")
    count = "" if letter.items is None else f"{letter.items} item(s), "
    state = ""
    if letter.asked:
        state = "  (waits to be sent again)"
    elif letter.failed:
        state = f"  (failed: {letter.failed[:100]})"
    reason = letter.reasons[0].splitlines()[0][:160] if letter.reasons and letter.reasons[0] else ""
    return f"{letter.name}  {when}  {letter.signal}  {letter.kind}  {count}{letter.size} bytes  {reason}{state}"
