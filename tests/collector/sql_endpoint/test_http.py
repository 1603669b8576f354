"""The protocol, asked by the clients people use: curl and an unmodified clickhouse-connect."""

import asyncio
import json
import subprocess
from collections.abc import Iterator
from datetime import datetime

import clickhouse_connect
import httpx
import lz4.frame
import pyarrow.parquet
import pytest
import pytest_asyncio
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import DatabaseError
from pyarrow import BufferReader

from support.sql_endpoint import Endpoint


async def curl(*arguments: str) -> tuple[int, str, str]:
    """Runs curl; the HTTP status, the headers and the body."""
    command = ["curl", "-sS", "--max-time", "20", "-D", "/dev/stderr", *arguments]
    done = await asyncio.to_thread(subprocess.run, command, capture_output=True, check=True)
    headers = done.stderr.decode()
    return int(headers.split()[1]), headers.lower(), done.stdout.decode()


@pytest_asyncio.fixture
async def client(endpoint: Endpoint) -> Iterator[Client]:
    """clickhouse-connect over HTTP, as its documentation says to open it."""
    found = await asyncio.to_thread(
        clickhouse_connect.get_client, host="127.0.0.1", port=endpoint.port, username="anyone", password="anything"
    )
    yield found
    found.close()


async def test_health(endpoint: Endpoint) -> None:
    for path in ("/ping", "/replicas_status", "/"):
        status, _, body = await curl(endpoint.url + path)
        assert (status, body) == (200, "Ok.\n")
    assert (await curl(endpoint.url + "/nothing"))[0] == 404


async def test_curl_asks_in_the_url_or_the_body(endpoint: Endpoint) -> None:
    _, headers, body = await curl("-G", endpoint.url, "--data-urlencode", "query=SELECT count() FROM spans")
    assert body == "30\n"
    assert "x-clickhouse-format: tabseparated" in headers
    assert "x-clickhouse-query-id: " in headers
    assert "x-clickhouse-server-display-name: tracestone" in headers
    assert '"read_rows":"30"' in headers or '"read_rows":"1"' in headers
    assert (await curl(endpoint.url, "-d", "SELECT count() FROM spans FORMAT JSONEachRow"))[2] == '{"count()":30}\n'
    assert (await curl(endpoint.url + "/?query=SELECT%201%2B", "-d", "2"))[2] == "3\n"
    assert (await curl(endpoint.url + "/?query_id=mine&query=SELECT%201"))[1].count("x-clickhouse-query-id: mine") == 1


async def test_the_format_comes_from_the_statement_the_url_or_a_header(endpoint: Endpoint) -> None:
    ask = "SELECT 1 AS one"
    assert (await curl(endpoint.url + "/?default_format=CSVWithNames", "-d", ask))[2] == '"one"\n1\n'
    assert (await curl(endpoint.url, "-H", "X-ClickHouse-Format: CSV", "-d", ask))[2] == "1\n"
    status, headers, body = await curl(endpoint.url + "/?default_format=CSV", "-d", ask + " FORMAT JSON")
    assert json.loads(body)["data"] == [{"one": 1}]
    assert "content-type: application/json" in headers


async def test_parameters_are_bound(endpoint: Endpoint) -> None:
    where = "SELECT count() FROM spans WHERE name = {name:String} AND duration_ns < {most:UInt64}"
    _, _, body = await curl(
        "-G", endpoint.url, "--data-urlencode", f"query={where}", "-d", "param_most=9000", "-d", "param_name=chat"
    )
    assert body == "3\n"
    injected = "chat' OR 1 OR '"
    _, _, body = await curl(
        "-G",
        endpoint.url,
        "--data-urlencode",
        f"query={where}",
        "-d",
        "param_most=9",
        "--data-urlencode",
        f"param_name={injected}",
    )
    assert body == "0\n"
    status, _, body = await curl(endpoint.url, "-d", "SELECT {x:String}")
    assert (status, "(UNKNOWN_QUERY_PARAMETER)" in body) == (500, True)


async def test_a_form_carries_long_parameters(endpoint: Endpoint) -> None:
    _, _, body = await curl(endpoint.url, "-F", "query=SELECT length({x:String})", "-F", f"param_x={'x' * 60_000}")
    assert body == "60000\n"


@pytest.mark.parametrize(
    ("statement", "status", "code"),
    [
        ("SELEC", 404, 47),
        ("SELECT FROM WHERE", 400, 62),
        ("SELECT * FROM nothing", 404, 60),
        ("SELECT nosuch(1)", 404, 46),
        ("SELECT file('/etc/passwd')", 403, 497),
        ("INSERT INTO spans VALUES (1)", 500, 164),
        ("SELECT 1 SETTINGS readonly = 0", 500, 452),
        ("SELECT 1 FORMAT Nothing", 404, 73),
        ("SELECT toInt8('x')", 400, 6),
    ],
)
async def test_errors_have_clickhouses_shape(endpoint: Endpoint, statement: str, status: int, code: int) -> None:
    got, headers, body = await curl(endpoint.url, "-d", statement)
    assert got == status
    assert f"x-clickhouse-exception-code: {code}" in headers
    assert body.startswith(f"Code: {code}. DB::Exception: ")
    assert "Traceback" not in body


