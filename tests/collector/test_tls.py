"""TLS and mutual TLS on every port, with certificates that are renewed under traffic."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import grpc
import httpx
import pytest
from cryptography import x509
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as GrpcExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as HttpExporter
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from support.api_keys import bearer, new_key
from support.certificates import Authority, Pair
from support.running import EXPORT, Running, running
from tracestone.collector.tls import RELOAD_SECONDS, Certificates
from tracestone.schema.engines.columnar import Columnar
from tracestone.schema.engines.postgres import Pool
from tracestone.schema.errors import StartRefused
from tracestone.schema.settings import Settings

AUTHORITY = Authority("servers")
CLIENTS = Authority("clients")
CLIENT = CLIENTS.issue("agent")
# A look at the files, and one more for files that follow each other.
_NOTICED_SECONDS = 3 * RELOAD_SECONDS + 5


@dataclass
class Secured:
    """A collector whose certificate is in files of this folder."""

    running: Running
    folder: Path
    ports: dict[str, tuple[str, int]]

    async def serials(self, client: Pair | None = None) -> set[int]:
        """The certificates that new connections are shown, on all ports."""
        found = set()
        for host, port in self.ports.values():
            _, writer = await asyncio.open_connection(host, port, ssl=client_context(self.folder, client))
            shown = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
            found.add(x509.load_der_x509_certificate(shown).serial_number)
            writer.transport.abort()
        return found

    async def shows(self, pair: Pair, client: Pair | None = None) -> None:
        """Returns when every port shows this certificate."""
        async with asyncio.timeout(_NOTICED_SECONDS):
            while await self.serials(client) != {pair.serial}:
                await asyncio.sleep(0.1)


@pytest.fixture(autouse=True)
def no_other_authorities(monkeypatch: pytest.MonkeyPatch) -> None:
    """With these set, `requests`, and so the SDK's exporter, does not look at the authority it was given."""
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)


def client_context(folder: Path, client: Pair | None = None) -> ssl.SSLContext:
    """What a client trusts, and shows."""
    context = ssl.create_default_context(cadata=AUTHORITY.pem.decode())
    context.set_alpn_protocols(["h2", "http/1.1"])
    if client is not None:
        context.load_cert_chain(*client.write(folder, "client"))
    return context


@asynccontextmanager
async def secured(pool: Pool, columnar: Columnar, folder: Path, pair: Pair, **settings: Any) -> AsyncIterator[Secured]:
    chain, key = pair.write(folder, "server")
    async with running(pool, columnar, folder / "data", tls_cert_file=chain, tls_key_file=key, **settings) as collector:
        addresses = collector.collector.addresses
        assert all(address.startswith("https://") for address in addresses.values())
        parts = {name: urlsplit(address) for name, address in addresses.items()}
        yield Secured(collector, folder, {name: (part.hostname or "", part.port or 0) for name, part in parts.items()})


def _exporters(secured: Secured, headers: dict[str, str], client: Pair | None = None) -> list[SpanExporter]:
    """The SDK's, set up as its documentation says."""
    authority = AUTHORITY.write(secured.folder, "authority")
    host, port = secured.ports["OTLP gRPC"]
    files: dict[str, Any] = {"certificate_file": str(authority)}
    chain = key = None
    if client is not None:
        paths = client.write(secured.folder, "client")
        files |= {"client_certificate_file": str(paths[0]), "client_key_file": str(paths[1])}
        chain, key = client.chain, client.key
    return [
        GrpcExporter(
            endpoint=f"{host}:{port}",
            credentials=grpc.ssl_channel_credentials(AUTHORITY.pem, key, chain),
            headers=tuple(headers.items()),
            timeout=2,
        ),
        HttpExporter(endpoint=secured.running.collector.addresses["OTLP HTTP"], headers=headers, timeout=5, **files),
    ]


