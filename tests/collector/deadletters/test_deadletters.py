"""What was given up is listed, shown, sent again and dropped; sending again loses nothing and counts nothing twice."""

import asyncio
import json
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from support.faulty_columnar import ClosedColumnar, PickyColumnar
from support.load import Account, Here, Request, check_exact, grpc_sender, request, requests
from support.running import Running, running
from tracestone.collector.deadletters import commands, replay
from tracestone.collector.ingest import backoff
from tracestone.collector.wal.cursor import Cursor
from tracestone.collector.wal.filesystem import RealFilesystem
from tracestone.schema.engines.columnar import Columnar
from tracestone.schema.engines.postgres import Pool
from tracestone.schema.settings import Settings

MARK = b"the store refuses this"


@pytest_asyncio.fixture
async def picky(columnar: Columnar) -> AsyncIterator[PickyColumnar]:
    """A store that can be told to refuse something."""
    store = PickyColumnar(columnar.url, database=columnar.database)
    await store.open()
    yield store
    await store.close()


@pytest_asyncio.fixture
async def closable(columnar: Columnar) -> AsyncIterator[ClosedColumnar]:
    """A store that can be closed."""
    store = ClosedColumnar(columnar.url, database=columnar.database)
    await store.open()
    yield store
    await store.close()


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """All that waits looks again soon."""
    monkeypatch.setattr(backoff, "_FIRST_SECONDS", 0.02)
    monkeypatch.setattr(backoff, "_LAST_SECONDS", 0.1)
    monkeypatch.setattr(replay, "_LOOK_SECONDS", 0.02)
    monkeypatch.setattr(commands, "_LOOK_SECONDS", 0.05)


class Terminal:
    """The commands on one data folder, as typed there."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self._settings = Settings(data_dir=folder)
        self._capsys = capsys
        self.error = ""

    async def letters(self) -> list[dict]:
        """What `list --json` prints."""
        return [json.loads(line) for line in await self._lines(commands.list_letters, as_json=True)]

    async def some_letters(self) -> list[dict]:
        """The same, as soon as there are any."""
        async with asyncio.timeout(30):
            while not (letters := await self.letters()):
                await asyncio.sleep(0.05)
        return letters

    async def show(self, name: str) -> list[dict]:
        """What `show` prints."""
        return [json.loads(line) for line in await self._lines(commands.show_letter, name, most=100)]

    async def replay(self, *names: str) -> list[str]:
        """What `replay` prints; without names, `--all`."""
        return await self._lines(commands.replay_letters, names, everything=not names)

    async def drop(self, *names: str, sure: bool) -> list[str]:
        """What `drop` prints."""
        return await self._lines(commands.drop_letters, names, everything=not names, sure=sure)

    async def _lines(self, command, *arguments, **options) -> list[str]:
        self._capsys.readouterr()
        code = await asyncio.to_thread(command, self._settings, *arguments, **options)
        out, self.error = self._capsys.readouterr()
        assert (code == 0) == ("tracestone: " not in self.error), self.error
        return out.splitlines()


@pytest.fixture
def terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """A terminal whose data folder is the test's; the collectors here do not take the lock that `up` takes."""
    monkeypatch.setattr(commands, "is_held", lambda folder: True)
    return Terminal(tmp_path, capsys)


