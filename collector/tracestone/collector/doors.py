"""What stands in front of every port: TLS, the origins of web pages, API keys. Built from settings and Postgres alone.

Nothing behind it is touched for a request that is refused: OTLP's order is origin, key, size, decompression, meaning.
"""

import ssl

import grpc
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Scope

from tracestone.collector import problems
from tracestone.collector.answers import answer_to, waiting
from tracestone.collector.auth import rules
from tracestone.collector.auth.gate import Gate
from tracestone.collector.auth.http import Authenticated
from tracestone.collector.cors import OtlpCors
from tracestone.collector.mlflow_api import errors as mlflow_errors
from tracestone.collector.receiver import refusal as otlp_refusal
from tracestone.collector.sql_endpoint import accounts
from tracestone.collector.tls import Certificates
from tracestone.schema.engines.postgres import Pool
from tracestone.schema.errors import TracestoneError
from tracestone.schema.settings import Settings
from tracestone.schema.stores.keys import KeyStore


class Doors:
    """Opened before a port is, between `start` and `stop`."""

    def __init__(self, settings: Settings, pool: Pool) -> None:
        """Raises StartRefused when the settings of TLS do not fit together."""
        self._origins = tuple(settings.cors_allowed_origins)
        self._certificates = Certificates.of(settings)
        self.gate = Gate(settings, KeyStore(pool))

    async def start(self, *, must_know: bool = True) -> None:
        """Reads certificate and keys; `must_know` as in `Gate.start`. Raises StartRefused, StorageDown."""
        await self.gate.start(must_know=must_know)
        if self._certificates is not None:
            await self._certificates.start()

    async def stop(self) -> None:
        """Safe to call twice."""
        if self._certificates is not None:
            await self._certificates.stop()
        await self.gate.stop()

    @property
    def scheme(self) -> str:
        """How addresses begin: http or https."""
        return "http" if self._certificates is None else "https"

    def context(self) -> ssl.SSLContext | None:
        """For the HTTP servers; None without TLS."""
        return None if self._certificates is None else self._certificates.context()

    def grpc_credentials(self) -> grpc.ServerCredentials | None:
        """For a gRPC server; None without TLS."""
        return None if self._certificates is None else self._certificates.grpc()

    def tls_problem(self) -> str:
        """Why new certificates are not used, "" when all is well."""
        return "" if self._certificates is None else self._certificates.problem

    def otlp(self, app: ASGIApp) -> ASGIApp:
        """In front of the OTLP/HTTP port."""
        guarded = Authenticated(app, gate=self.gate, rule=rules.otlp_port, refuse=otlp_refusal.refused)
        return self._cors(guarded, "/")

    def main(self, app: ASGIApp) -> ASGIApp:
        """In front of the port of the page and the API."""
        return self._cors(Authenticated(app, gate=self.gate, rule=rules.main_port, refuse=refused), "/v1/")

    def sql(self, app: ASGIApp) -> ASGIApp:
        """In front of the SQL port."""
        return Authenticated(app, gate=self.gate, rule=rules.sql_port, refuse=accounts.refused, token=accounts.token)

    def _cors(self, app: ASGIApp, prefix: str) -> ASGIApp:
        return OtlpCors(app, origins=self._origins, prefix=prefix) if self._origins else app


def refused(scope: Scope, error: TracestoneError) -> Response:
    """A refusal on the main port, in the shape of what was asked for."""
    path: str = scope["path"]
    if path.startswith("/v1/"):
        return otlp_refusal.refused(scope, error)
    if path.startswith("/api/v1/"):
        return problems.problem(error)
    if path.startswith(("/api/", "/ajax-api/")):
        return mlflow_errors.response(error)
    return PlainTextResponse(f"{error}\n", answer_to(error).status, waiting(error))