def _spans() -> Any:
    memory = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(memory))
    with provider.get_tracer("test").start_as_current_span("secret"):
        pass
    return memory.get_finished_spans()


async def _sent(exporter: SpanExporter) -> bool:
    return await asyncio.to_thread(exporter.export, _spans()) is SpanExportResult.SUCCESS


async def test_tls_with_keys_on_every_port(pool: Pool, columnar: Columnar, tmp_path: Path) -> None:
    token = await new_key(pool, "ingest", "read")
    async with secured(pool, columnar, tmp_path, AUTHORITY.issue()) as site:
        for exporter in _exporters(site, bearer(token)):
            assert await _sent(exporter)
        for exporter in _exporters(site, {}):
            assert not await _sent(exporter)
        (row,) = await site.running.rows("SELECT count() AS n FROM spans WHERE name = 'secret'")
        assert row["n"] == 2
        async with httpx.AsyncClient(verify=client_context(tmp_path), headers=bearer(token)) as http:
            assert (await http.get(f"{site.running.url}/health")).json()["warnings"] == {}
            assert (await http.get(f"{site.running.url}/")).status_code == 200
            assert (await http.get(site.running.sql_url, params={"query": "SELECT 1"})).text == "1\n"


async def test_nobody_is_served_without_tls(pool: Pool, columnar: Columnar, tmp_path: Path) -> None:
    async with secured(pool, columnar, tmp_path, AUTHORITY.issue()) as site:
        for name, (host, port) in site.ports.items():
            if name == "OTLP gRPC":
                async with grpc.aio.insecure_channel(f"{host}:{port}") as channel:
                    with pytest.raises(grpc.aio.AioRpcError):
                        await channel.unary_unary(EXPORT)(b"", timeout=5)
                continue
            async with httpx.AsyncClient(timeout=5) as http:
                with pytest.raises(httpx.TransportError):
                    await http.get(f"http://{host}:{port}/health")


async def test_a_certificate_is_renewed_under_traffic(pool: Pool, columnar: Columnar, tmp_path: Path) -> None:
    """Not a request fails, on connections that last and on new ones; a broken renewal changes nothing but /health."""
    first, second, third = (AUTHORITY.issue() for _ in range(3))
    async with secured(pool, columnar, tmp_path, first) as site:
        stopping = asyncio.Event()
        sent = {"lasting": 0, "new": 0}

        async def send_over_one() -> None:
            host, port = site.ports["OTLP gRPC"]
            trusted = grpc.ssl_channel_credentials(AUTHORITY.pem)
            async with grpc.aio.secure_channel(f"{host}:{port}", trusted) as channel:
                while not stopping.is_set():
                    await channel.unary_unary(EXPORT)(b"", timeout=5)
                    sent["lasting"] += 1
                    await asyncio.sleep(0.02)

        async def send_over_new() -> None:
            while not stopping.is_set():
                async with httpx.AsyncClient(verify=client_context(tmp_path)) as http:
                    answer = await http.post(
                        site.running.traces_url, headers={"content-type": "application/x-protobuf"}
                    )
                assert answer.status_code == 200
                sent["new"] += 1
                await asyncio.sleep(0.02)

        senders = [asyncio.create_task(send_over_one()), asyncio.create_task(send_over_new())]
        try:
            await site.shows(first)
            second.write(tmp_path, "server")
            await site.shows(second)

            (tmp_path / "server.crt").write_bytes(third.chain)  # and not its key
            async with httpx.AsyncClient(verify=client_context(tmp_path)) as http, asyncio.timeout(_NOTICED_SECONDS):
                while not (told := (await http.get(f"{site.running.url}/health")).json()["warnings"]):
                    await asyncio.sleep(0.1)
                assert "the earlier files are still used" in told["tls"]
                assert (await http.get(f"{site.running.url}/health")).status_code == 200
            assert await site.serials() == {second.serial}

            third.write(tmp_path, "server")
            await site.shows(third)
            async with httpx.AsyncClient(verify=client_context(tmp_path)) as http:
                assert (await http.get(f"{site.running.url}/health")).json()["warnings"] == {}
        finally:
            stopping.set()
            await asyncio.gather(*senders)
        assert min(sent.values()) > 10