async def test_refused_spans_are_shown_and_sent_again_and_count_once_however_often(
    pool: Pool, picky: PickyColumnar, tmp_path: Path, terminal: Terminal
) -> None:
    spans = list(next(requests(5, traces=4, calls=6)).spans)
    bad = Span(trace_id=spans[0].trace_id, span_id=b"bad span", parent_span_id=b"a parent", name=MARK.decode())
    for name in ("gen_ai.usage.input_tokens", "gen_ai.usage.output_tokens"):
        bad.attributes.add(key=name).value.int_value = 3
    bad.start_time_unix_nano = spans[0].start_time_unix_nano
    bad.end_time_unix_nano = spans[0].end_time_unix_nano
    picky.refuses_insert = lambda payload: 70 if MARK in payload else None
    async with running(pool, picky, tmp_path) as here:
        account = await _sent(here, request([*spans[:5], bad, *spans[5:]]), counted=request(spans))
        await check_exact(Here(here), account)
        (letter,) = await terminal.letters()
        assert {key: letter[key] for key in ("kind", "signal", "items", "asked", "failed")} == {
            "kind": "refused",
            "signal": "traces",
            "items": 1,
            "asked": False,
            "failed": "",
        }
        assert "refused by the test" in letter["reasons"][0]
        _, shown = await terminal.show(letter["name"])
        assert shown["span"]["spanId"] == b"bad span".hex()
        assert shown["span"]["traceId"] == spans[0].trace_id.hex()
        assert shown["span"]["name"] == MARK.decode()
        assert shown["resource"]["attributes"] == [{"key": "service.name", "value": {"stringValue": "crash"}}]

        # The store still refuses it: it comes back as another letter, and nothing is lost.
        assert await terminal.replay(letter["name"]) == [f"{letter['name']}: sent again"]
        (again,) = await terminal.some_letters()
        assert again["items"] == 1
        assert again["name"] != letter["name"]

        picky.refuses_insert = lambda payload: None
        shutil.copytree(tmp_path / "deadletter", tmp_path / "copy")
        assert await terminal.replay() == [f"{again['name']}: sent again"]
        account.acknowledge(request([bad]))
        await check_exact(Here(here), account)
        assert list((tmp_path / "deadletter").iterdir()) == []

        shutil.copytree(tmp_path / "copy", tmp_path / "deadletter", dirs_exist_ok=True)
        assert await terminal.replay() == [f"{again['name']}: sent again"]
        await here.collector.barrier()
        await check_exact(Here(here), account)
        assert await terminal.letters() == []


async def test_what_is_refused_again_after_a_crash_in_another_batch_is_one_letter(
    pool: Pool, picky: PickyColumnar, tmp_path: Path, terminal: Terminal
) -> None:
    several = requests(9, traces=1, calls=3, text_bytes=20_000)
    good = [next(several) for _ in range(3)]
    bad = Span(trace_id=b"trace of bad one", span_id=b"bad span", name=MARK.decode(), start_time_unix_nano=1)
    picky.refuses_insert = lambda payload: 210  # as when the network fails, so everything waits in the log
    async with running(pool, picky, tmp_path) as here:
        for each in (good[0], request([bad]), *good[1:]):
            await _sent(here, each)
    _forget_batches(tmp_path / "wal" / "traces")
    shutil.copytree(tmp_path / "wal", tmp_path / "wal before")

    account = Account()
    for each in good:
        account.acknowledge(each)
    picky.refuses_insert = lambda payload: 70 if MARK in payload else None
    names = []
    for batch_max_bytes in (1024, 1 << 20):  # each request by itself; all at once
        async with running(pool, picky, tmp_path, batch_max_bytes=batch_max_bytes) as here:
            await check_exact(Here(here), account)
            assert await here.collector.barrier(("traces",)) is None
        names.append([(letter["name"], letter["items"]) for letter in await terminal.letters()])
        shutil.rmtree(tmp_path / "wal")
        shutil.copytree(tmp_path / "wal before", tmp_path / "wal")
    assert len(names[0]) == 1 and names[0] == names[1]
    # unless it is about to go: then what comes again is kept
    (tmp_path / "deadletter" / f"{names[0][0][0]}.json").unlink()
    async with running(pool, picky, tmp_path) as here:
        await check_exact(Here(here), account)
        assert await here.collector.barrier(("traces",)) is None
    (letter,) = await terminal.letters()
    assert letter["items"] == 1 and letter["name"] != names[0][0][0]


