"""The same in large numbers, with the limits as they are by default; what is seen is printed (`pytest -m slow -s`)."""

import pytest

from support import attacks
from support.attacks import Attack
from support.watched import MIB, Watched


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    ("attack", "number"),
    [
        pytest.param(attacks.idle_connections, 10_000, id="idle connections"),
        pytest.param(attacks.slow_headers, 5000, id="slow headers"),
        pytest.param(attacks.slow_bodies, 3000, id="slow bodies"),
        pytest.param(attacks.large_bodies_without_end, 40, id="large bodies"),
        pytest.param(attacks.bombs_over_http, 400, id="bombs over HTTP"),
        pytest.param(attacks.bombs_over_grpc, 400, id="bombs over gRPC"),
        pytest.param(attacks.open_streams, 40_000, id="open streams"),
        pytest.param(attacks.rapid_reset, 500_000, id="rapid reset"),
        pytest.param(attacks.frame_floods, 10_000_000, id="floods of frames"),
        pytest.param(attacks.large_headers, 2000, id="large headers"),
        pytest.param(attacks.heavy_spans, 30, id="heavy spans"),
        pytest.param(attacks.tiny_requests, 1_000_000, id="tiny requests"),
    ],
)
async def test_others_are_served(up: Watched, attack: Attack, number: int) -> None:
    seen = await up.during(attack, number)
    print(f"{attack.__name__} {number}: {seen}")
    assert seen.silence < 20, seen
    assert seen.memory_most < 3072 * MIB, seen
