"""How a command reaches the Tracestone that runs with the same settings."""

import http.client
import ssl

from tracestone.schema.errors import Rejected, StorageDown
from tracestone.schema.settings import Settings

_SECONDS = 15.0
_MOST_BYTES = 4 << 20


def to_running(settings: Settings, port: int, timeout: float) -> http.client.HTTPConnection:
    """A connection to one of its ports, not made yet; `timeout` in seconds. Raises Rejected."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.host, settings.host)
    if settings.tls_cert_file is None:
        return http.client.HTTPConnection(host, port, timeout=timeout)
    try:
        # Its certificate itself is what is trusted, whoever signed it and for whatever name.
        context = ssl.create_default_context(cafile=str(settings.tls_cert_file))
        context.check_hostname = False
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        if settings.tls_client_ca_file is not None and settings.tls_key_file is not None:
            context.load_cert_chain(settings.tls_cert_file, settings.tls_key_file, password=lambda: b"")
    except (OSError, ValueError) as error:
        raise Rejected(f"The certificate {settings.tls_cert_file} or its key cannot be used: {error}") from error
    return http.client.HTTPSConnection(host, port, timeout=timeout, context=context)


def ask(settings: Settings, path: str) -> tuple[int, bytes]:
    """What GET of a path on the main port answers: status and body. Raises StorageDown, Rejected."""
    connection = to_running(settings, settings.port, _SECONDS)
    try:
        connection.request("GET", path, headers=key_headers(settings))
        answer = connection.getresponse()
        return answer.status, answer.read(_MOST_BYTES)
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "strerror", None) or type(error).__name__
        raise StorageDown(f"No Tracestone answers at {settings.host}:{settings.port}: {reason}") from error
    finally:
        connection.close()


def key_headers(settings: Settings) -> dict[str, str]:
    """The headers that bring the API key of the settings, if there is one."""
    return {} if settings.api_key is None else {"X-API-Key": settings.api_key.get_secret_value()}
