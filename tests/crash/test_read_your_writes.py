"""What was acknowledged is found at once, by the API and on the page, also under load (C12)."""

import asyncio
from collections.abc import Callable

import httpx
import pytest

from support.load import Senders, grpc_sender, request, requests
from support.program import Program

READERS = 10
EACH = 20


@pytest.mark.timeout(200)
async def test_an_acknowledged_trace_is_found_at_once_under_load(make_program: Callable[..., Program]) -> None:
    # How long a read waits is bounded; how fast this machine stores is not what is asked here.
    program = make_program(read_wait_ms=60_000)
    senders = Senders(program, pause=0.01)
    await program.start()
    await senders.start()
    found = await asyncio.gather(*(_read_own_writes(program, 50 + number) for number in range(READERS)))
    await senders.stop()
    assert found == [EACH] * READERS
    assert senders.account.spans > 100


async def _read_own_writes(program: Program, seed: int) -> int:
    send, close = grpc_sender(program)
    stream = requests(seed, traces=1)
    async with httpx.AsyncClient(base_url=program.main, timeout=90, follow_redirects=True) as http:
        for number in range(EACH):
            spans = [*next(stream).spans, *next(stream).spans]
            trace_id = spans[0].trace_id.hex()
            await send(request(spans).data)
            if number % 2:
                answer = await http.get("/api/3.0/mlflow/traces/get", params={"trace_id": f"tr-{trace_id}"})
                assert answer.status_code == 200, answer.text
                assert len(answer.json()["trace"]["spans"]) == len(spans)
            else:
                page = await http.get(f"/traces/{trace_id}")
                assert page.status_code == 200, page.text
                assert trace_id in str(page.url)
                assert page.text.count("chat model") >= len(spans) - 1
    await close()
    return EACH
