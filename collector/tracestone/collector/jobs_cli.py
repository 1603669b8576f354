"""`tracestone jobs`: what the commands do. Jobs are in Postgres; workers take up what is replayed."""

import json
from dataclasses import dataclass

import click

from tracestone.collector.command_stores import postgres
from tracestone.collector.jobs_api import shown, waiting
from tracestone.schema.errors import Invalid
from tracestone.schema.settings import Settings
from tracestone.schema.stores.dead_jobs import DeadJob, DeadJobStore
from tracestone.schema.stores.jobs import JobStore

_COLUMNS = "{:>8}  {:16}  {:24}  {:>10}  {:40}  {:20}  {}"
_MESSAGE_CHARACTERS = 120


@dataclass(frozen=True)
class Chosen:
    """Which dead jobs a command is about: some by number, or all, of a scorer and with a code if these are given."""

    numbers: tuple[int, ...]
    everything: bool
    scorer: str | None
    code: str | None

    def ids(self) -> list[int] | None:
        """The numbers, None for all. Raises Invalid where it is neither or both."""
        if self.everything == bool(self.numbers):
            raise Invalid("", "Give the numbers of dead jobs, or --all.")
        return None if self.everything else list(self.numbers)


async def show(settings: Settings, *, as_json: bool) -> None:
    """Prints how many jobs are in each state, and the reasons of those that wait."""
    async with postgres(settings) as pool:
        store = JobStore(pool)
        states, waits = await store.by_state(), await store.waits()
    if as_json:
        click.echo(json.dumps({"states": states, "waits": [waiting(each) for each in waits]}))
        return
    for state, count in states.items():
        click.echo(f"{count:>8}  {state.replace('_', ' ')}")
    for each in waits:
        until = each.resumes_at.isoformat(timespec="seconds")
        click.echo(
            f"{each.jobs:>8}  of {each.scorer_name} wait for the {each.waiting_for} until {until}: {each.reason}"
        )


async def list_dead(settings: Settings, scorer: str | None, code: str | None, *, as_json: bool) -> None:
    """Prints dead jobs as a table, or as JSON lines."""
    if not as_json:
        click.echo(_COLUMNS.format("NUMBER", "DIED AT", "SCORER", "EXPERIMENT", "TARGET", "CODE", "MESSAGE"))
    async with postgres(settings) as pool:
        store, after = DeadJobStore(pool), 0
        while found := await store.page(after, scorer, code):
            for job in found:
                click.echo(json.dumps(shown(job)) if as_json else _line(job))
            after = found[-1].dead_id


async def show_dead(settings: Settings, number: int) -> None:
    """Prints one dead job as JSON. Raises NotFound."""
    async with postgres(settings) as pool:
        click.echo(json.dumps(shown(await DeadJobStore(pool).get(number)), indent=2))


async def replay_dead(settings: Settings, chosen: Chosen) -> None:
    """Puts jobs back into the queue. Raises Invalid."""
    ids = chosen.ids()
    async with postgres(settings) as pool:
        count = await DeadJobStore(pool).replay(ids, chosen.scorer, chosen.code)
    click.echo(f"{count} job(s) will be tried again.")


async def drop_dead(settings: Settings, chosen: Chosen, *, sure: bool) -> None:
    """Removes jobs for good. Raises Invalid."""
    ids = chosen.ids()
    if not sure:
        raise Invalid("", "Dropped jobs cannot be replayed; add --yes.")
    async with postgres(settings) as pool:
        count = await DeadJobStore(pool).drop(ids, chosen.scorer, chosen.code)
    click.echo(f"{count} job(s) dropped.")


def _line(job: DeadJob) -> str:
    return _COLUMNS.format(
        job.dead_id,
        job.died_at.strftime("%Y-%m-%d %H:%M"),
        job.scorer_name,
        job.experiment_id,
        _target(job),
        job.code,
        job.message[:_MESSAGE_CHARACTERS],
    )


def _target(job: DeadJob) -> str:
    kind = str(job.job.get("target_type", "trace"))
    return f"{kind} {job.job.get(f'{kind}_id', job.trace_id)}"
