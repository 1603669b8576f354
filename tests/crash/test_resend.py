"""A request that is sent again, because its answer got lost or a sender repeats itself, counts once (C2)."""

import asyncio

import pytest

from support.load import Account, check_exact, grpc_sender, http_sender, requests
from support.program import Program


@pytest.mark.timeout(200)
async def test_requests_sent_again_count_once(program: Program) -> None:
    account = Account()
    stream = requests(7)
    sent = [next(stream) for _ in range(12)]
    await program.start()
    await _send(program, *(each.data for each in sent))
    for each in sent:
        account.acknowledge(each)
    await _send(program, *(each.data for each in sent))  # in the same process, some in the same batch
    await _send(program, *[sent[0].data] * 16)  # at the same time
    await check_exact(program, account)
    assert await program.terminate() == 0
    await program.start()
    await _send(program, *(each.data for each in sent))  # across a restart
    await program.kill()
    await program.start()
    await _send(program, *(each.data for each in sent))  # across a kill
    last = next(stream)
    await _send(program, last.data)
    account.acknowledge(last)
    await check_exact(program, account)
    assert await program.terminate() == 0


async def _send(program: Program, *bodies: bytes) -> None:
    """Sends all at once, each over gRPC or HTTP, and waits until all are acknowledged."""
    senders = [grpc_sender(program), http_sender(program)]
    await asyncio.gather(*(senders[number % 2][0](body) for number, body in enumerate(bodies)))
    for _, close in senders:
        await close()
