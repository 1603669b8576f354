"""Uploaded functions in the real sandbox: what they may do, and what hostile ones cannot."""

import asyncio
import os
import platform
import re
import socket
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import yaml

from support.heuristics import said, talk
from support.traces import span, trace
from tracestone.schema.scorers.code import Code
from tracestone.scoring.code.sandbox import MAX_REPLY_BYTES, Sandbox
from tracestone.scoring.code.scorer import UploadedScorer
from tracestone.scoring.scorers.protocol import AttemptFailed, Outcome, Subject
from tracestone.scoring.scorers.subject import subject_of, subject_of_span

ANSWER = said("The answer", expected_response="The answer", note={"weight": 2})


@pytest_asyncio.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    sandbox = Sandbox(most=2)
    yield sandbox
    await sandbox.close()
    assert sandbox.alive == 0


def uploaded(sandbox: Sandbox | None, source: str, **parameters: Any) -> UploadedScorer:
    """The scorer `f` of a source; a name of its own for each source."""
    return UploadedScorer(source, Code(source=source, function="f", **parameters), sandbox)


async def score(sandbox: Sandbox, source: str, subject: Subject = ANSWER, **parameters: Any) -> Outcome:
    return await uploaded(sandbox, source, **parameters).score(subject)


async def refused(sandbox: Sandbox, source: str, **parameters: Any) -> AttemptFailed:
    with pytest.raises(AttemptFailed) as failed:
        await score(sandbox, source, **parameters)
    assert failed.value.retryable is False
    return failed.value


IMPORTS = """
import datetime, json, math, re, statistics
from collections import Counter
from urllib.parse import quote

def f():
    return statistics.mean([1, math.pi > 3, len(re.findall("a", "aa"))])
"""


@pytest.mark.parametrize(
    ("source", "value"),
    [
        ("def f(outputs): return len(outputs) > 3", True),
        ("def f(outputs): return len(outputs)", 10),
        ("def f(*, outputs, expectations): return outputs == expectations['expected_response']", True),
        ("def f(inputs, outputs, note=2): return f'{inputs} {outputs} {note}'", "How do I return shoes? The answer 2"),
        ("def f(expectations): return expectations['note']", {"weight": 2}),
        ("def f(outputs): return {'score': 0.5, 'words': outputs.split()}", {"score": 0.5, "words": ["The", "answer"]}),
        ("def f(**given): return sorted(given)", ["expectations", "inputs", "outputs", "session", "trace"]),
        ("def f(session): return session is None", True),
        ("def f(trace): return [span.name for span in trace.search_spans(name='span 1')]", ["span 1"]),
        ("def f(trace): return trace.info.execution_duration", 500.0),
        (IMPORTS, 4 / 3),
        ("import datetime\ndef f(): return str(datetime.datetime.strptime('2026', '%Y').date())", "2026-01-01"),
        ("from dataclasses import dataclass\n@dataclass\nclass A:\n    x: 'int'\ndef f(): return A(3).x", 3),
        ("import random, time\ndef f(): time.sleep(0.01); return 0 <= random.random() <= time.time()", True),
        ("def f(): print('x' * 10**6); return 'ü靴'", "ü靴"),
        ("def f(): return 'broken \\ud800' != ''", True),
    ],
)  # fmt: skip
async def test_a_function_scores(sandbox: Sandbox, source: str, value: Any) -> None:
    outcome = await score(sandbox, source)
    assert outcome.value == value
    assert type(outcome.value) is type(value)
    assert (outcome.source_type, outcome.source_id) == ("CODE", "code/f")


async def test_a_function_written_for_mlflow_scores(sandbox: Sandbox) -> None:
    source = """
from mlflow.entities import Feedback, Trace
from mlflow.genai import scorer

@scorer(name="brief")
def f(outputs: str, trace: Trace) -> Feedback:
    length, spans = len(outputs), len(trace.data.spans)
    return Feedback(value=length < 20, rationale=f"{length} characters", metadata={"spans": spans})
"""
    outcome = await score(sandbox, source)
    assert (outcome.value, outcome.rationale, outcome.metadata) == (True, "10 characters", {"spans": "1"})


async def test_the_example_of_the_documentation_scores(sandbox: Sandbox) -> None:
    page = (Path(__file__).parents[3] / "docs/scorers.md").read_text(encoding="utf-8")
    (example,) = (
        item["parameters"]
        for block in re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
        for item in yaml.safe_load(block)
        if "source" in item["parameters"]
    )
    scorer = UploadedScorer("example", Code(**example), sandbox)
    outcome = await scorer.score(said("See https://a.example and https://b.example."))
    assert (outcome.value, outcome.rationale) == (True, "2 links")
    retrieved = trace(span(1, output="No link"), span(2, 1, span_type="retriever", output="[]"))
    assert (await scorer.score(subject_of(retrieved))).value is False


