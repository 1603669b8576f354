"""Questions to people: queued once, answered by one, and weighted like any other verdict."""

from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from support.stored_traces import Row, numbered, store
from support.targets import Bench
from tracestone.schema.engines.columnar import Columnar
from tracestone.schema.engines.postgres import Pool
from tracestone.schema.errors import Conflict, Invalid, NotFound
from tracestone.schema.online import OnlineSetup
from tracestone.schema.reviews import answer_from_text
from tracestone.schema.scorers.definition import define
from tracestone.schema.scorers.verdicts import BoolVerdict, CategoryVerdict, NumberVerdict, TextVerdict
from tracestone.schema.stores.experiments import ExperimentStore
from tracestone.schema.stores.reviews import ReviewStore
from tracestone.scoring import watch

ASKED: dict[str, Any] = {"question": "Is it right?", "verdict": {"type": "category", "categories": ["yes", "no"]}}
LONG = "An answer of many more words than five"


@pytest.fixture
def bench(pool: Pool, columnar: Columnar, tmp_path: Path) -> Bench:
    return Bench(pool, columnar, tmp_path / "verdicts")


@pytest.fixture
def reviews(pool: Pool) -> ReviewStore:
    return ReviewStore(pool)


async def _asked(bench: Bench, **fields: Any) -> None:
    """Long answers are shown to a person, after a cheap scorer has judged half of them or so."""
    await bench.configure(sample_rate=0.5)
    await bench.configure("review", ASKED, name="person", after="short", filter="verdict = 'false'", **fields)


async def test_a_verdict_decides_whether_a_person_is_asked(bench: Bench, reviews: ReviewStore) -> None:
    await _asked(bench)
    await store(bench.columnar, [Row(numbered(n), output=LONG if n % 2 else "Yes.") for n in range(16)])
    await bench.watch()
    await bench.score()
    await bench.mirror()
    assert [await bench.watch(), await bench.watch()][1] == 0
    long = {each.trace_id for each in await bench.verdicts() if each.value is False}
    waiting = await reviews.page()
    assert {each.trace_id for each in waiting} == long and len(waiting) == len(long) > 1
    assert await bench.jobs.claim(10, uuid4(), 60) == []

    first = await reviews.take("ada")
    assert first is not None and first.review_id == waiting[0].review_id
    said = await reviews.done(first.review_id, "ada", "no", "It is not.")
    assert (said.source_type, said.source_id, said.value, said.probability) == ("HUMAN", "ada", "no", 0.5)
    second = await reviews.take("ada")
    assert second is not None
    await reviews.drop(second.review_id, "ada", "cannot tell")
    counts = await bench.coverage("person")
    assert (counts["scored"], counts["failed"], counts.get("waiting", 0)) == (1, 1, len(long) - 2)
    [row] = await bench.columnar.query(
        "SELECT estimate, estimated_targets, failed FROM quality WHERE scorer_name = 'person' AND period = 'all'"
    )
    assert (row["estimate"], row["estimated_targets"], row["failed"]) == (0, 2, 1)
    assert await bench.watch() == 0
    with pytest.raises(NotFound, match="no review"):
        await reviews.done(first.review_id, "ada", "no")


async def test_of_two_people_one_has_it(bench: Bench, reviews: ReviewStore) -> None:
    await bench.configure("review", ASKED, name="person")
    await store(bench.columnar, [Row(numbered(1))])
    assert await bench.watch() == 1
    taken = await reviews.take("ada")
    assert taken is not None and taken.taken_by == "ada"
    assert await reviews.take("bob") is None
    with pytest.raises(Conflict, match="ada has"):
        await reviews.take("bob", review_id=taken.review_id)
    with pytest.raises(Conflict, match="ada has"):
        await reviews.done(taken.review_id, "bob", "yes")
    with pytest.raises(Conflict, match="ada has"):
        await reviews.release(taken.review_id, "bob")
    for value in ("maybe", True, 1, None):
        with pytest.raises(Invalid, match="one of yes, no"):
            await reviews.done(taken.review_id, "ada", value)
    await bench.pool.execute("UPDATE reviews SET taken_until = now() - interval '1 second'")
    again = await reviews.take("bob")
    assert again is not None and again.taken_by == "bob"
    await reviews.release(again.review_id, "bob")
    assert (await reviews.get(again.review_id)).taken_by == ""
    with pytest.raises(Invalid, match="reviewer"):
        await reviews.take(" ")


async def test_what_comes_while_a_person_thinks_is_asked_after(bench: Bench, reviews: ReviewStore) -> None:
    await bench.configure("review", ASKED, name="person")
    await store(bench.columnar, [Row(numbered(1), seen_ago=50, written_ago=50)])
    await bench.watch()
    taken = await reviews.take("ada")
    assert taken is not None
    await store(bench.columnar, [Row(numbered(1), seen_ago=0, written_ago=0, span_id="00000000000000aa")])
    assert await bench.watch() == 0
    first = await reviews.done(taken.review_id, "ada", "yes")
    [later] = await reviews.page()
    assert later.review_id == taken.review_id and later.taken_by == "" and later.seen_ns > taken.seen_ns
    second = await reviews.done(later.review_id, "bob", "no")
    assert (second.assessment_id, second.value) == (first.assessment_id, "no")
    assert await reviews.page() == []
    assert await bench.coverage("person") == {"finished": 1, "scored": 1}


async def test_a_full_queue_pauses_its_own_look(
    bench: Bench, reviews: ReviewStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "MAX_WAITING_REVIEWS", 2)
    await bench.configure("review", ASKED, name="person")
    await store(bench.columnar, [Row(numbered(1)), Row(numbered(2))])
    assert await bench.watch() == 2
    await bench.configure()
    await store(bench.columnar, [Row(numbered(3), seen_ago=0, written_ago=0)])
    assert await bench.watch() == 3  # the jobs of the other scorer
    for review in await reviews.page():
        await reviews.done(review.review_id, "ada", "yes")
    assert await bench.watch() == 1


async def test_a_person_is_no_member_of_an_ensemble(bench: Bench) -> None:
    setup = OnlineSetup(bench.scorers, ExperimentStore(bench.pool, 10), bench.columnar)
    await bench.scorers.define(define("person", "review", ASKED))
    await bench.scorers.define(define("plain", "error", {}))
    members = [{"name": "person", "version": 1}, {"name": "plain", "version": 1}]
    document = {"name": "both", "kind": "ensemble", "parameters": {"combine": "all", "members": members}}
    with pytest.raises(Invalid, match="a question to a person"):
        await setup.define(document)


def test_what_a_person_types_is_read_by_the_form_of_the_answer() -> None:
    number = NumberVerdict(type="number", minimum=1, maximum=5)
    category = CategoryVerdict(type="category", categories=("1", "true"))
    assert answer_from_text(BoolVerdict(type="bool"), "true") is True
    assert answer_from_text(number, "4") == 4
    assert answer_from_text(category, "true") == "true"
    assert answer_from_text(TextVerdict(type="text"), "4") == "4"
    for verdict, text in ((BoolVerdict(type="bool"), "yes"), (number, "6"), (number, "four"), (category, "2")):
        with pytest.raises(Invalid, match="value"):
            answer_from_text(verdict, text)
