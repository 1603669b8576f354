"""Refuses what a web page somewhere else makes a browser send here, with keys or without.

A page may make its visitor's browser send requests to loopback, along with the API key that the browser was told, and
a name that its owner lets point to 127.0.0.1 makes the browser take the answers for the page's own. So

- `Host` must be an address or a name this process goes by (see `names_of`), on every port that is bound to loopback;
- a request that changes something must not come from another site, which `Origin` and `Sec-Fetch-Site` tell.

Programs that are no browsers send neither of the last two.
"""

import ipaddress
from collections.abc import Callable, Collection
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from tracestone.collector.auth.address import is_loopback
from tracestone.collector.auth.caller import caller
from tracestone.schema.errors import Forbidden
from tracestone.schema.settings import Settings

Refuse = Callable[[Scope, Forbidden], Response]

_READING = frozenset({"GET", "HEAD", "OPTIONS"})
_FOREIGN_SITES = frozenset({"cross-site"})


class Hosts:
    """Under which `Host` this process is reached."""

    def __init__(self, settings: Settings) -> None:
        self._names = names_of(settings)

    def serves(self, headers: Headers) -> bool:
        """Whether a request names this process, as far as that is known.

        An address names nothing that could be made to point elsewhere, so any will do.
        """
        names = self._names
        if names is None:
            return True
        return all(name in names or _is_address(name) for name in map(_name, headers.getlist("host")))


class Visitors:
    """An ASGI application in front of another; `refuse` makes the answer in the API's own shape."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        settings: Settings,
        refuse: Refuse,
        open_paths: Collection[str] = (),
        keyed_paths: Collection[str] = (),
        reading: Collection[str] = _READING,
    ) -> None:
        """`open_paths` are served to everybody, `keyed_paths` under any name to who shows an API key.

        Requests of the methods `reading` change nothing.
        """
        self._app = app
        self._hosts = Hosts(settings)
        self._known = {_bare(name) for name in settings.allowed_hosts}
        self._refuse = refuse
        self._open = frozenset(open_paths)
        self._keyed = frozenset(keyed_paths)
        self._reading = frozenset(reading)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves the request, or answers 403."""
        if scope["type"] == "http" and scope["path"] not in self._open:
            headers = Headers(scope=scope)
            try:
                self._check_host(scope["path"], headers)
                if scope["method"] not in self._reading:
                    self._check_site(headers)
            except Forbidden as error:
                return await self._refuse(scope, error)(scope, receive, send)
        await self._app(scope, receive, send)

    def _check_host(self, path: str, headers: Headers) -> None:
        # A page under another name has no key: browsers keep what they were told for the name they were told it by.
        if path in self._keyed and caller().key_id:
            return
        if not self._hosts.serves(headers):
            raise Forbidden("The Host of this request is not served here; the setting allowed_hosts adds names.")

    def _check_site(self, headers: Headers) -> None:
        own = {host.lower() for host in headers.getlist("host")}
        foreign = headers.get("sec-fetch-site", "").lower() in _FOREIGN_SITES
        for origin in headers.getlist("origin"):
            foreign = foreign or (_authority(origin) not in own and _name(_authority(origin)) not in self._known)
        if foreign:
            raise Forbidden("This request comes from a page of another site, which may change nothing here.")


def names_of(settings: Settings) -> frozenset[str] | None:
    """The host names this process goes by; None when it listens beyond loopback and none were given."""
    own = _bare(settings.host)
    if not (settings.allowed_hosts or is_loopback(own)):
        return None
    return frozenset({"localhost", own, *(_bare(name) for name in settings.allowed_hosts)})


def _authority(origin: str) -> str:
    """`host:port` of an origin; "" for `null` and what is none."""
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return ""


def _name(host: str) -> str:
    """A Host without its port; "" when it is no host at all."""
    try:
        return _bare(urlsplit(f"//{host}").hostname or "")
    except ValueError:
        return ""


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _bare(name: str) -> str:
    return name.lower().strip("[]").removesuffix(".")
