"""Hostile clients in small numbers: others are served meanwhile, and memory does not follow what the clients hold."""

import pytest

from support import attacks
from support.attacks import Attack
from support.watched import MIB, Watched

PLACES = 200


@pytest.fixture(scope="module")
def settings() -> dict[str, object]:
    """Few places and short times, so that small numbers are many."""
    return {"max_connections": PLACES, "max_header_seconds": 2, "max_body_seconds": 5, "max_idle_seconds": 10}


@pytest.mark.parametrize(
    ("attack", "number"),
    [
        pytest.param(attacks.idle_connections, 4 * PLACES, id="idle connections"),
        pytest.param(attacks.slow_headers, 2 * PLACES, id="slow headers"),
        pytest.param(attacks.slow_bodies, PLACES, id="slow bodies"),
        pytest.param(attacks.large_bodies_without_end, 8, id="large bodies"),
        pytest.param(attacks.bombs_over_http, 12, id="bombs over HTTP"),
        pytest.param(attacks.bombs_over_grpc, 12, id="bombs over gRPC"),
        pytest.param(attacks.tiny_requests, 6000, id="tiny requests"),
        pytest.param(attacks.open_streams, 1000, id="open streams"),
        pytest.param(attacks.rapid_reset, 5000, id="rapid reset"),
        pytest.param(attacks.frame_floods, 50_000, id="floods of frames"),
        pytest.param(attacks.large_headers, 20, id="large headers"),
        pytest.param(attacks.heavy_spans, 5, id="heavy spans"),
    ],
)
async def test_others_are_served(up: Watched, attack: Attack, number: int) -> None:
    seen = await up.during(attack, number)
    print(f"{attack.__name__} {number}: {seen}")
    assert seen.silence < 10, seen
    assert seen.memory_most < 2048 * MIB, seen