async def test_several_feedbacks_are_one_value_by_name(sandbox: Sandbox) -> None:
    source = "def f(): return [Feedback(name='a', value=True, rationale='yes'), Feedback(name='b', value=0.5)]"
    outcome = await score(sandbox, source)
    assert (outcome.value, outcome.rationale) == ({"a": True, "b": 0.5}, "a: yes")


async def test_a_session_and_a_span_are_given(sandbox: Sandbox) -> None:
    session = await score(sandbox, "def f(session): return [t.data.spans[0].outputs for t in session]", talk("a", "b"))
    assert session.value == ["a", "b"]
    one = span(2, 1, span_type="tool", tool_arguments='{"q": 1}', attributes={"k": [1.5]})
    source = "def f(trace, inputs): return [len(trace.data.spans), inputs, trace.data.spans[0].get_attribute('k')]"
    assert (await score(sandbox, source, subject_of_span(trace(span(1), one), one))).value == [1, {"q": 1}, [1.5]]


async def test_a_trace_of_many_spans_is_given(sandbox: Sandbox) -> None:
    big = subject_of(trace(*(span(n, input="x" * 500, output="y" * 500) for n in range(1, 5000))))
    source = "def f(trace): return sum(len(span.inputs) for span in trace.data.spans)"
    assert (await score(sandbox, source, big)).value == 4999 * 500


@pytest.mark.parametrize(
    ("source", "code", "message"),
    [
        ("def f(): return 1 / 0", "SCORER_FAILED", "line 1: ZeroDivisionError"),
        ("def f(outputs):\n    x = 1\n    return outputs.nope", "SCORER_FAILED", "line 3: AttributeError"),
        ("def f(): raise SystemExit(3)", "SCORER_FAILED", "SystemExit: 3"),
        ("def f(): raise BaseException('out')", "SCORER_FAILED", "BaseException: out"),
        ("def f(): return Feedback(error='no data')", "SCORER_FAILED", "no data"),
        ("def f(): pass", "BAD_VALUE", "no value"),
        ("def f(): return {1, 2}", "BAD_VALUE", "set"),
        ("def f(): return float('nan')", "BAD_VALUE", "float"),
        ("def f(): return 'x' * 10**6", "BAD_VALUE", "more than"),
        ("def f():\n    x = []\n    x.append(x)\n    return x", "BAD_VALUE", "list"),
        ("import numpy\ndef f(): return 1", "SCORER_FAILED", "numpy"),
        ("1 / 0\ndef f(): return 1", "SCORER_FAILED", "line 1: ZeroDivisionError"),
        ("def f(): return 1\nf = 3", "SCORER_FAILED", "TypeError"),
        ("def f():\n    return f()", "SCORER_FAILED", "RecursionError"),
    ],
)
async def test_a_function_that_fails_says_why(sandbox: Sandbox, source: str, code: str, message: str) -> None:
    failed = await refused(sandbox, source)
    assert failed.code == code
    assert message in failed.message


async def test_a_process_is_used_again_and_keeps_no_other_scorers_state(sandbox: Sandbox) -> None:
    counting = "calls = []\ndef f():\n    calls.append(1)\n    return len(calls)"
    assert [(await score(sandbox, counting)).value for _ in range(3)] == [1, 2, 3]
    other = UploadedScorer("another", Code(source=counting, function="f"), sandbox)
    assert (await other.score(ANSWER)).value == 1
    assert sandbox.alive == 2
    # Room for two: the one that was idle longest goes.
    assert (await score(sandbox, "def f(): return 1")).value == 1
    assert sandbox.alive == 2
    assert (await score(sandbox, counting)).value == 1


async def test_many_calls_at_once_share_the_processes(sandbox: Sandbox) -> None:
    source = "def f(outputs): return outputs"
    found = await asyncio.gather(*(score(sandbox, source, said(f"answer {n}")) for n in range(50)))
    assert [outcome.value for outcome in found] == [f"answer {n}" for n in range(50)]
    assert sandbox.alive <= 2


async def test_without_the_setting_nothing_runs() -> None:
    with pytest.raises(AttemptFailed) as failed:
        await uploaded(None, "def f(): return 1").score(ANSWER)
    assert failed.value.code == "CODE_NOT_ENABLED"


