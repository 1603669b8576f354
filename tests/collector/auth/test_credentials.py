"""Every place where a key may stand, on both transports."""

import base64

import pytest

from tracestone.collector.auth import credentials
from tracestone.schema import keys

KEY = "ts_0123456789abcdef_" + "fedcba9876543210" * 4  # the same in every test process: it is in names of tests


def _basic(text: str) -> str:
    return "Basic " + base64.b64encode(text.encode()).decode()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("authorization", f"Bearer {KEY}"),
        ("authorization", f"bearer  {KEY} "),
        ("authorization", f"Bearer%20{KEY}"),
        ("authorization", KEY),
        ("authorization", _basic(f"anyone:{KEY}")),
        ("authorization", _basic(f":{KEY}")),
        ("authorization", _basic(f"{KEY}:")),
        ("authorization", _basic(KEY)),
        ("authorization", _basic(f"pk-lf-1234:{KEY}")),
        ("authorization", _basic(f":{KEY}").replace(" ", "%20")),
        ("x-api-key", KEY),
    ],
)
def test_where_a_key_stands(name: str, value: str) -> None:
    assert credentials.in_headers([(b"host", b"x"), (name.encode(), value.encode())]) == KEY
    assert credentials.in_metadata([("user-agent", "grpc"), (name, value)]) == KEY


@pytest.mark.parametrize(
    "value",
    ["", "Bearer", "Basic", "Basic %%%", "Basic /w==", "Bearer \xff", "Digest username=x", "Bearer " + "x" * 100_000],
)
def test_what_is_no_key(value: str) -> None:
    found = credentials.in_headers([(b"authorization", value.encode("latin-1"))])
    assert keys.key_id_of(found) == ""
    assert credentials.in_metadata([("authorization", value)]) == found


def test_a_key_is_found_beside_what_is_none() -> None:
    """As where a proxy in front asks for credentials of its own."""
    headers = [(b"authorization", b"Bearer of-the-proxy"), (b"x-api-key", KEY.encode())]
    assert credentials.in_headers(headers) == KEY
    assert credentials.in_headers(headers[::-1]) == KEY
    assert credentials.in_headers([]) == ""
