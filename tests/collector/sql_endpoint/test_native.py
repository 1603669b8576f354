"""Native blocks framed for a protocol revision, against the engine's own bytes of each column."""

import httpx
import pytest

from support.sql_endpoint import Endpoint
from tracestone.collector.sql_endpoint.native import framed
from tracestone.collector.sql_endpoint.refusals import Refused

INFO = bytes.fromhex("01 00 02 ff ff ff ff 00")
COLUMNS = [
    "number",
    "toInt8(number) AS a",
    "toString(number) AS b",
    "repeat('x', number * 50) AS long",
    "toFixedString('abc', 5) AS c",
    "toFloat64(number) AS d",
    "if(number = 2, NULL, number) AS e",
    "nullIf(toString(number + 100), '101') AS f",
    "range(number) AS g",
    "arrayMap(x -> range(x), range(number)) AS h",
    "map(toString(number), number) AS i",
    "map('k', [toString(number), 'v']) AS j",
    "(number, 'x') AS k",
    "(number, ['x'])::Tuple(`a b` UInt8, `c, d)` Array(String)) AS l",
    "toLowCardinality(toString(number % 3)) AS m",
    "toLowCardinality(if(number = 1, NULL, 'x')) AS n",
    "[toLowCardinality('x'), toLowCardinality(toString(number))] AS o",
    "map(toLowCardinality('key'), toLowCardinality(toString(number))) AS p",
    "emptyArrayString() AS q",
    "CAST([] AS Array(LowCardinality(String))) AS r",
    "toDateTime64(1, 9, 'UTC') AS s",
    "toDate(number) AS t",
    "toDateTime(number) AS t2",
    "toDecimal32(number, 2) AS u",
    "toDecimal128(number, 10) AS v",
    "toUUID('00000000-0000-0000-0000-000000000001') AS w",
    "CAST('a', 'Enum8(\\'a\\' = 1, \\'b, )\\' = 2)') AS x",
    "toIPv4('1.2.3.4') AS y",
    "toIPv6('::1') AS z",
    "CAST(number, 'UInt256') AS aa",
    "number = 1 AS bb",
    "true AS cc",
    "toIntervalDay(number) AS dd",
    "CAST((1., 2.), 'Point') AS ee",
    "CAST([[(1., 2.)]], 'Polygon') AS ff",
    "NULL AS gg",
    "CAST([(1, 'x')], 'Nested(a UInt8, b String)') AS hh",
]


def varint(value: int) -> bytes:
    """A small number as Native writes it."""
    assert value < 0x80
    return bytes([value])


async def native(endpoint: Endpoint, columns: str, *, rows: int = 7) -> bytes:
    return (await endpoint.ask(f"SELECT {columns} FROM numbers({rows}) FORMAT Native")).body


async def test_each_column_ends_where_the_engine_ends_it(endpoint: Endpoint) -> None:
    """One column's bytes, asked alone, are what is found between two flags when all are asked together."""
    expected = INFO + varint(len(COLUMNS)) + varint(7)
    for column in COLUMNS:
        alone = await native(endpoint, column)
        assert alone[:2] == b"\x01\x07"
        name_ends = 3 + alone[2]
        header_ends = name_ends + 1 + alone[name_ends]
        expected += alone[2:header_ends] + b"\x00" + alone[header_ends:]
    assert framed(await native(endpoint, ", ".join(COLUMNS)), 54460) == expected


async def test_each_block_is_framed(endpoint: Endpoint) -> None:
    body = (
        await endpoint.ask("SELECT toUInt8(1) AS x FROM numbers(250) FORMAT Native SETTINGS max_block_size = 100")
    ).body
    assert framed(body, 54460).count(INFO) == body.count(b"\x01x\x05UInt8") >= 2


async def test_old_clients_get_the_engines_own_bytes(endpoint: Endpoint) -> None:
    body = await native(endpoint, "number")
    assert framed(body, 0) == framed(body, 54405) == body
    assert framed(b"", 54460) == b""


async def test_http_frames_for_the_revision_in_the_url(endpoint: Endpoint) -> None:
    async with httpx.AsyncClient() as http:
        ask = endpoint.url + "/?default_format=Native&query=SELECT%201%20AS%20x&client_protocol_version="
        assert (await http.get(ask + "54460")).content == INFO + b"\x01\x01\x01x\x05UInt8\x00\x01"
        assert (await http.get(ask + "0")).content == b"\x01\x01\x01x\x05UInt8\x01"
        assert (await http.get(ask + "-1")).content == b"\x01\x01\x01x\x05UInt8\x01"


async def test_what_cannot_be_framed_is_said(endpoint: Endpoint) -> None:
    body = await native(endpoint, "'{}'::JSON")
    with pytest.raises(Refused, match="type JSON cannot be answered in Native"):
        framed(body, 54460)
    body = await native(endpoint, "toString(number)")
    with pytest.raises(Refused, match="cannot be framed"):
        framed(body[:-1], 54460)