async def test_what_is_asked_for_while_nothing_runs_is_sent_at_the_next_start(
    pool: Pool, picky: PickyColumnar, tmp_path: Path, terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    picky.refuses_insert = lambda payload: 70
    async with running(pool, picky, tmp_path) as here:
        account = await _sent(here, next(requests(6)))
        await terminal.some_letters()
    monkeypatch.undo()
    assert await terminal.replay() == ["1 letter(s) will be sent again when Tracestone starts"]
    assert [letter["asked"] for letter in await terminal.letters()] == [True]
    picky.refuses_insert = lambda payload: None
    async with running(pool, picky, tmp_path) as here:
        await check_exact(Here(here), account)
        assert await terminal.letters() == []


async def test_a_trace_that_could_not_be_computed_is_computed_when_its_notes_are_long_gone(
    pool: Pool, picky: PickyColumnar, tmp_path: Path, terminal: Terminal
) -> None:
    lost, good = next(requests(1, traces=1)), next(requests(2, traces=6))
    wanted = lost.spans[0].trace_id.hex()
    place = int((await picky.query("SELECT sipHash64({id:String}) AS hash", {"id": wanted}))[0]["hash"])

    def refuse(sql: str, parameters: object) -> int | None:
        assert isinstance(parameters, dict)
        shares = parameters.get("shares")
        return 70 if shares and place % shares == parameters["share"] else None

    picky.refuses_statement = refuse
    async with running(pool, picky, tmp_path, batch_max_age_ms=500) as here:
        account = await _sent(here, lost, good)
        (letter,) = await terminal.some_letters()
        assert letter["kind"] == "not computed"
        name = letter["name"]
        assert (await terminal.show(name))[1]["id"] == wanted
        (line,) = await terminal.replay(name)
        assert line.startswith(f"{name}: cannot be sent again: ")
        assert (await terminal.letters())[0]["failed"]
        await picky.query("TRUNCATE TABLE trace_touches")
        picky.refuses_statement = lambda sql, parameters: None
        assert await terminal.replay(name) == [f"{name}: sent again"]
        await check_exact(Here(here), account)
        assert await terminal.letters() == []


async def test_all_whole_records_of_a_damaged_segment_are_sent_again(
    pool: Pool, closable: ClosedColumnar, tmp_path: Path, terminal: Terminal
) -> None:
    sent = [next(requests(seed, traces=1)) for seed in range(5)]
    async with running(pool, closable, tmp_path) as here:
        closable.closed = True
        for each in sent:  # one after the other, so that each has a frame
            await _sent(here, each)
    (segment,) = (tmp_path / "wal" / "traces").glob("*.wal")
    content = bytearray(segment.read_bytes())
    content[content.index(sent[1].data) + 10] ^= 1
    segment.write_bytes(content)
    closable.closed = False
    name = f"traces/{segment.stem}"
    async with running(pool, closable, tmp_path) as here:
        account = Account()
        account.acknowledge(sent[0])
        await check_exact(Here(here), account)
        (letter,) = await terminal.some_letters()
        assert (letter["name"], letter["kind"]) == (name, "damaged segment")
        assert letter["reasons"] == ["the body of a frame is damaged"]
        assert len(await terminal.show(name)) == 1 + sum(len(sent[number].spans) for number in (0, 2, 3, 4))
        assert await terminal.replay() == [f"{name}: sent again"]
        for number in (2, 3, 4):
            account.acknowledge(sent[number])
        await check_exact(Here(here), account)
        assert [letter["kind"] for letter in await terminal.letters()] == ["salvaged segment"]
        assert await terminal.replay() == []
    assert await terminal.drop(sure=True) == [f"{name}: dropped"]
    assert list(segment.parent.glob("quarantine/*")) == []


@pytest.mark.parametrize("harm", ["gone", "damaged"])
async def test_a_letter_that_cannot_be_read_says_so_and_does_not_hold_up_the_others(
    pool: Pool, picky: PickyColumnar, tmp_path: Path, terminal: Terminal, harm: str
) -> None:
    picky.refuses_insert = lambda payload: 70
    async with running(pool, picky, tmp_path) as here:
        account = await _sent(here, next(requests(6)))
        (good,) = await terminal.some_letters()
        about = {"signal": "traces", "items": 3, "bytes": 7, "reasons": ["why"], "kept_at_ms": 5, "follow": None}
        (tmp_path / "deadletter" / "harmed.json").write_text(json.dumps(about))
        if harm == "damaged":
            (tmp_path / "deadletter" / "harmed.pb").write_bytes(b"\xff\xff\xff")
        picky.refuses_insert = lambda payload: None
        first, second = await terminal.replay()
        assert first.startswith("harmed: cannot be sent again: What it holds ")
        assert second == f"{good['name']}: sent again"
        await check_exact(Here(here), account)
        assert [letter["name"] for letter in await terminal.letters()] == ["harmed"]


@pytest.mark.parametrize(
    "note",
    [
        "[]",
        "7",
        "null",
        '"text"',
        "{",
        '{"signal": ["traces"]}',
        '{"signal": "traces", "kept_at_ms": "soon"}',
        '{"signal": "traces", "kept_at_ms": 1e300}',
        '{"signal": "traces", "reasons": 3}',
        '{"signal": "traces", "follow": {"batches": 1}}',
        '{"signal": "traces", "follow": []}',
    ],
)
async def test_a_note_that_is_none_costs_no_other_letter(tmp_path: Path, terminal: Terminal, note: str) -> None:
    letters, aside = tmp_path / "deadletter", tmp_path / "wal" / "traces" / "quarantine"
    for folder in (letters, aside):
        folder.mkdir(parents=True)
    about = {"signal": "traces", "items": 3, "bytes": 7, "reasons": ["why"], "kept_at_ms": 5, "follow": None}
    (letters / "good.json").write_text(json.dumps(about))
    (letters / "odd.json").write_text(note)
    (aside / "0001.wal").write_bytes(b"")
    (aside / "0001-5.json").write_text(note)
    found = {letter["name"]: letter for letter in await terminal.letters()}
    assert sorted(found) == ["good", "odd", "traces/0001"]
    assert found["odd"]["reasons"][0].startswith("its note cannot be read: ")
    assert found["traces/0001"]["reasons"] == ["its note could not be written"]
    assert (await terminal.show("odd"))[0]["name"] == "odd"
    assert await terminal.drop("odd", sure=True) == ["odd: dropped"]
    assert sorted(found) != sorted(letter["name"] for letter in await terminal.letters())


async def test_dropping_needs_to_be_said_twice(tmp_path: Path, terminal: Terminal) -> None:
    folder = tmp_path / "deadletter"
    folder.mkdir()
    about = {"signal": "traces", "items": 3, "bytes": 7, "reasons": ["why"], "kept_at_ms": 5, "follow": None}
    (folder / "one.json").write_text(json.dumps(about))
    (folder / "one.pb").write_bytes(b"payload")
    assert await terminal.drop(sure=False) == []
    assert terminal.error == "tracestone: 1 letter(s) with 7 bytes would be lost for good; say --yes to drop them\n"
    assert await terminal.drop("two", sure=True) == []
    assert "There is no dead letter 'two'" in terminal.error
    assert len(await terminal.letters()) == 1
    assert await terminal.drop("one", sure=True) == ["one: dropped"]
    assert list(folder.iterdir()) == []
    assert await terminal.drop(sure=True) == []


def _forget_batches(folder: Path) -> None:
    """Behind a long backlog a log's cursor has no room for all batches that were handed out; then they are cut anew."""
    cursor = Cursor(RealFilesystem(), folder)
    state = cursor.state
    assert state.batch_ends
    cursor.save(acknowledged=state.acknowledged, floor=state.floor, batch_ends=(), newest=state.newest)
    cursor.close()


async def _sent(here: Running, *sent: Request, counted: Request | None = None) -> Account:
    """Sends requests and gives the account of what must be stored."""
    send, close = grpc_sender(Here(here))
    await asyncio.gather(*(send(each.data) for each in sent))
    await close()
    account = Account()
    for each in sent if counted is None else (counted,):
        account.acknowledge(each)
    return account
