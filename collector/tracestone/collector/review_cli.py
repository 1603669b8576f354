"""`tracestone review`: what the commands do. Reviews are in Postgres, whether a Tracestone runs or not."""

import json

import click

from tracestone.collector.command_stores import postgres
from tracestone.collector.reviews_api import shown
from tracestone.schema.reviews import answer_from_text, expected
from tracestone.schema.settings import Settings
from tracestone.schema.stores.reviews import ReviewStore


async def show(settings: Settings, scorer: str | None) -> None:
    """Prints what waits."""
    async with postgres(settings) as pool:
        store, after = ReviewStore(pool), 0
        while found := await store.page(after, scorer):
            for review in found:
                click.echo(json.dumps(shown(review)))
            after = found[-1].review_id


async def take(settings: Settings, reviewer: str, scorer: str | None, number: int | None) -> None:
    """Prints the review that is taken, and what is asked. Raises NotFound, Conflict."""
    async with postgres(settings) as pool:
        store = ReviewStore(pool)
        review = await store.take(reviewer, review_id=number, scorer=scorer)
        if review is None:
            click.echo("Nothing waits.")
            return
        question = await store.question(review)
    click.echo(json.dumps(shown(review)))
    click.echo(f"{question.question}\n({expected(question.verdict)})")


async def done(settings: Settings, reviewer: str, number: int, value: str, rationale: str) -> None:
    """Stores the answer. Raises NotFound, Conflict, Invalid."""
    async with postgres(settings) as pool:
        store = ReviewStore(pool)
        verdict = (await store.question(await store.get(number))).verdict
        said = await store.done(number, reviewer, answer_from_text(verdict, value), rationale)
    click.echo(f"Review {number} is answered: {said.assessment_id}.")


async def drop(settings: Settings, reviewer: str, number: int, reason: str) -> None:
    """Puts one aside. Raises NotFound, Conflict, Invalid."""
    async with postgres(settings) as pool:
        said = await ReviewStore(pool).drop(number, reviewer, reason)
    click.echo(f"Review {number} is dropped: {said.assessment_id}.")