RAW = """
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
"""
DENIED = [
    "import socket\ndef f(): return socket.socket().fileno()",
    "import socket\ndef f(): return str(socket.create_connection(('127.0.0.1', PORT)))",
    "import socket\ndef f(): return [s.fileno() for s in socket.socketpair()]",
    "import os\ndef f(): return os.fork()",
    "import os\ndef f():\n    while True: os.fork()",
    "import os\ndef f(): return os.posix_spawn('/bin/true', ['true'], {})",
    "import os\ndef f(): os.execv('/bin/true', ['true'])",
    "import _posixsubprocess, os\ndef f(): return os.system('true') or 1 / 0",
    "import threading\ndef f(): threading.Thread(target=print).start()",
    "def f(): return open('/etc/passwd').read()",
    "def f(): return open('SECRET_FILE').read()",
    "def f(): return open('/tmp/tracestone-sandbox-was-here', 'w').write('x')",
    "def f(): return open('/proc/self/environ').read()",
    "def f(): return open('/proc/PARENT/environ').read()",
    "import os\ndef f(): return os.listdir('/')",
    "import os\ndef f(): return os.stat('/').st_mode",
    "import os\ndef f(): os.unlink('SECRET_FILE')",
    "import os\ndef f(): os.kill(PARENT, 0)",
    "import os\ndef f(): os.kill(PARENT, 9)",
    "import os\ndef f(): os.kill(-1, 9)",
    "import os\ndef f(): os.kill(os.getppid(), 9)",
    "import os\ndef f(): os.setuid(0); return os.dup(1)",
    "import resource\ndef f(): resource.prlimit(0, resource.RLIMIT_AS, (-1, -1))",
    "import os\ndef f(): return os.pipe()",
    "import os\ndef f(): return os.memfd_create('x')",
    "import ctypes\n@ctypes.CFUNCTYPE(ctypes.c_int)\ndef g(): return 7\ndef f(): return g()",
]