async def test_what_is_not_served_is_said(endpoint: Endpoint) -> None:
    async with httpx.AsyncClient(base_url=endpoint.url) as http:
        assert (await http.put("/", content="SELECT 1")).status_code == 405
        assert "UNKNOWN_SETTING" in (await http.post("/?no_such=1", content="SELECT 1")).text
        assert "SETTING_CONSTRAINT_VIOLATION" in (await http.post("/?allow_ddl=1", content="SELECT 1")).text
        assert "compress is not served" in (await http.post("/?compress=1", content="SELECT 1")).text
        assert (await http.post("/", content=b"\xff\xfe")).status_code == 400
        assert (await http.post("/", content=b"x", headers={"Content-Encoding": "gzip"})).status_code == 415
        assert (await http.post("/", content=b"SELECT '" + b"x" * 5_000_000 + b"'")).status_code == 413
        assert (await http.post("/?database=other", content="SELECT 1")).status_code == 403
        files = {"x": ("x.csv", "1")}
        assert "external tables" in (await http.post("/", data={"query": "SELECT 1"}, files=files)).text


async def test_answers_are_compressed_when_asked(endpoint: Endpoint) -> None:
    ask = endpoint.url + "/?enable_http_compression=1&query=SELECT%20repeat('x',1000)"
    async with httpx.AsyncClient() as http:
        packed = await http.get(ask, headers={"Accept-Encoding": "gzip"})
        assert packed.headers["content-encoding"] == "gzip"
        assert packed.text == "x" * 1000 + "\n"
        async with http.stream("GET", ask, headers={"Accept-Encoding": "lz4, gzip"}) as response:
            assert response.headers["content-encoding"] == "lz4"
            raw = b"".join([part async for part in response.aiter_raw()])
        assert lz4.frame.decompress(raw) == b"x" * 1000 + b"\n"
        plain = await http.get(ask.replace("=1&", "=0&"), headers={"Accept-Encoding": "gzip"})
        assert "content-encoding" not in plain.headers


async def test_settings_in_the_url_shape_the_answer_and_cannot_lift_limits(endpoint: Endpoint) -> None:
    async with httpx.AsyncClient(base_url=endpoint.url) as http:
        ask = "SELECT toUInt64(1) AS x FORMAT JSONEachRow"
        assert (await http.post("/?output_format_json_quote_64bit_integers=1", content=ask)).text == '{"x":"1"}\n'
        ask = "SELECT getSetting('max_execution_time'), getSetting('max_result_rows'), getSetting('readonly')"
        lifted = await http.post("/?max_execution_time=600&max_result_rows=0&readonly=0", content=ask)
        assert lifted.text == "2\t1000\t1\n"
        lowered = await http.post("/?max_execution_time=1&max_result_rows=5", content=ask)
        assert lowered.text == "1\t5\t1\n"


async def test_clickhouse_connect_reads_rows_and_types(client: Client) -> None:
    result = await asyncio.to_thread(
        client.query, "SELECT name, duration_ns, start_time FROM spans ORDER BY duration_ns LIMIT 3"
    )
    assert result.column_names == ("name", "duration_ns", "start_time")
    assert result.result_rows[0] == ("chat", 0, datetime(2026, 1, 1))
    assert result.result_rows[2][0] == "x'y"
    assert int(result.summary["read_rows"]) > 0
    assert await asyncio.to_thread(client.command, "SELECT count() FROM spans") == 30
    assert client.server_version.count(".") == 3
    assert await asyncio.to_thread(client.ping)


async def test_clickhouse_connect_binds_parameters(client: Client) -> None:
    result = await asyncio.to_thread(
        client.query,
        "SELECT count() FROM spans WHERE name IN {names:Array(String)} AND start_time = {at:DateTime64(9)}",
        parameters={"names": ["chat", "x'y"], "at": datetime(2026, 1, 1)},
    )
    assert result.result_rows == [(20,)]
    result = await asyncio.to_thread(client.query, "SELECT {text:String}", parameters={"text": "a\tb\n'c'\\ d"})
    assert result.result_rows == [("a\tb\n'c'\\ d",)]


async def test_clickhouse_connect_gives_frames_and_arrow(client: Client) -> None:
    frame = await asyncio.to_thread(client.query_df, "SELECT name, count() AS n FROM spans GROUP BY name ORDER BY name")
    assert frame["n"].tolist() == [10, 10, 10]
    table = await asyncio.to_thread(client.query_arrow, "SELECT name, duration_ns FROM spans ORDER BY duration_ns")
    assert table.num_rows == 30
    assert table.column("duration_ns").to_pylist()[:2] == [0, 1000]
    raw = await asyncio.to_thread(client.raw_query, "SELECT * FROM spans", fmt="Parquet")
    assert pyarrow.parquet.read_table(BufferReader(raw)).num_rows == 30


async def test_clickhouse_connect_streams(client: Client) -> None:
    def rows() -> int:
        with client.query_rows_stream("SELECT number FROM numbers(900)", settings={"max_block_size": 100}) as stream:
            return sum(1 for _ in stream)

    assert await asyncio.to_thread(rows) == 900


async def test_clickhouse_connect_learns_columns_and_settings(client: Client) -> None:
    result = await asyncio.to_thread(client.query, "SELECT * FROM spans LIMIT 0")
    assert result.column_names[:2] == ("span_id", "name")
    result = await asyncio.to_thread(client.query, "SELECT 1", settings={"max_threads": 1, "join_use_nulls": 1})
    assert result.result_rows == [(1,)]


async def test_clickhouse_connect_cannot_write(client: Client) -> None:
    with pytest.raises(DatabaseError, match="READONLY"):
        await asyncio.to_thread(client.command, "DROP TABLE spans")
    with pytest.raises(DatabaseError):
        await asyncio.to_thread(client.insert, "spans", [["x", "y", 1, datetime(2026, 1, 1)]])
    with pytest.raises(DatabaseError, match="497"):
        await asyncio.to_thread(client.query, "SELECT file('/etc/passwd')")
