"""TLS on every port, from files that are looked at every second and read again when they changed.

All ports show the same certificate and trust the same client authorities. New files are used for the connections that
are made from then on, and only when they belong together: until then, and when they cannot be used, the earlier ones
go on, and `problem` says so. Connections that exist stay as they are.

An HTTP server keeps one SSL context for its life; each handshake is moved to the newest one (OpenSSL then takes
certificate and authorities from that). A client that resumed an earlier session would not be asked for its certificate
again, so with client authorities sessions are not resumed, which OpenSSL can promise for TLS 1.3 alone.
"""

import asyncio
import logging
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import grpc

from tracestone.schema.errors import StartRefused
from tracestone.schema.settings import Settings

logger = logging.getLogger(__name__)

RELOAD_SECONDS = 1.0
_TRIES = 3


@dataclass(frozen=True)
class _Files:
    """What one look found in the files; `authorities` is b"" when clients need no certificate."""

    chain: bytes
    key: bytes
    authorities: bytes


class _Unusable(Exception):
    """One sentence on files that cannot be served."""


class Certificates:
    """The certificate of this process, kept up to date between `start` and `stop`."""

    def __init__(self, chain: Path, key: Path, client_authorities: Path | None = None) -> None:
        self._paths = (chain, key, client_authorities)
        self._files = _Files(b"", b"", b"")
        self._served: ssl.SSLContext | None = None
        self._newest: ssl.SSLContext | None = None
        self._watching: asyncio.Task[None] | None = None
        self.problem = ""

    @classmethod
    def of(cls, settings: Settings) -> "Certificates | None":
        """What the settings name; None without TLS. Raises StartRefused when one of them is missing."""
        chain, key, authorities = settings.tls_cert_file, settings.tls_key_file, settings.tls_client_ca_file
        if chain is None and key is None and authorities is None:
            return None
        if chain is None or key is None:
            raise StartRefused("TLS needs both the setting tls_cert_file and the setting tls_key_file.")
        return cls(chain, key, authorities)

    async def start(self) -> None:
        """Reads the files. Raises StartRefused when they cannot be used."""
        try:
            await asyncio.to_thread(self._load)
        except _Unusable as error:
            raise StartRefused(f"TLS cannot be served: {error}.") from error
        assert self._newest is not None
        self._served = self._newest
        # Called in every handshake, whether the client names a server or not.
        self._served.sni_callback = self._to_newest
        self._watching = asyncio.create_task(self._watch(), name="certificates")

    async def stop(self) -> None:
        """Looks at the files no longer. Safe to call twice."""
        watching, self._watching = self._watching, None
        if watching is not None:
            watching.cancel()
            await asyncio.wait([watching])

    def context(self) -> ssl.SSLContext:
        """For the HTTP servers; follows the files. Between `start` and `stop`."""
        assert self._served is not None
        return self._served

    def grpc(self) -> grpc.ServerCredentials:
        """For one gRPC server; follows the files."""
        served = self._files

        def changed() -> grpc.ServerCertificateConfiguration | None:
            nonlocal served
            if served is self._files:
                return None
            served = self._files
            return _configuration(served)

        return grpc.dynamic_ssl_server_credentials(
            _configuration(served),
            # None, which the types do not know, says that nothing changed.
            cast(Callable[[], grpc.ServerCertificateConfiguration], changed),
            require_client_authentication=bool(served.authorities),
        )

    def _to_newest(self, connection: ssl.SSLObject, name: str | None, context: ssl.SSLContext) -> None:
        assert self._newest is not None
        connection.context = self._newest

    async def _watch(self) -> None:
        before = ""
        while True:
            await asyncio.sleep(RELOAD_SECONDS)
            try:
                changed = await asyncio.to_thread(self._load)
            except _Unusable as error:
                # One of two files may be about to follow the other.
                if before == str(error):
                    self._tell(f"{error}; the earlier files are still used")
                before = str(error)
                continue
            before = ""
            self._tell("")
            if changed:
                logger.info("new certificate in use", extra={"action": "tls", "file": str(self._paths[0])})

    def _tell(self, problem: str) -> None:
        if problem and problem != self.problem:
            logger.error("new TLS files cannot be used", extra={"action": "tls", "reason": problem})
        self.problem = problem

    def _load(self) -> bool:
        """Takes what the files hold into use; whether that is news. Raises _Unusable."""
        for _ in range(_TRIES):
            found = self._read()
            if found == self._files and self._newest is not None:
                return False
            context = _context(self._paths)
            # Both transports must get the same, and OpenSSL reads the files by itself.
            if self._read() == found:
                self._newest, self._files = context, found
                return True
        raise _Unusable("the files change while they are read")

    def _read(self) -> _Files:
        return _Files(*(b"" if path is None else _bytes(path) for path in self._paths))


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise _Unusable(f"{path} cannot be read: {error.strerror}") from error


def _context(paths: tuple[Path, Path, Path | None]) -> ssl.SSLContext:
    chain, key, authorities = paths
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        # Without a password, OpenSSL would ask for one on the terminal.
        context.load_cert_chain(chain, key, password=lambda: b"")
    except (ssl.SSLError, OSError, ValueError) as error:
        raise _Unusable(f"{chain} and {key} are not a certificate with its key, not encrypted, in PEM") from error
    if authorities is not None:
        try:
            context.load_verify_locations(authorities)
        except (ssl.SSLError, OSError, ValueError) as error:
            raise _Unusable(f"{authorities} holds no authorities in PEM") from error
        context.verify_mode = ssl.CERT_REQUIRED
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.num_tickets = 0
    return context


def _configuration(files: _Files) -> grpc.ServerCertificateConfiguration:
    return grpc.ssl_server_certificate_configuration([(files.key, files.chain)], files.authorities or None)