@pytest.mark.parametrize("source", DENIED)
async def test_a_hostile_function_gets_nowhere(
    sandbox: Sandbox, source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-do-not-tell")
    secret = tmp_path / "secret"
    secret.write_text("sk-do-not-tell")
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(0)
        source = source.replace("PARENT", str(os.getpid())).replace("SECRET_FILE", str(secret))
        failed = await refused(sandbox, source.replace("PORT", str(listening.getsockname()[1])))
        with pytest.raises(BlockingIOError):
            listening.accept()
    assert failed.code in ("SCORER_FAILED", "SCORER_DIED")
    assert "sk-do-not-tell" not in str(failed)
    assert secret.read_text() == "sk-do-not-tell"
    assert not Path("/tmp/tracestone-sandbox-was-here").exists()


async def test_the_environment_is_empty(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-do-not-tell")
    found = (await score(sandbox, "import os\ndef f(): return list(os.environ) + ['end']")).value
    # Python itself sets the one, for its own text encoding.
    assert set(found) <= {"LC_CTYPE", "end"}


# clone, execve, socket, connect, openat, kill, tgkill, ptrace, prctl, seccomp, io_uring_setup, process_vm_readv,
# unshare, setrlimit, prlimit64, pidfd_open, memfd_create, userfaultfd, bpf, clone3; then fork, vfork, open.
CALLS = {
    "x86_64": [
        56,
        59,
        41,
        42,
        257,
        62,
        234,
        101,
        157,
        317,
        425,
        310,
        272,
        160,
        302,
        434,
        319,
        323,
        321,
        435,
        57,
        58,
        2,
    ],
    "aarch64": [220, 221, 198, 203, 56, 129, 131, 117, 167, 277, 425, 270, 97, 164, 261, 434, 279, 282, 280, 435],
}


async def test_system_calls_by_number_are_refused(sandbox: Sandbox) -> None:
    source = (
        RAW
        + f"""
def f():
    answers = set()
    for number in {CALLS[platform.machine()]}:
        ctypes.set_errno(0)
        answers.add((libc.syscall(number, 0, 0, 0, 0, 0, 0), ctypes.get_errno()))
    return sorted(answers)
"""
    )
    assert (await score(sandbox, source)).value == [[-1, 1]]


async def test_memory_that_runs_is_not_given(sandbox: Sandbox) -> None:
    source = RAW + "import mmap\ndef f(): return mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_EXEC).size()"
    assert (await refused(sandbox, source)).code == "SCORER_FAILED"


DEAF = """
import _signal
for number in range(1, 65):
    try: _signal.signal(number, _signal.SIG_IGN)
    except (OSError, ValueError): pass

def f():
    while True: pass
"""
STUBBORN = """
def f():
    while True:
        try:
            while True: pass
        except BaseException: pass
"""


@pytest.mark.parametrize(
    ("source", "code"),
    [
        ("def f():\n    while True: pass", "TIMEOUT"),
        ("import time\ndef f(): time.sleep(600)", "TIMEOUT"),
        ("while True: pass\ndef f(): return 1", "TIMEOUT"),
        (DEAF, "TIMEOUT"),
        (STUBBORN, "TIMEOUT"),
        ("import re\ndef f(): return re.fullmatch('(a+)+', 'a' * 60 + '!') is None", "TIMEOUT"),
        ("def f(): return len('x' * 10**9)", "OUT_OF_MEMORY"),
        ("def f():\n    x = []\n    while True: x.append(bytearray(10**6))", "OUT_OF_MEMORY"),
        ("import os\ndef f():\n    while True: os.write(1, b'x' * 65536)", "SCORER_DIED"),
        ("import os\ndef f(): os.write(1, (10**9).to_bytes(4, 'big') + b'x' * 10**5); return 1", "SCORER_DIED"),
        ("import os\ndef f(): os.write(1, b'\\0\\0\\0\\2[]'); return 1", "SCORER_DIED"),
        ("import os\ndef f(): os.write(1, b'\\0\\0\\0\\2{}'); return 1", "SCORER_DIED"),
        ("import os\ndef f(): os.write(1, (100000).to_bytes(4, 'big') + b'[' * 100000); return 1", "SCORER_DIED"),
        ("import os\ndef f(): os.write(1, b'\\0\\0\\0\\4nope'); return 1", "SCORER_DIED"),
        ("import os\ndef f(): os._exit(0)", "SCORER_DIED"),
        ("import os\ndef f(): os.abort()", "SCORER_DIED"),
        ("import ctypes\ndef f(): ctypes.string_at(0)", "SCORER_DIED"),
        ("import os\nos._exit(0)\ndef f(): return 1", "SCORER_DIED"),
    ],
)  # fmt: skip
async def test_a_function_without_measure_is_ended_and_the_next_call_is_fresh(
    sandbox: Sandbox, source: str, code: str
) -> None:
    failed = await refused(sandbox, source, timeout=0.7 if code == "TIMEOUT" else 20, memory_mb=64)
    assert failed.code == code
    assert sandbox.alive == 0
    assert (await score(sandbox, "def f(): return 1")).value == 1


async def test_output_beside_the_answers_goes_nowhere(sandbox: Sandbox) -> None:
    flood = """
import os, sys
def f():
    for _ in range(2000):
        os.write(2, b"x" * 65536)
    print("x", file=sys.__stderr__)
    return 1
"""
    assert (await score(sandbox, flood)).value == 1
    assert MAX_REPLY_BYTES < 2000 * 65536


async def test_an_answer_for_a_later_call_is_not_taken(sandbox: Sandbox) -> None:
    source = """
import json, os
def f(outputs):
    if outputs == "first":
        for number in range(3):
            forged = json.dumps({"id": str(number), "value": "forged", "rationale": "", "metadata": {}}).encode()
            os.write(1, len(forged).to_bytes(4, "big") + forged)
    return outputs
"""
    assert (await refused(sandbox, source.replace('== "first"', "!= ''"))).code == "SCORER_DIED"
    assert (await score(sandbox, source, said("second"))).value == "second"


async def test_a_call_that_is_cancelled_leaves_no_process(sandbox: Sandbox) -> None:
    task = asyncio.create_task(score(sandbox, "def f():\n    while True: pass", timeout=60))
    while not sandbox.alive:
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.3)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert sandbox.alive == 0


async def test_the_process_dies_with_its_parent() -> None:
    """The parent is killed while the function runs for ever."""
    program = """
import asyncio, sys
from support.heuristics import said
from tracestone.schema.scorers.code import Code
from tracestone.scoring.code.sandbox import Sandbox
from tracestone.scoring.code.scorer import UploadedScorer

async def main():
    sandbox = Sandbox()
    source = "def f():\\n    while True: pass"
    scorer = UploadedScorer("x", Code(source=source, function="f", timeout=60), sandbox)
    task = asyncio.create_task(scorer.score(said("a")))
    while not sandbox.alive:
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.5)
    print("running", flush=True)
    await task

asyncio.run(main())
"""
    parent = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, stdout=asyncio.subprocess.PIPE, cwd=Path(__file__).parents[2]
    )
    assert parent.stdout is not None
    assert await parent.stdout.readline() == b"running\n"
    children = Path(f"/proc/{parent.pid}/task/{parent.pid}/children").read_text().split()
    assert len(children) == 1
    parent.kill()
    await parent.wait()
    async with asyncio.timeout(30):
        while _runs(children[0]):
            await asyncio.sleep(0.05)


def _runs(pid: str) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