async def test_mutual_tls(pool: Pool, columnar: Columnar, tmp_path: Path) -> None:
    """Only who shows a certificate of the named authorities is served; the authorities are renewed too."""
    authorities = CLIENTS.write(tmp_path, "clients")
    server = AUTHORITY.issue()
    async with secured(pool, columnar, tmp_path, server, tls_client_ca_file=authorities) as site:
        stranger = Authority("clients").issue("agent")
        for client, served in ((CLIENT, True), (None, False), (stranger, False)):
            for exporter in _exporters(site, {}, client):
                assert await _sent(exporter) is served, (exporter, served)
            for url in (f"{site.running.url}/health", f"{site.running.sql_url}/ping"):
                async with httpx.AsyncClient(verify=client_context(tmp_path, client), timeout=5) as http:
                    try:
                        assert (await http.get(url)).status_code == 200 and served
                    except httpx.TransportError:
                        assert not served

        others = Authority("others")
        authorities.write_bytes(others.pem)
        newcomer = others.issue("agent")
        async with asyncio.timeout(_NOTICED_SECONDS):
            while not await _sent(_exporters(site, {}, newcomer)[1]):
                await asyncio.sleep(0.2)
        assert await _sent(_exporters(site, {}, newcomer)[0])
        for exporter in _exporters(site, {}, CLIENT):
            assert not await _sent(exporter)


async def test_client_certificates_alone_are_enough_beyond_loopback(tmp_path: Path, pool: Pool) -> None:
    from tracestone.collector.doors import Doors

    chain, key = AUTHORITY.issue().write(tmp_path, "server")
    given: dict[str, Any] = {"host": "0.0.0.0", "tls_cert_file": chain, "tls_key_file": key}
    with pytest.raises(StartRefused, match="strangers"):
        await Doors(Settings(**given), pool).start()
    doors = Doors(Settings(**given, tls_client_ca_file=CLIENTS.write(tmp_path, "clients")), pool)
    await doors.start()
    await doors.stop()


async def test_files_that_cannot_be_served(tmp_path: Path) -> None:
    chain, key = AUTHORITY.issue().write(tmp_path, "server")
    other = AUTHORITY.issue().write(tmp_path, "other")[1]
    none, text = tmp_path / "none", tmp_path / "text"
    text.write_text("-----BEGIN NOTHING-----\n")
    encrypted = tmp_path / "encrypted"
    encrypted.write_bytes(b"-----BEGIN ENCRYPTED PRIVATE KEY-----\nMIIB\n-----END ENCRYPTED PRIVATE KEY-----\n")
    wrong: list[tuple[Path, Path, Path | None, str]] = [
        (none, key, None, "none cannot be read: No such file"),
        (tmp_path, key, None, "Is a directory"),
        (chain, other, None, "are not a certificate with its key"),
        (text, key, None, "are not a certificate with its key"),
        (chain, encrypted, None, "are not a certificate with its key"),
        (chain, key, text, "holds no authorities"),
        (chain, key, none, "cannot be read"),
    ]
    for *paths, reason in wrong:
        with pytest.raises(StartRefused, match=f"^TLS cannot be served: .*{reason}"):
            await Certificates(*paths).start()  # type: ignore[arg-type]


@pytest.mark.parametrize("given", [{"tls_cert_file": "a"}, {"tls_key_file": "a"}, {"tls_client_ca_file": "a"}])
def test_settings_that_belong_together(given: dict[str, Any]) -> None:
    with pytest.raises(StartRefused, match="needs both"):
        Certificates.of(Settings(**given))
    assert Certificates.of(Settings()) is None
